//! Data structures in stable memory: against host functions, against the heap, against the machine.

use std::collections::BTreeMap;
use std::hint::black_box;

use bedstone_engine::{Engine, EngineConfig};
use candid::Nat;

use super::Effort;
use crate::figures::{Figures, Plot, Table, time, times};
use crate::interleave::{Times, Variant, interleaved, median};
use crate::subject::{Subject, best_host, entries, mix, native, prebuilt, usual_host};

/// See the module's documentation.
pub fn run(effort: Effort) -> Figures {
    let mut figures = Figures::default();
    bulk_inserts(effort, &mut figures);
    twins(effort, &mut figures);
    if effort == Effort::Full {
        figures.tables.push(motoko());
    }
    figures
}

fn ways() -> [(&'static str, EngineConfig); 3] {
    [("native", native()), ("best safe host function", best_host()), ("usual host function", usual_host())]
}

/// The proposal's two graphs: time of each message that inserts many entries, as the map grows.
fn bulk_inserts(effort: Effort, figures: &mut Figures) {
    let (messages, count) = (effort.pick(6, 20), effort.pick(10_000, 20_000));
    let head = ["map", "native", "best safe ÷ native", "usual ÷ native"];
    let mut table = Table::new(format!("Messages that insert {count} entries of 32 bytes"), &head);
    for (canister, file, name) in [
        ("btreemap", "bulk-insert-stable-structures", "StableBTreeMap<u128, u128>"),
        ("stable-memory", "bulk-insert-ic-stable-memory", "SBTreeMap<u128, u128>"),
    ] {
        let wasm = prebuilt(canister);
        let empty = candid::encode_args(()).expect("nothing can be encoded");
        let mut subjects = ways().map(|(_, config)| {
            let engine = Engine::new(config).expect("this machine runs Wasm");
            Subject::on(&engine, &wasm, &empty)
        });
        let mut series = ways().map(|(name, _)| (name.to_owned(), Vec::new()));
        let mut rounds = Vec::new();
        for index in 0..messages {
            let arg = entries(index * count, count);
            let mut nanos = [0.0; 3];
            for turn in 0..3 {
                let way = (turn + index as usize) % 3;
                let start = std::time::Instant::now();
                subjects[way].update("insert_many", &arg);
                nanos[way] = start.elapsed().as_nanos() as f64;
                series[way].1.push((((index + 1) * count) as f64 / 1e3, nanos[way] / 1e6));
            }
            rounds.push(nanos);
        }
        let ratio = |way: usize| median(rounds.iter().map(|nanos| nanos[way] / nanos[0]).collect());
        let middle = median(rounds.iter().map(|nanos| nanos[0]).collect());
        table.line(name, [time(middle), times(ratio(1)), times(ratio(2))]);
        if canister == "btreemap" {
            let what = "bulk insert into StableBTreeMap<u128, u128>, usual host function ÷ native";
            figures.at_least(what, 2.5, ratio(2), "×");
        }
        figures.plots.push(Plot {
            file,
            title: format!("Inserting {count} entries into {name}"),
            labels: ["entries in the map, thousands", "milliseconds"],
            logarithmic: false,
            series: series.into(),
        });
    }
    figures.tables.push(table);
}

/// The same structure in stable memory and on the heap of one canister, and the machine's own.
fn twins(effort: Effort, figures: &mut Figures) {
    let wasm = prebuilt("twins");
    let empty = candid::encode_args(()).expect("nothing can be encoded");
    let head = ["work", "in stable memory", "÷ on the heap", "÷ native Rust", "usual host function ÷ native"];
    let mut table = Table::new("Structures of ic-stable-structures, messages of many operations", &head);
    let mut worst: f64 = 0.0;
    for (structure, count) in [("map", 5_000_u64), ("vec", 50_000), ("log", 20_000)] {
        let configs = [native(), native(), usual_host()];
        let methods = ["stable", "heap", "stable"].map(|place| format!("{structure}_{place}"));
        let mut subjects = configs.map(|config| {
            let engine = Engine::new(config).expect("this machine runs Wasm");
            Subject::on(&engine, &wasm, &empty)
        });
        let mut variants: Vec<Variant<'_>> = subjects
            .iter_mut()
            .zip(&methods)
            .map(|(subject, method)| {
                let mut next = 0;
                Variant::new(method.as_str(), move |messages| {
                    for _ in 0..messages {
                        let arg = candid::encode_args((next, count)).expect("numbers can be encoded");
                        subject.update(method, &arg);
                        next += count;
                    }
                })
            })
            .collect();
        variants.push(machine(structure, count));
        let measured: Times = interleaved(&mut variants, effort.pick(9, 25), 1);
        let over_heap = measured.ratio(0, 1);
        worst = worst.max(over_heap);
        table.line(
            format!("{structure}, {count} operations"),
            [
                time(measured.nanos(0)),
                times(over_heap),
                times(measured.ratio(0, 3)),
                times(measured.ratio(2, 0)),
            ],
        );
    }
    figures.at_most("stable ÷ heap on the same structure, worst of map, vector and log", 1.25, worst, "×");
    figures.tables.push(table);
}

/// What a program without canisters would use.
fn machine(structure: &str, count: u64) -> Variant<'static> {
    let mut next = 0;
    let (mut map, mut vec, mut log) = (BTreeMap::new(), Vec::new(), Vec::new());
    let structure = structure.to_owned();
    Variant::new("native Rust", move |messages| {
        for _ in 0..messages {
            for index in next..next + count {
                let word = |part| u128::from(mix(index * 4 + part));
                match structure.as_str() {
                    "map" => drop(map.insert(word(0) << 64 | word(1), word(2) << 64 | word(3))),
                    "vec" => {
                        vec.push(index);
                        black_box(vec[(mix(index) % vec.len() as u64) as usize]);
                    }
                    _ => {
                        let mut entry = [0; 100];
                        entry[..8].copy_from_slice(&index.to_le_bytes());
                        log.extend_from_slice(&entry);
                    }
                }
            }
            next += count;
            black_box((&map, &vec, &log));
        }
    })
}

/// Motoko's two ways to keep data: a `Region`, and stable variables.
fn motoko() -> Table {
    let head = ["work", "native", "best safe ÷ native", "usual ÷ native"];
    let mut table =
        Table::new("Motoko: 40,000 numbers into a Region, 40,000 items into a stable variable", &head);
    for canister in ["motoko-region", "motoko-region-classic", "motoko-counter", "motoko-counter-classic"] {
        let wasm = prebuilt(canister);
        let empty = candid::encode_args(()).expect("nothing can be encoded");
        let mut subjects = ways().map(|(_, config)| {
            let engine = Engine::new(config).expect("this machine runs Wasm");
            Subject::on(&engine, &wasm, &empty)
        });
        let arg = candid::encode_one(Nat::from(40_000_u64)).expect("numbers can be encoded");
        let mut variants: Vec<Variant<'_>> = subjects
            .iter_mut()
            .zip(ways())
            .map(|(subject, (name, _))| {
                let arg = &arg;
                Variant::new(name, move |messages| (0..messages).for_each(|_| subject.update("fill", arg)))
            })
            .collect();
        let measured = interleaved(&mut variants, 15, 1);
        let cells = [time(measured.nanos(0)), times(measured.ratio(1, 0)), times(measured.ratio(2, 0))];
        table.line(format!("{canister}, fill"), cells);
    }
    table
}

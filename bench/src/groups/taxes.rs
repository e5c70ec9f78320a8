//! What counting and tracking cost real canisters.
//!
//! Four forms of each canister do the same messages: as it is, with its instructions counted, with its heap tracked, with
//! everything. Stable accesses are native in all of them; where nothing is tracked they check their bounds and copy.

use bedstone_engine::{Counter, EngineConfig, Tracker};
use candid::Nat;

use super::Effort;
use crate::figures::{Figures, Table, time, times};
use crate::interleave::{Variant, geometric_mean, interleaved};
use crate::subject::{Subject, bare, entries, native, prebuilt};
use bedstone_engine::Engine;

/// Messages of one canister.
struct Load {
    canister: &'static str,
    method: &'static str,
    /// The argument of message number so-and-so.
    arg: fn(u64) -> Vec<u8>,
}

fn some_entries(index: u64) -> Vec<u8> {
    entries(index * 4_000, 4_000)
}

fn some_indices(index: u64) -> Vec<u8> {
    candid::encode_args((index * 4_000, 4_000_u64)).expect("numbers can be encoded")
}

fn more_indices(index: u64) -> Vec<u8> {
    candid::encode_args((index * 20_000, 20_000_u64)).expect("numbers can be encoded")
}

fn number(count: u64) -> Vec<u8> {
    candid::encode_one(Nat::from(count)).expect("numbers can be encoded")
}

/// The first is the sample dapp.
const LOADS: [Load; 11] = [
    Load { canister: "btreemap", method: "insert_many", arg: some_entries },
    Load { canister: "stable-memory", method: "insert_many", arg: some_entries },
    Load { canister: "btreemap-heap", method: "insert_many", arg: some_entries },
    Load { canister: "twins", method: "map_stable", arg: some_indices },
    Load { canister: "twins", method: "map_heap", arg: some_indices },
    Load { canister: "twins", method: "vec_stable", arg: more_indices },
    Load { canister: "twins", method: "log_stable", arg: more_indices },
    Load { canister: "motoko-region", method: "fill", arg: |_| number(40_000) },
    Load { canister: "motoko-region-classic", method: "fill", arg: |_| number(40_000) },
    Load { canister: "motoko-counter", method: "fill", arg: |_| number(40_000) },
    Load { canister: "motoko-counter-classic", method: "fill", arg: |_| number(40_000) },
];

/// Indices of the forms.
const BARE: usize = 0;
const COUNTED: usize = 1;
const TRACKED: usize = 2;
const ALL: usize = 3;

fn forms() -> [(&'static str, EngineConfig); 4] {
    [
        ("as it is", bare()),
        ("counted", EngineConfig { tracker: Tracker::None, ..native() }),
        ("tracked", EngineConfig { counter: Counter::None, ..native() }),
        ("everything", native()),
    ]
}

/// See the module's documentation.
pub fn run(effort: Effort) -> Figures {
    let mut figures = Figures::default();
    let engines = forms().map(|(_, config)| Engine::new(config).expect("this machine runs Wasm"));
    let head = ["canister and method", "as it is", "counted", "tracked", "everything"];
    let mut table = Table::new("What counting and tracking cost, over the canister as it is", &head);
    let mut ratios: Vec<[f64; 4]> = Vec::new();
    for load in &LOADS {
        let wasm = prebuilt(load.canister);
        let empty = candid::encode_args(()).expect("nothing can be encoded");
        let mut subjects: Vec<Subject> =
            engines.iter().map(|engine| Subject::on(engine, &wasm, &empty)).collect();
        let mut variants: Vec<Variant<'_>> = subjects
            .iter_mut()
            .zip(forms())
            .map(|(subject, (name, _))| {
                let mut next = 0;
                Variant::new(name, move |messages| {
                    for _ in 0..messages {
                        subject.update(load.method, &(load.arg)(next));
                        next += 1;
                    }
                })
            })
            .collect();
        let measured = interleaved(&mut variants, effort.pick(31, 61), 1);
        let over = [BARE, COUNTED, TRACKED, ALL].map(|form| measured.ratio(form, BARE));
        table.line(
            format!("{}, {}", load.canister, load.method),
            [time(measured.nanos(BARE)), times(over[COUNTED]), times(over[TRACKED]), times(over[ALL])],
        );
        ratios.push(over);
    }
    let of = |form: usize| ratios.iter().map(|over| over[form]).collect::<Vec<f64>>();
    let worst = |form: usize| of(form).into_iter().fold(0.0, f64::max);
    for (what, form) in [("heap barrier tax", TRACKED), ("metering tax", COUNTED)] {
        figures.at_most(format!("{what}, geometric mean"), 1.1, geometric_mean(&of(form)), "×");
        figures.at_most(format!("{what}, worst"), 1.2, worst(form), "×");
    }
    figures.at_most("everything over uninstrumented code, the sample dapp", 1.2, ratios[0][ALL], "×");
    let mean = geometric_mean(&of(ALL));
    figures.at_most("everything over uninstrumented code, geometric mean", 1.25, mean, "×");
    let mut line = vec!["geometric mean".to_owned(), String::new()];
    line.extend([COUNTED, TRACKED, ALL].map(|form| times(geometric_mean(&of(form)))));
    table.lines.push(line);
    figures.tables.push(table);
    figures
}

//! Messages that dirty pages: committed and rolled back, in memory and with every message durable.

use std::time::Instant;

use bedstone_engine::{EngineConfig, Tracker};

use super::Effort;
use crate::figures::{Figures, Plot, Table, time};
use crate::interleave::{Times, Variant, interleaved};
use crate::subject::{Durable, Room, Subject, module, native};

/// Writes 64 bytes to each of so many pages; what is written differs from message to message. `scattered` writes other pages of
/// the heap each time, four pages apart, until all had their turn.
const MODULE: &str = r#"
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 6600)
  (global $a (mut i64) (i64.const 0))
  (func (export "canister_init") (drop (call $grow (i64.const 8192))))
  (func $begin (result i64)
    (global.set $a (i64.add (global.get $a) (i64.const 1)))
    (call $arg (i32.const 0) (i32.const 0) (i32.const 8)) (i64.load (i32.const 0)))
  (func $stable (local $i i64) (local $n i64)
    (local.set $n (call $begin))
    (i64.store (i32.const 64) (global.get $a))
    (block $done (br_if $done (i64.eqz (local.get $n)))
      (loop $l
        (call $write (i64.mul (local.get $i) (i64.const 4096)) (i64.const 64) (i64.const 64))
        (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (local.get $n))))))
  (func $heap (local $i i64) (local $n i64)
    (local.set $n (call $begin))
    (block $done (br_if $done (i64.eqz (local.get $n)))
      (loop $l
        (i64.store (i32.add (i32.const 65536) (i32.wrap_i64 (i64.mul (local.get $i) (i64.const 4096)))) (global.get $a))
        (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (local.get $n))))))
  (func (export "canister_update scattered") (local $i i64) (local $n i64)
    (local.set $n (call $begin))
    (block $done (br_if $done (i64.eqz (local.get $n)))
      (loop $l
        (i64.store
          (i32.add (i32.const 65536) (i32.wrap_i64 (i64.shl (i64.and (i64.const 16383) (i64.mul (i64.const 4)
            (i64.add (local.get $i) (i64.mul (global.get $a) (local.get $n))))) (i64.const 12))))
          (global.get $a))
        (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (local.get $n)))))
    call $reply)
  (func (export "canister_update stable") call $stable call $reply)
  (func (export "canister_update stable_trap") call $stable call $reply call $reply)
  (func (export "canister_update heap") call $heap call $reply)
  (func (export "canister_update heap_trap") call $heap call $reply call $reply))
"#;

/// Where the pages are.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: &'static str,
    keep: &'static str,
    trap: &'static str,
}

const PLACES: [Place; 2] = [
    Place { name: "stable", keep: "stable", trap: "stable_trap" },
    Place { name: "heap", keep: "heap", trap: "heap_trap" },
];

/// Times of a message that keeps and of one that traps, per page beyond those of no page.
struct PerPage {
    keep: f64,
    roll_back: f64,
}

/// See the module's documentation.
pub fn run(effort: Effort) -> Figures {
    let mut figures = Figures::default();
    let counts: &[u64] = effort.pick(&[1, 10, 100, 1_000, 10_000], &[1, 10, 100, 1_000, 10_000, 100_000]);
    let wasm = module(MODULE);
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let head = ["pages", "message that keeps", "per page", "message that traps", "rolling back, per page"];
    for place in PLACES {
        let mut table =
            Table::new(format!("Messages that dirty {} pages, durability off", place.name), &head);
        let mut per_page = Vec::new();
        for &pages in counts {
            let (measured, each) = dirty(&wasm, place, pages, effort);
            let cells =
                [time(measured.nanos(1)), time(each.keep), time(measured.nanos(3)), time(each.roll_back)];
            table.line(pages.to_string(), cells);
            per_page.push((pages, each));
        }
        figures.tables.push(table);
        let worst = |of: &dyn Fn(&PerPage) -> f64| {
            let promised = per_page.iter().filter(|(pages, _)| (10..=1_000).contains(pages));
            promised.map(|(_, each)| of(each)).fold(0.0, f64::max) / 1e3
        };
        let name = place.name;
        if name == "stable" {
            let what = "dirty stable page, private, commit included, 10 to 1,000 pages";
            figures.at_most(what, 0.2, worst(&|each| each.keep), "µs");
            figures.at_most("rolling back, the same pages", 0.15, worst(&|each| each.roll_back), "µs");
        }
        let at = |pages: u64| {
            per_page.iter().find(|(count, _)| *count == pages).map_or(f64::NAN, |(_, each)| each.keep)
        };
        figures.at_most(format!("{name} page at 10,000 ÷ at 10"), 3.0, at(10_000) / at(10), "×");
        kept = per_page.iter().map(|(pages, each)| (*pages as f64, each.keep)).collect();
        figures.plots.push(Plot {
            file: if name == "stable" { "dirty-stable-pages" } else { "dirty-heap-pages" },
            title: format!("A dirty {name} page, by how many a message has"),
            labels: ["pages", "nanoseconds per page"],
            logarithmic: true,
            series: vec![
                ("execute and commit".to_owned(), kept.clone()),
                (
                    "roll back".to_owned(),
                    per_page.iter().map(|(pages, each)| (*pages as f64, each.roll_back)).collect(),
                ),
            ],
        });
    }
    drop(kept);
    figures.tables.push(first_touch(&wasm));
    if effort == Effort::Full {
        figures.tables.push(trackers(&wasm));
        figures.tables.push(durable(&wasm));
    }
    figures
}

/// Rolling back is what a message that traps takes beyond one that keeps, the fixed cost of a trap deducted.
fn dirty(wasm: &[u8], place: Place, pages: u64, effort: Effort) -> (Times, PerPage) {
    let mut subjects: Vec<Subject> = (0..4).map(|_| Subject::new(native(), wasm)).collect();
    // What is taken back must have been something.
    subjects.iter_mut().for_each(|subject| subject.update(place.keep, &pages.to_le_bytes()));
    let mut variants: Vec<Variant<'_>> = subjects
        .iter_mut()
        .enumerate()
        .map(|(index, subject)| {
            let arg = (if index % 2 == 0 { 0 } else { pages }).to_le_bytes();
            Variant::new(index.to_string(), move |times| {
                for _ in 0..times {
                    if index < 2 {
                        subject.update(place.keep, &arg);
                    } else {
                        subject.trap(place.trap, &arg);
                    }
                }
            })
        })
        .collect();
    let repetitions = (effort.pick(20_000, 100_000) / (pages + 10)).max(2);
    let measured = interleaved(&mut variants, effort.pick(21, 31), repetitions);
    let nanos = |variant| measured.nanos(variant);
    let keep = (nanos(1) - nanos(0)) / pages as f64;
    let roll_back = ((nanos(3) - nanos(2)) - (nanos(1) - nanos(0))) / pages as f64;
    (measured.clone(), PerPage { keep, roll_back })
}

/// Pages of a file that were not written since the canister was read from its store: the kernel copies each.
fn first_touch(wasm: &[u8]) -> Table {
    let mut table = Table::new(
        "The first touch after a checkpoint: stable pages that are the base file's until then",
        &["pages", "first message", "per page", "second message", "per page"],
    );
    let room = Room::new("first-touch");
    for pages in [10_u64, 1_000, 10_000] {
        let mut durable = Durable::new(&room.at(&pages.to_string()), native(), wasm);
        durable.subject.update("stable", &10_000_u64.to_le_bytes());
        durable.save();
        durable.load_again();
        let subject = &mut durable.subject;
        subject.update("stable", &0_u64.to_le_bytes());
        let mut cells = Vec::new();
        for _ in 0..2 {
            let start = Instant::now();
            subject.update("stable", &pages.to_le_bytes());
            let nanos = start.elapsed().as_nanos() as f64;
            cells.extend([time(nanos), time(nanos / pages as f64)]);
        }
        table.line(pages.to_string(), cells);
    }
    table
}

/// Both trackers, page by page.
fn trackers(wasm: &[u8]) -> Table {
    let head =
        ["pages", "heap, barrier", "fault", "others each time, barrier", "fault", "stable, barrier", "fault"];
    let mut table = Table::new("Barrier against faults: a message that keeps", &head);
    for pages in [0_u64, 1, 10, 100, 1_000, 10_000] {
        let mut subjects = [Tracker::Barrier, Tracker::Fault].map(|tracker| {
            let config = EngineConfig { tracker, ..native() };
            ["heap", "scattered", "stable"].map(|method| (method, Subject::new(config, wasm)))
        });
        let mut variants: Vec<Variant<'_>> = subjects
            .iter_mut()
            .flatten()
            .map(|(method, subject)| {
                let method = *method;
                Variant::new(method, move |times| {
                    for _ in 0..times {
                        subject.update(method, &pages.to_le_bytes());
                    }
                })
            })
            .collect();
        let measured = interleaved(&mut variants, 11, (20_000 / (pages + 10)).max(2));
        // By tracker, then by method.
        table.line(pages.to_string(), [0, 3, 1, 4, 2, 5].map(|variant| time(measured.nanos(variant))));
    }
    table
}

/// With every message on the disk before the next.
fn durable(wasm: &[u8]) -> Table {
    let head = ["pages", "stable", "heap"];
    let mut table = Table::new("The same, every message durable before the next", &head);
    let room = Room::new("durable");
    for pages in [0_u64, 1, 10, 100, 1_000, 10_000] {
        let cells = PLACES.map(|place| {
            let mut durable = Durable::new(&room.at(&format!("{}-{pages}", place.name)), native(), wasm);
            let work = |times| {
                for _ in 0..times {
                    durable.update(place.keep, &pages.to_le_bytes());
                }
            };
            let repetitions = (2_000 / (pages + 50)).max(2);
            time(interleaved(&mut [Variant::new(place.name, work)], 9, repetitions).nanos(0))
        });
        table.line(pages.to_string(), cells);
    }
    table
}

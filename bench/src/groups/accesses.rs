//! One stable access: native, through host functions, and against the limits of the machine.

use std::hint::black_box;

use bedstone_engine::EngineConfig;

use super::Effort;
use crate::figures::{Figures, Plot, Series, Table, time, times};
use crate::interleave::{Times, Variant, interleaved};
use crate::subject::{Subject, best_host, module, native, usual_host};

/// Bytes that the patterns go over: in stable memory from 0 on, in the heap from [`HEAP_BASE`] on.
const SPAN: u64 = 64 << 20;
const HEAP_BASE: u64 = 1 << 20;
/// Bytes that hot accesses stay in.
const HOT: u64 = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Read,
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Hot,
    Random,
    Sequential,
}

impl Pattern {
    fn name(self) -> &'static str {
        match self {
            Self::Hot => "hot",
            Self::Random => "random over 64 MiB",
            Self::Sequential => "sequential",
        }
    }

    /// Wat of an i64: where access `$i` goes.
    fn offset(self, bytes: u64) -> String {
        match self {
            Self::Hot => {
                let last = (HOT - bytes.min(HOT)).next_power_of_two().saturating_sub(1) & !63;
                format!("(i64.and (i64.mul (local.get $i) (i64.const 64)) (i64.const {last}))")
            }
            Self::Random => format!(
                "(i64.and (i64.mul (local.get $i) (i64.const 0x9e3779b97f4a7c15)) (i64.const {}))",
                (SPAN - 1) & !(bytes.next_power_of_two().max(8) - 1)
            ),
            Self::Sequential => format!(
                "(i64.and (i64.mul (local.get $i) (i64.const {})) (i64.const {}))",
                bytes.next_power_of_two(),
                (SPAN - 1) & !(bytes.next_power_of_two() - 1)
            ),
        }
    }
}

/// How a module copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    /// A stable access whose length the compiler knew.
    Stable(Direction),
    /// A stable access whose length it did not know.
    StableUnknown(Direction),
    /// Inside the heap, by a function.
    Heap,
    /// Inside the heap, in line.
    HeapInLine,
}

/// A module whose update `t` does as many accesses as its argument says.
fn wat(copy: Copy, pattern: Pattern, bytes: u64) -> Vec<u8> {
    let offset = pattern.offset(bytes);
    let heap = format!("(i64.add (i64.const {HEAP_BASE}) {})", Pattern::Hot.offset(bytes));
    let call = |direction, len: &str| match direction {
        Direction::Read => format!("(call $read {heap} {offset} {len})"),
        Direction::Write => format!("(call $write {offset} {heap} {len})"),
    };
    let to = format!("(i32.wrap_i64 (i64.add (i64.const {}) {offset}))", HEAP_BASE + HOT.max(bytes) * 2);
    let from = format!("(i32.wrap_i64 {heap})");
    let body = match copy {
        Copy::Stable(direction) => call(direction, &format!("(i64.const {bytes})")),
        Copy::StableUnknown(direction) => call(direction, "(local.get $len)"),
        Copy::Heap => format!("(call $copy {to} {from})"),
        Copy::HeapInLine => heap_copy(&to, &from, bytes),
    };
    let copy = heap_copy("(local.get $to)", "(local.get $from)", bytes);
    let heap_pages = (SPAN + HEAP_BASE + 4 * HOT.max(bytes)) >> 16;
    module(&format!(
        r#"(module (import "ic0" "msg_reply" (func $reply))
          (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
          (memory {heap_pages})
          (func (export "canister_init") (drop (call $grow (i64.const {}))))
          (func $copy (param $to i32) (param $from i32) {copy})
          (func (export "canister_update t") (local $i i64) (local $end i64) (local $len i64)
            (call $arg (i32.const 0) (i32.const 0) (i32.const 16))
            (local.set $end (i64.load (i32.const 0)))
            (local.set $len (i64.load (i32.const 8)))
            (loop $l {body}
              (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (local.get $end))))
            call $reply))"#,
        (SPAN >> 16) + 2
    ))
}

/// The best that a compiler would make of a copy of so many bytes.
fn heap_copy(to: &str, from: &str, bytes: u64) -> String {
    let simple = |load: &str, store: &str, width: u64| {
        (0..bytes / width)
            .map(|index| {
                let at = index * width;
                format!("({store} offset={at} {to} ({load} offset={at} {from}))")
            })
            .collect()
    };
    match bytes {
        1 => simple("i32.load8_u", "i32.store8", 1),
        8 => simple("i64.load", "i64.store", 8),
        16 | 32 | 64 => simple("v128.load", "v128.store", 16),
        _ => format!("(memory.copy {to} {from} (i32.const {bytes}))"),
    }
}

/// A variant that runs `t` in messages of at most a million accesses.
fn variant<'a>(name: &str, subject: &'a mut Subject, bytes: u64) -> Variant<'a> {
    Variant::new(name, move |accesses| {
        let mut left = accesses;
        while left > 0 {
            let now = left.min(1_000_000);
            subject.update("t", &[now.to_le_bytes(), bytes.to_le_bytes()].concat());
            left -= now;
        }
    })
}

/// Copies of the machine itself, at the same places.
fn native_copies(bytes: u64) -> Variant<'static> {
    let size = bytes as usize;
    let from = vec![1_u8; HOT as usize + size];
    let mut to = vec![0_u8; HOT as usize + size];
    Variant::new("native memcpy", move |copies| {
        for index in 0..copies as usize {
            let at = (index * 64) & (HOT as usize - 1);
            to[at..at + size].copy_from_slice(black_box(&from[at..at + size]));
            black_box(&mut to);
        }
    })
}

/// Indices of variants.
const HEAP: usize = 0;
const NATIVE: usize = 1;
const BEST: usize = 2;
const USUAL: usize = 3;

fn measure(direction: Direction, pattern: Pattern, bytes: u64, effort: Effort) -> (Times, Vec<String>) {
    let stable = Copy::Stable(direction);
    let mut makings: Vec<(&str, EngineConfig, Copy)> = vec![
        ("copy in the heap, by a function", native(), Copy::Heap),
        ("native", native(), stable),
        ("best safe host function", best_host(), stable),
        ("usual host function", usual_host(), stable),
    ];
    if pattern == Pattern::Hot {
        makings.push(("native, length not known", native(), Copy::StableUnknown(direction)));
        makings.push(("copy in the heap, in line", native(), Copy::HeapInLine));
    }
    let mut subjects: Vec<(&str, Subject)> = makings
        .into_iter()
        .map(|(name, config, copy)| (name, Subject::new(config, &wat(copy, pattern, bytes))))
        .collect();
    let mut variants: Vec<Variant<'_>> =
        subjects.iter_mut().map(|(name, subject)| variant(name, subject, bytes)).collect();
    if pattern == Pattern::Hot {
        variants.push(native_copies(bytes));
    }
    let accesses = match (pattern, bytes) {
        (Pattern::Hot, ..=64) => effort.pick(300_000, 1_000_000),
        (Pattern::Hot, _) => (effort.pick(20_000_000, 100_000_000) / (bytes + 200)).max(100),
        _ => 1_000_000.min((SPAN * 2) / bytes),
    };
    let rounds = effort.pick(21, 31);
    let rounds = if pattern == Pattern::Hot { rounds } else { 5 };
    let times = interleaved(&mut variants, rounds, accesses);
    (times, variants.into_iter().map(|variant| variant.name).collect())
}

/// See the module's documentation.
pub fn run(effort: Effort) -> Figures {
    let mut figures = Figures::default();
    let sizes: &[u64] =
        effort.pick(&[8, 16, 32, 64, 1024], &[1, 8, 16, 32, 64, 128, 256, 1024, 4096, 16_384, 65_536]);
    let mut least = [f64::INFINITY; 2];
    for (direction, name, most) in [(Direction::Read, "read", 1.5), (Direction::Write, "write", 1.4)] {
        let head = [
            "bytes",
            "native",
            "÷ heap copy",
            "usual ÷ native",
            "best safe ÷ native",
            "length not known",
            "heap copy in line",
            "native memcpy",
        ];
        let mut table = Table::new(format!("Stable {name}, hot, loop included"), &head);
        let mut series: Vec<Series> = Vec::new();
        let mut worst: f64 = 0.0;
        for &bytes in sizes {
            let (times_of, names) = measure(direction, Pattern::Hot, bytes, effort);
            let over_heap = times_of.ratio(NATIVE, HEAP);
            let over = [times_of.ratio(USUAL, NATIVE), times_of.ratio(BEST, NATIVE)];
            if (8..=64).contains(&bytes) {
                worst = worst.max(over_heap);
                least = [least[0].min(over[0]), least[1].min(over[1])];
            }
            let cells = [
                time(times_of.nanos(NATIVE)),
                times(over_heap),
                times(over[0]),
                times(over[1]),
                time(times_of.nanos(4)),
                time(times_of.nanos(5)),
                time(times_of.nanos(6)),
            ];
            table.line(bytes.to_string(), cells);
            series.resize_with(names.len(), Default::default);
            for (index, (series, name)) in series.iter_mut().zip(names).enumerate() {
                series.0 = name;
                series.1.push((bytes as f64, times_of.nanos(index)));
            }
        }
        let what = format!("stable {name} of 8 to 64 bytes, hot ÷ the same copy inside the heap");
        figures.at_most(what, most, worst, "×");
        figures.tables.push(table);
        figures.plots.push(Plot {
            file: if direction == Direction::Read { "stable-read" } else { "stable-write" },
            title: format!("A stable {name}, hot"),
            labels: ["bytes", "nanoseconds"],
            logarithmic: true,
            series,
        });
    }
    figures.at_least("the usual host function ÷ native, 8 to 64 bytes, hot", 8.0, least[0], "×");
    figures.at_least("the best safe host function ÷ native, 8 to 64 bytes, hot", 2.0, least[1], "×");
    if effort == Effort::Full {
        figures.tables.extend([Pattern::Random, Pattern::Sequential].map(wide));
    }
    figures
}

/// Accesses over 64 MiB, in messages of up to a million, first touches and commits included.
fn wide(pattern: Pattern) -> Table {
    let head = ["access", "heap copy", "native", "best safe host function", "usual host function"];
    let mut table = Table::new(
        format!(
            "Accesses {}, messages of up to a million, first touches and commits included",
            pattern.name()
        ),
        &head,
    );
    for (direction, name) in [(Direction::Read, "read"), (Direction::Write, "write")] {
        for bytes in [8, 64, 4096] {
            let (times_of, _) = measure(direction, pattern, bytes, Effort::Full);
            let cells = [HEAP, NATIVE, BEST, USUAL].map(|variant| time(times_of.nanos(variant)));
            table.line(format!("{name} of {bytes} bytes"), cells);
        }
    }
    table
}

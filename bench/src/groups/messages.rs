//! Empty messages, at growing sizes of stable memory and of the heap.

use super::Effort;
use crate::figures::{Figures, Table, time, times};
use crate::interleave::{Variant, interleaved};
use crate::subject::{Subject, module, native};

/// Sizes of stable memory in GiB.
const STABLE_GIB: [u64; 5] = [0, 1, 10, 100, 500];
/// Sizes of the heap in MiB.
const HEAP_MIB: [u64; 4] = [1, 64, 1024, 3000];

/// 50 mutable globals, and messages that do nothing.
fn wat() -> Vec<u8> {
    let globals = "(global (mut i64) (i64.const 7))".repeat(50);
    module(&format!(
        r#"(module
          (import "ic0" "msg_reply" (func $reply))
          (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (memory 16)
          {globals}
          (func $number (result i64)
            (call $arg (i32.const 0) (i32.const 0) (i32.const 8)) (i64.load (i32.const 0)))
          (func (export "canister_update empty") call $reply)
          (func (export "canister_query empty_query") call $reply)
          (func (export "canister_update grow") (drop (call $grow (call $number))) call $reply)
          (func (export "canister_update grow_heap")
            (drop (memory.grow (i32.wrap_i64 (call $number)))) call $reply))"#
    ))
}

/// See the module's documentation.
pub fn run(effort: Effort) -> Figures {
    let mut figures = Figures::default();
    let wasm = wat();
    let mut stable = STABLE_GIB.map(|gib| {
        let mut subject = Subject::new(native(), &wasm);
        subject.update("grow", &(gib << 14).to_le_bytes());
        subject
    });
    let mut heap = HEAP_MIB.map(|mib| {
        let mut subject = Subject::new(native(), &wasm);
        subject.update("grow_heap", &((mib << 4) - 16).to_le_bytes());
        subject
    });
    let head = ["message", "time", "÷ the smallest"];
    let mut table = Table::new("Empty messages, durability off, 50 mutable globals", &head);
    let (rounds, repetitions) = (effort.pick(31, 101), effort.pick(4_000, 10_000));

    for (what, is_query) in [("update", false), ("query", true)] {
        let mut variants: Vec<Variant<'_>> = STABLE_GIB
            .iter()
            .zip(&mut stable)
            .map(|(gib, subject)| {
                Variant::new(format!("{gib} GiB of stable memory"), repeat(subject, is_query))
            })
            .collect();
        let measured = interleaved(&mut variants, rounds, repetitions);
        for (index, variant) in variants.iter().enumerate() {
            let cells = [time(measured.nanos(index)), times(measured.ratio(index, 0))];
            table.line(format!("{what}, {}", variant.name), cells);
        }
        let worst = (1..STABLE_GIB.len()).map(|index| measured.ratio(index, 0)).fold(0.0, f64::max);
        if !is_query {
            let name = "empty update, durability off, 50 mutable globals";
            figures.at_most(name, 2.0, measured.nanos(0) / 1e3, "µs");
        }
        figures.at_most(format!("empty {what} at up to 500 GiB of stable memory ÷ at 0"), 1.1, worst, "×");
    }

    let mut variants: Vec<Variant<'_>> = HEAP_MIB
        .iter()
        .zip(&mut heap)
        .map(|(mib, subject)| Variant::new(format!("{mib} MiB of heap"), repeat(subject, false)))
        .collect();
    let measured = interleaved(&mut variants, rounds, repetitions / 4);
    for (index, variant) in variants.iter().enumerate() {
        let cells = [time(measured.nanos(index)), times(measured.ratio(index, 0))];
        table.line(format!("update, {}", variant.name), cells);
    }
    // The one walk that a message makes over something that grows with a memory.
    let last = HEAP_MIB.len() - 1;
    let name = format!("empty update with {} MiB of heap ÷ with {} MiB", HEAP_MIB[last], HEAP_MIB[0]);
    figures.at_most(name, 1.1, measured.ratio(last, 0), "×");
    figures.tables.push(table);
    figures
}

fn repeat(subject: &mut Subject, is_query: bool) -> impl FnMut(u64) + '_ {
    move |times| {
        for _ in 0..times {
            if is_query {
                subject.query("empty_query", &[]);
            } else {
                subject.update("empty", &[]);
            }
        }
    }
}

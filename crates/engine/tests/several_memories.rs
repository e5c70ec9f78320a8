//! Canisters with several memories of their own: each is marked, committed and rolled back like the heap.

use bedstone_engine::{Engine, EngineConfig, ErrorKind, Outcome, Response};

use crate::machine::{Dice, PAGE, WASM_PAGE};
use crate::several::{self, LOW, Op, PAGES, Several, Step, ops};
use crate::support::{MODES, Subject, with_stack};

const MIXED: [bool; 3] = [false, true, false];
const BYTES: u64 = PAGES * WASM_PAGE;

/// Production refuses such modules, and so does an engine that was not told otherwise.
#[test]
fn several_memories_are_refused_by_default() {
    let engine = Engine::new(EngineConfig::default()).unwrap();
    let error = engine.compile(wat::parse_str("(module (memory 1) (memory 1))").unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidModule);
    assert!(error.to_string().contains("multiple memories"), "{error}");
}

/// A step of any kind; nearly all of them stay inside their memories.
fn step(dice: &mut Dice, widths: &[bool]) -> Step {
    let ops = ops(widths);
    let near = |dice: &mut Dice, from: u64, to: u64| {
        let at = from + dice.below(to - from);
        match dice.below(4) {
            0 => (at & !4095).saturating_sub(dice.below(20)).max(from),
            1 => (at | 4095).saturating_sub(dice.below(20)).clamp(from, to),
            _ => at,
        }
    };
    let len = match dice.below(8) {
        0 => 0,
        1..6 => dice.below(70),
        _ => dice.below(3 * 4096),
    };
    let wild = dice.below(150) == 0;
    let end = if wild { BYTES } else { BYTES - 3 * 4096 };
    let (to, from) = (near(dice, LOW, end), near(dice, 0, end));
    match ops[dice.below(ops.len() as u64) as usize] {
        Op::Trap if dice.below(3) > 0 => step(dice, widths),
        op @ Op::Store(_) => (op, near(dice, LOW, if wild { BYTES } else { BYTES - 70_010 }), dice.next(), 0),
        op @ (Op::Vector(_) | Op::StoreAll) => (op, to, dice.next(), 0),
        op @ Op::Fill(_) => (op, to, dice.next(), len),
        op @ Op::Init(m) => {
            // 64-bit addresses far beyond the end, now and then.
            let far = if wild && widths[m] { 1 << dice.below(64) } else { 0 };
            (op, to | far, dice.below(9000 - len.min(8999)), len.min(9000))
        }
        op @ Op::Grow(_) => (op, [0, 0, 1, 2, 1 << 20][dice.below(5) as usize], 0, 0),
        op @ Op::StableWrite => (op, near(dice, 0, BYTES - 3 * 4096), from, len),
        op => (op, to, from, len),
    }
}

fn random_programs(seed: u64, widths: &[bool], messages: u64) {
    let mut dice = Dice(seed);
    let mut several = Several::new(widths);
    let (mut kept, mut trapped) = (0, 0);
    for _ in 0..messages {
        let steps = 1 + dice.below(25);
        let program: Vec<Step> = (0..steps).map(|_| step(&mut dice, widths)).collect();
        let method = if dice.below(6) == 0 { "look" } else { "run" };
        match several.execute(method, &program).response {
            Response::Reply(_) => kept += 1,
            _ => trapped += 1,
        }
    }
    assert!(kept > messages / 4 && trapped > messages / 10, "{kept} kept, {trapped} trapped");
}

#[test]
fn random_programs_on_memories_of_both_widths() {
    with_stack(|| random_programs(21, &MIXED, 120));
}

#[test]
fn random_programs_with_a_64_bit_memory_first() {
    with_stack(|| random_programs(22, &[true, false], 120));
}

/// Copies between all pairs of memories whose ends lie around ends of pages, overlapping ones among them; each is taken
/// back first.
#[test]
fn copies_at_the_ends_of_pages() {
    with_stack(|| {
        let mut several = Several::new(&MIXED);
        for m in 0..3 {
            several.run(&[(Op::Init(m), LOW, 100 * m as u64, 8000), (Op::Init(m), 0x500, 0, 9000)]);
        }
        for (to, from) in (0..3).flat_map(|to| (0..3).map(move |from| (to, from))) {
            for (index, offset) in [4090, 4095, 4096].into_iter().enumerate() {
                for len in [1, 2, 4096, 4097, 8193] {
                    let at = LOW + offset + 4096 * index as u64;
                    let source = LOW + [0, 4000, 4093][index];
                    let copy = (Op::Copy(to, from), at, source, len);
                    several.run(&[copy, (Op::Trap, 0, 0, 0)]);
                    several.run(&[copy]);
                }
            }
        }
    });
}

/// Copies that end exactly with a memory, and those that go one byte further.
#[test]
fn copies_at_the_ends_of_memories() {
    with_stack(|| {
        let mut several = Several::new(&MIXED);
        for (to, from) in (0..3).flat_map(|to| (0..3).map(move |from| (to, from))) {
            several.run(&[(Op::Init(from), LOW, 7, 600), (Op::Copy(to, from), BYTES - 600, LOW, 600)]);
            for (at, source) in [(BYTES - 599, LOW), (LOW, BYTES - 599)] {
                let outcome = several.run(&[(Op::Copy(to, from), at, source, 600)]);
                assert!(matches!(outcome.response, Response::Trapped(_)), "{outcome:?}");
            }
        }
    });
}

/// Writes of every kind to every memory, which grow too, and then a trap.
#[test]
fn a_trap_takes_back_every_memory() {
    with_stack(|| {
        let mut several = Several::new(&MIXED);
        let mess: Vec<Step> = (0..3)
            .flat_map(|m| {
                [
                    (Op::Grow(m), 1 + m as u64, 0, 0),
                    (Op::Fill(m), BYTES - 5000, 0xaa, WASM_PAGE),
                    (Op::Store(m), LOW + 4095, 0x1234, 0),
                    (Op::Vector(m), LOW + 8190, 0x5678, 0),
                    (Op::Init(m), LOW + 20_000, 5, 4097),
                    (Op::Copy(m, (m + 1) % 3), LOW + 40_001, 0, 5000),
                    (Op::Size(m), 0, 0, 0),
                ]
            })
            .collect();
        for _ in 0..2 {
            several.run(&[&mess[..], &[(Op::Trap, 0, 0, 0)]].concat());
            several.execute("look", &mess);
            assert!(several.model.memories.iter().all(|memory| memory.len() as u64 == BYTES));
            several.run(&[0, 1, 2].map(|m| (Op::Size(m), 0, 0, 0)));
        }
        for m in 0..3 {
            // What had been grown is out of bounds again: the instance must know.
            several.run(&[(Op::Grow(m), 1, 0, 0), (Op::Trap, 0, 0, 0)]);
            several.run(&[(Op::Fill(m), BYTES - 5, 1, 6)]);
            several.run(&[(Op::Vector(m), BYTES, 1, 0)]);
        }
        several.run(&mess);
        let sizes: Vec<u64> =
            several.model.memories.iter().map(|memory| memory.len() as u64 / WASM_PAGE).collect();
        assert_eq!(sizes, [PAGES + 1, PAGES + 2, PAGES + 3]);
        several.run(&[&mess[..2], &[(Op::Trap, 0, 0, 0)]].concat());
    });
}

/// A store that traps may have marked a page far beyond its memory; nothing else suffers.
#[test]
fn wild_marks_hurt_nobody() {
    with_stack(|| {
        let mut several = Several::new(&[true, false, true]);
        for m in [0, 2] {
            for bit in 17..64 {
                several.run(&[(Op::Vector(m), (1 << bit) | LOW, 1, 0)]);
            }
        }
        for bit in 17..32 {
            several.run(&[(Op::Vector(1), (1 << bit) | LOW, 1, 0)]);
        }
        several.run(&[(Op::StoreAll, LOW, 7, 0), (Op::StableWrite, 0, LOW, 5000)]);
    });
}

/// Whichever memory of one width an instruction works on, it costs the same and dirties as many pages.
#[test]
fn every_memory_costs_the_same() {
    with_stack(|| {
        for (mode, engine) in several::engines() {
            let outcome = |m: usize, ty: &str| -> Outcome {
                let wat = format!(
                    r#"(module (memory {ty} 2) (memory {ty} 2) (memory {ty} 2) (data $p "0123456789")
                    (func (export "canister_update t")
                      (i64.store {m} offset=4090 ({ty}.const 3) (i64.const -1))
                      (memory.fill {m} ({ty}.const 9000) (i32.const 1) ({ty}.const 5000))
                      (memory.copy {m} {m} ({ty}.const 50000) ({ty}.const 9000) ({ty}.const 4097))
                      (memory.init {m} $p ({ty}.const 70000) (i32.const 1) (i32.const 9))
                      (drop (memory.grow {m} (memory.size {m}))) (drop (i32.load {m} ({ty}.const 0)))))"#
                );
                Subject::installed(&engine, &wat).update("t", &[])
            };
            for ty in ["i32", "i64"] {
                let first = outcome(0, ty);
                assert_eq!((first.response.clone(), first.heap_pages_dirtied), (Response::None, 7), "{mode}");
                for m in [1, 2] {
                    assert_eq!(outcome(m, ty), first, "{mode}, memory {m} of {ty}");
                }
            }
        }
    });
}

/// `wasm_memory_limit` bounds all declared memories together: the growth that passes it ends the message.
#[test]
fn the_wasm_memory_limit_is_for_all_together() {
    let wat = r#"(module (memory 1) (memory i64 1) (memory 1)
        (func (export "canister_update grow")
          (drop (memory.grow 0 (i32.const 16384))) (drop (memory.grow 1 (i64.const 16384))))
        (func (export "canister_update more") (drop (memory.grow 2 (i32.const 16384)))))"#;
    with_stack(move || {
        for (mode, engine) in several::engines() {
            let mut subject = Subject::installed(&engine, wat);
            assert_eq!(subject.update("grow", &[]).response, Response::None, "{mode}");
            let Response::Trapped(fault) = subject.update("more", &[]).response else { panic!("{mode}") };
            let text = format!("The peak Wasm memory usage was {} bytes", (3_u64 << 30) + 3 * WASM_PAGE);
            assert!(fault.code == 539 && fault.detail.contains(&text), "{mode}: {fault:?}");
            let sizes = [0, 1, 2].map(|m| subject.canister.memory_bytes(m));
            assert_eq!(sizes, [(1 << 30) + WASM_PAGE, (1 << 30) + WASM_PAGE, WASM_PAGE], "{mode}");
        }
    });
}

/// A memory grows to its own maximum, and whatever it declares to 4 GiB or 6 GiB.
#[test]
fn each_memory_has_its_own_maximum() {
    let wat = r#"(module
        (import "ic0" "msg_reply" (func $reply)) (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
        (memory 1 2) (memory i64 1 200000) (memory 1)
        (func (export "canister_query grow")
          (i32.store (i32.const 0) (memory.grow 0 (i32.const 2)))
          (i64.store (i32.const 4) (memory.grow 1 (i64.const 98304)))
          (i64.store (i32.const 12) (memory.grow 1 (i64.const 98303)))
          (i32.store (i32.const 20) (memory.grow 2 (i32.const 65536)))
          (i32.store (i32.const 24) (memory.grow 2 (i32.const 65535)))
          (i32.store 2 (i32.const -4) (i32.const 5)) (i32.store 1 (i64.const 0x17ffffffc) (i32.const 6))
          (call $append (i32.const 0) (i32.const 28)) call $reply))"#;
    with_stack(move || {
        let engine = Engine::new(EngineConfig { allow_multi_memory: true, ..MODES[1].1 }).unwrap();
        let mut subject = Subject::installed(&engine, wat);
        let Response::Reply(reply) = subject.query("grow", &[]).response else { panic!("no reply") };
        let expected = [&[0xff; 12][..], &[1, 0, 0, 0, 0, 0, 0, 0], &[0xff; 4], &[1, 0, 0, 0]].concat();
        assert_eq!(reply, expected);
        assert_eq!([0, 1, 2].map(|m| subject.canister.memory_bytes(m)), [WASM_PAGE; 3]);
        assert_eq!(several::memory(&subject.canister, 1), vec![0; 16 * PAGE]);
    });
}

/// As many memories as a module may declare, one of them imported: maps, globals and stable map then stand far up in the
/// tracking memory.
#[test]
fn as_many_memories_as_there_may_be() {
    const COUNT: usize = 98;
    let ty = |m: usize| if m.is_multiple_of(2) { "i64" } else { "i32" };
    let memories: String = (1..COUNT).map(|m| format!("(memory {} 2)", ty(m))).collect();
    let each =
        |text: &dyn Fn(usize, &str) -> String| -> String { (0..COUNT).map(|m| text(m, ty(m))).collect() };
    let change = each(&|m, ty| {
        format!(
            "(i32.store {m} ({ty}.const 4094) (i32.const {m})) (memory.fill {m} ({ty}.const 70000) (i32.const {m}) ({ty}.const 10000))
             (drop (memory.grow {m} ({ty}.const 1)))"
        )
    });
    let wat = format!(
        r#"(module (import "env" "memory" (memory i64 2))
        (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
        (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
        {memories} (global $g (mut i64) (i64.const 5))
        (func (export "canister_init") (drop (call $grow (i64.const 1))))
        (func $change {change} (call $write (i64.const 4090) (i64.const 70000) (i64.const 8)) (global.set $g (i64.const 6)))
        (func (export "canister_update change") call $change)
        (func (export "canister_update trap") call $change (call $write (i64.const 4090) (i64.const 0) (i64.const 8)) unreachable))"#
    );
    with_stack(move || {
        for (mode, engine) in several::engines() {
            let mut subject = Subject::installed(&engine, &wat);
            for _ in 0..2 {
                let outcome = subject.update("trap", &[]);
                // Memory 0 stores zeroes, which change nothing.
                assert_eq!(
                    outcome.heap_pages_dirtied,
                    4 * (COUNT as u64 - 1),
                    "{mode}: {:?}",
                    outcome.response
                );
                assert!(
                    (0..COUNT).all(|m| several::memory(&subject.canister, m) == vec![0; 32 * PAGE]),
                    "{mode}"
                );
                assert_eq!(subject.canister.globals()[..8], 5_u64.to_le_bytes(), "{mode}");
            }
            let outcome = subject.update("change", &[]);
            assert_eq!((outcome.response, outcome.stable_pages_dirtied), (Response::None, 2), "{mode}");
            for m in 0..COUNT {
                let mut expected = vec![0; 48 * PAGE];
                expected[4094] = m as u8;
                expected[70_000..80_000].fill(m as u8);
                assert!(several::memory(&subject.canister, m) == expected, "{mode}: memory {m}");
            }
            assert_eq!(subject.canister.globals()[..8], 6_u64.to_le_bytes(), "{mode}");
        }
    });
}

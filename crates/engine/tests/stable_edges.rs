//! The stable-memory functions step by step: lengths, alignments, ends and overflows, native and host alike, against a
//! model; the 32-bit functions' fine print; growth to the limits.

use bedstone_engine::{Engine, Entry, Outcome, Response};

use crate::machine::{self, Dice, Op, Step, Stop, WASM_PAGE};
use crate::support::{MODES, Subject, with_stack};
use crate::twins::Twins;

const STABLE: Stop = Stop::Trapped("stable memory out of bounds");
const HEAP: Stop = Stop::Trapped("heap out of bounds");
const LARGE: Stop = Stop::Trapped("32 bit stable memory api used on a memory larger than 4GB");
const TEN: u64 = 10 * WASM_PAGE;

/// Heap bytes that differ from each other, outside of where programs stand.
fn pattern(twins: &mut Twins, seed: u64) {
    let mut dice = Dice(seed);
    for base in [4096, 2 * WASM_PAGE] {
        let fill: Vec<Step> = (0..256).map(|word| (Op::Store, base + word * 8, dice.next(), 0)).collect();
        twins.run(&fill);
    }
}

/// Every length from 0 to 130, at addresses around a page's border and a Wasm page's, written and read back twice in
/// one message: the first access takes the slow path, the second the fast one.
fn lengths_and_alignments(memory64: bool) {
    let mut twins = Twins::new(memory64);
    twins.run(&[(Op::Grow, 10, 0, 0)]);
    pattern(&mut twins, 1);
    let offsets = [0, 1, 7, 8, 4095, 4096, 4096 - 64, 4096 * 3 - 31, WASM_PAGE - 65, TEN - 130];
    for len in 0..=130 {
        let mut program = Vec::new();
        for (index, offset) in (0..).zip(offsets) {
            let stable = offset.min(TEN - len);
            let (from, to) = (4096 + index * 3 + len, 8192 - 8 + index * 135);
            for round in 0..2 {
                program.push((Op::Write, stable, from + round, len));
                program.push((Op::Read, to + round, stable, len));
            }
        }
        twins.run(&program);
    }
    twins.check_memories();
}

#[test]
fn lengths_and_alignments_with_a_32_bit_heap() {
    with_stack(|| lengths_and_alignments(false));
}

#[test]
fn lengths_and_alignments_with_a_64_bit_heap() {
    with_stack(|| lengths_and_alignments(true));
}

/// The 32-bit functions copy the same bytes.
#[test]
fn lengths_through_the_32_bit_functions() {
    with_stack(|| {
        let mut twins = Twins::new(false);
        twins.run(&[(Op::Grow32, 2, 0, 0), (Op::Size32, 0, 0, 0)]);
        pattern(&mut twins, 2);
        for len in 0..=130 {
            let stable = 4096 - len / 2;
            let write = (Op::Write32, stable, 4096 + len, len);
            let read = (Op::Read32, 8192 + len, stable, len);
            twins.run(&[write, read, write, read]);
        }
        twins.check_memories();
    });
}

/// Neither address is looked at if there is nothing to copy, except by `stable_write`.
#[test]
fn zero_lengths() {
    with_stack(|| {
        let mut twins = Twins::new(false);
        for pages in [0, 1] {
            twins.run(&[(Op::Grow, pages, 0, 0)]);
            for op in [Op::Read, Op::Write] {
                let outcome = twins.succeeds((op, u64::MAX, u64::MAX, 0));
                assert_eq!((outcome.stable_pages_accessed, outcome.stable_pages_dirtied), (0, 0));
            }
            twins.succeeds((Op::Read32, 0xffff_ffff, 0xffff_ffff, 0));
            twins.succeeds((Op::Write32, pages * WASM_PAGE, 0xffff_ffff, 0));
            twins.stops((Op::Write32, pages * WASM_PAGE + 1, 0, 0), STABLE);
        }
    });
}

/// Accesses that end on the last byte succeed, one byte further they fail; sums that wrap around fail.
#[test]
fn ends_and_overflows() {
    with_stack(|| {
        for memory64 in [false, true] {
            let mut twins = Twins::new(memory64);
            twins.stops((Op::Read, 0, 0, 1), STABLE);
            twins.stops((Op::Write, 0, 0, 1), STABLE);
            twins.run(&[(Op::Grow, 10, 0, 0)]);
            let heap = 3 * WASM_PAGE;
            for len in [1, 2, 8, 16, 17, 33, 64, 65, 4096, 5000, WASM_PAGE] {
                twins.succeeds((Op::Read, 2 * WASM_PAGE, TEN - len, len));
                twins.succeeds((Op::Write, TEN - len, 2 * WASM_PAGE, len));
                twins.succeeds((Op::Read, heap - len, 0, len));
                twins.succeeds((Op::Write, 0, heap - len, len));
                twins.stops((Op::Read, 0, TEN - len + 1, len), STABLE);
                twins.stops((Op::Write, TEN - len + 1, 0, len), STABLE);
                twins.stops((Op::Read, heap - len + 1, 0, len), HEAP);
                twins.stops((Op::Write, 0, heap - len + 1, len), HEAP);
                for far in [u64::MAX, u64::MAX - len + 1, u64::MAX - len, 1 << 63, 1 << 62, 1 << 40, 1 << 39]
                {
                    twins.stops((Op::Read, 0, far, len), STABLE);
                    twins.stops((Op::Write, far, 0, len), STABLE);
                }
                for far in [u64::MAX, u64::MAX - len + 1, 1 << 63, 1 << 40, 6 << 30, (6 << 30) + 1, 1 << 32] {
                    twins.stops((Op::Read, far, 0, len), HEAP);
                    twins.stops((Op::Write, 0, far, len), HEAP);
                }
            }
            twins.check_memories();
        }
    });
}

/// The same ends once the pages were touched, so that the short way is not too short.
#[test]
fn ends_on_touched_pages() {
    with_stack(|| {
        for memory64 in [false, true] {
            let mut twins = Twins::new(memory64);
            twins.run(&[(Op::Grow, 10, 0, 0)]);
            let heap = 3 * WASM_PAGE;
            let touched = [(Op::Write, TEN - 4096, 0, 4096), (Op::Write, 0, 0, 8192)];
            for len in [1, 2, 3, 4, 8, 16, 17, 33, 63, 64] {
                let mut after = |step: Step, stop: Stop| {
                    let outcome = twins.run(&[touched[0], touched[1], step]);
                    assert!(stop.is(&outcome.response), "{step:?}: {:?}", outcome.response);
                };
                after((Op::Read, 0, TEN - len + 1, len), STABLE);
                after((Op::Write, TEN - len + 1, 0, len), STABLE);
                after((Op::Read, heap - len + 1, 0, len), HEAP);
                after((Op::Write, 0, heap - len + 1, len), HEAP);
                for far in [u64::MAX, 1 << 63, 1 << 40, 1 << 33, 1 << 32, (1 << 32) - len] {
                    after((Op::Read, far, 0, len), HEAP);
                    after((Op::Write, 0, far, len), HEAP);
                }
                after((Op::Read, 0, u64::MAX - len + 1, len), STABLE);
                after((Op::Write, 1 << 63, 0, len), STABLE);
            }
            twins.check_memories();
        }
    });
}

/// Lengths beyond any memory run out of instructions, unless their charge wraps around to nearly nothing.
#[test]
fn absurd_lengths() {
    with_stack(|| {
        for memory64 in [false, true] {
            let mut twins = Twins::new(memory64);
            twins.run(&[(Op::Grow, 10, 0, 0)]);
            for op in [Op::Read, Op::Write] {
                for back in 1..=20 {
                    twins.stops((op, 0, 0, 0_u64.wrapping_sub(back)), STABLE);
                }
                for len in [0_u64.wrapping_sub(21), (1 << 63) - 20, (1 << 63) - 21, 1 << 63, 1 << 62, 1 << 40]
                {
                    twins.stops((op, 0, 0, len), Stop::Exhausted);
                }
            }
        }
    });
}

/// A read may overwrite the program's own heap, a write may take from where a read just wrote: bytes arrive in order.
#[test]
fn reads_and_writes_that_overlap() {
    with_stack(|| {
        let mut twins = Twins::new(false);
        twins.run(&[(Op::Grow, 2, 0, 0)]);
        pattern(&mut twins, 3);
        let mut dice = Dice(4);
        for _ in 0..50 {
            let mut program = Vec::new();
            for _ in 0..20 {
                let len = dice.below(200);
                let (heap, stable) = (4096 + dice.below(300), 4000 + dice.below(200));
                program.push(if dice.below(2) == 0 {
                    (Op::Read, heap, stable, len)
                } else {
                    (Op::Write, stable, heap, len)
                });
            }
            twins.run(&program);
        }
        twins.check_memories();
    });
}

/// Beyond 65,536 Wasm pages the 32-bit functions trap; with exactly so many they work up to the last byte.
#[test]
fn the_32_bit_functions_end_at_4_gib() {
    with_stack(|| {
        // Not in the model: 4 GiB of vector would be needed, and the canisters' memories are sparse.
        for (mode, config) in MODES {
            let engine = Engine::new(config).unwrap();
            let mut subject = Subject::installed(&engine, &machine::wat(false));
            let mut run = |steps: &[Step]| subject.update("run", &machine::encode(steps));
            let number = |outcome: &Outcome| match &outcome.response {
                Response::Reply(bytes) => u64::from_le_bytes(bytes[..8].try_into().unwrap()),
                other => panic!("{mode}: {other:?}"),
            };
            assert_eq!(number(&run(&[(Op::Grow32, 65_537, 0, 0)])), 0xffff_ffff, "{mode}");
            assert_eq!(number(&run(&[(Op::Grow32, 65_535, 0, 0)])), 0, "{mode}");
            assert_eq!(number(&run(&[(Op::Grow32, 2, 0, 0)])), 0xffff_ffff, "{mode}");
            assert_eq!(number(&run(&[(Op::Grow32, 0xffff_ffff, 0, 0)])), 0xffff_ffff, "{mode}");
            assert_eq!(number(&run(&[(Op::Grow32, 1, 0, 0)])), 65_535, "{mode}");
            assert_eq!(number(&run(&[(Op::Size32, 0, 0, 0)])), 65_536, "{mode}");
            assert_eq!(number(&run(&[(Op::Grow32, 0, 0, 0)])), 65_536, "{mode}");
            let last = 0xffff_ffff - 7;
            let copied = run(&[(Op::Write32, last, 16, 8), (Op::Read32, 24, last, 8)]);
            assert!(matches!(copied.response, Response::Reply(_)), "{mode}: {:?}", copied.response);
            let mut bytes = [0; 4];
            subject.canister.read_heap(24, &mut bytes);
            assert_eq!(&bytes, b"data", "{mode}");
            let mut run = |steps: &[Step]| subject.update("run", &machine::encode(steps));
            for op in [Op::Write32, Op::Read32] {
                assert!(STABLE.is(&run(&[(op, 0xffff_fff9, 0xffff_fff9, 8)]).response), "{mode}: {op:?}");
            }
            assert_eq!(number(&run(&[(Op::Grow, 1, 0, 0)])), 65_536, "{mode}");
            for step in [
                (Op::Size32, 0, 0, 0),
                (Op::Grow32, 0, 0, 0),
                (Op::Grow32, 1, 0, 0),
                (Op::Read32, 0, 0, 1),
                (Op::Write32, 0, 0, 1),
                (Op::Write32, 0, 0, 0),
            ] {
                let outcome = run(&[step]);
                assert!(LARGE.is(&outcome.response), "{mode}: {step:?}: {:?}", outcome.response);
            }
            assert!(matches!(run(&[(Op::Read32, 0, 0, 0)]).response, Response::Reply(_)), "{mode}");
            assert_eq!(number(&run(&[(Op::Size, 0, 0, 0)])), 65_537, "{mode}");
        }
    });
}

/// Stable memory ends at 8,192,000 Wasm pages; a growth that is refused answers −1 and changes nothing.
#[test]
fn growth_ends_at_500_gib() {
    with_stack(|| {
        for (mode, config) in MODES {
            let engine = Engine::new(config).unwrap();
            let mut subject = Subject::installed(&engine, &machine::wat(false));
            let mut run = |steps: &[Step]| subject.update("run", &machine::encode(steps));
            let most = 8_192_000;
            let mut expect = |by: u64, answer: u64, size: u64| {
                let outcome = run(&[(Op::Grow, by, 0, 0), (Op::Size, 0, 0, 0)]);
                let reply = [answer.to_le_bytes(), size.to_le_bytes()].concat();
                assert_eq!(outcome.response, Response::Reply(reply), "{mode}: {by}");
            };
            expect(most + 1, u64::MAX, 0);
            expect(u64::MAX, u64::MAX, 0);
            expect(most - 1, 0, most - 1);
            expect(2, u64::MAX, most - 1);
            expect(u64::MAX, u64::MAX, most - 1);
            expect(1, most - 1, most);
            expect(0, most, most);
            expect(1, u64::MAX, most);
            let end = most * WASM_PAGE;
            let last =
                run(&[(Op::Write, end - 4, 16, 4), (Op::Read, 24, end - 4, 4), (Op::Read, 32, end - 4, 4)]);
            assert!(matches!(last.response, Response::Reply(_)), "{mode}: {:?}", last.response);
            assert!(STABLE.is(&run(&[(Op::Write, end - 3, 16, 4)]).response), "{mode}");
            let mut bytes = [0; 12];
            subject.canister.read_heap(24, &mut bytes);
            assert_eq!(&bytes, b"data\0\0\0\0data", "{mode}");
            assert_eq!(subject.canister.stable_bytes(), end);
        }
    });
}

/// A 64-bit heap is one beyond 4 GiB too, for the canister's own accesses and for stable ones, and is rolled back there.
#[test]
fn a_64_bit_heap_beyond_4_gib() {
    let wat = r#"(module
        (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
        (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
        (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
        (memory i64 1)
        (func (export "canister_init") (drop (call $grow (i64.const 1))))
        (func $work
          (i64.store (i64.const 5000000000) (i64.add (i64.load (i64.const 5000000000)) (i64.const 7)))
          (call $write (i64.const 8) (i64.const 5000000000) (i64.const 8))
          (call $write (i64.const 8) (i64.const 5000000000) (i64.const 8))
          (call $read (i64.const 5000100000) (i64.const 8) (i64.const 8))
          (call $read (i64.const 5000100000) (i64.const 8) (i64.const 8)))
        (func (export "canister_heartbeat")
          (if (i64.eq (memory.size) (i64.const 1)) (then (drop (memory.grow (i64.const 81920)))))
          call $work)
        (func (export "canister_global_timer") call $work unreachable)
        (func (export "canister_inspect_message") call $work))"#;
    with_stack(move || {
        for (mode, config) in MODES {
            let mut subject = Subject::installed(&Engine::new(config).unwrap(), wat);
            let mut expect = |entry, succeeds: bool, value: u64| {
                let outcome = subject.execute(entry, &[]);
                assert_eq!(
                    !matches!(outcome.response, Response::Trapped(_)),
                    succeeds,
                    "{mode}: {outcome:?}"
                );
                assert_eq!(outcome.stable_pages_dirtied, 1, "{mode}");
                let mut bytes = [[0; 8]; 3];
                subject.canister.read_heap(5_000_000_000, &mut bytes[0]);
                subject.canister.read_heap(5_000_100_000, &mut bytes[1]);
                subject.canister.read_stable(8, &mut bytes[2]);
                assert_eq!(bytes.map(u64::from_le_bytes), [value; 3], "{mode}: {entry:?}");
            };
            expect(Entry::Heartbeat, true, 7);
            expect(Entry::GlobalTimer, false, 7);
            expect(Entry::InspectMessage("t"), true, 7);
            expect(Entry::Heartbeat, true, 14);
        }
    });
}

/// A page is charged when it is first written in a message, whatever it held, and again in the next message.
#[test]
fn pages_are_charged_once_per_message() {
    with_stack(|| {
        let mut twins = Twins::new(false);
        twins.run(&[(Op::Grow, 10, 0, 0)]);
        let mut cost = |steps: &[Step]| {
            let outcome = twins.run(steps);
            outcome.instructions - 1000 * outcome.heap_pages_dirtied
        };
        let write: Step = (Op::Write, 4096, 0, 8);
        let once = cost(&[write]);
        assert_eq!(cost(&[write]), once);
        let read: Step = (Op::Read, 0, 4096, 8);
        let (after_read, before_read) = (cost(&[read, write]), cost(&[write, read]));
        assert_eq!(after_read, before_read, "a page that was only read is charged when it is written");
        let twice = cost(&[write, write]);
        let straddling = cost(&[write, (Op::Write, 8190, 0, 8)]);
        assert_eq!(straddling, twice + 1000, "one of the two pages is fresh");
        let other = cost(&[write, (Op::Write, 8192, 0, 8)]);
        assert_eq!(other, twice + 1000);
        let around = cost(&[(Op::Write, 8192, 0, 8), (Op::Write, 4096, 0, 4096 * 3)]);
        let fresh = cost(&[(Op::Write, 4096, 0, 4096 * 3), (Op::Write, 8192, 0, 8)]);
        assert_eq!(around, fresh, "the order in which pages are first written does not matter");
    });
}

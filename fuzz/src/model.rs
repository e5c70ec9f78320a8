//! Random stable reads, writes and grows, of lengths known and unknown to the compiler, against a plain vector.
//!
//! A fixed canister interprets its argument as a list of operations. The model predicts stable memory, what the reads
//! leave in the heap, the first trap, and the pages charged.

use bedstone_engine::{CallInfo, Canister, Entry, Message, Outcome, Principal, Response};

use crate::Numbers;
use crate::canister::{MODES, Seen, install};

/// Lengths for which there is an access with that length as a constant.
const CONSTANTS: [u64; 19] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65];

/// Operations of 32 bytes from address 4096 on: kind, three operands. Reads go to the heap from 128 KiB on, writes come
/// from there. The argument has at most 64 of them; `run` performs them and replies, kind 3 traps. Kinds 4 and 5 are reads
/// and writes of one of [`CONSTANTS`] bytes.
fn interpreter() -> String {
    let accesses = [(4, "$read"), (5, "$write")].map(|(kind, function)| {
        let cases = CONSTANTS.map(|len| {
            format!(
                "(if (i64.eq (i64.load offset=24 (local.get $at)) (i64.const {len}))
                  (then (call {function} (i64.load offset=8 (local.get $at)) (i64.load offset=16 (local.get $at))
                    (i64.const {len}))))"
            )
        });
        format!("(if (i64.eq (local.get $kind) (i64.const {kind})) (then {}))", cases.concat())
    });
    INTERPRETER.replace("$constant_accesses", &accesses.concat())
}

/// See [`interpreter`].
const INTERPRETER: &str = r#"
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 4 4)
  (func (export "canister_update run") (local $at i32) (local $end i32) (local $kind i64)
    (call $arg (i32.const 4096) (i32.const 0) (call $arg_size))
    (local.set $at (i32.const 4096))
    (local.set $end (i32.add (i32.const 4096) (call $arg_size)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $kind (i64.load (local.get $at)))
        (if (i64.eqz (local.get $kind))
          (then (drop (call $grow (i64.load offset=8 (local.get $at))))))
        (if (i64.eq (local.get $kind) (i64.const 1))
          (then (call $read (i64.load offset=8 (local.get $at)) (i64.load offset=16 (local.get $at))
            (i64.load offset=24 (local.get $at)))))
        (if (i64.eq (local.get $kind) (i64.const 2))
          (then (call $write (i64.load offset=8 (local.get $at)) (i64.load offset=16 (local.get $at))
            (i64.load offset=24 (local.get $at)))))
        $constant_accesses
        (if (i64.eq (local.get $kind) (i64.const 3)) (then unreachable))
        (local.set $at (i32.add (local.get $at) (i32.const 32)))
        (br $next)))
    call $reply))
"#;

const ARG: usize = 4096;
const HEAP: usize = 4 << 16;
const WASM_PAGE: usize = 1 << 16;
const DATA: u64 = 128 << 10;

#[derive(Debug, Clone, Copy)]
struct Operation {
    kind: u64,
    operands: [u64; 3],
}

/// One case: eight messages in each mode.
pub fn run(seed: u64) -> bool {
    let wasm = wat::parse_str(interpreter()).expect("the text is a module");
    let mut canisters: Vec<Canister> =
        (0..MODES.len()).map(|mode| install(mode, &wasm).expect("a valid module").0).collect();
    let mut numbers = Numbers::new(seed);
    let mut model = Model { heap: vec![0; HEAP], stable: Vec::new() };
    for index in 0..8 {
        let operations = operations(&mut numbers, model.stable.len() as u64);
        let arg: Vec<u8> = operations
            .iter()
            .flat_map(|operation| [&[operation.kind][..], &operation.operands].concat())
            .flat_map(u64::to_le_bytes)
            .collect();
        let mut next = model.clone();
        let expected = next.execute(&arg, &operations);
        for (canister, mode) in canisters.iter_mut().zip(&MODES) {
            let message = Message {
                entry: Entry::Update("run"),
                arg: &arg,
                caller: Principal::anonymous(),
                time_nanos: 1,
                call: CallInfo::default(),
            };
            let outcome = canister.execute(&message).expect("the machine works");
            let what = format!("seed {seed}, message {index}, {mode:?}");
            compare(&what, &expected, &outcome);
            let kept = if expected.trap.is_some() { &model } else { &next };
            let seen = Seen::of(canister);
            assert!(seen.stable == kept.stable, "{what}: stable memory");
            assert!(seen.heaps == [kept.heap.as_slice()], "{what}: heap");
        }
        if expected.trap.is_none() {
            model = next;
        }
    }
    true
}

#[derive(Debug)]
struct Expected {
    trap: Option<&'static str>,
    written: u64,
}

fn compare(what: &str, expected: &Expected, outcome: &Outcome) {
    match (&expected.trap, &outcome.response) {
        (None, Response::Reply(_)) => {
            assert_eq!(outcome.stable_pages_dirtied, expected.written, "{what}: pages written");
        }
        (Some(text), Response::Trapped(fault)) => assert_eq!(&fault.detail, text, "{what}"),
        (expected, response) => panic!("{what}: expected {expected:?} but got {response:?}"),
    }
}

#[derive(Clone)]
struct Model {
    heap: Vec<u8>,
    stable: Vec<u8>,
}

impl Model {
    fn execute(&mut self, arg: &[u8], operations: &[Operation]) -> Expected {
        let mut written = std::collections::BTreeSet::new();
        self.heap[ARG..ARG + arg.len()].copy_from_slice(arg);
        for operation in operations {
            let [a, b, len] = operation.operands;
            let result = match operation.kind {
                0 => {
                    self.stable.resize(self.stable.len() + a as usize * WASM_PAGE, 0);
                    Ok(())
                }
                1 | 4 => self.copy(a, b, len, false),
                2 | 5 => self.copy(b, a, len, true).inspect(|()| {
                    if len > 0 {
                        written.extend(a / 4096..=(a + len - 1) / 4096);
                    }
                }),
                _ => Err("Canister trapped: unreachable"),
            };
            if let Err(trap) = result {
                return Expected { trap: Some(trap), written: 0 };
            }
        }
        Expected { trap: None, written: written.len() as u64 }
    }

    fn copy(&mut self, heap: u64, stable: u64, len: u64, write: bool) -> Result<(), &'static str> {
        if len == 0 {
            return Ok(());
        }
        let end = stable.checked_add(len).filter(|end| *end <= self.stable.len() as u64);
        let stable_range =
            stable as usize..end.ok_or("Canister trapped: stable memory out of bounds")? as usize;
        let end = heap.checked_add(len).filter(|end| *end <= self.heap.len() as u64);
        let heap_range = heap as usize..end.ok_or("Canister trapped: heap out of bounds")? as usize;
        if write {
            self.stable[stable_range].copy_from_slice(&self.heap[heap_range]);
        } else {
            self.heap[heap_range].copy_from_slice(&self.stable[stable_range]);
        }
        Ok(())
    }
}

/// Operations with edges at page borders, lengths and ends.
fn operations(numbers: &mut Numbers, mut stable: u64) -> Vec<Operation> {
    let count = 1 + numbers.below(40);
    let mut operations = Vec::new();
    for _ in 0..count {
        let kind = match numbers.below(20) {
            0 => 0,
            1..=9 => 1,
            10..=18 => 2,
            _ if numbers.below(4) == 0 => 3,
            _ => 2,
        };
        let len = [0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 128, 4096, 5000, 9000]
            [numbers.below(22) as usize];
        let near = |numbers: &mut Numbers, bytes: u64| {
            let base = match numbers.below(3) {
                0 => numbers.below(bytes / 4096 + 1) * 4096,
                1 => bytes,
                _ => numbers.below(bytes + 1),
            };
            // Mostly inside; now and then beyond the end.
            let room = if numbers.below(50) == 0 { 0 } else { len };
            base.saturating_sub(numbers.below(70)).min(bytes.saturating_sub(room))
        };
        let heap = DATA + near(numbers, HEAP as u64 - DATA);
        let at = near(numbers, stable);
        let operands = match kind {
            0 => [numbers.below(2), 0, 0],
            1 => [heap, at, len],
            _ => [at, heap, len],
        };
        let constant = (1..=2).contains(&kind) && CONSTANTS.contains(&len) && numbers.below(2) == 0;
        let kind = if constant { kind + 3 } else { kind };
        if kind == 0 {
            stable += operands[0] * WASM_PAGE as u64;
        }
        operations.push(Operation { kind, operands });
    }
    operations
}

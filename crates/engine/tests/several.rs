//! A canister with several memories that executes programs given as arguments, and its model: plain vectors, so that what
//! it proves does not rest on the engine.

use bedstone_engine::{Canister, Engine, EngineConfig, Outcome, Response};

use crate::machine::{Dice, WASM_PAGE, assert_same, pages_changed};
use crate::support::{MODES, Subject};

/// Wasm pages that each memory starts with, and may grow to.
pub const PAGES: u64 = 4;
const PAGES_MAX: u64 = 8;
/// Where programs are copied to in memory 0; steps write further up only.
const PROGRAM: usize = 0x1_0000;
/// First byte that steps write, in any memory.
pub const LOW: u64 = 0x2_0000;
/// Where a result stands in memory 0 before it is appended to the reply.
const RESULT: usize = 8;
/// Bytes of the passive segment, and its contents.
const SEGMENT: u64 = 9000;

/// Engines that allow several memories, in every mode.
pub fn engines() -> Vec<(&'static str, Engine)> {
    let engine = |config| Engine::new(EngineConfig { allow_multi_memory: true, ..config }).unwrap();
    MODES.into_iter().map(|(mode, config)| (mode, engine(config))).collect()
}

/// What a step does, and to which memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// `(address, value)`: a byte, then two bytes 70,000 further on.
    Store(usize),
    /// `(address, value)`: one vector lane of 8 bytes, then 16 bytes at offset 4090.
    Vector(usize),
    /// `(address, byte, len)`
    Fill(usize),
    /// `(to, from, len)`: from the second memory to the first.
    Copy(usize, usize),
    /// `(to, offset in the segment, len)`
    Init(usize),
    /// `(Wasm pages)`
    Grow(usize),
    Size(usize),
    /// `(to, from, len)`: between memory 0 and stable memory.
    StableRead,
    StableWrite,
    /// `(address, value)`: 8 bytes to the same address of all memories, off one value where widths allow it.
    StoreAll,
    Trap,
}

pub type Step = (Op, u64, u64, u64);

/// All operations on memories of these widths (64-bit or not), in the order of the canister's table.
pub fn ops(widths: &[bool]) -> Vec<Op> {
    let all = 0..widths.len();
    let mut ops = vec![Op::StableRead, Op::StableWrite, Op::StoreAll, Op::Trap];
    for m in all.clone() {
        ops.extend([Op::Store(m), Op::Vector(m), Op::Fill(m), Op::Init(m), Op::Grow(m), Op::Size(m)]);
        ops.extend(all.clone().map(|n| Op::Copy(m, n)));
    }
    ops
}

/// The function `(a, b, c) -> result` of an operation.
fn function(op: Op, widths: &[bool]) -> String {
    let pointer = |m: usize, local: &str| match widths[m] {
        true => format!("(local.get ${local})"),
        false => format!("(i32.wrap_i64 (local.get ${local}))"),
    };
    let byte = "(i32.wrap_i64 (local.get $b))";
    let wide = |m: usize, code: String| match widths[m] {
        true => code,
        false => format!("(i64.extend_i32_u {code})"),
    };
    let mut result = "(i64.const 0)".to_owned();
    let body = match op {
        Op::Store(m) => format!(
            "(i64.store8 {m} {a} (local.get $b)) (i32.store16 {m} offset=70000 {a} {byte})",
            a = pointer(m, "a")
        ),
        Op::Vector(m) => format!(
            "(v128.store64_lane {m} 1 {a} (i64x2.splat (local.get $b)))
             (v128.store {m} offset=4090 {a} (i64x2.splat (local.get $b)))",
            a = pointer(m, "a")
        ),
        Op::Fill(m) => format!("(memory.fill {m} {} {byte} {})", pointer(m, "a"), pointer(m, "c")),
        Op::Copy(m, n) => {
            let len = pointer(if widths[m] { n } else { m }, "c");
            format!("(memory.copy {m} {n} {} {} {len})", pointer(m, "a"), pointer(n, "b"))
        }
        Op::Init(m) => {
            format!("(memory.init {m} $p {} {byte} (i32.wrap_i64 (local.get $c)))", pointer(m, "a"))
        }
        Op::Grow(m) => {
            result = wide(m, format!("(memory.grow {m} {})", pointer(m, "a")));
            String::new()
        }
        Op::Size(m) => {
            result = wide(m, format!("(memory.size {m})"));
            String::new()
        }
        Op::StableRead => "(call $read (local.get $a) (local.get $b) (local.get $c))".to_owned(),
        Op::StableWrite => "(call $write (local.get $a) (local.get $b) (local.get $c))".to_owned(),
        Op::StoreAll => {
            let stores = (0..widths.len()).map(|m| {
                let base = if widths[m] { "(local.get $a)" } else { "(local.get $narrow)" };
                format!("(i64.store {m} {base} (local.get $b))")
            });
            format!("(local.set $narrow (i32.wrap_i64 (local.get $a))) {}", stores.collect::<String>())
        }
        Op::Trap => "unreachable".to_owned(),
    };
    format!(
        "(func (param $a i64) (param $b i64) (param $c i64) (result i64) (local $narrow i32) {body} {result})"
    )
}

/// The canister's text with `hooks` in it. Memory `m` starts with the bytes `name` and `m` at 16.
pub fn wat(widths: &[bool], name: &str, hooks: &str) -> String {
    let p = if widths[0] { "i64" } else { "i32" };
    let each = |text: &dyn Fn(usize, &str) -> String| -> String {
        widths.iter().enumerate().map(|(m, wide)| text(m, if *wide { "i64" } else { "i32" })).collect()
    };
    let memories = each(&|_, ty| format!("(memory {ty} {PAGES} {PAGES_MAX})"));
    let data = each(&|m, ty| format!("(data (memory {m}) ({ty}.const 16) \"{name}{m}\")"));
    let functions: Vec<String> = ops(widths).into_iter().map(|op| function(op, widths)).collect();
    let first = 7; // imports stand before the functions of operations
    let elements: String = (0..functions.len()).map(|index| format!("{} ", first + index)).collect();
    let segment: String = segment().iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!(
        r#"(module
      (import "ic0" "msg_arg_data_size" (func $arg_size (result {p})))
      (import "ic0" "msg_arg_data_copy" (func $arg_copy (param {p} {p} {p})))
      (import "ic0" "msg_reply_data_append" (func $append (param {p} {p})))
      (import "ic0" "msg_reply" (func $reply))
      (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
      (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
      (import "ic0" "stable64_grow" (func $stable_grow (param i64) (result i64)))
      (type $op (func (param i64 i64 i64) (result i64)))
      {memories} {data} (data $p "{segment}")
      (table funcref (elem {elements}))
      {functions}
      (func $run (local $at {p}) (local $end {p})
        (local.set $at ({p}.const {PROGRAM}))
        (local.set $end ({p}.add (local.get $at) (call $arg_size)))
        (call $arg_copy (local.get $at) ({p}.const 0) (call $arg_size))
        (block $done (loop $next
          (br_if $done ({p}.ge_u (local.get $at) (local.get $end)))
          (i64.store ({p}.const {RESULT}) (call_indirect (type $op) (i64.load offset=8 (local.get $at))
            (i64.load offset=16 (local.get $at)) (i64.load offset=24 (local.get $at)) (i32.load (local.get $at))))
          (call $append ({p}.const {RESULT}) ({p}.const 8))
          (local.set $at ({p}.add (local.get $at) ({p}.const 32)))
          (br $next)))
        call $reply)
      (func (export "canister_init") (drop (call $stable_grow (i64.const {PAGES}))))
      (func (export "canister_update run") call $run)
      (func (export "canister_query look") call $run)
      {hooks})"#,
        functions = functions.concat(),
    )
}

fn segment() -> Vec<u8> {
    let mut dice = Dice(3);
    (0..SEGMENT).map(|_| dice.next() as u8).collect()
}

/// What the memories must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub memories: Vec<Vec<u8>>,
    pub stable: Vec<u8>,
    widths: Vec<bool>,
}

const HEAP: &str = "heap out of bounds";

impl Model {
    pub fn new(widths: &[bool], name: &str) -> Self {
        let memory = |m: usize| {
            let mut memory = vec![0; (PAGES * WASM_PAGE) as usize];
            let text = format!("{name}{m}");
            memory[16..16 + text.len()].copy_from_slice(text.as_bytes());
            memory
        };
        let stable = vec![0; (PAGES * WASM_PAGE) as usize];
        Self { memories: (0..widths.len()).map(memory).collect(), stable, widths: widths.to_vec() }
    }

    fn encode(&self, program: &[Step]) -> Vec<u8> {
        let ops = ops(&self.widths);
        let words = |&(op, a, b, c): &Step| {
            let index = ops.iter().position(|known| *known == op).unwrap();
            [index as u64, a, b, c]
        };
        program.iter().flat_map(words).flat_map(u64::to_le_bytes).collect()
    }

    /// Runs a program; its reply, or the trap, which leaves memories half changed.
    fn run(&mut self, program: &[Step]) -> Result<Vec<u8>, &'static str> {
        let arg = self.encode(program);
        self.memories[0][PROGRAM..PROGRAM + arg.len()].copy_from_slice(&arg);
        let mut reply = Vec::new();
        for step in program {
            let result = self.step(*step)?.to_le_bytes();
            self.memories[0][RESULT..RESULT + 8].copy_from_slice(&result);
            reply.extend(result);
        }
        Ok(reply)
    }

    fn slice(&mut self, m: usize, at: u64, len: u64) -> Result<&mut [u8], &'static str> {
        let memory = &mut self.memories[m];
        let end = at.checked_add(len).filter(|end| *end <= memory.len() as u64).ok_or(HEAP)?;
        Ok(&mut memory[at as usize..end as usize])
    }

    fn step(&mut self, (op, a, b, c): Step) -> Result<u64, &'static str> {
        let value = b.to_le_bytes();
        match op {
            Op::Store(m) => {
                self.slice(m, a, 1)?.copy_from_slice(&value[..1]);
                self.slice(m, a.saturating_add(70_000), 2)?.copy_from_slice(&value[..2]);
            }
            Op::Vector(m) => {
                self.slice(m, a, 8)?.copy_from_slice(&value);
                self.slice(m, a.saturating_add(4090), 16)?.copy_from_slice(&[value, value].concat());
            }
            Op::Fill(m) => self.slice(m, a, c)?.fill(value[0]),
            Op::Copy(m, n) => {
                let bytes = self.slice(n, b, c)?.to_vec();
                self.slice(m, a, c)?.copy_from_slice(&bytes);
            }
            Op::Init(m) => {
                let end = b.checked_add(c).filter(|end| *end <= SEGMENT).ok_or(HEAP)?;
                let bytes = segment()[b as usize..end as usize].to_vec();
                self.slice(m, a, c)?.copy_from_slice(&bytes);
            }
            Op::Grow(m) => {
                let old = self.memories[m].len() as u64 / WASM_PAGE;
                let Some(new) = old.checked_add(a).filter(|new| *new <= PAGES_MAX) else {
                    return Ok(if self.widths[m] { u64::MAX } else { u32::MAX.into() });
                };
                self.memories[m].resize((new * WASM_PAGE) as usize, 0);
                return Ok(old);
            }
            Op::Size(m) => return Ok(self.memories[m].len() as u64 / WASM_PAGE),
            Op::StableRead => {
                let bytes = self.stable[b as usize..(b + c) as usize].to_vec();
                self.slice(0, a, c)?.copy_from_slice(&bytes);
            }
            Op::StableWrite => {
                let bytes = self.slice(0, b, c)?.to_vec();
                self.stable[a as usize..(a + c) as usize].copy_from_slice(&bytes);
            }
            Op::StoreAll => {
                for m in 0..self.widths.len() {
                    self.slice(m, a, 8)?.copy_from_slice(&value);
                }
            }
            Op::Trap => return Err("unreachable"),
        }
        Ok(0)
    }
}

/// The same canister in every mode, and the model.
pub struct Several {
    pub subjects: Vec<(&'static str, Subject)>,
    pub model: Model,
}

impl Several {
    pub fn new(widths: &[bool]) -> Self {
        let wat = wat(widths, "data", "");
        let subjects =
            engines().into_iter().map(|(mode, engine)| (mode, Subject::installed(&engine, &wat))).collect();
        Self { subjects, model: Model::new(widths, "data") }
    }

    /// Runs a program as an update (`run`) or a query (`look`) in every mode; outcomes and memories are the model's.
    pub fn execute(&mut self, method: &str, program: &[Step]) -> Outcome {
        let arg = self.model.encode(program);
        let mut next = self.model.clone();
        let expected = next.run(program);
        let changed: u64 =
            (0..next.memories.len()).map(|m| pages_changed(&self.model.memories[m], &next.memories[m])).sum();
        let mut first: Option<Outcome> = None;
        for (mode, subject) in &mut self.subjects {
            let outcome = match method {
                "run" => subject.update("run", &arg),
                _ => subject.query("look", &arg),
            };
            assert_eq!(*first.get_or_insert_with(|| outcome.clone()), outcome, "{mode}: {program:?}");
        }
        let outcome = first.unwrap();
        if method == "run" {
            assert_eq!(outcome.heap_pages_dirtied, changed, "{program:?}");
        }
        match &expected {
            Ok(reply) => assert_eq!(outcome.response, Response::Reply(reply.clone()), "{program:?}"),
            Err(trap) => {
                let Response::Trapped(fault) = &outcome.response else { panic!("{outcome:?}: {program:?}") };
                assert_eq!(fault.detail, format!("Canister trapped: {trap}"), "{program:?}");
            }
        }
        if expected.is_ok() && method == "run" {
            self.model = next;
        }
        for (mode, subject) in &self.subjects {
            check(mode, &subject.canister, &self.model);
        }
        outcome
    }

    pub fn run(&mut self, program: &[Step]) -> Outcome {
        self.execute("run", program)
    }
}

/// Every byte of every memory is the model's.
pub fn check(what: &str, canister: &Canister, model: &Model) {
    assert_eq!(canister.memory_count(), model.memories.len(), "{what}");
    for (m, expected) in model.memories.iter().enumerate() {
        assert_same(&format!("memory {m}, {what}"), &memory(canister, m), expected);
    }
    assert_same(&format!("stable, {what}"), &crate::machine::stable(canister), &model.stable);
}

/// The whole of a declared memory.
pub fn memory(canister: &Canister, m: usize) -> Vec<u8> {
    let mut bytes = vec![0; canister.memory_bytes(m) as usize];
    canister.read_memory(m, 0, &mut bytes);
    bytes
}

/// Runs a program on one canister and its model, which must agree that it succeeds.
pub fn run_one(subject: &mut Subject, model: &mut Model, program: &[Step]) {
    let arg = model.encode(program);
    let reply = model.run(program).unwrap();
    assert_eq!(subject.update("run", &arg).response, Response::Reply(reply));
}

/// The same with a trap at its end: nothing is kept.
pub fn fail_one(subject: &mut Subject, model: &Model, program: &[Step]) {
    let program = [program, &[(Op::Trap, 0, 0, 0)]].concat();
    let outcome = subject.update("run", &model.encode(&program));
    assert!(matches!(outcome.response, Response::Trapped(_)), "{outcome:?}");
}

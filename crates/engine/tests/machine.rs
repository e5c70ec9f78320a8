//! A canister that executes programs given as arguments, and a model that says what it must do: the model is plain
//! vectors, so what it proves does not rest on the engine.

use std::collections::BTreeSet;

use bedstone_engine::{Canister, Response};

pub const PAGE: usize = 4096;
pub const WASM_PAGE: u64 = 65_536;
/// Where a program is copied to.
const PROGRAM: usize = 32_768;
/// Where a result stands before it is appended to the reply.
const RESULT: usize = 8;
/// Instructions of one program, at most.
pub const PROGRAM_MAX: usize = 1000;

/// One instruction of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// `(dst, off, len)`
    Read = 0,
    /// `(off, src, len)`
    Write = 1,
    Grow = 2,
    Size = 3,
    Read32 = 4,
    Write32 = 5,
    Grow32 = 6,
    Size32 = 7,
    /// `(address, value)`, 8 bytes.
    Store = 8,
    /// `(address, byte, len)`
    Fill = 9,
    /// `(dst, src, len)`
    Copy = 10,
    HeapGrow = 11,
    HeapSize = 12,
    /// `(address, value)`, 1 byte.
    Store8 = 13,
    /// `(address, value)`, the value twice.
    Store128 = 14,
    /// Sets all globals to what the value makes of them.
    SetGlobals = 15,
    /// Replies with all globals, 36 bytes.
    Globals = 16,
    Unreachable = 17,
    Trap = 18,
    ReplyTwice = 19,
}

/// An operation and its operands.
pub type Step = (Op, u64, u64, u64);

/// The program as the canister reads it.
pub fn encode(program: &[Step]) -> Vec<u8> {
    assert!(program.len() <= PROGRAM_MAX);
    let words = |&(op, a, b, c): &Step| [op as u64, a, b, c];
    program.iter().flat_map(words).flat_map(u64::to_le_bytes).collect()
}

/// The canister's text. `run` is an update, `look` the same as a query, `wake` a composite query.
pub fn wat(memory64: bool) -> String {
    let (pointer, narrow) = if memory64 { ("i64", "") } else { ("i32", "i32.wrap_i64") };
    // 64-bit modules cannot import the 32-bit functions; there the operations do nothing.
    let imports32 = r#"
      (import "ic0" "stable_read" (func $read32 (param i32 i32 i32)))
      (import "ic0" "stable_write" (func $write32 (param i32 i32 i32)))
      (import "ic0" "stable_grow" (func $grow32 (param i32) (result i32)))
      (import "ic0" "stable_size" (func $size32 (result i32)))"#;
    let stubs = r#"
      (func $read32 (param i32 i32 i32)) (func $write32 (param i32 i32 i32))
      (func $grow32 (param i32) (result i32) i32.const 0) (func $size32 (result i32) i32.const 0)"#;
    include_str!("machine.wat")
        .replace("@imports32", if memory64 { "" } else { imports32 })
        .replace("@stubs", if memory64 { stubs } else { "" })
        .replace("@memory", if memory64 { "(memory i64 3 64)" } else { "(memory 3 64)" })
        .replace("@wide", if memory64 { "" } else { "i64.extend_i32_u" })
        .replace("@narrow", narrow)
        .replace("@p", pointer)
}

/// Why a program stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    Trapped(&'static str),
    Explicit,
    Contract,
    Exhausted,
}

const STABLE: Stop = Stop::Trapped("stable memory out of bounds");
const HEAP: Stop = Stop::Trapped("heap out of bounds");
const LARGE: Stop = Stop::Trapped("32 bit stable memory api used on a memory larger than 4GB");

impl Stop {
    /// Whether a fault is this one.
    pub fn is(self, response: &Response) -> bool {
        let Response::Trapped(fault) = response else { return false };
        match self {
            Self::Trapped(what) => fault.code == 502 && fault.detail == format!("Canister trapped: {what}"),
            Self::Explicit => fault.code == 503,
            Self::Contract => fault.code == 504,
            Self::Exhausted => fault.code == 522,
        }
    }
}

/// What the canister's memories must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub memory64: bool,
    pub heap: Vec<u8>,
    pub stable: Vec<u8>,
    pub seed: u64,
}

/// What one message does.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    pub reply: Vec<u8>,
    pub accessed: BTreeSet<u64>,
    pub written: BTreeSet<u64>,
}

impl Model {
    pub fn new(memory64: bool) -> Self {
        let mut heap = vec![0; 3 * WASM_PAGE as usize];
        heap[16..20].copy_from_slice(b"data");
        Self { memory64, heap, stable: Vec::new(), seed: 0 }
    }

    /// Runs a program; `Err` leaves memories half changed and names why it stopped.
    pub fn run(&mut self, program: &[Step], effects: &mut Effects) -> Result<(), Stop> {
        let bytes = encode(program);
        self.heap[PROGRAM..PROGRAM + bytes.len()].copy_from_slice(&bytes);
        for step in program {
            let result = self.step(step, effects)?;
            if let Some(result) = result {
                self.heap[RESULT..RESULT + 8].copy_from_slice(&result.to_le_bytes());
                effects.reply.extend(result.to_le_bytes());
            }
        }
        Ok(())
    }

    fn step(&mut self, &(op, a, b, c): &Step, effects: &mut Effects) -> Result<Option<u64>, Stop> {
        let low = |value: u64| value & u64::from(u32::MAX);
        match op {
            Op::Read => self.access(a, b, c, false, effects)?,
            Op::Write => self.access(b, a, c, true, effects)?,
            Op::Grow => return Ok(Some(self.grow(a, 8_192_000).unwrap_or(u64::MAX))),
            Op::Size => return Ok(Some(self.pages())),
            Op::Read32 if low(c) > 0 => {
                self.small()?;
                self.access(low(a), low(b), low(c), false, effects)?;
            }
            Op::Read32 => {}
            Op::Write32 => {
                self.small()?;
                if low(a) + low(c) > self.stable.len() as u64 {
                    return Err(STABLE);
                }
                self.access(low(b), low(a), low(c), true, effects)?;
            }
            Op::Grow32 => {
                self.small()?;
                return Ok(Some(low(self.grow(low(a), 65_536).unwrap_or(u64::MAX))));
            }
            Op::Size32 => {
                self.small()?;
                return Ok(Some(self.pages()));
            }
            Op::Store => self.heap_mut(a, 8)?.copy_from_slice(&b.to_le_bytes()),
            Op::Store8 => self.heap_mut(a, 1)?[0] = b.to_le_bytes()[0],
            Op::Store128 => {
                let heap = self.heap_mut(a, 16)?;
                heap[..8].copy_from_slice(&b.to_le_bytes());
                heap[8..].copy_from_slice(&b.to_le_bytes());
            }
            Op::Fill => self.heap_mut(a, c)?.fill(b.to_le_bytes()[0]),
            Op::Copy => {
                self.heap_mut(b, c)?;
                self.heap_mut(a, c)?;
                self.heap.copy_within(b as usize..(b + c) as usize, a as usize);
            }
            Op::HeapGrow => {
                let old = self.heap.len() as u64 / WASM_PAGE;
                let new = old.saturating_add(if self.memory64 { a } else { low(a) });
                if new > 64 {
                    return Ok(Some(if self.memory64 { u64::MAX } else { u32::MAX.into() }));
                }
                self.heap.resize((new * WASM_PAGE) as usize, 0);
                return Ok(Some(old));
            }
            Op::HeapSize => return Ok(Some(self.heap.len() as u64 / WASM_PAGE)),
            Op::SetGlobals => self.seed = a,
            Op::Globals => effects.reply.extend(self.globals()),
            Op::Unreachable => return Err(Stop::Trapped("unreachable")),
            Op::Trap => return Err(Stop::Explicit),
            Op::ReplyTwice => return Err(Stop::Contract),
        }
        Ok(None)
    }

    fn globals(&mut self) -> Vec<u8> {
        let low = (self.seed as u32).to_le_bytes();
        let all = self.seed.to_le_bytes();
        let bytes: Vec<u8> = [&low[..], &all, &low, &all, &all, &all].concat();
        self.heap[PROGRAM - 64..PROGRAM - 64 + bytes.len()].copy_from_slice(&bytes);
        bytes
    }

    fn pages(&self) -> u64 {
        self.stable.len() as u64 / WASM_PAGE
    }

    fn small(&self) -> Result<(), Stop> {
        if self.pages() > 65_536 { Err(LARGE) } else { Ok(()) }
    }

    fn grow(&mut self, by: u64, most: u64) -> Option<u64> {
        let old = self.pages();
        let new = old.checked_add(by).filter(|new| *new <= most)?;
        self.stable.resize((new * WASM_PAGE) as usize, 0);
        Some(old)
    }

    fn heap_mut(&mut self, at: u64, len: u64) -> Result<&mut [u8], Stop> {
        let end = at.checked_add(len).filter(|end| *end <= self.heap.len() as u64).ok_or(HEAP)?;
        Ok(&mut self.heap[at as usize..end as usize])
    }

    /// Both 64-bit accesses, by the specification's steps.
    fn access(
        &mut self,
        heap: u64,
        stable: u64,
        len: u64,
        write: bool,
        effects: &mut Effects,
    ) -> Result<(), Stop> {
        if len.wrapping_add(20) > 40_000_000_000 {
            return Err(Stop::Exhausted);
        }
        if len == 0 {
            return Ok(());
        }
        let end = stable.checked_add(len).filter(|end| *end <= self.stable.len() as u64).ok_or(STABLE)?;
        let largest = if self.memory64 { 6 << 30 } else { u64::from(u32::MAX) };
        if heap > largest || len > largest {
            return Err(HEAP);
        }
        let pages = stable / PAGE as u64..=(end - 1) / PAGE as u64;
        effects.accessed.extend(pages.clone());
        if write {
            effects.written.extend(pages);
        }
        self.heap_mut(heap, len)?;
        let (stable, heap) = (stable as usize..end as usize, heap as usize..(heap + len) as usize);
        if write {
            self.stable[stable].copy_from_slice(&self.heap[heap]);
        } else {
            self.heap[heap].copy_from_slice(&self.stable[stable]);
        }
        Ok(())
    }
}

/// The whole heap.
pub fn heap(canister: &Canister) -> Vec<u8> {
    let mut bytes = vec![0; canister.heap_bytes() as usize];
    canister.read_heap(0, &mut bytes);
    bytes
}

/// The whole of stable memory.
pub fn stable(canister: &Canister) -> Vec<u8> {
    let mut bytes = vec![0; canister.stable_bytes() as usize];
    canister.read_stable(0, &mut bytes);
    bytes
}

/// Compares memories; names the first byte that differs instead of printing megabytes.
pub fn assert_same(what: &str, left: &[u8], right: &[u8]) {
    assert_eq!(left.len(), right.len(), "{what}: lengths");
    if left != right {
        let at = left.iter().zip(right).position(|(left, right)| left != right).unwrap();
        panic!("{what}: byte {at} is {} and must be {}", left[at], right[at]);
    }
}

/// Pages in which two memories differ; what one has beyond the other counts if it is not zero.
pub fn pages_changed(before: &[u8], after: &[u8]) -> u64 {
    let zero = [0; PAGE];
    let old = before.chunks(PAGE).chain(std::iter::repeat(&zero[..]));
    after.chunks(PAGE).zip(old).filter(|(new, old)| new != old).count() as u64
}

/// Numbers that look random and are the same each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

//! The contract between rewritten modules and the engine: every injected name, number and type.
//!
//! Invariants:
//! - Injected memories, globals, tables and functions stand at the end of their index spaces, so nothing in the
//!   canister's own code can name them.
//! - Injected exports take names that the canister does not use; the names taken stand in the [`Manifest`].
//! - [`SlowCall`] and [`TrapCode`] are numbers inside compiled code: changing one changes every cached artefact,
//!   so [`ABI_VERSION`] changes with them.

use std::ops::Range;

use crate::entry_points::{EntryPoints, MetadataSection};

/// Begins the name of every injected function in the name section, so that backtraces can tell them apart.
pub const INJECTED: &str = "bedstone:";

/// Version of everything in this file; part of the key of every compiled artefact.
pub const ABI_VERSION: u32 = 1;

/// Bytes in an operating-system page, the unit of tracking and of the IC's page charges.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes in a Wasm page, the unit of `memory.size` and `stable64_size`.
pub const WASM_PAGE_BYTES: u64 = 65_536;
/// Stable memory's declared maximum, in Wasm pages: 500 GiB.
pub const STABLE_WASM_PAGES_MAX: u64 = 8_192_000;

/// Where things stand in the injected tracking memory, in bytes.
///
/// ```text
/// 0          heap map: one byte per heap page; 1 = the page or the one after it was written
/// 0x400000   saved globals: 16 bytes each
/// 0x500000   stable map: one byte per stable page; see `STABLE_TOUCHED_*`
/// ```
/// All offsets stay below Wasmtime's 32 MiB guard, so accesses at `offset + i32` need no bounds check.
pub mod tracking {
    use super::{PAGE_BYTES, STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES};

    /// Start of the heap map.
    pub const HEAP_MAP: u64 = 0;
    /// Bytes of the heap map: one per page of 16 GiB. A 32-bit heap needs 2²⁰ + 1, a 64-bit one 6 GiB / 4 KiB + 1;
    /// the rest lets a range mark run past the end of the heap without a test.
    pub const HEAP_MAP_BYTES: u64 = 1 << 22;
    /// Start of the saved globals.
    pub const GLOBALS: u64 = 0x40_0000;
    /// Bytes per saved global.
    pub const GLOBAL_BYTES: u64 = 16;
    /// Start of the stable map.
    pub const STABLE_MAP: u64 = 0x50_0000;
    /// Bytes of the stable map: one per page of 500 GiB.
    pub const STABLE_MAP_BYTES: u64 = STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES / PAGE_BYTES;
    /// Size of the tracking memory in Wasm pages; its minimum and its maximum.
    pub const WASM_PAGES: u64 = (STABLE_MAP + STABLE_MAP_BYTES).div_ceil(WASM_PAGE_BYTES);
    /// Bit of a stable-map byte: the page was written in this message.
    pub const STABLE_TOUCHED_WRITTEN: u8 = 1;
    /// Bit of a stable-map byte: the page was accessed in this message. Set with every `WRITTEN`.
    pub const STABLE_TOUCHED_ACCESSED: u8 = 2;

    const _: () = assert!(HEAP_MAP + HEAP_MAP_BYTES <= GLOBALS);
    const _: () = assert!(GLOBALS + 1000 * GLOBAL_BYTES <= STABLE_MAP, "the IC allows 1000 globals");
    const _: () = assert!(STABLE_MAP < 32 << 20, "offsets stay inside the guard");
}

/// Entries of the injected table of slow paths, filled by the engine after instantiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum SlowCall {
    /// `(code i32)`: ends the message; the code is a [`TrapCode`]. The counter is in its global.
    Trap = 0,
    /// `(first i64, last i64)`: the stable pages `first..=last` are about to be read.
    TouchRead = 1,
    /// `(first i64, last i64) -> i64`: the stable pages are about to be written; returns how many were not yet
    /// written in this message.
    TouchWrite = 2,
    /// `(old i64)`: the heap grew from `old` Wasm pages; the engine may end the message.
    HeapGrown = 3,
}

/// Number of entries in the slow-path table.
pub const SLOW_CALLS: u32 = 4;

/// Why injected code ended a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum TrapCode {
    /// The instruction counter fell below zero.
    OutOfInstructions = 1,
    /// A stable access beyond the end of stable memory.
    StableOutOfBounds = 2,
    /// The heap side of a stable access lies beyond the largest possible heap.
    HeapOutOfBounds = 3,
    /// A 32-bit stable function on a stable memory of more than 4 GiB.
    StableTooLargeFor32Bit = 4,
    /// A stable access by a module that has no memory.
    NoMemory = 5,
}

impl TrapCode {
    /// The code that injected code passed, if it is one.
    pub fn from_i32(code: i32) -> Option<Self> {
        Some(match code {
            1 => Self::OutOfInstructions,
            2 => Self::StableOutOfBounds,
            3 => Self::HeapOutOfBounds,
            4 => Self::StableTooLargeFor32Bit,
            5 => Self::NoMemory,
            _ => return None,
        })
    }
}

/// How the canister reaches its stable memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum StableAccess {
    /// Direct operations on an injected 64-bit memory.
    #[default]
    Native,
    /// Host functions, as before the 2022 proposal.
    Host,
}

/// Where the instruction counter is kept while code runs. Both give the same counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Counter {
    /// In a global, loaded and stored at each block. Exact at every point, traps included.
    Global,
    /// In an extra parameter and result of every function. Exact at every call and return; a Wasm trap loses it,
    /// so the engine runs a trapped message again with [`Counter::Global`].
    #[default]
    Threaded,
}

/// What the engine must know about a rewritten module.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The canister's methods and system entry points.
    pub entry_points: EntryPoints,
    /// Export names of the injected items.
    pub names: Names,
    /// Where the counter is: as asked for, except that a module with functions of 1,000 parameters or results, which leave
    /// no room for it, keeps it in a global.
    pub counter: Counter,
    /// The canister's main memory, if it has one.
    pub heap: Option<HeapType>,
    /// Value types of the mutable globals, in index order: the order in which they are saved.
    pub mutable_globals: Vec<GlobalKind>,
    /// Active data segments in order: applied once, at install.
    pub data: Vec<ActiveData>,
    /// `icp:` custom sections.
    pub metadata: Vec<MetadataSection>,
    /// Whether the module carries the enhanced-orthogonal-persistence section.
    pub enhanced_orthogonal_persistence: bool,
    /// What the module imports from `ic0`, by index in [`crate::system_api::all`]; one entry per import.
    pub imports: Vec<&'static str>,
    /// Price-list compile charge, in instructions.
    pub compile_charge: u64,
    /// What was injected, for people.
    pub summary: Summary,
}

/// A canister's main memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapType {
    /// Whether it is a 64-bit memory.
    pub memory64: bool,
    /// Declared minimum in Wasm pages.
    pub wasm_pages_min: u64,
    /// Declared maximum in Wasm pages.
    pub wasm_pages_max: Option<u64>,
}

/// Value type of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GlobalKind {
    /// 4 bytes.
    I32,
    /// 8 bytes.
    I64,
    /// 4 bytes.
    F32,
    /// 8 bytes.
    F64,
    /// 16 bytes.
    V128,
}

/// An active data segment, lifted out of the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveData {
    /// Byte offset in the heap.
    pub offset: u64,
    /// Where its bytes stand in the original module.
    pub range: Range<usize>,
}

/// Export names of injected items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Mutable i64 global: instructions left.
    pub counter: String,
    /// The canister's main memory.
    pub heap: Option<String>,
    /// Stable memory (native mode only).
    pub stable: Option<String>,
    /// The tracking memory.
    pub tracking: String,
    /// Table of slow paths, [`SLOW_CALLS`] entries.
    pub slow: String,
    /// `() -> ()`: the start function, if the module has one.
    pub start: Option<String>,
    /// `() -> i32`: stores the mutable globals in the tracking memory; 1 if a segment was dropped.
    pub save_globals: String,
    /// `() -> i32`: loads the mutable globals from the tracking memory; 1 if a segment was dropped.
    pub restore_globals: String,
}

/// What was injected, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the code section before and after.
    pub code_bytes: (usize, usize),
    /// Bytes of the module before and after.
    pub module_bytes: (usize, usize),
    /// Functions added.
    pub functions_added: u32,
    /// Call sites of stable functions re-pointed.
    pub stable_calls: u32,
    /// Stores that mark their page.
    pub stores_marked: u64,
    /// Stores whose mark another one already makes.
    pub stores_elided: u64,
    /// Metered blocks.
    pub blocks: u64,
}

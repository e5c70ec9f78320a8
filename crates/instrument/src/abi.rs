//! The contract between rewritten modules and the engine: every injected name, number and type.
//!
//! Invariants:
//! - Injected memories, globals, tables and functions stand at the end of their index spaces, so nothing in the
//!   canister's own code can name them.
//! - Injected exports take names that the canister does not use; the names taken stand in the [`Manifest`].
//! - [`SlowCall`] and [`TrapCode`] are numbers inside compiled code: changing one changes every cached artefact,
//!   so [`ABI_VERSION`] changes with them.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize};

use crate::entry_points::{EntryPoints, MetadataSection};

/// Begins the name of every injected function in the name section, so that backtraces can tell them apart.
pub const INJECTED: &str = "bedstone:";

/// Version of everything in this file; part of the key of every compiled artefact.
pub const ABI_VERSION: u32 = 2;

/// Stands for this crate's sources: what another revision made of a module is not taken for what this one would make of it.
pub const REVISION: &str = env!("BEDSTONE_INSTRUMENT_REVISION");

/// Bytes in an operating-system page, the unit of tracking and of the IC's page charges.
pub const PAGE_BYTES: u64 = 4096;
/// Bytes in a Wasm page, the unit of `memory.size` and `stable64_size`.
pub const WASM_PAGE_BYTES: u64 = 65_536;
/// Stable memory's declared maximum, in Wasm pages: 500 GiB.
pub const STABLE_WASM_PAGES_MAX: u64 = 8_192_000;

/// Where things stand in the injected tracking memory, in bytes.
///
/// With one declared memory, or none:
///
/// ```text
/// 0          heap map: one byte per heap page; 1 = the page or the one after it was written
/// 0x400000   saved globals: 16 bytes each
/// 0x500000   stable map: one byte per stable page; see `STABLE_TOUCHED_*`
/// ```
/// Further memories have their maps behind that of the first one; where these pass 4 MiB together, globals and stable map
/// move up. A module's addresses are its [`TrackingLayout`](tracking::TrackingLayout). While offsets stay below Wasmtime's
/// 32 MiB guard, which they do with up to 30 memories of 32 or seven of 64 bits, accesses at `offset + i32` need no bounds
/// check.
pub mod tracking {
    use serde::{Deserialize, Serialize};

    use super::{DeclaredMemory, PAGE_BYTES, STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES};

    /// Bytes of the map of a 32-bit memory: one per page of 4 GiB. Maps do not follow the declared maximum: any address
    /// that code can compute then has a byte in its own map, so that a mark before a store that traps needs no test.
    pub const HEAP32_MAP_BYTES: u64 = 1 << 20;
    /// Bytes of the map of a 64-bit memory: one per page of 16 GiB, more than the largest heap. A power of two, since
    /// page indices are cut to it.
    pub const HEAP64_MAP_BYTES: u64 = 1 << 22;
    /// Bytes from address 0 on that belong to heap maps, however few there are.
    const HEAP_MAPS_BYTES_MIN: u64 = 1 << 22;
    /// Bytes kept for the saved globals.
    const GLOBALS_BYTES: u64 = 1 << 20;
    /// Bytes per saved global.
    pub const GLOBAL_BYTES: u64 = 16;
    /// Pages of stable memory that the map has bytes for, rounded up to a power of two, so that a shift tells whether an
    /// offset has its byte.
    pub const STABLE_MAP_PAGES: u64 =
        (STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES / PAGE_BYTES).next_power_of_two();
    /// Bytes of the stable map: one per page, and one for the page after the last, on which an access may end.
    pub const STABLE_MAP_BYTES: u64 = STABLE_MAP_PAGES + 1;
    /// Bit of a stable-map byte: the page was written in this message.
    pub const STABLE_TOUCHED_WRITTEN: u8 = 1;
    /// Bit of a stable-map byte: the page was accessed in this message. Set with every `WRITTEN`.
    pub const STABLE_TOUCHED_ACCESSED: u8 = 2;

    const _: () = assert!(1000 * GLOBAL_BYTES <= GLOBALS_BYTES, "the IC allows 1000 globals");
    const _: () = assert!(HEAP64_MAP_BYTES >= crate::limits::HEAP64_BYTES_MAX / PAGE_BYTES);
    const _: () = assert!(HEAP32_MAP_BYTES == crate::limits::HEAP32_BYTES_MAX / PAGE_BYTES);
    const _: () = assert!(
        crate::limits::MEMORIES_MAX * HEAP64_MAP_BYTES + GLOBALS_BYTES + STABLE_MAP_BYTES < 4 << 30,
        "the tracking memory is a 32-bit one"
    );

    /// The addresses of one module's tracking memory.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    pub struct TrackingLayout {
        /// Start of each declared memory's heap map, by memory index; that of memory 0 is 0.
        pub heap_maps: Vec<u64>,
        /// Start of the saved globals.
        pub globals: u64,
        /// Start of the stable map.
        pub stable_map: u64,
        /// Size of the tracking memory in Wasm pages; its minimum and its maximum.
        pub wasm_pages: u64,
    }

    impl TrackingLayout {
        /// The layout for a module that declares `memories`.
        pub(crate) fn new(memories: &[DeclaredMemory]) -> Self {
            let mut end = 0;
            let heap_maps = memories
                .iter()
                .map(|memory| {
                    let start = end;
                    end += if memory.memory64 { HEAP64_MAP_BYTES } else { HEAP32_MAP_BYTES };
                    start
                })
                .collect();
            let globals = end.max(HEAP_MAPS_BYTES_MIN);
            let stable_map = globals + GLOBALS_BYTES;
            let wasm_pages = (stable_map + STABLE_MAP_BYTES).div_ceil(WASM_PAGE_BYTES);
            Self { heap_maps, globals, stable_map, wasm_pages }
        }
    }
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
    /// `(old i64)`: a declared memory grew from `old` Wasm pages; the engine may end the message.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Counter {
    /// In a global, loaded and stored at each block. Exact at every point, traps included.
    Global,
    /// In an extra parameter and result of every function. Exact at every call and return; a Wasm trap loses it,
    /// so the engine runs a trapped message again with [`Counter::Global`].
    #[default]
    Threaded,
    /// Nowhere: nothing is charged and nothing ends for want of instructions. Only to measure what counting costs.
    None,
}

/// How it is found out which pages of its memories a message wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tracker {
    /// The code marks each page before it writes it.
    #[default]
    Barrier,
    /// Pages are write-protected; the engine notes those at whose first write the processor faults. The code marks
    /// nothing.
    Fault,
    /// Not at all: no page is marked, charged or kept for taking it back. Only to measure what tracking costs.
    None,
}

/// What the engine must know about a rewritten module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// The canister's methods and system entry points.
    pub entry_points: EntryPoints,
    /// Export names of the injected items.
    pub names: Names,
    /// Where the counter is: as asked for, except that a module with functions of 1,000 parameters or results, which leave
    /// no room for it, keeps it in a global.
    pub counter: Counter,
    /// The memories that the module declares, by index: memory 0, which the system API reads and writes, and under
    /// [`Config::allow_multi_memory`](crate::Config::allow_multi_memory) more.
    pub memories: Vec<DeclaredMemory>,
    /// Where things stand in the tracking memory.
    pub tracking: tracking::TrackingLayout,
    /// Value types of the mutable globals, in index order: the order in which they are saved.
    pub mutable_globals: Vec<GlobalKind>,
    /// The globals in the order in which the IC's snapshots list them.
    pub listed_globals: Vec<ListedGlobal>,
    /// Active data segments in order: applied once, at install.
    pub data: Vec<ActiveData>,
    /// `icp:` custom sections.
    pub metadata: Vec<MetadataSection>,
    /// Whether the module carries the enhanced-orthogonal-persistence section.
    pub enhanced_orthogonal_persistence: bool,
    /// What the module imports from `ic0`, by index in [`crate::system_api::all`]; one entry per import.
    #[serde(deserialize_with = "known_imports")]
    pub imports: Vec<&'static str>,
    /// Whether a value of type `externref`, which can only be null, may occur while the module runs: engines need a heap of
    /// their own for them.
    pub external_references: bool,
    /// Price-list compile charge, in instructions.
    pub compile_charge: u64,
    /// What was injected, for people.
    pub summary: Summary,
}

impl Manifest {
    /// The memory that the system API reads and writes, memory 0, if there is one.
    pub fn heap(&self) -> Option<&DeclaredMemory> {
        self.memories.first()
    }

    /// Whether that memory is 64-bit, which decides the types of system functions and the prices of memory accesses.
    pub fn memory64(&self) -> bool {
        self.heap().is_some_and(|memory| memory.memory64)
    }
}

/// Names of system functions, each as the one that [`crate::system_api`] lists.
fn known_imports<'de, D: Deserializer<'de>>(names: D) -> Result<Vec<&'static str>, D::Error> {
    let names = Vec::<String>::deserialize(names)?;
    let known =
        |name: &String| crate::system_api::all().iter().map(|api| api.name).find(|known| known == name);
    let found: Option<Vec<_>> = names.iter().map(known).collect();
    found.ok_or_else(|| serde::de::Error::custom("a system function that does not exist"))
}

/// How long the contents of a declared memory live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lifetime {
    /// Like the IC's heap: kept from message to message; on an upgrade replaced by the new module's memory of that index,
    /// or kept with all others of its kind if the upgrade says so; emptied by a reinstallation.
    Heap,
}

/// A memory that a canister's module declares, defined or imported as `env.memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredMemory {
    /// Its index, in the original as in the rewritten module.
    pub index: u32,
    /// How long its contents live. A module has no way yet to ask for another lifetime than the heap's.
    pub lifetime: Lifetime,
    /// Whether it is a 64-bit memory.
    pub memory64: bool,
    /// Declared minimum in Wasm pages.
    pub wasm_pages_min: u64,
    /// Declared maximum in Wasm pages. Whatever it says, a 32-bit memory grows to 4 GiB and a 64-bit one to 6 GiB at most.
    pub wasm_pages_max: Option<u64>,
}

/// Value type of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// A global as a snapshot lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListedGlobal {
    /// A mutable one.
    Saved {
        /// Its type.
        kind: GlobalKind,
        /// Its place in [`Manifest::mutable_globals`].
        slot: usize,
    },
    /// An immutable one that is exported.
    Constant {
        /// Its type.
        kind: GlobalKind,
        /// Its value's bits.
        bits: u128,
    },
}

impl ListedGlobal {
    /// Its type.
    pub fn kind(&self) -> GlobalKind {
        match self {
            Self::Saved { kind, .. } | Self::Constant { kind, .. } => *kind,
        }
    }
}

/// An active data segment, lifted out of the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveData {
    /// Index of the memory.
    pub memory: u32,
    /// Byte offset in it.
    pub offset: u64,
    /// Where its bytes stand in the original module.
    pub range: Range<usize>,
}

/// Export names of injected items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// Mutable i64 global: instructions left.
    pub counter: String,
    /// The canister's declared memories, by index.
    pub heaps: Vec<String>,
    /// Stable memory (native mode only).
    pub stable: Option<String>,
    /// The tracking memory.
    pub tracking: String,
    /// Table of slow paths, [`SLOW_CALLS`] entries.
    pub slow: String,
    /// `() -> ()`: the start function, if the module has one.
    pub start: Option<String>,
    /// The canister's table of functions, if it has one: callbacks of calls are named by their place in it.
    pub table: Option<String>,
    /// `(i64, i64) -> ()`, where there is such a table: calls the function at a place, the first parameter, with an
    /// environment, the second. Charges nothing itself.
    pub callback: Option<String>,
    /// `() -> i32`: stores the mutable globals in the tracking memory; 1 if a segment was dropped.
    pub save_globals: String,
    /// `() -> i32`: loads the mutable globals from the tracking memory; 1 if a segment was dropped.
    pub restore_globals: String,
}

/// What was injected, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

//! The memories of a canister: what shape each has, how one starts.
//!
//! Reservations follow what Wasmtime's code relies on: 4 GiB plus guard for every memory, so that 32-bit accesses need no
//! bounds check; more where a memory may grow beyond 4 GiB.

use std::io;
use std::sync::Arc;

use bedstone_instrument::abi::tracking::{GLOBAL_BYTES, TrackingLayout};
use bedstone_instrument::abi::{DeclaredMemory, STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES};
use bedstone_instrument::{Manifest, StableAccess, Tracker, limits};

use crate::compile::EngineConfig;
use crate::dirty::{Heap, Marks};
use crate::sys::{Mapping, PAGE, Protected, Shape};

/// Address space that compiled code assumes for each memory.
pub(crate) const RESERVATION_BYTES: u64 = 4 << 30;
/// Inaccessible bytes after each reservation; injected offsets stay below it.
pub(crate) const GUARD_BYTES: u64 = 32 << 20;

/// Stable pages and map bytes are touched far apart: a huge page would clear 2 MiB for each.
const STABLE: Shape = shape(STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES);
const TRACKING: Shape = shape(RESERVATION_BYTES);
/// One shape for both widths: an upgrade may keep a 32-bit memory for a module that declares a 64-bit one. Heaps are used from
/// end to end, so huge pages save most of the faults.
const HEAP: Shape = Shape { huge_pages: true, ..shape(limits::HEAP64_BYTES_MAX) };
/// Of a heap's image. The kernel gives a huge page only where all of it is accessible, which a heap that grows little by little
/// never is when it is first touched; its image may be.
const IMAGE: Shape = Shape { step: HUGE_PAGE_BYTES, ..HEAP };
const HUGE_PAGE_BYTES: usize = 2 << 20;

const fn shape(bytes: u64) -> Shape {
    Shape { capacity: bytes as usize, guard: GUARD_BYTES as usize, huge_pages: false, step: PAGE }
}

/// An empty stable memory. Host functions say what they write, so only Wasm's own writes are to be found.
pub(crate) fn new_stable(config: &EngineConfig) -> io::Result<Arc<Mapping>> {
    let mapping = Mapping::new(STABLE)?;
    Ok(Arc::new(match (config.tracker, config.stable) {
        (Tracker::Fault, StableAccess::Native) => mapping.with_protection(Protected::Imaged)?,
        _ => mapping,
    }))
}

/// A module's tracking memory: a mapping and what stands where in it.
#[derive(Debug)]
pub(crate) struct Tracking {
    pub mapping: Arc<Mapping>,
    layout: TrackingLayout,
    /// Bytes of the saved globals.
    globals_bytes: usize,
}

impl Tracking {
    /// A cleared one.
    pub fn new(manifest: &Manifest) -> io::Result<Arc<Self>> {
        let layout = manifest.tracking.clone();
        let mapping = Mapping::with_len(TRACKING, (layout.wasm_pages * WASM_PAGE_BYTES) as usize)?;
        let globals_bytes = manifest.mutable_globals.len() * GLOBAL_BYTES as usize;
        Ok(Arc::new(Self { mapping: Arc::new(mapping), layout, globals_bytes }))
    }

    /// The marks of the memory with that index.
    pub fn marks(&self, memory: usize) -> Marks<'_> {
        Marks { tracking: &self.mapping, map: self.layout.heap_maps[memory] as usize }
    }

    /// The byte of a stable page.
    pub fn stable_mark(&self, page: u64) -> u8 {
        self.mapping.byte((self.layout.stable_map + page) as usize)
    }

    /// Sets the byte of a stable page.
    pub fn set_stable_mark(&self, page: u64, mark: u8) {
        self.mapping.set_byte((self.layout.stable_map + page) as usize, mark);
    }

    /// The saved globals, [`GLOBAL_BYTES`] each.
    pub fn globals(&self) -> Vec<u8> {
        self.mapping.read_vec(self.layout.globals as usize, self.globals_bytes)
    }

    /// Takes over saved globals; whether they are as many bytes as the module's.
    #[must_use]
    pub fn set_globals(&self, globals: &[u8]) -> bool {
        let fits = globals.len() == self.globals_bytes;
        if fits {
            self.mapping.write(self.layout.globals as usize, globals);
        }
        fits
    }
}

/// A memory of the declared minimum size, or of `bytes` if that is more.
pub(crate) fn new_heap(ty: &DeclaredMemory, bytes: u64, tracker: Tracker) -> io::Result<Heap> {
    let len = bytes.max(ty.wasm_pages_min * WASM_PAGE_BYTES) as usize;
    Ok(Heap::new(Arc::new(heap_mapping(len, tracker == Tracker::Fault)?), Mapping::with_len(IMAGE, len)?))
}

/// A memory as [`new_heap`] makes one. Pages that are protected one by one would split huge pages.
pub(crate) fn heap_mapping(len: usize, is_protected: bool) -> io::Result<Mapping> {
    if is_protected {
        let shape = Shape { huge_pages: false, ..HEAP };
        return Mapping::with_len(shape, len)?.with_protection(Protected::Compared);
    }
    Mapping::with_len(HEAP, len)
}

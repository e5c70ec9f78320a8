//! The memories of a canister: what shape each has, how one starts.
//!
//! Reservations follow what Wasmtime's code relies on: 4 GiB plus guard for every memory, so that 32-bit accesses need no
//! bounds check; more where a memory may grow beyond 4 GiB.

use std::io;
use std::sync::Arc;

use bedstone_instrument::abi::{HeapType, STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES, tracking};
use bedstone_instrument::limits;

use crate::dirty::Heap;
use crate::sys::{Mapping, Shape};

/// Address space that compiled code assumes for each memory.
pub(crate) const RESERVATION_BYTES: u64 = 4 << 30;
/// Inaccessible bytes after each reservation; injected offsets stay below it.
pub(crate) const GUARD_BYTES: u64 = 32 << 20;

const STABLE: Shape = shape(STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES);
const TRACKING: Shape = shape(RESERVATION_BYTES);
const HEAP32: Shape = shape(RESERVATION_BYTES);
const HEAP64: Shape = shape(limits::HEAP64_BYTES_MAX);

const fn shape(bytes: u64) -> Shape {
    // Stable pages and map bytes are touched far apart: a huge page would copy or clear 2 MiB for each.
    Shape { capacity: bytes as usize, guard: GUARD_BYTES as usize, huge_pages: false }
}

/// An empty stable memory.
pub(crate) fn new_stable() -> io::Result<Arc<Mapping>> {
    Ok(Arc::new(Mapping::new(STABLE)?))
}

/// A cleared tracking memory.
pub(crate) fn new_tracking() -> io::Result<Arc<Mapping>> {
    Ok(Arc::new(Mapping::with_len(TRACKING, (tracking::WASM_PAGES * WASM_PAGE_BYTES) as usize)?))
}

/// A heap of the declared minimum size, or of `bytes` if that is more.
pub(crate) fn new_heap(ty: &HeapType, bytes: u64) -> io::Result<Heap> {
    let shape = if ty.memory64 { HEAP64 } else { HEAP32 };
    let len = bytes.max(ty.wasm_pages_min * WASM_PAGE_BYTES) as usize;
    Ok(Heap::new(Arc::new(Mapping::with_len(shape, len)?), Mapping::with_len(shape, len)?))
}

//! Gives Wasmtime the engine's mappings as linear memories.
//!
//! The mappings belong to the engine: an instance can be dropped and another made on the same memories. Which mapping
//! becomes which memory is said right before instantiation ([`with_memories`]), in the order of the memory index space,
//! on the instantiating thread; every memory is checked against the type that Wasmtime asks for. A memory that is asked
//! for at any other time is Wasmtime's own heap for references, and gets a mapping of its own.
//!
//! Wasmtime's obligations, one by one:
//! - *`new_memory` reserves `reserved_size_in_bytes` and `guard_size_in_bytes`*: asserted against the mapping's shape.
//! - *memory is zero-filled*: a mapping is zero where it was never written; a mapping with contents is given only to
//!   modules without active data segments, which `instrument` guarantees.
//! - *the base never moves*: `Mapping` reserves everything at once.
//! - *`byte_size` is what is accessible*: it is `Mapping::len`, which also shrinks when a message is rolled back; the
//!   engine then refreshes the length cached by the instance with `Memory::grow(0)`.
//! - *nothing else touches the memory while Wasm may*: stated in `sys`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::{Mapping, PAGE, Shape};

thread_local! {
    /// Mappings for the instantiation that runs on this thread, in memory-index order.
    static NEXT: RefCell<Option<VecDeque<Arc<Mapping>>>> = const { RefCell::new(None) };
}

/// Runs an instantiation whose memories are `memories`, in index order.
pub(crate) fn with_memories<R>(memories: &[Arc<Mapping>], instantiate: impl FnOnce() -> R) -> R {
    NEXT.set(Some(memories.iter().cloned().collect()));
    let result = instantiate();
    NEXT.set(None);
    result
}

/// The memory creator of every engine.
#[derive(Debug)]
pub(crate) struct Creator;

// SAFETY: the memories handed out are mappings that stay alive (by `Arc`) as long as Wasmtime has them, at a base that
// never moves, with the reservation and guard asked for (asserted below).
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _ty: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let prepared = NEXT.with_borrow_mut(|next| next.as_mut().map(VecDeque::pop_front));
        let mapping = match prepared {
            Some(next) => next.ok_or("a module has more memories than the engine prepared")?,
            None => {
                let most = reserved_size_in_bytes.unwrap_or(0).max(minimum);
                let capacity = maximum.map_or(most, |maximum| maximum.min(most).max(minimum));
                let guard =
                    reserved_size_in_bytes.unwrap_or(0).max(capacity) - capacity + guard_size_in_bytes;
                let shape = Shape { capacity, guard, huge_pages: false, step: PAGE };
                Arc::new(Mapping::new(shape).map_err(|error| format!("no address space: {error}"))?)
            }
        };
        let wanted = reserved_size_in_bytes.unwrap_or(0) + guard_size_in_bytes;
        assert!(mapping.reserved() >= wanted, "a mapping of {} bytes for {wanted}", mapping.reserved());
        mapping
            .grow_to(minimum)
            .map_err(|error| format!("cannot make {minimum} bytes of memory: {error}"))?;
        Ok(Box::new(Memory(mapping)))
    }
}

struct Memory(Arc<Mapping>);

// SAFETY: `as_ptr` is the mapping's constant base; `byte_size` bytes from there are readable and writable, the rest up to
// the reservation is inaccessible.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.0.len()
    }

    fn byte_capacity(&self) -> usize {
        self.0.capacity()
    }

    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        self.0.grow_to(new_size).map_err(wasmtime::Error::from)
    }

    fn as_ptr(&self) -> *mut u8 {
        self.0.base()
    }
}

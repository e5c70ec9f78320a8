//! Gives Wasmtime the engine's mappings as linear memories.
//!
//! The mappings belong to the engine: an instance can be dropped and another made on the same memories. Which mapping
//! becomes which memory is said right before instantiation ([`with_memories`]), in the order of the memory index space,
//! on the instantiating thread; every memory is checked against the type that Wasmtime asks for.
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

use super::Mapping;

thread_local! {
    /// Mappings for the instantiation that runs on this thread, in memory-index order.
    static NEXT: RefCell<VecDeque<Arc<Mapping>>> = const { RefCell::new(VecDeque::new()) };
}

/// Runs an instantiation whose memories are `memories`, in index order.
pub(crate) fn with_memories<R>(memories: &[Arc<Mapping>], instantiate: impl FnOnce() -> R) -> R {
    NEXT.with_borrow_mut(|next| next.extend(memories.iter().cloned()));
    let result = instantiate();
    NEXT.with_borrow_mut(VecDeque::clear);
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
        _maximum: Option<usize>,
        reserved_size_in_bytes: Option<usize>,
        guard_size_in_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let mapping = NEXT
            .with_borrow_mut(VecDeque::pop_front)
            .ok_or("a module has more memories than the engine prepared")?;
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

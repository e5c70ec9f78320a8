//! The `ic0` host functions, a file per family.
//!
//! Their fixed prices and the marks of heap pages that they write are the rewritten module's business
//! (`instrument::wrappers`); what is left here is the context matrix, the checks of arguments, and the work.
//!
//! Invariants:
//! - A function refused in the running context changes nothing.
//! - Heap ranges are checked before anything else is; a failing range is a contract violation.
//! - Every system function that validation accepts links.

mod calls;
mod contexts;
mod costs;
mod cycles;
mod environment;
mod message;
mod reply;
mod slow;
mod stable;
mod text;

use wasmtime::{Caller, Linker, WasmTy};

use crate::outcome::Fault;
use crate::state::MessageState;

pub(crate) use slow::slow_functions;
pub(crate) use stable::HostFunctions;

use contexts::Contexts;

type Host<'a> = Caller<'a, MessageState>;

/// Heap addresses and sizes: i32 or i64 in Wasm, always unsigned.
pub(crate) trait Pointer: WasmTy + Copy {
    /// As a number.
    fn bytes(self) -> u64;
    /// From a size that fits: system strings are short.
    fn from_bytes(bytes: usize) -> Self;
}

impl Pointer for u32 {
    fn bytes(self) -> u64 {
        self.into()
    }

    fn from_bytes(bytes: usize) -> Self {
        u32::try_from(bytes).expect("system data is smaller than 4 GiB")
    }
}

impl Pointer for u64 {
    fn bytes(self) -> u64 {
        self
    }

    fn from_bytes(bytes: usize) -> Self {
        bytes as u64
    }
}

/// Links everything for modules with 32-bit (`P = u32`) or 64-bit (`P = u64`) heaps.
pub(crate) fn link<P: Pointer>(
    linker: &mut Linker<MessageState>,
    stable: HostFunctions,
) -> wasmtime::Result<()> {
    message::link::<P>(linker)?;
    reply::link::<P>(linker)?;
    environment::link::<P>(linker)?;
    cycles::link::<P>(linker)?;
    text::link::<P>(linker)?;
    stable::link(linker, stable)?;
    calls::link::<P>(linker)?;
    costs::link::<P>(linker)
}

/// Refuses a function outside its contexts.
fn allow(caller: &mut Host<'_>, name: &str, contexts: Contexts) -> wasmtime::Result<()> {
    let context = caller.data().context;
    if contexts.contains(context) {
        return Ok(());
    }
    let text = format!("\"ic0_{name}\" cannot be executed in {} mode", context.name());
    Err(caller.data_mut().fail(Fault::contract(text)))
}

/// Checks that a range lies in the heap; returns it as offset and length.
fn in_heap(state: &MessageState, name: &str, at: u64, bytes: u64) -> Result<(usize, usize), Fault> {
    let Some(heap) = state.memories.heap() else {
        return Err(Fault::contract("WebAssembly module must define memory"));
    };
    let len = heap.len() as u64;
    if at.checked_add(bytes).is_some_and(|end| end <= len) {
        return Ok((at as usize, bytes as usize)); // both at most the heap's length
    }
    let text = format_args!("ic0.{name} heap: src={at} + length={bytes} exceeds the slice size={len}");
    Err(Fault::contract(text))
}

/// As [`in_heap`], ends the message.
fn heap_range(caller: &mut Host<'_>, name: &str, at: u64, bytes: u64) -> wasmtime::Result<(usize, usize)> {
    in_heap(caller.data(), name, at, bytes).map_err(|fault| caller.data_mut().fail(fault))
}

/// Copies heap bytes out.
fn read_heap(caller: &mut Host<'_>, name: &str, at: u64, bytes: u64) -> wasmtime::Result<Vec<u8>> {
    let (at, bytes) = heap_range(caller, name, at, bytes)?;
    let heap = caller.data().memories.heap().expect("the range was checked");
    Ok(heap.read_vec(at, bytes))
}

/// Copies bytes into the heap.
fn write_heap(caller: &mut Host<'_>, name: &str, at: u64, from: &[u8]) -> wasmtime::Result<()> {
    let (at, _) = heap_range(caller, name, at, from.len() as u64)?;
    caller.data().memories.heap().expect("the range was checked").write(at, from);
    Ok(())
}

/// The `*_copy` functions: `bytes` bytes of `source` from `offset` on, to the heap at `to`.
fn copy_out(
    caller: &mut Host<'_>,
    name: &str,
    range: (u64, u64, u64),
    source: impl FnOnce(&MessageState) -> &[u8],
) -> wasmtime::Result<()> {
    copy(caller.data(), name, range, source(caller.data())).map_err(|fault| caller.data_mut().fail(fault))
}

/// As [`copy_out`], from bytes that are not part of the state.
fn copy_bytes_out(
    caller: &mut Host<'_>,
    name: &str,
    range: (u64, u64, u64),
    source: &[u8],
) -> wasmtime::Result<()> {
    copy(caller.data(), name, range, source).map_err(|fault| caller.data_mut().fail(fault))
}

fn copy(
    state: &MessageState,
    name: &str,
    (to, offset, bytes): (u64, u64, u64),
    source: &[u8],
) -> Result<(), Fault> {
    let (to, bytes) = in_heap(state, name, to, bytes)?;
    let end = offset.checked_add(bytes as u64).filter(|end| *end <= source.len() as u64);
    let Some(end) = end else {
        return Err(Fault::contract(format_args!(
            "ic0.{name} payload: src={offset} + length={bytes} exceeds the slice size={}",
            source.len()
        )));
    };
    let heap = state.memories.heap().expect("the range was checked");
    heap.write(to, &source[offset as usize..end as usize]);
    Ok(())
}

//! The `ic0` host functions, a file per family.
//!
//! Their fixed prices and the marks of heap pages that they write are the rewritten module's business
//! (`instrument::wrappers`); what is left here is the context matrix, the checks of arguments, and the work.
//!
//! Invariants:
//! - A function refused in the running context changes nothing.
//! - Heap ranges are checked before anything else is; a failing range is a contract violation.
//! - Every name of the facts sheet links; one that is not built yet ends the message and says its name.

mod contexts;
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
    link_unbuilt(linker, size_of::<P>() == 8)
}

/// What is accepted at install but not built yet.
fn link_unbuilt(linker: &mut Linker<MessageState>, memory64: bool) -> wasmtime::Result<()> {
    use bedstone_instrument::system_api::{self, ApiType};
    use wasmtime::{FuncType, ValType};
    let value = |ty: &ApiType| match ty {
        ApiType::I64 => ValType::I64,
        ApiType::Pointer if memory64 => ValType::I64,
        _ => ValType::I32,
    };
    for name in UNBUILT {
        let function = system_api::lookup(name).expect("a system function");
        if function.wasm32_only && memory64 {
            continue;
        }
        let params: Vec<_> = function.params.iter().map(value).collect();
        let results: Vec<_> = function.result.iter().map(value).collect();
        let ty = FuncType::new(linker.engine(), params, results);
        linker.func_new("ic0", name, ty, move |mut caller, _, _| {
            let text = format_args!("ic0.{name} is not supported by this release of Bedstone").to_string();
            Err(caller.data_mut().fail(Fault::contract(text)))
        })?;
    }
    Ok(())
}

/// Accepted at install, not built yet.
const UNBUILT: [&str; 19] = [
    "call_new",
    "call_on_cleanup",
    "call_data_append",
    "call_with_best_effort_response",
    "call_cycles_add128",
    "call_cycles_add",
    "call_perform",
    "mint_cycles128",
    "subnet_self_size",
    "subnet_self_copy",
    "canister_liquid_cycle_balance128",
    "root_key_size",
    "root_key_copy",
    "cost_call",
    "cost_create_canister",
    "cost_http_request",
    "cost_sign_with_ecdsa",
    "cost_sign_with_schnorr",
    "cost_vetkd_derive_key",
];

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
fn heap_range(caller: &mut Host<'_>, name: &str, at: u64, bytes: u64) -> wasmtime::Result<(usize, usize)> {
    let state = caller.data_mut();
    let Some(heap) = state.memories.heap() else {
        return Err(state.fail(Fault::contract("WebAssembly module must define memory")));
    };
    let len = heap.len() as u64;
    if at.checked_add(bytes).is_some_and(|end| end <= len) {
        return Ok((at as usize, bytes as usize)); // both at most the heap's length
    }
    let text = format!("ic0.{name} heap: src={at} + length={bytes} exceeds the slice size={len}");
    Err(state.fail(Fault::contract(text)))
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
    (to, offset, bytes): (u64, u64, u64),
    source: impl FnOnce(&MessageState) -> &[u8],
) -> wasmtime::Result<()> {
    let (to, bytes) = heap_range(caller, name, to, bytes)?;
    let state = caller.data();
    let source = source(state);
    let end = offset.checked_add(bytes as u64).filter(|end| *end <= source.len() as u64);
    let Some(end) = end else {
        let text = format!(
            "ic0.{name} payload: src={offset} + length={bytes} exceeds the slice size={}",
            source.len()
        );
        return Err(caller.data_mut().fail(Fault::contract(text)));
    };
    let heap = state.memories.heap().expect("the range was checked");
    heap.write(to, &source[offset as usize..end as usize]);
    Ok(())
}

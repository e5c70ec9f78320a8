//! Stable memory through host functions: the way before the proposal, and the way back.
//!
//! Fixed prices and the price per byte are charged, and destinations marked, by the rewritten module, so all forms do the
//! same work per access: checks, page accounting, page charges, copy. They differ in how they reach the heap:
//! [`HostFunctions::Cached`] keeps the memory's handle, [`HostFunctions::Usual`] looks the export up at each call and
//! exists for comparison only. In native mode the imports are linked but never called.

use bedstone_instrument::abi::{STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES};
use bedstone_instrument::{CostTable, limits};
use wasmtime::{Linker, Memory};

use super::Host;
use crate::outcome::Fault;
use crate::state::{MessageState, charge};
use crate::sys::PAGE;

/// How the stable host functions are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HostFunctions {
    /// Native mode: they must not be called.
    None,
    /// With a cached memory handle.
    Cached,
    /// Looking the memory up at each call.
    Usual,
}

/// Largest stable memory of the 32-bit functions, in Wasm pages.
const WASM_PAGES_32: u64 = 65_536;

pub(super) fn link(linker: &mut Linker<MessageState>, form: HostFunctions) -> wasmtime::Result<()> {
    match form {
        HostFunctions::None => link_dead(linker),
        HostFunctions::Cached => link_form(linker, cached_heap),
        HostFunctions::Usual => link_form(linker, looked_up_heap),
    }
}

/// Kept so that modules link; the rewritten code reaches none of them.
fn link_dead(linker: &mut Linker<MessageState>) -> wasmtime::Result<()> {
    const WHY: &str = "native stable memory never calls the host";
    linker.func_wrap("ic0", "stable64_size", || -> u64 { unreachable!("{WHY}") })?;
    linker.func_wrap("ic0", "stable64_grow", |_: u64| -> u64 { unreachable!("{WHY}") })?;
    linker.func_wrap("ic0", "stable64_read", |_: u64, _: u64, _: u64| -> () { unreachable!("{WHY}") })?;
    linker.func_wrap("ic0", "stable64_write", |_: u64, _: u64, _: u64| -> () { unreachable!("{WHY}") })?;
    linker.func_wrap("ic0", "stable_size", || -> u32 { unreachable!("{WHY}") })?;
    linker.func_wrap("ic0", "stable_grow", |_: u32| -> u32 { unreachable!("{WHY}") })?;
    linker.func_wrap("ic0", "stable_read", |_: u32, _: u32, _: u32| -> () { unreachable!("{WHY}") })?;
    linker.func_wrap("ic0", "stable_write", |_: u32, _: u32, _: u32| -> () { unreachable!("{WHY}") })?;
    Ok(())
}

fn cached_heap(caller: &mut Host<'_>) -> Option<Memory> {
    caller.data().handles.expect("set before any call").heap
}

fn looked_up_heap(caller: &mut Host<'_>) -> Option<Memory> {
    let name = std::mem::take(&mut caller.data_mut().heap_name);
    let memory = caller.get_export(&name).and_then(wasmtime::Extern::into_memory);
    caller.data_mut().heap_name = name;
    memory
}

fn link_form(
    linker: &mut Linker<MessageState>,
    heap: fn(&mut Host<'_>) -> Option<Memory>,
) -> wasmtime::Result<()> {
    linker.func_wrap("ic0", "stable64_size", |caller: Host<'_>| wasm_pages(caller.data()))?;
    linker.func_wrap("ic0", "stable64_grow", |caller: Host<'_>, pages: u64| {
        grow(caller.data(), pages, STABLE_WASM_PAGES_MAX).unwrap_or(u64::MAX)
    })?;
    linker.func_wrap(
        "ic0",
        "stable64_read",
        move |mut caller: Host<'_>, to: u64, from: u64, bytes: u64| {
            refuse_beyond_heap(&mut caller, from, to, bytes)?;
            read(&mut caller, heap, to, from, bytes)
        },
    )?;
    linker.func_wrap(
        "ic0",
        "stable64_write",
        move |mut caller: Host<'_>, to: u64, from: u64, bytes: u64| {
            refuse_beyond_heap(&mut caller, to, from, bytes)?;
            write(&mut caller, heap, to, from, bytes)
        },
    )?;
    linker.func_wrap("ic0", "stable_size", |mut caller: Host<'_>| {
        refuse_large(&mut caller)?;
        Ok(small(wasm_pages(caller.data())))
    })?;
    linker.func_wrap("ic0", "stable_grow", |mut caller: Host<'_>, pages: u32| {
        refuse_large(&mut caller)?;
        Ok(grow(caller.data(), pages.into(), WASM_PAGES_32).map_or(u32::MAX, small))
    })?;
    linker.func_wrap("ic0", "stable_read", move |mut caller: Host<'_>, to: u32, from: u32, bytes: u32| {
        if bytes > 0 {
            refuse_large(&mut caller)?;
        }
        read(&mut caller, heap, to.into(), from.into(), bytes.into())
    })?;
    linker.func_wrap(
        "ic0",
        "stable_write",
        move |mut caller: Host<'_>, to: u32, from: u32, bytes: u32| {
            refuse_large(&mut caller)?;
            // Unlike the 64-bit function this one looks at the offset of an empty write.
            check_stable_range(&mut caller, to.into(), bytes.into())?;
            write(&mut caller, heap, to.into(), from.into(), bytes.into())
        },
    )?;
    Ok(())
}

fn small(pages: u64) -> u32 {
    u32::try_from(pages).expect("at most 65,536 Wasm pages")
}

fn wasm_pages(state: &MessageState) -> u64 {
    state.memories.stable.len() as u64 / WASM_PAGE_BYTES
}

/// Grows stable memory to at most `most` Wasm pages; the old size, or `None` if refused.
fn grow(state: &MessageState, pages: u64, most: u64) -> Option<u64> {
    let old = wasm_pages(state);
    let new = old.checked_add(pages).filter(|new| *new <= most)?;
    let bytes = usize::try_from(new * WASM_PAGE_BYTES).ok()?;
    state.memories.stable.grow_to(bytes).ok()?;
    Some(old)
}

fn refuse_large(caller: &mut Host<'_>) -> wasmtime::Result<()> {
    if wasm_pages(caller.data()) <= WASM_PAGES_32 {
        return Ok(());
    }
    let text = "32 bit stable memory api used on a memory larger than 4GB";
    Err(caller.data_mut().fail(Fault::trapped(text)))
}

fn check_stable_range(caller: &mut Host<'_>, at: u64, bytes: u64) -> wasmtime::Result<()> {
    let state = caller.data_mut();
    let len = state.memories.stable.len() as u64;
    if at.checked_add(bytes).is_some_and(|end| end <= len) {
        return Ok(());
    }
    Err(state.fail(Fault::trapped("stable memory out of bounds")))
}

/// Steps 3 to 5 of the 64-bit functions: stable bounds, then what no heap could hold.
fn refuse_beyond_heap(caller: &mut Host<'_>, stable: u64, heap: u64, bytes: u64) -> wasmtime::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    check_stable_range(caller, stable, bytes)?;
    let largest = if caller.data().heap64 { limits::HEAP64_BYTES_MAX } else { u32::MAX.into() };
    if heap > largest || bytes > largest {
        return Err(caller.data_mut().fail(Fault::trapped("heap out of bounds")));
    }
    Ok(())
}

fn read(
    caller: &mut Host<'_>,
    heap: fn(&mut Host<'_>) -> Option<Memory>,
    to: u64,
    from: u64,
    bytes: u64,
) -> wasmtime::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let Some(heap) = heap(caller) else {
        return Err(caller.data_mut().fail(Fault::contract("WebAssembly module must define memory")));
    };
    check_stable_range(caller, from, bytes)?;
    let (heap, state) = heap.data_and_store_mut(caller);
    let page = PAGE as u64;
    let (first, last) = (from / page, (from + bytes - 1) / page);
    if let Err(fault) = state.touched.touch_read(&state.memories.tracking, first, last) {
        return Err(state.fail(fault));
    }
    let target = to.checked_add(bytes).and_then(|end| heap.get_mut(to as usize..end as usize));
    let Some(target) = target else {
        return Err(state.fail(Fault::trapped("heap out of bounds")));
    };
    state.memories.stable.read(from as usize, target);
    Ok(())
}

fn write(
    caller: &mut Host<'_>,
    heap: fn(&mut Host<'_>) -> Option<Memory>,
    to: u64,
    from: u64,
    bytes: u64,
) -> wasmtime::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let Some(heap) = heap(caller) else {
        return Err(caller.data_mut().fail(Fault::contract("WebAssembly module must define memory")));
    };
    check_stable_range(caller, to, bytes)?;
    let page = PAGE as u64;
    let state = caller.data_mut();
    let (tracking, stable) = (&state.memories.tracking, &state.memories.stable);
    match state.touched.touch_write(tracking, stable, to / page, (to + bytes - 1) / page) {
        Ok(0) => {}
        Ok(pages) => charge(caller, pages * PRICES.stable_dirty_page())?,
        Err(fault) => return Err(state.fail(fault)),
    }
    let (heap, state) = heap.data_and_store_mut(caller);
    let source = from.checked_add(bytes).and_then(|end| heap.get(from as usize..end as usize));
    let Some(source) = source else {
        return Err(state.fail(Fault::trapped("heap out of bounds")));
    };
    state.memories.stable.write(to as usize, source);
    Ok(())
}

const PRICES: CostTable = CostTable::ic_2025_10();

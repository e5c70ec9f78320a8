//! The injected table's functions: where rewritten code leaves its fast path.

use bedstone_instrument::abi::{PAGE_BYTES, SLOW_CALLS, SlowCall, TrapCode};
use wasmtime::{Func, Store};

use super::Host;
use crate::outcome::Fault;
use crate::state::MessageState;

/// The functions in table order.
pub(crate) fn slow_functions(store: &mut Store<MessageState>) -> [Func; SLOW_CALLS as usize] {
    let mut functions = [Func::wrap(&mut *store, end_message); SLOW_CALLS as usize];
    functions[SlowCall::TouchRead as usize] = Func::wrap(&mut *store, touch_read);
    functions[SlowCall::TouchWrite as usize] = Func::wrap(&mut *store, touch_write);
    functions[SlowCall::HeapGrown as usize] = Func::wrap(&mut *store, heap_grown);
    functions
}

fn end_message(mut caller: Host<'_>, code: i32) -> wasmtime::Result<()> {
    let state = caller.data_mut();
    let fault = match TrapCode::from_i32(code).expect("injected code passes its own codes") {
        TrapCode::OutOfInstructions => Fault::out_of_instructions(state.limits.instructions_shown),
        TrapCode::StableOutOfBounds => Fault::trapped("stable memory out of bounds"),
        TrapCode::HeapOutOfBounds => Fault::trapped("heap out of bounds"),
        TrapCode::StableTooLargeFor32Bit => {
            Fault::trapped("32 bit stable memory api used on a memory larger than 4GB")
        }
        TrapCode::NoMemory => Fault::contract("WebAssembly module must define memory"),
    };
    Err(state.fail(fault))
}

fn touch_read(mut caller: Host<'_>, first: u64, last: u64) -> wasmtime::Result<()> {
    let state = caller.data_mut();
    state.touched.touch_read(&state.memories.tracking, first, last).map_err(|fault| state.fail(fault))
}

fn touch_write(mut caller: Host<'_>, first: u64, last: u64) -> wasmtime::Result<u64> {
    let state = caller.data_mut();
    let (tracking, stable) = (&state.memories.tracking, &state.memories.stable);
    state.touched.touch_write(tracking, stable, first, last).map_err(|fault| state.fail(fault))
}

/// A declared memory has grown: a limit that all together pass ends the message, unlike a growth that is refused.
fn heap_grown(mut caller: Host<'_>, _old_wasm_pages: u64) -> wasmtime::Result<()> {
    let state = caller.data_mut();
    let limit = state.limits.wasm_memory_bytes;
    let bytes = state.memories.heap_bytes();
    if limit == 0 || bytes <= limit || !state.context.enforces_wasm_memory_limit() {
        return Ok(());
    }
    debug_assert_eq!(bytes % PAGE_BYTES, 0);
    Err(state.fail(Fault::wasm_memory_limit(limit, bytes)))
}

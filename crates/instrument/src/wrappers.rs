//! System functions as the canister calls them: charge, mark what they will write, call the import.
//!
//! ```wat
//! (func (param $dst i32) (param $off i32) (param $len i32)      ;; every call of ic0.msg_arg_data_copy
//!   …charge 500 + len, with a test…
//!   (call $mark_range (local.get $dst) (local.get $len))
//!   (call $ic0.msg_arg_data_copy (local.get $dst) (local.get $off) (local.get $len)))
//! ```
//!
//! Invariants:
//! - Only these functions call an import, so a host function never charges its fixed price nor marks the heap.
//! - The charge precedes every check of an argument: a call that fails is charged.

use wasm_encoder::{BlockType, InstructionSink, ValType};

use crate::abi::{Counter, SlowCall};
use crate::cost::{CostTable, SystemCharge};
use crate::encode::Layout;
use crate::info::ImportedFunction;
use crate::system_api::{ApiType, HeapWriteBytes};

/// Sizes from here up are taken for "more than any limit": below it `50 * size + fixed` fits in 63 bits.
const SIZE_MAX: i64 = 1 << 56;

/// Local types and body of the wrapper of import `index`.
pub(crate) fn wrapper_body(
    index: u32,
    import: &ImportedFunction,
    layout: &Layout,
    prices: &CostTable,
) -> (Vec<ValType>, Vec<u8>) {
    let api = import.api;
    let params = u32::try_from(api.params.len()).expect("system functions have few parameters");
    let counter = layout.counter_in(params);
    let cost = layout.first_local(params);
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    let charge = prices.system_call(api);
    if charge.fixed > 0 {
        if wraps(api.name) {
            code.local_get(2).i64_const(charge.fixed.cast_signed()).i64_add();
        } else {
            push_cost(&mut code, layout, api.params, &charge);
        }
        code.local_set(cost);
        counter.charge_checked(&mut code, cost);
    }
    if let Some(write) = api.heap_write.filter(|_| layout.marks()) {
        push_as_i64(&mut code, layout, api.params, write.pointer);
        match write.bytes {
            HeapWriteBytes::Param(size) => push_as_i64(&mut code, layout, api.params, size),
            HeapWriteBytes::Fixed(size) => {
                code.i64_const(size.into());
            }
        }
        code.call(layout.helpers.mark_range);
    }
    counter.publish(&mut code);
    for parameter in 0..params {
        code.local_get(parameter);
    }
    code.call(index);
    counter.take_back(&mut code);
    counter.push_result(&mut code);
    code.end();
    (vec![ValType::I64], bytes)
}

/// The 64-bit stable accesses add their price to the length without a care for overflow.
fn wraps(name: &str) -> bool {
    matches!(name, "stable64_read" | "stable64_write")
}

fn push_as_i64(code: &mut InstructionSink<'_>, layout: &Layout, params: &[ApiType], parameter: u8) {
    code.local_get(parameter.into());
    let is_64 = match params[usize::from(parameter)] {
        ApiType::I64 => true,
        ApiType::I32 => false,
        ApiType::Pointer => layout.memory64,
    };
    if !is_64 {
        code.i64_extend_i32_u();
    }
}

/// Pushes `fixed + per_byte * sizes`; absurd 64-bit sizes become a negative cost, which always fails.
fn push_cost(code: &mut InstructionSink<'_>, layout: &Layout, params: &[ApiType], charge: &SystemCharge) {
    code.i64_const(charge.fixed.cast_signed());
    for &size in charge.size_params {
        push_as_i64(code, layout, params, size);
        if layout.memory64 {
            push_as_i64(code, layout, params, size);
            code.i64_const(SIZE_MAX).i64_ge_u().if_(BlockType::FunctionType(layout.i64_to_i64));
            code.drop().i64_const(i64::MIN / 64).end();
        }
        code.i64_const(charge.per_byte.cast_signed()).i64_mul().i64_add();
    }
}

/// Local types and body of `heap_grown(result) -> result`, for results of type `address`: tells the engine that `memory.grow`
/// succeeded.
pub(crate) fn heap_grown_body(layout: &Layout, address: ValType) -> (Vec<ValType>, Vec<u8>) {
    let counter = layout.counter_in(1);
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    code.local_get(0);
    if address == ValType::I64 {
        code.i64_const(-1).i64_ne();
    } else {
        code.i32_const(-1).i32_ne();
    }
    code.if_(BlockType::Empty);
    counter.publish(&mut code);
    code.local_get(0);
    if address == ValType::I32 {
        code.i64_extend_i32_u();
    }
    layout.slow_call(&mut code, SlowCall::HeapGrown);
    code.end().local_get(0);
    counter.push_result(&mut code);
    code.end();
    (Vec::new(), bytes)
}

/// Body of `(place i64, environment i64) -> ()`: calls a function of table 0, of type `callback`, as the host calls entry
/// points.
pub(crate) fn callback_body(layout: &Layout, callback: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    code.local_get(1);
    if !layout.memory64 {
        code.i32_wrap_i64();
    }
    let threaded = layout.counter == Counter::Threaded;
    if threaded {
        code.global_get(layout.counter_global);
    }
    code.local_get(0);
    if !layout.table64 {
        code.i32_wrap_i64();
    }
    code.call_indirect(0, callback);
    if threaded {
        code.global_set(layout.counter_global);
    }
    code.end();
    bytes
}

/// Body of an entry point: a `() -> ()` of the canister's, called by the host with the counter in its global.
pub(crate) fn entry_body(layout: &Layout, function: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut code = InstructionSink::new(&mut bytes);
    code.global_get(layout.counter_global).call(function).global_set(layout.counter_global).end();
    bytes
}

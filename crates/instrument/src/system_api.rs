//! The system functions: every name that a canister may import from `ic0`, with its type.
//!
//! This is data. Prices stand in [`crate::cost`]; which entry point may call which function is the engine's matter.
//!
//! Invariants:
//! - 71 functions: 62 for every module, 9 for 32-bit modules only.
//! - A function's position in [`all`] never changes; new functions go at the end, so the position serves as an id.
//! - `heap_write` is set for exactly the functions whose host side writes the canister's memory.

use wasmparser::{FuncType, ValType};

use ApiType::{I32, I64, Pointer};
use HeapWriteBytes::{Fixed, Param};

/// Type of a parameter or result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiType {
    /// An address, size or table index: i32 in 32-bit modules, i64 in 64-bit ones.
    Pointer,
    /// i32 in every module.
    I32,
    /// i64 in every module.
    I64,
}

impl ApiType {
    /// The Wasm type in a module whose main memory is 64-bit, or not.
    pub const fn val_type(self, memory64: bool) -> ValType {
        match self {
            Self::I32 => ValType::I32,
            Self::I64 => ValType::I64,
            Self::Pointer => {
                if memory64 {
                    ValType::I64
                } else {
                    ValType::I32
                }
            }
        }
    }
}

/// How many bytes a function writes at its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeapWriteBytes {
    /// As many as the parameter at this index says.
    Param(u8),
    /// Always this many.
    Fixed(u8),
}

/// Where a function writes the canister's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapWrite {
    /// Index of the parameter that holds the address.
    pub pointer: u8,
    /// How much it writes there.
    pub bytes: HeapWriteBytes,
}

/// One system function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemFunction {
    /// Its name in module `ic0`.
    pub name: &'static str,
    /// Its parameters.
    pub params: &'static [ApiType],
    /// Its result.
    pub result: Option<ApiType>,
    /// Whether only modules with a 32-bit memory, or none, may import it.
    pub wasm32_only: bool,
    /// What it writes into the canister's memory.
    pub heap_write: Option<HeapWrite>,
}

impl SystemFunction {
    /// Its Wasm type in a module whose main memory is 64-bit, or not.
    pub fn func_type(&self, memory64: bool) -> FuncType {
        FuncType::new(
            self.params.iter().map(|param| param.val_type(memory64)),
            self.result.iter().map(|result| result.val_type(memory64)),
        )
    }

    /// Whether `ty` is its type in such a module. Allocates nothing.
    pub fn has_type(&self, ty: &FuncType, memory64: bool) -> bool {
        let same = |api: &[ApiType], wasm: &[ValType]| {
            api.len() == wasm.len() && api.iter().zip(wasm).all(|(api, wasm)| api.val_type(memory64) == *wasm)
        };
        same(self.params, ty.params()) && same(self.result.as_slice(), ty.results())
    }

    /// Its position in [`all`]. Panics for a function that is not one of them.
    pub fn index(&self) -> usize {
        let position = FUNCTIONS.iter().position(|function| function.name == self.name);
        position.expect("system functions are only made here")
    }

    const fn wasm32_only(mut self) -> Self {
        self.wasm32_only = true;
        self
    }

    const fn writes(mut self, pointer: u8, bytes: HeapWriteBytes) -> Self {
        self.heap_write = Some(HeapWrite { pointer, bytes });
        self
    }
}

/// The system function of that name.
pub fn lookup(name: &str) -> Option<&'static SystemFunction> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// All system functions, in an order that never changes.
pub fn all() -> &'static [SystemFunction] {
    &FUNCTIONS
}

const fn function(name: &'static str, params: &'static [ApiType], result: Option<ApiType>) -> SystemFunction {
    SystemFunction { name, params, result, wasm32_only: false, heap_write: None }
}

/// `() -> size`.
const fn size(name: &'static str) -> SystemFunction {
    function(name, &[], Some(Pointer))
}

/// `(dst, offset, size)`: copies from the system into the canister's memory.
const fn copy(name: &'static str) -> SystemFunction {
    function(name, &[Pointer, Pointer, Pointer], None).writes(0, Param(2))
}

/// `(src, size)`: takes bytes from the canister's memory.
const fn take(name: &'static str, result: Option<ApiType>) -> SystemFunction {
    function(name, &[Pointer, Pointer], result)
}

/// Its last parameter is the address at which it writes an amount of cycles, 16 bytes.
const fn amount(name: &'static str, params: &'static [ApiType], result: Option<ApiType>) -> SystemFunction {
    let last = params.len() - 1;
    assert!(last < 8 && matches!(params[last], Pointer));
    #[expect(clippy::cast_possible_truncation, reason = "asserted")]
    function(name, params, result).writes(last as u8, Fixed(16))
}

/// `(name_src, name_size, key, dst) -> code`: the price of a management call with a key's name.
const fn key_cost(name: &'static str) -> SystemFunction {
    amount(name, &[Pointer, Pointer, I32, Pointer], Some(I32))
}

static FUNCTIONS: [SystemFunction; 71] = [
    // The message.
    size("msg_arg_data_size"),
    copy("msg_arg_data_copy"),
    size("msg_caller_size"),
    copy("msg_caller_copy"),
    function("msg_reject_code", &[], Some(I32)),
    size("msg_reject_msg_size"),
    copy("msg_reject_msg_copy"),
    function("msg_deadline", &[], Some(I64)),
    take("msg_reply_data_append", None),
    function("msg_reply", &[], None),
    take("msg_reject", None),
    size("msg_method_name_size"),
    copy("msg_method_name_copy"),
    function("accept_message", &[], None),
    // Cycles.
    amount("msg_cycles_available128", &[Pointer], None),
    function("msg_cycles_available", &[], Some(I64)).wasm32_only(),
    amount("msg_cycles_refunded128", &[Pointer], None),
    function("msg_cycles_refunded", &[], Some(I64)).wasm32_only(),
    amount("msg_cycles_accept128", &[I64, I64, Pointer], None),
    function("msg_cycles_accept", &[I64], Some(I64)).wasm32_only(),
    amount("cycles_burn128", &[I64, I64, Pointer], None),
    amount("mint_cycles128", &[I64, I64, Pointer], None),
    amount("canister_cycle_balance128", &[Pointer], None),
    function("canister_cycle_balance", &[], Some(I64)).wasm32_only(),
    amount("canister_liquid_cycle_balance128", &[Pointer], None),
    // The canister and its subnet.
    size("canister_self_size"),
    copy("canister_self_copy"),
    size("subnet_self_size"),
    copy("subnet_self_copy"),
    function("canister_status", &[], Some(I32)),
    function("canister_version", &[], Some(I64)),
    size("root_key_size"),
    copy("root_key_copy"),
    take("is_controller", Some(I32)),
    function("in_replicated_execution", &[], Some(I32)),
    // Calls.
    function("call_new", &[Pointer; 8], None),
    function("call_on_cleanup", &[Pointer, Pointer], None),
    take("call_data_append", None),
    function("call_with_best_effort_response", &[I32], None),
    function("call_cycles_add128", &[I64, I64], None),
    function("call_cycles_add", &[I64], None).wasm32_only(),
    function("call_perform", &[], Some(I32)),
    // Stable memory.
    function("stable64_size", &[], Some(I64)),
    function("stable64_grow", &[I64], Some(I64)),
    function("stable64_read", &[I64, I64, I64], None).writes(0, Param(2)),
    function("stable64_write", &[I64, I64, I64], None),
    function("stable_size", &[], Some(I32)).wasm32_only(),
    function("stable_grow", &[I32], Some(I32)).wasm32_only(),
    function("stable_read", &[I32, I32, I32], None).wasm32_only().writes(0, Param(2)),
    function("stable_write", &[I32, I32, I32], None).wasm32_only(),
    // Certified data, time and counters.
    take("certified_data_set", None),
    function("data_certificate_present", &[], Some(I32)),
    size("data_certificate_size"),
    copy("data_certificate_copy"),
    function("time", &[], Some(I64)),
    function("global_timer_set", &[I64], Some(I64)),
    function("performance_counter", &[I32], Some(I64)),
    // Prices of calls.
    amount("cost_call", &[I64, I64, Pointer], None),
    amount("cost_create_canister", &[Pointer], None),
    amount("cost_http_request", &[I64, I64, Pointer], None),
    key_cost("cost_sign_with_ecdsa"),
    key_cost("cost_sign_with_schnorr"),
    key_cost("cost_vetkd_derive_key"),
    // Environment variables.
    size("env_var_count"),
    function("env_var_name_size", &[Pointer], Some(Pointer)),
    function("env_var_name_copy", &[Pointer; 4], None).writes(1, Param(3)),
    take("env_var_name_exists", Some(I32)),
    take("env_var_value_size", Some(Pointer)),
    function("env_var_value_copy", &[Pointer; 5], None).writes(2, Param(4)),
    // Debugging.
    take("debug_print", None),
    take("trap", None),
];

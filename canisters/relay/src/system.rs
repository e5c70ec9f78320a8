//! What the system tells a canister and what it asks of one.

use candid::{CandidType, Principal};
use serde_bytes::ByteBuf;

use crate::counters::count;

#[ic_cdk::update]
fn certify(data: ByteBuf) {
    ic_cdk::api::certified_data_set(&data[..]);
}

#[ic_cdk::query]
fn certificate() -> Option<ByteBuf> {
    ic_cdk::api::data_certificate().map(ByteBuf::from)
}

#[ic_cdk::inspect_message]
fn inspect_message() {
    if ic_cdk::api::msg_method_name() != "forbidden" {
        ic_cdk::api::accept_message();
    }
}

#[ic_cdk::update]
fn forbidden() -> u64 {
    count("forbidden")
}

#[ic_cdk::query]
fn env(name: String) -> Option<String> {
    ic_cdk::api::env_var_name_exists(&name).then(|| ic_cdk::api::env_var_value(&name))
}

#[derive(CandidType)]
struct Who {
    caller: Principal,
    canister: Principal,
    is_controller: bool,
    version: u64,
    time: u64,
}

#[ic_cdk::query]
fn who() -> Who {
    let caller = ic_cdk::api::msg_caller();
    Who {
        caller,
        canister: ic_cdk::api::canister_self(),
        is_controller: ic_cdk::api::is_controller(&caller),
        version: ic_cdk::api::canister_version(),
        time: ic_cdk::api::time(),
    }
}

#[ic_cdk::update]
fn deadline() -> u64 {
    ic_cdk::api::msg_deadline().map_or(0, u64::from)
}

#[ic_cdk::update]
fn log(line: String) {
    ic_cdk::api::debug_print(line);
}

/// The allocator never hears of these pages: it asks for its own.
#[ic_cdk::update]
fn grow_heap(pages: u32) -> Option<u64> {
    match core::arch::wasm32::memory_grow::<0>(pages as usize) {
        usize::MAX => None,
        before => Some(before as u64),
    }
}

#[ic_cdk::on_low_wasm_memory]
fn on_low_wasm_memory() {
    count("low_wasm_memory");
}

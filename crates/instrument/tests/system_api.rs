//! The table of system functions: counts, types, and what they write.

use std::collections::BTreeSet;

use bedstone_instrument::system_api::{self, ApiType, HeapWrite, HeapWriteBytes};
use wasmparser::ValType::{I32, I64};

#[test]
fn there_are_71_functions_9_of_them_for_wasm32() {
    let names: BTreeSet<_> = system_api::all().iter().map(|function| function.name).collect();
    assert_eq!(names.len(), 71);
    let wasm32_only: BTreeSet<_> = system_api::all()
        .iter()
        .filter(|function| function.wasm32_only)
        .map(|function| function.name)
        .collect();
    let expected = [
        "call_cycles_add",
        "canister_cycle_balance",
        "msg_cycles_accept",
        "msg_cycles_available",
        "msg_cycles_refunded",
        "stable_grow",
        "stable_read",
        "stable_size",
        "stable_write",
    ];
    assert_eq!(wasm32_only, BTreeSet::from(expected));
}

#[test]
fn position_is_the_index() {
    for (position, function) in system_api::all().iter().enumerate() {
        assert_eq!(function.index(), position);
        assert_eq!(system_api::lookup(function.name), Some(function));
    }
    assert_eq!(system_api::lookup("mint_cycles"), None);
}

#[test]
fn pointers_follow_the_width_of_the_memory() {
    let call_new = system_api::lookup("call_new").unwrap();
    assert_eq!(call_new.func_type(false).params(), [I32; 8]);
    assert_eq!(call_new.func_type(true).params(), [I64; 8]);
    let accept = system_api::lookup("msg_cycles_accept128").unwrap();
    assert_eq!(accept.func_type(false).params(), [I64, I64, I32]);
    let ecdsa = system_api::lookup("cost_sign_with_ecdsa").unwrap();
    assert_eq!(ecdsa.func_type(true).params(), [I64, I64, I32, I64]);
    assert_eq!(ecdsa.func_type(true).results(), [I32]);
    for function in system_api::all() {
        for memory64 in [false, true] {
            assert!(function.has_type(&function.func_type(memory64), memory64));
        }
    }
    assert!(!call_new.has_type(&call_new.func_type(false), true));
    let time = system_api::lookup("time").unwrap();
    assert!(!time.has_type(&system_api::lookup("msg_reply").unwrap().func_type(false), false));
}

#[test]
fn heap_writes_name_their_address_and_size() {
    for function in system_api::all() {
        let name = function.name;
        let last = u8::try_from(function.params.len()).unwrap().saturating_sub(1);
        let expected = if name.ends_with("_copy") {
            Some(HeapWrite { pointer: last - 2, bytes: HeapWriteBytes::Param(last) })
        } else if matches!(name, "stable_read" | "stable64_read") {
            Some(HeapWrite { pointer: 0, bytes: HeapWriteBytes::Param(2) })
        } else if (name.ends_with("128") && name != "call_cycles_add128") || name.starts_with("cost_") {
            Some(HeapWrite { pointer: last, bytes: HeapWriteBytes::Fixed(16) })
        } else {
            None
        };
        assert_eq!(function.heap_write, expected, "{name}");
        if let Some(write) = function.heap_write {
            let is_stable = name.starts_with("stable");
            let address = function.params[usize::from(write.pointer)];
            assert!(is_stable || address == ApiType::Pointer, "{name}");
        }
    }
}

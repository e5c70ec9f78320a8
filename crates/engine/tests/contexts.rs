//! Every system function in every context that can be entered today: allowed where the specification says so, refused
//! with its text everywhere else.

use bedstone_engine::{
    Callback, Closure, Counter, Engine, EngineConfig, Entry, Fault, InstallMode, Outcome, Response,
    StableAccess,
};
use bedstone_instrument::system_api::{self, ApiType, SystemFunction};

use crate::support::{Subject, with_stack};

/// Contexts by the specification's letters (H, T and L are all its T), and their names in texts.
const CONTEXTS: [(&str, &str); 17] = [
    ("s", "start"),
    ("I", "init"),
    ("G", "pre upgrade"),
    ("U", "update"),
    ("RQ", "replicated query"),
    ("NRQ", "non replicated query"),
    ("CQ", "composite query"),
    ("F", "inspect message"),
    ("H", "heartbeat"),
    ("T", "global timer"),
    ("L", "on low Wasm memory"),
    ("Ry", "reply callback"),
    ("Rt", "reject callback"),
    ("C", "cleanup"),
    ("CRy", "composite reply callback"),
    ("CRt", "composite reject callback"),
    ("CC", "composite cleanup"),
];

const EVERYWHERE: &str = "s I G U RQ NRQ CQ F H T L Ry Rt C CRy CRt CC";
const NOT_START: &str = "I G U RQ NRQ CQ F H T L Ry Rt C CRy CRt CC";
const ARGUMENT: &str = "I U RQ NRQ CQ Ry CRy F";
const ANSWER: &str = "U RQ NRQ CQ Ry Rt CRy CRt";
const REJECT: &str = "Rt CRt";
const CYCLES_IN: &str = "U RQ Ry Rt";
const CYCLES_BACK: &str = "Ry Rt";
const BURN: &str = "I G U RQ Ry Rt C H T L";
const CALL: &str = "U CQ Ry Rt CRy CRt H T L";
const CALL_WITH_CYCLES: &str = "U Ry Rt H T L";

/// The matrix of the specification, every function.
const MATRIX: [(&str, &str); 71] = [
    ("msg_arg_data_size", ARGUMENT),
    ("msg_arg_data_copy", ARGUMENT),
    ("msg_caller_size", NOT_START),
    ("msg_caller_copy", NOT_START),
    ("msg_reject_code", "Ry Rt CRy CRt"),
    ("msg_reject_msg_size", REJECT),
    ("msg_reject_msg_copy", REJECT),
    ("msg_deadline", ANSWER),
    ("msg_reply_data_append", ANSWER),
    ("msg_reply", ANSWER),
    ("msg_reject", ANSWER),
    ("msg_cycles_available128", CYCLES_IN),
    ("msg_cycles_available", CYCLES_IN),
    ("msg_cycles_refunded128", CYCLES_BACK),
    ("msg_cycles_refunded", CYCLES_BACK),
    ("msg_cycles_accept128", CYCLES_IN),
    ("msg_cycles_accept", CYCLES_IN),
    ("cycles_burn128", BURN),
    ("mint_cycles128", CALL_WITH_CYCLES),
    ("canister_self_size", NOT_START),
    ("canister_self_copy", NOT_START),
    ("subnet_self_size", NOT_START),
    ("subnet_self_copy", NOT_START),
    ("canister_cycle_balance128", NOT_START),
    ("canister_cycle_balance", NOT_START),
    ("canister_liquid_cycle_balance128", NOT_START),
    ("canister_status", NOT_START),
    ("canister_version", NOT_START),
    ("root_key_size", BURN),
    ("root_key_copy", BURN),
    ("msg_method_name_size", "F"),
    ("msg_method_name_copy", "F"),
    ("accept_message", "F"),
    ("call_new", CALL),
    ("call_on_cleanup", CALL),
    ("call_data_append", CALL),
    ("call_with_best_effort_response", CALL),
    ("call_cycles_add128", CALL_WITH_CYCLES),
    ("call_cycles_add", CALL_WITH_CYCLES),
    ("call_perform", CALL),
    ("stable64_size", EVERYWHERE),
    ("stable64_grow", EVERYWHERE),
    ("stable64_read", EVERYWHERE),
    ("stable64_write", EVERYWHERE),
    ("stable_size", EVERYWHERE),
    ("stable_grow", EVERYWHERE),
    ("stable_read", EVERYWHERE),
    ("stable_write", EVERYWHERE),
    ("certified_data_set", "I G U Ry Rt H T L"),
    ("data_certificate_present", NOT_START),
    ("data_certificate_size", "NRQ CQ"),
    ("data_certificate_copy", "NRQ CQ"),
    ("time", NOT_START),
    ("global_timer_set", "I G U Ry Rt C H T L"),
    ("performance_counter", EVERYWHERE),
    ("is_controller", EVERYWHERE),
    ("in_replicated_execution", EVERYWHERE),
    ("cost_call", EVERYWHERE),
    ("cost_create_canister", EVERYWHERE),
    ("cost_http_request", EVERYWHERE),
    ("cost_sign_with_ecdsa", EVERYWHERE),
    ("cost_sign_with_schnorr", EVERYWHERE),
    ("cost_vetkd_derive_key", EVERYWHERE),
    ("env_var_count", NOT_START),
    ("env_var_name_size", NOT_START),
    ("env_var_name_copy", NOT_START),
    ("env_var_name_exists", NOT_START),
    ("env_var_value_size", NOT_START),
    ("env_var_value_copy", NOT_START),
    ("debug_print", EVERYWHERE),
    ("trap", EVERYWHERE),
];

/// What stops a call with all arguments zero although its context is right.
fn stopped_by_arguments(name: &str) -> Option<&'static str> {
    Some(match name {
        "trap" => "Canister called `ic0.trap` with message: ''",
        "data_certificate_size" | "data_certificate_copy" => "no data certificate",
        "env_var_name_size" | "env_var_name_copy" => "index",
        "env_var_value_size" | "env_var_value_copy" => "env_var_value",
        "call_on_cleanup"
        | "call_data_append"
        | "call_with_best_effort_response"
        | "call_cycles_add128"
        | "call_cycles_add"
        | "call_perform" => "no call under construction",
        "mint_cycles128" => "non Cycles Minting Canister",
        _ => return None,
    })
}

/// A module with a call of the function, all arguments zero, and `exports` that reach it as `$t`.
fn module(function: &SystemFunction, memory64: bool, exports: &str) -> String {
    let wasm = |ty: &ApiType| match ty {
        ApiType::I32 => "i32",
        ApiType::I64 => "i64",
        ApiType::Pointer => {
            if memory64 {
                "i64"
            } else {
                "i32"
            }
        }
    };
    let params: String = function.params.iter().map(|ty| format!(" {}", wasm(ty))).collect();
    let result = function.result.map_or(String::new(), |ty| format!("(result {})", wasm(&ty)));
    let zeros: String = function.params.iter().map(|ty| format!(" ({}.const 0)", wasm(ty))).collect();
    let drop = if function.result.is_some() { "drop" } else { "" };
    let (memory, pointer) = if memory64 { ("i64 1", "i64") } else { ("1", "i32") };
    format!(
        r#"(module (import "ic0" "{}" (func $f (param{params}) {result})) (memory {memory})
        (table 2 funcref) (elem (i32.const 0) $callback $fails)
        (func $callback (param {pointer}) call $t) (func $fails (param {pointer}) unreachable)
        (func $t (call $f{zeros}) {drop}) {exports})"#,
        function.name
    )
}

/// What came of calling the function in each context, in the order of [`CONTEXTS`].
fn call(engine: &Engine, function: &SystemFunction, memory64: bool) -> Vec<Outcome> {
    let hook = |name: &str| module(function, memory64, &format!(r#"(func (export "{name}") call $t)"#));
    let start =
        Subject::empty(engine).install(&module(function, memory64, "(start $t)"), InstallMode::Install);
    let init = Subject::empty(engine).install(&hook("canister_init"), InstallMode::Install);
    let mut subject = Subject::installed(engine, "(module)");
    let post_upgrade = subject.install(&hook("canister_post_upgrade"), UPGRADE);
    assert_eq!(
        post_upgrade.response, init.response,
        "{}: init and post_upgrade are one context",
        function.name
    );
    let pre_upgrade = Subject::installed(engine, &hook("canister_pre_upgrade")).install("(module)", UPGRADE);
    let exports = r#"(export "canister_update u" (func $t)) (export "canister_query q" (func $t))
        (export "canister_composite_query c" (func $t)) (export "canister_inspect_message" (func $t))
        (export "canister_heartbeat" (func $t)) (export "canister_global_timer" (func $t))
        (export "canister_on_low_wasm_memory" (func $t))"#;
    let mut subject = Subject::installed(engine, &module(function, memory64, exports));
    let entries = [
        Entry::Update("u"),
        Entry::Update("q"),
        Entry::Query("q"),
        Entry::Query("c"),
        Entry::InspectMessage("u"),
        Entry::Heartbeat,
        Entry::GlobalTimer,
        Entry::LowWasmMemory,
    ];
    let mut outcomes = vec![start, init, pre_upgrade];
    outcomes.extend(entries.map(|entry| subject.execute(entry, &[])));
    for composite in [false, true] {
        for reject in [None, Some((4, "no"))] {
            outcomes.push(subject.answer(Callback { closure: place(0), cleanup: None, composite }, reject));
        }
        let callback = Callback { closure: place(1), cleanup: Some(place(0)), composite };
        outcomes.push(cleaned_up(subject.answer(callback, None)));
    }
    outcomes
}

fn place(function: u64) -> Closure {
    Closure { function, environment: 0 }
}

/// What a cleanup did, from the outcome of a callback that trapped.
fn cleaned_up(mut outcome: Outcome) -> Outcome {
    let Response::Trapped(fault) = &outcome.response else { panic!("the callback traps: {outcome:?}") };
    assert!(fault.detail.starts_with("Canister trapped: unreachable"), "{fault:?}");
    outcome.response = match fault.detail.split_once("\n\ncall_on_cleanup also failed:\n\n") {
        Some((_, second)) => {
            let (code, detail) = (if second.contains("ic0.trap") { 503 } else { 504 }, second.to_owned());
            Response::Trapped(Fault { code, detail, backtrace: None })
        }
        None => Response::None,
    };
    outcome
}

const UPGRADE: InstallMode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: None };

fn check(what: &str, function: &SystemFunction, letters: &str, mode: &str, outcome: &Outcome) {
    let name = function.name;
    let fault: Option<&Fault> = match &outcome.response {
        Response::Trapped(fault) => Some(fault),
        _ => None,
    };
    if letters.split(' ').all(|letter| letter != what) {
        let text = format!("Canister violated contract: \"ic0_{name}\" cannot be executed in {mode} mode");
        let fault = fault.unwrap_or_else(|| panic!("{name} must be refused in {mode}"));
        assert_eq!((fault.code, &fault.detail), (504, &text));
        return;
    }
    match (stopped_by_arguments(name), fault) {
        (None, None) => {}
        (None, Some(fault)) => panic!("{name} must work in {mode}: {fault:?}"),
        (Some(part), Some(fault)) => assert!(fault.detail.contains(part), "{name} in {mode}: {fault:?}"),
        (Some(_), None) => panic!("{name} must fail in {mode}"),
    }
}

fn check_matrix(memory64: bool) {
    for stable in [StableAccess::Native, StableAccess::Host] {
        // With the counter in a global a module is compiled once, traps or not.
        let counter = Counter::Global;
        let engine = Engine::new(EngineConfig { stable, counter, ..EngineConfig::default() }).unwrap();
        for (name, letters) in MATRIX {
            let function = system_api::lookup(name).unwrap();
            if memory64 && function.wasm32_only {
                continue;
            }
            for ((context, mode), outcome) in CONTEXTS.into_iter().zip(call(&engine, function, memory64)) {
                check(context, function, letters, mode, &outcome);
            }
        }
    }
}

#[test]
fn the_matrix_with_a_32_bit_heap() {
    with_stack(|| check_matrix(false));
}

#[test]
fn the_matrix_with_a_64_bit_heap() {
    with_stack(|| check_matrix(true));
}

#[test]
fn the_matrix_has_every_function() {
    let mut names: Vec<&str> = MATRIX.iter().map(|(name, _)| *name).collect();
    let mut all: Vec<&str> = system_api::all().iter().map(|function| function.name).collect();
    names.sort_unstable();
    all.sort_unstable();
    assert_eq!(names, all);
}

/// Cycles burned in a replicated query are gone: cycles are among the few things that it may change.
#[test]
fn a_replicated_query_burns_cycles() {
    with_stack(|| {
        let engine = Engine::new(EngineConfig::default()).unwrap();
        let mut subject = Subject::installed(
            &engine,
            r#"(module (import "ic0" "cycles_burn128" (func $burn (param i64 i64 i32)))
              (import "ic0" "msg_reply" (func $reply)) (memory 1)
              (func (export "canister_query t") (call $burn (i64.const 0) (i64.const 1000) (i32.const 0)) call $reply))"#,
        );
        let before = subject.canister.system().cycles;
        assert_eq!(subject.update("t", &[]).response, Response::Reply(Vec::new()));
        assert_eq!(subject.canister.system().cycles, before - 1000);
    });
}

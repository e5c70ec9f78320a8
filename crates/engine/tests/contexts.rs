//! Every system function in every context that can be entered today: allowed where the specification says so, refused
//! with its text everywhere else.

use bedstone_engine::{
    Counter, Engine, EngineConfig, Entry, Fault, InstallMode, Outcome, Response, StableAccess,
};
use bedstone_instrument::system_api::{self, ApiType, SystemFunction};

use crate::support::{Subject, with_stack};

/// Contexts by the specification's letters (H and T are both its T), and their names in texts.
const CONTEXTS: [(&str, &str); 10] = [
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
];

const EVERYWHERE: &str = "s I G U RQ NRQ CQ F H T";
const NOT_START: &str = "I G U RQ NRQ CQ F H T";
const ARGUMENT: &str = "I U RQ NRQ CQ F";
const ANSWER: &str = "U RQ NRQ CQ";
const NOWHERE: &str = "";

/// The matrix of the specification, for the functions that are built.
const MATRIX: [(&str, &str); 52] = [
    ("msg_arg_data_size", ARGUMENT),
    ("msg_arg_data_copy", ARGUMENT),
    ("msg_caller_size", NOT_START),
    ("msg_caller_copy", NOT_START),
    ("msg_reject_code", NOWHERE),
    ("msg_reject_msg_size", NOWHERE),
    ("msg_reject_msg_copy", NOWHERE),
    ("msg_deadline", ANSWER),
    ("msg_reply_data_append", ANSWER),
    ("msg_reply", ANSWER),
    ("msg_reject", ANSWER),
    ("msg_cycles_available128", "U RQ"),
    ("msg_cycles_available", "U RQ"),
    ("msg_cycles_refunded128", NOWHERE),
    ("msg_cycles_refunded", NOWHERE),
    ("msg_cycles_accept128", "U RQ"),
    ("msg_cycles_accept", "U RQ"),
    ("cycles_burn128", "I G U RQ H T"),
    ("canister_self_size", NOT_START),
    ("canister_self_copy", NOT_START),
    ("canister_cycle_balance128", NOT_START),
    ("canister_cycle_balance", NOT_START),
    ("canister_status", NOT_START),
    ("canister_version", NOT_START),
    ("msg_method_name_size", "F"),
    ("msg_method_name_copy", "F"),
    ("accept_message", "F"),
    ("stable64_size", EVERYWHERE),
    ("stable64_grow", EVERYWHERE),
    ("stable64_read", EVERYWHERE),
    ("stable64_write", EVERYWHERE),
    ("stable_size", EVERYWHERE),
    ("stable_grow", EVERYWHERE),
    ("stable_read", EVERYWHERE),
    ("stable_write", EVERYWHERE),
    ("certified_data_set", "I G U H T"),
    ("data_certificate_present", NOT_START),
    ("data_certificate_size", "NRQ CQ"),
    ("data_certificate_copy", "NRQ CQ"),
    ("time", NOT_START),
    ("global_timer_set", "I G U H T"),
    ("performance_counter", EVERYWHERE),
    ("is_controller", EVERYWHERE),
    ("in_replicated_execution", EVERYWHERE),
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
    let memory = if memory64 { "i64 1" } else { "1" };
    format!(
        r#"(module (import "ic0" "{}" (func $f (param{params}) {result})) (memory {memory})
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
        (export "canister_heartbeat" (func $t)) (export "canister_global_timer" (func $t))"#;
    let mut subject = Subject::installed(engine, &module(function, memory64, exports));
    let entries = [
        Entry::Update("u"),
        Entry::Update("q"),
        Entry::Query("q"),
        Entry::Query("c"),
        Entry::InspectMessage("u"),
        Entry::Heartbeat,
        Entry::GlobalTimer,
    ];
    let mut outcomes = vec![start, init, pre_upgrade];
    outcomes.extend(entries.map(|entry| subject.execute(entry, &[])));
    outcomes
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

/// What is not in the matrix installs and says its name when it is called, and so stays out of the matrix on purpose.
#[test]
fn what_is_not_built_yet_says_so() {
    with_stack(|| {
        let engine = Engine::new(EngineConfig::default()).unwrap();
        for function in
            system_api::all().iter().filter(|function| MATRIX.iter().all(|(name, _)| *name != function.name))
        {
            for memory64 in [false, true].into_iter().filter(|memory64| !(*memory64 && function.wasm32_only))
            {
                let exports = r#"(export "canister_update u" (func $t))"#;
                let outcome =
                    Subject::installed(&engine, &module(function, memory64, exports)).update("u", &[]);
                let Response::Trapped(fault) = &outcome.response else {
                    panic!("{}: {outcome:?}", function.name)
                };
                let text = format!("ic0.{} is not supported by this release of Bedstone", function.name);
                assert_eq!(
                    (fault.code, &*fault.detail),
                    (504, &*format!("Canister violated contract: {text}"))
                );
            }
        }
    });
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

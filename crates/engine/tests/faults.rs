//! Failing executions end with the IC's error code, text and charge, the same in every mode: the table of failing
//! executions measured with production's embedder, `trap` and `debug_print`, and what happens at exactly the limit.

use bedstone_engine::{Engine, EngineConfig, Entry, Fault, InstructionLimits, Outcome, Response};

use crate::support::{MODES, Subject, in_every_mode, with_stack};

/// A module whose method `t` is `body`, with one Wasm page of heap and one of stable memory.
fn module(body: &str) -> String {
    format!(
        r#"(module
          (import "ic0" "msg_reply" (func $reply))
          (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (import "ic0" "debug_print" (func $print (param i32 i32)))
          (import "ic0" "trap" (func $trap (param i32 i32)))
          (type $one (func (param i32))) (type $none (func))
          (table 2 funcref) (elem (i32.const 0) $nothing)
          (memory 1)
          (data (i32.const 100) "stop")
          (func $nothing)
          (func (export "canister_init") (drop (call $grow (i64.const 1))))
          (func (export "canister_update t") {body})
          (func (export "canister_query q") {body}))"#
    )
}

fn fault(outcome: &Outcome) -> &Fault {
    match &outcome.response {
        Response::Trapped(fault) => fault,
        other => panic!("no fault: {other:?}"),
    }
}

/// One row of the table: `t` fails with `code` and `detail` and costs `charge`, whether it is the first message or not,
/// and looks the same in all modes.
fn check(body: &str, code: u16, detail: &str, charge: u64) {
    let (body, detail) = (body.to_owned(), detail.to_owned());
    with_stack(move || {
        let mut same: Option<Outcome> = None;
        for (mode, config) in MODES {
            let engine = Engine::new(config).unwrap();
            let mut subject = Subject::installed(&engine, &module(&body));
            for round in 0..2 {
                let outcome = subject.update("t", &[]);
                let fault = fault(&outcome);
                assert_eq!((fault.code, &*fault.detail), (code, &*detail), "{body}, {mode}, round {round}");
                assert_eq!(outcome.instructions, charge, "{body}, {mode}, round {round}");
                assert_eq!(same.get_or_insert_with(|| outcome.clone()), &outcome, "{body}, {mode}");
            }
        }
    });
}

fn check_trap(body: &str, what: &str, charge: u64) {
    check(body, 502, &format!("Canister trapped: {what}"), charge);
}

/// The charge of a message that used everything up.
const WHOLE: u64 = 40_000_000_000;

fn check_exhausted(body: &str) {
    let text = "Canister exceeded the limit of 40000000000 instructions for single message execution.";
    check(body, 522, text, WHOLE);
}

#[test]
fn a_method_that_does_nothing_has_no_answer() {
    in_every_mode(|mode, engine| {
        let mut subject = Subject::installed(engine, &module(""));
        let outcome = subject.update("t", &[]);
        assert_eq!((outcome.response, outcome.instructions), (Response::None, 1), "{mode}");
    });
}

#[test]
fn unreachable() {
    check_trap("nop unreachable", "unreachable", 3);
}

#[test]
fn division_by_zero() {
    check_trap("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "integer division by 0", 14);
}

#[test]
fn division_overflow() {
    check_trap("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", "unknown", 14);
}

#[test]
fn truncation_of_a_large_float() {
    check_trap("(drop (i32.trunc_f64_s (f64.const 1e300)))", "unknown", 23);
}

#[test]
fn load_across_the_end_of_the_heap() {
    check_trap("(drop (i32.load (i32.const 65533)))", "heap out of bounds", 4);
}

#[test]
fn indirect_calls() {
    check_trap("(call_indirect (type $none) (i32.const 1))", "unknown", 12);
    check_trap("(call_indirect (type $none) (i32.const 9))", "table out of bounds", 12);
    let text = "Canister violated contract: function invocation does not match its signature";
    check("(call_indirect (type $one) (i32.const 7) (i32.const 0))", 504, text, 13);
}

#[test]
fn stable_read_beyond_stable_memory() {
    let body = "(call $read (i64.const 0) (i64.const 65530) (i64.const 8))";
    check_trap(body, "stable memory out of bounds", 37);
}

#[test]
fn stable_read_beyond_the_heap() {
    check_trap("(call $read (i64.const 65530) (i64.const 0) (i64.const 8))", "heap out of bounds", 37);
}

/// The page is charged before the copy finds the end of the heap.
#[test]
fn stable_write_from_beyond_the_heap() {
    check_trap("(call $write (i64.const 0) (i64.const 65530) (i64.const 8))", "heap out of bounds", 1037);
}

/// The charge for 2⁶⁴ − 1 bytes wraps to 19, so that the bounds are what fails.
#[test]
fn stable_reads_of_absurd_lengths() {
    let read = |bytes: &str| format!("(call $read (i64.const 0) (i64.const 0) (i64.const {bytes}))");
    check_trap(&read("-1"), "stable memory out of bounds", 28);
    check_exhausted(&read("-21"));
    check_exhausted(&read("0x8000000000000000"));
    check_exhausted(&read("0x4000000000000000"));
}

#[test]
fn reply_data_from_beyond_the_heap() {
    let text = "Canister violated contract: \
                ic0.msg_reply_data_append heap: src=65530 + length=100 exceeds the slice size=65536";
    check("(call $append (i32.const 65530) (i32.const 100))", 504, text, 5508);
}

#[test]
fn two_replies() {
    let text = "Canister violated contract: ic0.msg_reply: the call is already replied";
    check("call $reply call $reply", 504, text, 1011);
}

#[test]
fn a_method_that_is_not_exported() {
    in_every_mode(|mode, engine| {
        let mut subject = Subject::installed(engine, &module(""));
        for (entry, kind) in [(Entry::Update("u"), "update"), (Entry::Query("u"), "query")] {
            let outcome = subject.execute(entry, &[]);
            let detail = format!("Canister has no {kind} method 'u'");
            assert_eq!((fault(&outcome).code, &fault(&outcome).detail), (536, &detail), "{mode}");
            assert_eq!(outcome.instructions, 0, "{mode}");
        }
    });
}

#[test]
fn an_empty_canister() {
    in_every_mode(|mode, engine| {
        let outcome = Subject::empty(engine).update("t", &[]);
        let text = "Attempted to execute a message, but the canister contains no Wasm module.";
        assert_eq!((fault(&outcome).code, &*fault(&outcome).detail), (537, text), "{mode}");
        assert_eq!(outcome.instructions, 0, "{mode}");
    });
}

#[test]
fn a_trap_pays_for_its_block_and_its_pages() {
    check_trap("(i32.store (i32.const 0) (i32.const 1)) unreachable", "unreachable", 1005);
    // The size operand is charged before the bounds are looked at, and the block to its end.
    let fill = "(memory.fill (i32.const 0) (i32.const 0) (i32.const 200000)) call $reply";
    check_trap(fill, "heap out of bounds", 200_109);
}

#[test]
fn trap_charges_text_and_log() {
    let explicit = |bytes: u32, from: u32, text: &str, charge: u64| {
        let detail = format!("Canister called `ic0.trap` with message: '{text}'");
        check(&format!("(call $trap (i32.const {from}) (i32.const {bytes}))"), 503, &detail, charge);
    };
    explicit(4, 100, "stop", 720);
    explicit(0, 0, "", 508);
    // No more than 32 KiB of it are looked at.
    let mut text = "\0".repeat(32 << 10);
    text.replace_range(100..104, "stop");
    explicit(70_000, 0, &text, 283_500);
    explicit(4, 65_534, "(trap message is out of memory bounds)", 720);
}

#[test]
fn debug_print_charges_what_the_log_has_room_for() {
    in_every_mode(|mode, engine| {
        let print = "(call $print (i32.const 0) (i32.const 4000))";
        let mut subject = Subject::installed(engine, &module(&[print, print, print, "call $reply"].concat()));
        // 1 for the entry, 7 for each call and its arguments, 505 for the reply.
        let expected = 1 + 3 * 7 + 505 + 208_100 + 10_900 + 10_900;
        for _ in 0..2 {
            let outcome = subject.update("t", &[]);
            assert_eq!((outcome.instructions, outcome.log.len()), (expected, 3), "{mode}");
        }
    });
}

#[test]
fn queries_do_not_pay_for_heap_pages_but_for_stable_pages() {
    in_every_mode(|mode, engine| {
        let store = "(i32.store (i32.const 0) (i32.const 1)) call $reply";
        let write = "(call $write (i64.const 0) (i64.const 0) (i64.const 8)) call $reply";
        for (body, charge) in [(store, 509), (write, 1542)] {
            let mut subject = Subject::installed(engine, &module(body));
            for entry in [Entry::Update("q"), Entry::Query("q"), Entry::Update("q")] {
                let outcome = subject.execute(entry, &[]);
                assert_eq!(outcome.instructions, charge, "{body}, {entry:?}, {mode}");
                assert_eq!(outcome.heap_pages_dirtied, 0, "{body}, {entry:?}, {mode}");
            }
        }
    });
}

#[test]
fn stack_overflow() {
    in_every_mode(|mode, engine| {
        let mut subject = Subject::installed(
            engine,
            r#"(module (func $f (export "canister_update t") call $f (drop (i32.const 1))))"#,
        );
        let outcome = subject.update("t", &[]);
        assert_eq!(
            (fault(&outcome).code, &*fault(&outcome).detail),
            (502, "Canister trapped: stack overflow"),
            "{mode}"
        );
        assert!(outcome.instructions > 10_000, "{mode}: {}", outcome.instructions);
    });
}

/// Engines in every mode with this limit for messages.
fn with_limit(message: u64, test: impl Fn(&str, &Engine) + Send + 'static) {
    with_stack(move || {
        for (mode, config) in MODES {
            let instructions = InstructionLimits { message, ..config.instructions };
            test(mode, &Engine::new(EngineConfig { instructions, ..config }).unwrap());
        }
    });
}

fn check_limit(body: &'static str, cost: u64) {
    for limit in [cost, cost - 1] {
        with_limit(limit, move |mode, engine| {
            let outcome = Subject::installed(engine, &module(body)).update("t", &[]);
            assert_eq!(outcome.instructions, limit, "{mode}, {body}");
            if limit == cost {
                assert_eq!(outcome.response, Response::Reply(Vec::new()), "{mode}, {body}");
            } else {
                let text = format!(
                    "Canister exceeded the limit of {limit} instructions for single message execution."
                );
                assert_eq!((fault(&outcome).code, &fault(&outcome).detail), (522, &text), "{mode}, {body}");
            }
        });
    }
}

/// A message may use exactly its limit; one instruction less is one too few.
#[test]
fn the_limit_may_be_used_up() {
    check_limit("call $reply", 506);
    check_limit("call $nothing call $reply", 512);
    check_limit("(memory.fill (i32.const 0) (i32.const 0) (i32.const 1000)) call $reply", 1609);
    check_limit("(call $write (i64.const 0) (i64.const 0) (i64.const 8)) call $reply", 1542);
    check_limit("(call $read (i64.const 0) (i64.const 0) (i64.const 8)) call $reply", 542);
    check_limit("(drop (call $grow (i64.const 1))) call $reply", 613);
}

/// Heap pages are charged after the run: they never fail it, and never take it beyond its limit.
#[test]
fn heap_pages_fit_into_what_is_left() {
    with_limit(1000, |mode, engine| {
        let body =
            "(i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 8192) (i32.const 1)) call $reply";
        let outcome = Subject::installed(engine, &module(body)).update("t", &[]);
        assert_eq!((&outcome.response, outcome.instructions), (&Response::Reply(Vec::new()), 1000), "{mode}");
        assert_eq!(outcome.heap_pages_dirtied, 2, "{mode}");
    });
}

#[test]
fn an_endless_loop_ends() {
    with_limit(5_000_000, |mode, engine| {
        for body in ["(loop $l br $l)", "(loop $l (call $nothing) br $l)"] {
            let outcome = Subject::installed(engine, &module(body)).update("t", &[]);
            assert_eq!((fault(&outcome).code, outcome.instructions), (522, 5_000_000), "{mode}");
        }
    });
}

/// Tail calls are loops too.
#[test]
fn an_endless_tail_call_ends() {
    with_limit(5_000_000, |mode, engine| {
        let wat = r#"(module (func $f (export "canister_update t") (return_call $f)))"#;
        let outcome = Subject::installed(engine, wat).update("t", &[]);
        assert_eq!((fault(&outcome).code, outcome.instructions), (522, 5_000_000), "{mode}");
    });
}

/// At the subnet's own limit, with the instruction that burns most in least time.
#[test]
fn forty_billion_instructions_end() {
    with_stack(|| {
        for (_, config) in &MODES[1..2] {
            let engine = Engine::new(*config).unwrap();
            let body = "(loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 32768)) (br $l))";
            let outcome = Subject::installed(&engine, &module(body)).update("t", &[]);
            let text =
                "Canister exceeded the limit of 40000000000 instructions for single message execution.";
            assert_eq!((&*fault(&outcome).detail, outcome.instructions), (text, WHOLE));
        }
    });
}

/// The Wasm memory limit: growth beyond it fails an update whole, and an update does not even start beyond it. Timers and
/// queries are not held to it.
#[test]
fn the_wasm_memory_limit() {
    let wat = r#"(module (import "ic0" "msg_reply" (func $reply)) (memory 1)
        (func $grow (drop (memory.grow (i32.const 49152))))
        (func (export "canister_update grow") call $grow call $reply)
        (func (export "canister_update nothing") call $reply)
        (func (export "canister_query look") call $reply)
        (func (export "canister_heartbeat") call $grow))"#;
    in_every_mode(move |mode, engine| {
        let mut subject = Subject::installed(engine, wat);
        let text = "Canister exceeded its current Wasm memory limit of 3221225472 bytes. \
                    The peak Wasm memory usage was 3221291008 bytes.";
        let refused = |outcome: &Outcome| (fault(outcome).code, fault(outcome).detail.starts_with(text));
        assert_eq!(refused(&subject.update("grow", &[])), (539, true), "{mode}");
        assert_eq!(subject.canister.heap_bytes(), 65_536, "{mode}");
        assert_eq!(subject.update("nothing", &[]).instructions, 506, "{mode}");
        assert_eq!(subject.execute(Entry::Heartbeat, &[]).response, Response::None, "{mode}");
        assert_eq!(subject.canister.heap_bytes(), 3_221_291_008, "{mode}");
        let outcome = subject.update("nothing", &[]);
        assert_eq!((refused(&outcome), outcome.instructions), ((539, true), 0), "{mode}");
        assert_eq!(subject.query("look", &[]).instructions, 506, "{mode}");
    });
}

/// Where a trapped message is run again to count it, the second run starts with the sizes that the first one found.
#[test]
fn counts_that_depend_on_sizes() {
    let fill = |pages: &str| {
        format!("(memory.fill (i32.const 4096) (i32.const 0) (i32.mul {pages} (i32.const 1000)))")
    };
    let heap = "(drop (memory.grow (i32.const 1))) unreachable";
    check_trap(&[&fill("(memory.size)"), heap].concat(), "unreachable", 1428);
    let stable = "(drop (call $grow (i64.const 1))) unreachable";
    let pages = "(i32.wrap_i64 (call $grow (i64.const 0)))";
    check_trap(&[&fill(pages), stable].concat(), "unreachable", 1320);
}

/// Stable traps name the function even where the canister's own functions have no names, once per call.
#[test]
fn a_stable_trap_names_its_function() {
    let mut wasm = wat::parse_str(module("(call $read (i64.const 0) (i64.const -8) (i64.const 1))")).unwrap();
    // The name section is the last one: `0`, its size, then "name".
    let at = wasm.windows(5).rposition(|bytes| bytes == b"\x04name").unwrap();
    let start =
        (0..at).rev().find(|start| wasm[*start] == 0 && *start + 2 <= at && at - *start <= 6).unwrap();
    wasm.truncate(start);
    in_every_mode(move |mode, engine| {
        let mut subject = Subject::empty(engine);
        let module = engine.compile(&wasm).unwrap();
        subject.install_module(module, bedstone_engine::InstallMode::Install, &[]);
        let outcome = subject.update("t", &[]);
        let backtrace = fault(&outcome).backtrace.as_deref();
        assert_eq!(
            backtrace,
            Some("Canister Backtrace:\nstable64_read\nunknown function at index 9"),
            "{mode}"
        );
    });
}

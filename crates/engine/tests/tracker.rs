//! The fault tracker against the barrier, where messages write more pages than may be open one by one, and where pages stay
//! open from message to message. What small messages do is compared in every other file.

use bedstone_engine::{
    Compiler, Counter, Engine, EngineConfig, InstructionLimits, Outcome, Response, StableAccess, Tracker,
};

use crate::support::{Subject, with_stack};

/// Writes a byte to every `step`th page: of the heap (`heap`), of stable memory (`stable`), or of both and then traps.
const SCATTER: &str = r#"(module
    (import "ic0" "msg_reply" (func $reply))
    (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
    (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
    (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
    (memory $wasm_pages)
    (func (export "canister_init") (drop (call $grow (i64.const $wasm_pages))))
    (func $bounds (result i32 i32 i32)
      (call $arg (i32.const 0) (i32.const 0) (i32.const 12))
      (i32.load (i32.const 8)) (i32.load (i32.const 4)) (i32.load (i32.const 0)))
    (func $heap (local $page i32) (local $end i32) (local $step i32)
      (local.set $step (local.set $end (local.set $page (call $bounds))))
      (loop $next
        (i32.store8 (i32.shl (local.get $page) (i32.const 12))
          (i32.add (i32.load8_u (i32.shl (local.get $page) (i32.const 12))) (i32.const 1)))
        (local.set $page (i32.add (local.get $page) (local.get $step)))
        (br_if $next (i32.lt_u (local.get $page) (local.get $end)))))
    (func $stable (local $page i32) (local $end i32) (local $step i32)
      (local.set $step (local.set $end (local.set $page (call $bounds))))
      (loop $next
        (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
        (call $write (i64.extend_i32_u (i32.shl (local.get $page) (i32.const 12))) (i64.const 16) (i64.const 3))
        (local.set $page (i32.add (local.get $page) (local.get $step)))
        (br_if $next (i32.lt_u (local.get $page) (local.get $end)))))
    (func (export "canister_update heap") (call $heap) (call $reply))
    (func (export "canister_update stable") (call $stable) (call $reply))
    (func (export "canister_update trap") (call $heap) (call $stable) unreachable)
    (func (export "canister_query query") (call $heap) (call $reply)))"#;

fn scatter(wasm_pages: u32) -> String {
    SCATTER.replace("$wasm_pages", &wasm_pages.to_string())
}

fn engine(tracker: Tracker, compiler: Compiler) -> Engine {
    let config = EngineConfig {
        stable: StableAccess::Native,
        counter: Counter::Threaded,
        tracker,
        compiler,
        instructions: InstructionLimits::IC,
        ..EngineConfig::default()
    };
    Engine::new(config).unwrap()
}

fn arg(first: u32, end: u32, step: u32) -> Vec<u8> {
    [first, end, step].into_iter().flat_map(u32::to_le_bytes).collect()
}

fn contents(subject: &Subject) -> (Vec<u8>, Vec<u8>) {
    let mut heap = vec![0; subject.canister.heap_bytes() as usize];
    subject.canister.read_heap(0, &mut heap);
    let mut stable = vec![0; subject.canister.stable_bytes() as usize];
    subject.canister.read_stable(0, &mut stable);
    (heap, stable)
}

/// Sends the same messages under both trackers, to canisters whose memories have so many Wasm pages.
fn same(wasm_pages: u32, messages: &[(&str, Vec<u8>)]) -> Vec<Outcome> {
    let run = |tracker, compiler| {
        let mut subject = Subject::installed(&engine(tracker, compiler), &scatter(wasm_pages));
        let outcomes: Vec<_> = messages
            .iter()
            .map(|(method, arg)| {
                let before = (*method == "trap").then(|| contents(&subject));
                let outcome = match *method {
                    "query" => subject.query(method, arg),
                    _ => subject.update(method, arg),
                };
                assert!(before.is_none_or(|before| before == contents(&subject)), "{tracker:?}: a trace");
                outcome
            })
            .collect();
        (outcomes, contents(&subject))
    };
    let expected = run(Tracker::Barrier, Compiler::Optimising);
    for compiler in [Compiler::Optimising, Compiler::Baseline] {
        let found = run(Tracker::Fault, compiler);
        assert_eq!(expected.0, found.0, "{compiler:?}");
        assert!(expected.1 == found.1, "{compiler:?}: contents");
    }
    expected.0
}

#[test]
fn every_second_page_of_a_large_memory() {
    with_stack(|| {
        const WASM_PAGES: u32 = 2600;
        const PAGES: u32 = WASM_PAGES * 16;
        let all = arg(0, PAGES, 2);
        let outcomes = same(
            WASM_PAGES,
            &[
                ("heap", all.clone()),
                ("stable", all.clone()),
                ("trap", all.clone()),
                ("query", all.clone()),
                ("heap", arg(1, PAGES, 2)),
                ("stable", arg(1, PAGES, 2)),
                ("trap", arg(0, PAGES, 1)),
                ("heap", arg(5, 6, 1)),
            ],
        );
        let half = u64::from(PAGES) / 2;
        assert_eq!(outcomes[0].heap_pages_dirtied, half);
        assert_eq!(outcomes[1].stable_pages_dirtied, half);
        assert!(matches!(&outcomes[2].response, Response::Trapped(_)));
        assert_eq!(outcomes[4].heap_pages_dirtied, half + 1); // and the argument's page
    });
}

#[test]
fn pages_that_stay_open_and_pages_that_do_not() {
    with_stack(|| {
        let mut messages = Vec::new();
        for round in 0..12 {
            for method in ["heap", "stable", "query", "trap", "heap"] {
                messages.push((method, arg(round % 3, 40 + round, 3)));
                messages.push((method, arg(500 + round, 1600, 100 + round % 2)));
            }
        }
        same(100, &messages);
    });
}

#[test]
fn two_threads_at_the_same_time() {
    let run = || {
        let mut subject = Subject::installed(&engine(Tracker::Fault, Compiler::Optimising), &scatter(250));
        for round in 0..30 {
            let outcome = subject.update("heap", &arg(1, 4000, 40));
            assert_eq!(outcome.heap_pages_dirtied, 100 + u64::from(round == 0));
            let outcome = subject.update("trap", &arg(0, 4000, 20));
            assert!(matches!(outcome.response, Response::Trapped(_)));
        }
        let (heap, stable) = contents(&subject);
        let expected = |page: usize| u8::from(page % 40 == 1 && page < 4000) * 30;
        for (page, bytes) in heap.chunks_exact(4096).enumerate().skip(1) {
            assert_eq!(bytes[0], expected(page), "page {page}");
        }
        assert!(stable.iter().all(|byte| *byte == 0));
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, run).unwrap();
        }
    });
}

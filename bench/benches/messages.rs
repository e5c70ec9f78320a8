//! What a message costs: empty ones at growing sizes of stable memory, and ones that dirty pages, kept or rolled back.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use bedstone_bench::{Variant, interleaved, report, with_stack};
use bedstone_engine::{
    CallInfo, Canister, Engine, EngineConfig, Entry, InstallMode, Installation, Message, Principal, Response,
    StableAccess, SystemState,
};

const MODULE: &str = r#"
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (memory 1100)
  (global $a (mut i64) (i64.const 0))
  (func (export "canister_update empty") call $reply)
  (func (export "canister_query empty_query") call $reply)
  (func $number (result i64)
    (call $arg (i32.const 0) (i32.const 0) (i32.const 8)) (i64.load (i32.const 0)))
  (func (export "canister_update grow") (drop (call $grow (call $number))) call $reply)
  (func $stable (param $n i64) (local $i i64)
    (global.set $a (i64.add (global.get $a) (i64.const 1)))
    (i64.store (i32.const 64) (global.get $a))
    (block $done (br_if $done (i64.eqz (local.get $n)))
      (loop $l
        (call $write (i64.mul (local.get $i) (i64.const 4096)) (i64.const 64) (i64.const 64))
        (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (local.get $n))))))
  (func $heap (param $n i64) (local $i i64)
    (global.set $a (i64.add (global.get $a) (i64.const 1)))
    (block $done (br_if $done (i64.eqz (local.get $n)))
      (loop $l
        (i64.store (i32.add (i32.const 65536) (i32.wrap_i64 (i64.mul (local.get $i) (i64.const 4096)))) (global.get $a))
        (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (local.get $n))))))
  (func (export "canister_update stable") (call $stable (call $number)) call $reply)
  (func (export "canister_update stable_trap") (call $stable (call $number)) call $reply call $reply)
  (func (export "canister_update heap") (call $heap (call $number)) call $reply)
  (func (export "canister_update heap_trap") (call $heap (call $number)) call $reply call $reply))
"#;

fn main() {
    with_stack(|| {
        empty_messages();
        dirty_pages();
        accesses();
    });
}

fn subject(config: EngineConfig, wat: &str) -> Canister {
    let engine = Engine::new(config).unwrap();
    let id = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    let mut canister = Canister::new(&engine, SystemState::new(id, Vec::new())).unwrap();
    let module = engine.compile(&wat::parse_str(wat).unwrap()).unwrap();
    let mode = InstallMode::Install;
    let caller = Principal::anonymous();
    let installed =
        canister.install(&Installation { mode, module, arg: &[], caller, time_nanos: 0 }).unwrap();
    assert_eq!(installed.response, Response::None);
    canister
}

fn send(canister: &mut Canister, entry: Entry<'_>, number: u64) -> Response {
    let arg = number.to_le_bytes();
    let message = Message {
        entry,
        arg: &arg,
        caller: Principal::anonymous(),
        time_nanos: 0,
        call: CallInfo::default(),
    };
    canister.execute(&message).unwrap().response
}

/// An empty message must cost the same at any size of stable memory.
fn empty_messages() {
    let sizes: [u64; 4] = [0, 1, 100, 500];
    let mut canisters: Vec<Canister> = sizes
        .iter()
        .map(|gib| {
            let mut canister = subject(EngineConfig::default(), MODULE);
            let reply = send(&mut canister, Entry::Update("grow"), gib << 30 >> 16);
            assert_eq!(reply, Response::Reply(Vec::new()));
            canister
        })
        .collect();
    for (title, entry) in [
        ("empty update, live instance, by GiB of stable memory", Entry::Update("empty")),
        ("empty query", Entry::Query("empty_query")),
    ] {
        let mut variants: Vec<Variant<'_>> = sizes
            .iter()
            .zip(&mut canisters)
            .map(|(gib, canister)| {
                let work = move |times: u64| {
                    for _ in 0..times {
                        assert!(matches!(send(canister, entry, 0), Response::Reply(_)));
                    }
                };
                (format!("{gib} GiB"), Box::new(work) as Box<dyn FnMut(u64)>)
            })
            .collect();
        let nanos = interleaved(&mut variants, 21, 2000);
        report(title, &variants, &nanos);
    }
}

/// Pages already private; time per message, execution and commit or roll-back included.
fn dirty_pages() {
    let mut canister = subject(EngineConfig::default(), MODULE);
    send(&mut canister, Entry::Update("grow"), 8192);
    for method in ["stable", "stable_trap", "heap", "heap_trap"] {
        println!("\n{method}: per message, and per page over no page");
        let mut base = 0.0;
        for pages in [0, 1, 10, 100, 1000, 10_000] {
            let entry = Entry::Update(method);
            let work = |times: u64| {
                for _ in 0..times {
                    send(&mut canister, entry, pages);
                }
            };
            let mut variants: Vec<Variant<'_>> = vec![(String::new(), Box::new(work))];
            let nanos = interleaved(&mut variants, 11, (100_000 / (pages + 10)).max(3))[0];
            if pages == 0 {
                base = nanos;
            }
            let each = if pages == 0 { 0.0 } else { (nanos - base) / pages as f64 };
            println!("  {pages:6} pages {nanos:12.0} ns {each:10.1} ns/page");
        }
    }
}

/// Hot accesses of one size, in a loop inside one message.
fn accesses() {
    let loops = |body: &str| {
        format!(
            r#"(module (import "ic0" "msg_reply" (func $reply))
              (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
              (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
              (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
              (memory 2)
              (func (export "canister_init") (drop (call $grow (i64.const 16))))
              (func $copy (param $to i32) (param $from i32)
                (i64.store (local.get $to) (i64.load (local.get $from))))
              (func (export "canister_update t") (local $i i64)
                (loop $l {body}
                  (br_if $l (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (i64.const 100000))))
                call $reply))"#
        )
    };
    let modes = [
        ("native", StableAccess::Native, false),
        ("best safe host function", StableAccess::Host, false),
        ("usual host function", StableAccess::Host, true),
    ];
    for bytes in [8, 64, 1024] {
        for (what, call) in [("read", "$read"), ("write", "$write")] {
            let slot = "(i64.and (i64.mul (local.get $i) (i64.const 64)) (i64.const 0x3fff))";
            let body = format!("(call {call} {slot} {slot} (i64.const {bytes}))");
            let copy = "(call $copy (i32.wrap_i64 (i64.and (i64.mul (local.get $i) (i64.const 64)) (i64.const 0x3fff))) \
                 (i32.add (i32.const 65536) (i32.wrap_i64 (i64.and (i64.mul (local.get $i) (i64.const 64)) (i64.const 0x3fff)))))";
            let mut subjects =
                vec![("8-byte copy inside the heap", subject(EngineConfig::default(), &loops(copy)))];
            for (name, stable, usual_host_functions) in modes {
                let config = EngineConfig { stable, usual_host_functions, ..EngineConfig::default() };
                subjects.push((name, subject(config, &loops(&body))));
            }
            let mut variants: Vec<Variant<'_>> = subjects
                .iter_mut()
                .map(|(name, canister)| {
                    let work = move |times: u64| {
                        for _ in 0..times.div_ceil(100_000) {
                            assert!(matches!(send(canister, Entry::Update("t"), 0), Response::Reply(_)));
                        }
                    };
                    ((*name).to_owned(), Box::new(work) as Box<dyn FnMut(u64)>)
                })
                .collect();
            let nanos = interleaved(&mut variants, 11, 1_000_000);
            report(&format!("stable {what} of {bytes} bytes, hot, loop included"), &variants, &nanos);
        }
    }
}

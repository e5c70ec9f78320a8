//! Hostile canisters: each comes to its end, and the network is usable afterwards.

use std::time::Duration;

use bedstone::{CallKind, Network, Principal, Receipt};

use crate::support::{Program, register, run, script, scripts, send, to};

/// A canister that never ends, in each of its entry points. A conversion whose result nobody uses counts 20 instructions and
/// compiles to none, so that limits of billions of instructions are reached at once.
fn endless(entries: &str) -> Vec<u8> {
    let busy = "(drop (i32.trunc_sat_f64_s (f64.const 1)))".repeat(1000);
    wat::parse_str(format!(
        r#"(module
          (import "ic0" "msg_reply" (func $reply))
          (memory 1)
          (func $forever (i32.store (i32.const 0) (i32.const 7)) (loop $l {busy} (br $l)))
          (func (export "canister_update ping") call $reply)
          {entries})"#
    ))
    .unwrap()
}

fn install(network: &Network, module: &[u8]) -> Principal {
    let canister = network.create_canister().unwrap();
    network.install(canister, module, ()).unwrap();
    canister
}

fn update(network: &Network, canister: Principal, method: &str) -> Receipt {
    send(network, canister, method, &[], CallKind::Update)
}

#[test]
fn an_endless_loop_ends_at_the_limit_of_its_entry_point() {
    let network = Network::new().unwrap();
    let module = endless(
        r#"(func (export "canister_update forever") call $forever)
           (func (export "canister_query forever_query") call $forever)"#,
    );
    let canister = install(&network, &module);
    let receipt = update(&network, canister, "forever");
    let reject = receipt.reply.unwrap_err();
    assert_eq!((reject.error_code, receipt.instructions), (522, 40_000_000_000));
    assert!(reject.message.contains("the limit of 40000000000 instructions"), "{reject}");
    let receipt = send(&network, canister, "forever_query", &[], CallKind::Query);
    assert_eq!((receipt.reply.unwrap_err().error_code, receipt.instructions), (522, 5_000_000_000));
    // A query that is called as an update has its own limit.
    let receipt = update(&network, canister, "forever_query");
    assert_eq!((receipt.reply.unwrap_err().error_code, receipt.instructions), (522, 5_000_000_000));
    assert_eq!(update(&network, canister, "ping").reply, Ok(vec![]));
}

#[test]
fn an_endless_start_or_init_installs_nothing() {
    let network = Network::new().unwrap();
    for entry in [r#"(func (export "canister_init") call $forever)"#, "(start $forever)"] {
        let canister = network.create_canister().unwrap();
        let error = network.install(canister, &endless(entry), ()).unwrap_err();
        assert_eq!(error.reject().unwrap().error_code, 522, "{error}");
        assert_eq!(network.status(canister).unwrap().unwrap().module_hash, None);
    }
}

#[test]
fn an_endless_inspection_refuses_at_200_million_instructions() {
    let network = Network::new().unwrap();
    let module = endless(r#"(func (export "canister_inspect_message") call $forever)"#);
    let canister = install(&network, &module);
    let reject = update(&network, canister, "ping").reply.unwrap_err();
    assert_eq!(reject.error_code, 522);
    assert!(reject.message.contains("the limit of 200000000 instructions"), "{reject}");
}

/// Heartbeats that use up a round do not keep others' calls from their answers.
#[test]
fn endless_heartbeats_do_not_keep_others_out() {
    let network = Network::new().unwrap();
    let module = endless(r#"(func (export "canister_heartbeat") call $forever)"#);
    let bad = install(&network, &module);
    let good = install(&network, &endless(""));
    for _ in 0..2 {
        assert_eq!(update(&network, good, "ping").reply, Ok(vec![]));
        assert_eq!(update(&network, bad, "ping").reply, Ok(vec![]));
    }
    let log = network.log(bad).unwrap();
    assert!(log.iter().any(|record| String::from_utf8_lossy(&record.content).contains("exceeded the limit")));
    assert!(network.delete_canister(bad).unwrap());
    assert_eq!(update(&network, good, "ping").reply, Ok(vec![]));
}

/// Two canisters that call each other for ever, without anybody who waits for them: other calls get through, and deleting
/// one ends it.
#[test]
fn a_message_loop_leaves_room_for_others_and_ends_with_its_canister() {
    let network = Network::new().unwrap();
    let [a, b, c] = [(); 3].map(|()| {
        let canister = network.create_canister().unwrap();
        crate::support::install_scripted(&network, canister, &script());
        canister
    });
    // Register 9 holds the program that makes the next call and runs in its callback: once more, for ever.
    let body = loop_program(b);
    run(&network, a, &script().push(body.bytes()).store(9).msg_reply()).unwrap();
    run(&network, a, &body.msg_reply()).unwrap();
    let calls = register(&network, b, 0).len();
    assert!(calls > 100, "{calls}");
    for _ in 0..3 {
        assert_eq!(run(&network, c, &script().reply_with(b"fine")), Ok(b"fine".to_vec()));
        assert_eq!(run(&network, b, &script().reply_with(b"fine")), Ok(b"fine".to_vec()));
    }
    assert!(register(&network, b, 0).len() > calls, "it goes on");
    assert!(network.delete_canister(a).unwrap());
    network.advance_time(Duration::ZERO).unwrap();
    let calls = register(&network, b, 0).len();
    network.advance_time(Duration::ZERO).unwrap();
    assert_eq!(register(&network, b, 0).len(), calls, "it has ended");
    assert_eq!(run(&network, c, &script().reply_with(b"fine")), Ok(b"fine".to_vec()));
}

/// Somebody waits for the answer this time. Each message of the loop uses up a round.
#[test]
fn whoever_waits_for_a_message_loop_is_told_after_a_thousand_rounds() {
    let network = Network::new().unwrap();
    let busy = "(drop (i32.trunc_sat_f64_s (f64.const 1)))".repeat(1000);
    let module = format!(
        r#"(module
          (import "ic0" "msg_reply" (func $reply))
          (import "ic0" "canister_self_copy" (func $self (param i32 i32 i32)))
          (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
          (import "ic0" "call_perform" (func $perform (result i32)))
          (memory 1) (data (i32.const 0) "ping") (table 1 funcref) (elem (i32.const 0) $again)
          (func $again (param i32) (local $left i32)
            (local.set $left (i32.const 327300))
            (loop $l {busy} (br_if $l (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
            (call $self (i32.const 100) (i32.const 0) (i32.const 10))
            (call $call_new (i32.const 100) (i32.const 10) (i32.const 0) (i32.const 4)
              (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
            (drop (call $perform)))
          (func (export "canister_update ping") call $reply)
          (func (export "canister_update loop") (call $again (i32.const 0))))"#
    );
    let canister = install(&network, &wat::parse_str(module).unwrap());
    let reject = update(&network, canister, "loop").reply.unwrap_err();
    assert_eq!(reject.code, 6);
    assert!(
        reject.message.ends_with("after 1000 rounds canisters still send each other messages"),
        "{reject}"
    );
    // It goes on, and does not keep anybody from an answer.
    assert_eq!(update(&network, canister, "ping").reply, Ok(vec![]));
    let other = install(&network, &endless(""));
    assert_eq!(update(&network, other, "ping").reply, Ok(vec![]));
}

/// Calls `callee`, and once more in the callback: the program in register 9.
fn loop_program(callee: Principal) -> Program {
    let again = script().load(9).push_u64(1).operation(crate::support::Operation::Repeat);
    script().call(&to(callee, &script().push(b".").append(0).msg_reply()).on_reply(again))
}

#[test]
fn a_flood_of_lines_leaves_the_newest_four_kibibytes() {
    let stage = scripts();
    let a = stage.scripted();
    let program = script().repeat(5000, &script().print("a line of the flood")).print("the last").msg_reply();
    run(&stage, a, &program).unwrap();
    let log = stage.log(a).unwrap();
    let bytes: usize = log.iter().map(|record| 40 + record.content.len()).sum();
    assert!(bytes <= 4096, "{bytes}");
    assert_eq!(log.last().unwrap().content, b"the last");
    assert!(log.len() > 60);
    // One line that is longer than all of it.
    run(&stage, a, &script().fill(b'x', 100_000).debug_print().msg_reply()).unwrap();
    let log = stage.log(a).unwrap();
    assert_eq!(log.last().unwrap().content.len(), 4056);
}

#[test]
fn calls_to_oneself_that_each_make_two_more_end_when_the_queue_is_full() {
    let stage = scripts();
    let a = stage.scripted();
    // Register 9: count, and call oneself twice with the same.
    let again = script().load(9).push_u64(1).operation(crate::support::Operation::Repeat);
    let call = to(a, &again);
    let body = script().push(b".").append(0).call(&call).append(1).call(&call).append(1);
    run(&stage, a, &script().push(body.bytes()).store(9).msg_reply()).unwrap();
    let reply = run(&stage, a, &body);
    assert_eq!(reply.unwrap_err().error_code, 506);
    let made = register(&stage, a, 1).chunks(4).filter(|result| result[0] == 0).count();
    assert_eq!(register(&stage, a, 0).len(), made + 1, "each call that was made ran once");
    assert!(made >= 500, "{made}");
    assert_eq!(run(&stage, a, &script().reply_with(b"fine")), Ok(b"fine".to_vec()));
}

#[test]
fn memory_grows_to_the_limit_and_no_further() {
    let stage = scripts();
    let a = stage.scripted();
    let bytes = || stage.status(a).unwrap().unwrap().heap_bytes;
    let before = bytes();
    // The default limit for updates is 3 GiB.
    let reject = run(&stage, a, &script().heap_grow(50_000).reply()).unwrap_err();
    assert_eq!(reject.error_code, 539, "{reject}");
    assert!(reject.message.contains("Wasm memory limit of 3221225472 bytes"), "{reject}");
    assert_eq!(bytes(), before);
    // Beyond what 32 bits address there is nothing to grow to: the canister is told, and goes on.
    assert_eq!(run(&stage, a, &script().heap_grow(65_536).reply()), Ok(vec![0xff; 4]));
    run(&stage, a, &script().heap_grow(40_000).msg_reply()).unwrap();
    // The canister's allocator may have taken a page too.
    assert!((40_000..=40_001).contains(&((bytes() - before) >> 16)));
    // Stable memory ends at 500 GiB.
    let grow = |pages: u64| run(&stage, a, &script().push_u64(pages).stable64_grow().reply()).unwrap();
    assert_eq!(grow(8_192_001), vec![0xff; 8]);
    assert_eq!(grow(u64::MAX), vec![0xff; 8]);
    assert_eq!(run(&stage, a, &script().reply_with(b"fine")), Ok(b"fine".to_vec()));
}

#[test]
fn a_recursion_without_end_overflows_the_canisters_stack_and_not_the_hosts() {
    let network = Network::new().unwrap();
    let canister = install(
        &network,
        &endless(
            r#"(func $deeper (param i64) (result i64) (i64.add (call $deeper (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))
               (func (export "canister_update recurse") (drop (call $deeper (i64.const 0))))
               (func (export "canister_query recurse_query") (drop (call $deeper (i64.const 0))))"#,
        ),
    );
    for _ in 0..3 {
        let reject = update(&network, canister, "recurse").reply.unwrap_err();
        assert_eq!(reject.error_code, 502);
        assert!(reject.message.contains("Canister trapped: stack overflow"), "{reject}");
        let reject = send(&network, canister, "recurse_query", &[], CallKind::Query).reply.unwrap_err();
        assert!(reject.message.contains("Canister trapped: stack overflow"), "{reject}");
    }
    assert_eq!(update(&network, canister, "ping").reply, Ok(vec![]));
}

/// In an application the same: Motoko's and Rust's decoders meet bytes that say they are deep.
#[test]
fn bytes_that_are_no_candid_end_in_a_trap() {
    let stage = scripts();
    let canisters = [stage.canister("relay"), stage.canister("motoko-counterpart")];
    // A type that is a list of lists of lists without end, and a vector of 2^32 nulls.
    let deep = [&b"DIDL\x01\x6e\x00\x01\x00"[..], &[1; 100_000]].concat();
    let many = b"DIDL\x01\x6d\x7f\x01\x00\xff\xff\xff\xff\x0f".to_vec();
    for canister in canisters {
        for bytes in [&deep, &many] {
            for method in ["accept", "pay"] {
                let reject = send(&stage, canister, method, bytes, CallKind::Update).reply.unwrap_err();
                assert!(matches!(reject.error_code, 502 | 503 | 522), "{reject}");
            }
        }
        stage.update::<(u64,)>(canister, "ping", ()).unwrap();
    }
}

/// Canisters come and go, and take up no room afterwards: an address space holds about 250 at once.
#[test]
fn a_network_in_memory_can_have_had_more_canisters_than_fit() {
    let network = Network::new().unwrap();
    let module = endless("");
    for _ in 0..600 {
        let canister = install(&network, &module);
        assert!(network.delete_canister(canister).unwrap());
    }
    let canister = install(&network, &module);
    assert_eq!(update(&network, canister, "ping").reply, Ok(vec![]));
}

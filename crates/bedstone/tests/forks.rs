//! Copies of whole networks, messages that are awaited later, and what rounds do.

use std::time::Duration;

use bedstone::{Call, CallKind, CyclePrices, Network, Principal};

/// Counts in heap, global and stable memory; `later` sets a timer, whose handler counts too; `ask` calls itself.
const MODULE: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "time" (func $time (result i64)))
  (import "ic0" "global_timer_set" (func $timer (param i64) (result i64)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "canister_self_copy" (func $self (param i32 i32 i32)))
  (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory 2) (table 1 funcref) (elem (i32.const 0) $answered)
  (data (i32.const 300) "add")
  (global $count (mut i64) (i64.const 0))
  (func $answered (param i32) call $show)
  (func (export "canister_init") (drop (call $grow (i64.const 1))))
  (func $add
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (i64.store (i32.const 70000) (global.get $count))
    (call $write (i64.const 5000) (i64.const 70000) (i64.const 8)))
  (func $show
    (i64.store (i32.const 0) (global.get $count))
    (i64.store (i32.const 8) (i64.load (i32.const 70000)))
    (call $read (i64.const 16) (i64.const 5000) (i64.const 8))
    (call $append (i32.const 0) (i32.const 24)) call $reply)
  (func (export "canister_update add") call $add call $show)
  (func (export "canister_update ask") (call $self (i32.const 310) (i32.const 0) (i32.const 10))
    (call $call_new (i32.const 310) (i32.const 10) (i32.const 300) (i32.const 3)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)) (drop (call $perform)))
  (func (export "canister_update later") (drop (call $timer (i64.add (call $time) (i64.const 1000000000)))) call $reply)
  (func (export "canister_global_timer") call $add)
  (func (export "canister_query show") call $show))"#;

fn network() -> (Network, Principal) {
    let network = Network::new().unwrap();
    let canister = network.create_canister().unwrap();
    network.install(canister, &wat::parse_str(MODULE).unwrap(), ()).unwrap();
    (network, canister)
}

fn call(canister: Principal, method: &str, kind: CallKind) -> Call {
    Call { canister, method: method.to_owned(), arg: Vec::new(), caller: Principal::anonymous(), kind }
}

fn numbers(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

fn add(network: &Network, canister: Principal) -> Vec<u64> {
    numbers(&network.call(call(canister, "add", CallKind::Update)).unwrap().reply.unwrap())
}

fn show(network: &Network, canister: Principal) -> Vec<u64> {
    numbers(&network.call(call(canister, "show", CallKind::Query)).unwrap().reply.unwrap())
}

#[test]
fn a_fork_goes_its_own_way() {
    let (network, canister) = network();
    add(&network, canister);
    let (first, second) = (network.fork().unwrap(), network.fork().unwrap());
    assert_eq!(add(&first, canister), [2; 3]);
    assert_eq!(add(&first, canister), [3; 3]);
    assert_eq!(add(&second, canister), [2; 3]);
    assert_eq!(show(&network, canister), [1; 3]);
    // A fork of a fork, and of what has changed since.
    assert_eq!(show(&first.fork().unwrap(), canister), [3; 3]);
    add(&network, canister);
    assert_eq!(show(&network.fork().unwrap(), canister), [2; 3]);
    assert_eq!(show(&second, canister), [2; 3]);
    // New canisters get the ids that the original would give.
    assert_eq!(first.create_canister().unwrap(), network.create_canister().unwrap());
}

#[test]
fn a_fork_outlives_its_original() {
    let (network, canister) = network();
    add(&network, canister);
    let fork = network.fork().unwrap();
    network.close().unwrap();
    assert_eq!(add(&fork, canister), [2; 3]);
}

#[test]
fn timers_go_on_in_a_fork() {
    let (network, canister) = network();
    network.call(call(canister, "later", CallKind::Update)).unwrap().reply.unwrap();
    let fork = network.fork().unwrap();
    assert_eq!(fork.next_event(), Some(Duration::from_secs(1)));
    fork.advance_time(Duration::from_secs(2)).unwrap();
    assert_eq!((show(&fork, canister), show(&network, canister)), (vec![1; 3], vec![0; 3]));
    assert_eq!(fork.next_event(), None);
}

#[test]
fn calls_under_way_go_on_in_a_fork() {
    let (network, canister) = network();
    let message = network.submit(call(canister, "ask", CallKind::Update)).unwrap();
    let fork = network.fork().unwrap();
    // Nobody asks there for the answer, but what was sent is worked on.
    while fork.tick().unwrap().messages > 0 {}
    assert_eq!(show(&fork, canister), [1; 3]);
    assert_eq!(show(&network, canister), [0; 3]);
    let receipt = network.await_call(message).unwrap().unwrap();
    assert_eq!(numbers(&receipt.reply.unwrap()), [1; 3]);
    assert!(network.await_call(message).unwrap().is_none(), "it was answered before");
}

#[test]
fn a_network_with_a_state_directory_is_not_forked() {
    let directory = std::env::temp_dir().join(format!("bedstone-fork-{}", std::process::id()));
    let network = Network::builder().state_dir(&directory).build().unwrap();
    let error = network.fork().unwrap_err().to_string();
    assert!(error.contains("copy the directory"), "{error}");
    drop(network);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn executions_are_paid_for_where_they_cost_something() {
    let network = Network::builder().cycle_prices(CyclePrices::APPLICATION).build().unwrap();
    let canister = network.create_canister().unwrap();
    network.install(canister, &wat::parse_str(MODULE).unwrap(), ()).unwrap();
    let cycles = || network.status(canister).unwrap().unwrap().cycles;
    let before = cycles();
    let receipt = network.call(call(canister, "add", CallKind::Update)).unwrap();
    let ingress = 1_200_000 + 2_000 * 3;
    assert_eq!(before - cycles(), ingress + 5_000_000 + u128::from(receipt.instructions));
    let before = cycles();
    show(&network, canister);
    assert_eq!(before, cycles(), "queries are free");
    // A call to itself: two requests' worth of executions and a callback, and what was set aside comes back.
    let before = cycles();
    let receipt = network.call(call(canister, "ask", CallKind::Update)).unwrap();
    let spent = before - cycles();
    let sent = 260_000 + 1_000 * 3 + 1_000 * 24;
    assert_eq!(spent, ingress + sent + 3 * 5_000_000 + u128::from(receipt.tree_instructions));
}

#[test]
fn memory_is_paid_for_as_time_passes() {
    let network = Network::builder().cycle_prices(CyclePrices::APPLICATION).build().unwrap();
    let canister = network.create_canister().unwrap();
    let module = wat::parse_str(MODULE).unwrap();
    network.install(canister, &module, ()).unwrap();
    let cycles = || network.status(canister).unwrap().unwrap().cycles;
    let before = cycles();
    network.advance_time(Duration::from_millis(86_400_500)).unwrap();
    // Two pages of heap, one of stable memory, and the code; half a second is not paid for yet.
    let bytes = 3 * 65_536 + module.len() as u128;
    assert_eq!(before - cycles(), (bytes * 127_000 * 86_400) >> 30);
    network.advance_time(Duration::from_millis(500)).unwrap();
    assert_eq!(before - cycles(), ((bytes * 127_000 * 86_400) >> 30) + ((bytes * 127_000) >> 30));
}

#[test]
fn a_canister_that_cannot_pay_is_frozen() {
    let dear = CyclePrices { gib_second: 1 << 50, ..CyclePrices::APPLICATION };
    let network = Network::builder().cycle_prices(dear).build().unwrap();
    let canister = network.create_canister().unwrap();
    network.install(canister, &wat::parse_str(MODULE).unwrap(), ()).unwrap();
    network.advance_time(Duration::from_secs(86_400)).unwrap();
    assert_eq!(network.status(canister).unwrap().unwrap().cycles, 0);
    let reject = network.call(call(canister, "show", CallKind::Query)).unwrap().reply.unwrap_err();
    assert_eq!(reject.error_code, 207);
    let reject = network.call(call(canister, "add", CallKind::Update)).unwrap().reply.unwrap_err();
    assert_eq!(reject.error_code, 207);
}

//! Queries beside each other and beside updates: what they see, that they leave nothing, and what they cost.

use std::thread;

use bedstone::{Call, CallKind, Network, Principal, Receipt};

/// A counter in the heap, in a global and in stable memory, with queries that write all of them, grow them, or trap.
const MODULE: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_size" (func $size (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (memory 2)
  (global $count (mut i64) (i64.const 0))
  (func (export "canister_init") (drop (call $grow (i64.const 1))))
  (func $add
    (global.set $count (i64.add (global.get $count) (i64.const 1)))
    (i64.store (i32.const 100) (global.get $count))
    (i64.store (i32.const 70000) (global.get $count))
    (call $write (i64.const 5000) (i64.const 100) (i64.const 8)))
  (func $show
    (i64.store (i32.const 0) (global.get $count))
    (i64.store (i32.const 8) (i64.load (i32.const 100)))
    (i64.store (i32.const 16) (i64.load (i32.const 70000)))
    (call $read (i64.const 24) (i64.const 5000) (i64.const 8))
    (call $append (i32.const 0) (i32.const 32)) call $reply)
  (func (export "canister_update add") call $add call $show)
  (func (export "canister_query show") call $show)
  (func (export "canister_query scribble")
    (global.set $count (i64.const 999))
    (memory.fill (i32.const 60) (i32.const 7) (i32.const 100000))
    (drop (memory.grow (i32.const 3)))
    call $show)
  (func (export "canister_query write_stable") call $add call $show)
  (func (export "canister_query grow_stable")
    (i64.store (i32.const 0) (call $grow (i64.const 5))) (i64.store (i32.const 8) (call $size))
    (call $append (i32.const 0) (i32.const 16)) call $reply)
  (func (export "canister_query fail") (i64.store (i32.const 100) (i64.const 5)) unreachable))"#;

fn network() -> (Network, Principal) {
    let network = Network::new().unwrap();
    let canister = network.create_canister().unwrap();
    network.install(canister, &wat::parse_str(MODULE).unwrap(), ()).unwrap();
    (network, canister)
}

fn send(network: &Network, canister: Principal, method: &str, kind: CallKind) -> Receipt {
    let (method, caller) = (method.to_owned(), Principal::anonymous());
    network.call(Call { canister, method, arg: Vec::new(), caller, kind }).unwrap()
}

fn numbers(receipt: &Receipt) -> Vec<u64> {
    let bytes = receipt.reply.as_ref().unwrap();
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
}

fn show(network: &Network, canister: Principal) -> Vec<u64> {
    numbers(&send(network, canister, "show", CallKind::Query))
}

#[test]
fn a_query_sees_the_last_update_whole() {
    let (network, canister) = network();
    for count in 1..=200 {
        assert_eq!(numbers(&send(&network, canister, "add", CallKind::Update)), [count; 4]);
        assert_eq!(show(&network, canister), [count; 4]);
    }
}

#[test]
fn queries_leave_nothing() {
    let (network, canister) = network();
    send(&network, canister, "add", CallKind::Update);
    for _ in 0..3 {
        let scribbled = numbers(&send(&network, canister, "scribble", CallKind::Query));
        assert_eq!((scribbled[0], scribbled[3]), (999, 1));
        assert_eq!(numbers(&send(&network, canister, "write_stable", CallKind::Query)), [2; 4]);
        assert_eq!(numbers(&send(&network, canister, "grow_stable", CallKind::Query)), [1, 6]);
        assert!(send(&network, canister, "fail", CallKind::Query).reply.is_err());
        assert_eq!(show(&network, canister), [1; 4]);
    }
    assert_eq!(network.status(canister).unwrap().unwrap().stable_bytes, 65_536);
}

/// A query costs the same instructions wherever it runs: as an update it runs on the canister itself.
#[test]
fn queries_cost_what_they_cost_elsewhere() {
    let (network, canister) = network();
    for method in ["show", "scribble", "write_stable", "grow_stable", "fail"] {
        let replicated = send(&network, canister, method, CallKind::Update);
        let query = send(&network, canister, method, CallKind::Query);
        assert_eq!(query.instructions, replicated.instructions, "{method}");
        assert_eq!(query.heap_pages_dirtied, replicated.heap_pages_dirtied, "{method}");
        assert_eq!(query.stable_pages_read, replicated.stable_pages_read, "{method}");
        assert_eq!(query.stable_pages_dirtied, replicated.stable_pages_dirtied, "{method}");
        assert_eq!(query.reply.is_ok(), replicated.reply.is_ok(), "{method}");
    }
}

#[test]
fn queries_of_many_threads_see_whole_states_in_order() {
    let (network, canister) = network();
    const UPDATES: u64 = 300;
    thread::scope(|scope| {
        for reader in 0..4 {
            let network = &network;
            scope.spawn(move || {
                let mut last = 0;
                while last < UPDATES {
                    if reader == 0 {
                        send(network, canister, "scribble", CallKind::Query);
                        send(network, canister, "write_stable", CallKind::Query);
                    }
                    let seen = show(network, canister);
                    assert!(
                        seen[0] >= last && seen.iter().all(|number| *number == seen[0]),
                        "{last}: {seen:?}"
                    );
                    last = seen[0];
                }
            });
        }
        for _ in 0..UPDATES {
            send(&network, canister, "add", CallKind::Update);
        }
    });
}

#[test]
fn queries_follow_new_code() {
    let (network, canister) = network();
    send(&network, canister, "add", CallKind::Update);
    assert_eq!(show(&network, canister), [1; 4]);
    network.upgrade(canister, &wat::parse_str(MODULE).unwrap(), ()).unwrap();
    assert_eq!(show(&network, canister), [0, 0, 0, 1], "the heap is new, stable memory is kept");
    network.reinstall(canister, &wat::parse_str(MODULE).unwrap(), ()).unwrap();
    assert_eq!(show(&network, canister), [0; 4]);
}

/// The certificate that a query finds, or none.
const CERTIFIED: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "certified_data_set" (func $certify (param i32 i32)))
  (import "ic0" "data_certificate_present" (func $present (result i32)))
  (import "ic0" "data_certificate_size" (func $size (result i32)))
  (import "ic0" "data_certificate_copy" (func $copy (param i32 i32 i32)))
  (memory 1) (data (i32.const 10) "something certified")
  (func (export "canister_update certify") (call $certify (i32.const 10) (i32.const 19)) call $reply)
  (func (export "canister_update present")
    (i32.store8 (i32.const 0) (call $present)) (call $append (i32.const 0) (i32.const 1)) call $reply)
  (func (export "canister_query certificate")
    (if (i32.eqz (call $present)) (then unreachable))
    (call $copy (i32.const 100) (i32.const 0) (call $size))
    (call $append (i32.const 100) (call $size)) call $reply))"#;

#[test]
fn queries_hand_certificates_on() {
    let network = Network::new().unwrap();
    let canister = network.create_canister().unwrap();
    network.install(canister, &wat::parse_str(CERTIFIED).unwrap(), ()).unwrap();
    let certificate = || send(&network, canister, "certificate", CallKind::Query).reply.unwrap();
    let before = certificate();
    send(&network, canister, "certify", CallKind::Update).reply.unwrap();
    let after = certificate();
    let contains = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(!contains(&before, b"something certified") && contains(&after, b"something certified"));
    assert!(after.starts_with(&[0xd9, 0xd9, 0xf7]), "self-described CBOR");
    assert_eq!(after, certificate(), "the same until data or time change");
    assert_eq!(send(&network, canister, "present", CallKind::Update).reply.unwrap(), [0]);
}

//! Many canisters, many messages, and that all of it happens the same way each time.

use std::path::PathBuf;
use std::time::Duration;

use bedstone::{Call, CallKind, Durability, Network, Principal};

/// `pass` takes a number, an id and, for each canister, nothing more: it counts, replies, and passes the number less one on
/// to the canister whose id it was set up with.
const RING: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_data_append" (func $data (param i32 i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory 1) (table 1 funcref) (elem (i32.const 0) $nothing)
  (data (i32.const 0) "pass")
  (func $nothing (param i32))
  (func (export "canister_update set") (call $arg (i32.const 100) (i32.const 0) (call $arg_size)) call $reply)
  (func (export "canister_update pass") (local $left i64)
    (call $arg (i32.const 200) (i32.const 0) (i32.const 8))
    (local.set $left (i64.load (i32.const 200)))
    (i64.store (i32.const 300) (i64.add (i64.load (i32.const 300)) (i64.const 1)))
    call $reply
    (if (i64.eqz (local.get $left)) (then return))
    (i64.store (i32.const 200) (i64.sub (local.get $left) (i64.const 1)))
    (call $call_new (i32.const 100) (i32.const 10) (i32.const 0) (i32.const 4)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $data (i32.const 200) (i32.const 8))
    (if (call $perform) (then unreachable)))
  (func (export "canister_query count") (call $append (i32.const 300) (i32.const 8)) call $reply))"#;

fn call(network: &Network, canister: Principal, method: &str, arg: &[u8], kind: CallKind) -> Vec<u8> {
    let (method, arg, caller) = (method.to_owned(), arg.to_vec(), Principal::anonymous());
    network.call(Call { canister, method, arg, caller, kind }).unwrap().reply.unwrap()
}

fn count(network: &Network, canister: Principal) -> u64 {
    let bytes = call(network, canister, "count", &[], CallKind::Query);
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// Canisters, each of which knows the next.
fn ring(network: &Network, members: usize) -> Vec<Principal> {
    let module = wat::parse_str(RING).unwrap();
    let ring: Vec<_> = (0..members).map(|_| network.create_canister().unwrap()).collect();
    for (index, canister) in ring.iter().enumerate() {
        network.install(*canister, &module, ()).unwrap();
        let next = ring[(index + 1) % members];
        call(network, *canister, "set", next.as_slice(), CallKind::Update);
    }
    ring
}

/// Lets a number go round until it is used up.
fn pass(network: &Network, first: Principal, hops: u64) {
    call(network, first, "pass", &(hops - 1).to_le_bytes(), CallKind::Update);
    while network.tick().unwrap().messages > 0 {}
}

#[test]
fn a_ring_of_a_hundred_canisters_passes_a_hundred_thousand_messages() {
    let network = Network::new().unwrap();
    let ring = ring(&network, 100);
    pass(&network, ring[0], 100_000);
    assert!(ring.iter().all(|canister| count(&network, *canister) == 1_000));
}

struct Room(PathBuf);

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An address space holds some 250 canisters; the others are in the state directory until they are called.
#[test]
fn a_thousand_canisters_on_one_machine() {
    let room = Room(std::env::temp_dir().join(format!("bedstone-scale-{}", std::process::id())));
    let durability = Durability::Interval { period: Duration::from_secs(1) };
    let build = || {
        let builder = Network::builder().state_dir(&room.0).durability(durability).live_canisters_max(32);
        builder.build().unwrap()
    };
    let network = build();
    let ring = ring(&network, 1_000);
    pass(&network, ring[0], 3_000);
    assert!(ring.iter().all(|canister| count(&network, *canister) == 3));
    network.close().unwrap();
    let network = build();
    pass(&network, ring[500], 1_000);
    assert!(ring.iter().all(|canister| count(&network, *canister) == 4));
}

#[test]
fn the_same_calls_give_the_same_state() {
    let run = |hops| {
        let network = Network::new().unwrap();
        let ring = ring(&network, 7);
        pass(&network, ring[3], hops);
        network.advance_time(Duration::from_secs(5)).unwrap();
        // In the middle of it, too: between the first message and the rest.
        network
            .submit(Call {
                canister: ring[0],
                method: "pass".to_owned(),
                arg: 100_u64.to_le_bytes().to_vec(),
                caller: Principal::anonymous(),
                kind: CallKind::Update,
            })
            .unwrap();
        let under_way = network.state_hash().unwrap();
        while network.tick().unwrap().messages > 0 {}
        (under_way, network.state_hash().unwrap())
    };
    let (first, second) = (run(1_000), run(1_000));
    assert_eq!(first, second);
    assert_ne!(first.0, first.1);
    assert_ne!(first, run(1_001));
    let network = Network::new().unwrap();
    ring(&network, 3);
    assert_eq!(network.state_hash().unwrap(), network.fork().unwrap().state_hash().unwrap());
}

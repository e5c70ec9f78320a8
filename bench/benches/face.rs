//! What a test pays: a fresh network, a copy of a large one, a canister that is on disk only.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::path::Path;
use std::time::{Duration, Instant};

use bedstone::{Call, CallKind, Durability, Network, Principal};
use bedstone_bench::median;

const ROUNDS: usize = 15;
const MIB: u64 = 1 << 20;

/// Writes stretches of stable memory, and answers a query that takes some microseconds.
const MODULE: &str = r#"
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 2)
  (data (i32.const 65536) "something that is not zero")
  (func (export "canister_init") (drop (call $grow (i64.const 16384))))
  (func (export "canister_update fill") (local $at i64) (local $end i64)
    (call $arg (i32.const 0) (i32.const 0) (i32.const 8))
    (local.set $at (i64.load (i32.const 0)))
    (local.set $end (i64.add (local.get $at) (i64.const 67108864)))
    (loop $l
      (call $write (local.get $at) (i64.const 65536) (i64.const 4096))
      (br_if $l (i64.lt_u (local.tee $at (i64.add (local.get $at) (i64.const 4096))) (local.get $end))))
    call $reply)
  (func (export "canister_query work") (local $i i32)
    (loop $l
      (i64.store (i32.const 128) (i64.add (i64.load (i32.const 128)) (i64.const 3)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50000))))
    call $reply))
"#;

fn main() {
    fresh();
    forks();
    parked();
}

fn report(what: &str, mut samples: Vec<f64>) {
    let middle = median(std::mem::take(&mut samples));
    println!("  {what:64} {middle:10.3} ms");
}

fn call(canister: Principal, method: &str, arg: &[u8], kind: CallKind) -> Call {
    Call { canister, method: method.to_owned(), arg: arg.to_vec(), caller: Principal::anonymous(), kind }
}

/// A network, the sample dapp installed in it, and a call.
fn fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../canisters/prebuilt/stable-memory.wasm");
    let wasm = std::fs::read(path).unwrap();
    let (mut made, mut whole) = (Vec::new(), Vec::new());
    let keep = Network::new().unwrap();
    let first = keep.create_canister().unwrap();
    keep.install(first, &wasm, ()).unwrap();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let network = Network::new().unwrap();
        made.push(start.elapsed().as_secs_f64() * 1e3);
        let canister = network.create_canister().unwrap();
        network.install(canister, &wasm, ()).unwrap();
        let receipt = network.call(call(canister, "read", b"DIDL\0\0", CallKind::Query)).unwrap();
        drop(receipt);
        whole.push(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("\na fresh network, the module compiled before in this process");
    report("Network::new()", made);
    report("the same, a canister, the sample dapp installed, one call", whole);
}

fn forks() {
    let network = Network::new().unwrap();
    let canister = network.create_canister().unwrap();
    network.install(canister, &wat::parse_str(MODULE).unwrap(), ()).unwrap();
    for at in (0..1024).step_by(64) {
        let arg = (at * MIB).to_le_bytes();
        network.call(call(canister, "fill", &arg, CallKind::Update)).unwrap().reply.unwrap();
    }
    let start = Instant::now();
    let mut kept = vec![network.fork().unwrap()];
    println!("\ncopies of a network with 1 GiB of state");
    println!("  {:64} {:10.3} ms", "the first", start.elapsed().as_secs_f64() * 1e3);
    let (mut samples, mut used) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let fork = network.fork().unwrap();
        samples.push(start.elapsed().as_secs_f64() * 1e3);
        fork.call(call(canister, "work", &[], CallKind::Query)).unwrap().reply.unwrap();
        used.push(start.elapsed().as_secs_f64() * 1e3);
        kept.push(fork);
    }
    report("each after it", samples);
    report("the same with a first query", used);
}

/// What a canister takes in memory that is in its state directory only.
fn parked() {
    let resident = || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4.0
    };
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("face-{}", std::process::id()));
    let durability = Durability::Interval { period: Duration::from_secs(1) };
    let builder = Network::builder().state_dir(&room).durability(durability).live_canisters_max(32);
    let network = builder.build().unwrap();
    let module = wat::parse_str("(module (memory 1) (func (export \"canister_update m\")))").unwrap();
    let make = |count: u32| {
        for _ in 0..count {
            let canister = network.create_canister().unwrap();
            network.install(canister, &module, ()).unwrap();
        }
        network.save().unwrap();
    };
    make(200);
    let before = resident();
    make(1000);
    println!("\na thousand small canisters in a state directory, of which 32 are in memory");
    println!("  {:64} {:10.1} KiB", "memory for each", (resident() - before) / 1000.0);
    drop(network);
    let _ = std::fs::remove_dir_all(room);
}

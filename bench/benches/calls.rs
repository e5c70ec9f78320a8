//! Calls between canisters: how many a second on one core, in memory and with every message durable.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bedstone_bench::{median, with_stack};
use bedstone_subnet::engine::store::{Config, FileDisk, Store};
use bedstone_subnet::engine::{EngineConfig, InstallMode, Principal};
use bedstone_subnet::{Call, CallKind, Install, Subnet, SubnetConfig};

/// `go` takes an id and a number: it calls `m` there so many times, one after another, and replies.
const MODULE: &str = r#"
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory 1) (table 1 funcref) (elem (i32.const 0) $next)
  (data (i32.const 0) "m")
  (func $next (param $left i32)
    (if (i32.eqz (local.get $left)) (then call $reply return))
    (call $call_new (i32.const 104) (i32.const 10) (i32.const 0) (i32.const 1)
      (i32.const 0) (i32.sub (local.get $left) (i32.const 1)) (i32.const 0) (i32.const 0))
    (if (call $perform) (then unreachable)))
  (func (export "canister_update go")
    (call $arg (i32.const 100) (i32.const 0) (call $arg_size))
    (call $next (i32.load (i32.const 100))))
  (func (export "canister_update m") call $reply))
"#;

const ROUNDS: usize = 9;

fn subnet(store: Option<Store>) -> (Subnet, [Principal; 2]) {
    let config = SubnetConfig::new(EngineConfig::default(), 1);
    let mut subnet = match store {
        None => Subnet::new(&config).unwrap(),
        Some(store) => Subnet::open(&config, store).unwrap(),
    };
    let module = wat::parse_str(MODULE).unwrap();
    let caller = Principal::anonymous();
    let ids = [(); 2].map(|()| {
        let canister = subnet.create_canister(vec![caller]).unwrap();
        let (mode, module) = (InstallMode::Install, module.clone());
        let receipt = subnet.install(&Install { canister, mode, module, arg: Vec::new(), caller }).unwrap();
        receipt.reply.unwrap();
        canister
    });
    (subnet, ids)
}

/// Calls per second.
fn measure(subnet: &mut Subnet, ids: [Principal; 2], calls: u32) -> f64 {
    let arg = [&calls.to_le_bytes(), ids[1].as_slice()].concat();
    let (canister, method) = (ids[0], "go".to_owned());
    let call = Call { canister, method, arg, caller: Principal::anonymous(), kind: CallKind::Update };
    let start = Instant::now();
    subnet.call(&call).unwrap().reply.unwrap();
    if let (Some(store), Some(lsn)) = (subnet.store(), subnet.appended()) {
        store.wait_durable(lsn).unwrap();
    }
    f64::from(calls) / start.elapsed().as_secs_f64()
}

fn main() {
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("calls-{}", std::process::id()));
    std::fs::create_dir_all(&room).unwrap();
    let inner = room.clone();
    with_stack(move || {
        let disk = Arc::new(FileDisk::new(inner.join("state")));
        let store = Store::open_or_create(disk, &Config::new([9; 32])).unwrap().0;
        let mut memory = subnet(None);
        let mut durable = subnet(Some(store));
        let (mut in_memory, mut on_disk) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            in_memory.push(measure(&mut memory.0, memory.1, 100_000));
            on_disk.push(measure(&mut durable.0, durable.1, 10_000));
        }
        println!("\ncalls between canisters, one after another, each with its reply");
        println!("  in memory                                  {:10.0} a second", median(in_memory));
        println!("  every message durable, awaited at the end  {:10.0} a second", median(on_disk));
    });
    let _ = std::fs::remove_dir_all(room);
}

//! Queries a second, asked by one thread and by two.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bedstone::{Call, CallKind, Network, Principal};

use super::Effort;
use crate::figures::{Figures, Table, times};
use crate::interleave::median;
use crate::subject::module;

/// A query that takes some 50 µs.
const MODULE: &str = r#"
(module
  (import "ic0" "msg_reply" (func $reply))
  (memory 2)
  (func (export "canister_query work") (local $i i32)
    (loop $l
      (i64.store (i32.const 128) (i64.add (i64.load (i32.const 128)) (i64.const 3)))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 50000))))
    call $reply))
"#;

/// See the module's documentation.
pub fn run(effort: Effort) -> Figures {
    let network = Network::new().expect("this machine runs Wasm");
    let wasm = module(MODULE);
    let [a, b] = [(); 2].map(|()| {
        let canister = network.create_canister().expect("an empty network has room");
        network.install(canister, &wasm, ()).expect("a valid module");
        canister
    });
    let variants: [(&str, Vec<Principal>); 3] = [
        ("one thread", vec![a]),
        ("two threads, one canister", vec![a, a]),
        ("two threads, a canister each", vec![a, b]),
    ];
    let mut rounds = Vec::new();
    for _ in 0..effort.pick(5, 15) {
        rounds.push(variants.each_ref().map(|(_, canisters)| rate(&network, canisters)));
    }
    let mut table = Table::new("Queries of some 50 µs", &["asked by", "a second", "÷ one thread"]);
    for (index, (name, _)) in variants.iter().enumerate() {
        let rate = median(rounds.iter().map(|round| round[index]).collect());
        let ratio = median(rounds.iter().map(|round| round[index] / round[0]).collect());
        table.line(*name, [format!("{rate:.0}"), times(ratio)]);
    }
    Figures { tables: vec![table], ..Figures::default() }
}

/// Queries a second, by threads that ask a canister each.
fn rate(network: &Network, canisters: &[Principal]) -> f64 {
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    thread::scope(|scope| {
        for canister in canisters {
            let (done, stop) = (&done, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let call = Call {
                        canister: *canister,
                        method: "work".to_owned(),
                        arg: Vec::new(),
                        caller: Principal::anonymous(),
                        kind: CallKind::Query,
                    };
                    network.call(call).expect("the machine works").reply.expect("the query replies");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

//! Whether size costs anything: empty updates and upgrades of a durable canister, at 1 MiB and at 100 GiB of stable memory.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bedstone_bench::{median, with_stack};
use bedstone_engine::store::{Config, FileDisk, Store};
use bedstone_engine::{
    CallInfo, Canister, Engine, EngineConfig, Entry, InstallMode, Installation, Message, Module, Principal,
    Response, SystemState,
};

/// Counts upgrades, and writes stretches of 64 KiB, 4 KiB of them at once so that all bytes are allocated.
const MODULE: &str = r#"
(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 2)
  (data (i32.const 65536) "something that is not zero")
  (func $number (param $at i32) (result i64)
    (call $arg (i32.const 0) (local.get $at) (i32.const 8)) (i64.load (i32.const 0)))
  (func (export "canister_update empty") call $reply)
  (func (export "canister_update grow") (drop (call $grow (call $number (i32.const 0)))) call $reply)
  (func (export "canister_update fill") (local $at i64) (local $end i64)
    (local.set $at (call $number (i32.const 0)))
    (local.set $end (i64.add (local.get $at) (i64.const 67108864)))
    (loop $l
      (call $write (local.get $at) (i64.const 65536) (i64.const 4096))
      (br_if $l (i64.lt_u (local.tee $at (i64.add (local.get $at) (i64.const 4096))) (local.get $end))))
    call $reply)
  (func (export "canister_post_upgrade")
    (call $write (i64.const 0) (i64.const 65536) (i64.const 8))))
"#;

const ROUNDS: usize = 31;
const ID: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1];
const MIB: u64 = 1 << 20;

/// A canister in a state directory of its own.
struct Subject {
    name: &'static str,
    store: Store,
    canister: Canister,
    module: Arc<Module>,
}

impl Subject {
    /// With `mib` of stable memory, `filled` of them written.
    fn new(engine: &Engine, room: &Path, name: &'static str, mib: u64, filled: u64) -> Self {
        let mut config = Config::new([9; 32]);
        config.background = false;
        let disk = Arc::new(FileDisk::new(room.join(name)));
        let store = Store::open_or_create(disk, &config).unwrap().0;
        let module = engine.compile(wat::parse_str(MODULE).unwrap()).unwrap();
        let canister =
            Canister::new(engine, SystemState::new(Principal::from_slice(&ID), Vec::new())).unwrap();
        let mut subject = Self { name, store, canister, module };
        subject.install(InstallMode::Install);
        subject.send("grow", (mib * MIB) >> 16);
        for at in (0..filled).step_by(64) {
            subject.send("fill", at * MIB);
        }
        subject.store.checkpoint().unwrap();
        subject
    }

    fn send(&mut self, method: &str, number: u64) {
        let arg = number.to_le_bytes();
        let message = Message {
            entry: Entry::Update(method),
            arg: &arg,
            caller: Principal::anonymous(),
            time_nanos: 0,
            call: CallInfo::default(),
        };
        let mut change = self.store.begin();
        let outcome = self.canister.execute_into(&message, &self.store, &mut change).unwrap();
        assert_eq!(outcome.response, Response::Reply(Vec::new()));
        self.store.wait_durable(self.store.append(change).unwrap()).unwrap();
    }

    fn install(&mut self, mode: InstallMode) {
        let module = Arc::clone(&self.module);
        let installation =
            Installation { mode, module, arg: &[], caller: Principal::anonymous(), time_nanos: 0 };
        assert_eq!(self.canister.install(&installation).unwrap().response, Response::None);
        let mut change = self.store.begin();
        self.canister.save(&self.store, &mut change).unwrap();
        self.store.wait_durable(self.store.append(change).unwrap()).unwrap();
    }
}

fn main() {
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("large-{}", std::process::id()));
    std::fs::create_dir_all(&room).unwrap();
    let inner = room.clone();
    with_stack(move || {
        let engine = Engine::new(EngineConfig::default()).unwrap();
        let mut subjects = [
            Subject::new(&engine, &inner, "1 MiB", 1, 0),
            Subject::new(&engine, &inner, "100 GiB, 1 GiB of it written", 100 << 10, 1 << 10),
        ];
        compare(&mut subjects, "empty update, durable", &mut |subject| {
            for _ in 0..100 {
                subject.send("empty", 0);
            }
            100
        });
        compare(&mut subjects, "upgrade, durable", &mut |subject| {
            let mode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: None };
            for _ in 0..10 {
                subject.install(mode);
            }
            10
        });
        compare(&mut subjects, "the canister read from its state directory", &mut |subject| {
            subject.store.checkpoint().unwrap();
            for _ in 0..10 {
                subject.canister = Canister::load(&engine, &subject.store, &ID).unwrap();
            }
            10
        });
    });
    let _ = std::fs::remove_dir_all(room);
}

/// Medians of interleaved rounds, each a number of repetitions.
fn compare(subjects: &mut [Subject; 2], title: &str, work: &mut dyn FnMut(&mut Subject) -> u32) {
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS {
        for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
            let start = Instant::now();
            let times = work(subject);
            if round > 0 {
                samples.push(start.elapsed().as_secs_f64() * 1e6 / f64::from(times));
            }
        }
    }
    let medians = samples.map(median);
    println!("\n{title}");
    for (subject, micros) in subjects.iter().zip(&medians) {
        println!("  {:30} {micros:10.1} µs   {:5.2} x", subject.name, micros / medians[0]);
    }
}

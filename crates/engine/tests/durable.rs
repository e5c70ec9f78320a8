//! Every message in the store: whatever a process did when it ended, the canister comes back as after its last message.

use std::sync::Arc;

use bedstone_engine::store::{Config, FileDisk, Store};
use bedstone_engine::{
    Canister, Engine, Entry, InstallMode, Installation, Message, Principal, Response, WasmMemoryPersistence,
};

use crate::machine::{self, Op, Step, assert_same};
use crate::support::{MODES, Subject, with_stack};

const ID: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 7, 1, 1];

/// A small generator with a fixed sequence.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// Writes all over heap and stable memory, grows them, and traps at times.
fn program(dice: &mut Dice) -> Vec<Step> {
    let mut program: Vec<Step> = (0..1 + dice.below(12))
        .map(|_| match dice.below(12) {
            0 => (Op::Grow, dice.below(2), 0, 0),
            1 => (Op::HeapGrow, dice.below(2), 0, 0),
            2..6 => (Op::Write, dice.below(200_000), dice.below(60_000), dice.below(5000)),
            6 => (Op::Read, dice.below(60_000), dice.below(100_000), dice.below(5000)),
            7 => (Op::SetGlobals, dice.below(1 << 40), 0, 0),
            _ => (Op::Store8, dice.below(65_536), dice.below(256), 0),
        })
        .collect();
    if dice.below(8) == 0 {
        program.push((Op::Unreachable, 0, 0, 0));
    }
    program
}

/// A canister in a directory, and the same canister in memory that nothing ever happens to.
struct Pair {
    directory: std::path::PathBuf,
    engine: Engine,
    store: Option<Store>,
    kept: Option<Canister>,
    twin: Subject,
}

impl Pair {
    fn new(engine: &Engine, name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bedstone-durable-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let twin = Subject::empty(engine);
        let mut pair = Self { directory, engine: engine.clone(), store: None, kept: None, twin };
        pair.open();
        let system = pair.twin.canister.system().clone();
        pair.kept = Some(Canister::new(engine, system).unwrap());
        pair.save();
        pair
    }

    fn open(&mut self) {
        let mut config = Config::new([7; 32]);
        config.background = false;
        let disk = Arc::new(FileDisk::new(self.directory.clone()));
        self.store = Some(Store::open_or_create(disk, &config).unwrap().0);
    }

    /// The process ends, without a word; a new one opens the directory.
    fn kill(&mut self) {
        self.kept = None;
        self.store = None;
        self.open();
        self.kept = Some(Canister::load(&self.engine, self.store.as_ref().unwrap(), &ID).unwrap());
    }

    fn save(&mut self) {
        let store = self.store.as_ref().unwrap();
        let mut change = store.begin();
        self.kept.as_mut().unwrap().save(store, &mut change).unwrap();
        store.wait_durable(store.append(change).unwrap()).unwrap();
    }

    fn run(&mut self, program: &[Step]) {
        let arg = machine::encode(program);
        let message = Message {
            entry: Entry::Update("run"),
            arg: &arg,
            caller: Principal::anonymous(),
            time_nanos: 1_700_000_000_000_000_000,
        };
        let store = self.store.as_ref().unwrap();
        let mut change = store.begin();
        let kept = self.kept.as_mut().unwrap().execute_into(&message, store, &mut change).unwrap();
        store.wait_durable(store.append(change).unwrap()).unwrap();
        assert_eq!(kept, self.twin.canister.execute(&message).unwrap());
    }

    fn install(&mut self, wat: &str, mode: InstallMode) {
        let installation = Installation {
            mode,
            module: self.twin.module(wat),
            arg: &[],
            caller: Principal::anonymous(),
            time_nanos: 1_700_000_000_000_000_000,
        };
        let kept = self.kept.as_mut().unwrap().install(&installation).unwrap();
        assert_eq!(kept, self.twin.canister.install(&installation).unwrap());
        self.save();
    }

    fn check(&self, what: &str) {
        let (kept, twin) = (self.kept.as_ref().unwrap(), &self.twin.canister);
        assert_same(&format!("heap, {what}"), &machine::heap(kept), &machine::heap(twin));
        assert_same(&format!("stable memory, {what}"), &machine::stable(kept), &machine::stable(twin));
        assert_eq!(kept.system(), twin.system(), "{what}");
        assert!(kept.log().records().eq(twin.log().records()), "{what}");
        let globals = kept.globals();
        assert_eq!(globals, twin.globals(), "{what}");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.kept = None;
        self.store = None;
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Messages, kills, checkpoints, pages given back, upgrades of both kinds: in any order.
#[test]
fn canisters_come_back_after_kills() {
    with_stack(|| {
        for (seed, (mode, config)) in (1..).zip(MODES) {
            let mut dice = Dice(seed);
            let mut pair = Pair::new(&Engine::new(config).unwrap(), &seed.to_string());
            let wat = machine::wat(false);
            pair.install(&wat, InstallMode::Install);
            let upgrade =
                |how| InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: Some(how) };
            for round in 0..60 {
                let what = format!("{mode}, round {round}");
                pair.run(&program(&mut dice));
                match dice.below(12) {
                    0..3 => pair.kill(),
                    3 => drop(pair.store.as_ref().unwrap().checkpoint().unwrap()),
                    4 => pair.kept.as_mut().unwrap().shed_now().unwrap(),
                    5 => pair.install(&wat, upgrade(WasmMemoryPersistence::Replace)),
                    6 if round % 3 == 0 => pair.install(&wat, InstallMode::Reinstall),
                    _ => continue,
                }
                pair.check(&what);
            }
            pair.kill();
            pair.check(mode);
            pair.kill();
            pair.check(mode);
        }
    });
}

/// Changes of a few bytes take a few bytes of the log, and a message that changes nothing hardly any.
#[test]
fn the_log_takes_what_changed() {
    with_stack(|| {
        let mut pair = Pair::new(&Engine::new(MODES[1].1).unwrap(), "log");
        pair.install(&machine::wat(false), InstallMode::Install);
        pair.run(&[(Op::Grow, 20, 0, 0)]);
        let logged = |pair: &Pair| pair.store.as_ref().unwrap().progress().unwrap().log_bytes;
        let before = logged(&pair);
        let program: Vec<Step> = (0..100).map(|page| (Op::Write, page * 4096 + 64, 0, 16)).collect();
        pair.run(&program);
        // The argument is read into the heap, and the machine's own state changes too.
        let bytes = logged(&pair) - before;
        assert!(bytes < 100 * 82 + 100 * 40 + 2048, "{bytes} bytes of the log");
        let before = logged(&pair);
        pair.run(&[]);
        let bytes = logged(&pair) - before;
        assert!(bytes < 1024, "{bytes} bytes of the log");
    });
}

/// Stable memory far beyond what is in RAM: the far end is written, survives, and costs nothing in between.
#[test]
fn a_stable_memory_of_500_gib() {
    with_stack(|| {
        let wat = r#"(module
          (import "ic0" "msg_reply" (func $reply)) (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (memory 1) (data (i32.const 0) "both ends")
          (func (export "canister_init")
            (drop (call $grow (i64.const 8192000)))
            (call $write (i64.const 0) (i64.const 0) (i64.const 9))
            (call $write (i64.const 536870911991) (i64.const 0) (i64.const 9)))
          (func (export "canister_query ends")
            (call $read (i64.const 100) (i64.const 0) (i64.const 9))
            (call $read (i64.const 109) (i64.const 536870911991) (i64.const 9))
            (call $append (i32.const 100) (i32.const 18)) call $reply))"#;
        let mut pair = Pair::new(&Engine::new(MODES[1].1).unwrap(), "large");
        pair.install(wat, InstallMode::Install);
        let ends = |pair: &mut Pair| {
            let message = Message {
                entry: Entry::Query("ends"),
                arg: &[],
                caller: Principal::anonymous(),
                time_nanos: 1_700_000_000_000_000_000,
            };
            let kept = pair.kept.as_mut().unwrap();
            assert_eq!(kept.stable_bytes(), 500 << 30);
            let outcome = kept.execute(&message).unwrap();
            assert_eq!(outcome.response, Response::Reply(b"both endsboth ends".to_vec()));
        };
        ends(&mut pair);
        pair.kill();
        ends(&mut pair);
        pair.store.as_ref().unwrap().checkpoint().unwrap();
        pair.kept.as_mut().unwrap().shed_now().unwrap();
        ends(&mut pair);
        pair.kill();
        ends(&mut pair);
    });
}

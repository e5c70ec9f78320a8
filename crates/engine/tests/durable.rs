//! Every message in the store: whatever a process did when it ended, the canister comes back as after its last message.

use std::panic::catch_unwind;
use std::sync::Arc;

use bedstone_engine::store::mutants::activate;
use bedstone_engine::store::{Config, FileDisk, Store};
use bedstone_engine::{
    CallInfo, Canister, Engine, EngineConfig, Entry, InstallMode, Installation, Message, Principal, Response,
    WasmMemoryPersistence,
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
    /// A mistake that is made with `kept`, and not with its twin.
    mistake: Option<Mistake>,
}

/// What is done with a canister.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Messages,
    GivingPagesBack,
    Loading,
}

/// One of the engine's seeded mistakes.
#[derive(Debug, Clone, Copy)]
struct Mistake {
    name: &'static str,
    /// During what it is made.
    doing: Doing,
}

impl Mistake {
    /// Numbers 30 to 34 of the list of mistakes that have to be noticed. Opening a mapping before the log is applied to its
    /// file is two: pages given back that were committed anew, and a parked canister that is taken back.
    const ALL: [Self; 5] = [
        Self { name: "QUERY_KEPT", doing: Doing::Messages },
        Self { name: "SIZE_KEPT_ON_TRAP", doing: Doing::Messages },
        Self { name: "MAPPED_BEFORE_APPLIED", doing: Doing::GivingPagesBack },
        Self { name: "MAPPED_BEFORE_APPLIED", doing: Doing::Loading },
        Self { name: "PRE_IMAGE_TAKEN_LATE", doing: Doing::Messages },
    ];
}

impl Pair {
    fn new(engine: &Engine, name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bedstone-durable-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let twin = Subject::empty(engine);
        let mut pair =
            Self { directory, engine: engine.clone(), store: None, kept: None, twin, mistake: None };
        pair.open();
        let system = pair.twin.canister.system().clone();
        pair.kept = Some(Canister::new(engine, system).unwrap());
        pair.save();
        pair
    }

    /// Does something, with the mistake if it is one of that.
    fn wrongly<R>(&mut self, doing: Doing, work: impl FnOnce(&mut Self) -> R) -> R {
        activate(self.mistake.filter(|mistake| mistake.doing == doing).map(|mistake| mistake.name));
        let result = work(self);
        activate(None);
        result
    }

    fn shed(&mut self) {
        self.wrongly(Doing::GivingPagesBack, |pair| pair.kept.as_mut().unwrap().shed_now().unwrap());
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
        self.load();
    }

    fn load(&mut self) {
        let store = self.store.clone().unwrap();
        let load = |pair: &mut Self| Canister::load(&pair.engine, &store, &ID).unwrap();
        self.kept = Some(self.wrongly(Doing::Loading, load));
    }

    /// Lets the canister go, as one that has not been used for long, and takes it back.
    fn park(&mut self) {
        self.kept = None;
        self.load();
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
            call: CallInfo::default(),
        };
        let store = self.store.clone().unwrap();
        let mut change = store.begin();
        let kept = self.wrongly(Doing::Messages, |pair| {
            pair.kept.as_mut().unwrap().execute_into(&message, &store, &mut change).unwrap()
        });
        store.wait_durable(store.append(change).unwrap()).unwrap();
        assert_eq!(kept, self.twin.canister.execute(&message).unwrap());
    }

    fn look(&mut self, program: &[Step]) {
        let arg = machine::encode(program);
        let message = Message {
            entry: Entry::Query("look"),
            arg: &arg,
            caller: Principal::anonymous(),
            time_nanos: 1_700_000_000_000_000_000,
            call: CallInfo::default(),
        };
        let kept =
            self.wrongly(Doing::Messages, |pair| pair.kept.as_mut().unwrap().execute(&message).unwrap());
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

/// Messages, kills, checkpoints, pages given back, upgrades of both kinds: in any order. Panics if a canister that lives
/// with the mistake is told from one that does not.
fn life(name: &str, config: EngineConfig, seed: u64, mistake: Option<Mistake>) {
    let mut dice = Dice(seed);
    let mut pair = Pair::new(&Engine::new(config).unwrap(), &format!("{seed}-{}", mistake.is_some()));
    pair.mistake = mistake;
    let wat = machine::wat(false);
    pair.install(&wat, InstallMode::Install);
    let upgrade = |how| InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: Some(how) };
    for round in 0..60 {
        let what = format!("{name}, round {round}");
        pair.run(&program(&mut dice));
        match dice.below(14) {
            0..3 => pair.kill(),
            3 => drop(pair.store.as_ref().unwrap().checkpoint().unwrap()),
            4 => pair.shed(),
            5 => pair.install(&wat, upgrade(WasmMemoryPersistence::Replace)),
            6 if round % 3 == 0 => pair.install(&wat, InstallMode::Reinstall),
            7 => pair.park(),
            8 => pair.look(&program(&mut dice)),
            _ => continue,
        }
        pair.check(&what);
    }
    pair.kill();
    pair.check(name);
    pair.kill();
    pair.check(name);
}

#[test]
fn canisters_come_back_after_kills() {
    with_stack(|| {
        for (seed, (mode, config)) in (1..).zip(MODES) {
            life(mode, config, seed, None);
        }
    });
}

/// The life above is not blind.
#[test]
fn mistakes_are_noticed() {
    with_stack(|| {
        let (mode, config) = MODES[1];
        for mistake in Mistake::ALL {
            let noticed =
                (1..20).any(|seed| catch_unwind(|| life(mode, config, seed, Some(mistake))).is_err());
            activate(None);
            assert!(noticed, "nobody notices {mistake:?}");
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
                call: CallInfo::default(),
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

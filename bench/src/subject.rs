//! A canister to be measured: an engine's, without network, queue or store around it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedstone_engine::store::{Change, Config as StoreConfig, FileDisk, Store};
use bedstone_engine::{
    CallInfo, Canister, Counter, Engine, EngineConfig, Entry, InstallMode, Installation, InstructionLimits,
    Message, Outcome, Principal, Response, StableAccess, SystemState, Tracker,
};

/// A canister with code installed.
pub struct Subject {
    /// The canister.
    pub canister: Canister,
}

/// Every canister's id.
const ID: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 1, 1, 1];

/// Far more than the IC allows, so that a message can be long enough to be timed.
const LIMITS: InstructionLimits = InstructionLimits {
    message: 1 << 50,
    query: 1 << 50,
    install: 1 << 50,
    inspect_message: InstructionLimits::IC.inspect_message,
};

/// The default, with limits that no measurement reaches.
pub fn native() -> EngineConfig {
    EngineConfig { instructions: LIMITS, ..EngineConfig::default() }
}

/// Stable memory through host functions that keep the heap at hand.
pub fn best_host() -> EngineConfig {
    EngineConfig { stable: StableAccess::Host, ..native() }
}

/// Stable memory through host functions as they are usually written.
pub fn usual_host() -> EngineConfig {
    EngineConfig { usual_host_functions: true, ..best_host() }
}

/// Neither counter nor tracking: the canister's code as it is, with stable accesses that check their bounds.
pub fn bare() -> EngineConfig {
    EngineConfig { counter: Counter::None, tracker: Tracker::None, ..native() }
}

impl Subject {
    /// Installs a module.
    pub fn new(config: EngineConfig, wasm: &[u8]) -> Self {
        let engine = Engine::new(config).expect("this machine runs Wasm");
        Self::on(&engine, wasm, &[])
    }

    /// Installs a module with an argument on an engine that may have compiled it before.
    pub fn on<'a>(engine: &Engine, wasm: impl Into<Cow<'a, [u8]>>, arg: &[u8]) -> Self {
        let id = Principal::from_slice(&ID);
        let canister = Canister::new(engine, SystemState::new(id, Vec::new())).expect("address space");
        let mut subject = Self { canister };
        let outcome = subject.install(engine, InstallMode::Install, wasm, arg);
        assert!(!is_trap(&outcome), "the installation failed: {:?}", outcome.response);
        subject
    }

    /// Installs a module in a mode.
    pub fn install<'a>(
        &mut self,
        engine: &Engine,
        mode: InstallMode,
        wasm: impl Into<Cow<'a, [u8]>>,
        arg: &[u8],
    ) -> Outcome {
        let module = engine.compile(wasm).expect("a valid module");
        let installation = Installation { mode, module, arg, caller: Principal::anonymous(), time_nanos: 1 };
        self.canister.install(&installation).expect("the machine works")
    }

    /// Sends a message.
    pub fn send(&mut self, entry: Entry<'_>, arg: &[u8]) -> Outcome {
        self.canister.execute(&message(entry, arg)).expect("the machine works")
    }

    /// Sends an update that must be replied to.
    pub fn update(&mut self, method: &str, arg: &[u8]) {
        let outcome = self.send(Entry::Update(method), arg);
        assert!(matches!(outcome.response, Response::Reply(_)), "{method}: {:?}", outcome.response);
    }

    /// Sends a query that must be replied to.
    pub fn query(&mut self, method: &str, arg: &[u8]) {
        let outcome = self.send(Entry::Query(method), arg);
        assert!(matches!(outcome.response, Response::Reply(_)), "{method}: {:?}", outcome.response);
    }

    /// Sends an update that must trap.
    pub fn trap(&mut self, method: &str, arg: &[u8]) {
        let outcome = self.send(Entry::Update(method), arg);
        assert!(is_trap(&outcome), "{method}: {:?}", outcome.response);
    }
}

/// A canister with a store of its own, each of whose messages is durable before the next.
pub struct Durable {
    /// The canister.
    pub subject: Subject,
    engine: Engine,
    store: Store,
}

impl Durable {
    /// Installs a module; the store is a new one in that directory.
    pub fn new(directory: &Path, config: EngineConfig, wasm: &[u8]) -> Self {
        let engine = Engine::new(config).expect("this machine runs Wasm");
        let mut config = StoreConfig::new([9; 32]);
        config.background = false;
        let disk = Arc::new(FileDisk::new(directory));
        let store = Store::create(disk, &config).expect("the disk works");
        let mut durable = Self { subject: Subject::on(&engine, wasm, &[]), engine, store };
        durable.save();
        durable
    }

    /// Saves what did not go through the store.
    pub fn save(&mut self) {
        let mut change = self.store.begin();
        self.subject.canister.save(&self.store, &mut change).expect("the store takes it");
        self.wait(change);
    }

    /// Sends an update that must be replied to, and waits until it is on the disk.
    pub fn update(&mut self, method: &str, arg: &[u8]) {
        let message = message(Entry::Update(method), arg);
        let mut change = self.store.begin();
        let executed = self.subject.canister.execute_into(&message, &self.store, &mut change);
        let outcome = executed.expect("the machine works");
        assert!(matches!(outcome.response, Response::Reply(_)), "{method}: {:?}", outcome.response);
        self.wait(change);
    }

    /// Brings the base files up to date and reads the canister from them.
    pub fn load_again(&mut self) {
        self.store.checkpoint().expect("the disk works");
        let canister = Canister::load(&self.engine, &self.store, &ID).expect("it was saved");
        self.subject = Subject { canister };
    }

    fn wait(&self, change: Change) {
        let lsn = self.store.append(change).expect("the disk works");
        self.store.wait_durable(lsn).expect("the disk works");
    }
}

/// A directory beside the build's output, which is on a disk where temporary directories may be memory. Removed at the
/// end.
pub struct Room {
    path: PathBuf,
}

impl Room {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let program = std::env::current_exe().expect("the program is a file");
        let beside = program.parent().expect("it is in a directory");
        let path = beside.join(format!("measure-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory beside the program");
        Self { path }
    }

    /// A place in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn message<'a>(entry: Entry<'a>, arg: &'a [u8]) -> Message<'a> {
    Message { entry, arg, caller: Principal::anonymous(), time_nanos: 1, call: CallInfo::default() }
}

fn is_trap(outcome: &Outcome) -> bool {
    matches!(outcome.response, Response::Trapped(_))
}

/// A module from text.
pub fn module(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("a valid module")
}

/// A prebuilt canister's module.
pub fn prebuilt(name: &str) -> Vec<u8> {
    let path = prebuilt_folder().join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()))
}

/// Where the prebuilt canisters are.
pub fn prebuilt_folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../canisters/prebuilt"))
}

/// Entries of 32 bytes for `insert_many`, as a Candid argument. Which ones follows from the index of the first.
pub fn entries(first: u64, count: u64) -> Vec<u8> {
    let packed: Vec<u8> = (first * 4..(first + count) * 4).flat_map(|word| mix(word).to_le_bytes()).collect();
    candid::encode_one(packed).expect("bytes can be encoded")
}

/// The step and the finalizer of SplitMix64.
pub fn mix(index: u64) -> u64 {
    let mut word = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

//! The canisters of a subnet and the calls that reach them from outside.
//!
//! Invariants:
//! - One canister executes one message at a time, in the order of arrival.
//! - A call never fails half: its reject means that the canister's memories are what they were.
//! - Ids are given in ascending order and never reused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bedstone_engine::store::{Lsn, Store};
use bedstone_engine::{
    Canister, Engine, EngineConfig, Error, InstallMode, LogRecord, Module, Outcome, Principal, Response,
    Summary, SystemState,
};

use crate::calls::{CallId, Party};
use crate::ingress::Status;
use crate::journal::Journal;
use crate::management::{Actor, ChunkStores, Histories, Outcalls, Randomness, Waiting};
use crate::reject::{Failure, Reject};
use crate::round::Timers;
use crate::saved::Slot;
use crate::snapshots::Snapshots;
use crate::twin::Images;

/// What a subnet is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetConfig {
    /// How canisters are run.
    pub engine: EngineConfig,
    /// Time at the start, in nanoseconds since 1970; a saved subnet's time is kept if it is later.
    pub time_nanos: u64,
    /// Canisters kept in memory; beyond, those used least recently go back to the store, if there is one that keeps every
    /// message. An address space holds about 250.
    pub live_canisters_max: usize,
    /// What randomness and keys for signatures are made of; a saved subnet's is kept.
    pub seed: [u8; 32],
}

impl SubnetConfig {
    /// With the usual number of live canisters, and a seed of zeros.
    pub fn new(engine: EngineConfig, time_nanos: u64) -> Self {
        Self { engine, time_nanos, live_canisters_max: LIVE_CANISTERS_MAX, seed: [0; 32] }
    }
}

/// See [`SubnetConfig::live_canisters_max`].
const LIVE_CANISTERS_MAX: usize = 128;

/// Whether a call's effects are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// An update call.
    Update,
    /// A query call.
    Query,
}

/// A call from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The canister called.
    pub canister: Principal,
    /// Its method.
    pub method: String,
    /// The argument's bytes.
    pub arg: Vec<u8>,
    /// Who calls.
    pub caller: Principal,
    /// Update or query.
    pub kind: CallKind,
}

/// A request to install code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Into which canister.
    pub canister: Principal,
    /// How.
    pub mode: InstallMode,
    /// The module, Wasm or gzip.
    pub module: Vec<u8>,
    /// The argument of `canister_init` or `canister_post_upgrade`.
    pub arg: Vec<u8>,
    /// Who asks; must be a controller.
    pub caller: Principal,
}

/// What became of a call, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The reply's bytes, or why there is none.
    pub reply: Result<Vec<u8>, Reject>,
    /// Instructions charged to the canister that was called, page charges included, its callbacks among them.
    pub instructions: u64,
    /// Those of all canisters that the call led to.
    pub tree_instructions: u64,
    /// Heap pages (4 KiB) whose contents changed.
    pub heap_pages_dirtied: u64,
    /// Stable pages (4 KiB) read or written.
    pub stable_pages_read: u64,
    /// Stable pages (4 KiB) written.
    pub stable_pages_dirtied: u64,
    /// Lines that the canister logged, a trap's line among them.
    pub log: Vec<Vec<u8>>,
}

/// A canister as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanisterStatus {
    /// Its id.
    pub id: Principal,
    /// SHA-256 of the installed module.
    pub module_hash: Option<[u8; 32]>,
    /// Who controls it.
    pub controllers: Vec<Principal>,
    /// Goes up with every change.
    pub version: u64,
    /// Bytes of heap: of all memories that the module declares.
    pub heap_bytes: u64,
    /// Bytes of stable memory.
    pub stable_bytes: u64,
    /// Cycles held.
    pub cycles: u128,
}

impl CanisterStatus {
    fn new(system: &SystemState, module_hash: Option<[u8; 32]>, heap_bytes: u64, stable_bytes: u64) -> Self {
        let controllers = system.controllers.clone();
        let (version, cycles) = (system.version, system.cycles);
        Self { id: system.id, module_hash, controllers, version, heap_bytes, stable_bytes, cycles }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Subnet {
    pub(crate) engine: Engine,
    pub(crate) time_nanos: u64,
    pub(crate) canisters: BTreeMap<Principal, Slot>,
    pub(crate) names: BTreeMap<String, Principal>,
    pub(crate) next_id: u64,
    pub(crate) store: Option<Store>,
    /// The last change that was appended to the store.
    pub(crate) appended: Option<Lsn>,
    /// Counts uses of canisters.
    pub(crate) uses: u64,
    pub(crate) live_canisters_max: usize,
    /// The state directory is about to be removed.
    pub(crate) abandoned: bool,
    /// Canisters deleted since the last save, for the store to erase.
    pub(crate) deleted: Vec<Canister>,
    /// Canisters, the management canister among them, as ones that call and are called.
    pub(crate) parties: BTreeMap<Principal, Party>,
    /// Those with mail, the next one first.
    pub(crate) ready: VecDeque<Principal>,
    /// The last number given to a letter, a context, an open call or a message from outside.
    pub(crate) last_call: CallId,
    /// Messages from outside that nobody has asked for since they were answered, and those not answered.
    pub(crate) ingress: BTreeMap<CallId, Status>,
    /// When global timers fire.
    pub(crate) timers: Timers,
    /// Canisters whose low-memory hook is ready.
    pub(crate) hooks: BTreeSet<Principal>,
    /// Canisters that have a heartbeat.
    pub(crate) heartbeats: BTreeSet<Principal>,
    /// Requests to stop a canister that wait until it has stopped.
    pub(crate) stops: BTreeMap<Principal, Vec<Waiting>>,
    /// Canisters as they were copied last.
    pub(crate) images: Images,
    /// Parts of modules that were uploaded.
    pub(crate) chunks: ChunkStores,
    /// What canisters went through.
    pub(crate) histories: Histories,
    /// HTTP requests that wait for their responses.
    pub(crate) outcalls: Outcalls,
    pub(crate) randomness: Randomness,
    /// When best-effort calls end: time, canister, open call.
    pub(crate) deadlines: BTreeSet<(u64, Principal, CallId)>,
    pub(crate) snapshots: Snapshots,
}

impl Subnet {
    /// An empty subnet that lives in memory.
    ///
    /// # Errors
    /// If this machine cannot run compiled Wasm.
    pub fn new(config: &SubnetConfig) -> Result<Self, Error> {
        Ok(Self::on(Engine::new(config.engine)?, config))
    }

    /// An empty subnet that lives in memory, on an engine that others may use too.
    pub fn on(engine: Engine, config: &SubnetConfig) -> Self {
        Self {
            engine,
            time_nanos: config.time_nanos,
            canisters: BTreeMap::new(),
            names: BTreeMap::new(),
            next_id: 0,
            store: None,
            appended: None,
            uses: 0,
            live_canisters_max: config.live_canisters_max.max(1),
            abandoned: false,
            deleted: Vec::new(),
            parties: BTreeMap::new(),
            ready: VecDeque::new(),
            last_call: 0,
            ingress: BTreeMap::new(),
            timers: Timers::default(),
            hooks: BTreeSet::new(),
            heartbeats: BTreeSet::new(),
            stops: BTreeMap::new(),
            images: Images::new(),
            chunks: ChunkStores::default(),
            histories: Histories::default(),
            outcalls: Outcalls::default(),
            randomness: Randomness { seed: config.seed, drawn: 0 },
            deadlines: BTreeSet::new(),
            snapshots: Snapshots::default(),
        }
    }

    /// A subnet like this one, without canisters.
    pub(crate) fn empty_twin(&self) -> Self {
        Self {
            engine: self.engine.clone(),
            time_nanos: self.time_nanos,
            canisters: BTreeMap::new(),
            names: self.names.clone(),
            next_id: self.next_id,
            store: None,
            appended: None,
            uses: self.uses,
            live_canisters_max: self.live_canisters_max,
            abandoned: false,
            deleted: Vec::new(),
            snapshots: self.snapshots.clone(),
            parties: self.parties.clone(),
            ready: self.ready.clone(),
            last_call: self.last_call,
            ingress: BTreeMap::new(),
            timers: self.timers.clone(),
            hooks: self.hooks.clone(),
            heartbeats: self.heartbeats.clone(),
            stops: self.stops.clone(),
            chunks: self.chunks.clone(),
            histories: self.histories.clone(),
            outcalls: self.outcalls.clone(),
            randomness: self.randomness,
            images: Images::new(),
            deadlines: self.deadlines.clone(),
        }
    }

    /// The time that canisters see, in nanoseconds since 1970.
    pub fn time_nanos(&self) -> u64 {
        self.time_nanos
    }

    /// Moves time on, which never goes back, and runs a round: due timers fire.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn advance_to(&mut self, time_nanos: u64) -> Result<(), Error> {
        self.set_time(time_nanos)?;
        self.tick().map(drop)
    }

    /// Moves time on, which never goes back, and runs nothing.
    ///
    /// # Errors
    /// If the store fails.
    pub fn set_time(&mut self, time_nanos: u64) -> Result<(), Error> {
        self.time_nanos = self.time_nanos.max(time_nanos);
        self.keep_head()
    }

    /// Makes an empty canister with the next id.
    ///
    /// # Errors
    /// If this machine has no address space for another stable memory.
    pub fn create_canister(&mut self, controllers: Vec<Principal>) -> Result<Principal, Error> {
        let id = self.next_canister_id();
        let actor = Actor::User(controllers.first().copied().unwrap_or(Principal::anonymous()));
        let mut journal = Journal::begin(self.keeper());
        let added = self.add_canister(SystemState::new(id, controllers), actor, &mut journal);
        if let Err(error) = added.and_then(|()| self.append_journal(id, journal)) {
            self.canisters.remove(&id);
            return Err(error);
        }
        Ok(id)
    }

    /// Gives a canister a name, for people.
    ///
    /// # Errors
    /// If the store fails.
    pub fn name_canister(&mut self, name: &str, id: Principal) -> Result<(), Error> {
        self.names.insert(name.to_owned(), id);
        self.keep_name(name)
    }

    /// The canister of that name.
    pub fn canister_named(&self, name: &str) -> Option<Principal> {
        self.names.get(name).copied()
    }

    /// Names and ids, in order of the names.
    pub fn names(&self) -> impl Iterator<Item = (&str, Principal)> {
        self.names.iter().map(|(name, id)| (name.as_str(), *id))
    }

    /// Ids of all canisters, ascending.
    pub fn canisters(&self) -> impl Iterator<Item = Principal> {
        self.canisters.keys().copied()
    }

    /// Removes a canister and all that belongs to it. Whether there was one.
    ///
    /// # Errors
    /// If what was saved of it cannot be read.
    pub fn delete_canister(&mut self, id: Principal) -> Result<bool, Error> {
        if self.awake(id)?.is_none() {
            return Ok(false);
        }
        let mut journal = Journal::begin(self.keeper());
        self.remove_canister(id, &mut journal)?;
        self.append_journal(id, journal)?;
        Ok(true)
    }

    /// A canister, read from the store if it has not been used yet.
    ///
    /// # Errors
    /// If what was saved of it cannot be read.
    pub fn canister(&mut self, id: Principal) -> Result<Option<&mut Canister>, Error> {
        self.awake(id)
    }

    /// A canister as seen from outside. One that is in the store only stays there.
    ///
    /// # Errors
    /// If what was saved of it cannot be read.
    pub fn status(&mut self, id: Principal) -> Result<Option<CanisterStatus>, Error> {
        if let (Some(Slot::Asleep), Some(store)) = (self.canisters.get(&id), &self.store) {
            let summary = Summary::load(store, id.as_slice())?;
            let (heap_bytes, stable_bytes) = (summary.heap_bytes, summary.stable_bytes);
            let status = CanisterStatus::new(&summary.system, summary.module_hash, heap_bytes, stable_bytes);
            return Ok(Some(status));
        }
        self.charge_upkeep(id)?;
        Ok(self.awake(id)?.map(|canister| {
            let module_hash = canister.module().map(|module| module.hash());
            let heap_bytes = (0..canister.memory_count()).map(|index| canister.memory_bytes(index)).sum();
            CanisterStatus::new(canister.system(), module_hash, heap_bytes, canister.stable_bytes())
        }))
    }

    /// A canister's log, oldest record first.
    ///
    /// # Errors
    /// If what was saved of it cannot be read.
    pub fn log(&mut self, id: Principal) -> Result<Option<Vec<LogRecord>>, Error> {
        Ok(self.awake(id)?.map(|canister| canister.log().records().cloned().collect()))
    }

    /// Installs code. The receipt's reply is empty on success.
    ///
    /// # Errors
    /// If this machine fails; everything else is a reject.
    pub fn install(&mut self, install: &Install) -> Result<Receipt, Error> {
        let id = install.canister;
        let Some(canister) = self.awake(id)? else {
            return Ok(rejected(no_such_canister(id)));
        };
        if !canister.system().controllers.contains(&install.caller) {
            return Ok(rejected(not_a_controller(id, &canister.system().controllers, install.caller)));
        }
        let mut journal = Journal::begin(self.keeper());
        let outcome = match self.install_code(install, Actor::User(install.caller), &mut journal) {
            Ok(outcome) => outcome,
            Err(Failure::Reject(reject)) => return Ok(rejected(reject)),
            Err(Failure::Error(error)) => return Err(error),
        };
        self.append_journal(id, journal)?;
        Ok(receipt(outcome, |response| installed(id, &response)))
    }

    /// Compiles a module, or finds it compiled.
    ///
    /// # Errors
    /// If it is not a module that the IC accepts.
    pub fn compile(&self, module: &[u8]) -> Result<Arc<Module>, Error> {
        self.engine.compile(module)
    }

    /// Executes a call. An update runs rounds until it is answered; what becomes of a query stays with the caller.
    ///
    /// # Errors
    /// If this machine fails; everything else is a reject.
    pub fn call(&mut self, call: &Call) -> Result<Receipt, Error> {
        match call.kind {
            CallKind::Update => self.update(call),
            CallKind::Query => self.query(call),
        }
    }
}

/// What an installation answers.
pub(crate) fn installed(id: Principal, response: &Response) -> Result<Vec<u8>, Reject> {
    match response {
        Response::Trapped(fault) => Err(Reject::of_fault(fault, id)),
        _ => Ok(Vec::new()),
    }
}

/// A canister id: the counter, then two bytes that say that it is a canister's.
pub(crate) fn canister_id(counter: u64) -> Principal {
    let mut bytes = [1; 10];
    bytes[..8].copy_from_slice(&counter.to_be_bytes());
    Principal::from_slice(&bytes)
}

/// Somebody who does not control a canister asked for what its controllers may do.
pub(crate) fn not_a_controller(canister: Principal, controllers: &[Principal], caller: Principal) -> Reject {
    let controllers: Vec<String> = controllers.iter().map(Principal::to_text).collect();
    let text = format!(
        "Only the controllers of the canister {canister} can control it.\nCanister's controllers: {}\nSender's ID: {caller}",
        controllers.join(" ")
    );
    Reject::new(512, text)
}

/// A canister that there is not.
pub(crate) fn no_such_canister(id: Principal) -> Reject {
    Reject::new(301, format!("Canister {id} not found"))
}

/// The receipt of what never ran.
pub(crate) fn rejected(reject: Reject) -> Receipt {
    Receipt::of(Err(reject))
}

impl Receipt {
    /// Of an answer that cost nothing.
    pub(crate) fn of(reply: Result<Vec<u8>, Reject>) -> Self {
        Self {
            reply,
            instructions: 0,
            tree_instructions: 0,
            heap_pages_dirtied: 0,
            stable_pages_read: 0,
            stable_pages_dirtied: 0,
            log: Vec::new(),
        }
    }
}

pub(crate) fn receipt(outcome: Outcome, reply: impl FnOnce(Response) -> Result<Vec<u8>, Reject>) -> Receipt {
    Receipt {
        reply: reply(outcome.response),
        instructions: outcome.instructions,
        tree_instructions: outcome.instructions,
        heap_pages_dirtied: outcome.heap_pages_dirtied,
        stable_pages_read: outcome.stable_pages_accessed,
        stable_pages_dirtied: outcome.stable_pages_dirtied,
        log: outcome.log,
    }
}

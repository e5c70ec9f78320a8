//! A network of canisters in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bedstone_subnet::engine::store::{Config as StoreConfig, Durability, FileDisk, Lsn, Progress, Store};
use bedstone_subnet::engine::{
    Compiler, CyclePrices, EngineConfig, InstallMode, LogRecord, Module, Principal, StableAccess, Tracker,
};
use bedstone_subnet::{Call, CallKind, CanisterStatus, Install, Reject, Subnet, SubnetConfig};
use candid::utils::{ArgumentDecoder, ArgumentEncoder, decode_args, encode_args};
use sha2::{Digest, Sha256};

use crate::compile_cache::CompileCache;
use crate::error::Error;
use crate::interface::Interface;
use crate::worker::Worker;

/// The time of a network that was not told another: 2026-01-01, in nanoseconds since 1970.
const DEFAULT_TIME_NANOS: u64 = 1_767_225_600_000_000_000;

/// Canisters, and calls to them.
///
/// A network without a state directory lives in memory. With one ([`NetworkBuilder::state_dir`]) it starts from what is
/// there, and everything that a call returned survives the end of the process and power cuts, unless
/// [`NetworkBuilder::durability`] says otherwise.
#[derive(Debug)]
pub struct Network {
    pub(crate) worker: Worker,
    /// Absent without a state directory.
    store: Option<Store>,
}

/// How to make a [`Network`].
#[derive(Debug, Clone)]
pub struct NetworkBuilder {
    engine: EngineConfig,
    time_nanos: u64,
    state_dir: Option<PathBuf>,
    /// Whether a state directory that is not there is made.
    make_state_dir: bool,
    lock_wait: Duration,
    durability: Durability,
    live_canisters_max: Option<usize>,
    cycle_prices: CyclePrices,
    seed: [u8; 32],
    compile_cache: Option<CompileCache>,
}

/// What became of a call, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The reply's bytes, or why there is none.
    pub reply: Result<Vec<u8>, Reject>,
    /// Instructions charged to the canister that was called, as the IC counts them, its callbacks among them.
    pub instructions: u64,
    /// Instructions of all canisters that the call led to.
    pub tree_instructions: u64,
    /// Heap pages (4 KiB) whose contents changed.
    pub heap_pages_dirtied: u64,
    /// Stable pages (4 KiB) read or written.
    pub stable_pages_read: u64,
    /// Stable pages (4 KiB) written.
    pub stable_pages_dirtied: u64,
    /// How long the execution took here.
    pub wall: Duration,
    /// Lines that the canister printed, a trap's line among them.
    pub log: Vec<String>,
}

/// A picture of a canister's stable memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StableMemory {
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 over size and contents: equal exactly if the memories are.
    pub sha256: [u8; 32],
}

impl Default for NetworkBuilder {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            time_nanos: DEFAULT_TIME_NANOS,
            state_dir: None,
            make_state_dir: true,
            lock_wait: Duration::ZERO,
            durability: Durability::Always,
            live_canisters_max: None,
            cycle_prices: CyclePrices::FREE,
            seed: [0; 32],
            compile_cache: None,
        }
    }
}

impl NetworkBuilder {
    /// How canisters reach their stable memory.
    pub fn stable(mut self, access: StableAccess) -> Self {
        self.engine.stable = access;
        self
    }

    /// With [`StableAccess::Host`]: look the heap up at each access, as host functions usually do. For comparisons only.
    pub fn usual_host_functions(mut self, yes: bool) -> Self {
        self.engine.usual_host_functions = yes;
        self
    }

    /// What makes machine code of modules: by default the optimising compiler. Results are the same; the baseline compiler has
    /// a first call sooner, in code that runs slower.
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.engine.compiler = compiler;
        self
    }

    /// How the pages that a message writes are found: either gives the same results, and state kept under one opens under the
    /// other. [`Tracker::None`] keeps nothing and takes nothing back: it is for measurements.
    pub fn tracker(mut self, tracker: Tracker) -> Self {
        self.engine.tracker = tracker;
        self
    }

    /// The time at the start, in nanoseconds since 1970; a saved network's time is kept if it is later.
    pub fn time_nanos(mut self, time: u64) -> Self {
        self.time_nanos = time;
        self
    }

    /// Where the state is kept; made if it is not there.
    pub fn state_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.state_dir = Some(directory.as_ref().to_owned());
        self.make_state_dir = true;
        self
    }

    /// Where the state is kept; [`Error::NotFound`] if there is none, and none is made.
    pub fn existing_state_dir(self, directory: impl AsRef<Path>) -> Self {
        Self { make_state_dir: false, ..self.state_dir(directory) }
    }

    /// How long to wait for a state directory that another process uses.
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// When what a call did is durable, in a network with a state directory: before the call returns, if nothing is said.
    /// With [`Durability::Off`] at [`Network::save`], and only then.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What executions, calls and memory cost in cycles: nothing ([`CyclePrices::FREE`], the default), or what they cost on an
    /// application subnet ([`CyclePrices::APPLICATION`]), where a canister without cycles is frozen. New canisters have 100
    /// trillion.
    pub fn cycle_prices(mut self, prices: CyclePrices) -> Self {
        self.cycle_prices = prices;
        self
    }

    /// From what the network's keys and its randomness are made. Networks that are built alike with the same seed do the
    /// same; a saved network keeps its own for randomness.
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = seed;
        self
    }

    /// How many canisters stay in memory, in a network with a state directory: those used least recently go back to it and
    /// are read again when they are called. An address space holds about 250.
    pub fn live_canisters_max(mut self, canisters: usize) -> Self {
        self.live_canisters_max = Some(canisters);
        self
    }

    /// Where compiled modules are kept from one process to the next: nowhere, if nothing is said. Results are the same.
    pub fn compile_cache(mut self, cache: CompileCache) -> Self {
        self.compile_cache = Some(cache);
        self
    }

    /// Makes the network.
    ///
    /// # Errors
    /// If the state directory is in use, foreign or damaged, or this machine cannot run Wasm.
    pub fn build(self) -> Result<Network, Error> {
        let worker = Worker::start(move || {
            let mut config = SubnetConfig::new(self.engine, self.time_nanos);
            config.seed = self.seed;
            config.live_canisters_max = self.live_canisters_max.unwrap_or(config.live_canisters_max);
            let engine =
                crate::engines::engine((self.engine, self.seed, self.cycle_prices, self.compile_cache))?;
            let Some(directory) = self.state_dir else { return Ok(Subnet::on(engine, &config)) };
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)
                .map_err(|error| Error::Machine(format!("the system gives no random bytes: {error}")))?;
            let mut store_config = StoreConfig::new(seed);
            store_config.lock_wait = self.lock_wait;
            store_config.durability = self.durability;
            let disk = Arc::new(FileDisk::new(directory));
            let (store, _) = match self.make_state_dir {
                true => Store::open_or_create(disk, &store_config)?,
                false => Store::open(disk, &store_config)?,
            };
            Ok(Subnet::open_on(engine, &config, store)?)
        })?;
        let store = worker.run(|subnet| subnet.store().cloned());
        Ok(Network { worker, store })
    }
}

impl Network {
    /// An empty network in memory, with native stable memory.
    ///
    /// # Errors
    /// If this machine cannot run Wasm.
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// A network with other settings.
    pub fn builder() -> NetworkBuilder {
        NetworkBuilder::default()
    }

    /// A network in memory.
    pub(crate) fn of(worker: Worker) -> Self {
        Self { worker, store: None }
    }

    pub(crate) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Runs work on the canisters' thread, and waits until everything that its result may show is durable.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Subnet) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let (result, appended) = self.worker.run(|subnet| (work(subnet), subnet.appended()));
        self.wait(appended)?;
        result
    }

    fn wait(&self, appended: Option<Lsn>) -> Result<(), Error> {
        if let (Some(store), Some(lsn)) = (&self.store, appended) {
            store.wait_durable(lsn)?;
        }
        Ok(())
    }

    /// Makes an empty canister controlled by the anonymous principal.
    ///
    /// # Errors
    /// If this machine has no address space for another stable memory.
    pub fn create_canister(&self) -> Result<Principal, Error> {
        self.create_canister_for(vec![Principal::anonymous()])
    }

    /// Makes an empty canister with these controllers.
    ///
    /// # Errors
    /// If this machine has no address space for another stable memory.
    pub fn create_canister_for(&self, controllers: Vec<Principal>) -> Result<Principal, Error> {
        self.run(move |subnet| Ok(subnet.create_canister(controllers)?))
    }

    /// Installs a module (Wasm or gzip) into an empty canister, as the anonymous principal.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the module is invalid, the canister is not empty, or `canister_init` fails.
    pub fn install(
        &self,
        canister: Principal,
        module: &[u8],
        args: impl ArgumentEncoder,
    ) -> Result<Receipt, Error> {
        self.install_typed(canister, InstallMode::Install, module, args)
    }

    /// Replaces the module and empties heap and stable memory.
    ///
    /// # Errors
    /// As [`Network::install`].
    pub fn reinstall(
        &self,
        canister: Principal,
        module: &[u8],
        args: impl ArgumentEncoder,
    ) -> Result<Receipt, Error> {
        self.install_typed(canister, InstallMode::Reinstall, module, args)
    }

    /// Replaces the module and keeps stable memory; the heap is kept if both modules ask for it (enhanced orthogonal
    /// persistence).
    ///
    /// # Errors
    /// As [`Network::install`], or if an upgrade hook fails; the old module and all data are then as before.
    pub fn upgrade(
        &self,
        canister: Principal,
        module: &[u8],
        args: impl ArgumentEncoder,
    ) -> Result<Receipt, Error> {
        let keep = self.both_persist_heap(canister, module)?;
        let mode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: keep };
        self.install_typed(canister, mode, module, args)
    }

    fn install_typed(
        &self,
        canister: Principal,
        mode: InstallMode,
        module: &[u8],
        args: impl ArgumentEncoder,
    ) -> Result<Receipt, Error> {
        let arg = encode(args)?;
        let caller = Principal::anonymous();
        let receipt = self.install_code(Install { canister, mode, module: module.to_vec(), arg, caller })?;
        receipt.reply.clone()?;
        Ok(receipt)
    }

    /// `Keep` if the installed and the new module both carry the enhanced-orthogonal-persistence section.
    ///
    /// # Errors
    /// If what was saved of the canister cannot be read.
    pub fn both_persist_heap(
        &self,
        canister: Principal,
        module: &[u8],
    ) -> Result<Option<crate::WasmMemoryPersistence>, Error> {
        let module = module.to_vec();
        self.worker.run(move |subnet| {
            let old = subnet.canister(canister)?.and_then(|canister| {
                canister.module().map(|module| module.manifest().enhanced_orthogonal_persistence)
            });
            // An invalid module is reported by the installation.
            let new =
                subnet.compile(&module).is_ok_and(|module| module.manifest().enhanced_orthogonal_persistence);
            Ok((old == Some(true) && new).then_some(crate::WasmMemoryPersistence::Keep))
        })
    }

    /// Installs code; everything a canister can do wrong is in the receipt.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn install_code(&self, install: Install) -> Result<Receipt, Error> {
        self.run(move |subnet| timed(|| subnet.install(&install)))
    }

    /// Calls an update method as the anonymous principal, with a tuple of arguments, and decodes the tuple of results.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the call is rejected or traps, [`Error::Candid`] if the reply has other types.
    pub fn update<R: for<'a> ArgumentDecoder<'a>>(
        &self,
        canister: Principal,
        method: &str,
        args: impl ArgumentEncoder,
    ) -> Result<R, Error> {
        self.typed(canister, method, args, CallKind::Update)
    }

    /// Calls a query method as the anonymous principal, with a tuple of arguments, and decodes the tuple of results.
    ///
    /// # Errors
    /// As [`Network::update`].
    pub fn query<R: for<'a> ArgumentDecoder<'a>>(
        &self,
        canister: Principal,
        method: &str,
        args: impl ArgumentEncoder,
    ) -> Result<R, Error> {
        self.typed(canister, method, args, CallKind::Query)
    }

    fn typed<R: for<'a> ArgumentDecoder<'a>>(
        &self,
        canister: Principal,
        method: &str,
        args: impl ArgumentEncoder,
        kind: CallKind,
    ) -> Result<R, Error> {
        let caller = Principal::anonymous();
        let call = Call { canister, method: method.to_owned(), arg: encode(args)?, caller, kind };
        let reply = self.call(call)?.reply?;
        decode_args(&reply)
            .map_err(|error| Error::Candid(format!("the reply of {method} has other types: {error}")))
    }

    /// Executes a call; everything a canister can do wrong is in the receipt.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn call(&self, call: Call) -> Result<Receipt, Error> {
        if call.kind == CallKind::Update {
            return self.run(move |subnet| timed(|| subnet.call(&call)));
        }
        let call = Arc::new(call);
        let asked = Arc::clone(&call);
        let (answer, appended) = self.worker.look(move |subnet, replicas| {
            let start = Instant::now();
            let answer = subnet.query_beside(&asked, replicas);
            (answer.map(|receipt| receipt.map(|receipt| timed_since(start, receipt))), subnet.appended())
        })?;
        match answer? {
            Some(receipt) => {
                self.wait(appended)?;
                Ok(receipt)
            }
            None => self.run(move |subnet| timed(|| subnet.call(&call))),
        }
    }

    /// A canister as seen from outside; `None` if there is no such canister.
    ///
    /// # Errors
    /// If what was saved of it cannot be read.
    pub fn status(&self, canister: Principal) -> Result<Option<CanisterStatus>, Error> {
        self.run(move |subnet| Ok(subnet.status(canister)?))
    }

    /// A canister's log, oldest record first: at most 4 KiB, as on the IC.
    ///
    /// # Errors
    /// If there is no such canister or what was saved of it cannot be read.
    pub fn log(&self, canister: Principal) -> Result<Vec<LogRecord>, Error> {
        let log = self.run(move |subnet| Ok(subnet.log(canister)?))?;
        log.ok_or_else(|| not_found(canister))
    }

    /// Removes a canister and all its data. Whether there was one.
    ///
    /// # Errors
    /// If what was saved of it cannot be read.
    pub fn delete_canister(&self, canister: Principal) -> Result<bool, Error> {
        self.run(move |subnet| Ok(subnet.delete_canister(canister)?))
    }

    /// Gives a canister a name by which [`Network::canister_named`] finds it.
    ///
    /// # Errors
    /// If the disk fails or is full.
    pub fn name_canister(&self, name: &str, canister: Principal) -> Result<(), Error> {
        let name = name.to_owned();
        self.run(move |subnet| Ok(subnet.name_canister(&name, canister)?))
    }

    /// The canister of that name.
    pub fn canister_named(&self, name: &str) -> Option<Principal> {
        let name = name.to_owned();
        self.worker.run(move |subnet| subnet.canister_named(&name))
    }

    /// Names and ids, in order of the names.
    pub fn names(&self) -> Vec<(String, Principal)> {
        self.worker.run(|subnet| subnet.names().map(|(name, id)| (name.to_owned(), id)).collect())
    }

    /// The Candid interface that the installed module carries in its `candid:service` section, if it does.
    ///
    /// # Errors
    /// If the section is not Candid, or what was saved of the canister cannot be read.
    pub fn interface(&self, canister: Principal) -> Result<Option<Interface>, Error> {
        let did = self.worker.run(move |subnet| -> Result<Option<Vec<u8>>, Error> {
            let module = subnet.canister(canister)?.and_then(|canister| canister.module().cloned());
            Ok(module.and_then(|module| candid_service(&module)))
        })?;
        did.map(|did| Interface::parse(&String::from_utf8_lossy(&did))).transpose()
    }

    /// The Candid interface that a module (Wasm or gzip) carries, before it is installed. Compiles it, which its
    /// installation then need not do again.
    ///
    /// # Errors
    /// [`Error::Module`] if the IC would not accept it, [`Error::Candid`] if the section is not Candid.
    pub fn module_interface(&self, module: &[u8]) -> Result<Option<Interface>, Error> {
        let module = module.to_vec();
        let did =
            self.worker.run(move |subnet| subnet.compile(&module).map(|module| candid_service(&module)))?;
        did.map(|did| Interface::parse(&String::from_utf8_lossy(&did))).transpose()
    }

    /// Size and hash of a canister's stable memory. Reads all of it.
    ///
    /// # Errors
    /// If there is no such canister or what was saved of it cannot be read.
    pub fn stable_memory(&self, canister: Principal) -> Result<StableMemory, Error> {
        self.worker.run(move |subnet| {
            let canister = subnet.canister(canister)?.ok_or_else(|| not_found(canister))?;
            let mut hash = Sha256::new();
            let bytes = canister.stable_bytes();
            hash.update(bytes.to_le_bytes());
            canister.each_stable_page(|page, contents| {
                hash.update(page.to_le_bytes());
                hash.update(contents);
            });
            Ok(StableMemory { bytes, sha256: hash.finalize().into() })
        })
    }

    /// The time that canisters see, in nanoseconds since 1970.
    pub fn time_nanos(&self) -> u64 {
        self.worker.run(|subnet| subnet.time_nanos())
    }

    /// Moves time on; due timers fire.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn advance_time(&self, by: Duration) -> Result<(), Error> {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.run(move |subnet| Ok(subnet.advance_to(subnet.time_nanos().saturating_add(by))?))
    }

    /// With [`Durability::Off`]: makes everything so far durable. Otherwise that has happened, and this only writes it to
    /// where a next opening reads it without a look at the log.
    ///
    /// # Errors
    /// If the disk fails or is full; what was durable before is untouched.
    pub fn save(&self) -> Result<(), Error> {
        Ok(self.worker.run(|subnet| subnet.save())?)
    }

    /// How far the state directory has come; `None` without one.
    ///
    /// # Errors
    /// If it failed before.
    pub fn progress(&self) -> Result<Option<Progress>, Error> {
        Ok(self.store.as_ref().map(Store::progress).transpose()?)
    }

    /// From now on nothing is written to the state directory, so that it can be removed before the network is dropped and
    /// another process may have it.
    pub fn abandon(&self) {
        self.worker.run(|subnet| subnet.abandon());
    }

    /// Ends the network and gives its state directory back. Dropping it does the same, and keeps failures to itself. With
    /// [`Durability::Off`] what was not saved is lost.
    ///
    /// # Errors
    /// If the disk fails or is full; nothing that was durable is lost then.
    pub fn close(mut self) -> Result<(), Error> {
        self.store = None;
        self.worker.end()
    }
}

fn candid_service(module: &Module) -> Option<Vec<u8>> {
    let sections = &module.manifest().metadata;
    sections.iter().find(|section| section.name == "candid:service").map(|section| section.data.clone())
}

pub(crate) fn not_found(canister: Principal) -> Error {
    Error::NotFound(format!("there is no canister {canister}"))
}

fn encode(args: impl ArgumentEncoder) -> Result<Vec<u8>, Error> {
    encode_args(args).map_err(|error| Error::Candid(format!("the arguments cannot be encoded: {error}")))
}

/// Measures on the worker's thread, where no hand-over counts.
fn timed(
    work: impl FnOnce() -> Result<bedstone_subnet::Receipt, bedstone_subnet::engine::Error>,
) -> Result<Receipt, Error> {
    let start = Instant::now();
    let receipt = work()?;
    Ok(timed_since(start, receipt))
}

pub(crate) fn timed_since(start: Instant, receipt: bedstone_subnet::Receipt) -> Receipt {
    let wall = start.elapsed();
    Receipt {
        reply: receipt.reply,
        instructions: receipt.instructions,
        tree_instructions: receipt.tree_instructions,
        heap_pages_dirtied: receipt.heap_pages_dirtied,
        stable_pages_read: receipt.stable_pages_read,
        stable_pages_dirtied: receipt.stable_pages_dirtied,
        wall,
        log: receipt.log.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect(),
    }
}

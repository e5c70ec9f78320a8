//! One canister: its code, memories and system state, and the messages it executes.

use std::sync::Arc;

use bedstone_store::{Change, Store};

use crate::compile::{Engine, InstructionLimits, Module};
use crate::dirty::Heap;
use crate::error::Error;
use crate::execute::{Installed, Job, PRICES, Run, trap_line};
use crate::instance::Target;
use crate::memory;
use crate::message::{Context, Entry, Message};
use crate::outcome::{Fault, Outcome, Response};
use crate::pages::PageSet;
use crate::state::{Limits, Reply};
use crate::sys::Mapping;
use crate::system::{Log, SystemState};

/// See the module's documentation.
///
/// Run it only on threads with at least 8 MiB of stack: Wasm may use 5.
pub struct Canister {
    pub(crate) engine: Engine,
    pub(crate) system: SystemState,
    pub(crate) log: Log,
    pub(crate) stable: Arc<Mapping>,
    pub(crate) stable_unsaved: PageSet,
    pub(crate) installed: Option<Installed>,
    /// Where the canister is kept in the store, once it has been saved.
    pub(crate) saved: crate::commit::Saved,
}

impl std::fmt::Debug for Canister {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canister").field("system", &self.system).finish_non_exhaustive()
    }
}

impl Canister {
    /// An empty canister.
    ///
    /// # Errors
    /// If there is no address space left for its stable memory.
    pub fn new(engine: &Engine, system: SystemState) -> Result<Self, Error> {
        Ok(Self {
            engine: engine.clone(),
            system,
            log: Log::default(),
            stable: memory::new_stable().map_err(Error::machine)?,
            stable_unsaved: PageSet::default(),
            installed: None,
            saved: crate::commit::Saved::default(),
        })
    }

    /// The engine that runs it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The canister's system state.
    pub fn system(&self) -> &SystemState {
        &self.system
    }

    /// The canister's log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The installed module.
    pub fn module(&self) -> Option<&Arc<Module>> {
        self.installed.as_ref().map(|installed| &installed.module)
    }

    /// The memories that the installed module declares, by index.
    fn heaps(&self) -> &[Heap] {
        self.installed.as_ref().map_or(&[], |installed| &installed.heaps)
    }

    /// How many memories the installed module declares.
    pub fn memory_count(&self) -> usize {
        self.heaps().len()
    }

    /// Bytes of the declared memory with that index; none if there is no such memory.
    pub fn memory_bytes(&self, index: usize) -> u64 {
        self.heaps().get(index).map_or(0, |heap| heap.live.len() as u64)
    }

    /// Copies bytes out of the declared memory with that index. Panics beyond [`Canister::memory_bytes`].
    pub fn read_memory(&self, index: usize, at: u64, into: &mut [u8]) {
        if into.is_empty() {
            return;
        }
        let heap = self.heaps().get(index).expect("the canister has a memory of that index");
        heap.live.read(usize::try_from(at).expect("inside the memory"), into);
    }

    /// Bytes of the heap: of memory 0, which the system API reads and writes.
    pub fn heap_bytes(&self) -> u64 {
        self.memory_bytes(0)
    }

    /// Bytes of stable memory.
    pub fn stable_bytes(&self) -> u64 {
        self.stable.len() as u64
    }

    /// Copies bytes out of stable memory. Panics beyond [`Canister::stable_bytes`].
    pub fn read_stable(&self, at: u64, into: &mut [u8]) {
        self.stable.read(usize::try_from(at).expect("inside stable memory"), into);
    }

    /// Copies bytes out of the heap. Panics beyond [`Canister::heap_bytes`].
    pub fn read_heap(&self, at: u64, into: &mut [u8]) {
        self.read_memory(0, at, into);
    }

    /// The mutable globals' values between messages, 16 bytes each, in index order. Empty before the first instantiation.
    pub fn globals(&self) -> Vec<u8> {
        self.installed.as_ref().map_or_else(Vec::new, Installed::globals)
    }

    /// Whether the installed module exports the update or query method.
    pub fn has_method(&self, entry: Entry<'_>) -> bool {
        let Some(installed) = &self.installed else { return false };
        let methods = &installed.module.manifest().entry_points;
        match entry {
            Entry::Update(name) => methods.updates.contains_key(name) || methods.queries.contains_key(name),
            Entry::Query(name) => {
                methods.queries.contains_key(name) || methods.composite_queries.contains_key(name)
            }
            Entry::GlobalTimer => methods.global_timer.is_some(),
            Entry::Heartbeat => methods.heartbeat.is_some(),
            Entry::InspectMessage(_) => methods.inspect_message.is_some(),
        }
    }

    /// Executes a message: all of what it did is kept, or none.
    ///
    /// # Errors
    /// If this machine fails; whatever the canister does is an [`Outcome`].
    pub fn execute(&mut self, message: &Message<'_>) -> Result<Outcome, Error> {
        self.execute_and_keep(message, None)
    }

    /// Executes a message like [`Canister::execute`], and adds what it changed to a change of the store, in which the
    /// canister was saved before. The change has to be appended before the canister is used again.
    ///
    /// # Errors
    /// If this machine or the store fails. The canister must be loaded again then.
    pub fn execute_into(
        &mut self,
        message: &Message<'_>,
        store: &Store,
        change: &mut Change,
    ) -> Result<Outcome, Error> {
        if self.is_saved() {
            return self.execute_and_keep(message, Some(change));
        }
        let outcome = self.execute(message)?;
        self.save(store, change)?;
        Ok(outcome)
    }

    fn execute_and_keep(
        &mut self,
        message: &Message<'_>,
        change: Option<&mut Change>,
    ) -> Result<Outcome, Error> {
        let Some(installed) = &mut self.installed else {
            let text = "Attempted to execute a message, but the canister contains no Wasm module.";
            return Ok(refused(Fault::new(537, text)));
        };
        let (context, target, method) = match resolve(installed, message.entry) {
            Ok(resolved) => resolved,
            Err(fault) => return Ok(refused(fault)),
        };
        let heap_bytes = installed.memories.heap_bytes();
        let heap_bytes_max = self.system.wasm_memory_limit_bytes;
        if context == Context::Update && heap_bytes_max > 0 && heap_bytes > heap_bytes_max {
            return Ok(refused(Fault::wasm_memory_limit(heap_bytes_max, heap_bytes)));
        }
        let job = Job {
            context,
            target,
            arg: message.arg,
            caller: message.caller,
            method,
            time_nanos: message.time_nanos,
            limits: self.system.limits(instruction_limit(context, &self.engine.config().instructions)),
        };
        installed.begin(&self.system)?;
        let run = installed.run(&job, &mut self.system)?;
        self.settle(&job, run, change)
    }

    /// Keeps or takes back what a message of one stage did.
    fn settle(
        &mut self,
        job: &Job<'_>,
        mut run: Run,
        mut change: Option<&mut Change>,
    ) -> Result<Outcome, Error> {
        let installed = self.installed.as_mut().expect("it just ran");
        let succeeded = run.ended.fault.is_none();
        let keep = succeeded && (job.context.keeps_state() || mutant!(QUERY_KEPT));
        let heap_pages = if keep {
            match &mut change {
                Some(change) => installed.commit_into(&mut self.saved.sink(change))?,
                None => installed.commit(&mut self.stable_unsaved)?,
            }
        } else {
            let changed = installed.roll_back_stage()?;
            installed.roll_back_transaction()?;
            changed
        };
        let memory64 = installed.module.manifest().memory64();
        if succeeded && job.context.replicated() {
            // Of a replicated query these are burned cycles: the rest it may not change.
            self.system.version += 1;
            self.system.apply(&mut run.changes);
        }
        let heap_pages = if job.context.charges_heap_pages() { heap_pages } else { 0 };
        let outcome = outcome(job, run, heap_pages, memory64);
        if job.context.replicated() {
            self.log.append(job.time_nanos, outcome.log.iter().cloned());
            if let Some(change) = change {
                self.put_state(change);
            }
        }
        Ok(outcome)
    }

    /// Stable pages and heap pages as they are, for comparisons: calls `visit` with each page that is not all zero.
    pub fn each_stable_page(&self, mut visit: impl FnMut(u64, &[u8; 4096])) {
        self.stable.each_page(|page, bytes| visit(page as u64, bytes));
    }

    /// Switches the global timer off: it fires once, and stays off if its handler traps.
    pub fn deactivate_timer(&mut self) {
        self.saved.stale = true;
        self.system.global_timer = 0;
    }
}

/// The context, function and method name of an entry.
fn resolve<'m>(installed: &Installed, entry: Entry<'m>) -> Result<(Context, Target<'m>, &'m str), Fault> {
    let methods = &installed.module.manifest().entry_points;
    let missing = |kind: &str, name: &str| Fault::new(536, format!("Canister has no {kind} method '{name}'"));
    let system = |present: bool, name: &'static str, context| {
        if present { Ok((context, Target::System(name), "")) } else { Err(missing("system", name)) }
    };
    match entry {
        Entry::Update(name) if methods.updates.contains_key(name) => {
            Ok((Context::Update, Target::Update(name), name))
        }
        Entry::Update(name) if methods.queries.contains_key(name) => {
            Ok((Context::ReplicatedQuery, Target::Query(name), name))
        }
        Entry::Update(name) if methods.composite_queries.contains_key(name) => {
            Err(Fault::new(527, "Composite query cannot be called in replicated mode"))
        }
        Entry::Update(name) => Err(missing("update", name)),
        Entry::Query(name) if methods.queries.contains_key(name) => {
            Ok((Context::NonReplicatedQuery, Target::Query(name), name))
        }
        Entry::Query(name) if methods.composite_queries.contains_key(name) => {
            Ok((Context::CompositeQuery, Target::CompositeQuery(name), name))
        }
        Entry::Query(name) => Err(missing("query", name)),
        Entry::GlobalTimer => {
            system(methods.global_timer.is_some(), "canister_global_timer", Context::GlobalTimer)
        }
        Entry::Heartbeat => system(methods.heartbeat.is_some(), "canister_heartbeat", Context::Heartbeat),
        Entry::InspectMessage(name) => {
            let (context, target, _) = system(
                methods.inspect_message.is_some(),
                "canister_inspect_message",
                Context::InspectMessage,
            )?;
            Ok((context, target, name))
        }
    }
}

fn instruction_limit(context: Context, limits: &InstructionLimits) -> u64 {
    match context {
        Context::NonReplicatedQuery | Context::CompositeQuery | Context::ReplicatedQuery => limits.query,
        Context::InspectMessage => limits.inspect_message,
        Context::Start | Context::Init | Context::PreUpgrade => limits.install,
        _ => limits.message,
    }
}

/// A message that could not start.
pub(crate) fn refused(fault: Fault) -> Outcome {
    Outcome {
        response: Response::Trapped(fault),
        instructions: 0,
        heap_pages_dirtied: 0,
        stable_pages_accessed: 0,
        stable_pages_dirtied: 0,
        log: Vec::new(),
    }
}

/// Puts the outcome of one run together. Heap pages are charged after the run; they never fail it.
fn outcome(job: &Job<'_>, run: Run, heap_pages: u64, memory64: bool) -> Outcome {
    let charged = run.ended.used + heap_pages * PRICES.heap_dirty_page(memory64);
    let mut log = run.log;
    let response = match run.ended.fault {
        Some(fault) => {
            log.push(trap_line(&fault));
            Response::Trapped(fault)
        }
        None => match run.reply {
            Reply::Replied => Response::Reply(run.reply_data),
            Reply::Rejected(text) => Response::Reject(text),
            Reply::Open if job.context == Context::InspectMessage && !run.changes.accepted => {
                Response::Reject("Canister rejected the message".to_owned())
            }
            Reply::Open => Response::None,
        },
    };
    Outcome {
        response,
        instructions: charged.min(job.limits.instructions),
        heap_pages_dirtied: heap_pages,
        stable_pages_accessed: run.stable_accessed,
        stable_pages_dirtied: run.stable_written,
        log,
    }
}

impl SystemState {
    /// A run's limits.
    pub(crate) fn limits(&self, instructions: u64) -> Limits {
        Limits {
            instructions,
            instructions_shown: instructions,
            wasm_memory_bytes: self.wasm_memory_limit_bytes,
        }
    }

    /// Makes a successful run's changes.
    pub(crate) fn apply(&mut self, changes: &mut crate::state::Changes) {
        if let Some(data) = changes.certified_data.take() {
            self.certified_data = data;
        }
        if let Some(at) = changes.global_timer.take() {
            self.global_timer = at;
        }
        self.cycles -= std::mem::take(&mut changes.cycles_burned);
    }
}

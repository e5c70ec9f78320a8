//! From a message to its outcome: which function runs, in which context, with what limits, and whether what it did stays.
//!
//! Cycles for an execution are set aside before it, from the balance or, for a callback, when its call was made; what was
//! not used comes back after it, whatever became of the message.
//!
//! A callback that traps is taken back, and its cleanup, if it has one, runs on the state from before: what the two did with
//! memories is one message's. Composite queries and their callbacks keep what they did until [`Canister::end_query_tree`].
//!
//! Invariants:
//! - A message is kept as a whole or leaves nothing but its log, the cycles it cost and, in replicated execution, its count.
//! - Inside a tree of queries every run starts from what those before it left, and nothing of it is ever kept.

use bedstone_store::{Change, Store};

use crate::canister::Canister;
use crate::compile::InstructionLimits;
use crate::error::Error;
use crate::execute::{Installed, Job, PRICES, Run, trap_line};
use crate::instance::Target;
use crate::message::{CallInfo, Callback, Context, Entry, Message};
use crate::outcome::{Fault, Outcome, Response};
use crate::state::{Changes, Limits, Reply};
use crate::system::{LowWasmMemoryHook, SystemState};

/// Of the instructions of a callback, one part in so many is kept for its cleanup.
const CLEANUP_SHARE: u64 = 20;

impl Canister {
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

    /// Takes back what a composite query and its callbacks did to this canister.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn end_query_tree(&mut self) -> Result<(), Error> {
        let Some(globals) = self.query_tree.take() else { return Ok(()) };
        let installed = self.installed.as_mut().expect("a query ran");
        installed.set_globals(&globals);
        installed.roll_back_transaction()
    }

    /// Notes whether Wasm memory is short, after the limits that say so were changed.
    pub fn watch_wasm_memory(&mut self) {
        let Some(installed) = &self.installed else { return };
        let memory64 = installed.module.manifest().memory64();
        self.system.watch_wasm_memory(installed.memories.heap_bytes(), memory64);
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
        let (context, target, method) = match resolve(installed, message) {
            Ok(resolved) => resolved,
            Err(fault) => return Ok(refused(fault)),
        };
        let heap_bytes = installed.memories.heap_bytes();
        let heap_bytes_max = self.system.wasm_memory_limit_bytes;
        if context == Context::Update && heap_bytes_max > 0 && heap_bytes > heap_bytes_max {
            return Ok(refused(Fault::wasm_memory_limit(heap_bytes_max, heap_bytes)));
        }
        let usual = instruction_limit(context, &self.engine.config().instructions);
        let limit = message.call.instructions_max.map_or(usual, |most| most.min(usual));
        let prepaid = match self.set_aside(context, limit, message) {
            Ok(prepaid) => prepaid,
            Err(fault) => return Ok(refused(fault)),
        };
        let cleanup = match message.entry {
            Entry::Callback(callback) => callback.cleanup,
            _ => None,
        };
        let kept_back = if cleanup.is_some() { limit / CLEANUP_SHARE } else { 0 };
        let job = Job {
            context,
            target,
            arg: message.arg,
            caller: message.caller,
            method,
            time_nanos: message.time_nanos,
            limits: self.limits(limit - kept_back),
            call: message.call,
        };
        let installed = self.installed.as_mut().expect("looked at");
        if is_composite(context) && self.query_tree.is_none() {
            installed.live(&self.system)?;
            self.query_tree = Some(installed.globals());
            installed.begin(&self.system)?;
        } else if self.query_tree.is_none() {
            installed.begin(&self.system)?;
        }
        let run = installed.run(&job, &mut self.system)?;
        let mut settled = self.settle(&job, run)?;
        let mut last = job;
        if let (Response::Trapped(fault), Some(cleanup)) = (&settled.outcome.response, cleanup) {
            let fault = fault.clone();
            last = Job {
                context: if is_composite(context) { Context::CompositeCleanup } else { Context::Cleanup },
                target: Target::Closure(cleanup),
                arg: &[],
                limits: self.limits(limit - settled.outcome.instructions),
                ..job
            };
            settled = self.clean_up(&last, settled, fault)?;
        }
        self.keep(&last, settled, prepaid, change)
    }

    /// Takes cycles for an execution from the balance.
    fn set_aside(&mut self, context: Context, limit: u64, message: &Message<'_>) -> Result<u128, Fault> {
        let memory_bytes = self.occupied_bytes();
        let memory64 = self.module().is_some_and(|module| module.manifest().memory64());
        if !context.replicated() {
            return self.check_not_frozen().map(|()| 0);
        }
        let prices = &self.engine.subnet().prices;
        let frozen = prices.freezing_limit(&self.system, memory_bytes);
        if let Some(prepaid) = message.call.prepaid {
            return Ok(prepaid);
        }
        let needed = prices.executed(limit, memory64);
        if self.system.cycles < frozen.saturating_add(needed) && needed > 0 {
            let mut text = format!("Canister {} is out of cycles", self.system.id);
            if self.system.controllers.contains(&message.caller) {
                let missing = frozen.saturating_add(needed) - self.system.cycles;
                let more = format!(": please top up the canister with at least {missing} additional cycles");
                text.push_str(&more);
            }
            return Err(Fault::new(207, text));
        }
        self.system.cycles -= needed;
        Ok(needed)
    }

    /// A frozen canister answers no queries.
    pub(crate) fn check_not_frozen(&self) -> Result<(), Fault> {
        let frozen = self.engine.subnet().prices.freezing_limit(&self.system, self.occupied_bytes());
        if self.system.cycles >= frozen {
            return Ok(());
        }
        let text = format!(
            "Canister {} is unable to process query calls because it's frozen. Please top up the canister with cycles and \
             try again.",
            self.system.id
        );
        Err(Fault::new(207, text))
    }

    /// A run's limits.
    pub(crate) fn limits(&self, instructions: u64) -> Limits {
        let callback = self.engine.config().instructions.message;
        self.system.limits(instructions, callback, self.other_bytes())
    }

    /// Ends a run: its changes to memories stay pending if it succeeded and may be kept, and are taken back otherwise.
    fn settle(&mut self, job: &Job<'_>, run: Run) -> Result<Settled, Error> {
        let installed = self.installed.as_mut().expect("it just ran");
        let memory64 = installed.module.manifest().memory64();
        let succeeded = run.ended.fault.is_none();
        let keep = succeeded && (job.context.keeps_state() || mutant!(QUERY_KEPT));
        let heap_pages = if succeeded && is_composite(job.context) {
            Some(installed.end_stage(true, &self.system)?)
        } else if keep {
            None // counted when they are committed
        } else {
            let changed = installed.roll_back_stage()?;
            if self.query_tree.is_none() {
                installed.roll_back_transaction()?;
            }
            Some(changed)
        };
        let (outcome, changes) = outcome(job, run, heap_pages.unwrap_or(0), memory64);
        Ok(Settled { outcome, changes, pending: heap_pages.is_none() })
    }

    /// Runs the cleanup of a callback that ended with `fault`; the outcome is that of both.
    fn clean_up(&mut self, job: &Job<'_>, callback: Settled, mut fault: Fault) -> Result<Settled, Error> {
        let installed = self.installed.as_mut().expect("it just ran");
        if self.query_tree.is_none() {
            installed.begin(&self.system)?;
        }
        let run = installed.run(job, &mut self.system)?;
        let mut cleaned = self.settle(job, run)?;
        if let Response::Trapped(second) = &cleaned.outcome.response {
            fault.detail = format!("{}\n\ncall_on_cleanup also failed:\n\n{}", fault.detail, second.detail);
        }
        let outcome = &mut cleaned.outcome;
        outcome.response = Response::Trapped(fault);
        outcome.instructions += callback.outcome.instructions;
        outcome.heap_pages_dirtied += callback.outcome.heap_pages_dirtied;
        outcome.stable_pages_accessed += callback.outcome.stable_pages_accessed;
        outcome.stable_pages_dirtied += callback.outcome.stable_pages_dirtied;
        outcome.log.splice(..0, callback.outcome.log);
        Ok(cleaned)
    }

    /// Commits what is pending, and settles cycles, version and log.
    fn keep(
        &mut self,
        job: &Job<'_>,
        settled: Settled,
        prepaid: u128,
        mut change: Option<&mut Change>,
    ) -> Result<Outcome, Error> {
        let Settled { mut outcome, mut changes, pending } = settled;
        let installed = self.installed.as_mut().expect("it just ran");
        let memory64 = installed.module.manifest().memory64();
        if pending {
            let pages = match &mut change {
                Some(change) => installed.commit_into(&mut self.saved.sink(change))?,
                None => installed.commit(&mut self.stable_unsaved)?,
            };
            let pages = if job.context.charges_heap_pages() { pages } else { 0 };
            outcome.heap_pages_dirtied += pages;
            let charged = outcome.instructions + pages * PRICES.heap_dirty_page(memory64);
            outcome.instructions = charged.min(job.limits.instructions);
        }
        if job.context.replicated() {
            if let Some(mut changes) = changes.take() {
                // Of a replicated query these are cycles: the rest it may not change.
                self.system.version += 1;
                self.system.apply(&mut changes);
            }
            let heap_bytes = installed.memories.heap_bytes();
            self.system.watch_wasm_memory(heap_bytes, memory64);
            let prices = &self.engine.subnet().prices;
            self.system.cycles += prepaid.saturating_sub(prices.executed(outcome.instructions, memory64));
            self.log.append(job.time_nanos, outcome.log.iter().cloned());
            if let Some(change) = change {
                self.put_state(change);
            }
        }
        Ok(outcome)
    }
}

/// A run that ended.
struct Settled {
    outcome: Outcome,
    /// Changes of the system state, if it succeeded.
    changes: Option<Changes>,
    /// Whether its changes to memories wait to be committed.
    pending: bool,
}

fn is_composite(context: Context) -> bool {
    matches!(
        context,
        Context::CompositeQuery
            | Context::CompositeReplyCallback
            | Context::CompositeRejectCallback
            | Context::CompositeCleanup
    )
}

/// The context, function and method name of a message.
pub(crate) fn resolve<'m>(
    installed: &Installed,
    message: &Message<'m>,
) -> Result<(Context, Target<'m>, &'m str), Fault> {
    let methods = &installed.module.manifest().entry_points;
    let missing = |kind: &str, name: &str| Fault::new(536, format!("Canister has no {kind} method '{name}'"));
    let system = |present: bool, name: &'static str, context| {
        if present { Ok((context, Target::System(name), "")) } else { Err(missing("system", name)) }
    };
    match message.entry {
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
        Entry::LowWasmMemory => {
            let present = methods.on_low_wasm_memory.is_some();
            system(present, "canister_on_low_wasm_memory", Context::LowWasmMemory)
        }
        Entry::InspectMessage(name) => {
            let (context, target, _) = system(
                methods.inspect_message.is_some(),
                "canister_inspect_message",
                Context::InspectMessage,
            )?;
            Ok((context, target, name))
        }
        Entry::Callback(callback) => {
            Ok((callback_context(callback, &message.call), Target::Closure(callback.closure), ""))
        }
    }
}

fn callback_context(callback: Callback, call: &CallInfo<'_>) -> Context {
    match (call.reject.is_some(), callback.composite) {
        (false, false) => Context::ReplyCallback,
        (true, false) => Context::RejectCallback,
        (false, true) => Context::CompositeReplyCallback,
        (true, true) => Context::CompositeRejectCallback,
    }
}

pub(crate) fn instruction_limit(context: Context, limits: &InstructionLimits) -> u64 {
    match context {
        Context::NonReplicatedQuery
        | Context::ReplicatedQuery
        | Context::CompositeQuery
        | Context::CompositeReplyCallback
        | Context::CompositeRejectCallback
        | Context::CompositeCleanup => limits.query,
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
        calls: Vec::new(),
        cycles_accepted: 0,
    }
}

/// Puts the outcome of one run together. Heap pages are charged after the run; they never fail it.
pub(crate) fn outcome(
    job: &Job<'_>,
    mut run: Run,
    heap_pages: u64,
    memory64: bool,
) -> (Outcome, Option<Changes>) {
    let heap_pages = if job.context.charges_heap_pages() { heap_pages } else { 0 };
    let charged = run.ended.used + heap_pages * PRICES.heap_dirty_page(memory64);
    let mut log = run.log;
    let succeeded = run.ended.fault.is_none();
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
            Reply::Open | Reply::Answered => Response::None,
        },
    };
    let outcome = Outcome {
        response,
        instructions: charged.min(job.limits.instructions),
        heap_pages_dirtied: heap_pages,
        stable_pages_accessed: run.stable_accessed,
        stable_pages_dirtied: run.stable_written,
        log,
        calls: if succeeded { std::mem::take(&mut run.changes.calls) } else { Vec::new() },
        cycles_accepted: if succeeded { run.changes.cycles_accepted } else { 0 },
    };
    (outcome, succeeded.then_some(run.changes))
}

/// The heap of 32-bit modules ends here, limit or not.
const HEAP32_BYTES: u64 = 4 << 30;

impl SystemState {
    /// A run's limits.
    pub(crate) fn limits(&self, instructions: u64, instructions_callback: u64, other_bytes: u64) -> Limits {
        Limits {
            instructions,
            instructions_shown: instructions,
            wasm_memory_bytes: self.wasm_memory_limit_bytes,
            other_bytes,
            instructions_callback,
        }
    }

    /// Makes a successful run's changes.
    pub(crate) fn apply(&mut self, changes: &mut Changes) {
        if let Some(data) = changes.certified_data.take() {
            self.certified_data = data;
        }
        if let Some(at) = changes.global_timer.take() {
            self.global_timer = at;
        }
        self.cycles += std::mem::take(&mut changes.cycles_accepted);
        self.cycles += std::mem::take(&mut changes.cycles_minted);
        self.cycles -= std::mem::take(&mut changes.cycles_burned);
        self.cycles -= std::mem::take(&mut changes.cycles_sent);
    }

    /// Notes whether Wasm memory has become short, or is so no more.
    fn watch_wasm_memory(&mut self, heap_bytes: u64, memory64: bool) {
        let settings = &mut self.settings;
        if settings.wasm_memory_threshold == 0 {
            return;
        }
        let natural = if memory64 { bedstone_instrument::limits::HEAP64_BYTES_MAX } else { HEAP32_BYTES };
        let limit = match self.wasm_memory_limit_bytes {
            0 => natural,
            limit => limit,
        };
        let short = limit.saturating_sub(heap_bytes) < settings.wasm_memory_threshold;
        settings.low_wasm_memory_hook = match (short, settings.low_wasm_memory_hook) {
            (false, _) => LowWasmMemoryHook::ConditionNotSatisfied,
            (true, LowWasmMemoryHook::ConditionNotSatisfied) => LowWasmMemoryHook::Ready,
            (true, state) => state,
        };
    }
}

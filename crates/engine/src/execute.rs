//! Runs one entry point of an installed module and settles what it did to the memories.
//!
//! Under [`Counter::Threaded`](bedstone_instrument::Counter::Threaded) a Wasm trap loses the counter. Execution is
//! deterministic and a trap rolls everything back, so the run is repeated, from the same state, in the form that keeps its
//! counter in a global, and that count is taken.
//!
//! A module may get faster code while it runs (see `background`); a transaction begins on the best there is, and stays on it.
//!
//! Invariants:
//! - Between messages an installed module's globals stand in its tracking memory.
//! - What is said of the heap holds for each memory that the module declares.
//! - A run that is not kept leaves no trace: memories, sizes, globals, marks.

use std::io;
use std::sync::Arc;

use ic_principal::Principal;

use bedstone_instrument::{CostTable, Counter};

use crate::commit::Sink;
use crate::compile::Module;
use crate::dirty::{Changed, Heap, Marks, Pages};
use crate::error::Error;
use crate::instance::{Ended, Live, Target};
use crate::memory::Tracking;
use crate::message::{CallInfo, Context};
use crate::outcome::Fault;
use crate::pages::PageSet;
use crate::state::{Changes, Limits, Memories, Reply};
use crate::sys::Mapping;
use crate::system::SystemState;

/// The price list in force.
pub(crate) const PRICES: CostTable = CostTable::ic_2025_10();
const _: () = assert!(PRICES.page_touches().is_none(), "the store barrier does not see reads of the heap");

/// A module with its memories and instances.
pub(crate) struct Installed {
    pub module: Arc<Module>,
    /// The declared memories, by index.
    pub heaps: Vec<Heap>,
    pub memories: Memories,
    /// The instance that runs messages; made when needed.
    live: Option<Live>,
    /// The instance that repeats trapped messages.
    exact: Option<Live>,
    /// Whether the tracking memory holds the globals' values.
    globals_saved: bool,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub context: Context,
    pub target: Target<'a>,
    pub arg: &'a [u8],
    pub caller: Principal,
    pub method: &'a str,
    pub time_nanos: u64,
    pub limits: Limits,
    pub call: CallInfo<'a>,
}

/// What a run produced. Its effects on memories are pending.
#[derive(Debug)]
pub(crate) struct Run {
    pub ended: Ended,
    pub reply: Reply,
    pub reply_data: Vec<u8>,
    pub changes: Changes,
    pub log: Vec<Vec<u8>>,
    pub stable_accessed: u64,
    pub stable_written: u64,
}

/// Most stable pages that a run may access, and write.
fn stable_pages_max(context: Context) -> u64 {
    use bedstone_instrument::limits as l;
    match context {
        Context::Start | Context::Init | Context::PreUpgrade => l::UPGRADE_STABLE_PAGES_MAX,
        Context::ReplicatedQuery
        | Context::NonReplicatedQuery
        | Context::CompositeQuery
        | Context::CompositeReplyCallback
        | Context::CompositeRejectCallback
        | Context::CompositeCleanup
        | Context::InspectMessage => l::QUERY_STABLE_PAGES_MAX,
        _ => l::MESSAGE_STABLE_PAGES_MAX,
    }
}

impl Installed {
    /// Puts a module on stable memory; [`Installed::with_heaps`] must follow. `globals` are saved ones; without them the
    /// globals start with their initial values.
    pub fn new(module: Arc<Module>, stable: &Arc<Mapping>, globals: Option<&[u8]>) -> Result<Self, Error> {
        let tracking = Tracking::new(module.manifest()).map_err(Error::machine)?;
        if globals.is_some_and(|globals| !tracking.set_globals(globals)) {
            return Err(Error::damaged("a canister's record holds other globals than its module"));
        }
        let memories = Memories { heaps: Vec::new(), stable: Arc::clone(stable), tracking };
        let globals_saved = globals.is_some();
        Ok(Self { module, heaps: Vec::new(), memories, live: None, exact: None, globals_saved })
    }

    /// Puts the module on its declared memories, one for each that it declares.
    pub fn with_heaps(mut self, heaps: Vec<Heap>) -> Self {
        assert_eq!(heaps.len(), self.module.manifest().memories.len(), "a heap for each declared memory");
        self.memories.heaps = heaps.iter().map(|heap| Arc::clone(&heap.live)).collect();
        self.heaps = heaps;
        self
    }

    /// The saved globals, 16 bytes each.
    pub fn globals(&self) -> Vec<u8> {
        self.memories.tracking.globals()
    }

    /// Whether the tracking memory holds the globals' values.
    pub fn has_saved_globals(&self) -> bool {
        self.globals_saved
    }

    /// From the next run on others may read stable memory at the same time.
    pub fn share_stable(&mut self, system: &SystemState) -> Result<(), Error> {
        self.live(system)?.store.data_mut().touched.is_shared = true;
        Ok(())
    }

    /// The instance, made now if there is none.
    pub fn live(&mut self, system: &SystemState) -> Result<&mut Live, Error> {
        if self.live.is_none() {
            let mut live = Live::new(self.module.current(), &self.memories, system)?;
            if self.globals_saved {
                live.restore_globals()?;
            } else {
                live.save_globals()?;
                self.globals_saved = true;
            }
            self.live = Some(live);
        }
        Ok(self.live.as_mut().expect("just made"))
    }

    /// Runs a job whose target exists, as the first or next stage of a transaction. `system` is lent to the host functions.
    pub fn run(&mut self, job: &Job<'_>, system: &mut SystemState) -> Result<Run, Error> {
        let mut run = self.run_once(job, system)?;
        let counter = self.live.as_ref().expect("it just ran").counter_form;
        if !run.ended.exact && counter == Counter::Threaded {
            let again = self.count_again(job, system)?;
            run.ended.used = again.used;
            // In that form each stable access is a call, which a backtrace shows. Its stack may reach further.
            if let (Some(fault), Some(same)) = (&mut run.ended.fault, again.fault)
                && fault.code == same.code
            {
                *fault = same;
            }
        }
        Ok(run)
    }

    /// As [`Installed::run`], but after a Wasm trap the instructions are not exact.
    pub fn run_once(&mut self, job: &Job<'_>, system: &mut SystemState) -> Result<Run, Error> {
        self.live(system)?;
        let live = self.live.as_mut().expect("just made");
        prepare(live, job);
        std::mem::swap(&mut live.store.data_mut().system, system);
        let ended = live.run(job.target);
        std::mem::swap(&mut live.store.data_mut().system, system);
        Ok(collect(live, ended?))
    }

    /// Repeats a trapped run in the exact form, from the state at its start.
    fn count_again(&mut self, job: &Job<'_>, system: &mut SystemState) -> Result<Ended, Error> {
        self.roll_back_stage()?;
        let mut exact = match self.exact.take() {
            Some(exact) => exact,
            None => Live::new(self.module.exact()?, &self.memories, system)?,
        };
        exact.restore_globals()?;
        // The repeated run takes over the transaction's record of pages, and hands it back.
        self.exchange_touched(&mut exact);
        prepare(&mut exact, job);
        std::mem::swap(&mut exact.store.data_mut().system, system);
        let ended = exact.run(job.target);
        std::mem::swap(&mut exact.store.data_mut().system, system);
        collect_quietly(&mut exact);
        self.exchange_touched(&mut exact);
        if !exact.restore_globals()? {
            self.exact = Some(exact);
        }
        ended
    }

    fn exchange_touched(&mut self, other: &mut Live) {
        let live = self.live.as_mut().expect("a stage is running");
        std::mem::swap(&mut live.store.data_mut().touched, &mut other.store.data_mut().touched);
    }

    fn tracking(&self) -> Arc<Tracking> {
        Arc::clone(&self.memories.tracking)
    }

    /// Settles each declared memory; returns how many pages had changed in all of them.
    fn settle_heaps(
        &mut self,
        settle: impl Fn(&mut Heap, Marks<'_>) -> io::Result<u64>,
    ) -> Result<u64, Error> {
        let mut changed = 0;
        for (index, heap) in self.heaps.iter_mut().enumerate() {
            changed += settle(heap, self.memories.tracking.marks(index)).map_err(Error::machine)?;
        }
        Ok(changed)
    }

    /// Starts a transaction.
    pub fn begin(&mut self, system: &SystemState) -> Result<(), Error> {
        // Between transactions an instance holds nothing that another one on the same memories would not have.
        if self.live.as_ref().is_some_and(|live| live.tier != self.module.current().tier) {
            self.live = None;
        }
        self.heaps.iter().try_for_each(Heap::begin).map_err(Error::machine)?;
        let stable = Arc::clone(&self.memories.stable);
        self.live(system)?.store.data_mut().touched.begin(&stable).map_err(Error::machine)
    }

    /// Commits a transaction whose only stage just ended, or whose last; returns how many heap pages changed since.
    pub fn commit(&mut self, stable_unsaved: &mut PageSet) -> Result<u64, Error> {
        let tracking = self.tracking();
        let changed = self.settle_heaps(|heap, marks| heap.commit(marks, None))?;
        let stable = Arc::clone(&self.memories.stable);
        let live = self.live.as_mut().expect("a stage just ended");
        let touched = &mut live.store.data_mut().touched;
        touched.commit(&tracking, &stable, stable_unsaved).map_err(Error::machine)?;
        self.keep_globals()?;
        Ok(changed)
    }

    /// Commits a transaction whose only stage just ended, and adds what it changed to the store's change; returns how many
    /// heap pages changed.
    pub fn commit_into(&mut self, sink: &mut Sink<'_>) -> Result<u64, Error> {
        let tracking = self.tracking();
        let mut changed = 0;
        for (index, heap) in self.heaps.iter_mut().enumerate() {
            sink.heap_bytes(index, heap.live.len());
            let tell: Changed<'_> = &mut |page, before, after| sink.heap_page(index, page, before, after);
            changed += heap.commit(tracking.marks(index), Some(tell)).map_err(Error::machine)?;
        }
        let stable = Arc::clone(&self.memories.stable);
        sink.stable_bytes(stable.len());
        let live = self.live.as_mut().expect("a stage just ended");
        let touched = &mut live.store.data_mut().touched;
        let tell: Changed<'_> = &mut |page, before, after| sink.stable_page(page, before, after);
        touched.commit_and_tell(&tracking, &stable, tell).map_err(Error::machine)?;
        self.keep_globals()?;
        Ok(changed)
    }

    fn keep_globals(&mut self) -> Result<(), Error> {
        let live = self.live.as_mut().expect("a stage just ended");
        if live.save_globals()? {
            self.live = None; // a dropped segment is whole again in the next message
        }
        Ok(())
    }

    /// Ends a stage that succeeded inside a longer transaction; returns how many heap pages changed.
    pub fn end_stage(&mut self, keep_globals: bool, system: &SystemState) -> Result<u64, Error> {
        let tracking = self.tracking();
        let changed = self.settle_heaps(Heap::end_stage)?;
        let stable = Arc::clone(&self.memories.stable);
        let live = self.live.as_mut().expect("a stage just ended");
        live.store.data_mut().touched.end_stage(&tracking, &stable);
        if keep_globals && live.save_globals()? {
            // A dropped segment is whole again in the next stage: a fresh instance, on the same memories.
            let touched = std::mem::take(&mut live.store.data_mut().touched);
            self.live = None;
            self.live(system)?.store.data_mut().touched = touched;
        }
        Ok(changed)
    }

    /// What the transaction's stages that ended wrote to stable memory, as it is now.
    pub fn stable_pages_written(&mut self) -> Pages {
        let live = self.live.as_mut().expect("a stage has ended");
        live.store.data_mut().touched.pages_written(&self.memories.stable)
    }

    /// Writes to stable memory what an earlier transaction had, as a stage of this one that has ended.
    pub fn write_stable_pages(&mut self, pages: &Pages) -> Result<(), Error> {
        let (tracking, stable) = (self.tracking(), Arc::clone(&self.memories.stable));
        let live = self.live.as_mut().expect("a transaction has begun");
        live.store.data_mut().touched.write_pages(pages, &tracking, &stable).map_err(Error::machine)
    }

    /// Gives the globals the values that a stage of this transaction left.
    pub fn resume_globals(&mut self, globals: &[u8], system: &SystemState) -> Result<(), Error> {
        self.set_globals(globals);
        let live = self.live.as_mut().expect("a transaction has begun");
        if live.restore_globals()? {
            let touched = std::mem::take(&mut live.store.data_mut().touched);
            self.live = None;
            self.live(system)?.store.data_mut().touched = touched;
        }
        Ok(())
    }

    /// Takes back the running stage; returns how many heap pages it had changed.
    pub fn roll_back_stage(&mut self) -> Result<u64, Error> {
        let tracking = self.tracking();
        let changed = self.settle_heaps(Heap::roll_back_stage)?;
        let stable = Arc::clone(&self.memories.stable);
        let live = self.live.as_mut().expect("a stage is running");
        live.store.data_mut().touched.roll_back_stage(&tracking, &stable).map_err(Error::machine)?;
        Ok(changed)
    }

    /// Globals as they stand in the tracking memory take these values.
    pub fn set_globals(&self, globals: &[u8]) {
        assert!(self.memories.tracking.set_globals(globals), "the module's own");
    }

    /// Loads the globals that stand in the tracking memory into the instance, if there is one.
    pub fn reload_globals(&mut self) -> Result<(), Error> {
        if let Some(live) = &mut self.live
            && live.restore_globals()?
        {
            self.live = None;
        }
        Ok(())
    }

    /// Takes back what earlier stages did, after the running one was rolled back, and the globals.
    pub fn roll_back_transaction(&mut self) -> Result<(), Error> {
        for heap in &mut self.heaps {
            heap.roll_back_transaction().map_err(Error::machine)?;
        }
        let stable = Arc::clone(&self.memories.stable);
        let live = self.live.as_mut().expect("a stage is running");
        live.store.data_mut().touched.roll_back_transaction(&stable).map_err(Error::machine)?;
        if live.restore_globals()? {
            self.live = None;
        }
        Ok(())
    }

    /// Moves the transaction's record of stable pages to the module that takes this one's place. It stays here if there is
    /// no instance to move it to.
    pub fn hand_over_touched(&mut self, next: &mut Installed, system: &SystemState) -> Result<(), Error> {
        let target = &mut next.live(system)?.store.data_mut().touched;
        *target = std::mem::take(&mut self.live(system)?.store.data_mut().touched);
        Ok(())
    }
}

/// Sets the message state up for a job.
fn prepare(live: &mut Live, job: &Job<'_>) {
    let state = live.store.data_mut();
    state.context = job.context;
    state.caller = job.caller;
    state.arg.clear();
    state.arg.extend_from_slice(job.arg);
    state.method.clear();
    state.method.push_str(job.method);
    state.time_nanos = job.time_nanos;
    state.reply_data.clear();
    state.limits = job.limits;
    state.changes = Changes::default();
    state.receive(&job.call);
    state.fault = None;
    let pages = stable_pages_max(job.context);
    state.touched.accessed_max = pages;
    state.touched.written_max = pages;
}

fn collect(live: &mut Live, ended: Ended) -> Run {
    let state = live.store.data_mut();
    if let Some(call) = state.call.take() {
        // Put together and never performed.
        state.changes.cycles_sent -= call.cycles;
    }
    Run {
        ended,
        reply: std::mem::take(&mut state.reply),
        reply_data: std::mem::take(&mut state.reply_data),
        changes: std::mem::take(&mut state.changes),
        log: state.log.take(),
        stable_accessed: state.touched.accessed(),
        stable_written: state.touched.written(),
    }
}

/// Throws away what a repeated run said.
fn collect_quietly(live: &mut Live) {
    let state = live.store.data_mut();
    state.log.take();
    state.call = None;
    state.reply = Reply::Open;
    state.changes = Changes::default();
}

/// The log line that a trap leaves.
pub(crate) fn trap_line(fault: &Fault) -> Vec<u8> {
    let mut line = format!("[TRAP]: {}", fault.detail);
    if let Some(backtrace) = &fault.backtrace {
        line.push('\n');
        line.push_str(backtrace);
    }
    line.into_bytes()
}

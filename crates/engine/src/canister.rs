//! One canister: its code, memories and system state.

use std::sync::Arc;

use crate::compile::{Engine, Module};
use crate::dirty::Heap;
use crate::error::Error;
use crate::execute::Installed;
use crate::memory;
use crate::message::Entry;
use crate::pages::PageSet;
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
    /// Globals before the tree of queries that the canister takes part in, if it does.
    pub(crate) query_tree: Option<Vec<u8>>,
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
            stable: memory::new_stable(engine.config()).map_err(Error::machine)?,
            stable_unsaved: PageSet::default(),
            installed: None,
            query_tree: None,
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

    /// The canister's system state, to be changed between messages. A store gets it with the next message or save.
    pub fn system_mut(&mut self) -> &mut SystemState {
        &mut self.system
    }

    /// Bytes that the canister occupies.
    pub fn occupied_bytes(&self) -> u64 {
        let heaps: u64 = self.heaps().iter().map(|heap| heap.live.len() as u64).sum();
        heaps + self.stable_bytes() + self.other_bytes()
    }

    /// Bytes that the canister occupies besides its memories.
    pub(crate) fn other_bytes(&self) -> u64 {
        self.module().map_or(0, |module| module.bytes().len() as u64)
    }

    /// Gives it another log.
    pub fn set_log(&mut self, log: Log) {
        self.log = log;
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
            Entry::LowWasmMemory => methods.on_low_wasm_memory.is_some(),
            Entry::InspectMessage(_) => methods.inspect_message.is_some(),
            Entry::Callback(_) => true,
        }
    }

    /// Stable pages and heap pages as they are, for comparisons: calls `visit` with each page that is not all zero.
    pub fn each_stable_page(&self, mut visit: impl FnMut(u64, &[u8; 4096])) {
        self.stable.each_page(|page, bytes| visit(page as u64, bytes));
    }

    /// Switches the global timer off: it fires once, and stays off if its handler traps.
    pub fn deactivate_timer(&mut self) {
        self.system.global_timer = 0;
    }
}

//! Canisters under test: engines by mode, and everything that can be seen of a canister between messages.

use bedstone_engine::{
    CallInfo, Canister, Counter, Engine, EngineConfig, Entry, ErrorKind, InstallMode, Installation,
    InstructionLimits, Message, Outcome, Principal, Response, StableAccess, SystemState, Tracker,
};

/// The ways to run a canister that must agree.
pub(crate) const MODES: [(StableAccess, Counter, Tracker); 6] = [
    (StableAccess::Native, Counter::Threaded, Tracker::Barrier),
    (StableAccess::Native, Counter::Global, Tracker::Barrier),
    (StableAccess::Host, Counter::Threaded, Tracker::Barrier),
    (StableAccess::Host, Counter::Global, Tracker::Barrier),
    (StableAccess::Native, Counter::Threaded, Tracker::Fault),
    (StableAccess::Host, Counter::Global, Tracker::Fault),
];

/// Low limits: random loops end soon, and running out is a case like any other.
const LIMITS: InstructionLimits =
    InstructionLimits { message: 300_000, query: 200_000, install: 100_000_000, inspect_message: 100_000 };

thread_local! {
    static ENGINES: [Engine; MODES.len()] = MODES.map(|(stable, counter, tracker)| {
        let config = EngineConfig {
            stable,
            counter,
            tracker,
            instructions: LIMITS,
            allow_multi_memory: true,
            ..EngineConfig::default()
        };
        Engine::new(config).expect("this machine runs Wasm")
    });
}

/// A canister in the mode with that index, with code installed. `None` if the module is refused.
pub(crate) fn install(mode: usize, wasm: &[u8]) -> Option<(Canister, Outcome)> {
    ENGINES.with(|engines| {
        let engine = &engines[mode];
        let module = match engine.compile(wasm) {
            Ok(module) => module,
            Err(error) if error.kind() == ErrorKind::InvalidModule => return None,
            Err(error) => panic!("a valid module does not compile: {error}"),
        };
        let id = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
        let mut canister = Canister::new(engine, SystemState::new(id, Vec::new())).expect("address space");
        let caller = Principal::anonymous();
        let mode = InstallMode::Install;
        let installation = Installation { mode, module, arg: &[], caller, time_nanos: 1 };
        let outcome = canister.install(&installation).expect("the machine works");
        Some((canister, outcome))
    })
}

/// Sends a message without an argument.
pub(crate) fn send(canister: &mut Canister, entry: Entry<'_>) -> Outcome {
    let message =
        Message { entry, arg: &[], caller: Principal::anonymous(), time_nanos: 1, call: CallInfo::default() };
    canister.execute(&message).expect("the machine works")
}

/// What can be seen of a canister between messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The declared memories, by index.
    pub heaps: Vec<Vec<u8>>,
    pub stable: Vec<u8>,
    pub globals: Vec<u8>,
}

impl Seen {
    pub fn of(canister: &Canister) -> Self {
        let heap = |index| {
            let mut heap = vec![0; canister.memory_bytes(index) as usize];
            canister.read_memory(index, 0, &mut heap);
            heap
        };
        let heaps = (0..canister.memory_count()).map(heap).collect();
        let mut stable = vec![0; canister.stable_bytes() as usize];
        canister.read_stable(0, &mut stable);
        Self { heaps, stable, globals: canister.globals() }
    }

    /// Pages of declared memories whose contents differ, those beyond the shorter memory counting as zero.
    pub fn heap_pages_changed(&self, after: &Self) -> u64 {
        self.heaps.iter().zip(&after.heaps).map(|(before, after)| pages_changed(before, after)).sum()
    }

    /// The same for stable memory.
    pub fn stable_pages_changed(&self, after: &Self) -> u64 {
        pages_changed(&self.stable, &after.stable)
    }
}

fn pages_changed(before: &[u8], after: &[u8]) -> u64 {
    let zero = [0; 4096];
    let page = |memory: &'_ [u8], index: usize| -> [u8; 4096] {
        memory.chunks_exact(4096).nth(index).map_or(zero, |page| page.try_into().expect("4096 bytes"))
    };
    let pages = before.len().max(after.len()) / 4096;
    (0..pages).filter(|index| page(before, *index) != page(after, *index)).count() as u64
}

/// Whether an outcome ends in a stack overflow, whose place depends on the code's shape.
pub(crate) fn overflowed(outcome: &Outcome) -> bool {
    matches!(&outcome.response, Response::Trapped(fault) if fault.detail.contains("stack overflow"))
}

/// An outcome without its backtrace, which names the functions of its mode.
pub(crate) fn bare(mut outcome: Outcome) -> Outcome {
    if let Response::Trapped(fault) = &mut outcome.response {
        fault.backtrace = None;
    }
    outcome.log.clear();
    outcome
}

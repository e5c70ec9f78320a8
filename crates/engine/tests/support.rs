//! What the engine's tests share: a canister from text, on a stack that is large enough.

use std::sync::Arc;

use bedstone_engine::{
    CallInfo, Callback, Canister, Compiler, Counter, Engine, EngineConfig, Entry, InstallMode, Installation,
    InstructionLimits, Message, Module, Outcome, Principal, Response, StableAccess, SystemState, Tracker,
};

/// All ways to run a canister that must not be told apart.
pub const MODES: [(&str, EngineConfig); 10] = [
    ("native, counter in a global", config(StableAccess::Native, false, Counter::Global)),
    ("native, threaded counter", config(StableAccess::Native, false, Counter::Threaded)),
    ("host, counter in a global", config(StableAccess::Host, false, Counter::Global)),
    ("host, threaded counter", config(StableAccess::Host, false, Counter::Threaded)),
    ("usual host functions", config(StableAccess::Host, true, Counter::Threaded)),
    ("native, baseline compiler", compiled(StableAccess::Native, Compiler::Baseline)),
    ("host, baseline compiler", compiled(StableAccess::Host, Compiler::Baseline)),
    // Where the change to optimised code falls is left to chance: it must not be seen.
    ("native, both compilers", compiled(StableAccess::Native, Compiler::BaselineThenOptimising)),
    ("native, faults", with_faults(config(StableAccess::Native, false, Counter::Threaded))),
    ("host, faults", with_faults(config(StableAccess::Host, false, Counter::Threaded))),
];

const fn compiled(stable: StableAccess, compiler: Compiler) -> EngineConfig {
    EngineConfig { compiler, ..config(stable, false, Counter::Threaded) }
}

const fn config(stable: StableAccess, usual_host_functions: bool, counter: Counter) -> EngineConfig {
    EngineConfig {
        stable,
        usual_host_functions,
        counter,
        tracker: Tracker::Barrier,
        compiler: Compiler::Optimising,
        instructions: InstructionLimits::IC,
        allow_multi_memory: false,
    }
}

const fn with_faults(config: EngineConfig) -> EngineConfig {
    EngineConfig { tracker: Tracker::Fault, ..config }
}

/// Runs a test on a stack as large as production's canisters may need.
pub fn with_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(test).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a test in every mode.
pub fn in_every_mode(test: impl Fn(&str, &Engine) + Send + 'static) {
    with_stack(move || {
        for (name, config) in MODES {
            test(name, &Engine::new(config).unwrap());
        }
    });
}

/// A canister under test.
pub struct Subject {
    pub engine: Engine,
    pub canister: Canister,
}

impl Subject {
    /// An empty canister.
    pub fn empty(engine: &Engine) -> Self {
        let id = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 0, 7, 1, 1]);
        let system = SystemState::new(id, vec![Principal::anonymous()]);
        Self { engine: engine.clone(), canister: Canister::new(engine, system).unwrap() }
    }

    /// A canister with a module from text installed; the installation must succeed.
    pub fn installed(engine: &Engine, wat: &str) -> Self {
        let mut subject = Self::empty(engine);
        let outcome = subject.install(wat, InstallMode::Install);
        assert_eq!(outcome.response, Response::None);
        subject
    }

    pub fn module(&self, wat: &str) -> Arc<Module> {
        self.engine.compile(wat::parse_str(wat).unwrap()).unwrap()
    }

    pub fn install(&mut self, wat: &str, mode: InstallMode) -> Outcome {
        let module = self.module(wat);
        self.install_module(module, mode, &[])
    }

    pub fn install_module(&mut self, module: Arc<Module>, mode: InstallMode, arg: &[u8]) -> Outcome {
        let installation = Installation {
            mode,
            module,
            arg,
            caller: Principal::anonymous(),
            time_nanos: 1_700_000_000_000_000_000,
        };
        self.canister.install(&installation).unwrap()
    }

    pub fn update(&mut self, method: &str, arg: &[u8]) -> Outcome {
        self.execute(Entry::Update(method), arg)
    }

    pub fn query(&mut self, method: &str, arg: &[u8]) -> Outcome {
        self.execute(Entry::Query(method), arg)
    }

    pub fn execute(&mut self, entry: Entry<'_>, arg: &[u8]) -> Outcome {
        let message = Message {
            entry,
            arg,
            caller: Principal::anonymous(),
            time_nanos: 1_700_000_000_000_000_000,
            call: CallInfo::default(),
        };
        let outcome = self.canister.execute(&message).unwrap();
        self.canister.end_query_tree().unwrap();
        outcome
    }

    /// Delivers the answer of a call: a reject, or a reply without bytes.
    pub fn answer(&mut self, callback: Callback, reject: Option<(u32, &str)>) -> Outcome {
        let message = Message {
            entry: Entry::Callback(callback),
            arg: &[],
            caller: Principal::anonymous(),
            time_nanos: 1_700_000_000_000_000_000,
            call: CallInfo { reject, ..CallInfo::default() },
        };
        let outcome = self.canister.execute(&message).unwrap();
        self.canister.end_query_tree().unwrap();
        outcome
    }
}

//! From a canister's bytes to machine code: decompress, rewrite, compile, link.
//!
//! A module is compiled once per [`Engine`] and shared by all canisters that run it. It may have several forms:
//!
//! - What the optimising compiler made, with the counter where the configuration wants it.
//! - What the baseline compiler made, with the counter in a global rather than threaded: its code keeps locals in memory
//!   anyway, and second results too.
//! - Under [`Counter::Threaded`], a form with the counter in a global, compiled when a message first traps (see `execute`),
//!   unless the baseline compiler's is there.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bedstone_instrument::{Config, Counter, Manifest, StableAccess, Tracker, instrument, limits};
use sha2::{Digest, Sha256};
use wasmtime::InstancePre;

use crate::background::Background;
use crate::cache::{About, CompileCache, Fingerprint, Name};
use crate::compiler::{Backend, Compiler, Tier};
use crate::error::Error;
use crate::ic0::HostFunctions;
use crate::prices::SubnetInfo;
use crate::state::MessageState;
use crate::touched::UndoAreas;

/// How canisters are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct EngineConfig {
    /// How stable memory is reached.
    pub stable: StableAccess,
    /// Host mode only: look the heap up at each stable access, as host functions usually do. For comparisons.
    pub usual_host_functions: bool,
    /// Where the instruction counter is kept.
    pub counter: Counter,
    /// How written pages are found.
    pub tracker: Tracker,
    /// What makes machine code of modules.
    pub compiler: Compiler,
    /// How many instructions an execution may use.
    pub instructions: InstructionLimits,
    /// Whether modules may declare several memories, which the IC refuses. Each is committed, rolled back, saved and, on an
    /// upgrade, kept or replaced like the heap; the system API works on memory 0, whose width also decides about prices.
    pub allow_multi_memory: bool,
}

/// How many instructions an execution may use. The default is an application subnet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InstructionLimits {
    /// Updates, timers, heartbeats, callbacks.
    pub message: u64,
    /// Queries, replicated or not.
    pub query: u64,
    /// All stages of an installation or upgrade together, compilation included.
    pub install: u64,
    /// `canister_inspect_message`.
    pub inspect_message: u64,
}

impl InstructionLimits {
    /// An application subnet's limits.
    pub const IC: Self = Self {
        message: limits::MESSAGE_INSTRUCTIONS_MAX,
        query: limits::QUERY_INSTRUCTIONS_MAX,
        install: limits::INSTALL_INSTRUCTIONS_MAX,
        inspect_message: limits::INSPECT_MESSAGE_INSTRUCTIONS_MAX,
    };
}

impl Default for InstructionLimits {
    fn default() -> Self {
        Self::IC
    }
}

/// Compiles modules and owns what they share. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    config: EngineConfig,
    subnet: Arc<SubnetInfo>,
    optimising: Backend,
    /// Absent if it is not wanted, or knows nothing of this machine.
    baseline: Option<Backend>,
    background: Arc<Background>,
    cache: Option<Arc<CompileCache>>,
    modules: Mutex<Modules>,
    /// Shared by all canisters.
    undo_areas: Arc<UndoAreas>,
}

/// Compiled modules by what was installed.
#[derive(Default)]
struct Modules {
    known: HashMap<Fingerprint, Weak<Module>>,
    /// Those used last, kept although no canister in memory may use them: canisters that were let go come back.
    recent: VecDeque<Arc<Module>>,
}

/// Some ten megabytes of machine code each.
const RECENT_MODULES_MAX: usize = 8;

impl Modules {
    fn find(&mut self, fingerprint: &Fingerprint) -> Option<Arc<Module>> {
        let module = self.known.get(fingerprint).and_then(Weak::upgrade)?;
        self.remember(&module);
        Some(module)
    }

    fn add(&mut self, module: &Arc<Module>) {
        self.known.retain(|_, module| module.strong_count() > 0);
        self.known.insert(module.fingerprint, Arc::downgrade(module));
        self.remember(module);
    }

    fn remember(&mut self, module: &Arc<Module>) {
        self.recent.retain(|recent| !Arc::ptr_eq(recent, module));
        self.recent.push_back(Arc::clone(module));
        if self.recent.len() > RECENT_MODULES_MAX {
            self.recent.pop_front();
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// A canister's code, ready to run.
pub struct Module {
    /// The bytes as installed, gzip or not.
    pub(crate) installed: Vec<u8>,
    fingerprint: Fingerprint,
    /// SHA-256 of the bytes as installed.
    pub(crate) hash: [u8; 32],
    first: Compiled,
    /// What the background made.
    optimised: OnceLock<Compiled>,
    /// The form that counts exactly through traps, if neither of those does.
    exact: OnceLock<Compiled>,
    engine: Weak<Inner>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("manifest", &self.first.manifest).finish_non_exhaustive()
    }
}

/// One compiled form of a module.
pub(crate) struct Compiled {
    pub tier: Tier,
    pub manifest: Manifest,
    pub pre: InstancePre<MessageState>,
    pub counter: Counter,
    /// What canisters are told of their subnet.
    pub subnet: Arc<SubnetInfo>,
    pub undo_areas: Arc<UndoAreas>,
}

impl Engine {
    /// An engine for canisters of a subnet that is like any other.
    ///
    /// # Errors
    /// If this machine cannot run compiled Wasm.
    pub fn new(config: EngineConfig) -> Result<Self, Error> {
        Self::on_subnet(config, SubnetInfo::default())
    }

    /// An engine for the canisters of a subnet.
    ///
    /// # Errors
    /// If this machine cannot run compiled Wasm.
    pub fn on_subnet(config: EngineConfig, subnet: SubnetInfo) -> Result<Self, Error> {
        Self::with_cache(config, subnet, None)
    }

    /// An engine for the canisters of a subnet that looks for compiled modules in a cache, and keeps them there.
    ///
    /// # Errors
    /// If this machine cannot run compiled Wasm.
    pub fn with_cache(
        config: EngineConfig,
        subnet: SubnetInfo,
        cache: Option<Arc<CompileCache>>,
    ) -> Result<Self, Error> {
        let form = match (config.stable, config.usual_host_functions) {
            (StableAccess::Native, _) => HostFunctions::None,
            (StableAccess::Host, false) => HostFunctions::Cached,
            (StableAccess::Host, true) => HostFunctions::Usual,
        };
        let inner = Inner {
            config,
            subnet: Arc::new(subnet),
            optimising: Backend::new(Tier::Optimising, form)?,
            baseline: match config.compiler {
                Compiler::Optimising => None,
                Compiler::Baseline | Compiler::BaselineThenOptimising => {
                    Backend::new(Tier::Baseline, form).ok()
                }
            },
            background: Arc::default(),
            cache,
            modules: Mutex::default(),
            undo_areas: Arc::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How canisters are run.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// The subnet that canisters are on.
    pub fn subnet(&self) -> &SubnetInfo {
        &self.inner.subnet
    }

    /// Compiles a module, plain or gzip; the same bytes only once while a canister uses them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidModule`](crate::ErrorKind::InvalidModule) if the IC would not accept it.
    pub fn compile<'a>(&self, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Arc<Module>, Error> {
        let bytes = bytes.into();
        let fingerprint = *blake3::hash(&bytes).as_bytes();
        let modules = || self.inner.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules().find(&fingerprint) {
            return Ok(module);
        }
        let source = Source { fingerprint, installed: &bytes };
        let (hash, first) = self.inner.first_form(source)?;
        let module = Arc::new(Module {
            installed: bytes.into_owned(),
            fingerprint,
            hash,
            first,
            optimised: OnceLock::new(),
            exact: OnceLock::new(),
            engine: Arc::downgrade(&self.inner),
        });
        if self.inner.config.compiler == Compiler::BaselineThenOptimising
            && module.first.tier == Tier::Baseline
        {
            self.inner.background.add(&module);
        }
        modules().add(&module);
        Ok(module)
    }

    /// Waits until nothing is compiled in the background. Canisters run the new code from their next message on.
    pub fn finish_compiling(&self) {
        self.inner.background.finish();
    }
}

/// A module's bytes as installed, and their hash.
#[derive(Clone, Copy)]
struct Source<'a> {
    fingerprint: Fingerprint,
    installed: &'a [u8],
}

/// Which compiler makes a form, and where it keeps its counter.
type Form = (Tier, Counter);

/// A form, and the SHA-256 of what was installed.
type Formed = ([u8; 32], Compiled);

impl Inner {
    /// The form that messages run first. What is kept already is taken rather than compiling, the better one if both are.
    fn first_form(&self, source: Source<'_>) -> Result<Formed, Error> {
        let optimised = (Tier::Optimising, self.config.counter);
        let Some(baseline) = &self.baseline else { return self.form(source, optimised) };
        let counter = match self.config.counter {
            Counter::Threaded => Counter::Global,
            other => other,
        };
        let quick = (Tier::Baseline, counter);
        let kept = self.kept(source, optimised).or_else(|| self.kept(source, quick));
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let config = self.rewriting(quick.1);
        let wasm = decompress(source.installed)?;
        let (rewritten, manifest) = instrument(&wasm, &config).map_err(Error::invalid_module)?;
        if manifest.external_references {
            // Its engine has no heap for them.
            return self.form(source, optimised);
        }
        // It refuses what it does not know; should it panic over that, it is refused all the same.
        let compile = || wasmtime::Module::new(&baseline.engine, &rewritten);
        match catch_unwind(AssertUnwindSafe(compile)) {
            Ok(Ok(module)) => self.keep(source, quick, manifest, &module),
            _ => self.form(source, optimised),
        }
    }

    /// A form of a module, from the cache, or compiled and kept there.
    fn form(&self, source: Source<'_>, form: Form) -> Result<Formed, Error> {
        if let Some(kept) = self.kept(source, form) {
            return Ok(kept);
        }
        let config = self.rewriting(form.1);
        let wasm = decompress(source.installed)?;
        let (rewritten, manifest) = instrument(&wasm, &config).map_err(Error::invalid_module)?;
        let engine = &self.backend(form.0).engine;
        let module = wasmtime::Module::new(engine, &rewritten).map_err(Error::machine)?;
        self.keep(source, form, manifest, &module)
    }

    fn backend(&self, tier: Tier) -> &Backend {
        match (tier, &self.baseline) {
            (Tier::Baseline, Some(baseline)) => baseline,
            (Tier::Baseline, None) => unreachable!("forms of a compiler that is absent are not asked for"),
            (Tier::Optimising, _) => &self.optimising,
        }
    }

    fn rewriting(&self, counter: Counter) -> Config {
        let EngineConfig { stable, tracker, allow_multi_memory, .. } = self.config;
        // Wasmtime validates what it compiles.
        Config { stable, counter, tracker, allow_multi_memory, revalidate: false, ..Config::default() }
    }

    /// Where a form is kept, and under what name, if there is a cache.
    fn place(&self, source: Source<'_>, (tier, counter): Form) -> Option<(&CompileCache, Name)> {
        let cache = self.cache.as_deref()?;
        let settings = format!("{tier:?} {:?}", self.rewriting(counter));
        Some((cache, Name::new(&source.fingerprint, &self.backend(tier).engine, &settings)))
    }

    fn kept(&self, source: Source<'_>, form: Form) -> Option<Formed> {
        let (cache, name) = self.place(source, form)?;
        let (about, module) = cache.find(&name, self.backend(form.0))?;
        Some((about.hash, self.link(form.0, about.manifest, &module).ok()?))
    }

    fn keep(
        &self,
        source: Source<'_>,
        form: Form,
        manifest: Manifest,
        module: &wasmtime::Module,
    ) -> Result<Formed, Error> {
        let about = About { hash: Sha256::digest(source.installed).into(), manifest };
        if let Some((cache, name)) = self.place(source, form) {
            cache.keep(&name, &about, module);
        }
        Ok((about.hash, self.link(form.0, about.manifest, module)?))
    }

    fn link(&self, tier: Tier, manifest: Manifest, module: &wasmtime::Module) -> Result<Compiled, Error> {
        let pre = self.backend(tier).link(module, manifest.memory64())?;
        let (subnet, undo_areas) = (Arc::clone(&self.subnet), Arc::clone(&self.undo_areas));
        Ok(Compiled { tier, counter: manifest.counter, manifest, pre, subnet, undo_areas })
    }
}

impl Module {
    /// What the rewriter found and injected.
    pub fn manifest(&self) -> &Manifest {
        &self.first.manifest
    }

    /// Whether the next message runs what the optimising compiler made.
    pub fn is_optimised(&self) -> bool {
        self.current().tier == Tier::Optimising
    }

    /// SHA-256 of the bytes as installed.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// The bytes as installed.
    pub fn bytes(&self) -> &[u8] {
        &self.installed
    }

    /// The plain Wasm.
    pub(crate) fn wasm(&self) -> Cow<'_, [u8]> {
        decompress(&self.installed).expect("it was decompressed when it was compiled")
    }

    fn source(&self) -> Source<'_> {
        Source { fingerprint: self.fingerprint, installed: &self.installed }
    }

    /// The form that the next message should run.
    pub(crate) fn current(&self) -> &Compiled {
        self.optimised.get().unwrap_or(&self.first)
    }

    /// Makes the optimised form, unless the engine is gone. What fails leaves the module as it is.
    pub(crate) fn optimise(&self) {
        let Some(engine) = self.engine.upgrade() else { return };
        if let Ok((_, compiled)) = engine.form(self.source(), (Tier::Optimising, engine.config.counter)) {
            let _ = self.optimised.set(compiled);
        }
    }

    /// The form that counts exactly through traps; compiled when first asked for.
    pub(crate) fn exact(&self) -> Result<&Compiled, Error> {
        if let Some(form) =
            [self.current(), &self.first].into_iter().find(|form| form.counter != Counter::Threaded)
        {
            return Ok(form);
        }
        if let Some(exact) = self.exact.get() {
            return Ok(exact);
        }
        let engine = self.engine.upgrade().expect("canisters keep their engine");
        let (_, compiled) = engine.form(self.source(), (Tier::Optimising, Counter::Global))?;
        Ok(self.exact.get_or_init(|| compiled))
    }
}

/// Undoes gzip, if the bytes are gzip.
fn decompress(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(Cow::Borrowed(bytes));
    }
    let declared = match bytes.last_chunk::<4>() {
        Some(size) if bytes.len() >= 16 => u64::from(u32::from_le_bytes(*size)),
        _ => {
            return Err(Error::module("the gzip file is cut off: it is shorter than a header and a trailer"));
        }
    };
    if declared > limits::MODULE_BYTES_MAX {
        return Err(Error::module(format!(
            "the module has {declared} bytes when decompressed; the limit is {}",
            limits::MODULE_BYTES_MAX
        )));
    }
    let mut wasm = Vec::new();
    let read = flate2::read::GzDecoder::new(bytes).take(declared + 1).read_to_end(&mut wasm);
    match read {
        Err(error) => Err(Error::module(format!("the gzip file is damaged: {error}"))),
        Ok(read) if read as u64 != declared => Err(Error::module(format!(
            "the gzip file declares {declared} bytes but holds {}",
            if read as u64 > declared { "more".to_owned() } else { read.to_string() }
        ))),
        Ok(_) => Ok(Cow::Owned(wasm)),
    }
}

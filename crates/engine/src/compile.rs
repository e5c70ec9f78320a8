//! From a canister's bytes to machine code: decompress, rewrite, compile, link.
//!
//! A module is compiled once per [`Engine`] and shared by all canisters that run it. Under [`Counter::Threaded`] a second
//! form with the counter in a global is compiled when a message first traps (see `execute`).

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bedstone_instrument::{Config, Counter, Manifest, StableAccess, Tracker, instrument, limits};
use sha2::{Digest, Sha256};
use wasmtime::InstancePre;

use crate::cache::{About, CompileCache, Fingerprint, Name};
use crate::compiler::{Backend, Tier};
use crate::dirty::UndoAreas;
use crate::error::Error;
use crate::ic0::HostFunctions;
use crate::prices::SubnetInfo;
use crate::state::MessageState;

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
    backend: Backend,
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
    pub(crate) main: Compiled,
    /// The form that counts exactly through traps, if `main` does not.
    exact: OnceLock<Compiled>,
    engine: Weak<Inner>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("manifest", &self.main.manifest).finish_non_exhaustive()
    }
}

/// One compiled form of a module.
pub(crate) struct Compiled {
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
        let backend = Backend::new(Tier::Optimising, form)?;
        let (subnet, modules, undo_areas) = (Arc::new(subnet), Mutex::default(), Arc::default());
        Ok(Self { inner: Arc::new(Inner { config, subnet, backend, cache, modules, undo_areas }) })
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
    pub fn compile(&self, bytes: &[u8]) -> Result<Arc<Module>, Error> {
        let fingerprint = *blake3::hash(bytes).as_bytes();
        let modules = || self.inner.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules().find(&fingerprint) {
            return Ok(module);
        }
        let (hash, main) = self.inner.form(&fingerprint, bytes, self.inner.config.counter)?;
        let module = Arc::new(Module {
            installed: bytes.to_vec(),
            fingerprint,
            hash,
            main,
            exact: OnceLock::new(),
            engine: Arc::downgrade(&self.inner),
        });
        modules().add(&module);
        Ok(module)
    }
}

impl Inner {
    /// A form of a module, from the cache, or compiled and kept there; and the SHA-256 of what was installed.
    fn form(
        &self,
        fingerprint: &Fingerprint,
        installed: &[u8],
        counter: Counter,
    ) -> Result<([u8; 32], Compiled), Error> {
        let EngineConfig { stable, tracker, allow_multi_memory, .. } = self.config;
        // Wasmtime validates what it compiles.
        let revalidate = false;
        let config = Config { stable, counter, tracker, allow_multi_memory, revalidate, ..Config::default() };
        let cached = self.cache.as_ref().map(|cache| {
            (cache, Name::new(fingerprint, &self.backend.engine, &format!("{config:?}")))
        });
        if let Some((cache, name)) = &cached
            && let Some((about, module)) = cache.find(name, &self.backend.engine)
        {
            return Ok((about.hash, self.link(about.manifest, &module)?));
        }
        let wasm = decompress(installed)?;
        let (rewritten, manifest) = instrument(&wasm, &config).map_err(Error::invalid_module)?;
        let module = wasmtime::Module::new(&self.backend.engine, &rewritten).map_err(Error::machine)?;
        let about = About { hash: Sha256::digest(installed).into(), manifest };
        if let Some((cache, name)) = cached {
            cache.keep(&name, &about, &module);
        }
        Ok((about.hash, self.link(about.manifest, &module)?))
    }

    fn link(&self, manifest: Manifest, module: &wasmtime::Module) -> Result<Compiled, Error> {
        let pre = self.backend.link(module, manifest.memory64())?;
        let (subnet, undo_areas) = (Arc::clone(&self.subnet), Arc::clone(&self.undo_areas));
        Ok(Compiled { counter: manifest.counter, manifest, pre, subnet, undo_areas })
    }
}

impl Module {
    /// What the rewriter found and injected.
    pub fn manifest(&self) -> &Manifest {
        &self.main.manifest
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

    /// The form that counts exactly through traps; compiled when first asked for.
    pub(crate) fn exact(&self) -> Result<&Compiled, Error> {
        if self.main.counter != Counter::Threaded {
            return Ok(&self.main);
        }
        if let Some(exact) = self.exact.get() {
            return Ok(exact);
        }
        let engine = self.engine.upgrade().expect("canisters keep their engine");
        let (_, compiled) = engine.form(&self.fingerprint, &self.installed, Counter::Global)?;
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

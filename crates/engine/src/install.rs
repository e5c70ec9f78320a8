//! Installing, reinstalling and upgrading: several stages that are kept together or not at all.
//!
//! Order, from the IC: `canister_pre_upgrade` of the old module → compile → new state → timer off, version + 1 → start →
//! `canister_init` or `canister_post_upgrade`. One instruction budget covers all of it; each stage counts its changed pages
//! by itself.
//!
//! Invariants:
//! - Until every stage has succeeded the old module, its memories and its globals are kept, and stable memory's pre-images too.
//! - On failure the canister is what it was, except for the log.

use std::sync::Arc;

use bedstone_instrument::abi::{DeclaredMemory, WASM_PAGE_BYTES};
use bedstone_instrument::{Tracker, limits};
use ic_principal::Principal;

use crate::canister::Canister;
use crate::compile::Module;
use crate::dirty::Heap;
use crate::error::{Error, ErrorKind};
use crate::execute::{Installed, Job, PRICES, Run, trap_line};
use crate::instance::Target;
use crate::memory;
use crate::message::{CallInfo, Context, InstallMode, WasmMemoryPersistence};
use crate::outcome::{Fault, Outcome, Response};
use crate::pages::PageSet;
use crate::process::refused;
use crate::system::{LowWasmMemoryHook, SystemState};

/// A request to install code.
#[derive(Debug, Clone)]
pub struct Installation<'a> {
    /// How.
    pub mode: InstallMode,
    /// The new code, from [`Engine::compile`](crate::Engine::compile).
    pub module: Arc<Module>,
    /// The argument of `canister_init` or `canister_post_upgrade`.
    pub arg: &'a [u8],
    /// Who asked.
    pub caller: Principal,
    /// The time that the canister sees.
    pub time_nanos: u64,
}

/// What the stages have used so far.
#[derive(Debug, Default)]
struct Totals {
    limit: u64,
    /// What the callback of a call may use.
    callback_limit: u64,
    instructions: u64,
    heap_pages: u64,
    stable_accessed: u64,
    stable_written: u64,
    log: Vec<Vec<u8>>,
}

impl Totals {
    fn add(&mut self, run: &mut Run) {
        self.instructions += run.ended.used;
        self.stable_accessed += run.stable_accessed;
        self.stable_written += run.stable_written;
        self.log.append(&mut run.log);
    }

    fn add_heap_pages(&mut self, pages: u64, module: &Module) {
        let memory64 = module.manifest().memory64();
        self.heap_pages += pages;
        self.instructions += pages * PRICES.heap_dirty_page(memory64);
    }

    fn outcome(mut self, response: Response) -> Outcome {
        if let Response::Trapped(fault) = &response {
            self.log.push(trap_line(fault));
        }
        Outcome {
            response,
            instructions: self.instructions.min(self.limit),
            heap_pages_dirtied: self.heap_pages,
            stable_pages_accessed: self.stable_accessed,
            stable_pages_dirtied: self.stable_written,
            log: self.log,
            calls: Vec::new(),
            cycles_accepted: 0,
        }
    }
}

/// A stage that failed, or the machine did.
enum Stop {
    Fault(Fault),
    Error(Error),
}

impl From<Error> for Stop {
    /// Of a module that compiled, only its instantiation can still be at fault.
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidModule => Self::Fault(Fault::new(502, error.to_string())),
            _ => Self::Error(error),
        }
    }
}

impl Canister {
    /// Installs code. [`Response::None`] on success.
    ///
    /// # Errors
    /// If this machine fails; a canister's fault is an [`Outcome`].
    pub fn install(&mut self, installation: &Installation<'_>) -> Result<Outcome, Error> {
        let limits = self.engine.config().instructions;
        self.saved.stale = true;
        let mut totals =
            Totals { limit: limits.install, callback_limit: limits.message, ..Totals::default() };
        let result = match installation.mode {
            InstallMode::Install if self.installed.is_some() => {
                return Ok(refused(Fault::new(
                    514,
                    format!(
                        "Canister {} cannot be installed because the canister is not empty. Try installing with \
                         mode='reinstall' instead",
                        self.system.id
                    ),
                )));
            }
            InstallMode::Install => self.replace_all(installation, &mut totals),
            InstallMode::Reinstall => self.replace_all(installation, &mut totals),
            InstallMode::Upgrade { skip_pre_upgrade, wasm_memory_persistence } => {
                if self.installed.is_none() {
                    let text = "Attempted to execute a message, but the canister contains no Wasm module.";
                    return Ok(refused(Fault::new(537, text)));
                }
                self.upgrade(installation, skip_pre_upgrade, wasm_memory_persistence, &mut totals)
            }
        };
        let response = match result {
            Ok(()) => Response::None,
            Err(Stop::Fault(fault)) => Response::Trapped(fault),
            Err(Stop::Error(error)) => return Err(error),
        };
        let outcome = totals.outcome(response);
        self.log.append(installation.time_nanos, outcome.log.iter().cloned());
        Ok(outcome)
    }

    /// Removes the code and everything that it made: memories, log, certified data, timer. System state stays otherwise.
    ///
    /// # Errors
    /// If there is no address space left for another stable memory.
    pub fn uninstall(&mut self) -> Result<(), Error> {
        let stable = memory::new_stable(self.engine.config()).map_err(Error::machine)?;
        self.installed = None;
        self.query_tree = None;
        self.stable = stable;
        self.stable_unsaved = PageSet::default();
        self.saved.stable_replaced = true;
        self.saved.stale = true;
        self.log.clear();
        let system = &mut self.system;
        system.certified_data.clear();
        system.global_timer = 0;
        system.version += 1;
        system.settings.heartbeat = false;
        system.settings.low_wasm_memory_hook = LowWasmMemoryHook::ConditionNotSatisfied;
        Ok(())
    }

    /// Install and reinstall: nothing of an old module stays but the system state's identity.
    fn replace_all(&mut self, installation: &Installation<'_>, totals: &mut Totals) -> Result<(), Stop> {
        totals.instructions += installation.module.manifest().compile_charge;
        let stable = memory::new_stable(self.engine.config()).map_err(Error::machine)?;
        let tracker = self.engine.config().tracker;
        let heaps = fresh_heaps(&installation.module, 0, tracker)?;
        let next = Installed::new(Arc::clone(&installation.module), &stable, None)?;
        let mut next = next.with_heaps(heaps);
        let mut system = self.system.clone();
        system.certified_data.clear();
        system.global_timer = 0;
        system.version += 1;
        next.begin(&system)?;
        run_stage(&mut next, installation, Context::Start, Target::Start, &mut system, totals)?;
        let init = Target::System("canister_init");
        run_stage(&mut next, installation, Context::Init, init, &mut system, totals)?;
        self.stable_unsaved = PageSet::default();
        next.commit(&mut self.stable_unsaved)?;
        self.log.clear();
        self.system = system;
        self.stable = stable;
        self.saved.stable_replaced = true;
        self.installed = Some(next);
        Ok(())
    }

    fn upgrade(
        &mut self,
        installation: &Installation<'_>,
        skip_pre_upgrade: bool,
        persistence: Option<WasmMemoryPersistence>,
        totals: &mut Totals,
    ) -> Result<(), Stop> {
        let mut old = self.installed.take().expect("checked by the caller");
        let mut system = self.system.clone();
        let result =
            self.upgrade_from(&mut old, &mut system, installation, skip_pre_upgrade, persistence, totals);
        match result {
            Ok(next) => {
                self.system = system;
                self.installed = Some(next);
                Ok(())
            }
            Err(stop) => {
                old.roll_back_transaction()?;
                self.installed = Some(old);
                Err(stop)
            }
        }
    }

    fn upgrade_from(
        &mut self,
        old: &mut Installed,
        system: &mut SystemState,
        installation: &Installation<'_>,
        skip_pre_upgrade: bool,
        persistence: Option<WasmMemoryPersistence>,
        totals: &mut Totals,
    ) -> Result<Installed, Stop> {
        old.begin(system)?;
        if !skip_pre_upgrade {
            let target = Target::System("canister_pre_upgrade");
            run_stage(old, installation, Context::PreUpgrade, target, system, totals)?;
        }
        let keep = keeps_heap(&old.module, &installation.module, persistence).map_err(Stop::Fault)?;
        totals.instructions += compile_charge(&old.module, &installation.module);
        system.global_timer = 0;
        system.version += 1;

        let module = &installation.module;
        let declared = &module.manifest().memories;
        let kept = if keep { old.heaps.len().min(declared.len()) } else { 0 };
        for (heap, ty) in old.heaps[..kept].iter().zip(declared) {
            check_fits(heap, ty).map_err(Stop::Fault)?;
        }
        // What can fail comes first, then the old module's memories are moved.
        for (heap, ty) in old.heaps[..kept].iter().zip(declared) {
            let least = usize::try_from(ty.wasm_pages_min * WASM_PAGE_BYTES).expect("validated");
            heap.live.grow_to(least).map_err(Error::machine)?;
        }
        let fresh = fresh_heaps(module, kept, self.engine.config().tracker)?;
        let next = Installed::new(Arc::clone(module), &self.stable, None)?;
        let replaced = old.heaps.split_off(kept);
        let mut heaps = std::mem::replace(&mut old.heaps, replaced);
        heaps.extend(fresh);
        let mut next = next.with_heaps(heaps);
        let result = old.hand_over_touched(&mut next, system).map_err(Stop::from).and_then(|()| {
            finish_upgrade(&mut next, installation, system, totals).or_else(|stop| {
                next.hand_over_touched(old, system)?;
                Err(stop)
            })
        });
        match result {
            Ok(()) => {
                next.commit(&mut self.stable_unsaved)?;
                Ok(next)
            }
            Err(stop) => {
                next.heaps.truncate(kept);
                next.heaps.append(&mut old.heaps);
                std::mem::swap(&mut old.heaps, &mut next.heaps);
                Err(stop)
            }
        }
    }
}

fn finish_upgrade(
    next: &mut Installed,
    installation: &Installation<'_>,
    system: &mut SystemState,
    totals: &mut Totals,
) -> Result<(), Stop> {
    run_stage(next, installation, Context::Start, Target::Start, system, totals)?;
    let target = Target::System("canister_post_upgrade");
    run_stage(next, installation, Context::Init, target, system, totals)
}

/// Whether the heap stays, by the IC's rules on options and the persistence marker.
fn keeps_heap(old: &Module, new: &Module, asked: Option<WasmMemoryPersistence>) -> Result<bool, Fault> {
    let (old_eop, new_eop) =
        (old.manifest().enhanced_orthogonal_persistence, new.manifest().enhanced_orthogonal_persistence);
    match asked {
        Some(WasmMemoryPersistence::Keep) if !new_eop => Err(Fault::new(
            504,
            "Invalid upgrade option: The `wasm_memory_persistence: opt Keep` upgrade option requires that the new canister \
             module supports enhanced orthogonal persistence",
        )),
        Some(WasmMemoryPersistence::Keep) => Ok(true),
        Some(WasmMemoryPersistence::Replace) => Ok(false),
        None if old_eop => Err(Fault::new(
            504,
            "Missing upgrade option: Enhanced orthogonal persistence requires the `wasm_memory_persistence` upgrade option",
        )),
        None => Ok(false),
    }
}

/// Whether a kept memory can be the new module's.
fn check_fits(heap: &Heap, ty: &DeclaredMemory) -> Result<(), Fault> {
    let bytes = heap.live.len() as u64;
    if ty.memory64 || bytes <= limits::HEAP32_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "Invalid upgrade option: memory {} has {bytes} bytes and cannot be kept as the 32-bit memory that the new module \
         declares",
        ty.index
    );
    Err(Fault::new(504, text))
}

/// Compiling code that the subnet already knows costs a hundredth.
fn compile_charge(old: &Module, new: &Module) -> u64 {
    let full = new.manifest().compile_charge;
    if old.hash() == new.hash() { full / 100 } else { full }
}

/// The module's memories from index `first` on, with their initial contents.
fn fresh_heaps(module: &Module, first: usize, tracker: Tracker) -> Result<Vec<Heap>, Error> {
    let manifest = module.manifest();
    let heap = |ty| memory::new_heap(ty, 0, tracker).map_err(Error::machine);
    let mut heaps: Vec<Heap> = manifest.memories[first..].iter().map(heap).collect::<Result<_, _>>()?;
    if heaps.is_empty() {
        return Ok(heaps);
    }
    let wasm = module.wasm();
    for data in &manifest.data {
        let Some(index) = (data.memory as usize).checked_sub(first) else { continue };
        let at = usize::try_from(data.offset).expect("validated to lie in the initial memory");
        heaps[index].initialise(at, &wasm[data.range.clone()]);
    }
    Ok(heaps)
}

/// Runs one stage if the module has it. A stage that fails is rolled back.
fn run_stage(
    installed: &mut Installed,
    installation: &Installation<'_>,
    context: Context,
    target: Target<'_>,
    system: &mut SystemState,
    totals: &mut Totals,
) -> Result<(), Stop> {
    if !installed.live(system)?.has(target) {
        return Ok(());
    }
    let mut run_limits = system.limits(totals.limit, totals.callback_limit, 0);
    run_limits.instructions = totals.limit.saturating_sub(totals.instructions);
    let job = Job {
        context,
        target,
        arg: if context == Context::Init { installation.arg } else { &[] },
        caller: installation.caller,
        method: "",
        time_nanos: installation.time_nanos,
        limits: run_limits,
        call: CallInfo::default(),
    };
    let mut run = installed.run(&job, system)?;
    totals.add(&mut run);
    let module = Arc::clone(&installed.module);
    if let Some(fault) = run.ended.fault {
        let pages = installed.roll_back_stage()?;
        totals.add_heap_pages(pages, &module);
        return Err(Stop::Fault(fault));
    }
    system.apply(&mut run.changes);
    // The old module's globals stay as they were saved: if a later stage fails they come back.
    let pages = installed.end_stage(context != Context::PreUpgrade, system)?;
    totals.add_heap_pages(pages, &module);
    Ok(())
}

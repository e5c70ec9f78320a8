//! Drives a store on the simulated disk through many lives, each ended by a crash or a fault, and compares what
//! every opening finds with a model. The same seed does the same, so that a violation can be looked at again.
//!
//! What must hold after every opening:
//!
//! - the state is the one after exactly one record;
//! - that record is none before the last acknowledged one, and none that was never appended;
//! - it does not fall between crashes: what was shown stays;
//! - the store opens, unless something was made to fail while it did;
//! - after a failure that ends the store the disk sees no further change;
//! - in the end every page verifies, and no file is left that neither catalog nor log knows.

mod flips;
mod kill;
mod load;
mod model;
mod mutants;
mod swarm;
mod sweep;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::sim::{Crash, Faults, Random, SimDisk};
use crate::{
    Budget, Config, Depth, Durability, Error, ErrorKind, Lsn, MemoryId, Opened, Result, Store, Work,
};
pub use flips::{FlipSummary, flips, stale_record, torn_tails};
pub use kill::{KillSummary, child, kills};
use model::{Oracle, State};
pub use mutants::{MUTANTS, Mutant, Trial, attempt, search};
use swarm::Swarm;
pub use sweep::{SweepSummary, sweep};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// How a seed is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// On the database that is the catalog in use, instead of a plain file: a hundred times slower.
    pub redb: bool,
    /// With the parts of the fault model that are for the long tier.
    pub long: bool,
    /// With this mistake in the store.
    pub mutant: Option<&'static str>,
    /// Keeps a line for each operation of the disk, for the violation.
    pub trace: bool,
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and a text for each would say the same")]
pub struct Summary {
    pub power_cuts: u64,
    pub kills: u64,
    pub crashes_in_openings: u64,
    pub openings: u64,
    pub clean_openings: u64,
    pub failed_operations: u64,
    pub full_disks: u64,
    pub poisoned: u64,
    pub appended: u64,
    pub checkpoints: u64,
    pub verified: u64,
    /// Differs when two runs did not do the same to the disk.
    pub trace_hash: u64,
}

impl Summary {
    /// Crashes of both kinds.
    pub fn crashes(&self) -> u64 {
        self.power_cuts + self.kills
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Summary) {
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        self.crashes_in_openings += other.crashes_in_openings;
        self.openings += other.openings;
        self.clean_openings += other.clean_openings;
        self.failed_operations += other.failed_operations;
        self.full_disks += other.full_disks;
        self.poisoned += other.poisoned;
        self.appended += other.appended;
        self.checkpoints += other.checkpoints;
        self.verified += other.verified;
        self.trace_hash ^= other.trace_hash.rotate_left(1);
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The run that shows it.
    pub seed: u64,
    /// How many crashes came before.
    pub crashes: u64,
    /// What was expected and what was found.
    pub what: String,
    /// The operations of the disk, if they were asked for.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}, after {} crashes: {}", self.seed, self.crashes, self.what)
    }
}

/// Runs one seed.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, options: &Options) -> Result<Summary, Violation> {
    activate(options.mutant);
    // A panic of the store is a violation like any other, and the mistake must not outlive the run.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Run::new(seed, options).all()));
    activate(None);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let what = format!("panic: {}", text.unwrap_or_default());
        Err(Violation { seed, crashes: 0, what, trace: Vec::new() })
    })
}

#[cfg(any(test, feature = "mutants"))]
use crate::mutants::activate;

#[cfg(not(any(test, feature = "mutants")))]
fn activate(mutant: Option<&'static str>) {
    assert!(mutant.is_none(), "mistakes are compiled in by the feature `mutants` only");
}

struct Run {
    seed: u64,
    options: Options,
    random: Random,
    swarm: Swarm,
    disk: Arc<SimDisk>,
    oracle: Oracle,
    began: Instant,
    now: Duration,
    summary: Summary,
    /// Failures of the disk before those that are ahead.
    failures: u64,
}

/// How a step of a life ended, when nothing was violated.
enum Next {
    Goes,
    /// The store has failed, for a reason.
    Ended,
}

type Checked<T> = Result<T, String>;

impl Run {
    fn new(seed: u64, options: &Options) -> Run {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xb5);
        let swarm = Swarm::draw(&mut random, options.long);
        let disk = SimDisk::new(random.number());
        disk.set_model(swarm.model);
        if options.trace {
            disk.set_tracing();
        }
        Run {
            seed,
            options: options.clone(),
            random,
            swarm,
            disk,
            oracle: Oracle::new(),
            began: Instant::now(),
            now: Duration::ZERO,
            summary: Summary::default(),
            failures: 0,
        }
    }

    fn all(mut self) -> Result<Summary, Violation> {
        let mut lives = || -> Checked<()> {
            for _ in 0..self.swarm.lives {
                self.life()?;
            }
            self.last_life()
        };
        let result = lives();
        self.summary.trace_hash = self.disk.trace_hash();
        result.map(|()| self.summary.clone()).map_err(|what| Violation {
            seed: self.seed,
            crashes: self.summary.crashes(),
            what,
            trace: self.disk.trace(),
        })
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.random.below(100) < percent
    }

    fn config(&mut self) -> Config {
        let config = self.swarm.config(&mut self.random);
        if self.options.redb { config } else { config.with_plain_catalog() }
    }

    /// Decides what will end the life that begins, or the opening before it.
    fn arm(&mut self, is_opening: bool) {
        let within = if is_opening { self.swarm.crash_within.min(60) } else { self.swarm.crash_within };
        let at = 1 + self.random.below(within) as u64;
        let mut faults = Faults::none();
        self.disk.set_room(None);
        if self.chance(self.swarm.full) {
            let space = crate::Disk::space(&*self.disk).expect("the simulated disk knows its space");
            let taken = space.total_bytes - space.free_bytes;
            self.disk.set_room(Some(taken + self.random.below(20) as u64 * 4096));
        } else if self.chance(self.swarm.fail) {
            let error = if self.chance(70) { EIO } else { ENOSPC };
            faults.fail.push((at, error));
        } else if !is_opening && self.chance(self.swarm.fail_syncs) {
            faults.fail_syncs.push((1 + self.random.below(within.min(30)) as u64, EIO));
        } else if self.chance(self.swarm.fail_dir_syncs) {
            faults.fail_dir_syncs.push((1 + self.random.below(8) as u64, EIO));
        } else if self.chance(self.swarm.fail_reads) {
            faults.fail_reads.push((1 + self.random.below(60) as u64, EIO));
        } else {
            faults.stop = Some(at);
        }
        self.disk.set_faults(faults);
        self.failures = self.disk.failures();
    }

    fn disarm(&mut self) {
        self.disk.set_room(None);
        self.disk.set_faults(Faults::none());
        self.failures = self.disk.failures();
    }

    /// Whether the disk did something that the store had to tell.
    fn is_excused(&self) -> bool {
        self.disk.failures() > self.failures
    }

    fn excuse(&self, what: &str, error: &Error) -> Checked<()> {
        if self.is_excused() { Ok(()) } else { Err(format!("{what}, and nothing was made to fail: {error}")) }
    }

    fn crash(&mut self) {
        let kind = if self.chance(self.swarm.kill) { Crash::Kill } else { Crash::Power };
        self.crash_by(kind);
    }

    fn crash_by(&mut self, kind: Crash) {
        self.summary.failed_operations += self.disk.failures() - self.failures;
        // What a sync could not write the kernel may forget, also of what was only promised to outlive the
        // process.
        let forgets = self.is_excused() && !self.disk.is_stopped();
        self.disk.set_room(None);
        self.disk.crash(kind);
        self.failures = self.disk.failures();
        match kind {
            Crash::Kill => self.summary.kills += 1,
            Crash::Power => self.summary.power_cuts += 1,
        }
        if kind == Crash::Power || forgets {
            self.oracle.power_failed();
        }
    }

    /// Opens the store and looks at all of it; `None` when that did not work out, for a reason.
    fn open(&mut self) -> Checked<Option<Store>> {
        let config = self.config();
        let had = self.oracle.last();
        let (store, opened) = match Store::open_or_create(self.disk.clone(), &config) {
            Ok(opened) => opened,
            Err(error) => {
                self.excuse("the store does not open", &error)?;
                return Ok(None);
            }
        };
        self.summary.openings += 1;
        match opened {
            Opened::Clean => self.summary.clean_openings += 1,
            Opened::Created if had > 0 => return Err(format!("{had} records, and no state")),
            _ => {}
        }
        let last = match store.progress() {
            Ok(progress) => progress.last,
            Err(error) => return Err(format!("a store that was just opened has failed: {error}")),
        };
        match State::of(&store) {
            Ok(found) => self.oracle.check(last, &found)?,
            Err(error) => {
                self.excuse("what was just opened cannot be read", &error)?;
                return Ok(None);
            }
        }
        Ok(Some(store))
    }

    fn life(&mut self) -> Checked<()> {
        let crashes_opening = self.chance(self.swarm.crash_opening);
        if crashes_opening {
            self.arm(true);
        } else {
            self.disarm();
        }
        let Some(store) = self.open()? else {
            self.summary.crashes_in_openings += 1;
            let kind = if self.chance(self.swarm.kill_opening) { Crash::Kill } else { Crash::Power };
            self.crash_by(kind);
            return Ok(());
        };
        if !crashes_opening || !self.is_excused() {
            self.arm(false);
        }
        let messages = 1 + self.random.below(self.swarm.messages);
        for _ in 0..messages {
            match self.act(&store)? {
                Next::Goes => {}
                Next::Ended => {
                    self.check_ended(store)?;
                    self.crash();
                    return Ok(());
                }
            }
        }
        if self.chance(self.swarm.close) {
            return self.close(store);
        }
        drop(store);
        self.crash();
        Ok(())
    }

    fn close(&mut self, store: Store) -> Checked<()> {
        let last = self.oracle.last();
        match store.close() {
            Ok(()) => self.oracle.synced(last),
            Err(error) => self.excuse("the store does not close", &error)?,
        }
        self.crash();
        Ok(())
    }

    /// One thing that users of a store do.
    fn act(&mut self, store: &Store) -> Checked<Next> {
        self.now += Duration::from_millis(self.random.below(30) as u64);
        let (checkpoint, step) = (self.swarm.checkpoint, self.swarm.step);
        let result = match self.random.below(100) {
            share if share < checkpoint => self.checkpoint(store),
            share if share < 20 => self.look(store)?,
            _ => self.messages(store)?,
        };
        let result = result.and_then(|()| if self.chance(step) { self.step(store) } else { Ok(()) });
        match result {
            Ok(()) if self.disk.is_stopped() => Ok(Next::Ended),
            Ok(()) => Ok(Next::Goes),
            Err(error) => {
                self.excuse("the store fails", &error)?;
                // A full disk is not the end, if nothing was promised that could not be kept.
                if error.kind() == ErrorKind::StorageFull && store.progress().is_ok() {
                    self.summary.full_disks += 1;
                    if self.chance(50) {
                        self.disk.set_room(None);
                    }
                    return Ok(Next::Goes);
                }
                Ok(Next::Ended)
            }
        }
    }

    /// Messages that are acknowledged together.
    fn messages(&mut self, store: &Store) -> Checked<Result<()>> {
        let count = 1 + self.random.below(self.swarm.group);
        let mut lsns = Vec::new();
        for _ in 0..count {
            let mut state = self.oracle.newest().clone();
            let change = load::message(store, &self.swarm, &mut state, &mut self.random);
            let appended = change.and_then(|change| {
                let is_empty = change.is_empty();
                let lsn = if self.swarm.durability == Durability::Off {
                    // What fails here may have happened.
                    if !is_empty {
                        self.oracle.append(state.clone());
                    }
                    let lsn = store.save(change)?;
                    self.oracle.synced(lsn.get());
                    return Ok(None.or((!is_empty).then_some(lsn)));
                } else {
                    store.append(change)?
                };
                Ok((!is_empty).then_some(lsn))
            });
            let lsn = match appended {
                Ok(Some(lsn)) => lsn,
                Ok(None) => continue,
                Err(error) => return Ok(Err(error)),
            };
            self.summary.appended += 1;
            if self.swarm.durability == Durability::Off {
                continue;
            }
            let expected = self.oracle.append(state);
            if lsn.get() != expected {
                return Err(format!("record {expected} got the number {lsn}"));
            }
            lsns.push(lsn);
            if self.chance(10) {
                // The work behind the scenes goes on while records wait.
                if let Err(error) = self.step(store) {
                    return Ok(Err(error));
                }
            }
        }
        if lsns.is_empty() {
            return Ok(Ok(()));
        }
        let waited = lsns[self.random.below(lsns.len())];
        self.wait(store, waited)
    }

    /// Waits for a record; sometimes another one is appended in the midst of the sync.
    fn wait(&mut self, store: &Store, lsn: Lsn) -> Checked<Result<()>> {
        let late = Arc::new(Mutex::new(None));
        let mut late_state = None;
        if self.chance(self.swarm.interrupt) {
            let mut state = self.oracle.newest().clone();
            let key = vec![self.random.below(8) as u8];
            let mut change = store.begin();
            change.put(&key, b"late");
            state.metadata.insert(key, b"late".to_vec());
            late_state = Some(state);
            let (store, late) = (store.clone(), late.clone());
            self.disk.set_interrupt(Some(Box::new(move || {
                *late.lock().unwrap_or_else(PoisonError::into_inner) = Some(store.append(change));
            })));
        }
        let waited = store.wait_durable(lsn);
        self.disk.set_interrupt(None);
        let late = late.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(Ok(lsn)), Some(state)) = (late, late_state) {
            let expected = self.oracle.append(state);
            if lsn.get() != expected {
                return Err(format!("record {expected} got the number {lsn}"));
            }
        }
        if let Err(error) = waited {
            return Ok(Err(error));
        }
        match self.swarm.durability {
            Durability::Interval { .. } => self.oracle.wrote(lsn.get()),
            _ => self.oracle.synced(lsn.get()),
        }
        self.progress(store)
    }

    fn progress(&mut self, store: &Store) -> Checked<Result<()>> {
        let progress = match store.progress() {
            Ok(progress) => progress,
            Err(error) => return Ok(Err(error)),
        };
        if progress.last.get() != self.oracle.last() {
            let expected = self.oracle.last();
            return Err(format!("the last record is {} and not {expected}", progress.last));
        }
        self.oracle.synced(progress.durable.get());
        Ok(Ok(()))
    }

    fn checkpoint(&mut self, store: &Store) -> Result<()> {
        let lsn = store.checkpoint()?;
        self.oracle.synced(lsn.get());
        self.summary.checkpoints += 1;
        Ok(())
    }

    fn step(&mut self, store: &Store) -> Result<()> {
        let pages = 1 + self.random.below(20);
        store.step(self.began + self.now, Budget::new(pages)).map(|_| ())
    }

    /// Reads something while the store runs.
    fn look(&mut self, store: &Store) -> Checked<Result<()>> {
        let expected = self.oracle.newest().clone();
        if self.random.below(2) == 0 {
            let key = vec![self.random.below(8) as u8; 1 + self.random.below(2)];
            return match store.metadata(&key) {
                Ok(value) if value.as_ref() == expected.metadata.get(&key) => Ok(Ok(())),
                Ok(value) => {
                    Err(format!("metadata {key:?} reads as {:?} bytes", value.map(|value| value.len())))
                }
                Err(error) => Ok(Err(error)),
            };
        }
        if self.swarm.durability == Durability::Off || self.random.below(4) > 0 {
            return self.progress(store);
        }
        match State::of(store) {
            Ok(found) if found == expected => Ok(Ok(())),
            Ok(found) => {
                Err(format!("the running store shows another state: {}", found.difference(&expected)))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// A store that failed says so, and does nothing more to the disk.
    fn check_ended(&mut self, store: Store) -> Checked<()> {
        if self.disk.is_stopped() {
            return Ok(());
        }
        if store.progress().is_ok() {
            // It went on after a failure that left nothing in doubt.
            return Ok(());
        }
        self.summary.poisoned += 1;
        let before = self.disk.operations();
        let mut change = store.begin();
        change.put(b"late", b"");
        let now = self.began + self.now;
        let is_off = self.swarm.durability == Durability::Off;
        let answers = [
            if is_off { store.save(change) } else { store.append(change) }.map(|_| ()),
            store.checkpoint().map(|_| ()),
            store.put_blob(b"late").map(|_| ()),
            store.step(now, Budget::new(9)).map(|_| ()),
            store.metadata(b"late").map(|_| ()),
            store.memory(MemoryId::new(1)).map(|_| ()),
            store.clone().close(),
        ];
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Err(error) if error.kind() == ErrorKind::Poisoned => {}
                Err(error) => return Err(format!("call {index} of a store that failed answers {error:?}")),
                Ok(()) => return Err(format!("call {index} of a store that failed succeeds")),
            }
        }
        drop(store);
        if self.disk.operations() > before {
            return Err("a store that failed went on writing".to_string());
        }
        Ok(())
    }

    /// Nothing fails any more: all is found, and tidied up.
    fn last_life(&mut self) -> Checked<()> {
        self.disarm();
        let Some(store) = self.open()? else { return Err("the last opening was excused".to_string()) };
        for _ in 0..1000 {
            self.now += Duration::from_secs(2);
            match store.step(self.began + self.now, Budget::new(1000)) {
                Ok(Work::More) => {}
                Ok(Work::Idle) => break,
                Err(error) => return Err(format!("the last step fails: {error}")),
            }
        }
        self.check_orphans()?;
        let report =
            store.verify(Depth::Full).map_err(|error| format!("the state does not verify: {error}"))?;
        if !report.is_clean() {
            return Err(format!("the state does not verify: {:?}", report.findings));
        }
        self.summary.verified += 1;
        store.close().map_err(|error| format!("the last close fails: {error}"))?;
        match Store::open(self.disk.clone(), &self.config()) {
            Ok((_, Opened::Clean)) => Ok(()),
            Ok((_, opened)) => Err(format!("after a close the opening is {opened:?}")),
            Err(error) => Err(format!("after a close the store does not open: {error}")),
        }
    }

    /// No file is left that neither the catalog nor the log knows.
    fn check_orphans(&self) -> Checked<()> {
        let state = self.oracle.newest();
        for path in self.disk.paths().into_keys() {
            let is_known = match path.split_once('/') {
                Some(("mem", name)) => {
                    let id = name.split_once('.').and_then(|(id, _)| id.parse().ok());
                    id.is_some_and(|id| state.memories.contains_key(&MemoryId::new(id)))
                }
                Some(("blob", name)) => state.blobs.keys().any(|id| id.to_string() == name),
                Some(("wal", name)) => !name.ends_with(".big"),
                _ => true,
            };
            if !is_known {
                return Err(format!("{path} was left behind"));
            }
        }
        Ok(())
    }
}

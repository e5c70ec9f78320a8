//! One script, run again and again with another of its operations failing each time.
//!
//! - Whatever fails, what was acknowledged before is there when the directory is opened again, and the state
//!   is one that the script went through.
//! - The script ends with an error of a kind that says so, or goes on as if nothing had been.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::load;
use super::model::{Oracle, State};
use super::swarm::{Edit, Swarm};
use crate::fault::{Failure, FaultDisk, Operation, Seen};
use crate::sim::{Model, Random};
use crate::{Budget, Class, Config, Depth, Disk, Durability, Error, ErrorKind, PageCount, PageIndex, Store};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const MESSAGES: usize = 60;

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and a text for each would say the same")]
pub struct SweepSummary {
    pub operations: u64,
    pub points: u64,
    /// The script ended with `Poisoned` or the error that led to it,
    pub poisoned: u64,
    /// or told that the disk is full and went on, or did not notice.
    pub survived: u64,
}

/// Sweeps over one script on fresh disks.
///
/// # Errors
/// The first promise that was broken.
pub fn sweep<D: Disk + 'static>(seed: u64, make_disk: impl Fn(u64) -> D) -> Result<SweepSummary, String> {
    let mut summary = SweepSummary::default();
    let all = point(seed, &make_disk, 0, &[])?;
    summary.operations = all.seen.len() as u64;
    for (index, seen) in all.seen.iter().enumerate() {
        let nth = index as u64 + 1;
        let failures = match seen.operation {
            Operation::Read | Operation::Open => vec![Failure::nth(nth, EIO)],
            Operation::Write => vec![
                Failure::nth(nth, EIO),
                Failure { short: true, ..Failure::nth(nth, ENOSPC) },
                // Full until there is room again.
                Failure { short: true, stays: true, ..Failure::nth(nth, ENOSPC) },
            ],
            _ => vec![Failure::nth(nth, EIO), Failure::nth(nth, ENOSPC)],
        };
        for failure in failures {
            summary.points += 1;
            let point = point(seed, &make_disk, summary.points, &[failure]);
            let point = point.map_err(|what| format!("{failure:?} at {seen:?}: {what}"))?;
            if point.has_ended {
                summary.poisoned += 1;
            } else {
                summary.survived += 1;
            }
        }
    }
    Ok(summary)
}

struct Point {
    seen: Vec<Seen>,
    has_ended: bool,
}

fn point<D: Disk + 'static>(
    seed: u64,
    make_disk: &impl Fn(u64) -> D,
    number: u64,
    failures: &[Failure],
) -> Result<Point, String> {
    let disk = Arc::new(FaultDisk::new(make_disk(number)));
    disk.record();
    disk.set_failures(failures.to_vec());
    let mut script = Script::new(seed, disk.clone());
    let result = script.run();
    let (seen, failed) = (disk.seen(), disk.failed());
    match &result {
        Ok(()) => {}
        Err(Stop::Failed(error)) if failed > 0 => match error.kind() {
            ErrorKind::Poisoned | ErrorKind::StorageFull | ErrorKind::Io | ErrorKind::Damaged => {}
            kind => return Err(format!("the kind of {error} is {kind:?}")),
        },
        Err(Stop::Failed(error)) => return Err(format!("nothing failed, but: {error}")),
        Err(Stop::Wrong(what)) => return Err(what.clone()),
    }
    disk.set_failures(Vec::new());
    script.check()?;
    Ok(Point { seen, has_ended: result.is_err() })
}

enum Stop {
    Failed(Error),
    Wrong(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

struct Script {
    disk: Arc<dyn Disk>,
    random: Random,
    swarm: Swarm,
    oracle: Oracle,
    began: Instant,
}

impl Script {
    fn new(seed: u64, disk: Arc<dyn Disk>) -> Script {
        let mut random = Random(seed);
        let swarm = Swarm {
            durability: Durability::Always,
            segment_bytes: 16 << 10,
            memories: 3,
            pages: 3,
            pages_max: 12,
            grow: 20,
            create: 4,
            drop: 2,
            copy: 0,
            metadata: 30,
            blobs: 10,
            oversized: 0,
            edit: Edit::Any,
            model: Model::default(),
            checkpoint_log_bytes: 1 << 20,
            ..Swarm::draw(&mut random, false)
        };
        Script { disk, random, swarm, oracle: Oracle::new(), began: Instant::now() }
    }

    fn config(&mut self) -> Config {
        self.swarm.config(&mut self.random).with_plain_catalog()
    }

    fn run(&mut self) -> Result<(), Stop> {
        let config = self.config();
        let (store, _) = Store::open_or_create(self.disk.clone(), &config)?;
        for number in 0..MESSAGES {
            match number {
                15 | 45 => {
                    let lsn = store.checkpoint()?;
                    self.oracle.synced(lsn.get());
                }
                25 => self.copy(&store)?,
                35 => self.upgrade(&store)?,
                _ => {}
            }
            self.swarm.oversized = if number == 30 { 100 } else { 0 };
            let mut state = self.oracle.newest().clone();
            let change = load::message(&store, &self.swarm, &mut state, &mut self.random)?;
            self.append(&store, change, state)?;
            match store.step(self.began + Duration::from_millis(number as u64), Budget::new(8)) {
                Err(error) if error.kind() == ErrorKind::StorageFull && store.progress().is_ok() => {}
                result => drop(result?),
            }
        }
        let last = self.oracle.last();
        store.close()?;
        self.oracle.synced(last);
        Ok(())
    }

    fn append(&mut self, store: &Store, change: crate::Change, state: State) -> Result<(), Stop> {
        if change.is_empty() {
            return Ok(());
        }
        let lsn = store.append(change)?;
        let expected = self.oracle.append(state);
        if lsn.get() != expected {
            return Err(Stop::Wrong(format!("record {expected} got the number {lsn}")));
        }
        store.wait_durable(lsn)?;
        self.oracle.synced(lsn.get());
        Ok(())
    }

    /// A snapshot of a memory, and a live copy of that.
    fn copy(&mut self, store: &Store) -> Result<(), Stop> {
        for class in [Class::Frozen, Class::Live] {
            let mut state = self.oracle.newest().clone();
            let wanted = if class == Class::Frozen { Class::Live } else { Class::Frozen };
            let found = state.memories.iter().find(|(_, memory)| memory.class == wanted);
            let Some((source, memory)) = found.map(|(id, memory)| (*id, memory.clone())) else { continue };
            let copied = if class == Class::Frozen {
                store.snapshot(&[source])?.pop().expect("one copy of one memory")
            } else {
                store.fork(source)?
            };
            let mut change = store.begin();
            let copy = change.create_copy(copied, class);
            state.memories.insert(copy.id(), super::model::ModelMemory { class, ..memory });
            self.append(store, change, state)?;
        }
        Ok(())
    }

    /// A new heap in the place of an old one, another module, other settings: one record.
    fn upgrade(&mut self, store: &Store) -> Result<(), Stop> {
        let mut state = self.oracle.newest().clone();
        let found = state.memories.iter().find(|(_, memory)| memory.class == Class::Live);
        let Some((id, capacity)) = found.map(|(id, memory)| (*id, memory.capacity)) else { return Ok(()) };
        let module = store.put_blob(&[9; 3000])?;
        let mut change = store.begin();
        change.drop_memory(store.memory(id)?);
        let heap = change.create(PageCount::new(capacity))?;
        change.grow(&heap, PageCount::new(1));
        change.image(&heap, PageIndex::new(0), &[7; 4096]);
        change.blob_references(module, 1);
        change.put(b"settings", b"upgraded");
        state.memories.remove(&id);
        let content = Arc::new([(0, Arc::new([7; 4096]))].into());
        let model = super::model::ModelMemory { class: Class::Live, capacity, pages: 1, content };
        state.memories.insert(heap.id(), model);
        state.blobs.insert(module, 1);
        state.metadata.insert(b"settings".to_vec(), b"upgraded".to_vec());
        self.append(store, change, state)
    }

    fn check(&mut self) -> Result<(), String> {
        let config = self.config();
        let opened = Store::open_or_create(self.disk.clone(), &config);
        let (store, _) = opened.map_err(|error| format!("it does not open again: {error}"))?;
        let failed = |error: Error| format!("it cannot be read again: {error}");
        let found = State::of(&store).map_err(failed)?;
        self.oracle.check(store.progress().map_err(failed)?.last, &found)?;
        let report = store.verify(Depth::Full).map_err(failed)?;
        if report.is_clean() { Ok(()) } else { Err(format!("it does not verify: {:?}", report.findings)) }
    }
}

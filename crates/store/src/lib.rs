//! Pages and records on disk, durable per message.
//!
//! A [`Store`] holds memories (pages of 4,096 bytes), metadata (opaque bytes under opaque keys) and blobs
//! (immutable bytes named by their hash). A [`Change`] gathers what one message did to any of them; it is
//! applied whole or not at all. The store has never heard of Wasm or canisters.
//!
//! ```text
//! change ─► record ─► log, synced ─► answer
//!                      │ checkpoint and recovery (apply)
//!                      └─► base and sum files of memories ─► commit of the catalog ─► log is used again
//!
//! state/                mode 0700, files 0600; drawn to the byte in docs/store-format.md
//!   LOCK                held for as long as the store is open
//!   FORMAT              what the directory is, and the key of the store
//!   CLEAN               present after a clean close only
//!   RESERVE             room to finish a checkpoint on a full disk
//!   catalog.redb        tables as of the last checkpoint; its commit is what completes one
//!   wal/<n>.log         segments of the log; wal/<lsn>.big holds one oversized record
//!   mem/<id>.base .sum  the pages of one memory, to be mapped; a sum per page
//!   blob/<sha256>       immutable bytes
//! ```
//!
//! - The log alone makes a change durable; all else is derived from it, by `apply` only.
//! - What is recovered is the state after exactly some change, whatever stopped the process, and contains
//!   every change that was acknowledged.
//! - After a failed write or sync every call fails until the directory is opened again.
//! - Every byte from disk is verified before it is used, but for what is mapped.
//! - No thread and no clock outside `runner.rs`, no randomness, no environment.
//!
//! ```
//! use bedstone_store::{Config, PageCount, PageIndex, Store};
//!
//! # fn main() -> bedstone_store::Result<()> {
//! let store = Store::in_memory(&Config::new([7; 32]));
//! let mut change = store.begin();
//! let memory = change.create(PageCount::new(16))?;
//! change.grow(&memory, PageCount::new(1));
//! change.image(&memory, PageIndex::new(0), &[1; 4096]);
//! change.put(b"heap", &memory.id().get().to_le_bytes());
//! store.save(change)?;
//!
//! let mut byte = [0];
//! memory.read(4095, &mut byte)?;
//! assert_eq!(byte, [1]);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod apply;
mod blob;
mod catalog;
mod change;
mod checkpoint;
mod config;
mod copy;
mod core;
mod disk;
mod error;
#[cfg(any(test, feature = "sim"))]
mod fault;
mod files;
mod format;
mod group;
mod guard;
mod log;
mod memory;
#[cfg(not(feature = "mutants"))]
mod mutants;
#[cfg(feature = "mutants")]
#[doc(hidden)]
pub mod mutants;
mod page;
mod record;
mod recover;
mod runner;
mod scan;
mod scratch;
mod segment;
#[cfg(any(test, feature = "sim"))]
mod sim;
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub mod simulate;
mod sync;
mod tables;
#[cfg(test)]
mod tests;
mod verify;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

pub use change::{BlobId, Change, KEY_BYTES_MAX};
pub use checkpoint::{Budget, Work};
pub use config::{Config, Durability};
pub use copy::Copied;
pub use disk::{Cloned, Disk, DiskFile, FileDisk, FileSystem, Lock, Open, RelPath, Space};
pub use error::{Error, ErrorKind, Result};
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub use fault::{Failure, FaultDisk, Operation, Seen};
pub use memory::{BaseFile, Image, MapSource, Memory};
pub use page::{Lsn, MemoryId, PAGE_BYTES, Page, PageCount, PageIndex};
pub use record::Class;
pub use recover::{Opened, Warning};
#[cfg(any(test, feature = "sim"))]
#[doc(hidden)]
pub use sim::{Crash, Faults, Model, NamesKept, Random, SimDisk};
pub use verify::{Depth, Finding, Report, repair_accepting_loss, verify};

use crate::core::{Core, FIRST_MEMORY};
use group::Order;
use recover::Loss;
use runner::Runner;
use sync::lock;
use tables::Tables;

/// How far a store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The last change that was appended.
    pub last: Lsn,
    /// The last change that survives a power cut; always 0 in a store without a directory.
    pub durable: Lsn,
    /// The last change whose pages are in the files that are mapped.
    pub applied: Lsn,
    /// Bytes of the log that a recovery would read.
    pub log_bytes: u64,
    /// Distinct pages that the next checkpoint writes.
    pub pending_pages: u64,
}

/// Whether the disk has room for what is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It has.
    Fine,
    /// It has hardly enough for what was already accepted: nothing new should be begun.
    Low,
}

/// Which keys of the metadata are meant.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum KeyRange<'a> {
    /// All of them.
    All,
    /// Those that begin so.
    Prefix(&'a [u8]),
}

/// Memories, metadata and blobs that change together. Clones are the same store.
///
/// When the last clone is dropped without [`close`](Store::close), nothing more is written: the next opening
/// finds what was durable.
#[derive(Clone)]
pub struct Store {
    // Before the core, so that the threads end first.
    runner: Option<Arc<Runner>>,
    core: Arc<Core>,
}

impl Store {
    /// Makes an empty store in a directory that is missing or empty.
    pub fn create(disk: Arc<dyn Disk>, config: &Config) -> Result<Store> {
        let place = disk.describe();
        match recover::create(disk, config)? {
            Some(core) => Store::started(core),
            None => Err(Error::new(
                ErrorKind::Format,
                format!("{place} holds a Bedstone state already; open that one, or choose another directory"),
            )),
        }
    }

    /// Opens the store in a directory, and recovers it if it had not been closed.
    pub fn open(disk: Arc<dyn Disk>, config: &Config) -> Result<(Store, Opened)> {
        let (core, opened) = recover::open(disk, config, Loss::Refuse)?;
        Ok((Store::started(core)?, opened))
    }

    /// Opens the store in a directory, and makes an empty one when the directory is missing or empty.
    pub fn open_or_create(disk: Arc<dyn Disk>, config: &Config) -> Result<(Store, Opened)> {
        match recover::create(disk.clone(), config)? {
            Some(core) => Ok((Store::started(core)?, Opened::Created)),
            None => Store::open(disk, config),
        }
    }

    /// An empty store without a directory: nothing in it survives the process, whatever its mode, and saving
    /// is appending.
    pub fn in_memory(config: &Config) -> Store {
        let order = Order { last: Lsn::new(0), link: [0; 32] };
        let core = Core::new(Arc::default(), config, Tables::default(), order, FIRST_MEMORY, None);
        Store { runner: None, core: Arc::new(core) }
    }

    fn started(core: Arc<Core>) -> Result<Store> {
        let runner = Runner::start(&core)?.map(Arc::new);
        Ok(Store { runner, core })
    }

    /// Applies everything appended and gives the directory back; later calls on clones and memories fail. In
    /// the mode [`Off`](Durability::Off) there is nothing that was not saved.
    pub fn close(self) -> Result<()> {
        if let Some(runner) = &self.runner {
            runner.stop();
        }
        recover::close(&self.core)
    }

    /// A handle on a memory.
    pub fn memory(&self, id: MemoryId) -> Result<Memory> {
        self.core.health.check()?;
        lock(&self.core.tables).memory(id).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("there is no memory {id} in this store; it was dropped or never made"),
            )
        })
    }

    /// The memories of the store, ascending.
    pub fn memories(&self) -> Result<Vec<Memory>> {
        self.core.health.check()?;
        Ok(lock(&self.core.tables).memories.values().cloned().map(Memory::of).collect())
    }

    /// The metadata under `key`.
    pub fn metadata(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.core.health.check()?;
        // Under the lock, so that a checkpoint does not move the value from the one place to the other between
        // the two looks.
        let tables = lock(&self.core.tables);
        if let Some((_, value)) = tables.metadata.get(key) {
            return Ok(value.as_deref().map(<[u8]>::to_vec));
        }
        match &self.core.directory {
            Some(directory) => directory.with_catalog(|catalog| catalog.metadata(key)),
            None => Ok(None),
        }
    }

    /// Calls `each` with the keys of a range and their values as of now, ascending, until it breaks.
    #[expect(clippy::type_complexity, reason = "a name for the callback would say less than its type")]
    pub fn metadata_range(
        &self,
        keys: KeyRange<'_>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let prefix = match keys {
            KeyRange::All => &[],
            KeyRange::Prefix(prefix) => prefix,
        };
        // Copied out, so that `each` may use the store.
        for (key, value) in self.core.metadata_entries(prefix)? {
            if each(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Keeps immutable bytes, durable on return. Until a change refers to them they last as long as the
    /// process.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<BlobId> {
        self.core.put_blob(bytes)
    }

    /// The bytes of a blob, verified against its name.
    pub fn blob(&self, id: BlobId) -> Result<Vec<u8>> {
        self.core.blob(id)
    }

    /// The blobs that changes refer to, with the number of references, ascending.
    pub fn blobs(&self) -> Result<Vec<(BlobId, u64)>> {
        self.core.health.check()?;
        let tables = lock(&self.core.tables);
        let referred = tables.blobs.iter().filter(|(_, entry)| entry.references > 0);
        Ok(referred.map(|(id, entry)| (*id, entry.references)).collect())
    }

    /// Begins to gather a change.
    pub fn begin(&self) -> Change {
        Change::new(self.core.clone())
    }

    /// Gives a change its place in the order; it is seen from now on, and durable once
    /// [`wait_durable`](Store::wait_durable) says so. An empty one takes no place. Waits while the log is at
    /// its limit.
    ///
    /// # Errors
    /// When the store has failed, a key is too long, or a full disk keeps the log from being applied. The
    /// change did nothing then.
    ///
    /// # Panics
    /// When the change contradicts the store: it is of another store, writes beyond a memory's size or to a
    /// frozen memory, shrinks it or grows it beyond its capacity, uses a memory that was dropped, or takes
    /// away references that a blob does not have; nothing is altered then. In the mode
    /// [`Off`](Durability::Off), where changes are saved.
    pub fn append(&self, change: Change) -> Result<Lsn> {
        assert!(
            self.core.directory.is_none() || self.core.config.durability != Durability::Off,
            "in the mode Off a change is saved, not appended"
        );
        self.core.append(change)
    }

    /// Returns once a change is as durable as the mode promises.
    pub fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        self.core.wait_durable(lsn)
    }

    /// Calls back, once, when a change is as durable as the mode promises or never will be: from the thread
    /// of whoever makes it so. A store without threads of its own calls back from [`step`](Store::step),
    /// `wait_durable` or `checkpoint`.
    pub fn when_durable(&self, lsn: Lsn, done: Box<dyn FnOnce(Result<()>) + Send>) {
        if self.core.directory.is_none() {
            return done(self.core.health.check());
        }
        let health = self.core.health.clone();
        let done = Box::new(move |result: Result<(), group::Ended>| {
            done(result.map_err(|group::Ended| health.error()));
        });
        self.core.group.when(lsn, self.core.promised(), done);
    }

    /// What is to be known about where the store is, to be told to whoever runs it; usually nothing.
    pub fn warnings(&self) -> Vec<Warning> {
        self.core.directory.as_ref().and_then(|directory| directory.warning).into_iter().collect()
    }

    /// When its changes are durable.
    pub fn durability(&self) -> Durability {
        self.core.config.durability
    }

    /// How far the store has come.
    pub fn progress(&self) -> Result<Progress> {
        self.core.health.check()?;
        let published = self.core.group.published();
        let applied = self
            .core
            .directory
            .as_ref()
            .map_or(0, |directory| directory.applied.load(std::sync::atomic::Ordering::Acquire));
        let durable = if self.core.directory.is_some() { published.synced } else { Lsn::new(0) };
        let tables = lock(&self.core.tables);
        Ok(Progress {
            last: published.last,
            durable,
            applied: Lsn::new(applied),
            log_bytes: tables.pending.bytes(),
            pending_pages: tables.pending.pages(),
        })
    }

    /// Applies everything appended so far, in one go; the last change that was applied.
    pub fn checkpoint(&self) -> Result<Lsn> {
        self.core.health.check()?;
        self.core.checkpoint()
    }

    /// Appends a change, makes it durable and applies everything.
    ///
    /// # Panics
    /// As [`append`](Store::append), but in every mode.
    pub fn save(&self, change: Change) -> Result<Lsn> {
        let lsn = self.core.append(change)?;
        self.core.checkpoint()?;
        Ok(lsn)
    }

    /// Copies memories as they are after the last change; each copy becomes a memory by
    /// [`Change::create_copy`], usually frozen. The caller changes none of them in between.
    pub fn snapshot(&self, memories: &[MemoryId]) -> Result<Vec<Copied>> {
        let memories: Result<Vec<_>> = memories.iter().map(|id| self.memory(*id)).collect();
        self.core.copy(&memories?)
    }

    /// Copies a frozen memory.
    ///
    /// # Panics
    /// When the memory is not frozen.
    pub fn fork(&self, frozen: MemoryId) -> Result<Copied> {
        let memory = self.memory(frozen)?;
        assert!(memory.class() == Class::Frozen, "memory {frozen} is live; take a snapshot of it");
        let mut copies = self.core.copy(&[memory])?;
        Ok(copies.pop().expect("there is a copy of each memory"))
    }

    /// Whether the disk has room for what is to come.
    pub fn room(&self) -> Result<Room> {
        self.core.room()
    }

    /// Some work behind the scenes, for a store without threads of its own. `now` never goes back.
    pub fn step(&self, now: Instant, budget: Budget) -> Result<Work> {
        self.core.step(now, budget)
    }

    /// Looks for damage in an open store. Checkpoints wait meanwhile.
    pub fn verify(&self, depth: Depth) -> Result<Report> {
        verify::verify_open(&self.core, depth)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.core.directory.as_ref().map(|directory| directory.disk.describe());
        let last = self.core.group.published().last;
        write!(f, "Store({}, {last})", place.as_deref().unwrap_or("in RAM"))
    }
}

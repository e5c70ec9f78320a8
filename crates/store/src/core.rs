//! What all handles of a store share, and the way of a change through it.
//!
//! - Locks are taken in this order only: checkpoint, files of blobs, order of records, tables, catalog.
//! - A change is encoded and hashed without a lock; under the lock of the order it gets its number and its
//!   link, and is installed in the tables.
//! - In a store without a directory the tables are all there is.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::Room;
use crate::apply::Applied;
use crate::catalog::{Catalog, Head};
use crate::change::Change;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, Durability};
use crate::disk::{Disk, DiskFile, Lock, Open, RelPath, described};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{MemoryFile, MemoryFiles};
use crate::format::{Format, Hash, Keys};
use crate::group::{Ended, Group, Order, Reach};
use crate::guard::Health;
use crate::log::{Body, Log, Queued};
use crate::memory::MemoryState;
use crate::mutants::mutant;
use crate::page::{Lsn, MemoryId, PAGE_BYTES, Page, PageIndex};
use crate::record::{Header, record_bytes};
use crate::recover::Warning;
use crate::sync::lock;
use crate::tables::{RecordSize, Tables};

/// The id of a store's first memory; 0 stands for none.
pub(crate) const FIRST_MEMORY: u64 = 1;
/// So many ids the catalog gives away in advance. More memories than this cannot be created between two
/// checkpoints: their records alone would fill the log.
pub(crate) const RESERVED_MEMORIES: u64 = 1 << 20;

/// What all handles of a store share.
pub(crate) struct Core {
    pub(crate) health: Arc<Health>,
    pub(crate) config: Config,
    pub(crate) group: Group<Queued>,
    pub(crate) tables: Mutex<Tables>,
    /// A checkpoint has made room, or will make none any more. Goes with the tables.
    pub(crate) room: Condvar,
    /// Held while the file of a blob is written or removed.
    pub(crate) blob_files: Mutex<()>,
    next_memory: AtomicU64,
    is_nudged: Mutex<bool>,
    nudged: Condvar,
    /// Absent in a store that lives in RAM alone.
    pub(crate) directory: Option<Directory>,
}

/// A state directory that is open.
pub(crate) struct Directory {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) format: Format,
    pub(crate) keys: Keys,
    pub(crate) files: MemoryFiles,
    pub(crate) log: Log,
    /// Absent once it was closed.
    pub(crate) catalog: RwLock<Option<Box<dyn Catalog>>>,
    pub(crate) checkpoint: Mutex<Checkpoint>,
    /// The last record that the catalog covers.
    pub(crate) applied: AtomicU64,
    /// Ids below this may be given to memories.
    pub(crate) memories_reserved: AtomicU64,
    pub(crate) lock: Mutex<Option<Lock>>,
    /// What is to be known about where it is.
    pub(crate) warning: Option<Warning>,
}

impl Core {
    pub(crate) fn new(
        health: Arc<Health>,
        config: &Config,
        tables: Tables,
        order: Order,
        next_memory: u64,
        directory: Option<Directory>,
    ) -> Core {
        Core {
            health,
            config: config.clone(),
            group: Group::new(order),
            tables: Mutex::new(tables),
            room: Condvar::new(),
            next_memory: AtomicU64::new(next_memory),
            blob_files: Mutex::default(),
            is_nudged: Mutex::default(),
            nudged: Condvar::new(),
            directory,
        }
    }

    /// An id that no memory has had.
    pub(crate) fn next_memory(&self) -> Result<MemoryId> {
        self.health.check()?;
        let id = self.next_memory.fetch_add(1, Ordering::Relaxed);
        let reserved =
            self.directory.as_ref().map(|directory| directory.memories_reserved.load(Ordering::Acquire));
        if reserved.is_some_and(|reserved| id >= reserved) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "a million memories were begun since the last checkpoint; make one first",
            ));
        }
        Ok(MemoryId::new(id))
    }

    /// The next id, and nothing taken.
    pub(crate) fn next_memory_unused(&self) -> u64 {
        self.next_memory.load(Ordering::Acquire)
    }

    /// Gives a change its place in the order and installs it.
    pub(crate) fn append(self: &Arc<Self>, mut change: Change) -> Result<Lsn> {
        self.health.check()?;
        assert!(change.is_of(self), "the change was begun on another store");
        change.check_sizes()?;
        if change.is_empty() {
            return Ok(self.group.published().last);
        }
        let Some(directory) = &self.directory else { return self.append_in_ram(change) };
        if mutant!(ONE_RECORD_PER_MEMORY)
            && let Some(part) = change.split()
        {
            self.append(part)?;
        }
        self.make_room()?;
        let (parts, entries, effects) = change.encode();
        let body_bytes = parts.iter().map(|part| part.len() as u64).sum();
        let mut hasher = blake3::Hasher::new_keyed(&directory.keys.body);
        parts.iter().for_each(|part| {
            hasher.update(part);
        });
        let body_hash: Hash = *hasher.finalize().as_bytes();
        let body = directory.log.place(parts).map_err(|error| self.poison_unless_full(error))?;
        let size = RecordSize { bytes: record_bytes(body_bytes), is_big: matches!(body, Body::Big(_)) };
        let promised = if size.is_big { 0 } else { size.bytes };
        directory.log.promise(promised).map_err(|error| self.poison_unless_full(error))?;
        let pushed = self.group.push(|order, durable| {
            let mut tables = lock(&self.tables);
            if tables.is_closing {
                return (None, Err(closed()));
            }
            tables.check(&effects);
            let lsn = Lsn::new(order.last.get() + 1);
            let header = Header { entries, lsn, durable, body_bytes, body_hash };
            let (sealed, link) = header.seal(&directory.keys, &order.link);
            *order = Order { last: lsn, link };
            tables.install(effects, lsn, size);
            if self.wants_checkpoint(&tables) {
                self.nudge();
            }
            (Some(Queued { lsn, sealed, link, body }), Ok(lsn))
        });
        let appended = pushed.map_err(|Ended| self.health.error()).flatten();
        if appended.is_err() {
            directory.log.unpromise(promised);
        }
        if self.config.background && directory.log.is_short() {
            self.nudge();
        }
        appended
    }

    /// A full disk is no end while the record that needed room has no place in the order. But where changes are
    /// saved it is: a caller could not tell that failure from one to apply what was appended.
    fn poison_unless_full(&self, error: Error) -> Error {
        let is_saved = self.config.durability == Durability::Off;
        let is_full = error.kind() == ErrorKind::StorageFull && self.health.check().is_ok() && !is_saved;
        if is_full { error } else { self.poison(error) }
    }

    fn append_in_ram(&self, change: Change) -> Result<Lsn> {
        let (parts, entries, effects) = change.encode();
        let pushed = self.group.push(|order, _| {
            let mut tables = lock(&self.tables);
            tables.check(&effects);
            let staged = Tables::stage(&effects, &parts, entries);
            order.last = Lsn::new(order.last.get() + 1);
            tables.install(effects, order.last, RecordSize { bytes: 0, is_big: false });
            Tables::install_pages(staged);
            tables.applied(Lsn::new(0));
            tables.take_dropped(order.last);
            tables.take_abandoned(order.last);
            (None, order.last)
        });
        pushed.map_err(|Ended| self.health.error())
    }

    /// Whether so much waits to be applied that a checkpoint should begin.
    pub(crate) fn wants_checkpoint(&self, tables: &Tables) -> bool {
        let pending = &tables.pending;
        pending.bytes() >= self.config.checkpoint_log_bytes
            || pending.pages() >= self.config.checkpoint_pages
            || pending.has_big()
    }

    /// Tells the thread for work behind the scenes that there is some.
    pub(crate) fn nudge(&self) {
        *lock(&self.is_nudged) = true;
        self.nudged.notify_all();
    }

    /// Waits for a nudge, but no longer than `period`.
    pub(crate) fn wait_for_nudge(&self, period: Duration, is_over: &AtomicBool) {
        let mut is_nudged = lock(&self.is_nudged);
        if !*is_nudged && !is_over.load(Ordering::Acquire) {
            let waited = self.nudged.wait_timeout(is_nudged, period);
            is_nudged = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *is_nudged = false;
    }

    /// Returns once the record is as durable as the mode promises.
    pub(crate) fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        self.reach(lsn, self.promised(), self.config.durability.window())
    }

    /// How far a record must have come before its message may be answered.
    pub(crate) fn promised(&self) -> Reach {
        match self.config.durability {
            Durability::Interval { .. } => Reach::Written,
            _ => Reach::Synced,
        }
    }

    pub(crate) fn reach(&self, lsn: Lsn, reach: Reach, company: Duration) -> Result<()> {
        let Some(directory) = &self.directory else { return self.health.check() };
        let reached = self.group.reach(lsn, reach, &directory.log, company);
        reached.map_err(|Ended| self.poison(self.health.error()))
    }

    /// Waits until the log may take one more record.
    fn make_room(&self) -> Result<()> {
        let is_full = |tables: &Tables| {
            tables.pending.bytes() >= self.config.log_bytes_max
                || tables.pending.pages() >= self.config.pending_pages_max
        };
        if !is_full(&lock(&self.tables)) {
            return Ok(());
        }
        self.nudge();
        if !self.config.background {
            return self.checkpoint().map(|_| ());
        }
        let mut tables = lock(&self.tables);
        while is_full(&tables) {
            self.health.check()?;
            if tables.is_storage_full {
                return Err(Error::new(
                    ErrorKind::StorageFull,
                    "the log is full and no checkpoint finds room on the disk: free some space",
                ));
            }
            tables = self.room.wait(tables).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// The metadata whose keys begin with `prefix`, ascending.
    pub(crate) fn metadata_entries(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.health.check()?;
        let tables = lock(&self.tables);
        let mut entries = BTreeMap::new();
        if let Some(directory) = &self.directory {
            directory.with_catalog(|catalog| {
                catalog.metadata_range(prefix, prefix, &mut |key, value| {
                    entries.insert(key.to_vec(), value.to_vec());
                    ControlFlow::Continue(())
                })
            })?;
        }
        let newer = tables.metadata.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        for (key, (_, value)) in newer.take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => entries.insert(key.clone(), value.to_vec()),
                None => entries.remove(key),
            };
        }
        Ok(entries)
    }

    /// Whether the disk has room for what is to come: every pending page may take a page of the disk, and the
    /// catalog is copied when it is written.
    pub(crate) fn room(&self) -> Result<Room> {
        const MARGIN_BYTES: u64 = 64 << 20;
        self.health.check()?;
        let Some(directory) = &self.directory else { return Ok(Room::Fine) };
        let tables = lock(&self.tables);
        let metadata = tables.metadata_bytes;
        let pages = tables.pending.pages();
        drop(tables);
        let margin = MARGIN_BYTES.min(self.config.reserve_bytes);
        let needed = pages * PAGE_BYTES as u64 + 4 * metadata + margin;
        let space = directory.disk.space();
        let space = space.map_err(|error| Error::reading(&directory.disk.describe(), error))?;
        Ok(if space.free_bytes < needed { Room::Low } else { Room::Fine })
    }

    /// Makes sure that the files hold everything appended about a memory.
    pub(crate) fn settle(&self, memory: &MemoryState) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        if memory.last().get() > directory.applied.load(Ordering::Acquire) {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Keeps checkpoints from writing for as long as the guard lives.
    pub(crate) fn hold_checkpoint(&self) -> Option<MutexGuard<'_, Checkpoint>> {
        self.directory.as_ref().map(|directory| lock(&directory.checkpoint))
    }

    /// Removes the files of memories that were begun and never appended.
    pub(crate) fn discard(&self, unused: Vec<Arc<MemoryState>>) {
        if self.directory.is_some() && self.health.check().is_ok() {
            lock(&self.tables).dropped.extend(unused.into_iter().map(|memory| (Lsn::new(0), memory)));
        }
    }

    /// After a failed write what is in RAM is not what is on disk, and no call may pretend that it is.
    pub(crate) fn poison(&self, error: Error) -> Error {
        self.health.end(&error);
        self.group.end();
        self.room.notify_all();
        // A full disk that ended the store is not one after which a caller may go on.
        if error.kind() == ErrorKind::StorageFull { self.health.error() } else { error }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Poisoned, "the store must be opened again: it was closed")
}

impl Drop for Core {
    fn drop(&mut self) {
        // Nothing is written behind the back of whoever lets go of a store without closing it: the next
        // opening recovers.
        self.health.end("it was dropped");
    }
}

impl Directory {
    /// The catalog, which is there for as long as the store is open.
    pub(crate) fn with_catalog<T>(&self, use_it: impl FnOnce(&dyn Catalog) -> Result<T>) -> Result<T> {
        let catalog = self.catalog.read().unwrap_or_else(PoisonError::into_inner);
        match &*catalog {
            Some(catalog) => use_it(&**catalog),
            None => Err(closed()),
        }
    }

    /// Before a memory is written or mapped for the first time: what its files have beyond the size that the
    /// catalog knows was never made durable, and is not taken for zeros.
    pub(crate) fn trim(&self, id: MemoryId) -> Result<()> {
        let checkpoint = lock(&self.checkpoint);
        match checkpoint.applied.memories.get(&id) {
            Some(row) => self.files.trim(id, row.pages),
            None => Ok(()),
        }
    }

    pub(crate) fn make_memory_files(&self, id: MemoryId) -> Result<()> {
        self.files.make(id)
    }

    pub(crate) fn open_base(&self, id: MemoryId) -> Result<Arc<dyn DiskFile>> {
        self.trim(id)?;
        Ok(self.files.open_to_read(id, MemoryFile::Base)?.0)
    }

    pub(crate) fn visit_pages(
        &self,
        memory: &MemoryState,
        visit: &mut dyn FnMut(PageIndex, &Page),
    ) -> Result<()> {
        self.files.visit(memory.id, memory.pages(), visit)
    }

    pub(crate) fn read_memory(&self, id: MemoryId, at: u64, into: &mut [u8]) -> Result<()> {
        self.files.read(id, at, into)
    }

    /// Replaces a small file: the new one is whole and durable before it takes the name.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        replace(&*self.disk, name, bytes)
    }
}

/// Appended to a name while the file is written.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Writes a whole file and makes its content durable, but not its name.
pub(crate) fn write_whole(disk: &dyn Disk, path: &RelPath, bytes: &[u8]) -> Result<()> {
    let writing = |error| Error::writing(&described(disk, path), error);
    let file = disk.open(path, Open::Create).map_err(writing)?;
    file.write_at(0, &[std::io::IoSlice::new(bytes)]).map_err(writing)?;
    if mutant!(TEMPORARY_NOT_SYNCED) { Ok(()) } else { file.sync_data().map_err(writing) }
}

/// Replaces a small file of the root: the new one is whole and durable before it takes the name.
pub(crate) fn replace(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, temporary) = (RelPath::new(name), RelPath::new(format!("{name}{TEMPORARY}")));
    if mutant!(REPLACED_IN_PLACE) {
        return write_whole(disk, &path, bytes);
    }
    write_whole(disk, &temporary, bytes)?;
    let renamed = disk.rename(&temporary, &path);
    renamed.map_err(|error| Error::writing(&described(disk, &path), error))?;
    sync_dir(disk, "")
}

pub(crate) fn sync_dir(disk: &dyn Disk, dir: &str) -> Result<()> {
    if mutant!(NO_DIRECTORY_SYNC) {
        return Ok(());
    }
    let dir = RelPath::new(dir);
    disk.sync_dir(&dir).map_err(|error| Error::writing(&described(disk, &dir), error))
}

/// The head that the catalog gets next.
pub(crate) fn next_head(applied: &Applied, core: &Core) -> Head {
    let next_memory = core.next_memory_unused().saturating_add(RESERVED_MEMORIES);
    Head { next_memory, ..applied.head }
}

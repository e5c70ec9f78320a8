//! Pages and records on disk, durable per message.
//!
//! A [`Store`] holds memories (pages of 4,096 bytes), metadata (opaque bytes under opaque keys) and blobs
//! (immutable bytes named by their hash). A [`Change`] gathers what one message did to any of them; it is
//! applied whole or not at all. The store has never heard of Wasm or canisters.
//!
//! This is the store's first form. It keeps everything in RAM; [`Store::save`] writes what changed since the
//! last save into the state directory, and opening reads it back. A process that ends without a save leaves
//! the state of the last one.
//!
//! ```text
//! state/                mode 0700, files 0600
//!   LOCK                held for as long as the store is open; holds the process's number, for messages only
//!   FORMAT              what the directory is, and the key of the store
//!   head                LSN, memories, metadata, counts of blobs; names all that belongs to the state
//!   mem/<id>.<lsn>      the pages of one memory that are not all zero
//!   blob/<sha256>       immutable bytes
//! ```
//!
//! - What was saved is the state after exactly some change, whatever stopped the process.
//! - After a failed write or sync every call fails until the directory is opened again.
//! - Every byte from disk is verified before it is used.
//! - No thread, no clock but for waiting on the lock, no randomness, no environment.
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

mod catalog;
mod change;
mod disk;
mod error;
mod format;
mod image;
mod memory;
mod page;
mod recover;
mod save;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use change::{BlobId, Change, KEY_BYTES_MAX};
pub use disk::{Disk, DiskFile, FileDisk, Lock, Open, RelPath};
pub use error::{Error, ErrorKind, Result};
pub use memory::{Image, MapSource, Memory};
pub use page::{Lsn, MemoryId, PAGE_BYTES, Page, PageCount, PageIndex};

use catalog::{BlobEntry, Tables};
use memory::Health;
use save::Directory;

/// When a change is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// At the next [`Store::save`].
    Off,
}

/// How a store is made and opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// When a change is durable.
    pub durability: Durability,
    /// How long to wait for another process that has the directory open.
    pub lock_wait: Duration,
    /// Randomness from the caller, fresh for each call: a new store's identity and its secret key are drawn
    /// from it.
    pub seed: [u8; 32],
}

impl Config {
    /// Durability off, and no waiting.
    pub fn new(seed: [u8; 32]) -> Config {
        Config { durability: Durability::Off, lock_wait: Duration::ZERO, seed }
    }
}

/// What was found when a directory was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opened {
    /// There was no state, and an empty one was made.
    Created,
    /// The state of the last save.
    Clean,
}

/// How far a store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The last change that was appended.
    pub last: Lsn,
    /// The last change that survives the end of the process; always 0 in a store without a directory.
    pub durable: Lsn,
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
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    health: Arc<Health>,
    next_memory: Arc<AtomicU64>,
    state: Mutex<State>,
}

struct State {
    tables: Tables,
    durable: Lsn,
    /// Absent in a store that lives in RAM alone, and after `close`.
    directory: Option<(Directory, Lock)>,
}

impl Store {
    /// Makes an empty store in a directory that is missing or empty.
    pub fn create(disk: Arc<dyn Disk>, config: &Config) -> Result<Store> {
        let place = disk.describe();
        let health = Arc::new(Health::default());
        match recover::create(disk, config)? {
            Some(recovered) => Ok(Store::from_recovered(recovered, health)),
            None => Err(Error::new(
                ErrorKind::Format,
                format!("{place} holds a Bedstone state already; open that one, or choose another directory"),
            )),
        }
    }

    /// Opens the store in a directory.
    pub fn open(disk: Arc<dyn Disk>, config: &Config) -> Result<(Store, Opened)> {
        let health = Arc::new(Health::default());
        let recovered = recover::open(disk, config, &health)?;
        Ok((Store::from_recovered(recovered, health), Opened::Clean))
    }

    /// Opens the store in a directory, and makes an empty one when the directory is missing or empty.
    pub fn open_or_create(disk: Arc<dyn Disk>, config: &Config) -> Result<(Store, Opened)> {
        match recover::create(disk.clone(), config)? {
            Some(recovered) => Ok((Store::from_recovered(recovered, Arc::default()), Opened::Created)),
            None => Store::open(disk, config),
        }
    }

    /// An empty store without a directory: nothing in it survives the process, and saving is appending.
    pub fn in_memory(config: &Config) -> Store {
        // Another mode, once there is one, would promise what RAM cannot keep.
        let Durability::Off = config.durability;
        Store::new(Tables::empty(), recover::FIRST_MEMORY, None, Arc::default())
    }

    fn from_recovered(recovered: recover::Recovered, health: Arc<Health>) -> Store {
        let directory = Some((recovered.directory, recovered.lock));
        Store::new(recovered.tables, recovered.next_memory, directory, health)
    }

    fn new(
        tables: Tables,
        next_memory: u64,
        directory: Option<(Directory, Lock)>,
        health: Arc<Health>,
    ) -> Store {
        let durable = tables.lsn;
        let state = Mutex::new(State { tables, durable, directory });
        Store {
            shared: Arc::new(Shared { health, next_memory: Arc::new(AtomicU64::new(next_memory)), state }),
        }
    }

    /// Gives the directory back. Changes since the last save are gone; later calls on clones and memories
    /// fail.
    pub fn close(self) -> Result<()> {
        let mut state = self.state()?;
        self.shared.health.end("it was closed");
        state.directory = None;
        Ok(())
    }

    /// A handle on a memory.
    pub fn memory(&self, id: MemoryId) -> Result<Memory> {
        let state = self.state()?;
        let entry = state.tables.memories.get(&id);
        entry.map(|entry| entry.memory.clone()).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("there is no memory {id} in this store; it was dropped or never made"),
            )
        })
    }

    /// The metadata under `key`.
    pub fn metadata(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.state()?.tables.metadata.get(key).map(|value| value.to_vec()))
    }

    /// Calls `each` with the keys of a range and their values, ascending, until it breaks.
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
        // Copied out (pointers only), so that `each` may use the store.
        let entries: Vec<_> = self
            .state()?
            .tables
            .metadata
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in entries {
            if each(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Keeps immutable bytes, durable on return. Until a change refers to them they last as long as the
    /// process.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<BlobId> {
        let id = BlobId::of(bytes);
        let mut state = self.state()?;
        let State { tables, directory, .. } = &mut *state;
        if let Some(entry) = tables.blobs.get_mut(&id) {
            entry.abandoned = false;
            return Ok(id);
        }
        let mut held = None;
        match directory {
            Some((directory, _)) => directory.write_blob(id, bytes).map_err(|error| self.poison(error))?,
            None => held = Some(bytes.into()),
        }
        let entry = BlobEntry { bytes: bytes.len() as u64, references: 0, abandoned: false, held };
        tables.blobs.insert(id, entry);
        Ok(id)
    }

    /// The bytes of a blob, verified against its name.
    pub fn blob(&self, id: BlobId) -> Result<Vec<u8>> {
        let state = self.state()?;
        let Some(entry) = state.tables.blobs.get(&id) else {
            let message = format!("there is no blob {id} in this store; it was removed or never put");
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        let Some((directory, _)) = &state.directory else {
            return Ok(entry.held.as_deref().unwrap_or_default().to_vec());
        };
        let path = catalog::blob_path(id);
        let bytes = recover::read_whole(&*directory.disk, &path)?;
        if BlobId::of(&bytes) != id {
            let file = disk::described(&*directory.disk, &path);
            return Err(Error::damaged(&file, 0, "its SHA-256 is not its name"));
        }
        Ok(bytes)
    }

    /// Begins to gather a change.
    pub fn begin(&self) -> Change {
        Change::new(self.shared.health.clone(), self.shared.next_memory.clone())
    }

    /// Applies a change whole. It is not durable before the next [`save`](Store::save). An empty one takes no
    /// place in the order.
    ///
    /// # Panics When the change contradicts the store: it is of another store, writes beyond a memory's size,
    /// shrinks it or grows it beyond its capacity, gives a pre-image that the store does not hold, uses a
    /// memory that was dropped, or takes away references that a blob does not have. Nothing is altered then.
    pub fn append(&self, change: Change) -> Result<Lsn> {
        let mut state = self.state()?;
        self.append_to(&mut state, change)
    }

    /// Applies a change whole and makes everything appended so far durable. Costs what the changed memories
    /// hold, and all metadata.
    ///
    /// # Panics
    /// As [`append`](Store::append).
    pub fn save(&self, change: Change) -> Result<Lsn> {
        let mut state = self.state()?;
        let lsn = self.append_to(&mut state, change)?;
        let State { tables, durable, directory } = &mut *state;
        if let Some((directory, _)) = directory
            && lsn > *durable
        {
            let next_memory = self.shared.next_memory.load(Ordering::Relaxed);
            directory.save(tables, next_memory).map_err(|error| self.poison(error))?;
            *durable = lsn;
        }
        Ok(lsn)
    }

    /// How far the store has come.
    pub fn progress(&self) -> Result<Progress> {
        let state = self.state()?;
        Ok(Progress { last: state.tables.lsn, durable: state.durable })
    }

    fn append_to(&self, state: &mut State, change: Change) -> Result<Lsn> {
        assert!(Arc::ptr_eq(&change.health, &self.shared.health), "the change was begun on another store");
        change.check_sizes()?;
        let lsn = state.tables.append(change);
        if state.directory.is_none() {
            state.tables.remove_abandoned_blobs();
        }
        Ok(lsn)
    }

    /// After a failed write what is in RAM is not what is on disk, and no call may pretend that it is.
    fn poison(&self, error: Error) -> Error {
        self.shared.health.end(error.to_string());
        error
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        // Whatever may panic under this lock does so before it alters the state.
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.health.check()?;
        Ok(state)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let place = state.directory.as_ref().map(|(directory, _)| directory.disk.describe());
        write!(f, "Store({}, {})", place.as_deref().unwrap_or("in RAM"), state.tables.lsn)
    }
}

//! The catalog as a redb database in `catalog.redb`, on any [`Disk`].
//!
//! - Each commit is in two phases and carries the state of the allocator, so that a catalog opens after a
//!   power cut as fast as after a close, and its last commit is known to be whole.
//! - Opening verifies the sum of every page in use; each value carries a sum of its own for what rots later.
//! - Nothing is written after a failed sync, nor after damage was found.
//!
//! Tables: `head` (one row: u64 format 1, u64 applied, 32 bytes link, u64 segment, u64 offset, u64 next
//! memory), `memories` (u64 id: u32 class, u32 pages, u32 capacity, u32 zero, u64 created), `meta` (key:
//! value), `blobs` (32 bytes: u64 references). Every value is followed by the crc32c of table name, key and
//! value.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, WriteTransaction};

use super::{
    CATALOG_NAME, Catalog, CatalogChange, CatalogMaker, Class, Head, MemoryRow, name, not_synced, reading,
    rewrite,
};
use crate::change::BlobId;
use crate::disk::{Disk, DiskFile, Open, RelPath};
use crate::error::{Error, Result};
use crate::format::Cursor;
use crate::mutants::mutant;
use crate::page::{Lsn, MemoryId, PageCount};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

const HEAD: Rows = TableDefinition::new("head");
const MEMORIES: Rows = TableDefinition::new("memories");
const METADATA: Rows = TableDefinition::new("meta");
const BLOBS: Rows = TableDefinition::new("blobs");

/// The only key of `head`.
const HEAD_KEY: &[u8] = b"head";
/// The number of the layout of the rows.
const ROWS_FORMAT: u64 = 1;
const SUM_BYTES: usize = 4;

/// What redb keeps of the file in memory. The rows of a busy store take less, and what does not fit is one
/// read away.
const CACHE_BYTES: usize = 4 << 20;

/// The side of the seam for use.
pub(crate) struct Redb;

impl CatalogMaker for Redb {
    fn create(&self, disk: &Arc<dyn Disk>, head: &Head) -> Result<Box<dyn Catalog>> {
        let file = name(&**disk);
        let writing = |error| Error::writing(&file, error);
        let handle = disk.open(&RelPath::new(CATALOG_NAME), Open::Create).map_err(writing)?;
        let catalog = RedbCatalog::new(disk.clone(), Opening::start(&file, handle)?);
        catalog.commit(&CatalogChange::new(*head))?;
        disk.sync_dir(&RelPath::root()).map_err(|error| not_synced(&file, error))?;
        Ok(Box::new(catalog))
    }

    fn open(&self, disk: &Arc<dyn Disk>, clean: bool) -> Result<Box<dyn Catalog>> {
        if !clean && !mutant!(CATALOG_NOT_COPIED) {
            rewrite(&**disk)?;
        }
        let catalog = RedbCatalog::new(disk.clone(), Opening::open(&**disk)?);
        catalog.head()?;
        Ok(Box::new(catalog))
    }
}

struct RedbCatalog {
    disk: Arc<dyn Disk>,
    file: String,
    /// Absent after a commit that found no room, until the file could be opened again.
    opening: Mutex<Option<Arc<Opening>>>,
}

impl RedbCatalog {
    fn new(disk: Arc<dyn Disk>, opening: Opening) -> RedbCatalog {
        let file = opening.file.clone();
        RedbCatalog { disk, file, opening: Mutex::new(Some(Arc::new(opening))) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Opening>>> {
        // A panic between two assignments is not possible, so the content is whole whoever panicked.
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening(&self) -> Result<Arc<Opening>> {
        let mut opening = self.lock();
        match &*opening {
            Some(opening) => Ok(opening.clone()),
            None => Ok(opening.insert(Arc::new(Opening::open(&*self.disk)?)).clone()),
        }
    }

    fn read<T>(&self, table: Rows, read: impl FnOnce(&Table) -> redb::Result<Result<T>>) -> Result<T> {
        let opening = self.opening()?;
        opening.attempt(|| {
            let transaction = opening.database.begin_read().map_err(redb::Error::from)?;
            Ok(read(&transaction.open_table(table).map_err(redb::Error::from)?).map_err(redb::Error::from)?)
        })?
    }

    /// All rows of a table.
    fn rows<K: Ord, V>(
        &self,
        table: Rows,
        decode: impl Fn(&[u8], &mut Cursor<'_>) -> Result<(K, V)>,
    ) -> Result<BTreeMap<K, V>> {
        self.read(table, |rows| {
            let mut all = BTreeMap::new();
            for row in rows.iter()? {
                let (key, value) = row?;
                match self.decode(table, key.value(), value.value(), &decode) {
                    Ok((key, value)) => all.insert(key, value),
                    Err(error) => return Ok(Err(error)),
                };
            }
            Ok(Ok(all))
        })
    }

    /// Verifies a value and hands it on without its sum.
    fn decode<T>(
        &self,
        table: Rows,
        key: &[u8],
        value: &[u8],
        decode: impl FnOnce(&[u8], &mut Cursor<'_>) -> Result<T>,
    ) -> Result<T> {
        let value = unsummed(table, key, value).ok_or_else(|| {
            let what =
                format_args!("a row of table {} does not match its sum", table_name(table)).to_string();
            Error::damaged(&self.file, 0, what)
        })?;
        let mut cursor = Cursor::new(value, &self.file);
        decode(key, &mut cursor)
    }
}

type Table = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

impl Catalog for RedbCatalog {
    fn head(&self) -> Result<Head> {
        let head = self.rows(HEAD, |_, cursor| {
            if cursor.u64()? != ROWS_FORMAT {
                return Err(cursor.damaged("its rows have another layout"));
            }
            let head = Head {
                applied: Lsn::new(cursor.u64()?),
                link: cursor.array()?,
                segment: cursor.u64()?,
                offset: cursor.u64()?,
                next_memory: cursor.u64()?,
            };
            Ok(((), head))
        })?;
        head.into_values().next().ok_or_else(|| Error::damaged(&self.file, 0, "it has no head"))
    }

    fn memories(&self) -> Result<BTreeMap<MemoryId, MemoryRow>> {
        let head = self.head()?;
        self.rows(MEMORIES, |key, value| {
            let id = MemoryId::new(Cursor::new(key, &self.file).u64()?);
            let class = match value.u32()? {
                0 => Class::Live,
                1 => Class::Frozen,
                class => return Err(value.damaged(format_args!("memory {id} is of class {class}"))),
            };
            let (pages, capacity) = (PageCount::new(value.u32()?), PageCount::new(value.u32()?));
            if value.u32()? != 0 || pages > capacity || id.get() >= head.next_memory {
                return Err(value.damaged(format_args!("memory {id} has {pages} pages of {capacity}")));
            }
            let created = Lsn::new(value.u64()?);
            if created > head.applied {
                return Err(value.damaged(format_args!("memory {id} is newer than the catalog")));
            }
            Ok((id, MemoryRow { class, pages, capacity, created }))
        })
    }

    fn blobs(&self) -> Result<BTreeMap<BlobId, u64>> {
        self.rows(BLOBS, |key, value| {
            let mut key = Cursor::new(key, &self.file);
            Ok((BlobId::new(key.array()?), value.u64()?))
        })
    }

    fn metadata(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.read(METADATA, |rows| {
            let Some(value) = rows.get(key)? else { return Ok(Ok(None)) };
            let value = value.value();
            let bytes = value.len().saturating_sub(SUM_BYTES);
            Ok(self.decode(METADATA, key, value, |_, value| Ok(Some(value.take(bytes)?.to_vec()))))
        })
    }

    fn metadata_range(
        &self,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut panicked = None;
        let result = self.read(METADATA, |rows| {
            for row in rows.range::<&[u8]>((Bound::Included(prefix.max(from)), Bound::Unbounded))? {
                let (key, value) = row?;
                let (key, value) = (key.value(), value.value());
                if !key.starts_with(prefix) {
                    break;
                }
                let bytes = value.len().saturating_sub(SUM_BYTES);
                let flow = self.decode(METADATA, key, value, |key, value| {
                    let value = value.take(bytes)?;
                    // The caller's panic is not redb's: it goes on where it came from.
                    Ok(catch_unwind(AssertUnwindSafe(|| each(key, value))).unwrap_or_else(|panic| {
                        panicked = Some(panic);
                        ControlFlow::Break(())
                    }))
                });
                match flow {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(ControlFlow::Break(())) => break,
                    Err(error) => return Ok(Err(error)),
                }
            }
            Ok(Ok(()))
        });
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
        result
    }

    fn commit(&self, change: &CatalogChange) -> Result<()> {
        let opening = self.opening()?;
        let result = opening.attempt(|| write(&opening.database, change));
        if opening.backend.is_full() {
            // redb takes no more writes after an error; the file is as after a power cut, and no sync of it
            // has failed. The next use tries again to open it when this does not succeed.
            opening.backend.end();
            let mut current = self.lock();
            *current = None;
            drop(opening);
            *current = Opening::open(&*self.disk).ok().map(Arc::new);
        }
        result
    }

    fn close(self: Box<Self>) -> Result<()> {
        let Some(opening) = self.lock().take() else { return Ok(()) };
        let Some(opening) = Arc::into_inner(opening) else {
            unreachable!("an opening is borrowed from the catalog, which nobody else holds")
        };
        opening.close()
    }
}

/// One opening of the database.
struct Opening {
    file: String,
    backend: Arc<Backend>,
    database: Database,
}

impl Opening {
    fn open(disk: &dyn Disk) -> Result<Opening> {
        let file = name(disk);
        let reading = reading(&file);
        let handle = disk.open(&RelPath::new(CATALOG_NAME), Open::Write).map_err(&reading)?;
        if handle.is_empty().map_err(&reading)? {
            // redb would make a new database of it.
            return Err(Error::damaged(&file, 0, "it is empty"));
        }
        Opening::start(&file, handle)
    }

    fn start(file: &str, handle: Arc<dyn DiskFile>) -> Result<Opening> {
        let backend =
            Arc::new(Backend { file: handle, failure: Mutex::default(), ended: AtomicBool::new(false) });
        let database = attempt(file, &backend, || {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
            Ok(builder.create_with_backend(Shared(backend.clone())).map_err(redb::Error::from)?)
        })?;
        Ok(Opening { file: file.to_string(), backend, database })
    }

    fn attempt<T>(&self, work: impl FnOnce() -> Result<T, Failed>) -> Result<T> {
        attempt(&self.file, &self.backend, work)
    }

    fn close(self) -> Result<()> {
        let Opening { file, backend, database } = self;
        attempt(&file, &backend, || Ok(database.close().map_err(redb::Error::from)?))
    }
}

/// Boxed, because redb's error is large.
struct Failed(Box<redb::Error>);

impl From<redb::Error> for Failed {
    fn from(error: redb::Error) -> Failed {
        Failed(Box::new(error))
    }
}

/// Runs redb, and says what went wrong in our words.
///
/// redb checks the pages of the file when it opens it, but panics over some contents that it holds to be
/// impossible, more of them in debug builds. A damaged file is the world's fault and not ours, so such a
/// panic is caught here, in the one place where all of redb is called, and nothing is written after it.
fn attempt<T>(file: &str, backend: &Backend, work: impl FnOnce() -> Result<T, Failed>) -> Result<T> {
    let error = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(Failed(error))) => *error,
        Err(_) => {
            backend.end();
            return Err(Error::damaged(file, 0, "its pages contradict each other"));
        }
    };
    if let Some((attempted, error)) = backend.take_failure() {
        return Err(match attempted {
            Attempted::Read => Error::reading(file, error),
            Attempted::Write => Error::writing(file, error),
            Attempted::Sync => not_synced(file, error),
        });
    }
    backend.end();
    Err(Error::damaged(file, 0, error))
}

fn write(database: &Database, change: &CatalogChange) -> Result<(), Failed> {
    let mut transaction = database.begin_write().map_err(redb::Error::from)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    let head = &change.head;
    let mut bytes = Vec::new();
    for number in [ROWS_FORMAT, head.applied.get()] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&head.link);
    for number in [head.segment, head.offset, head.next_memory] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    put(&transaction, HEAD, [(HEAD_KEY.to_vec(), Some(bytes))].into_iter())?;
    let memories = change.memories.iter().map(|(id, row)| {
        let row = row.map(|row| {
            let class = u32::from(row.class == Class::Frozen);
            let small = [class, row.pages.get(), row.capacity.get(), 0];
            let mut bytes = small.map(u32::to_le_bytes).concat();
            bytes.extend_from_slice(&row.created.get().to_le_bytes());
            bytes
        });
        (id.get().to_le_bytes().to_vec(), row)
    });
    put(&transaction, MEMORIES, memories)?;
    put(&transaction, METADATA, change.metadata.iter().map(|(key, value)| (key.clone(), value.clone())))?;
    let blobs = change.blobs.iter().map(|(id, references)| {
        (id.as_bytes().to_vec(), references.map(|references| references.to_le_bytes().to_vec()))
    });
    put(&transaction, BLOBS, blobs)?;
    Ok(transaction.commit().map_err(redb::Error::from)?)
}

fn put(
    transaction: &WriteTransaction,
    table: Rows,
    rows: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
) -> Result<(), Failed> {
    let mut open = transaction.open_table(table).map_err(redb::Error::from)?;
    for (key, value) in rows {
        match value {
            Some(mut value) => {
                value.extend_from_slice(&sum(table, &key, &value));
                open.insert(&*key, &*value).map_err(redb::Error::from)?;
            }
            None => {
                open.remove(&*key).map_err(redb::Error::from)?;
            }
        }
    }
    Ok(())
}

fn table_name(table: Rows) -> String {
    redb::TableHandle::name(&table).to_string()
}

fn sum(table: Rows, key: &[u8], value: &[u8]) -> [u8; SUM_BYTES] {
    let name = redb::TableHandle::name(&table);
    let parts = [name.as_bytes(), key, value];
    parts.into_iter().fold(0, crc32c::crc32c_append).to_le_bytes()
}

/// The value without its sum; `None` when that does not match.
fn unsummed<'a>(table: Rows, key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (value, stored) = value.split_last_chunk::<SUM_BYTES>()?;
    (sum(table, key, value) == *stored).then_some(value)
}

#[derive(Clone, Copy)]
enum Attempted {
    Read,
    Write,
    Sync,
}

/// The file under redb, which remembers what failed: redb itself reports an error of the disk once, and later
/// only that there was one.
struct Backend {
    file: Arc<dyn DiskFile>,
    failure: Mutex<Option<(Attempted, io::Error)>>,
    ended: AtomicBool,
}

impl Backend {
    fn failure(&self) -> MutexGuard<'_, Option<(Attempted, io::Error)>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_failure(&self) -> Option<(Attempted, io::Error)> {
        let failure = self.failure();
        let (attempted, error) = failure.as_ref()?;
        let copy = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
        Some((*attempted, copy))
    }

    /// Whether what failed first was a write for which there was no room.
    fn is_full(&self) -> bool {
        let full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        self.failure()
            .as_ref()
            .is_some_and(|(attempted, error)| matches!(attempted, Attempted::Write) && full(error))
    }

    /// Nothing is written from now on, not even when redb is dropped.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    fn attempt<T>(&self, attempted: Attempted, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.ended.load(Ordering::Acquire) && !matches!(attempted, Attempted::Read) {
            return Err(io::Error::other("the catalog takes no more writes"));
        }
        work().inspect_err(|error| {
            let copy = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.failure().get_or_insert((attempted, copy));
            if !matches!(attempted, Attempted::Read) {
                self.end();
            }
        })
    }
}

/// What redb owns of a backend.
struct Shared(Arc<Backend>);

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CATALOG_NAME)
    }
}

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.attempt(Attempted::Read, || self.0.file.len())
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.attempt(Attempted::Read, || self.0.file.read_at(at, out))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.attempt(Attempted::Write, || self.0.file.set_len(bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.attempt(Attempted::Sync, || self.0.file.sync_data())
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.0.attempt(Attempted::Write, || self.0.file.write_at(at, &[io::IoSlice::new(data)]))
    }
}

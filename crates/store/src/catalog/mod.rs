//! The catalog: which memories, metadata and blobs there were at the last checkpoint, and where in the log to
//! go on from there.
//!
//! - Its commit is the commit point of a checkpoint: all of a change is durable when `commit` returns, or the
//!   catalog holds what it held.
//! - A failed sync is never tried again, and nothing is written after it. A full disk is no failed sync: the
//!   catalog goes on with its old content.
//! - Every row is verified when it is read: hashes and sums, then the range of each field.
//! - This seam has two sides, [`Redb`] for use and [`Plain`] for simulation, where it is the store above that
//!   is tried and a whole database below would take nearly all of the time.

#[cfg(any(test, feature = "sim"))]
mod plain;
mod redb;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::change::BlobId;
use crate::disk::{Disk, Open, RelPath, described};
use crate::error::{Error, ErrorKind, Result};
use crate::page::{Lsn, MemoryId, PageCount};
pub(crate) use crate::record::Class;

#[cfg(any(test, feature = "sim"))]
pub(crate) use plain::Plain;
pub(crate) use redb::Redb;

/// The file of the catalog, whichever side of the seam wrote it.
pub(crate) const CATALOG_NAME: &str = "catalog.redb";
/// A catalog that is being copied or written; means nothing after a restart.
pub(crate) const CATALOG_TEMPORARY: &str = "catalog.redb.tmp";

/// How far the files beside the log are, and where the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last record whose effects are in the files.
    pub(crate) applied: Lsn,
    /// The hash that the next record continues.
    pub(crate) link: [u8; 32],
    /// The segment that holds the next record.
    pub(crate) segment: u64,
    /// Where in the segment, in bytes.
    pub(crate) offset: u64,
    /// The id of the next memory.
    pub(crate) next_memory: u64,
}

/// One memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryRow {
    pub(crate) class: Class,
    pub(crate) pages: PageCount,
    pub(crate) capacity: PageCount,
    /// The record that made it.
    pub(crate) created: Lsn,
}

/// What a checkpoint changes; `None` removes a row.
#[derive(Clone, Debug)]
pub(crate) struct CatalogChange {
    pub(crate) head: Head,
    pub(crate) memories: BTreeMap<MemoryId, Option<MemoryRow>>,
    pub(crate) metadata: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// How many references there are after the change, not how many more.
    pub(crate) blobs: BTreeMap<BlobId, Option<u64>>,
}

impl CatalogChange {
    /// A change of the head alone.
    pub(crate) fn new(head: Head) -> CatalogChange {
        let (memories, metadata, blobs) = Default::default();
        CatalogChange { head, memories, metadata, blobs }
    }
}

/// An open catalog.
pub(crate) trait Catalog: Send + Sync {
    fn head(&self) -> Result<Head>;
    fn memories(&self) -> Result<BTreeMap<MemoryId, MemoryRow>>;
    fn blobs(&self) -> Result<BTreeMap<BlobId, u64>>;
    fn metadata(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Calls `each` with the keys that begin with `prefix` and are not below `from`, and their values,
    /// ascending, until it breaks. It sees one state, whatever is committed meanwhile.
    #[expect(clippy::type_complexity, reason = "a name for the callback would say less than its type")]
    fn metadata_range(
        &self,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()>;
    /// Makes a change durable whole. After an error of kind `StorageFull` the catalog holds what it held and
    /// may be used; after any other it must be opened again.
    fn commit(&self, change: &CatalogChange) -> Result<()>;
    /// Ends the use of the catalog; what it still had to write is durable when this succeeds.
    fn close(self: Box<Self>) -> Result<()>;
}

/// A side of the seam.
pub(crate) trait CatalogMaker: Send + Sync {
    /// Makes a catalog that holds nothing but a head, durable on return.
    fn create(&self, disk: &Arc<dyn Disk>, head: &Head) -> Result<Box<dyn Catalog>>;
    /// Opens the catalog. Unless the last process closed it (`clean`) it is first copied byte by byte: a sync
    /// that failed may have left bytes in the kernel's cache that no later sync would write, and a rename
    /// that is not durable.
    fn open(&self, disk: &Arc<dyn Disk>, clean: bool) -> Result<Box<dyn Catalog>>;
}

/// What the catalog of a disk is called in messages.
fn name(disk: &dyn Disk) -> String {
    described(disk, &RelPath::new(CATALOG_NAME))
}

/// Bytes are copied in pieces of 1 MiB.
const COPY_BYTES: usize = 1 << 20;

/// Writes the bytes of the catalog into a new file that takes its place.
fn rewrite(disk: &dyn Disk) -> Result<()> {
    let (path, temporary) = (RelPath::new(CATALOG_NAME), RelPath::new(CATALOG_TEMPORARY));
    let (file, temporary_file) = (name(disk), described(disk, &temporary));
    let (reading, writing) = (reading(&file), |error| Error::writing(&temporary_file, error));
    let from = disk.open(&path, Open::Read).map_err(&reading)?;
    let length = from.len().map_err(&reading)?;
    let to = disk.open(&temporary, Open::Create).map_err(writing)?;
    let mut piece = vec![0; COPY_BYTES.min(usize::try_from(length).unwrap_or(COPY_BYTES))];
    let mut at = 0;
    while at < length {
        let bytes = piece.len().min(usize::try_from(length - at).unwrap_or(COPY_BYTES));
        from.read_at(at, &mut piece[..bytes]).map_err(&reading)?;
        to.write_at(at, &[io::IoSlice::new(&piece[..bytes])]).map_err(writing)?;
        at += bytes as u64;
    }
    to.sync_data().map_err(|error| not_synced(&temporary_file, error))?;
    disk.rename(&temporary, &path).map_err(|error| Error::writing(&file, error))?;
    disk.sync_dir(&RelPath::root()).map_err(|error| not_synced(&file, error))
}

/// A failure to read the catalog; a missing one is damage, because `FORMAT` promises it.
fn reading(file: &str) -> impl Fn(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::NotFound => Error::damaged(file, 0, "it is missing"),
        _ => Error::reading(file, error),
    }
}

/// A failed sync, whatever its reason: what is on disk is not known, so it is not a full disk after which one
/// may go on.
fn not_synced(file: &str, error: io::Error) -> Error {
    let message = format!("{file} could not be made durable ({error}); check the disk and open it again");
    Error::new(ErrorKind::Io, message)
}

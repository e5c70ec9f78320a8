//! Opens a state directory, or makes one; both refuse a directory that is not ours before they touch it.
//!
//! - `FORMAT` is written last when a directory is made: a directory without it holds no state, and one with
//!   anything in it that only a state could have is refused rather than overwritten.
//! - A state is read and verified whole before anything is written.
//! - What a stopped process left visible may not be durable, and a sync of it may report success without
//!   being one. So `head` is written anew before the files that an older one might name are removed.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use crate::catalog::{
    BLOB_DIR, BlobEntry, EMPTY_HEAD_BYTES, Head, MEMORY_DIR, MemoryEntry, Tables, blob_path,
};
use crate::change::BlobId;
use crate::disk::{Disk, LOCK_NAME, Lock, Open, RelPath, described};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FORMAT_BYTES, Format};
use crate::memory::{Health, Memory};
use crate::page::Lsn;
use crate::save::{Directory, FORMAT_NAME, HEAD_NAME, TEMPORARY};
use crate::{Config, image};

/// A directory that was opened, and what it holds.
pub(crate) struct Recovered {
    pub(crate) directory: Directory,
    pub(crate) lock: Lock,
    pub(crate) tables: Tables,
    pub(crate) next_memory: u64,
}

/// What a directory is before it is opened.
enum Found {
    /// There is none.
    Missing,
    /// It is empty, or making a state in it was interrupted before there was one.
    Vacant,
    State,
    /// It holds this name, which we would not have made.
    Foreign(String),
}

/// Opens the state in a directory.
pub(crate) fn open(disk: Arc<dyn Disk>, config: &Config, health: &Arc<Health>) -> Result<Recovered> {
    let place = disk.describe();
    match look(&*disk)? {
        Found::State => {}
        Found::Missing => {
            let message = format!("there is no state directory {place}; create one first");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Found::Vacant => {
            let message = format!("{place} holds no state yet; create one in it first");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Found::Foreign(name) => return Err(foreign(&place, &name)),
    }
    // A file that is not ours is refused before the lock leaves a trace beside it.
    read_format(&*disk)?;
    let lock = take_lock(&*disk, config)?;
    let directory = Directory { format: read_format(&*disk)?, disk };
    let head = read_head(&directory)?;
    let next_memory = head.next_memory;
    let tables = read_tables(&directory, head, health)?;
    if tables.lsn == Lsn::default() {
        directory.write_format()?;
    }
    directory.write_head(&tables, next_memory)?;
    remove_orphans(&directory, &tables)?;
    Ok(Recovered { directory, lock, tables, next_memory })
}

/// Makes an empty state; `None`, and nothing done, when there is one already.
pub(crate) fn create(disk: Arc<dyn Disk>, config: &Config) -> Result<Option<Recovered>> {
    let place = disk.describe();
    match look(&*disk)? {
        Found::Missing | Found::Vacant => {}
        Found::State => return Ok(None),
        Found::Foreign(name) => return Err(foreign(&place, &name)),
    }
    let root = RelPath::root();
    disk.make_dir(&root).map_err(|error| Error::writing(&place, error))?;
    let lock = take_lock(&*disk, config)?;
    // Another process may have been quicker while we waited for the lock.
    match look(&*disk)? {
        Found::Vacant => {}
        Found::State => return Ok(None),
        Found::Missing => return Err(Error::writing(&place, io::ErrorKind::NotFound.into())),
        Found::Foreign(name) => return Err(foreign(&place, &name)),
    }
    let directory = Directory { disk, format: Format::from_seed(&config.seed) };
    let (tables, next_memory) = (Tables::empty(), FIRST_MEMORY);
    directory.make_dir(MEMORY_DIR)?;
    directory.make_dir(BLOB_DIR)?;
    directory.write_head(&tables, next_memory)?;
    directory.write_format()?;
    Ok(Some(Recovered { directory, lock, tables, next_memory }))
}

/// The id of a store's first memory; 0 stands for none.
pub(crate) const FIRST_MEMORY: u64 = 1;

/// Reads a whole file.
pub(crate) fn read_whole(disk: &dyn Disk, path: &RelPath) -> Result<Vec<u8>> {
    let name = described(disk, path);
    let reading = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Error::damaged(&name, 0, "it is missing"),
        _ => Error::reading(&name, error),
    };
    let file = disk.open(path, Open::Read).map_err(reading)?;
    let length = file.len().map_err(reading)?;
    let mut bytes = Vec::new();
    let length = usize::try_from(length).ok().filter(|length| bytes.try_reserve_exact(*length).is_ok());
    let length = length.ok_or_else(|| Error::damaged(&name, 0, "it is larger than any memory"))?;
    bytes.resize(length, 0);
    file.read_at(0, &mut bytes).map_err(reading)?;
    Ok(bytes)
}

fn foreign(place: &str, name: &str) -> Error {
    Error::new(
        ErrorKind::Format,
        format!(
            "{place} is not a Bedstone state directory \
             (it holds {name} and no {FORMAT_NAME}); choose another one"
        ),
    )
}

fn take_lock(disk: &dyn Disk, config: &Config) -> Result<Lock> {
    disk.lock(config.lock_wait).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            let place = disk.describe();
            let message =
                format!("{place} is in use by {error}; wait until it ends, or use another directory");
            return Error::new(ErrorKind::Busy, message);
        }
        Error::writing(&described(disk, &RelPath::new(LOCK_NAME)), error)
    })
}

fn look(disk: &dyn Disk) -> Result<Found> {
    let names = match disk.list(&RelPath::root()) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            let message = format!("{} is not a directory; choose another one", disk.describe());
            return Err(Error::new(ErrorKind::Format, message));
        }
        Err(error) => return Err(Error::reading(&disk.describe(), error)),
    };
    if names.iter().any(|name| name == FORMAT_NAME) {
        return Ok(Found::State);
    }
    match names.into_iter().find(|name| !is_left_by_create(disk, name)) {
        None => Ok(Found::Vacant),
        Some(name) => Ok(Found::Foreign(name)),
    }
}

/// Whether making a state may have left this before `FORMAT` was there; overwriting it loses nothing.
fn is_left_by_create(disk: &dyn Disk, name: &str) -> bool {
    let bytes = |limit: u64| {
        let file = disk.open(&RelPath::new(name), Open::Read);
        file.and_then(|file| file.len()).is_ok_and(|length| length <= limit)
    };
    match name.strip_suffix(TEMPORARY).unwrap_or(name) {
        LOCK_NAME => true,
        MEMORY_DIR | BLOB_DIR => disk.list(&RelPath::new(name)).is_ok_and(|names| names.is_empty()),
        HEAD_NAME => bytes(EMPTY_HEAD_BYTES),
        FORMAT_NAME => bytes(FORMAT_BYTES as u64),
        _ => false,
    }
}

fn read_format(disk: &dyn Disk) -> Result<Format> {
    let path = RelPath::new(FORMAT_NAME);
    Format::decode(&read_whole(disk, &path)?, &described(disk, &path))
}

fn read_head(directory: &Directory) -> Result<Head> {
    let path = RelPath::new(HEAD_NAME);
    let bytes = read_whole(&*directory.disk, &path)?;
    Head::decode(&bytes, &directory.format, &described(&*directory.disk, &path))
}

fn read_tables(directory: &Directory, head: Head, health: &Arc<Health>) -> Result<Tables> {
    let mut tables = Tables { lsn: head.lsn, metadata: head.metadata, ..Tables::empty() };
    for memory in &head.memories {
        let content = image::read(&*directory.disk, &directory.format, memory)?;
        let (created, image) = (memory.created, memory.image);
        let memory = Memory::new(memory.id, memory.capacity, health.clone(), content);
        tables.memories.insert(memory.id(), MemoryEntry { memory, created, image, changed: false });
    }
    for (id, blob) in head.blobs {
        check_blob(&*directory.disk, id, blob.bytes)?;
        let (bytes, references) = (blob.bytes, blob.references);
        tables.blobs.insert(id, BlobEntry { bytes, references, abandoned: false, held: None });
    }
    Ok(tables)
}

/// Whether a blob is there with its length. Its bytes are verified each time it is read.
fn check_blob(disk: &dyn Disk, id: BlobId, bytes: u64) -> Result<()> {
    let path = blob_path(id);
    let name = described(disk, &path);
    let length = disk.open(&path, Open::Read).and_then(|file| file.len());
    match length {
        Ok(length) if length == bytes => Ok(()),
        Ok(length) => {
            Err(Error::damaged(&name, length.min(bytes), format_args!("it has {length} bytes of {bytes}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::damaged(&name, 0, "it is missing"))
        }
        Err(error) => Err(Error::reading(&name, error)),
    }
}

/// Removes what `head` does not name: the leavings of a save that was stopped. Names we would not make are
/// left alone.
///
/// None may stay behind: a later save could take its name, and find it there without its being durable.
fn remove_orphans(directory: &Directory, tables: &Tables) -> Result<()> {
    let images = tables.memories.values().filter_map(|entry| entry.image).map(|image| image.path()).collect();
    remove_all_but(&*directory.disk, MEMORY_DIR, is_image_name, &images)?;
    let blobs = tables.blobs.keys().map(|id| blob_path(*id)).collect();
    remove_all_but(&*directory.disk, BLOB_DIR, is_blob_name, &blobs)
}

fn remove_all_but(
    disk: &dyn Disk,
    dir: &str,
    is_ours: fn(&str) -> bool,
    named: &BTreeSet<RelPath>,
) -> Result<()> {
    let dir = RelPath::new(dir);
    let names = disk.list(&dir).map_err(|error| Error::reading(&described(disk, &dir), error))?;
    for path in names.iter().filter(|name| is_ours(name)).map(|name| RelPath::new(format!("{dir}/{name}"))) {
        if !named.contains(&path) {
            disk.unlink(&path).map_err(|error| Error::writing(&described(disk, &path), error))?;
        }
    }
    Ok(())
}

fn is_image_name(name: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().is_ok_and(|number| number.to_string() == text);
    name.split_once('.').is_some_and(|(memory, lsn)| number(memory) && number(lsn))
}

fn is_blob_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

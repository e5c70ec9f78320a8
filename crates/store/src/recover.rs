//! Opens a state directory, or makes one; both refuse a directory that is not ours before they touch it.
//!
//! - `FORMAT` is written last when a directory is made: a directory without it holds no state, and one with
//!   anything in it that only a state could have is refused rather than overwritten.
//! - Nothing of the log takes effect before recovery has written it again and synced it: what a stopped
//!   process left visible may not be durable, and a sync of it may report success without being one.
//! - For the same reason files and names that are not known to be durable are made anew.
//! - Every opening begins a new chain, in a new segment, with a link that no record has.
//! - A recovery that is stopped is done again: every step may be repeated.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};

use crate::apply::{Applied, Apply};
use crate::blob::{BLOB_DIR, blob_path, is_blob_name, read_whole};
use crate::catalog::{CATALOG_NAME, CATALOG_TEMPORARY, Catalog, CatalogChange, Head};
use crate::checkpoint::{Checkpoint, RESERVE_NAME};
use crate::config::{Config, Durability};
use crate::core::{Core, Directory, FIRST_MEMORY, RESERVED_MEMORIES, TEMPORARY, replace, sync_dir};
use crate::disk::{Disk, FileSystem, LOCK_NAME, Lock, Open, RelPath, described};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{MEMORY_DIR, MemoryFiles, parse_memory_name};
use crate::format::{Clean, FORMAT_BYTES, Format, Keys, is_segment_length};
use crate::group::Order;
use crate::guard::{Guard, Health};
use crate::log::Log;
use crate::memory::MemoryState;
use crate::mutants::mutant;
use crate::page::Lsn;
use crate::scan::Scanner;
use crate::segment::{
    LOG_DIR, LogName, SEGMENT_HEADER_BYTES, SHORT_BYTES, Segment, Segments, read_segment_header,
};
use crate::sync::lock;
use crate::tables::{BlobEntry, Tables};

/// The name of the file that says what the directory is.
pub(crate) const FORMAT_NAME: &str = "FORMAT";
/// The name of the file that says that the directory was closed.
pub(crate) const CLEAN_NAME: &str = "CLEAN";
/// The directories of a state.
const DIRS: [&str; 3] = [LOG_DIR, MEMORY_DIR, BLOB_DIR];

/// What was found when a directory was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Opened {
    /// There was no state, and an empty one was made.
    Created,
    /// It had been closed.
    Clean,
    /// It had not been closed; the log was read.
    Recovered {
        /// Records that were not in the files yet.
        records: u64,
        /// Their bytes in the log.
        bytes: u64,
    },
}

/// What is to be known about a store that was opened all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The directory is on a file system in memory, of this name.
    InMemory(&'static str),
    /// The directory is on a file system that a process serves.
    Fuse,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::InMemory(name) => {
                write!(f, "the state is on {name}, in memory: nothing of it outlives the machine's next stop")
            }
            Warning::Fuse => f.write_str(
                "the state is on a file system served by a process, which decides what a sync means",
            ),
        }
    }
}

/// What to do about a log that lost acknowledged records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Refuse,
    /// Open without them, and keep the old log.
    Accept,
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

/// What is on the way to an open directory.
struct Opening {
    disk: Arc<dyn Disk>,
    health: Arc<Health>,
    format: Format,
    keys: Keys,
    segments: Segments,
    catalog: Box<dyn Catalog>,
    lock: Lock,
    warning: Option<Warning>,
}

/// Opens the state in a directory.
pub(crate) fn open(disk: Arc<dyn Disk>, config: &Config, loss: Loss) -> Result<(Arc<Core>, Opened)> {
    match open_once(disk.clone(), config, loss) {
        // Nothing is lost; what the reserve gives back may be enough.
        Err(error)
            if error.kind() == ErrorKind::StorageFull && disk.unlink(&RelPath::new(RESERVE_NAME)).is_ok() =>
        {
            open_once(disk, config, loss)
        }
        result => result,
    }
}

fn open_once(disk: Arc<dyn Disk>, config: &Config, loss: Loss) -> Result<(Arc<Core>, Opened)> {
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
    let warning = check_file_system(&*disk, config)?;
    // A file that is not ours is refused before the lock leaves a trace beside it.
    read_format(&*disk)?;
    let lock = take_lock(&*disk, config)?;
    let health = Arc::new(Health::default());
    let disk: Arc<dyn Disk> = Arc::new(Guard::new(disk, health.clone()));
    let format = read_format(&*disk)?;
    let keys = format.keys();
    let clean = take_clean(&*disk, &format, &keys)?;
    let mut catalog = config.catalog.open(&disk, clean.is_some())?;
    let mut head = catalog.head()?;
    let is_clean = clean.is_some_and(|clean| {
        mutant!(CLEAN_NOT_COMPARED) || (clean.applied, clean.link) == (head.applied.get(), head.link)
    });
    if clean.is_some() && !is_clean {
        drop(catalog);
        catalog = config.catalog.open(&disk, false)?;
        head = catalog.head()?;
    }
    let names = log_names(&*disk)?;
    let segments = segments(&disk, &format, &keys, config, &names);
    let applied = Applied { head, memories: catalog.memories()?, blobs: catalog.blobs()? };
    let opening = Opening { disk, health, format, keys, segments, catalog, lock, warning };
    if is_clean {
        opening.go_on(config, applied, &names)
    } else {
        opening.recover(config, applied, &names, loss)
    }
}

/// Makes an empty state; `None`, and nothing done, when there is one already.
pub(crate) fn create(disk: Arc<dyn Disk>, config: &Config) -> Result<Option<Arc<Core>>> {
    assert!(is_segment_length(config.segment_bytes), "{} bytes are no segment", config.segment_bytes);
    let place = disk.describe();
    match look(&*disk)? {
        Found::Missing | Found::Vacant => {}
        Found::State => return Ok(None),
        Found::Foreign(name) => return Err(foreign(&place, &name)),
    }
    disk.make_dir(&RelPath::root()).map_err(|error| Error::writing(&place, error))?;
    let warning = check_file_system(&*disk, config)?;
    let lock = take_lock(&*disk, config)?;
    // Another process may have been quicker while we waited for the lock.
    match look(&*disk)? {
        Found::Vacant => {}
        Found::State => return Ok(None),
        Found::Missing => return Err(Error::writing(&place, io::ErrorKind::NotFound.into())),
        Found::Foreign(name) => return Err(foreign(&place, &name)),
    }
    let health = Arc::new(Health::default());
    let disk: Arc<dyn Disk> = Arc::new(Guard::new(disk, health.clone()));
    // What an interrupted creation left may have a name that is only visible: the new files get new names.
    let catalogs = [CATALOG_NAME, CATALOG_TEMPORARY].map(RelPath::new);
    let segments_left = log_names(&*disk).unwrap_or_default().into_iter().map(LogName::path);
    for path in segments_left.chain(catalogs) {
        match disk.unlink(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(|error| Error::writing(&described(&*disk, &path), error))?,
        }
    }
    for dir in DIRS {
        make_dir(&*disk, dir)?;
    }
    sync_dir(&*disk, "")?;
    let format = Format::from_seed(&config.seed, config.segment_bytes);
    let keys = format.keys();
    let segments = segments(&disk, &format, &keys, config, &[]);
    let first = segments.prepare_first(segment_bytes(&format, config).min(SHORT_BYTES))?;
    let head = Head {
        applied: Lsn::new(0),
        link: format.fresh_link(&config.seed, 0),
        segment: first.number,
        offset: SEGMENT_HEADER_BYTES,
        next_memory: FIRST_MEMORY + RESERVED_MEMORIES,
    };
    let catalog = config.catalog.create(&disk, &head)?;
    replace(&*disk, FORMAT_NAME, &format.encode())?;
    let applied = Applied { head, memories: Default::default(), blobs: Default::default() };
    let opening = Opening { disk, health, format, keys, segments, catalog, lock, warning };
    Ok(Some(opening.finish(config, applied, first, FIRST_MEMORY)?))
}

impl Opening {
    /// The directory was closed: everything is in the files.
    fn go_on(self, config: &Config, mut applied: Applied, names: &[LogName]) -> Result<(Arc<Core>, Opened)> {
        let full = segment_bytes(&self.format, config);
        let passed = self.lengths(names)?;
        let first = self.segments.prepare_first(full.min(SHORT_BYTES))?;
        let next_memory = applied.head.next_memory;
        let head = self.head(config, applied.head.applied, &first, next_memory);
        let change = CatalogChange::new(head);
        self.catalog.commit(&change)?;
        applied.update(&change);
        // Not before the catalog has let go of them: it must never name a segment that is not there.
        self.segments.pass(passed)?;
        Ok((self.finish(config, applied, first, next_memory)?, Opened::Clean))
    }

    /// The log may hold records that are not in the files.
    fn recover(
        self,
        config: &Config,
        mut applied: Applied,
        names: &[LogName],
        loss: Loss,
    ) -> Result<(Arc<Core>, Opened)> {
        let position = applied.head.position();
        if loss == Loss::Refuse {
            self.refuse_missing(position.segment)?;
        }
        let scanner = Scanner::new(self.disk.clone(), &self.format, &self.keys, position);
        let mut apply = Apply::new(scanner, None);
        apply.scan(&applied, u64::MAX)?;
        let opened = Opened::Recovered { records: apply.records, bytes: apply.scanner.found_bytes() };
        self.refuse_damage(&apply.scanner, loss)?;
        let files = MemoryFiles::new(self.disk.clone());
        if mutant!(RECOVERY_BASE_FIRST) {
            self.write_files(&mut apply, &files)?;
        }
        apply.scanner.rewrite(&self.segments)?;
        // If the sync of its name was what failed when the state was made, the name is only visible.
        replace(&*self.disk, FORMAT_NAME, &self.format.encode())?;
        for dir in [LOG_DIR, MEMORY_DIR, ""] {
            sync_dir(&*self.disk, dir)?;
        }
        self.write_files(&mut apply, &files)?;
        let last = apply.scanner.position.last;
        let next_memory = applied.head.next_memory.max(apply.next_memory());
        let full = segment_bytes(&self.format, config);
        let first = self.segments.prepare_first(full.min(SHORT_BYTES))?;
        let mut head = self.head(config, last, &first, next_memory);
        if mutant!(CHAIN_NOT_RESTARTED) {
            head.link = apply.scanner.position.link;
        }
        let change = apply.catalog_change(head);
        self.catalog.commit(&change)?;
        applied.update(&change);
        drop(apply);
        if loss == Loss::Accept {
            self.keep_old_log(names)?;
        } else {
            self.segments.pass(self.lengths(names)?)?;
        }
        Ok((self.finish(config, applied, first, next_memory)?, opened))
    }

    fn write_files(&self, apply: &mut Apply, files: &MemoryFiles) -> Result<()> {
        for id in apply.new_memories() {
            files.make_again(id)?;
        }
        while !apply.write(files, usize::MAX)? {}
        if apply.has_new_files() { files.sync_names() } else { Ok(()) }
    }

    /// The segment in which the log goes on was there, with its name, before the catalog named it.
    fn refuse_missing(&self, segment: u64) -> Result<()> {
        let path = LogName::Segment(segment).path();
        match self.disk.open(&path, Open::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let what = "it is missing, and the catalog says that the log goes on in it";
                Err(Error::damaged(&described(&*self.disk, &path), 0, what))
            }
            _ => Ok(()),
        }
    }

    /// Whether the log ends where it was torn, or lost what had been acknowledged.
    fn refuse_damage(&self, scanner: &Scanner, loss: Loss) -> Result<()> {
        if loss == Loss::Accept || mutant!(DAMAGE_TAKEN_FOR_TORN) {
            return Ok(());
        }
        let Some((proof, proof_at)) = scanner.find_damage()? else { return Ok(()) };
        let position = scanner.position;
        let file = described(&*self.disk, &LogName::Segment(position.segment).path());
        let missing = position.last.get() + 1;
        let what = format_args!(
            "record {missing} cannot be read, and byte {proof_at} of {proof} proves that it was acknowledged"
        );
        Err(Error::damaged(&file, position.offset, what))
    }

    fn head(&self, config: &Config, applied: Lsn, first: &Segment, next_memory: u64) -> Head {
        Head {
            applied,
            link: self.format.fresh_link(&config.seed, first.number),
            segment: first.number,
            offset: SEGMENT_HEADER_BYTES,
            next_memory: next_memory.saturating_add(RESERVED_MEMORIES),
        }
    }

    /// The segments that were there, with the lengths that their headers promise; 0 for those that are not
    /// what their name says. After a sync that failed two names may stand for one file.
    fn lengths(&self, names: &[LogName]) -> Result<Vec<(u64, u64)>> {
        let mut lengths = Vec::new();
        for name in names {
            let LogName::Segment(number) = *name else { continue };
            let reading = |error| Error::reading(&described(&*self.disk, &name.path()), error);
            let file = self.disk.open(&name.path(), Open::Read).map_err(reading)?;
            let length = file.len().map_err(reading)?;
            let mut header = [0; SEGMENT_HEADER_BYTES as usize];
            let mut promised = None;
            if length >= SEGMENT_HEADER_BYTES {
                file.read_at(0, &mut header).map_err(reading)?;
                promised = read_segment_header(&header, &self.format, &self.keys, number);
            }
            lengths.push((number, promised.filter(|promised| *promised == length).unwrap_or(0)));
        }
        Ok(lengths)
    }

    /// Moves the log that was there into `damaged/`.
    fn keep_old_log(&self, names: &[LogName]) -> Result<()> {
        let damaged = RelPath::new(DAMAGED_DIR);
        let made = self.disk.make_dir(&damaged);
        made.map_err(|error| Error::writing(&described(&*self.disk, &damaged), error))?;
        for name in names {
            let from = name.path();
            let to = RelPath::new(from.as_str().replacen(LOG_DIR, DAMAGED_DIR, 1));
            let moved = self.disk.rename(&from, &to);
            moved.map_err(|error| Error::writing(&described(&*self.disk, &from), error))?;
        }
        for dir in [DAMAGED_DIR, LOG_DIR, ""] {
            sync_dir(&*self.disk, dir)?;
        }
        Ok(())
    }

    fn finish(
        self,
        config: &Config,
        applied: Applied,
        first: Segment,
        next_memory: u64,
    ) -> Result<Arc<Core>> {
        let head = applied.head;
        let (orphans, has_reserve) = orphans(&*self.disk, &applied, next_memory)?;
        let memories: Vec<_> = applied.memories.iter().map(|(id, row)| (*id, *row)).collect();
        let blobs = applied.blobs.iter().map(|(id, references)| {
            (*id, BlobEntry { references: *references, abandoned: None, held: None })
        });
        let tables = Tables { blobs: blobs.collect(), ..Tables::default() };
        let files = MemoryFiles::new(self.disk.clone());
        let begin = (first, head.offset);
        let (disk, health) = (self.disk.clone(), self.health.clone());
        let log = Log::new(disk, &self.format, &self.keys, health, self.segments, begin);
        let directory = Directory {
            disk: self.disk,
            format: self.format,
            keys: self.keys,
            files,
            log,
            catalog: RwLock::new(Some(self.catalog)),
            checkpoint: Mutex::new(Checkpoint::new(applied, orphans, has_reserve)),
            applied: AtomicU64::new(head.applied.get()),
            memories_reserved: AtomicU64::new(head.next_memory),
            lock: Mutex::new(Some(self.lock)),
            warning: self.warning,
        };
        let order = Order { last: head.applied, link: head.link };
        let core = Arc::new(Core::new(self.health, config, tables, order, next_memory, Some(directory)));
        let mut tables = lock(&core.tables);
        for (id, row) in memories {
            let state = MemoryState::new(&core, id, row.capacity, row.class, row.pages);
            tables.memories.insert(id, Arc::new(state));
        }
        drop(tables);
        Ok(core)
    }
}

/// Where the log goes that lost acknowledged records.
pub(crate) const DAMAGED_DIR: &str = "damaged";

/// Ends the use of a directory: everything is applied, and the next opening need not read the log.
pub(crate) fn close(core: &Core) -> Result<()> {
    core.health.check()?;
    lock(&core.tables).is_closing = true;
    let Some(directory) = &core.directory else {
        core.poison(Error::new(ErrorKind::Poisoned, "it was closed"));
        return Ok(());
    };
    core.checkpoint()?;
    let head = core.commit_head(directory)?;
    let catalog = directory.catalog.write().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    if let Some(catalog) = catalog {
        catalog.close().map_err(|error| core.poison(error))?;
    }
    let clean = Clean { applied: head.applied.get(), link: head.link };
    let bytes = clean.encode(&directory.format, &directory.keys);
    directory.replace(CLEAN_NAME, &bytes).map_err(|error| core.poison(error))?;
    core.poison(Error::new(ErrorKind::Poisoned, "it was closed"));
    drop(lock(&directory.lock).take());
    Ok(())
}

/// What `CLEAN` said, if it is whole; it is gone, durably, before anything else is written.
fn take_clean(disk: &dyn Disk, format: &Format, keys: &Keys) -> Result<Option<Clean>> {
    let path = RelPath::new(CLEAN_NAME);
    match disk.open(&path, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| Error::reading(&described(disk, &path), error))?,
    };
    let clean = Clean::decode(&read_whole(disk, &path)?, format, keys);
    if !mutant!(CLEAN_NOT_COMPARED) {
        disk.unlink(&path).map_err(|error| Error::writing(&described(disk, &path), error))?;
        sync_dir(disk, "")?;
    }
    Ok(clean)
}

fn segment_bytes(format: &Format, config: &Config) -> u64 {
    match config.durability {
        // Each save is applied at once, so that a longer segment would only take longer to make.
        Durability::Off => format.segment_bytes.min(SHORT_BYTES),
        _ => format.segment_bytes,
    }
}

fn segments(
    disk: &Arc<dyn Disk>,
    format: &Format,
    keys: &Keys,
    config: &Config,
    names: &[LogName],
) -> Segments {
    let mut next = (1, 0);
    for name in names {
        match *name {
            LogName::Segment(number) => next.0 = next.0.max(number.saturating_add(1)),
            LogName::Temporary(number) => next.1 = next.1.max(number.saturating_add(1)),
            LogName::Big(_) => {}
        }
    }
    Segments::new(disk.clone(), format, keys, segment_bytes(format, config), next)
}

/// Files that belong to no state: the leavings of a process that was stopped. Names that we would not make are
/// left alone. Also whether the reserve is there.
fn orphans(disk: &dyn Disk, applied: &Applied, next_memory: u64) -> Result<(VecDeque<RelPath>, bool)> {
    let list = |dir: &str| {
        let dir = RelPath::new(dir);
        disk.list(&dir).map_err(|error| Error::reading(&described(disk, &dir), error))
    };
    let mut orphans = VecDeque::new();
    for name in list(MEMORY_DIR)? {
        let Some(id) = parse_memory_name(&name) else { continue };
        let is_known = applied.memories.contains_key(&id) && !name.starts_with("tmp-");
        // Of the others none may be given away again: an id is smaller than the next or was never given.
        if !is_known && id.get() < next_memory {
            orphans.push_back(RelPath::new(format!("{MEMORY_DIR}/{name}")));
        }
    }
    for name in list(BLOB_DIR)?.iter().filter(|name| is_blob_name(name)) {
        let path = RelPath::new(format!("{BLOB_DIR}/{name}"));
        if !applied.blobs.keys().any(|id| blob_path(*id) == path) {
            orphans.push_back(path);
        }
    }
    for name in list(LOG_DIR)?.iter().filter_map(|name| LogName::parse(name)) {
        match name {
            LogName::Segment(_) => {}
            LogName::Temporary(_) => orphans.push_back(name.path()),
            // Removed before a record can get the same number, and a file the same name.
            LogName::Big(_) => {
                let path = name.path();
                disk.unlink(&path).map_err(|error| Error::writing(&described(disk, &path), error))?;
            }
        }
    }
    let root = list("")?;
    for name in [FORMAT_NAME, CLEAN_NAME].map(|name| format!("{name}{TEMPORARY}")) {
        if root.contains(&name) {
            orphans.push_back(RelPath::new(name));
        }
    }
    Ok((orphans, root.iter().any(|name| name == RESERVE_NAME)))
}

fn log_names(disk: &dyn Disk) -> Result<Vec<LogName>> {
    let dir = RelPath::new(LOG_DIR);
    let names = disk.list(&dir).map_err(|error| Error::reading(&described(disk, &dir), error))?;
    let mut names: Vec<_> = names.iter().filter_map(|name| LogName::parse(name)).collect();
    names.sort();
    Ok(names)
}

/// Makes an empty subdirectory; its name is not durable before the root is synced. It is moved into place
/// even when there is one: an earlier sync may have failed to make that one durable, and the next would not
/// try again.
fn make_dir(disk: &dyn Disk, dir: &str) -> Result<()> {
    let (path, temporary) = (RelPath::new(dir), RelPath::new(format!("{dir}{TEMPORARY}")));
    let made = disk.make_dir(&temporary).and_then(|()| disk.rename(&temporary, &path));
    made.map_err(|error| Error::writing(&described(disk, &path), error))
}

fn check_file_system(disk: &dyn Disk, config: &Config) -> Result<Option<Warning>> {
    let place = disk.describe();
    let found = disk.file_system().map_err(|error| Error::reading(&place, error))?;
    let what = match found {
        FileSystem::Local(_) => return Ok(None),
        FileSystem::Memory(name) => return Ok(Some(Warning::InMemory(name))),
        FileSystem::Fuse if config.allow_fuse => return Ok(Some(Warning::Fuse)),
        FileSystem::Fuse => "a file system served by a process (FUSE), which decides what a sync means",
        FileSystem::Network(name) => {
            let message =
                format!("{place} is on {name}, reached over a network: choose a directory on a local disk");
            return Err(Error::new(ErrorKind::Format, message));
        }
    };
    Err(Error::new(ErrorKind::Format, format!("{place} is on {what}; allow it, or choose a local disk")))
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

pub(crate) fn take_lock(disk: &dyn Disk, config: &Config) -> Result<Lock> {
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
    let names = |dir: &str| disk.list(&RelPath::new(dir)).unwrap_or_else(|_| vec!["unknown".to_string()]);
    match name.strip_suffix(TEMPORARY).unwrap_or(name) {
        LOCK_NAME | CATALOG_NAME => true,
        MEMORY_DIR | BLOB_DIR => names(name).is_empty(),
        LOG_DIR => names(name)
            .iter()
            .all(|name| matches!(LogName::parse(name), Some(LogName::Segment(1) | LogName::Temporary(_)))),
        FORMAT_NAME => {
            let file = disk.open(&RelPath::new(name), Open::Read);
            file.and_then(|file| file.len()).is_ok_and(|length| length <= FORMAT_BYTES as u64)
        }
        _ => false,
    }
}

pub(crate) fn read_format(disk: &dyn Disk) -> Result<Format> {
    let path = RelPath::new(FORMAT_NAME);
    Format::decode(&read_whole(disk, &path)?, &described(disk, &path))
}

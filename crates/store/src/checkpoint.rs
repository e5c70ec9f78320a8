//! Checkpoints and the other work behind the scenes, done in small steps by whoever has the time.
//!
//! - A checkpoint covers the records up to one that is durable, in slices between which commits go on.
//! - `applied` moves only by a commit of the catalog that follows the sync of every file it covers; a segment
//!   is used again, and a file removed, only after that commit.
//! - A full disk ends a checkpoint, not the store: all of it is done again later, from the log. Any other
//!   failure ends the store.
//! - Time comes from the caller.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::apply::{Applied, Apply};
use crate::blob::blob_path;
use crate::catalog::{CatalogChange, Head};
use crate::config::Durability;
use crate::core::{Core, Directory, next_head};
use crate::disk::{Open, RelPath, described};
use crate::error::{Error, ErrorKind, Result};
use crate::group::{Ended, Reach};
use crate::mutants::mutant;
use crate::page::Lsn;
use crate::scan::{Position, Scanner};
use crate::segment::{LogName, write_zeros};
use crate::sync::lock;

/// The file that is given up to finish a checkpoint on a full disk.
pub(crate) const RESERVE_NAME: &str = "RESERVE";
/// A step reads so many bytes of the log at once: some milliseconds.
const SCAN_BYTES: u64 = 4 << 20;
/// A step removes so many files at once.
const REMOVED_AT_ONCE: usize = 16;

/// How much one [`Store::step`](crate::Store::step) may do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Budget {
    /// Pages that a checkpoint writes.
    pub pages: usize,
}

impl Budget {
    /// So many pages at most.
    pub const fn new(pages: usize) -> Budget {
        Budget { pages }
    }
}

/// What a [`Store::step`](crate::Store::step) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// There is nothing to do for now.
    Idle,
    /// Something was done, and there may be more.
    More,
}

/// The state of work behind the scenes.
pub(crate) struct Checkpoint {
    pub(crate) applied: Applied,
    run: Option<Run>,
    /// Files that neither the catalog nor the log knows, found when the directory was opened.
    pub(crate) orphans: VecDeque<RelPath>,
    pub(crate) has_reserve: bool,
    /// The last record, and since when it is the last.
    idle: Option<(Lsn, Instant)>,
    synced_at: Option<Instant>,
    is_storage_full: bool,
}

struct Run {
    apply: Apply,
    is_scanned: bool,
}

impl Checkpoint {
    pub(crate) fn new(applied: Applied, orphans: VecDeque<RelPath>, has_reserve: bool) -> Checkpoint {
        Checkpoint {
            applied,
            run: None,
            orphans,
            has_reserve,
            idle: None,
            synced_at: None,
            is_storage_full: false,
        }
    }
}

impl Head {
    pub(crate) fn position(&self) -> Position {
        Position { segment: self.segment, offset: self.offset, last: self.applied, link: self.link }
    }
}

impl Core {
    /// Applies everything appended so far; the last record that the catalog covers.
    pub(crate) fn checkpoint(&self) -> Result<Lsn> {
        let Some(directory) = &self.directory else { return Ok(self.group.published().last) };
        let mut checkpoint = lock(&directory.checkpoint);
        self.health.check()?;
        let to = self.group.published().last;
        while checkpoint.run.is_some() || checkpoint.applied.head.applied < to {
            self.advance(directory, &mut checkpoint, usize::MAX)?;
        }
        Ok(checkpoint.applied.head.applied)
    }

    /// Commits the head even if no record waits, with exactly the ids that were used.
    pub(crate) fn commit_head(&self, directory: &Directory) -> Result<Head> {
        let mut checkpoint = lock(&directory.checkpoint);
        let mut head = next_head(&checkpoint.applied, self);
        head.next_memory = self.next_memory_unused();
        let change = CatalogChange::new(head);
        let committed = directory.with_catalog(|catalog| catalog.commit(&change));
        committed.map_err(|error| self.poison(error))?;
        checkpoint.applied.update(&change);
        Ok(head)
    }

    /// Some work behind the scenes. `now` never goes back.
    pub(crate) fn step(&self, now: Instant, budget: Budget) -> Result<Work> {
        self.health.check()?;
        let Some(directory) = &self.directory else { return Ok(Work::Idle) };
        let mut checkpoint = lock(&directory.checkpoint);
        if self.sync_when_due(&mut checkpoint, now)? {
            return Ok(Work::More);
        }
        let off = matches!(self.config.durability, Durability::Off);
        if !off && !checkpoint.is_storage_full && directory.log.segments.is_wanted() {
            // It takes a while, and others may need what the lock protects.
            drop(checkpoint);
            match directory.log.segments.prepare_ahead() {
                // Tried again after the next checkpoint that succeeds; the log has room for a while.
                Err(error) if error.kind() == ErrorKind::StorageFull && self.health.check().is_ok() => {
                    lock(&directory.checkpoint).is_storage_full = true;
                }
                result => result.map_err(|error| self.poison(error))?,
            }
            return Ok(Work::More);
        }
        if checkpoint.run.is_some() || self.is_due(&mut checkpoint, now) {
            let result = self.advance(directory, &mut checkpoint, budget.pages.max(1));
            return match result {
                Err(error) if error.kind() == ErrorKind::StorageFull => Ok(Work::Idle),
                result => result.map(|()| Work::More),
            };
        }
        if self.remove_files(directory, &mut checkpoint)? {
            return Ok(Work::More);
        }
        if !checkpoint.has_reserve && !off && !checkpoint.is_storage_full {
            checkpoint.has_reserve = true;
            // It takes a while, and others may need what the lock protects.
            drop(checkpoint);
            self.make_reserve(directory)?;
            return Ok(Work::More);
        }
        Ok(Work::Idle)
    }

    fn sync_when_due(&self, checkpoint: &mut Checkpoint, now: Instant) -> Result<bool> {
        let published = self.group.published();
        if self.group.has_callbacks() && !self.config.background {
            self.reach(published.last, self.promised(), self.config.durability.window())?;
            return Ok(true);
        }
        let Durability::Interval { period } = self.config.durability else { return Ok(false) };
        let since = *checkpoint.synced_at.get_or_insert(now);
        if now.saturating_duration_since(since) < period {
            return Ok(false);
        }
        checkpoint.synced_at = Some(now);
        if published.last > published.synced {
            self.reach(published.last, Reach::Synced, std::time::Duration::ZERO)?;
            return Ok(true);
        }
        Ok(false)
    }

    fn is_due(&self, checkpoint: &mut Checkpoint, now: Instant) -> bool {
        let last = self.group.published().last;
        if last <= checkpoint.applied.head.applied {
            return false;
        }
        if checkpoint.idle.is_none_or(|(lsn, _)| lsn != last) {
            checkpoint.idle = Some((last, now));
        }
        let since = checkpoint.idle.map_or(now, |(_, since)| since);
        let tables = lock(&self.tables);
        self.wants_checkpoint(&tables) || now.saturating_duration_since(since) >= self.config.checkpoint_idle
    }

    /// Begins a checkpoint, or does a part of the one that has begun.
    fn advance(&self, directory: &Directory, checkpoint: &mut Checkpoint, pages: usize) -> Result<()> {
        let result = self.advance_inner(directory, checkpoint, pages);
        result.map_err(|error| {
            let is_over = self.health.check().is_err();
            if error.kind() == ErrorKind::StorageFull && !is_over {
                return self.give_up(directory, checkpoint, error);
            }
            self.poison(error)
        })
    }

    fn advance_inner(&self, directory: &Directory, checkpoint: &mut Checkpoint, pages: usize) -> Result<()> {
        let Some(run) = &mut checkpoint.run else {
            checkpoint.run = Some(self.begin(directory, &checkpoint.applied)?);
            return Ok(());
        };
        if !run.is_scanned {
            let bytes = if pages == usize::MAX { u64::MAX } else { SCAN_BYTES };
            run.is_scanned = run.apply.scan(&checkpoint.applied, bytes)?;
            return Ok(());
        }
        if !run.apply.write(&directory.files, pages.min(self.config.slice_pages))? {
            return Ok(());
        }
        self.finish(directory, checkpoint)
    }

    fn begin(&self, directory: &Directory, applied: &Applied) -> Result<Run> {
        let to = self.group.push(|order, _| {
            lock(&self.tables).pending.begin();
            (None, order.last)
        });
        let to = to.map_err(|Ended| self.health.error())?;
        let reach = if mutant!(CHECKPOINT_BEYOND_DURABLE) { Reach::Written } else { Reach::Synced };
        self.reach(to, reach, std::time::Duration::ZERO)?;
        let position = applied.head.position();
        let scanner = Scanner::new(directory.disk.clone(), &directory.format, &directory.keys, position);
        Ok(Run { apply: Apply::new(scanner, Some(to)), is_scanned: false })
    }

    fn finish(&self, directory: &Directory, checkpoint: &mut Checkpoint) -> Result<()> {
        let run = checkpoint.run.as_mut().expect("a checkpoint that is finished was begun");
        if run.apply.has_new_files() {
            directory.files.sync_names()?;
        }
        let position = run.apply.scanner.position;
        let head = Head {
            applied: position.last,
            link: position.link,
            segment: position.segment,
            offset: position.offset,
            ..next_head(&checkpoint.applied, self)
        };
        let change = run.apply.catalog_change(head);
        if mutant!(LOG_RECYCLED_EARLY) {
            recycle(directory, &run.apply.scanner, position.segment)?;
        }
        directory.with_catalog(|catalog| catalog.commit(&change))?;
        checkpoint.applied.update(&change);
        let run = checkpoint.run.take().expect("a checkpoint that is finished was begun");
        checkpoint.is_storage_full = false;
        directory.applied.store(head.applied.get(), Ordering::Release);
        directory.memories_reserved.store(head.next_memory, Ordering::Release);
        let mut tables = lock(&self.tables);
        tables.applied(head.applied);
        tables.is_storage_full = false;
        drop(tables);
        self.room.notify_all();
        if !mutant!(LOG_RECYCLED_EARLY) {
            recycle(directory, &run.apply.scanner, position.segment)?;
        }
        Ok(())
    }

    /// A full disk: the log has everything, and the next try does all of it again.
    fn give_up(&self, directory: &Directory, checkpoint: &mut Checkpoint, error: Error) -> Error {
        checkpoint.run = None;
        checkpoint.is_storage_full = true;
        let had_reserve = std::mem::take(&mut checkpoint.has_reserve);
        if had_reserve {
            // What the reserve gives back may be enough; if it cannot be removed there is nothing lost.
            let _ = directory.disk.unlink(&RelPath::new(RESERVE_NAME));
        }
        let mut tables = lock(&self.tables);
        tables.pending.give_up();
        tables.is_storage_full = !had_reserve;
        drop(tables);
        self.room.notify_all();
        error
    }

    /// A checkpoint that finds no room meanwhile takes the name away: then there is no reserve.
    fn make_reserve(&self, directory: &Directory) -> Result<()> {
        let path = RelPath::new(RESERVE_NAME);
        let made = directory.disk.open(&path, Open::Create).and_then(|file| {
            write_zeros(&*file, self.config.reserve_bytes)?;
            file.sync_data()
        });
        match made {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                // Tried again after the next checkpoint that succeeds.
                let mut checkpoint = lock(&directory.checkpoint);
                checkpoint.has_reserve = false;
                checkpoint.is_storage_full = true;
                let _ = directory.disk.unlink(&path);
                self.health.check()
            }
            result => result
                .map_err(|error| self.poison(Error::writing(&described(&*directory.disk, &path), error))),
        }
    }

    /// Removes some of the files that nothing needs any more.
    fn remove_files(&self, directory: &Directory, checkpoint: &mut Checkpoint) -> Result<bool> {
        let applied =
            if mutant!(DROP_UNLINKS_EARLY) { Lsn::new(u64::MAX) } else { checkpoint.applied.head.applied };
        let mut tables = lock(&self.tables);
        let memories = tables.take_dropped(applied);
        drop(tables);
        let mut has_removed = !memories.is_empty();
        for id in memories {
            directory.files.remove(id).map_err(|error| self.poison(error))?;
        }
        // Nobody puts a blob again while its file goes.
        let _files_of_blobs = lock(&self.blob_files);
        let abandoned = lock(&self.tables).take_abandoned(applied);
        for id in abandoned {
            has_removed = true;
            remove(directory, &blob_path(id)).map_err(|error| self.poison(error))?;
        }
        for _ in 0..REMOVED_AT_ONCE {
            let Some(path) = checkpoint.orphans.pop_front() else { break };
            has_removed = true;
            let is_put = lock(&self.tables).blobs.keys().any(|id| blob_path(*id) == path);
            if !is_put {
                remove(directory, &path).map_err(|error| self.poison(error))?;
            }
        }
        Ok(has_removed)
    }
}

/// Gives away the segments before `current`, and the oversized records, that a checkpoint has read.
fn recycle(directory: &Directory, scanner: &Scanner, current: u64) -> Result<()> {
    let mut passed = Vec::new();
    for file in &scanner.files {
        match file.name {
            LogName::Segment(number) if number < current => {
                let bytes = file.file.len().map_err(|error| Error::reading("a passed segment", error))?;
                passed.push((number, bytes));
            }
            LogName::Big(_) => remove(directory, &file.name.path())?,
            _ => {}
        }
    }
    directory.log.segments.pass(passed)
}

/// Removes a file that nothing needs; that it is gone already is as good.
fn remove(directory: &Directory, path: &RelPath) -> Result<()> {
    match directory.disk.unlink(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| Error::writing(&described(&*directory.disk, path), error)),
    }
}

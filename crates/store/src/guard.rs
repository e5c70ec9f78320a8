//! Whether a store may still be used, and the disk as a store sees it: closed once a write has failed.
//!
//! - After any failed sync, and after any write that failed for another reason than a full disk, nothing more
//!   is written, created, renamed or removed by this process: the kernel may have dropped what it could not
//!   write, and says so only once.
//! - No write and no sync is tried a second time.
//! - Nothing is written through a guard after the store has ended, whoever holds the file: the catalog too.

use std::fmt;
use std::io::{self, ErrorKind as Io};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::disk::{Cloned, Disk, DiskFile, FileSystem, Lock, Open, RelPath, Space, described};
use crate::error::{Error, ErrorKind, Result};
use crate::mutants::mutant;

/// Whether a store may still be used; also tells one store from another.
#[derive(Default)]
pub(crate) struct Health {
    has_ended: AtomicBool,
    why: OnceLock<String>,
}

impl Health {
    pub(crate) fn check(&self) -> Result<()> {
        let has_ended = self.has_ended.load(Ordering::Acquire) && !mutant!(WRITE_AFTER_POISON);
        if has_ended { Err(self.error()) } else { Ok(()) }
    }

    /// What every call answers after the end.
    pub(crate) fn error(&self) -> Error {
        let why = self.why.get().map_or("it has ended", |why| why);
        Error::new(ErrorKind::Poisoned, format!("the store must be opened again: {why}"))
    }

    /// From now on every call fails; the first reason is the one that is told.
    pub(crate) fn end(&self, why: impl fmt::Display) {
        let _ = self.why.set(why.to_string());
        self.has_ended.store(true, Ordering::Release);
    }

    fn check_write(&self) -> io::Result<()> {
        if self.has_ended.load(Ordering::Acquire) && !mutant!(WRITE_AFTER_POISON) {
            let why = self.why.get().map_or("it has ended", |why| why);
            return Err(io::Error::other(format!("the store takes no more writes: {why}")));
        }
        Ok(())
    }

    /// Ends the store when an operation failed after which what is on disk is not known.
    fn judge<T>(&self, what: Attempt, file: &str, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let is_full = matches!(error.kind(), Io::StorageFull | Io::QuotaExceeded);
            let ends = match what {
                Attempt::Sync => !mutant!(SYNC_RETRIED),
                Attempt::Write => !is_full,
            };
            if ends {
                self.end(format_args!("{file} could not be written ({error})"));
            }
        }
        result
    }
}

#[derive(Clone, Copy)]
enum Attempt {
    Write,
    Sync,
}

/// A disk whose writes end with the store.
pub(crate) struct Guard {
    disk: Arc<dyn Disk>,
    health: Arc<Health>,
}

impl Guard {
    pub(crate) fn new(disk: Arc<dyn Disk>, health: Arc<Health>) -> Guard {
        Guard { disk, health }
    }

    fn name(&self, path: &RelPath) -> String {
        described(&*self.disk, path)
    }
}

impl Disk for Guard {
    fn describe(&self) -> String {
        self.disk.describe()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if how == Open::Create {
            self.health.check_write()?;
        }
        let file = self.disk.open(path, how)?;
        Ok(Arc::new(GuardFile { file, name: self.name(path), health: self.health.clone() }))
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.health.check_write()?;
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        self.health.check_write()?;
        self.disk.unlink(path)
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.health.check_write()?;
        self.disk.make_dir(dir)
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.health.check_write()?;
        self.health.judge(Attempt::Sync, &self.name(dir), self.disk.sync_dir(dir))
    }

    fn clone_file(&self, from: &RelPath, to: &RelPath) -> io::Result<Cloned> {
        self.health.check_write()?;
        self.disk.clone_file(from, to)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn file_system(&self) -> io::Result<FileSystem> {
        self.disk.file_system()
    }

    fn lock(&self, wait: Duration) -> io::Result<Lock> {
        self.disk.lock(wait)
    }
}

struct GuardFile {
    file: Arc<dyn DiskFile>,
    name: String,
    health: Arc<Health>,
}

impl DiskFile for GuardFile {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(at, buf)
    }

    fn write_at(&self, at: u64, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        self.health.check_write()?;
        self.health.judge(Attempt::Write, &self.name, self.file.write_at(at, parts))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.health.check_write()?;
        self.health.judge(Attempt::Write, &self.name, self.file.set_len(bytes))
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.file.allocated_bytes()
    }

    fn data_ranges(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.file.data_ranges(from)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.health.check_write()?;
        let result = self.health.judge(Attempt::Sync, &self.name, self.file.sync_data());
        if mutant!(SYNC_RETRIED) && result.is_err() {
            return self.file.sync_data();
        }
        result
    }

    fn map_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.map_fd()
    }
}

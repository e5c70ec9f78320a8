//! A disk around another one that counts operations and makes chosen ones fail.
//!
//! - An operation that is made to fail does nothing to the disk inside, except that a write may write a
//!   prefix first.
//! - Everything else passes through unchanged, the lock included.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{Cloned, Disk, DiskFile, FileSystem, Lock, Open, RelPath, Space, joined};

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `read_at`.
    Read,
    /// `write_at`.
    Write,
    /// `set_len`.
    SetLen,
    /// `sync_data`.
    Sync,
    /// `open` of a file that must exist.
    Open,
    /// `open` of a file that is made or emptied.
    Create,
    /// `rename`.
    Rename,
    /// `unlink`.
    Unlink,
    /// `make_dir`.
    MakeDir,
    /// `sync_dir`.
    SyncDir,
    /// `clone_file`.
    Clone,
}

impl Operation {
    /// Whether the operation alters the disk or makes an alteration durable.
    pub fn changes(self) -> bool {
        !matches!(self, Operation::Read | Operation::Open)
    }
}

/// An operation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What was to be done.
    pub operation: Operation,
    /// To what.
    pub path: String,
    /// From which byte on.
    pub at: u64,
    /// To how many bytes.
    pub bytes: u64,
}

/// Which operation fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Only operations of this kind are counted; `None`: of any.
    pub operation: Option<Operation>,
    /// The first is 1.
    pub nth: u64,
    /// The number of the operating system's error.
    pub errno: i32,
    /// Whether a write writes half of its bytes first.
    pub short: bool,
    /// Whether all later operations that are counted fail too.
    pub stays: bool,
}

impl Failure {
    /// The `nth` of a kind fails once, and did nothing.
    pub fn of(operation: Operation, nth: u64, errno: i32) -> Failure {
        Failure { operation: Some(operation), nth, errno, short: false, stays: false }
    }

    /// The `nth` operation of any kind fails once, and did nothing.
    pub fn nth(nth: u64, errno: i32) -> Failure {
        Failure { operation: None, nth, errno, short: false, stays: false }
    }
}

/// A disk whose chosen operations fail.
pub struct FaultDisk<D> {
    inner: D,
    faults: Arc<Mutex<FaultState>>,
}

#[derive(Default)]
struct FaultState {
    failures: Vec<Failure>,
    counts: BTreeMap<Operation, u64>,
    count: u64,
    seen: Option<Vec<Seen>>,
    failed: u64,
}

enum Verdict {
    Pass,
    Fail { errno: i32, short: bool },
}

impl Verdict {
    fn check(self) -> io::Result<()> {
        match self {
            Verdict::Pass => Ok(()),
            Verdict::Fail { errno, .. } => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

impl FaultState {
    fn ask(&mut self, operation: Operation, path: &str, at: u64, bytes: u64) -> Verdict {
        self.count += 1;
        let of_kind = self.counts.entry(operation).or_default();
        *of_kind += 1;
        if let Some(seen) = &mut self.seen {
            seen.push(Seen { operation, path: path.to_string(), at, bytes });
        }
        let hit = self.failures.iter().find(|failure| {
            let count = match failure.operation {
                None => self.count,
                Some(kind) if kind == operation => *of_kind,
                Some(_) => return false,
            };
            count == failure.nth || failure.stays && count > failure.nth
        });
        match hit {
            None => Verdict::Pass,
            Some(failure) => {
                self.failed += 1;
                Verdict::Fail { errno: failure.errno, short: failure.short }
            }
        }
    }
}

impl<D: Disk> FaultDisk<D> {
    /// Around `inner`; nothing fails yet.
    pub fn new(inner: D) -> FaultDisk<D> {
        FaultDisk { inner, faults: Arc::default() }
    }

    /// The disk inside.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// Counts anew from 0, and lets these operations fail.
    pub fn set_failures(&self, failures: Vec<Failure>) {
        let mut state = self.state();
        let seen = state.seen.as_ref().map(|_| Vec::new());
        *state = FaultState { failures, seen, ..FaultState::default() };
    }

    /// Keeps a list of the operations from now on.
    pub fn record(&self) {
        self.state().seen = Some(Vec::new());
    }

    /// The operations since [`record`](FaultDisk::record) or [`set_failures`](FaultDisk::set_failures).
    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone().unwrap_or_default()
    }

    /// How many operations of each kind there were.
    pub fn counts(&self) -> BTreeMap<Operation, u64> {
        self.state().counts.clone()
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().count
    }

    /// How many were made to fail.
    pub fn failed(&self) -> u64 {
        self.state().failed
    }

    fn state(&self) -> MutexGuard<'_, FaultState> {
        lock(&self.faults)
    }

    fn ask(&self, operation: Operation, path: &RelPath) -> io::Result<()> {
        self.state().ask(operation, path.as_str(), 0, 0).check()
    }
}

fn lock(state: &Mutex<FaultState>) -> MutexGuard<'_, FaultState> {
    // Counting goes on after a test's panic elsewhere.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Disk> Disk for FaultDisk<D> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.ask(if how == Open::Create { Operation::Create } else { Operation::Open }, path)?;
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(FaultFile { inner, faults: self.faults.clone(), path: path.as_str().into() }))
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        self.ask(Operation::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        self.ask(Operation::Unlink, path)?;
        self.inner.unlink(path)
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn make_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.ask(Operation::MakeDir, dir)?;
        self.inner.make_dir(dir)
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        self.ask(Operation::SyncDir, dir)?;
        self.inner.sync_dir(dir)
    }

    fn clone_file(&self, from: &RelPath, to: &RelPath) -> io::Result<Cloned> {
        self.ask(Operation::Clone, from)?;
        self.inner.clone_file(from, to)
    }

    fn space(&self) -> io::Result<Space> {
        self.inner.space()
    }

    fn file_system(&self) -> io::Result<FileSystem> {
        self.inner.file_system()
    }

    fn lock(&self, wait: Duration) -> io::Result<Lock> {
        self.inner.lock(wait)
    }
}

struct FaultFile {
    inner: Arc<dyn DiskFile>,
    faults: Arc<Mutex<FaultState>>,
    path: Box<str>,
}

impl FaultFile {
    fn ask(&self, operation: Operation, at: u64, bytes: u64) -> Verdict {
        lock(&self.faults).ask(operation, &self.path, at, bytes)
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.ask(Operation::Read, at, buf.len() as u64).check()?;
        self.inner.read_at(at, buf)
    }

    fn write_at(&self, at: u64, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let verdict = self.ask(Operation::Write, at, bytes as u64);
        match verdict {
            Verdict::Pass => self.inner.write_at(at, parts),
            Verdict::Fail { short, .. } => {
                if short {
                    self.inner.write_at(at, &[io::IoSlice::new(&joined(parts)[..bytes / 2])])?;
                }
                verdict.check()
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.ask(Operation::SetLen, bytes, 0).check()?;
        self.inner.set_len(bytes)
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.inner.allocated_bytes()
    }

    fn data_ranges(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.inner.data_ranges(from)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.ask(Operation::Sync, 0, 0).check()?;
        self.inner.sync_data()
    }

    fn map_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.map_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimDisk;

    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;

    fn path(path: &str) -> RelPath {
        RelPath::new(path)
    }

    /// One operation of each kind.
    fn script(disk: &dyn Disk) -> io::Result<()> {
        disk.make_dir(&RelPath::root())?;
        let file = disk.open(&path("a"), Open::Create)?;
        file.write_at(0, &[io::IoSlice::new(&[1; 10]), io::IoSlice::new(&[2; 10])])?;
        file.set_len(30)?;
        file.sync_data()?;
        disk.clone_file(&path("a"), &path("b"))?;
        disk.rename(&path("b"), &path("c"))?;
        disk.open(&path("c"), Open::Read)?.read_at(5, &mut [0; 10])?;
        disk.unlink(&path("c"))?;
        disk.sync_dir(&RelPath::root())
    }

    #[test]
    fn every_operation_is_seen_and_can_fail() {
        let disk = FaultDisk::new(SimDisk::new(1));
        disk.record();
        script(&disk).unwrap();
        let seen = disk.seen();
        assert_eq!(disk.operations(), 11);
        assert_eq!(disk.counts().len(), 11, "one of each kind: {:?}", disk.counts());
        let write = Seen { operation: Operation::Write, path: "a".to_string(), at: 0, bytes: 20 };
        assert_eq!(seen[2], write);
        for (index, seen) in seen.iter().enumerate() {
            for failure in [
                Failure::nth(index as u64 + 1, EIO),
                Failure::of(seen.operation, 1, ENOSPC),
                Failure { stays: true, ..Failure::of(seen.operation, 1, ENOSPC) },
            ] {
                let disk = FaultDisk::new(SimDisk::new(1));
                disk.record();
                disk.set_failures(vec![failure]);
                let error = script(&disk).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(failure.errno), "{failure:?}");
                assert_eq!(disk.seen().last(), Some(seen));
                assert_eq!(disk.failed(), 1);
                let disk_was_changed = disk.inner().operations();
                let before = seen_changes(&disk.seen());
                assert_eq!(disk_was_changed, before - u64::from(seen.operation.changes()));
            }
        }
    }

    fn seen_changes(seen: &[Seen]) -> u64 {
        seen.iter().filter(|seen| seen.operation.changes()).count() as u64
    }

    #[test]
    fn a_failing_write_may_write_half() {
        for short in [false, true] {
            let disk = FaultDisk::new(SimDisk::new(1));
            disk.set_failures(vec![Failure { short, ..Failure::of(Operation::Write, 1, ENOSPC) }]);
            script(&disk).unwrap_err();
            let expected = if short { vec![1; 10] } else { Vec::new() };
            assert_eq!(disk.inner().bytes("a").unwrap(), expected);
        }
    }

    #[test]
    fn a_fault_that_stays_ends_with_the_next_setting() {
        let disk = FaultDisk::new(SimDisk::new(1));
        disk.set_failures(vec![Failure { stays: true, ..Failure::nth(1, EIO) }]);
        for _ in 0..3 {
            script(&disk).unwrap_err();
        }
        assert_eq!(disk.failed(), 3);
        disk.set_failures(Vec::new());
        script(&disk).unwrap();
        assert_eq!(disk.failed(), 0);
    }
}

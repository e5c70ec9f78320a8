//! The seam to the disk: a directory tree behind two traits. [`FileDisk`] is the tree that is real.
//!
//! - No file of this crate but `disk/file.rs` calls the operating system.
//! - Paths are relative to the state directory and lead to nothing outside; those of a state are made by this
//!   crate, and no name holds a word chosen by a canister or a client.
//! - Directories have mode 0700, files 0600.
//! - Nothing is durable before `sync_data` of the file and `sync_dir` of the directory that names it have
//!   returned success.
//! - Whatever failed may have happened in part.

mod file;

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

pub use file::FileDisk;

/// A path inside the state directory, with `/` between its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelPath(String);

impl RelPath {
    /// The state directory itself.
    pub(crate) fn root() -> RelPath {
        RelPath(String::new())
    }

    /// A path with `/` between its parts; empty for the tree itself.
    ///
    /// # Panics
    /// When it leads out of the tree.
    pub fn new(path: impl Into<String>) -> RelPath {
        let path = path.into();
        assert!(
            !path.starts_with('/') && path.split('/').all(|part| part != ".."),
            "{path:?} leads out of the tree"
        );
        RelPath(path)
    }

    /// The path as text; empty for the state directory itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, to be read.
    Read,
    /// An existing file, to be read and written.
    Write,
    /// A file to be read and written, made or emptied.
    Create,
}

/// How a file was cloned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloned {
    /// Both files share their blocks until one of them is written.
    Shared,
    /// The file system shares no blocks, so the parts that may hold data were copied.
    Copied {
        /// How much was copied.
        bytes: u64,
    },
}

/// What is left of the file system that holds a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this process may still allocate.
    pub free_bytes: u64,
    /// Bytes of the whole file system.
    pub total_bytes: u64,
}

/// What kind of file system holds a tree; each with the name that people know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// On a disk of this machine, or of a kind that is not known.
    Local(&'static str),
    /// In memory: nothing in it survives a power cut.
    Memory(&'static str),
    /// Reached over a network, where a sync and a lock may promise less than they say.
    Network(&'static str),
    /// Served by a process, which decides what a sync means.
    Fuse,
}

/// A directory tree.
pub trait Disk: Send + Sync {
    /// What to call this tree in messages: its path.
    fn describe(&self) -> String;
    /// Opens a file.
    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Moves a file over whatever has the other name, at once or not at all.
    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()>;
    /// Takes a file's name away.
    fn unlink(&self, path: &RelPath) -> io::Result<()>;
    /// The names in a directory, in any order.
    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>>;
    /// Makes a directory; one that exists is left as it is.
    fn make_dir(&self, dir: &RelPath) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &RelPath) -> io::Result<()>;
    /// Makes `to`, which must not exist, a file with the content of `from`. Neither atomic nor synced.
    fn clone_file(&self, from: &RelPath, to: &RelPath) -> io::Result<Cloned>;
    /// What is left of the file system.
    fn space(&self) -> io::Result<Space>;
    /// The kind of file system. Works before the tree is made.
    fn file_system(&self) -> io::Result<FileSystem>;
    /// Takes the tree for this process, waiting for another holder no longer than `wait`. The error is of
    /// kind `WouldBlock` and its text names the holder when there is still one.
    fn lock(&self, wait: Duration) -> io::Result<Lock>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Fills `buf` from byte `at`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of the parts, one after the other, from byte `at` on.
    fn write_at(&self, at: u64, parts: &[io::IoSlice<'_>]) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts the file off or extends it with zeros that take no room.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Bytes of the disk that the file takes.
    fn allocated_bytes(&self) -> io::Result<u64>;
    /// The next range at or after `from` that may hold data; outside these ranges the file reads as zeros.
    fn data_ranges(&self, from: u64) -> io::Result<Option<Range<u64>>>;
    /// Makes the content and the length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// What to map the file by; `None` when it is not a file of the operating system.
    fn map_fd(&self) -> Option<BorrowedFd<'_>>;
}

impl<D: Disk + ?Sized> Disk for Arc<D> {
    fn describe(&self) -> String {
        (**self).describe()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        (**self).open(path, how)
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        (**self).rename(from, to)
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        (**self).unlink(path)
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        (**self).list(dir)
    }

    fn make_dir(&self, dir: &RelPath) -> io::Result<()> {
        (**self).make_dir(dir)
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        (**self).sync_dir(dir)
    }

    fn clone_file(&self, from: &RelPath, to: &RelPath) -> io::Result<Cloned> {
        (**self).clone_file(from, to)
    }

    fn space(&self) -> io::Result<Space> {
        (**self).space()
    }

    fn file_system(&self) -> io::Result<FileSystem> {
        (**self).file_system()
    }

    fn lock(&self, wait: Duration) -> io::Result<Lock> {
        (**self).lock(wait)
    }
}

/// Holds a tree for as long as it lives.
pub struct Lock {
    _holder: Box<dyn Any + Send + Sync>,
}

impl Lock {
    /// A lock that is released when `holder` is dropped.
    pub fn new(holder: impl Any + Send + Sync) -> Lock {
        Lock { _holder: Box::new(holder) }
    }
}

/// What a file of a tree is called in messages.
pub(crate) fn described(disk: &dyn Disk, path: &RelPath) -> String {
    if path.as_str().is_empty() { disk.describe() } else { format!("{}/{path}", disk.describe()) }
}

/// The parts of a write as one.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn joined(parts: &[io::IoSlice<'_>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// The name of the file that carries the lock.
pub(crate) const LOCK_NAME: &str = "LOCK";

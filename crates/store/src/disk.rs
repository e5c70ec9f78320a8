//! The seam to the disk: a directory tree behind two traits, and the one that is real.
//!
//! - No other file of this crate calls the operating system.
//! - Paths are relative to the state directory and made by this crate; no name holds a word chosen by a
//!   canister or a client.
//! - Directories have mode 0700, files 0600.
//! - Nothing is durable before `sync_data` of the file and `sync_dir` of the directory that names it have
//!   returned success.

use std::any::Any;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A path inside the state directory, with `/` between its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelPath(String);

impl RelPath {
    /// The state directory itself.
    pub(crate) fn root() -> RelPath {
        RelPath(String::new())
    }

    pub(crate) fn new(path: impl Into<String>) -> RelPath {
        RelPath(path.into())
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
    /// A file to be written from its beginning, made or emptied.
    Create,
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
    /// Takes the tree for this process, waiting for another holder no longer than `wait`. The error is of
    /// kind `WouldBlock` and its text names the holder when there is still one.
    fn lock(&self, wait: Duration) -> io::Result<Lock>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Fills `buf` from byte `at`; `UnexpectedEof` when the file ends before.
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` at byte `at`.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes the content and the length durable.
    fn sync_data(&self) -> io::Result<()>;
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

/// A directory of the machine's file system.
pub struct FileDisk {
    root: PathBuf,
}

/// A process that waits for the lock looks this often.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The name of the file that carries the lock.
pub(crate) const LOCK_NAME: &str = "LOCK";

impl FileDisk {
    /// The directory at `root`, whether it exists yet or not.
    pub fn new(root: impl Into<PathBuf>) -> FileDisk {
        FileDisk { root: root.into() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &RelPath) -> PathBuf {
        if path.as_str().is_empty() { self.root.clone() } else { self.root.join(path.as_str()) }
    }
}

impl Disk for FileDisk {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        match how {
            Open::Read => options.read(true),
            Open::Create => options.read(true).write(true).create(true).truncate(true).mode(0o600),
        };
        Ok(Arc::new(RealFile(options.open(self.path(path))?)))
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        std::fs::rename(self.path(from), self.path(to))
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        std::fs::read_dir(self.path(dir))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn make_dir(&self, dir: &RelPath) -> io::Result<()> {
        let path = self.path(dir);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(error) => Err(error),
            // The state directory's own name stands in a directory that is not in this tree.
            Ok(()) if dir.as_str().is_empty() => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
            }
            Ok(()) => Ok(()),
        }
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn lock(&self, wait: Duration) -> io::Result<Lock> {
        let path = self.root.join(LOCK_NAME);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            let left = wait.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::WouldBlock, holder(&file)));
            }
            std::thread::sleep(left.min(LOCK_POLL));
        }
        // The number is for messages only: a disk too full to take it does not keep anybody from reading.
        let _ =
            file.set_len(0).and_then(|()| file.write_all_at(std::process::id().to_string().as_bytes(), 0));
        Ok(Lock::new(file))
    }
}

/// Who holds the lock of `file`, as far as it says.
fn holder(file: &File) -> String {
    let mut digits = [0; 20];
    let length = FileExt::read_at(file, &mut digits, 0).unwrap_or(0);
    let number = std::str::from_utf8(&digits[..length]).ok().and_then(|text| text.parse::<u32>().ok());
    number.map_or_else(|| "another process".to_string(), |number| format!("process {number}"))
}

/// A file of the machine's file system.
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buf, at)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

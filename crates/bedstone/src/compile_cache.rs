//! The directory in which compiled modules are kept, and the key that only this user has.
//!
//! Invariants:
//! - What is in the directory is machine code that a process of this user will run. So directory and key belong to this
//!   user, nobody else may write the one or read the other, and an entry that the key did not seal is not used.
//! - The key is made once, from the system's randomness. Processes that come at the same time agree on one.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedstone_subnet::engine;

use crate::error::Error;

/// The file of the key.
const KEY: &str = "key";

/// Bytes that entries may take together unless more is asked for: some two hundred large modules.
const BYTES_MAX: u64 = 2 << 30;

/// Compiled modules, kept on disk for the next process: a module that was compiled before starts within milliseconds.
///
/// For [`NetworkBuilder::compile_cache`](crate::NetworkBuilder::compile_cache). Any number of processes may use one
/// directory; it holds nothing that cannot be made again. Cheap to clone.
#[derive(Clone)]
pub struct CompileCache {
    directory: PathBuf,
    bytes_max: u64,
    pub(crate) inner: Arc<engine::CompileCache>,
}

impl fmt::Debug for CompileCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompileCache").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl PartialEq for CompileCache {
    fn eq(&self, other: &Self) -> bool {
        (&self.directory, self.bytes_max) == (&other.directory, other.bytes_max)
    }
}

impl Eq for CompileCache {}

impl CompileCache {
    /// The cache in a directory, which is made if it is not there. It grows to 2 GiB; then what was not used for longest goes.
    ///
    /// # Errors
    /// [`Error::Machine`] if the directory or the key in it cannot be made or read, belong to somebody else, or are open to
    /// others. Networks work without a cache.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_bounded(directory, BYTES_MAX)
    }

    /// The cache in a directory, with entries of so many bytes at most.
    ///
    /// # Errors
    /// As [`CompileCache::open`].
    pub fn open_bounded(directory: impl AsRef<Path>, bytes_max: u64) -> Result<Self, Error> {
        let directory = directory.as_ref();
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let metadata = fs::metadata(directory)?;
            if !engine::is_private(&metadata) {
                return Err(denied("it belongs to somebody else, or others may write in it"));
            }
            let key = match read_key(directory, &metadata) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    make_key(directory)?;
                    read_key(directory, &metadata)?
                }
                result => result?,
            };
            engine::CompileCache::open(directory, key, bytes_max)
        };
        let inner = open().map_err(|error| {
            let place = directory.display();
            Error::Machine(format!("compiled modules cannot be kept in {place}: {error}"))
        })?;
        Ok(Self { directory: directory.to_owned(), bytes_max, inner: Arc::new(inner) })
    }
}

fn denied(text: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, text)
}

fn read_key(directory: &Path, of_directory: &fs::Metadata) -> io::Result<[u8; 32]> {
    let file = File::open(directory.join(KEY))?;
    let metadata = file.metadata()?;
    if metadata.uid() != of_directory.uid() || metadata.mode() & 0o077 != 0 || !metadata.is_file() {
        return Err(denied("its key belongs to somebody else, or others may read it; remove the directory"));
    }
    let mut key = Vec::new();
    file.take(33).read_to_end(&mut key)?;
    key.try_into().map_err(|_| io::Error::other("its key is damaged; remove the directory"))
}

/// Puts a key in place, unless another process did so first.
fn make_key(directory: &Path) -> io::Result<()> {
    let random = |bytes: &mut [u8]| {
        let failed = |error| io::Error::other(format!("the system gives no random bytes: {error}"));
        getrandom::fill(bytes).map_err(failed)
    };
    let mut key = [0; 32];
    random(&mut key)?;
    // Under a name of its own until it is whole.
    let mut suffix = [0; 8];
    random(&mut suffix)?;
    let path = directory.join(format!("{KEY}-{:016x}", u64::from_le_bytes(suffix)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let placed = file.write_all(&key).and_then(|()| fs::hard_link(&path, directory.join(KEY)));
    fs::remove_file(&path)?;
    match placed {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

//! Compiled modules kept on disk: what the rewriter and the compiler made of a module, so that the next process need not.
//!
//! An entry is a file of its own, `NAME.code`:
//!
//! ```text
//! 0    "BEDCODE1"        8 bytes
//! 8    seal              keyed BLAKE3 over the name and all that follows
//! 40   how many bytes    u64, little-endian: of what is said of the module
//! 48   that              postcard: its SHA-256 and its manifest
//! …    machine code      as Wasmtime serialises it
//! ```
//! Its name stands for everything that decides about its contents: the module, the rewriter, the compiler, and how both were
//! set. Invariants:
//! - An entry is machine code that this process will run, so it is used only if its seal is whole: made with the cache's key,
//!   over these bytes and this name. What is checked is what is loaded: bytes read once, into this process's memory.
//! - The cache is never needed and never in the way. An entry that is damaged, foreign or cut off is compiled anew and
//!   replaced; where a disk is full or cannot be written, nothing is kept.
//! - Any number of processes use one directory. An entry appears whole, by renaming; nothing is synced, because a torn one
//!   has no whole seal.
//! - The entries take no more than the bound, give or take those being written. Those used last stay.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use bedstone_instrument::{Manifest, abi};
use serde::{Deserialize, Serialize};

use crate::compiler::Backend;
use crate::sys::{Authentic, Key, SerialisedModule, is_private, touch};

/// Begins every entry; its last byte is the version of what follows.
const MAGIC: &[u8; 8] = b"BEDCODE1";
const SEAL_AT: usize = 8;
const ABOUT_BYTES_AT: usize = 40;
const HEADER_BYTES: u64 = 48;

/// How entries' files end, and those that are being written.
const ENTRY: &str = "code";
const UNFINISHED: &str = "part";

/// See the module's documentation.
pub struct CompileCache {
    directory: PathBuf,
    key: Key,
    bytes_max: u64,
}

impl std::fmt::Debug for CompileCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompileCache").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// What an entry is called: a hash of all that decides about its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name([u8; 32]);

impl Name {
    /// Of a module, by a hash of its bytes as installed, compiled by `engine`. `settings` are those of the rewriter, and
    /// whatever else the engine's own hash does not hold.
    pub fn new(installed: &Fingerprint, engine: &wasmtime::Engine, settings: &str) -> Self {
        let mut parts = Parts(blake3::Hasher::new());
        let versions = [abi::REVISION, env!("CARGO_PKG_VERSION"), std::env::consts::ARCH, settings];
        (installed, abi::ABI_VERSION, versions).hash(&mut parts);
        engine.precompile_compatibility_hash().hash(&mut parts);
        Self(*parts.0.finalize().as_bytes())
    }

    fn file(&self) -> String {
        format!("{}.{ENTRY}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// BLAKE3 of a module's bytes as installed. Modules are looked up by it because it takes a third of the time of SHA-256.
pub(crate) type Fingerprint = [u8; 32];

/// Hashes what values tell a hasher, each preceded by its length.
struct Parts(blake3::Hasher);

impl Hasher for Parts {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        unreachable!("the hash of 256 bits is taken")
    }
}

/// What is said of a module beside its machine code.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    /// SHA-256 of the bytes as installed.
    pub hash: [u8; 32],
    pub manifest: Manifest,
}

impl CompileCache {
    /// The cache in a directory that is there, for those who have the key. Its entries take `bytes_max` bytes together.
    ///
    /// # Errors
    /// If the directory cannot be looked at, or belongs to, or can be written by, somebody else.
    pub fn open(directory: &Path, key: [u8; 32], bytes_max: u64) -> io::Result<Self> {
        let metadata = std::fs::metadata(directory)?;
        if !metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"));
        }
        if !is_private(&metadata) {
            let text = "it belongs to somebody else, or others may write in it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self { directory: directory.to_owned(), key, bytes_max })
    }

    /// What is kept under a name, if its seal is whole: what is said of the module, and the module.
    pub(crate) fn find(&self, name: &Name, backend: &Backend) -> Option<(About, wasmtime::Module)> {
        let file = File::open(self.directory.join(name.file())).ok()?;
        let length = file.metadata().ok()?.len();
        let mut header = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut header, 0).ok()?;
        let (magic, rest) = header.split_at(SEAL_AT);
        let (seal, about_bytes) = rest.split_at(ABOUT_BYTES_AT - SEAL_AT);
        let about_bytes = u64::from_le_bytes(about_bytes.try_into().ok()?);
        if magic != MAGIC || length > self.bytes_max || about_bytes > length {
            return None;
        }
        let mut about = vec![0; usize::try_from(about_bytes).ok()?];
        file.read_exact_at(&mut about, HEADER_BYTES).ok()?;
        let code_at = HEADER_BYTES + about_bytes;
        let sealed = (seal.try_into().ok()?, about.as_slice());
        let code = Authentic::read(&file, code_at, &self.key, &name.0, sealed).ok()??;
        touch(&file);
        Some((postcard::from_bytes(&about).ok()?, code.module(&backend.engine, &backend.loaded).ok()?))
    }

    /// Keeps a compiled module, if there is room, and lets others go for it.
    pub(crate) fn keep(&self, name: &Name, about: &About, module: &wasmtime::Module) {
        // What goes wrong costs a compilation later, nothing else.
        let _ = self.try_to_keep(name, about, module);
    }

    fn try_to_keep(&self, name: &Name, about: &About, module: &wasmtime::Module) -> io::Result<()> {
        let module = SerialisedModule::new(module).map_err(io::Error::other)?;
        let about = postcard::to_stdvec(about).map_err(io::Error::other)?;
        let seal = module.seal(&self.key, &name.0, &about);
        let length = HEADER_BYTES + (about.len() + module.bytes().len()) as u64;
        if length > self.bytes_max {
            return Ok(());
        }
        let (path, mut file) = self.unfinished(name)?;
        let written = (|| {
            file.write_all(MAGIC)?;
            file.write_all(&seal)?;
            file.write_all(&(about.len() as u64).to_le_bytes())?;
            file.write_all(&about)?;
            file.write_all(module.bytes())?;
            std::fs::rename(&path, self.directory.join(name.file()))
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&path);
        }
        // On a full disk, too: then others make room for the next.
        self.shrink()?;
        written
    }

    /// A file that nobody else writes.
    fn unfinished(&self, name: &Name) -> io::Result<(PathBuf, File)> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        /// A process that had the same number, in another container or before, may have left such files behind.
        const ATTEMPTS: usize = 16;
        let mut result = Err(io::Error::other("no attempt"));
        for _ in 0..ATTEMPTS {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let file = format!("{}.{}.{count}.{UNFINISHED}", name.file(), std::process::id());
            let path = self.directory.join(file);
            result = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map(|file| (path, file));
            match &result {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                _ => break,
            }
        }
        result
    }

    /// Removes the entries that were not used for longest, until the rest is within the bound.
    fn shrink(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, OsString)> = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let ours = Path::new(&name).extension().is_some_and(|end| end == ENTRY || end == UNFINISHED);
            // Another process may just have removed it.
            if let (true, Ok(metadata)) = (ours, entry.metadata()) {
                files.push((metadata.modified()?, metadata.len(), name));
            }
        }
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        files.sort();
        for (_, taken, name) in files {
            if bytes <= self.bytes_max {
                break;
            }
            if std::fs::remove_file(self.directory.join(name)).is_ok() {
                bytes -= taken;
            }
        }
        Ok(())
    }
}

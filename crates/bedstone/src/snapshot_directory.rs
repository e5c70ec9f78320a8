//! The IC's snapshot directory: what `icp-cli`, `dfx` and PocketIC write when they download a snapshot, and read when they
//! upload one.
//!
//! ```text
//! metadata.json            sizes, globals, certified data, timer; written last, so that what has it is whole
//! wasm_module.bin          the module as installed, Wasm or gzip
//! wasm_memory.bin          the heap, byte for byte; holes are zeros
//! stable_memory.bin        stable memory likewise
//! wasm_chunk_store/        chunks of the chunk store, each in <sha256>.bin
//! .bedstone-export         only while an export is not finished: what is exported, and how many bytes of the memories, the
//!                          heap first, are certainly in their files
//! ```
//!
//! Invariants:
//! - A name that others give their own notes (`.lock`, `.download_progress.json`, `.upload_progress.json`) is never written.
//! - The note of an export tells of bytes that were synced before it was written.
//! - Files appear whole: written under another name, synced, renamed. Memories, which are large, have the note instead.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The file that makes a directory a snapshot's: JSON, which callers of the library write and read.
pub const METADATA_FILE: &str = "metadata.json";
pub(crate) const MODULE_FILE: &str = "wasm_module.bin";
pub(crate) const HEAP_FILE: &str = "wasm_memory.bin";
pub(crate) const STABLE_FILE: &str = "stable_memory.bin";
pub(crate) const CHUNK_DIRECTORY: &str = "wasm_chunk_store";
const NOTE_FILE: &str = ".bedstone-export";

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Prepares a directory for an export: makes it, or finds one that the same export left. How many bytes of the memories
    /// are there.
    pub fn begin_export(&self, token: &str) -> Result<u64, Error> {
        let place = self.path.display();
        fs::create_dir_all(&self.path).map_err(|error| cannot("make", &self.path, &error))?;
        match fs::read_to_string(self.file(NOTE_FILE)) {
            Ok(note) => match note.split_once(' ') {
                Some((other, done)) if other == token => match done.trim_end().parse() {
                    Ok(done) => Ok(done),
                    Err(_) => {
                        Err(refused(format!("the note {NOTE_FILE} in {place} is damaged; remove {place}")))
                    }
                },
                _ => Err(refused(format!(
                    "{place} holds an export of something else that was not finished; remove it, or choose another directory"
                ))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut entries =
                    fs::read_dir(&self.path).map_err(|error| cannot("read", &self.path, &error))?;
                if self.file(METADATA_FILE).exists() {
                    return Err(refused(format!(
                        "{place} holds a snapshot already; choose another directory"
                    )));
                }
                if entries.next().is_some() {
                    return Err(refused(format!("{place} is not empty; choose another directory")));
                }
                self.note(token, 0)?;
                Ok(0)
            }
            Err(error) => Err(cannot("read", &self.file(NOTE_FILE), &error)),
        }
    }

    /// Remembers how many bytes of the memories were synced.
    pub fn note(&self, token: &str, done: u64) -> Result<(), Error> {
        self.write(NOTE_FILE, format!("{token} {done}\n").as_bytes())
    }

    /// Makes the export whole.
    pub fn finish_export(&self, metadata: &[u8]) -> Result<(), Error> {
        self.write(METADATA_FILE, metadata)?;
        let note = self.file(NOTE_FILE);
        fs::remove_file(&note).map_err(|error| cannot("remove", &note, &error))?;
        self.sync()
    }

    /// Writes a file as a whole, or not at all.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let (path, temporary) = (self.file(name), self.file(&format!("{name}.bedstone-new")));
        let write = || {
            let mut file = File::create(&temporary)?;
            io::Write::write_all(&mut file, bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| cannot("write", &path, &error))?;
        self.sync()
    }

    /// Makes the directory of chunks.
    pub fn make_chunk_directory(&self) -> Result<Self, Error> {
        let path = self.file(CHUNK_DIRECTORY);
        fs::create_dir_all(&path).map_err(|error| cannot("make", &path, &error))?;
        self.sync()?;
        Ok(Self { path })
    }

    /// A memory's file for writing, `bytes` long, of which the first `kept` stay and the rest are zeros.
    pub fn memory_file(&self, name: &str, bytes: u64, kept: u64) -> Result<File, Error> {
        let path = self.file(name);
        let open = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
            let there = file.metadata()?.len();
            if kept > 0 && there != bytes {
                return Ok(None);
            }
            file.set_len(kept)?;
            file.set_len(bytes)?;
            Ok(Some(file))
        };
        open().map_err(|error| cannot("write", &path, &error))?.ok_or_else(|| {
            let place = self.path.display();
            refused(format!(
                "{} was changed since its export was interrupted; remove {place}",
                path.display()
            ))
        })
    }

    /// A file for reading that must have so many bytes, in the words of [`METADATA_FILE`]; one of none need not be there.
    pub fn open_sized(&self, name: &str, bytes: u64) -> Result<Option<File>, Error> {
        let path = self.file(name);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && bytes == 0 => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(refused(format!(
                    "{} is missing, and {METADATA_FILE} tells of {bytes} bytes in it",
                    path.display()
                )));
            }
            file => file.map_err(|error| cannot("read", &path, &error))?,
        };
        let metadata = file.metadata().map_err(|error| cannot("read", &path, &error))?;
        if !metadata.is_file() {
            return Err(refused(format!("{} is not a file", path.display())));
        }
        if metadata.len() != bytes {
            return Err(refused(format!(
                "{} has {} bytes, and {METADATA_FILE} tells of {bytes}",
                path.display(),
                metadata.len()
            )));
        }
        Ok(Some(file))
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn sync(&self) -> Result<(), Error> {
        let sync = || File::open(&self.path)?.sync_all();
        sync().map_err(|error| cannot("write", &self.path, &error))
    }
}

/// The name of a chunk's file.
pub(crate) fn chunk_file(hash: &[u8; 32]) -> String {
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{digits}.bin")
}

/// What the machine would not do.
pub(crate) fn cannot(what: &str, path: &Path, error: &io::Error) -> Error {
    refused(format!("cannot {what} {}: {error}", path.display()))
}

/// What is wrong with a snapshot's directory.
pub(crate) fn refused(text: impl Display) -> Error {
    Error::Snapshot(text.to_string())
}

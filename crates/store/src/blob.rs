//! Blobs: immutable bytes, named by their SHA-256, `blob/<sha256>`.
//!
//! - A blob is durable before a record can name it, and never written again.
//! - Its bytes are verified against its name each time they are read.
//! - A file that was there before this process knew the blob is written anew: its name may not be durable.

use std::io;
use std::sync::Arc;

use crate::change::BlobId;
use crate::core::{Core, Directory, TEMPORARY, sync_dir, write_whole};
use crate::disk::{Disk, Open, RelPath, described};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::lock;
use crate::tables::BlobEntry;

/// The directory of blobs.
pub(crate) const BLOB_DIR: &str = "blob";

pub(crate) fn blob_path(id: BlobId) -> RelPath {
    RelPath::new(format!("{BLOB_DIR}/{id}"))
}

/// Whether a name in the directory is one that we would make.
pub(crate) fn is_blob_name(name: &str) -> bool {
    let hash = name.strip_suffix(TEMPORARY).unwrap_or(name);
    hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Core {
    /// Keeps bytes, durable on return.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<BlobId> {
        self.health.check()?;
        let id = BlobId::of(bytes);
        // Held while the file is written: of two that put the same bytes, and one that removes them, each
        // finds the work of the other whole.
        let _files_of_blobs = lock(&self.blob_files);
        if let Some(entry) = lock(&self.tables).blobs.get_mut(&id) {
            entry.abandoned = None;
            return Ok(id);
        }
        let mut held = None;
        match &self.directory {
            Some(directory) => directory.write_blob(id, bytes).map_err(|error| self.poison(error))?,
            None => held = Some(Arc::from(bytes)),
        }
        lock(&self.tables).blobs.insert(id, BlobEntry { references: 0, abandoned: None, held });
        Ok(id)
    }

    /// The bytes of a blob, verified.
    pub(crate) fn blob(&self, id: BlobId) -> Result<Vec<u8>> {
        self.health.check()?;
        let held = lock(&self.tables).blobs.get(&id).map(|entry| entry.held.clone());
        let Some(held) = held else {
            let message = format!("there is no blob {id} in this store; it was removed or never put");
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        match (held, &self.directory) {
            (Some(bytes), _) => Ok(bytes.to_vec()),
            (None, Some(directory)) => read_blob(&*directory.disk, id),
            (None, None) => unreachable!("a store without a directory holds its blobs"),
        }
    }
}

impl Directory {
    fn write_blob(&self, id: BlobId, bytes: &[u8]) -> Result<()> {
        let path = blob_path(id);
        let temporary = RelPath::new(format!("{path}{TEMPORARY}"));
        write_whole(&*self.disk, &temporary, bytes)?;
        let renamed = self.disk.rename(&temporary, &path);
        renamed.map_err(|error| Error::writing(&described(&*self.disk, &path), error))?;
        sync_dir(&*self.disk, BLOB_DIR)
    }
}

/// The bytes of a blob, verified against its name.
pub(crate) fn read_blob(disk: &dyn Disk, id: BlobId) -> Result<Vec<u8>> {
    let path = blob_path(id);
    let bytes = read_whole(disk, &path)?;
    if BlobId::of(&bytes) != id {
        return Err(Error::damaged(&described(disk, &path), 0, "its SHA-256 is not its name"));
    }
    Ok(bytes)
}

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

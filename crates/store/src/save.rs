//! Writes the state: everything that changed since the last save, then `head`, then the removal of what is no
//! longer needed.
//!
//! - Until the rename of `head` nothing that the last saved state needs is touched; after it is durable, only
//!   what the new state does not need. So a save that stops anywhere leaves the one state or the other.
//! - A file is renamed only after it was synced, and named by `head` only after its directory was synced.
//! - No write and no sync is tried a second time: the kernel may report success for pages that it has
//!   dropped.

use std::sync::Arc;

use crate::catalog::{BLOB_DIR, MEMORY_DIR, Tables, blob_path};
use crate::change::BlobId;
use crate::disk::{Disk, Open, RelPath, described};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::image;

/// The name of the file that names all others.
pub(crate) const HEAD_NAME: &str = "head";
/// The name of the file that says what the directory is.
pub(crate) const FORMAT_NAME: &str = "FORMAT";
/// Appended to a name while the file is written.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A state directory that is ours.
pub(crate) struct Directory {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) format: Format,
}

impl Directory {
    /// Makes the directory hold what the tables hold.
    pub(crate) fn save(&self, tables: &mut Tables, next_memory: u64) -> Result<()> {
        self.write_images(tables)?;
        let mut obsolete = std::mem::take(&mut tables.obsolete);
        obsolete.extend(tables.remove_abandoned_blobs());
        self.write_head(tables, next_memory)?;
        for path in obsolete {
            // The new state does not name it: what stays behind here is removed by the next open.
            let _ = self.disk.unlink(&path);
        }
        Ok(())
    }

    fn write_images(&self, tables: &mut Tables) -> Result<()> {
        let mut written = false;
        for (id, entry) in tables.memories.iter_mut().filter(|(_, entry)| entry.changed) {
            let pages = entry.memory.content().image.clone();
            let after = if pages.is_empty() {
                None
            } else {
                Some(image::write(&*self.disk, &self.format, *id, tables.lsn, &pages)?)
            };
            written |= after.is_some();
            let before = std::mem::replace(&mut entry.image, after);
            tables.obsolete.extend(before.map(|before| before.path()));
            entry.changed = false;
        }
        if written { self.sync_dir(MEMORY_DIR) } else { Ok(()) }
    }

    /// Replaces `head`: the moment at which the state changes.
    pub(crate) fn write_head(&self, tables: &Tables, next_memory: u64) -> Result<()> {
        self.replace(HEAD_NAME, &tables.encode(&self.format, next_memory))
    }

    /// Replaces `FORMAT`.
    pub(crate) fn write_format(&self) -> Result<()> {
        self.replace(FORMAT_NAME, &self.format.encode())
    }

    /// Makes a blob durable, though nothing names it yet.
    pub(crate) fn write_blob(&self, id: BlobId, bytes: &[u8]) -> Result<()> {
        self.write(&blob_path(id), bytes)?;
        self.sync_dir(BLOB_DIR)
    }

    /// Makes an empty subdirectory; its name is not durable before the root is synced. It is moved into place
    /// even when there is one: an earlier sync may have failed to make that one durable, and the next would
    /// not try again.
    pub(crate) fn make_dir(&self, dir: &str) -> Result<()> {
        let (path, temporary) = (RelPath::new(dir), RelPath::new(format!("{dir}{TEMPORARY}")));
        let made = self.disk.make_dir(&temporary).and_then(|()| self.disk.rename(&temporary, &path));
        made.map_err(|error| Error::writing(&described(&*self.disk, &path), error))
    }

    pub(crate) fn sync_dir(&self, dir: &str) -> Result<()> {
        let dir = RelPath::new(dir);
        self.disk.sync_dir(&dir).map_err(|error| Error::writing(&described(&*self.disk, &dir), error))
    }

    fn write(&self, path: &RelPath, bytes: &[u8]) -> Result<()> {
        let writing = |error| Error::writing(&described(&*self.disk, path), error);
        let file = self.disk.open(path, Open::Create).map_err(writing)?;
        file.write_at(0, bytes).map_err(writing)?;
        file.sync_data().map_err(writing)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, temporary) = (RelPath::new(name), RelPath::new(format!("{name}{TEMPORARY}")));
        self.write(&temporary, bytes)?;
        let renamed = self.disk.rename(&temporary, &path);
        renamed.map_err(|error| Error::writing(&described(&*self.disk, &path), error))?;
        self.sync_dir("")
    }
}

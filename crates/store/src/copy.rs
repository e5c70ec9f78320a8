//! Copies of memories: snapshots and forks.
//!
//! - A copy is durable, with its name, before a record can name it; until then it is an orphan.
//! - While files are copied nothing is applied, so that a copy is of one moment.
//! - Bytes that were copied, rather than shared, are verified: rot is not handed on.

use std::sync::Arc;

use crate::core::Core;
use crate::disk::Cloned;
use crate::error::{Error, Result};
use crate::files::{MemoryFile, damaged_page, memory_path};
use crate::memory::{Content, Memory, MemoryState};
use crate::page::{MemoryId, PageCount};
use crate::record::Class;
use crate::sync::lock;

/// The content of a memory, copied, that waits to become a memory by
/// [`Change::create_copy`](crate::Change::create_copy). Dropped before, it is removed.
pub struct Copied {
    copy: Option<Copy>,
    /// Lets the files go when the copy is not used.
    core: Arc<Core>,
}

pub(crate) struct Copy {
    pub(crate) id: MemoryId,
    pub(crate) source: MemoryId,
    pub(crate) pages: PageCount,
    pub(crate) capacity: PageCount,
    /// The pages, in a store without a directory.
    pub(crate) ram: Option<Content>,
}

impl Copied {
    /// The memory that was copied.
    pub fn source(&self) -> MemoryId {
        self.copy.as_ref().expect("it is taken only when it ends").source
    }

    pub(crate) fn take(mut self) -> Copy {
        self.copy.take().expect("it is taken only once")
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        if let Some(copy) = self.copy.take() {
            let pages = PageCount::default();
            let unused = MemoryState::new(&self.core, copy.id, copy.capacity, Class::Frozen, pages);
            self.core.discard(vec![Arc::new(unused)]);
        }
    }
}

impl Core {
    /// Copies memories as they are after the last change. The caller keeps them still until the copies are
    /// appended.
    pub(crate) fn copy(self: &Arc<Self>, memories: &[Memory]) -> Result<Vec<Copied>> {
        self.health.check()?;
        let Some(directory) = &self.directory else {
            return memories.iter().map(|memory| self.copied(memory)).collect();
        };
        if memories.iter().any(|memory| memory.class() == Class::Live) {
            self.checkpoint()?;
        }
        let _nothing_is_applied = lock(&directory.checkpoint);
        let mut copies = Vec::new();
        for memory in memories {
            let copied = self.copied(memory)?;
            let copy = copied.copy.as_ref().expect("it was just made");
            let cloned = directory.files.copy(copy.source, copy.id).map_err(|error| self.failed(error))?;
            if matches!(cloned, Cloned::Copied { .. }) {
                let bad = directory
                    .files
                    .check(copy.id, copy.pages, &mut |_, page| page.map(|_| ()).map_err(|_| ()));
                if let Some(index) = bad? {
                    let path = memory_path(copy.source, MemoryFile::Base);
                    let name = crate::disk::described(&*directory.disk, &path);
                    return Err(damaged_page(&name, copy.source, index));
                }
            }
            copies.push(copied);
        }
        Ok(copies)
    }

    fn copied(self: &Arc<Self>, memory: &Memory) -> Result<Copied> {
        let copy = Copy {
            id: self.next_memory()?,
            source: memory.id(),
            pages: memory.pages(),
            capacity: memory.capacity(),
            ram: memory.state().ram.as_ref().map(|ram| lock(ram).clone()),
        };
        Ok(Copied { copy: Some(copy), core: self.clone() })
    }

    /// A full disk ends a copy, not the store.
    fn failed(&self, error: Error) -> Error {
        if error.kind() == crate::ErrorKind::StorageFull && self.health.check().is_ok() {
            return error;
        }
        self.poison(error)
    }
}

//! A change: everything that one message does to the state, gathered first and applied whole.
//!
//! - Gathering takes no lock and does no I/O; a change that is dropped did nothing.
//! - Of several calls about one page or one key the last wins. Otherwise order does not matter: a page may be
//!   given before the growth that makes room for it.
//! - What contradicts the store (a page beyond the size, a memory of another store, a wrong pre-image) is a
//!   mistake of the caller and panics when the change is appended, before anything was altered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::memory::{Content, Health, Memory, Staged};
use crate::page::{Blocks, MemoryId, Page, PageCount, PageIndex};

/// A key of metadata is no longer than this. Keys are made of ids and short words; the limit keeps a mistake
/// visible.
pub const KEY_BYTES_MAX: usize = 4096;

/// Names immutable bytes by their SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId([u8; 32]);

impl BlobId {
    /// The name that these bytes have in any store.
    pub fn of(bytes: &[u8]) -> BlobId {
        BlobId(Sha256::digest(bytes).into())
    }

    /// The blob with this hash.
    pub const fn new(hash: [u8; 32]) -> BlobId {
        BlobId(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Gathers what is to change together; made by [`Store::begin`](crate::Store::begin).
pub struct Change {
    pub(crate) health: Arc<Health>,
    next_memory: Arc<AtomicU64>,
    pub(crate) memories: BTreeMap<MemoryId, MemoryChange>,
    /// New values; `None` deletes.
    pub(crate) metadata: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) blob_references: BTreeMap<BlobId, i64>,
}

/// What happens to one memory.
pub(crate) struct MemoryChange {
    pub(crate) memory: Memory,
    pub(crate) created: bool,
    pub(crate) dropped: bool,
    pub(crate) grow_to: Option<PageCount>,
    pub(crate) pages: Vec<(PageIndex, Blocks)>,
}

impl Change {
    pub(crate) fn new(health: Arc<Health>, next_memory: Arc<AtomicU64>) -> Change {
        Change {
            health,
            next_memory,
            memories: BTreeMap::new(),
            metadata: BTreeMap::new(),
            blob_references: BTreeMap::new(),
        }
    }

    /// A page's new content, given what it holds in the store now. Nothing is recorded when the two are
    /// equal.
    pub fn page(&mut self, memory: &Memory, index: PageIndex, before: &Page, after: &Page) {
        if let Some(blocks) = Blocks::between(before, after) {
            self.of(memory).pages.push((index, blocks));
        }
    }

    /// A page's new content, whatever it holds now.
    pub fn image(&mut self, memory: &Memory, index: PageIndex, after: &Page) {
        self.of(memory).pages.push((index, Blocks::whole(after)));
    }

    /// A memory's new size: not smaller than it is, not beyond its capacity.
    pub fn grow(&mut self, memory: &Memory, to: PageCount) {
        self.of(memory).grow_to = Some(to);
    }

    /// A new memory of no pages, which the store knows once this change is appended.
    pub fn create(&mut self, capacity: PageCount) -> Result<Memory> {
        self.health.check()?;
        let id = MemoryId::new(self.next_memory.fetch_add(1, Ordering::Relaxed));
        let memory = Memory::new(id, capacity, self.health.clone(), Content::default());
        self.of(&memory).created = true;
        Ok(memory)
    }

    /// Takes a memory out of the store.
    pub fn drop_memory(&mut self, memory: Memory) {
        self.of(&memory).dropped = true;
    }

    /// Sets the metadata under `key`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.metadata.insert(key.to_vec(), Some(value.to_vec()));
    }

    /// Removes the metadata under `key`, if there is any.
    pub fn delete(&mut self, key: &[u8]) {
        self.metadata.insert(key.to_vec(), None);
    }

    /// Counts references to a blob; one whose count returns to 0 is removed when this is durable.
    pub fn blob_references(&mut self, id: BlobId, change: i32) {
        *self.blob_references.entry(id).or_default() += i64::from(change);
    }

    /// Whether appending this would do nothing.
    pub fn is_empty(&self) -> bool {
        self.memories.is_empty()
            && self.metadata.is_empty()
            && self.blob_references.values().all(|change| *change == 0)
    }

    /// What the format has no room for is refused before anything is altered.
    pub(crate) fn check_sizes(&self) -> Result<()> {
        match self.metadata.keys().find(|key| key.len() > KEY_BYTES_MAX) {
            None => Ok(()),
            Some(key) => Err(Error::new(
                ErrorKind::TooLarge,
                format!("a metadata key of {} bytes is too long; the limit is {KEY_BYTES_MAX}", key.len()),
            )),
        }
    }

    fn of(&mut self, memory: &Memory) -> &mut MemoryChange {
        assert!(memory.belongs_to(&self.health), "memory {} is of another store", memory.id());
        self.memories.entry(memory.id()).or_insert_with(|| MemoryChange {
            memory: memory.clone(),
            created: false,
            dropped: false,
            grow_to: None,
            pages: Vec::new(),
        })
    }
}

impl MemoryChange {
    /// The memory's new size and the pages that differ, computed without altering it.
    pub(crate) fn stage(&self) -> Staged {
        let id = self.memory.id();
        let content = self.memory.content();
        let mut pages = content.pages;
        if let Some(to) = self.grow_to {
            assert!(to >= pages, "memory {id}: it cannot shrink from {pages} pages to {to}");
            let capacity = self.memory.capacity();
            assert!(to <= capacity, "memory {id}: {to} pages are beyond its capacity of {capacity}");
            pages = to;
        }
        let mut replaced = BTreeMap::<PageIndex, Page>::new();
        for (index, blocks) in &self.pages {
            assert!(pages.contains(*index), "memory {id}: page {index} is beyond its {pages} pages");
            let page = replaced.entry(*index).or_insert_with(|| *content.page(*index));
            assert!(
                blocks.overlay(page),
                "memory {id}: page {index} did not hold the pre-image that was given"
            );
        }
        Staged { pages, replaced }
    }
}

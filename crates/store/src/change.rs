//! A change: everything that one message does to the state, gathered first and applied whole.
//!
//! - Gathering takes no lock, and does no I/O but to make the files of a new memory; a change that is dropped
//!   did nothing.
//! - Pages are encoded as they are given. Of several calls about one page or one key the last wins; otherwise
//!   order does not matter: a page may be given before the growth that makes room for it.
//! - What contradicts the store (a page beyond the size, a memory of another store) is a mistake of the caller
//!   and panics when the change is appended, before anything was altered.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::copy::Copied;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{Memory, MemoryState};
use crate::mutants::mutant;
use crate::page::{MemoryId, PAGE_BYTES, Page, PageCount, PageIndex, changed_blocks, copy_blocks, sum};
use crate::record::{Class, Entry, PAGE_HEADER_BYTES, PAGES_ENTRY_BYTES, encode, page_head, pages_head};

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
    core: Arc<Core>,
    effects: Effects,
}

/// What a change does, apart from the bytes of pages.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) memories: BTreeMap<MemoryId, MemoryChange>,
    /// New values; `None` deletes.
    pub(crate) metadata: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    pub(crate) blob_references: BTreeMap<BlobId, i64>,
}

/// What happens to one memory.
pub(crate) struct MemoryChange {
    pub(crate) memory: Memory,
    pub(crate) created: Option<Created>,
    pub(crate) dropped: bool,
    pub(crate) grow_to: Option<PageCount>,
    pub(crate) pages: Pages,
}

/// Where a new memory comes from.
#[derive(Clone, Copy)]
pub(crate) struct Created {
    pub(crate) source: Option<MemoryId>,
    /// How much of the source was copied.
    pub(crate) pages: PageCount,
}

impl Change {
    pub(crate) fn new(core: Arc<Core>) -> Change {
        Change { core, effects: Effects::default() }
    }

    /// A page's new content, given what it holds in the store now. Nothing is recorded when the two are
    /// equal. A wrong pre-image is noticed when the change is applied to the page, at the latest by the next
    /// checkpoint, and then told as damage.
    pub fn page(&mut self, memory: &Memory, index: PageIndex, before: &Page, after: &Page) {
        let mut mask = changed_blocks(before, after);
        if mutant!(BLOCK_NOT_LOGGED) && mask.count_ones() > 1 {
            mask &= mask - 1;
        }
        if mask != 0 {
            self.of(memory).pages.push(index, mask, after);
        }
    }

    /// A page's new content, whatever it holds now.
    pub fn image(&mut self, memory: &Memory, index: PageIndex, after: &Page) {
        self.of(memory).pages.push(index, u64::MAX, after);
    }

    /// A memory's new size: not smaller than it is, not beyond its capacity.
    pub fn grow(&mut self, memory: &Memory, to: PageCount) {
        self.of(memory).grow_to = Some(to);
    }

    /// A new memory of no pages, which the store knows once this change is appended. It can be mapped at once.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub fn create(&mut self, capacity: PageCount) -> Result<Memory> {
        let id = self.core.next_memory()?;
        if let Some(directory) = &self.core.directory {
            directory.make_memory_files(id)?;
        }
        let memory =
            Memory::new(MemoryState::new(&self.core, id, capacity, Class::Live, PageCount::default()));
        self.of(&memory).created = Some(Created { source: None, pages: PageCount::default() });
        Ok(memory)
    }

    /// A new memory with the content of a copy.
    pub fn create_copy(&mut self, copy: Copied, class: Class) -> Memory {
        let copy = copy.take();
        let state = MemoryState::new(&self.core, copy.id, copy.capacity, class, PageCount::default());
        if let (Some(to), Some(from)) = (&state.ram, copy.ram) {
            *crate::sync::lock(to) = from;
        }
        let memory = Memory::new(state);
        let change = self.of(&memory);
        change.created = Some(Created { source: Some(copy.source), pages: copy.pages });
        change.grow_to = Some(copy.pages);
        memory
    }

    /// Takes a memory out of the store.
    pub fn drop_memory(&mut self, memory: Memory) {
        self.of(&memory).dropped = true;
    }

    /// Sets the metadata under `key`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.effects.metadata.insert(key.to_vec(), Some(value.to_vec()));
    }

    /// Removes the metadata under `key`, if there is any.
    pub fn delete(&mut self, key: &[u8]) {
        self.effects.metadata.insert(key.to_vec(), None);
    }

    /// Counts references to a blob; one whose count returns to 0 is removed when this is durable.
    pub fn blob_references(&mut self, id: BlobId, change: i32) {
        *self.effects.blob_references.entry(id).or_default() += i64::from(change);
    }

    /// Whether appending this would do nothing.
    pub fn is_empty(&self) -> bool {
        self.effects.memories.is_empty()
            && self.effects.metadata.is_empty()
            && self.effects.blob_references.values().all(|change| *change == 0)
    }

    /// Takes a part out that could have been a change of its own, for a mistake to make one of it.
    pub(crate) fn split(&mut self) -> Option<Change> {
        let is_large = self.effects.memories.len() > 1;
        let (id, change) = is_large.then(|| self.effects.memories.pop_first())??;
        let mut first = Change::new(self.core.clone());
        first.effects.memories.insert(id, change);
        Some(first)
    }

    pub(crate) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.core, core)
    }

    /// What the format has no room for is refused before anything is altered.
    pub(crate) fn check_sizes(&self) -> Result<()> {
        let mut keys = self.effects.metadata.keys();
        if let Some(key) = keys.find(|key| key.len() > KEY_BYTES_MAX) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a metadata key of {} bytes is too long; the limit is {KEY_BYTES_MAX}", key.len()),
            ));
        }
        let mut changes = self.effects.blob_references.iter();
        match changes.find(|(_, change)| i32::try_from(**change).is_err()) {
            None => Ok(()),
            Some((id, change)) => Err(Error::new(
                ErrorKind::TooLarge,
                format!("{change} references to blob {id} are too many for one change"),
            )),
        }
    }

    /// The body of the record, in parts, its number of entries, and everything else that happens.
    pub(crate) fn encode(mut self) -> (Vec<Vec<u8>>, u32, Effects) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut entries = 0_u32;
        let mut add = |entry: &Entry<'_>, bytes: &mut Vec<u8>| {
            encode(entry, bytes);
            entries += 1;
        };
        let mut head = Vec::new();
        for (&memory, change) in &effects.memories {
            let mut size = change.memory.pages();
            if let Some(Created { source, pages }) = change.created {
                let (class, capacity) = (change.memory.class(), change.memory.capacity());
                add(&Entry::Create { memory, class, capacity, source }, &mut head);
                // The first growth of a copy says how much was copied.
                if source.is_some() && pages > size {
                    add(&Entry::Grow { memory, pages }, &mut head);
                    size = pages;
                }
            }
            if let Some(pages) = change.grow_to
                && pages > size
            {
                add(&Entry::Grow { memory, pages }, &mut head);
            }
        }
        let mut tail = Vec::new();
        for (key, value) in &effects.metadata {
            match value {
                Some(value) => add(&Entry::Put { key, value }, &mut tail),
                None => add(&Entry::Delete { key }, &mut tail),
            }
        }
        for (&id, &change) in effects.blob_references.iter().filter(|(_, change)| **change != 0) {
            let change = i32::try_from(change).expect("sizes were checked");
            add(&Entry::Blob { id, change }, &mut tail);
        }
        for (&memory, _) in effects.memories.iter().filter(|(_, change)| change.dropped) {
            add(&Entry::Drop { memory }, &mut tail);
        }
        let mut parts = vec![head];
        for (&memory, change) in &mut effects.memories {
            let (bytes, count) = change.pages.finish(memory);
            entries += count;
            parts.push(bytes);
        }
        parts.push(tail);
        parts.retain(|part| !part.is_empty());
        (parts, entries, effects)
    }

    fn of(&mut self, memory: &Memory) -> &mut MemoryChange {
        assert!(memory.belongs_to(&self.core), "memory {} is of another store", memory.id());
        self.effects.memories.entry(memory.id()).or_insert_with(|| MemoryChange {
            memory: memory.clone(),
            created: None,
            dropped: false,
            grow_to: None,
            pages: Pages::default(),
        })
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        let created = self.effects.memories.values().filter(|change| change.created.is_some());
        let unused: Vec<_> = created.map(|change| change.memory.state().clone()).collect();
        if !unused.is_empty() {
            self.core.discard(unused);
        }
    }
}

/// The pages of one memory that a change writes, encoded as they come.
#[derive(Default)]
pub(crate) struct Pages {
    /// An entry PAGES whose head is filled in at the end.
    bytes: Vec<u8>,
    /// Where each page begins in the bytes.
    places: Vec<(u32, usize)>,
    is_out_of_order: bool,
}

impl Pages {
    fn push(&mut self, index: PageIndex, mask: u64, after: &Page) {
        if self.bytes.is_empty() {
            self.bytes.reserve(PAGES_ENTRY_BYTES + PAGE_HEADER_BYTES + PAGE_BYTES);
            self.bytes.resize(PAGES_ENTRY_BYTES, 0);
        }
        self.is_out_of_order |= self.places.last().is_some_and(|(last, _)| *last >= index.get());
        self.places.push((index.get(), self.bytes.len()));
        self.bytes.extend_from_slice(&page_head(index.get(), sum(after), mask));
        copy_blocks(after, mask, &mut self.bytes);
    }

    /// The pages that are written; some may be there twice.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = u32> {
        self.places.iter().map(|(index, _)| *index)
    }

    /// The entries PAGES and their number. Pages that came out of order are put in order; a page that came
    /// twice is in two entries, in the order in which it came.
    fn finish(&mut self, memory: MemoryId) -> (Vec<u8>, u32) {
        if self.places.is_empty() {
            return (Vec::new(), 0);
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        let count = |pages: usize| u32::try_from(pages).expect("a memory has 32 bits of pages");
        if !self.is_out_of_order {
            bytes[..PAGES_ENTRY_BYTES].copy_from_slice(&pages_head(memory, count(self.places.len())));
            return (bytes, 1);
        }
        let ends = self.places.iter().skip(1).map(|(_, at)| *at).chain([bytes.len()]);
        let mut places: Vec<_> =
            self.places.iter().zip(ends).map(|(&(index, at), end)| (index, at..end)).collect();
        places.sort_by_key(|(index, _)| *index);
        // The first of each page goes to the first entry, the second to the second, and so on.
        let mut sorted = Vec::with_capacity(bytes.len());
        let mut entries = 0;
        while !places.is_empty() {
            let mut later = Vec::new();
            let mut last = None;
            let mut entry = Vec::new();
            for (index, range) in places {
                if last == Some(index) {
                    later.push((index, range));
                } else {
                    last = Some(index);
                    entry.push(range);
                }
            }
            sorted.extend_from_slice(&pages_head(memory, count(entry.len())));
            entry.into_iter().for_each(|range| sorted.extend_from_slice(&bytes[range]));
            entries += 1;
            places = later;
        }
        (sorted, entries)
    }
}

//! What a store holds after the last change that was appended, kept in RAM: memories, counts of references,
//! and the metadata that the catalog does not have yet.
//!
//! - A change is checked whole before any of it is installed.
//! - Metadata newer than the catalog hides the catalog's; it is let go when the catalog has it.
//! - A file is removed only after the checkpoint that covers its end, and after the last handle on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::change::{BlobId, Effects};
use crate::memory::{Memory, MemoryState};
use crate::page::{Lsn, MemoryId, PAGE_BYTES, Page, PageIndex, ZERO_PAGE, overlay, sum};
use crate::record::{Class, Entry, decode};
use crate::sync::lock;

/// The present state of a store.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) memories: BTreeMap<MemoryId, Arc<MemoryState>>,
    /// Metadata of records that are not in the catalog yet, with the record; `None` was deleted.
    pub(crate) metadata: BTreeMap<Vec<u8>, Newer>,
    /// Bytes of its keys and values, which every message asks for.
    pub(crate) metadata_bytes: u64,
    pub(crate) blobs: BTreeMap<BlobId, BlobEntry>,
    pub(crate) pending: Pending,
    /// Memories whose files may go once the record is covered and the last handle is gone.
    pub(crate) dropped: Vec<(Lsn, Arc<MemoryState>)>,
    /// The last checkpoint found no room on the disk, and there is no reserve left to give up.
    pub(crate) is_storage_full: bool,
    /// Nothing is appended any more.
    pub(crate) is_closing: bool,
}

/// A value that the catalog does not have yet, and the record that set or deleted it.
pub(crate) type Newer = (Lsn, Option<Arc<[u8]>>);

fn entry_bytes(key: &[u8], (_, value): &Newer) -> u64 {
    (key.len() + value.as_ref().map_or(0, |value| value.len())) as u64
}

pub(crate) struct BlobEntry {
    pub(crate) references: u64,
    /// The record that took the last reference away. A blob that waits for its first reference is kept.
    pub(crate) abandoned: Option<Lsn>,
    /// The content, in a store without a directory.
    pub(crate) held: Option<Arc<[u8]>>,
}

/// What records that were not applied weigh.
#[derive(Default)]
pub(crate) struct Pending {
    newer: Weight,
    /// Of the records that a checkpoint is applying.
    applying: Weight,
}

#[derive(Default)]
struct Weight {
    /// Distinct pages: a mask of 64 pages under the first one's index / 64.
    masks: BTreeMap<(MemoryId, u32), u64>,
    pages: u64,
    bytes: u64,
    has_big: bool,
}

impl Weight {
    fn add_page(&mut self, memory: MemoryId, index: u32) {
        let mask = self.masks.entry((memory, index / 64)).or_default();
        let bit = 1 << (index % 64);
        self.pages += u64::from(*mask & bit == 0);
        *mask |= bit;
    }
}

impl Pending {
    /// Distinct pages that a checkpoint has to write.
    pub(crate) fn pages(&self) -> u64 {
        self.newer.pages + self.applying.pages
    }

    /// Bytes of records.
    pub(crate) fn bytes(&self) -> u64 {
        self.newer.bytes + self.applying.bytes
    }

    /// Whether an oversized record waits to be applied.
    pub(crate) fn has_big(&self) -> bool {
        self.newer.has_big
    }

    /// A checkpoint begins with all records so far.
    pub(crate) fn begin(&mut self) {
        self.applying = std::mem::take(&mut self.newer);
    }

    /// The checkpoint is complete.
    pub(crate) fn end(&mut self) {
        self.applying = Weight::default();
    }

    /// The checkpoint was given up.
    pub(crate) fn give_up(&mut self) {
        let older = std::mem::take(&mut self.applying);
        for ((memory, chunk), mask) in older.masks {
            (0..64)
                .filter(|bit| mask & (1 << bit) != 0)
                .for_each(|bit| self.newer.add_page(memory, chunk * 64 + bit));
        }
        self.newer.bytes += older.bytes;
        self.newer.has_big |= older.has_big;
    }
}

/// How much room a record takes in the log.
#[derive(Clone, Copy)]
pub(crate) struct RecordSize {
    pub(crate) bytes: u64,
    pub(crate) is_big: bool,
}

/// The pages that a change replaces in a store without a directory.
pub(crate) type Staged = Vec<(Arc<MemoryState>, BTreeMap<PageIndex, Page>)>;

impl Tables {
    /// Asserts that a change fits the state.
    pub(crate) fn check(&self, effects: &Effects) {
        for (id, change) in &effects.memories {
            let known = change.created.is_some() || self.memories.contains_key(id);
            assert!(known, "memory {id} is not in the store: dropped, or its creation was not appended");
            let (pages, capacity) = (change.memory.pages(), change.memory.capacity());
            let frozen = change.memory.class() == Class::Frozen && change.created.is_none();
            let written = change.grow_to.is_some() || change.pages.indexes().next().is_some();
            assert!(!(frozen && written), "memory {id} is frozen");
            let after = change.grow_to.unwrap_or(pages);
            assert!(after >= pages, "memory {id}: it cannot shrink from {pages} pages to {after}");
            assert!(after <= capacity, "memory {id}: {after} pages are beyond its capacity of {capacity}");
            if let Some(index) = change.pages.indexes().max() {
                assert!(
                    after.contains(PageIndex::new(index)),
                    "memory {id}: page {index} is beyond its {after} pages"
                );
            }
        }
        for (id, change) in effects.blob_references.iter().filter(|(_, change)| **change != 0) {
            let entry = self.blobs.get(id);
            let references =
                entry.unwrap_or_else(|| panic!("blob {id} was not put before it was referred to")).references;
            assert!(
                references.checked_add_signed(*change).is_some(),
                "blob {id} has {references} references, {change} is too many to take away"
            );
        }
    }

    /// Installs a change that was checked.
    pub(crate) fn install(&mut self, effects: Effects, lsn: Lsn, size: RecordSize) {
        self.pending.newer.bytes += size.bytes;
        self.pending.newer.has_big |= size.is_big;
        for (id, change) in effects.memories {
            let state = change.memory.state().clone();
            for index in change.pages.indexes() {
                self.pending.newer.add_page(id, index);
            }
            state.changed(lsn, change.grow_to);
            if change.dropped {
                self.memories.remove(&id);
                self.dropped.push((lsn, state));
            } else if change.created.is_some() {
                self.memories.insert(id, state);
            }
        }
        for (key, value) in effects.metadata {
            let newer = (lsn, value.map(Arc::from));
            self.metadata_bytes += entry_bytes(&key, &newer);
            if let Some(older) = self.metadata.get(&key) {
                self.metadata_bytes -= entry_bytes(&key, older);
            }
            self.metadata.insert(key, newer);
        }
        for (id, change) in effects.blob_references.into_iter().filter(|(_, change)| *change != 0) {
            let entry = self.blobs.get_mut(&id).expect("the change was checked");
            entry.references = entry.references.checked_add_signed(change).expect("the change was checked");
            entry.abandoned = (entry.references == 0).then_some(lsn);
        }
    }

    /// The pages after a change, in a store without a directory.
    ///
    /// # Panics
    /// When a page does not hold the pre-image that was given.
    pub(crate) fn stage(effects: &Effects, parts: &[Vec<u8>], entries: u32) -> Staged {
        let body = parts.concat();
        let mut staged = BTreeMap::<MemoryId, (BTreeMap<PageIndex, Page>, BTreeMap<PageIndex, u32>)>::new();
        let result = decode(&mut body.as_slice(), body.len() as u64, entries, &mut |entry| {
            if let Entry::Page { memory, index, sum, mask, blocks, .. } = entry {
                let ram = effects.memories[&memory].memory.state().ram.as_ref();
                let content = lock(ram.expect("a store without a directory keeps pages in RAM")).clone();
                let (pages, sums) = staged.entry(memory).or_default();
                let page = pages
                    .entry(index)
                    .or_insert_with(|| content.get(&index).map_or(*ZERO_PAGE, |page| **page));
                overlay(page, mask, blocks);
                sums.insert(index, sum);
            }
            Ok(())
        });
        result.expect("the body was encoded by this crate");
        staged
            .into_iter()
            .map(|(id, (pages, sums))| {
                for (index, page) in &pages {
                    assert!(
                        sum(page) == sums[index],
                        "memory {id}: page {index} did not hold the pre-image that was given"
                    );
                }
                (effects.memories[&id].memory.state().clone(), pages)
            })
            .collect()
    }

    /// Puts staged pages into effect.
    pub(crate) fn install_pages(staged: Staged) {
        for (state, pages) in staged {
            let mut ram = lock(state.ram.as_ref().expect("a store without a directory keeps pages in RAM"));
            let content = Arc::make_mut(&mut ram);
            for (index, page) in pages {
                const { assert!(size_of::<Page>() == PAGE_BYTES) };
                if page == *ZERO_PAGE {
                    content.remove(&index);
                } else {
                    content.insert(index, Arc::new(page));
                }
            }
        }
    }

    /// Lets go of what the catalog has now.
    pub(crate) fn applied(&mut self, to: Lsn) {
        self.metadata.retain(|_, (lsn, _)| *lsn > to);
        self.metadata_bytes = self.metadata.iter().map(|(key, newer)| entry_bytes(key, newer)).sum();
        self.pending.end();
    }

    /// A handle on a memory.
    pub(crate) fn memory(&self, id: MemoryId) -> Option<Memory> {
        self.memories.get(&id).cloned().map(Memory::of)
    }

    /// Takes out the memories whose files may go.
    pub(crate) fn take_dropped(&mut self, applied: Lsn) -> Vec<MemoryId> {
        let gone =
            self.dropped.extract_if(.., |(lsn, state)| *lsn <= applied && Arc::strong_count(state) == 1);
        gone.map(|(_, state)| state.id).collect()
    }

    /// Takes out the blobs whose files may go.
    pub(crate) fn take_abandoned(&mut self, applied: Lsn) -> Vec<BlobId> {
        let is_over = |entry: &BlobEntry| entry.abandoned.is_some_and(|lsn| lsn <= applied);
        self.blobs.extract_if(.., |_, entry| is_over(entry)).map(|(id, _)| id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_metadata_are_those_that_the_catalog_does_not_have() {
        let mut tables = Tables::default();
        let put = |tables: &mut Tables, lsn: u64, key: &[u8], value: Option<&[u8]>| {
            let mut effects = Effects::default();
            effects.metadata.insert(key.to_vec(), value.map(<[u8]>::to_vec));
            tables.install(effects, Lsn::new(lsn), RecordSize { bytes: 0, is_big: false });
            tables.metadata_bytes
        };
        assert_eq!(put(&mut tables, 1, b"key", Some(b"long value")), 13);
        assert_eq!(put(&mut tables, 2, b"key", Some(b"short")), 8);
        assert_eq!(put(&mut tables, 3, b"other", None), 13);
        tables.applied(Lsn::new(2));
        assert_eq!(tables.metadata_bytes, 5);
    }
}

//! The tables of a store: which memories, metadata and blobs there are; and `head`, the file that holds them.
//!
//! - `head` names everything that belongs to the saved state: replacing it, by a rename, is what makes a save
//!   durable.
//! - A file that `head` does not name belongs to no state, and may be removed.
//! - Entries are in ascending order and no entry is there twice.
//!
//! `head`: 0 magic `BEDHEAD\x01`, 8 store id, 24 bytes of the file, 32 LSN, 40 next memory id, 48 memories,
//! 56 metadata entries, 64 blobs, 72 zero, 96 entries, then BLAKE3 of all before, keyed for `head`. A memory:
//! id, u32 pages, u32 capacity, LSN of its creation, LSN of its image (0: all zero), 32 bytes of the image's
//! table hash. Metadata: u32 key bytes, u64 value bytes, key, value. A blob: 32 bytes of hash, u64 bytes, u64
//! references.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::change::{BlobId, Change, KEY_BYTES_MAX};
use crate::disk::RelPath;
use crate::error::Result;
use crate::format::{Cursor, Format, HASH_BYTES, Purpose};
use crate::memory::Memory;
use crate::page::{Lsn, MemoryId, PageCount};

const HEAD_MAGIC: &[u8; 8] = b"BEDHEAD\x01";
const HEAD_HEADER_BYTES: usize = 96;

/// Bytes of a `head` that names nothing.
pub(crate) const EMPTY_HEAD_BYTES: u64 = (HEAD_HEADER_BYTES + HASH_BYTES) as u64;

/// What a store holds.
pub(crate) struct Tables {
    /// The last change that was applied.
    pub(crate) lsn: Lsn,
    pub(crate) memories: BTreeMap<MemoryId, MemoryEntry>,
    pub(crate) metadata: BTreeMap<Arc<[u8]>, Arc<[u8]>>,
    pub(crate) blobs: BTreeMap<BlobId, BlobEntry>,
    /// Files that the last saved state may need and the next will not.
    pub(crate) obsolete: Vec<RelPath>,
}

pub(crate) struct MemoryEntry {
    pub(crate) memory: Memory,
    pub(crate) created: Lsn,
    /// The file with its content at the last save; `None` when it was all zero.
    pub(crate) image: Option<ImageName>,
    /// Whether a page was changed since.
    pub(crate) changed: bool,
}

/// Names the file of an image, and which bytes it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ImageName {
    pub(crate) memory: MemoryId,
    pub(crate) lsn: Lsn,
    pub(crate) hash: [u8; HASH_BYTES],
}

impl ImageName {
    pub(crate) fn path(&self) -> RelPath {
        RelPath::new(format!("{MEMORY_DIR}/{}.{}", self.memory, self.lsn))
    }
}

pub(crate) struct BlobEntry {
    pub(crate) bytes: u64,
    pub(crate) references: u64,
    /// Whether records have taken the count back to 0. A blob that waits for its first reference is kept.
    pub(crate) abandoned: bool,
    /// The content, in a store without a directory.
    pub(crate) held: Option<Arc<[u8]>>,
}

/// The directory of images.
pub(crate) const MEMORY_DIR: &str = "mem";
/// The directory of blobs.
pub(crate) const BLOB_DIR: &str = "blob";

pub(crate) fn blob_path(id: BlobId) -> RelPath {
    RelPath::new(format!("{BLOB_DIR}/{id}"))
}

impl Tables {
    pub(crate) fn empty() -> Tables {
        Tables {
            lsn: Lsn::default(),
            memories: BTreeMap::new(),
            metadata: BTreeMap::new(),
            blobs: BTreeMap::new(),
            obsolete: Vec::new(),
        }
    }

    /// Applies a change whole, and gives it the next place in the order. An empty one gets none.
    pub(crate) fn append(&mut self, change: Change) -> Lsn {
        if change.is_empty() {
            return self.lsn;
        }
        // Everything that may panic comes before anything that alters.
        let staged: Vec<_> = change
            .memories
            .into_iter()
            .map(|(id, change)| {
                let known = change.created || self.memories.contains_key(&id);
                assert!(known, "memory {id} is not in the store: dropped, or its creation was not appended");
                let staged = change.stage();
                (id, change, staged)
            })
            .collect();
        let references: Vec<_> = change
            .blob_references
            .into_iter()
            .map(|(id, change)| (id, self.references_after(id, change)))
            .collect();

        self.lsn = Lsn::new(self.lsn.get() + 1);
        for (id, change, staged) in staged {
            if change.created {
                let memory = change.memory.clone();
                self.memories
                    .insert(id, MemoryEntry { memory, created: self.lsn, image: None, changed: false });
            }
            if let Some(entry) = self.memories.get_mut(&id) {
                entry.changed |= !staged.replaced.is_empty();
            }
            change.memory.install(staged);
            if change.dropped {
                let image = self.memories.remove(&id).and_then(|entry| entry.image);
                self.obsolete.extend(image.map(|image| image.path()));
            }
        }
        for (key, value) in change.metadata {
            match value {
                Some(value) => self.metadata.insert(key.into(), value.into()),
                None => self.metadata.remove(key.as_slice()),
            };
        }
        for (id, after) in references {
            if let Some(entry) = self.blobs.get_mut(&id) {
                entry.abandoned = after == 0 && (entry.references > 0 || entry.abandoned);
                entry.references = after;
            }
        }
        self.lsn
    }

    fn references_after(&self, id: BlobId, change: i64) -> u64 {
        let entry = self.blobs.get(&id);
        let references =
            entry.unwrap_or_else(|| panic!("blob {id} was not put before it was referred to")).references;
        references.checked_add_signed(change).unwrap_or_else(|| {
            panic!("blob {id} has {references} references, {change} is too many to take away")
        })
    }

    /// Forgets the blobs that nothing refers to any more.
    pub(crate) fn remove_abandoned_blobs(&mut self) -> Vec<RelPath> {
        self.blobs.extract_if(.., |_, entry| entry.abandoned).map(|(id, _)| blob_path(id)).collect()
    }

    /// The bytes of `head`.
    pub(crate) fn encode(&self, format: &Format, next_memory: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(HEAD_MAGIC);
        bytes.extend_from_slice(&format.store_id);
        let blobs = self.blobs.iter().filter(|(_, entry)| entry.references > 0);
        let counts =
            [self.memories.len(), self.metadata.len(), blobs.clone().count()].map(|count| count as u64);
        for number in [0, self.lsn.get(), next_memory].into_iter().chain(counts) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.resize(HEAD_HEADER_BYTES, 0);
        for (id, entry) in &self.memories {
            let (lsn, hash) =
                entry.image.map_or((Lsn::default(), [0; HASH_BYTES]), |image| (image.lsn, image.hash));
            bytes.extend_from_slice(&id.get().to_le_bytes());
            bytes.extend_from_slice(&entry.memory.pages().get().to_le_bytes());
            bytes.extend_from_slice(&entry.memory.capacity().get().to_le_bytes());
            bytes.extend_from_slice(&entry.created.get().to_le_bytes());
            bytes.extend_from_slice(&lsn.get().to_le_bytes());
            bytes.extend_from_slice(&hash);
        }
        for (key, value) in &self.metadata {
            let key_bytes = u32::try_from(key.len()).expect("a key is no longer than KEY_BYTES_MAX");
            bytes.extend_from_slice(&key_bytes.to_le_bytes());
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
        }
        for (id, entry) in blobs {
            bytes.extend_from_slice(id.as_bytes());
            bytes.extend_from_slice(&entry.bytes.to_le_bytes());
            bytes.extend_from_slice(&entry.references.to_le_bytes());
        }
        let length = (bytes.len() + HASH_BYTES) as u64;
        bytes[24..32].copy_from_slice(&length.to_le_bytes());
        let hash = blake3::keyed_hash(&format.key(Purpose::Head), &bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }
}

/// What `head` says, before the images that it names are read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) lsn: Lsn,
    pub(crate) next_memory: u64,
    pub(crate) memories: Vec<HeadMemory>,
    pub(crate) metadata: BTreeMap<Arc<[u8]>, Arc<[u8]>>,
    pub(crate) blobs: BTreeMap<BlobId, HeadBlob>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HeadMemory {
    pub(crate) id: MemoryId,
    pub(crate) pages: PageCount,
    pub(crate) capacity: PageCount,
    pub(crate) created: Lsn,
    pub(crate) image: Option<ImageName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadBlob {
    pub(crate) bytes: u64,
    pub(crate) references: u64,
}

impl Head {
    /// Reads `head`, called `file` in messages.
    pub(crate) fn decode(bytes: &[u8], format: &Format, file: &str) -> Result<Head> {
        let mut cursor = Cursor::new(bytes, file);
        cursor.expect(HEAD_MAGIC, "beginning")?;
        cursor.expect(&format.store_id, "store id")?;
        if cursor.u64()? != bytes.len() as u64 || (bytes.len() as u64) < EMPTY_HEAD_BYTES {
            return Err(cursor.damaged(format_args!("its length is {}, another than it says", bytes.len())));
        }
        let (hashed, hash) = bytes.split_at(bytes.len() - HASH_BYTES);
        if blake3::keyed_hash(&format.key(Purpose::Head), hashed).as_bytes().as_slice() != hash {
            return Err(cursor.damaged("its hash does not match"));
        }
        let mut cursor = Cursor::new(hashed, file);
        cursor.take(32)?;
        let (lsn, next_memory) = (Lsn::new(cursor.u64()?), cursor.u64()?);
        let (memory_count, metadata_count, blob_count) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        cursor.zeros(HEAD_HEADER_BYTES - 72)?;
        let mut head = Head {
            lsn,
            next_memory,
            memories: Vec::new(),
            metadata: BTreeMap::new(),
            blobs: BTreeMap::new(),
        };
        for _ in 0..memory_count {
            let memory = head.memory(&mut cursor)?;
            head.memories.push(memory);
        }
        for _ in 0..metadata_count {
            head.metadata_entry(&mut cursor)?;
        }
        for _ in 0..blob_count {
            head.blob(&mut cursor)?;
        }
        cursor.end()?;
        Ok(head)
    }

    fn memory(&self, cursor: &mut Cursor<'_>) -> Result<HeadMemory> {
        let id = MemoryId::new(cursor.u64()?);
        if id.get() >= self.next_memory || self.memories.last().is_some_and(|last| last.id >= id) {
            return Err(cursor.damaged(format_args!("memory {id} is out of order")));
        }
        let (pages, capacity) = (PageCount::new(cursor.u32()?), PageCount::new(cursor.u32()?));
        if pages > capacity {
            return Err(cursor.damaged(format_args!("memory {id} has {pages} pages of {capacity}")));
        }
        let (created, image_lsn, hash) = (Lsn::new(cursor.u64()?), Lsn::new(cursor.u64()?), cursor.array()?);
        if created > self.lsn || image_lsn > self.lsn {
            return Err(cursor.damaged(format_args!("memory {id} is newer than the state")));
        }
        let image = (image_lsn > Lsn::default()).then_some(ImageName { memory: id, lsn: image_lsn, hash });
        Ok(HeadMemory { id, pages, capacity, created, image })
    }

    fn metadata_entry(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let key_bytes = cursor.u32()? as usize;
        let value_bytes = usize::try_from(cursor.u64()?);
        let value_bytes = value_bytes.map_err(|_| cursor.damaged("a value is longer than any memory"))?;
        if key_bytes > KEY_BYTES_MAX {
            return Err(cursor.damaged(format_args!("a key has {key_bytes} bytes")));
        }
        let (key, value) = (cursor.take(key_bytes)?, cursor.take(value_bytes)?);
        if self.metadata.last_key_value().is_some_and(|(last, _)| **last >= *key) {
            return Err(cursor.damaged("metadata is out of order"));
        }
        self.metadata.insert(key.into(), value.into());
        Ok(())
    }

    fn blob(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let id = BlobId::new(cursor.array()?);
        let blob = HeadBlob { bytes: cursor.u64()?, references: cursor.u64()? };
        if blob.references == 0 || self.blobs.last_key_value().is_some_and(|(last, _)| *last >= id) {
            return Err(cursor.damaged(format_args!("blob {id} is out of order or unused")));
        }
        self.blobs.insert(id, blob);
        Ok(())
    }
}

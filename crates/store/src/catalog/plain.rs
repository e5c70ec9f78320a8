//! The catalog as one map in memory, written whole at each commit: a temporary file, a sync, a rename, a sync
//! of the directory. For simulation, where states are small.
//!
//! `BEDPLAIN`; head: u64 applied, 32 bytes link, u64 segment, u64 offset, u64 next memory; u64 memories: {u64
//! id, u32 class, u32 pages, u32 capacity, u64 created}; u64 entries: {u64 key bytes, u64 value bytes, key,
//! value}; u64 blobs: {32 bytes, u64 references}; BLAKE3 of all before.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    CATALOG_NAME, CATALOG_TEMPORARY, Catalog, CatalogChange, CatalogMaker, Class, Head, MemoryRow, name,
    not_synced, reading, rewrite,
};
use crate::change::BlobId;
use crate::disk::{Disk, Open, RelPath};
use crate::error::{Error, Result};
use crate::format::{Cursor, HASH_BYTES};
use crate::mutants::mutant;
use crate::page::{Lsn, MemoryId, PageCount};

const MAGIC: &[u8; 8] = b"BEDPLAIN";

/// The side of the seam for simulation.
pub(crate) struct Plain;

impl CatalogMaker for Plain {
    fn create(&self, disk: &Arc<dyn Disk>, head: &Head) -> Result<Box<dyn Catalog>> {
        let (memories, metadata, blobs) = Default::default();
        let tables = Tables { head: *head, memories, metadata, blobs };
        write(&**disk, &tables)?;
        Ok(Box::new(PlainCatalog { disk: disk.clone(), tables: Mutex::new(Arc::new(tables)) }))
    }

    fn open(&self, disk: &Arc<dyn Disk>, clean: bool) -> Result<Box<dyn Catalog>> {
        if !clean && !mutant!(CATALOG_NOT_COPIED) {
            rewrite(&**disk)?;
        }
        let file = name(&**disk);
        let reading = reading(&file);
        let handle = disk.open(&RelPath::new(CATALOG_NAME), Open::Read).map_err(&reading)?;
        let length = handle.len().map_err(&reading)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        handle.read_at(0, &mut bytes).map_err(&reading)?;
        let tables = Tables::decode(&bytes, &file)?;
        Ok(Box::new(PlainCatalog { disk: disk.clone(), tables: Mutex::new(Arc::new(tables)) }))
    }
}

#[derive(Clone)]
struct Tables {
    head: Head,
    memories: BTreeMap<MemoryId, MemoryRow>,
    metadata: BTreeMap<Vec<u8>, Vec<u8>>,
    blobs: BTreeMap<BlobId, u64>,
}

struct PlainCatalog {
    disk: Arc<dyn Disk>,
    tables: Mutex<Arc<Tables>>,
}

impl PlainCatalog {
    fn tables(&self) -> MutexGuard<'_, Arc<Tables>> {
        self.tables.lock().expect("nothing panics while it holds the tables")
    }
}

impl Catalog for PlainCatalog {
    fn head(&self) -> Result<Head> {
        Ok(self.tables().head)
    }

    fn memories(&self) -> Result<BTreeMap<MemoryId, MemoryRow>> {
        Ok(self.tables().memories.clone())
    }

    fn blobs(&self) -> Result<BTreeMap<BlobId, u64>> {
        Ok(self.tables().blobs.clone())
    }

    fn metadata(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.tables().metadata.get(key).cloned())
    }

    fn metadata_range(
        &self,
        prefix: &[u8],
        from: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let tables = self.tables().clone();
        let range = (Bound::Included(prefix.max(from)), Bound::Unbounded);
        for (key, value) in tables.metadata.range::<[u8], _>(range) {
            if !key.starts_with(prefix) || each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn commit(&self, change: &CatalogChange) -> Result<()> {
        let mut tables = Tables::clone(&self.tables());
        tables.head = change.head;
        apply(&mut tables.memories, &change.memories);
        apply(&mut tables.metadata, &change.metadata);
        apply(&mut tables.blobs, &change.blobs);
        write(&*self.disk, &tables)?;
        *self.tables() = Arc::new(tables);
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

fn apply<K: Ord + Clone, V: Clone>(rows: &mut BTreeMap<K, V>, changes: &BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

fn write(disk: &dyn Disk, tables: &Tables) -> Result<()> {
    let file = name(disk);
    let path = RelPath::new(CATALOG_NAME);
    let temporary = RelPath::new(if mutant!(HEAD_IN_PLACE) { CATALOG_NAME } else { CATALOG_TEMPORARY });
    let writing = |error| Error::writing(&file, error);
    let handle = disk.open(&temporary, Open::Create).map_err(writing)?;
    handle.write_at(0, &[io::IoSlice::new(&tables.encode())]).map_err(writing)?;
    handle.sync_data().map_err(|error| not_synced(&file, error))?;
    disk.rename(&temporary, &path).map_err(writing)?;
    disk.sync_dir(&RelPath::root()).map_err(|error| not_synced(&file, error))
}

impl Tables {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let number = |bytes: &mut Vec<u8>, number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        number(&mut bytes, self.head.applied.get());
        bytes.extend_from_slice(&self.head.link);
        number(&mut bytes, self.head.segment);
        number(&mut bytes, self.head.offset);
        number(&mut bytes, self.head.next_memory);
        number(&mut bytes, self.memories.len() as u64);
        for (id, row) in &self.memories {
            number(&mut bytes, id.get());
            for small in [u32::from(row.class == Class::Frozen), row.pages.get(), row.capacity.get()] {
                bytes.extend_from_slice(&small.to_le_bytes());
            }
            number(&mut bytes, row.created.get());
        }
        number(&mut bytes, self.metadata.len() as u64);
        for (key, value) in &self.metadata {
            number(&mut bytes, key.len() as u64);
            number(&mut bytes, value.len() as u64);
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
        }
        number(&mut bytes, self.blobs.len() as u64);
        for (id, references) in &self.blobs {
            bytes.extend_from_slice(id.as_bytes());
            number(&mut bytes, *references);
        }
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8], file: &str) -> Result<Tables> {
        let hashed = bytes.len().checked_sub(HASH_BYTES).map(|at| bytes.split_at(at));
        let hashed = hashed.filter(|(hashed, hash)| blake3::hash(hashed).as_bytes().as_slice() == *hash);
        let Some((hashed, _)) = hashed else {
            return Err(Error::damaged(file, 0, "its hash does not match"));
        };
        let mut cursor = Cursor::new(hashed, file);
        cursor.take(MAGIC.len())?;
        let head = Head {
            applied: Lsn::new(cursor.u64()?),
            link: cursor.array()?,
            segment: cursor.u64()?,
            offset: cursor.u64()?,
            next_memory: cursor.u64()?,
        };
        let (memories, metadata, blobs) = Default::default();
        let mut tables = Tables { head, memories, metadata, blobs };
        for _ in 0..cursor.u64()? {
            let id = MemoryId::new(cursor.u64()?);
            let class = if cursor.u32()? == 0 { Class::Live } else { Class::Frozen };
            let (pages, capacity) = (PageCount::new(cursor.u32()?), PageCount::new(cursor.u32()?));
            let created = Lsn::new(cursor.u64()?);
            tables.memories.insert(id, MemoryRow { class, pages, capacity, created });
        }
        for _ in 0..cursor.u64()? {
            let (key_bytes, value_bytes) = (cursor.u64()? as usize, cursor.u64()? as usize);
            let (key, value) = (cursor.take(key_bytes)?, cursor.take(value_bytes)?);
            tables.metadata.insert(key.to_vec(), value.to_vec());
        }
        for _ in 0..cursor.u64()? {
            tables.blobs.insert(BlobId::new(cursor.array()?), cursor.u64()?);
        }
        Ok(tables)
    }
}

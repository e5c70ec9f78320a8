//! What the store promises, tried on a simulated disk and on real files.

mod crash;
mod damage;
mod directory;
mod model;
mod simulation;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::sim::Random;
use crate::{
    BlobId, Change, Class, Config, KeyRange, Memory, MemoryId, Page, PageCount, PageIndex, Result, Store,
};

/// As users have it, but for threads.
fn config() -> Config {
    let mut config = Config::new([42; 32]);
    config.background = false;
    config.reserve_bytes = 1 << 16;
    config
}

/// Segments of two pages, and a catalog that takes no time.
fn tiny(seed: u64) -> Config {
    let mut config = config().with_plain_catalog();
    config.seed[..8].copy_from_slice(&seed.to_le_bytes());
    config.segment_bytes = 8192;
    config.reserve_bytes = 8192;
    config.checkpoint_log_bytes = 20_000;
    config.checkpoint_pages = 8;
    config.log_bytes_max = 40_000;
    config.pending_pages_max = 16;
    config.slice_pages = 2;
    config
}

/// What a store is expected to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    memories: BTreeMap<MemoryId, ModelMemory>,
    metadata: BTreeMap<Vec<u8>, Vec<u8>>,
    blobs: BTreeMap<BlobId, ModelBlob>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelMemory {
    class: Class,
    capacity: PageCount,
    pages: PageCount,
    image: BTreeMap<PageIndex, Page>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelBlob {
    bytes: Vec<u8>,
    references: u64,
}

impl Model {
    /// What a store does hold, as far as its interface tells: memories by the ids that either knows.
    fn of(store: &Store) -> Result<Model> {
        let mut model = Model::default();
        store.metadata_range(KeyRange::All, &mut |key, value| {
            model.metadata.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })?;
        for memory in store.memories()? {
            model.memories.insert(memory.id(), of_memory(&memory)?);
        }
        for (id, references) in store.blobs()? {
            model.blobs.insert(id, ModelBlob { bytes: store.blob(id)?, references });
        }
        Ok(model)
    }
}

fn of_memory(memory: &Memory) -> Result<ModelMemory> {
    let image = memory.image()?;
    assert_eq!(image.pages(), memory.pages());
    let image: BTreeMap<_, _> = image.nonzero_pages().map(|(index, page)| (index, *page)).collect();
    let mut bytes = vec![0; usize::try_from(memory.pages().bytes()).unwrap()];
    memory.read(0, &mut bytes)?;
    for (index, page) in bytes.chunks_exact(4096).enumerate() {
        let index = PageIndex::new(u32::try_from(index).unwrap());
        let expected = image.get(&index).map_or([0; 4096].as_slice(), |page| page.as_slice());
        assert_eq!(page, expected, "page {index} of memory {}", memory.id());
    }
    assert!(image.values().all(|page| *page != [0; 4096]), "the image visits a page of zeros");
    Ok(ModelMemory { class: memory.class(), capacity: memory.capacity(), pages: memory.pages(), image })
}

/// Adds a random step to a change, and to what the store should hold after it.
fn random_step(store: &Store, change: &mut Change, model: &mut Model, random: &mut Random) -> Result<()> {
    match random.below(12) {
        0 | 1 if model.memories.len() < 5 => {
            let capacity = PageCount::new(2 + u32::try_from(random.below(12)).unwrap());
            let memory = change.create(capacity)?;
            let pages = PageCount::new(1 + u32::try_from(random.below(2)).unwrap());
            change.grow(&memory, pages);
            model.memories.insert(
                memory.id(),
                ModelMemory { class: Class::Live, capacity, pages, image: BTreeMap::new() },
            );
        }
        2 => {
            let key = vec![b'k', u8::try_from(random.below(8)).unwrap()];
            change.delete(&key);
            model.metadata.remove(&key);
        }
        3 | 4 => {
            let key = vec![b'k', u8::try_from(random.below(8)).unwrap()];
            let value = vec![u8::try_from(random.below(256)).unwrap(); random.below(1500)];
            change.put(&key, &value);
            model.metadata.insert(key, value);
        }
        5 => {
            let bytes = vec![u8::try_from(random.below(6)).unwrap(); 700];
            let id = store.put_blob(&bytes)?;
            change.blob_references(id, 1);
            model.blobs.entry(id).or_insert(ModelBlob { bytes, references: 0 }).references += 1;
        }
        6 => {
            if let Some((&id, _)) = model.blobs.iter().nth(random.below(6)) {
                change.blob_references(id, -1);
                let references = &mut model.blobs.get_mut(&id).unwrap().references;
                *references -= 1;
                if *references == 0 {
                    model.blobs.remove(&id);
                }
            }
        }
        step => memory_step(store, change, model, random, step)?,
    }
    Ok(())
}

fn memory_step(
    store: &Store,
    change: &mut Change,
    model: &mut Model,
    random: &mut Random,
    step: usize,
) -> Result<()> {
    let Some((&id, expected)) = model.memories.iter_mut().nth(random.below(5)) else { return Ok(()) };
    // A memory made by this very change is left alone: the store does not know it yet.
    let Ok(memory) = store.memory(id) else { return Ok(()) };
    if step == 7 && random.below(4) == 0 {
        change.drop_memory(memory);
        model.memories.remove(&id);
        return Ok(());
    }
    if expected.class == Class::Frozen {
        return Ok(());
    }
    if step == 8 {
        let more = u32::try_from(random.below(3)).unwrap();
        expected.pages = PageCount::new((expected.pages.get() + more).min(expected.capacity.get()));
        change.grow(&memory, expected.pages);
        return Ok(());
    }
    let index = PageIndex::new(u32::try_from(random.below(expected.pages.get() as usize)).unwrap());
    let before = expected.image.get(&index).copied().unwrap_or([0; 4096]);
    let mut after = before;
    match random.below(4) {
        0 => after = [0; 4096],
        1 => after.fill_with(|| random.number() as u8),
        _ => after[random.below(4096)] = random.number() as u8,
    }
    if step == 9 {
        change.image(&memory, index, &after);
    } else {
        change.page(&memory, index, &before, &after);
    }
    expected.image.remove(&index);
    if after != [0; 4096] {
        expected.image.insert(index, after);
    }
    Ok(())
}

/// A directory of its own for a test on real files, removed at the end.
pub(crate) struct TemporaryDirectory(std::path::PathBuf);

impl TemporaryDirectory {
    pub(crate) fn new(name: &str) -> TemporaryDirectory {
        let path = std::env::temp_dir().join(format!("bedstone-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        TemporaryDirectory(path)
    }

    pub(crate) fn disk(&self, name: &str) -> Arc<crate::FileDisk> {
        Arc::new(crate::FileDisk::new(self.0.join(name)))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every file of this directory is compiled: a test that is forgotten here would never run.
#[test]
fn no_file_of_tests_is_forgotten() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = format!("mod {};", name.trim_end_matches(".rs"));
        assert!(name == "mod.rs" || include_str!("mod.rs").contains(&module), "{name} is not in mod.rs");
    }
}

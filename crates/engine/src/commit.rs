//! A canister in the store: what is written of it, and how it is read back.
//!
//! A canister is one metadata record (`canister/` and its id) that names a blob (the module as installed), a memory for
//! each that the module declares, and stable memory. Only pages that changed since the last save are handed to the store.
//!
//! Invariants:
//! - A save describes the canister between messages: nothing of a running message is ever handed over.
//! - The record is written in the same change as the pages that it goes with.

use bedstone_store::{BlobId, Change, MapSource, Memory, MemoryId, PageCount, PageIndex, Store};
use serde::{Deserialize, Serialize};

use bedstone_instrument::abi::{STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES};
use bedstone_instrument::limits;

use crate::canister::Canister;
use crate::compile::Engine;
use crate::error::Error;
use crate::execute::Installed;
use crate::memory;
use crate::pages::PageSet;
use crate::sys::{Mapping, PAGE};
use crate::system::{Log, SystemState};

/// Where a canister stands in the store.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// The declared memories, by index.
    heaps: Vec<Memory>,
    stable: Option<Memory>,
    module: Option<BlobId>,
    /// Stable memory is another one than the saved one.
    pub stable_replaced: bool,
}

/// The metadata record.
#[derive(Serialize, Deserialize)]
struct Record {
    system: SystemState,
    log: Log,
    code: Option<Code>,
    stable: Option<u64>,
}

/// What belongs to the installed module.
#[derive(Serialize, Deserialize)]
struct Code {
    blob: [u8; 32],
    /// The declared memories, by index.
    heaps: Vec<u64>,
    /// 16 bytes per mutable global.
    globals: Vec<u8>,
}

/// The key of a canister's record.
fn key(id: &[u8]) -> Vec<u8> {
    [b"canister/", id].concat()
}

/// Prefix of the records' keys; the rest is the canister's id.
pub const CANISTER_KEYS: &[u8] = b"canister/";

impl Canister {
    /// Adds what changed since the last save to `change`.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub fn save(&mut self, store: &Store, change: &mut Change) -> Result<(), Error> {
        let stable_pages = capacity(STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES);
        let saved = &mut self.saved;
        place(&mut saved.stable, &mut saved.stable_replaced, change, stable_pages)?;
        let stable = saved.stable.as_ref().expect("just placed");
        put_pages(change, stable, &self.stable, &mut self.stable_unsaved);

        let code = match &mut self.installed {
            None => {
                saved.heaps.drain(..).for_each(|memory| change.drop_memory(memory));
                None
            }
            Some(installed) => {
                let blob = store.put_blob(&installed.module.installed).map_err(Error::store)?;
                if saved.module != Some(blob) {
                    change.blob_references(blob, 1);
                    if let Some(old) = saved.module.replace(blob) {
                        change.blob_references(old, -1);
                    }
                }
                let heaps = save_heaps(installed, saved, change)?;
                // The globals are in the tracking memory only once there is an instance.
                installed.live(&self.system)?;
                Some(Code { blob: *blob.as_bytes(), heaps, globals: installed.globals() })
            }
        };
        let record = Record {
            system: self.system.clone(),
            log: self.log.clone(),
            code,
            stable: saved.stable.as_ref().map(|memory| memory.id().get()),
        };
        let value = postcard::to_stdvec(&record).expect("plain data can be written to memory");
        change.put(&key(self.system.id.as_slice()), &value);
        Ok(())
    }

    /// Adds to `change` that the canister is gone.
    pub fn erase(self, change: &mut Change) {
        for memory in self.saved.heaps.into_iter().chain(self.saved.stable) {
            change.drop_memory(memory);
        }
        if let Some(blob) = self.saved.module {
            change.blob_references(blob, -1);
        }
        change.delete(&key(self.system.id.as_slice()));
    }

    /// Reads a canister from its record.
    ///
    /// # Errors
    /// If the record or what it names does not fit together, or the module does not compile any more.
    pub fn load(engine: &Engine, store: &Store, record: &[u8]) -> Result<Self, Error> {
        let record: Record = postcard::from_bytes(record)
            .map_err(|error| Error::damaged(format!("a canister's record: {error}")))?;
        let mut canister = Canister::new(engine, record.system)?;
        canister.log = record.log;
        if let Some(id) = record.stable {
            let memory = store.memory(MemoryId::new(id)).map_err(Error::store)?;
            fill(&canister.stable, &memory)?;
            canister.saved.stable = Some(memory);
        }
        if let Some(code) = record.code {
            let blob = BlobId::new(code.blob);
            let module = engine.compile(&store.blob(blob).map_err(Error::store)?)?;
            canister.saved.module = Some(blob);
            let declared = &module.manifest().memories;
            if code.heaps.len() != declared.len() {
                return Err(Error::damaged("a canister's record holds other memories than its module"));
            }
            let mut heaps = Vec::with_capacity(declared.len());
            for (id, ty) in code.heaps.iter().zip(declared) {
                let memory = store.memory(MemoryId::new(*id)).map_err(Error::store)?;
                let mut heap = memory::new_heap(ty, memory.pages().bytes()).map_err(Error::machine)?;
                load_heap(&mut heap, &memory);
                canister.saved.heaps.push(memory);
                heaps.push(heap);
            }
            let installed = Installed::new(module, &canister.stable, Some(&code.globals))?;
            canister.installed = Some(installed.with_heaps(heaps));
        }
        Ok(canister)
    }
}

fn capacity(bytes: u64) -> PageCount {
    PageCount::from_bytes(bytes).expect("limits are whole pages")
}

/// Makes sure that a memory exists in the store; a replaced one is dropped.
fn place(
    memory: &mut Option<Memory>,
    replaced: &mut bool,
    change: &mut Change,
    capacity: PageCount,
) -> Result<(), Error> {
    if std::mem::take(replaced)
        && let Some(old) = memory.take()
    {
        change.drop_memory(old);
    }
    if memory.is_none() {
        *memory = Some(change.create(capacity).map_err(Error::store)?);
    }
    Ok(())
}

/// Hands over every declared memory; returns their ids, by index.
fn save_heaps(installed: &mut Installed, saved: &mut Saved, change: &mut Change) -> Result<Vec<u64>, Error> {
    let mut ids = Vec::with_capacity(installed.heaps.len());
    for (index, heap) in installed.heaps.iter_mut().enumerate() {
        if heap.never_saved || index >= saved.heaps.len() {
            let memory = change.create(capacity(limits::HEAP64_BYTES_MAX)).map_err(Error::store)?;
            match saved.heaps.get_mut(index) {
                Some(old) => change.drop_memory(std::mem::replace(old, memory)),
                None => saved.heaps.push(memory),
            }
            heap.never_saved = false;
        }
        let memory = &saved.heaps[index];
        put_pages(change, memory, &heap.live, &mut heap.unsaved);
        ids.push(memory.id().get());
    }
    // Those of a module that declared more.
    saved.heaps.drain(ids.len()..).for_each(|memory| change.drop_memory(memory));
    Ok(ids)
}

fn put_pages(change: &mut Change, memory: &Memory, mapping: &Mapping, unsaved: &mut PageSet) {
    if mapping.pages() as u64 > u64::from(memory.pages().get()) {
        change.grow(memory, capacity(mapping.len() as u64));
    }
    let mut bytes = [0; PAGE];
    for page in unsaved.take() {
        mapping.read(page * PAGE, &mut bytes);
        change.image(memory, PageIndex::new(u32::try_from(page).expect("500 GiB at most")), &bytes);
    }
}

/// Copies a saved memory into an empty mapping.
fn fill(mapping: &Mapping, memory: &Memory) -> Result<(), Error> {
    mapping
        .grow_to(usize::try_from(memory.pages().bytes()).expect("64-bit addresses"))
        .map_err(Error::machine)?;
    each_page(memory, |page, bytes| mapping.write(page * PAGE, bytes));
    Ok(())
}

fn load_heap(heap: &mut crate::dirty::Heap, memory: &Memory) {
    each_page(memory, |page, bytes| heap.initialise(page * PAGE, bytes));
    heap.unsaved = PageSet::default();
    heap.never_saved = false;
}

fn each_page(memory: &Memory, mut visit: impl FnMut(usize, &[u8; PAGE])) {
    match memory.map_source() {
        MapSource::Image(image) => {
            for (page, bytes) in image.nonzero_pages() {
                visit(page.get() as usize, bytes);
            }
        }
        _ => unreachable!("this release's store keeps images in RAM"),
    }
}

//! A canister in the store: what is written of it, and how it is read back.
//!
//! A canister is a memory for each that its module declares, stable memory, a blob (the module as installed), and three
//! entries of metadata: its record (`canister/` and its id) that names the others, its globals (`globals/…`) and its log
//! (`log/…`), which change at their own times.
//!
//! There are two ways to hand it over. A *message* tells each page that it changed with what the page held before, and the
//! store logs the difference. A *save* hands over whole pages: all that changed since the last save, after installations,
//! and in stores that are saved on request only.
//!
//! Invariants:
//! - What is handed over is the canister between messages: nothing of a running message.
//! - Everything that a message changed goes into one change.

use bedstone_store::{BlobId, Change, MapSource, Memory, MemoryId, PageCount, PageIndex, Store};
use serde::{Deserialize, Serialize};

use bedstone_instrument::abi::{STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES};
use bedstone_instrument::limits;

use crate::canister::Canister;
use crate::compile::Engine;
use crate::error::Error;
use crate::execute::Installed;
use crate::pages::PageSet;
use crate::sys::{Mapping, PAGE};
use crate::system::{Settings, SystemState};
use crate::{image, memory};

/// Where a canister stands in the store.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// The declared memories, by index.
    pub heaps: Vec<Memory>,
    pub stable: Option<Memory>,
    pub module: Option<BlobId>,
    /// Stable memory is another one than the saved one.
    pub stable_replaced: bool,
    /// Something changed that no message told of.
    pub stale: bool,
    /// The entries of metadata as they were put last.
    record: Option<Vec<u8>>,
    globals: Option<Vec<u8>>,
    log: Option<Vec<u8>>,
    settings: Settings,
    /// Stable pages told since stable memory was mapped: at least as many as it keeps copies of.
    pub stable_pages_told: u64,
}

/// Stable pages of which a canister may keep private copies before it goes back to the file: 128 MiB.
const STABLE_PAGES_KEPT: u64 = 32_768;

/// Where a message tells what it changed.
pub(crate) struct Sink<'a> {
    change: &'a mut Change,
    heaps: &'a [Memory],
    stable: &'a Memory,
    stable_pages_told: &'a mut u64,
}

impl Sink<'_> {
    /// The declared memory `index` has so many bytes.
    pub fn heap_bytes(&mut self, index: usize, bytes: usize) {
        grow(self.change, &self.heaps[index], bytes);
    }

    /// A page of the declared memory `index` changed.
    pub fn heap_page(&mut self, index: usize, page: usize, before: &[u8; PAGE], after: &[u8; PAGE]) {
        self.change.page(&self.heaps[index], page_index(page), before, after);
    }

    /// Stable memory has so many bytes.
    pub fn stable_bytes(&mut self, bytes: usize) {
        grow(self.change, self.stable, bytes);
    }

    /// A page of stable memory changed.
    pub fn stable_page(&mut self, page: usize, before: &[u8; PAGE], after: &[u8; PAGE]) {
        *self.stable_pages_told += 1;
        self.change.page(self.stable, page_index(page), before, after);
    }
}

impl Saved {
    /// The sink for a message of a canister that is saved.
    pub fn sink<'a>(&'a mut self, change: &'a mut Change) -> Sink<'a> {
        Sink {
            change,
            heaps: &self.heaps,
            stable: self
                .stable
                .as_ref()
                .expect("a canister that is saved has its stable memory in the store"),
            stable_pages_told: &mut self.stable_pages_told,
        }
    }
}

/// The record.
#[derive(Serialize, Deserialize)]
struct Record {
    system: SystemState,
    code: Option<Code>,
    stable: u64,
}

/// What belongs to the installed module.
#[derive(Serialize, Deserialize, Clone)]
struct Code {
    blob: [u8; 32],
    /// The declared memories, by index.
    heaps: Vec<u64>,
}

/// Prefix of the records' keys; the rest is the canister's id.
pub const CANISTER_KEYS: &[u8] = b"canister/";
/// Prefix of the keys of globals, 16 bytes per mutable global.
const GLOBALS_KEYS: &[u8] = b"globals/";
/// Prefix of the keys of logs.
const LOG_KEYS: &[u8] = b"log/";
/// Prefix of the keys of settings; absent where nothing was set.
const SETTINGS_KEYS: &[u8] = b"settings/";

/// What a store tells of a canister without its being read.
#[derive(Debug, Clone)]
pub struct Summary {
    /// As of its last message.
    pub system: SystemState,
    /// SHA-256 of the installed module.
    pub module_hash: Option<[u8; 32]>,
    /// Bytes of all memories that the module declares.
    pub heap_bytes: u64,
    /// Bytes of stable memory.
    pub stable_bytes: u64,
}

impl Summary {
    /// The summary of the canister with that id. Neither its memories nor its module are read.
    ///
    /// # Errors
    /// If the store fails, or what it holds does not fit together.
    pub fn load(store: &Store, id: &[u8]) -> Result<Self, Error> {
        let record = entry(store, CANISTER_KEYS, id)?;
        let Record { mut system, code, stable } = decode(&record)?;
        system.settings = settings(store, id)?;
        let bytes = |id: u64| -> Result<u64, Error> {
            Ok(store.memory(MemoryId::new(id)).map_err(Error::store)?.pages().bytes())
        };
        let heaps = code.iter().flat_map(|code| &code.heaps);
        let heap_bytes = heaps.map(|id| bytes(*id)).sum::<Result<u64, Error>>()?;
        // A blob's name is the hash of its bytes, which are the module as installed.
        let module_hash = code.as_ref().map(|code| code.blob);
        Ok(Self { system, module_hash, heap_bytes, stable_bytes: bytes(stable)? })
    }
}

impl Canister {
    /// Whether the store has everything that was not told by a message.
    pub(crate) fn is_saved(&self) -> bool {
        !self.saved.stale && self.saved.record.is_some()
    }

    /// Adds what changed since the last save to `change`: whole pages.
    ///
    /// # Errors
    /// If the store cannot take it.
    pub fn save(&mut self, store: &Store, change: &mut Change) -> Result<(), Error> {
        let stable_pages = capacity(STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES);
        let saved = &mut self.saved;
        place(&mut saved.stable, &mut saved.stable_replaced, change, stable_pages)?;
        let stable = saved.stable.as_ref().expect("just placed");
        put_pages(change, stable, &self.stable, &mut self.stable_unsaved);
        match &mut self.installed {
            None => {
                saved.heaps.drain(..).for_each(|memory| change.drop_memory(memory));
                if let Some(blob) = saved.module.take() {
                    change.blob_references(blob, -1);
                }
            }
            Some(installed) => {
                let blob = store.put_blob(&installed.module.installed).map_err(Error::store)?;
                if saved.module != Some(blob) {
                    change.blob_references(blob, 1);
                    if let Some(old) = saved.module.replace(blob) {
                        change.blob_references(old, -1);
                    }
                }
                save_heaps(installed, saved, change)?;
                // The globals are in the tracking memory only once there is an instance.
                installed.live(&self.system)?;
            }
        }
        self.saved.stale = false;
        self.put_state(change);
        Ok(())
    }

    /// Adds the entries of metadata that are not what they were.
    pub(crate) fn put_state(&mut self, change: &mut Change) {
        let saved = &mut self.saved;
        let id = self.system.id;
        let code = self.installed.as_ref().map(|_| Code {
            blob: *saved.module.as_ref().expect("an installed module is saved as a blob").as_bytes(),
            heaps: saved.heaps.iter().map(|memory| memory.id().get()).collect(),
        });
        let stable = saved.stable.as_ref().expect("placed by the first save").id().get();
        let record = Record { system: self.system.clone(), code, stable };
        put(change, CANISTER_KEYS, id.as_slice(), encode(&record), &mut saved.record);
        if saved.settings != self.system.settings {
            saved.settings = self.system.settings.clone();
            change.put(&[SETTINGS_KEYS, id.as_slice()].concat(), &encode(&saved.settings));
        }
        let globals = self.installed.as_ref().map_or_else(Vec::new, Installed::globals);
        put(change, GLOBALS_KEYS, id.as_slice(), globals, &mut saved.globals);
        put(change, LOG_KEYS, id.as_slice(), encode(&self.log), &mut saved.log);
    }

    /// Gives private copies of stable pages back once there are many, after which they are read from the file again.
    /// Waits until the store has written them there.
    ///
    /// # Errors
    /// If the store fails, or the file cannot be mapped.
    pub fn shed(&mut self) -> Result<(), Error> {
        if self.saved.stable_pages_told < STABLE_PAGES_KEPT { Ok(()) } else { self.shed_now() }
    }

    /// Gives all private copies of stable pages back; see [`Canister::shed`].
    ///
    /// # Errors
    /// If the store fails, or the file cannot be mapped.
    pub fn shed_now(&mut self) -> Result<(), Error> {
        self.saved.stable_pages_told = 0;
        let Some(memory) = &self.saved.stable else { return Ok(()) };
        match memory.map_source().map_err(Error::store)? {
            MapSource::File(file) => image::map(&self.stable, &file, memory, memory.pages().bytes()),
            _ => Ok(()),
        }
    }

    /// Adds to `change` that the canister is gone.
    pub fn erase(self, change: &mut Change) {
        for memory in self.saved.heaps.into_iter().chain(self.saved.stable) {
            change.drop_memory(memory);
        }
        if let Some(blob) = self.saved.module {
            change.blob_references(blob, -1);
        }
        for keys in [CANISTER_KEYS, GLOBALS_KEYS, LOG_KEYS, SETTINGS_KEYS] {
            change.delete(&[keys, self.system.id.as_slice()].concat());
        }
    }

    /// Reads the canister with that id.
    ///
    /// # Errors
    /// If the store fails, what it holds does not fit together, or the module does not compile any more.
    pub fn load(engine: &Engine, store: &Store, id: &[u8]) -> Result<Self, Error> {
        let entry = |keys| entry(store, keys, id);
        let (record, globals, log) = (entry(CANISTER_KEYS)?, entry(GLOBALS_KEYS)?, entry(LOG_KEYS)?);
        let decoded: Record = decode(&record)?;
        let mut canister = Canister::new(engine, decoded.system)?;
        canister.system.settings = settings(store, id)?;
        canister.saved.settings = canister.system.settings.clone();
        canister.log = decode(&log)?;
        let memory = store.memory(MemoryId::new(decoded.stable)).map_err(Error::store)?;
        image::fill(&memory, memory.pages().bytes(), &[&canister.stable])?;
        canister.saved.stable = Some(memory);
        if let Some(code) = decoded.code {
            let blob = BlobId::new(code.blob);
            let module = engine.compile(store.blob(blob).map_err(Error::store)?)?;
            canister.saved.module = Some(blob);
            let declared = &module.manifest().memories;
            if code.heaps.len() != declared.len() {
                return Err(Error::damaged("a canister's record holds other memories than its module"));
            }
            let mut heaps = Vec::with_capacity(declared.len());
            for (id, ty) in code.heaps.iter().zip(declared) {
                let memory = store.memory(MemoryId::new(*id)).map_err(Error::store)?;
                let bytes = memory.pages().bytes();
                let tracker = engine.config().tracker;
                let mut heap = memory::new_heap(ty, bytes, tracker).map_err(Error::machine)?;
                image::fill(&memory, bytes, &heap.images())?;
                heap.never_saved = false;
                canister.saved.heaps.push(memory);
                heaps.push(heap);
            }
            let installed = Installed::new(module, &canister.stable, Some(&globals))?;
            canister.installed = Some(installed.with_heaps(heaps));
        }
        let saved = &mut canister.saved;
        (saved.record, saved.globals, saved.log) = (Some(record), Some(globals), Some(log));
        Ok(canister)
    }
}

/// First byte of every entry: how the rest is to be read. A later form gets the next number, and this one stays readable.
const ENTRY_VERSION: u8 = 1;

pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![ENTRY_VERSION]).expect("plain data can be written to memory")
}

/// What the store has under a prefix and a canister's id.
fn entry(store: &Store, keys: &[u8], id: &[u8]) -> Result<Vec<u8>, Error> {
    let value = store.metadata(&[keys, id].concat()).map_err(Error::store)?;
    value.ok_or_else(|| Error::damaged("a canister's record is missing"))
}

/// A canister's settings: those of a new one where nothing was set.
fn settings(store: &Store, id: &[u8]) -> Result<Settings, Error> {
    let value = store.metadata(&[SETTINGS_KEYS, id].concat()).map_err(Error::store)?;
    value.map_or(Ok(Settings::default()), |value| decode(&value))
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    match bytes.split_first() {
        Some((&ENTRY_VERSION, bytes)) => postcard::from_bytes(bytes)
            .map_err(|error| Error::damaged(format!("a canister's record: {error}"))),
        Some((version, _)) => Err(Error::damaged(format!(
            "a canister's record has version {version}; this Bedstone reads version {ENTRY_VERSION}"
        ))),
        None => Err(Error::damaged("a canister's record is empty")),
    }
}

/// Puts an entry unless it is what it was.
fn put(change: &mut Change, keys: &[u8], id: &[u8], value: Vec<u8>, last: &mut Option<Vec<u8>>) {
    if last.as_ref() != Some(&value) {
        change.put(&[keys, id].concat(), &value);
        *last = Some(value);
    }
}

fn capacity(bytes: u64) -> PageCount {
    PageCount::from_bytes(bytes).expect("limits are whole pages")
}

fn page_index(page: usize) -> PageIndex {
    PageIndex::new(u32::try_from(page).expect("memories have fewer than 2^32 pages"))
}

/// Adds a growth, if it is one.
pub(crate) fn grow(change: &mut Change, memory: &Memory, bytes: usize) {
    if bytes as u64 > memory.pages().bytes() {
        change.grow(memory, capacity(bytes as u64));
    }
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

/// Hands over every declared memory.
fn save_heaps(installed: &mut Installed, saved: &mut Saved, change: &mut Change) -> Result<(), Error> {
    for (index, heap) in installed.heaps.iter_mut().enumerate() {
        if heap.never_saved || index >= saved.heaps.len() {
            let memory = change.create(capacity(limits::HEAP64_BYTES_MAX)).map_err(Error::store)?;
            match saved.heaps.get_mut(index) {
                Some(old) => change.drop_memory(std::mem::replace(old, memory)),
                None => saved.heaps.push(memory),
            }
            heap.never_saved = false;
        }
        put_pages(change, &saved.heaps[index], &heap.live, &mut heap.unsaved);
    }
    // Those of a module that declared more.
    saved.heaps.drain(installed.heaps.len()..).for_each(|memory| change.drop_memory(memory));
    Ok(())
}

fn put_pages(change: &mut Change, memory: &Memory, mapping: &Mapping, unsaved: &mut PageSet) {
    grow(change, memory, mapping.len());
    let mut bytes = [0; PAGE];
    for page in unsaved.take() {
        mapping.read(page * PAGE, &mut bytes);
        change.image(memory, page_index(page), &bytes);
    }
}

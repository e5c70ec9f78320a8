//! A canister's snapshot: its module, memories, globals and what else the IC keeps of it at one moment.
//!
//! A snapshot is taken of a canister, or uploaded: made of sizes and filled afterwards. Loading one (`restore`) gives a
//! canister all that is in it; the rest of the canister (settings, cycles, log) stays.
//!
//! In a store a snapshot is a memory for each of the canister's, a blob (the module), and a record of metadata under a key of
//! the caller's. Without a store it is in RAM.
//!
//! Invariants:
//! - What is done to a snapshot in a store goes into the caller's one change: all of it or nothing.
//! - A snapshot that was taken never changes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bedstone_store::{BlobId, Change, KeyRange, MemoryId, Store};
use serde::{Deserialize, Serialize};

use crate::canister::Canister;
use crate::commit::{decode, encode};
use crate::compile::Module;
use crate::error::Error;
use crate::globals::{self, GlobalValue};
use crate::image::{Copy, Image, Keeping, RamImage, copies};
use crate::system::LowWasmMemoryHook;

/// Where a snapshot comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotSource {
    /// It was taken of a canister.
    TakenFromCanister,
    /// It was uploaded.
    MetadataUpload,
}

/// What a snapshot holds besides module and memories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDetails {
    /// Where it comes from.
    pub source: SnapshotSource,
    /// When it was taken or uploaded, in nanoseconds since 1970.
    pub taken_at_nanos: u64,
    /// The canister's version then.
    pub canister_version: u64,
    /// At most 32 bytes.
    pub certified_data: Vec<u8>,
    /// When the global timer fires, in nanoseconds; 0 = never; `None` = an upload did not say.
    pub global_timer: Option<u64>,
    /// `None` if an upload did not say.
    pub on_low_wasm_memory_hook: Option<LowWasmMemoryHook>,
    /// In the IC's order: exported ones in the order of their exports, then the other mutable ones. The instruction counter,
    /// which is one more global in some versions of the IC, may follow.
    pub globals: Vec<GlobalValue>,
}

/// A part of a snapshot that has a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SnapshotPart {
    /// The module as installed, Wasm or gzip.
    WasmModule,
    /// The heap.
    WasmMemory,
    /// Stable memory.
    StableMemory,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) details: SnapshotDetails,
    pub(crate) code: Code,
    /// The declared memories, by index.
    pub(crate) heaps: Vec<Image>,
    pub(crate) stable: Image,
    /// Chunks of the chunk store by their hashes; the bytes of those that are not blobs of a store.
    pub(crate) chunks: BTreeMap<[u8; 32], Option<Arc<[u8]>>>,
    /// How far an upload by one process has come that is not yet to be seen.
    pub(crate) unfinished: Option<Unfinished>,
}

/// A snapshot's module.
#[derive(Debug, Clone)]
pub(crate) enum Code {
    InRam(Arc<Module>),
    Blob(BlobId, u64),
    /// Uploaded in pieces, and its size.
    Pieces(Image, u64),
}

/// How far an upload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// What is uploaded, in the words of who does it.
    pub token: [u8; 32],
    /// How much of it is there, by the same.
    pub done: u64,
}

/// A canister's state, copied, that waits to become a snapshot or a canister.
pub(crate) struct Copied {
    pub details: SnapshotDetails,
    pub code: Code,
    pub heaps: Vec<Copy>,
    pub stable: Copy,
}

/// A snapshot's record in the store.
#[derive(Serialize, Deserialize)]
struct Record {
    details: SnapshotDetails,
    code: CodeRecord,
    heaps: Vec<u64>,
    stable: u64,
    chunks: Vec<[u8; 32]>,
    unfinished: Option<Unfinished>,
}

#[derive(Serialize, Deserialize)]
enum CodeRecord {
    Blob([u8; 32], u64),
    Pieces(u64, u64),
}

/// What a global counts in the size of a snapshot on the IC.
const GLOBAL_BYTES: u64 = 32;

impl Canister {
    /// Takes a snapshot; `None` if the canister is empty. In a store the canister has to be saved.
    ///
    /// # Errors
    /// If this machine or the store fails.
    pub fn take_snapshot(
        &mut self,
        time_nanos: u64,
        keeping: &mut Keeping<'_>,
    ) -> Result<Option<Snapshot>, Error> {
        let copied = self.copy(time_nanos, keeping)?;
        Ok(copied.map(|copied| copied.freeze(keeping)))
    }

    /// Copies its state; `None` if it is empty.
    pub(crate) fn copy(&mut self, time_nanos: u64, keeping: &Keeping<'_>) -> Result<Option<Copied>, Error> {
        let is_saved = self.is_saved();
        let Some(installed) = &mut self.installed else { return Ok(None) };
        // The globals are in the tracking memory only once there is an instance.
        installed.live(&self.system)?;
        let details = SnapshotDetails {
            source: SnapshotSource::TakenFromCanister,
            taken_at_nanos: time_nanos,
            canister_version: self.system.version,
            certified_data: self.system.certified_data.clone(),
            global_timer: Some(self.system.global_timer),
            on_low_wasm_memory_hook: Some(self.system.settings.low_wasm_memory_hook),
            globals: globals::list(&installed.module, &installed.globals()),
        };
        let module = &installed.module;
        let (code, heaps, stable) = match keeping {
            Keeping::InRam => {
                let image = |mapping, pages| Ok(Copy::InRam(Arc::new(RamImage::of(mapping, pages)?)));
                let heaps = installed.heaps.iter().map(|heap| image(&heap.live, &heap.unsaved));
                let heaps = heaps.collect::<Result<Vec<_>, Error>>()?;
                (Code::InRam(Arc::clone(module)), heaps, image(&self.stable, &self.stable_unsaved)?)
            }
            Keeping::InStore { store, .. } => {
                assert!(is_saved, "what is copied in a store has to be there");
                let stable =
                    self.saved.stable.as_ref().expect("a canister that is saved has its stable memory");
                let memories: Vec<_> = self.saved.heaps.iter().chain([stable]).cloned().collect();
                let mut heaps = copies(store, &memories)?;
                let stable = heaps.pop().expect("stable memory is the last");
                let blob = self.saved.module.expect("an installed module is saved as a blob");
                (Code::Blob(blob, module.bytes().len() as u64), heaps, stable)
            }
        };
        Ok(Some(Copied { details, code, heaps, stable }))
    }
}

impl Copied {
    fn freeze(self, keeping: &mut Keeping<'_>) -> Snapshot {
        let Self { details, code, heaps, stable } = self;
        if let (Code::Blob(blob, _), Keeping::InStore { change, .. }) = (&code, &mut *keeping) {
            change.blob_references(*blob, 1);
        }
        let heaps = heaps.into_iter().map(|heap| heap.freeze(keeping)).collect();
        let stable = stable.freeze(keeping);
        Snapshot { details, code, heaps, stable, chunks: BTreeMap::new(), unfinished: None }
    }
}

impl Snapshot {
    /// What it holds besides module and memories.
    pub fn details(&self) -> &SnapshotDetails {
        &self.details
    }

    /// How far its upload has come, if it is not yet to be seen.
    pub fn unfinished(&self) -> Option<&Unfinished> {
        self.unfinished.as_ref()
    }

    /// How many memories its module declares. More than one has no place in the IC's form.
    pub fn memory_count(&self) -> usize {
        self.heaps.len()
    }

    /// Bytes of a part.
    pub fn part_bytes(&self, part: SnapshotPart) -> u64 {
        match (part, &self.code) {
            (SnapshotPart::WasmModule, Code::InRam(module)) => module.bytes().len() as u64,
            (SnapshotPart::WasmModule, Code::Blob(_, bytes) | Code::Pieces(_, bytes)) => *bytes,
            (SnapshotPart::WasmMemory, _) => self.heaps.first().map_or(0, Image::bytes),
            (SnapshotPart::StableMemory, _) => self.stable.bytes(),
        }
    }

    /// Bytes of all that it holds, as the IC counts them.
    pub fn total_bytes(&self) -> u64 {
        let memories = self.heaps.iter().chain([&self.stable]).map(Image::bytes).sum::<u64>();
        // The IC's own count of a snapshot that was taken has its instruction counter among the globals.
        let counter = u64::from(self.details.source == SnapshotSource::TakenFromCanister);
        let globals = (self.details.globals.len() as u64 + counter) * GLOBAL_BYTES;
        // Each chunk takes the room of the largest.
        let chunks = self.chunks.len() as u64 * (1 << 20);
        let certified = self.details.certified_data.len() as u64;
        self.part_bytes(SnapshotPart::WasmModule) + memories + globals + chunks + certified
    }

    /// The module as installed.
    ///
    /// # Errors
    /// If the store fails.
    pub fn module(&self, store: Option<&Store>) -> Result<Cow<'_, [u8]>, Error> {
        match &self.code {
            Code::InRam(module) => Ok(Cow::Borrowed(module.bytes())),
            Code::Blob(blob, _) => stored_blob(store, *blob).map(Cow::Owned),
            Code::Pieces(image, bytes) => {
                let mut module = vec![0; usize::try_from(*bytes).expect("modules are small")];
                image.read(0, &mut module)?;
                Ok(Cow::Owned(module))
            }
        }
    }

    /// Copies bytes of a memory out, all of them inside its size.
    ///
    /// # Errors
    /// If the store fails.
    ///
    /// # Panics
    /// If they are not inside, or the part is the module.
    pub fn read(&self, part: SnapshotPart, at: u64, into: &mut [u8]) -> Result<(), Error> {
        match self.image(part) {
            Some(image) => image.read(at, into),
            None => {
                assert!(at == 0 && into.is_empty(), "there is nothing to read");
                Ok(())
            }
        }
    }

    /// The first byte of a memory from `at` on that may be other than zero; at most its size.
    ///
    /// # Errors
    /// If the store fails.
    pub fn next_data(&self, part: SnapshotPart, at: u64) -> Result<u64, Error> {
        self.image(part).map_or(Ok(0), |image| image.next_data(at))
    }

    fn image(&self, part: SnapshotPart) -> Option<&Image> {
        match part {
            SnapshotPart::WasmModule => panic!("a module is read as a whole"),
            SnapshotPart::WasmMemory => self.heaps.first(),
            SnapshotPart::StableMemory => Some(&self.stable),
        }
    }

    /// Hashes of the chunks of its chunk store, ascending.
    pub fn chunks(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.chunks.keys()
    }

    /// A chunk of its chunk store.
    ///
    /// # Errors
    /// If the store fails.
    pub fn chunk(&self, hash: &[u8; 32], store: Option<&Store>) -> Result<Option<Vec<u8>>, Error> {
        match self.chunks.get(hash) {
            None => Ok(None),
            Some(Some(bytes)) => Ok(Some(bytes.to_vec())),
            Some(None) => stored_blob(store, BlobId::new(*hash)).map(Some),
        }
    }

    /// Whether it can be loaded with its module, which was compiled; if not, why.
    ///
    /// # Errors
    /// A part of a sentence.
    pub fn fits(&self, module: &Module) -> Result<(), String> {
        let declared = module.manifest().memories.len();
        if self.heaps.len() != declared && !(declared == 0 && self.heaps.iter().all(|heap| heap.bytes() == 0))
        {
            return Err(format!("it has {} memories, and its module declares {declared}", self.heaps.len()));
        }
        globals::check(module, &self.details.globals)
    }

    /// Adds its record to a change. What is in RAM has none.
    pub fn put(&self, key: &[u8], change: &mut Change) {
        let id = |image: &Image| image.memory().expect("a snapshot in a store").id().get();
        let code = match &self.code {
            Code::Blob(blob, bytes) => CodeRecord::Blob(*blob.as_bytes(), *bytes),
            Code::Pieces(image, bytes) => CodeRecord::Pieces(id(image), *bytes),
            Code::InRam(_) => panic!("a snapshot in a store"),
        };
        let record = Record {
            details: self.details.clone(),
            code,
            heaps: self.heaps.iter().map(id).collect(),
            stable: id(&self.stable),
            chunks: self.chunks.keys().copied().collect(),
            unfinished: self.unfinished,
        };
        change.put(key, &encode(&record));
    }

    /// Adds to a change that the snapshot is gone.
    pub fn erase(&self, key: &[u8], change: &mut Change) {
        let mut images: Vec<&Image> = self.heaps.iter().chain([&self.stable]).collect();
        match &self.code {
            Code::Blob(blob, _) => change.blob_references(*blob, -1),
            Code::Pieces(image, _) => images.push(image),
            Code::InRam(_) => {}
        }
        for memory in images.into_iter().filter_map(Image::memory) {
            change.drop_memory(memory.clone());
        }
        for hash in self.chunks.keys() {
            change.blob_references(BlobId::new(*hash), -1);
        }
        change.delete(key);
    }

    /// Visits the snapshots of a store whose keys begin so, ascending, with the rest of each key.
    ///
    /// # Errors
    /// If the store fails, what it holds does not fit together, or `visit` fails.
    pub fn each(
        store: &Store,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        store
            .metadata_range(KeyRange::Prefix(prefix), &mut |key, value| {
                result = Self::load(store, value).and_then(|snapshot| visit(&key[prefix.len()..], snapshot));
                if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .map_err(Error::store)?;
        result
    }

    fn load(store: &Store, record: &[u8]) -> Result<Self, Error> {
        let record: Record = decode(record)?;
        let image = |id| Ok(Image::Stored(store.memory(MemoryId::new(id)).map_err(Error::store)?));
        Ok(Self {
            details: record.details,
            code: match record.code {
                CodeRecord::Blob(blob, bytes) => Code::Blob(BlobId::new(blob), bytes),
                CodeRecord::Pieces(id, bytes) => Code::Pieces(image(id)?, bytes),
            },
            heaps: record.heaps.into_iter().map(image).collect::<Result<_, Error>>()?,
            stable: image(record.stable)?,
            chunks: record.chunks.into_iter().map(|hash| (hash, None)).collect(),
            unfinished: record.unfinished,
        })
    }
}

fn stored_blob(store: Option<&Store>, blob: BlobId) -> Result<Vec<u8>, Error> {
    store.expect("a snapshot in a store is read with the store").blob(blob).map_err(Error::store)
}

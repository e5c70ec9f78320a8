//! Makes a snapshot of uploaded parts: sizes first, then the bytes in any order.
//!
//! Invariants:
//! - Sizes never change after the beginning, and keep the IC's limits; bytes that were not written are zero.

use std::sync::Arc;

use bedstone_instrument::abi::{STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES};
use bedstone_instrument::limits;
use bedstone_store::BlobId;
use sha2::{Digest, Sha256};

use crate::compile::Module;
use crate::error::Error;
use crate::globals::{self, GlobalValue};
use crate::image::{Image, Keeping};
use crate::snapshot::{Code, Snapshot, SnapshotDetails, SnapshotPart, Unfinished};
use crate::sys::PAGE;

/// What is known of a module at the beginning of an upload.
#[derive(Debug, Clone)]
pub enum UploadedModule {
    /// All of it.
    Whole(Arc<Module>),
    /// Its size; the bytes follow.
    Bytes(u64),
}

/// Sizes of the memories of a snapshot that is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotBytes {
    /// Of the heap; whole Wasm pages.
    pub wasm_memory: u64,
    /// Of stable memory; whole Wasm pages.
    pub stable_memory: u64,
}

impl SnapshotBytes {
    /// What is wrong with the sizes, if something is, in words that go on after a colon.
    pub fn fault(&self) -> Option<String> {
        let heap_max = limits::HEAP64_BYTES_MAX;
        let sizes = [
            ("Wasm memory", self.wasm_memory, heap_max),
            ("stable memory", self.stable_memory, STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES),
        ];
        sizes.into_iter().find_map(|(what, bytes, most)| {
            if !bytes.is_multiple_of(WASM_PAGE_BYTES) {
                Some(format!("{bytes} bytes of {what} are not whole Wasm pages of {WASM_PAGE_BYTES}"))
            } else if bytes > most {
                Some(format!("{bytes} bytes of {what} are more than the {most} that there can be"))
            } else {
                None
            }
        })
    }
}

impl SnapshotBytes {
    /// Whether a snapshot with these sizes and globals can be loaded with its module, which was compiled; if not, why.
    ///
    /// # Errors
    /// A part of a sentence.
    pub fn fit(&self, module: &Module, globals: &[GlobalValue]) -> Result<(), String> {
        if module.manifest().memories.is_empty() && self.wasm_memory > 0 {
            return Err(format!(
                "it has {} bytes of heap, and its module declares no memory",
                self.wasm_memory
            ));
        }
        globals::check(module, globals)
    }
}

impl Snapshot {
    /// Begins an upload. With `unfinished` it is one that is not to be seen until [`Snapshot::finish`].
    ///
    /// # Errors
    /// If this machine or the store fails.
    ///
    /// # Panics
    /// If the sizes are at fault, or do not fit a module that is known.
    pub fn upload(
        details: SnapshotDetails,
        module: UploadedModule,
        sizes: &SnapshotBytes,
        unfinished: Option<Unfinished>,
        keeping: &mut Keeping<'_>,
    ) -> Result<Self, Error> {
        assert_eq!(sizes.fault(), None, "sizes are checked first");
        let whole = |bytes: u64| bytes.next_multiple_of(PAGE as u64);
        // A module that is known tells whether there is a heap; one that is not has one.
        let heaps = match &module {
            UploadedModule::Whole(module) => module.manifest().memories.len(),
            UploadedModule::Bytes(_) => 1,
        };
        let code = match (module, &mut *keeping) {
            (UploadedModule::Whole(module), Keeping::InRam) => Code::InRam(module),
            (UploadedModule::Whole(module), Keeping::InStore { store, change }) => {
                let blob = store.put_blob(module.bytes()).map_err(Error::store)?;
                change.blob_references(blob, 1);
                Code::Blob(blob, module.bytes().len() as u64)
            }
            (UploadedModule::Bytes(bytes), keeping) => {
                Code::Pieces(Image::zeros(whole(bytes), whole(limits::MODULE_BYTES_MAX), keeping)?, bytes)
            }
        };
        let heap = |bytes, keeping: &mut Keeping<'_>| Image::zeros(bytes, limits::HEAP64_BYTES_MAX, keeping);
        let heaps = (0..heaps)
            .map(|index| heap(if index == 0 { sizes.wasm_memory } else { 0 }, keeping))
            .collect::<Result<_, _>>()?;
        let stable = Image::zeros(sizes.stable_memory, STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES, keeping)?;
        Ok(Self { details, code, heaps, stable, chunks: Default::default(), unfinished })
    }

    /// Whether so many bytes from `at` on lie inside a part, and the part can be written.
    pub fn takes(&self, part: SnapshotPart, at: u64, bytes: u64) -> bool {
        let writable = part != SnapshotPart::WasmModule || matches!(self.code, Code::Pieces(..));
        writable && at.checked_add(bytes).is_some_and(|end| end <= self.part_bytes(part))
    }

    /// Writes bytes that a part [takes](Snapshot::takes).
    ///
    /// # Errors
    /// If this machine or the store fails.
    pub fn write(
        &mut self,
        part: SnapshotPart,
        at: u64,
        bytes: &[u8],
        keeping: &mut Keeping<'_>,
    ) -> Result<(), Error> {
        assert!(self.takes(part, at, bytes.len() as u64), "checked by the caller");
        if bytes.is_empty() {
            return Ok(());
        }
        let image = match (part, &mut self.code) {
            (SnapshotPart::WasmModule, Code::Pieces(image, _)) => image,
            (SnapshotPart::WasmModule, _) => unreachable!("it takes no bytes"),
            (SnapshotPart::WasmMemory, _) => &mut self.heaps[0],
            (SnapshotPart::StableMemory, _) => &mut self.stable,
        };
        image.write(at, bytes, keeping)
    }

    /// Adds a chunk to its chunk store; its hash.
    ///
    /// # Errors
    /// If the store fails.
    pub fn add_chunk(&mut self, bytes: &[u8], keeping: &mut Keeping<'_>) -> Result<[u8; 32], Error> {
        let hash: [u8; 32] = Sha256::digest(bytes).into();
        if self.chunks.contains_key(&hash) {
            return Ok(hash);
        }
        let held = match keeping {
            Keeping::InRam => Some(Arc::from(bytes)),
            Keeping::InStore { store, change } => {
                store.put_blob(bytes).map_err(Error::store)?;
                change.blob_references(BlobId::new(hash), 1);
                None
            }
        };
        self.chunks.insert(hash, held);
        Ok(hash)
    }

    /// Remembers how much of an upload that is not to be seen is there.
    pub fn reached(&mut self, done: u64) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.done = done;
        }
    }

    /// Shows an upload as complete.
    pub fn finish(&mut self, taken_at_nanos: u64) {
        self.details.taken_at_nanos = taken_at_nanos;
        self.unfinished = None;
    }

    /// Hides it again, if it could not be shown.
    pub fn unfinish(&mut self, unfinished: Option<Unfinished>) {
        self.unfinished = unfinished;
    }
}

//! The IC's requests that read a snapshot piece by piece, and upload one.
//!
//! Invariants:
//! - Of an upload only bytes change after its beginning, and the chunk store.

use std::fmt;

use bedstone_engine::{
    Error, GlobalValue, Keeping, LowWasmMemoryHook, Principal, Snapshot, SnapshotBytes, SnapshotDetails,
    SnapshotPart, SnapshotSource, UploadedModule,
};

use crate::reject::Reject;
use crate::snapshot_id::SnapshotId;
use crate::snapshots::{RequestError, key, put_new};
use crate::subnet::Subnet;

/// Most bytes that one request reads.
pub const SNAPSHOT_SLICE_BYTES_MAX: u64 = 2_000_000;
/// Largest chunk of a chunk store.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Most chunks of a chunk store.
const CHUNKS_MAX: usize = 100;
const MODULE_BYTES_MAX: u64 = 100 << 20;
const GLOBALS_MAX: usize = 1000;
const CERTIFIED_DATA_BYTES_MAX: usize = 32;

/// What a snapshot holds besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// Where it comes from. Not read from an upload.
    pub source: SnapshotSource,
    /// When it was taken, in nanoseconds since 1970. Not read from an upload.
    pub taken_at_nanos: u64,
    /// Bytes of the module as installed.
    pub wasm_module_bytes: u64,
    /// In the IC's order; see [`SnapshotDetails::globals`].
    pub globals: Vec<GlobalValue>,
    /// Bytes of the heap, whole Wasm pages.
    pub wasm_memory_bytes: u64,
    /// Bytes of stable memory, whole Wasm pages.
    pub stable_memory_bytes: u64,
    /// Hashes of the chunks in its chunk store. Not read from an upload.
    pub wasm_chunks: Vec<[u8; 32]>,
    /// The canister's version. Not read from an upload.
    pub canister_version: u64,
    /// At most 32 bytes.
    pub certified_data: Vec<u8>,
    /// When the global timer fires, in nanoseconds; 0 = never; `None` = not said.
    pub global_timer: Option<u64>,
    /// `None` = not said.
    pub on_low_wasm_memory_hook: Option<LowWasmMemoryHook>,
}

/// Which bytes of a snapshot to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotData {
    /// Bytes of a part.
    Part {
        /// Which.
        part: SnapshotPart,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        size: u64,
    },
    /// A chunk of the chunk store, by its hash.
    WasmChunk([u8; 32]),
}

/// Where uploaded bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotTarget {
    /// Into a part, from `offset` on.
    Part {
        /// Which.
        part: SnapshotPart,
        /// The first byte.
        offset: u64,
    },
    /// Into the chunk store.
    WasmChunk,
}

impl Subnet {
    /// What a snapshot holds besides its bytes.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read_snapshot_metadata(
        &mut self,
        caller: Principal,
        canister: Principal,
        id: SnapshotId,
    ) -> Result<SnapshotMetadata, RequestError> {
        self.check_controller(caller, canister)?;
        Ok(metadata(self.find_snapshot(canister, id)?))
    }

    /// Bytes of a snapshot, at most [`SNAPSHOT_SLICE_BYTES_MAX`] of a part.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn read_snapshot_data(
        &mut self,
        caller: Principal,
        canister: Principal,
        id: SnapshotId,
        data: SnapshotData,
    ) -> Result<Vec<u8>, RequestError> {
        self.check_controller(caller, canister)?;
        let snapshot = self.find_snapshot(canister, id)?;
        let store = self.store.as_ref();
        match data {
            SnapshotData::WasmChunk(hash) => snapshot
                .chunk(&hash, store)?
                .ok_or_else(|| chunk_store(format!("WasmChunkHash {hash:02x?} not found")).into()),
            SnapshotData::Part { size, .. } if size > SNAPSHOT_SLICE_BYTES_MAX => {
                let text = format!("Requested slice too large: {size} > {SNAPSHOT_SLICE_BYTES_MAX}");
                Err(Reject::new(408, text).into())
            }
            SnapshotData::Part { part, offset, size } => {
                if offset.checked_add(size).is_none_or(|end| end > snapshot.part_bytes(part)) {
                    return Err(invalid_slice(offset, size).into());
                }
                let bytes = usize::try_from(size).expect("a slice is small");
                if part == SnapshotPart::WasmModule {
                    let module = snapshot.module(store)?;
                    let start = usize::try_from(offset).expect("modules are small");
                    return Ok(module[start..start + bytes].to_vec());
                }
                let mut slice = vec![0; bytes];
                snapshot.read(part, offset, &mut slice)?;
                Ok(slice)
            }
        }
    }

    /// Makes a snapshot of a canister that holds zeros, to be filled by [`Subnet::upload_snapshot_data`].
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn upload_snapshot_metadata(
        &mut self,
        caller: Principal,
        canister: Principal,
        metadata: &SnapshotMetadata,
        replace: Option<SnapshotId>,
    ) -> Result<SnapshotId, RequestError> {
        self.check_controller(caller, canister)?;
        if let Some(fault) = metadata.fault() {
            return Err(Reject::new(408, format!("Snapshot Metadata contains invalid data: {fault}")).into());
        }
        self.check_room_for_snapshot(canister, replace)?;
        self.settle(canister)?;
        let id = self.snapshots.next_id(canister);
        let details = self.uploaded_details(canister, metadata)?;
        let module = UploadedModule::Bytes(metadata.wasm_module_bytes);
        let snapshot = self.with_change(|subnet, keeping| {
            let snapshot = Snapshot::upload(details, module, &metadata.sizes(), None, keeping)?;
            put_new(id, &snapshot, keeping);
            subnet.erase_snapshot(replace, keeping);
            Ok(snapshot)
        })?;
        self.snapshots.add(id, snapshot);
        self.forget_snapshot(replace);
        Ok(id)
    }

    /// The details of a snapshot that is uploaded now.
    pub(crate) fn uploaded_details(
        &mut self,
        canister: Principal,
        metadata: &SnapshotMetadata,
    ) -> Result<SnapshotDetails, Error> {
        let taken_at_nanos = self.time_nanos;
        let canister_version = self.status(canister)?.map_or(0, |status| status.version);
        Ok(SnapshotDetails {
            source: SnapshotSource::MetadataUpload,
            taken_at_nanos,
            canister_version,
            certified_data: metadata.certified_data.clone(),
            global_timer: metadata.global_timer,
            on_low_wasm_memory_hook: metadata.on_low_wasm_memory_hook,
            globals: metadata.globals.clone(),
        })
    }

    /// Writes bytes of a snapshot that was uploaded.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn upload_snapshot_data(
        &mut self,
        caller: Principal,
        canister: Principal,
        id: SnapshotId,
        target: SnapshotTarget,
        bytes: &[u8],
    ) -> Result<(), RequestError> {
        self.check_controller(caller, canister)?;
        let snapshot = self.find_snapshot(canister, id)?;
        if snapshot.details().source != SnapshotSource::MetadataUpload {
            let text = "Only canister snapshots created by metadata upload can be mutated.";
            return Err(Reject::new(409, text).into());
        }
        match target {
            SnapshotTarget::Part { part, offset } if !snapshot.takes(part, offset, bytes.len() as u64) => {
                return Err(invalid_slice(offset, bytes.len() as u64).into());
            }
            SnapshotTarget::WasmChunk if bytes.len() > CHUNK_BYTES_MAX => {
                let text = format!(
                    "Wasm chunk size {} exceeds the maximum chunk size of {CHUNK_BYTES_MAX}",
                    bytes.len()
                );
                return Err(chunk_store(text).into());
            }
            SnapshotTarget::WasmChunk if snapshot.chunks().count() >= CHUNKS_MAX => {
                let text =
                    format!("Wasm chunk store has already reached maximum capacity of {CHUNKS_MAX} chunks");
                return Err(chunk_store(text).into());
            }
            _ => {}
        }
        self.write_snapshot(id, |snapshot, keeping| match target {
            SnapshotTarget::Part { part, offset } => snapshot.write(part, offset, bytes, keeping),
            SnapshotTarget::WasmChunk => snapshot.add_chunk(bytes, keeping).map(drop),
        })
    }

    /// Changes a snapshot that is there, and its record.
    pub(crate) fn write_snapshot(
        &mut self,
        id: SnapshotId,
        write: impl FnOnce(&mut Snapshot, &mut Keeping<'_>) -> Result<(), Error>,
    ) -> Result<(), RequestError> {
        let mut snapshot = self.snapshots.all.remove(&id).expect("the caller found it");
        let written = self.with_change(|_, keeping| {
            write(&mut snapshot, keeping)?;
            if let Keeping::InStore { change, .. } = keeping {
                snapshot.put(&key(id), change);
            }
            Ok(())
        });
        self.snapshots.all.insert(id, snapshot);
        written
    }
}

impl SnapshotMetadata {
    pub(crate) fn sizes(&self) -> SnapshotBytes {
        SnapshotBytes { wasm_memory: self.wasm_memory_bytes, stable_memory: self.stable_memory_bytes }
    }

    /// What is wrong with it, whatever the module is, if something is.
    pub fn fault(&self) -> Option<String> {
        if self.wasm_module_bytes == 0 {
            return Some("the module is empty".to_owned());
        }
        if self.wasm_module_bytes > MODULE_BYTES_MAX {
            let bytes = self.wasm_module_bytes;
            return Some(format!(
                "{bytes} bytes of module are more than the {MODULE_BYTES_MAX} that there can be"
            ));
        }
        // One more than a module may have: the IC's instruction counter.
        if self.globals.len() > GLOBALS_MAX + 1 {
            return Some(format!(
                "{} globals are more than the {GLOBALS_MAX} that there can be",
                self.globals.len()
            ));
        }
        if self.certified_data.len() > CERTIFIED_DATA_BYTES_MAX {
            let bytes = self.certified_data.len();
            return Some(format!(
                "{bytes} bytes of certified data are more than the {CERTIFIED_DATA_BYTES_MAX} that there can be"
            ));
        }
        self.sizes().fault()
    }
}

pub(crate) fn metadata(snapshot: &Snapshot) -> SnapshotMetadata {
    let details = snapshot.details();
    SnapshotMetadata {
        source: details.source,
        taken_at_nanos: details.taken_at_nanos,
        wasm_module_bytes: snapshot.part_bytes(SnapshotPart::WasmModule),
        globals: details.globals.clone(),
        wasm_memory_bytes: snapshot.part_bytes(SnapshotPart::WasmMemory),
        stable_memory_bytes: snapshot.part_bytes(SnapshotPart::StableMemory),
        wasm_chunks: snapshot.chunks().copied().collect(),
        canister_version: details.canister_version,
        certified_data: details.certified_data.clone(),
        global_timer: details.global_timer,
        on_low_wasm_memory_hook: details.on_low_wasm_memory_hook,
    }
}

fn invalid_slice(offset: u64, size: u64) -> Reject {
    let what = "Invalid subslice into wasm module / main memory / stable memory";
    Reject::new(408, format!("{what}: offset: {offset}, size: {size}"))
}

fn chunk_store(text: impl fmt::Display) -> Reject {
    Reject::new(504, format!("Error from Wasm chunk store: {text}."))
}

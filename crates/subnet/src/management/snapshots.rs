//! Snapshots: taking, loading, listing, deleting, reading and uploading them. What each does is in the subnet's modules of
//! that name; here are their Candid and their place in the history.
//!
//! Invariants:
//! - A snapshot is made or changed before its request is answered, in a change of the store of its own: whoever opens a store
//!   in which the answer is missing does the request once more.

use bedstone_engine::{GlobalValue, LowWasmMemoryHook, SnapshotPart, SnapshotSource};
use candid::{Nat, Reserved};
use ic_management_canister_types as ic;

use super::codec::{bad_candid, encode, to_u128};
use super::{Happening, ManagementCall, Reply};
use crate::lifecycle::EMPTY_REPLY;
use crate::reject::{Failure, Reject};
use crate::snapshot_id::SnapshotId;
use crate::snapshot_requests::SnapshotInfo;
use crate::snapshot_transfer::{SnapshotData, SnapshotMetadata, SnapshotTarget};
use crate::snapshots::RequestError;
use crate::subnet::Subnet;

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Rejected(reject) => Self::Reject(reject),
            RequestError::Failed(error) => Self::Error(error),
        }
    }
}

impl Subnet {
    pub(super) fn manage_snapshot_taking(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ic::TakeCanisterSnapshotArgs = call.decode()?;
        let (id, version) = (args.canister_id, args.sender_canister_version);
        self.check_version(call, version)?;
        let replace = args.replace_snapshot.as_deref().map(snapshot_id).transpose()?;
        let info = self.take_snapshot(call.caller, id, replace)?;
        if args.uninstall_code == Some(true) {
            call.changed = Some(id);
            let actor = call.actor(version);
            self.uninstall_code(id, actor, &mut call.journal)?;
        }
        Ok(encode(told(&info)))
    }

    pub(super) fn manage_snapshot_loading(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ic::LoadCanisterSnapshotArgs = call.decode()?;
        let (canister, version) = (args.canister_id, args.sender_canister_version);
        self.check_version(call, version)?;
        let id = snapshot_id(&args.snapshot_id)?;
        self.load_snapshot(call.caller, canister, id)?;
        let details = self.snapshots.all[&id].details();
        let happening = Happening::SnapshotLoaded {
            id: args.snapshot_id,
            from: (id.canister != canister).then_some(id.canister),
            version: details.canister_version,
            taken_at_nanos: details.taken_at_nanos,
            uploaded: details.source == SnapshotSource::MetadataUpload,
        };
        let actor = call.actor(version);
        self.existing(canister)?;
        self.note(canister, actor, happening, &mut call.journal);
        Ok(EMPTY_REPLY.to_vec())
    }

    pub(super) fn manage_snapshot_list(&mut self, call: &mut ManagementCall) -> Reply {
        let ic::CanisterIdRecord { canister_id } = call.decode()?;
        let list = self.list_snapshots(call.caller, canister_id)?;
        Ok(encode(list.iter().map(told).collect::<Vec<ic::Snapshot>>()))
    }

    pub(super) fn manage_snapshot_deletion(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ic::DeleteCanisterSnapshotArgs = call.decode()?;
        self.delete_snapshot(call.caller, args.canister_id, snapshot_id(&args.snapshot_id)?)?;
        Ok(EMPTY_REPLY.to_vec())
    }

    pub(super) fn manage_snapshot_metadata(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ic::ReadCanisterSnapshotMetadataArgs = call.decode()?;
        let id = snapshot_id(&args.snapshot_id)?;
        let metadata = self.read_snapshot_metadata(call.caller, args.canister_id, id)?;
        Ok(encode(ic::ReadCanisterSnapshotMetadataResult {
            source: Some(source(metadata.source == SnapshotSource::MetadataUpload)),
            taken_at_timestamp: metadata.taken_at_nanos,
            wasm_module_size: metadata.wasm_module_bytes,
            globals: metadata.globals.iter().map(|value| Some(told_global(*value))).collect(),
            wasm_memory_size: metadata.wasm_memory_bytes,
            stable_memory_size: metadata.stable_memory_bytes,
            wasm_chunk_store: (metadata.wasm_chunks.iter())
                .map(|hash| ic::ChunkHash { hash: hash.to_vec() })
                .collect(),
            canister_version: metadata.canister_version,
            certified_data: metadata.certified_data,
            global_timer: metadata.global_timer.map(|at| match at {
                0 => ic::CanisterTimer::Inactive,
                at => ic::CanisterTimer::Active(at),
            }),
            on_low_wasm_memory_hook_status: metadata.on_low_wasm_memory_hook.map(|hook| match hook {
                LowWasmMemoryHook::ConditionNotSatisfied => {
                    ic::OnLowWasmMemoryHookStatus::ConditionNotSatisfied
                }
                LowWasmMemoryHook::Ready => ic::OnLowWasmMemoryHookStatus::Ready,
                LowWasmMemoryHook::Executed => ic::OnLowWasmMemoryHookStatus::Executed,
            }),
        }))
    }

    pub(super) fn manage_snapshot_reading(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ic::ReadCanisterSnapshotDataArgs = call.decode()?;
        let part = |part, offset, size| SnapshotData::Part { part, offset, size };
        let data = match args.kind {
            ic::SnapshotDataKind::WasmModule { offset, size } => part(SnapshotPart::WasmModule, offset, size),
            ic::SnapshotDataKind::WasmMemory { offset, size } => part(SnapshotPart::WasmMemory, offset, size),
            ic::SnapshotDataKind::StableMemory { offset, size } => {
                part(SnapshotPart::StableMemory, offset, size)
            }
            ic::SnapshotDataKind::WasmChunk { hash } => {
                let hash = hash.as_slice().try_into();
                SnapshotData::WasmChunk(hash.map_err(|_| bad_candid("a chunk's hash has 32 bytes"))?)
            }
        };
        let id = snapshot_id(&args.snapshot_id)?;
        let chunk = self.read_snapshot_data(call.caller, args.canister_id, id, data)?;
        Ok(encode(ic::ReadCanisterSnapshotDataResult { chunk }))
    }

    pub(super) fn manage_snapshot_metadata_upload(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ic::UploadCanisterSnapshotMetadataArgs = call.decode()?;
        let replace = args.replace_snapshot.as_deref().map(snapshot_id).transpose()?;
        let metadata = SnapshotMetadata {
            source: SnapshotSource::MetadataUpload,
            taken_at_nanos: 0,
            wasm_module_bytes: args.wasm_module_size,
            globals: args.globals.iter().map(global).collect::<Result<_, _>>()?,
            wasm_memory_bytes: args.wasm_memory_size,
            stable_memory_bytes: args.stable_memory_size,
            wasm_chunks: Vec::new(),
            canister_version: 0,
            certified_data: args.certified_data,
            global_timer: args.global_timer.map(|timer| match timer {
                ic::CanisterTimer::Inactive => 0,
                ic::CanisterTimer::Active(at) => at,
            }),
            on_low_wasm_memory_hook: args.on_low_wasm_memory_hook_status.map(|hook| match hook {
                ic::OnLowWasmMemoryHookStatus::ConditionNotSatisfied => {
                    LowWasmMemoryHook::ConditionNotSatisfied
                }
                ic::OnLowWasmMemoryHookStatus::Ready => LowWasmMemoryHook::Ready,
                ic::OnLowWasmMemoryHookStatus::Executed => LowWasmMemoryHook::Executed,
            }),
        };
        let id = self.upload_snapshot_metadata(call.caller, args.canister_id, &metadata, replace)?;
        Ok(encode(ic::UploadCanisterSnapshotMetadataResult { snapshot_id: id.to_bytes() }))
    }

    pub(super) fn manage_snapshot_upload(&mut self, call: &mut ManagementCall) -> Reply {
        let args: ic::UploadCanisterSnapshotDataArgs = call.decode()?;
        let part = |part, offset| SnapshotTarget::Part { part, offset };
        let target = match args.kind {
            ic::SnapshotDataOffset::WasmModule { offset } => part(SnapshotPart::WasmModule, offset),
            ic::SnapshotDataOffset::WasmMemory { offset } => part(SnapshotPart::WasmMemory, offset),
            ic::SnapshotDataOffset::StableMemory { offset } => part(SnapshotPart::StableMemory, offset),
            ic::SnapshotDataOffset::WasmChunk => SnapshotTarget::WasmChunk,
        };
        let id = snapshot_id(&args.snapshot_id)?;
        self.upload_snapshot_data(call.caller, args.canister_id, id, target, &args.chunk)?;
        Ok(EMPTY_REPLY.to_vec())
    }
}

fn snapshot_id(bytes: &[u8]) -> Result<SnapshotId, Reject> {
    SnapshotId::from_bytes(bytes).ok_or_else(|| bad_candid("these bytes are not a snapshot's id"))
}

fn told(info: &SnapshotInfo) -> ic::Snapshot {
    ic::Snapshot {
        id: info.id.to_bytes(),
        taken_at_timestamp: info.taken_at_nanos,
        total_size: info.total_bytes,
    }
}

/// Where a snapshot comes from.
pub(super) fn source(uploaded: bool) -> ic::SnapshotSource {
    if uploaded {
        ic::SnapshotSource::MetadataUpload(Reserved)
    } else {
        ic::SnapshotSource::TakenFromCanister(Reserved)
    }
}

fn told_global(value: GlobalValue) -> ic::SnapshotMetadataGlobal {
    match value {
        GlobalValue::I32(value) => ic::SnapshotMetadataGlobal::I32(value),
        GlobalValue::I64(value) => ic::SnapshotMetadataGlobal::I64(value),
        GlobalValue::F32(bits) => ic::SnapshotMetadataGlobal::F32(f32::from_bits(bits)),
        GlobalValue::F64(bits) => ic::SnapshotMetadataGlobal::F64(f64::from_bits(bits)),
        GlobalValue::V128(bits) => ic::SnapshotMetadataGlobal::V128(Nat::from(bits)),
    }
}

fn global(value: &ic::SnapshotMetadataGlobal) -> Result<GlobalValue, Reject> {
    Ok(match value {
        ic::SnapshotMetadataGlobal::I32(value) => GlobalValue::I32(*value),
        ic::SnapshotMetadataGlobal::I64(value) => GlobalValue::I64(*value),
        ic::SnapshotMetadataGlobal::F32(value) => GlobalValue::F32(value.to_bits()),
        ic::SnapshotMetadataGlobal::F64(value) => GlobalValue::F64(value.to_bits()),
        ic::SnapshotMetadataGlobal::V128(value) => {
            GlobalValue::V128(to_u128(value).ok_or_else(|| bad_candid("a v128 has 128 bits"))?)
        }
    })
}

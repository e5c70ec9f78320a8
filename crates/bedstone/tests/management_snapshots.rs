//! Snapshots, by the management canister: a canister goes back to one, and one is carried to another canister.

use bedstone::{CallKind, Network, Principal};
use candid::Nat;
use ic_management_canister_types::*;

use crate::management::*;

fn count(network: &Network, id: Principal) -> Vec<u8> {
    call(network, id, "count", CallKind::Query).unwrap()
}

fn take(network: &Network, canister_id: Principal, uninstall: bool) -> Snapshot {
    let args = TakeCanisterSnapshotArgs {
        canister_id,
        replace_snapshot: None,
        uninstall_code: Some(uninstall),
        sender_canister_version: None,
    };
    decoded(&manage(network, ANYBODY, "take_canister_snapshot", args).unwrap())
}

fn load(network: &Network, canister_id: Principal, snapshot_id: Vec<u8>) {
    let args = LoadCanisterSnapshotArgs { canister_id, snapshot_id, sender_canister_version: None };
    manage(network, ANYBODY, "load_canister_snapshot", args).unwrap();
}

fn list(network: &Network, id: Principal) -> Vec<Snapshot> {
    decoded(&manage(network, ANYBODY, "list_canister_snapshots", of(id)).unwrap())
}

#[test]
fn a_canister_goes_back_to_a_snapshot() {
    let network = Network::new().unwrap();
    let id = install(&network, COUNTER);
    call(&network, id, "add", CallKind::Update).unwrap();
    let snapshot = take(&network, id, true);
    assert_eq!(status(&network, id).module_hash, None);
    load(&network, id, snapshot.id.clone());
    assert_eq!(count(&network, id), b"1");
    call(&network, id, "add", CallKind::Update).unwrap();
    load(&network, id, snapshot.id.clone());
    assert_eq!(count(&network, id), b"1");
    assert_eq!(list(&network, id), std::slice::from_ref(&snapshot));
    assert_eq!(status(&network, id).memory_metrics.snapshots_size, Nat::from(snapshot.total_size));
    let delete = || {
        let args = DeleteCanisterSnapshotArgs { canister_id: id, snapshot_id: snapshot.id.clone() };
        manage(&network, ANYBODY, "delete_canister_snapshot", args)
    };
    delete().unwrap();
    assert_eq!(delete().unwrap_err().error_code, 305);
    assert_eq!(list(&network, id), []);
    let reject = manage(&network, user(1), "list_canister_snapshots", of(id)).unwrap_err();
    assert_eq!(reject.error_code, 512);
}

#[test]
fn a_snapshot_is_read_and_uploaded_elsewhere() {
    let (network, elsewhere) = (Network::new().unwrap(), Network::new().unwrap());
    let (from, to) = (install(&network, COUNTER), create(&elsewhere));
    call(&network, from, "add", CallKind::Update).unwrap();
    let snapshot_id = take(&network, from, false).id;
    let args = ReadCanisterSnapshotMetadataArgs { canister_id: from, snapshot_id: snapshot_id.clone() };
    let reply = manage(&network, ANYBODY, "read_canister_snapshot_metadata", args).unwrap();
    let metadata: ReadCanisterSnapshotMetadataResult = decoded(&reply);
    let read = |kind| {
        let args = ReadCanisterSnapshotDataArgs { canister_id: from, snapshot_id: snapshot_id.clone(), kind };
        let reply = manage(&network, ANYBODY, "read_canister_snapshot_data", args).unwrap();
        decoded::<ReadCanisterSnapshotDataResult>(&reply).chunk
    };
    let module = read(SnapshotDataKind::WasmModule { offset: 0, size: metadata.wasm_module_size });
    assert_eq!(module, wasm(COUNTER));
    let heap = read(SnapshotDataKind::WasmMemory { offset: 0, size: metadata.wasm_memory_size });
    let stable = read(SnapshotDataKind::StableMemory { offset: 0, size: metadata.stable_memory_size });

    let args = UploadCanisterSnapshotMetadataArgs {
        canister_id: to,
        replace_snapshot: None,
        wasm_module_size: metadata.wasm_module_size,
        globals: metadata.globals.into_iter().map(Option::unwrap).collect(),
        wasm_memory_size: metadata.wasm_memory_size,
        stable_memory_size: metadata.stable_memory_size,
        certified_data: metadata.certified_data,
        global_timer: metadata.global_timer,
        on_low_wasm_memory_hook_status: metadata.on_low_wasm_memory_hook_status,
    };
    let reply = manage(&elsewhere, ANYBODY, "upload_canister_snapshot_metadata", args).unwrap();
    let id = decoded::<UploadCanisterSnapshotMetadataResult>(&reply).snapshot_id;
    for (kind, chunk) in [
        (SnapshotDataOffset::WasmModule { offset: 0 }, module),
        (SnapshotDataOffset::WasmMemory { offset: 0 }, heap),
        (SnapshotDataOffset::StableMemory { offset: 0 }, stable),
    ] {
        let args = UploadCanisterSnapshotDataArgs { canister_id: to, snapshot_id: id.clone(), kind, chunk };
        manage(&elsewhere, ANYBODY, "upload_canister_snapshot_data", args).unwrap();
    }
    load(&elsewhere, to, id);
    assert_eq!(count(&elsewhere, to), b"1");
    assert_eq!(call(&elsewhere, to, "add", CallKind::Update).unwrap(), b"2");
}

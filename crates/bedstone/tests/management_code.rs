//! Code, by the management canister: installed, reinstalled, upgraded, whole and from chunks.

use bedstone::{CallKind, Network};
use candid::Nat;
use ic_management_canister_types::*;

use crate::management::*;

#[test]
fn code_is_installed_reinstalled_and_upgraded() {
    let network = Network::new().unwrap();
    let id = create(&network);
    let install = |mode| {
        let arg = candid_bytes(install_args(id, COUNTER, mode));
        raw(&network, ANYBODY, "install_code", arg, CallKind::Update)
    };
    let upgrade = CanisterInstallMode::Upgrade(None);
    refused(install(upgrade).reply, 537, "no Wasm module");
    let receipt = install(CanisterInstallMode::Install);
    assert_eq!(receipt.reply.unwrap(), b"DIDL\0\0");
    assert!(receipt.instructions > 0 && receipt.stable_pages_dirtied == 0, "{}", receipt.instructions);
    assert_eq!(call(&network, id, "add", CallKind::Update).unwrap(), b"1");
    refused(install(CanisterInstallMode::Install).reply, 514, "is not empty");
    install(upgrade).reply.unwrap();
    assert_eq!(call(&network, id, "count", CallKind::Query).unwrap(), b"1");
    install(CanisterInstallMode::Reinstall).reply.unwrap();
    assert_eq!(call(&network, id, "count", CallKind::Query).unwrap(), b"0");
    let status = status(&network, id);
    assert_eq!(status.module_hash.unwrap(), sha256(&wasm(COUNTER)));
    assert_eq!(status.memory_metrics.stable_memory_size, Nat::from(65_536_u32));
    assert!(status.memory_size > 131_072_u32);
}

#[test]
fn an_upgrade_has_options() {
    let network = Network::new().unwrap();
    let traps = r#"(module (func (export "canister_pre_upgrade") unreachable))"#;
    let id = install(&network, traps);
    let upgrade = |skip, keep| {
        let flags = UpgradeFlags { skip_pre_upgrade: skip, wasm_memory_persistence: keep };
        let mode = CanisterInstallMode::Upgrade(Some(flags));
        raw(&network, ANYBODY, "install_code", candid_bytes(install_args(id, traps, mode)), CallKind::Update)
    };
    let failed = upgrade(None, None);
    assert!(failed.log.iter().any(|line| line.contains("[TRAP]")), "{:?}", failed.log);
    refused(failed.reply, 502, "Canister trapped: unreachable");
    refused(upgrade(Some(true), Some(WasmMemoryPersistence::Keep)).reply, 504, "Invalid upgrade option");
    upgrade(Some(true), Some(WasmMemoryPersistence::Replace)).reply.unwrap();
}

#[test]
fn a_bad_module_is_refused() {
    let network = Network::new().unwrap();
    let id = create(&network);
    let mut args = install_args(id, COUNTER, CanisterInstallMode::Install);
    args.wasm_module = b"\0asm nonsense".to_vec();
    refused(manage(&network, ANYBODY, "install_code", args), 505, "Wasm module is not valid");
    assert_eq!(status(&network, id).module_hash, None);
}

#[test]
fn code_is_installed_from_chunks() {
    let network = Network::new().unwrap();
    let (store, target) = (create(&network), create(&network));
    let list = upload(&network, store, &wasm(COUNTER), 100);
    assert!(list.len() > 3);
    assert_eq!(list[0].hash, sha256(&wasm(COUNTER)[..100]));
    // Once more is the same.
    assert_eq!(upload(&network, store, &wasm(COUNTER), 100), list);
    let stored: Vec<ChunkHash> = decoded(&manage(&network, ANYBODY, "stored_chunks", of(store)).unwrap());
    let mut sorted = list.clone();
    sorted.sort();
    assert_eq!(stored, sorted);
    assert_eq!(status(&network, store).memory_metrics.wasm_chunk_store_size, Nat::from(list.len() << 20));
    let install = |args| manage(&network, ANYBODY, "install_chunked_code", args);
    refused(install(chunked(target, None, list.clone())), 504, "Chunk hash");
    let mut short = list.clone();
    short.pop();
    refused(install(chunked(target, Some(store), short)), 504, "does not match given hash");
    install(chunked(target, Some(store), list.clone())).unwrap();
    assert_eq!(call(&network, target, "add", CallKind::Update).unwrap(), b"1");
    manage(&network, ANYBODY, "clear_chunk_store", of(store)).unwrap();
    let stored: Vec<ChunkHash> = decoded(&manage(&network, ANYBODY, "stored_chunks", of(store)).unwrap());
    assert_eq!(stored, []);
    refused(install(chunked(create(&network), Some(store), list)), 504, "was not found");
}

#[test]
fn a_chunk_store_has_limits() {
    let network = Network::new().unwrap();
    let id = create(&network);
    let put = |chunk: Vec<u8>| {
        manage(&network, ANYBODY, "upload_chunk", UploadChunkArgs { canister_id: id, chunk })
    };
    put(vec![0; 1 << 20]).unwrap();
    refused(
        put(vec![0; (1 << 20) + 1]),
        504,
        "Wasm chunk size 1048577 exceeds the maximum chunk size of 1048576",
    );
    for number in 1..100_u8 {
        put(vec![number]).unwrap();
    }
    refused(put(vec![100]), 504, "maximum capacity of 104857600 bytes");
    put(vec![99]).unwrap();
}

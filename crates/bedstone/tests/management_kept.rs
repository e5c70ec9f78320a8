//! What was managed, in a state directory: there when it is opened again.

use std::path::PathBuf;

use bedstone::{CallKind, Network, Principal};
use ic_management_canister_types::*;

use crate::management::*;
use crate::management_calls::*;

/// A directory that is removed at the end.
struct Room(PathBuf);

impl Room {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("bedstone-management-{}-{name}", std::process::id())))
    }

    fn open(&self) -> Network {
        Network::builder().state_dir(&self.0).build().unwrap()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn raw_rand(network: &Network, by: Principal) -> Vec<u8> {
    let arg = errand(Principal::management_canister(), "raw_rand", 0, b"DIDL\0\0");
    decoded(&send(network, by, arg).unwrap().1.unwrap())
}

/// Settings, chunks, history, randomness, requests that wait: all is there when the directory is opened again.
#[test]
fn a_state_directory_keeps_what_was_managed() {
    let room = Room::new("keeps");
    let network = room.open();
    let [by, x] = [(); 2].map(|()| forwarder(&network));
    let (kept, emptied) = (install(&network, COUNTER), install(&network, COUNTER));
    let settings = CanisterSettings {
        controllers: Some(vec![ANYBODY, by]),
        log_visibility: Some(LogVisibility::Public),
        ..CanisterSettings::default()
    };
    for id in [kept, x] {
        let args =
            UpdateSettingsArgs { canister_id: id, settings: settings.clone(), sender_canister_version: None };
        manage(&network, ANYBODY, "update_settings", args).unwrap();
    }
    let list = upload(&network, kept, &wasm(COUNTER), 300);
    let shared = upload(&network, x, &wasm(COUNTER), 300);
    assert_eq!(list, shared);
    manage(&network, ANYBODY, "clear_chunk_store", of(x)).unwrap();
    let args = UninstallCodeArgs { canister_id: emptied, sender_canister_version: None };
    manage(&network, ANYBODY, "uninstall_code", args).unwrap();
    let first = raw_rand(&network, by);
    leave_open(&network, x);
    assert_eq!(manage_by(&network, by, "stop_canister", 0, of(x)), None);
    let statuses = [kept, emptied, x].map(|id| status(&network, id));
    network.close().unwrap();

    let network = room.open();
    assert_eq!([kept, emptied, x].map(|id| status(&network, id)), statuses);
    let fresh = create(&network);
    manage(&network, ANYBODY, "install_chunked_code", chunked(fresh, Some(kept), list)).unwrap();
    assert_eq!(call(&network, fresh, "add", CallKind::Update).unwrap(), b"1");
    manage(&network, ANYBODY, "install_code", install_args(emptied, COUNTER, CanisterInstallMode::Install))
        .unwrap();
    assert_eq!(call(&network, emptied, "add", CallKind::Update).unwrap(), b"1");
    // The request to stop waits again, and is cancelled.
    manage(&network, ANYBODY, "start_canister", of(x)).unwrap();
    assert_eq!(last(&network, by).unwrap_err().0, 5);
    assert_ne!(raw_rand(&network, by), first);
    let args = CanisterInfoArgs { canister_id: kept, num_requested_changes: Some(9) };
    let info: CanisterInfoResult =
        decoded(&manage_by(&network, by, "canister_info", 0, args).unwrap().1.unwrap());
    assert_eq!((info.total_num_changes, info.recent_changes.len()), (3, 3));
}

/// A store that is saved on request has the same after a save, waiting requests among it.
#[test]
fn a_saved_state_directory_keeps_what_was_managed() {
    let room = Room::new("saves");
    let open =
        || Network::builder().state_dir(&room.0).durability(bedstone::Durability::Off).build().unwrap();
    let network = open();
    let [by, x] = [(); 2].map(|()| forwarder(&network));
    let settings = CanisterSettings { controllers: Some(vec![ANYBODY, by]), ..CanisterSettings::default() };
    let args = UpdateSettingsArgs { canister_id: x, settings, sender_canister_version: None };
    manage(&network, ANYBODY, "update_settings", args).unwrap();
    let list = upload(&network, x, &wasm(COUNTER), 300);
    let gone = create(&network);
    upload(&network, gone, &wasm(COUNTER), 300);
    network.save().unwrap();
    manage(&network, ANYBODY, "stop_canister", of(gone)).unwrap();
    manage(&network, ANYBODY, "delete_canister", of(gone)).unwrap();
    leave_open(&network, x);
    assert_eq!(manage_by(&network, by, "stop_canister", 0, of(x)), None);
    let before = status(&network, x);
    network.save().unwrap();
    network.close().unwrap();

    let network = open();
    assert_eq!(status(&network, x), before);
    assert_eq!(network.status(gone).unwrap(), None);
    let fresh = create(&network);
    manage(&network, ANYBODY, "install_chunked_code", chunked(fresh, Some(x), list)).unwrap();
    manage(&network, ANYBODY, "start_canister", of(x)).unwrap();
    assert_eq!(last(&network, by).unwrap_err().0, 5);
}

/// A copy goes on from where the network was: same randomness, chunks, history, requests that wait.
#[test]
fn a_copy_has_what_was_managed() {
    let network = Network::new().unwrap();
    let [by, x] = [(); 2].map(|()| forwarder(&network));
    let settings = CanisterSettings { controllers: Some(vec![ANYBODY, by]), ..CanisterSettings::default() };
    let args = UpdateSettingsArgs { canister_id: x, settings, sender_canister_version: None };
    manage(&network, ANYBODY, "update_settings", args).unwrap();
    let list = upload(&network, x, &wasm(COUNTER), 300);
    leave_open(&network, x);
    assert_eq!(manage_by(&network, by, "stop_canister", 0, of(x)), None);
    let copy = network.fork().unwrap();
    assert_eq!(copy.state_hash().unwrap(), network.state_hash().unwrap());
    assert_eq!(raw_rand(&copy, by), raw_rand(&network, by));
    assert_eq!(status(&copy, x), status(&network, x));
    let fresh = create(&copy);
    manage(&copy, ANYBODY, "install_chunked_code", chunked(fresh, Some(x), list)).unwrap();
    manage(&copy, ANYBODY, "start_canister", of(x)).unwrap();
    assert_eq!(last(&copy, by).unwrap_err().0, 5);
    assert_eq!(status(&network, x).status, CanisterStatusType::Stopping);
    assert_ne!(copy.state_hash().unwrap(), network.state_hash().unwrap());
}

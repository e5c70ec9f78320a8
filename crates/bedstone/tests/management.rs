//! The management canister, called from outside: every method's good path and its refusals.

use bedstone::{Call, CallKind, Network, Principal, Receipt, Reject};
use candid::{CandidType, Nat, Reserved};
use ic_management_canister_types::*;
use serde::de::DeserializeOwned;

/// A canister that counts, logs each count, and notes how often `canister_pre_upgrade` ran.
pub const COUNTER: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "debug_print" (func $print (param i32 i32)))
  (import "ic0" "stable_grow" (func $grow (param i32) (result i32)))
  (import "ic0" "stable_write" (func $write (param i32 i32 i32)))
  (import "ic0" "stable_read" (func $read (param i32 i32 i32)))
  (memory 1)
  (func (export "canister_init") (drop (call $grow (i32.const 1))))
  (func (export "canister_update add")
    (call $read (i32.const 0) (i32.const 0) (i32.const 1))
    (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
    (call $write (i32.const 0) (i32.const 0) (i32.const 1))
    (i32.store8 (i32.const 1) (i32.add (i32.load8_u (i32.const 0)) (i32.const 48)))
    (call $print (i32.const 1) (i32.const 1))
    (call $append (i32.const 1) (i32.const 1)) call $reply)
  (func (export "canister_query count")
    (call $read (i32.const 0) (i32.const 0) (i32.const 1))
    (i32.store8 (i32.const 1) (i32.add (i32.load8_u (i32.const 0)) (i32.const 48)))
    (call $append (i32.const 1) (i32.const 1)) call $reply)
  (@custom "icp:public name" "counter") (@custom "icp:private notes" "for controllers"))"#;

pub fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

pub const ANYBODY: Principal = Principal::anonymous();

pub fn user(number: u8) -> Principal {
    Principal::self_authenticating([number; 44])
}

pub fn candid_bytes(value: impl CandidType) -> Vec<u8> {
    candid::encode_one(value).unwrap()
}

/// Calls the management canister with bytes.
pub fn raw(network: &Network, caller: Principal, method: &str, arg: Vec<u8>, kind: CallKind) -> Receipt {
    let canister = Principal::management_canister();
    network.call(Call { canister, method: method.to_owned(), arg, caller, kind }).unwrap()
}

/// Calls the management canister.
pub fn manage(
    network: &Network,
    caller: Principal,
    method: &str,
    arg: impl CandidType,
) -> Result<Vec<u8>, Reject> {
    raw(network, caller, method, candid_bytes(arg), CallKind::Update).reply
}

pub fn decoded<T: CandidType + DeserializeOwned>(reply: &[u8]) -> T {
    candid::decode_one(reply).unwrap()
}

/// Makes a canister controlled by anybody.
pub fn create(network: &Network) -> Principal {
    let args = ProvisionalCreateCanisterWithCyclesArgs::default();
    let reply = manage(network, ANYBODY, "provisional_create_canister_with_cycles", args).unwrap();
    decoded::<CanisterIdRecord>(&reply).canister_id
}

pub fn of(canister_id: Principal) -> CanisterIdRecord {
    CanisterIdRecord { canister_id }
}

pub fn install_args(canister_id: Principal, module: &str, mode: CanisterInstallMode) -> InstallCodeArgs {
    InstallCodeArgs {
        mode,
        canister_id,
        wasm_module: wasm(module),
        arg: Vec::new(),
        sender_canister_version: None,
    }
}

/// Makes a canister of a module.
pub fn install(network: &Network, module: &str) -> Principal {
    let id = create(network);
    let args = install_args(id, module, CanisterInstallMode::Install);
    manage(network, ANYBODY, "install_code", args).unwrap();
    id
}

pub fn call(network: &Network, canister: Principal, method: &str, kind: CallKind) -> Result<Vec<u8>, Reject> {
    let call = Call { canister, method: method.to_owned(), arg: Vec::new(), caller: ANYBODY, kind };
    network.call(call).unwrap().reply
}

pub fn status(network: &Network, id: Principal) -> CanisterStatusResult {
    decoded(&manage(network, ANYBODY, "canister_status", of(id)).unwrap())
}

pub fn settings(network: &Network, id: Principal, settings: CanisterSettings) -> Result<Vec<u8>, Reject> {
    let args = UpdateSettingsArgs { canister_id: id, settings, sender_canister_version: None };
    manage(network, ANYBODY, "update_settings", args)
}

/// Asserts a reject's error code, and that its text has a part.
#[track_caller]
pub fn refused(answer: Result<Vec<u8>, Reject>, code: u16, part: &str) {
    let reject = answer.unwrap_err();
    assert_eq!(reject.error_code, code, "{reject}");
    assert!(reject.message.contains(part), "{reject}");
}

#[test]
fn a_provisional_canister_has_its_cycles_and_settings() {
    let network = Network::new().unwrap();
    let args = ProvisionalCreateCanisterWithCyclesArgs {
        amount: Some(Nat::from(5_000_u32)),
        settings: Some(CanisterSettings {
            controllers: Some(vec![ANYBODY, user(1)]),
            freezing_threshold: Some(Nat::from(7_u8)),
            ..CanisterSettings::default()
        }),
        ..ProvisionalCreateCanisterWithCyclesArgs::default()
    };
    let reply = manage(&network, user(2), "provisional_create_canister_with_cycles", args).unwrap();
    let id = decoded::<CanisterIdRecord>(&reply).canister_id;
    let status = status(&network, id);
    assert_eq!((status.cycles, status.version), (Nat::from(5_000_u32), 0));
    let mut controllers = vec![ANYBODY, user(1)];
    controllers.sort();
    assert_eq!(status.settings.controllers, controllers);
    assert_eq!(status.settings.freezing_threshold, Nat::from(7_u8));
    assert_eq!(status.status, CanisterStatusType::Running);
    // Nothing said: the caller controls it, and it has plenty.
    let usual = self::status(&network, create(&network));
    assert_eq!(usual.cycles, Nat::from(100_000_000_000_000_u128));
    assert_eq!(usual.settings.controllers, [ANYBODY]);
}

#[test]
fn an_id_can_be_asked_for_and_is_stepped_over() {
    let network = Network::new().unwrap();
    let ask = |id| {
        let args = ProvisionalCreateCanisterWithCyclesArgs {
            specified_id: Some(id),
            ..ProvisionalCreateCanisterWithCyclesArgs::default()
        };
        manage(&network, ANYBODY, "provisional_create_canister_with_cycles", args)
    };
    let [first, second, third] =
        [0, 1, 2].map(|count| Principal::from_slice(&[0, 0, 0, 0, 0, 0, 0, count, 1, 1]));
    assert_eq!(decoded::<CanisterIdRecord>(&ask(second).unwrap()).canister_id, second);
    refused(ask(second), 205, &format!("canister id {second} already exists"));
    refused(ask(user(1)), 408, "specified_id");
    assert_eq!([create(&network), create(&network)], [first, third]);
}

#[test]
fn anybody_tops_up() {
    let network = Network::new().unwrap();
    let id = create(&network);
    let args = |canister_id| ProvisionalTopUpCanisterArgs { canister_id, amount: Nat::from(11_u8) };
    manage(&network, user(3), "provisional_top_up_canister", args(id)).unwrap();
    assert_eq!(status(&network, id).cycles, Nat::from(100_000_000_000_011_u128));
    let answer = manage(&network, user(3), "provisional_top_up_canister", args(user(1)));
    refused(answer, 301, &format!("Canister {} not found.", user(1)));
}

#[test]
fn only_controllers_manage_a_canister() {
    let network = Network::new().unwrap();
    let id = install(&network, COUNTER);
    let stranger = user(9);
    let by = |method: &str, arg: Vec<u8>| {
        let answer = raw(&network, stranger, method, arg, CallKind::Update).reply;
        let expected = format!(
            "Only the controllers of the canister {id} can control it.\nCanister's controllers: {ANYBODY}\n\
             Sender's ID: {stranger}"
        );
        refused(answer, 512, &expected);
    };
    for method in [
        "start_canister",
        "stop_canister",
        "delete_canister",
        "uninstall_code",
        "canister_status",
        "stored_chunks",
        "clear_chunk_store",
    ] {
        by(method, candid_bytes(of(id)));
    }
    by("install_code", candid_bytes(install_args(id, COUNTER, CanisterInstallMode::Reinstall)));
    by("upload_chunk", candid_bytes(UploadChunkArgs { canister_id: id, chunk: vec![1] }));
    let settings = CanisterSettings { controllers: Some(vec![stranger]), ..Default::default() };
    by(
        "update_settings",
        candid_bytes(UpdateSettingsArgs { canister_id: id, settings, sender_canister_version: None }),
    );
    assert_eq!(call(&network, id, "add", CallKind::Update).unwrap(), b"1");
}

#[test]
fn a_canister_that_there_is_not_is_not_found() {
    let network = Network::new().unwrap();
    let nobody = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 9, 9, 1, 1]);
    for method in ["start_canister", "stop_canister", "delete_canister", "uninstall_code", "canister_status"]
    {
        let answer = manage(&network, ANYBODY, method, of(nobody));
        assert_eq!(answer.as_ref().unwrap_err().message, format!("Canister {nobody} not found."));
        refused(answer, 301, "");
    }
    refused(
        manage(
            &network,
            ANYBODY,
            "install_code",
            install_args(nobody, COUNTER, CanisterInstallMode::Install),
        ),
        301,
        "",
    );
}

#[test]
fn bad_candid_unknown_methods_and_methods_for_canisters_are_refused() {
    let network = Network::new().unwrap();
    for method in
        ["canister_status", "install_code", "update_settings", "provisional_create_canister_with_cycles"]
    {
        let answer = raw(&network, ANYBODY, method, b"nonsense".to_vec(), CallKind::Update).reply;
        assert!(answer.as_ref().unwrap_err().message.starts_with("Error decoding candid: "));
        refused(answer, 408, "");
    }
    refused(manage(&network, ANYBODY, "canister_status", 5_u8), 408, "Error decoding candid: ");
    refused(manage(&network, ANYBODY, "frob", ()), 536, "Management canister has no method 'frob'");
    for method in
        ["create_canister", "raw_rand", "deposit_cycles", "http_request", "sign_with_ecdsa", "canister_info"]
    {
        let text = format!("Only canisters can call ic00 method {method}");
        refused(manage(&network, ANYBODY, method, ()), 406, &text);
    }
    refused(manage(&network, ANYBODY, "subnet_metrics", ()), 406, "not supported here");
    let query = raw(&network, ANYBODY, "stop_canister", candid_bytes(of(user(1))), CallKind::Query).reply;
    refused(query, 536, "no query method 'stop_canister'");
}

pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).to_vec()
}

/// Uploads a module in chunks of so many bytes.
pub fn upload(network: &Network, id: Principal, module: &[u8], bytes: usize) -> Vec<ChunkHash> {
    let chunks = module.chunks(bytes).map(|chunk| {
        let args = UploadChunkArgs { canister_id: id, chunk: chunk.to_vec() };
        decoded(&manage(network, ANYBODY, "upload_chunk", args).unwrap())
    });
    chunks.collect()
}

pub fn chunked(target: Principal, store: Option<Principal>, list: Vec<ChunkHash>) -> InstallChunkedCodeArgs {
    InstallChunkedCodeArgs {
        mode: CanisterInstallMode::Install,
        target_canister: target,
        store_canister: store,
        chunk_hashes_list: list,
        wasm_module_hash: sha256(&wasm(COUNTER)),
        arg: Vec::new(),
        sender_canister_version: None,
    }
}

#[test]
fn a_canister_stops_and_starts() {
    let network = Network::new().unwrap();
    let id = install(&network, COUNTER);
    assert_eq!(manage(&network, ANYBODY, "stop_canister", of(id)).unwrap(), b"DIDL\0\0");
    let stopped = status(&network, id);
    assert_eq!((stopped.status, stopped.version), (CanisterStatusType::Stopped, 3));
    // A second time nothing changes.
    manage(&network, ANYBODY, "stop_canister", of(id)).unwrap();
    assert_eq!(status(&network, id).version, 3);
    refused(call(&network, id, "add", CallKind::Update), 508, "is stopped");
    manage(&network, ANYBODY, "start_canister", of(id)).unwrap();
    assert_eq!(call(&network, id, "add", CallKind::Update).unwrap(), b"1");
    manage(&network, ANYBODY, "start_canister", of(id)).unwrap();
    assert_eq!(status(&network, id).version, 5);
}

#[test]
fn only_a_stopped_canister_is_deleted() {
    let network = Network::new().unwrap();
    let id = install(&network, COUNTER);
    network.name_canister("counter", id).unwrap();
    let delete = || manage(&network, ANYBODY, "delete_canister", of(id));
    refused(delete(), 510, &format!("Canister {id} must be stopped before it is deleted."));
    manage(&network, ANYBODY, "stop_canister", of(id)).unwrap();
    assert_eq!(delete().unwrap(), b"DIDL\0\0");
    refused(delete(), 301, &format!("Canister {id} not found."));
    assert_eq!((network.status(id).unwrap(), network.canister_named("counter")), (None, None));
}

#[test]
fn an_uninstalled_canister_is_empty() {
    let network = Network::new().unwrap();
    let id = install(&network, COUNTER);
    call(&network, id, "add", CallKind::Update).unwrap();
    upload(&network, id, &[1, 2, 3], 1);
    let before = status(&network, id);
    let args = UninstallCodeArgs { canister_id: id, sender_canister_version: None };
    manage(&network, ANYBODY, "uninstall_code", args).unwrap();
    let after = status(&network, id);
    assert_eq!((after.module_hash, after.version), (None, before.version + 1));
    let metrics = after.memory_metrics;
    let zero = || Nat::from(0_u8);
    assert_eq!(
        [
            metrics.stable_memory_size,
            metrics.wasm_memory_size,
            metrics.wasm_chunk_store_size,
            metrics.log_memory_store_size
        ],
        [zero(), zero(), zero(), zero()]
    );
    refused(call(&network, id, "add", CallKind::Update), 537, "no Wasm module");
    manage(&network, ANYBODY, "install_code", install_args(id, COUNTER, CanisterInstallMode::Install))
        .unwrap();
    assert_eq!(call(&network, id, "add", CallKind::Update).unwrap(), b"1");
}

#[test]
fn the_status_is_a_query_too() {
    let network = Network::new().unwrap();
    let id = create(&network);
    let ask = |caller| raw(&network, caller, "canister_status", candid_bytes(of(id)), CallKind::Query).reply;
    assert_eq!(decoded::<CanisterStatusResult>(&ask(ANYBODY).unwrap()), status(&network, id));
    refused(ask(user(1)), 512, "Only the controllers");
    refused(
        raw(&network, ANYBODY, "canister_status", vec![], CallKind::Query).reply,
        408,
        "Error decoding candid",
    );
}

#[test]
fn logs_are_for_those_who_may_see_them() {
    let network = Network::new().unwrap();
    let id = install(&network, COUNTER);
    for _ in 0..3 {
        call(&network, id, "add", CallKind::Update).unwrap();
    }
    let fetch = |caller, filter: Option<CanisterLogFilter>, kind| {
        let arg = candid_bytes(FetchCanisterLogsArgs { canister_id: id, filter });
        raw(&network, caller, "fetch_canister_logs", arg, kind).reply.map(|reply| {
            let result: FetchCanisterLogsResult = decoded(&reply);
            let lines = result.canister_log_records.into_iter();
            lines.map(|record| (record.idx, record.content)).collect::<Vec<_>>()
        })
    };
    let [one, two, three] = [(0, b"1".to_vec()), (1, b"2".to_vec()), (2, b"3".to_vec())];
    for kind in [CallKind::Query, CallKind::Update] {
        assert_eq!(fetch(ANYBODY, None, kind).unwrap(), [one.clone(), two.clone(), three.clone()]);
    }
    let middle = Some(CanisterLogFilter::ByIdx { start: 1, end: 2 });
    assert_eq!(fetch(ANYBODY, middle, CallKind::Query).unwrap(), std::slice::from_ref(&two));
    let before = Some(CanisterLogFilter::ByTimestampNanos { start: 0, end: network.time_nanos() });
    assert_eq!(fetch(ANYBODY, before, CallKind::Query).unwrap(), []);
    let read = |caller| fetch(caller, None, CallKind::Query);
    let reject = read(user(1)).unwrap_err();
    assert_eq!(reject.message, format!("Caller {} is not allowed to access canister logs", user(1)));
    assert_eq!(reject.error_code, 406);
    let show = |visibility| {
        settings(&network, id, CanisterSettings { log_visibility: Some(visibility), ..Default::default() })
            .unwrap();
    };
    show(LogVisibility::AllowedViewers(vec![user(1)]));
    assert_eq!((read(user(1)).unwrap().len(), read(user(2)).is_err()), (3, true));
    show(LogVisibility::Public);
    assert_eq!(read(user(2)).unwrap().len(), 3);
}

/// The reply of methods that say nothing is decoded by callers as `()`.
#[test]
fn an_empty_reply_is_empty_candid() {
    let network = Network::new().unwrap();
    let id = create(&network);
    let reply = manage(&network, ANYBODY, "start_canister", of(id)).unwrap();
    candid::utils::decode_args::<()>(&reply).unwrap();
    // Fields that are newer than we are do not matter.
    #[derive(CandidType)]
    struct Newer {
        canister_id: Principal,
        whatever: Option<Reserved>,
    }
    manage(&network, ANYBODY, "start_canister", Newer { canister_id: id, whatever: None }).unwrap();
}

//! The management canister, called by canisters: cycles, randomness, keys, and answers that come later.

use bedstone::{Call, CallKind, Network, Principal};
use candid::{CandidType, Nat};
use ic_management_canister_types::*;

use crate::management::*;

/// A canister that calls what its argument says, notes the answer for its query `last`, and replies with it: cycles that came
/// back, 16 bytes; `R` and a reply, or `E`, a reject's code and its text.
const FORWARDER: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "msg_reject_code" (func $code (result i32)))
  (import "ic0" "msg_reject_msg_size" (func $text_size (result i32)))
  (import "ic0" "msg_reject_msg_copy" (func $text (param i32 i32 i32)))
  (import "ic0" "msg_cycles_refunded128" (func $refunded (param i32)))
  (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_data_append" (func $data (param i32 i32)))
  (import "ic0" "call_cycles_add128" (func $cycles (param i64 i64)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory 40) (table 2 funcref) (elem (i32.const 0) $on_reply $on_reject)
  (global $length (mut i32) (i32.const 0))
  (func $answer
    (call $refunded (i32.const 1000))
    (call $append (i32.const 1000) (global.get $length)) call $reply)
  (func $on_reply (param i32)
    (i32.store8 (i32.const 1016) (i32.const 82))
    (call $arg (i32.const 1017) (i32.const 0) (call $arg_size))
    (global.set $length (i32.add (i32.const 17) (call $arg_size))) call $answer)
  (func $on_reject (param i32)
    (i32.store8 (i32.const 1016) (i32.const 69)) (i32.store8 (i32.const 1017) (call $code))
    (call $text (i32.const 1018) (i32.const 0) (call $text_size))
    (global.set $length (i32.add (i32.const 18) (call $text_size))) call $answer)
  (func (export "canister_update forward") (local $c i32) (local $m i32)
    (call $arg (i32.const 2000) (i32.const 0) (call $arg_size))
    (local.set $c (i32.load8_u (i32.const 2000)))
    (local.set $m (i32.load8_u (i32.add (i32.const 2001) (local.get $c))))
    (call $call_new (i32.const 2001) (local.get $c) (i32.add (i32.const 2002) (local.get $c)) (local.get $m)
      (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0))
    (call $cycles (i64.const 0) (i64.load (i32.add (i32.const 2002) (i32.add (local.get $c) (local.get $m)))))
    (call $data (i32.add (i32.const 2010) (i32.add (local.get $c) (local.get $m)))
      (i32.sub (i32.sub (call $arg_size) (i32.const 10)) (i32.add (local.get $c) (local.get $m))))
    (drop (call $perform)))
  (func (export "canister_query last") (call $append (i32.const 1016) (i32.sub (global.get $length) (i32.const 16)))
    call $reply))"#;

/// The argument that has a forwarder call something.
pub fn errand(callee: Principal, method: &str, cycles: u64, payload: &[u8]) -> Vec<u8> {
    let [callee_bytes, method_bytes] = [callee.as_slice(), method.as_bytes()];
    let lengths = [callee_bytes.len(), method_bytes.len()].map(|length| u8::try_from(length).unwrap());
    [&lengths[..1], callee_bytes, &lengths[1..], method_bytes, &cycles.to_le_bytes(), payload].concat()
}

/// What a forwarder was answered: cycles that came back, and the reply or the reject's code and text.
pub type Answer = (u128, Result<Vec<u8>, (u8, String)>);

fn answer(bytes: &[u8]) -> Result<Vec<u8>, (u8, String)> {
    match bytes.split_first().unwrap() {
        (b'R', reply) => Ok(reply.to_vec()),
        (b'E', text) => Err((text[0], String::from_utf8(text[1..].to_vec()).unwrap())),
        _ => panic!("{bytes:?}"),
    }
}

/// Has a forwarder call something; `None` if it is not answered yet.
pub fn send(network: &Network, by: Principal, arg: Vec<u8>) -> Option<Answer> {
    let method = "forward".to_owned();
    let call = Call { canister: by, method, arg, caller: ANYBODY, kind: CallKind::Update };
    match network.call(call).unwrap().reply {
        Ok(reply) => Some((u128::from_le_bytes(reply[..16].try_into().unwrap()), answer(&reply[16..]))),
        Err(reject) => {
            assert!(reject.message.contains("is not answered"), "{reject}");
            None
        }
    }
}

/// Has a forwarder call the management canister.
pub fn manage_by(
    network: &Network,
    by: Principal,
    method: &str,
    cycles: u64,
    arg: impl CandidType,
) -> Option<Answer> {
    send(network, by, errand(Principal::management_canister(), method, cycles, &candid_bytes(arg)))
}

pub fn forwarder(network: &Network) -> Principal {
    install(network, FORWARDER)
}

pub fn last(network: &Network, by: Principal) -> Result<Vec<u8>, (u8, String)> {
    answer(&call(network, by, "last", CallKind::Query).unwrap())
}

/// A call that stays open: nobody answers HTTP requests here.
pub fn leave_open(network: &Network, by: Principal) {
    let args = HttpRequestArgs { url: "https://example.com".to_owned(), ..HttpRequestArgs::default() };
    assert_eq!(manage_by(network, by, "http_request", 0, args), None);
}

fn no_args() -> CreateCanisterArgs {
    CreateCanisterArgs::default()
}

#[test]
fn a_canister_makes_a_canister_of_its_cycles() {
    let network = Network::new().unwrap();
    let by = forwarder(&network);
    let before = status(&network, by).cycles;
    let (refund, reply) = manage_by(&network, by, "create_canister", 1_000, no_args()).unwrap();
    let id = decoded::<CanisterIdRecord>(&reply.unwrap()).canister_id;
    assert_eq!(refund, 0);
    // It is controlled by its maker, which alone may ask for its status.
    let reply = manage_by(&network, by, "canister_status", 7, of(id)).unwrap();
    assert_eq!(reply.0, 7, "what a method does not take comes back");
    let made: CanisterStatusResult = decoded(&reply.1.unwrap());
    assert_eq!((made.cycles, made.settings.controllers), (Nat::from(1_000_u16), vec![by]));
    assert_eq!(before - status(&network, by).cycles, Nat::from(1_000_u16));
    let reject = manage(&network, ANYBODY, "canister_status", of(id)).unwrap_err();
    assert_eq!(reject.error_code, 512);
}

#[test]
fn a_canister_gives_cycles() {
    let network = Network::new().unwrap();
    let (by, to) = (forwarder(&network), create(&network));
    let (refund, reply) = manage_by(&network, by, "deposit_cycles", 500, of(to)).unwrap();
    assert_eq!((refund, reply.unwrap()), (0, b"DIDL\0\0".to_vec()));
    assert_eq!(status(&network, to).cycles, Nat::from(100_000_000_000_500_u128));
    let (refund, reply) = manage_by(&network, by, "deposit_cycles", 500, of(user(1))).unwrap();
    assert_eq!(refund, 500);
    assert_eq!(reply.unwrap_err(), (3, format!("IC0301: Canister {} not found.", user(1))));
}

#[test]
fn a_version_that_was_not_reached_is_refused() {
    let network = Network::new().unwrap();
    let by = forwarder(&network);
    let create = |version| {
        let args = CreateCanisterArgs { sender_canister_version: Some(version), settings: None };
        manage_by(&network, by, "create_canister", 0, args).unwrap().1
    };
    create(1).unwrap();
    let (code, text) = create(1_000).unwrap_err();
    assert!(code == 4 && text.starts_with("IC0408: sender_canister_version is 1000"), "{text}");
}

#[test]
fn randomness_is_the_seeds() {
    let draws = || {
        let network = Network::new().unwrap();
        let by = forwarder(&network);
        [(); 3].map(|()| {
            let arg = errand(Principal::management_canister(), "raw_rand", 0, b"DIDL\0\0");
            let reply = send(&network, by, arg).unwrap().1.unwrap();
            decoded::<Vec<u8>>(&reply)
        })
    };
    let [a, b, c] = draws();
    assert!(a.len() == 32 && a != b && b != c && a != c);
    assert_eq!(draws(), [a, b, c]);
}

#[test]
fn a_history_is_kept_and_told() {
    let network = Network::new().unwrap();
    let (by, id) = (forwarder(&network), install(&network, COUNTER));
    let settings = CanisterSettings { controllers: Some(vec![ANYBODY, by]), ..Default::default() };
    let args = UpdateSettingsArgs { canister_id: id, settings, sender_canister_version: None };
    manage(&network, ANYBODY, "update_settings", args).unwrap();
    let args = UninstallCodeArgs { canister_id: id, sender_canister_version: Some(2) };
    manage_by(&network, by, "uninstall_code", 0, args).unwrap().1.unwrap();
    let info = |count| {
        let args = CanisterInfoArgs { canister_id: id, num_requested_changes: count };
        decoded::<CanisterInfoResult>(&manage_by(&network, by, "canister_info", 0, args).unwrap().1.unwrap())
    };
    let told = info(Some(20));
    assert_eq!((told.total_num_changes, told.recent_changes.len(), told.module_hash), (4, 4, None));
    let mut controllers = vec![ANYBODY, by];
    controllers.sort();
    assert_eq!(told.controllers, controllers);
    let details: Vec<ChangeDetails> =
        told.recent_changes.iter().map(|change| change.details.clone().unwrap()).collect();
    let deployment =
        CodeDeploymentRecord { mode: CodeDeploymentMode::Install, module_hash: sha256(&wasm(COUNTER)) };
    let creation = CreationRecord { controllers: vec![ANYBODY], environment_variables_hash: None };
    assert_eq!(
        details,
        [
            ChangeDetails::Creation(creation),
            ChangeDetails::CodeDeployment(deployment),
            ChangeDetails::ControllersChange(ControllersChangeRecord { controllers }),
            ChangeDetails::CodeUninstall,
        ]
    );
    let versions: Vec<u64> = told.recent_changes.iter().map(|change| change.canister_version).collect();
    assert_eq!(versions, [0, 1, 2, 3]);
    let from_user = ChangeOrigin::FromUser(FromUserRecord { user_id: ANYBODY });
    assert_eq!(told.recent_changes[0].origin, from_user);
    let from_canister = FromCanisterRecord { canister_id: by, canister_version: Some(2) };
    assert_eq!(told.recent_changes[3].origin, ChangeOrigin::FromCanister(from_canister));
    assert_eq!((info(None).recent_changes.len(), info(None).total_num_changes), (0, 4));
    assert_eq!(info(Some(1)).recent_changes, [told.recent_changes[3].clone()]);
}

#[test]
fn metadata_is_public_or_for_controllers() {
    let network = Network::new().unwrap();
    let (by, id) = (forwarder(&network), install(&network, COUNTER));
    let read = |name: &str| {
        let args = CanisterMetadataArgs { canister_id: id, name: name.to_owned() };
        let reply = manage_by(&network, by, "canister_metadata", 0, args).unwrap().1;
        reply.map(|reply| decoded::<CanisterMetadataResult>(&reply).value)
    };
    assert_eq!(read("name").unwrap(), b"counter");
    assert!(read("nothing").unwrap_err().1.contains("no metadata section with the name nothing"));
    assert!(read("notes").unwrap_err().1.starts_with("IC0512: Only the controllers"));
    let settings = CanisterSettings { controllers: Some(vec![ANYBODY, by]), ..Default::default() };
    let args = UpdateSettingsArgs { canister_id: id, settings, sender_canister_version: None };
    manage(&network, ANYBODY, "update_settings", args).unwrap();
    assert_eq!(read("notes").unwrap(), b"for controllers");
}

#[test]
fn a_canister_cannot_delete_itself() {
    let network = Network::new().unwrap();
    let by = forwarder(&network);
    let (_, reply) = manage_by(&network, by, "delete_canister", 0, of(by)).unwrap();
    assert_eq!(reply.unwrap_err(), (5, format!("IC0512: Canister {by} cannot delete itself.")));
}

/// P's call is open as long as X's is; Q waits for P to stop. When P's call ends, P stops and Q is answered.
#[test]
fn a_stop_waits_for_open_calls_and_a_start_cancels_it() {
    let network = Network::new().unwrap();
    let [x, p, q] = [(); 3].map(|()| forwarder(&network));
    for (id, controller) in [(x, p), (p, q)] {
        let settings =
            CanisterSettings { controllers: Some(vec![ANYBODY, controller]), ..Default::default() };
        let args = UpdateSettingsArgs { canister_id: id, settings, sender_canister_version: None };
        manage(&network, ANYBODY, "update_settings", args).unwrap();
    }
    leave_open(&network, x);
    assert_eq!(manage_by(&network, p, "stop_canister", 40, of(x)), None);
    assert_eq!(status(&network, x).status, CanisterStatusType::Stopping);
    let reject = call(&network, x, "forward", CallKind::Update).unwrap_err();
    assert_eq!((reject.error_code, reject.message), (509, format!("Canister {x} is stopping")));
    assert_eq!(manage_by(&network, q, "stop_canister", 0, of(p)), None);
    assert_eq!(status(&network, p).status, CanisterStatusType::Stopping);
    let cycles = status(&network, p).cycles;
    manage(&network, ANYBODY, "start_canister", of(x)).unwrap();
    assert_eq!(status(&network, x).status, CanisterStatusType::Running);
    assert_eq!(status(&network, p).status, CanisterStatusType::Stopped);
    assert_eq!(status(&network, p).cycles - cycles, Nat::from(40_u8), "attached to the cancelled request");
    assert_eq!(last(&network, q).unwrap(), b"DIDL\0\0");
    manage(&network, ANYBODY, "start_canister", of(p)).unwrap();
    assert_eq!(
        last(&network, p).unwrap_err(),
        (5, format!("IC0511: Canister {x}'s stop request was cancelled"))
    );
}

#[test]
fn who_waits_for_an_uninstalled_canister_is_told() {
    let network = Network::new().unwrap();
    let [waits, works] = [(); 2].map(|()| forwarder(&network));
    let args = HttpRequestArgs { url: "https://example.com".to_owned(), ..HttpRequestArgs::default() };
    let http = errand(Principal::management_canister(), "http_request", 0, &candid_bytes(args));
    assert_eq!(send(&network, waits, errand(works, "forward", 33, &http)), None);
    let before = status(&network, waits).cycles;
    // One that is stopping has nothing left to wait for.
    let stop = raw(&network, ANYBODY, "stop_canister", candid_bytes(of(works)), CallKind::Update).reply;
    assert_eq!(stop.unwrap_err().error_code, 600);
    let args = UninstallCodeArgs { canister_id: works, sender_canister_version: None };
    manage(&network, ANYBODY, "uninstall_code", args).unwrap();
    assert_eq!(last(&network, waits).unwrap_err(), (4, "Canister has been uninstalled.".to_owned()));
    assert_eq!(status(&network, waits).cycles - before, Nat::from(33_u8));
    assert_eq!(status(&network, works).status, CanisterStatusType::Stopped);
}

#[test]
fn ecdsa_signatures_verify() {
    let network = Network::new().unwrap();
    let by = forwarder(&network);
    let key_id = |name: &str| EcdsaKeyId { curve: EcdsaCurve::Secp256k1, name: name.to_owned() };
    let derivation_path = vec![b"a".to_vec(), b"b".to_vec()];
    let public_key = |canister_id, name| {
        let args = EcdsaPublicKeyArgs {
            canister_id,
            derivation_path: derivation_path.clone(),
            key_id: key_id(name),
        };
        let (_, reply) = manage_by(&network, by, "ecdsa_public_key", 0, args).unwrap();
        reply.map(|reply| decoded::<EcdsaPublicKeyResult>(&reply))
    };
    let message_hash = sha256(b"message");
    let args = SignWithEcdsaArgs {
        message_hash: message_hash.clone(),
        derivation_path: derivation_path.clone(),
        key_id: key_id("key_1"),
    };
    let (_, reply) = manage_by(&network, by, "sign_with_ecdsa", 0, args).unwrap();
    let signature = decoded::<SignWithEcdsaResult>(&reply.unwrap()).signature;
    let verifies = |key: EcdsaPublicKeyResult| {
        let key = ic_secp256k1::PublicKey::deserialize_sec1(&key.public_key).unwrap();
        key.verify_ecdsa_signature_prehashed(&message_hash, &signature)
    };
    assert!(verifies(public_key(None, "key_1").unwrap()));
    assert!(verifies(public_key(Some(by), "key_1").unwrap()));
    assert!(!verifies(public_key(None, "test_key_1").unwrap()));
    assert!(!verifies(public_key(Some(user(1)), "key_1").unwrap()));
    assert!(
        public_key(None, "other").unwrap_err().1.contains("unknown threshold key: ecdsa:Secp256k1:other")
    );
    let args = SignWithEcdsaArgs { message_hash: vec![1], derivation_path, key_id: key_id("key_1") };
    let (_, reply) = manage_by(&network, by, "sign_with_ecdsa", 0, args).unwrap();
    assert!(reply.unwrap_err().1.starts_with("IC0408: message_hash"));
}

#[test]
fn schnorr_signatures_verify() {
    let network = Network::new().unwrap();
    let by = forwarder(&network);
    let message = b"message".to_vec();
    let sign = |algorithm, aux| {
        let key_id = SchnorrKeyId { algorithm, name: "dfx_test_key".to_owned() };
        let derivation_path = vec![vec![7]];
        let args = SchnorrPublicKeyArgs {
            canister_id: None,
            derivation_path: derivation_path.clone(),
            key_id: key_id.clone(),
        };
        let (_, reply) = manage_by(&network, by, "schnorr_public_key", 0, args).unwrap();
        let public_key = decoded::<SchnorrPublicKeyResult>(&reply.unwrap()).public_key;
        let args = SignWithSchnorrArgs { message: message.clone(), derivation_path, key_id, aux };
        let (_, reply) = manage_by(&network, by, "sign_with_schnorr", 0, args).unwrap();
        (public_key, reply.map(|reply| decoded::<SignWithSchnorrResult>(&reply).signature))
    };
    let (key, signature) = sign(SchnorrAlgorithm::Ed25519, None);
    let key = ic_ed25519::PublicKey::deserialize_raw(&key).unwrap();
    key.verify_signature(&message, &signature.unwrap()).unwrap();
    let (key, signature) = sign(SchnorrAlgorithm::Bip340secp256k1, None);
    let key = ic_secp256k1::PublicKey::deserialize_sec1(&key).unwrap();
    assert!(key.verify_bip340_signature(&message, &signature.unwrap()));
    let root = vec![3; 32];
    let taproot = || Some(SchnorrAux::Bip341(Bip341 { merkle_root_hash: root.clone() }));
    let (_, signature) = sign(SchnorrAlgorithm::Bip340secp256k1, taproot());
    assert!(key.verify_bip341_signature(&message, &signature.unwrap(), &root));
    let (_, refused) = sign(SchnorrAlgorithm::Ed25519, taproot());
    assert!(refused.unwrap_err().1.starts_with("IC0408"));
}

#[test]
fn what_is_not_supported_says_so() {
    let network = Network::new().unwrap();
    let by = forwarder(&network);
    for method in ["vetkd_public_key", "bitcoin_get_balance", "flexible_http_request"] {
        let (code, text) = manage_by(&network, by, method, 0, ()).unwrap().1.unwrap_err();
        assert!(
            code == 4 && text.starts_with(&format!("IC0406: {method} is not supported here: ")),
            "{text}"
        );
    }
}

#[test]
fn services_are_paid_with_attached_cycles() {
    let prices = bedstone::CyclePrices::APPLICATION;
    let network = Network::builder().cycle_prices(prices).build().unwrap();
    let by = forwarder(&network);
    let creation = u64::try_from(prices.creation).unwrap();
    let (refund, reply) = manage_by(&network, by, "create_canister", creation - 1, no_args()).unwrap();
    let (code, text) = reply.unwrap_err();
    assert!(refund == u128::from(creation - 1) && code == 4, "{text}");
    let expected = "IC0403: Creating a canister requires a fee of 500_000_000_000 that is deducted from the canister's \
                    initial balance but only 499_999_999_999 cycles were received with the create_canister request.";
    assert_eq!(text, expected);
    let (refund, reply) = manage_by(&network, by, "create_canister", creation + 5, no_args()).unwrap();
    let id = decoded::<CanisterIdRecord>(&reply.unwrap()).canister_id;
    assert_eq!((refund, network.status(id).unwrap().unwrap().cycles), (0, 5));
    let args = SignWithEcdsaArgs {
        message_hash: vec![1; 32],
        key_id: EcdsaKeyId { curve: EcdsaCurve::Secp256k1, name: "key_1".to_owned() },
        ..SignWithEcdsaArgs::default()
    };
    let signature = u64::try_from(prices.signature).unwrap();
    let (refund, reply) = manage_by(&network, by, "sign_with_ecdsa", signature - 1, args.clone()).unwrap();
    let text = reply.unwrap_err().1;
    assert_eq!(refund, u128::from(signature - 1));
    let expected = "IC0406: sign_with_ecdsa request sent with 9_999_999_999 cycles, but 10_000_000_000 cycles are required.";
    assert_eq!(text, expected);
    let (refund, reply) = manage_by(&network, by, "sign_with_ecdsa", signature + 3, args).unwrap();
    assert!(refund == 3 && reply.is_ok());
    let args = HttpRequestArgs {
        url: "https://example.com".to_owned(),
        max_response_bytes: Some(100),
        ..HttpRequestArgs::default()
    };
    let price = prices.http_outcall(19, 100);
    let (refund, reply) = manage_by(&network, by, "http_request", 7, args).unwrap();
    let text = reply.unwrap_err().1;
    let shown = candid::Nat::from(price).to_string();
    assert_eq!(refund, 7);
    assert_eq!(
        text,
        format!("IC0406: http_request request sent with 7 cycles, but {shown} cycles are required.")
    );
    // A canister cannot have more set aside than it can pay for.
    let settings =
        CanisterSettings { compute_allocation: Some(100_u8.into()), ..CanisterSettings::default() };
    let args = UpdateSettingsArgs { canister_id: by, settings, sender_canister_version: None };
    let reject = manage(&network, ANYBODY, "update_settings", args).unwrap_err();
    assert_eq!(reject.error_code, 530, "{reject}");
    assert!(
        reject.message.starts_with("Cannot increase compute allocation to 100% due to insufficient cycles.")
    );
}

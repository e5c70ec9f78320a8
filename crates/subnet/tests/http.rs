//! HTTP requests of canisters: what somebody outside is asked for, and what becomes of the answer.

use bedstone_subnet::engine::{EngineConfig, InstallMode, Principal};
use bedstone_subnet::{
    Call, CallKind, HttpHeader, HttpResponse, Install, MessageId, PendingHttp, Receipt, Reject, Subnet,
    SubnetConfig, Transform,
};
use candid::{CandidType, Func};
use ic_management_canister_types as ic;

use crate::snapshots::{START, with_stack};

const ANYBODY: Principal = Principal::anonymous();

/// Asks with its argument, and replies `R` and the reply, or `E`, the reject's code and its text. Its transform functions
/// return what they are called with, nothing at all, and trap.
const ASKER: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "msg_reject_code" (func $code (result i32)))
  (import "ic0" "msg_reject_msg_size" (func $text_size (result i32)))
  (import "ic0" "msg_reject_msg_copy" (func $text (param i32 i32 i32)))
  (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_data_append" (func $data (param i32 i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory 40) (table 2 funcref) (elem (i32.const 0) $on_reply $on_reject)
  (data (i32.const 0) "http_requestRE")
  (func $on_reply (param i32)
    (call $arg (i32.const 1000) (i32.const 0) (call $arg_size))
    (call $append (i32.const 12) (i32.const 1)) (call $append (i32.const 1000) (call $arg_size)) call $reply)
  (func $on_reject (param i32)
    (i32.store8 (i32.const 1000) (call $code))
    (call $text (i32.const 1001) (i32.const 0) (call $text_size))
    (call $append (i32.const 13) (i32.const 1))
    (call $append (i32.const 1000) (i32.add (i32.const 1) (call $text_size))) call $reply)
  (func (export "canister_update ask")
    (call $arg (i32.const 1000) (i32.const 0) (call $arg_size))
    (call $call_new (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 12)
      (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0))
    (call $data (i32.const 1000) (call $arg_size)) (drop (call $perform)))
  (func (export "canister_query echo")
    (call $arg (i32.const 1000) (i32.const 0) (call $arg_size))
    (call $append (i32.const 1000) (call $arg_size)) call $reply)
  (func (export "canister_query silent"))
  (func (export "canister_query traps") unreachable))"#;

fn config() -> SubnetConfig {
    SubnetConfig::new(EngineConfig::default(), START)
}

struct Scene {
    subnet: Subnet,
    asker: Principal,
}

impl Scene {
    fn new() -> Self {
        let mut subnet = Subnet::new(&config()).unwrap();
        let asker = subnet.create_canister(vec![ANYBODY]).unwrap();
        let (mode, module) = (InstallMode::Install, wat::parse_str(ASKER).unwrap());
        let install = Install { canister: asker, mode, module, arg: Vec::new(), caller: ANYBODY };
        subnet.install(&install).unwrap().reply.unwrap();
        Self { subnet, asker }
    }

    /// Has the canister ask, and runs a few rounds.
    fn ask(&mut self, args: impl CandidType) -> MessageId {
        let call = Call {
            canister: self.asker,
            method: "ask".to_owned(),
            arg: candid::encode_one(args).unwrap(),
            caller: ANYBODY,
            kind: CallKind::Update,
        };
        let message = self.subnet.submit(&call).unwrap().unwrap();
        for _ in 0..3 {
            self.subnet.tick().unwrap();
        }
        message
    }

    fn only_request(&self) -> PendingHttp {
        let mut requests = self.subnet.http_requests();
        assert_eq!(requests.len(), 1);
        requests.remove(0)
    }

    /// What the canister was answered.
    fn answer(&mut self, message: MessageId) -> Result<Vec<u8>, (u8, String)> {
        let receipt: Receipt = self.subnet.await_receipt(message).unwrap().unwrap();
        let bytes = receipt.reply.unwrap();
        match bytes.split_first().unwrap() {
            (b'R', reply) => Ok(reply.to_vec()),
            (_, text) => Err((text[0], String::from_utf8(text[1..].to_vec()).unwrap())),
        }
    }

    /// Asks with a transform function and answers with `response`.
    fn round_trip(
        &mut self,
        method: &str,
        response: Result<HttpResponse, Reject>,
    ) -> Result<Vec<u8>, (u8, String)> {
        let message = self.ask(self.args(Some(method)));
        let id = self.only_request().id;
        assert!(self.subnet.answer_http(id, response).unwrap());
        self.answer(message)
    }

    fn args(&self, transform: Option<&str>) -> ic::HttpRequestArgs {
        let function = |method: &str| Func { principal: self.asker, method: method.to_owned() };
        ic::HttpRequestArgs {
            url: "https://example.com/a".to_owned(),
            method: ic::HttpMethod::POST,
            headers: vec![ic::HttpHeader { name: "Accept".to_owned(), value: "*/*".to_owned() }],
            body: Some(b"body".to_vec()),
            max_response_bytes: Some(1000),
            transform: transform.map(|method| ic::TransformContext {
                function: ic::TransformFunc(function(method)),
                context: b"context".to_vec(),
            }),
            ..ic::HttpRequestArgs::default()
        }
    }
}

fn response(body: &[u8]) -> HttpResponse {
    let header = HttpHeader { name: "Server".to_owned(), value: "x".to_owned() };
    HttpResponse { status: 201, headers: vec![header], body: body.to_vec() }
}

fn told(body: &[u8]) -> ic::HttpRequestResult {
    let header = ic::HttpHeader { name: "Server".to_owned(), value: "x".to_owned() };
    ic::HttpRequestResult { status: 201_u16.into(), headers: vec![header], body: body.to_vec() }
}

#[test]
fn a_request_waits_until_it_is_answered() {
    with_stack(|| {
        let mut scene = Scene::new();
        let message = scene.ask(scene.args(None));
        assert_eq!(scene.subnet.await_receipt(message).unwrap(), None);
        let request = scene.only_request();
        let accept = HttpHeader { name: "Accept".to_owned(), value: "*/*".to_owned() };
        let expected = PendingHttp {
            id: request.id,
            canister: scene.asker,
            url: "https://example.com/a".to_owned(),
            method: "POST",
            headers: vec![accept],
            body: b"body".to_vec(),
            max_response_bytes: 1000,
            transform: None,
        };
        assert_eq!(request, expected);
        assert!(!scene.subnet.answer_http(request.id + 1, Ok(response(b"hi"))).unwrap());
        assert!(scene.subnet.answer_http(request.id, Ok(response(b"hi"))).unwrap());
        assert!(!scene.subnet.answer_http(request.id, Ok(response(b"hi"))).unwrap());
        assert_eq!(
            candid::decode_one::<ic::HttpRequestResult>(&scene.answer(message).unwrap()).unwrap(),
            told(b"hi")
        );
        assert_eq!(scene.subnet.http_requests(), []);
    });
}

#[test]
fn a_transform_function_makes_the_reply() {
    with_stack(|| {
        let mut scene = Scene::new();
        let reply = scene.round_trip("echo", Ok(response(b"hi"))).unwrap();
        let args: ic::TransformArgs = candid::decode_one(&reply).unwrap();
        assert_eq!((args.response, args.context), (told(b"hi"), b"context".to_vec()));
        let (code, text) = scene.round_trip("traps", Ok(response(b"hi"))).unwrap_err();
        assert!(code == 5 && text.contains("Canister trapped: unreachable"), "{text}");
        let (code, text) = scene.round_trip("silent", Ok(response(b"hi"))).unwrap_err();
        assert!(code == 5 && text.contains("did not produce a response"), "{text}");
        let (_, text) = scene.round_trip("missing", Ok(response(b"hi"))).unwrap_err();
        assert!(text.contains("has no query method 'missing'"), "{text}");
    });
}

#[test]
fn what_goes_wrong_outside_comes_back_as_it_is() {
    with_stack(|| {
        let mut scene = Scene::new();
        let refused = Reject { code: 2, error_code: 0, message: "Failed to connect: refused".to_owned() };
        let answer = scene.round_trip("echo", Err(refused)).unwrap_err();
        assert_eq!(answer, (2, "Failed to connect: refused".to_owned()));
        // The header has seven bytes.
        let most = response(&[b'x'; 993]);
        assert!(scene.round_trip("echo", Ok(most)).is_ok());
        let answer = scene.round_trip("echo", Ok(response(&[b'x'; 994]))).unwrap_err();
        assert_eq!(answer, (1, "Http body exceeds size limit of 1000 bytes.".to_owned()));
    });
}

#[test]
fn requests_have_limits() {
    with_stack(|| {
        let mut scene = Scene::new();
        let refused = |scene: &mut Scene, args: ic::HttpRequestArgs, part: &str| {
            let message = scene.ask(args);
            let (code, text) = scene.answer(message).unwrap_err();
            assert!(code == 4 && text.starts_with("IC0406: ") && text.contains(part), "{text}");
        };
        let args = ic::HttpRequestArgs { max_response_bytes: Some(2_000_001), ..scene.args(None) };
        refused(&mut scene, args, "max_response_bytes expected to be in the range [0..2000000], got 2000001");
        let args = ic::HttpRequestArgs { url: "x".repeat(8193), ..scene.args(None) };
        refused(&mut scene, args, "url length 8193 exceeds 8192");
        let header = ic::HttpHeader { name: "a".to_owned(), value: "b".to_owned() };
        let args = ic::HttpRequestArgs { headers: vec![header; 65], ..scene.args(None) };
        refused(&mut scene, args, "number of http headers exceeds 64");
        let function = ic::TransformFunc(Func { principal: ANYBODY, method: "echo".to_owned() });
        let transform = Some(ic::TransformContext { function, context: Vec::new() });
        let args = ic::HttpRequestArgs { transform, ..scene.args(None) };
        refused(&mut scene, args, "transform principal id expected to be");
        let message = scene.ask(ic::HttpRequestArgs { max_response_bytes: None, ..scene.args(Some("echo")) });
        let request = scene.only_request();
        assert_eq!(request.max_response_bytes, 2_000_000);
        let transform = Transform { method: "echo".to_owned(), context: b"context".to_vec() };
        assert_eq!(request.transform, Some(transform));
        assert!(!scene.subnet.is_answered(message));
    });
}

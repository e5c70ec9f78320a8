//! Canisters that call each other, from text: what is committed when, what is taken back, who is answered what.

use bedstone::{Call, CallKind, Network, Principal, Receipt};

/// Imports and helpers. `ask` calls the method `m` of the canister whose id is the argument; the reply comes back with a
/// letter before it: `R` and the reply's bytes, or `E`, the reject code as a byte and the text.
const CALLER: &str = r#"
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "msg_reject_code" (func $code (result i32)))
  (import "ic0" "msg_reject_msg_size" (func $text_size (result i32)))
  (import "ic0" "msg_reject_msg_copy" (func $text (param i32 i32 i32)))
  (import "ic0" "msg_cycles_refunded128" (func $refunded (param i32)))
  (import "ic0" "call_new" (func $call_new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_on_cleanup" (func $on_cleanup (param i32 i32)))
  (import "ic0" "call_data_append" (func $data (param i32 i32)))
  (import "ic0" "call_cycles_add128" (func $cycles (param i64 i64)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory 2) (table 4 funcref) (elem (i32.const 0) $on_reply $on_reject $fails $cleaned)
  (data (i32.const 0) "mREping")
  (func $on_reply (param i32)
    (call $append (i32.const 1) (i32.const 1))
    (call $arg (i32.const 1000) (i32.const 0) (call $arg_size))
    (call $append (i32.const 1000) (call $arg_size)) call $reply)
  (func $on_reject (param i32)
    (call $append (i32.const 2) (i32.const 1))
    (i32.store8 (i32.const 1000) (call $code)) (call $append (i32.const 1000) (i32.const 1))
    (call $text (i32.const 1000) (i32.const 0) (call $text_size))
    (call $append (i32.const 1000) (call $text_size)) call $reply)
  (func $fails (param i32) (i32.store8 (i32.const 200) (i32.const 9)) unreachable)
  (func $cleaned (param i32) (i32.store8 (i32.const 201) (i32.add (local.get 0) (i32.load8_u (i32.const 200)))))
  (func $begin (param $on_reply i32)
    (call $arg (i32.const 100) (i32.const 0) (call $arg_size))
    (call $call_new (i32.const 100) (call $arg_size) (i32.const 0) (i32.const 1)
      (local.get $on_reply) (i32.const 0) (i32.const 1) (i32.const 0))
    (call $data (i32.const 3) (i32.const 4)))
  (func (export "canister_update ask") (call $begin (i32.const 0)) (drop (call $perform)))
  (func (export "canister_composite_query ask_query") (call $begin (i32.const 0)) (drop (call $perform)))
  (func (export "canister_update give") (call $begin (i32.const 0))
    (call $cycles (i64.const 0) (i64.const 1000)) (drop (call $perform)))
  (func (export "canister_update ask_and_fail")
    (i32.store8 (i32.const 202) (i32.const 7))
    (call $begin (i32.const 2)) (call $on_cleanup (i32.const 3) (i32.const 30)) (drop (call $perform)))
  (func (export "canister_query notes") (call $append (i32.const 200) (i32.const 3)) call $reply)
"#;

fn module(rest: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {CALLER} {rest})")).unwrap()
}

fn install(network: &Network, rest: &str) -> Principal {
    let canister = network.create_canister().unwrap();
    network.install(canister, &module(rest), ()).unwrap();
    canister
}

fn send(network: &Network, canister: Principal, method: &str, arg: &[u8], kind: CallKind) -> Receipt {
    let (method, arg) = (method.to_owned(), arg.to_vec());
    network.call(Call { canister, method, arg, caller: Principal::anonymous(), kind }).unwrap()
}

fn update(network: &Network, canister: Principal, method: &str, arg: &[u8]) -> Result<Vec<u8>, String> {
    send(network, canister, method, arg, CallKind::Update).reply.map_err(|reject| reject.to_string())
}

const ECHO: &str = r#"(func (export "canister_update m")
  (call $arg (i32.const 1000) (i32.const 0) (call $arg_size)) (call $append (i32.const 1000) (call $arg_size)) call $reply)"#;
const ECHO_QUERY: &str = r#"(func (export "canister_query m")
  (call $arg (i32.const 1000) (i32.const 0) (call $arg_size)) (call $append (i32.const 1000) (call $arg_size)) call $reply)"#;

#[test]
fn a_reply_comes_back() {
    let network = Network::new().unwrap();
    let (a, b) = (install(&network, ""), install(&network, ECHO));
    assert_eq!(update(&network, a, "ask", b.as_slice()).unwrap(), b"Rping");
    // A query method, called by an update.
    let c = install(&network, ECHO_QUERY);
    assert_eq!(update(&network, a, "ask", c.as_slice()).unwrap(), b"Rping");
    // Oneself.
    assert_eq!(update(&network, b, "ask", b.as_slice()).unwrap(), b"Rping");
}

#[test]
fn what_goes_wrong_comes_back_as_a_reject() {
    let network = Network::new().unwrap();
    let a = install(&network, "");
    let ask = |callee: Principal| {
        String::from_utf8(update(&network, a, "ask", callee.as_slice()).unwrap()).unwrap()
    };
    let silent = install(&network, r#"(func (export "canister_update m"))"#);
    assert_eq!(ask(silent), "E\u{5}IC0506: No response");
    let traps = install(&network, r#"(func (export "canister_update m") unreachable)"#);
    let text = ask(traps);
    assert!(
        text.starts_with(&format!(
            "E\u{5}IC0502: Error from Canister {traps}: Canister trapped: unreachable"
        )),
        "{text}"
    );
    let empty = network.create_canister().unwrap();
    assert!(ask(empty).starts_with("E\u{5}IC0537: "), "{}", ask(empty));
    assert!(ask(a).contains("IC0536"), "{}", ask(a));
    let nobody = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 1, 0, 1, 1]);
    assert_eq!(ask(nobody), format!("E\u{3}IC0301: Canister {nobody} not found"));
}

/// The state before a call stays when the callback traps; the cleanup runs on that state, and the caller learns of the trap.
#[test]
fn a_trap_in_a_callback_is_taken_back_and_cleaned_up() {
    let network = Network::new().unwrap();
    let (a, b) = (install(&network, ""), install(&network, ECHO));
    let error = update(&network, a, "ask_and_fail", b.as_slice()).unwrap_err();
    assert!(error.contains("Canister trapped: unreachable"), "{error}");
    let notes = send(&network, a, "notes", &[], CallKind::Query).reply.unwrap();
    assert_eq!(
        notes,
        [0, 30, 7],
        "what the callback wrote, what the cleanup made of it, what stood before the call"
    );
}

#[test]
fn cycles_that_are_not_accepted_come_back() {
    let network = Network::new().unwrap();
    let accepts = r#"
      (import "ic0" "msg_cycles_accept128" (func $accept (param i64 i64 i32)))
      (func (export "canister_update m") (call $accept (i64.const 0) (i64.const 400) (i32.const 1000))
        (call $append (i32.const 1000) (i32.const 16)) call $reply)"#;
    let module = wat::parse_str(format!(
        "(module {})",
        accepts.split_once('\n').map_or(String::new(), |_| {
            let (imports, functions) = accepts.split_at(accepts.find("(func (export").unwrap());
            format!("{imports} {CALLER} {functions}")
        })
    ))
    .unwrap();
    let b = network.create_canister().unwrap();
    network.install(b, &module, ()).unwrap();
    let a = install(&network, "");
    let cycles = |canister| network.status(canister).unwrap().unwrap().cycles;
    let before = (cycles(a), cycles(b));
    let reply = update(&network, a, "give", b.as_slice()).unwrap();
    assert_eq!(reply, [b"R".as_slice(), &400_u128.to_le_bytes()].concat());
    assert_eq!((before.0 - cycles(a), cycles(b) - before.1), (400, 400));
}

#[test]
fn composite_queries_call_queries() {
    let network = Network::new().unwrap();
    let (a, b) = (install(&network, ""), install(&network, ECHO_QUERY));
    let ask =
        |callee: Principal| send(&network, a, "ask_query", callee.as_slice(), CallKind::Query).reply.unwrap();
    assert_eq!(ask(b), b"Rping");
    let text = String::from_utf8(ask(install(&network, ECHO))).unwrap();
    assert!(text.contains("has no query method 'm'"), "{text}");
}

/// The counts of a call to oneself, measured with production's embedder: the caller, a query that is called, and the
/// callback, all in one figure.
#[test]
fn the_instructions_of_a_call_to_oneself_are_the_ics() {
    let module = wat::parse_str(
        r#"(module (import "ic0" "msg_reply" (func $reply))
          (import "ic0" "canister_self_size" (func $css (result i32))) (import "ic0" "canister_self_copy" (func $csc (param i32 i32 i32)))
          (import "ic0" "call_new" (func $cn (param i32 i32 i32 i32 i32 i32 i32 i32))) (import "ic0" "call_data_append" (func $cda (param i32 i32)))
          (import "ic0" "call_cycles_add128" (func $cca (param i64 i64))) (import "ic0" "call_on_cleanup" (func $coc (param i32 i32)))
          (import "ic0" "call_perform" (func $cp (result i32))) (memory 1) (data (i32.const 64) "callee") (table 3 funcref) (elem (i32.const 0) $ok $err $cl)
          (func $ok (param i32) call $reply) (func $err (param i32) call $reply) (func $cl (param i32)) (func (export "canister_query callee") call $reply)
          (func (export "canister_update t") (call $csc (i32.const 0) (i32.const 0) (call $css))
            (call $cn (i32.const 0) (i32.const 10) (i32.const 64) (i32.const 6) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0))
            (call $cda (i32.const 0) (i32.const 10)) (call $cca (i64.const 0) (i64.const 0)) (call $coc (i32.const 2) (i32.const 0)) (drop (call $cp))))"#,
    )
    .unwrap();
    let network = Network::new().unwrap();
    let canister = network.create_canister().unwrap();
    network.install(canister, &module, ()).unwrap();
    let counts = [(); 2].map(|()| send(&network, canister, "t", &[], CallKind::Update));
    assert!(counts.iter().all(|receipt| receipt.reply == Ok(Vec::new())), "{counts:?}");
    assert_eq!(counts.each_ref().map(|receipt| receipt.tree_instructions), [11_591, 10_591]);
    assert_eq!(counts.each_ref().map(|receipt| receipt.instructions), [11_591 - 506, 10_591 - 506]);
}

//! Every feature of Wasm that the IC accepts, on its own: the same reply and the same count in every mode.

use bedstone_engine::{InstallMode, Outcome, Response};

use crate::support::{Subject, in_every_mode};

/// What modules here share: the method `t` runs `body`, which leaves an i32, and replies with it.
fn module(fields: &str, body: &str) -> String {
    format!(
        r#"(module
          (import "ic0" "msg_reply" (func $reply))
          (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (import "ic0" "stable64_size" (func $size (result i64)))
          {fields}
          (func $answer (param i32)
            (i32.store (i32.const 1024) (local.get 0))
            (call $append (i32.const 1024) (i32.const 4)) (call $reply))
          (func (export "canister_update t") (call $answer {body})))"#
    )
}

/// Two calls of `t` reply with `first` and `again`, and cost the same in every mode.
#[track_caller]
fn check(wat: String, first: i32, again: i32) {
    let seen = std::sync::Mutex::new(None::<[Outcome; 3]>);
    in_every_mode(move |mode, engine| {
        let mut subject = Subject::empty(engine);
        let installed = subject.install(&wat, InstallMode::Install);
        assert_eq!(installed.response, Response::None, "{mode}");
        let (one, two) = (subject.update("t", &[]), subject.update("t", &[]));
        let reply = |number: i32| Response::Reply(number.to_le_bytes().to_vec());
        assert_eq!((&one.response, &two.response), (&reply(first), &reply(again)), "{mode}: {wat}");
        let outcomes = [installed, one, two];
        let mut seen = seen.lock().unwrap();
        assert_eq!(seen.get_or_insert_with(|| outcomes.clone()), &outcomes, "{mode}: {wat}");
    });
}

const MEMORY: &str = "(memory 1)";

#[test]
fn imported_memory_and_table() {
    let fields = r#"(import "env" "memory" (memory 1 3)) (import "env" "table" (table 2 funcref))
      (type $f (func (result i32))) (elem (i32.const 1) $seven) (data (i32.const 8) "\2a")
      (func $seven (result i32) (i32.const 7))"#;
    let body = "(i32.add (call_indirect (type $f) (i32.const 1)) (i32.add (i32.load8_u (i32.const 8)) (memory.grow (i32.const 1))))";
    check(module(fields, body), 50, 51);
}

#[test]
fn stable_functions_through_a_table() {
    let fields = r#"(memory 1) (type $io (func (param i64 i64 i64))) (type $grow (func (param i64) (result i64)))
      (table 4 funcref) (elem (i32.const 0) func $read $write) (elem (table 0) (i32.const 2) funcref (ref.func $grow))
      (export "write" (func $write)) (export "grow" (func $grow))
      (data (i32.const 0) "\05")"#;
    let body = "(block (result i32)
        (drop (call_indirect (type $grow) (i64.const 1) (i32.const 2)))
        (call_indirect (type $io) (i64.const 9) (i64.const 0) (i64.const 1) (i32.const 1))
        (call_indirect (type $io) (i64.const 16) (i64.const 9) (i64.const 1) (i32.const 0))
        (i32.load8_u (i32.const 16)))";
    check(module(fields, body), 5, 5);
}

#[test]
fn stable_functions_by_reference_and_tail_call() {
    let fields = r#"(memory 1) (table 1 funcref) (type $io (func (param i64 i64 i64)))
      (elem declare func $write $size) (elem (i32.const 0) $write)
      (func $grown (param i64) (result i64) (return_call $grow (local.get 0)))
      (func $pages (result i64) (return_call $size))
      (func $put (param i64 i64 i64)
        (return_call_indirect (type $io) (local.get 0) (local.get 1) (local.get 2) (i32.const 0)))"#;
    let body = "(block (result i32)
        (drop (ref.is_null (ref.func $size))) (drop (call $grown (i64.const 1)))
        (call $put (i64.const 0) (i64.const 0) (i64.const 4))
        (i32.wrap_i64 (call $pages)))";
    check(module(fields, body), 1, 2);
}

#[test]
fn segments_are_whole_again_in_the_next_message() {
    let fields = r#"(memory 1) (table 3 funcref) (data $p "\01\02\03\04") (elem $e func $one)
      (func $one (result i32) (i32.const 1))"#;
    let body = "(block (result i32)
        (memory.init $p (i32.const 64) (i32.const 1) (i32.const 3)) (data.drop $p) (elem.drop $e)
        (memory.init $p (i32.const 64) (i32.const 0) (i32.const 0))
        (i32.load (i32.const 64)))";
    check(module(fields, body), 0x0004_0302, 0x0004_0302);
}

#[test]
fn a_start_function_runs_at_installation_only() {
    let fields = r#"(memory 1) (global $g (mut i32) (i32.const 1)) (start $start)
      (func $start (global.set $g (i32.add (global.get $g) (i32.const 10))) (i32.store (i32.const 0) (i32.const 100)))
      (func (export "canister_init") (global.set $g (i32.mul (global.get $g) (i32.const 2))))"#;
    let body = "(block (result i32)
        (global.set $g (i32.add (global.get $g) (i32.const 1)))
        (i32.add (global.get $g) (i32.load (i32.const 0))))";
    check(module(fields, body), 123, 124);
}

#[test]
fn no_memory_at_all() {
    let wat = r#"(module
      (import "ic0" "msg_reply" (func $reply)) (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
      (import "ic0" "stable64_size" (func $size (result i64))) (import "ic0" "trap" (func $trap (param i32 i32)))
      (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
      (func (export "canister_update t")
        (if (i64.eq (call $size) (call $grow (i64.const 1))) (then (call $reply)) (else unreachable)))
      (func (export "canister_update r") (call $read (i64.const 0) (i64.const 0) (i64.const 1))))"#;
    in_every_mode(move |mode, engine| {
        let mut subject = Subject::installed(engine, wat);
        assert_eq!(subject.update("t", &[]).response, Response::Reply(Vec::new()), "{mode}");
        assert_eq!(subject.update("t", &[]).response, Response::Reply(Vec::new()), "{mode}");
        let Response::Trapped(_) = subject.update("r", &[]).response else {
            panic!("{mode}: a read into no heap must trap")
        };
    });
}

#[test]
fn tables_with_64_bit_indices() {
    let fields = r#"(memory i64 1) (table i64 2 funcref) (type $f (func (param i32) (result i32)))
      (elem (i64.const 1) func $twice) (func $twice (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
      (func $tail (param i32) (result i32) (return_call_indirect (type $f) (local.get 0) (i64.const 1)))"#;
    let wat = module(fields, "(call_indirect (type $f) (call $tail (i32.const 5)) (i64.const 1))")
        .replace(
            "(param i32 i32)))\n          (import \"ic0\" \"stable64_grow\"",
            "(param i64 i64)))\n          (import \"ic0\" \"stable64_grow\"",
        )
        .replace("(i32.store (i32.const 1024)", "(i32.store (i64.const 1024)")
        .replace(
            "(call $append (i32.const 1024) (i32.const 4))",
            "(call $append (i64.const 1024) (i64.const 4))",
        );
    check(wat, 20, 20);
}

#[test]
fn several_values() {
    let fields = r#"(memory 1)
      (func $swap (param i32 i64 f32) (result f32 i64 i32) (local.get 2) (local.get 1) (local.get 0))
      (func $sum (param i32) (result i32)
        (i32.const 0)
        (loop $again (param i32) (result i32)
          (i32.add (local.get 0))
          (br_if $again (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
      (func $take (param f32 i64 i32) (result i32)
        (i32.add (i32.trunc_sat_f32_s (local.get 0)) (i32.add (i32.wrap_i64 (local.get 1)) (local.get 2))))"#;
    let body = "(i32.add (call $sum (i32.const 3)) (call $take (call $swap (i32.const 3) (i64.const 4) (f32.const 1.5))))";
    check(module(fields, body), 14, 14);
}

#[test]
fn vectors() {
    let body = "(block (result i32)
        (v128.store offset=4090 (i32.const 0) (i32x4.splat (i32.const 9)))
        (v128.store16_lane offset=8191 3 (i32.const 0) (i32x4.splat (i32.const 0x01020304)))
        (v128.store (i32.const 64) (i8x16.add (v128.load offset=4090 (i32.const 0)) (i8x16.splat (i32.const 1))))
        (i32.add (i32x4.extract_lane 0 (v128.load (i32.const 64))) (i32.load16_u offset=8191 (i32.const 0))))";
    check(module(MEMORY, body), 0x0101_010a + 0x0102, 0x0101_010a + 0x0102);
}

#[test]
fn extended_and_saturated_numbers() {
    let body = "(i32.add (i32.extend8_s (i32.const 0xff)) (i32.trunc_sat_f64_u (f64.const 1e20)))";
    check(module(MEMORY, body), -2, -2);
}

#[test]
fn bulk_memory() {
    let body = "(block (result i32)
        (memory.fill (i32.const 4000) (i32.const 3) (i32.const 5000))
        (memory.copy (i32.const 4090) (i32.const 4000) (i32.const 20000))
        (memory.fill (i32.const 65536) (i32.const 3) (i32.const 0))
        (i32.add (i32.load (i32.const 9089)) (i32.load (i32.const 5000))))";
    check(module(MEMORY, body), 0x0303_0306, 0x0606_0606);
}

#[test]
fn references_to_functions() {
    let fields = r#"(memory 1) (table $t 3 funcref) (elem (i32.const 1) $f) (type $none (func (result i32)))
      (func $f (result i32) (i32.const 77))
      (func $pick (param i32) (result i32)
        (select (result funcref) (table.get $t (i32.const 0)) (table.get $t (i32.const 1)) (local.get 0))
        (ref.is_null))"#;
    let body = "(i32.add (i32.mul (call $pick (i32.const 1)) (i32.const 10)) (i32.add (call $pick (i32.const 0)) (table.size $t)))";
    check(module(fields, body), 13, 13);
}

#[test]
fn references_from_outside() {
    let fields = r#"(memory 1) (table $t 3 externref)
      (func $null (param externref) (result i32) (ref.is_null (local.get 0)))"#;
    let body = "(i32.add (call $null (ref.null extern)) (call $null (table.get $t (i32.const 2))))";
    check(module(fields, body), 2, 2);
}

#[test]
fn the_first_local_gives_way_to_the_counter() {
    let fields = r#"(memory 1)
      (func $mix (param i32) (result i32) (local i64 i32 f64) (local i32)
        (local.set 1 (i64.const 40)) (local.set 2 (i32.const 2)) (local.set 3 (f64.const 300)) (local.set 4 (local.get 0))
        (block $out (br_if $out (local.get 0)) (local.set 1 (i64.const 1)))
        (i32.add (i32.add (i32.wrap_i64 (local.tee 1 (local.get 1))) (local.get 2))
                 (i32.add (i32.trunc_sat_f64_s (local.get 3)) (local.get 4))))"#;
    check(
        module(fields, "(i32.add (call $mix (i32.const 1000)) (call $mix (i32.const 0)))"),
        1342 + 303,
        1342 + 303,
    );
}

#[test]
fn code_that_never_runs() {
    let fields = r#"(memory 1) (table 1 funcref) (type $f (func (result i32)))
      (func $f (param i32) (result i32) (local i64)
        (block $out (result i32)
          (if (result i32) (local.get 0)
            (then (br $out (i32.const 5)) (i64.store (local.get 1)) (loop (br 0) (drop (memory.grow))) unreachable)
            (else (return (i32.const 6)) (drop (call_indirect (type $f))) (if (then) (else)) (i32.add)))))"#;
    let fields = fields.replace("(i64.store (local.get 1)) (loop (br 0) (drop (memory.grow))) unreachable", "(i32.const 1) (i64.store (i32.const 0) (local.get 1)) (drop) (loop (br 0) (drop (memory.grow (i32.const 1)))) unreachable")
        .replace("(drop (call_indirect (type $f))) (if (then) (else)) (i32.add)", "(drop (call_indirect (type $f) (i32.const 0))) (if (i32.const 0) (then) (else)) (i32.add)");
    check(module(&fields, "(i32.add (call $f (i32.const 1)) (call $f (i32.const 0)))"), 11, 11);
}

/// Wherever an `externref` may come from, Wasmtime's heap for them is made before the canister's memories.
#[test]
fn references_from_outside_that_only_code_names() {
    for body in [
        "(block (result i32) (block (result externref) (ref.null extern)) (ref.is_null))",
        "(block (result i32) (if (result externref) (i32.const 1) (then (unreachable)) (else unreachable)) (ref.is_null))",
        "(block (result i32) (loop (result externref) unreachable) (ref.is_null))",
        "(ref.is_null (select (result externref) (unreachable) (unreachable) (unreachable)))",
    ] {
        for fields in ["(memory 1)", "(memory 1) (elem externref (ref.null extern))"] {
            let wat = module(fields, "(i32.const 7)").replace(
                "(func (export \"canister_update t\")",
                &format!(
                    "(func (export \"canister_update u\") (drop {body})) (func (export \"canister_update t\")"
                ),
            );
            check(wat, 7, 7);
        }
    }
}

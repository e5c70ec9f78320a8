//! Both compilers, and the change from one to the other: results are the same to the bit. That all else is the same is what
//! every test in every mode looks at.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bedstone_engine::{
    CompileCache, Compiler, Engine, EngineConfig, Entry, InstallMode, Message, Response, SubnetInfo,
};

use crate::support::{Subject, with_stack};

fn engine(compiler: Compiler) -> Engine {
    Engine::new(EngineConfig { compiler, ..EngineConfig::default() }).unwrap()
}

/// Operators on floating-point numbers, by type and number of operands, whose results both compilers must agree on. Of those
/// before `|` each result that is not a number must be the one that the IC's machines make of it.
const OPERATORS: [(&str, &str, usize, &str); 10] = [
    ("f32", "f32", 2, "add sub mul div min max | copysign"),
    ("f64", "f64", 2, "add sub mul div min max | copysign"),
    ("f32", "f32", 1, "sqrt ceil floor trunc nearest | abs neg"),
    ("f64", "f64", 1, "sqrt ceil floor trunc nearest | abs neg"),
    ("v128", "f32x4", 2, "add sub mul div min max | pmin pmax"),
    ("v128", "f64x2", 2, "add sub mul div min max | pmin pmax"),
    ("v128", "f32x4", 1, "sqrt ceil floor trunc nearest demote_f64x2_zero | abs neg"),
    ("v128", "f64x2", 1, "sqrt ceil floor trunc nearest promote_low_f32x4 | abs neg"),
    ("f64", "f32", 1, "demote_f64 |"),
    ("f32", "f64", 1, "promote_f32 |"),
];

const CANONICAL_32: u32 = 0x7fc0_0000;
const CANONICAL_64: u64 = 0x7ff8_0000_0000_0000;

/// Each operator as a query: operands of 16 bytes each as the argument, a result of 16 bytes.
fn operators() -> String {
    let mut module = String::from(
        r#"(module
          (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
          (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
          (import "ic0" "msg_reply" (func $reply))
          (memory 1)"#,
    );
    for (operand, group, operands, names) in OPERATORS {
        let result = if operand == "v128" { "v128" } else { group };
        for name in names.split(' ').filter(|name| !matches!(*name, "|" | "")) {
            let second =
                if operands == 2 { format!("({operand}.load (i32.const 16))") } else { String::new() };
            write!(
                module,
                r#"(func (export "canister_query {group}.{name}")
                  (call $copy (i32.const 0) (i32.const 0) (i32.const 32))
                  ({result}.store (i32.const 32) ({group}.{name} ({operand}.load (i32.const 0)) {second}))
                  (call $append (i32.const 32) (i32.const 16)) (call $reply))"#
            )
            .unwrap();
        }
    }
    module + ")"
}

/// Patterns as operands: quiet and signalling not-a-numbers with and without signs and payloads, and numbers at the edges.
fn patterns() -> Vec<[u8; 16]> {
    let doubles: [u64; 14] = [
        CANONICAL_64,
        0xfff8_0000_0000_0000,
        0x7ff8_0000_dead_beef,
        0x7ff0_0000_0000_0001,
        0xfff7_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
        0,
        1 << 63,
        1,
        (-1.5_f64).to_bits(),
        0.5_f64.to_bits(),
        f64::MAX.to_bits(),
        f64::from(f32::MIN_POSITIVE).to_bits() - 1,
    ];
    let singles: [u32; 14] = [
        CANONICAL_32,
        0xffc0_0000,
        0x7fc0_beef,
        0x7f80_0001,
        0xffbf_ffff,
        0x7f80_0000,
        0xff80_0000,
        0,
        1 << 31,
        1,
        (-2.5_f32).to_bits(),
        1.5_f32.to_bits(),
        f32::MAX.to_bits(),
        f32::MIN_POSITIVE.to_bits() - 1,
    ];
    let mut patterns = Vec::new();
    for index in 0..14 {
        let next = (index + 5) % 14;
        patterns.push((u128::from(doubles[next]) << 64 | u128::from(doubles[index])).to_le_bytes());
        let lanes = [index, next, (index + 9) % 14, (index + 3) % 14].map(|index| u128::from(singles[index]));
        patterns.push((lanes[3] << 96 | lanes[2] << 64 | lanes[1] << 32 | lanes[0]).to_le_bytes());
    }
    patterns
}

fn assert_canonical(what: &str, group: &str, result: &[u8]) {
    let singles = group.starts_with("f32");
    for lane in result.chunks(if singles { 4 } else { 8 }) {
        let canonical = match singles {
            true => {
                let bits = u32::from_le_bytes(lane.try_into().unwrap());
                !f32::from_bits(bits).is_nan() || bits == CANONICAL_32
            }
            false => {
                let bits = u64::from_le_bytes(lane.try_into().unwrap());
                !f64::from_bits(bits).is_nan() || bits == CANONICAL_64
            }
        };
        assert!(canonical, "{what}: {lane:x?}");
    }
}

#[test]
fn floating_point_results_are_the_same_bits() {
    with_stack(|| {
        let module = operators();
        let mut subjects = [Compiler::Optimising, Compiler::Baseline]
            .map(|compiler| Subject::installed(&engine(compiler), &module));
        let is_optimised = subjects.each_ref().map(|subject| subject.module(&module).is_optimised());
        assert_eq!(is_optimised, [true, false], "the baseline compiler takes all of these");
        let patterns = patterns();
        for (_, group, operands, names) in OPERATORS {
            let (canonical, _) = names.split_once('|').unwrap();
            for name in names.split(' ').filter(|name| !matches!(*name, "|" | "")) {
                let method = format!("{group}.{name}");
                let seconds = if operands == 2 { &patterns[..] } else { &patterns[..1] };
                for first in &patterns {
                    for second in seconds {
                        let arg = [*first, *second].concat();
                        let [one, other] = subjects.each_mut().map(|subject| subject.query(&method, &arg));
                        assert_eq!(one, other, "{method} of {arg:x?}");
                        let Response::Reply(result) = one.response else {
                            panic!("{method}: {:?}", one.response)
                        };
                        if canonical.split(' ').any(|canonical| canonical == name) {
                            assert_canonical(&method, group, &result);
                        }
                    }
                }
            }
        }
    });
}

#[test]
fn what_the_baseline_compiler_cannot_take_the_other_one_gets() {
    with_stack(|| {
        let tail_call = r#"(module (import "ic0" "msg_reply" (func $reply))
          (func $next (return_call $reply)) (func (export "canister_update f") (return_call $next)))"#;
        for compiler in [Compiler::Baseline, Compiler::BaselineThenOptimising] {
            let engine = engine(compiler);
            let mut subject = Subject::installed(&engine, tail_call);
            assert!(subject.module(tail_call).is_optimised());
            assert_eq!(subject.update("f", &[]).response, Response::Reply(Vec::new()));
            let error = engine.compile(b"\0asm\x01\0\0\0\x01").unwrap_err();
            assert_eq!(error.kind(), bedstone_engine::ErrorKind::InvalidModule);
        }
    });
}

/// Keeps numbers everywhere a canister can, and drops a segment.
const KEEPER: &str = r#"
    (module
      (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
      (import "ic0" "msg_reply" (func $reply))
      (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
      (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
      (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
      (memory 1)
      (data $passive "segment")
      (global $small (mut i32) (i32.const 1))
      (global $wide (mut v128) (v128.const i64x2 1 2))
      (func (export "canister_init") (drop (call $grow (i64.const 1))))
      (func $next
        (global.set $small (i32.mul (global.get $small) (i32.const 3)))
        (global.set $wide (i64x2.add (global.get $wide) (global.get $wide)))
        (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 7)))
        (call $read (i64.const 32) (i64.const 0) (i64.const 8))
        (i64.store (i32.const 32) (i64.add (i64.load (i32.const 32)) (i64.const 11)))
        (call $write (i64.const 0) (i64.const 32) (i64.const 8))
        (i32.store (i32.const 8) (global.get $small))
        (v128.store (i32.const 16) (global.get $wide))
        (call $append (i32.const 0) (i32.const 48)))
      (func (export "canister_update next") (call $next) (call $reply))
      (func (export "canister_query look") (call $next) (call $reply))
      (func (export "canister_update drop")
        (memory.init $passive (i32.const 64) (i32.const 0) (i32.const 7)) (data.drop $passive) (call $next) (call $reply))
      (func (export "canister_update trap") (call $next) (unreachable)))"#;

#[test]
fn a_canister_changes_to_faster_code_between_messages() {
    with_stack(|| {
        let messages = ["next", "drop", "trap", "next"];
        let both = engine(Compiler::BaselineThenOptimising);
        let mut expected = Subject::installed(&engine(Compiler::Optimising), KEEPER);
        let mut subject = Subject::installed(&both, KEEPER);
        let module = subject.module(KEEPER);
        for round in 0..3 {
            if round == 1 {
                both.finish_compiling();
                assert!(module.is_optimised());
            }
            for method in messages {
                assert_eq!(
                    subject.update(method, &[]),
                    expected.update(method, &[]),
                    "{method} in round {round}"
                );
                assert_eq!(subject.query("look", &[]), expected.query("look", &[]), "look in round {round}");
            }
        }
        // Upgrades from and to whatever is there.
        let outcome = subject.install(KEEPER, InstallMode::Reinstall);
        assert_eq!(outcome, expected.install(KEEPER, InstallMode::Reinstall));
        assert_eq!(subject.update("next", &[]), expected.update("next", &[]));
    });
}

#[test]
fn replicas_change_too() {
    with_stack(|| {
        let both = engine(Compiler::BaselineThenOptimising);
        let subject = Subject::installed(&both, KEEPER);
        let mut replica = subject.canister.replica().unwrap().expect("it has code");
        let message = Message {
            entry: Entry::Query("look"),
            arg: &[],
            caller: bedstone_engine::Principal::anonymous(),
            time_nanos: 1,
            call: Default::default(),
        };
        let mut look = || subject.canister.query_on(&mut replica, &message).unwrap();
        let before = look();
        both.finish_compiling();
        assert_eq!(before, look());
    });
}

#[test]
fn an_engine_may_go_while_it_compiles() {
    let wasm =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../canisters/prebuilt/motoko-counter.wasm"));
    let wasm = wasm.unwrap();
    let both = engine(Compiler::BaselineThenOptimising);
    let module = both.compile(&wasm).unwrap();
    assert!(!module.is_optimised());
    drop(both);
    drop(module);
}

#[test]
fn what_the_background_made_is_there_at_the_next_start() {
    with_stack(|| {
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("compilers-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let start = |compiler| {
            let cache = CompileCache::open(&directory, [1; 32], 1 << 30).unwrap();
            let config = EngineConfig { compiler, ..EngineConfig::default() };
            Engine::with_cache(config, SubnetInfo::default(), Some(Arc::new(cache))).unwrap()
        };
        let wasm = wat::parse_str(KEEPER).unwrap();
        let baseline = start(Compiler::Baseline).compile(&wasm).unwrap();
        assert!(!baseline.is_optimised());
        let both = start(Compiler::BaselineThenOptimising);
        let module = both.compile(&wasm).unwrap();
        both.finish_compiling();
        assert!(module.is_optimised());
        for compiler in [Compiler::Optimising, Compiler::Baseline, Compiler::BaselineThenOptimising] {
            let module = start(compiler).compile(&wasm).unwrap();
            assert!(module.is_optimised(), "{compiler:?} takes what is there");
        }
        fs::remove_dir_all(directory).unwrap();
    });
}

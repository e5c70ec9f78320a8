//! Any bytes: an error or a module, never a panic, and no memory for what a count merely claims.

use bedstone_instrument::{Config, ErrorKind, instrument};

const SAMPLE: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply)) (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 1 10) (table 3 funcref) (global $g (mut i64) (i64.const 7)) (start $start)
  (elem (i32.const 0) $reply $f) (elem declare func $write) (data (i32.const 8) "some bytes") (data $p "passive")
  (func $start (memory.init $p (i32.const 0) (i32.const 0) (i32.const 3)))
  (func $f (param i32) (result i32) (local i64 f64 v128)
    (block $out (loop $again (br_if $again (local.get 0)) (br_table $out $again (i32.const 1))))
    (i32.store offset=4 (i32.const 1) (i32.load8_u (i32.const 2)))
    (i32.add (i32.const 1) (memory.grow (i32.const 1))))
  (func (export "canister_update t") (call $write (i64.const 0) (i64.const 0) (i64.const 8))
    (global.set $g (i64.const 1)) (drop (call_indirect (param i32) (result i32) (i32.const 0) (i32.const 1)))
    call $reply)
  (@custom "icp:public candid:service" "service : {}"))"#;

/// The same with three memories and an instruction of each kind on each of them.
fn several() -> Vec<u8> {
    let memories = "(memory $m 1 10) (memory $n i64 1 10) (memory $o 0)";
    let more = r#"(func (param i64 i32)
        (v128.store16_lane $o offset=6 3 (local.get 1) (v128.const i64x2 1 2)) (i64.store $n offset=70000 (local.get 0) (i64.const 3))
        (memory.copy $o $n (local.get 1) (local.get 0) (i32.const 5)) (memory.copy $n $n (local.get 0) (i64.const 1) (i64.const 5))
        (memory.copy $n $m (local.get 0) (local.get 1) (i32.const 5)) (memory.fill $n (local.get 0) (i32.const 1) (i64.const 9))
        (memory.init $o $p (local.get 1) (i32.const 2) (i32.const 3))
        (drop (memory.grow $n (memory.size $n))) (drop (memory.grow $o (memory.size $m))))
      (data $o (i32.const 0) "")"#;
    let text = SAMPLE.replace("(memory 1 10)", memories).replace("(@custom", &format!("{more} (@custom"));
    wat::parse_str(text).expect("the sample is well-formed")
}

fn sample() -> Vec<u8> {
    wat::parse_str(SAMPLE).expect("the sample is well-formed")
}

/// Instruments; what is accepted must validate again, which `Config::default` asserts.
fn try_it(wasm: &[u8]) -> bool {
    let several = Config { allow_multi_memory: true, ..Config::default() };
    let accepted = instrument(wasm, &several).is_ok();
    let one = instrument(wasm, &Config::default());
    assert!(accepted || one.is_err(), "what the IC accepts is accepted with several memories allowed");
    accepted
}

#[test]
fn every_truncation_is_an_error_or_a_module() {
    for wasm in [sample(), several()] {
        assert!(try_it(&wasm));
        let accepted = (0..wasm.len()).filter(|len| try_it(&wasm[..*len])).count();
        assert!(accepted < 8, "only cuts between sections can be accepted");
    }
}

#[test]
fn every_changed_byte_is_an_error_or_a_module() {
    for wasm in [sample(), several()] {
        for index in 0..wasm.len() {
            for value in
                [0x00, 0x01, 0x0b, 0x41, 0x7f, 0x80, 0xff, wasm[index] ^ 1, wasm[index].wrapping_add(1)]
            {
                let mut changed = wasm.clone();
                changed[index] = value;
                try_it(&changed);
            }
        }
    }
}

#[test]
fn random_changes_are_errors_or_modules() {
    let samples = [sample(), several()];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    for index in 0..30_000 {
        let mut changed = samples[index % 2].clone();
        for _ in 0..=random(4) {
            let index = 8 + random(changed.len() - 8);
            match random(3) {
                0 => changed[index] = u8::try_from(random(256)).unwrap(),
                1 => drop(changed.remove(index)),
                _ => changed.insert(index, u8::try_from(random(256)).unwrap()),
            }
        }
        try_it(&changed);
    }
}

#[test]
fn claimed_counts_are_not_believed() {
    const FOUR_BILLION: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for section in 1..=13_u8 {
        for tail in [&[][..], &[0; 64][..]] {
            let mut wasm = b"\0asm\x01\0\0\0".to_vec();
            wasm.extend([section, u8::try_from(FOUR_BILLION.len() + tail.len()).unwrap()]);
            wasm.extend(FOUR_BILLION);
            wasm.extend(tail);
            let error = instrument(&wasm, &Config::default()).expect_err("no module has that many items");
            // Types and exports have bounds of the rewriter's own.
            let expected = if matches!(section, 1 | 7) { ErrorKind::TooLarge } else { ErrorKind::Invalid };
            assert_eq!(error.kind(), expected, "section {section}: {error}");
        }
    }
}

#[test]
fn many_tiny_items_are_handled() {
    // 300,000 custom sections of 3 bytes each, and 100,000 empty passive data segments.
    let mut wasm = b"\0asm\x01\0\0\0".to_vec();
    for _ in 0..300_000 {
        wasm.extend([0, 1, 0]);
    }
    assert!(try_it(&wasm));
    let mut module = wasm_encoder::Module::new();
    let mut data = wasm_encoder::DataSection::new();
    for _ in 0..100_000 {
        data.passive([]);
    }
    module.section(&data);
    assert!(try_it(&module.finish()));
}

/// Offsets of 64-bit memories reach to 2⁶⁴ - 1, the last byte of such a store beyond it.
#[test]
fn the_largest_offsets_are_handled() {
    let store = |offset: &str| format!("(v128.store offset={offset} (local.get 0) (v128.const i64x2 0 0))");
    let body = ["0xffffffffffffffff", "0", "0xfffffffffffffff8", "0xffffffffffffefff"].map(store).concat();
    let wasm = wat::parse_str(format!("(module (memory i64 1) (func (param i64) {body}))")).unwrap();
    assert!(try_it(&wasm));
}

//! Upgrades: data serialised from the heap and back against data that stays in stable memory.

use bedstone_engine::{Engine, InstallMode};

use super::Effort;
use crate::figures::{Figures, Table, time, times};
use crate::interleave::{Variant, interleaved};
use crate::subject::{Subject, module, native};

/// Data from 64 KiB on, as many bytes as the init argument says. Serialised: the hooks copy all of it, which is the least that
/// serialising can be. Kept: it is in stable memory, and there are no hooks.
fn wat(serialised: bool) -> Vec<u8> {
    let (init, hooks) = if serialised {
        (
            "(drop (memory.grow (i32.wrap_i64 (i64.shr_u (local.get $bytes) (i64.const 16)))))
             (memory.fill (i32.const 65536) (i32.const 7) (i32.wrap_i64 (local.get $bytes)))",
            r#"(func (export "canister_pre_upgrade") (local $bytes i64)
                 (local.set $bytes (i64.mul (i64.extend_i32_u (i32.sub (memory.size) (i32.const 1))) (i64.const 65536)))
                 (if (i64.eqz (call $size))
                   (then (drop (call $grow (i64.shr_u (local.get $bytes) (i64.const 16))))))
                 (call $write (i64.const 0) (i64.const 65536) (local.get $bytes)))
               (func (export "canister_post_upgrade") (local $bytes i64)
                 (drop (memory.grow (i32.wrap_i64 (call $size))))
                 (call $read (i64.const 65536) (i64.const 0) (i64.mul (call $size) (i64.const 65536))))"#,
        )
    } else {
        (
            "(drop (memory.grow (i32.const 1)))
             (memory.fill (i32.const 65536) (i32.const 7) (i32.const 65536))
             (drop (call $grow (i64.shr_u (local.get $bytes) (i64.const 16))))
             (loop $l
               (call $write (local.get $at) (i64.const 65536) (i64.const 65536))
               (br_if $l (i64.lt_u (local.tee $at (i64.add (local.get $at) (i64.const 65536))) (local.get $bytes))))",
            "",
        )
    };
    module(&format!(
        r#"(module
          (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
          (import "ic0" "stable64_size" (func $size (result i64)))
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
          (memory 1)
          (func (export "canister_init") (local $bytes i64) (local $at i64)
            (call $arg (i32.const 0) (i32.const 0) (i32.const 8))
            (local.set $bytes (i64.load (i32.const 0)))
            {init})
          {hooks})"#
    ))
}

/// See the module's documentation.
pub fn run(effort: Effort) -> Figures {
    let sizes: &[u64] = effort.pick(&[1, 16], &[1, 16, 128, 1024]);
    let head = ["MiB of data", "in stable memory", "serialised from the heap", "ratio"];
    let mut table = Table::new("An upgrade, durability off", &head);
    for &mib in sizes {
        let engine = Engine::new(native()).expect("this machine runs Wasm");
        let arg = (mib << 20).to_le_bytes();
        let mut subjects = [false, true].map(|serialised| {
            let wasm = wat(serialised);
            let subject = Subject::on(&engine, &wasm, &arg);
            (wasm, subject)
        });
        let mode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: None };
        let mut variants: Vec<Variant<'_>> = subjects
            .iter_mut()
            .map(|(wasm, subject)| {
                let engine = &engine;
                Variant::new("", move |times| {
                    for _ in 0..times {
                        let outcome = subject.install(engine, mode, wasm.as_slice(), &[]);
                        assert_eq!(outcome.response, bedstone_engine::Response::None);
                    }
                })
            })
            .collect();
        let measured = interleaved(&mut variants, 5, 1);
        let cells = [time(measured.nanos(0)), time(measured.nanos(1)), times(measured.ratio(1, 0))];
        table.line(mib.to_string(), cells);
    }
    Figures { tables: vec![table], ..Figures::default() }
}

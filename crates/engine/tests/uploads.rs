//! Snapshots that are made of uploaded parts.

use std::sync::Arc;

use bedstone_engine::{
    Engine, GlobalValue, Keeping, Snapshot, SnapshotBytes, SnapshotDetails, SnapshotPart, SnapshotSource,
    Unfinished, UploadedModule,
};

use crate::home::{Home, ID, KEY, Picture, check, picture, program};
use crate::machine::{self, Dice};
use crate::support::{MODES, with_stack};

fn uploaded(globals: Vec<GlobalValue>) -> SnapshotDetails {
    SnapshotDetails {
        source: SnapshotSource::MetadataUpload,
        taken_at_nanos: 0,
        canister_version: 0,
        certified_data: b"certified".to_vec(),
        global_timer: Some(99),
        on_low_wasm_memory_hook: None,
        globals,
    }
}

/// Copies a snapshot through uploads of odd sizes, in two ways of giving the module, and loads the copy.
#[test]
fn uploads_of_parts() {
    with_stack(|| {
        for (name, whole) in [(None, true), (None, false), (Some("whole"), true), (Some("pieces"), false)] {
            let mut home = Home::new(Engine::new(MODES[0].1).unwrap(), name);
            let mut canister = home.canister(ID, &machine::wat(false));
            home.update(&mut canister, "run", &program(&mut Dice(5)));
            let taken = picture(&canister);
            let original = home.take(&mut canister, b"other/one");
            home.update(&mut canister, "run", &program(&mut Dice(6)));
            let bytes = original.module(home.store.as_ref()).unwrap().to_vec();
            let module = home.engine.compile(&bytes).unwrap();

            let mut globals = original.details().globals.clone();
            globals.push(GlobalValue::I64(1234));
            let given = match whole {
                true => UploadedModule::Whole(module),
                false => UploadedModule::Bytes(bytes.len() as u64),
            };
            let sizes = SnapshotBytes {
                wasm_memory: original.part_bytes(SnapshotPart::WasmMemory),
                stable_memory: original.part_bytes(SnapshotPart::StableMemory),
            };
            let unfinished = whole.then_some(Unfinished { token: [1; 32], done: 0 });
            let mut copy = home.change(|keeping| {
                let copy = Snapshot::upload(uploaded(globals), given, &sizes, unfinished, keeping).unwrap();
                if let Keeping::InStore { change, .. } = keeping {
                    copy.put(KEY, change);
                }
                copy
            });
            assert_eq!(copy.takes(SnapshotPart::WasmModule, 0, 1), !whole);
            assert!(!copy.takes(SnapshotPart::StableMemory, sizes.stable_memory, 1));
            assert!(!copy.takes(SnapshotPart::WasmMemory, u64::MAX, 2));
            for part in [SnapshotPart::WasmModule, SnapshotPart::WasmMemory, SnapshotPart::StableMemory] {
                if whole && part == SnapshotPart::WasmModule {
                    continue;
                }
                let mut at = 0;
                while at < original.part_bytes(part) {
                    let len = (original.part_bytes(part) - at).min(70_001) as usize;
                    let mut piece = vec![0; len];
                    match part {
                        SnapshotPart::WasmModule => {
                            piece.copy_from_slice(&bytes[at as usize..at as usize + len])
                        }
                        _ => original.read(part, at, &mut piece).unwrap(),
                    }
                    home.change(|keeping| copy.write(part, at, &piece, keeping).unwrap());
                    at += len as u64;
                }
            }
            home.change(|keeping| {
                let hash = copy.add_chunk(b"a chunk", keeping).unwrap();
                assert_eq!(copy.add_chunk(b"a chunk", keeping).unwrap(), hash);
                copy.finish(7);
                if let Keeping::InStore { change, .. } = keeping {
                    copy.put(KEY, change);
                }
            });
            (canister, copy) = home.again(canister, copy);
            let hash = *copy.chunks().next().unwrap();
            assert_eq!(copy.chunk(&hash, home.store.as_ref()).unwrap().unwrap(), b"a chunk");
            assert_eq!(copy.unfinished(), None);
            home.load(&mut canister, &copy);
            let expected = Picture { certified_data: b"certified".to_vec(), ..taken };
            check("a loaded copy", &canister, &expected);
            assert_eq!(canister.system().global_timer, 99);
            // What is uploaded after a load is not seen by the canister.
            let stable = expected.stable.len() as u64;
            home.change(|keeping| {
                let part = SnapshotPart::StableMemory;
                copy.write(part, stable - 9, b"123456789", keeping).unwrap();
            });
            if let Some(store) = &home.store {
                store.checkpoint().unwrap();
            }
            check("the canister", &canister, &expected);
            home.load(&mut canister, &copy);
            assert_eq!(picture(&canister).stable[stable as usize - 9..], *b"123456789");
        }
    });
}

#[test]
fn what_does_not_fit_is_told() {
    with_stack(|| {
        let home = Home::new(Engine::new(MODES[0].1).unwrap(), None);
        let module = home.module(
            r#"(module (memory 1) (global (export "a") (mut i32) (i32.const 1)) (global (mut f32) (f32.const 2)))"#,
        );
        let (a, b, counter) = (GlobalValue::I32(3), GlobalValue::F32(4), GlobalValue::I64(5));
        let fits = |globals: &[GlobalValue], wasm_memory| {
            let sizes = SnapshotBytes { wasm_memory, stable_memory: 0 };
            let given = UploadedModule::Whole(Arc::clone(&module));
            let details = uploaded(globals.to_vec());
            Snapshot::upload(details, given, &sizes, None, &mut Keeping::InRam).unwrap().fits(&module)
        };
        assert_eq!(fits(&[a, b], 65_536), Ok(()));
        assert_eq!(fits(&[a, b, counter], 0), Ok(()));
        assert_eq!(fits(&[a], 0).unwrap_err(), "1 globals are listed, and the module has 2");
        assert_eq!(fits(&[a, b, a], 0).unwrap_err(), "3 globals are listed, and the module has 2");
        assert_eq!(fits(&[b, a], 0).unwrap_err(), "global 0 is listed as f32, and the module's is i32");
        let bad = SnapshotBytes { wasm_memory: 1, stable_memory: 0 };
        assert!(bad.fault().unwrap().contains("whole Wasm pages"));
        let large = SnapshotBytes { wasm_memory: 0, stable_memory: (500 << 30) + 65_536 };
        assert!(large.fault().unwrap().contains("more than the 536870912000"));
    });
}

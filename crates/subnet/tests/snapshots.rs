//! The IC's requests about snapshots: what they do, and with which codes they are refused.

use bedstone_subnet::engine::{
    EngineConfig, GlobalValue, InstallMode, LowWasmMemoryHook, Principal, SnapshotPart, SnapshotSource,
};
use bedstone_subnet::{
    Call, CallKind, Install, RequestError, SNAPSHOT_SLICE_BYTES_MAX, SNAPSHOTS_MAX, SnapshotData, SnapshotId,
    SnapshotMetadata, SnapshotTarget, Subnet, SubnetConfig,
};

pub const START: u64 = 1_767_225_600_000_000_000;
const BOSS: Principal = Principal::management_canister();
const STRANGER: Principal = Principal::anonymous();

/// Keeps a byte in the heap, in stable memory and in a global.
const KEEPER: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (memory 1) (global $kept (mut i32) (i32.const 0)) (global (export "version") i64 (i64.const 9))
  (func (export "canister_init") (drop (call $grow (i64.const 2))))
  (func (export "canister_update set")
    (call $arg (i32.const 100) (i32.const 0) (i32.const 1))
    (call $write (i64.const 70000) (i64.const 100) (i64.const 1))
    (global.set $kept (i32.load8_u (i32.const 100))) (call $reply))
  (func (export "canister_query get")
    (i32.store8 (i32.const 201) (i32.load8_u (i32.const 100)))
    (call $read (i64.const 202) (i64.const 70000) (i64.const 1))
    (i32.store8 (i32.const 203) (global.get $kept))
    (call $append (i32.const 201) (i32.const 3)) (call $reply)))"#;

pub fn with_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(test).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A subnet with one canister that keeps a byte.
struct Scene {
    subnet: Subnet,
    canister: Principal,
}

impl Scene {
    fn new() -> Self {
        let mut subnet = Subnet::new(&SubnetConfig::new(EngineConfig::default(), START)).unwrap();
        let canister = keeper(&mut subnet);
        Self { subnet, canister }
    }

    fn set(&mut self, byte: u8) {
        assert!(call(&mut self.subnet, self.canister, "set", CallKind::Update, &[byte]).is_empty());
    }

    fn get(&mut self, canister: Principal) -> Vec<u8> {
        call(&mut self.subnet, canister, "get", CallKind::Query, &[])
    }

    fn take(&mut self) -> SnapshotId {
        self.subnet.take_snapshot(BOSS, self.canister, None).unwrap().id
    }
}

fn keeper(subnet: &mut Subnet) -> Principal {
    let canister = subnet.create_canister(vec![BOSS]).unwrap();
    let (mode, module) = (InstallMode::Install, wat::parse_str(KEEPER).unwrap());
    let install = Install { canister, mode, module, arg: Vec::new(), caller: BOSS };
    subnet.install(&install).unwrap().reply.unwrap();
    canister
}

fn call(subnet: &mut Subnet, canister: Principal, method: &str, kind: CallKind, arg: &[u8]) -> Vec<u8> {
    let call = Call { canister, method: method.to_owned(), arg: arg.to_vec(), caller: STRANGER, kind };
    subnet.call(&call).unwrap().reply.unwrap()
}

/// The error code of a request that must be refused, and its text.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, RequestError>) -> (u16, String) {
    match result {
        Err(RequestError::Rejected(reject)) => (reject.error_code, reject.message),
        other => panic!("{other:?} should be a reject"),
    }
}

#[test]
fn snapshots_come_and_go() {
    with_stack(|| {
        let mut scene = Scene::new();
        scene.set(1);
        let version = scene.subnet.status(scene.canister).unwrap().unwrap().version;
        let first = scene.subnet.take_snapshot(BOSS, scene.canister, None).unwrap();
        assert_eq!((first.taken_at_nanos, first.source), (START, SnapshotSource::TakenFromCanister));
        assert_eq!(first.id, SnapshotId { canister: scene.canister, number: 0 });
        let module = wat::parse_str(KEEPER).unwrap().len() as u64;
        // Heap, stable memory, module, and two globals and the instruction counter, 32 bytes each.
        assert_eq!(first.total_bytes, 65_536 + 2 * 65_536 + module + 3 * 32);
        scene.set(2);
        let second = scene.take();
        scene.set(3);
        let canister = scene.canister;
        scene.subnet.load_snapshot(BOSS, canister, first.id).unwrap();
        assert_eq!(scene.get(canister), [1; 3]);
        scene.subnet.load_snapshot(BOSS, canister, second).unwrap();
        assert_eq!(scene.get(canister), [2; 3]);
        assert_eq!(scene.subnet.status(canister).unwrap().unwrap().version, version + 4);

        let third = scene.subnet.take_snapshot(BOSS, canister, Some(first.id)).unwrap().id;
        let ids = |scene: &mut Scene| {
            let list = scene.subnet.list_snapshots(BOSS, canister).unwrap();
            list.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&mut scene), [second, third]);
        assert_eq!(third.number, 2);
        scene.subnet.delete_snapshot(BOSS, canister, second).unwrap();
        assert_eq!(ids(&mut scene), [third]);

        // To another canister of the same controller.
        let other = keeper(&mut scene.subnet);
        scene.subnet.load_snapshot(BOSS, other, third).unwrap();
        assert_eq!(scene.get(other), [2; 3]);
        assert!(scene.subnet.delete_canister(canister).unwrap());
        let gone = refused(scene.subnet.load_snapshot(BOSS, other, third));
        assert_eq!(gone, (305, format!("Could not find the snapshot ID {third} for canister {other}.")));
        assert_eq!(scene.get(other), [2; 3]);
    });
}

#[test]
fn what_is_refused() {
    with_stack(|| {
        let mut scene = Scene::new();
        let canister = scene.canister;
        let empty = scene.subnet.create_canister(vec![BOSS]).unwrap();
        let missing = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 0, 99, 1, 1]);
        let subnet = &mut scene.subnet;
        assert_eq!(refused(subnet.take_snapshot(BOSS, missing, None)).0, 301);
        assert_eq!(refused(subnet.take_snapshot(BOSS, empty, None)).0, 406);
        let mine = subnet.take_snapshot(BOSS, canister, None).unwrap().id;
        let unknown = SnapshotId { canister, number: 77 };

        for request in [
            refused(subnet.take_snapshot(STRANGER, canister, None)),
            refused(subnet.load_snapshot(STRANGER, canister, mine)),
            refused(subnet.list_snapshots(STRANGER, canister)),
            refused(subnet.delete_snapshot(STRANGER, canister, mine)),
            refused(subnet.read_snapshot_metadata(STRANGER, canister, mine)),
        ] {
            assert!(request.0 == 512 && request.1.starts_with("Only the controllers"), "{request:?}");
        }
        for request in [
            refused(subnet.take_snapshot(BOSS, canister, Some(unknown))),
            refused(subnet.load_snapshot(BOSS, canister, unknown)),
            refused(subnet.delete_snapshot(BOSS, canister, unknown)),
            refused(subnet.read_snapshot_metadata(BOSS, canister, unknown)),
        ] {
            assert_eq!(
                request,
                (305, format!("Could not find the snapshot ID {unknown} for canister {canister}."))
            );
        }
        let other = refused(subnet.delete_snapshot(BOSS, empty, mine));
        assert_eq!(other, (406, format!("The snapshot {mine} does not belong to canister {empty}.")));
        let foreign = subnet.create_canister(vec![STRANGER]).unwrap();
        assert_eq!(refused(subnet.load_snapshot(STRANGER, foreign, mine)).0, 512);

        for _ in 1..SNAPSHOTS_MAX {
            subnet.take_snapshot(BOSS, canister, None).unwrap();
        }
        let full = format!("Canister {canister} has reached the maximum number of snapshots allowed: 10.");
        assert_eq!(refused(subnet.take_snapshot(BOSS, canister, None)), (406, full));
        subnet.take_snapshot(BOSS, canister, Some(mine)).unwrap();
        assert_eq!(subnet.list_snapshots(BOSS, canister).unwrap().len(), SNAPSHOTS_MAX);
    });
}

fn part(part: SnapshotPart, offset: u64, size: u64) -> SnapshotData {
    SnapshotData::Part { part, offset, size }
}

/// Downloads a snapshot in the IC's slices and uploads it into another canister.
#[test]
fn a_snapshot_goes_through_the_ics_requests() {
    with_stack(|| {
        let mut scene = Scene::new();
        scene.set(5);
        let (id, canister) = (scene.take(), scene.canister);
        let other = keeper(&mut scene.subnet);
        let subnet = &mut scene.subnet;
        let metadata = subnet.read_snapshot_metadata(BOSS, canister, id).unwrap();
        assert_eq!(metadata.globals, [GlobalValue::I64(9), GlobalValue::I32(5)]);
        assert_eq!((metadata.wasm_memory_bytes, metadata.stable_memory_bytes), (65_536, 131_072));
        assert_eq!((metadata.global_timer, metadata.wasm_chunks.len()), (Some(0), 0));
        assert_eq!(metadata.on_low_wasm_memory_hook, Some(LowWasmMemoryHook::ConditionNotSatisfied));

        let timed = SnapshotMetadata { global_timer: Some(START + 10), ..metadata.clone() };
        let copy = subnet.upload_snapshot_metadata(BOSS, other, &timed, None).unwrap();
        // Not before all of it is there: the module is zeros.
        assert_eq!(refused(subnet.load_snapshot(BOSS, other, copy)).0, 505);
        for (which, bytes) in [
            (SnapshotPart::WasmModule, metadata.wasm_module_bytes),
            (SnapshotPart::WasmMemory, metadata.wasm_memory_bytes),
            (SnapshotPart::StableMemory, metadata.stable_memory_bytes),
        ] {
            for offset in (0..bytes).step_by(50_001) {
                let size = (bytes - offset).min(50_001);
                let slice = subnet.read_snapshot_data(BOSS, canister, id, part(which, offset, size)).unwrap();
                let target = SnapshotTarget::Part { part: which, offset };
                subnet.upload_snapshot_data(BOSS, other, copy, target, &slice).unwrap();
            }
            let beyond = refused(subnet.read_snapshot_data(BOSS, canister, id, part(which, bytes, 1)));
            assert!(
                beyond.0 == 408 && beyond.1.ends_with(&format!("offset: {bytes}, size: 1")),
                "{beyond:?}"
            );
            let target = SnapshotTarget::Part { part: which, offset: bytes };
            assert_eq!(refused(subnet.upload_snapshot_data(BOSS, other, copy, target, &[1])).0, 408);
        }
        let large = part(SnapshotPart::StableMemory, 0, SNAPSHOT_SLICE_BYTES_MAX + 1);
        let large = refused(subnet.read_snapshot_data(BOSS, canister, id, large));
        assert_eq!(large, (408, "Requested slice too large: 2000001 > 2000000".to_owned()));

        subnet.upload_snapshot_data(BOSS, other, copy, SnapshotTarget::WasmChunk, b"chunk").unwrap();
        let hash = subnet.read_snapshot_metadata(BOSS, other, copy).unwrap().wasm_chunks[0];
        let chunk = subnet.read_snapshot_data(BOSS, other, copy, SnapshotData::WasmChunk(hash)).unwrap();
        assert_eq!(chunk, b"chunk");
        assert_eq!(
            refused(subnet.read_snapshot_data(BOSS, other, copy, SnapshotData::WasmChunk([0; 32]))).0,
            504
        );
        let chunk = refused(subnet.upload_snapshot_data(BOSS, canister, id, SnapshotTarget::WasmChunk, b""));
        assert_eq!(chunk.0, 409);

        subnet.load_snapshot(BOSS, other, copy).unwrap();
        assert_eq!(subnet.canister(other).unwrap().unwrap().system().global_timer, START + 10);
        assert_eq!(scene.get(other), [5; 3]);
    });
}

#[test]
fn uploads_that_cannot_be() {
    with_stack(|| {
        let mut scene = Scene::new();
        let (id, canister) = (scene.take(), scene.canister);
        let subnet = &mut scene.subnet;
        let good = subnet.read_snapshot_metadata(BOSS, canister, id).unwrap();
        for bad in [
            SnapshotMetadata { wasm_module_bytes: 0, ..good.clone() },
            SnapshotMetadata { wasm_module_bytes: (100 << 20) + 1, ..good.clone() },
            SnapshotMetadata { wasm_memory_bytes: 1, ..good.clone() },
            SnapshotMetadata { stable_memory_bytes: (500 << 30) + 65_536, ..good.clone() },
            SnapshotMetadata { certified_data: vec![0; 33], ..good.clone() },
            SnapshotMetadata { globals: vec![GlobalValue::I32(0); 1002], ..good.clone() },
        ] {
            let error = refused(subnet.upload_snapshot_metadata(BOSS, canister, &bad, None));
            assert!(
                error.0 == 408 && error.1.starts_with("Snapshot Metadata contains invalid data"),
                "{error:?}"
            );
        }
        // Globals are looked at when the module is there.
        let other = SnapshotMetadata { globals: vec![GlobalValue::I64(9)], ..good };
        let copy = subnet.upload_snapshot_metadata(BOSS, canister, &other, None).unwrap();
        let module = wat::parse_str(KEEPER).unwrap();
        let target = SnapshotTarget::Part { part: SnapshotPart::WasmModule, offset: 0 };
        subnet.upload_snapshot_data(BOSS, canister, copy, target, &module).unwrap();
        let error = refused(subnet.load_snapshot(BOSS, canister, copy));
        assert!(
            error.0 == 408 && error.1.contains("1 globals are listed, and the module has 2"),
            "{error:?}"
        );
    });
}

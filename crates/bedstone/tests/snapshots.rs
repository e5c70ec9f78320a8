//! Snapshots and forks of networks with a state directory: they survive what canisters survive, and go to directories and
//! back, also in several attempts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bedstone::{
    Durability, Error, METADATA_FILE, Network, NetworkBuilder, Principal, SnapshotId, SnapshotMetadata,
};
use bedstone_subnet::engine::store::{Budget, Config, FileDisk, Store, Work};
use candid::Nat;

/// A directory that is removed at the end.
struct Room(PathBuf);

impl Room {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bedstone-snap-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn builder(&self) -> NetworkBuilder {
        Network::builder().state_dir(self.0.join("state"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Files of memories and modules, in a state directory that nobody has open, once those that nobody needs are gone.
    fn files(&self) -> usize {
        let mut config = Config::new([1; 32]);
        config.background = false;
        let disk = std::sync::Arc::new(FileDisk::new(self.0.join("state")));
        let (store, _) = Store::open(disk, &config).unwrap();
        while store.step(Instant::now(), Budget::new(1000)).unwrap() == Work::More {}
        store.close().unwrap();
        let count = |name| std::fs::read_dir(self.0.join("state").join(name)).unwrap().count();
        count("mem") + count("blob")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn wasm(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/../../canisters/prebuilt/{name}.wasm", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn map(network: &Network) -> Principal {
    let map = network.create_canister().unwrap();
    network.install(map, &wasm("btreemap"), ()).unwrap();
    map
}

fn insert(network: &Network, map: Principal, key: u32) {
    let _: (Option<Nat>,) = network.update(map, "insert", (Nat::from(key), Nat::from(key + 1))).unwrap();
}

fn get(network: &Network, map: Principal, key: u32) -> Option<Nat> {
    let (value,): (Option<Nat>,) = network.query(map, "get", (Nat::from(key),)).unwrap();
    value
}

fn export(network: &Network, id: SnapshotId, to: &Path) -> Result<(), Error> {
    network.export_snapshot(id, to, |_| Ok(b"{}".to_vec()), &mut |_, _| {})
}

fn code(error: Error) -> u16 {
    error.reject().unwrap_or_else(|| panic!("{error} should be a reject")).error_code
}

#[test]
fn they_survive_and_go_with_their_canister() {
    for durability in [Durability::Always, Durability::Off] {
        let room = Room::new();
        let builder = room.builder().durability(durability);
        let network = builder.clone().build().unwrap();
        let canister = map(&network);
        insert(&network, canister, 1);
        let taken = network.take_snapshot(canister, None).unwrap();
        insert(&network, canister, 2);
        // The process ends: with `Off` the second insertion is lost, the snapshot is not.
        drop(network);
        let network = builder.clone().build().unwrap();
        assert_eq!(network.snapshots(canister).unwrap(), std::slice::from_ref(&taken));
        insert(&network, canister, 3);
        network.load_snapshot(canister, taken.id).unwrap();
        drop(network);
        let network = builder.clone().build().unwrap();
        assert_eq!([1, 2, 3].map(|key| get(&network, canister, key).is_some()), [true, false, false]);
        insert(&network, canister, 4);
        assert_eq!(get(&network, canister, 4), Some(Nat::from(5_u8)));

        let second = network.take_snapshot(canister, Some(taken.id)).unwrap();
        assert_eq!(second.id.number, 1);
        assert_eq!(code(network.load_snapshot(canister, taken.id).unwrap_err()), 305);
        network.close().unwrap();
        // Heap and stable memory, two files each, of the canister and of its snapshot, and their module.
        assert_eq!(room.files(), 9);
        let network = builder.clone().build().unwrap();
        assert!(network.delete_canister(canister).unwrap());
        network.save().unwrap();
        network.close().unwrap();
        assert_eq!(room.files(), 0, "{durability:?}");
    }
}

#[test]
fn forks_have_names_and_lives_of_their_own() {
    let room = Room::new();
    let network = room.builder().build().unwrap();
    let canister = map(&network);
    insert(&network, canister, 1);
    let snapshot = network.take_snapshot(canister, None).unwrap().id;
    insert(&network, canister, 2);
    let fork = network.fork_canister(canister, None, Some("copy")).unwrap();
    let older = network.fork_canister(canister, Some(snapshot), None).unwrap();
    insert(&network, fork, 3);
    insert(&network, canister, 4);
    let keys = |network: &Network, canister| [1, 2, 3, 4].map(|key| get(network, canister, key).is_some());
    let check = |network: &Network| {
        assert_eq!(keys(network, canister), [true, true, false, true]);
        assert_eq!(keys(network, fork), [true, true, true, false]);
        assert_eq!(keys(network, older), [true, false, false, false]);
    };
    check(&network);
    drop(network);
    let network = room.builder().build().unwrap();
    check(&network);
    assert_eq!(network.canister_named("copy"), Some(fork));
    assert!(network.delete_canister(canister).unwrap());
    assert_eq!(keys(&network, fork), [true, true, true, false]);
    let next = network.create_canister().unwrap();
    assert!(next > older, "ids go on");
    assert_eq!(code(network.fork_canister(next, None, None).unwrap_err()), 406);
    assert_eq!(code(network.fork_canister(canister, None, None).unwrap_err()), 301);
    assert_eq!(code(network.fork_canister(fork, Some(snapshot), None).unwrap_err()), 305);
}

#[test]
fn a_network_in_memory() {
    let network = Network::new().unwrap();
    let canister = map(&network);
    insert(&network, canister, 1);
    let snapshot = network.take_snapshot(canister, None).unwrap().id;
    let forks: Vec<Principal> =
        (0..20).map(|_| network.fork_canister(canister, Some(snapshot), None).unwrap()).collect();
    for (key, fork) in (10..).zip(&forks) {
        insert(&network, *fork, key);
    }
    for (key, fork) in (10..).zip(&forks) {
        assert!(get(&network, *fork, 1).is_some() && get(&network, *fork, key).is_some());
        assert!(get(&network, *fork, key + 1).is_none());
    }
    network.load_snapshot(forks[0], snapshot).unwrap();
    assert_eq!(get(&network, forks[0], 10), None);
    network.delete_snapshot(snapshot).unwrap();
    assert!(get(&network, forks[1], 11).is_some());

    // And out, and in.
    let room = Room::new();
    let snapshot = network.take_snapshot(forks[1], None).unwrap().id;
    export(&network, snapshot, &room.path("out")).unwrap();
    let metadata = network.snapshot_metadata(snapshot).unwrap();
    let other = Network::new().unwrap();
    let target = other.create_canister().unwrap();
    let id = other.import_snapshot(target, &room.path("out"), &metadata, None, &mut |_, _| {}).unwrap();
    other.load_snapshot(target, id).unwrap();
    assert_eq!(other.stable_memory(target).unwrap(), network.stable_memory(forks[1]).unwrap());
    assert_eq!(get(&other, target, 11), Some(Nat::from(12_u8)));
}

/// A canister with 80 MiB of stable memory, none of it zero but a hole of 10 MiB.
fn large(network: &Network) -> Principal {
    let wasm = wat::parse_str(
        r#"(module
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (memory 16)
          (func (export "canister_init") (local $at i64)
            (drop (call $grow (i64.const 1280)))
            (loop $next
              (memory.fill (i32.const 0) (i32.add (i32.const 1) (i32.wrap_i64 (i64.shr_u (local.get $at) (i64.const 20)))) (i32.const 0x100000))
              (if (i64.ge_u (i64.sub (local.get $at) (i64.const 0x1400000)) (i64.const 0xa00000))
                (then (call $write (local.get $at) (i64.const 0) (i64.const 0x100000))))
              (local.set $at (i64.add (local.get $at) (i64.const 0x100000)))
              (br_if $next (i64.lt_u (local.get $at) (i64.const 0x5000000))))))"#,
    );
    let canister = network.create_canister().unwrap();
    network.install(canister, &wasm.unwrap(), ()).unwrap();
    canister
}

/// Runs a transfer that ends, as its process would, when so many bytes are done; how far it had come when it began.
fn interrupted(at: u64, transfer: impl FnOnce(&mut dyn FnMut(u64, u64))) -> u64 {
    let mut first = None;
    let result = catch_unwind(AssertUnwindSafe(|| {
        transfer(&mut |done, _| {
            first.get_or_insert(done);
            assert!(done < at, "the process ends here");
        });
    }));
    assert!(result.is_err());
    first.unwrap()
}

#[test]
fn transfers_go_on_where_they_ended() {
    let room = Room::new();
    let network = room.builder().build().unwrap();
    let canister = large(&network);
    let id = network.take_snapshot(canister, None).unwrap().id;
    let (out, whole) = (room.path("out"), room.path("whole"));
    export(&network, id, &whole).unwrap();
    assert!(!whole.join(".bedstone-export").exists());

    let attempt = |at| {
        interrupted(at, |progress| {
            network.export_snapshot(id, &out, |_| Ok(b"{}".to_vec()), progress).unwrap();
        })
    };
    assert_eq!(attempt(20 << 20), 0);
    assert_eq!(attempt(60 << 20), 0);
    assert!(!out.join(METADATA_FILE).exists());
    // What was not yet synced may be anything.
    let file = std::fs::OpenOptions::new().write(true).open(out.join("stable_memory.bin")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xee; 4096], 70 << 20).unwrap();
    let error = network.export_snapshot(id, &out, |_| Ok(b"{ }".to_vec()), &mut |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("an export of something else that was not finished"), "{error}");
    let reached = attempt(70 << 20);
    assert!(reached >= 32 << 20, "{reached}");
    export(&network, id, &out).unwrap();
    for name in ["metadata.json", "wasm_module.bin", "wasm_memory.bin", "stable_memory.bin"] {
        assert!(std::fs::read(out.join(name)).unwrap() == std::fs::read(whole.join(name)).unwrap(), "{name}");
    }
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 4);
    let error = export(&network, id, &out).unwrap_err().to_string();
    assert!(error.ends_with("holds a snapshot already; choose another directory"), "{error}");

    let metadata = network.snapshot_metadata(id).unwrap();
    let stable = network.stable_memory(canister).unwrap();
    drop(network);
    let import = |network: &Network, progress: &mut dyn FnMut(u64, u64)| {
        network.import_snapshot(canister, &out, &metadata, None, progress).unwrap()
    };
    let network = room.builder().build().unwrap();
    let first = interrupted(50 << 20, |progress| {
        import(&network, progress);
    });
    assert!(first <= 17 << 20, "{first}");
    assert_eq!(network.snapshots(canister).unwrap().len(), 1, "not seen before it is complete");
    drop(network);
    let network = room.builder().durability(Durability::Off).build().unwrap();
    let mut reached = None;
    let made = import(&network, &mut |done, _| {
        reached.get_or_insert(done);
    });
    assert!(reached.unwrap() > 50 << 20, "{reached:?}");
    network.load_snapshot(canister, made).unwrap();
    assert_eq!(network.stable_memory(canister).unwrap(), stable);
    network.close().unwrap();
}

#[test]
fn directories_that_are_not_whole() {
    let room = Room::new();
    let network = Network::new().unwrap();
    let canister = map(&network);
    insert(&network, canister, 1);
    let id = network.take_snapshot(canister, None).unwrap().id;
    let metadata = network.snapshot_metadata(id).unwrap();
    let target = network.create_canister().unwrap();
    let directory = room.path("out");
    let fails = |change: &dyn Fn(&Path, &mut SnapshotMetadata), why: &str| {
        let _ = std::fs::remove_dir_all(&directory);
        export(&network, id, &directory).unwrap();
        let mut metadata = metadata.clone();
        change(&directory, &mut metadata);
        let result = network.import_snapshot(target, &directory, &metadata, None, &mut |_, _| {});
        let error = result.unwrap_err();
        assert!(error.to_string().contains(why), "{error} should say {why}");
        assert!(matches!(error, Error::Snapshot(_)), "{error:?}");
        assert_eq!(network.snapshots(target).unwrap(), []);
    };
    let resize = |path: PathBuf, by: i64| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        file.set_len(len.checked_add_signed(by).unwrap()).unwrap();
    };
    fails(&|path, _| resize(path.join("wasm_memory.bin"), -1), "wasm_memory.bin has");
    fails(&|path, _| resize(path.join("stable_memory.bin"), 1), "stable_memory.bin has");
    fails(
        &|path, _| std::fs::remove_file(path.join("stable_memory.bin")).unwrap(),
        "stable_memory.bin is missing",
    );
    fails(
        &|path, _| std::fs::remove_file(path.join("wasm_module.bin")).unwrap(),
        "wasm_module.bin is missing",
    );
    fails(
        &|path, metadata| {
            std::fs::write(path.join("wasm_module.bin"), b"not Wasm").unwrap();
            metadata.wasm_module_bytes = 8;
        },
        "wasm_module.bin is not a canister's module",
    );
    fails(&|_, metadata| metadata.globals.truncate(1), "does not fit together");
    fails(&|_, metadata| metadata.wasm_memory_bytes += 1, "not whole Wasm pages");
    fails(&|_, metadata| metadata.wasm_chunks.push([3; 32]), "0303.bin");
    fails(
        &|path, metadata| {
            std::fs::create_dir(path.join("wasm_chunk_store")).unwrap();
            let name = format!("{}.bin", "04".repeat(32));
            std::fs::write(path.join("wasm_chunk_store").join(name), b"something").unwrap();
            metadata.wasm_chunks.push([4; 32]);
        },
        "is damaged: its SHA-256 is not its name",
    );
    std::fs::write(room.path("file"), b"").unwrap();
    let error = export(&network, id, &room.path("file")).unwrap_err().to_string();
    assert!(error.starts_with("cannot make"), "{error}");
    std::fs::create_dir(room.path("photos")).unwrap();
    std::fs::write(room.path("photos/cat.jpg"), b"meow").unwrap();
    let error = export(&network, id, &room.path("photos")).unwrap_err().to_string();
    assert!(error.ends_with("photos is not empty; choose another directory"), "{error}");
}

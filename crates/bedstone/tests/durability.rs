//! Networks with a state directory: what calls did is there whatever became of the process, canisters come and go.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bedstone::{Durability, Network, NetworkBuilder, Principal};
use candid::Nat;

/// A directory that is removed at the end.
struct Room(PathBuf);

impl Room {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bedstone-face-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn builder(&self) -> NetworkBuilder {
        Network::builder().state_dir(&self.0)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn map_wasm() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../canisters/prebuilt/btreemap.wasm")).unwrap()
}

fn insert(network: &Network, map: Principal, key: u32) {
    let (before,): (Option<Nat>,) =
        network.update(map, "insert", (Nat::from(key), Nat::from(key + 1))).unwrap();
    assert_eq!(before, None);
}

fn get(network: &Network, map: Principal, key: u32) -> Option<Nat> {
    let (value,): (Option<Nat>,) = network.query(map, "get", (Nat::from(key),)).unwrap();
    value
}

/// Never closed: the network is forgotten, as a process forgets it that ends.
#[test]
fn what_a_call_returned_is_there_without_a_close() {
    let room = Room::new();
    let (map, copy) = (room.0.with_extension("copy"), Room(room.0.with_extension("copy")));
    let network = room.builder().build().unwrap();
    let canister = network.create_canister().unwrap();
    network.name_canister("map", canister).unwrap();
    network.install(canister, &map_wasm(), ()).unwrap();
    for key in 0..20 {
        insert(&network, canister, key);
    }
    // What a power cut would leave at worst is on disk already: a copy of the files opens.
    copy_directory(&room.0, &map);
    let copied = copy.builder().build().unwrap();
    assert_eq!(copied.canister_named("map"), Some(canister));
    for key in 0..20 {
        assert_eq!(get(&copied, canister, key), Some(Nat::from(key + 1)));
    }
    insert(&copied, canister, 20);
    assert_eq!(get(&network, canister, 20), None);
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn off_keeps_what_was_saved() {
    let room = Room::new();
    let builder = room.builder().durability(Durability::Off);
    let network = builder.clone().build().unwrap();
    let map = network.create_canister().unwrap();
    network.install(map, &map_wasm(), ()).unwrap();
    insert(&network, map, 1);
    network.save().unwrap();
    insert(&network, map, 2);
    network.close().unwrap();
    let network = builder.build().unwrap();
    assert_eq!(get(&network, map, 1), Some(Nat::from(2_u8)));
    assert_eq!(get(&network, map, 2), None);
}

/// More canisters than are kept in memory, each called in turn.
#[test]
fn canisters_are_parked_and_come_back() {
    let room = Room::new();
    let network = room.builder().live_canisters_max(3).build().unwrap();
    let wasm = map_wasm();
    let maps: Vec<Principal> = (0..8).map(|_| network.create_canister().unwrap()).collect();
    for map in &maps {
        network.install(*map, &wasm, ()).unwrap();
    }
    for round in 0..3 {
        for (place, map) in (0..).zip(&maps) {
            insert(&network, *map, round * 100 + place);
        }
    }
    network.close().unwrap();
    let network = room.builder().live_canisters_max(2).build().unwrap();
    for (place, map) in (0..).zip(&maps) {
        for round in 0..3 {
            assert_eq!(get(&network, *map, round * 100 + place), Some(Nat::from(round * 100 + place + 1)));
        }
        assert_eq!(get(&network, *map, place + 1), None);
    }
    assert!(network.delete_canister(maps[0]).unwrap());
    network.close().unwrap();
    let network = room.builder().build().unwrap();
    assert_eq!(network.status(maps[0]).unwrap(), None);
    assert!(network.status(maps[1]).unwrap().is_some());
}

/// Callers on several threads share syncs, and each sees its own effects.
#[test]
fn callers_on_several_threads() {
    let room = Room::new();
    let network =
        room.builder().durability(Durability::Group { window: Duration::from_millis(1) }).build().unwrap();
    let map = network.create_canister().unwrap();
    network.install(map, &map_wasm(), ()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let network = &network;
            scope.spawn(move || {
                for key in 0..25 {
                    insert(network, map, thread * 1000 + key);
                    assert_eq!(
                        get(network, map, thread * 1000 + key),
                        Some(Nat::from(thread * 1000 + key + 1))
                    );
                }
            });
        }
    });
    drop(network);
    let network = room.builder().build().unwrap();
    for thread in 0..4 {
        for key in 0..25 {
            assert_eq!(get(&network, map, thread * 1000 + key), Some(Nat::from(thread * 1000 + key + 1)));
        }
    }
}

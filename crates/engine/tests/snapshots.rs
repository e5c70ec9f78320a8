//! Snapshots in RAM and in a store: what was taken comes back whole, forks are strangers, and after a kill there is all or
//! nothing.

use std::time::Instant;

use bedstone_engine::store::{Budget, Work};
use bedstone_engine::{Engine, EngineConfig, GlobalValue, Keeping, SnapshotPart};

use crate::home::{FORK, Home, ID, KEY, TIME, check, copy_directory, picture, program, system};
use crate::machine::{self, Dice};
use crate::support::{MODES, with_stack};

/// Declares two memories, and globals of every type, hidden, exported and constant.
const MANY: &str = r#"(module
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_copy" (func $arg (param i32 i32 i32)))
  (import "ic0" "certified_data_set" (func $certify (param i32 i32)))
  (import "ic0" "global_timer_set" (func $timer (param i64) (result i64)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 1) (memory $second 2)
  (global $i32 (mut i32) (i32.const 0)) (global $i64 (mut i64) (i64.const 0))
  (global $f32 (mut f32) (f32.const nan:0x200001)) (global $f64 (mut f64) (f64.const 0))
  (global $v128 (mut v128) (v128.const i64x2 0 0))
  (global (export "constant") i32 (i32.const 77))
  (export "seen" (global $f64))
  (func (export "canister_init") (drop (call $grow (i64.const 3))))
  (func (export "canister_update set") (local $x i32)
    (call $arg (i32.const 0) (i32.const 0) (i32.const 1))
    (local.set $x (i32.load8_u (i32.const 0)))
    (i32.store8 (i32.const 40000) (local.get $x))
    (i32.store8 $second (i32.const 100000) (local.get $x))
    (drop (memory.grow $second (i32.const 1)))
    (call $write (i64.const 150000) (i64.const 0) (i64.const 1))
    (call $certify (i32.const 0) (i32.const 1))
    (drop (call $timer (i64.extend_i32_u (local.get $x))))
    (global.set $i32 (local.get $x)) (global.set $i64 (i64.extend_i32_u (local.get $x)))
    (global.set $f64 (f64.convert_i32_u (local.get $x))) (global.set $v128 (i32x4.splat (local.get $x)))
    (call $reply)))"#;

/// Messages, snapshots, loads, kills and forks in turn, in every mode, in RAM and in a store.
#[test]
fn what_was_taken_comes_back() {
    with_stack(|| {
        for (seed, (mode, config)) in (1..).zip(MODES) {
            for name in [None, Some(format!("{seed}"))] {
                let mut home = Home::new(Engine::new(config).unwrap(), name.as_deref());
                let what = format!("{mode}, {}", if name.is_some() { "in a store" } else { "in RAM" });
                let mut dice = Dice(seed);
                let mut canister = home.canister(ID, &machine::wat(false));
                for round in 0..6 {
                    let what = format!("{what}, round {round}");
                    home.update(&mut canister, "run", &program(&mut dice));
                    let taken = picture(&canister);
                    let mut snapshot = home.take(&mut canister, KEY);
                    for _ in 0..3 {
                        home.update(&mut canister, "run", &program(&mut dice));
                    }
                    if round % 2 == 1 {
                        (canister, snapshot) = home.again(canister, snapshot);
                    }
                    let before = (canister.system().version, canister.log().clone());
                    home.load(&mut canister, &snapshot);
                    check(&what, &canister, &taken);
                    assert_eq!((canister.system().version, canister.log().clone()), (before.0 + 1, before.1));
                    // It goes on as if nothing had happened, twice from the same snapshot.
                    let program = program(&mut dice);
                    home.update(&mut canister, "run", &program);
                    let after = picture(&canister);
                    (canister, snapshot) = home.again(canister, snapshot);
                    check(&what, &canister, &after);
                    home.load(&mut canister, &snapshot);
                    check(&what, &canister, &taken);
                    home.update(&mut canister, "run", &program);
                    check(&what, &canister, &after);
                    home.change(|keeping| {
                        if let Keeping::InStore { change, .. } = keeping {
                            snapshot.erase(KEY, change);
                        }
                    });
                }
                if let Some(store) = home.store.clone() {
                    drop(canister);
                    store.checkpoint().unwrap();
                    // Heap and stable memory of the canister; of the snapshots nothing stays.
                    assert_eq!(store.memories().unwrap().len(), 2, "{what}");
                    assert_eq!(
                        store.blobs().unwrap().iter().map(|(_, references)| *references).sum::<u64>(),
                        1
                    );
                }
            }
        }
    });
}

#[test]
fn several_memories_and_globals_of_every_type() {
    with_stack(|| {
        for name in [None, Some("many")] {
            let config = EngineConfig { allow_multi_memory: true, ..MODES[0].1 };
            let mut home = Home::new(Engine::new(config).unwrap(), name);
            let mut canister = home.canister(ID, MANY);
            home.update(&mut canister, "set", &[5]);
            let taken = picture(&canister);
            let mut snapshot = home.take(&mut canister, KEY);
            home.update(&mut canister, "set", &[6]);
            (canister, snapshot) = home.again(canister, snapshot);
            let expected = [
                GlobalValue::I32(77),
                GlobalValue::F64(5.0_f64.to_bits()),
                GlobalValue::I32(5),
                GlobalValue::I64(5),
                GlobalValue::F32(0x7fa0_0001),
                GlobalValue::V128(u128::from_le_bytes([5, 0, 0, 0].repeat(4).try_into().unwrap())),
            ];
            assert_eq!(snapshot.details().globals, expected);
            assert_eq!(snapshot.details().global_timer, Some(5));
            assert_eq!(snapshot.memory_count(), 2);
            home.load(&mut canister, &snapshot);
            check("two memories", &canister, &taken);
            // As on the IC, the timer is not a snapshot's unless it was uploaded.
            assert_eq!(canister.system().global_timer, 6);
            let fork = home.change(|keeping| canister.fork(system(FORK), TIME, keeping).unwrap().unwrap());
            check("a fork of two memories", &fork, &taken);
            assert_eq!(fork.system().global_timer, 6);
            drop(fork);
            (canister, _) = home.again(canister, snapshot);
            check("two memories, again", &canister, &taken);
        }
    });
}

#[test]
fn forks_are_strangers() {
    with_stack(|| {
        for name in [None, Some("forks")] {
            let mut home = Home::new(Engine::new(MODES[0].1).unwrap(), name);
            let mut canister = home.canister(ID, &machine::wat(false));
            let mut dice = Dice(9);
            home.update(&mut canister, "run", &program(&mut dice));
            let first = picture(&canister);
            let snapshot = home.take(&mut canister, KEY);
            home.update(&mut canister, "run", &program(&mut dice));
            let second = picture(&canister);

            let fork = home.change(|keeping| canister.fork(system(FORK), TIME, keeping).unwrap().unwrap());
            check("a fork of the canister", &fork, &second);
            assert_eq!(fork.system().version, 1);
            assert_eq!(fork.log().records().count(), 0);
            let mut fork = if name.is_some() {
                drop(fork);
                home.reload(FORK)
            } else {
                fork
            };
            home.update(&mut fork, "run", &program(&mut dice));
            let third = picture(&fork);
            check("the canister", &canister, &second);
            home.update(&mut canister, "run", &program(&mut dice));
            check("the fork", &fork, &third);

            let module = home.module(&machine::wat(false));
            let id = system([0, 0, 0, 0, 0, 0, 0, 9, 1, 1]);
            let mut young = home.change(|keeping| snapshot.fork(&home.engine, id, module, keeping).unwrap());
            check("a fork of the snapshot", &young, &first);
            home.update(&mut young, "run", &program(&mut dice));
            home.load(&mut canister, &snapshot);
            check("the snapshot", &canister, &first);
            if name.is_some() {
                let last = picture(&young);
                drop((young, fork, canister, snapshot));
                home.kill();
                check("the young fork, again", &home.reload([0, 0, 0, 0, 0, 0, 0, 9, 1, 1]), &last);
                check("the fork, again", &home.reload(FORK), &third);
                check("the canister, again", &home.reload(ID), &first);
            }
        }
    });
}

/// A change that was not appended did nothing, and leaves no files behind.
#[test]
fn a_kill_before_the_change_leaves_nothing() {
    with_stack(|| {
        let mut home = Home::new(Engine::new(MODES[0].1).unwrap(), Some("kill"));
        let mut canister = home.canister(ID, &machine::wat(false));
        home.update(&mut canister, "run", &program(&mut Dice(3)));
        let snapshot = home.take(&mut canister, KEY);
        home.update(&mut canister, "run", &program(&mut Dice(4)));
        let before = picture(&canister);
        let (store, module) = (home.store.clone().unwrap(), home.module(&machine::wat(false)));
        let mut copy = Home::new(home.engine.clone(), Some("killed"));
        copy.store = None;
        {
            let mut change = store.begin();
            let mut keeping = Keeping::InStore { store: &store, change: &mut change };
            let other = canister.take_snapshot(TIME, &mut keeping).unwrap().unwrap();
            canister.load_snapshot(&snapshot, module, &mut keeping).unwrap();
            // The process ends here: what another one finds is what is on disk now.
            copy_directory(&home.directory, &copy.directory);
            drop(other);
        }
        copy.open();
        check("after the kill", &copy.reload(ID), &before);
        assert_eq!(copy.snapshots().len(), 1);
        let opened = copy.store.as_ref().unwrap();
        while opened.step(Instant::now(), Budget::new(1000)).unwrap() == Work::More {}
        let files = std::fs::read_dir(copy.directory.join("mem")).unwrap().count();
        assert_eq!(files, 8, "two files for each memory of the canister and of its snapshot");
        drop((canister, snapshot, store));
        home.kill();
        check("after a failure", &home.reload(ID), &before);
    });
}

/// A stable memory of 100 GiB with a page at its end: taking, loading and forking cost what was written.
#[test]
fn a_large_memory_costs_what_is_in_it() {
    with_stack(|| {
        let wat = r#"(module
          (import "ic0" "msg_reply" (func $reply))
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (memory 1) (data (i32.const 0) "the end")
          (func (export "canister_update grow")
            (drop (call $grow (i64.const 1638400)))
            (call $write (i64.const 107374182393) (i64.const 0) (i64.const 7)) (call $reply)))"#;
        for name in [None, Some("large")] {
            let mut home = Home::new(Engine::new(MODES[0].1).unwrap(), name);
            let mut canister = home.canister(ID, wat);
            home.update(&mut canister, "grow", &[]);
            let mut snapshot = home.take(&mut canister, KEY);
            (canister, snapshot) = home.again(canister, snapshot);
            let part = SnapshotPart::StableMemory;
            let at = snapshot.next_data(part, 0).unwrap();
            assert!(at > 107_374_182_400 - (1 << 20), "{at}");
            home.load(&mut canister, &snapshot);
            let mut end = [0; 7];
            canister.read_stable(107_374_182_393, &mut end);
            assert_eq!(&end, b"the end");
            drop(home.change(|keeping| canister.fork(system(FORK), TIME, keeping).unwrap().unwrap()));
        }
    });
}

//! What an installation, an upgrade and a reinstallation keep of memories, globals and system state, and what they cost.

use bedstone_engine::{Engine, InstallMode, Response, WasmMemoryPersistence};

use crate::machine;
use crate::support::{Subject, in_every_mode};

/// A module that writes `name` to heap and stable memory in each of its hooks, with so many Wasm pages of heap.
fn module(name: &str, pages: u32, hooks: &str) -> String {
    format!(
        r#"(module
          (import "ic0" "msg_reply" (func $reply))
          (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
          (import "ic0" "certified_data_set" (func $certify (param i32 i32)))
          (import "ic0" "global_timer_set" (func $timer (param i64) (result i64)))
          (import "ic0" "canister_version" (func $version (result i64)))
          (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (memory {pages})
          (data (i32.const 0) "{name}") (data $p "{name}")
          (global $count (mut i32) (i32.const 0)) (global $shown (export "shown") (mut i64) (i64.const 40))
          (func (export "canister_update work")
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (global.set $shown (i64.add (global.get $shown) (i64.const 1)))
            (i32.store (i32.const 4096) (i32.add (i32.load (i32.const 4096)) (i32.const 1)))
            (drop (memory.grow (i32.const 1)))
            (call $write (i64.mul (call $grow (i64.const 1)) (i64.const 65536)) (i64.const 0) (i64.const 4096))
            (call $certify (i32.const 0) (i32.const 3))
            (drop (call $timer (i64.const 77)))
            call $reply)
          (func (export "canister_query look")
            (i32.store (i32.const 8192) (global.get $count)) (i64.store (i32.const 8196) (global.get $shown))
            (i32.store (i32.const 8204) (memory.size)) (i32.store (i32.const 8208) (i32.load (i32.const 4096)))
            (call $append (i32.const 0) (i32.const 3)) (call $append (i32.const 8192) (i32.const 20)) call $reply)
          {hooks}
          (@custom "icp:private enhanced-orthogonal-persistence" ""))"#
    )
}

/// Name in the heap, both globals, heap size and the heap's own count.
fn look(subject: &mut Subject) -> (String, [i64; 4]) {
    let Response::Reply(reply) = subject.query("look", &[]).response else { panic!("no reply") };
    let small = |at: usize| i64::from(i32::from_le_bytes(reply[at..at + 4].try_into().unwrap()));
    let shown = i64::from_le_bytes(reply[7..15].try_into().unwrap());
    (String::from_utf8(reply[..3].to_vec()).unwrap(), [small(3), shown, small(15), small(19)])
}

fn worked(engine: &Engine, times: usize) -> Subject {
    let mut subject = Subject::installed(engine, &module("old", 3, ""));
    for _ in 0..times {
        assert_eq!(subject.update("work", &[]).response, Response::Reply(Vec::new()));
    }
    subject
}

fn upgrade(how: WasmMemoryPersistence) -> InstallMode {
    InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: Some(how) }
}

#[test]
fn a_replaced_heap_starts_anew_and_stable_memory_stays() {
    in_every_mode(|mode, engine| {
        let mut subject = worked(engine, 2);
        let stable = machine::stable(&subject.canister);
        assert_eq!((stable.len(), &stable[65536..65539]), (2 * 65536, &b"old"[..]), "{mode}");
        let version = subject.canister.system().version;
        let outcome = subject.install(&module("new", 5, ""), upgrade(WasmMemoryPersistence::Replace));
        assert_eq!(outcome.response, Response::None, "{mode}");
        assert_eq!(look(&mut subject), ("new".to_owned(), [0, 40, 5, 0]), "{mode}");
        machine::assert_same(mode, &machine::stable(&subject.canister), &stable);
        let system = subject.canister.system();
        assert_eq!((system.global_timer, &*system.certified_data), (0, &b"old"[..]), "{mode}");
        assert_eq!(system.version, version + 1, "{mode}");
    });
}

#[test]
fn a_kept_heap_keeps_bytes_and_size_but_not_globals() {
    in_every_mode(|mode, engine| {
        for (pages, size) in [(3, 5), (9, 9)] {
            let mut subject = worked(engine, 2);
            let before = machine::heap(&subject.canister);
            let outcome = subject.install(&module("new", pages, ""), upgrade(WasmMemoryPersistence::Keep));
            assert_eq!(outcome.response, Response::None, "{mode}");
            let after = machine::heap(&subject.canister);
            machine::assert_same(mode, &after[..before.len()], &before);
            assert!(after[before.len()..].iter().all(|byte| *byte == 0), "{mode}");
            assert_eq!(look(&mut subject), ("old".to_owned(), [0, 40, size, 2]), "{mode}");
            // It works on, rolls back to what it kept, and upgrades again.
            subject.update("work", &[]);
            assert_eq!(look(&mut subject), ("old".to_owned(), [1, 41, size + 1, 3]), "{mode}");
            subject.install(&module("3rd", 3, ""), upgrade(WasmMemoryPersistence::Keep));
            assert_eq!(look(&mut subject), ("old".to_owned(), [0, 40, size + 1, 3]), "{mode}");
        }
    });
}

#[test]
fn a_reinstallation_empties_everything() {
    in_every_mode(|mode, engine| {
        let mut subject = worked(engine, 2);
        let version = subject.canister.system().version;
        let outcome = subject.install(&module("new", 4, ""), InstallMode::Reinstall);
        assert_eq!(outcome.response, Response::None, "{mode}");
        assert_eq!(look(&mut subject), ("new".to_owned(), [0, 40, 4, 0]), "{mode}");
        assert_eq!(subject.canister.stable_bytes(), 0, "{mode}");
        let system = subject.canister.system();
        assert_eq!((system.global_timer, system.certified_data.len()), (0, 0), "{mode}");
        assert_eq!(system.version, version + 1, "{mode}");
        let outcome = subject.install(&module("new", 4, ""), InstallMode::Install);
        assert!(
            matches!(&outcome.response, Response::Trapped(fault) if fault.code == 514),
            "{mode}: {outcome:?}"
        );
    });
}

/// What `pre_upgrade` writes is there for `post_upgrade`; what it does to the heap is not, unless the heap is kept. The
/// version is the old one before and the new one after.
#[test]
fn hooks_hand_over_through_stable_memory() {
    let pre = r#"(func (export "canister_pre_upgrade") (i64.store (i32.const 16) (call $version))
        (i32.store8 (i32.const 24) (i32.const 1)) (call $write (i64.const 0) (i64.const 16) (i64.const 8)))"#;
    let post = r#"(func (export "canister_post_upgrade") (call $read (i64.const 32) (i64.const 0) (i64.const 8))
        (i64.store (i32.const 40) (call $version)) (memory.init $p (i32.const 48) (i32.const 0) (i32.const 3)))"#;
    in_every_mode(move |mode, engine| {
        for (how, kept) in [(WasmMemoryPersistence::Keep, 1), (WasmMemoryPersistence::Replace, 0)] {
            let mut subject = Subject::installed(engine, &module("old", 3, pre));
            subject.update("work", &[]);
            let version = subject.canister.system().version;
            let outcome = subject.install(&module("new", 3, post), upgrade(how));
            assert_eq!(outcome.response, Response::None, "{mode}");
            let heap = machine::heap(&subject.canister);
            assert_eq!(heap[32..40], version.to_le_bytes(), "{mode}");
            assert_eq!(heap[40..48], (version + 1).to_le_bytes(), "{mode}");
            assert_eq!((&heap[48..51], heap[24]), (&b"new"[..], kept), "{mode}");
        }
    });
}

/// A segment that was dropped is whole again in the next stage and in the next message, in which also globals survive.
#[test]
fn dropped_segments_come_back() {
    let hooks = r#"
        (func $use (param $at i32) (memory.init $p (local.get $at) (i32.const 0) (i32.const 3)) (data.drop $p)
          (global.set $count (i32.add (global.get $count) (i32.const 1))))
        (func $start (call $use (i32.const 16))) (start $start)
        (func (export "canister_init") (call $use (i32.const 32)))
        (func (export "canister_pre_upgrade") (call $use (i32.const 48)))
        (func (export "canister_post_upgrade") (call $use (i32.const 64)))
        (func (export "canister_update use") (call $use (i32.const 80)) (call $use (i32.const 96)))
        (func (export "canister_update once") (call $use (i32.const 80)))"#;
    in_every_mode(move |mode, engine| {
        let mut subject = Subject::installed(engine, &module("old", 3, hooks));
        assert_eq!(look(&mut subject).1[0], 2, "{mode}");
        for round in 0..2 {
            let outcome = subject.update("use", &[]);
            assert!(
                matches!(outcome.response, Response::Trapped(_)),
                "{mode}: the segment is gone the second time"
            );
            assert_eq!(subject.update("once", &[]).response, Response::None, "{mode}");
            assert_eq!(look(&mut subject).1[0], 3 + round, "{mode}");
        }
        let outcome = subject.install(&module("new", 3, hooks), upgrade(WasmMemoryPersistence::Keep));
        assert_eq!(outcome.response, Response::None, "{mode}");
        let heap = machine::heap(&subject.canister);
        let names = [16, 32, 48, 64].map(|at| String::from_utf8_lossy(&heap[at..at + 3]).into_owned());
        assert_eq!(names, ["new", "old", "old", "new"], "{mode}");
        assert_eq!(look(&mut subject).1[0], 2, "{mode}");
    });
}

/// The stages share one budget and each pays for its own pages; compiling a known module costs a hundredth.
#[test]
fn stages_are_charged_together() {
    let hooks = |pre: &str| {
        format!(
            r#"(func $start (i32.store (i32.const 64) (i32.const 1)) nop nop nop) (start $start)
            (func (export "canister_init") (i32.store (i32.const 64) (i32.const 2)) nop)
            (func (export "canister_pre_upgrade") {pre})
            (func (export "canister_post_upgrade") (i32.store (i32.const 64) (i32.const 3)) nop)"#
        )
    };
    in_every_mode(move |mode, engine| {
        let wat = module("old", 3, &hooks("(i32.store (i32.const 9000) (i32.const 9)) nop"));
        let mut subject = Subject::empty(engine);
        let compile = subject.module(&wat).manifest().compile_charge;
        assert_eq!(subject.install(&wat, InstallMode::Install).instructions, compile + 2012, "{mode}");
        let again = subject.install(&wat, upgrade(WasmMemoryPersistence::Replace));
        assert_eq!(again.instructions, compile / 100 + 3017, "{mode}");
        assert_eq!(again.heap_pages_dirtied, 3, "{mode}");
    });
}

/// A module whose element segment does not fit its table is refused, and nothing is lost.
#[test]
fn a_module_that_cannot_be_instantiated_is_refused() {
    in_every_mode(|mode, engine| {
        let broken = "(table 1 funcref) (elem (i32.const 1) $f) (func $f)";
        let mut subject = worked(engine, 2);
        let (heap, stable) = (machine::heap(&subject.canister), machine::stable(&subject.canister));
        let seen = look(&mut subject);
        for how in [
            upgrade(WasmMemoryPersistence::Keep),
            upgrade(WasmMemoryPersistence::Replace),
            InstallMode::Reinstall,
        ] {
            let outcome = subject.install(&module("new", 3, broken), how);
            let Response::Trapped(fault) = &outcome.response else { panic!("{mode}: {outcome:?}") };
            assert_eq!(
                (fault.code, &*fault.detail),
                (502, "Canister trapped: table out of bounds"),
                "{mode}"
            );
            machine::assert_same(mode, &machine::heap(&subject.canister), &heap);
            machine::assert_same(mode, &machine::stable(&subject.canister), &stable);
            assert_eq!(look(&mut subject), seen, "{mode}");
        }
        subject.update("work", &[]);
        assert_eq!(look(&mut subject).1[3], 3, "{mode}");
    });
}

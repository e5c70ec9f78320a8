//! A saved canister comes back as it was, from RAM and from a directory: memories, sizes, globals, log and system state;
//! a later save hands over only what changed since.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bedstone_engine::store::{Config, FileDisk, MemoryId, PageIndex, Store};
use bedstone_engine::{
    Canister, Engine, Entry, InstallMode, LogRecord, Principal, Response, SystemState, WasmMemoryPersistence,
};

use crate::machine::{self, assert_same};
use crate::support::{Subject, in_every_mode};

/// The canister of the roll-back tests: its method `mess` changes all that a message can change.
fn module(pages: u32) -> String {
    include_str!("rollback.wat")
        .replace("@pages", &pages.to_string())
        .replace("@hooks", r#"(func (export "canister_init") call $begin) (@custom "icp:private enhanced-orthogonal-persistence" "")"#)
}

fn mess(subject: &mut Subject) {
    assert_eq!(subject.update("mess", &[]).response, Response::Reply(Vec::new()));
}

fn worked(engine: &Engine) -> Subject {
    let mut subject = Subject::installed(engine, &module(80));
    mess(&mut subject);
    subject
}

fn save(subject: &mut Subject, store: &Store) {
    let mut change = store.begin();
    subject.canister.save(store, &mut change).unwrap();
    store.save(change).unwrap();
}

fn load(engine: &Engine, store: &Store) -> Subject {
    let id = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 0, 7, 1, 1]);
    Subject { engine: engine.clone(), canister: Canister::load(engine, store, id.as_slice()).unwrap() }
}

/// Everything that must come back.
fn everything(subject: &mut Subject) -> (SystemState, Vec<LogRecord>, Option<[u8; 32]>, Response) {
    let canister = &subject.canister;
    let (system, hash) = (canister.system().clone(), canister.module().map(|module| module.hash()));
    let log = canister.log().records().cloned().collect();
    (system, log, hash, subject.execute(Entry::Query("peek"), &[]).response)
}

fn assert_equal(what: &str, subject: &mut Subject, expected: &mut Subject) {
    assert_same(
        &format!("heap, {what}"),
        &machine::heap(&subject.canister),
        &machine::heap(&expected.canister),
    );
    assert_same(
        &format!("stable, {what}"),
        &machine::stable(&subject.canister),
        &machine::stable(&expected.canister),
    );
    assert_eq!(everything(subject), everything(expected), "{what}");
}

/// A directory that is not there yet and is gone after the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn open(&self) -> Store {
        Store::open_or_create(Arc::new(FileDisk::new(&self.0)), &Config::new([3; 32])).unwrap().0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn from_ram_a_canister_comes_back_and_goes_on() {
    in_every_mode(|mode, engine| {
        let store = Store::in_memory(&Config::new([1; 32]));
        let mut subject = worked(engine);
        save(&mut subject, &store);
        let mut loaded = load(engine, &store);
        assert_equal(mode, &mut loaded, &mut subject);
        // What was loaded works, fails and is saved again like what was not.
        for subject in [&mut loaded, &mut subject] {
            assert!(matches!(subject.update("unreachable", &[]).response, Response::Trapped(_)), "{mode}");
            mess(subject);
        }
        assert_equal(mode, &mut loaded, &mut subject);
        save(&mut loaded, &store);
        assert_equal(mode, &mut load(engine, &store), &mut subject);
    });
}

#[test]
fn from_a_directory_a_canister_comes_back_in_another_mode() {
    let scratch = Scratch::new("engine-persistence");
    in_every_mode(move |mode, engine| {
        let store = scratch.open();
        if store.metadata_range_is_empty() {
            save(&mut worked(engine), &store);
        } else {
            // Saved in the mode before this one; the twin has done as many messages in this one.
            let mut loaded = load(engine, &store);
            let mut twin = worked(engine);
            let messages = loaded.canister.system().version - twin.canister.system().version;
            for _ in 0..messages {
                mess(&mut twin);
            }
            assert_equal(mode, &mut loaded, &mut twin);
            mess(&mut loaded);
            save(&mut loaded, &store);
        }
        store.close().unwrap();
    });
}

trait IsEmpty {
    fn metadata_range_is_empty(&self) -> bool;
}

impl IsEmpty for Store {
    fn metadata_range_is_empty(&self) -> bool {
        let mut empty = true;
        self.metadata_range(bedstone_engine::store::KeyRange::All, &mut |_, _| {
            empty = false;
            std::ops::ControlFlow::Break(())
        })
        .unwrap();
        empty
    }
}

/// The ids of the memories in a store.
fn memories(store: &Store) -> Vec<MemoryId> {
    (0..50).map(MemoryId::new).filter(|id| store.memory(*id).is_ok()).collect()
}

/// A page that the store holds is falsified behind the canister's back: a save heals it exactly if the canister has
/// changed that page since.
#[test]
fn only_changed_pages_are_handed_over_again() {
    in_every_mode(|mode, engine| {
        let store = Store::in_memory(&Config::new([2; 32]));
        let mut subject = Subject::installed(engine, &machine::wat(false));
        let run = |subject: &mut Subject, program: &[machine::Step]| {
            subject.update("run", &machine::encode(program));
        };
        run(&mut subject, &[(machine::Op::Grow, 1, 0, 0), (machine::Op::Write, 0, 16, 65_536)]);
        save(&mut subject, &store);
        for memory in memories(&store).into_iter().map(|id| store.memory(id).unwrap()) {
            let mut change = store.begin();
            for page in [1, 2, 3] {
                change.image(&memory, PageIndex::new(page), &[0xee; 4096]);
            }
            store.append(change).unwrap();
        }
        // Page 1 of both is changed, page 2 is changed and changed back by a trap, page 3 is left alone.
        let write = |page: u64| {
            [(machine::Op::Store8, page * 4096, 5, 0), (machine::Op::Write, page * 4096, page * 4096, 1)]
        };
        run(&mut subject, &write(1));
        run(&mut subject, &[&write(2)[..], &[(machine::Op::Unreachable, 0, 0, 0)]].concat());
        subject.execute(Entry::Query("look"), &machine::encode(&write(2)));
        save(&mut subject, &store);
        let loaded = load(engine, &store);
        for (loaded, own) in [
            (machine::heap(&loaded.canister), machine::heap(&subject.canister)),
            (machine::stable(&loaded.canister), machine::stable(&subject.canister)),
        ] {
            assert_same(mode, &loaded[4096..8192], &own[4096..8192]);
            assert!(
                loaded[8192..16384].iter().all(|byte| *byte == 0xee),
                "{mode}: an unchanged page was handed over"
            );
            assert_same(mode, &loaded[16384..], &own[16384..]);
        }
    });
}

/// Installations of every kind between saves: replaced memories are replaced in the store, and none is left behind.
#[test]
fn installations_between_saves() {
    let upgrade = |how| InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: Some(how) };
    in_every_mode(move |mode, engine| {
        let store = Store::in_memory(&Config::new([4; 32]));
        let mut subject = worked(engine);
        save(&mut subject, &store);
        for how in [
            upgrade(WasmMemoryPersistence::Keep),
            upgrade(WasmMemoryPersistence::Replace),
            InstallMode::Reinstall,
            upgrade(WasmMemoryPersistence::Keep),
        ] {
            for pages in [80, 90] {
                assert_eq!(subject.install(&module(pages), how).response, Response::None, "{mode}");
                save(&mut subject, &store);
                assert_equal(&format!("{how:?}, {mode}"), &mut load(engine, &store), &mut subject);
                assert_eq!(memories(&store).len(), 2, "{how:?}, {mode}");
            }
            mess(&mut subject);
        }
        // Without a heap there is one memory.
        let outcome = subject.install("(module)", upgrade(WasmMemoryPersistence::Replace));
        assert_eq!(outcome.response, Response::None, "{mode}");
        save(&mut subject, &store);
        assert_eq!(memories(&store).len(), 1, "{mode}: the heap of an earlier module is still there");
        let mut change = store.begin();
        subject.canister.erase(&mut change);
        store.save(change).unwrap();
        assert_eq!(memories(&store).len(), 0, "{mode}");
    });
}

/// An installation that failed changes nothing that is saved.
#[test]
fn a_failed_installation_between_saves() {
    in_every_mode(|mode, engine| {
        let store = Store::in_memory(&Config::new([5; 32]));
        let mut subject = worked(engine);
        save(&mut subject, &store);
        let failing = module(90)
            .replace("canister_init\") call $begin", "canister_post_upgrade\") call $mess unreachable");
        for how in [WasmMemoryPersistence::Keep, WasmMemoryPersistence::Replace] {
            let how = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: Some(how) };
            assert!(matches!(subject.install(&failing, how).response, Response::Trapped(_)), "{mode}");
            save(&mut subject, &store);
            assert_equal(mode, &mut load(engine, &store), &mut subject);
        }
    });
}

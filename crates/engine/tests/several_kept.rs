//! Several memories over saves, loads and upgrades: each comes back under its index, with its own bytes and size.

use bedstone_engine::store::{Config, MemoryId, Store};
use bedstone_engine::{Canister, Engine, EngineConfig, InstallMode, Response, WasmMemoryPersistence};

use crate::machine::WASM_PAGE;
use crate::several::{self, LOW, Model, Op, PAGES, Step, check, fail_one, run_one};
use crate::support::{MODES, Subject, with_stack};

const KEEPS: &str = r#"(@custom "icp:private enhanced-orthogonal-persistence" "")"#;
const TWO: [bool; 2] = [false, true];
const THREE: [bool; 3] = [false, true, false];

/// Changes every memory and grows all but the first.
fn work(widths: &[bool], value: u64) -> Vec<Step> {
    let mut program = vec![(Op::StoreAll, LOW + 4093, value, 0), (Op::StableWrite, 5, LOW + 4090, 16)];
    for m in 0..widths.len() {
        program.extend([
            (Op::Fill(m), LOW + 9000, value + m as u64, 5000),
            (Op::Copy(m, (m + 1) % widths.len()), LOW + 60_000, LOW, 20_000),
            (Op::Grow(m), u64::from(m > 0), 0, 0),
        ]);
    }
    program
}

fn wat(widths: &[bool], name: &str) -> String {
    several::wat(widths, name, KEEPS)
}

/// A canister that has worked, and its model.
fn worked(engine: &Engine, widths: &[bool]) -> (Subject, Model) {
    let mut subject = Subject::installed(engine, &wat(widths, "data"));
    let mut model = Model::new(widths, "data");
    run_one(&mut subject, &mut model, &work(widths, 1));
    check("worked", &subject.canister, &model);
    (subject, model)
}

fn save(subject: &mut Subject, store: &Store) {
    let mut change = store.begin();
    subject.canister.save(store, &mut change).unwrap();
    store.save(change).unwrap();
}

const ID: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 7, 1, 1];

fn load(engine: &Engine, store: &Store) -> Subject {
    Subject { engine: engine.clone(), canister: Canister::load(engine, store, &ID).unwrap() }
}

fn memories(store: &Store) -> usize {
    (0..50).filter(|id| store.memory(MemoryId::new(*id)).is_ok()).count()
}

fn upgrade(how: WasmMemoryPersistence) -> InstallMode {
    InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: Some(how) }
}

#[test]
fn saved_memories_come_back() {
    with_stack(|| {
        for (mode, engine) in several::engines() {
            let store = Store::in_memory(&Config::new([1; 32]));
            let (mut subject, mut model) = worked(&engine, &THREE);
            save(&mut subject, &store);
            assert_eq!(memories(&store), 4, "{mode}: three memories and stable memory");
            let mut loaded = load(&engine, &store);
            check(mode, &loaded.canister, &model);
            // What was loaded fails, works and is saved again.
            fail_one(&mut loaded, &model, &work(&THREE, 50));
            check(mode, &loaded.canister, &model);
            run_one(&mut loaded, &mut model, &work(&THREE, 9));
            save(&mut loaded, &store);
            check(mode, &load(&engine, &store).canister, &model);
            assert_eq!(memories(&store), 4, "{mode}");
            let mut change = store.begin();
            loaded.canister.erase(&mut change);
            store.save(change).unwrap();
            assert_eq!(memories(&store), 0, "{mode}");
        }
    });
}

/// A save in one mode is a save in all; an engine that allows one memory says why it cannot load the canister.
#[test]
fn what_one_mode_saved_another_loads() {
    with_stack(|| {
        let store = Store::in_memory(&Config::new([2; 32]));
        let engines = several::engines();
        let (mut subject, mut model) = worked(&engines[0].1, &THREE);
        save(&mut subject, &store);
        for (value, (mode, engine)) in (2..).zip(&engines) {
            let mut loaded = load(engine, &store);
            run_one(&mut loaded, &mut model, &work(&THREE, value));
            check(mode, &loaded.canister, &model);
            save(&mut loaded, &store);
        }
        let one = Engine::new(EngineConfig { allow_multi_memory: false, ..MODES[0].1 }).unwrap();
        let error = Canister::load(&one, &store, &ID).unwrap_err();
        assert!(error.to_string().contains("multiple memories"), "{error}");
    });
}

#[test]
fn replaced_memories_start_anew() {
    with_stack(|| {
        for (mode, engine) in several::engines() {
            let (mut subject, mut model) = worked(&engine, &THREE);
            let outcome = subject.install(&wat(&THREE, "new"), upgrade(WasmMemoryPersistence::Replace));
            assert_eq!(outcome.response, Response::None, "{mode}");
            model.memories = Model::new(&THREE, "new").memories;
            check(mode, &subject.canister, &model);
            run_one(&mut subject, &mut model, &work(&THREE, 3));
            check(mode, &subject.canister, &model);
            let outcome = subject.install(&wat(&TWO, "last"), InstallMode::Reinstall);
            assert_eq!(outcome.response, Response::None, "{mode}");
            check(mode, &subject.canister, &Model::new(&TWO, "last"));
        }
    });
}

/// Kept memories keep bytes and sizes, whatever the new module's data segments say; a memory that the new module declares
/// besides starts anew; one that it no longer declares is gone. Saved after each step, or only at the end.
#[test]
fn kept_memories_keep_bytes_and_sizes() {
    with_stack(|| {
        for ((mode, engine), save_each) in
            several::engines().into_iter().zip([true, false].into_iter().cycle())
        {
            let store = Store::in_memory(&Config::new([3; 32]));
            let (mut subject, mut model) = worked(&engine, &THREE);
            save(&mut subject, &store);
            for (value, (widths, name)) in
                (10..).zip([(&THREE[..], "a"), (&TWO, "b"), (&THREE, "c"), (&TWO[..1], "d"), (&THREE, "e")])
            {
                let what = format!("{name}, {mode}");
                let outcome = subject.install(&wat(widths, name), upgrade(WasmMemoryPersistence::Keep));
                assert_eq!(outcome.response, Response::None, "{what}");
                let mut next = Model::new(widths, name);
                next.stable = model.stable.clone();
                for (kept, memory) in model.memories.iter().zip(&mut next.memories) {
                    memory.clone_from(kept);
                }
                model = next;
                check(&what, &subject.canister, &model);
                if save_each {
                    save(&mut subject, &store);
                    check(&what, &load(&engine, &store).canister, &model);
                    assert_eq!(memories(&store), widths.len() + 1, "{what}");
                }
                fail_one(&mut subject, &model, &work(widths, value + 50));
                check(&what, &subject.canister, &model);
                // Every other module leaves its new memories as they are.
                if value % 2 == 0 {
                    run_one(&mut subject, &mut model, &[(Op::StoreAll, LOW, value, 0)]);
                }
            }
            save(&mut subject, &store);
            check(mode, &load(&engine, &store).canister, &model);
            assert_eq!(memories(&store), 4, "{mode}");
        }
    });
}

/// Upgrades that fail at their end, after `pre_upgrade` and the new module changed and grew memories.
#[test]
fn a_failed_upgrade_gives_every_memory_back() {
    let mess = |memories: usize| -> String {
        let each = |m: usize| {
            let ty = if m == 1 { "i64" } else { "i32" };
            format!(
                "(memory.fill {m} ({ty}.const 0) (i32.const 7) ({ty}.const 200000)) (drop (memory.grow {m} ({ty}.const 1)))"
            )
        };
        (0..memories).map(each).collect()
    };
    let pre = format!(r#"(func (export "canister_pre_upgrade") {})"#, mess(3));
    with_stack(move || {
        for (mode, engine) in several::engines() {
            let store = Store::in_memory(&Config::new([4; 32]));
            let mut subject =
                Subject::installed(&engine, &several::wat(&THREE, "data", &[KEEPS, &pre].concat()));
            let mut model = Model::new(&THREE, "data");
            run_one(&mut subject, &mut model, &work(&THREE, 1));
            for (how, widths) in [
                (WasmMemoryPersistence::Keep, &THREE[..]),
                (WasmMemoryPersistence::Keep, &TWO),
                (WasmMemoryPersistence::Keep, &[false, true, false, true]),
                (WasmMemoryPersistence::Replace, &THREE),
                (WasmMemoryPersistence::Replace, &TWO[..1]),
            ] {
                let what = format!("{how:?} {}, {mode}", widths.len());
                let hooks = format!(
                    r#"{KEEPS} (func (export "canister_post_upgrade") {} unreachable)"#,
                    mess(widths.len().min(3))
                );
                // The new module asks for larger memories, too.
                let larger = several::wat(widths, "new", &hooks).replace(&format!(" {PAGES} 8)"), " 6 8)");
                assert!(larger.contains(" 6 8)"));
                let outcome = subject.install(&larger, upgrade(how));
                assert!(matches!(outcome.response, Response::Trapped(_)), "{what}: {outcome:?}");
                check(&what, &subject.canister, &model);
                save(&mut subject, &store);
                check(&what, &load(&engine, &store).canister, &model);
                run_one(&mut subject, &mut model, &[(Op::StoreAll, LOW, 5, 0)]);
                check(&what, &subject.canister, &model);
            }
        }
    });
}

/// A kept memory grows to what the new module asks for; the rest of it is zero.
#[test]
fn kept_memories_grow_to_the_new_minimum() {
    with_stack(|| {
        for (mode, engine) in several::engines() {
            let (mut subject, mut model) = worked(&engine, &TWO);
            let larger = wat(&TWO, "new").replace(&format!(" {PAGES} 8)"), " 7 8)");
            assert_eq!(
                subject.install(&larger, upgrade(WasmMemoryPersistence::Keep)).response,
                Response::None
            );
            for memory in &mut model.memories {
                memory.resize((7 * WASM_PAGE) as usize, 0);
            }
            check(mode, &subject.canister, &model);
            run_one(&mut subject, &mut model, &[(Op::Fill(1), 6 * WASM_PAGE, 1, WASM_PAGE)]);
            check(mode, &subject.canister, &model);
        }
    });
}

/// A kept memory may be declared with another width, unless it is too large for that.
#[test]
fn kept_memories_change_their_width() {
    with_stack(|| {
        for (mode, engine) in several::engines() {
            let (mut subject, mut model) = worked(&engine, &TWO);
            for (value, widths) in (2..).zip([[true, false], [false, false], TWO]) {
                let outcome = subject.install(&wat(&widths, "new"), upgrade(WasmMemoryPersistence::Keep));
                assert_eq!(outcome.response, Response::None, "{mode}");
                let mut next = Model::new(&widths, "new");
                (next.memories, next.stable) = (model.memories, model.stable);
                model = next;
                check(mode, &subject.canister, &model);
                fail_one(&mut subject, &model, &work(&widths, 60));
                run_one(&mut subject, &mut model, &work(&widths, value));
                check(mode, &subject.canister, &model);
            }
            let large = format!("(module (memory 1) (memory i64 65537) {KEEPS})");
            let mut subject = Subject::installed(&engine, &large);
            let narrow = format!("(module (memory 1) (memory 1) {KEEPS})");
            let Response::Trapped(fault) =
                subject.install(&narrow, upgrade(WasmMemoryPersistence::Keep)).response
            else {
                panic!("{mode}: the upgrade succeeded");
            };
            assert!(
                fault.code == 504 && fault.detail.contains("memory 1 has 4295032832 bytes"),
                "{mode}: {fault:?}"
            );
            assert_eq!([0, 1].map(|m| subject.canister.memory_bytes(m)), [65_536, 4_295_032_832], "{mode}");
            let outcome = subject.install(&large, upgrade(WasmMemoryPersistence::Keep));
            assert_eq!(outcome.response, Response::None, "{mode}");
        }
    });
}

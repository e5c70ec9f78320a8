//! All of what a message does is kept, or none: after every way to fail, whole memories, sizes, globals and system state
//! are what they were, byte for byte and in every mode, and the canister goes on as if nothing had happened.

use bedstone_engine::{
    Canister, Engine, EngineConfig, Entry, InstallMode, InstructionLimits, Response, SystemState,
    WasmMemoryPersistence,
};

use crate::machine::{self, assert_same};
use crate::support::{MODES, Subject, with_stack};

/// The module, with entry points of its own and so many Wasm pages of heap.
fn module(hooks: &str, pages: u32) -> String {
    include_str!("rollback.wat").replace("@hooks", hooks).replace("@pages", &pages.to_string())
}

const INIT: &str = r#"(func (export "canister_init") call $begin)"#;
const KEEPS: &str = r#"(@custom "icp:private enhanced-orthogonal-persistence" "")"#;

/// Low limits, so that endless loops end soon.
fn engines() -> Vec<(&'static str, Engine)> {
    let instructions = InstructionLimits {
        message: 20_000_000,
        query: 20_000_000,
        install: 60_000_000,
        ..InstructionLimits::IC
    };
    MODES
        .into_iter()
        .map(|(mode, config)| (mode, Engine::new(EngineConfig { instructions, ..config }).unwrap()))
        .collect()
}

/// All that a canister is, but for its log.
#[derive(Clone, PartialEq)]
struct Snapshot {
    heap: Vec<u8>,
    stable: Vec<u8>,
    system: SystemState,
    hash: Option<[u8; 32]>,
    seen: Option<Vec<u8>>,
}

impl Snapshot {
    fn of(subject: &mut Subject) -> Self {
        let seen = subject.canister.module().is_some().then(|| peek(subject));
        let canister: &Canister = &subject.canister;
        Self {
            heap: machine::heap(canister),
            stable: machine::stable(canister),
            system: canister.system().clone(),
            hash: canister.module().map(|module| module.hash()),
            seen,
        }
    }

    fn assert_same(&self, what: &str, other: &Self) {
        assert_same(&format!("heap, {what}"), &self.heap, &other.heap);
        assert_same(&format!("stable memory, {what}"), &self.stable, &other.stable);
        assert_eq!(self.system, other.system, "{what}");
        assert_eq!(self.hash, other.hash, "{what}");
        assert_eq!(self.seen, other.seen, "{what}: globals and sizes");
    }
}

fn peek(subject: &mut Subject) -> Vec<u8> {
    match subject.query("peek", &[]).response {
        Response::Reply(reply) => reply,
        other => panic!("{other:?}"),
    }
}

/// A canister that has run a message already, and one like it.
fn pair(engine: &Engine) -> (Subject, Subject) {
    let make = || {
        let mut subject = Subject::installed(engine, &module(INIT, 80));
        assert!(matches!(subject.update("mess", &[]).response, Response::Reply(_)));
        subject
    };
    (make(), make())
}

/// The next messages do the same in both canisters.
fn goes_on_like(what: &str, subject: &mut Subject, twin: &mut Subject) {
    for _ in 0..2 {
        assert_eq!(subject.update("mess", &[]), twin.update("mess", &[]), "{what}");
        Snapshot::of(subject).assert_same(what, &Snapshot::of(twin));
    }
}

/// A failed installation shows in nothing but the log.
fn failed(what: &str, subject: &mut Subject, wat: &str, mode: InstallMode) {
    let before = Snapshot::of(subject);
    let outcome = subject.install(wat, mode);
    assert!(matches!(outcome.response, Response::Trapped(_)), "{what}: {:?}", outcome.response);
    Snapshot::of(subject).assert_same(what, &before);
}

const UPGRADE: InstallMode = InstallMode::Upgrade { skip_pre_upgrade: false, wasm_memory_persistence: None };
const KEEP: InstallMode = InstallMode::Upgrade {
    skip_pre_upgrade: false,
    wasm_memory_persistence: Some(WasmMemoryPersistence::Keep),
};

#[test]
fn a_failed_message_leaves_everything_as_it_was() {
    with_stack(|| {
        for (mode, engine) in engines() {
            let (mut subject, mut twin) = pair(&engine);
            let before = Snapshot::of(&mut subject);
            let succeeded = twin.update("mess", &[]);
            assert!(succeeded.heap_pages_dirtied >= 1000 && succeeded.stable_pages_dirtied >= 1000, "{mode}");
            for (method, code) in [
                ("unreachable", 502),
                ("trap", 503),
                ("contract", 504),
                ("heap", 502),
                ("stable", 502),
                ("forever", 522),
            ] {
                for round in 0..2 {
                    let what = format!("{method}, round {round}, {mode}");
                    let outcome = subject.update(method, &[]);
                    let Response::Trapped(fault) = &outcome.response else {
                        panic!("{what}: {:?}", outcome.response)
                    };
                    assert_eq!(fault.code, code, "{what}");
                    assert_eq!(outcome.heap_pages_dirtied, succeeded.heap_pages_dirtied, "{what}");
                    Snapshot::of(&mut subject).assert_same(&what, &before);
                }
            }
            assert_eq!(subject.update("mess", &[]), succeeded, "{mode}");
            goes_on_like(mode, &mut subject, &mut twin);
        }
    });
}

#[test]
fn queries_leave_no_trace() {
    with_stack(|| {
        for (mode, engine) in engines() {
            let (mut subject, mut twin) = pair(&engine);
            let before = Snapshot::of(&mut subject);
            for entry in [
                Entry::Query("mess_and_reply"),
                Entry::Query("mess_and_reply_too"),
                Entry::Query("forever_too"),
                Entry::InspectMessage("mess"),
                Entry::Update("forever_too"),
            ] {
                for _ in 0..2 {
                    // None of them may set certified data, which is the last thing that they try.
                    let outcome = subject.execute(entry, &[]);
                    assert!(
                        matches!(outcome.response, Response::Trapped(_)),
                        "{mode}, {entry:?}: {:?}",
                        outcome.response
                    );
                    Snapshot::of(&mut subject).assert_same(&format!("{entry:?}, {mode}"), &before);
                }
            }
            goes_on_like(mode, &mut subject, &mut twin);
        }
    });
}

/// Queries that succeed: the same module without the calls that queries may not make.
#[test]
fn queries_that_succeed_leave_no_trace() {
    with_stack(|| {
        for (mode, engine) in engines() {
            let wat = module(INIT, 80)
                .replace("(call $certify (local.get $at) (i32.const 20))", "")
                .replace("(drop (call $timer (global.get $b)))", "")
                .replace("inspect_message\") call $mess", "inspect_message\") call $mess call $accept")
                .replace("(module", "(module (import \"ic0\" \"accept_message\" (func $accept))");
            let mut subject = Subject::installed(&engine, &wat);
            let mut twin = Subject::installed(&engine, &wat);
            let before = Snapshot::of(&mut subject);
            for entry in [
                Entry::Query("mess_and_reply"),
                Entry::Query("mess_and_reply_too"),
                Entry::InspectMessage("mess"),
            ] {
                for _ in 0..2 {
                    let outcome = subject.execute(entry, &[]);
                    assert!(
                        matches!(outcome.response, Response::Reply(_) | Response::None),
                        "{mode}: {outcome:?}"
                    );
                    Snapshot::of(&mut subject).assert_same(&format!("{entry:?}, {mode}"), &before);
                }
            }
            // In replicated execution a query leaves a trace: the version.
            for subject in [&mut subject, &mut twin] {
                let outcome = subject.update("mess_and_reply", &[]);
                assert!(matches!(outcome.response, Response::Reply(_)), "{mode}: {outcome:?}");
            }
            let mut after = Snapshot::of(&mut subject);
            assert_eq!(after.system.version, before.system.version + 1, "{mode}");
            (after.system, after.seen) = (before.system.clone(), before.seen.clone());
            after.assert_same(mode, &before);
            goes_on_like(mode, &mut subject, &mut twin);
        }
    });
}

#[test]
fn a_failed_installation_leaves_an_empty_canister() {
    with_stack(|| {
        for (mode, engine) in engines() {
            for hooks in [
                r#"(func $s call $begin unreachable) (start $s)"#,
                r#"(func $s call $begin) (start $s) (func (export "canister_init") call $mess unreachable)"#,
                r#"(func $s call $begin) (start $s) (func (export "canister_init") call $mess call $forever)"#,
            ] {
                let mut subject = Subject::empty(&engine);
                failed(&format!("{hooks}, {mode}"), &mut subject, &module(hooks, 80), InstallMode::Install);
                assert!(subject.canister.module().is_none());
                let outcome = subject.install(&module(INIT, 80), InstallMode::Install);
                assert_eq!(outcome.response, Response::None);
                let mut twin = Subject::installed(&engine, &module(INIT, 80));
                goes_on_like(mode, &mut subject, &mut twin);
            }
        }
    });
}

#[test]
fn a_failed_reinstallation_leaves_everything_as_it_was() {
    with_stack(|| {
        for (mode, engine) in engines() {
            let (mut subject, mut twin) = pair(&engine);
            for hooks in [
                r#"(func $s call $begin unreachable) (start $s)"#,
                r#"(func $s call $begin) (start $s) (func (export "canister_init") call $mess unreachable)"#,
            ] {
                failed(&format!("{hooks}, {mode}"), &mut subject, &module(hooks, 90), InstallMode::Reinstall);
            }
            goes_on_like(mode, &mut subject, &mut twin);
        }
    });
}

/// Upgrades that fail in each of their stages, with a heap that is kept or replaced, larger or not.
#[test]
fn a_failed_upgrade_leaves_everything_as_it_was() {
    const FAILING: [&str; 4] = [
        r#"(func $s call $mess unreachable) (start $s)"#,
        r#"(func (export "canister_post_upgrade") call $mess unreachable)"#,
        r#"(func $s call $mess) (start $s) (func (export "canister_post_upgrade") call $mess (drop (i32.load (i32.const -4))))"#,
        r#"(func $s call $mess) (start $s) (func (export "canister_post_upgrade") call $mess call $forever)"#,
    ];
    // With a pre_upgrade that changes everything, and drops a segment, and without one.
    let pre = [INIT, r#"(func (export "canister_pre_upgrade") call $mess)"#].concat();
    with_stack(move || {
        for (mode, engine) in engines() {
            for old in [INIT, &pre] {
                let make = || {
                    let mut subject = Subject::installed(&engine, &module(old, 80));
                    subject.update("mess", &[]);
                    subject
                };
                let (mut subject, mut twin) = (make(), make());
                for hooks in FAILING {
                    for (how, pages) in [(UPGRADE, 80), (KEEP, 80), (KEEP, 100)] {
                        let what = format!("{old}, then {hooks}, {how:?}, {pages}, {mode}");
                        let wat = module(&[hooks, KEEPS].concat(), pages);
                        failed(&what, &mut subject, &wat, how);
                        assert_eq!(
                            subject.update("unreachable", &[]),
                            twin.update("unreachable", &[]),
                            "{what}"
                        );
                    }
                }
                goes_on_like(mode, &mut subject, &mut twin);
            }
        }
    });
}

#[test]
fn a_failed_pre_upgrade_leaves_everything_as_it_was() {
    with_stack(|| {
        for (mode, engine) in engines() {
            let old = module(
                &[INIT, r#"(func (export "canister_pre_upgrade") call $mess unreachable)"#].concat(),
                80,
            );
            let (mut subject, mut twin) =
                (Subject::installed(&engine, &old), Subject::installed(&engine, &old));
            let new = module(&[INIT, KEEPS].concat(), 80);
            failed(mode, &mut subject, &new, UPGRADE);
            failed(mode, &mut subject, &new, KEEP);
            goes_on_like(mode, &mut subject, &mut twin);
            let skipping = InstallMode::Upgrade { skip_pre_upgrade: true, wasm_memory_persistence: None };
            assert_eq!(subject.install(&new, skipping).response, Response::None, "{mode}");
        }
    });
}

/// Options that contradict the modules are found after `pre_upgrade` has run: that is taken back too.
#[test]
fn a_refused_upgrade_option_leaves_everything_as_it_was() {
    with_stack(|| {
        for (mode, engine) in engines() {
            let old =
                module(&[INIT, KEEPS, r#"(func (export "canister_pre_upgrade") call $mess)"#].concat(), 80);
            let (mut subject, mut twin) =
                (Subject::installed(&engine, &old), Subject::installed(&engine, &old));
            for (how, text) in [(KEEP, "Invalid upgrade option: "), (UPGRADE, "Missing upgrade option: ")] {
                let before = Snapshot::of(&mut subject);
                let outcome = subject.install(&module(INIT, 80), how);
                let Response::Trapped(fault) = outcome.response else {
                    panic!("{mode}: {how:?} was accepted")
                };
                assert!(fault.code == 504 && fault.detail.starts_with(text), "{mode}: {fault:?}");
                Snapshot::of(&mut subject).assert_same(mode, &before);
            }
            goes_on_like(mode, &mut subject, &mut twin);
        }
    });
}

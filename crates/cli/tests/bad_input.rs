//! Every kind of bad input: the exit code, one sentence that says what and where, and nothing changed on disk.

use std::fs::File;

use crate::support::{Ran, Room, prebuilt};

/// Modules that are refused, by file name, with a word of why.
const BAD_MODULES: &[(&str, &str)] = &[
    ("not-wasm.wasm", "not-wasm.wasm is not a canister's module"),
    ("empty.wasm", "empty.wasm is not a canister's module"),
    ("truncated.wasm", "truncated.wasm is not a canister's module"),
    ("truncated.wasm.gz", "gzip"),
    ("damaged.wasm.gz", "gzip"),
    ("large.wasm", "more than the 104857600 that a canister may have"),
    ("unknown-import.wat", "no_such_function"),
    ("mistyped.wat", "canister_update t"),
    ("syntax.wat", "syntax.wat:2:"),
    ("missing.wasm", "missing.wasm cannot be read"),
    ("init-traps.wat", "IC0502"),
];

fn room() -> Room {
    let room = Room::with_tiny();
    room.write("not-wasm.wasm", "not Wasm at all, but text");
    room.write("empty.wasm", "");
    room.write("truncated.wasm", &std::fs::read(prebuilt("btreemap")).unwrap()[..1000]);
    room.write("truncated.wasm.gz", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
    room.write(
        "damaged.wasm.gz",
        [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xff; 20], &[9, 0, 0, 0]].concat(),
    );
    File::create(room.path("large.wasm")).unwrap().set_len((100 << 20) + 1).unwrap();
    room.write("unknown-import.wat", r#"(module (import "ic0" "no_such_function" (func)))"#);
    room.write("mistyped.wat", r#"(module (func (export "canister_update t") (param i32)))"#);
    room.write("syntax.wat", "(module\n  (func (nonsense)))");
    room.write("init-traps.wat", r#"(module (func (export "canister_init") unreachable))"#);
    room
}

/// Runs a command that must fail with one line that contains `why`, and leave the room as it is.
pub fn fails<const N: usize>(room: &Room, arguments: [&str; N], why: &str) -> Ran {
    let before = room.contents();
    let ran = room.run(arguments);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{arguments:?}: {ran:?}");
    let last = ran.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains(why), "{arguments:?} should say {why:?}: {ran:?}");
    let errors = ran.stderr.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{arguments:?}: {ran:?}");
    assert!(before == room.contents(), "{arguments:?} changed something on disk");
    ran
}

#[test]
fn modules_are_refused_and_leave_no_trace() {
    let room = room();
    // No state directory is made, nor is an empty one filled.
    for (file, why) in BAD_MODULES {
        fails(&room, ["install", "a", file], why);
        assert!(!room.path(".bedstone").exists(), "{file}");
    }
    std::fs::create_dir(room.path(".bedstone")).unwrap();
    fails(&room, ["install", "a", "not-wasm.wasm"], "not a canister's module");
    fails(&room, ["install", "a", "init-traps.wat"], "IC0502");

    // An existing state stays byte by byte, and no canister comes of it.
    room.ok(["install", "a", "tiny.wat"]);
    room.ok(["call", "a", "put"]);
    for (file, why) in BAD_MODULES {
        fails(&room, ["install", "b", file], why);
        // An upgrade does not run `canister_init`.
        if *file != "init-traps.wat" {
            fails(&room, ["upgrade", "a", file], why);
        }
    }
    fails(&room, ["status", "b"], "no canister \"b\" in .bedstone");
    assert_eq!(room.ok(["call", "a", "raw", "--query", "-o", "hex"]), "07");
}

#[test]
fn instrument_refuses_the_same_modules() {
    let room = room();
    for (file, why) in BAD_MODULES.iter().filter(|(file, _)| *file != "init-traps.wat") {
        fails(&room, ["instrument", file, "-o", "out.wasm"], why);
    }
    fails(&room, ["instrument", "tiny.wat", "-o", "no/such/place.wasm"], "no/such/place.wasm");
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let room = Room::with_tiny();
    room.ok(["install", "a", "tiny.wat"]);
    room.write("binary", [0xff, 0xfe]);
    fails(&room, ["call", "a", "hello", "(1"], "\"(1\" is not Candid text");
    fails(&room, ["call", "a", "hello", "1x", "--args-format", "hex"], "'x' at character 2");
    fails(&room, ["call", "a", "hello", "--args-file", "none"], "none cannot be read");
    fails(&room, ["call", "a", "hello", "--args-file", "binary"], "binary is not text");
    fails(&room, ["install", "b", "tiny.wat", "--args", "(1"], "not Candid text");

    let map = prebuilt("btreemap");
    room.ok(["install", "map", &map]);
    fails(&room, ["call", "map", "insert", "(\"one\", 2)"], "the argument of insert does not have the types");
    fails(&room, ["call", "map", "get"], "the argument of get does not have the types");
}

#[test]
fn methods_and_canisters_that_are_not_there() {
    let room = Room::with_tiny();
    room.ok(["install", "a", "tiny.wat"]);
    let before = room.contents();
    for arguments in [["call", "a", "nonsense", "--json"], ["call", "a", "hello", "--query"]] {
        let ran = room.run(arguments);
        assert!(ran.code == 1 && ran.stderr.contains("IC0536"), "{ran:?}");
    }
    assert!(before == room.contents());

    let unknown = "no canister \"b\" in .bedstone; `bedstone status`";
    fails(&room, ["call", "b", "hello"], unknown);
    fails(&room, ["call", "b", "hello", "--query"], unknown);
    fails(&room, ["status", "b"], unknown);
    fails(&room, ["logs", "b"], unknown);
    fails(&room, ["delete", "b"], unknown);
    fails(&room, ["upgrade", "b", "tiny.wat"], unknown);
    fails(&room, ["install", "b", "tiny.wat", "--mode", "upgrade"], unknown);
    // Text that is an id never becomes a name.
    fails(&room, ["install", "aaaaa-aa", "tiny.wat"], "no canister aaaaa-aa in .bedstone");
}

#[test]
fn commands_that_need_a_state_make_none() {
    let room = Room::with_tiny();
    let none = "no state in .bedstone; `bedstone install NAME FILE` makes one";
    fails(&room, ["status"], none);
    fails(&room, ["logs", "a"], none);
    fails(&room, ["delete", "a"], none);
    fails(&room, ["call", "a", "hello"], none);
    fails(&room, ["call", "a", "raw", "--query"], none);
    fails(&room, ["upgrade", "a", "tiny.wat"], none);
    std::fs::create_dir(room.path(".bedstone")).unwrap();
    fails(&room, ["status"], none);
    fails(&room, ["install", "a", "tiny.wat", "--state", "no/such/place"], "no/such/place");
}

#[test]
fn directories_that_are_not_ours_or_in_use() {
    let room = Room::with_tiny();
    std::fs::create_dir(room.path("photos")).unwrap();
    room.write("photos/cat.jpg", "meow");
    for command in [["install", "a", "tiny.wat"], ["call", "a", "hello"]] {
        let [first, second, third] = command;
        fails(&room, [first, second, third, "--state", "photos"], "photos is not a Bedstone state directory");
        fails(&room, [first, second, third, "--state", "tiny.wat"], "tiny.wat is not a directory");
    }

    room.ok(["install", "a", "tiny.wat"]);
    let lock = File::open(room.path(".bedstone/LOCK")).unwrap();
    lock.lock().unwrap();
    fails(&room, ["call", "a", "hello"], ".bedstone is in use by process");
    drop(lock);
    room.ok(["call", "a", "hello"]);
}

#[test]
fn usage_is_exit_code_two() {
    let room = Room::with_tiny();
    let before = room.contents();
    let check = |ran: Ran| assert!(ran.code == 2 && ran.stderr.contains("--help"), "{ran:?}");
    assert_eq!(room.run([]).code, 2);
    check(room.run(["nonsense"]));
    check(room.run(["install", "a"]));
    check(room.run(["install", "", "tiny.wat"]));
    check(room.run(["install", "a", "tiny.wat", "--args", "()", "--args-file", "x"]));
    check(room.run(["install", "a", "tiny.wat", "--args", "()", "--args-format", "bin"]));
    check(room.run(["install", "a", "tiny.wat", "--mode", "install", "--skip-pre-upgrade"]));
    check(room.run(["compare", "tiny.wat"]));
    for arguments in [
        ["call", "a", "hello", "--as", "nobody"],
        ["call", "a", "hello", "-o", "xml"],
        ["call", "a", "hello", "--stable", "unstable"],
    ] {
        assert_eq!(room.run(arguments).code, 2, "{arguments:?}");
    }
    let large = room.run(["demo", "--entries", "70000"]);
    assert!(large.code == 2 && large.stderr.contains("65,535 entries"), "{large:?}");
    assert_eq!(room.run(["demo", "--messages", "0"]).code, 2);
    assert!(before == room.contents());
}

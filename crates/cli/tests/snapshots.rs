//! `snapshot` and `fork` as a person uses them: what was kept comes back, goes to another state directory, and whatever is
//! wrong is said in one sentence.

use std::process::{Command, Stdio};

use bedstone::{Network, StableMemory};
use serde_json::{Value, json};

use crate::bad_input::fails;
use crate::support::{Room, prebuilt};

/// A room with a map that holds a key, and a snapshot of it; the snapshot's id.
fn room_with_snapshot() -> (Room, String) {
    let room = Room::new();
    room.ok(["install", "map", &prebuilt("btreemap")]);
    room.ok(["call", "map", "insert", "(1, 10)"]);
    let taken = room.json(["snapshot", "take", "map", "--json"]);
    (room, taken["id"].as_str().unwrap().to_owned())
}

/// The same with the tiny canister, called `tiny`.
fn tiny_with_snapshot() -> (Room, String) {
    let room = Room::with_tiny();
    room.ok(["install", "tiny", "tiny.wat"]);
    let taken = room.json(["snapshot", "take", "tiny", "--json"]);
    (room, taken["id"].as_str().unwrap().to_owned())
}

fn value(room: &Room, canister: &str, key: u32) -> String {
    room.ok(["call", canister, "get", &format!("({key})"), "--query"])
}

fn stable_memory(room: &Room, state: &str, canister: &str) -> StableMemory {
    let network = Network::builder().existing_state_dir(room.path(state)).build().unwrap();
    let canister = network.canister_named(canister).unwrap();
    network.stable_memory(canister).unwrap()
}

#[test]
fn what_was_kept_comes_back() {
    let (room, id) = room_with_snapshot();
    assert!(id.starts_with("0000000000000000") && id.len() == 36, "{id}");
    let kept = stable_memory(&room, ".bedstone", "map");
    room.ok(["call", "map", "insert", "(1, 11)"]);
    room.ok(["call", "map", "insert", "(2, 20)"]);
    assert_eq!(
        room.ok(["snapshot", "load", "map", &id]).split(" (").next().unwrap(),
        format!("loaded snapshot {id} into map")
    );
    assert_eq!(
        (value(&room, "map", 1), value(&room, "map", 2)),
        ("(opt (10 : nat))".into(), "(null)".into())
    );
    assert_eq!(stable_memory(&room, ".bedstone", "map"), kept);
    // In the other mode too.
    room.ok(["call", "map", "insert", "(3, 30)", "--stable", "host"]);
    room.ok(["snapshot", "load", "map", &id, "--stable", "host"]);
    assert_eq!(stable_memory(&room, ".bedstone", "map"), kept);

    let second = room.json(["snapshot", "take", "map", "--replace", &id, "--json"]);
    let list = room.json(["snapshot", "list", "map", "--json"]);
    assert_eq!(list, json!([second]));
    assert_eq!((&second["from"], second["total_bytes"].as_u64() > Some(65_536)), (&json!("canister"), true));
    let second = second["id"].as_str().unwrap();
    assert!(room.ok(["snapshot", "list", "map"]).lines().nth(1).unwrap().starts_with(second));
    assert_eq!(room.json(["snapshot", "delete", "map", second, "--json"])["deleted"], true);
    assert!(room.ok(["snapshot", "list", "map"]).starts_with("map has no snapshots"));
    assert!(room.ok(["snapshot", "take", "map"]).starts_with("took snapshot 0000000000000002"));
}

#[test]
fn a_snapshot_goes_to_another_state_directory() {
    let (room, id) = room_with_snapshot();
    assert!(room.ok(["snapshot", "export", "map", &id, "out"]).ends_with("to out"));
    room.ok(["install", "other", &prebuilt("stable-memory"), "--state", "elsewhere"]);
    let made = room.json(["snapshot", "import", "other", "out", "--state", "elsewhere", "--json"]);
    assert_eq!(made["from"], "import");
    let made = made["id"].as_str().unwrap();
    room.ok(["snapshot", "load", "other", made, "--state", "elsewhere"]);
    assert_eq!(
        room.ok(["call", "other", "get", "(1)", "--query", "--state", "elsewhere"]),
        "(opt (10 : nat))"
    );
    assert_eq!(stable_memory(&room, "elsewhere", "other"), stable_memory(&room, ".bedstone", "map"));

    // Members that nobody knows are skipped, the IC's instruction counter after the globals is too, and what came in goes out
    // again as it was.
    let text = std::fs::read(room.path("out/metadata.json")).unwrap();
    let mut metadata: Value = serde_json::from_slice(&text).unwrap();
    metadata["of_later"] = json!({"a": []});
    metadata["globals"].as_array_mut().unwrap().push(json!({"i64": 123_456}));
    room.write("out/metadata.json", metadata.to_string());
    let replace = ["snapshot", "import", "other", "out", "--replace", made, "--state", "elsewhere", "--json"];
    let again = room.json(replace);
    let again = again["id"].as_str().unwrap();
    room.ok(["snapshot", "load", "other", again, "--state", "elsewhere"]);
    room.ok(["snapshot", "export", "other", again, "back", "--state", "elsewhere"]);
    for name in ["wasm_module.bin", "wasm_memory.bin", "stable_memory.bin"] {
        let read = |directory: &str| std::fs::read(room.path(directory).join(name)).unwrap();
        assert!(read("out") == read("back"), "{name}");
    }
    assert_eq!(
        room.json(["snapshot", "list", "other", "--state", "elsewhere", "--json"]).as_array().unwrap().len(),
        1
    );
}

#[test]
fn an_export_that_was_killed_goes_on() {
    let room = Room::new();
    // A page in each of a thousand Wasm pages of stable memory.
    room.write(
        "large.wat",
        r#"(module (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
          (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
          (memory 1) (data (i32.const 0) "here")
          (func (export "canister_init") (local $at i64)
            (drop (call $grow (i64.const 1000)))
            (loop $next (call $write (local.get $at) (i64.const 0) (i64.const 4))
              (br_if $next (i64.lt_u (local.tee $at (i64.add (local.get $at) (i64.const 65536))) (i64.const 65536000))))))"#,
    );
    room.ok(["install", "large", "large.wat"]);
    let id = room.json(["snapshot", "take", "large", "--json"])["id"].as_str().unwrap().to_owned();
    room.ok(["snapshot", "export", "large", &id, "whole"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_bedstone"))
        .args(["snapshot", "export", "large", &id, "out"])
        .current_dir(room.path(""))
        .env("BEDSTONE_COMPILE_CACHE", "off")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !room.path("out/stable_memory.bin").exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Either it was complete already, or it says so.
    if !room.path("out/metadata.json").exists() {
        assert!(room.path("out/.bedstone-export").exists());
        let ran = room.run(["snapshot", "import", "large", "out"]);
        assert!(ran.code == 1 && ran.stderr.contains("metadata.json cannot be read"), "{ran:?}");
        room.ok(["snapshot", "export", "large", &id, "out"]);
    }
    for name in ["metadata.json", "wasm_module.bin", "wasm_memory.bin", "stable_memory.bin"] {
        let read = |directory: &str| std::fs::read(room.path(directory).join(name)).unwrap();
        assert!(read("out") == read("whole"), "{name}");
    }
}

#[test]
fn damaged_directories_are_refused_in_one_sentence() {
    let (room, id) = tiny_with_snapshot();
    room.ok(["snapshot", "export", "tiny", &id, "whole"]);
    let text = std::fs::read_to_string(room.path("whole/metadata.json")).unwrap();
    let import = |why: &str| {
        fails(&room, ["snapshot", "import", "tiny", "out"], why);
        assert_eq!(room.json(["snapshot", "list", "tiny", "--json"]).as_array().unwrap().len(), 1);
    };
    let reset = || {
        let _ = std::fs::remove_dir_all(room.path("out"));
        std::fs::create_dir(room.path("out")).unwrap();
        for entry in std::fs::read_dir(room.path("whole")).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, room.path("out").join(path.file_name().unwrap())).unwrap();
        }
    };
    let with = |change: &dyn Fn(&mut Value), why: &str| {
        reset();
        let mut metadata: Value = serde_json::from_str(&text).unwrap();
        change(&mut metadata);
        room.write("out/metadata.json", metadata.to_string());
        import(why);
    };
    import("out is not a directory");
    std::fs::create_dir(room.path("out")).unwrap();
    import("out/metadata.json cannot be read");
    reset();
    room.write("out/metadata.json", &text[..40]);
    import("out/metadata.json is not JSON");
    room.write("out/metadata.json", "[]");
    import("out/metadata.json is not a JSON object");
    reset();
    room.write("out/wasm_memory.bin", b"short");
    import("out/wasm_memory.bin has 5 bytes, and metadata.json tells of");
    reset();
    std::fs::remove_file(room.path("out/stable_memory.bin")).unwrap();
    import("out/stable_memory.bin is missing");
    reset();
    let module = std::fs::read(room.path("whole/wasm_module.bin")).unwrap();
    room.write("out/wasm_module.bin", vec![0; module.len()]);
    import("out/wasm_module.bin is not a canister's module");
    with(
        &|metadata| metadata["globals"] = json!([{"i128": 1}]),
        "globals[0] is {\"i128\":1}: globals have no type \"i128\"",
    );
    with(
        &|metadata| metadata["globals"] = json!([{"f32": null}]),
        "it was NaN or infinite when the snapshot was written",
    );
    with(
        &|metadata| metadata["globals"] = json!([{"i32": 1}]),
        "out does not fit together: 1 globals are listed",
    );
    with(
        &|metadata| metadata["stable_memory_size"] = json!(65_537),
        "stable memory are not whole Wasm pages",
    );
    with(
        &|metadata| drop(metadata.as_object_mut().unwrap().remove("wasm_memory_size")),
        "wasm_memory_size is missing",
    );
}

#[test]
fn a_fork_lives_on_its_own() {
    let (room, id) = tiny_with_snapshot();
    let fork = room.json(["fork", "tiny", "young", "--json"]);
    assert_ne!(fork["id"], fork["forked_from"]);
    room.ok(["call", "tiny", "put"]);
    room.ok(["fork", "tiny", "copy"]);
    assert!(room.ok(["fork", "tiny", "older", "--snapshot", &id]).starts_with("forked tiny ("));
    let byte = |canister| room.ok(["call", canister, "raw", "--query", "-o", "hex"]);
    assert_eq!(["tiny", "young", "copy", "older"].map(byte), ["07", "00", "07", "00"]);
    room.ok(["call", "older", "put"]);
    room.ok(["snapshot", "load", "copy", &id]);
    room.ok(["delete", "tiny"]);
    assert_eq!(["young", "copy", "older"].map(byte), ["00", "00", "07"]);
    room.ok(["upgrade", "older", "tiny.wat"]);
    assert_eq!(byte("older"), "07");
    // The snapshots went with their canister.
    fails(&room, ["snapshot", "load", "copy", &id], "IC0305");
}

#[test]
fn bad_requests_change_nothing() {
    let (room, id) = tiny_with_snapshot();
    room.ok(["install", "other", "tiny.wat"]);
    let unknown = format!("0000000000000009{}", &id[16..]);
    for action in ["take", "list"] {
        fails(&room, ["snapshot", action, "nobody"], "no canister \"nobody\" in .bedstone");
    }
    fails(
        &room,
        ["snapshot", "load", "tiny", &unknown],
        "(reject code 3, IC0305): Could not find the snapshot ID",
    );
    fails(&room, ["snapshot", "delete", "tiny", &unknown], "IC0305");
    fails(
        &room,
        ["snapshot", "delete", "other", &id],
        "not of other; `bedstone snapshot list other` lists its own",
    );
    fails(&room, ["snapshot", "export", "other", &id, "out"], "not of other");
    fails(&room, ["snapshot", "take", "other", "--replace", &id], "IC0406");
    fails(&room, ["snapshot", "list", "tiny", "--state", "none"], "no state in none");
    fails(&room, ["fork", "tiny", "other"], "there is a canister \"other\"");
    fails(&room, ["fork", "nobody", "copy"], "no canister \"nobody\"");
    fails(&room, ["fork", "tiny", "copy", "--snapshot", &unknown], "IC0305");
    fails(&room, ["snapshot", "export", "tiny", &id, ".bedstone"], ".bedstone is not empty");
    for arguments in [["snapshot", "load", "tiny", "zz"], ["snapshot", "delete", "tiny", "0x00"]] {
        let ran = room.run(arguments);
        assert!(ran.code == 2 && ran.stderr.contains("is not a snapshot's id"), "{ran:?}");
    }
    assert_eq!(room.run(["snapshot"]).code, 2);
    for _ in 1..10 {
        room.ok(["snapshot", "take", "tiny"]);
    }
    fails(&room, ["snapshot", "take", "tiny"], "has reached the maximum number of snapshots allowed: 10");
}

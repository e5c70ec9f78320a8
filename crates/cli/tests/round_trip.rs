//! Commands that succeed, one after the other on the same state.

use std::io::Write;

use bedstone::Network;
use serde_json::{Value, json};

use crate::support::{Room, TINY, prebuilt};

#[test]
fn a_real_canister_keeps_its_data_across_commands_modes_and_an_upgrade() {
    let room = Room::new();
    let wasm = prebuilt("btreemap");
    assert!(room.ok(["install", "map", &wasm]).starts_with("installed map ("));
    assert_eq!(room.ok(["call", "map", "insert", "(1, 10)"]), "(null)");

    // What one mode wrote the other reads, also by id.
    let status = room.json(["status", "map", "--json", "--stable", "host"]);
    let id = status["id"].as_str().unwrap();
    let reply = room.json(["call", id, "get", "(1)", "--query", "--json", "--stable", "host"]);
    assert_eq!(reply["reply"], "(opt (10 : nat))");
    assert_eq!(reply["reject"], Value::Null);

    assert!(room.ok(["upgrade", "map", &wasm]).starts_with("upgraded map ("));
    let reply = room.json(["call", "map", "get", "(1)", "--json"]);
    assert_eq!(reply["reply"], "(opt (10 : nat))");
    let mut keys: Vec<&str> = reply.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "heap_pages_dirtied",
        "instructions",
        "reject",
        "reply",
        "reply_hex",
        "stable_pages_dirtied",
        "stable_pages_read",
        "wall_ns",
    ];
    assert_eq!(keys, expected);
    assert!(reply["reply_hex"].as_str().unwrap().starts_with("4449444c"), "{reply}");
    assert!(reply["instructions"].as_u64().unwrap() > 1000, "{reply}");
    assert!(reply["stable_pages_read"].as_u64().unwrap() > 0, "{reply}");
}

#[test]
fn names_status_and_delete() {
    let room = Room::with_tiny();
    room.ok(["install", "one", "tiny.wat"]);
    let installed = room.json(["install", "two", "tiny.wat", "--json"]);
    assert_eq!((&installed["name"], &installed["mode"]), (&json!("two"), &json!("install")));

    let all = room.json(["status", "--json"]);
    let (all, directory) = (&all["canisters"], &all["directory"]);
    assert_eq!(all.as_array().unwrap().len(), 2);
    assert_eq!((&all[1]["id"], &all[1]["stable_bytes"]), (&installed["id"], &json!(65536)));
    assert_eq!((&all[1]["heap_bytes"], &all[1]["version"]), (&json!(65536), &json!(1)));
    assert_eq!(all[1]["controllers"], json!(["2vxsx-fae"]));
    let size = |part: &str| directory[part].as_u64().unwrap();
    let parts = ["memory_bytes", "module_bytes", "log_bytes", "other_bytes"].map(size);
    assert!(
        parts.iter().all(|bytes| *bytes >= 4096) && parts.iter().sum::<u64>() == size("bytes"),
        "{directory}"
    );
    assert!(size("checkpoint") >= 2, "{directory}");
    assert!(room.ok(["status"]).contains("one"));
    assert!(room.ok(["status", "two"]).contains("stable memory  65,536 bytes"));

    assert!(room.ok(["delete", "one"]).starts_with("deleted one ("));
    assert_eq!(room.run(["status", "one"]).code, 1);
    assert_eq!(room.json(["delete", "two", "--json"])["deleted"], true);
    assert_eq!(room.json(["status", "--json"])["canisters"], json!([]));
    assert!(room.ok(["status"]).starts_with("no canisters in .bedstone\n"));
}

#[test]
fn a_status_without_the_canister_is_that_of_the_canister() {
    let room = Room::new();
    let network = Network::builder().state_dir(room.path("state")).build().unwrap();
    let empty = network.create_canister().unwrap();
    let full = network.create_canister().unwrap();
    network.install(full, &std::fs::read(prebuilt("btreemap")).unwrap(), ()).unwrap();
    let statuses = |network: &Network| [empty, full].map(|id| network.status(id).unwrap().unwrap());
    let awake = statuses(&network);
    assert!(awake[1].module_hash.is_some() && awake[1].heap_bytes > 0, "{awake:?}");
    network.close().unwrap();
    let network = Network::builder().state_dir(room.path("state")).build().unwrap();
    assert_eq!(statuses(&network), awake);
    network.stable_memory(full).unwrap();
    assert_eq!(statuses(&network), awake);
}

#[test]
fn modes_of_installing() {
    let room = Room::with_tiny();
    let mode = |arguments: [&str; 3]| {
        room.json(["install", "a", arguments[0], arguments[1], arguments[2], "--json"])
    };
    assert_eq!(mode(["tiny.wat", "--mode", "reinstall"])["mode"], "reinstall");
    room.ok(["call", "a", "put"]);
    assert_eq!(mode(["tiny.wat", "--mode", "auto"])["mode"], "upgrade");
    assert_eq!(room.ok(["call", "a", "raw", "--query", "-o", "hex"]), "07");
    assert_eq!(mode(["tiny.wat", "--mode", "reinstall"])["mode"], "reinstall");
    assert_eq!(room.ok(["call", "a", "raw", "--query", "-o", "hex"]), "00");
    assert_eq!(room.run(["install", "a", "tiny.wat", "--mode", "install"]).code, 1);

    // A gzipped module is the same module.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&wat::parse_str(TINY).unwrap()).unwrap();
    room.write("tiny.wasm.gz", gzip.finish().unwrap());
    room.ok(["upgrade", "a", "tiny.wasm.gz", "--wasm-memory-persistence", "replace", "--skip-pre-upgrade"]);
    room.ok(["call", "a", "put"]);
    assert_eq!(room.ok(["call", "a", "raw", "--query", "-o", "hex"]), "07");
}

#[test]
fn rejects_and_prints_are_told_apart_and_logged() {
    let room = Room::with_tiny();
    room.ok(["install", "a", "tiny.wat"]);

    let hello = room.run(["call", "a", "hello"]);
    assert_eq!((hello.code, hello.stdout.as_str(), hello.stderr.as_str()), (0, "()\n", "hello\n"));

    let failed = room.run(["call", "a", "fail", "--json"]);
    assert_eq!(failed.code, 1);
    assert!(failed.stderr.starts_with("hello\n") && failed.stderr.contains("IC0502"), "{failed:?}");
    let json: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!((&json["reply"], &json["reply_hex"]), (&Value::Null, &Value::Null));
    assert_eq!((&json["reject"]["code"], &json["reject"]["error_code"]), (&json!(5), &json!("IC0502")));
    assert!(json["reject"]["message"].as_str().unwrap().contains("unreachable"), "{json}");

    let refused = room.run(["call", "a", "refuse"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(refused.stderr.contains("(reject code 4, IC0406): hello"), "{refused:?}");

    let logs = room.json(["logs", "a", "--json"]);
    let lines: Vec<&str> =
        logs.as_array().unwrap().iter().map(|record| record["content"].as_str().unwrap()).collect();
    assert_eq!(lines[..2], ["hello", "hello"]);
    assert!(lines.len() == 3 && lines[2].contains("unreachable"), "{lines:?}");
    let text = room.ok(["logs", "a"]);
    assert!(text.starts_with("[0. 2") && text.lines().next().unwrap().ends_with("Z]: hello"), "{text}");
}

#[test]
fn arguments_in_all_formats() {
    let room = Room::with_tiny();
    room.write("argument.bin", b"DIDL\0\0");
    room.write("argument.txt", "(\n  1,\n  \"two\"\n)\n");
    room.ok(["install", "a", "tiny.wat", "--args", "4449444c0000", "--args-format", "hex"]);
    room.ok(["install", "a", "tiny.wat", "--args-file", "argument.bin", "--args-format", "bin"]);
    room.ok(["call", "a", "hello", "(record { a = 1 })"]);
    room.ok(["call", "a", "hello", "--args-file", "argument.txt"]);
    room.ok(["call", "a", "hello", "44 49 44 4c 00 00", "--args-format", "hex", "--as", "aaaaa-aa"]);
    // A reply that is not Candid is shown as it is.
    let raw = room.run(["call", "a", "raw", "--query"]);
    assert_eq!((raw.code, raw.stdout.as_str()), (0, "00\n"));
    assert!(raw.stderr.contains("not Candid"), "{raw:?}");
}

#[test]
fn a_motoko_canister_keeps_its_heap_by_default() {
    let room = Room::new();
    let wasm = prebuilt("motoko-counter");
    room.ok(["install", "counter", &wasm]);
    assert_eq!(room.ok(["call", "counter", "inc"]), "(1 : nat)");
    room.ok(["upgrade", "counter", &wasm]);
    assert_eq!(room.ok(["call", "counter", "get", "--query"]), "(1 : nat)");
}

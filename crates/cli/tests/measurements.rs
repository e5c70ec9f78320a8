//! `demo`, `compare` and `instrument` end to end, small.

use serde_json::{Value, json};

use crate::support::{Room, prebuilt};

fn check_report(report: &Value, messages: usize) {
    for fact in ["instructions_equal", "stable_sha256_equal", "survived_upgrade", "replies_equal"] {
        assert_eq!(report[fact], true, "{fact}: {report}");
    }
    for ratio in ["ratio_native_over_usual_host", "ratio_native_over_best_host"] {
        assert!(report[ratio].as_f64().unwrap() > 0.0, "{ratio}: {report}");
    }
    for series in ["usual_host_ms", "best_host_ms", "native_ms"] {
        assert_eq!(report["series"][series].as_array().unwrap().len(), messages, "{series}: {report}");
    }
    assert_eq!(report["messages"], messages);
    assert_eq!(report["instructions"]["native"], report["instructions"]["usual_host"]);
    assert_eq!(report["stable_sha256"]["native"].as_str().unwrap().len(), 64);
}

#[test]
fn the_demo_s_facts_hold() {
    let room = Room::new();
    let before = room.contents();
    let report = room.json(["demo", "--messages", "2", "--entries", "200", "--json"]);
    check_report(&report, 2);
    assert_eq!(report["entries"], 200);
    let killed = &report["killed"];
    assert_eq!((&killed["kills"], &killed["lost"]), (&json!(1), &json!(0)), "{killed}");
    assert!(killed["recovery_max_ns"].as_u64().unwrap() > 0, "{killed}");
    assert!(before == room.contents(), "the demo needs no directory");
}

#[test]
fn nothing_acknowledged_is_lost_with_a_killed_process() {
    let room = Room::new();
    let text = room.ok(["demo", "--messages", "1", "--entries", "1", "--kills", "3"]);
    assert!(
        text.contains(" was killed 3 times\n(SIGKILL): ") && text.contains(" acknowledged, 0 lost;"),
        "{text}"
    );
    let none = room.json(["demo", "--messages", "1", "--entries", "1", "--kills", "0", "--json"]);
    assert_eq!(none["killed"], Value::Null);
}

#[test]
fn a_motoko_canister_is_compared() {
    let room = Room::new();
    let wasm = prebuilt("motoko-counter");
    let calls = ["compare", &wasm, "--call", "fill (100)", "--call", "get ()", "--repeat", "2"];
    let [compare, module, call, fill, _, get, repeat, two] = calls;
    let report = room.json([compare, module, call, fill, call, get, repeat, two, "--json"]);
    check_report(&report, 4);
    assert_eq!(report["calls"], json!(["fill (100)", "get ()"]));
}

#[test]
fn graphs_are_drawn_as_text_and_as_a_picture() {
    let room = Room::with_tiny();
    let text = room.ok(["compare", "tiny.wat", "--call", "put", "--repeat", "3", "--svg", "graph.svg"]);
    for part in
        ["Host functions: time per message in", "Native: time per message in", "native is faster, median"]
    {
        assert!(text.contains(part), "{part:?} is missing:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let svg = std::fs::read_to_string(room.path("graph.svg")).unwrap();
    for part in ["<svg", "native", "usual host functions", "best host functions", "time per message (ms)"] {
        assert!(svg.contains(part), "{part:?} is missing:\n{svg}");
    }

    let failed = room.run(["compare", "tiny.wat", "--call", "fail"]);
    assert!(failed.code == 1 && failed.stderr.contains("IC0502"), "{failed:?}");
}

#[test]
fn what_an_upgrade_loses_is_told() {
    let room = Room::new();
    let map = prebuilt("btreemap-heap");
    let lost = room.run(["compare", &map, "--call", "insert (1, 2)", "--call", "len", "--repeat", "1"]);
    assert!(lost.code == 1 && lost.stderr.contains("did not survive an upgrade to itself"), "{lost:?}");
}

#[test]
fn instrument_says_what_it_injected() {
    let room = Room::with_tiny();
    let summary = room.json(["instrument", "tiny.wat", "-o", "out.wasm", "--counter", "global", "--json"]);
    assert_eq!(summary["stable_calls"], 3);
    let bytes = std::fs::read(room.path("out.wasm")).unwrap();
    assert!(bytes.starts_with(b"\0asm"));
    assert_eq!(summary["module_bytes_after"], bytes.len());
    assert!(
        room.ok(["instrument", "tiny.wat", "-o", "host.wasm", "--stable", "host"]).contains("3 call sites")
    );
}

#[test]
fn instrument_explains_each_store() {
    let room = Room::new();
    let text = r#"(module (memory 1) (func $pair (export "canister_update t") (local $at i32)
        (i64.store (i32.const 8) (i64.const 1)) (block (local.set $at (i32.const 16))
        (i32.store (local.get $at) (i32.const 1)) (i32.store offset=4 (local.get $at) (i32.const 2)))
))"#;
    std::fs::write(room.path("pair.wat"), text).unwrap();
    let report = room.json(["instrument", "pair.wat", "--explain", "--json"]);
    let function = &report["explanation"]["functions"][0];
    assert_eq!(function["name"], "pair");
    assert_eq!(function["stores"].as_array().unwrap().len(), 3);
    let covered: Vec<_> = (0..3).map(|index| function["stores"][index]["covered_by"].as_u64()).collect();
    assert_eq!(covered, [None, None, Some(1)]);
    assert!(function["code_bytes_after"].as_u64() > function["code_bytes_before"].as_u64());
    let listing = room.ok(["instrument", "pair.wat", "--explain"]);
    assert!(listing.contains("covers it") && listing.contains("stable64_write"), "{listing}");
}

/// The engine's worked examples, each with the counts of two calls in its first line, installed as a stranger would.
#[test]
fn calls_report_the_counts_of_the_worked_examples() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../engine/tests/counts");
    let room = Room::new();
    let mut examples = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let number = |key: &str| -> u64 {
            let from = text.find(key).unwrap() + key.len();
            text[from..].split_whitespace().next().unwrap().parse().unwrap()
        };
        let (file, name) = (path.to_str().unwrap(), path.file_stem().unwrap().to_str().unwrap());
        room.ok(["install", name, file]);
        for expected in [number("first="), number("again=")] {
            let report = room.json(["call", name, "t", "", "--args-format", "hex", "--json"]);
            assert_eq!(report["instructions"], expected, "{name}");
        }
        examples += 1;
    }
    assert!(examples >= 24, "only {examples} examples were found");
}

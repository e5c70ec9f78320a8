//! State directories of every format that was released, kept in `golden/` for ever: each opens, says what it always said,
//! and tells where it is damaged.
//!
//! A directory is kept as one gzipped file: for each file of it a path and a length, then those of its 4 KiB blocks that
//! are not zero. Numbers are 8 bytes, little-endian. The example `golden` makes such files.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::support::Room;

const FORMAT_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/format-1.gz");

fn number(from: &mut impl Read) -> Option<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes).ok().map(|()| u64::from_le_bytes(bytes))
}

/// A room with the state directory of format 1, made by the example.
fn format_1() -> Room {
    let room = Room::new();
    let mut packed = GzDecoder::new(File::open(FORMAT_1).unwrap());
    while let Some(text_bytes) = number(&mut packed) {
        let (len, blocks) = (number(&mut packed).unwrap(), number(&mut packed).unwrap());
        let mut text = vec![0; usize::try_from(text_bytes).unwrap()];
        packed.read_exact(&mut text).unwrap();
        let path = room.path(".bedstone").join(String::from_utf8(text).unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::create(path).unwrap();
        file.set_len(len).unwrap();
        for _ in 0..blocks {
            let at = number(&mut packed).unwrap() * 4096;
            let mut block = vec![0; usize::try_from(4096.min(len - at)).unwrap()];
            packed.read_exact(&mut block).unwrap();
            file.write_all_at(&block, at).unwrap();
        }
    }
    room
}

#[test]
fn format_1_is_whole_and_reads_as_it_was() {
    for stable in ["native", "host"] {
        let room = format_1();
        let report = room.json(["verify", "--json"]);
        assert_eq!((&report["clean"], &report["findings"]), (&json!(true), &json!([])), "{report}");
        let counts = [&report["memories"], &report["modules"], &report["records"]];
        assert_eq!(counts, [&json!(4), &json!(2), &json!(21)], "{report}");

        let status = room.json(["status", "--json"]);
        let canisters = status["canisters"].as_array().unwrap();
        let facts = |canister: &Value| {
            ["name", "version", "heap_bytes", "stable_bytes"].map(|key| canister[key].clone())
        };
        let found: Vec<_> = canisters.iter().map(facts).collect();
        let counter = [json!("counter"), json!(41), json!(131_072), json!(196_608)];
        let tiny = [json!("tiny"), json!(4), json!(65_536), json!(65_536)];
        assert!(found.contains(&counter) && found.contains(&tiny), "{status}");

        let raw =
            |name, method| room.ok(["call", name, method, "--query", "--stable", stable, "--output", "hex"]);
        assert_eq!(raw("tiny", "raw"), "07");
        assert_eq!(raw("counter", "counts"), "2800000000000000".repeat(3));
        assert_eq!(room.json(["logs", "tiny", "--json"]).as_array().unwrap().len(), 2);
        // Life goes on.
        room.ok(["call", "counter", "count", "--stable", stable, "--output", "hex"]);
        assert_eq!(raw("counter", "counts"), "2900000000000000".repeat(3));
        assert_eq!(room.json(["verify", "--json"])["clean"], true);
    }
}

#[test]
fn format_1_says_where_it_is_damaged() {
    let room = format_1();
    // Half a page away from the first byte that is not zero: in the same page, but not what the log writes anew.
    let page = |name: &str| {
        let bytes = fs::read(room.path(name)).unwrap();
        bytes.iter().position(|byte| *byte != 0).map(|at| (name.to_owned(), at ^ 2048))
    };
    let memories: Vec<String> = fs::read_dir(room.path(".bedstone/mem"))
        .unwrap()
        .map(|entry| format!(".bedstone/mem/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|name| name.ends_with(".base"))
        .collect();
    let mut places: Vec<(String, usize)> = memories.iter().filter_map(|name| page(name)).collect();
    assert_eq!(places.len(), 4, "{places:?}");
    places.push((".bedstone/FORMAT".to_owned(), 60));
    for (name, at) in places {
        let original = fs::read(room.path(&name)).unwrap();
        let mut bytes = original.clone();
        bytes[at] ^= 0x10;
        room.write(&name, bytes);
        let ran = room.run(["verify", "--json"]);
        assert_eq!(ran.code, 1, "{name}: {ran:?}");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["clean"], false, "{name}: {report}");
        assert_eq!(report["findings"].as_array().unwrap().len(), 1, "{name}: {report}");
        assert_eq!(report["findings"][0]["file"], name, "{report}");
        room.write(&name, original);
    }
}

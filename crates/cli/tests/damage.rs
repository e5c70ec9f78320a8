//! State directories with damage: each place is named, by file, in text and as JSON, and looking changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bedstone::{Call, CallKind, Network, Principal};
use serde_json::{Value, json};

use crate::support::{Room, TINY};

/// Messages that are in the log only.
const MESSAGES: usize = 5;

/// A room with a state that was not closed: a canister in the files, and some of its messages in the log only.
fn unclosed() -> Room {
    let room = Room::new();
    let network = Network::builder().state_dir(room.path(".bedstone")).build().unwrap();
    let canister = network.create_canister().unwrap();
    network.name_canister("a", canister).unwrap();
    network.install(canister, &wat::parse_str(TINY).unwrap(), ()).unwrap();
    call(&network, canister, "put");
    network.save().unwrap();
    for _ in 0..MESSAGES {
        call(&network, canister, "hello");
    }
    network.abandon();
    room
}

fn call(network: &Network, canister: Principal, method: &str) {
    let arg = b"DIDL\0\0".to_vec();
    let (caller, kind) = (Principal::anonymous(), CallKind::Update);
    let receipt = network.call(Call { canister, method: method.to_owned(), arg, caller, kind }).unwrap();
    assert!(receipt.reply.is_ok(), "{receipt:?}");
}

/// The paths of a directory of the state.
fn list(room: &Room, directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(room.path(".bedstone").join(directory)).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn files_of(room: &Room, directory: &str, extension: &str) -> Vec<PathBuf> {
    let mut paths = list(room, directory);
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths
}

/// Every file of the state but the lock's, as far as it can have been changed.
fn state(room: &Room) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = ["", "wal", "mem", "blob"].iter().flat_map(|directory| list(room, directory));
    let files = files.filter(|path| path.is_file() && !path.ends_with("LOCK") && !path.ends_with("RESERVE"));
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The first file with a byte that is not zero, and where that is.
fn first_data(paths: Vec<PathBuf>) -> (PathBuf, usize) {
    let data = |path: &PathBuf| fs::read(path).unwrap().iter().position(|byte| *byte != 0);
    paths.into_iter().find_map(|path| data(&path).map(|at| (path, at))).unwrap()
}

/// The last record but one of the log.
fn a_record(room: &Room) -> (PathBuf, usize) {
    let records = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        let found = (4096..bytes.len()).step_by(64).filter(|at| bytes[*at..].starts_with(b"BREC"));
        found.map(|at| (path.clone(), at)).collect::<Vec<_>>()
    };
    let records: Vec<_> = files_of(room, "wal", "log").into_iter().flat_map(records).collect();
    records[records.len() - 2].clone()
}

/// `verify` finds damage in the file, and only there; `--json` says the same.
fn finds(room: &Room, path: &Path) -> Value {
    let ran = room.run(["verify"]);
    let name = path.strip_prefix(room.path("")).unwrap().to_str().unwrap();
    assert_eq!(ran.code, 1, "{name}: {ran:?}");
    assert!(ran.stdout.starts_with(&format!("{name}, byte ")), "{name}: {ran:?}");
    assert!(ran.stderr.starts_with("error: .bedstone is damaged in "), "{name}: {ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{name}: {ran:?}");
    let ran = room.run(["verify", "--json"]);
    assert_eq!(ran.code, 1, "{name}: {ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&report["clean"], &report["depth"]), (&json!(false), &json!("full")));
    assert_eq!(report["findings"][0]["file"], name, "{report}");
    report["findings"].clone()
}

#[test]
fn a_state_that_was_not_closed_is_whole_and_stays_as_it_is() {
    let room = unclosed();
    let before = state(&room);
    let report = room.json(["verify", "--json"]);
    assert_eq!((&report["clean"], &report["findings"]), (&json!(true), &json!([])));
    assert_eq!((&report["memories"], &report["modules"]), (&json!(2), &json!(1)));
    assert!(report["pages"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["records"], MESSAGES);
    let text = room.ok(["verify", "--quick"]);
    assert!(text.starts_with(".bedstone is whole: 2 memories; 5 records of the log wait"), "{text}");
    assert!(state(&room) == before, "looking changed something");
    assert_eq!(room.json(["logs", "a", "--json"]).as_array().unwrap().len(), MESSAGES);
    assert!(room.ok(["verify"]).ends_with(" pages, 1 modules"));
}

#[test]
fn a_flipped_byte_is_found_in_every_kind_of_file() {
    let room = unclosed();
    let catalog = room.path(".bedstone/catalog.redb");
    let bytes = fs::read(&catalog).unwrap();
    let rows = bytes.windows(9).enumerate().filter(|(_, window)| window == b"canister/");
    let rows: Vec<usize> = rows.map(|(at, _)| at).collect();
    let one = |(path, at): (PathBuf, usize)| (path, vec![at]);
    let record = a_record(&room);
    let places = [
        (room.path(".bedstone/FORMAT"), vec![60]),
        (record.0, vec![record.1 + 140]),
        one(first_data(files_of(&room, "mem", "base"))),
        one(first_data(list(&room, "blob"))),
        (catalog, rows),
    ];
    for (path, offsets) in places {
        flipped(&path, &offsets, || drop(finds(&room, &path)));
    }
    // A page and its sum contradict each other: both are named.
    let (sum, at) = first_data(files_of(&room, "mem", "sum"));
    let base = sum.with_extension("base");
    flipped(&sum, &[at], || {
        let findings = finds(&room, &base);
        assert_eq!(findings.as_array().unwrap().len(), 1, "{findings}");
        let what = findings[0]["what"].as_str().unwrap();
        let place = format!("at byte {} of .bedstone/mem/{}", at / 4 * 4, sum.file_name().unwrap().display());
        assert!(what.ends_with(&place), "{what}");
    });
    // Damage in one file does not hide what is wrong with another.
    let (path, at) = a_record(&room);
    flipped(&path, &[at + 140], || {
        flipped(&base, &[0], || assert_eq!(finds(&room, &path).as_array().unwrap().len(), 2));
    });
    assert!(room.ok(["verify"]).starts_with(".bedstone is whole"));
}

#[test]
fn a_missing_file_is_named() {
    let room = unclosed();
    let mut paths = vec![room.path(".bedstone/catalog.redb")];
    paths.extend(list(&room, "blob"));
    // The files of the two newest memories; those of an older one, which was dropped, may still be there.
    paths.extend(list(&room, "mem").into_iter().rev().take(4));
    assert_eq!(paths.len(), 6, "{paths:?}");
    let aside = room.path("aside");
    for path in paths {
        fs::rename(&path, &aside).unwrap();
        let findings = finds(&room, &path);
        assert!(findings[0]["what"].as_str().unwrap().contains("missing"), "{findings}");
        assert_eq!(findings.as_array().unwrap().len(), 1, "{findings}");
        fs::rename(&aside, &path).unwrap();
    }
    fs::rename(room.path(".bedstone/FORMAT"), &aside).unwrap();
    cannot_look(&room, "and no FORMAT");
    fs::rename(&aside, room.path(".bedstone/FORMAT")).unwrap();
    assert!(room.ok(["verify"]).starts_with(".bedstone is whole"));
}

#[test]
fn what_cannot_be_looked_at_is_said_in_one_sentence() {
    let room = unclosed();
    let format = room.path(".bedstone/FORMAT");
    flipped(&format, &[0], || cannot_look(&room, "not a Bedstone state directory"));
    flipped(&format, &[8], || cannot_look(&room, "made by another release of Bedstone"));
    let network = Network::builder().state_dir(room.path(".bedstone")).build().unwrap();
    cannot_look(&room, ".bedstone is in use by process ");
    drop(network);
    fs::remove_dir_all(room.path(".bedstone")).unwrap();
    cannot_look(&room, "no state directory .bedstone");
    room.write(".bedstone", "a file");
    cannot_look(&room, "not a directory");
}

fn cannot_look(room: &Room, why: &str) {
    let ran = room.run(["verify", "--json"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{ran:?}");
    assert!(ran.stderr.contains(why) && ran.stderr.lines().count() == 1, "{why}: {ran:?}");
}

#[test]
fn a_damaged_log_is_given_up_only_when_asked() {
    let room = unclosed();
    let refused = room.run(["repair"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("give --accept-loss"), "{refused:?}");
    assert!(room.ok(["repair", "--accept-loss"]).ends_with("nothing was given up"));

    let (path, at) = a_record(&room);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at + 140] ^= 1;
    fs::write(&path, bytes).unwrap();
    let before = state(&room);
    assert_eq!(room.run(["repair"]).code, 1);
    assert!(state(&room) == before, "refusing changed something");
    let status = room.run(["status"]);
    assert!(status.code == 1 && status.stderr.contains("proves that it was acknowledged"), "{status:?}");

    let text = room.ok(["repair", "--accept-loss"]);
    assert!(text.starts_with(".bedstone opens again, with 3 messages of its log"), "{text}");
    assert!(room.path(".bedstone/damaged").join(path.file_name().unwrap()).exists());
    // The damaged message and the one after it are gone.
    assert_eq!(room.json(["logs", "a", "--json"]).as_array().unwrap().len(), MESSAGES - 2);
    assert_eq!(room.json(["verify", "--json"])["clean"], true);
}

#[test]
fn damage_that_is_not_the_log_s_is_not_repaired() {
    let room = unclosed();
    flipped(&room.path(".bedstone/FORMAT"), &[60], || {
        let ran = room.run(["repair", "--accept-loss"]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.contains("FORMAT is damaged"), "{ran:?}");
    });
    assert_eq!(room.json(["verify", "--json"])["records"], MESSAGES);
}

/// Does something while bytes of a file are other than they should be.
fn flipped(path: &Path, offsets: &[usize], work: impl FnOnce()) {
    assert!(!offsets.is_empty(), "{}", path.display());
    let original = fs::read(path).unwrap();
    let mut bytes = original.clone();
    for offset in offsets {
        bytes[*offset] ^= 0x10;
    }
    fs::write(path, bytes).unwrap();
    work();
    fs::write(path, original).unwrap();
}

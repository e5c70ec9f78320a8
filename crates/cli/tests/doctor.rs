//! `doctor` on this machine, whatever it is.

use crate::support::Room;

#[test]
fn a_machine_is_described_and_nothing_stays_behind() {
    let room = Room::new();
    let told = room.json(["doctor", "--json", "--state", "not/made/yet"]);
    assert_eq!((&told["tried_in"], &told["writable"]), (&".".into(), &true.into()));
    assert_eq!(told["file_system"]["supported"], true, "{told}");
    let number = |name: &str| told[name].as_u64().unwrap_or_else(|| panic!("{name}: {told}"));
    assert!(number("sync_median_ns") > 0 && number("sync_median_ns") <= number("sync_p99_ns"), "{told}");
    assert!(number("free_bytes") <= number("total_bytes"), "{told}");
    assert_eq!(number("page_bytes"), 4096);
    assert!(told["reflink"].is_boolean() && told["open_files"] != serde_json::Value::Null, "{told}");
    assert_eq!(std::fs::read_dir(room.path("")).unwrap().count(), 0);

    std::fs::create_dir(room.path(".bedstone")).unwrap();
    let text = room.ok(["doctor"]);
    assert!(text.starts_with("state          .bedstone (tried in .bedstone)\nfile system    "), "{text}");
    assert!(text.ends_with("nothing will be refused"), "{text}");
    assert_eq!(std::fs::read_dir(room.path(".bedstone")).unwrap().count(), 0);
}

#[test]
fn a_process_without_address_space_is_told_so() {
    let room = Room::new();
    let program = env!("CARGO_BIN_EXE_bedstone");
    let limited = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 100000000 && exec \"$0\" doctor", program])
        .current_dir(room.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8(limited.stdout).unwrap();
    assert_eq!(limited.status.code(), Some(1), "{text}");
    assert!(
        text.contains("\nrefused: the limit on address space has room for 0 canisters at once"),
        "{text}"
    );
}

//! That everybody keeps what was committed, and that both benchmarks tell what they promise.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::engine::{Dirty, Engine, PAGE_BYTES, Page, PageStore};
use crate::engines::{
    bedstone::Bedstone, canister::Canister, fjall::Fjall, lmdb::Lmdb, raw::Raw, redb::Redb, sqlite::Sqlite,
};
use crate::room::Room;
use crate::{Arguments, Benchmark, keys, machine, measure, store};

const PAGES: u32 = 64;

/// Content that names the commit and the page it belongs to.
fn page(commit: u32, index: u32) -> Page {
    let mut page = [0; PAGE_BYTES];
    for (place, word) in page.chunks_exact_mut(4).enumerate() {
        word.copy_from_slice(&(commit * 1_000_000 + index * 1_024 + place as u32).to_le_bytes());
    }
    page
}

/// Commits pages, the later over the earlier; opens the directory again; expects the last of each, and nothing else.
fn keeps_pages<S: PageStore>(open: impl Fn(&Path) -> Result<S>) {
    let room = Room::new(Some(&std::env::temp_dir())).unwrap();
    let directory = room.join("engine");
    let mut content = vec![None; PAGES as usize];
    let mut engine = open(&directory).unwrap();
    for (commit, indexes) in [0..10, 5..40, 7..8, 30..50].into_iter().enumerate() {
        if commit == 2 {
            drop(engine);
            engine = open(&directory).unwrap();
        }
        let pages: Vec<(u32, Page, Page)> = indexes
            .map(|index| {
                let before = content[index as usize].unwrap_or([0; PAGE_BYTES]);
                (index, before, page(commit as u32 + 1, index))
            })
            .collect();
        let dirty: Vec<Dirty<'_>> =
            pages.iter().map(|(index, before, after)| Dirty { index: *index, before, after }).collect();
        engine.commit(&dirty).unwrap();
        for (index, _, after) in pages {
            content[index as usize] = Some(after);
        }
    }
    for is_opened_again in [false, true] {
        if is_opened_again {
            drop(engine);
            engine = open(&directory).unwrap();
        }
        for index in 0..PAGES {
            // A memory has zeros where nothing was written; the others have nothing.
            let found = engine.read(index).unwrap().filter(|page| *page != [0; PAGE_BYTES]);
            let is_right = found == content[index as usize];
            assert!(is_right, "page {index}, opened again: {is_opened_again}");
        }
    }
}

fn keeps_entries<E: Engine>(open: impl Fn(&Path) -> Result<E>) {
    let room = Room::new(Some(&std::env::temp_dir())).unwrap();
    let directory = room.join("engine");
    let many: Vec<(u128, u128)> = (0..1000).map(|n| (n << 100 | n, n * 7)).collect();
    let mut engine = open(&directory).unwrap();
    engine.insert(&many).unwrap();
    engine.insert(&[(u128::MAX, 1)]).unwrap();
    engine.insert(&[(0, 2)]).unwrap();
    drop(engine);
    let mut engine = open(&directory).unwrap();
    for (key, value) in &many[1..] {
        assert_eq!(engine.get(*key).unwrap(), Some(*value), "{key}");
    }
    assert_eq!(engine.get(u128::MAX).unwrap(), Some(1));
    assert_eq!(engine.get(0).unwrap(), Some(2), "a later value replaces an earlier one");
    assert_eq!(engine.get(3).unwrap(), None);
}

#[test]
fn the_raw_append_keeps_pages() {
    keeps_pages(Raw::open);
}

#[test]
fn the_raw_append_goes_back_to_the_beginning_of_its_file() {
    let room = Room::new(Some(&std::env::temp_dir())).unwrap();
    let mut raw = Raw::open(room.path()).unwrap();
    // Of 100 pages each, 163 records fill 64 MiB.
    for commit in 0..170 {
        let pages: Vec<Page> = (0..100).map(|index| page(commit, index)).collect();
        let dirty = |(index, after)| Dirty { index: index as u32, before: after, after };
        raw.commit(&pages.iter().enumerate().map(dirty).collect::<Vec<_>>()).unwrap();
    }
    drop(raw);
    let mut raw = Raw::open(room.path()).unwrap();
    assert!(raw.read(99).unwrap() == Some(page(169, 99)));
    let after = page(170, 5);
    raw.commit(&[Dirty { index: 5, before: &after, after: &after }]).unwrap();
    assert!(raw.read(5).unwrap() == Some(after));
    assert!(raw.read(6).unwrap() == Some(page(169, 6)));
    assert_eq!(std::fs::metadata(room.join("raw.log")).unwrap().len(), 64 << 20);
}

#[test]
fn bedstone_keeps_pages() {
    keeps_pages(|directory| Bedstone::open(directory, PAGES));
}

#[test]
fn sqlite_keeps_pages_and_entries() {
    keeps_pages(Sqlite::open);
    keeps_entries(Sqlite::open);
}

#[test]
fn fjall_keeps_pages_and_entries() {
    keeps_pages(Fjall::open);
    keeps_entries(Fjall::open);
}

#[test]
fn lmdb_keeps_pages_and_entries() {
    keeps_pages(Lmdb::open);
    keeps_entries(Lmdb::open);
}

#[test]
fn redb_keeps_pages_and_entries() {
    keeps_pages(Redb::open);
    keeps_entries(Redb::open);
}

#[test]
fn a_canister_keeps_entries() {
    keeps_entries(Canister::open);
}

#[test]
fn the_benchmark_of_pages_tells_every_engine_and_size() {
    let room = Room::new(Some(&std::env::temp_dir())).unwrap();
    let turn = Duration::from_millis(1);
    let plan = store::Plan { rounds: 2, turn, working_set: 256, warm_passes: 1, seed: 3 };
    let found = store::run(&room, &plan).unwrap();
    let rows = found.json["rows"].as_array().unwrap();
    let mut expected = Vec::new();
    for pages in [1, 10, 100] {
        for name in ["raw append", "Bedstone", "SQLite", "fjall", "LMDB", "redb"] {
            expected.push((name, pages));
        }
    }
    let told: Vec<(&str, u64)> =
        rows.iter().map(|row| (row["name"].as_str().unwrap(), row["pages"].as_u64().unwrap())).collect();
    assert_eq!(told, expected);
    for row in rows {
        let ratio = row["ratio_to_raw"].as_f64().unwrap();
        assert!(row["commits_per_second"].as_f64().unwrap() > 0.0, "{row}");
        assert!(if row["name"] == "raw append" { ratio == 1.0 } else { ratio > 0.0 }, "{row}");
    }
}

#[test]
fn the_benchmark_of_keys_tells_every_engine_and_workload() {
    let room = Room::new(Some(&std::env::temp_dir())).unwrap();
    let plan =
        keys::Plan { rounds: 2, load_entries: 100, single_inserts: 3, bulk_inserts: 1, reads: 50, seed: 3 };
    let found = keys::run(&room, &plan).unwrap();
    let rows = found.json["rows"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        rows.iter().map(|row| (row["name"].as_str().unwrap(), row["workload"].as_str().unwrap())).collect();
    let mut expected = Vec::new();
    for workload in ["single_inserts", "bulk_inserts", "reads"] {
        for name in ["SQLite", "fjall", "LMDB", "redb", "Bedstone"] {
            expected.push((name, workload));
        }
    }
    assert_eq!(told, expected);
    assert!(rows.iter().all(|row| row["entries_per_second"].as_f64().unwrap() > 0.0));
}

#[test]
fn medians_and_ratios_are_of_rounds() {
    assert_eq!(measure::median(vec![9.0, 1.0, 2.0]), 2.0);
    assert_eq!(measure::median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
    let mut parties = [10.0, 5.0];
    let factors = [1.0, 3.0, 2.0];
    let rounds = measure::Rounds::run(&mut parties, 3, 1, |party, round| {
        // The second is slow in the first round only.
        let is_slow = *party == 5.0 && round == 0;
        Ok(*party * factors[round as usize] / if is_slow { 5.0 } else { 1.0 })
    })
    .unwrap();
    assert_eq!((rounds.median(0), rounds.range(0)), (20.0, (10.0, 30.0)));
    assert_eq!((rounds.ratio(0, 0), rounds.ratio(1, 0)), (1.0, 0.5));
}

#[test]
fn parts_of_a_run_differ_and_come_again() {
    let seeds: Vec<u64> = (0..100).map(|round| measure::part(1, &[7, round])).collect();
    let different: std::collections::BTreeSet<u64> = seeds.iter().copied().collect();
    assert_eq!(different.len(), 100);
    assert_eq!(seeds[3], measure::part(1, &[7, 3]));
    assert_ne!(seeds[3], measure::part(2, &[7, 3]));
}

#[test]
fn the_file_system_is_that_of_the_innermost_mount() {
    let mounts = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /dev/shm rw - tmpfs tmpfs rw
23 21 8:2 / /data rw - ext4 /dev/sdb1 rw
24 23 8:3 / /data rw - xfs /dev/sdc1 rw
";
    let kind = |path: &str| machine::file_system(mounts, Path::new(path));
    assert_eq!(kind("/dev/shm/a").as_deref(), Some("tmpfs"));
    assert_eq!(kind("/dev/shmem").as_deref(), Some("ext4"));
    assert_eq!(kind("/data/a").as_deref(), Some("xfs"), "the later mount hides the earlier");
    assert_eq!(machine::file_system("", Path::new("/data")), None);
    let look = machine::Machine::look(&std::env::temp_dir());
    assert!(look.cores > 0 && look.kernel != "unknown" && look.file_system != "unknown", "{look}");
}

#[test]
fn scheduling_is_read_behind_a_name_of_any_kind() {
    let line = |policy: u32| format!("12 (a) b) S {}{policy} 0\n", "0 ".repeat(37));
    assert_eq!(machine::scheduling(&line(0)), "normal");
    assert_eq!(machine::scheduling(&line(1)), "real-time");
    assert_eq!(machine::scheduling(""), "unknown");
}

#[test]
fn a_room_is_fresh_and_goes_with_its_content() {
    let outer = Room::new(Some(&std::env::temp_dir())).unwrap();
    let kept = outer.join("kept");
    std::fs::write(&kept, "kept").unwrap();
    let inner = Room::new(Some(outer.path())).unwrap();
    let path = inner.path().to_owned();
    std::fs::write(inner.join("gone"), "gone").unwrap();
    drop(inner);
    assert!(!path.exists() && kept.exists());
    let error = Room::new(Some(&kept)).err().expect("a file is no directory").to_string();
    assert!(error.contains("--dir"), "{error}");
}

#[test]
fn fewer_than_five_rounds_are_refused() {
    let parse = |words: &[&str]| Arguments::try_parse_from([&["bedstone-bench-compare"], words].concat());
    let arguments = parse(&["store", "--rounds", "5", "--quick", "--json"]).unwrap();
    assert!(matches!(arguments.benchmark, Benchmark::Store) && arguments.options.rounds == 5);
    assert!(parse(&["keys"]).is_ok_and(|arguments| arguments.options.rounds == 7));
    assert!(parse(&["store", "--rounds", "4"]).is_err());
}

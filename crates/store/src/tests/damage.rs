//! Bytes on disk that are not the ones written: found and named, or without effect; never a panic, and never
//! another state.

use std::sync::Arc;

use super::{Model, tiny};
use crate::sim::{Faults, SimDisk};
use crate::{
    Class, Config, Depth, ErrorKind, PageCount, PageIndex, Result, Store, repair_accepting_loss, verify,
};

fn config() -> Config {
    let mut config = tiny(7);
    config.checkpoint_log_bytes = 1 << 30;
    (config.log_bytes_max, config.pending_pages_max) = (1 << 30, 1 << 20);
    config.segment_bytes = 1 << 14;
    config
}

/// Two memories with applied pages, a frozen copy, a blob and metadata; then records that were not applied,
/// each acknowledged before the next was made. Also the states after each record.
fn state() -> (Arc<SimDisk>, Vec<Model>) {
    let disk = SimDisk::new(1);
    let store = Store::create(disk.clone(), &config()).unwrap();
    let blob = store.put_blob(&[5; 100]).unwrap();
    let mut change = store.begin();
    let memory = change.create(PageCount::new(8)).unwrap();
    change.grow(&memory, PageCount::new(6));
    change.image(&memory, PageIndex::new(2), &[1; 4096]);
    let other = change.create(PageCount::new(4)).unwrap();
    change.grow(&other, PageCount::new(1));
    change.put(b"key", b"value");
    change.blob_references(blob, 1);
    store.append(change).unwrap();
    let copied = store.snapshot(&[memory.id()]).unwrap().pop().unwrap();
    let mut change = store.begin();
    change.create_copy(copied, Class::Frozen);
    store.append(change).unwrap();
    store.checkpoint().unwrap();

    let mut states = vec![Model::of(&store).unwrap()];
    for step in 0..10_u8 {
        let mut model = states.last().unwrap().clone();
        let mut change = store.begin();
        let mut page = [0; 4096];
        page[64 * usize::from(step)] = 1 + step;
        change.image(&memory, PageIndex::new(u32::from(step % 3)), &page);
        let expected = model.memories.get_mut(&memory.id()).unwrap();
        expected.image.insert(PageIndex::new(u32::from(step % 3)), page);
        if step == 4 {
            change.grow(&other, PageCount::new(3));
            model.memories.get_mut(&other.id()).unwrap().pages = PageCount::new(3);
        }
        change.put(&[step], &[step; 50]);
        model.metadata.insert(vec![step], vec![step; 50]);
        let lsn = store.append(change).unwrap();
        store.wait_durable(lsn).unwrap();
        states.push(model);
    }
    (disk.killed(Faults::none()), states)
}

fn open(disk: &Arc<SimDisk>) -> Result<Model> {
    Model::of(&Store::open(disk.clone(), &config())?.0)
}

#[test]
fn the_undamaged_state_is_the_last_one() {
    let (disk, states) = state();
    let report = verify(disk.fork(), &config(), Depth::Full).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.memories, report.records, report.blobs), (3, 10, 1));
    assert_eq!(&open(&disk).unwrap(), states.last().unwrap());
}

#[test]
fn a_flipped_bit_anywhere_is_found_or_without_effect() {
    let (disk, states) = state();
    let last = states.last().unwrap();
    let (mut refused, mut shorter) = (0, 0);
    for (path, bytes) in disk.files() {
        if path == "LOCK" {
            continue;
        }
        let step = if path == "FORMAT" { 1 } else { 1 + bytes.len() / 700 };
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let damaged = disk.damaged(&path, Some(flipped));
            match open(&damaged) {
                Ok(found) if &found == last => {}
                // The newest batch cannot be told from a torn one; nothing follows that proves it durable.
                Ok(found) => {
                    assert!(path.starts_with("wal/") && found == states[9], "{path}, byte {at}");
                    shorter += 1;
                }
                Err(error) => {
                    let kind = error.kind();
                    let allowed = if path == "FORMAT" {
                        kind == ErrorKind::Format || kind == ErrorKind::Damaged
                    } else {
                        kind == ErrorKind::Damaged
                    };
                    assert!(allowed, "{path}, byte {at}: {error:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 500 && shorter > 10, "{refused} {shorter}");
}

#[test]
fn a_rotten_page_is_named_by_verification_and_by_a_checkpoint_that_merges_into_it() {
    let (disk, _) = state();
    let memory = crate::MemoryId::new(1);
    {
        let (store, _) = Store::open(disk.clone(), &config()).unwrap();
        store.close().unwrap();
    }
    for byte in [2 * 4096, 2 * 4096 + 4095] {
        let rotten = disk.fork();
        rotten.rot("mem/1.base", byte, 4).unwrap();
        let report = verify(rotten.fork(), &config(), Depth::Full).unwrap();
        assert_eq!(report.findings.len(), 1, "{report:?}");
        assert_eq!(report.findings[0].offset, 2 * 4096);
        assert!(report.findings[0].file.ends_with("mem/1.base"), "{report:?}");

        let (store, _) = Store::open(rotten.clone(), &config()).unwrap();
        let handle = store.memory(memory).unwrap();
        assert_eq!(handle.read(2 * 4096, &mut [0; 8]).unwrap_err().kind(), ErrorKind::Damaged);
        let before = disk.bytes("mem/1.base").unwrap()[2 * 4096..3 * 4096].to_vec();
        let before: crate::Page = before.try_into().unwrap();
        let mut after = before;
        after[2000] ^= 1;
        let mut change = store.begin();
        change.page(&handle, PageIndex::new(2), &before, &after);
        let error = store.save(change).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains("page 2 of memory 1"), "{error}");
        assert_eq!(store.metadata(b"key").unwrap_err().kind(), ErrorKind::Poisoned);
        drop((store, handle));
        let error = Store::open(rotten, &config()).unwrap_err();
        assert!(error.to_string().contains("page 2 of memory 1"), "{error}");
    }
}

#[test]
fn a_torn_end_is_cut_off_at_any_byte() {
    let (disk, states) = state();
    // The segment of the last record.
    let files = disk.files();
    let (path, bytes) = files.iter().rfind(|(path, _)| path.starts_with("wal/")).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for cut in (4096..end).step_by(61) {
        let mut torn = bytes.clone();
        torn[cut..].fill(0);
        // Everything from the cut on was never acknowledged, as far as the disk tells.
        let found = open(&disk.damaged(path, Some(torn))).unwrap();
        assert!(states.contains(&found), "cut at {cut}");
    }
}

#[test]
fn a_missing_file_is_named_or_was_not_needed() {
    let (disk, states) = state();
    let mut segments_refused = 0;
    for path in disk.paths().into_keys() {
        match open(&disk.damaged(&path, None)) {
            Ok(found) => {
                assert!(
                    path == "LOCK"
                        || path == "RESERVE"
                        || path.starts_with("wal/")
                        || path.starts_with("blob/"),
                    "{path}"
                );
                assert!(path.starts_with("wal/") || &found == states.last().unwrap(), "{path}");
            }
            Err(error) => {
                let expected = if path == "FORMAT" { ErrorKind::Format } else { ErrorKind::Damaged };
                assert_eq!(error.kind(), expected, "{path}: {error}");
                segments_refused += u32::from(path.starts_with("wal/"));
            }
        }
    }
    assert!(segments_refused > 0, "the segment in which the log goes on is needed");
}

#[test]
fn accepting_a_loss_opens_with_what_is_before_the_damage_and_keeps_the_old_log() {
    let (disk, states) = state();
    let files = disk.files();
    let (path, bytes) =
        files.iter().find(|(path, bytes)| path.starts_with("wal/") && bytes[4096..4100] == *b"BREC").unwrap();
    // Into the third record that was not applied, or any other: most of them refuse to open.
    let mut damaged = bytes.clone();
    let records: Vec<_> =
        (4096..bytes.len()).step_by(64).filter(|at| bytes[*at..].starts_with(b"BREC")).collect();
    damaged[records[records.len() - 1] + 200] ^= 1;
    let damaged = disk.damaged(path, Some(damaged));
    let error = open(&damaged.fork()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("proves that it was acknowledged"), "{error}");
    let report = verify(damaged.fork(), &config(), Depth::Quick).unwrap();
    assert_eq!(report.findings.len(), 1, "{report:?}");

    let report = repair_accepting_loss(damaged.clone(), &config()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    let found = open(&damaged).unwrap();
    assert!(states.contains(&found) && &found != states.last().unwrap());
    assert!(damaged.paths().keys().any(|path| path.starts_with("damaged/")));
}

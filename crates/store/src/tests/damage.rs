//! Bytes on disk that are not the ones written: found, or without effect; never a panic.

use std::sync::Arc;

use super::{Model, config};
use crate::sim::SimDisk;
use crate::{ErrorKind, PageCount, PageIndex, Result, Store};

fn small_state() -> (Arc<SimDisk>, Model) {
    let disk = SimDisk::new(1);
    let store = Store::create(disk.clone(), &config()).unwrap();
    let blob = store.put_blob(&[5; 100]).unwrap();
    let mut change = store.begin();
    let memory = change.create(PageCount::new(4)).unwrap();
    change.grow(&memory, PageCount::new(3));
    change.image(&memory, PageIndex::new(2), &[1; 4096]);
    change.create(PageCount::new(1)).unwrap();
    change.put(b"key", b"value");
    change.put(b"", b"");
    change.blob_references(blob, 1);
    store.save(change).unwrap();
    let model = Model::of(&store).unwrap();
    (disk, model)
}

fn open(disk: Arc<SimDisk>) -> Result<Model> {
    Model::of(&Store::open(disk, &config())?.0)
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (disk, _) = small_state();
    for (path, bytes) in disk.files() {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            let damaged = disk.damaged(&path, Some(flipped));
            let before = damaged.files();
            let error = open(damaged.clone()).expect_err(&format!("{path}, byte {at}"));
            let expected = if path == "FORMAT" && at < 12 { ErrorKind::Format } else { ErrorKind::Damaged };
            assert_eq!(error.kind(), expected, "{path}, byte {at}: {error}");
            assert!(error.to_string().contains(&path), "{error}");
            assert_eq!(damaged.files(), before, "an opening that is refused changes nothing");
        }
    }
}

#[test]
fn a_file_that_is_shorter_longer_or_missing_is_found() {
    let (disk, model) = small_state();
    assert_eq!(disk.files().len(), 4, "{:?}", disk.files().keys());
    for (path, bytes) in disk.files() {
        for length in 0..bytes.len() {
            assert!(
                open(disk.damaged(&path, Some(bytes[..length].to_vec()))).is_err(),
                "{path}, {length} bytes"
            );
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(open(disk.damaged(&path, Some(longer))).unwrap_err().kind(), ErrorKind::Damaged, "{path}");
        let error = open(disk.damaged(&path, None)).unwrap_err();
        let expected = if path == "FORMAT" { ErrorKind::Format } else { ErrorKind::Damaged };
        assert_eq!(error.kind(), expected, "{path}: {error}");
    }
    assert_eq!(open(disk).unwrap(), model);
}

/// A hash that is right does not make a field right: whatever a hash covers is changed together with the
/// hash.
#[test]
fn fields_are_checked_even_under_a_right_hash() {
    let (disk, _) = small_state();
    let files = disk.files();
    let format = crate::format::Format::decode(&files["FORMAT"], "FORMAT").unwrap();
    let head = &files["head"];
    let hashed = head.len() - 32;
    let key = format.key(crate::format::Purpose::Head);
    for at in 0..hashed {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut forged = head.clone();
            forged[at] = value;
            let hash = *blake3::keyed_hash(&key, &forged[..hashed]).as_bytes();
            forged[hashed..].copy_from_slice(&hash);
            // Most are refused; some, such as another value of metadata, are a state like any other.
            let _ = open(disk.damaged("head", Some(forged)));
        }
    }
}

#[test]
fn a_file_of_another_store_is_not_taken_for_ours() {
    let (disk, _) = small_state();
    let other = SimDisk::new(2);
    drop(Store::create(other.clone(), &crate::Config::new([1; 32])).unwrap());
    let error = open(disk.damaged("head", Some(other.files()["head"].clone()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    let error = open(disk.damaged("FORMAT", Some(other.files()["FORMAT"].clone()))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
}

/// Two histories of one store may give one name to different images; `head` says which bytes it means.
#[test]
fn an_image_of_another_history_is_not_taken_for_ours() {
    let (disk, _) = small_state();
    let histories = [1, 2].map(|byte| {
        let disk = disk.killed(crate::sim::Fault::Nothing);
        let (store, _) = Store::open(disk.clone(), &config()).unwrap();
        let mut change = store.begin();
        change.image(&store.memory(crate::MemoryId::new(1)).unwrap(), PageIndex::new(0), &[byte; 4096]);
        store.save(change).unwrap();
        disk.killed(crate::sim::Fault::Nothing)
    });
    let image = histories[1].files()["mem/1.2"].clone();
    let error = open(histories[0].damaged("mem/1.2", Some(image))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(open(histories[0].clone()).is_ok());
}

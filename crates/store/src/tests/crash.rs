//! A save, an opening and a creation, stopped or failing at each of their operations.

use std::sync::Arc;

use super::{Model, config};
use crate::sim::{Fault, SimDisk};
use crate::{ErrorKind, KeyRange, PageCount, PageIndex, Result, Store};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A saved state with three memories, metadata and two blobs.
fn first() -> (Arc<SimDisk>, Model) {
    let disk = SimDisk::new(1);
    let store = Store::create(disk.clone(), &config()).unwrap();
    let blobs = [store.put_blob(&[1; 600]).unwrap(), store.put_blob(&[2; 600]).unwrap()];
    let mut change = store.begin();
    for number in 1..=3 {
        let memory = change.create(PageCount::new(8)).unwrap();
        change.grow(&memory, PageCount::new(3));
        change.image(&memory, PageIndex::new(1), &[number; 4096]);
        change.put(&[number], &memory.id().get().to_le_bytes());
    }
    change.put(b"state", &[b'1'; 700]);
    blobs.iter().for_each(|id| change.blob_references(*id, 1));
    store.save(change).unwrap();
    let model = Model::of(&store).unwrap();
    (disk.killed(Fault::Nothing), model)
}

/// Opens and saves a change of everything: one memory written, one dropped, one untouched, one made; one blob
/// exchanged.
fn second(disk: &Arc<SimDisk>) -> Result<Model> {
    let (store, _) = Store::open(disk.clone(), &config())?;
    let blob = store.put_blob(&[3; 600])?;
    let mut change = store.begin();
    let written = store.memory(crate::MemoryId::new(1))?;
    change.image(&written, PageIndex::new(0), &[9; 4096]);
    change.grow(&written, PageCount::new(4));
    change.drop_memory(store.memory(crate::MemoryId::new(2))?);
    let made = change.create(PageCount::new(8))?;
    change.grow(&made, PageCount::new(1));
    change.image(&made, PageIndex::new(0), &[7; 4096]);
    change.put(b"state", &[b'2'; 900]);
    change.delete(&[2]);
    change.blob_references(crate::BlobId::of(&[2; 600]), -1);
    change.blob_references(blob, 1);
    let saved = store.save(change);
    if saved.is_err() {
        let poisoned = store.metadata(b"state").unwrap_err();
        assert_eq!(poisoned.kind(), ErrorKind::Poisoned, "{poisoned}");
        assert_eq!(written.read(0, &mut [0]).unwrap_err().kind(), ErrorKind::Poisoned);
    }
    saved?;
    Model::of(&store)
}

fn open(disk: &Arc<SimDisk>) -> Model {
    let (store, _) = Store::open(disk.clone(), &config()).unwrap();
    Model::of(&store).unwrap()
}

#[test]
fn a_power_cut_at_any_operation_leaves_the_old_or_the_new_state() {
    let (disk, old) = first();
    let whole = disk.killed(Fault::Nothing);
    let new = second(&whole).unwrap();
    let operations = whole.operations();
    assert!(operations > 15, "{operations}");
    let (mut olds, mut news) = (0, 0);
    for at in 1..=operations + 1 {
        let stopped = disk.killed(Fault::Stop(at));
        let done = second(&stopped).is_ok();
        for seed in 0..40 {
            let found = open(&stopped.power_cut(seed));
            assert!(found == new || (found == old && !done), "operation {at}, seed {seed}");
            olds += u32::from(found == old);
            news += u32::from(found == new);
        }
    }
    assert!(olds > 100 && news > 20, "{olds} {news}: the cuts must fall on both sides");
}

#[test]
fn what_an_opening_shows_survives_the_next_power_cut() {
    let (disk, old) = first();
    let whole = disk.killed(Fault::Nothing);
    let new = second(&whole).unwrap();
    for at in 1..=whole.operations() {
        for fault in [Fault::Stop(at), Fault::Fail(at, EIO), Fault::Fail(at, ENOSPC)] {
            let stopped = disk.killed(fault);
            let _ = second(&stopped);
            let again = stopped.killed(Fault::Nothing);
            let shown = open(&again);
            assert!(shown == old || shown == new, "{fault:?}");
            for seed in 0..10 {
                assert_eq!(open(&again.power_cut(seed)), shown, "{fault:?}, seed {seed}");
            }
            // The opening may be stopped too, and what it did not show may then go either way.
            for at in 1..=again.operations() {
                let twice = stopped.killed(Fault::Stop(at));
                let _ = Store::open(twice.clone(), &config());
                for seed in 0..4 {
                    let found = open(&twice.power_cut(seed));
                    assert!(found == old || found == new, "{fault:?}, then {at}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn a_failed_write_or_sync_says_so_and_is_never_retried() {
    let (disk, old) = first();
    let whole = disk.killed(Fault::Nothing);
    let new = second(&whole).unwrap();
    for at in 1..=whole.operations() {
        for (number, kind) in [(EIO, ErrorKind::Io), (ENOSPC, ErrorKind::StorageFull)] {
            let failing = disk.killed(Fault::Fail(at, number));
            match second(&failing) {
                // Only the removal of what the new state does not need may fail unnoticed.
                Ok(found) => assert_eq!(found, new),
                Err(error) => assert!(error.kind() == kind || number == EIO, "{at}: {error}"),
            }
            for seed in 0..10 {
                let found = open(&failing.power_cut(seed));
                assert!(found == old || found == new, "operation {at}, seed {seed}");
            }
        }
    }
}

#[test]
fn a_creation_that_was_stopped_can_be_done_again() {
    let whole = SimDisk::new(1);
    drop(Store::create(whole.clone(), &config()).unwrap());
    for at in 1..=whole.operations() {
        for fault in [Fault::Stop(at), Fault::Fail(at, EIO)] {
            for seed in 0..20 {
                let stopped = SimDisk::new(seed).killed(fault);
                assert!(Store::create(stopped.clone(), &config()).is_err());
                for disk in [stopped.power_cut(seed), stopped.killed(Fault::Nothing)] {
                    let (store, _) = Store::open_or_create(disk.clone(), &config()).unwrap();
                    assert_eq!(Model::of(&store).unwrap(), Model::default());
                    let mut change = store.begin();
                    let memory = change.create(PageCount::new(1)).unwrap();
                    change.grow(&memory, PageCount::new(1));
                    change.image(&memory, PageIndex::new(0), &[1; 4096]);
                    let blob = store.put_blob(&[1; 600]).unwrap();
                    change.blob_references(blob, 1);
                    change.put(b"key", b"value");
                    store.save(change).unwrap();
                    let saved = Model::of(&store).unwrap();
                    assert_eq!(open(&disk.power_cut(seed)), saved, "{fault:?}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn what_a_stopped_save_left_is_removed() {
    let (disk, _) = first();
    let whole = disk.killed(Fault::Nothing);
    second(&whole).unwrap();
    for at in 1..=whole.operations() {
        let stopped = disk.killed(Fault::Stop(at));
        let _ = second(&stopped);
        let again = stopped.killed(Fault::Nothing);
        let (store, _) = Store::open(again.clone(), &config()).unwrap();
        let state = store.state().unwrap();
        let named = state.tables.memories.values().filter(|entry| entry.image.is_some()).count()
            + state.tables.blobs.len()
            + ["FORMAT", "head"].len();
        drop(state);
        assert_eq!(again.files().len(), named, "operation {at}: {:?}", again.files().keys());
    }
}

#[test]
fn a_disk_that_refuses_writes_is_named_before_anything_happens() {
    const EROFS: i32 = 30;
    let (disk, old) = first();
    let refusing = disk.killed(Fault::Refuse(EROFS));
    let error = Store::open(refusing.clone(), &config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("make the state directory writable"), "{error}");
    assert_eq!(open(&refusing.killed(Fault::Nothing)), old);
    let error = Store::create(SimDisk::new(1).killed(Fault::Refuse(EROFS)), &config()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn a_blob_that_is_put_again_before_its_removal_is_safe() {
    let (disk, _) = first();
    for at in 1..=40 {
        let stopped = disk.killed(Fault::Stop(at));
        let run = || -> Result<()> {
            let (store, _) = Store::open(stopped.clone(), &config())?;
            let id = crate::BlobId::of(&[2; 600]);
            let mut change = store.begin();
            change.blob_references(id, -1);
            store.append(change)?;
            assert_eq!(store.put_blob(&[2; 600])?, id);
            store.save(store.begin())?;
            let mut change = store.begin();
            change.blob_references(id, 1);
            store.save(change)?;
            assert_eq!(store.blob(id)?, [2; 600]);
            store.metadata_range(KeyRange::Prefix(b"st"), &mut |_, _| std::ops::ControlFlow::Break(()))
        };
        let _ = run();
        for seed in 0..10 {
            open(&stopped.power_cut(seed));
        }
    }
}

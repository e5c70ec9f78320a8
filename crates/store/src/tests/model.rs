//! Random changes on a store and on maps in RAM, which must agree after each and after each opening.

use std::sync::Arc;

use super::{Model, TemporaryDirectory, config, random_step};
use crate::sim::{Fault, Random, SimDisk};
use crate::{Disk, ErrorKind, Lsn, PageCount, PageIndex, Store};

/// Runs `steps` changes, saving and opening again at random; `again` gives the disk of the next opening.
fn run(seed: u64, steps: usize, mut disk: Arc<dyn Disk>, again: impl Fn(Arc<dyn Disk>) -> Arc<dyn Disk>) {
    let mut random = Random(seed);
    let mut store = Store::create(disk.clone(), &config()).unwrap();
    let mut model = Model::default();
    let mut saved = model.clone();
    for _ in 0..steps {
        let mut change = store.begin();
        for _ in 0..random.below(5) {
            random_step(&store, &mut change, &mut model, &mut random).unwrap();
        }
        let before = store.progress().unwrap();
        let empty = change.is_empty();
        let lsn = match random.below(3) {
            0 => {
                saved = model.clone();
                let lsn = store.save(change).unwrap();
                assert_eq!(store.progress().unwrap().durable, lsn);
                lsn
            }
            _ => store.append(change).unwrap(),
        };
        assert_eq!(lsn.get(), before.last.get() + u64::from(!empty));
        assert_eq!(Model::of(&store).unwrap(), model, "seed {seed}");
        if random.below(8) == 0 {
            let durable = store.progress().unwrap().durable;
            store.close().unwrap();
            disk = again(disk);
            store = Store::open(disk.clone(), &config()).unwrap().0;
            model = saved.clone();
            assert_eq!(Model::of(&store).unwrap(), model, "seed {seed}");
            assert_eq!(store.progress().unwrap().last, durable);
        }
    }
}

#[test]
fn the_store_agrees_with_a_model_on_the_simulated_disk() {
    for seed in 0..40 {
        run(seed, 60, SimDisk::new(seed), |disk| disk);
    }
}

#[test]
fn the_store_agrees_with_a_model_on_files() {
    let directory = TemporaryDirectory::new("model");
    for seed in 0..2 {
        run(seed, 40, directory.disk(&seed.to_string()), |disk| disk);
    }
}

#[test]
fn the_store_agrees_with_a_model_without_a_directory() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let store = Store::in_memory(&config());
        let mut model = Model::default();
        for _ in 0..60 {
            let mut change = store.begin();
            random_step(&store, &mut change, &mut model, &mut random).unwrap();
            store.save(change).unwrap();
            assert_eq!(Model::of(&store).unwrap(), model, "seed {seed}");
        }
        assert_eq!(store.progress().unwrap().durable, Lsn::new(0));
    }
}

#[test]
fn saves_that_are_stopped_at_random_leave_a_saved_state() {
    let creation = SimDisk::new(0);
    drop(Store::create(creation.clone(), &config()).unwrap());
    for seed in 0..2_000 {
        let mut random = Random(seed);
        let stop = creation.operations() + 1 + random.below(60) as u64;
        let disk = SimDisk::new(seed).killed(Fault::Stop(stop));
        let store = Store::create(disk.clone(), &config()).unwrap();
        let mut model = Model::default();
        let mut saved = model.clone();
        loop {
            let mut change = store.begin();
            let mut next = model.clone();
            if random_step(&store, &mut change, &mut next, &mut random).is_err() {
                break;
            }
            let result = if random.below(3) == 0 { store.save(change) } else { store.append(change) };
            model = next;
            let progress = match result {
                Ok(_) => store.progress().unwrap(),
                Err(_) => break,
            };
            if progress.last == progress.durable {
                saved = model.clone();
            }
        }
        assert_eq!(store.save(store.begin()).unwrap_err().kind(), ErrorKind::Poisoned);
        let disk = disk.power_cut(seed);
        let found = Model::of(&Store::open(disk, &config()).unwrap().0).unwrap();
        assert!(found == saved || found == model, "seed {seed}");
    }
}

#[test]
fn an_unchanged_memory_is_not_written_again() {
    let disk = SimDisk::new(1);
    let store = Store::create(disk.clone(), &config()).unwrap();
    let mut change = store.begin();
    let memories = [change.create(PageCount::new(9)).unwrap(), change.create(PageCount::new(9)).unwrap()];
    for memory in &memories {
        change.grow(memory, PageCount::new(9));
        change.image(memory, PageIndex::new(8), &[1; 4096]);
    }
    store.save(change).unwrap();
    let before = disk.files();
    let mut change = store.begin();
    change.image(&memories[1], PageIndex::new(0), &[2; 4096]);
    store.save(change).unwrap();
    let after = disk.files();
    assert!(before.contains_key("mem/1.1") && before.contains_key("mem/2.1"));
    assert!(after.contains_key("mem/1.1") && after.contains_key("mem/2.2") && !after.contains_key("mem/2.1"));
    let operations = disk.operations();
    store.save(store.begin()).unwrap();
    assert_eq!(disk.operations(), operations, "a save of nothing writes nothing");
}

#[test]
fn an_image_keeps_what_it_began_with() {
    let store = Store::in_memory(&config());
    let mut change = store.begin();
    let memory = change.create(PageCount::new(2)).unwrap();
    assert_eq!(store.memory(memory.id()).unwrap_err().kind(), ErrorKind::NotFound);
    change.grow(&memory, PageCount::new(2));
    change.image(&memory, PageIndex::new(1), &[1; 4096]);
    store.append(change).unwrap();
    let crate::MapSource::Image(image) = memory.map_source();
    let mut change = store.begin();
    change.page(&memory, PageIndex::new(1), &[1; 4096], &[2; 4096]);
    store.append(change).unwrap();
    assert_eq!(image.nonzero_pages().next(), Some((PageIndex::new(1), &[1; 4096])));
    let mut bytes = [0; 3];
    memory.read(4095, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 2, 2]);
}

#[test]
fn a_change_that_contradicts_the_store_alters_nothing() {
    let store = Store::in_memory(&config());
    let mut change = store.begin();
    let memory = change.create(PageCount::new(2)).unwrap();
    change.grow(&memory, PageCount::new(1));
    store.append(change).unwrap();
    let before = Model::of(&store).unwrap();
    let wrong: [&dyn Fn(&mut crate::Change); 5] = [
        &|change| change.image(&memory, PageIndex::new(1), &[1; 4096]),
        &|change| change.grow(&memory, PageCount::new(0)),
        &|change| change.grow(&memory, PageCount::new(3)),
        &|change| {
            change.page(&memory, PageIndex::new(0), &[1; 4096], &{
                let mut page = [1; 4096];
                page[0] = 2;
                page
            })
        },
        &|change| change.blob_references(crate::BlobId::of(b"unknown"), 1),
    ];
    for wrong in wrong {
        let mut change = store.begin();
        change.put(b"key", b"value");
        wrong(&mut change);
        let appended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.append(change)));
        assert!(appended.is_err());
        assert_eq!(Model::of(&store).unwrap(), before);
    }
    let mut change = store.begin();
    change.put(&[0; crate::KEY_BYTES_MAX + 1], b"");
    assert_eq!(store.append(change).unwrap_err().kind(), ErrorKind::TooLarge);
}

//! Random changes on a store and on maps in RAM, which must agree after each and after each opening.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Model, TemporaryDirectory, config, random_step, tiny};
use crate::sim::{Random, SimDisk};
use crate::{
    Budget, Class, Config, Disk, Durability, ErrorKind, Lsn, Opened, PageCount, PageIndex, Store, Work,
};

/// Runs `steps` changes; opens again at random, with and without closing.
fn run(seed: u64, steps: usize, disk: Arc<dyn Disk>, config: &Config) {
    let mut random = Random(seed);
    let mut store = Store::create(disk.clone(), config).unwrap();
    let mut model = Model::default();
    let began = Instant::now();
    for step in 0..steps {
        let mut change = store.begin();
        for _ in 0..random.below(5) {
            random_step(&store, &mut change, &mut model, &mut random).unwrap();
        }
        let before = store.progress().unwrap();
        let empty = change.is_empty();
        let lsn = if config.durability == Durability::Off || random.below(6) == 0 {
            let lsn = store.save(change).unwrap();
            assert_eq!(store.progress().unwrap().applied, lsn);
            lsn
        } else {
            store.append(change).unwrap()
        };
        assert_eq!(lsn.get(), before.last.get() + u64::from(!empty));
        match random.below(12) {
            0 => assert_eq!(Model::of(&store).unwrap(), model, "seed {seed}"),
            1 | 2 => {
                let now = began + Duration::from_secs(step as u64 * 10);
                while store.step(now, Budget::new(1 + random.below(4))).unwrap() == Work::More {}
            }
            3..6 => {
                store.step(began, Budget::new(1)).unwrap();
            }
            _ => {}
        }
        if random.below(10) == 0 {
            // Without closing: what was waited for is there, and nothing else was given up either.
            store.wait_durable(lsn).unwrap();
            drop(store);
            let (again, opened) = Store::open(disk.clone(), config).unwrap();
            assert!(matches!(opened, Opened::Recovered { .. }));
            store = again;
            assert_eq!(Model::of(&store).unwrap(), model, "seed {seed}, step {step}");
            assert_eq!(store.progress().unwrap().last, lsn);
        } else if random.below(10) == 0 {
            store.close().unwrap();
            let (again, opened) = Store::open(disk.clone(), config).unwrap();
            assert_eq!(opened, Opened::Clean);
            store = again;
            assert_eq!(Model::of(&store).unwrap(), model, "seed {seed}, step {step}");
            assert!(store.verify(crate::Depth::Full).unwrap().is_clean());
        }
    }
}

#[test]
fn the_store_agrees_with_a_model_on_the_simulated_disk() {
    for seed in 0..60 {
        let mut config = tiny(seed);
        config.durability = match seed % 4 {
            0 => Durability::Off,
            1 => Durability::Interval { period: Duration::from_secs(20) },
            _ => Durability::Always,
        };
        run(seed, 120, SimDisk::new(seed), &config);
    }
}

#[test]
fn the_store_agrees_with_a_model_on_files() {
    let directory = TemporaryDirectory::new("model");
    for seed in 0..4 {
        let mut config = if seed % 2 == 0 { config() } else { tiny(seed) };
        config.background = seed == 3;
        run(seed, 60, directory.disk(&seed.to_string()), &config);
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
fn an_image_keeps_what_it_began_with() {
    let store = Store::in_memory(&config());
    let mut change = store.begin();
    let memory = change.create(PageCount::new(2)).unwrap();
    assert_eq!(store.memory(memory.id()).unwrap_err().kind(), ErrorKind::NotFound);
    change.grow(&memory, PageCount::new(2));
    change.image(&memory, PageIndex::new(1), &[1; 4096]);
    store.append(change).unwrap();
    let image = memory.image().unwrap();
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
    for store in [Store::in_memory(&config()), Store::create(SimDisk::new(1), &tiny(1)).unwrap()] {
        let mut change = store.begin();
        let memory = change.create(PageCount::new(2)).unwrap();
        change.grow(&memory, PageCount::new(1));
        store.append(change).unwrap();
        let before = Model::of(&store).unwrap();
        let wrong: [&dyn Fn(&mut crate::Change); 4] = [
            &|change| change.image(&memory, PageIndex::new(1), &[1; 4096]),
            &|change| change.grow(&memory, PageCount::new(0)),
            &|change| change.grow(&memory, PageCount::new(3)),
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
        assert_eq!(Model::of(&store).unwrap(), before);
    }
}

#[test]
fn a_wrong_pre_image_is_found_when_it_is_applied() {
    let after: crate::Page = std::array::from_fn(|at| u8::from(at != 0));
    let fill = |store: &Store| {
        let mut change = store.begin();
        let memory = change.create(PageCount::new(1)).unwrap();
        change.grow(&memory, PageCount::new(1));
        store.append(change).unwrap();
        let mut change = store.begin();
        change.page(&memory, PageIndex::new(0), &[1; 4096], &after);
        change
    };
    let store = Store::in_memory(&config());
    let change = fill(&store);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.append(change))).is_err());

    let disk = SimDisk::new(1);
    let store = Store::create(disk.clone(), &tiny(1)).unwrap();
    store.append(fill(&store)).unwrap();
    assert_eq!(store.checkpoint().unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(store.append(store.begin()).unwrap_err().kind(), ErrorKind::Poisoned);
    drop(store);
    assert_eq!(Store::open(disk, &tiny(1)).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn pages_in_any_order_and_twice_end_as_the_last_call_says() {
    let disk = SimDisk::new(1);
    let store = Store::create(disk.clone(), &tiny(1)).unwrap();
    let mut change = store.begin();
    let memory = change.create(PageCount::new(9)).unwrap();
    change.grow(&memory, PageCount::new(9));
    let mut last = [[0; 4096]; 9];
    for (step, index) in [5, 3, 3, 8, 0, 5, 1, 3].into_iter().enumerate() {
        let before = last[index];
        last[index][step * 64] = 1 + step as u8;
        change.page(&memory, PageIndex::new(index as u32), &before, &last[index]);
    }
    let lsn = store.append(change).unwrap();
    store.wait_durable(lsn).unwrap();
    drop(store);
    let (store, _) = Store::open(disk, &tiny(1)).unwrap();
    let mut bytes = vec![0; 9 * 4096];
    store.memory(memory.id()).unwrap().read(0, &mut bytes).unwrap();
    assert_eq!(bytes, last.concat());
}

#[test]
fn copies_keep_the_moment_and_frozen_ones_stay() {
    let directory = TemporaryDirectory::new("copies");
    let stores = [
        (None, Store::in_memory(&config())),
        (Some(()), Store::create(SimDisk::new(1), &tiny(1)).unwrap()),
        (Some(()), Store::create(directory.disk("state"), &config()).unwrap()),
    ];
    for (_, store) in stores {
        let mut change = store.begin();
        let memory = change.create(PageCount::new(9)).unwrap();
        change.grow(&memory, PageCount::new(5));
        change.image(&memory, PageIndex::new(4), &[1; 4096]);
        store.append(change).unwrap();

        let copied = store.snapshot(&[memory.id()]).unwrap().pop().unwrap();
        let mut change = store.begin();
        let frozen = change.create_copy(copied, Class::Frozen);
        change.put(b"snapshot", &frozen.id().get().to_le_bytes());
        store.append(change).unwrap();
        let mut change = store.begin();
        change.image(&memory, PageIndex::new(4), &[2; 4096]);
        store.append(change).unwrap();

        let fork = store.fork(frozen.id()).unwrap();
        let mut change = store.begin();
        let live = change.create_copy(fork, Class::Live);
        change.grow(&live, PageCount::new(6));
        change.image(&live, PageIndex::new(5), &[3; 4096]);
        change.page(&live, PageIndex::new(4), &[1; 4096], &[4; 4096]);
        let lsn = store.append(change).unwrap();
        store.wait_durable(lsn).unwrap();
        // A copy that is not used leaves nothing.
        drop(store.snapshot(&[live.id()]).unwrap());

        let first_bytes = |memory: &crate::Memory| -> Vec<u8> {
            let mut bytes = vec![0; memory.pages().bytes() as usize];
            memory.read(0, &mut bytes).unwrap();
            bytes.chunks(4096).map(|page| page[0]).collect()
        };
        assert_eq!(first_bytes(&memory), [0, 0, 0, 0, 2]);
        assert_eq!(first_bytes(&frozen), [0, 0, 0, 0, 1]);
        assert_eq!(first_bytes(&live), [0, 0, 0, 0, 4, 3]);
        let mut change = store.begin();
        change.image(&frozen, PageIndex::new(0), &[9; 4096]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.append(change))).is_err());
        store.close().unwrap();
    }
}

#[test]
fn a_store_with_threads_checkpoints_and_calls_back_by_itself() {
    let directory = TemporaryDirectory::new("threads");
    let disk = directory.disk("state");
    let mut config = tiny(1);
    config.background = true;
    config.segment_bytes = 1 << 16;
    config.durability = Durability::Group { window: Duration::from_micros(50) };
    let store = Store::create(disk.clone(), &config).unwrap();
    let mut change = store.begin();
    let memories: Vec<_> = (0..4).map(|_| change.create(PageCount::new(64)).unwrap()).collect();
    memories.iter().for_each(|memory| change.grow(memory, PageCount::new(64)));
    store.append(change).unwrap();
    std::thread::scope(|scope| {
        for memory in &memories {
            let store = store.clone();
            scope.spawn(move || {
                for step in 0..200_u32 {
                    let mut change = store.begin();
                    change.image(memory, PageIndex::new(step % 64), &[1 + step as u8 % 200; 4096]);
                    let lsn = store.append(change).unwrap();
                    if step % 2 == 0 {
                        store.wait_durable(lsn).unwrap();
                    } else {
                        let (sender, receiver) = std::sync::mpsc::channel();
                        store.when_durable(lsn, Box::new(move |result| sender.send(result).unwrap()));
                        receiver.recv().unwrap().unwrap();
                    }
                    assert!(store.progress().unwrap().durable >= lsn);
                }
            });
        }
    });
    // 800 pages of 4 KiB went through a log that may hold 40,000 bytes.
    assert!(store.progress().unwrap().applied.get() > 700);
    let before = Model::of(&store).unwrap();
    drop(memories);
    drop(store);
    let (store, _) = Store::open(disk, &config).unwrap();
    assert_eq!(Model::of(&store).unwrap(), before);
    assert_eq!(store.progress().unwrap().last, Lsn::new(801));
}

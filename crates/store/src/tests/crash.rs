//! Lives that end at random operations, in a crash or an error, on the simulated disk. After each the state is
//! the one after exactly one change, with every change in it that was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Model, random_step, tiny};
use crate::sim::{Crash, Faults, Random, SimDisk};
use crate::{
    Budget, Class, Config, Depth, Durability, ErrorKind, MemoryId, PageCount, PageIndex, Result, Store,
};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What is known of a store from outside.
struct Oracle {
    /// The states after the changes that may have survived.
    states: BTreeMap<u64, Model>,
    /// The last change that must have survived whatever happens, and one that must if only the process ended.
    synced: u64,
    written: u64,
}

impl Oracle {
    fn new() -> Oracle {
        Oracle { states: BTreeMap::from([(0, Model::default())]), synced: 0, written: 0 }
    }

    fn check(&mut self, store: &Store, crash: Crash, what: &str) {
        let last = store.progress().unwrap().last.get();
        let acknowledged = if crash == Crash::Power { self.synced } else { self.written };
        assert!(last >= acknowledged, "{what}: {acknowledged} was acknowledged, {last} is left");
        let expected = self.states.get(&last).unwrap_or_else(|| panic!("{what}: {last} never was"));
        assert_eq!(&Model::of(store).unwrap(), expected, "{what}: the state is not that after {last}");
        self.states.retain(|lsn, _| *lsn <= last);
        (self.synced, self.written) = (last, last);
    }
}

/// One life after a good opening; ends when something fails or enough was done.
fn live(
    store: &Store,
    oracle: &mut Oracle,
    random: &mut Random,
    config: &Config,
    steps: usize,
) -> Result<()> {
    let began = Instant::now();
    let narrow = random.below(2) == 0;
    for step in 0..steps {
        let last = store.progress()?.last.get();
        let mut model = oracle.states[&last].clone();
        let mut change = store.begin();
        for _ in 0..if narrow { 1 } else { 1 + random.below(4) } {
            random_step(store, &mut change, &mut model, random)?;
        }
        if random.below(20) == 0 {
            copy(store, &mut change, &mut model, random)?;
        }
        if change.is_empty() {
            continue;
        }
        // Known before the try: a failed append may have happened.
        oracle.states.insert(last + 1, model);
        let lsn =
            if config.durability == Durability::Off { store.save(change)? } else { store.append(change)? };
        assert_eq!(lsn.get(), last + 1);
        if random.below(2) == 0 {
            store.wait_durable(lsn)?;
            oracle.written = lsn.get();
        }
        oracle.synced = oracle.synced.max(store.progress()?.durable.get());
        oracle.written = oracle.written.max(oracle.synced);
        match random.below(8) {
            0 => {
                store.checkpoint()?;
            }
            1..4 => {
                store.step(began + Duration::from_secs(step as u64), Budget::new(1))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn copy(store: &Store, change: &mut crate::Change, model: &mut Model, random: &mut Random) -> Result<()> {
    let memories = store.memories()?;
    if memories.is_empty() || model.memories.len() > 5 {
        return Ok(());
    }
    let source = &memories[random.below(memories.len())];
    let (last, class) = (store.progress()?.last, [Class::Live, Class::Frozen][random.below(2)]);
    // Of the state before this change.
    let mut expected = Model::of(store)?.memories[&source.id()].clone();
    assert_eq!(store.progress()?.last, last);
    let copied = store.snapshot(&[source.id()])?.pop().unwrap();
    let memory = change.create_copy(copied, class);
    expected.class = class;
    model.memories.insert(memory.id(), expected);
    Ok(())
}

fn random_faults(random: &mut Random) -> Faults {
    let at = 1 + match random.below(3) {
        0 => random.below(12),
        1 => random.below(60),
        _ => random.below(400),
    } as u64;
    match random.below(4) {
        0 => Faults::fail(at, EIO),
        1 => Faults::fail(at, ENOSPC),
        _ => Faults::stop(at),
    }
}

fn config_of(seed: u64, random: &mut Random) -> Config {
    let mut config = tiny(seed);
    config.durability = match random.below(6) {
        0 => Durability::Off,
        1 => Durability::Interval { period: Duration::from_secs(20) },
        _ => Durability::Always,
    };
    if random.below(3) == 0 {
        config.segment_bytes = 1 << 15;
    }
    config
}

/// Six lives on one disk.
fn lives(seed: u64) {
    let mut random = Random(seed);
    let config = config_of(seed, &mut random);
    lives_with(seed, random, config);
}

fn lives_with(seed: u64, mut random: Random, config: Config) {
    let disk = SimDisk::new(seed);
    if std::env::var("STORE_TRACE").is_ok() {
        disk.set_tracing();
    }
    let mut oracle = Oracle::new();
    let mut crash = Crash::Kill;
    let mut has_state = false;
    for life in 0..6 {
        let mut config = config.clone();
        config.seed[8] = life;
        let mut sync_may_fail = false;
        if random.below(4) > 0 {
            let faults = random_faults(&mut random);
            sync_may_fail = !faults.fail.is_empty();
            disk.set_faults(faults);
        }
        let what = format!("seed {seed}, life {life}, {config:?}");
        let opened = Store::open_or_create(disk.clone(), &config);
        if let Ok((store, _)) = &opened {
            has_state = true;
            // The check itself may meet the fault.
            if Model::of(store).is_ok() {
                oracle.check(store, crash, &what);
                let result = live(store, &mut oracle, &mut random, &config, 40);
                if let Err(error) = &result {
                    if std::env::var("STORE_TRACE").is_ok() && error.kind() == ErrorKind::Damaged {
                        eprintln!("{:#?}", disk.trace());
                        eprintln!("{:#?}", disk.paths());
                    }
                    assert_ne!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
                }
                if result.is_err() && store.progress().is_err() {
                    let before = disk.operations();
                    let _ = store.save(store.begin());
                    let _ = store.checkpoint();
                    let _ = store.step(Instant::now(), Budget::new(9));
                    let _ = store.put_blob(b"after the end");
                    assert_eq!(disk.operations(), before, "{what}: a failed store wrote");
                }
                if result.is_ok() && random.below(2) == 0 {
                    let last = store.progress().unwrap().last.get();
                    if store.clone().close().is_ok() {
                        (oracle.synced, oracle.written) = (last, last);
                    }
                }
            }
        } else if let Err(error) = &opened {
            assert!(disk.is_stopped() || error.kind() != ErrorKind::Damaged, "{what}: {error}");
        }
        drop(opened);
        crash = [Crash::Kill, Crash::Power][random.below(2)];
        // What a life without an opening acknowledged still counts.
        disk.crash(crash);
        // What a failed sync did not write is forgotten by the kernel, too.
        if crash == Crash::Power || sync_may_fail {
            oracle.written = oracle.synced;
        }
    }
    let mut config = config;
    config.seed[8] = 99;
    if has_state {
        let what = format!("seed {seed}, the end");
        let (store, _) =
            Store::open_or_create(disk.clone(), &config).unwrap_or_else(|error| panic!("{what}: {error}"));
        oracle.check(&store, crash, &what);
        let report = store.verify(Depth::Full).unwrap();
        assert!(report.is_clean(), "{what}: {report:?}");
        while store.step(Instant::now(), Budget::new(9)).unwrap() == crate::Work::More {}
        no_file_is_left(&disk, &store, &what);
    }
}

fn no_file_is_left(disk: &Arc<SimDisk>, store: &Store, what: &str) {
    let memories: Vec<_> = store.memories().unwrap().iter().map(|memory| memory.id()).collect();
    let blobs: Vec<_> = store.blobs().unwrap().into_iter().map(|(id, _)| format!("blob/{id}")).collect();
    let mut segments = 0;
    for path in disk.paths().into_keys() {
        let known = match path.split_once('/') {
            None => ["FORMAT", "LOCK", "catalog.redb", "RESERVE"].contains(&path.as_str()),
            Some(("mem", name)) => {
                let id: u64 = name.split_once('.').unwrap().0.parse().unwrap();
                memories.contains(&MemoryId::new(id))
            }
            Some(("blob", _)) => blobs.contains(&path),
            Some(("wal", name)) => {
                segments += 1;
                name.ends_with(".log") && segments <= 8
            }
            _ => false,
        };
        assert!(known, "{what}: {path} is left");
    }
}

#[test]
fn whatever_stops_a_life_the_state_is_that_after_some_change() {
    let seeds: u64 = std::env::var("STORE_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    let from: u64 = std::env::var("STORE_FROM").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    for seed in from..from + seeds {
        lives(seed);
    }
}

#[test]
fn the_same_holds_with_the_catalog_that_is_shipped() {
    let seeds: u64 = std::env::var("STORE_REDB_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        let mut random = Random(seed);
        let mut config = config_of(seed, &mut random);
        config.catalog = Config::new([0; 32]).catalog;
        lives_with(seed, random, config);
    }
}

#[test]
fn an_oversized_record_survives_and_the_log_goes_on() {
    let mut config = tiny(1);
    (config.log_bytes_max, config.pending_pages_max) = (1 << 30, 1 << 20);
    let disk = SimDisk::new(1);
    let store = Store::create(disk.clone(), &config).unwrap();
    let mut change = store.begin();
    let memory = change.create(PageCount::new(64)).unwrap();
    change.grow(&memory, PageCount::new(64));
    store.append(change).unwrap();
    for round in 1..=2 {
        let mut change = store.begin();
        for index in 0..40 {
            change.image(&memory, PageIndex::new(index), &[round; 4096]);
        }
        store.append(change).unwrap();
    }
    let mut change = store.begin();
    change.put(b"after", b"it");
    let lsn = store.append(change).unwrap();
    store.wait_durable(lsn).unwrap();
    assert_eq!(disk.paths().keys().filter(|path| path.ends_with(".big")).count(), 2);
    drop(store);
    for disk in [disk.killed(Faults::none()), disk.power_cut(5)] {
        let (store, _) = Store::open(disk.clone(), &config).unwrap();
        assert_eq!(store.metadata(b"after").unwrap().unwrap(), b"it");
        let mut byte = [0];
        store.memory(memory.id()).unwrap().read(39 * 4096, &mut byte).unwrap();
        assert_eq!(byte, [2]);
        assert_eq!(disk.paths().keys().filter(|path| path.ends_with(".big")).count(), 0);
    }
}

#[test]
fn a_full_disk_ends_a_checkpoint_and_not_the_store() {
    let config = tiny(1);
    let disk = SimDisk::new(1);
    let store = Store::create(disk.clone(), &config).unwrap();
    while store.step(Instant::now(), Budget::new(9)).unwrap() == crate::Work::More {}
    let mut change = store.begin();
    let memory = change.create(PageCount::new(64)).unwrap();
    change.grow(&memory, PageCount::new(64));
    store.append(change).unwrap();
    store.checkpoint().unwrap();
    let files: u64 = disk.paths().values().map(|bytes| bytes.next_multiple_of(4096)).sum();
    let mut change = store.begin();
    change.image(&memory, PageIndex::new(3), &[7; 4096]);
    let lsn = store.append(change).unwrap();
    store.wait_durable(lsn).unwrap();
    disk.set_room(Some(4096));
    assert_eq!(store.checkpoint().unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(store.room().unwrap(), crate::Room::Low);
    disk.set_room(Some(files + (1 << 20)));
    store.checkpoint().unwrap();
    let mut byte = [0];
    memory.read(3 * 4096, &mut byte).unwrap();
    assert_eq!(byte, [7]);
}

#[test]
fn a_disk_that_refuses_writes_is_named_before_anything_happens() {
    const EROFS: i32 = 30;
    let disk = SimDisk::new(1);
    drop(Store::create(disk.clone(), &tiny(1)).unwrap());
    let refusing = disk.killed(Faults::refuse(EROFS));
    let error = Store::open(refusing.clone(), &tiny(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("make the state directory writable"), "{error}");
    Store::open(refusing.killed(Faults::none()), &tiny(2)).unwrap();
    let error = Store::create(SimDisk::new(1).killed(Faults::refuse(EROFS)), &tiny(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

#[test]
fn a_disk_without_room_for_a_segment_fails_one_append_and_not_the_store() {
    let disk = SimDisk::new(3);
    let mut config = tiny(3);
    config.checkpoint_log_bytes = 1 << 30;
    config.log_bytes_max = 1 << 30;
    let (store, _) = Store::open_or_create(disk.clone(), &config).unwrap();
    disk.set_room(Some(0));
    let append = |number: u8| {
        let mut change = store.begin();
        change.put(&[number], &[number; 1000]);
        store.append(change)
    };
    let mut taken = 0_u8;
    let error = loop {
        match append(taken) {
            Ok(lsn) => store.wait_durable(lsn).unwrap(),
            Err(error) => break error,
        }
        taken += 1;
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(taken > 0 && store.metadata(&[taken]).unwrap().is_none());
    disk.set_room(None);
    store.wait_durable(append(taken).unwrap()).unwrap();
    drop(store);
    let (store, _) = Store::open(disk, &config).unwrap();
    for number in 0..=taken {
        assert_eq!(store.metadata(&[number]).unwrap().as_deref(), Some(&[number; 1000][..]), "{number}");
    }
}

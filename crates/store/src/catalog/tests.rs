//! Both sides of the seam against a map, on the simulated disk: through power cuts, kills, failing syncs, a
//! full disk and damage.

use super::*;
use crate::fault::{Failure, FaultDisk, Operation};
use crate::sim::{Crash, Faults, Model, NamesKept, Random, SimDisk};
use crate::tests::TemporaryDirectory;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What a catalog holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tables {
    head: Head,
    memories: BTreeMap<MemoryId, MemoryRow>,
    metadata: BTreeMap<Vec<u8>, Vec<u8>>,
    blobs: BTreeMap<BlobId, u64>,
}

impl Tables {
    fn of(catalog: &dyn Catalog) -> Result<Tables> {
        let mut metadata = BTreeMap::new();
        catalog.metadata_range(b"", b"", &mut |key, value| {
            metadata.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })?;
        for (key, value) in &metadata {
            assert_eq!(catalog.metadata(key)?.as_ref(), Some(value));
        }
        assert_eq!(catalog.metadata(b"never put")?, None);
        let (head, memories, blobs) = (catalog.head()?, catalog.memories()?, catalog.blobs()?);
        Ok(Tables { head, memories, metadata, blobs })
    }

    fn new() -> Tables {
        let (memories, metadata, blobs) = Default::default();
        Tables { head: head(0), memories, metadata, blobs }
    }

    fn apply(&mut self, change: &CatalogChange) {
        self.head = change.head;
        apply(&mut self.memories, &change.memories);
        apply(&mut self.metadata, &change.metadata);
        apply(&mut self.blobs, &change.blobs);
    }
}

fn apply<K: Ord + Clone, V: Clone>(rows: &mut BTreeMap<K, V>, changes: &BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(rows.insert(key.clone(), value.clone())),
            None => drop(rows.remove(key)),
        }
    }
}

fn head(applied: u64) -> Head {
    let link = [applied as u8; 32];
    Head { applied: Lsn::new(applied), link, segment: applied * 2, offset: 4096, next_memory: 1 << 40 }
}

/// A change that sets and removes rows of every table; the head counts up.
fn random_change(tables: &Tables, random: &mut Random) -> CatalogChange {
    let applied = tables.head.applied.get() + 1;
    let mut change = CatalogChange::new(head(applied));
    for _ in 0..random.below(4) {
        let row = MemoryRow {
            class: if random.below(2) == 0 { Class::Live } else { Class::Frozen },
            pages: PageCount::new(random.below(100) as u32),
            capacity: PageCount::new(100),
            created: Lsn::new(1 + random.below(applied as usize) as u64),
        };
        let id = MemoryId::new(random.below(20) as u64);
        change.memories.insert(id, (random.below(3) > 0).then_some(row));
    }
    for _ in 0..random.below(6) {
        let key = vec![random.below(20) as u8; random.below(3)];
        let value = vec![random.number() as u8; [0, 10, 300, 9000][random.below(4)]];
        change.metadata.insert(key, (random.below(3) > 0).then_some(value));
    }
    for _ in 0..random.below(3) {
        let id = BlobId::new([random.below(9) as u8; 32]);
        change.blobs.insert(id, (random.below(3) > 0).then_some(random.number()));
    }
    change
}

fn sides() -> [(&'static str, Box<dyn CatalogMaker>); 2] {
    [("redb", Box::new(Redb)), ("plain", Box::new(Plain))]
}

/// A disk with its directory, and an empty catalog on it.
fn created(maker: &dyn CatalogMaker, seed: u64) -> (Arc<SimDisk>, Box<dyn Catalog>) {
    let disk = SimDisk::new(seed);
    disk.make_dir(&RelPath::root()).unwrap();
    let dynamic: Arc<dyn Disk> = disk.clone();
    let catalog = maker.create(&dynamic, &head(0)).unwrap();
    (disk, catalog)
}

fn open(maker: &dyn CatalogMaker, disk: &Arc<SimDisk>, clean: bool) -> Result<Box<dyn Catalog>> {
    let disk: Arc<dyn Disk> = disk.clone();
    maker.open(&disk, clean)
}

#[test]
fn a_catalog_holds_what_was_committed() {
    for (side, maker) in sides() {
        for seed in 0..4 {
            let mut random = Random(seed);
            let (disk, mut catalog) = created(&*maker, seed);
            let mut tables = Tables::new();
            for _ in 0..40 {
                assert_eq!(Tables::of(&*catalog).unwrap(), tables, "{side}");
                let change = random_change(&tables, &mut random);
                catalog.commit(&change).unwrap();
                tables.apply(&change);
                if random.below(6) == 0 {
                    catalog.close().unwrap();
                    catalog = open(&*maker, &disk, random.below(2) == 0).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_catalog_is_kept_in_a_real_file() {
    for (side, maker) in sides() {
        let directory = TemporaryDirectory::new(&format!("catalog-{side}"));
        let disk: Arc<dyn Disk> = directory.disk("");
        let catalog = maker.create(&disk, &head(0)).unwrap();
        let mut tables = Tables::new();
        let change = random_change(&tables, &mut Random(3));
        catalog.commit(&change).unwrap();
        tables.apply(&change);
        for clean in [true, false] {
            let catalog = maker.open(&disk, clean);
            assert_eq!(Tables::of(&*catalog.unwrap()).unwrap(), tables);
        }
        drop(catalog);
    }
}

#[test]
fn a_range_begins_where_it_is_told_and_sees_one_state() {
    for (_, maker) in sides() {
        let (_, catalog) = created(&*maker, 1);
        let mut change = CatalogChange::new(head(1));
        for key in ["a", "b/1", "b/2", "b/3", "c"] {
            change.metadata.insert(key.into(), Some(key.as_bytes().to_vec()));
        }
        catalog.commit(&change).unwrap();
        let seen = |prefix: &str, from: &str, limit: usize| {
            let mut seen = Vec::new();
            let collected = catalog.metadata_range(prefix.as_bytes(), from.as_bytes(), &mut |key, value| {
                assert_eq!(key, value);
                // The callback may use the catalog.
                let removal =
                    CatalogChange { metadata: [(b"c".to_vec(), None)].into(), ..CatalogChange::new(head(2)) };
                catalog.commit(&removal).unwrap();
                seen.push(String::from_utf8(key.to_vec()).unwrap());
                if seen.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            collected.unwrap();
            seen
        };
        assert_eq!(seen("", "b/3", 9), ["b/3", "c"]);
        assert_eq!(seen("", "b/3", 9), ["b/3"], "removed while the first range ran");
        assert_eq!(seen("b/", "", 9), ["b/1", "b/2", "b/3"]);
        assert_eq!(seen("b/", "b/2", 9), ["b/2", "b/3"]);
        assert_eq!(seen("b/", "", 1), ["b/1"]);
        assert_eq!(seen("d", "", 1), [""; 0]);
        let panic = std::panic::AssertUnwindSafe(|| {
            let _ = catalog.metadata_range(b"", b"", &mut |_, _| panic!("of the caller"));
        });
        let message = std::panic::catch_unwind(panic).unwrap_err();
        assert_eq!(message.downcast_ref(), Some(&"of the caller"));
        assert_eq!(catalog.head().unwrap(), head(2), "the catalog is well");
    }
}

/// Lives that end anywhere, in a commit or in an opening; what was committed last is found, or what was being
/// committed. Returns how many crashes there were, or which of the promises was broken.
fn lives(maker: &dyn CatalogMaker, seed: u64, ignore_syncs: bool) -> Result<usize, String> {
    let mut random = Random(seed);
    let (disk, catalog) = created(maker, seed);
    disk.set_model(Model {
        names: if seed.is_multiple_of(2) { NamesKept::Prefix } else { NamesKept::AnyInOrderPerName },
        ..Model::default()
    });
    drop(catalog);
    let mut allowed = vec![Tables::new()];
    let mut crashes = 0;
    for _ in 0..6 {
        let mut faults = match random.below(4) {
            0 => Faults::fail(1 + random.below(30) as u64, EIO),
            _ => Faults::stop(1 + random.below(60) as u64),
        };
        faults.ignore_syncs = ignore_syncs;
        disk.set_faults(faults);
        if let Ok(catalog) = open(maker, &disk, false) {
            let found = Tables::of(&*catalog);
            if let Ok(found) = found {
                if !allowed.contains(&found) {
                    return Err(format!("seed {seed}: {} is not allowed", found.head.applied));
                }
                allowed = vec![found];
                for _ in 0..random.below(8) {
                    let mut next = allowed[0].clone();
                    let change = random_change(&next, &mut random);
                    next.apply(&change);
                    if catalog.commit(&change).is_err() {
                        allowed.push(next);
                        break;
                    }
                    allowed = vec![next];
                }
            }
        }
        disk.crash(if random.below(3) == 0 { Crash::Kill } else { Crash::Power });
        crashes += 1;
        // The check itself may be the last thing before the next crash, but not fail.
        let catalog = open(maker, &disk, false).map_err(|error| format!("seed {seed}: {error}"))?;
        let found = Tables::of(&*catalog).map_err(|error| format!("seed {seed}: {error}"))?;
        if !allowed.contains(&found) {
            return Err(format!("seed {seed}: {} is not allowed", found.head.applied));
        }
        allowed = vec![found];
        drop(catalog);
        disk.crash(if random.below(3) == 0 { Crash::Kill } else { Crash::Power });
        crashes += 1;
    }
    Ok(crashes)
}

#[test]
fn no_commit_is_lost_whatever_ends_the_process() {
    for (side, maker) in sides() {
        let crashes: usize = (0..60)
            .map(|seed| lives(&*maker, seed, false).unwrap_or_else(|what| panic!("{side}: {what}")))
            .sum();
        assert!(crashes >= 700, "{crashes}");
    }
}

#[test]
fn without_syncs_commits_are_lost() {
    for (side, maker) in sides() {
        let broken = (0..20).filter(|seed| lives(&*maker, *seed, true).is_err()).count();
        assert!(broken >= 18, "{side}: only {broken} of 20 seeds noticed");
    }
}

#[test]
fn a_full_disk_leaves_the_old_state_and_a_catalog_that_goes_on() {
    for (side, maker) in sides() {
        for seed in 0..10 {
            let mut random = Random(seed);
            let (disk, catalog) = created(&*maker, seed);
            let mut tables = Tables::new();
            let mut full = 0;
            for step in 0..60 {
                let free = disk.space().unwrap().free_bytes;
                let taken = disk.space().unwrap().total_bytes - free;
                disk.set_room((step % 3 == 1).then_some(taken + random.below(5) as u64 * 4096));
                let change = random_change(&tables, &mut random);
                match catalog.commit(&change) {
                    Ok(()) => tables.apply(&change),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::StorageFull, "{side}: {error}");
                        assert!(error.to_string().contains(CATALOG_NAME), "{error}");
                        full += 1;
                    }
                }
                disk.set_room(None);
                assert_eq!(Tables::of(&*catalog).unwrap(), tables, "{side}, seed {seed}");
            }
            assert!(full > 0, "{side}: the disk was never full");
            drop(catalog);
            let cut = disk.power_cut(seed);
            assert_eq!(Tables::of(&*open(&*maker, &cut, false).unwrap()).unwrap(), tables);
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written() {
    for (side, maker) in sides() {
        for error in [EIO, ENOSPC] {
            let failed = (1..).take_while(|sync| sync_fails(side, &*maker, *sync, error)).count();
            assert!(failed >= 1, "{side}: no sync failed");
        }
    }
}

/// Lets a sync of a commit fail; false when it has no so many.
fn sync_fails(side: &str, maker: &dyn CatalogMaker, sync: u64, error: i32) -> bool {
    let sim = SimDisk::new(sync);
    sim.make_dir(&RelPath::root()).unwrap();
    let disk = Arc::new(FaultDisk::new(sim.clone()));
    let dynamic: Arc<dyn Disk> = disk.clone();
    let catalog = maker.create(&dynamic, &head(0)).unwrap();
    disk.set_failures(vec![Failure::of(Operation::Sync, sync, error)]);
    let result = catalog.commit(&CatalogChange::new(head(1)));
    if disk.failed() == 0 {
        return false;
    }
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Io, "{side}: not a full disk but a lost sync");
    if side == "redb" {
        let operations = sim.operations();
        assert_eq!(catalog.commit(&CatalogChange::new(head(2))).unwrap_err().kind(), ErrorKind::Io);
        drop(catalog);
        assert_eq!(sim.operations(), operations, "nothing is written, not even when it is dropped");
    }
    true
}

#[test]
fn a_flipped_byte_is_an_error_or_changes_nothing() {
    for (side, maker) in sides() {
        let (disk, catalog) = created(&*maker, 1);
        let (mut tables, mut random) = (Tables::new(), Random(5));
        for _ in 0..6 {
            let change = random_change(&tables, &mut random);
            catalog.commit(&change).unwrap();
            tables.apply(&change);
        }
        catalog.close().unwrap();
        let length = disk.paths()[CATALOG_NAME];
        let bytes = disk.bytes(CATALOG_NAME).unwrap();
        let (mut found, mut harmless) = (0, 0);
        // Every byte of the beginning and of each page's header, and some of the rest.
        let places = (0..length).filter(|at| {
            bytes[*at as usize] != 0 && (at % 4096 < 8 || at % 61 == 0) || *at < 512 || at % 4099 == 0
        });
        let bits = |at: u64| if at < 512 { 0..8 } else { at % 8..at % 8 + 1 };
        for (at, bit) in places.flat_map(|at| bits(at).map(move |bit| (at, bit))) {
            let flipped = disk.fork();
            flipped.rot(CATALOG_NAME, at, 1 << bit).unwrap();
            for clean in [true, false] {
                match open(&*maker, &flipped.fork(), clean).and_then(|catalog| Tables::of(&*catalog)) {
                    Ok(state) => {
                        assert_eq!(state, tables, "{side}: byte {at}");
                        harmless += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Damaged, "{side}: byte {at}: {error}");
                        assert!(error.to_string().contains(CATALOG_NAME), "{error}");
                        found += 1;
                    }
                }
            }
        }
        assert!(found > 50, "{side}: {found} found, {harmless} harmless of {length} bytes");
    }
}

#[test]
fn a_catalog_that_is_missing_empty_or_short_is_damaged() {
    for (side, maker) in sides() {
        let (disk, catalog) = created(&*maker, 1);
        catalog.close().unwrap();
        let bytes = disk.bytes(CATALOG_NAME).unwrap();
        let mut contents = vec![None];
        contents.extend([0, 1, 100, bytes.len() / 2].map(|length| Some(bytes[..length].to_vec())));
        for content in contents {
            let length = content.as_ref().map(Vec::len);
            for clean in [true, false] {
                let error = open(&*maker, &disk.damaged(CATALOG_NAME, content.clone()), clean).err();
                let error = error.unwrap_or_else(|| panic!("{side}: {length:?} bytes were accepted"));
                assert_eq!(error.kind(), ErrorKind::Damaged, "{side}, {length:?}: {error}");
            }
        }
    }
}

/// A sync of a commit fails and the process ends; the catalog is opened, used, and the power fails. Whether all
/// that was committed is there.
fn survives_a_failed_sync(maker: &dyn CatalogMaker, seed: u64) -> bool {
    let mut random = Random(seed);
    let (disk, catalog) = created(maker, seed);
    disk.set_model(Model { eviction: false, ..Model::default() });
    let mut tables = Tables::new();
    let mut commit = |catalog: &dyn Catalog, tables: &mut Tables, bytes: usize| {
        let mut change = random_change(tables, &mut random);
        change.metadata.insert(vec![random.below(9) as u8], Some(vec![random.number() as u8; bytes]));
        let done = catalog.commit(&change);
        if done.is_ok() {
            tables.apply(&change);
        }
        done
    };
    for _ in 0..seed % 5 {
        commit(&*catalog, &mut tables, 100_000).unwrap();
    }
    disk.set_faults(Faults { fail_syncs: vec![(1 + seed % 3, EIO)], ..Faults::none() });
    let failed = (0..4).any(|_| commit(&*catalog, &mut tables, 400_000).is_err());
    assert!(failed, "seed {seed}: a commit has a third of its syncs at most");
    drop(catalog);
    disk.crash(Crash::Kill);
    let Ok(catalog) = open(maker, &disk, false) else { return false };
    let Ok(found) = Tables::of(&*catalog) else { return false };
    let mut tables = found;
    for _ in 0..seed % 4 {
        if commit(&*catalog, &mut tables, 1000).is_err() {
            return false;
        }
    }
    (0..4).all(|cut| {
        let cut = disk.power_cut(cut);
        open(maker, &cut, false).and_then(|catalog| Tables::of(&*catalog)).is_ok_and(|found| found == tables)
    })
}

#[test]
fn what_a_failed_sync_left_is_not_built_upon() {
    for (side, maker) in sides() {
        let lost = || (0..100).filter(|seed| !survives_a_failed_sync(&*maker, *seed)).count();
        assert_eq!(lost(), 0, "{side}");
        crate::mutants::activate(Some("CATALOG_NOT_COPIED"));
        let lost_in_place = lost();
        crate::mutants::activate(None);
        // The plain catalog is written whole into a new file each time, so that nothing is built upon.
        assert_eq!(lost_in_place > 3, side == "redb", "{side}: {lost_in_place} lost");
    }
}

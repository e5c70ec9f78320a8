//! The state directory among others: in use, foreign, missing, half there, not writable.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{TemporaryDirectory, config};
use crate::{
    Budget, Config, Disk, Error, ErrorKind, FileDisk, FileSystem, Opened, PageCount, PageIndex, Store,
    Warning, Work,
};

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn expect(result: crate::Result<impl std::fmt::Debug>, kind: ErrorKind, words: &str) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    error
}

#[test]
fn a_state_is_made_private_and_found_again() {
    let directory = TemporaryDirectory::new("private");
    let disk = directory.disk("state");
    expect(Store::open(disk.clone(), &config()), ErrorKind::NotFound, "state");
    assert!(!disk.root().exists());
    let (store, opened) = Store::open_or_create(disk.clone(), &config()).unwrap();
    assert_eq!(opened, Opened::Created);
    let mut change = store.begin();
    let memory = change.create(PageCount::new(600)).unwrap();
    change.grow(&memory, PageCount::new(600));
    for index in 0..600 {
        change.image(&memory, PageIndex::new(index), &[1 + (index % 255) as u8; 4096]);
    }
    let blob = store.put_blob(b"module").unwrap();
    change.blob_references(blob, 1);
    store.save(change).unwrap();
    let expected = super::Model::of(&store).unwrap();
    store.close().unwrap();

    let root = disk.root();
    assert_eq!(names(root), ["CLEAN", "FORMAT", "LOCK", "blob", "catalog.redb", "mem", "wal"]);
    assert_eq!(names(&root.join("mem")), ["1.base", "1.sum"]);
    for dir in [root.to_path_buf(), root.join("mem"), root.join("blob"), root.join("wal")] {
        assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    }
    for file in ["FORMAT", "LOCK", "CLEAN", "catalog.redb", "mem/1.base", "mem/1.sum"] {
        assert_eq!(fs::metadata(root.join(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    expect(Store::create(disk.clone(), &config()), ErrorKind::Format, "holds a Bedstone state already");
    let (store, opened) = Store::open_or_create(disk, &config()).unwrap();
    assert_eq!(opened, Opened::Clean);
    assert_eq!(super::Model::of(&store).unwrap(), expected);
}

#[test]
fn a_directory_in_use_is_waited_for_and_then_named() {
    let directory = TemporaryDirectory::new("busy");
    let disk = directory.disk("state");
    let store = Store::create(disk.clone(), &config()).unwrap();
    let holder = format!("process {}", std::process::id());
    let error = expect(Store::open(disk.clone(), &config()), ErrorKind::Busy, &holder);
    assert!(error.to_string().contains(&disk.root().display().to_string()), "{error}");
    expect(Store::open_or_create(disk.clone(), &config()), ErrorKind::Busy, &holder);

    let mut patient = Config::new([0; 32]);
    patient.lock_wait = Duration::from_secs(60);
    let waiting = std::thread::spawn(move || Store::open(disk, &patient).map(|(_, opened)| opened));
    let clone = store.clone();
    store.close().unwrap();
    assert_eq!(waiting.join().unwrap().unwrap(), Opened::Clean);
    expect(clone.save(clone.begin()), ErrorKind::Poisoned, "closed");
}

#[test]
fn a_directory_that_is_not_ours_is_refused_and_left_alone() {
    let directory = TemporaryDirectory::new("foreign");
    let disk = directory.disk("photos");
    fs::create_dir(disk.root()).unwrap();
    fs::write(disk.root().join("cat.jpg"), b"meow").unwrap();
    expect(Store::open(disk.clone(), &config()), ErrorKind::Format, "not a Bedstone state directory");
    expect(Store::create(disk.clone(), &config()), ErrorKind::Format, "cat.jpg");
    expect(Store::open_or_create(disk.clone(), &config()), ErrorKind::Format, "cat.jpg");
    assert_eq!(names(disk.root()), ["cat.jpg"]);

    fs::write(disk.root().join("FORMAT"), b"JPEG").unwrap();
    expect(Store::open(disk.clone(), &config()), ErrorKind::Format, "does not begin with BEDSTONE");
    expect(Store::open_or_create(disk.clone(), &config()), ErrorKind::Format, "does not begin with BEDSTONE");
    assert_eq!(names(disk.root()), ["FORMAT", "cat.jpg"]);

    let file = Arc::new(FileDisk::new(disk.root().join("cat.jpg")));
    expect(Store::open_or_create(file, &config()), ErrorKind::Format, "is not a directory");
    let nowhere = Arc::new(FileDisk::new(disk.root().join("no/such")));
    expect(Store::create(nowhere, &config()), ErrorKind::Io, "make the directory above it first");
}

#[test]
fn a_state_that_is_half_there_is_not_overwritten() {
    let directory = TemporaryDirectory::new("half");
    let disk = directory.disk("state");
    let store = Store::create(disk.clone(), &config()).unwrap();
    let mut change = store.begin();
    change.put(b"key", b"value");
    change.create(PageCount::new(1)).unwrap();
    store.save(change).unwrap();
    drop(store);
    let format = fs::read(disk.root().join("FORMAT")).unwrap();
    fs::remove_file(disk.root().join("FORMAT")).unwrap();
    expect(Store::open_or_create(disk.clone(), &config()), ErrorKind::Format, "and no FORMAT");
    fs::write(disk.root().join("FORMAT"), format).unwrap();
    let (store, _) = Store::open(disk.clone(), &config()).unwrap();
    assert_eq!(store.metadata(b"key").unwrap().unwrap(), b"value");
    drop(store);
    fs::remove_file(disk.root().join("catalog.redb")).unwrap();
    expect(Store::open_or_create(disk, &config()), ErrorKind::Damaged, "catalog.redb");
}

#[test]
fn a_directory_that_may_not_be_written_is_named() {
    let directory = TemporaryDirectory::new("read-only");
    let disk = directory.disk("state");
    fs::create_dir(disk.root()).unwrap();
    fs::set_permissions(disk.root(), fs::Permissions::from_mode(0o500)).unwrap();
    // Root may write anywhere; the simulated disk refuses everybody, in `crash`.
    if fs::write(disk.root().join("probe"), b"").is_err() {
        expect(
            Store::open_or_create(disk.clone(), &config()),
            ErrorKind::Io,
            "make the state directory writable",
        );
        assert!(names(disk.root()).is_empty());
    }
    fs::set_permissions(disk.root(), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn names_that_are_not_ours_are_left_alone() {
    let directory = TemporaryDirectory::new("names");
    let disk = directory.disk("state");
    Store::create(disk.clone(), &config()).unwrap().close().unwrap();
    for name in ["mem/notes", "mem/01.base", "mem/0.base", "wal/notes", "blob/notes"] {
        fs::write(disk.root().join(name), b"").unwrap();
    }
    fs::write(disk.root().join(format!("blob/{}", "a".repeat(64))), b"").unwrap();
    let (store, _) = Store::open(disk.clone(), &config()).unwrap();
    while store.step(std::time::Instant::now(), Budget::new(9)).unwrap() == Work::More {}
    assert_eq!(names(&disk.root().join("mem")), ["01.base", "notes"]);
    assert_eq!(names(&disk.root().join("blob")), ["notes"]);
    assert!(names(&disk.root().join("wal")).contains(&"notes".to_string()));
}

#[test]
fn a_thousand_memories_take_few_descriptors() {
    let directory = TemporaryDirectory::new("descriptors");
    let disk = directory.disk("state");
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let store = Store::create(disk.clone(), &config()).unwrap();
    let before = descriptors();
    let mut change = store.begin();
    let memories: Vec<_> = (0..2_000).map(|_| change.create(PageCount::new(9)).unwrap()).collect();
    for memory in &memories {
        change.grow(memory, PageCount::new(1));
        change.image(memory, PageIndex::new(0), &[1; 4096]);
    }
    store.save(change).unwrap();
    for memory in &memories {
        drop(memory.map_source().unwrap());
        memory.read(5, &mut [0]).unwrap();
    }
    // Other tests of this process open files, too.
    assert!(descriptors() < before + 100);
    let began = std::time::Instant::now();
    drop((memories, store));
    let (store, opened) = Store::open(disk, &config()).unwrap();
    assert!(matches!(opened, Opened::Recovered { .. }));
    assert_eq!(store.memories().unwrap().len(), 2_000);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_state_that_may_only_be_read_can_be_verified_and_is_left_alone() {
    let directory = TemporaryDirectory::new("only-read");
    let disk = directory.disk("state");
    let (store, _) = Store::open_or_create(disk.clone(), &config()).unwrap();
    let mut change = store.begin();
    change.put(b"key", b"value");
    store.wait_durable(store.append(change).unwrap()).unwrap();
    store.close().unwrap();
    let allow = |mode: u32| {
        for name in [".", "wal", "mem", "blob"] {
            fs::set_permissions(disk.root().join(name), fs::Permissions::from_mode(mode | 0o500)).unwrap();
        }
        for name in ["LOCK", "FORMAT", "CLEAN", "catalog.redb"] {
            fs::set_permissions(disk.root().join(name), fs::Permissions::from_mode(mode | 0o400)).unwrap();
        }
    };
    let before = (names(disk.root()), fs::read(disk.root().join("catalog.redb")).unwrap());
    // Whoever may do everything is not kept out by these, but must leave the bytes alone all the same.
    allow(0);
    let report = crate::verify(disk.clone(), &config(), crate::Depth::Full).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((names(disk.root()), fs::read(disk.root().join("catalog.redb")).unwrap()), before);
    allow(0o200);
    assert_eq!(Store::open(disk, &config()).unwrap().1, Opened::Clean);
}

#[test]
fn a_state_in_memory_is_opened_with_a_warning() {
    assert!(Store::in_memory(&config()).warnings().is_empty());
    let root = Path::new("/dev/shm");
    let disk = Arc::new(FileDisk::new(root.join(format!("bedstone-store-warning-{}", std::process::id()))));
    if !root.is_dir() || disk.file_system().unwrap() != FileSystem::Memory("tmpfs") {
        return;
    }
    let (store, _) = Store::open_or_create(disk.clone(), &config()).unwrap();
    assert_eq!(store.warnings(), [Warning::InMemory("tmpfs")]);
    store.close().unwrap();
    let (store, _) = Store::open(disk.clone(), &config()).unwrap();
    assert_eq!(store.warnings(), [Warning::InMemory("tmpfs")]);
    drop(store);
    fs::remove_dir_all(disk.root()).unwrap();
}

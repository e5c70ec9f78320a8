//! A process that ends at any operation on the disk: afterwards a snapshot was taken, loaded or forked, or nothing happened.

use std::fs;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bedstone_engine::store::{
    Change, Cloned, Config, Disk, DiskFile, FileDisk, FileSystem, Lock, Open, RelPath, Space, Store,
};
use bedstone_engine::{Canister, Engine, Error, Keeping, Snapshot};

use crate::home::{FORK, Home, ID, KEY, Picture, TIME, copy_directory, picture, program, system};
use crate::machine::{self, Dice};
use crate::support::{MODES, with_stack};

const SECOND: &[u8] = b"snapshot/two";

/// Does what a disk does, until so many operations that change something were made; from then on it fails.
struct Stopping {
    disk: FileDisk,
    left: Arc<AtomicU64>,
}

struct StoppingFile {
    file: Arc<dyn DiskFile>,
    left: Arc<AtomicU64>,
}

fn step(left: &AtomicU64) -> io::Result<()> {
    let before = left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    before.map(drop).map_err(|_| io::Error::other("the process ended here"))
}

impl Disk for Stopping {
    fn describe(&self) -> String {
        self.disk.describe()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if how == Open::Create {
            step(&self.left)?;
        }
        Ok(Arc::new(StoppingFile { file: self.disk.open(path, how)?, left: self.left.clone() }))
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        step(&self.left)?;
        self.disk.rename(from, to)
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        step(&self.left)?;
        self.disk.unlink(path)
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &RelPath) -> io::Result<()> {
        step(&self.left)?;
        self.disk.make_dir(dir)
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        step(&self.left)?;
        self.disk.sync_dir(dir)
    }

    fn clone_file(&self, from: &RelPath, to: &RelPath) -> io::Result<Cloned> {
        step(&self.left)?;
        self.disk.clone_file(from, to)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn file_system(&self) -> io::Result<FileSystem> {
        self.disk.file_system()
    }

    fn lock(&self, wait: Duration) -> io::Result<Lock> {
        self.disk.lock(wait)
    }
}

impl DiskFile for StoppingFile {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_at(at, buf)
    }

    fn write_at(&self, at: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        step(&self.left)?;
        self.file.write_at(at, parts)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        step(&self.left)?;
        self.file.set_len(bytes)
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        self.file.allocated_bytes()
    }

    fn data_ranges(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        self.file.data_ranges(from)
    }

    fn sync_data(&self) -> io::Result<()> {
        step(&self.left)?;
        self.file.sync_data()
    }

    fn map_fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.map_fd()
    }
}

/// What a process does before it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Take,
    Load,
    Fork,
}

fn work(work: Work, engine: &Engine, store: &Store) -> Result<(), Error> {
    let mut canister = Canister::load(engine, store, &ID)?;
    let mut old = None;
    Snapshot::each(store, KEY, |_, snapshot| {
        old = Some(snapshot);
        Ok(())
    })?;
    let old = old.expect("it was taken before");
    let mut change: Change = store.begin();
    let mut keeping = Keeping::InStore { store, change: &mut change };
    match work {
        Work::Take => {
            let snapshot = canister.take_snapshot(TIME, &mut keeping)?.expect("it has a module");
            snapshot.put(SECOND, &mut change);
            old.erase(KEY, &mut change);
        }
        Work::Load => {
            let module = engine.compile(old.module(Some(store))?)?;
            canister.load_snapshot(&old, module, &mut keeping)?;
        }
        Work::Fork => drop(canister.fork(system(FORK), TIME, &mut keeping)?),
    }
    let lsn = store.append(change).map_err(Error::store)?;
    store.wait_durable(lsn).map_err(Error::store)
}

/// Whether the work was done; it must have been done wholly or not at all.
fn check(what: Work, home: &Home, first: &Picture, second: &Picture) -> bool {
    let canister = picture(&home.reload(ID));
    let keys: Vec<_> = home.snapshots().into_iter().map(|(key, _)| key).collect();
    let fork = Canister::load(&home.engine, home.store.as_ref().unwrap(), &FORK);
    let (loaded, taken, forked) = (canister == *first, keys == [b"two"], fork.is_ok());
    assert!(loaded || canister == *second, "{what:?}: the canister is neither as before nor as after");
    assert!(taken || keys == [b"one"], "{what:?}: {keys:?}");
    assert!(fork.is_err() || picture(&fork.unwrap()) == *second, "{what:?}: a fork is whole");
    let done = [(Work::Take, taken), (Work::Load, loaded), (Work::Fork, forked)];
    assert!(done.iter().all(|(work, done)| *work == what || !done), "{what:?}: {done:?}");
    // Each memory has a reader, and each snapshot can be read whole.
    for (_, snapshot) in home.snapshots() {
        assert!(snapshot.module(home.store.as_ref()).is_ok());
    }
    let memories = 2 * (2 + usize::from(forked));
    assert_eq!(home.store.as_ref().unwrap().memories().unwrap().len(), memories, "{what:?}");
    done.iter().any(|(_, done)| *done)
}

#[test]
fn all_or_nothing_wherever_the_process_ends() {
    with_stack(|| {
        let mut home = Home::new(Engine::new(MODES[0].1).unwrap(), Some("before"));
        let mut canister = home.canister(ID, &machine::wat(false));
        home.update(&mut canister, "run", &program(&mut Dice(11)));
        let first = picture(&canister);
        drop(home.take(&mut canister, KEY));
        home.update(&mut canister, "run", &program(&mut Dice(12)));
        let second = picture(&canister);
        assert!(first != second);
        drop(canister);
        home.store.take().unwrap().close().unwrap();

        for what in [Work::Take, Work::Load, Work::Fork] {
            let mut trial = Home::new(home.engine.clone(), Some(&format!("stops-{what:?}")));
            let mut done = [0, 0];
            for stop in 0.. {
                trial.store = None;
                copy_directory(&home.directory, &trial.directory);
                let left = Arc::new(AtomicU64::new(u64::MAX));
                let disk = Stopping { disk: FileDisk::new(trial.directory.clone()), left: left.clone() };
                let mut config = Config::new([7; 32]);
                config.background = false;
                let store = Store::open(Arc::new(disk), &config).unwrap().0;
                left.store(stop, Ordering::Relaxed);
                let result = work(what, &home.engine, &store);
                drop(store);
                trial.open();
                let is_done = check(what, &trial, &first, &second);
                assert!(
                    is_done || result.is_err(),
                    "{what:?}: what was acknowledged after {stop} operations is lost"
                );
                done[usize::from(is_done)] += 1;
                if result.is_ok() {
                    break;
                }
            }
            assert!(done[0] > 5 && done[1] > 0, "{what:?}: {done:?}");
            let _ = fs::remove_dir_all(&trial.directory);
        }
    });
}

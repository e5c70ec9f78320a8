//! A simulated disk for tests: a tree in RAM whose power can be cut at any operation.
//!
//! The faults that it models:
//! - Power cut: each 512-byte sector with unsynced writes holds, independently, its durable content or any
//!   version since; the length likewise, independently of the sectors. A version beyond the end reads as
//!   zeros.
//! - Names persist per directory as a prefix of what was done since its last sync. A synced file may have no
//!   name yet.
//! - A sync that fails makes some of the writes durable and marks all of them clean: reads still show them,
//!   and the next sync succeeds without them. The same for a directory.
//! - A write that fails may have written a prefix. Rename is atomic.
//! - The end of the process alone loses nothing that was written.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::disk::{Disk, DiskFile, Lock, Open, RelPath};

const SECTOR_BYTES: usize = 512;

/// A small generator with a fixed sequence for each seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Nothing,
    /// The n-th operation is the last that happens, and happens in part; the process learns of no later one.
    Stop(u64),
    /// The n-th operation fails with this number of the operating system, and only that one.
    Fail(u64, i32),
    /// Every operation fails so.
    Refuse(i32),
}

pub(crate) struct SimDisk {
    tree: Arc<Mutex<Tree>>,
    lock: Arc<()>,
}

#[derive(Clone)]
struct Tree {
    files: Vec<SimFile>,
    dirs: Vec<SimDir>,
    /// Whether the state directory itself was made.
    rooted: bool,
    fault: Fault,
    /// Operations so far that change something; reading is none.
    operations: u64,
    random: Random,
}

#[derive(Clone, Default)]
struct SimFile {
    durable: Vec<u8>,
    visible: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Clone)]
enum Write {
    Empty,
    At(usize, Vec<u8>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Node {
    File(usize),
    Dir(usize),
}

#[derive(Clone, Default)]
struct SimDir {
    durable: BTreeMap<String, Node>,
    visible: BTreeMap<String, Node>,
    /// New meanings of names, those of one operation together.
    unsynced: Vec<Vec<(String, Option<Node>)>>,
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Write::Empty => bytes.clear(),
            Write::At(at, new) => {
                bytes.resize(bytes.len().max(at + new.len()), 0);
                bytes[*at..at + new.len()].copy_from_slice(new);
            }
        }
    }
}

impl SimFile {
    fn write(&mut self, write: Write) {
        write.apply(&mut self.visible);
        self.unsynced.push(write);
    }

    /// What the disk holds if the power fails now.
    fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let mut versions = vec![self.durable.clone()];
        for write in &self.unsynced {
            let mut next = versions[versions.len() - 1].clone();
            write.apply(&mut next);
            versions.push(next);
        }
        let share = [0, 5, 50, 95, 100][random.below(5)];
        let mut pick = || {
            if random.below(100) < share { versions.len() - 1 } else { random.below(versions.len()) }
        };
        let mut bytes = vec![0; versions[pick()].len()];
        for (index, sector) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
            let version = &versions[pick()];
            let from = (index * SECTOR_BYTES).min(version.len());
            let to = (from + sector.len()).min(version.len());
            sector[..to - from].copy_from_slice(&version[from..to]);
        }
        bytes
    }

    fn sync(&mut self) {
        for write in self.unsynced.drain(..) {
            write.apply(&mut self.durable);
        }
    }
}

impl SimDir {
    fn change(&mut self, names: Vec<(String, Option<Node>)>) {
        set(&mut self.visible, &names);
        self.unsynced.push(names);
    }

    fn sync(&mut self, operations: usize) {
        for names in self.unsynced.drain(..).take(operations) {
            set(&mut self.durable, &names);
        }
    }

    fn power_cut(&mut self, random: &mut Random) {
        let operations = random.below(self.unsynced.len() + 1);
        self.sync(operations);
    }
}

fn set(names: &mut BTreeMap<String, Node>, changes: &[(String, Option<Node>)]) {
    for (name, node) in changes {
        match node {
            Some(node) => names.insert(name.clone(), *node),
            None => names.remove(name),
        };
    }
}

/// How the tree answers the request for an operation.
#[derive(PartialEq, Eq)]
enum Goes {
    Well,
    /// It happens in part, and an error is returned.
    Half(i32),
}

const EIO: i32 = 5;

impl Tree {
    fn operation(&mut self) -> io::Result<Goes> {
        self.operations += 1;
        match self.fault {
            Fault::Stop(at) if self.operations == at => Ok(Goes::Half(EIO)),
            Fault::Stop(at) if self.operations > at => Err(io::Error::from_raw_os_error(EIO)),
            Fault::Fail(at, error) if self.operations == at => Ok(Goes::Half(error)),
            Fault::Refuse(error) => Err(io::Error::from_raw_os_error(error)),
            _ => Ok(Goes::Well),
        }
    }

    fn stops(&self) -> bool {
        matches!(self.fault, Fault::Stop(_))
    }

    fn dir(&self, path: &str) -> io::Result<usize> {
        match path {
            "" if self.rooted => Ok(0),
            "" => Err(io::ErrorKind::NotFound.into()),
            _ => match self.node(path)? {
                Node::Dir(dir) => Ok(dir),
                Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
            },
        }
    }

    fn node(&self, path: &str) -> io::Result<Node> {
        let (dir, name) = self.parent(path)?;
        self.dirs[dir].visible.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn parent<'a>(&self, path: &'a str) -> io::Result<(usize, &'a str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.dir(dir)?, name))
    }
}

impl Goes {
    fn result(self) -> io::Result<()> {
        match self {
            Goes::Well => Ok(()),
            Goes::Half(error) => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl SimDisk {
    /// No state directory yet.
    pub(crate) fn new(seed: u64) -> Arc<SimDisk> {
        SimDisk::from_tree(Tree {
            files: Vec::new(),
            dirs: vec![SimDir::default()],
            rooted: false,
            fault: Fault::Nothing,
            operations: 0,
            random: Random(seed),
        })
    }

    fn from_tree(tree: Tree) -> Arc<SimDisk> {
        Arc::new(SimDisk { tree: Arc::new(Mutex::new(tree)), lock: Arc::new(()) })
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap()
    }

    /// The same disk after the end of the process, with a fault ahead.
    pub(crate) fn killed(&self, fault: Fault) -> Arc<SimDisk> {
        let mut tree = self.tree().clone();
        tree.fault = fault;
        tree.operations = 0;
        SimDisk::from_tree(tree)
    }

    /// The same disk after a power cut.
    pub(crate) fn power_cut(&self, seed: u64) -> Arc<SimDisk> {
        let mut tree = self.tree().clone();
        let mut random = Random(seed);
        for file in &mut tree.files {
            let bytes = file.after_power_cut(&mut random);
            *file = SimFile { durable: bytes.clone(), visible: bytes, unsynced: Vec::new() };
        }
        for dir in &mut tree.dirs {
            dir.power_cut(&mut random);
            dir.visible = dir.durable.clone();
        }
        tree.fault = Fault::Nothing;
        tree.operations = 0;
        tree.random = random;
        SimDisk::from_tree(tree)
    }

    pub(crate) fn operations(&self) -> u64 {
        self.tree().operations
    }

    /// All files and what reads of them show.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let tree = self.tree();
        let mut files = BTreeMap::new();
        for dir in ["", "mem/", "blob/"] {
            let Ok(index) = tree.dir(dir.trim_end_matches('/')) else { continue };
            for (name, node) in &tree.dirs[index].visible {
                if let Node::File(file) = node {
                    files.insert(format!("{dir}{name}"), tree.files[*file].visible.clone());
                }
            }
        }
        files
    }

    /// The same disk with other bytes in one file, or without it.
    pub(crate) fn damaged(&self, path: &str, bytes: Option<Vec<u8>>) -> Arc<SimDisk> {
        let disk = self.killed(Fault::Nothing);
        let mut tree = disk.tree();
        match (tree.node(path).unwrap(), bytes) {
            (Node::File(file), Some(bytes)) => {
                tree.files[file] = SimFile { durable: bytes.clone(), visible: bytes, unsynced: Vec::new() };
            }
            _ => {
                let (dir, name) = tree.parent(path).unwrap();
                tree.dirs[dir].change(vec![(name.to_string(), None)]);
                tree.dirs[dir].sync(usize::MAX);
            }
        }
        drop(tree);
        disk
    }
}

impl Disk for SimDisk {
    fn describe(&self) -> String {
        "sim".to_string()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut tree = self.tree();
        let goes = if how == Open::Create { tree.operation()? } else { Goes::Well };
        let (dir, name) = tree.parent(path.as_str())?;
        let file = match (tree.dirs[dir].visible.get(name).copied(), how) {
            (Some(Node::File(file)), Open::Read) => file,
            (Some(Node::File(file)), Open::Create) => {
                tree.files[file].write(Write::Empty);
                file
            }
            (Some(Node::Dir(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (None, Open::Read) => return Err(io::ErrorKind::NotFound.into()),
            (None, Open::Create) => {
                tree.files.push(SimFile::default());
                let file = tree.files.len() - 1;
                tree.dirs[dir].change(vec![(name.to_string(), Some(Node::File(file)))]);
                file
            }
        };
        goes.result()?;
        Ok(Arc::new(SimHandle { tree: self.tree.clone(), file }))
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let mut tree = self.tree();
        let goes = tree.operation()?;
        let node = tree.node(from.as_str())?;
        let (dir, from) = tree.parent(from.as_str())?;
        let (to_dir, to) = tree.parent(to.as_str())?;
        assert_eq!(dir, to_dir, "this crate renames within a directory only");
        if goes == Goes::Well || tree.stops() {
            tree.dirs[dir].change(vec![(to.to_string(), Some(node)), (from.to_string(), None)]);
        }
        goes.result()
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        let mut tree = self.tree();
        let goes = tree.operation()?;
        tree.node(path.as_str())?;
        let (dir, name) = tree.parent(path.as_str())?;
        if goes == Goes::Well || tree.stops() {
            tree.dirs[dir].change(vec![(name.to_string(), None)]);
        }
        goes.result()
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        let tree = self.tree();
        Ok(tree.dirs[tree.dir(dir.as_str())?].visible.keys().cloned().collect())
    }

    fn make_dir(&self, dir: &RelPath) -> io::Result<()> {
        let mut tree = self.tree();
        let goes = tree.operation()?;
        if goes == Goes::Well || tree.stops() {
            if dir.as_str().is_empty() {
                tree.rooted = true;
            } else if tree.node(dir.as_str()).is_err() {
                tree.dirs.push(SimDir::default());
                let node = Node::Dir(tree.dirs.len() - 1);
                let (parent, name) = tree.parent(dir.as_str())?;
                tree.dirs[parent].change(vec![(name.to_string(), Some(node))]);
            }
        }
        goes.result()
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        let mut tree = self.tree();
        let goes = tree.operation()?;
        let index = tree.dir(dir.as_str())?;
        let Tree { dirs, random, fault, .. } = &mut *tree;
        match goes {
            Goes::Well => dirs[index].sync(usize::MAX),
            Goes::Half(_) if matches!(fault, Fault::Stop(_)) => {}
            Goes::Half(_) => dirs[index].power_cut(random),
        }
        goes.result()
    }

    fn lock(&self, _wait: Duration) -> io::Result<Lock> {
        // No operation of the tree: what the file holds is for messages only.
        if Arc::strong_count(&self.lock) > 1 {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "process 1"));
        }
        Ok(Lock::new(self.lock.clone()))
    }
}

struct SimHandle {
    tree: Arc<Mutex<Tree>>,
    file: usize,
}

impl DiskFile for SimHandle {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let tree = self.tree.lock().unwrap();
        let bytes = &tree.files[self.file].visible;
        let at = usize::try_from(at).unwrap();
        let found = bytes.get(at..at + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let mut tree = self.tree.lock().unwrap();
        let goes = tree.operation()?;
        let length = match goes {
            Goes::Half(_) if !tree.stops() => tree.random.below(bytes.len() + 1),
            _ => bytes.len(),
        };
        let write = Write::At(usize::try_from(at).unwrap(), bytes[..length].to_vec());
        tree.files[self.file].write(write);
        goes.result()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.tree.lock().unwrap().files[self.file].visible.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut tree = self.tree.lock().unwrap();
        let goes = tree.operation()?;
        let Tree { files, random, fault, .. } = &mut *tree;
        let file = &mut files[self.file];
        match goes {
            Goes::Well => file.sync(),
            Goes::Half(_) if matches!(fault, Fault::Stop(_)) => {}
            Goes::Half(_) => {
                file.durable = file.after_power_cut(random);
                file.unsynced.clear();
            }
        }
        goes.result()
    }
}

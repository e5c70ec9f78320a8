//! A disk in memory that fails and loses power when told to, the same way for the same seed.
//!
//! The fault model:
//!
//! - After a power cut each sector of 512 bytes that was written since the last sync of its file holds, for
//!   itself, what was durable or any version written since; the share that holds the newest is drawn from 0,
//!   5, 50, 95 and 100 % for each file. The length survives or not, independently of the sectors. Space that
//!   the file grew by and that did not reach the disk reads as zeros or as bytes of another file.
//! - Names survive per directory as a prefix of what was done since its last sync, or, if so chosen, as any
//!   selection that keeps the order per name. A synced file may have no name yet. A rename is atomic.
//! - A sync that fails makes some of the writes durable and marks all of them clean: reads still show them,
//!   and the next sync succeeds without them. Between processes the kernel may forget them. The same for a
//!   directory.
//! - A write that fails may have written a prefix; so may one that finds no room. A read may fail.
//! - A clone is not atomic: whatever stops it leaves any part of it.
//! - The end of the process alone loses nothing that was written. Any operation may be the last one.
//! - Durable bits change only when [`SimDisk::rot`] changes them.
//!
//! What it costs: an operation takes time in proportion to the bytes it moves, a crash in proportion to what
//! was written since the last syncs, and a [`SimDisk::fork`] one pointer per file.

mod disk;
mod file;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use file::{CHUNK_BYTES, SimFile};
pub use tree::NamesKept;
use tree::{NameChange, Node, Tree};

/// A small generator with a fixed sequence for each seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number of the sequence.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.number() % bound as u64) as usize
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What will go wrong; operations are counted from the moment this is set, the first being 1. Operations are
/// those that change something or make it durable; reads are counted by themselves.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The last operation that happens, and happens in part. All that follow, reads too, fail until
    /// [`SimDisk::crash`].
    pub stop: Option<u64>,
    /// Operations that fail, and happen in part, with this number of the operating system.
    pub fail: Vec<(u64, i32)>,
    /// Syncs of files that fail with this number, counted by themselves.
    pub fail_syncs: Vec<(u64, i32)>,
    /// The same for directories.
    pub fail_dir_syncs: Vec<(u64, i32)>,
    /// Reads that fail with this number.
    pub fail_reads: Vec<(u64, i32)>,
    /// Every operation fails with this number and does nothing.
    pub refuse: Option<i32>,
    /// Syncs of files and directories report success and do nothing: a disk that lies.
    pub ignore_syncs: bool,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Faults {
        Faults::default()
    }

    /// Operation `at` is the last.
    pub fn stop(at: u64) -> Faults {
        Faults { stop: Some(at), ..Faults::default() }
    }

    /// Operation `at` fails.
    pub fn fail(at: u64, errno: i32) -> Faults {
        Faults { fail: vec![(at, errno)], ..Faults::default() }
    }

    /// Every operation fails.
    pub fn refuse(errno: i32) -> Faults {
        Faults { refuse: Some(errno), ..Faults::default() }
    }
}

/// What the process did not survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Its own end.
    Kill,
    /// A power cut.
    Power,
}

/// Which parts of the fault model are on.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// What happens to names.
    pub names: NamesKept,
    /// Whether space that was not written may show bytes of other files.
    pub stale_bytes: bool,
    /// Whether the kernel may forget, between processes, what a failed sync did not write.
    pub eviction: bool,
    /// Whether clones share blocks.
    pub shares_blocks: bool,
}

impl Default for Model {
    fn default() -> Model {
        Model { names: NamesKept::Prefix, stale_bytes: true, eviction: true, shares_blocks: true }
    }
}

/// The disk. Everything opened before a [`crash`](SimDisk::crash) fails after it.
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    interrupt: Arc<Interrupt>,
}

/// What happens in the midst of the next sync of a file.
type Interrupt = Mutex<Option<Box<dyn FnOnce() + Send>>>;

#[derive(Clone)]
struct State {
    files: BTreeMap<u64, Arc<SimFile>>,
    next_file: u64,
    /// Files that are not clean, and perhaps others.
    unclean: BTreeSet<u64>,
    tree: Tree,
    /// Whether the state directory itself was made.
    rooted: bool,
    faults: Faults,
    model: Model,
    room: Option<u64>,
    stopped: bool,
    operations: u64,
    reads: u64,
    syncs: u64,
    dir_syncs: u64,
    /// Operations and reads that were made to fail.
    failures: u64,
    /// The counts when the faults were set.
    faults_from: Counts,
    random: Random,
    /// How many crashes there were: handles are of one life.
    life: u64,
    lock: Arc<()>,
    trace_hash: u64,
    trace: Option<Vec<String>>,
}

/// Operations, reads, syncs of files and of directories.
type Counts = (u64, u64, u64, u64);

/// How the disk answers the request for an operation.
#[derive(PartialEq, Eq)]
enum Goes {
    Well,
    /// It happens in part, and an error is returned.
    Half(i32),
    /// The same, and nothing happens after it.
    Last,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Goes {
    fn result(self) -> io::Result<()> {
        match self {
            Goes::Well => Ok(()),
            Goes::Half(error) => Err(errno(error)),
            Goes::Last => Err(errno(EIO)),
        }
    }
}

impl State {
    /// Counts an operation and decides how it goes. `what` and the numbers go into the trace.
    fn operation(&mut self, what: &str, path: &str, numbers: [u64; 2]) -> io::Result<Goes> {
        if self.stopped {
            return Err(errno(EIO));
        }
        self.operations += 1;
        let text = what.bytes().chain(path.bytes()).fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        self.trace_hash = mix(self.trace_hash ^ text ^ mix(numbers[0]) ^ numbers[1]);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {what} {path} {} {}", self.operations, numbers[0], numbers[1]));
        }
        let at = self.operations - self.faults_from.0;
        if let Some(error) = self.faults.refuse {
            self.failures += 1;
            return Err(errno(error));
        }
        if self.faults.stop.is_some_and(|stop| at >= stop) {
            self.failures += 1;
            self.stopped = true;
            return Ok(Goes::Last);
        }
        match self.faults.fail.iter().find(|(fails, _)| *fails == at) {
            Some((_, error)) => {
                self.failures += 1;
                Ok(Goes::Half(*error))
            }
            None => Ok(Goes::Well),
        }
    }

    fn counts(&self) -> Counts {
        (self.operations, self.reads, self.syncs, self.dir_syncs)
    }

    /// Whether an operation that is not divisible happens.
    fn happens(&mut self, goes: &Goes) -> bool {
        match goes {
            Goes::Well => true,
            Goes::Half(_) => false,
            Goes::Last => self.random.below(2) == 0,
        }
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
        self.tree.node(dir, name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn parent<'a>(&self, path: &'a str) -> io::Result<(usize, &'a str)> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.dir(dir)?, name))
    }

    fn name_change(&self, path: &str, node: Option<Node>) -> io::Result<NameChange> {
        let (dir, name) = self.parent(path)?;
        Ok(NameChange { dir, name: name.into(), node })
    }

    fn file_at(&self, path: &str) -> io::Result<u64> {
        match self.node(path)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn add_file(&mut self) -> u64 {
        self.next_file += 1;
        self.files.insert(self.next_file, Arc::default());
        self.next_file
    }

    fn file(&self, file: u64) -> &SimFile {
        &self.files[&file]
    }

    /// A file, to be changed.
    fn file_mut(&mut self, file: u64) -> &mut SimFile {
        self.unclean.insert(file);
        Arc::make_mut(self.files.get_mut(&file).expect("a file lives as long as its handles' life"))
    }

    /// Bytes that the files with names take.
    fn allocated_bytes(&self) -> u64 {
        let mut files = BTreeSet::new();
        for dir in 0..self.tree.dirs() {
            files.extend(self.tree.names(dir).filter_map(|(_, node)| match node {
                Node::File(file) => Some(file),
                Node::Dir(_) => None,
            }));
        }
        files.into_iter().map(|file| self.file(file).allocated_bytes()).sum()
    }

    /// How much of a write there is room for.
    fn fits(&self, file: u64, at: u64, bytes: usize) -> usize {
        let Some(room) = self.room else { return bytes };
        let mut holes = self.file(file).holes(at, bytes).peekable();
        if holes.peek().is_none() {
            return bytes;
        }
        let free = room.saturating_sub(self.allocated_bytes()) / CHUNK_BYTES as u64;
        match holes.nth(usize::try_from(free).unwrap_or(usize::MAX)) {
            Some(chunk) => (chunk * CHUNK_BYTES as u64).saturating_sub(at) as usize,
            None => bytes,
        }
    }

    fn crash(&mut self, crash: Crash) {
        let State { files, unclean, tree, model, random, .. } = self;
        match crash {
            Crash::Kill => {
                for file in unclean.iter() {
                    if model.eviction && random.below(4) == 0 {
                        Arc::make_mut(files.get_mut(file).expect("unclean files exist")).evict_lost();
                    }
                }
            }
            Crash::Power => {
                let mut stale = Vec::new();
                if model.stale_bytes && !unclean.is_empty() {
                    let count = files.len();
                    for _ in 0..4 {
                        let file = files.values().nth(random.below(count));
                        stale.extend(file.and_then(|file| file.any_chunk(random)));
                    }
                }
                for file in std::mem::take(unclean) {
                    Arc::make_mut(files.get_mut(&file).expect("unclean files exist"))
                        .power_cut(random, &stale);
                }
                tree.power_cut(model.names, random);
            }
        }
        let named: BTreeSet<_> = tree.named_files().collect();
        files.retain(|file, _| named.contains(file));
        unclean.retain(|file| files.get(file).is_some_and(|file| !file.is_clean()));
        self.faults = Faults::none();
        self.faults_from = self.counts();
        self.stopped = false;
        self.life += 1;
        self.lock = Arc::new(());
    }
}

impl SimDisk {
    /// No state directory yet.
    pub fn new(seed: u64) -> Arc<SimDisk> {
        SimDisk::from_state(State {
            files: BTreeMap::new(),
            next_file: 0,
            unclean: BTreeSet::new(),
            tree: Tree::new(),
            rooted: false,
            faults: Faults::none(),
            model: Model::default(),
            room: None,
            stopped: false,
            operations: 0,
            reads: 0,
            syncs: 0,
            dir_syncs: 0,
            failures: 0,
            faults_from: (0, 0, 0, 0),
            random: Random(seed),
            life: 0,
            lock: Arc::new(()),
            trace_hash: 0,
            trace: None,
        })
    }

    fn from_state(state: State) -> Arc<SimDisk> {
        Arc::new(SimDisk { state: Arc::new(Mutex::new(state)), interrupt: Arc::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked did so in a test that fails anyway; the disk still tells what happened.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses parts of the fault model.
    pub fn set_model(&self, model: Model) {
        self.state().model = model;
    }

    /// Decides what will go wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults_from = state.counts();
        state.faults = faults;
    }

    /// Limits what the files may take together, in bytes.
    pub fn set_room(&self, bytes: Option<u64>) {
        self.state().room = bytes;
    }

    /// Does something in the midst of the next sync of a file: after all that was written before it, and
    /// before anything becomes durable. What is done may use the disk.
    pub fn set_interrupt(&self, interrupt: Option<Box<dyn FnOnce() + Send>>) {
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = interrupt;
    }

    /// Begins to keep a line for each operation.
    pub fn set_tracing(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// The lines kept so far.
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone().unwrap_or_default()
    }

    /// Differs when the operations so far differed in kind, path or place.
    pub fn trace_hash(&self) -> u64 {
        self.state().trace_hash
    }

    /// Operations so far, those before crashes included.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Reads of file content so far.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Operations and reads that failed so far, for want of room too.
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    /// Whether the operation that [`Faults::stop`] named was reached.
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Ends the life of every process on this disk; nothing is ahead to go wrong.
    pub fn crash(&self, crash: Crash) {
        self.state().crash(crash);
    }

    /// Another disk with the same content, whose operations are counted from 0. What fails at a count fails
    /// at that one.
    pub fn fork(&self) -> Arc<SimDisk> {
        let mut state = self.state().clone();
        state.lock = Arc::new(());
        (state.operations, state.reads, state.syncs, state.dir_syncs) = (0, 0, 0, 0);
        state.faults_from = state.counts();
        SimDisk::from_state(state)
    }

    /// The same disk after the end of the process, with something ahead to go wrong.
    pub fn killed(&self, faults: Faults) -> Arc<SimDisk> {
        let disk = self.fork();
        disk.crash(Crash::Kill);
        disk.set_faults(faults);
        disk
    }

    /// The same disk after a power cut.
    pub fn power_cut(&self, seed: u64) -> Arc<SimDisk> {
        let disk = self.fork();
        disk.state().random = Random(seed);
        disk.crash(Crash::Power);
        disk
    }

    /// All files, by path, and their lengths.
    pub fn paths(&self) -> BTreeMap<String, u64> {
        let state = self.state();
        let mut paths = BTreeMap::new();
        let mut dirs = if state.rooted { vec![(String::new(), 0)] } else { Vec::new() };
        while let Some((prefix, dir)) = dirs.pop() {
            for (name, node) in state.tree.names(dir) {
                match node {
                    Node::File(file) => {
                        paths.insert(format!("{prefix}{name}"), state.file(file).len());
                    }
                    Node::Dir(dir) => dirs.push((format!("{prefix}{name}/"), dir)),
                }
            }
        }
        paths
    }

    /// What reads of a file show.
    pub fn bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        let file = state.file(state.file_at(path)?);
        let mut bytes = vec![0; usize::try_from(file.len()).map_err(|_| io::ErrorKind::FileTooLarge)?];
        file.read(0, &mut bytes);
        Ok(bytes)
    }

    /// All files and what reads of them show.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let paths = self.paths().into_keys();
        paths.map(|path| (path.clone(), self.bytes(&path).unwrap_or_default())).collect()
    }

    /// Changes the bits of a byte that are set in `xor`, where they rest.
    pub fn rot(&self, path: &str, at: u64, xor: u8) -> io::Result<()> {
        let mut state = self.state();
        let file = state.file_at(path)?;
        state.file_mut(file).rot(at, xor);
        Ok(())
    }

    /// The same disk with other bytes in one file, durable, or without it.
    pub fn damaged(&self, path: &str, bytes: Option<Vec<u8>>) -> Arc<SimDisk> {
        let disk = self.killed(Faults::none());
        let mut state = disk.state();
        let file = bytes.map(|bytes| {
            let file = state.add_file();
            state.file_mut(file).write(0, &bytes);
            state.file_mut(file).sync();
            Node::File(file)
        });
        let change = state.name_change(path, file).expect("the directory of a damaged file exists");
        let dir = change.dir;
        state.tree.change(vec![change]);
        state.tree.sync(dir);
        drop(state);
        disk
    }
}

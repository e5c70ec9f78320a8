//! A disk whose changes stay in RAM: recovery can be tried on it without touching what is on the real one.
//!
//! - The real disk is only read, but for its lock, which is held.
//! - What is written is kept in pieces of 4 KiB, so that a file of any length costs what changes in it.
//! - It is used by one thread, for a while; syncs do nothing.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::disk::{Cloned, Disk, DiskFile, FileSystem, Lock, Open, RelPath, Space};
use crate::sync::lock;

const CHUNK_BYTES: u64 = 4096;

/// The disk below and the changes to it.
pub(crate) struct Scratch {
    disk: Arc<dyn Disk>,
    /// Files that were opened, moved or made; `None` where one was removed.
    files: Mutex<BTreeMap<String, Option<Arc<ScratchFile>>>>,
}

/// A file below, if there is one, and the changes to it.
struct ScratchFile {
    below: Option<Arc<dyn DiskFile>>,
    state: Mutex<State>,
}

struct State {
    length: u64,
    /// Bytes below this are read from below, unless a chunk has them.
    below_length: u64,
    chunks: BTreeMap<u64, Box<[u8; CHUNK_BYTES as usize]>>,
}

impl Scratch {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Scratch {
        Scratch { disk, files: Mutex::default() }
    }

    fn find(&self, path: &RelPath) -> io::Result<Arc<ScratchFile>> {
        let mut files = lock(&self.files);
        if let Some(found) = files.get(path.as_str()) {
            return found.clone().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        let below = self.disk.open(path, Open::Read)?;
        let length = below.len()?;
        let state = State { length, below_length: length, chunks: BTreeMap::new() };
        let file = Arc::new(ScratchFile { below: Some(below), state: Mutex::new(state) });
        files.insert(path.as_str().to_string(), Some(file.clone()));
        Ok(file)
    }
}

impl Disk for Scratch {
    fn describe(&self) -> String {
        self.disk.describe()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if how != Open::Create {
            return Ok(self.find(path)?);
        }
        let state = State { length: 0, below_length: 0, chunks: BTreeMap::new() };
        let file = Arc::new(ScratchFile { below: None, state: Mutex::new(state) });
        lock(&self.files).insert(path.as_str().to_string(), Some(file.clone()));
        Ok(file)
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let file = self.find(from)?;
        let mut files = lock(&self.files);
        files.insert(from.as_str().to_string(), None);
        files.insert(to.as_str().to_string(), Some(file));
        Ok(())
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        self.find(path)?;
        lock(&self.files).insert(path.as_str().to_string(), None);
        Ok(())
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        let mut names: BTreeMap<String, bool> =
            self.disk.list(dir)?.into_iter().map(|name| (name, true)).collect();
        for (path, file) in &*lock(&self.files) {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            if parent == dir.as_str() {
                names.insert(name.to_string(), file.is_some());
            }
        }
        Ok(names.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect())
    }

    fn make_dir(&self, _: &RelPath) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &RelPath) -> io::Result<()> {
        Ok(())
    }

    fn clone_file(&self, _: &RelPath, _: &RelPath) -> io::Result<Cloned> {
        Err(io::ErrorKind::Unsupported.into())
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

impl ScratchFile {
    /// The bytes of one chunk, as far as the file reaches.
    fn chunk(&self, state: &State, index: u64) -> io::Result<[u8; CHUNK_BYTES as usize]> {
        if let Some(chunk) = state.chunks.get(&index) {
            return Ok(**chunk);
        }
        let mut bytes = [0; CHUNK_BYTES as usize];
        let at = index * CHUNK_BYTES;
        if let Some(below) = &self.below
            && at < state.below_length
        {
            let there = (state.below_length - at).min(CHUNK_BYTES) as usize;
            below.read_at(at, &mut bytes[..there])?;
        }
        Ok(bytes)
    }
}

/// Takes a range of a file apart at the borders of chunks: the chunk, the place in it, and the length.
fn pieces(at: u64, bytes: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut next = at;
    std::iter::from_fn(move || {
        let left = at + bytes - next;
        let within = next % CHUNK_BYTES;
        let length = left.min(CHUNK_BYTES - within);
        let piece = (next / CHUNK_BYTES, within as usize..(within + length) as usize);
        next += length;
        (length > 0).then_some(piece)
    })
}

impl DiskFile for ScratchFile {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let state = lock(&self.state);
        if at.checked_add(buf.len() as u64).is_none_or(|end| end > state.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if state.chunks.is_empty()
            && let Some(below) = &self.below
            && at + buf.len() as u64 <= state.below_length
        {
            return below.read_at(at, buf);
        }
        let mut rest = buf;
        for (index, within) in pieces(at, rest.len() as u64) {
            let (now, later) = rest.split_at_mut(within.len());
            now.copy_from_slice(&self.chunk(&state, index)?[within]);
            rest = later;
        }
        Ok(())
    }

    fn write_at(&self, at: u64, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        let mut state = lock(&self.state);
        let mut at = at;
        for part in parts {
            let mut rest = &part[..];
            for (index, within) in pieces(at, rest.len() as u64) {
                let (now, later) = rest.split_at(within.len());
                let mut chunk = self.chunk(&state, index)?;
                chunk[within].copy_from_slice(now);
                state.chunks.insert(index, Box::new(chunk));
                rest = later;
            }
            at += part.len() as u64;
            state.length = state.length.max(at);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.state).length)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        if bytes < state.length {
            state.chunks.retain(|index, _| index * CHUNK_BYTES < bytes);
            let (last, within) = (bytes / CHUNK_BYTES, (bytes % CHUNK_BYTES) as usize);
            if let Some(chunk) = state.chunks.get_mut(&last) {
                chunk[within..].fill(0);
            }
            state.below_length = state.below_length.min(bytes);
        }
        state.length = bytes;
        Ok(())
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        let chunks = lock(&self.state).chunks.len() as u64 * CHUNK_BYTES;
        Ok(chunks + self.below.as_ref().map_or(Ok(0), |below| below.allocated_bytes())?)
    }

    fn data_ranges(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        let state = lock(&self.state);
        let below = match &self.below {
            Some(below) if from < state.below_length => below.data_ranges(from)?,
            _ => None,
        };
        let below = below.filter(|range| range.start < state.below_length);
        let chunk = state.chunks.range(from / CHUNK_BYTES..).next();
        let chunk = chunk.map(|(index, _)| index * CHUNK_BYTES..(index + 1) * CHUNK_BYTES);
        Ok(match (below, chunk) {
            (Some(below), Some(chunk)) if chunk.start < below.start => Some(chunk),
            (Some(below), _) => Some(below),
            (None, chunk) => chunk,
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn map_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

//! The simulated disk as a [`Disk`]: every operation asks first how it goes.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::file::CHUNK_BYTES;
use super::tree::Node;
use super::{EIO, ENOSPC, Goes, Interrupt, SimDisk, State, errno};
use crate::disk::{Cloned, Disk, DiskFile, FileSystem, Lock, Open, RelPath, Space, joined};

impl Disk for SimDisk {
    fn describe(&self) -> String {
        "sim".to_string()
    }

    fn open(&self, path: &RelPath, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let path = path.as_str();
        let found = match state.file_at(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && how == Open::Create => {
                // An error here means that the directory is missing.
                state.parent(path)?;
                None
            }
            found => Some(found?),
        };
        if state.stopped {
            return Err(errno(EIO));
        }
        let file = match (found, how) {
            (Some(file), Open::Read | Open::Write) => file,
            (found, _) => {
                let goes = state.operation("create", path, [0; 2])?;
                let happens = state.happens(&goes);
                let file = match found {
                    Some(file) if happens => {
                        state.file_mut(file).set_len(0);
                        file
                    }
                    None if happens => {
                        let file = state.add_file();
                        let change = state.name_change(path, Some(Node::File(file)))?;
                        state.tree.change(vec![change]);
                        file
                    }
                    _ => 0,
                };
                goes.result()?;
                file
            }
        };
        let (disk, interrupt) = (self.state.clone(), self.interrupt.clone());
        Ok(Arc::new(SimHandle { state: disk, interrupt, file, life: state.life, how, path: path.into() }))
    }

    fn rename(&self, from: &RelPath, to: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let node = state.node(from.as_str())?;
        let changes =
            vec![state.name_change(to.as_str(), Some(node))?, state.name_change(from.as_str(), None)?];
        let goes = state.operation("rename", from.as_str(), [0; 2])?;
        if state.happens(&goes) && from != to {
            state.tree.change(changes);
        }
        goes.result()
    }

    fn unlink(&self, path: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        state.file_at(path.as_str())?;
        let change = state.name_change(path.as_str(), None)?;
        let goes = state.operation("unlink", path.as_str(), [0; 2])?;
        if state.happens(&goes) {
            state.tree.change(vec![change]);
        }
        goes.result()
    }

    fn list(&self, dir: &RelPath) -> io::Result<Vec<String>> {
        let state = self.state();
        if state.stopped {
            return Err(errno(EIO));
        }
        Ok(state.tree.names(state.dir(dir.as_str())?).map(|(name, _)| name.to_string()).collect())
    }

    fn make_dir(&self, dir: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let path = dir.as_str();
        match state.dir(path) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let goes = state.operation("make_dir", path, [0; 2])?;
        if state.happens(&goes) {
            if path.is_empty() {
                state.rooted = true;
            } else {
                let node = state.tree.add_dir();
                let change = state.name_change(path, Some(node))?;
                state.tree.change(vec![change]);
            }
        }
        goes.result()
    }

    fn sync_dir(&self, dir: &RelPath) -> io::Result<()> {
        let mut state = self.state();
        let index = state.dir(dir.as_str())?;
        let mut goes = state.operation("sync_dir", dir.as_str(), [0; 2])?;
        state.dir_syncs += 1;
        let count = state.dir_syncs - state.faults_from.3;
        if goes == Goes::Well
            && let Some((_, error)) = state.faults.fail_dir_syncs.iter().find(|(fails, _)| *fails == count)
        {
            goes = Goes::Half(*error);
            state.failures += 1;
        }
        let State { tree, random, model, faults, .. } = &mut *state;
        match goes {
            Goes::Well if !faults.ignore_syncs => tree.sync(index),
            Goes::Well | Goes::Last => {}
            Goes::Half(_) => tree.fail_sync(index, model.names, random),
        }
        goes.result()
    }

    fn clone_file(&self, from: &RelPath, to: &RelPath) -> io::Result<Cloned> {
        let mut state = self.state();
        let source = state.file_at(from.as_str())?;
        if state.node(to.as_str()).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let change = state.name_change(to.as_str(), Some(Node::File(state.next_file + 1)))?;
        let goes = state.operation("clone", from.as_str(), [0; 2])?;
        let source = state.files[&source].clone();
        let bytes = source.allocated_bytes();
        let mut chunks = usize::try_from(bytes).unwrap_or(usize::MAX) / CHUNK_BYTES;
        let room = state.room.map(|room| room.saturating_sub(state.allocated_bytes()));
        let full = room.is_some_and(|room| room < bytes);
        if goes != Goes::Well || full {
            chunks = state.random.below(chunks + 1);
        }
        let file = state.add_file();
        state.tree.change(vec![change]);
        if room.is_none_or(|room| (chunks * CHUNK_BYTES) as u64 <= room) {
            state.file_mut(file).clone_from_shown(&source, chunks);
        }
        goes.result()?;
        if full {
            state.failures += 1;
            return Err(errno(ENOSPC));
        }
        Ok(if state.model.shares_blocks { Cloned::Shared } else { Cloned::Copied { bytes } })
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state();
        let total_bytes = state.room.unwrap_or(1 << 50);
        Ok(Space { free_bytes: total_bytes.saturating_sub(state.allocated_bytes()), total_bytes })
    }

    fn file_system(&self) -> io::Result<FileSystem> {
        Ok(FileSystem::Local("sim"))
    }

    fn lock(&self, _wait: Duration) -> io::Result<Lock> {
        // No operation: what the file holds is for messages only.
        let state = self.state();
        if state.stopped {
            return Err(errno(EIO));
        }
        if Arc::strong_count(&state.lock) > 1 {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "process 1"));
        }
        Ok(Lock::new(state.lock.clone()))
    }
}

struct SimHandle {
    state: Arc<Mutex<State>>,
    interrupt: Arc<Interrupt>,
    file: u64,
    life: u64,
    how: Open,
    path: Box<str>,
}

impl SimHandle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stopped || state.life != self.life { Err(errno(EIO)) } else { Ok(state) }
    }

    fn writable(&self) -> io::Result<()> {
        if self.how == Open::Read { Err(errno(9)) } else { Ok(()) }
    }
}

impl DiskFile for SimHandle {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut state = self.state()?;
        state.reads += 1;
        let count = state.reads - state.faults_from.1;
        if let Some((_, error)) = state.faults.fail_reads.iter().find(|(fails, _)| *fails == count) {
            let error = *error;
            state.failures += 1;
            return Err(errno(error));
        }
        if !state.file(self.file).read(at, buf) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    fn write_at(&self, at: u64, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        let all;
        let bytes = match parts {
            [part] => &**part,
            parts => {
                all = joined(parts);
                &all
            }
        };
        let mut state = self.state()?;
        self.writable()?;
        let goes = state.operation("write", &self.path, [at, bytes.len() as u64])?;
        let fits = state.fits(self.file, at, bytes.len());
        let length = if goes == Goes::Well { fits } else { state.random.below(fits + 1) };
        state.file_mut(self.file).write(at, &bytes[..length]);
        goes.result()?;
        if fits < bytes.len() {
            state.failures += 1;
            return Err(errno(ENOSPC));
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.file(self.file).len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state()?;
        self.writable()?;
        let goes = state.operation("set_len", &self.path, [bytes, 0])?;
        if state.happens(&goes) {
            state.file_mut(self.file).set_len(bytes);
        }
        goes.result()
    }

    fn allocated_bytes(&self) -> io::Result<u64> {
        Ok(self.state()?.file(self.file).allocated_bytes())
    }

    fn data_ranges(&self, from: u64) -> io::Result<Option<Range<u64>>> {
        Ok(self.state()?.file(self.file).data_ranges(from))
    }

    fn sync_data(&self) -> io::Result<()> {
        let interrupt = self.interrupt.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(interrupt) = interrupt {
            interrupt();
        }
        let mut state = self.state()?;
        let mut goes = state.operation("sync", &self.path, [0; 2])?;
        state.syncs += 1;
        let count = state.syncs - state.faults_from.2;
        if goes == Goes::Well
            && let Some((_, error)) = state.faults.fail_syncs.iter().find(|(fails, _)| *fails == count)
        {
            goes = Goes::Half(*error);
            state.failures += 1;
        }
        match goes {
            Goes::Well if !state.faults.ignore_syncs => {
                let file = state.file_mut(self.file);
                file.sync();
                if file.is_clean() {
                    state.unclean.remove(&self.file);
                }
            }
            Goes::Well | Goes::Last => {}
            Goes::Half(_) => {
                let mut random = state.random.clone();
                state.file_mut(self.file).fail_sync(&mut random);
                state.random = random;
            }
        }
        goes.result()
    }

    fn map_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

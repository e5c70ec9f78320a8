//! The two files of a memory, `mem/<id>.base` and `mem/<id>.sum`: their names, and reading them verified.
//!
//! - Page `i` is at byte 4096·i of the base, its sum at byte 4·i of the other. Holes, and what lies beyond the
//!   end of a file, are zeros; a page of zeros has the sum 0.
//! - A file is never shorter than the size of its memory needs, once the record of that size was applied.
//! - Files are open only while something is done with them.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};

use crate::disk::{Cloned, Disk, DiskFile, Open, RelPath, described};
use crate::error::{Error, Result};
use crate::mutants::mutant;
use crate::page::{MemoryId, PAGE_BYTES, Page, PageCount, PageIndex, ZERO_PAGE, sum};
use crate::sync::lock;

/// The directory of memories.
pub(crate) const MEMORY_DIR: &str = "mem";
/// Bytes of a sum.
pub(crate) const SUM_BYTES: usize = 4;
/// Pages are verified in pieces of this many.
const PIECE_PAGES: usize = 256;

/// Which of a memory's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MemoryFile {
    Base,
    Sum,
}

/// The files of all memories.
pub(crate) struct MemoryFiles {
    disk: Arc<dyn Disk>,
    /// Memories whose files have nothing beyond their size but what this process put there.
    trimmed: Mutex<BTreeSet<MemoryId>>,
}

/// An open file that is being written.
pub(crate) struct Writing {
    pub(crate) file: Arc<dyn DiskFile>,
    name: String,
    is_touched: std::cell::Cell<bool>,
}

impl Writing {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes it at least so long.
    pub(crate) fn extend(&self, bytes: u64) -> Result<()> {
        if self.file.len().map_err(|error| Error::reading(&self.name, error))? < bytes {
            self.is_touched.set(true);
            self.file.set_len(bytes).map_err(|error| Error::writing(&self.name, error))?;
        }
        Ok(())
    }

    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.is_touched.set(true);
        let written = self.file.write_at(at, &[IoSlice::new(bytes)]);
        written.map_err(|error| Error::writing(&self.name, error))
    }

    /// Makes durable what was written.
    pub(crate) fn sync(&self) -> Result<()> {
        if self.is_touched.replace(false) {
            self.file.sync_data().map_err(|error| Error::writing(&self.name, error))?;
        }
        Ok(())
    }
}

/// The path of a memory's file.
pub(crate) fn memory_path(id: MemoryId, which: MemoryFile) -> RelPath {
    RelPath::new(match which {
        MemoryFile::Base => format!("{MEMORY_DIR}/{id}.base"),
        MemoryFile::Sum => format!("{MEMORY_DIR}/{id}.sum"),
    })
}

fn temporary_path(id: MemoryId, which: MemoryFile) -> RelPath {
    RelPath::new(match which {
        MemoryFile::Base => format!("{MEMORY_DIR}/tmp-{id}.base"),
        MemoryFile::Sum => format!("{MEMORY_DIR}/tmp-{id}.sum"),
    })
}

/// The memory that a name of the directory belongs to; `None` for names that we would not make.
pub(crate) fn parse_memory_name(name: &str) -> Option<MemoryId> {
    let plain = name.strip_prefix("tmp-").unwrap_or(name);
    let (digits, "base" | "sum") = plain.split_once('.')? else { return None };
    let id = digits.parse::<u64>().ok()?;
    (id.to_string() == digits).then_some(MemoryId::new(id))
}

impl MemoryFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> MemoryFiles {
        MemoryFiles { disk, trimmed: Mutex::default() }
    }

    /// Opens a file to write it.
    pub(crate) fn open(&self, id: MemoryId, which: MemoryFile) -> Result<Writing> {
        let path = memory_path(id, which);
        let name = described(&*self.disk, &path);
        let file = self.disk.open(&path, Open::Write).map_err(|error| opening(&name, error))?;
        Ok(Writing { file, name, is_touched: std::cell::Cell::new(false) })
    }

    /// Opens a file to read it.
    pub(crate) fn open_to_read(
        &self,
        id: MemoryId,
        which: MemoryFile,
    ) -> Result<(Arc<dyn DiskFile>, String)> {
        let path = memory_path(id, which);
        let name = described(&*self.disk, &path);
        let file = self.disk.open(&path, Open::Read).map_err(|error| opening(&name, error))?;
        Ok((file, name))
    }

    /// Makes the files of a new memory, which no record names yet.
    pub(crate) fn make(&self, id: MemoryId) -> Result<()> {
        for which in [MemoryFile::Base, MemoryFile::Sum] {
            let path = memory_path(id, which);
            let made = self.disk.open(&path, Open::Create);
            made.map_err(|error| Error::writing(&described(&*self.disk, &path), error))?;
        }
        lock(&self.trimmed).insert(id);
        Ok(())
    }

    /// Puts empty files in the place of whatever has the names: those may not be durable, and a sync of the
    /// directory may do nothing about it.
    pub(crate) fn make_again(&self, id: MemoryId) -> Result<()> {
        for which in [MemoryFile::Base, MemoryFile::Sum] {
            let (path, temporary) = (memory_path(id, which), temporary_path(id, which));
            let made = self.disk.open(&temporary, Open::Create);
            let made = made.and_then(|_| self.disk.rename(&temporary, &path));
            made.map_err(|error| Error::writing(&described(&*self.disk, &path), error))?;
        }
        lock(&self.trimmed).insert(id);
        Ok(())
    }

    /// Cuts the files off at the size that is known to be durable, once for each memory and process: what a
    /// file grew by since its last sync may be anything.
    pub(crate) fn trim(&self, id: MemoryId, size: PageCount) -> Result<()> {
        let mut trimmed = lock(&self.trimmed);
        if trimmed.contains(&id) {
            return Ok(());
        }
        let sum_bytes = u64::from(size.get()) * SUM_BYTES as u64;
        for (which, bytes) in [(MemoryFile::Base, size.bytes()), (MemoryFile::Sum, sum_bytes)] {
            let file = self.open(id, which)?;
            let length = file.file.len().map_err(|error| Error::reading(&file.name, error))?;
            if length > bytes {
                file.file.set_len(bytes).map_err(|error| Error::writing(&file.name, error))?;
            }
        }
        trimmed.insert(id);
        Ok(())
    }

    /// Makes the names of files durable.
    pub(crate) fn sync_names(&self) -> Result<()> {
        if mutant!(NO_DIRECTORY_SYNC) {
            return Ok(());
        }
        let dir = RelPath::new(MEMORY_DIR);
        self.disk.sync_dir(&dir).map_err(|error| Error::writing(&described(&*self.disk, &dir), error))
    }

    /// Removes the files of a memory, if they are there.
    pub(crate) fn remove(&self, id: MemoryId) -> Result<()> {
        lock(&self.trimmed).remove(&id);
        for which in [MemoryFile::Base, MemoryFile::Sum] {
            for path in [memory_path(id, which), temporary_path(id, which)] {
                match self.disk.unlink(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => {
                        result.map_err(|error| Error::writing(&described(&*self.disk, &path), error))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the files of `to`, durable with their names, with the content of those of `from`.
    pub(crate) fn copy(&self, from: MemoryId, to: MemoryId) -> Result<Cloned> {
        self.remove(to)?;
        let mut whole = Cloned::Shared;
        for which in [MemoryFile::Base, MemoryFile::Sum] {
            let (source, target) = (memory_path(from, which), memory_path(to, which));
            let writing = |error| Error::writing(&described(&*self.disk, &target), error);
            let cloned = self.disk.clone_file(&source, &target).map_err(writing)?;
            if which == MemoryFile::Base {
                whole = cloned;
            }
            if !mutant!(COPY_NOT_SYNCED) {
                let file = self.disk.open(&target, Open::Write).map_err(writing)?;
                file.sync_data().map_err(writing)?;
            }
        }
        self.sync_names()?;
        lock(&self.trimmed).insert(to);
        Ok(whole)
    }

    /// Copies bytes out of a memory and verifies every page that they touch.
    pub(crate) fn read(&self, id: MemoryId, at: u64, into: &mut [u8]) -> Result<()> {
        if into.is_empty() {
            return Ok(());
        }
        let reader = Reader::open(self, id)?;
        let page_bytes = PAGE_BYTES as u64;
        let (first, end) = (at / page_bytes, (at + into.len() as u64).div_ceil(page_bytes));
        let mut next = first;
        while next < end {
            let pages = usize::try_from(end - next).map_or(PIECE_PAGES, |pages| pages.min(PIECE_PAGES));
            let bytes = reader.pages(next, pages)?;
            // What of this piece was asked for.
            let piece_at = next * page_bytes;
            let from = at.max(piece_at);
            let to = (at + into.len() as u64).min(piece_at + bytes.len() as u64);
            let place = |place: u64, base: u64| usize::try_from(place - base).expect("a place in a slice");
            into[place(from, at)..place(to, at)]
                .copy_from_slice(&bytes[place(from, piece_at)..place(to, piece_at)]);
            next += pages as u64;
        }
        Ok(())
    }

    /// Calls `visit` with each page that is not all zero, ascending, verified; stops at the first error.
    pub(crate) fn visit(
        &self,
        id: MemoryId,
        size: PageCount,
        visit: &mut dyn FnMut(PageIndex, &Page),
    ) -> Result<()> {
        self.check(id, size, &mut |index, page| {
            visit(index, page.map_err(|_| ())?);
            Ok(())
        })
        .and_then(|bad| match bad {
            None => Ok(()),
            Some(index) => {
                let name = described(&*self.disk, &memory_path(id, MemoryFile::Base));
                Err(damaged_page(&name, id, index))
            }
        })
    }

    /// Calls `visit` with each page that is not all zero or whose sum is not that of zeros, and whether it is
    /// the page that its sum is of. Ends early at the page for which `visit` fails, and names it.
    pub(crate) fn check(
        &self,
        id: MemoryId,
        size: PageCount,
        visit: &mut CheckPage<'_>,
    ) -> Result<Option<PageIndex>> {
        let reader = Reader::open(self, id)?;
        let mut next = 0;
        while next < u64::from(size.get()) {
            // A page matters where the one or the other file has data.
            let base = data_at(&*reader.base, &reader.base_name, next * PAGE_BYTES as u64)?;
            let sums = data_at(&*reader.sum, &reader.sum_name, next * SUM_BYTES as u64)?;
            let base = base.map_or(u64::MAX, |at| at / PAGE_BYTES as u64);
            next = next.max(base.min(sums.map_or(u64::MAX, |at| at / SUM_BYTES as u64)));
            if next >= u64::from(size.get()) {
                break;
            }
            let left = usize::try_from(u64::from(size.get()) - next).unwrap_or(PIECE_PAGES);
            let (bytes, sums) = reader.pages_and_sums(next, left.min(PIECE_PAGES))?;
            for (page, expected) in bytes.as_chunks::<PAGE_BYTES>().0.iter().zip(sums) {
                let index = PageIndex::new(u32::try_from(next).expect("a memory has 32 bits of pages"));
                let result = if sum(page) == expected { Ok(page) } else { Err(BadPage) };
                if (page != ZERO_PAGE || expected != 0) && visit(index, result).is_err() {
                    return Ok(Some(index));
                }
                next += 1;
            }
        }
        Ok(None)
    }
}

/// A page that is not the one its sum is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BadPage;

type CheckPage<'a> = dyn FnMut(PageIndex, Result<&Page, BadPage>) -> Result<(), ()> + 'a;

fn data_at(file: &dyn DiskFile, name: &str, from: u64) -> Result<Option<u64>> {
    if from >= file.len().map_err(|error| Error::reading(name, error))? {
        return Ok(None);
    }
    let range = file.data_ranges(from).map_err(|error| Error::reading(name, error))?;
    Ok(range.map(|range| range.start.max(from)))
}

fn opening(name: &str, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::damaged(name, 0, "it is missing");
    }
    Error::reading(name, error)
}

pub(crate) fn damaged_page(name: &str, id: MemoryId, index: PageIndex) -> Error {
    let at = u64::from(index.get()) * PAGE_BYTES as u64;
    Error::damaged(name, at, format_args!("page {index} of memory {id} does not match its sum"))
}

struct Reader {
    id: MemoryId,
    base: Arc<dyn DiskFile>,
    base_name: String,
    sum: Arc<dyn DiskFile>,
    sum_name: String,
}

impl Reader {
    fn open(files: &MemoryFiles, id: MemoryId) -> Result<Reader> {
        let (base, base_name) = files.open_to_read(id, MemoryFile::Base)?;
        let (sum, sum_name) = files.open_to_read(id, MemoryFile::Sum)?;
        Ok(Reader { id, base, base_name, sum, sum_name })
    }

    fn pages_and_sums(
        &self,
        first: u64,
        count: usize,
    ) -> Result<(Vec<u8>, impl Iterator<Item = u32> + use<>)> {
        let mut bytes = vec![0; count * PAGE_BYTES];
        read_or_zeros(&*self.base, &self.base_name, first * PAGE_BYTES as u64, &mut bytes)?;
        let mut sums = vec![0; count * SUM_BYTES];
        read_or_zeros(&*self.sum, &self.sum_name, first * SUM_BYTES as u64, &mut sums)?;
        let sums = sums.as_chunks::<SUM_BYTES>().0.iter().map(|sum| u32::from_le_bytes(*sum));
        Ok((bytes, sums.collect::<Vec<_>>().into_iter()))
    }

    fn pages(&self, first: u64, count: usize) -> Result<Vec<u8>> {
        let (bytes, sums) = self.pages_and_sums(first, count)?;
        for (place, (page, expected)) in bytes.chunks_exact(PAGE_BYTES).zip(sums).enumerate() {
            if sum(page) != expected {
                let index = u32::try_from(first + place as u64).expect("a memory has 32 bits of pages");
                return Err(damaged_page(&self.base_name, self.id, PageIndex::new(index)));
            }
        }
        Ok(bytes)
    }
}

/// Reads what the file has; what lies beyond its end is zeros.
fn read_or_zeros(file: &dyn DiskFile, name: &str, at: u64, into: &mut [u8]) -> Result<()> {
    let length = file.len().map_err(|error| Error::reading(name, error))?;
    let there = usize::try_from(length.saturating_sub(at)).map_or(into.len(), |there| there.min(into.len()));
    file.read_at(at, &mut into[..there]).map_err(|error| Error::reading(name, error))
}

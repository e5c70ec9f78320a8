//! A memory at one moment: kept in the store or in RAM, mapped privately any number of times.
//!
//! In the store it is a memory of its own; mappings are made of copies of it, since a canister's checkpoints write the file
//! that it is mapped from. In RAM it is a file without a name that every mapping shares: mapping costs the same at any size,
//! and each canister pays for the pages that it writes.
//!
//! Invariants:
//! - The bytes of an image that is mapped never change: one that is being uploaded is copied first.
//! - Pages of an image in RAM that are not in its set are zero.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bedstone_store::{Change, Class, Copied, MapSource, Memory, PageCount, PageIndex, Store};

use crate::error::Error;
use crate::pages::PageSet;
use crate::sys::{AnonymousFile, Mapping, PAGE, next_data};

/// Where snapshots, and what is made of them, are kept.
pub enum Keeping<'a> {
    /// In this process.
    InRam,
    /// In a store, with everything else that the change does.
    InStore {
        /// The store.
        store: &'a Store,
        /// What is going to be appended to it.
        change: &'a mut Change,
    },
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) enum Image {
    Stored(Memory),
    InRam(Arc<RamImage>),
}

/// The bytes of an image in RAM.
#[derive(Debug)]
pub(crate) struct RamImage {
    file: AnonymousFile,
    bytes: u64,
    pages: PageSet,
    is_mapped: AtomicBool,
}

/// A copy of a memory that waits for its place.
pub(crate) enum Copy {
    Stored { copied: Copied, bytes: u64 },
    InRam(Arc<RamImage>),
}

impl RamImage {
    /// Zeros.
    fn new(bytes: u64) -> Result<Self, Error> {
        let file = AnonymousFile::new(bytes).map_err(Error::machine)?;
        Ok(Self { file, bytes, pages: PageSet::default(), is_mapped: AtomicBool::new(false) })
    }

    /// What a mapping shows, of which only `pages` may be other than zero.
    pub fn of(mapping: &Mapping, pages: &PageSet) -> Result<Self, Error> {
        let mut image = Self::new(mapping.len() as u64)?;
        let mut bytes = [0; PAGE];
        for page in pages.iter() {
            mapping.read(page * PAGE, &mut bytes);
            if bytes != [0; PAGE] {
                image.write(page as u64 * PAGE as u64, &bytes)?;
            }
        }
        Ok(image)
    }

    fn copy(&self) -> Result<Self, Error> {
        let mut copy = Self::new(self.bytes)?;
        let mut bytes = [0; PAGE];
        for page in self.pages.iter() {
            self.file.read(page as u64 * PAGE as u64, &mut bytes).map_err(Error::machine)?;
            copy.write(page as u64 * PAGE as u64, &bytes)?;
        }
        Ok(copy)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write(at, bytes).map_err(Error::machine)?;
        let page = |at: u64| usize::try_from(at / PAGE as u64).expect("64-bit addresses");
        (page(at)..=page(at + bytes.len() as u64 - 1)).for_each(|page| self.pages.insert(page));
        Ok(())
    }

    /// Pages that may be other than zero.
    pub fn pages(&self) -> &PageSet {
        &self.pages
    }

    /// Fills new mappings.
    pub fn fill(&self, mappings: &[&Mapping]) -> Result<(), Error> {
        self.is_mapped.store(true, Ordering::Relaxed);
        let len = len(self.bytes);
        mappings
            .iter()
            .try_for_each(|mapping| mapping.map_file(self.file.as_fd(), len))
            .map_err(Error::machine)
    }
}

impl Image {
    /// Zeros, to be written: `bytes` of at most `capacity`, whole pages.
    pub fn zeros(bytes: u64, capacity: u64, keeping: &mut Keeping<'_>) -> Result<Self, Error> {
        let pages = |bytes| PageCount::from_bytes(bytes).expect("whole pages");
        Ok(match keeping {
            Keeping::InRam => Self::InRam(Arc::new(RamImage::new(bytes)?)),
            Keeping::InStore { change, .. } => {
                let memory = change.create(pages(capacity)).map_err(Error::store)?;
                if bytes > 0 {
                    change.grow(&memory, pages(bytes));
                }
                Self::Stored(memory)
            }
        })
    }

    /// A copy of it, which waits for its place.
    pub fn copy(&self, keeping: &Keeping<'_>) -> Result<Copy, Error> {
        match (self, keeping) {
            (Self::InRam(image), _) => Ok(Copy::InRam(Arc::clone(image))),
            (Self::Stored(memory), Keeping::InStore { store, .. }) => {
                Ok(copies(store, std::slice::from_ref(memory))?.pop().expect("a copy of one memory"))
            }
            (Self::Stored(_), Keeping::InRam) => panic!("what is in a store is copied in the store"),
        }
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Stored(memory) => memory.pages().bytes(),
            Self::InRam(image) => image.bytes,
        }
    }

    /// Copies bytes out, all of them inside.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Error> {
        match self {
            Self::Stored(memory) => memory.read(at, into).map_err(Error::store),
            Self::InRam(image) => image.file.read(at, into).map_err(Error::machine),
        }
    }

    /// The first byte from `at` on that may be other than zero; at most the size.
    pub fn next_data(&self, at: u64) -> Result<u64, Error> {
        let next = match self {
            Self::InRam(image) => {
                let page = image.pages.next(len(at) / PAGE);
                page.map(|page| at.max(page as u64 * PAGE as u64))
            }
            Self::Stored(memory) => match memory.map_source().map_err(Error::store)? {
                MapSource::File(file) => next_data(file.as_fd(), at).map_err(Error::machine)?,
                _ => Some(at),
            },
        };
        Ok(next.unwrap_or(u64::MAX).min(self.bytes()))
    }

    /// Writes bytes, all of them inside, into an image that is being uploaded.
    pub fn write(&mut self, at: u64, bytes: &[u8], keeping: &mut Keeping<'_>) -> Result<(), Error> {
        match (self, keeping) {
            (Self::InRam(image), _) => {
                if image.is_mapped.load(Ordering::Relaxed) || Arc::get_mut(image).is_none() {
                    *image = Arc::new(image.copy()?);
                }
                Arc::get_mut(image).expect("just made").write(at, bytes)
            }
            (Self::Stored(memory), Keeping::InStore { change, .. }) => write_pages(memory, at, bytes, change),
            (Self::Stored(_), Keeping::InRam) => panic!("what is in a store is written in the store"),
        }
    }

    /// The memory of the store that it is.
    pub fn memory(&self) -> Option<&Memory> {
        match self {
            Self::Stored(memory) => Some(memory),
            Self::InRam(_) => None,
        }
    }
}

impl Copy {
    /// Gives it its place: an image that is never written.
    pub fn freeze(self, keeping: &mut Keeping<'_>) -> Image {
        match (self, keeping) {
            (Self::InRam(image), _) => Image::InRam(image),
            (Self::Stored { copied, .. }, Keeping::InStore { change, .. }) => {
                Image::Stored(change.create_copy(copied, Class::Frozen))
            }
            (Self::Stored { .. }, Keeping::InRam) => panic!("what was copied in a store stays there"),
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Stored { bytes, .. } => *bytes,
            Self::InRam(image) => image.bytes,
        }
    }
}

/// Copies of memories as they are after the last change.
pub(crate) fn copies(store: &Store, memories: &[Memory]) -> Result<Vec<Copy>, Error> {
    let ids: Vec<_> = memories.iter().map(Memory::id).collect();
    let copied = store.snapshot(&ids).map_err(Error::store)?;
    let bytes = memories.iter().map(|memory| memory.pages().bytes());
    Ok(copied.into_iter().zip(bytes).map(|(copied, bytes)| Copy::Stored { copied, bytes }).collect())
}

/// Adds to a change that a memory holds `bytes` from `at` on; pages that hold them already are not added.
fn write_pages(memory: &Memory, at: u64, bytes: &[u8], change: &mut Change) -> Result<(), Error> {
    let first = at / PAGE as u64;
    let within = (at % PAGE as u64) as usize;
    let mut before = vec![0; (within + bytes.len()).next_multiple_of(PAGE)];
    memory.read(first * PAGE as u64, &mut before).map_err(Error::store)?;
    let mut after = before.clone();
    after[within..within + bytes.len()].copy_from_slice(bytes);
    let pages = before.as_chunks::<PAGE>().0.iter().zip(after.as_chunks::<PAGE>().0);
    for (index, (before, after)) in (first..).zip(pages) {
        let index = PageIndex::new(u32::try_from(index).expect("memories have fewer than 2^32 pages"));
        change.page(memory, index, before, after);
    }
    Ok(())
}

/// Fills new mappings with a memory of the store that has so many bytes, from its file if it has one.
pub(crate) fn fill(memory: &Memory, bytes: u64, mappings: &[&Mapping]) -> Result<(), Error> {
    match memory.map_source().map_err(Error::store)? {
        MapSource::File(file) => mappings.iter().try_for_each(|mapping| map(mapping, &file, memory, bytes)),
        MapSource::Image(image) => {
            for mapping in mappings {
                mapping.grow_to(len(bytes)).map_err(Error::machine)?;
                for (page, contents) in image.nonzero_pages() {
                    mapping.write(page.get() as usize * PAGE, contents);
                }
            }
            Ok(())
        }
        _ => Err(Error::damaged("the store offers a memory in a way that this engine does not know")),
    }
}

/// Maps the file of a memory that has so many bytes.
pub(crate) fn map(
    mapping: &Mapping,
    file: &bedstone_store::BaseFile,
    memory: &Memory,
    bytes: u64,
) -> Result<(), Error> {
    mapping.map_file(file.as_fd(), len(bytes)).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::damaged(format!("the file of memory {} is shorter than the memory", memory.id()))
        }
        _ => Error::machine(error),
    })
}

fn len(bytes: u64) -> usize {
    usize::try_from(bytes).expect("64-bit addresses")
}

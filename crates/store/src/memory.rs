//! A memory as its users see it: a size, a limit, and a place to map it from or to read it.
//!
//! - A handle opens files when it needs them and keeps none open: a thousand memories need no thousand
//!   descriptors.
//! - What is read from files was verified page by page; what is mapped from them is not.
//! - A handle on a memory that was dropped stays readable: its files are removed after the last handle.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::core::Core;
use crate::disk::DiskFile;
use crate::error::Result;
use crate::guard::Health;
use crate::mutants::mutant;
use crate::page::{Lsn, MemoryId, PAGE_BYTES, Page, PageCount, PageIndex, ZERO_PAGE};
use crate::record::Class;
use crate::sync::lock;

/// A handle on one memory of a store; clones are the same memory.
#[derive(Clone)]
pub struct Memory {
    state: Arc<MemoryState>,
}

/// What a store knows of a memory after the last change that was appended.
pub(crate) struct MemoryState {
    pub(crate) id: MemoryId,
    pub(crate) capacity: PageCount,
    pub(crate) class: Class,
    pages: AtomicU32,
    /// The last record about it.
    last: AtomicU64,
    health: Arc<Health>,
    core: Weak<Core>,
    /// The pages, in a store without a directory.
    pub(crate) ram: Option<Mutex<Content>>,
}

/// Pages that are not all zero, in RAM. Shared with images being read, which keep seeing what they began
/// with.
pub(crate) type Content = Arc<BTreeMap<PageIndex, Arc<Page>>>;

impl MemoryState {
    pub(crate) fn new(
        core: &Arc<Core>,
        id: MemoryId,
        capacity: PageCount,
        class: Class,
        pages: PageCount,
    ) -> MemoryState {
        let ram = core.directory.is_none().then(Mutex::default);
        MemoryState {
            id,
            capacity,
            class,
            pages: AtomicU32::new(pages.get()),
            last: AtomicU64::new(0),
            health: core.health.clone(),
            core: Arc::downgrade(core),
            ram,
        }
    }

    pub(crate) fn pages(&self) -> PageCount {
        PageCount::new(self.pages.load(Ordering::Acquire))
    }

    pub(crate) fn last(&self) -> Lsn {
        Lsn::new(self.last.load(Ordering::Acquire))
    }

    /// A record about it was appended; it may have grown.
    pub(crate) fn changed(&self, lsn: Lsn, grow_to: Option<PageCount>) {
        if let Some(pages) = grow_to {
            self.pages.store(pages.get(), Ordering::Release);
        }
        self.last.store(lsn.get(), Ordering::Release);
    }

    /// The store it belongs to, as long as there is one and it is well.
    pub(crate) fn core(&self) -> Result<Arc<Core>> {
        self.health.check()?;
        self.core.upgrade().ok_or_else(|| {
            self.health.end("it was dropped");
            self.health.error()
        })
    }
}

impl Memory {
    pub(crate) fn new(state: MemoryState) -> Memory {
        Memory { state: Arc::new(state) }
    }

    pub(crate) fn of(state: Arc<MemoryState>) -> Memory {
        Memory { state }
    }

    pub(crate) fn state(&self) -> &Arc<MemoryState> {
        &self.state
    }

    /// The name under which the store knows it.
    pub fn id(&self) -> MemoryId {
        self.state.id
    }

    /// Whether it may be written.
    pub fn class(&self) -> Class {
        self.state.class
    }

    /// Its size after the last change that was appended.
    pub fn pages(&self) -> PageCount {
        self.state.pages()
    }

    /// The size beyond which it never grows.
    pub fn capacity(&self) -> PageCount {
        self.state.capacity
    }

    /// Where a mapping of it gets its bytes from. Waits until the file holds all that was appended.
    ///
    /// A mapping has to be private: the file is written by checkpoints alone. It stays valid when the source
    /// is gone.
    ///
    /// # Errors
    /// When the store has failed, or the file cannot be opened.
    pub fn map_source(&self) -> Result<MapSource> {
        let core = self.state.core()?;
        let Some(directory) = &core.directory else { return Ok(MapSource::Image(self.image_in_ram())) };
        if !mutant!(MAPPED_BEFORE_APPLIED) {
            core.settle(&self.state)?;
        }
        let file = directory.open_base(self.id())?;
        if file.map_fd().is_none() {
            return Ok(MapSource::Image(self.image()?));
        }
        Ok(MapSource::File(BaseFile(file)))
    }

    /// A copy of all pages that are not zero, verified.
    ///
    /// # Errors
    /// When the store has failed, or the files are damaged.
    pub fn image(&self) -> Result<Image> {
        let core = self.state.core()?;
        let Some(directory) = &core.directory else { return Ok(self.image_in_ram()) };
        core.settle(&self.state)?;
        let _nothing_is_applied = core.hold_checkpoint();
        let pages = self.pages();
        let mut content = BTreeMap::new();
        directory.visit_pages(&self.state, &mut |index, page| {
            content.insert(index, Arc::new(*page));
        })?;
        Ok(Image { pages, content: Arc::new(content) })
    }

    fn image_in_ram(&self) -> Image {
        let ram = self.state.ram.as_ref().expect("a store without a directory keeps pages in RAM");
        Image { pages: self.pages(), content: lock(ram).clone() }
    }

    /// Copies the bytes from `at` on, after all that was appended; verified.
    ///
    /// # Errors
    /// When the store has failed, or the files are damaged.
    ///
    /// # Panics
    /// When `into` reaches beyond the size of the memory.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        let core = self.state.core()?;
        let (pages, end) = (self.pages(), at.checked_add(into.len() as u64));
        assert!(
            end.is_some_and(|end| end <= pages.bytes()),
            "memory {}: {} bytes from {at} on are beyond its {pages} pages",
            self.id(),
            into.len(),
        );
        if let Some(directory) = &core.directory {
            core.settle(&self.state)?;
            let _nothing_is_applied = core.hold_checkpoint();
            return directory.read_memory(self.id(), at, into);
        }
        let image = self.image_in_ram();
        let mut at = at;
        let mut rest = into;
        while !rest.is_empty() {
            let index = u32::try_from(at / PAGE_BYTES as u64).expect("a memory has 32 bits of pages");
            let within = (at % PAGE_BYTES as u64) as usize;
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE_BYTES - within));
            let page = image.content.get(&PageIndex::new(index)).map_or(ZERO_PAGE, |page| page);
            now.copy_from_slice(&page[within..within + now.len()]);
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    pub(crate) fn belongs_to(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.state.health, &core.health)
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({}, {} of {} pages)", self.id(), self.pages(), self.capacity())
    }
}

/// Where a mapping of a memory gets its bytes from.
#[non_exhaustive]
pub enum MapSource {
    /// A file to be mapped privately; byte `i` of the memory is byte `i` of the file.
    File(BaseFile),
    /// There is no file to map: the bytes are to be copied into anonymous memory.
    Image(Image),
}

/// The file of a memory, open for as long as this lives.
pub struct BaseFile(Arc<dyn DiskFile>);

impl AsFd for BaseFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.map_fd().expect("it was made of a file that can be mapped")
    }
}

/// The content of a memory at one moment.
pub struct Image {
    pages: PageCount,
    content: Content,
}

impl Image {
    /// The size of the memory at that moment.
    pub fn pages(&self) -> PageCount {
        self.pages
    }

    /// The pages that are not all zero, ascending.
    pub fn nonzero_pages(&self) -> impl Iterator<Item = (PageIndex, &Page)> {
        self.content.iter().map(|(index, page)| (*index, &**page))
    }
}

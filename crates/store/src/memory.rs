//! A memory as its users see it: a size, a limit, and pages of which most are zero and absent.
//!
//! - Only a change that was appended alters a memory, and each such change is seen whole or not at all.
//! - Pages that hold nothing but zeros are absent from the image; pages beyond the size are always absent.
//! - A handle stays readable after its memory was dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::page::{MemoryId, PAGE_BYTES, Page, PageCount, PageIndex, ZERO_PAGE};

/// A handle on one memory of a store; clones are the same memory.
#[derive(Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    id: MemoryId,
    capacity: PageCount,
    health: Arc<Health>,
    content: Mutex<Content>,
}

/// What a memory holds after some change.
#[derive(Clone, Default)]
pub(crate) struct Content {
    /// Every page of the image is below this size.
    pub(crate) pages: PageCount,
    /// The pages that are not all zero. Shared with images being read, which keep seeing what they began
    /// with.
    pub(crate) image: Arc<PageMap>,
}

pub(crate) type PageMap = BTreeMap<PageIndex, Arc<Page>>;

impl Content {
    pub(crate) fn page(&self, index: PageIndex) -> &Page {
        self.image.get(&index).map_or(ZERO_PAGE, |page| page)
    }
}

/// A memory after a change that was checked: the new size, and the pages that are replaced.
pub(crate) struct Staged {
    pub(crate) pages: PageCount,
    pub(crate) replaced: BTreeMap<PageIndex, Page>,
}

impl Memory {
    pub(crate) fn new(id: MemoryId, capacity: PageCount, health: Arc<Health>, content: Content) -> Memory {
        Memory { shared: Arc::new(Shared { id, capacity, health, content: Mutex::new(content) }) }
    }

    /// The name under which the store knows it.
    pub fn id(&self) -> MemoryId {
        self.shared.id
    }

    /// Its size after the last change that was appended.
    pub fn pages(&self) -> PageCount {
        self.content().pages
    }

    /// The size beyond which it never grows.
    pub fn capacity(&self) -> PageCount {
        self.shared.capacity
    }

    /// Where a mapping of it gets its bytes from.
    pub fn map_source(&self) -> MapSource<'_> {
        let content = self.content().clone();
        MapSource::Image(Image { content, _memory: std::marker::PhantomData })
    }

    /// Copies the bytes from `at` on.
    ///
    /// # Panics
    /// When `into` reaches beyond the size of the memory.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<()> {
        self.shared.health.check()?;
        let content = self.content().clone();
        let end = at.checked_add(into.len() as u64);
        assert!(
            end.is_some_and(|end| end <= content.pages.bytes()),
            "memory {}: {} bytes from {at} on are beyond its {} pages",
            self.id(),
            into.len(),
            content.pages
        );
        let mut at = at;
        let mut rest = into;
        while !rest.is_empty() {
            let index =
                u32::try_from(at / PAGE_BYTES as u64).expect("the size of a memory has 32 bits of pages");
            let within = (at % PAGE_BYTES as u64) as usize;
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE_BYTES - within));
            now.copy_from_slice(&content.page(PageIndex::new(index))[within..within + now.len()]);
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Puts a checked change into effect.
    pub(crate) fn install(&self, staged: Staged) {
        let mut content = self.content();
        content.pages = staged.pages;
        if staged.replaced.is_empty() {
            return;
        }
        let image = Arc::make_mut(&mut content.image);
        for (index, page) in staged.replaced {
            if page == *ZERO_PAGE {
                image.remove(&index);
            } else {
                image.insert(index, Arc::new(page));
            }
        }
    }

    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        // A change is checked before it is installed, and installing does not panic: no content is ever half
        // new.
        self.shared.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn belongs_to(&self, health: &Arc<Health>) -> bool {
        Arc::ptr_eq(&self.shared.health, health)
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Memory({}, {} of {} pages)", self.id(), self.pages(), self.capacity())
    }
}

/// Where a mapping of a memory gets its bytes from.
#[non_exhaustive]
pub enum MapSource<'a> {
    /// There is no file: the bytes are to be copied into anonymous memory.
    Image(Image<'a>),
}

/// The content of a memory at one moment.
pub struct Image<'a> {
    content: Content,
    _memory: std::marker::PhantomData<&'a Memory>,
}

impl Image<'_> {
    /// The size of the memory at that moment.
    pub fn pages(&self) -> PageCount {
        self.content.pages
    }

    /// The pages that are not all zero, ascending.
    pub fn nonzero_pages(&self) -> impl Iterator<Item = (PageIndex, &Page)> {
        self.content.image.iter().map(|(index, page)| (*index, &**page))
    }
}

/// Whether a store may still be used; also tells one store's memories from another's.
#[derive(Default)]
pub(crate) struct Health {
    ended: OnceLock<String>,
}

impl Health {
    pub(crate) fn check(&self) -> Result<()> {
        match self.ended.get() {
            None => Ok(()),
            Some(why) => {
                Err(Error::new(ErrorKind::Poisoned, format!("the store must be opened again: {why}")))
            }
        }
    }

    /// From now on every call fails; the first reason is the one that is told.
    pub(crate) fn end(&self, why: impl Into<String>) {
        let _ = self.ended.set(why.into());
    }
}

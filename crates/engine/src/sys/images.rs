//! Pre-images of pages that are written by Wasm: kept by the handler when a page is opened, or at the call if it is open.
//!
//! A write is announced before it happens ([`Mapping::expect_writes`]), which makes the room; the first fault inside what was
//! announced keeps all of its closed pages and opens them together.
//!
//! Invariants:
//! - At most one announcement is open: a write follows its announcement before the next one.
//! - The handler finds room for what was announced; it never makes any.
//! - Used by the thread that may write the mapping: no reference into the cell outlives a call, and no call faults while it
//!   has one ([`Mapping::write`] opens pages first), so the handler never meets another.

use std::cell::UnsafeCell;
use std::ops::Range;

use super::{Mapping, PAGE};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Images(UnsafeCell<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Pages, in the order in which they were kept.
    pages: Vec<u32>,
    /// What they held, in the same order.
    bytes: Vec<u8>,
    /// Pages that are about to be written.
    announced: Range<usize>,
    /// Pages from here on need no image.
    below: usize,
}

impl Images {
    fn with<R>(&self, work: impl FnOnce(&mut Kept) -> R) -> R {
        // SAFETY: one thread at a time uses the mapping, and no call of this function happens inside another: `work` neither
        // calls it nor faults, and is over when it returns (the module's invariants).
        work(unsafe { &mut *self.0.get() })
    }

    /// In the handler: keeps the closed pages of the announcement that this page is part of, which are to be opened.
    pub fn keep_announced(&self, mapping: &Mapping, page: usize) -> Option<Range<usize>> {
        self.with(|kept| {
            let announced = kept.announced.clone();
            if !announced.contains(&page) {
                return None;
            }
            kept.announced = 0..0;
            for page in announced.clone().filter(|page| !mapping.is_open(*page)) {
                if page < kept.below && !kept.keep_if_room(mapping, page) {
                    return None;
                }
            }
            Some(announced)
        })
    }
}

impl Kept {
    fn keep(&mut self, mapping: &Mapping, page: usize) {
        self.pages.push(u32::try_from(page).expect("500 GiB are fewer than 2^32 pages"));
        mapping.append_to(page * PAGE, PAGE, &mut self.bytes);
    }

    fn keep_if_room(&mut self, mapping: &Mapping, page: usize) -> bool {
        let room = self.pages.len() < self.pages.capacity()
            && self.bytes.capacity() - self.bytes.len() >= PAGE
            && u32::try_from(page).is_ok();
        if room {
            self.keep(mapping, page);
        }
        room
    }
}

/// Capacity that an idle mapping may keep.
const BYTES_KEPT: usize = 4 << 20;

/// Of mappings that keep images ([`Protected::Imaged`](super::Protected::Imaged)).
impl Mapping {
    fn images(&self) -> &Images {
        let images = self.protection.as_ref().and_then(|protection| protection.images.as_ref());
        images.expect("the mapping keeps images")
    }

    /// Whether it keeps images.
    pub fn keeps_images(&self) -> bool {
        self.protection.as_ref().is_some_and(|protection| protection.images.is_some())
    }

    /// From now on all present pages need an image. Not while others read.
    pub fn begin_images(&self) {
        if !self.has_readers() {
            self.images().with(|kept| kept.below = self.pages());
        }
    }

    /// Keeps an image of a page now.
    pub fn keep_image(&self, page: usize) {
        self.images().with(|kept| kept.keep(self, page));
    }

    /// These pages are about to be written by Wasm; the closed ones are kept and opened when the first of them is.
    pub fn expect_writes(&self, pages: Range<usize>) {
        self.images().with(|kept| {
            kept.pages.reserve(pages.len());
            kept.bytes.reserve(pages.len() * PAGE);
            kept.announced = pages;
        });
    }

    /// How many images there are.
    pub fn image_count(&self) -> usize {
        self.images().with(|kept| kept.pages.len())
    }

    /// Calls `visit` with each image: page and bytes.
    pub fn each_image(&self, mut visit: impl FnMut(usize, &[u8; PAGE])) {
        self.images().with(|kept| {
            for (page, bytes) in kept.pages.iter().zip(kept.bytes.as_chunks::<PAGE>().0) {
                visit(*page as usize, bytes);
            }
        });
    }

    /// Copies all images but the first `keep` back, the newest first, and forgets them.
    pub fn restore_images(&self, keep: usize) {
        self.images().with(|kept| {
            kept.announced = 0..0;
            let images = kept.pages.iter().zip(kept.bytes.as_chunks::<PAGE>().0);
            for (page, bytes) in images.skip(keep).rev() {
                self.write(*page as usize * PAGE, bytes);
            }
            kept.pages.truncate(keep);
            kept.bytes.truncate(keep * PAGE);
        });
    }

    /// Forgets all images.
    pub fn forget_images(&self) {
        self.images().with(|kept| {
            kept.announced = 0..0;
            kept.pages.clear();
            kept.bytes.clear();
            kept.pages.shrink_to(BYTES_KEPT / PAGE);
            kept.bytes.shrink_to(BYTES_KEPT);
        });
    }
}

//! Which stable pages a transaction touched, and what taking its writes back needs.
//!
//! The first write to a page calls [`StableTouched::touch_write`], which keeps the pre-image, unless the memory keeps it itself
//! (`sys::images`). Rollback copies pre-images back, newest first, so a page may be listed once per stage of an upgrade.
//!
//! Invariants:
//! - Between messages all marks of stable pages are clear, and both lists are empty.
//! - A page that has no image was not there, or was zero.

use bedstone_instrument::abi::tracking;

use crate::dirty::{Changed, Pages};
use crate::memory::Tracking;
use crate::outcome::Fault;
use crate::pages::PageSet;
use crate::sys::{Mapping, PAGE};

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stable pages touched by the transaction that runs, and what is needed to take its writes back.
#[derive(Debug, Default)]
pub(crate) struct StableTouched {
    /// Pages accessed by the running stage, in order of first access.
    accessed: Vec<u32>,
    /// Pages written, in order of first write in their stage, those of earlier stages first; with [`HAS_IMAGE`].
    written: Vec<u32>,
    /// Pre-images of the pages in `written` that have one, in the same order; of a memory that keeps them itself, none.
    undo: Vec<u8>,
    /// Where large undo areas come from and go back to.
    areas: Arc<UndoAreas>,
    /// The small one, while a large one is in use.
    own_area: Vec<u8>,
    /// Pages from `known_from` on that may hold something: those of them that are not in it are zero.
    filled: PageSet,
    /// Stable pages when this record was made, of which nothing is known; `None` before the first transaction.
    known_from: Option<usize>,
    /// How many of the images that the memory keeps belong to earlier stages.
    earlier_images: usize,
    /// How many of `written` belong to earlier stages.
    earlier: usize,
    /// Stable pages when the stage began: those beyond need no pre-image.
    stage_pages: usize,
    /// Stable pages when the transaction began.
    committed_pages: usize,
    /// Most pages that the stage may access.
    pub accessed_max: u64,
    /// Most pages that the stage may write.
    pub written_max: u64,
    /// Others read stable memory at the same time: a write ends the message with [`EXCLUSIVE`].
    pub is_shared: bool,
}

/// Code of the fault of a message that has to run alone. Never shown.
pub(crate) const EXCLUSIVE: u16 = 0;

/// Set in an entry of `written` that has a pre-image.
const HAS_IMAGE: u32 = 1 << 31;
const _: () = assert!(tracking::STABLE_MAP_BYTES < HAS_IMAGE as u64, "page indices leave the bit free");

const BOTH: u8 = tracking::STABLE_TOUCHED_WRITTEN | tracking::STABLE_TOUCHED_ACCESSED;

impl StableTouched {
    /// Pages accessed in this stage.
    pub fn accessed(&self) -> u64 {
        self.accessed.len() as u64
    }

    /// Pages written in this stage.
    pub fn written(&self) -> u64 {
        (self.written.len() - self.earlier) as u64
    }

    /// The pages `first..=last`, inside stable memory, are about to be read.
    pub fn touch_read(&mut self, tracking: &Tracking, first: u64, last: u64) -> Result<(), Fault> {
        let fresh = |page: &u64| tracking.stable_mark(*page) == 0;
        if !fresh(&first) && !fresh(&last) && last - first <= 1 {
            return Ok(()); // nearly every call of a host function
        }
        self.check_access((first..=last).filter(fresh).count() as u64)?;
        for page in (first..=last).filter(fresh) {
            tracking.set_stable_mark(page, tracking::STABLE_TOUCHED_ACCESSED);
            self.accessed.push(index(page));
        }
        Ok(())
    }

    /// The pages `first..=last`, inside stable memory, are about to be written; returns how many are written for the
    /// first time in this message.
    pub fn touch_write(
        &mut self,
        tracking: &Tracking,
        stable: &Mapping,
        first: u64,
        last: u64,
    ) -> Result<u64, Fault> {
        let mark = |page: u64| tracking.stable_mark(page);
        if mark(first) & mark(last) == BOTH && last - first <= 1 {
            return Ok(0); // nearly every call of a host function
        }
        if self.is_shared {
            return Err(Fault::new(EXCLUSIVE, "a write to a memory that others read"));
        }
        self.check_access((first..=last).filter(|page| mark(*page) == 0).count() as u64)?;
        let fresh = (first..=last).filter(|page| mark(*page) != BOTH).count() as u64;
        if self.written() + fresh > self.written_max {
            return Err(Fault::new(524, MODIFIED_LIMIT));
        }
        for page in first..=last {
            let before = mark(page);
            if before == BOTH {
                continue;
            }
            if before == 0 {
                self.accessed.push(index(page));
            }
            tracking.set_stable_mark(page, BOTH);
            self.keep_image(stable, page);
        }
        if stable.keeps_images() {
            stable.expect_writes(first as usize..last as usize + 1);
        }
        Ok(fresh)
    }

    /// A page is written for the first time in this stage.
    fn keep_image(&mut self, stable: &Mapping, page: u64) {
        let (entry, page) = (index(page), page as usize);
        if page >= self.stage_pages || !(stable.keeps_images() || self.may_hold(page)) {
            self.written.push(entry);
            return;
        }
        self.written.push(entry | HAS_IMAGE);
        if stable.keeps_images() {
            if stable.is_open(page) {
                stable.keep_image(page);
            }
            return; // a closed one is kept when it is opened
        }
        if self.undo.len() == self.undo.capacity() && self.undo.len() >= UNDO_BYTES_KEPT {
            let left = self.areas.exchange(&mut self.undo);
            if left.capacity() <= UNDO_BYTES_KEPT {
                self.own_area = left;
            }
        }
        stable.append_to(page * PAGE, PAGE, &mut self.undo);
    }

    fn check_access(&self, fresh: u64) -> Result<(), Fault> {
        if self.accessed() + fresh > self.accessed_max {
            return Err(Fault::new(524, ACCESSED_LIMIT));
        }
        Ok(())
    }

    /// Starts a transaction: nothing is touched.
    pub fn begin(&mut self, stable: &Mapping) -> io::Result<()> {
        debug_assert!(self.accessed.is_empty() && self.written.is_empty());
        self.committed_pages = stable.pages();
        self.stage_pages = self.committed_pages;
        self.known_from.get_or_insert(self.committed_pages);
        if stable.keeps_images() {
            stable.begin_images();
        }
        stable.close_if_all_open()
    }

    /// A record whose large undo areas come from `areas`.
    pub fn with_areas(areas: Arc<UndoAreas>) -> Self {
        Self { areas, ..Self::default() }
    }

    /// Whether a page of the stage's start may hold something else than zeros.
    fn may_hold(&self, page: usize) -> bool {
        self.known_from.is_none_or(|from| page < from) || self.filled.contains(page)
    }

    /// Pages that were written may hold something from now on.
    fn fill(&mut self, from: usize) {
        let Some(known_from) = self.known_from else { return };
        for page in &self.written[from..] {
            let page = (page & !HAS_IMAGE) as usize;
            if page >= known_from {
                self.filled.insert(page);
            }
        }
    }

    fn clear_marks(&mut self, tracking: &Tracking) {
        for page in self.accessed.drain(..) {
            tracking.set_stable_mark(page.into(), 0);
        }
    }

    /// Ends a stage whose changes stand as long as the transaction does: later stages count their pages afresh.
    pub fn end_stage(&mut self, tracking: &Tracking, stable: &Mapping) {
        self.clear_marks(tracking);
        self.fill(self.earlier);
        self.earlier = self.written.len();
        self.stage_pages = stable.pages();
        if stable.keeps_images() && !self.is_shared {
            self.earlier_images = stable.image_count();
            stable.begin_images();
        }
    }

    /// What the stages that ended since the transaction began wrote, as it is now.
    pub fn pages_written(&self, stable: &Mapping) -> Pages {
        Pages::of(stable, self.written.iter().map(|page| (page & !HAS_IMAGE) as usize))
    }

    /// In a transaction that has just begun: makes these changes, as a stage that has ended.
    pub fn write_pages(&mut self, changes: &Pages, tracking: &Tracking, stable: &Mapping) -> io::Result<()> {
        stable.grow_to(changes.bytes)?;
        for (page, contents) in &changes.pages {
            let mut entry = index(*page as u64);
            if *page < self.committed_pages {
                match stable.keeps_images() {
                    true => stable.keep_image(*page),
                    false => stable.append_to(page * PAGE, PAGE, &mut self.undo),
                }
                entry |= HAS_IMAGE;
            }
            self.written.push(entry);
            stable.write(page * PAGE, contents.as_slice());
        }
        self.end_stage(tracking, stable);
        Ok(())
    }

    /// Makes everything written since the transaction began permanent.
    pub fn commit(&mut self, tracking: &Tracking, stable: &Mapping, unsaved: &mut PageSet) -> io::Result<()> {
        self.clear_marks(tracking);
        self.fill(0);
        for page in self.written.drain(..) {
            unsaved.insert((page & !HAS_IMAGE) as usize);
        }
        self.forget(stable)
    }

    /// Makes everything written in a transaction of one stage permanent, and tells what it was.
    pub fn commit_and_tell(
        &mut self,
        tracking: &Tracking,
        stable: &Mapping,
        tell: Changed<'_>,
    ) -> io::Result<()> {
        self.clear_marks(tracking);
        self.fill(0);
        let mut images = self.undo.chunks_exact(PAGE);
        let mut after = [0; PAGE];
        if stable.keeps_images() {
            stable.each_image(|page, before| {
                stable.read(page * PAGE, &mut after);
                tell(page, before, &after);
            });
        }
        for page in self.written.drain(..) {
            let index = (page & !HAS_IMAGE) as usize;
            let before = match page & HAS_IMAGE {
                0 => &[0; PAGE],
                _ if stable.keeps_images() => continue,
                _ => images.next().and_then(<[u8]>::as_array).expect("an image for each page that has one"),
            };
            stable.read(index * PAGE, &mut after);
            let before = if mutant!(PRE_IMAGE_TAKEN_LATE) { &after } else { before };
            tell(index, before, &after);
        }
        self.forget(stable)
    }

    /// Takes back the running stage.
    pub fn roll_back_stage(&mut self, tracking: &Tracking, stable: &Mapping) -> io::Result<()> {
        self.clear_marks(tracking);
        self.restore(self.earlier, self.earlier_images, stable);
        if mutant!(SIZE_KEPT_ON_TRAP) {
            self.stage_pages = stable.pages();
            self.committed_pages = self.stage_pages;
        }
        stable.shrink_to(self.stage_pages * PAGE)
    }

    /// Takes back the stages that ended since the transaction began, after the running one was rolled back.
    pub fn roll_back_transaction(&mut self, stable: &Mapping) -> io::Result<()> {
        self.restore(0, 0, stable);
        stable.shrink_to(self.committed_pages * PAGE)?;
        self.forget(stable)
    }

    /// Copies the pre-images of `written[keep..]` back, newest first, of those that the memory keeps all but so many.
    fn restore(&mut self, keep: usize, keep_images: usize, stable: &Mapping) {
        if stable.keeps_images() {
            if !self.is_shared {
                stable.restore_images(keep_images);
            }
            self.written.truncate(keep);
            return;
        }
        let mut end = self.undo.len();
        for page in self.written.drain(keep..).rev() {
            if page & HAS_IMAGE != 0 {
                if !mutant!(PRE_IMAGE_TAKEN_LATE) {
                    stable.write((page & !HAS_IMAGE) as usize * PAGE, &self.undo[end - PAGE..end]);
                }
                end -= PAGE;
            } else if (page as usize) < self.stage_pages {
                stable.write(page as usize * PAGE, &[0; PAGE]);
            }
        }
        self.undo.truncate(end);
    }

    fn forget(&mut self, stable: &Mapping) -> io::Result<()> {
        self.undo.clear();
        if self.undo.capacity() > UNDO_BYTES_KEPT {
            let own_area = std::mem::take(&mut self.own_area);
            self.areas.give_back(std::mem::replace(&mut self.undo, own_area));
        }
        self.earlier = 0;
        self.earlier_images = 0;
        if self.is_shared || !stable.keeps_images() {
            return Ok(());
        }
        stable.forget_images();
        stable.close_if_many_open()
    }
}

/// Capacity of the undo area that an idle canister may keep.
const UNDO_BYTES_KEPT: usize = 256 << 10;

/// A large undo area that any canister may use next. Fresh memory costs a page fault for each page: several times what is to
/// be kept there.
#[derive(Debug, Default)]
pub(crate) struct UndoAreas {
    spare: Mutex<Vec<u8>>,
}

/// Capacity of an area that is kept.
const AREA_BYTES_MAX: usize = 256 << 20;

impl UndoAreas {
    /// Moves what is in `undo` to the spare area, if that is larger; returns the area that it was in, empty.
    fn exchange(&self, undo: &mut Vec<u8>) -> Vec<u8> {
        let mut area = std::mem::take(&mut *self.spare());
        if area.capacity() <= undo.capacity() {
            return Vec::new();
        }
        area.extend_from_slice(undo);
        let mut own_area = std::mem::replace(undo, area);
        own_area.clear();
        own_area
    }

    /// Keeps an area unless the spare one is larger, or this one too large.
    fn give_back(&self, mut area: Vec<u8>) {
        area.clear();
        let mut spare = self.spare();
        if (spare.capacity()..=AREA_BYTES_MAX).contains(&area.capacity()) {
            *spare = area;
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<u8>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn index(page: u64) -> u32 {
    u32::try_from(page).expect("500 GiB are fewer than 2^32 pages")
}

const MODIFIED_LIMIT: &str = "Canister exceeded memory access limits: Exceeded the limit for the number of modified \
     pages in the stable memory in a single execution: limit 2097152 KB for regular messages, 8388608 KB for upgrade \
     messages and 1048576 KB for queries.";
const ACCESSED_LIMIT: &str = "Canister exceeded memory access limits: Exceeded the limit for the number of accessed \
     pages in the stable memory in a single message execution: limit 2097152 KB for regular messages and 1048576 KB \
     for queries.";

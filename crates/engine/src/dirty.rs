//! What a message changed in its declared memories: from marks to committed or rolled-back pages.
//!
//! Wasm marks pages (see `instrument::barrier`); a second mapping, the *shadow*, holds the committed image. Commit compares each
//! marked page with the shadow and copies what differs; rollback copies back. Of several declared memories each is a heap. Under
//! the fault tracker there are no marks: the pages that were opened (`sys::protect`) take their place. Stable memory is in
//! `touched`.
//!
//! Invariants:
//! - Between messages: live heap = shadow in every byte, and all marks are clear.
//! - During one, a page of a heap that differs from the shadow is marked, or open.
//! - Work is proportional to the pages touched, except the walk over the heap maps (one byte per heap page).

use crate::pages::PageSet;
use crate::sys::{Mapping, PAGE};

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// Is told of each page that a message changed: its index, what it held before, what it holds now.
pub(crate) type Changed<'a> = &'a mut dyn FnMut(usize, &[u8; PAGE], &[u8; PAGE]);

/// Where the marks of one memory stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks<'a> {
    pub tracking: &'a Mapping,
    /// Where its map starts in the tracking memory.
    pub map: usize,
}

/// Some pages of a memory, and its size.
#[derive(Debug)]
pub(crate) struct Pages {
    pub bytes: usize,
    /// Each page once.
    pub pages: Vec<(usize, Box<[u8; PAGE]>)>,
}

impl Pages {
    /// Copies these pages, any of them named any number of times.
    pub fn of(memory: &Mapping, pages: impl Iterator<Item = usize>) -> Self {
        let pages = pages.collect::<BTreeSet<usize>>().into_iter().map(|page| {
            let mut contents = Box::new([0; PAGE]);
            memory.read(page * PAGE, contents.as_mut_slice());
            (page, contents)
        });
        Self { bytes: memory.len(), pages: pages.collect() }
    }
}

/// A declared memory and its committed image.
#[derive(Debug)]
pub(crate) struct Heap {
    pub live: Arc<Mapping>,
    /// The image at the end of the last stage.
    shadow: Arc<Mapping>,
    /// Pages of the image that changed.
    changes: ChangeList,
    /// The image is another heap's, and is not written.
    is_replica: bool,
    /// Pre-images of pages changed by earlier stages of the transaction: page and bytes.
    staged: Vec<(usize, Box<[u8; PAGE]>)>,
    /// Bytes at the start of the transaction.
    committed_len: usize,
    /// Pages changed since the last save.
    pub unsaved: PageSet,
    /// Whether the store has nothing of it: what stands there under its index is another memory.
    pub never_saved: bool,
}

impl Heap {
    /// A heap whose present contents are committed.
    pub fn new(live: Arc<Mapping>, shadow: Mapping) -> Self {
        let committed_len = live.len();
        Self {
            live,
            shadow: Arc::new(shadow),
            changes: ChangeList::default(),
            is_replica: false,
            staged: Vec::new(),
            committed_len,
            unsaved: PageSet::default(),
            never_saved: true,
        }
    }

    /// Both images, to be filled with the same contents before any message.
    pub fn images(&self) -> [&Mapping; 2] {
        [&self.live, &self.shadow]
    }

    /// Writes initial contents: before any message, to both images.
    pub fn initialise(&mut self, at: usize, bytes: &[u8]) {
        self.live.write(at, bytes);
        self.shadow.write(at, bytes);
        if !bytes.is_empty() {
            for page in at / PAGE..=(at + bytes.len() - 1) / PAGE {
                self.unsaved.insert(page);
            }
        }
    }

    /// Before a transaction.
    pub fn begin(&self) -> io::Result<()> {
        self.live.close_if_all_open()
    }

    /// Calls `visit` with every page that may have changed, ascending, and clears the marks; it tells whether the page has.
    /// The byte of page `p` stands for `p` and `p + 1`. The processor is asked for each page, here and in the image, one visit
    /// ahead.
    fn take_marked(&self, marks: Marks<'_>, mut visit: impl FnMut(usize) -> bool) -> io::Result<()> {
        if self.live.is_protected() {
            return self.live.sweep(visit);
        }
        let pages = self.live.pages();
        let Marks { tracking, map } = marks;
        let mut next = 0;
        let mut ahead = None;
        tracking.each_set_byte(map, pages, |page| {
            tracking.set_byte(map + page, 0);
            for candidate in page.max(next)..(page + 2).min(pages) {
                self.live.expect_page(candidate);
                self.shadow.expect_page(candidate);
                if let Some(page) = ahead.replace(candidate) {
                    visit(page);
                }
            }
            next = next.max(page + 2);
        });
        if let Some(page) = ahead {
            visit(page);
        }
        Ok(())
    }

    /// Ends a stage that succeeded: its contents become the image that the next stage is compared with. The transaction
    /// may still be rolled back. Returns how many pages changed.
    pub fn end_stage(&mut self, marks: Marks<'_>) -> io::Result<u64> {
        self.take_changes(marks, true, None)
    }

    /// Commits a transaction of one stage; returns how many pages changed. They are told to `tell`, if it is there, and
    /// otherwise remembered as unsaved.
    pub fn commit(&mut self, marks: Marks<'_>, tell: Option<Changed<'_>>) -> io::Result<u64> {
        let changed = self.take_changes(marks, false, tell)?;
        self.settle();
        Ok(changed)
    }

    fn take_changes(
        &mut self,
        marks: Marks<'_>,
        keep_undo: bool,
        mut tell: Option<Changed<'_>>,
    ) -> io::Result<u64> {
        self.shadow.grow_to(self.live.len())?;
        let mut changed = 0;
        let mut changes = std::mem::take(&mut self.changes);
        let mut staged = std::mem::take(&mut self.staged);
        let mut unsaved = std::mem::take(&mut self.unsaved);
        let (live, shadow) = (&self.live, &self.shadow);
        let taken = self.take_marked(marks, |page| {
            if !keep_undo && tell.is_none() {
                let differs = shadow.update_page_from(page, live);
                if differs {
                    changed += 1;
                    unsaved.insert(page);
                    changes.push(page);
                }
                return differs;
            }
            if live.page_equals(page, shadow) {
                return false;
            }
            changed += 1;
            if keep_undo {
                let mut before = Box::new([0; PAGE]);
                shadow.read(page * PAGE, before.as_mut_slice());
                staged.push((page, before));
            }
            match &mut tell {
                Some(tell) => {
                    let (mut before, mut after) = ([0; PAGE], [0; PAGE]);
                    shadow.read(page * PAGE, &mut before);
                    live.read(page * PAGE, &mut after);
                    tell(page, &before, &after);
                }
                None => unsaved.insert(page),
            }
            shadow.update_page_from(page, live);
            changes.push(page);
            true
        });
        (self.changes, self.staged, self.unsaved) = (changes, staged, unsaved);
        taken?;
        Ok(changed)
    }

    /// Takes back the running stage; returns how many pages it had changed.
    pub fn roll_back_stage(&mut self, marks: Marks<'_>) -> io::Result<u64> {
        let stage_len = self.shadow.len();
        if !self.is_replica {
            self.shadow.grow_to(self.live.len())?;
        }
        let mut changed = 0;
        let (live, shadow) = (&self.live, &self.shadow);
        let imaged = shadow.pages();
        self.take_marked(marks, |page| {
            let differs = page < imaged && live.update_page_from(page, shadow);
            if differs {
                changed += 1;
            }
            differs
        })?;
        self.shadow.shrink_to(stage_len)?;
        self.live.shrink_to(stage_len)?;
        Ok(changed)
    }

    /// Takes back the stages that ended since the transaction began, after the running one was rolled back.
    pub fn roll_back_transaction(&mut self) -> io::Result<()> {
        for (page, before) in self.staged.drain(..).rev() {
            self.live.write(page * PAGE, before.as_slice());
            self.shadow.write(page * PAGE, before.as_slice());
            self.changes.push(page);
        }
        self.live.shrink_to(self.committed_len)?;
        self.shadow.shrink_to(self.committed_len)
    }

    /// What the stages that ended since the transaction began changed, as it is now.
    pub fn staged_pages(&self) -> Pages {
        Pages::of(&self.live, self.staged.iter().map(|(page, _)| *page))
    }

    /// Begins a transaction with a stage that has ended and made these changes.
    pub fn stage_pages(&mut self, changes: &Pages) -> io::Result<()> {
        debug_assert!(self.staged.is_empty() && self.committed_len == self.live.len());
        self.live.grow_to(changes.bytes)?;
        self.shadow.grow_to(changes.bytes)?;
        for (page, contents) in &changes.pages {
            let mut before = Box::new([0; PAGE]);
            self.shadow.read(page * PAGE, before.as_mut_slice());
            self.staged.push((*page, before));
            self.live.write(page * PAGE, contents.as_slice());
            self.shadow.write(page * PAGE, contents.as_slice());
        }
        Ok(())
    }

    /// Ends a transaction that succeeded.
    pub fn settle(&mut self) {
        self.staged.clear();
        self.committed_len = self.live.len();
    }
}

/// Pages of a heap in the order in which they changed, as far back as there is room.
#[derive(Debug, Default)]
pub(crate) struct ChangeList {
    /// How many were forgotten.
    forgotten: u64,
    pages: Vec<u32>,
}

/// Then half of them are forgotten: copying so many pages one by one is no better than copying all.
const CHANGES_MAX: usize = 65_536;

impl ChangeList {
    fn push(&mut self, page: usize) {
        if self.pages.len() == CHANGES_MAX {
            self.pages.drain(..CHANGES_MAX / 2);
            self.forgotten += CHANGES_MAX as u64 / 2;
        }
        self.pages.push(u32::try_from(page).expect("a heap has fewer than 2^32 pages"));
    }

    /// Where it ends.
    fn end(&self) -> u64 {
        self.forgotten + self.pages.len() as u64
    }

    /// Those since an end; `None` if some are forgotten.
    fn since(&self, end: u64) -> Option<&[u32]> {
        let at = end.checked_sub(self.forgotten)?;
        self.pages.get(usize::try_from(at).ok()?..)
    }
}

/// Heaps for others to run queries on.
impl Heap {
    /// A heap with the committed contents of this one, which goes on without it, and how far it has come.
    pub fn replica(&self) -> io::Result<(Heap, u64)> {
        let live = Arc::new(crate::memory::heap_mapping(self.shadow.len(), self.live.is_protected())?);
        self.shadow.each_page(|page, bytes| live.write(page * PAGE, bytes));
        let replica = Self {
            live,
            shadow: Arc::clone(&self.shadow),
            changes: ChangeList::default(),
            is_replica: true,
            staged: Vec::new(),
            committed_len: self.shadow.len(),
            unsaved: PageSet::default(),
            never_saved: true,
        };
        Ok((replica, self.changes.end()))
    }

    /// Brings a replica of this heap from where it was to the present contents; `None` if it has to be made anew.
    pub fn bring_on(&self, replica: &mut Heap, from: u64) -> io::Result<Option<u64>> {
        let Some(pages) = self.changes.since(from) else { return Ok(None) };
        if !Arc::ptr_eq(&self.shadow, &replica.shadow) || self.shadow.len() < replica.committed_len {
            return Ok(None);
        }
        replica.live.grow_to(self.shadow.len())?;
        replica.committed_len = self.shadow.len();
        let imaged = self.shadow.pages();
        for page in pages.iter().map(|page| *page as usize).filter(|page| *page < imaged) {
            replica.live.copy_page_from(page, &self.shadow);
        }
        Ok(Some(self.changes.end()))
    }
}

//! Write protection of a mapping's pages, by which the fault tracker finds those that are written.
//!
//! | a page that is | protection | its byte in the table | is listed |
//! |---|---|---|---|
//! | closed | read | 0 | nowhere |
//! | open | read and write | how many more sweeps it stays so unchanged | in a run |
//! | open with the end | read and write | any | from `open_from` on |
//! | beyond the length | none | 0 | nowhere |
//!
//! Wasm opens pages by faulting (`fault`), the engine by writing through [`Mapping`]. A new mapping is open from page 0 on, so
//! filling it costs nothing, until [`Mapping::close_if_all_open`].
//!
//! Invariants:
//! - A closed page holds what it held at the last sweep: what was written since then is open. Opening too much is harmless.
//! - Open runs are few: each splits the kernel's list of mappings, whose length is limited for the process. Where the room
//!   or the kernel refuses another, everything is opened, which needs no split.
//! - Changed only by the thread that may write the mapping: in host code, or in the handler that interrupted it.
//! - What the handler calls (`open_on_fault` and below) neither allocates, locks, waits nor panics.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use super::images::Images;
use super::{Mapping, PAGE, Shape};

/// What its owner does about written pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protected {
    /// Compares open pages with a copy: [`Mapping::sweep`].
    Compared,
    /// Announces writes, so that pages are copied before they are opened: [`Mapping::expect_writes`].
    Imaged,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Protection {
    /// Open runs, then a byte for each page.
    table: Mapping,
    runs: AtomicUsize,
    /// The first page of those that are open up to the end; [`NONE`] if there are none.
    open_from: AtomicUsize,
    /// Growing by at most so many pages leaves them open.
    growth_left_open: usize,
    /// Faults since the last sweep.
    faults: AtomicUsize,
    /// Everything stays open: the last message wrote more than could stay open by itself, and the next one is expected to.
    expects_much: AtomicBool,
    /// The kernel refused to open a page.
    failed: AtomicBool,
    pub images: Option<Images>,
}

const NONE: usize = usize::MAX;

/// Most runs of one mapping.
const RUNS_MAX: usize = 8192;
/// Bytes of a run: first page and number of pages, 32 bits each.
const RUN_BYTES: usize = 8;
/// Where the pages' bytes begin in the table.
const LIVES: usize = RUNS_MAX * RUN_BYTES;
const _: () = assert!(LIVES.is_multiple_of(PAGE));

/// Most runs of all mappings together. Each takes two of the 65,530 mappings that the kernel allows by default.
const OPEN_RUNS_MAX: usize = 16_384;
static OPEN_RUNS: AtomicUsize = AtomicUsize::new(0);

/// Most runs of one mapping that stay open between messages, of at most so many pages.
const KEPT_RUNS_MAX: usize = 2048;
const KEPT_PAGES_MAX: usize = 8192;
/// Sweeps that a page stays open without a change: comparing it so often costs less than opening it again, which is dear
/// for a page that was opened by itself, and cheap for one that was opened with others.
const LIVES_BY_ITSELF: u8 = 8;
const LIVES_WITH_OTHERS: u8 = 2;
/// Bit of a page's byte: it was opened by itself.
const BY_ITSELF: u8 = 0x80;

/// A fault costs as much as comparing so many pages that are not in the cache. After one fault for so many pages of a
/// mapping, but not before so many faults, all of it is opened: what is wasted is no more than what was of use.
const PAGES_PER_FAULT: usize = 16;
const FAULTS_MIN: usize = 64;

/// Growing a memory by at most a MiB opens what was added: comparing all of it costs less than faulting on a part.
const GROWTH_LEFT_OPEN: usize = 256;
/// Most pages opened at once where each fault follows on the last.
const AHEAD_MAX: usize = 64;
/// Closed pages between open ones that are closed again with them, to save a call.
const GAP: usize = 16;

const WRITABLE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;

impl Protection {
    fn new(capacity: usize, kind: Protected) -> io::Result<Self> {
        let bytes = (LIVES + capacity.div_ceil(PAGE)).next_multiple_of(PAGE);
        let shape = Shape { capacity: bytes, guard: 0, huge_pages: false, step: PAGE };
        Ok(Self {
            table: Mapping::with_len(shape, bytes)?,
            runs: AtomicUsize::new(0),
            open_from: AtomicUsize::new(0),
            growth_left_open: if kind == Protected::Imaged { NONE } else { GROWTH_LEFT_OPEN },
            faults: AtomicUsize::new(0),
            expects_much: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            images: (kind == Protected::Imaged).then(Images::default),
        })
    }

    fn lives(&self, page: usize) -> u8 {
        self.table.byte(LIVES + page)
    }

    fn set_lives(&self, page: usize, lives: u8) {
        self.table.set_byte(LIVES + page, lives);
    }

    fn is_open(&self, page: usize) -> bool {
        page >= self.open_from.load(Relaxed) || self.lives(page) > 0
    }

    fn run(&self, index: usize) -> Range<usize> {
        let mut bytes = [0; RUN_BYTES];
        self.table.read(index * RUN_BYTES, &mut bytes);
        let run = u64::from_le_bytes(bytes) as usize;
        let first = run >> 32;
        first..first + (run & 0xffff_ffff)
    }

    fn set_run(&self, index: usize, run: &Range<usize>) {
        let bytes = (run.start << 32 | run.len()) as u64;
        self.table.write(index * RUN_BYTES, &bytes.to_le_bytes());
    }

    fn last_run(&self) -> Option<Range<usize>> {
        self.runs.load(Relaxed).checked_sub(1).map(|last| self.run(last))
    }

    /// Lists a run, parts of which may be listed already; whether there was room.
    fn list(&self, run: &Range<usize>) -> bool {
        let count = self.runs.load(Relaxed);
        if let Some(last) = self.last_run()
            && last.end == run.start
        {
            self.set_run(count - 1, &(last.start..run.end));
        } else {
            if count == RUNS_MAX || OPEN_RUNS.load(Relaxed) >= OPEN_RUNS_MAX {
                return false;
            }
            OPEN_RUNS.fetch_add(1, Relaxed);
            self.set_run(count, run);
            self.runs.store(count + 1, Relaxed);
        }
        for page in run.clone() {
            if self.lives(page) == 0 {
                self.set_lives(page, 1);
            }
        }
        true
    }

    /// Takes all runs off the list, as they were listed; the pages' bytes stay.
    fn take_runs(&self) -> Vec<Range<usize>> {
        let count = self.runs.swap(0, Relaxed);
        OPEN_RUNS.fetch_sub(count, Relaxed);
        (0..count).map(|index| self.run(index)).collect()
    }

    fn clear_lives(&self, run: &Range<usize>) {
        run.clone().for_each(|page| self.set_lives(page, 0));
    }

    /// The mapping is about to have `len` bytes, more than `old`; whether the new ones are to be open.
    pub fn opens_growth(&self, old: usize, len: usize) -> bool {
        let (old, pages) = (old / PAGE, len / PAGE);
        match self.open_from.load(Relaxed) {
            0 => true,
            NONE if pages - old <= self.growth_left_open => {
                self.open_from.store(old, Relaxed);
                true
            }
            NONE => false,
            _ if pages - old <= self.growth_left_open => true,
            first if self.list(&(first..old)) => {
                self.open_from.store(NONE, Relaxed);
                false
            }
            _ => true,
        }
    }

    /// The mapping has only so many pages left.
    pub fn truncate(&self, pages: usize) {
        let open_from = self.open_from.load(Relaxed);
        if open_from >= pages && open_from > 0 {
            self.open_from.store(NONE, Relaxed);
        }
        let count = self.runs.load(Relaxed);
        let mut kept = 0;
        for run in (0..count).map(|index| self.run(index)) {
            self.clear_lives(&(run.start.max(pages)..run.end));
            if run.start < pages {
                self.set_run(kept, &(run.start..run.end.min(pages)));
                kept += 1;
            }
        }
        self.runs.store(kept, Relaxed);
        OPEN_RUNS.fetch_sub(count - kept, Relaxed);
    }

    /// All pages have become writable.
    pub fn set_all_open(&self) {
        self.open_from.store(0, Relaxed);
    }
}

impl Drop for Protection {
    fn drop(&mut self) {
        OPEN_RUNS.fetch_sub(self.runs.load(Relaxed), Relaxed);
    }
}

/// Of mappings whose pages may be write-protected. On all others these do nothing.
impl Mapping {
    /// From now on its written pages are found. All are open as yet.
    pub fn with_protection(mut self, kind: Protected) -> io::Result<Self> {
        assert!(self.has_exact_length(), "what is beyond the length is inaccessible");
        self.protection = Some(Box::new(Protection::new(self.capacity(), kind)?));
        Ok(self)
    }

    /// Whether its written pages are found by their protection.
    pub fn is_protected(&self) -> bool {
        self.protection.is_some()
    }

    /// Whether a page can be written without a fault.
    pub fn is_open(&self, page: usize) -> bool {
        self.protection.as_ref().is_none_or(|protection| protection.is_open(page))
    }

    /// Opens the pages of so many bytes from `at` on.
    pub(super) fn open_bytes(&self, at: usize, bytes: usize) {
        if bytes == 0 || self.protection.is_none() {
            return;
        }
        let pages = at / PAGE..(at + bytes).div_ceil(PAGE);
        if pages.clone().any(|page| !self.is_open(page)) {
            let written = pages.len();
            assert!(self.open(&pages, written), "the kernel refuses to make a process's own memory writable");
        }
    }

    /// Opens pages, of which the first so many are written now; `false` if the kernel refuses.
    fn open(&self, pages: &Range<usize>, written: usize) -> bool {
        let Some(protection) = &self.protection else { return true };
        let opened = self.protect(pages.start * PAGE, pages.end * PAGE, WRITABLE).is_ok();
        if opened && protection.list(pages) {
            pages.clone().take(written).for_each(|page| protection.set_lives(page, lives_anew(BY_ITSELF)));
            return true;
        }
        self.open_everything()
    }

    /// Opens all pages; `false` if the kernel refuses.
    fn open_everything(&self) -> bool {
        let Some(protection) = &self.protection else { return true };
        let opened = self.protect(0, self.len(), WRITABLE).is_ok();
        if opened {
            protection.set_all_open();
        } else {
            protection.failed.store(true, Relaxed);
        }
        opened
    }

    /// In the handler: a write at this address faulted. Opens its page if it is a closed one of this mapping.
    pub(super) fn open_on_fault(&self, address: usize) -> bool {
        let Some(protection) = &self.protection else { return false };
        let at = address.wrapping_sub(self.base().addr());
        let page = at / PAGE;
        if at >= self.len() || protection.is_open(page) {
            return false;
        }
        let Some(images) = &protection.images else {
            let faults = protection.faults.fetch_add(1, Relaxed);
            if faults > FAULTS_MIN.max(self.pages() / PAGES_PER_FAULT) {
                return self.open_everything();
            }
            let ahead = match protection.last_run() {
                Some(last) if last.end == page => last.len().min(AHEAD_MAX),
                _ => 1,
            };
            return self.open(&(page..(page + ahead).min(self.pages())), 1);
        };
        match images.keep_announced(self, page) {
            Some(announced) => self.open(&announced, 0),
            None => {
                protection.failed.store(true, Relaxed);
                false
            }
        }
    }

    /// Closes everything if everything is open: nothing that was written is to be found any more. Not while others read.
    pub fn close_if_all_open(&self) -> io::Result<()> {
        match &self.protection {
            Some(protection)
                if protection.open_from.load(Relaxed) == 0
                    && !protection.expects_much.load(Relaxed)
                    && !self.has_readers() =>
            {
                self.close_all()
            }
            _ => Ok(()),
        }
    }

    /// Closes what is open if it has become much, or a growth: nothing that was written is to be found any more.
    pub fn close_if_many_open(&self) -> io::Result<()> {
        match &self.protection {
            Some(protection)
                if protection.open_from.load(Relaxed) != NONE
                    || protection.runs.load(Relaxed) > KEPT_RUNS_MAX
                    || open_runs_are_many() =>
            {
                self.close_all()
            }
            _ => Ok(()),
        }
    }

    fn close_all(&self) -> io::Result<()> {
        let Some(protection) = &self.protection else { return Ok(()) };
        let mut runs = protection.take_runs();
        runs.iter().for_each(|run| protection.clear_lives(run));
        let open_from = protection.open_from.load(Relaxed).min(self.pages());
        if open_from == 0 {
            runs.clear();
        }
        self.write_once(open_from);
        protection.open_from.store(NONE, Relaxed);
        runs.push(open_from..self.pages());
        self.close(&runs)
    }

    /// Writes something to what is open from a page on. The kernel splits its mappings where protections differ, and joins
    /// them again only if they had been written to before they were split.
    pub(super) fn write_once(&self, open_from: usize) {
        for at in [open_from * PAGE, self.file_len()] {
            if at < self.len() && at >= open_from * PAGE {
                self.set_byte(at, self.byte(at));
            }
        }
    }

    /// Makes pages read only.
    fn close(&self, runs: &[Range<usize>]) -> io::Result<()> {
        let Some(protection) = &self.protection else { return Ok(()) };
        for run in runs.iter().filter(|run| !run.is_empty()) {
            if self.protect(run.start * PAGE, run.end * PAGE, libc::PROT_READ).is_err() {
                // No room for the split that this takes: without any there is room.
                self.protect(0, self.len(), WRITABLE)?;
                protection.set_all_open();
                return Ok(());
            }
        }
        Ok(())
    }

    /// Calls `changed` with every open page, ascending, which has to tell whether it was changed and to note it. Those that
    /// were changed lately stay open, so that the next message to write them need not fault; the others are closed.
    pub fn sweep(&self, mut changed: impl FnMut(usize) -> bool) -> io::Result<()> {
        let Some(protection) = &self.protection else { return Ok(()) };
        let pages = self.pages();
        let mut runs = protection.take_runs();
        let open_from = protection.open_from.load(Relaxed).min(pages);
        runs.push(open_from..pages);
        runs.sort_unstable_by_key(|run| run.start);
        let (mut keep, mut close): (Vec<Range<usize>>, Vec<Range<usize>>) = Default::default();
        let (mut next, mut kept_pages, mut changed_pages) = (0, 0, 0);
        let kept_runs_max = if open_runs_are_many() { 0 } else { KEPT_RUNS_MAX };
        for run in runs {
            for page in run.start.max(next)..run.end {
                let is_changed = changed(page);
                changed_pages += usize::from(is_changed);
                let lives = protection.lives(page);
                let lives = match is_changed {
                    true => lives_anew(lives),
                    // After so many faults the pages of earlier messages were no help.
                    false if open_from == 0 => 0,
                    false => lives.saturating_sub(1),
                };
                if lives & !BY_ITSELF > 0
                    && kept_pages < KEPT_PAGES_MAX
                    && add(&mut keep, page, 0, kept_runs_max)
                {
                    protection.set_lives(page, lives);
                    kept_pages += 1;
                    continue;
                }
                protection.set_lives(page, 0);
                let gap = match keep.last() {
                    // A page that stays open lies between.
                    Some(kept) if close.last().is_some_and(|closed| closed.end < kept.end) => 0,
                    _ => GAP,
                };
                add(&mut close, page, gap, usize::MAX);
            }
            next = next.max(run.end);
        }
        protection.faults.store(0, Relaxed);
        let much = open_from == 0 && kept_pages < changed_pages / 2;
        protection.expects_much.store(much, Relaxed);
        if much {
            keep.iter().for_each(|run| protection.clear_lives(run));
            return Ok(());
        }
        self.write_once(open_from);
        protection.open_from.store(NONE, Relaxed);
        self.close(&close)?;
        for run in keep {
            if !protection.list(&run) {
                protection.clear_lives(&run);
                self.close(&[run])?;
            }
        }
        Ok(())
    }

    /// Whether the kernel refused to open a page, or one was written that nobody announced.
    pub fn protection_failed(&self) -> bool {
        self.protection.as_ref().is_some_and(|protection| protection.failed.load(Relaxed))
    }
}

/// The byte of a page that was written, from what it was.
fn lives_anew(lives: u8) -> u8 {
    if lives & BY_ITSELF > 0 { BY_ITSELF | LIVES_BY_ITSELF } else { LIVES_WITH_OTHERS }
}

/// Whether so many runs of all mappings are open that none should stay so between messages.
fn open_runs_are_many() -> bool {
    OPEN_RUNS.load(Relaxed) > OPEN_RUNS_MAX / 2
}

/// Adds a page to ascending runs, to the last one across a gap of at most so many pages; whether there was room.
fn add(runs: &mut Vec<Range<usize>>, page: usize, gap: usize, runs_max: usize) -> bool {
    if let Some(last) = runs.last_mut()
        && page <= last.end + gap
    {
        last.end = page + 1;
        return true;
    }
    let room = runs.len() < runs_max;
    if room {
        runs.push(page..page + 1);
    }
    room
}

#[cfg(test)]
mod tests;

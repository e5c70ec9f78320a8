//! Puts records into the files of memories and the tables of the catalog: for a checkpoint and for recovery
//! alike, `apply(from, to)`.
//!
//! - What is written comes from the log alone, never from a mapping: a checkpoint cannot see half a message.
//! - Only this file writes `.base` and `.sum`, and only what durable records say.
//! - The sum that is written is the one computed when the change was made. A page that does not reproduce it
//!   after its blocks were laid over the base is damaged: it is named, and not given a fresh sum.
//! - Every step may be done again: a torn page of an earlier try holds in each sector its old or its new
//!   bytes, and the blocks replace what may be old.
//! - Every number in a record is checked against the state before it, though the hashes were right.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{CatalogChange, Head, MemoryRow};
use crate::change::BlobId;
use crate::disk::DiskFile;
use crate::error::{Error, Result};
use crate::files::{MemoryFile, MemoryFiles, SUM_BYTES};
use crate::mutants::mutant;
use crate::page::{BLOCK_BYTES, Lsn, MemoryId, PAGE_BYTES, PageCount, overlay, sum};
use crate::record::{BodyError, Class, Entry, decode};
use crate::scan::{Found, Scanner};
use crate::segment::LogName;

/// What the catalog says, in RAM.
pub(crate) struct Applied {
    pub(crate) head: Head,
    pub(crate) memories: BTreeMap<MemoryId, MemoryRow>,
    pub(crate) blobs: BTreeMap<BlobId, u64>,
}

/// Records on their way into base files and catalog.
pub(crate) struct Apply {
    pub(crate) scanner: Scanner,
    /// The last record to apply; `None` applies all there are.
    to: Option<Lsn>,
    plan: Plan,
    is_scanned: bool,
    /// The next page to write; everything before it is durable.
    cursor: Option<(MemoryId, u32)>,
    pub(crate) records: u64,
}

/// What the records say in sum.
#[derive(Default)]
struct Plan {
    memories: BTreeMap<MemoryId, MemoryPlan>,
    metadata: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    blobs: BTreeMap<BlobId, u64>,
}

struct MemoryPlan {
    /// The memory after the records; `None` once it was dropped.
    row: Option<MemoryRow>,
    /// Whether its files hold nothing but what these records say.
    is_new: bool,
    /// How much of its files is known to be durable: their size before the records, or that of a copy.
    trusted: Option<PageCount>,
    pages: BTreeMap<u32, PagePlan>,
}

/// A page after the records.
struct PagePlan {
    sum: u32,
    first: Patch,
    more: Vec<Patch>,
}

/// Blocks of a page, where they stand in the log.
#[derive(Clone, Copy)]
struct Patch {
    file: u32,
    at: u64,
    mask: u64,
}

/// How long a run of pages may be that is read and written at once.
const RUN_PAGES: usize = 256;

impl Apply {
    pub(crate) fn new(scanner: Scanner, to: Option<Lsn>) -> Apply {
        Apply { scanner, to, plan: Plan::default(), is_scanned: false, cursor: None, records: 0 }
    }

    /// Reads records worth about `bytes`; true when all were read.
    pub(crate) fn scan(&mut self, applied: &Applied, bytes: u64) -> Result<bool> {
        let until = self.scanner.found_bytes().saturating_add(bytes);
        while !self.is_scanned {
            if self.to.is_some_and(|to| self.scanner.position.last >= to) {
                self.is_scanned = true;
                break;
            }
            match (self.scanner.next()?, self.to) {
                (Some(found), _) => self.plan_record(applied, found)?,
                (None, None) => self.is_scanned = true,
                (None, Some(to)) => {
                    let position = self.scanner.position;
                    let file = LogName::Segment(position.segment).path().to_string();
                    let what = format_args!("record {} of {to} is not there", position.last.get() + 1);
                    return Err(Error::damaged(&file, position.offset, what));
                }
            }
            if self.scanner.found_bytes() >= until {
                break;
            }
        }
        Ok(self.is_scanned)
    }

    fn plan_record(&mut self, applied: &Applied, mut found: Found) -> Result<()> {
        self.records += 1;
        let (file, body_at, header) = (found.file, found.body_at, found.header);
        let name = self.scanner.describe(file);
        let plan = &mut self.plan;
        let result = decode(&mut found.source, header.body_bytes, header.entries, &mut |entry| {
            plan.add(applied, &entry, header.lsn, (file, body_at))
                .map_err(|what| Error::damaged(&name, body_at, format_args!("record {}: {what}", header.lsn)))
        });
        result.map_err(|error| match error {
            BodyError::Malformed(at, what) => Error::damaged(&name, body_at + at, what),
            BodyError::Other(error) => error,
        })
    }

    /// Writes about so many pages and makes them durable; true when all are.
    pub(crate) fn write(&mut self, files: &MemoryFiles, pages: usize) -> Result<bool> {
        let mut left = pages;
        let from = self.cursor.unwrap_or((MemoryId::new(0), 0));
        for (&id, memory) in self.plan.memories.range(from.0..) {
            let Some(row) = &memory.row else { continue };
            if left == 0 {
                self.cursor = Some((id, 0));
                return Ok(false);
            }
            if !memory.is_new {
                files.trim(id, memory.trusted.unwrap_or_default())?;
            }
            let first = if id == from.0 { from.1 } else { 0 };
            let next = write_memory(&self.scanner, files, id, row, &memory.pages, first, &mut left)?;
            if let Some(next) = next {
                self.cursor = Some((id, next));
                return Ok(false);
            }
            left = left.saturating_sub(1);
        }
        self.cursor = Some((MemoryId::new(u64::MAX), u32::MAX));
        Ok(true)
    }

    /// The memories whose files hold nothing but what these records say.
    pub(crate) fn new_memories(&self) -> impl Iterator<Item = MemoryId> {
        let live = self.plan.memories.iter().filter(|(_, memory)| memory.row.is_some() && memory.is_new);
        live.map(|(id, _)| *id)
    }

    /// Whether the directory of memories has names that are not durable.
    pub(crate) fn has_new_files(&self) -> bool {
        self.new_memories().next().is_some()
    }

    /// What is to be committed, with this head.
    pub(crate) fn catalog_change(&mut self, head: Head) -> CatalogChange {
        CatalogChange {
            head,
            memories: self.plan.memories.iter().map(|(id, memory)| (*id, memory.row)).collect(),
            metadata: std::mem::take(&mut self.plan.metadata),
            blobs: self.plan.blobs.iter().map(|(id, count)| (*id, (*count > 0).then_some(*count))).collect(),
        }
    }

    /// The smallest id that no record has given to a memory.
    pub(crate) fn next_memory(&self) -> u64 {
        self.plan.memories.last_key_value().map_or(0, |(id, _)| id.get().saturating_add(1))
    }
}

impl Applied {
    /// After a commit.
    pub(crate) fn update(&mut self, change: &CatalogChange) {
        self.head = change.head;
        for (id, row) in &change.memories {
            match row {
                Some(row) => self.memories.insert(*id, *row),
                None => self.memories.remove(id),
            };
        }
        for (id, count) in &change.blobs {
            match count {
                Some(count) => self.blobs.insert(*id, *count),
                None => self.blobs.remove(id),
            };
        }
    }
}

impl Plan {
    fn add(
        &mut self,
        applied: &Applied,
        entry: &Entry<'_>,
        lsn: Lsn,
        (file, body_at): (u32, u64),
    ) -> Result<(), String> {
        match *entry {
            Entry::Page { memory, index, sum, mask, at, .. } => {
                let plan = self.memory(applied, memory)?;
                let row = plan.writable(memory)?;
                if !row.pages.contains(index) {
                    return Err(format!("page {index} of memory {memory} is beyond its {} pages", row.pages));
                }
                plan.patch(index.get(), sum, Patch { file, at: body_at + at, mask });
            }
            Entry::Grow { memory, pages } => {
                let plan = self.memory(applied, memory)?;
                let is_filling = plan.is_filling(lsn);
                let row = plan.row.as_mut().ok_or_else(|| format!("memory {memory} was dropped"))?;
                if !plan.is_new && plan.trusted.is_none() {
                    plan.trusted = Some(pages);
                }
                if pages <= row.pages || pages > row.capacity || (row.class == Class::Frozen && !is_filling) {
                    return Err(format!("memory {memory} cannot grow from {} to {pages}", row.pages));
                }
                if !mutant!(GROW_SKIPPED) {
                    row.pages = pages;
                }
            }
            Entry::Create { memory, class, capacity, source } => {
                let is_known = self.memories.contains_key(&memory) || applied.memories.contains_key(&memory);
                if is_known || memory.get() == 0 || source == Some(memory) {
                    return Err(format!("memory {memory} is created twice"));
                }
                let row = MemoryRow { class, pages: PageCount::default(), capacity, created: lsn };
                let plan = MemoryPlan {
                    row: Some(row),
                    is_new: source.is_none(),
                    trusted: None,
                    pages: BTreeMap::new(),
                };
                self.memories.insert(memory, plan);
            }
            Entry::Drop { memory } => {
                let plan = self.memory(applied, memory)?;
                plan.row.take().ok_or_else(|| format!("memory {memory} was dropped twice"))?;
                plan.pages.clear();
            }
            Entry::Put { key, value } => {
                self.metadata.insert(key.to_vec(), Some(value.to_vec()));
            }
            Entry::Delete { key } => {
                self.metadata.insert(key.to_vec(), None);
            }
            Entry::Blob { id, change } => {
                let count =
                    self.blobs.entry(id).or_insert_with(|| applied.blobs.get(&id).copied().unwrap_or(0));
                *count = count
                    .checked_add_signed(change.into())
                    .ok_or_else(|| format!("blob {id} has {count} references and loses {change}"))?;
            }
        }
        Ok(())
    }

    fn memory(&mut self, applied: &Applied, id: MemoryId) -> Result<&mut MemoryPlan, String> {
        match self.memories.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let row = applied.memories.get(&id).ok_or_else(|| format!("there is no memory {id}"))?;
                let (trusted, pages) = (Some(row.pages), BTreeMap::new());
                Ok(entry.insert(MemoryPlan { row: Some(*row), is_new: false, trusted, pages }))
            }
        }
    }
}

impl MemoryPlan {
    fn writable(&self, id: MemoryId) -> Result<&MemoryRow, String> {
        let row = self.row.as_ref().ok_or_else(|| format!("memory {id} was dropped"))?;
        if row.class == Class::Frozen { Err(format!("memory {id} is frozen")) } else { Ok(row) }
    }

    /// A copy gets its size by the record that creates it.
    fn is_filling(&self, lsn: Lsn) -> bool {
        self.row.as_ref().is_some_and(|row| row.created == lsn)
    }

    fn patch(&mut self, index: u32, sum: u32, patch: Patch) {
        use std::collections::btree_map::Entry;
        match self.pages.entry(index) {
            Entry::Vacant(entry) => {
                entry.insert(PagePlan { sum, first: patch, more: Vec::new() });
            }
            Entry::Occupied(entry) => {
                let page = entry.into_mut();
                page.sum = sum;
                page.more.retain(|earlier| earlier.mask & !patch.mask != 0);
                if page.first.mask & !patch.mask == 0 {
                    if page.more.is_empty() {
                        page.first = patch;
                        return;
                    }
                    page.first = page.more.remove(0);
                }
                page.more.push(patch);
            }
        }
    }
}

impl PagePlan {
    /// Whether the page before does not matter.
    fn is_whole(&self) -> bool {
        self.more.iter().fold(self.first.mask, |mask, patch| mask | patch.mask) == u64::MAX
    }
}

/// Writes the pages of one memory from `first` on and makes them durable; the next page when the budget is
/// used up.
fn write_memory(
    scanner: &Scanner,
    files: &MemoryFiles,
    id: MemoryId,
    row: &MemoryRow,
    pages: &BTreeMap<u32, PagePlan>,
    first: u32,
    left: &mut usize,
) -> Result<Option<u32>> {
    let base = files.open(id, MemoryFile::Base)?;
    let sums = files.open(id, MemoryFile::Sum)?;
    base.extend(row.pages.bytes())?;
    sums.extend(u64::from(row.pages.get()) * SUM_BYTES as u64)?;
    let mut pages = pages.range(first..).peekable();
    let mut run = Vec::<(u32, &PagePlan)>::new();
    while *left > 0 && pages.peek().is_some() {
        run.clear();
        let longest = RUN_PAGES.min(*left);
        while run.len() < longest
            && let Some((&index, plan)) = pages
                .next_if(|(index, _)| run.last().is_none_or(|(last, _)| last.checked_add(1) == Some(**index)))
        {
            run.push((index, plan));
        }
        let bytes = patched(scanner, &base.file, base.name(), id, &run)?;
        base.write(u64::from(run[0].0) * PAGE_BYTES as u64, &bytes)?;
        let mut run_sums = Vec::with_capacity(run.len() * SUM_BYTES);
        for ((_, plan), page) in run.iter().zip(bytes.chunks_exact(PAGE_BYTES)) {
            let sum = if mutant!(SUM_FROM_BASE) { sum(page) } else { plan.sum };
            run_sums.extend_from_slice(&sum.to_le_bytes());
        }
        sums.write(u64::from(run[0].0) * SUM_BYTES as u64, &run_sums)?;
        *left -= run.len();
    }
    if !mutant!(BASE_NOT_SYNCED) {
        base.sync()?;
    }
    if !mutant!(SUM_NOT_SYNCED) {
        sums.sync()?;
    }
    Ok(pages.peek().map(|(index, _)| **index))
}

/// A run of pages after their records, verified.
fn patched(
    scanner: &Scanner,
    base: &Arc<dyn DiskFile>,
    base_name: &str,
    id: MemoryId,
    run: &[(u32, &PagePlan)],
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; run.len() * PAGE_BYTES];
    let at = u64::from(run[0].0) * PAGE_BYTES as u64;
    if run.iter().any(|(_, plan)| !plan.is_whole()) {
        base.read_at(at, &mut bytes).map_err(|error| Error::reading(base_name, error))?;
    }
    let mut blocks = [0; PAGE_BYTES];
    for ((index, plan), page) in run.iter().zip(bytes.chunks_exact_mut(PAGE_BYTES)) {
        for patch in std::iter::once(&plan.first).chain(&plan.more) {
            let file = &scanner.files[patch.file as usize].file;
            let length = patch.mask.count_ones() as usize * BLOCK_BYTES;
            let blocks = &mut blocks[..length];
            let read = file.read_at(patch.at, blocks);
            read.map_err(|error| Error::reading(&scanner.describe(patch.file), error))?;
            overlay(page, patch.mask, blocks);
        }
        if sum(page) != plan.sum && !mutant!(SUM_FROM_BASE) {
            let what = format_args!("page {index} of memory {id} is not the one that was changed");
            return Err(Error::damaged(base_name, u64::from(*index) * PAGE_BYTES as u64, what));
        }
    }
    Ok(bytes)
}

//! The floor: a file of zeros, written over and over, with sums and a sync. No store that logs its changes can do
//! with less.
//!
//! - The file never grows after it was made and its blocks were all written once, so a sync carries data alone.
//! - One record a commit, described well enough to be found and verified again; when the file is full, the next
//!   record is at its beginning.
//!
//! ```text
//! record: sum of the head (4) │ pages (4) │ sequence (8) │ index (4), sum (4) of each page │ the pages
//! ```

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::engine::{Dirty, PAGE_BYTES, Page, PageStore};

/// What was set.
pub const TUNING: &str = "64 MiB of zeros written over and over; crc32c of each page; one write; fdatasync";

const FILE_BYTES: u64 = 64 << 20;
const HEAD_BYTES: usize = 16;
const HEAD_PAGE_BYTES: usize = 8;

/// `writev` takes no more parts at once (Linux's `UIO_MAXIOV`), and the head is one of them.
const PAGES_MAX: usize = 1023;

/// The file, and where its next record goes.
pub struct Raw {
    file: File,
    at: u64,
    sequence: u64,
}

impl Raw {
    /// Opens the file in a directory, or makes it.
    pub fn open(directory: &Path) -> Result<Raw> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("raw.log");
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        if is_new {
            let zeros = vec![0; 1 << 20];
            for at in (0..FILE_BYTES).step_by(zeros.len()) {
                file.write_all_at(&zeros, at)?;
            }
            file.sync_all()?;
        }
        let mut raw = Raw { file, at: 0, sequence: 0 };
        while let Some(record) = raw.record_at(raw.at, raw.sequence)? {
            raw.at += record.bytes();
            raw.sequence = record.sequence;
        }
        Ok(raw)
    }

    /// The record at an offset, if there is one that was written after `sequence`.
    fn record_at(&self, at: u64, sequence: u64) -> Result<Option<Record>> {
        let mut head = vec![0; HEAD_BYTES];
        if at + HEAD_BYTES as u64 > FILE_BYTES {
            return Ok(None);
        }
        self.file.read_exact_at(&mut head, at)?;
        let found = u64::from_le_bytes(head[8..16].try_into()?);
        let pages = u32::from_le_bytes(head[4..8].try_into()?) as usize;
        let head_bytes = HEAD_BYTES + pages * HEAD_PAGE_BYTES;
        if found <= sequence || pages > PAGES_MAX || at + head_bytes as u64 > FILE_BYTES {
            return Ok(None);
        }
        head.resize(head_bytes, 0);
        self.file.read_exact_at(&mut head, at)?;
        let is_whole = crc32c::crc32c(&head[4..]).to_le_bytes() == head[..4];
        Ok(is_whole.then_some(Record { at, sequence: found, head }))
    }
}

impl PageStore for Raw {
    fn commit(&mut self, pages: &[Dirty<'_>]) -> Result<()> {
        ensure!(pages.len() <= PAGES_MAX, "a raw append takes {PAGES_MAX} pages, not {}", pages.len());
        self.sequence += 1;
        let mut head = vec![0; 4];
        head.extend_from_slice(&u32::try_from(pages.len())?.to_le_bytes());
        head.extend_from_slice(&self.sequence.to_le_bytes());
        for page in pages {
            head.extend_from_slice(&page.index.to_le_bytes());
            head.extend_from_slice(&crc32c::crc32c(page.after).to_le_bytes());
        }
        let sum = crc32c::crc32c(&head[4..]);
        head[..4].copy_from_slice(&sum.to_le_bytes());
        let bytes = head.len() + pages.len() * PAGE_BYTES;
        if self.at + bytes as u64 > FILE_BYTES {
            self.at = 0;
        }
        let mut parts = Vec::with_capacity(1 + pages.len());
        parts.push(IoSlice::new(&head));
        parts.extend(pages.iter().map(|page| IoSlice::new(page.after)));
        self.file.seek(SeekFrom::Start(self.at))?;
        let written = self.file.write_vectored(&parts)?;
        ensure!(written == bytes, "the disk took {written} of {bytes} bytes; it may be full");
        self.file.sync_data()?;
        self.at += bytes as u64;
        Ok(())
    }

    /// Of the records since the beginning of the file was last written.
    fn read(&mut self, index: u32) -> Result<Option<Page>> {
        let (mut at, mut sequence, mut newest) = (0, 0, None);
        while let Some(record) = self.record_at(at, sequence)? {
            if let Some((place, sum)) = record.find(index) {
                let mut page = [0; PAGE_BYTES];
                self.file.read_exact_at(&mut page, place)?;
                ensure!(crc32c::crc32c(&page) == sum, "page {index} at byte {place} does not match its sum");
                newest = Some(page);
            }
            at += record.bytes();
            sequence = record.sequence;
        }
        Ok(newest)
    }
}

/// A record that was found in the file.
struct Record {
    at: u64,
    sequence: u64,
    head: Vec<u8>,
}

impl Record {
    fn pages(&self) -> usize {
        (self.head.len() - HEAD_BYTES) / HEAD_PAGE_BYTES
    }

    fn bytes(&self) -> u64 {
        (self.head.len() + self.pages() * PAGE_BYTES) as u64
    }

    /// Where the content of a page is, and its sum.
    fn find(&self, index: u32) -> Option<(u64, u32)> {
        let mut pages = self.head[HEAD_BYTES..].chunks_exact(HEAD_PAGE_BYTES);
        let number = pages.position(|page| page[..4] == index.to_le_bytes())?;
        let entry = &self.head[HEAD_BYTES + number * HEAD_PAGE_BYTES..];
        let sum = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        Some((self.at + (self.head.len() + number * PAGE_BYTES) as u64, sum))
    }
}

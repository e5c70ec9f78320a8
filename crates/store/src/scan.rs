//! Reads the log from a position on, verifying every byte, and tells a torn end from damage.
//!
//! - The next record is the one whose link verifies, wherever it may stand: at the next offset, in a file of
//!   its own, or at the beginning of the next segment.
//! - Nothing of a record is handed out before its header and its body hash were verified.
//! - Where the log ends, a later record that proves the missing one durable makes the end damage.

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, Open, RelPath, described};
use crate::error::{Error, Result};
use crate::format::{Format, Hash, Keys};
use crate::mutants::mutant;
use crate::page::Lsn;
use crate::record::{HEADER_BYTES, Header, RECORD_ALIGN, Source};
use crate::segment::{LOG_DIR, LogName, SEGMENT_HEADER_BYTES, Segments, read_segment_header};

/// Files are read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;

/// Where the log goes on after some record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) last: Lsn,
    pub(crate) link: Hash,
}

/// A file that records were found in.
pub(crate) struct LogFile {
    pub(crate) name: LogName,
    pub(crate) file: Arc<dyn DiskFile>,
    /// The records that were found are these bytes.
    pub(crate) begin: u64,
    pub(crate) end: u64,
    bytes: u64,
}

/// A verified record.
pub(crate) struct Found {
    pub(crate) header: Header,
    /// Which of the scanner's files it is in.
    pub(crate) file: u32,
    pub(crate) body_at: u64,
    pub(crate) source: FileSource,
}

/// Reads records one after the other.
pub(crate) struct Scanner {
    disk: Arc<dyn Disk>,
    format: Format,
    keys: Keys,
    pub(crate) position: Position,
    pub(crate) files: Vec<LogFile>,
    /// The segment of the position, among the files.
    segment: Option<u32>,
}

impl Scanner {
    /// Begins after the record that `position` names.
    pub(crate) fn new(disk: Arc<dyn Disk>, format: &Format, keys: &Keys, position: Position) -> Scanner {
        let (format, keys) = (format.clone(), keys.clone());
        Scanner { disk, format, keys, position, files: Vec::new(), segment: None }
    }

    /// What a file is called in messages.
    pub(crate) fn describe(&self, file: u32) -> String {
        described(&*self.disk, &self.files[file as usize].name.path())
    }

    /// Bytes of records found so far.
    pub(crate) fn found_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.end - file.begin).sum()
    }

    /// The next record; `None` where the log ends.
    pub(crate) fn next(&mut self) -> Result<Option<Found>> {
        let lsn = Lsn::new(self.position.last.get() + 1);
        let number = self.position.segment;
        if self.segment.is_none() {
            self.segment = self.open(LogName::Segment(number), number, self.position.offset)?;
        }
        if let Some(segment) = self.segment
            && let Some(found) = self.read(segment, self.position.offset, lsn)?
        {
            self.position.offset += found.0.header.record_bytes();
            return Ok(Some(self.accept(found)));
        }
        if let Some(file) = self.open(LogName::Big(lsn), lsn.get(), SEGMENT_HEADER_BYTES)? {
            if let Some(found) = self.read(file, SEGMENT_HEADER_BYTES, lsn)? {
                return Ok(Some(self.accept(found)));
            }
            self.files.pop();
        }
        let next = number + 1;
        if let Some(file) = self.open(LogName::Segment(next), next, SEGMENT_HEADER_BYTES)? {
            if let Some(found) = self.read(file, SEGMENT_HEADER_BYTES, lsn)? {
                self.segment = Some(file);
                self.position.segment = next;
                self.position.offset = SEGMENT_HEADER_BYTES + found.0.header.record_bytes();
                return Ok(Some(self.accept(found)));
            }
            self.files.pop();
        }
        Ok(None)
    }

    fn accept(&mut self, found: FoundAndLink) -> Found {
        let (found, link) = found;
        self.position.last = found.header.lsn;
        self.position.link = link;
        let file = &mut self.files[found.file as usize];
        file.end = found.body_at - HEADER_BYTES as u64 + found.header.record_bytes();
        found
    }

    /// Opens a file of the log if it is there and its header is right.
    fn open(&mut self, name: LogName, number: u64, begin: u64) -> Result<Option<u32>> {
        let path = name.path();
        let file = match self.disk.open(&path, Open::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(|error| self.reading(name, error))?,
        };
        let mut header = [0; SEGMENT_HEADER_BYTES as usize];
        match file.read_at(0, &mut header) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result.map_err(|error| self.reading(name, error))?,
        }
        let promised = read_segment_header(&header, &self.format, &self.keys, number);
        let bytes = file.len().map_err(|error| self.reading(name, error))?;
        if promised != Some(bytes) {
            return Ok(None);
        }
        self.files.push(LogFile { name, file, begin, end: begin, bytes });
        Ok(Some(u32::try_from(self.files.len() - 1).expect("the log has few files")))
    }

    fn reading(&self, name: LogName, error: io::Error) -> Error {
        Error::reading(&described(&*self.disk, &name.path()), error)
    }

    /// The record with this number at this place, if it is there.
    fn read(&self, index: u32, at: u64, lsn: Lsn) -> Result<Option<FoundAndLink>> {
        let file = &self.files[index as usize];
        if at.checked_add(HEADER_BYTES as u64).is_none_or(|end| end > file.bytes) {
            return Ok(None);
        }
        let mut header = [0; HEADER_BYTES];
        file.file.read_at(at, &mut header).map_err(|error| self.reading(file.name, error))?;
        let Some((header, link)) = Header::decode_next(&header, &self.keys, &self.position.link, lsn) else {
            return Ok(None);
        };
        if header.record_bytes() > file.bytes - at {
            return Ok(None);
        }
        let body_at = at + HEADER_BYTES as u64;
        let name = described(&*self.disk, &file.name.path());
        let mut source = FileSource::new(file.file.clone(), name, body_at, header.body_bytes);
        if !mutant!(BODY_NOT_CHECKED) && source.hash(&self.keys.body)? != header.body_hash {
            return Ok(None);
        }
        Ok(Some((Found { header, file: index, body_at, source }, link)))
    }

    /// Where, behind the end that was found, a record stands that proves the missing one durable.
    pub(crate) fn find_damage(&self) -> Result<Option<(String, u64)>> {
        let missing = Lsn::new(self.position.last.get() + 1);
        let dir = RelPath::new(LOG_DIR);
        let names = self.disk.list(&dir);
        let names = names.map_err(|error| Error::reading(&described(&*self.disk, &dir), error))?;
        let mut names: Vec<_> = names.iter().filter_map(|name| LogName::parse(name)).collect();
        names.sort();
        for name in names {
            let begin = match name {
                LogName::Segment(number) if number == self.position.segment => self.position.offset,
                LogName::Segment(number) if number > self.position.segment => SEGMENT_HEADER_BYTES,
                LogName::Big(lsn) if lsn >= missing => SEGMENT_HEADER_BYTES,
                _ => continue,
            };
            if let Some(at) = self.find_proof(name, begin, missing)? {
                return Ok(Some((described(&*self.disk, &name.path()), at)));
            }
        }
        Ok(None)
    }

    fn find_proof(&self, name: LogName, begin: u64, missing: Lsn) -> Result<Option<u64>> {
        let file = self.disk.open(&name.path(), Open::Read).map_err(|error| self.reading(name, error))?;
        let bytes = file.len().map_err(|error| self.reading(name, error))?;
        let described = described(&*self.disk, &name.path());
        let mut source = FileSource::new(file, described, 0, bytes);
        let mut at = begin.next_multiple_of(RECORD_ALIGN);
        while at.checked_add(HEADER_BYTES as u64).is_some_and(|end| end <= bytes) {
            let header = source.bytes(at, HEADER_BYTES)?;
            let header = header.first_chunk().expect("a whole header was taken");
            if let Some(header) = Header::decode(header, &self.keys)
                && (header.durable >= missing || mutant!(TORN_TAKEN_FOR_DAMAGE))
            {
                return Ok(Some(at));
            }
            at += RECORD_ALIGN;
        }
        Ok(None)
    }

    /// Writes the records that were found again, the same bytes, and makes them durable. What a stopped
    /// process left may be in the page cache only, and after a failed sync it may be marked as clean there,
    /// so that a sync alone does nothing.
    pub(crate) fn rewrite(&self, segments: &Segments) -> Result<()> {
        for file in &self.files {
            match file.name {
                LogName::Big(_) => self.rewrite_big(file, segments)?,
                _ if mutant!(RECOVERY_NOTHING) => {}
                _ => {
                    if !mutant!(RECOVERY_NO_REWRITE) {
                        self.copy(file, &*file.file, file.begin)?;
                    }
                    file.file.sync_data().map_err(|error| self.writing(file.name, error))?;
                }
            }
        }
        Ok(())
    }

    /// The name of an oversized record may not be durable either: a new file takes it.
    fn rewrite_big(&self, file: &LogFile, segments: &Segments) -> Result<()> {
        let temporary = segments.temporary();
        let writing = |error| self.writing(file.name, error);
        let target = self.disk.open(&temporary, Open::Create).map_err(writing)?;
        self.copy(file, &*target, 0)?;
        target.sync_data().map_err(writing)?;
        self.disk.rename(&temporary, &file.name.path()).map_err(writing)
    }

    fn copy(&self, file: &LogFile, target: &dyn DiskFile, begin: u64) -> Result<()> {
        let mut piece = Vec::new();
        let mut at = begin;
        while at < file.end {
            let bytes = (file.end - at).min(PIECE_BYTES);
            piece.resize(usize::try_from(bytes).expect("a piece is small"), 0);
            file.file.read_at(at, &mut piece).map_err(|error| self.reading(file.name, error))?;
            target.write_at(at, &[IoSlice::new(&piece)]).map_err(|error| self.writing(file.name, error))?;
            at += bytes;
        }
        Ok(())
    }

    fn writing(&self, name: LogName, error: io::Error) -> Error {
        Error::writing(&described(&*self.disk, &name.path()), error)
    }
}

type FoundAndLink = (Found, Hash);

/// A range of a file, read in large pieces.
pub(crate) struct FileSource {
    file: Arc<dyn DiskFile>,
    name: String,
    begin: u64,
    bytes: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl FileSource {
    pub(crate) fn new(file: Arc<dyn DiskFile>, name: String, begin: u64, bytes: u64) -> FileSource {
        FileSource { file, name, begin, bytes, window: Vec::new(), window_at: 0 }
    }

    /// The keyed hash of the whole range.
    fn hash(&mut self, key: &Hash) -> Result<Hash> {
        let mut hasher = blake3::Hasher::new_keyed(key);
        let mut at = 0;
        while at < self.bytes {
            let piece = (self.bytes - at).min(PIECE_BYTES);
            hasher.update(self.bytes(at, usize::try_from(piece).expect("a piece is small"))?);
            at += piece;
        }
        Ok(*hasher.finalize().as_bytes())
    }
}

impl Source for FileSource {
    type Error = Error;

    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8]> {
        let is_inside =
            at >= self.window_at && at + length as u64 <= self.window_at + self.window.len() as u64;
        if !is_inside {
            let bytes = (self.bytes - at).min(PIECE_BYTES).max(length as u64);
            self.window.resize(usize::try_from(bytes).expect("a piece fits the memory"), 0);
            self.window_at = at;
            let result = self.file.read_at(self.begin + at, &mut self.window);
            result.map_err(|error| Error::reading(&self.name, error))?;
        }
        let from = usize::try_from(at - self.window_at).expect("a place within the window");
        Ok(&self.window[from..from + length])
    }
}

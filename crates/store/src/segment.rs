//! Log segments: their names, their header, and how they are prepared ahead of need.
//!
//! - A segment has its name only once its header is durable, and is written only once its name is.
//! - Numbers only rise. A number never comes back, though the file of a passed segment does, under a new one.
//! - Zeros are written when a file is made, so that a commit allocates nothing; without a lock, because whoever
//!   commits may need a segment meanwhile, and in synced pieces, because the disk serves commits in between.
//! - Who needs a segment while none is ready makes a short one.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, Open, RelPath, described};
use crate::error::{Error, Result};
use crate::format::{Format, HASH_BYTES, Keys};
use crate::mutants::mutant;
use crate::page::Lsn;
use crate::sync::lock;

/// Bytes of a segment's header; records follow.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 4096;
/// The directory of segments.
pub(crate) const LOG_DIR: &str = "wal";
/// So many segments are kept ready, so that a commit never waits for one.
const AHEAD: usize = 2;
/// So many passed segments are kept to be used again.
const PASSED_MAX: usize = 4;
/// Zeros are written in pieces of this size: a commit waits some milliseconds for one.
const ZEROS_BYTES: usize = 1 << 20;
/// A segment that somebody waits for is no longer than this, or than what it is for.
pub(crate) const SHORT_BYTES: u64 = 1 << 20;

const MAGIC: &[u8; 8] = b"BEDLOG\0\x01";
const HASHED: usize = SEGMENT_HEADER_BYTES as usize - HASH_BYTES;

/// What a file of the log directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogName {
    /// A segment with this number.
    Segment(u64),
    /// One oversized record, with this LSN.
    Big(Lsn),
    /// Half prepared.
    Temporary(u64),
}

impl LogName {
    pub(crate) fn path(self) -> RelPath {
        RelPath::new(match self {
            LogName::Segment(number) => format!("{LOG_DIR}/{number:020}.log"),
            LogName::Big(lsn) => format!("{LOG_DIR}/{:020}.big", lsn.get()),
            LogName::Temporary(number) => format!("{LOG_DIR}/tmp-{number}"),
        })
    }

    /// `None` for a name that we would not make.
    pub(crate) fn parse(name: &str) -> Option<LogName> {
        let number = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| is_plain)
        };
        let found = match (name.strip_prefix("tmp-"), name.split_once('.')) {
            (Some(digits), _) => LogName::Temporary(number(digits)?),
            (None, Some((digits, "log"))) => LogName::Segment(number(digits)?),
            (None, Some((digits, "big"))) => LogName::Big(Lsn::new(number(digits)?)),
            _ => return None,
        };
        found.path().as_str().strip_prefix("wal/").is_some_and(|made| made == name).then_some(found)
    }
}

/// The header of a segment, or of the file of an oversized record, whose number is the LSN.
pub(crate) fn segment_header(format: &Format, keys: &Keys, number: u64, file_bytes: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&format.store_id);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&file_bytes.to_le_bytes());
    bytes.resize(HASHED, 0);
    let hash = blake3::keyed_hash(&keys.segment, &bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// The length that a header promises; `None` when it is not the header of this number in this store.
pub(crate) fn read_segment_header(bytes: &[u8], format: &Format, keys: &Keys, number: u64) -> Option<u64> {
    let length = u64::from_le_bytes(*bytes.get(32..)?.first_chunk()?);
    // All other fields are known, so that one comparison checks hash, store, number and reserved bytes.
    (bytes == segment_header(format, keys, number, length)).then_some(length)
}

/// A segment that is ready to be written.
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u64,
}

/// Makes segments, and knows which are ready and which may be used again.
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    format: Format,
    keys: Keys,
    /// The length of new segments.
    segment_bytes: u64,
    ready: Mutex<VecDeque<Segment>>,
    /// Numbers of segments whose records have all been applied.
    passed: Mutex<Vec<u64>>,
    /// Made because no segment was ready, for the next time when none is.
    blank: Mutex<Option<Blank>>,
    next_temporary: AtomicU64,
    /// Held while a segment gets its number and its name; no other lock is held during I/O.
    next_number: Mutex<u64>,
}

/// A file of zeros, or of passed records, that is to become a segment.
struct Blank {
    file: Arc<dyn DiskFile>,
    temporary: RelPath,
    bytes: u64,
}

impl Segments {
    /// `next_number` and `next_temporary` are larger than any that a file has.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        format: &Format,
        keys: &Keys,
        segment_bytes: u64,
        next: (u64, u64),
    ) -> Segments {
        Segments {
            disk,
            format: format.clone(),
            keys: keys.clone(),
            segment_bytes,
            ready: Mutex::default(),
            passed: Mutex::default(),
            blank: Mutex::default(),
            next_temporary: AtomicU64::new(next.1),
            next_number: Mutex::new(next.0),
        }
    }

    /// The bytes that a record may have at most to fit a segment.
    pub(crate) fn record_bytes_max(&self) -> u64 {
        self.segment_bytes - SEGMENT_HEADER_BYTES
    }

    /// The next segment, for a record of so many bytes; made now if none is ready.
    pub(crate) fn next(&self, record_bytes: u64) -> Result<Segment> {
        if let Some(segment) = lock(&self.ready).pop_front() {
            return Ok(segment);
        }
        let mut number = lock(&self.next_number);
        // One may have become ready while we waited.
        if let Some(segment) = lock(&self.ready).pop_front() {
            return Ok(segment);
        }
        let needed = SEGMENT_HEADER_BYTES + record_bytes;
        let blank = lock(&self.blank).take_if(|blank| blank.bytes >= needed);
        let blank = blank.map_or_else(|| self.short(needed), Ok)?;
        self.finish(&mut number, blank)
    }

    /// Sees to it that [`next`](Segments::next) needs no room on the disk for so many bytes of records, if no
    /// segment is ready then; for as many of them as one segment holds.
    pub(crate) fn ensure(&self, records_bytes: u64) -> Result<()> {
        let needed = (SEGMENT_HEADER_BYTES + records_bytes).min(self.segment_bytes);
        let is_enough = |blank: &Option<Blank>| blank.as_ref().is_some_and(|blank| blank.bytes >= needed);
        if is_enough(&lock(&self.blank)) {
            return Ok(());
        }
        let made = self.short(needed)?;
        let mut blank = lock(&self.blank);
        let unused = if is_enough(&blank) { Some(made) } else { blank.replace(made) };
        drop(blank);
        if let Some(unused) = unused {
            // If it stays, the next opening removes it.
            let _ = self.disk.unlink(&unused.temporary);
        }
        Ok(())
    }

    /// Bytes for records in the segments that are ready.
    pub(crate) fn ready_bytes(&self) -> u64 {
        lock(&self.ready).iter().map(|segment| segment.bytes - SEGMENT_HEADER_BYTES).sum()
    }

    /// Whether one more should be prepared.
    pub(crate) fn is_wanted(&self) -> bool {
        lock(&self.ready).len() < AHEAD
    }

    /// Prepares one more.
    pub(crate) fn prepare_ahead(&self) -> Result<()> {
        let blank = match self.passed()? {
            Some(blank) => blank,
            None => self.zeros(self.segment_bytes)?,
        };
        let mut number = lock(&self.next_number);
        let segment = self.finish(&mut number, blank)?;
        lock(&self.ready).push_back(segment);
        Ok(())
    }

    /// Prepares a segment of any length, from which an opening goes on.
    pub(crate) fn prepare_first(&self, bytes: u64) -> Result<Segment> {
        let passed = if bytes == self.segment_bytes { self.passed()? } else { None };
        let blank = passed.map_or_else(|| self.zeros(bytes), Ok)?;
        self.finish(&mut lock(&self.next_number), blank)
    }

    /// Takes segments whose records have all been applied, to be used again or removed.
    pub(crate) fn pass(&self, numbers: impl IntoIterator<Item = (u64, u64)>) -> Result<()> {
        for (number, bytes) in numbers {
            let mut passed = lock(&self.passed);
            if bytes == self.segment_bytes && passed.len() < PASSED_MAX {
                passed.push(number);
            } else {
                drop(passed);
                let path = LogName::Segment(number).path();
                let unlinked = self.disk.unlink(&path);
                unlinked.map_err(|error| Error::writing(&described(&*self.disk, &path), error))?;
            }
        }
        Ok(())
    }

    /// A name for a file that is not ready yet.
    pub(crate) fn temporary(&self) -> RelPath {
        LogName::Temporary(self.next_temporary.fetch_add(1, Ordering::Relaxed)).path()
    }

    /// What takes the least time: a passed segment, or a file no longer than needed.
    fn short(&self, needed: u64) -> Result<Blank> {
        if let Some(blank) = self.passed()? {
            return Ok(blank);
        }
        self.zeros(needed.next_multiple_of(SHORT_BYTES).min(self.segment_bytes))
    }

    /// A passed segment that is to be used again.
    fn passed(&self) -> Result<Option<Blank>> {
        let Some(passed) = lock(&self.passed).pop() else { return Ok(None) };
        let temporary = self.temporary();
        // Renamed before it is written: no name ever stands over another segment's header.
        let renamed = self.disk.rename(&LogName::Segment(passed).path(), &temporary);
        let file = renamed.and_then(|()| self.disk.open(&temporary, Open::Write));
        match file {
            Ok(file) => Ok(Some(Blank { file, temporary, bytes: self.segment_bytes })),
            Err(error) => Err(self.failed(&temporary, error)),
        }
    }

    fn zeros(&self, bytes: u64) -> Result<Blank> {
        let temporary = self.temporary();
        let made = self.disk.open(&temporary, Open::Create);
        let made = made.and_then(|file| write_zeros(&*file, bytes).map(|()| file));
        match made {
            Ok(file) => Ok(Blank { file, temporary, bytes }),
            Err(error) => Err(self.failed(&temporary, error)),
        }
    }

    /// Makes a segment of a file.
    fn finish(&self, next_number: &mut u64, blank: Blank) -> Result<Segment> {
        let number = *next_number;
        let Blank { file, temporary, bytes } = blank;
        let header = segment_header(&self.format, &self.keys, number, bytes);
        let finished = self.name(number, &*file, &header, &temporary);
        finished.map_err(|error| self.failed(&temporary, error))?;
        *next_number += 1;
        Ok(Segment { number, file, bytes })
    }

    fn name(&self, number: u64, file: &dyn DiskFile, header: &[u8], temporary: &RelPath) -> io::Result<()> {
        file.write_at(0, &[IoSlice::new(header)])?;
        if !mutant!(TEMPORARY_NOT_SYNCED) {
            file.sync_data()?;
        }
        self.disk.rename(temporary, &LogName::Segment(number).path())?;
        if !mutant!(NO_DIRECTORY_SYNC) {
            self.disk.sync_dir(&RelPath::new(LOG_DIR))?;
        }
        Ok(())
    }

    fn failed(&self, temporary: &RelPath, error: io::Error) -> Error {
        // It may be half there, and takes room; if it stays, the next opening removes it.
        let _ = self.disk.unlink(temporary);
        Error::writing(&described(&*self.disk, temporary), error)
    }
}

/// Fills a file with zeros that take their room now. All but the last piece are synced.
pub(crate) fn write_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(bytes).unwrap_or(ZEROS_BYTES))];
    let mut at = 0;
    while at < bytes {
        let piece = (bytes - at).min(zeros.len() as u64);
        file.write_at(at, &[IoSlice::new(&zeros[..usize::try_from(piece).expect("a piece is small")])])?;
        at += piece;
        if at < bytes {
            file.sync_data()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_no_other_name_is_ours() {
        for name in [LogName::Segment(7), LogName::Big(Lsn::new(u64::MAX)), LogName::Temporary(0)] {
            let path = name.path();
            assert_eq!(LogName::parse(path.as_str().strip_prefix("wal/").unwrap()), Some(name));
        }
        for name in ["7.log", "0000000000000000000+.log", "00000000000000000007.txt", "tmp-07", "tmp-", ""] {
            assert_eq!(LogName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_header_is_believed_only_for_its_number_and_store() {
        let (format, other) = (Format::from_seed(&[1; 32], 8192), Format::from_seed(&[2; 32], 8192));
        let (keys, other_keys) = (format.keys(), other.keys());
        let header = segment_header(&format, &keys, 3, 8192);
        assert_eq!(header.len() as u64, SEGMENT_HEADER_BYTES);
        assert_eq!(read_segment_header(&header, &format, &keys, 3), Some(8192));
        assert_eq!(read_segment_header(&header, &format, &keys, 4), None);
        assert_eq!(read_segment_header(&header, &other, &other_keys, 3), None);
        assert_eq!(read_segment_header(&[], &format, &keys, 3), None);
        for at in 0..header.len() {
            let mut flipped = header.clone();
            flipped[at] ^= 1;
            assert_eq!(read_segment_header(&flipped, &format, &keys, 3), None, "byte {at}");
        }
    }
}

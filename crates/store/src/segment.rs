//! Log segments: their names, their header, and how they are prepared ahead of need.
//!
//! - A segment has its name only once its header is durable, and is written only once its name is.
//! - Numbers only rise. A number never comes back, though the file of a passed segment does, under a new one.
//! - Zeros are written when a file is made, so that a commit allocates nothing.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
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
/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 1 << 20;

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
    /// Held while one is prepared.
    supply: Mutex<Supply>,
}

struct Supply {
    next_number: u64,
    next_temporary: u64,
    /// Numbers of segments whose records have all been applied.
    passed: Vec<u64>,
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
        let supply = Supply { next_number: next.0, next_temporary: next.1, passed: Vec::new() };
        Segments {
            disk,
            format: format.clone(),
            keys: keys.clone(),
            segment_bytes,
            ready: Mutex::default(),
            supply: Mutex::new(supply),
        }
    }

    /// The bytes that a record may have at most to fit a segment.
    pub(crate) fn record_bytes_max(&self) -> u64 {
        self.segment_bytes - SEGMENT_HEADER_BYTES
    }

    /// The next segment; made now if none is ready.
    pub(crate) fn next(&self) -> Result<Segment> {
        if let Some(segment) = lock(&self.ready).pop_front() {
            return Ok(segment);
        }
        let mut supply = lock(&self.supply);
        // One may have become ready while we waited.
        if let Some(segment) = lock(&self.ready).pop_front() {
            return Ok(segment);
        }
        self.prepare(&mut supply, self.segment_bytes)
    }

    /// Whether one more should be prepared.
    pub(crate) fn is_wanted(&self) -> bool {
        lock(&self.ready).len() < AHEAD
    }

    /// Prepares one more.
    pub(crate) fn prepare_ahead(&self) -> Result<()> {
        let mut supply = lock(&self.supply);
        let segment = self.prepare(&mut supply, self.segment_bytes)?;
        lock(&self.ready).push_back(segment);
        Ok(())
    }

    /// Prepares a segment of any length, from which an opening goes on.
    pub(crate) fn prepare_first(&self, bytes: u64) -> Result<Segment> {
        self.prepare(&mut lock(&self.supply), bytes)
    }

    /// Takes segments whose records have all been applied, to be used again or removed.
    pub(crate) fn pass(&self, numbers: impl IntoIterator<Item = (u64, u64)>) -> Result<()> {
        let mut supply = lock(&self.supply);
        for (number, bytes) in numbers {
            if bytes == self.segment_bytes && supply.passed.len() < PASSED_MAX {
                supply.passed.push(number);
            } else {
                let path = LogName::Segment(number).path();
                let unlinked = self.disk.unlink(&path);
                unlinked.map_err(|error| Error::writing(&described(&*self.disk, &path), error))?;
            }
        }
        Ok(())
    }

    /// A name for a file that is not ready yet.
    pub(crate) fn temporary(&self) -> RelPath {
        temporary(&mut lock(&self.supply))
    }

    fn prepare(&self, supply: &mut Supply, bytes: u64) -> Result<Segment> {
        let number = supply.next_number;
        let (path, temporary) = (LogName::Segment(number).path(), temporary(supply));
        let passed = if bytes == self.segment_bytes { supply.passed.pop() } else { None };
        let prepared = self.prepare_file(number, bytes, passed, &temporary);
        let file = prepared.map_err(|error| {
            // It may be half there, and takes room; if it stays, the next opening removes it.
            let _ = self.disk.unlink(&temporary);
            Error::writing(&described(&*self.disk, &path), error)
        })?;
        supply.next_number += 1;
        Ok(Segment { number, file, bytes })
    }

    fn prepare_file(
        &self,
        number: u64,
        bytes: u64,
        passed: Option<u64>,
        temporary: &RelPath,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let file = match passed {
            Some(passed) => {
                // Renamed before it is written: no name ever stands over another segment's header.
                self.disk.rename(&LogName::Segment(passed).path(), temporary)?;
                self.disk.open(temporary, Open::Write)?
            }
            None => {
                let file = self.disk.open(temporary, Open::Create)?;
                write_zeros(&*file, bytes)?;
                file
            }
        };
        let header = segment_header(&self.format, &self.keys, number, bytes);
        file.write_at(0, &[IoSlice::new(&header)])?;
        if !mutant!(TEMPORARY_NOT_SYNCED) {
            file.sync_data()?;
        }
        self.disk.rename(temporary, &LogName::Segment(number).path())?;
        if !mutant!(NO_DIRECTORY_SYNC) {
            self.disk.sync_dir(&RelPath::new(LOG_DIR))?;
        }
        Ok(file)
    }
}

fn temporary(supply: &mut Supply) -> RelPath {
    supply.next_temporary += 1;
    LogName::Temporary(supply.next_temporary - 1).path()
}

/// Fills a file with zeros that take their room now.
pub(crate) fn write_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES.min(usize::try_from(bytes).unwrap_or(ZEROS_BYTES))];
    let mut at = 0;
    while at < bytes {
        let piece = (bytes - at).min(zeros.len() as u64);
        file.write_at(at, &[IoSlice::new(&zeros[..usize::try_from(piece).expect("a piece is small")])])?;
        at += piece;
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

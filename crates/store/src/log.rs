//! Writes records to the log: where each goes, and in which order what is made durable.
//!
//! - Records follow each other at multiples of 64 bytes; one that does not fit the rest of a segment begins
//!   the next, and one that fits no segment has a file of its own, named by its number.
//! - A segment is left only after all of it was synced, and an oversized record gets its name only after all
//!   before it are durable: so the sync of one file makes all durable.
//! - Only the writer that the group committer has chosen is here; after its first failure there is no second.

use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, RelPath, described};
use crate::error::{Error, Result};
use crate::format::{Format, Hash, Keys};
use crate::group::{Ended, Reach, Sink};
use crate::guard::Health;
use crate::mutants::mutant;
use crate::page::Lsn;
use crate::record::{HEADER_BYTES, RECORD_ALIGN, Sealed, header_bytes, record_bytes};
use crate::segment::{LOG_DIR, LogName, SEGMENT_HEADER_BYTES, Segment, Segments, segment_header};
use crate::sync::lock;

/// A record that has its place in the order.
pub(crate) struct Queued {
    pub(crate) lsn: Lsn,
    pub(crate) sealed: Sealed,
    pub(crate) link: Hash,
    pub(crate) body: Body,
}

impl Queued {
    /// The room that was promised to it.
    fn promised(&self) -> u64 {
        match &self.body {
            Body::Parts(parts) => record_bytes(parts.iter().map(|part| part.len() as u64).sum()),
            Body::Big(_) => 0,
        }
    }
}

/// The body of a record.
pub(crate) enum Body {
    /// In RAM, in parts that follow each other.
    Parts(Vec<Vec<u8>>),
    /// In a file of its own, durable but for its name.
    Big(BigBody),
}

/// The body of an oversized record.
pub(crate) struct BigBody {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) temporary: RelPath,
    pub(crate) bytes: u64,
}

/// Where the next record goes.
struct Writer {
    segment: Segment,
    offset: u64,
    /// Whether the segment has records that were not synced.
    is_unsynced: bool,
}

/// Room for records in the segment that is written, and what was promised of it.
struct Room {
    left: u64,
    promised: u64,
}

/// The log of a directory.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    format: Format,
    keys: Keys,
    health: Arc<Health>,
    pub(crate) segments: Segments,
    writer: Mutex<Writer>,
    /// Goes with nothing: never held while another lock is taken.
    room: Mutex<Room>,
    /// A segment was taken, and one more should be prepared.
    is_short: AtomicBool,
}

impl Log {
    /// Goes on at `offset` of a segment.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        format: &Format,
        keys: &Keys,
        health: Arc<Health>,
        segments: Segments,
        begin: (Segment, u64),
    ) -> Log {
        let writer = Writer { segment: begin.0, offset: begin.1, is_unsynced: false };
        let room = Room { left: writer.segment.bytes - writer.offset, promised: 0 };
        Log {
            disk,
            format: format.clone(),
            keys: keys.clone(),
            health,
            segments,
            writer: Mutex::new(writer),
            room: Mutex::new(room),
            is_short: AtomicBool::new(true),
        }
    }

    /// Promises room for a record that is not ordered yet, so that a full disk is its caller's trouble and not
    /// the end of the store.
    pub(crate) fn promise(&self, bytes: u64) -> Result<()> {
        let mut room = lock(&self.room);
        let promised = room.promised + bytes;
        let left = room.left;
        room.promised = promised;
        drop(room);
        // Where records pass from one segment to the next, at most their own bytes are left unused.
        if promised <= left || 2 * promised <= left + self.segments.ready_bytes() {
            return Ok(());
        }
        self.segments.ensure(promised).inspect_err(|_| self.unpromise(bytes))
    }

    /// The record was written, or will not be.
    pub(crate) fn unpromise(&self, bytes: u64) {
        lock(&self.room).promised -= bytes;
    }

    /// Whether a segment was taken since this was last asked.
    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed) && self.is_short.swap(false, Ordering::Relaxed)
    }

    /// Moves the body of a record into a file of its own if no segment has room for it. Without a lock: it
    /// may be gigabytes.
    pub(crate) fn place(&self, parts: Vec<Vec<u8>>) -> Result<Body> {
        let body_bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if record_bytes(body_bytes) <= self.segments.record_bytes_max() {
            return Ok(Body::Parts(parts));
        }
        let temporary = self.segments.temporary();
        let bytes = SEGMENT_HEADER_BYTES + record_bytes(body_bytes);
        match self.write_big_body(&temporary, &parts, bytes) {
            Ok(file) => Ok(Body::Big(BigBody { file, temporary, bytes })),
            Err(error) => {
                // It takes room; if it stays, the next opening removes it.
                let _ = self.disk.unlink(&temporary);
                Err(self.failed(&temporary, error))
            }
        }
    }

    fn write_big_body(
        &self,
        temporary: &RelPath,
        parts: &[Vec<u8>],
        bytes: u64,
    ) -> std::io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(temporary, crate::disk::Open::Create)?;
        let mut at = SEGMENT_HEADER_BYTES + HEADER_BYTES as u64;
        for part in parts {
            file.write_at(at, &[IoSlice::new(part)])?;
            at += part.len() as u64;
        }
        file.set_len(bytes)?;
        // Not needed for safety, the sync of the header covers it; but that one then is short, and others wait
        // for it.
        if !mutant!(BIG_NOT_SYNCED) {
            file.sync_data()?;
        }
        Ok(file)
    }

    fn write_batch(&self, batch: &[Queued], reach: Reach) -> Result<()> {
        let mut writer = lock(&self.writer);
        let mut run = Vec::<(&Queued, &[Vec<u8>])>::new();
        let mut run_bytes = 0;
        for record in batch {
            match &record.body {
                Body::Parts(parts) => {
                    let bytes = record.promised();
                    if writer.offset + run_bytes + bytes > writer.segment.bytes {
                        self.write_run(&mut writer, &run)?;
                        self.sync(&mut writer)?;
                        writer.segment = self.next_segment(bytes)?;
                        writer.offset = SEGMENT_HEADER_BYTES;
                        run.clear();
                        run_bytes = 0;
                    }
                    run.push((record, parts));
                    run_bytes += bytes;
                }
                Body::Big(body) => {
                    self.write_run(&mut writer, &run)?;
                    run.clear();
                    run_bytes = 0;
                    self.sync(&mut writer)?;
                    self.write_big(record, body)?;
                }
            }
        }
        self.write_run(&mut writer, &run)?;
        let mut room = lock(&self.room);
        room.left = writer.segment.bytes - writer.offset;
        room.promised -= batch.iter().map(Queued::promised).sum::<u64>();
        drop(room);
        if reach == Reach::Synced { self.sync(&mut writer) } else { Ok(()) }
    }

    fn next_segment(&self, record_bytes: u64) -> Result<Segment> {
        let segment = self.segments.next(record_bytes)?;
        self.is_short.store(true, Ordering::Relaxed);
        assert!(
            SEGMENT_HEADER_BYTES + record_bytes <= segment.bytes,
            "a record was placed that does not fit"
        );
        Ok(segment)
    }

    /// Writes records that fit the segment, in one go.
    fn write_run(&self, writer: &mut Writer, run: &[(&Queued, &[Vec<u8>])]) -> Result<()> {
        const PADDING: [u8; RECORD_ALIGN as usize] = [0; RECORD_ALIGN as usize];
        if run.is_empty() {
            return Ok(());
        }
        let headers: Vec<_> =
            run.iter().map(|(record, _)| header_bytes(&record.sealed, &record.link, &self.keys)).collect();
        let mut slices = Vec::with_capacity(run.len() * 4);
        let mut written = 0;
        for (header, (_, parts)) in headers.iter().zip(run) {
            slices.push(IoSlice::new(header));
            let body_bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
            slices.extend(parts.iter().map(|part| IoSlice::new(part)));
            let bytes = record_bytes(body_bytes);
            let padding = bytes - HEADER_BYTES as u64 - body_bytes;
            slices.push(IoSlice::new(&PADDING[..usize::try_from(padding).expect("padding is short")]));
            written += bytes;
        }
        let result = writer.segment.file.write_at(writer.offset, &slices);
        result.map_err(|error| self.failed(&LogName::Segment(writer.segment.number).path(), error))?;
        writer.offset += written;
        writer.is_unsynced = true;
        Ok(())
    }

    fn sync(&self, writer: &mut Writer) -> Result<()> {
        if !writer.is_unsynced {
            return Ok(());
        }
        if !mutant!(NO_COMMIT_SYNC) {
            let result = writer.segment.file.sync_data();
            result.map_err(|error| self.failed(&LogName::Segment(writer.segment.number).path(), error))?;
        }
        writer.is_unsynced = false;
        Ok(())
    }

    fn write_big(&self, record: &Queued, body: &BigBody) -> Result<()> {
        let path = LogName::Big(record.lsn).path();
        let writing = |error| self.failed(&path, error);
        let segment = segment_header(&self.format, &self.keys, record.lsn.get(), body.bytes);
        let header = header_bytes(&record.sealed, &record.link, &self.keys);
        body.file.write_at(0, &[IoSlice::new(&segment), IoSlice::new(&header)]).map_err(writing)?;
        if !mutant!(BIG_NOT_SYNCED) {
            body.file.sync_data().map_err(writing)?;
        }
        self.disk.rename(&body.temporary, &path).map_err(writing)?;
        if !mutant!(BIG_NO_DIRECTORY_SYNC) {
            self.disk.sync_dir(&RelPath::new(LOG_DIR)).map_err(writing)?;
        }
        Ok(())
    }

    fn failed(&self, path: &RelPath, error: std::io::Error) -> Error {
        Error::writing(&described(&*self.disk, path), error)
    }
}

impl Sink<Queued> for Log {
    fn write(&self, batch: &[Queued], reach: Reach) -> Result<(), Ended> {
        self.write_batch(batch, reach).map_err(|error| {
            // Whatever failed, a full disk included: the record may be there in part.
            self.health.end(error);
            Ended
        })
    }
}

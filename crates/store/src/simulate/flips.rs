//! Bytes on disk that are not the ones written: bits that flipped, a log that was torn, and records that stand
//! where they do not belong.
//!
//! - What is opened is the state that was written, or a refusal that names the place. In the log alone it may
//!   be an earlier state, and only when nothing that is left proves the later one to have been acknowledged.
//! - A page that rotted is named by `verify`, and never given a fresh sum.

use std::sync::Arc;

use super::load;
use super::model::{Oracle, State};
use super::swarm::{Edit, Swarm};
use crate::record::{HEADER_BYTES, record_bytes};
use crate::segment::SEGMENT_HEADER_BYTES;
use crate::sim::{Faults, Random, SimDisk};
use crate::{Class, Config, Depth, Durability, ErrorKind, PAGE_BYTES, Result, Store};

/// What was tried, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and a text for each would say the same")]
pub struct FlipSummary {
    pub tried: u64,
    pub refused: u64,
    pub harmless: u64,
    /// The state before the record that was hit, which nothing proves to have been acknowledged.
    pub shorter: u64,
    /// Pages named by `verify`.
    pub named: u64,
}

/// A store that was killed with records in its log, and the state after each of them.
struct Image {
    disk: Arc<SimDisk>,
    swarm: Swarm,
    random: Random,
    /// The state after record `first + i`.
    states: Vec<State>,
    first: u64,
    records: Vec<Record>,
    /// The disk before the last record.
    before_last: Arc<SimDisk>,
}

/// Where a record stands.
struct Record {
    lsn: u64,
    path: String,
    at: u64,
    end: u64,
}

type Checked<T> = Result<T, String>;

impl Image {
    /// Four memories, a frozen copy, passed segments, and so many records that were not applied.
    fn new(seed: u64, live_records: usize) -> Result<Image> {
        let mut random = Random(seed);
        let swarm = Swarm {
            durability: Durability::Always,
            segment_bytes: 16 << 10,
            memories: 4,
            pages: 2,
            pages_max: 6,
            grow: 20,
            create: 0,
            drop: 0,
            copy: 0,
            metadata: 30,
            blobs: 5,
            oversized: 0,
            edit: Edit::Edges,
            checkpoint_log_bytes: 1 << 20,
            ..Swarm::draw(&mut random, false)
        };
        let disk = SimDisk::new(seed);
        let config = swarm.config(&mut random).with_plain_catalog();
        let (store, _) = Store::open_or_create(disk.clone(), &config)?;
        let mut oracle = Oracle::new();
        let mut append = |swarm: &Swarm, random: &mut Random| -> Result<State> {
            let mut state = oracle.newest().clone();
            let change = load::message(&store, swarm, &mut state, random)?;
            if !change.is_empty() {
                store.wait_durable(store.append(change)?)?;
                oracle.append(state.clone());
            }
            Ok(state)
        };
        for number in 0..60 {
            let edit = if number % 3 == 0 { Edit::Whole } else { Edit::Edges };
            let copy = if (30..36).contains(&number) { 100 } else { 0 };
            let create = if number < 4 { 100 } else { 0 };
            append(&Swarm { edit, copy, create, ..swarm.clone() }, &mut random)?;
        }
        let first = store.checkpoint()?.get();
        let mut states = vec![append(&swarm, &mut random)?];
        states[0] = State::of(&store)?;
        let first = first.max(store.progress()?.last.get());
        store.checkpoint()?;
        let mut before_last = disk.killed(Faults::none());
        while states.len() <= live_records {
            before_last = disk.killed(Faults::none());
            let lsn = store.progress()?.last;
            let state = append(&swarm, &mut random)?;
            if store.progress()?.last > lsn {
                states.push(state);
            }
        }
        drop(store);
        disk.crash(crate::sim::Crash::Kill);
        let records = records(&disk, first);
        Ok(Image { disk, swarm, random, states, first, records, before_last })
    }

    fn config(&mut self) -> Config {
        self.swarm.config(&mut self.random).with_plain_catalog()
    }

    fn last(&self) -> u64 {
        self.first + self.states.len() as u64 - 1
    }

    /// The state that a disk opens with, and its number; or the refusal.
    fn open(&mut self, disk: &Arc<SimDisk>) -> Result<(Store, u64)> {
        let config = self.config();
        let (store, _) = Store::open(disk.clone(), &config)?;
        let last = store.progress()?.last.get();
        Ok((store, last))
    }
}

/// The records after `first`, as they stand in the segments.
fn records(disk: &SimDisk, first: u64) -> Vec<Record> {
    let mut records = Vec::new();
    for path in disk.paths().into_keys().filter(|path| path.ends_with(".log")) {
        let bytes = disk.bytes(&path).unwrap_or_default();
        let number =
            |at: usize| bytes[at..at + 8].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut at = SEGMENT_HEADER_BYTES as usize;
        while at + HEADER_BYTES <= bytes.len() && bytes[at..].starts_with(b"BREC") {
            let (lsn, end) = (number(at + 8), at + record_bytes(number(at + 24)) as usize);
            if lsn > first {
                records.push(Record { lsn, path: path.clone(), at: at as u64, end: end as u64 });
            }
            at = end;
        }
    }
    records.sort_by_key(|record| record.lsn);
    records
}

/// Flips bits everywhere, one at a time: in metadata `bits` of each byte, in pages one. Of bytes that are zero,
/// most of them reserved, only every `zeros_every`th is tried.
///
/// # Errors
/// The first promise that was broken.
pub fn flips(seed: u64, bits: u32, zeros_every: u64) -> Checked<FlipSummary> {
    let mut image = Image::new(seed, 40).map_err(|error| error.to_string())?;
    let of = |class: Class| image.states[0].memories.values().filter(|memory| memory.class == class).count();
    let (live, frozen, records) = (of(Class::Live), of(Class::Frozen), image.records.len());
    if live < 4 || frozen < 1 || records < 40 {
        return Err(format!(
            "the image has {live} memories, {frozen} frozen ones and {records} records only"
        ));
    }
    let mut summary = FlipSummary::default();
    let mut random = Random(seed);
    for (path, length) in image.disk.paths() {
        if path == "LOCK" || path == "RESERVE" || path.ends_with(".tmp") {
            continue;
        }
        let is_base = path.ends_with(".base");
        let bytes = image.disk.bytes(&path).map_err(|error| error.to_string())?;
        let mut at = 0;
        while at < length {
            let end =
                image.records.iter().filter(|record| record.path == path).map(|record| record.end).max();
            let is_dull = path.ends_with(".log") && at >= end.unwrap_or(SEGMENT_HEADER_BYTES);
            let is_skipped = bytes[at as usize] == 0 && !at.is_multiple_of(zeros_every);
            let times = if is_base {
                1
            } else if is_skipped {
                0
            } else {
                bits
            };
            for _ in 0..times {
                let place = if is_base { at + random.below(PAGE_BYTES) as u64 } else { at };
                let disk = image.disk.fork();
                let flipped = disk.rot(&path, place, 1 << random.below(8));
                flipped.map_err(|error| error.to_string())?;
                let found = flipped_image(&mut image, &disk, &path, place, &mut summary);
                found.map_err(|what| format!("byte {place} of {path}: {what}"))?;
            }
            // Behind the last record there is nothing but what an old life left.
            at += if is_base || is_dull { PAGE_BYTES as u64 + 1 - u64::from(is_base) } else { 1 };
        }
    }
    Ok(summary)
}

fn flipped_image(
    image: &mut Image,
    disk: &Arc<SimDisk>,
    path: &str,
    at: u64,
    summary: &mut FlipSummary,
) -> Checked<()> {
    summary.tried += 1;
    let (store, last) = match image.open(disk) {
        Ok(opened) => opened,
        Err(error) => {
            summary.refused += 1;
            let kind_is_right = match path {
                "FORMAT" => matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Format),
                _ => error.kind() == ErrorKind::Damaged,
            };
            let memory = path.strip_suffix(".sum").map(|path| format!("{path}.base"));
            let text = error.to_string();
            let is_named = text.contains(path) || memory.is_some_and(|memory| text.contains(&memory));
            // A record is missing where it should stand, which may be the end of the segment before.
            let is_log = path.ends_with(".log") && text.contains(".log");
            return if kind_is_right && (is_named || is_log) { Ok(()) } else { Err(format!("{error:?}")) };
        }
    };
    if last < image.last() {
        summary.shorter += 1;
        let hit =
            image.records.iter().find(|record| record.path == path && (record.at..record.end).contains(&at));
        return match hit {
            Some(record) if record.lsn == image.last() && last == record.lsn - 1 => {
                expect(image, &store, last)
            }
            _ => Err(format!(
                "record {last} is the last, {} was acknowledged and later ones prove it",
                image.last()
            )),
        };
    }
    let report = store.verify(Depth::Full).map_err(|error| format!("no report: {error}"))?;
    match report.findings.as_slice() {
        [] => {
            summary.harmless += 1;
            expect(image, &store, last)
        }
        [finding] => {
            summary.named += 1;
            let per_page = if path.ends_with(".sum") { 4 } else { PAGE_BYTES as u64 };
            let base = path.replace(".sum", ".base");
            let page_at = at / per_page * PAGE_BYTES as u64;
            let is_page = finding.file.ends_with(&base) && finding.offset == page_at;
            let is_blob = path.starts_with("blob/") && finding.file.ends_with(path);
            if is_page || is_blob { Ok(()) } else { Err(format!("{finding:?} is not the place")) }
        }
        findings => Err(format!("{} places are named for one", findings.len())),
    }
}

fn expect(image: &Image, store: &Store, last: u64) -> Checked<()> {
    let found = State::of(store).map_err(|error| format!("what was opened cannot be read: {error}"))?;
    let expected = &image.states[usize::try_from(last - image.first).expect("few states")];
    if found == *expected { Ok(()) } else { Err(format!("another state: {}", found.difference(expected))) }
}

/// Tears the log at every 64 bytes: all from there on is zeros, or only these 64 bytes are.
///
/// # Errors
/// The first promise that was broken.
pub fn torn_tails(seed: u64, records: usize) -> Checked<FlipSummary> {
    let mut image = Image::new(seed, records).map_err(|error| error.to_string())?;
    let mut summary = FlipSummary::default();
    let files: Vec<_> = image.disk.paths().into_keys().filter(|path| path.ends_with(".log")).collect();
    let places: Vec<_> = image
        .records
        .iter()
        .flat_map(|record| {
            (record.at..record.end).step_by(64).map(|at| (record.path.clone(), at, record.lsn))
        })
        .collect();
    for (path, at, lsn) in places {
        summary.tried += 1;
        let mut torn = image.disk.fork();
        for file in files.iter().filter(|file| **file >= path) {
            let mut bytes = image.disk.bytes(file).map_err(|error| error.to_string())?;
            bytes[if *file == path { at as usize } else { SEGMENT_HEADER_BYTES as usize }..].fill(0);
            torn = torn.damaged(file, Some(bytes));
        }
        let (store, last) = image.open(&torn).map_err(|error| format!("torn at {path}, {at}: {error}"))?;
        // A record that ends with zeros is whole without them.
        let end = image.records.iter().find(|record| record.lsn == lsn).map_or(at, |record| record.end);
        let bytes = image.disk.bytes(&path).map_err(|error| error.to_string())?;
        let whole = bytes[at as usize..end as usize].iter().all(|byte| *byte == 0);
        let expected = if whole { lsn } else { lsn - 1 };
        if last != expected {
            return Err(format!("torn at {path}, {at}: record {last} is the last, not {expected}"));
        }
        expect(&image, &store, last).map_err(|what| format!("torn at {path}, {at}: {what}"))?;
        summary.shorter += 1;

        let mut bytes = image.disk.bytes(&path).map_err(|error| error.to_string())?;
        let hole = &mut bytes[at as usize..at as usize + 64];
        if hole.iter().all(|byte| *byte == 0) {
            continue;
        }
        hole.fill(0);
        match image.open(&image.disk.fork().damaged(&path, Some(bytes))) {
            Err(error) if error.kind() == ErrorKind::Damaged && lsn < image.last() => summary.refused += 1,
            Ok((store, last)) if lsn == image.last() && last == lsn - 1 => {
                expect(&image, &store, last).map_err(|what| format!("a hole at {path}, {at}: {what}"))?;
            }
            Err(error) => return Err(format!("a hole at {path}, {at}, in record {lsn}: {error}")),
            Ok((_, last)) => {
                return Err(format!("a hole at {path}, {at}, in record {lsn}: record {last} is the last"));
            }
        }
    }
    Ok(summary)
}

/// A record of a life that ended without it stands where the next life will look for its first one, as it may
/// in a segment that was used before. It is right in every byte, and must not be believed.
///
/// # Errors
/// When it is.
pub fn stale_record(seed: u64) -> Checked<()> {
    let mut image = Image::new(seed, 12).map_err(|error| error.to_string())?;
    let record = image.records.pop().expect("the image has records");
    let source = image.disk.bytes(&record.path).map_err(|error| error.to_string())?;
    let bytes = &source[record.at as usize..record.end as usize];
    let disk = image.before_last.clone();
    let (store, last) = image.open(&disk).map_err(|error| error.to_string())?;
    if last != record.lsn - 1 {
        return Err(format!("record {last} is the last before record {}", record.lsn));
    }
    drop(store);
    let mut planted = disk.killed(Faults::none());
    for path in disk.paths().into_keys().filter(|path| path.ends_with(".log")) {
        let mut target = disk.bytes(&path).map_err(|error| error.to_string())?;
        let begin = SEGMENT_HEADER_BYTES as usize;
        // Segments of this life are empty.
        if target[begin..].iter().all(|byte| *byte == 0) && target.len() >= begin + bytes.len() {
            target[begin..begin + bytes.len()].copy_from_slice(bytes);
            planted = planted.damaged(&path, Some(target));
        }
    }
    let (store, last) =
        image.open(&planted).map_err(|error| format!("a stale record is an error: {error}"))?;
    if last != record.lsn - 1 {
        return Err(format!("record {last} is of another life, and was believed"));
    }
    expect(&image, &store, last)
}

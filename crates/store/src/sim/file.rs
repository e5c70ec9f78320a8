//! One file of the simulated disk: what reads show, and what the disk may hold after a power cut.
//!
//! - Content is kept in chunks of 4,096 bytes that are shared until written; a hole has none, so a file costs
//!   what was written to it whatever its length.
//! - Each write keeps the chunk it replaced until the next sync, with the sectors that it touched: those are
//!   the versions between which a power cut chooses.
//! - After a failed sync the disk may hold other bytes than reads show, in sectors that count as clean.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::Random;

pub(super) const CHUNK_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
const SECTORS: usize = CHUNK_BYTES / SECTOR_BYTES;
const _: () = assert!(SECTORS == u8::BITS as usize);

pub(super) type Chunk = [u8; CHUNK_BYTES];

const ZEROS: &Chunk = &[0; CHUNK_BYTES];

/// A file that is only filled with zeros costs a pointer per chunk.
fn zero_chunk() -> Arc<Chunk> {
    static ZERO: OnceLock<Arc<Chunk>> = OnceLock::new();
    ZERO.get_or_init(|| Arc::new(*ZEROS)).clone()
}

#[derive(Clone, Default)]
pub(super) struct SimFile {
    /// The length that is shown.
    length: u64,
    /// What reads show; a chunk that is absent is a hole.
    chunks: BTreeMap<u64, Arc<Chunk>>,
    /// The lengths since the last sync, the durable one first and the shown one left out; empty when it is
    /// clean.
    lengths: Vec<u64>,
    /// What was in a chunk before each write since the last sync.
    unsynced: BTreeMap<u64, Vec<Earlier>>,
    /// What a failed sync left on the disk in place of what reads show.
    lost: BTreeMap<u64, Lost>,
    lost_length: Option<u64>,
}

#[derive(Clone)]
struct Earlier {
    /// Bit `s` is set when the write touched sector `s`.
    sectors: u8,
    content: Option<Arc<Chunk>>,
}

#[derive(Clone)]
struct Lost {
    sectors: u8,
    content: Box<Chunk>,
}

/// The sectors of a chunk that hold any of these bytes.
fn sectors_of(bytes: &Range<usize>) -> u8 {
    let (first, end) = (bytes.start / SECTOR_BYTES, bytes.end.div_ceil(SECTOR_BYTES));
    (first..end).fold(0, |sectors, sector| sectors | 1 << sector)
}

fn sector(index: usize) -> Range<usize> {
    index * SECTOR_BYTES..(index + 1) * SECTOR_BYTES
}

/// Chooses which version of a sector or a length survives.
struct Choice {
    /// Percentage of sectors that get their newest version.
    newest_share: usize,
}

impl Choice {
    fn draw(random: &mut Random) -> Choice {
        Choice { newest_share: [0, 5, 50, 95, 100][random.below(5)] }
    }

    /// Which of so many earlier versions is on the disk; `None` means the newest. The first, which is the
    /// durable one, is the likeliest of the earlier ones.
    fn of(&self, earlier: usize, random: &mut Random) -> Option<usize> {
        if random.below(100) < self.newest_share {
            return None;
        }
        Some(if earlier == 1 || random.below(2) == 0 { 0 } else { random.below(earlier) })
    }
}

impl SimFile {
    pub(super) fn len(&self) -> u64 {
        self.length
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        (self.chunks.len() * CHUNK_BYTES) as u64
    }

    pub(super) fn is_clean(&self) -> bool {
        self.lengths.is_empty()
            && self.unsynced.is_empty()
            && self.lost.is_empty()
            && self.lost_length.is_none()
    }

    /// Any chunk that reads show.
    pub(super) fn any_chunk(&self, random: &mut Random) -> Option<Arc<Chunk>> {
        let last = *self.chunks.keys().next_back()?;
        let from = random.number() % (last + 1);
        self.chunks.range(from..).next().map(|(_, chunk)| chunk.clone())
    }

    /// Fills `buf`; false when the file ends before.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> bool {
        if at.checked_add(buf.len() as u64).is_none_or(|end| end > self.length) {
            return false;
        }
        let mut done = 0;
        while done < buf.len() {
            let (index, within) = place(at + done as u64);
            let bytes = (CHUNK_BYTES - within).min(buf.len() - done);
            let target = &mut buf[done..done + bytes];
            match self.chunks.get(&index) {
                Some(chunk) => target.copy_from_slice(&chunk[within..within + bytes]),
                None => target.fill(0),
            }
            done += bytes;
        }
        true
    }

    /// The chunks that writing this range would add.
    pub(super) fn holes(&self, at: u64, bytes: usize) -> impl Iterator<Item = u64> {
        let chunks = at / CHUNK_BYTES as u64..(at + bytes as u64).div_ceil(CHUNK_BYTES as u64);
        chunks.filter(|index| !self.chunks.contains_key(index))
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let (index, within) = place(at + done as u64);
            let length = (CHUNK_BYTES - within).min(bytes.len() - done);
            let range = within..within + length;
            let new = &bytes[done..done + length];
            let content = self.chunks.get(&index).cloned();
            let chunk = if new == ZEROS {
                zero_chunk()
            } else {
                let mut chunk = **content.as_ref().unwrap_or(&zero_chunk());
                chunk[range.clone()].copy_from_slice(new);
                Arc::new(chunk)
            };
            self.chunks.insert(index, chunk);
            self.remember(index, sectors_of(&range), content);
            done += length;
        }
        let end = at + bytes.len() as u64;
        if end > self.length && !bytes.is_empty() {
            self.show_length(end);
        }
    }

    pub(super) fn set_len(&mut self, length: u64) {
        let (index, within) = place(length);
        if length < self.length {
            let beyond = self.chunks.split_off(&length.div_ceil(CHUNK_BYTES as u64));
            for (index, chunk) in beyond {
                self.remember(index, u8::MAX, Some(chunk));
            }
            if within > 0
                && let Some(old) = self.chunks.get(&index).cloned()
            {
                let mut chunk = *old;
                chunk[within..].fill(0);
                self.chunks.insert(index, Arc::new(chunk));
                self.remember(index, sectors_of(&(within..CHUNK_BYTES)), Some(old));
            }
        }
        if length != self.length {
            self.show_length(length);
        }
    }

    /// Takes the content that `from` shows; this file is new.
    pub(super) fn clone_from_shown(&mut self, from: &SimFile, chunks: usize) {
        for (index, chunk) in from.chunks.iter().take(chunks) {
            self.chunks.insert(*index, chunk.clone());
            self.remember(*index, u8::MAX, None);
        }
        self.show_length(from.length);
    }

    pub(super) fn data_ranges(&self, from: u64) -> Option<Range<u64>> {
        let chunk_bytes = CHUNK_BYTES as u64;
        let mut chunks = self.chunks.range(from / chunk_bytes..).map(|(index, _)| *index);
        let first = chunks.next()?;
        let mut end = first + 1;
        for index in chunks {
            if index != end {
                break;
            }
            end += 1;
        }
        let range = from.max(first * chunk_bytes)..self.length.min(end * chunk_bytes);
        (!range.is_empty()).then_some(range)
    }

    /// Changes bits where they rest: in every version.
    pub(super) fn rot(&mut self, at: u64, xor: u8) {
        let (index, within) = place(at);
        let flip = |chunk: &mut Arc<Chunk>| Arc::make_mut(chunk)[within] ^= xor;
        flip(self.chunks.entry(index).or_insert_with(zero_chunk));
        for earlier in self.unsynced.get_mut(&index).into_iter().flatten() {
            earlier.content.iter_mut().for_each(flip);
        }
    }

    fn remember(&mut self, index: u64, sectors: u8, content: Option<Arc<Chunk>>) {
        self.unsynced.entry(index).or_default().push(Earlier { sectors, content });
    }

    fn show_length(&mut self, length: u64) {
        let earlier = self.lost_length.filter(|_| self.lengths.is_empty()).unwrap_or(self.length);
        self.lengths.push(earlier);
        self.length = length;
    }

    fn durable_length(&self) -> u64 {
        self.lengths.first().copied().or(self.lost_length).unwrap_or(self.length)
    }

    pub(super) fn sync(&mut self) {
        if !self.lengths.is_empty() {
            self.lengths.clear();
            self.lost_length = None;
        }
        for (index, versions) in std::mem::take(&mut self.unsynced) {
            if let Some(lost) = self.lost.get_mut(&index) {
                lost.sectors &= !touched(&versions);
                if lost.sectors == 0 {
                    self.lost.remove(&index);
                }
            }
        }
    }

    /// A sync that fails: some of the sectors reach the disk, and all of them count as clean.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        let choice = Choice::draw(random);
        let lengths = std::mem::take(&mut self.lengths);
        if !lengths.is_empty() {
            self.lost_length = choice.of(lengths.len(), random).map(|version| lengths[version]);
        }
        for (index, versions) in std::mem::take(&mut self.unsynced) {
            let before = self.lost.remove(&index);
            let mut lost = before.clone().unwrap_or_else(|| Lost { sectors: 0, content: Box::new(*ZEROS) });
            for sector_index in sectors_in(touched(&versions)) {
                let earlier = earlier_contents(&versions, sector_index);
                lost.sectors &= !(1 << sector_index);
                if let Some(version) = choice.of(earlier.len(), random) {
                    let content = match &before {
                        Some(before) if version == 0 && before.sectors & 1 << sector_index != 0 => {
                            &before.content
                        }
                        _ => earlier[version],
                    };
                    lost.sectors |= 1 << sector_index;
                    lost.content[sector(sector_index)].copy_from_slice(&content[sector(sector_index)]);
                }
            }
            if lost.sectors != 0 {
                self.lost.insert(index, lost);
            }
        }
    }

    /// The kernel forgets what it could not write and holds to be clean: reads show what the disk holds.
    pub(super) fn evict_lost(&mut self) {
        let unsynced = &self.unsynced;
        for (index, lost) in self.lost.extract_if(.., |index, _| !unsynced.contains_key(index)) {
            let chunk = Arc::make_mut(self.chunks.entry(index).or_insert_with(zero_chunk));
            for sector_index in sectors_in(lost.sectors) {
                chunk[sector(sector_index)].copy_from_slice(&lost.content[sector(sector_index)]);
            }
        }
        self.cut_off();
    }

    /// The power fails: what is shown becomes what the disk held at that moment. Sectors beyond the durable
    /// length that were not written read as zeros or as one of the `stale` chunks.
    pub(super) fn power_cut(&mut self, random: &mut Random, stale: &[Arc<Chunk>]) {
        let choice = Choice::draw(random);
        let durable_length = self.durable_length();
        if !self.lengths.is_empty() {
            let earlier = self.lengths.len();
            if random.below(2) == 0 {
                self.length = self.lengths[if random.below(2) == 0 { 0 } else { random.below(earlier) }];
            }
        } else if let Some(length) = self.lost_length {
            self.length = length;
        }
        for (index, versions) in std::mem::take(&mut self.unsynced) {
            let lost = self.lost.remove(&index).unwrap_or(Lost { sectors: 0, content: Box::new(*ZEROS) });
            let mut chunk = self.chunks.get(&index).map_or(*ZEROS, |chunk| **chunk);
            let touched = touched(&versions);
            for sector_index in sectors_in(lost.sectors & !touched) {
                chunk[sector(sector_index)].copy_from_slice(&lost.content[sector(sector_index)]);
            }
            for sector_index in sectors_in(touched) {
                let earlier = earlier_contents(&versions, sector_index);
                let Some(version) = choice.of(earlier.len(), random) else { continue };
                let beyond = index * CHUNK_BYTES as u64 + sector(sector_index).start as u64 >= durable_length;
                let content: &Chunk = if version > 0 {
                    earlier[version]
                } else if lost.sectors & 1 << sector_index != 0 {
                    &lost.content
                } else if beyond && !stale.is_empty() && random.below(2) == 0 {
                    &stale[random.below(stale.len())]
                } else {
                    earlier[0]
                };
                chunk[sector(sector_index)].copy_from_slice(&content[sector(sector_index)]);
            }
            if versions[0].content.is_none() && chunk == *ZEROS {
                self.chunks.remove(&index);
            } else {
                self.chunks.insert(index, Arc::new(chunk));
            }
        }
        self.evict_lost();
        self.lengths.clear();
        self.lost_length = None;
    }

    /// Nothing is beyond the length.
    fn cut_off(&mut self) {
        let (index, within) = place(self.length);
        self.chunks.split_off(&self.length.div_ceil(CHUNK_BYTES as u64));
        if within > 0
            && let Some(chunk) = self.chunks.get_mut(&index)
            && chunk[within..].iter().any(|byte| *byte != 0)
        {
            Arc::make_mut(chunk)[within..].fill(0);
        }
    }
}

fn place(at: u64) -> (u64, usize) {
    (at / CHUNK_BYTES as u64, (at % CHUNK_BYTES as u64) as usize)
}

fn touched(versions: &[Earlier]) -> u8 {
    versions.iter().fold(0, |sectors, version| sectors | version.sectors)
}

fn sectors_in(sectors: u8) -> impl Iterator<Item = usize> {
    (0..SECTORS).filter(move |index| sectors & 1 << index != 0)
}

/// What a sector held before each write that touched it.
fn earlier_contents(versions: &[Earlier], sector: usize) -> Vec<&Chunk> {
    let touching = versions.iter().filter(|version| version.sectors & 1 << sector != 0);
    touching.map(|version| version.content.as_deref().unwrap_or(ZEROS)).collect()
}

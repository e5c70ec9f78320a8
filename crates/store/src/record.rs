//! One record of the log: a header of 128 bytes, then a body of entries.
//!
//! - The link of a header hashes the previous link and the header: it says that this record follows that one,
//!   and no other record of any time does.
//! - The body's hash is checked before an entry is read; bounds of entries are checked all the same. Whether
//!   the numbers in an entry fit the state is for `apply` to say.
//! - Every entry begins at a multiple of 8 bytes of its body.

use std::ops::Range;

use crate::change::{BlobId, KEY_BYTES_MAX};
use crate::format::{Hash, Keys};
use crate::mutants::mutant;
use crate::page::{BLOCK_BYTES, Lsn, MemoryId, PageCount, PageIndex};

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 128;
/// Records begin at multiples of this.
pub(crate) const RECORD_ALIGN: u64 = 64;
/// The part of the header that the hashes cover.
const HASHED: Range<usize> = 0..72;
const LINK: Range<usize> = 72..104;
const OWN: Range<usize> = 104..120;
const MAGIC: &[u8; 4] = b"BREC";

/// The hashed part of a header.
pub(crate) type Sealed = [u8; 72];

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) entries: u32,
    pub(crate) lsn: Lsn,
    /// The newest record that was known to be durable when this one was made.
    pub(crate) durable: Lsn,
    pub(crate) body_bytes: u64,
    pub(crate) body_hash: Hash,
}

impl Header {
    /// The hashed part and the link that this record hands to the next.
    pub(crate) fn seal(&self, keys: &Keys, previous: &Hash) -> (Sealed, Hash) {
        let mut sealed = [0; HASHED.end];
        sealed[..4].copy_from_slice(MAGIC);
        sealed[4..8].copy_from_slice(&self.entries.to_le_bytes());
        sealed[8..16].copy_from_slice(&self.lsn.get().to_le_bytes());
        sealed[16..24].copy_from_slice(&self.durable.get().to_le_bytes());
        sealed[24..32].copy_from_slice(&self.body_bytes.to_le_bytes());
        sealed[40..72].copy_from_slice(&self.body_hash);
        (sealed, link(keys, previous, &sealed))
    }

    /// Reads a header for its own sake: whether it is one of this store, of whatever time.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], keys: &Keys) -> Option<Header> {
        if &bytes[..4] != MAGIC || bytes[OWN] != own(keys, &bytes[HASHED]) || bytes[OWN.end..] != [0; 8] {
            return None;
        }
        let field =
            |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("fields lie within the header"));
        if field(32) != 0 {
            return None;
        }
        Some(Header {
            entries: u32::from_le_bytes(*bytes[4..].first_chunk().expect("fields lie within the header")),
            lsn: Lsn::new(field(8)),
            durable: Lsn::new(field(16)),
            body_bytes: field(24),
            body_hash: *bytes[40..].first_chunk().expect("fields lie within the header"),
        })
    }

    /// Reads the header of the record that follows `previous` and has the number `lsn`; the link after it.
    pub(crate) fn decode_next(
        bytes: &[u8; HEADER_BYTES],
        keys: &Keys,
        previous: &Hash,
        lsn: Lsn,
    ) -> Option<(Header, Hash)> {
        let header = Header::decode(bytes, keys)?;
        let sealed = bytes.first_chunk().expect("a header is longer than its hashed part");
        let link = if mutant!(NO_CHAIN) {
            *bytes[LINK].first_chunk().expect("the link has 32 bytes")
        } else {
            link(keys, previous, sealed)
        };
        (header.lsn == lsn && bytes[LINK] == link).then_some((header, link))
    }

    /// Bytes of the record with its padding.
    pub(crate) fn record_bytes(&self) -> u64 {
        record_bytes(self.body_bytes)
    }
}

/// Bytes of a record with such a body, padding included.
pub(crate) fn record_bytes(body_bytes: u64) -> u64 {
    (HEADER_BYTES as u64)
        .saturating_add(body_bytes)
        .checked_next_multiple_of(RECORD_ALIGN)
        .unwrap_or(u64::MAX)
}

/// The bytes of a header.
pub(crate) fn header_bytes(sealed: &Sealed, link: &Hash, keys: &Keys) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[HASHED].copy_from_slice(sealed);
    bytes[LINK].copy_from_slice(link);
    bytes[OWN].copy_from_slice(&own(keys, sealed));
    bytes
}

fn link(keys: &Keys, previous: &Hash, sealed: &Sealed) -> Hash {
    let mut input = [0; 104];
    input[..32].copy_from_slice(previous);
    input[32..].copy_from_slice(sealed);
    *blake3::keyed_hash(&keys.link, &input).as_bytes()
}

fn own(keys: &Keys, sealed: &[u8]) -> [u8; 16] {
    let hash = blake3::keyed_hash(&keys.own, sealed);
    *hash.as_bytes().first_chunk().expect("16 bytes are fewer than 32")
}

const PAGES: u32 = 1;
const GROW: u32 = 2;
const CREATE: u32 = 3;
const DROP: u32 = 4;
const PUT: u32 = 5;
const DELETE: u32 = 6;
const BLOB: u32 = 7;

/// Bytes of an entry PAGES before its first page.
pub(crate) const PAGES_ENTRY_BYTES: usize = 16;
/// Bytes of a page in an entry PAGES before its first block.
pub(crate) const PAGE_HEADER_BYTES: usize = 16;

/// Whether a memory may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It is written by changes.
    Live,
    /// It is never written again.
    Frozen,
}

/// One entry of a body. PAGES is taken apart into its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    Page {
        memory: MemoryId,
        index: PageIndex,
        /// The sum of the whole page after the change.
        sum: u32,
        /// Which blocks follow; never 0.
        mask: u64,
        blocks: &'a [u8],
        /// Where the blocks begin in the body.
        at: u64,
    },
    Grow {
        memory: MemoryId,
        pages: PageCount,
    },
    Create {
        memory: MemoryId,
        class: Class,
        capacity: PageCount,
        source: Option<MemoryId>,
    },
    Drop {
        memory: MemoryId,
    },
    Put {
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        key: &'a [u8],
    },
    Blob {
        id: BlobId,
        change: i32,
    },
}

/// The head of an entry PAGES with `count` pages.
pub(crate) fn pages_head(memory: MemoryId, count: u32) -> [u8; PAGES_ENTRY_BYTES] {
    let mut bytes = [0; PAGES_ENTRY_BYTES];
    bytes[..4].copy_from_slice(&PAGES.to_le_bytes());
    bytes[4..8].copy_from_slice(&count.to_le_bytes());
    bytes[8..].copy_from_slice(&memory.get().to_le_bytes());
    bytes
}

/// The head of a page in an entry PAGES.
pub(crate) fn page_head(index: u32, sum: u32, mask: u64) -> [u8; PAGE_HEADER_BYTES] {
    let mut bytes = [0; PAGE_HEADER_BYTES];
    bytes[..4].copy_from_slice(&index.to_le_bytes());
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes[8..].copy_from_slice(&mask.to_le_bytes());
    bytes
}

/// Appends an entry of any kind but PAGES.
pub(crate) fn encode(entry: &Entry<'_>, bytes: &mut Vec<u8>) {
    let mut words = |kind: u32, second: u32, rest: &[u64]| {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&second.to_le_bytes());
        rest.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    };
    let key_bytes = |key: &[u8]| u32::try_from(key.len()).expect("a key is no longer than KEY_BYTES_MAX");
    match *entry {
        Entry::Page { .. } => unreachable!("pages are encoded as they are given"),
        Entry::Grow { memory, pages } => words(GROW, 0, &[memory.get(), pages.get().into()]),
        Entry::Create { memory, class, capacity, source } => {
            let source = source.map_or(0, MemoryId::get);
            words(CREATE, class as u32, &[memory.get(), capacity.get().into(), source]);
        }
        Entry::Drop { memory } => words(DROP, 0, &[memory.get()]),
        Entry::Put { key, value } => {
            words(PUT, key_bytes(key), &[value.len() as u64]);
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
        }
        Entry::Delete { key } => {
            words(DELETE, key_bytes(key), &[]);
            bytes.extend_from_slice(key);
        }
        Entry::Blob { id, change } => {
            words(BLOB, u32::from_le_bytes(change.to_le_bytes()), &[]);
            bytes.extend_from_slice(id.as_bytes());
        }
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}

/// Where a body is read from: RAM, or piece by piece a file.
pub(crate) trait Source {
    /// Why reading may fail.
    type Error;
    /// The bytes `at..at + length`, which the caller knows to be there.
    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8], Self::Error>;
}

impl Source for &[u8] {
    type Error = std::convert::Infallible;

    fn bytes(&mut self, at: u64, length: usize) -> Result<&[u8], Self::Error> {
        let at = usize::try_from(at).expect("the body is in RAM");
        Ok(&self[at..at + length])
    }
}

/// Why a body cannot be read.
#[derive(Debug)]
pub(crate) enum BodyError<E> {
    /// It is malformed at this byte of the body.
    Malformed(u64, &'static str),
    /// The source or the visitor failed.
    Other(E),
}

impl<E> From<E> for BodyError<E> {
    fn from(error: E) -> Self {
        BodyError::Other(error)
    }
}

struct BodyCursor<'a, S> {
    source: &'a mut S,
    at: u64,
    end: u64,
}

impl<S: Source> BodyCursor<'_, S> {
    fn take(&mut self, length: u64) -> Result<&[u8], BodyError<S::Error>> {
        let at = self.at;
        let fits = self.end.checked_sub(at).is_some_and(|left| length <= left);
        let Some(length) = usize::try_from(length).ok().filter(|_| fits) else {
            return Err(BodyError::Malformed(at, "an entry reaches beyond the body"));
        };
        self.at += length as u64;
        Ok(self.source.bytes(at, length)?)
    }

    fn u32(&mut self) -> Result<u32, BodyError<S::Error>> {
        Ok(u32::from_le_bytes(*self.take(4)?.first_chunk().expect("four bytes were taken")))
    }

    fn u64(&mut self) -> Result<u64, BodyError<S::Error>> {
        Ok(u64::from_le_bytes(*self.take(8)?.first_chunk().expect("eight bytes were taken")))
    }

    fn pages(&mut self) -> Result<PageCount, BodyError<S::Error>> {
        let at = self.at;
        let pages = u32::try_from(self.u64()?);
        pages.map(PageCount::new).map_err(|_| BodyError::Malformed(at, "a size is larger than any memory"))
    }

    fn zero(&mut self, is_zero: bool) -> Result<(), BodyError<S::Error>> {
        if is_zero { Ok(()) } else { Err(BodyError::Malformed(self.at, "reserved bytes are not zero")) }
    }

    fn pad(&mut self) -> Result<(), BodyError<S::Error>> {
        let pad = self.at.next_multiple_of(8) - self.at;
        let is_zero = self.take(pad)?.iter().all(|byte| *byte == 0);
        self.zero(is_zero)
    }
}

/// Calls `visit` with each entry of a body of `bytes` bytes that says to have `entries` entries.
pub(crate) fn decode<S: Source>(
    source: &mut S,
    bytes: u64,
    entries: u32,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), S::Error>,
) -> Result<(), BodyError<S::Error>> {
    let mut cursor = BodyCursor { source, at: 0, end: bytes };
    for _ in 0..entries {
        decode_entry(&mut cursor, visit)?;
    }
    if cursor.at != bytes {
        return Err(BodyError::Malformed(cursor.at, "bytes follow the last entry"));
    }
    Ok(())
}

fn decode_entry<S: Source>(
    cursor: &mut BodyCursor<'_, S>,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), S::Error>,
) -> Result<(), BodyError<S::Error>> {
    let began = cursor.at;
    let (kind, second) = (cursor.u32()?, cursor.u32()?);
    match kind {
        PAGES => decode_pages(cursor, second, visit)?,
        GROW => {
            cursor.zero(second == 0)?;
            let (memory, pages) = (MemoryId::new(cursor.u64()?), cursor.pages()?);
            visit(Entry::Grow { memory, pages })?;
        }
        CREATE => {
            let class = match second {
                0 => Class::Live,
                1 => Class::Frozen,
                _ => return Err(BodyError::Malformed(began, "a memory is neither live nor frozen")),
            };
            let (memory, capacity, source) =
                (MemoryId::new(cursor.u64()?), cursor.pages()?, MemoryId::new(cursor.u64()?));
            let source = (source.get() != 0).then_some(source);
            visit(Entry::Create { memory, class, capacity, source })?;
        }
        DROP => {
            cursor.zero(second == 0)?;
            visit(Entry::Drop { memory: MemoryId::new(cursor.u64()?) })?;
        }
        PUT => {
            let value_bytes = cursor.u64()?;
            let key_bytes = key_bytes(began, second)?;
            let both = u64::from(second)
                .checked_add(value_bytes)
                .ok_or(BodyError::Malformed(began, "an entry reaches beyond the body"))?;
            let (key, value) = cursor.take(both)?.split_at(key_bytes);
            visit(Entry::Put { key, value })?;
            cursor.pad()?;
        }
        DELETE => {
            key_bytes(began, second)?;
            visit(Entry::Delete { key: cursor.take(second.into())? })?;
            cursor.pad()?;
        }
        BLOB => {
            let id = BlobId::new(*cursor.take(32)?.first_chunk().expect("32 bytes were taken"));
            visit(Entry::Blob { id, change: i32::from_le_bytes(second.to_le_bytes()) })?;
        }
        _ => return Err(BodyError::Malformed(began, "an entry is of an unknown kind")),
    }
    Ok(())
}

fn key_bytes<E>(at: u64, bytes: u32) -> Result<usize, BodyError<E>> {
    let bytes = bytes as usize;
    if bytes > KEY_BYTES_MAX { Err(BodyError::Malformed(at, "a key is too long")) } else { Ok(bytes) }
}

fn decode_pages<S: Source>(
    cursor: &mut BodyCursor<'_, S>,
    count: u32,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), S::Error>,
) -> Result<(), BodyError<S::Error>> {
    let memory = MemoryId::new(cursor.u64()?);
    let mut last = None;
    for _ in 0..count {
        let began = cursor.at;
        let (index, sum, mask) = (cursor.u32()?, cursor.u32()?, cursor.u64()?);
        if mask == 0 || last.is_some_and(|last| last >= index) {
            return Err(BodyError::Malformed(began, "a page is out of order or changes nothing"));
        }
        last = Some(index);
        let at = cursor.at;
        let blocks = cursor.take(u64::from(mask.count_ones()) * BLOCK_BYTES as u64)?;
        visit(Entry::Page { memory, index: PageIndex::new(index), sum, mask, blocks, at })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Format;
    use crate::sim::Random;

    fn entries() -> Vec<Entry<'static>> {
        let memory = MemoryId::new(7);
        vec![
            Entry::Create { memory, class: Class::Frozen, capacity: PageCount::new(9), source: None },
            Entry::Create {
                memory,
                class: Class::Live,
                capacity: PageCount::new(u32::MAX),
                source: Some(MemoryId::new(3)),
            },
            Entry::Grow { memory, pages: PageCount::new(8) },
            Entry::Put { key: b"", value: b"" },
            Entry::Put { key: b"key", value: &[5; 100] },
            Entry::Delete { key: b"another key" },
            Entry::Blob { id: BlobId::new([4; 32]), change: i32::MIN },
            Entry::Drop { memory },
        ]
    }

    fn body() -> (Vec<u8>, u32) {
        let mut bytes = Vec::new();
        for entry in entries() {
            encode(&entry, &mut bytes);
            assert!(bytes.len().is_multiple_of(8));
        }
        bytes.extend_from_slice(&pages_head(MemoryId::new(7), 2));
        bytes.extend_from_slice(&page_head(1, 11, 0b101));
        bytes.extend_from_slice(&[1; 128]);
        bytes.extend_from_slice(&page_head(5, 12, 1 << 63));
        bytes.extend_from_slice(&[2; 64]);
        (bytes, u32::try_from(entries().len()).unwrap() + 1)
    }

    /// Whether the bytes are a body.
    fn decodes(bytes: &[u8], entries: u32) -> bool {
        decode(&mut &*bytes, bytes.len() as u64, entries, &mut |_| Ok(())).is_ok()
    }

    #[test]
    fn a_body_reads_back() {
        let (bytes, count) = body();
        let mut expected = entries();
        let memory = MemoryId::new(7);
        let (first, second) = (vec![1; 128], vec![2; 64]);
        let at = bytes.len() as u64;
        let page = |index, sum, mask, blocks, at| {
            let index = PageIndex::new(index);
            Entry::Page { memory, index, sum, mask, blocks, at }
        };
        expected.push(page(1, 11, 0b101, &first, at - 64 - 16 - 128));
        expected.push(page(5, 12, 1 << 63, &second, at - 64));
        let mut found = 0;
        decode(&mut bytes.as_slice(), bytes.len() as u64, count, &mut |entry| {
            assert_eq!(entry, expected[found]);
            found += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(found, expected.len());
    }

    #[test]
    fn no_body_makes_it_panic() {
        let (bytes, count) = body();
        for length in 0..bytes.len() {
            assert!(!decodes(&bytes[..length], count), "{length} bytes");
        }
        assert!(!decodes(&bytes, count - 1) && !decodes(&bytes, count + 1));
        let mut random = Random(1);
        for _ in 0..200_000 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = [0, 1, 0xff, random.number() as u8][random.below(4)];
            }
            // Some are bodies like any other; what matters is that all of them end.
            decodes(&bytes, count);
        }
    }

    #[test]
    fn pages_that_are_out_of_order_or_unchanged_are_refused() {
        let memory = MemoryId::new(7);
        for (pages, is_right) in [
            (&[(1, 1), (2, 1)][..], true),
            (&[(2, 1), (1, 1)], false),
            (&[(2, 1), (2, 1)], false),
            (&[(2, 0)], false),
        ] {
            let mut bytes = pages_head(memory, pages.len() as u32).to_vec();
            for (index, mask) in pages {
                bytes.extend_from_slice(&page_head(*index, 0, *mask));
                bytes.extend_from_slice(&vec![0; 64 * mask.count_ones() as usize]);
            }
            assert_eq!(decodes(&bytes, 1), is_right, "{pages:?}");
        }
    }

    #[test]
    fn a_header_follows_only_the_record_before_it() {
        let keys = Format::from_seed(&[1; 32], 8192).keys();
        let (lsn, durable) = (Lsn::new(9), Lsn::new(8));
        let header = Header { entries: 3, lsn, durable, body_bytes: 100, body_hash: [6; 32] };
        let previous = [2; 32];
        let (sealed, link) = header.seal(&keys, &previous);
        let bytes = header_bytes(&sealed, &link, &keys);
        assert_eq!(Header::decode(&bytes, &keys), Some(header));
        assert_eq!(Header::decode_next(&bytes, &keys, &previous, lsn), Some((header, link)));
        assert_eq!(Header::decode_next(&bytes, &keys, &link, lsn), None);
        assert_eq!(Header::decode_next(&bytes, &keys, &previous, durable), None);
        let other = Format::from_seed(&[2; 32], 8192).keys();
        assert_eq!(Header::decode(&bytes, &other), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode_next(&flipped, &keys, &previous, lsn), None, "bit {bit}");
            let alone = Header::decode(&flipped, &keys);
            assert!(alone.is_none() || LINK.contains(&(bit / 8)), "bit {bit}");
        }
        assert_eq!(record_bytes(0), 128);
        assert_eq!(record_bytes(1), 192);
        assert_eq!(record_bytes(u64::MAX), u64::MAX);
    }
}

//! The file of one memory's pages, `mem/<id>.<lsn>`: how it is written and read.
//!
//! - A file is written once, under a name never used before, and never again.
//! - Only pages that are not all zero are in it. Each has a sum; header and table have a hash, which `head`
//!   repeats.
//!
//! 0 magic `BEDIMG\0\x01`, 8 store id, 24 memory id, 32 LSN, 40 pages that follow, 48 zero, 64 table: {u32
//! page, u32 sum} ascending; BLAKE3 of all before, keyed for images; then the pages, 4,096 bytes each, in the
//! order of the table.

use std::sync::Arc;

use crate::catalog::{HeadMemory, ImageName};
use crate::disk::{Disk, DiskFile, Open, described};
use crate::error::{Error, Result};
use crate::format::{Cursor, Format, HASH_BYTES, Purpose};
use crate::memory::{Content, PageMap};
use crate::page::{Lsn, MemoryId, PAGE_BYTES, Page, PageCount, PageIndex, ZERO_PAGE, sum};

const IMAGE_MAGIC: &[u8; 8] = b"BEDIMG\0\x01";
const IMAGE_HEADER_BYTES: usize = 64;
const TABLE_ENTRY_BYTES: usize = 8;
/// Pages are moved in pieces of 1 MiB, large enough that the system calls cost nothing beside the disk.
const PIECE_PAGES: usize = 256;

/// Writes the pages of a memory and makes them durable; the name is not durable before its directory is
/// synced.
pub(crate) fn write(
    disk: &dyn Disk,
    format: &Format,
    memory: MemoryId,
    lsn: Lsn,
    pages: &PageMap,
) -> Result<ImageName> {
    let mut top = Vec::with_capacity(IMAGE_HEADER_BYTES + pages.len() * TABLE_ENTRY_BYTES + HASH_BYTES);
    top.extend_from_slice(IMAGE_MAGIC);
    top.extend_from_slice(&format.store_id);
    for number in [memory.get(), lsn.get(), pages.len() as u64, 0, 0] {
        top.extend_from_slice(&number.to_le_bytes());
    }
    for (index, page) in pages {
        top.extend_from_slice(&index.get().to_le_bytes());
        top.extend_from_slice(&sum(page).to_le_bytes());
    }
    let hash = *blake3::keyed_hash(&format.key(Purpose::Image), &top).as_bytes();
    top.extend_from_slice(&hash);

    let name = ImageName { memory, lsn, hash };
    let file = described(disk, &name.path());
    let writing = |error| Error::writing(&file, error);
    let handle = disk.open(&name.path(), Open::Create).map_err(writing)?;
    let mut at = 0;
    let mut piece = top;
    let mut in_piece = 0;
    for page in pages.values() {
        piece.extend_from_slice(page.as_slice());
        in_piece += 1;
        if in_piece == PIECE_PAGES {
            handle.write_at(at, &piece).map_err(writing)?;
            at += piece.len() as u64;
            piece.clear();
            in_piece = 0;
        }
    }
    if !piece.is_empty() {
        handle.write_at(at, &piece).map_err(writing)?;
    }
    handle.sync_data().map_err(writing)?;
    Ok(name)
}

/// Reads the pages of a memory and verifies every byte.
pub(crate) fn read(disk: &dyn Disk, format: &Format, head: &HeadMemory) -> Result<Content> {
    let Some(name) = &head.image else {
        return Ok(Content { pages: head.pages, image: Arc::default() });
    };
    let file = described(disk, &name.path());
    let handle = disk.open(&name.path(), Open::Read).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::damaged(&file, 0, "it is missing"),
        _ => Error::reading(&file, error),
    })?;
    let table = read_table(&*handle, format, head, name, &file)?;
    let mut at = (IMAGE_HEADER_BYTES + table.len() * TABLE_ENTRY_BYTES + HASH_BYTES) as u64;
    let mut image = PageMap::new();
    let mut piece = vec![0; PIECE_PAGES * PAGE_BYTES];
    for entries in table.chunks(PIECE_PAGES) {
        let piece = &mut piece[..entries.len() * PAGE_BYTES];
        handle.read_at(at, piece).map_err(|error| Error::reading(&file, error))?;
        for ((index, expected), bytes) in entries.iter().zip(piece.chunks_exact(PAGE_BYTES)) {
            let mut page = *ZERO_PAGE;
            page.copy_from_slice(bytes);
            if sum(&page) != *expected || page == *ZERO_PAGE {
                let what = format!("page {index} of memory {} does not match its sum", name.memory);
                return Err(Error::damaged(&file, at, what));
            }
            image.insert(*index, Arc::<Page>::new(page));
            at += PAGE_BYTES as u64;
        }
    }
    Ok(Content { pages: head.pages, image: Arc::new(image) })
}

/// The verified table: which pages follow, ascending and within the memory, and their sums.
fn read_table(
    handle: &dyn DiskFile,
    format: &Format,
    head: &HeadMemory,
    name: &ImageName,
    file: &str,
) -> Result<Vec<(PageIndex, u32)>> {
    let reading = |error| Error::reading(file, error);
    let mut top = vec![0; IMAGE_HEADER_BYTES];
    handle.read_at(0, &mut top).map_err(reading)?;
    let mut cursor = Cursor::new(&top, file);
    cursor.expect(IMAGE_MAGIC, "beginning")?;
    cursor.expect(&format.store_id, "store id")?;
    cursor.expect(&name.memory.get().to_le_bytes(), "memory id")?;
    cursor.expect(&name.lsn.get().to_le_bytes(), "LSN")?;
    let count = cursor.u64()?;
    cursor.zeros(16)?;
    if count == 0 || count > u64::from(head.pages.get()) {
        return Err(cursor.damaged(format_args!("it has {count} pages of {}", head.pages)));
    }
    // No overflow: the count has been found to fit 32 bits.
    let top_bytes = IMAGE_HEADER_BYTES as u64 + count * TABLE_ENTRY_BYTES as u64 + HASH_BYTES as u64;
    let length = handle.len().map_err(reading)?;
    if length != top_bytes + PageCount::new(count as u32).bytes() {
        return Err(cursor.damaged(format_args!("its length is {length}, not right for {count} pages")));
    }
    let top_bytes = usize::try_from(top_bytes).map_err(|_| cursor.damaged("it is larger than any memory"))?;
    top.resize(top_bytes, 0);
    handle.read_at(0, &mut top).map_err(reading)?;
    let (hashed, hash) = top.split_at(top.len() - HASH_BYTES);
    let computed = blake3::keyed_hash(&format.key(Purpose::Image), hashed);
    if computed.as_bytes().as_slice() != hash || hash != name.hash {
        return Err(Error::damaged(file, hashed.len() as u64, "the hash of its table does not match"));
    }
    let mut cursor = Cursor::new(hashed, file);
    cursor.take(IMAGE_HEADER_BYTES)?;
    let mut table = Vec::<(PageIndex, u32)>::new();
    for _ in 0..count {
        let (index, sum) = (PageIndex::new(cursor.u32()?), cursor.u32()?);
        if !head.pages.contains(index) || table.last().is_some_and(|(last, _)| *last >= index) {
            return Err(cursor.damaged(format_args!("page {index} is out of order")));
        }
        table.push((index, sum));
    }
    Ok(table)
}

//! Pages and the numbers that count them; which parts of a page changed, and the sum that vouches for it.
//!
//! - A page has 4,096 bytes and 64 blocks of 64 bytes; block `b` is bytes `64b..64b + 64`.
//! - The sum of a page of zeros is 0, so that a page that is absent needs no special case.

use std::fmt;

/// Bytes in a page.
pub const PAGE_BYTES: usize = 4096;

/// The content of one page.
pub type Page = [u8; PAGE_BYTES];

/// A page that was never written.
pub(crate) const ZERO_PAGE: &Page = &[0; PAGE_BYTES];

/// Changes within a page are recorded in blocks of this size: one cache line, and 64 of them fit a mask of 64
/// bits.
pub(crate) const BLOCK_BYTES: usize = 64;
const _: () = assert!(PAGE_BYTES / BLOCK_BYTES == u64::BITS as usize);

/// `crc32c(ZERO_PAGE)`; a test computes it.
const CRC_OF_ZERO_PAGE: u32 = 0x98f9_4189;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $integer:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($integer);

        impl $name {
            /// Wraps a plain number.
            pub const fn new(number: $integer) -> Self {
                $name(number)
            }

            /// The plain number.
            pub const fn get(self) -> $integer {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The place of a change in the order of all changes; the first is 1, and 0 stands before it.
    Lsn, u64
}
number! {
    /// Names a memory for as long as the store lives; never used twice.
    MemoryId, u64
}
number! {
    /// Page `i` of a memory is its bytes `4096·i..4096·(i + 1)`.
    PageIndex, u32
}
number! {
    /// A number of pages, such as the size of a memory.
    PageCount, u32
}

impl PageCount {
    /// The same size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64 * PAGE_BYTES as u64
    }

    /// The size that has exactly so many bytes, if there is one.
    pub fn from_bytes(bytes: u64) -> Option<PageCount> {
        let page_bytes = PAGE_BYTES as u64;
        if !bytes.is_multiple_of(page_bytes) {
            return None;
        }
        u32::try_from(bytes / page_bytes).ok().map(PageCount)
    }

    /// Whether a memory of this size has that page.
    pub const fn contains(self, index: PageIndex) -> bool {
        index.0 < self.0
    }
}

/// Tells whether two contents of a page are alike in every bit but by chance in 2³²; 0 for zeros.
pub(crate) fn sum(page: &[u8]) -> u32 {
    crc32c::crc32c(page) ^ CRC_OF_ZERO_PAGE
}

/// Which blocks of `after` are not those of `before`: bit `b` stands for block `b`.
pub(crate) fn changed_blocks(before: &Page, after: &Page) -> u64 {
    let (befores, afters) = (before.as_chunks::<BLOCK_BYTES>().0, after.as_chunks::<BLOCK_BYTES>().0);
    let mut mask = 0_u64;
    for (block, (before, after)) in befores.iter().zip(afters).enumerate() {
        mask |= u64::from(before != after) << block;
    }
    mask
}

/// Appends the blocks that a mask names.
pub(crate) fn copy_blocks(page: &Page, mask: u64, bytes: &mut Vec<u8>) {
    if mask == u64::MAX {
        bytes.extend_from_slice(page);
        return;
    }
    let mut rest = mask;
    while rest != 0 {
        let first = rest.trailing_zeros() as usize;
        let run = (rest >> first).trailing_ones() as usize;
        bytes.extend_from_slice(&page[first * BLOCK_BYTES..(first + run) * BLOCK_BYTES]);
        rest &= !(((1_u64 << run) - 1) << first);
    }
}

/// Replaces the blocks that a mask names; `blocks` holds 64 bytes for each bit that is set.
pub(crate) fn overlay(page: &mut [u8], mask: u64, blocks: &[u8]) {
    let mut replacements = blocks.chunks_exact(BLOCK_BYTES);
    for (block, target) in page.chunks_exact_mut(BLOCK_BYTES).enumerate() {
        if mask & (1 << block) != 0 {
            target
                .copy_from_slice(replacements.next().expect("there are as many blocks as bits in the mask"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_zeros_is_zero() {
        assert_eq!(crc32c::crc32c(ZERO_PAGE), CRC_OF_ZERO_PAGE);
        assert_eq!(sum(ZERO_PAGE), 0);
    }

    #[test]
    fn copying_and_overlaying_changed_blocks_gives_the_page_after() {
        let before = [7; PAGE_BYTES];
        for places in [&[][..], &[0], &[63, 4095], &[64, 128, 200], &[63, 64, 127, 2048, 4032]] {
            let mut after = before;
            places.iter().for_each(|at| after[*at] = 1);
            let mask = changed_blocks(&before, &after);
            assert_eq!(mask, places.iter().fold(0, |mask, at| mask | 1 << (at / 64)));
            let mut bytes = Vec::new();
            copy_blocks(&after, mask, &mut bytes);
            assert_eq!(bytes.len(), mask.count_ones() as usize * BLOCK_BYTES);
            let mut page = before;
            overlay(&mut page, mask, &bytes);
            assert_eq!(page, after);
        }
        let after: Page = std::array::from_fn(|at| (at % 251) as u8);
        assert_eq!(changed_blocks(&before, &after), u64::MAX);
        let (mut bytes, mut page) = (Vec::new(), before);
        copy_blocks(&after, u64::MAX, &mut bytes);
        overlay(&mut page, u64::MAX, &bytes);
        assert_eq!(page, after);
    }

    #[test]
    fn only_whole_pages_have_a_count() {
        assert_eq!(PageCount::from_bytes(8192), Some(PageCount::new(2)));
        assert_eq!(PageCount::from_bytes(8193), None);
        assert_eq!(PageCount::from_bytes(u64::MAX - 4095), None);
        assert_eq!(PageCount::new(u32::MAX).bytes(), 17_592_186_040_320);
    }
}

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
const BLOCK_BYTES: usize = 64;
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
pub(crate) fn sum(page: &Page) -> u32 {
    crc32c::crc32c(page) ^ CRC_OF_ZERO_PAGE
}

/// The blocks of one page that a change replaces, and the sum of the page after it.
pub(crate) struct Blocks {
    /// Bit `b` is set when block `b` is replaced; never 0.
    mask: u64,
    /// The replaced blocks, ascending: 64 bytes for each bit of the mask.
    bytes: Box<[u8]>,
    /// The sum of the whole page after the change.
    sum: u32,
}

impl Blocks {
    /// The blocks in which `after` differs from `before`; `None` when there are none.
    pub(crate) fn between(before: &Page, after: &Page) -> Option<Blocks> {
        let (befores, afters) = (before.chunks_exact(BLOCK_BYTES), after.chunks_exact(BLOCK_BYTES));
        let mut mask = 0_u64;
        for (block, (before, after)) in befores.zip(afters).enumerate() {
            mask |= u64::from(before != after) << block;
        }
        if mask == 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(mask.count_ones() as usize * BLOCK_BYTES);
        for (block, after) in after.chunks_exact(BLOCK_BYTES).enumerate() {
            if mask & (1 << block) != 0 {
                bytes.extend_from_slice(after);
            }
        }
        Some(Blocks { mask, bytes: bytes.into_boxed_slice(), sum: sum(after) })
    }

    /// The whole page, whatever it held.
    pub(crate) fn whole(after: &Page) -> Blocks {
        Blocks { mask: u64::MAX, bytes: Box::from(after.as_slice()), sum: sum(after) }
    }

    /// Replaces the blocks in `page`; false when the result is not the page that was recorded, because the
    /// content before the change was another one.
    #[must_use]
    pub(crate) fn overlay(&self, page: &mut Page) -> bool {
        let mut replacements = self.bytes.chunks_exact(BLOCK_BYTES);
        for (block, target) in page.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            if self.mask & (1 << block) != 0 {
                let bytes = replacements.next().expect("there are as many blocks as bits in the mask");
                target.copy_from_slice(bytes);
            }
        }
        sum(page) == self.sum
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
    fn only_changed_blocks_are_kept() {
        let before = [7; PAGE_BYTES];
        let mut after = before;
        after[63] = 1;
        after[4095] = 2;
        let blocks = Blocks::between(&before, &after).unwrap();
        assert_eq!(blocks.mask, 1 | 1 << 63);
        assert_eq!(blocks.bytes.len(), 2 * BLOCK_BYTES);
        let mut page = before;
        assert!(blocks.overlay(&mut page));
        assert_eq!(page, after);
        assert!(Blocks::between(&after, &after).is_none());
    }

    #[test]
    fn a_wrong_pre_image_is_noticed() {
        let mut after = *ZERO_PAGE;
        after[0] = 1;
        let blocks = Blocks::between(ZERO_PAGE, &after).unwrap();
        assert!(!blocks.overlay(&mut [9; PAGE_BYTES]));
        assert!(Blocks::whole(&after).overlay(&mut [9; PAGE_BYTES]));
    }

    #[test]
    fn only_whole_pages_have_a_count() {
        assert_eq!(PageCount::from_bytes(8192), Some(PageCount::new(2)));
        assert_eq!(PageCount::from_bytes(8193), None);
        assert_eq!(PageCount::from_bytes(u64::MAX - 4095), None);
        assert_eq!(PageCount::new(u32::MAX).bytes(), 17_592_186_040_320);
    }
}

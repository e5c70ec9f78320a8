//! Loops over bytes that may be another mapping's, as wide as the processor allows.
//!
//! Invariants:
//! - Memory is reached through raw pointers only: no reference to it is made.
//! - What is compiled for wider vectors runs only where the processor has them.

use std::ptr;

use super::PAGE;

/// Bytes that are compared, and copied if they differ, at once: a cache line.
const LINE: usize = 64;

type Line = [u64; LINE / 8];

/// Copies the lines of a page that differ; whether any did.
///
/// # Safety
/// `to` and `from` are the starts of pages of [`PAGE`] bytes that do not overlap; both can be read and `to` be written.
pub(super) unsafe fn update_page(to: *mut u8, from: *const u8) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2; the rest is the caller's.
        return unsafe { update_page_avx2(to, from) };
    }
    // SAFETY: the caller's.
    unsafe { update_lines(to, from) }
}

/// # Safety
/// As for [`update_page`]; the processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn update_page_avx2(to: *mut u8, from: *const u8) -> bool {
    // SAFETY: the caller's.
    unsafe { update_lines(to, from) }
}

/// # Safety
/// As for [`update_page`].
#[inline(always)]
unsafe fn update_lines(to: *mut u8, from: *const u8) -> bool {
    let mut differed = false;
    for at in (0..PAGE).step_by(LINE) {
        // SAFETY: `at` is inside the page.
        let theirs = unsafe { from.add(at) }.cast::<Line>();
        // SAFETY: as above.
        let mine = unsafe { to.add(at) }.cast::<Line>();
        // SAFETY: a whole line is left of the page, which begins at a multiple of a line.
        let wanted = unsafe { ptr::read(theirs) };
        // SAFETY: as above.
        let present = unsafe { ptr::read(mine) };
        if differ(&wanted, &present) {
            // SAFETY: as above; the page can be written.
            unsafe { ptr::write(mine, wanted) };
            differed = true;
        }
    }
    differed
}

#[inline(always)]
fn differ(a: &Line, b: &Line) -> bool {
    a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) != 0
}

/// Whether `bytes` bytes, a multiple of eight, are all zero.
///
/// # Safety
/// `start` is a multiple of eight, and so many bytes after it can be read.
pub(super) unsafe fn is_zero(start: *const u8, bytes: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2; the rest is the caller's.
        return unsafe { is_zero_avx2(start, bytes) };
    }
    // SAFETY: the caller's.
    unsafe { are_zero_words(start, bytes) }
}

/// # Safety
/// As for [`is_zero`]; the processor has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn is_zero_avx2(start: *const u8, bytes: usize) -> bool {
    // SAFETY: the caller's.
    unsafe { are_zero_words(start, bytes) }
}

/// # Safety
/// As for [`is_zero`].
#[inline(always)]
unsafe fn are_zero_words(start: *const u8, bytes: usize) -> bool {
    let mut all = 0;
    for word in 0..bytes / 8 {
        // SAFETY: inside the bytes that can be read.
        let address = unsafe { start.cast::<u64>().add(word) };
        // SAFETY: as above, and aligned.
        all |= unsafe { ptr::read(address) };
    }
    all == 0
}

/// Asks the processor for the first lines of a page; the rest it foresees by itself.
pub(super) fn expect(page: *const u8) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..4 {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every processor of this architecture has the instruction, and any address will do: nothing is read that
        // the program could notice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(page.wrapping_add(line * LINE).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = page;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Page([u8; PAGE]);

    #[test]
    fn only_what_differs_is_copied() {
        for changed in [None, Some(0), Some(63), Some(64), Some(PAGE - 1)] {
            let mut from = Page([7; PAGE]);
            let mut to = Page([7; PAGE]);
            if let Some(at) = changed {
                from.0[at] = 8;
            }
            // SAFETY: two pages of this test.
            let differed = unsafe { update_page(to.0.as_mut_ptr(), from.0.as_ptr()) };
            assert_eq!(differed, changed.is_some());
            assert!(to.0 == from.0);
        }
    }

    #[test]
    fn one_bit_is_not_zero() {
        let mut page = Page([0; PAGE]);
        for bytes in [8, 64, 4096] {
            // SAFETY: inside the page.
            assert!(unsafe { is_zero(page.0.as_ptr(), bytes) });
            page.0[bytes - 1] = 1;
            // SAFETY: inside the page.
            assert!(!unsafe { is_zero(page.0.as_ptr(), bytes) });
            page.0[bytes - 1] = 0;
        }
    }
}

//! A reservation of address space whose front part is accessible.
//!
//! Everything is reserved up front, without reserving swap (500 GiB would otherwise be refused), so that growing never
//! moves the base. Growing and shrinking change protections: 1 to 2 µs at any size.
//!
//! The memory is anonymous, except that its front may be a private mapping of a file: what is written there stays in
//! this process, and what was not shows the file's bytes.
//!
//! Pages may be write-protected to find those that are written (`protect`). Every write here opens them first.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::bytes::{expect, is_zero, update_page};
use super::protect::Protection;

/// Bytes of a page, the unit of protection, tracking and comparison.
pub(crate) const PAGE: usize = 4096;

/// How much address space a mapping takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes that the memory may grow to.
    pub capacity: usize,
    /// Inaccessible bytes after the capacity.
    pub guard: usize,
    /// Whether the kernel may back it with huge pages. Off where single bytes are touched far apart.
    pub huge_pages: bool,
    /// Bytes by which it becomes accessible, a multiple of [`PAGE`]: more than a page only for what no Wasm code sees, since
    /// bytes past the length are accessible then.
    pub step: usize,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    /// Capacity and guard.
    reserved: usize,
    capacity: usize,
    step: usize,
    /// Bytes of the memory; a multiple of [`PAGE`].
    len: AtomicUsize,
    /// Bytes from the base that can be accessed: those of the memory, rounded up to `step`, or more if it was longer.
    accessible: AtomicUsize,
    /// Bytes from the base that are a file's.
    file_len: AtomicUsize,
    /// How many share it to read; it does not grow meanwhile.
    readers: AtomicUsize,
    /// A growth was refused because of them.
    growth_refused: AtomicBool,
    /// Which pages are write-protected; `None` if none ever is.
    pub(super) protection: Option<Box<Protection>>,
}

// SAFETY: a mapping is plain memory owned by this value. Nothing in it belongs to a thread; that nobody else touches it while
// one thread writes is the callers' invariant, stated in `sys`.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`. Its length is atomic; its bytes are written by one thread while no other touches them, as stated in `sys`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves address space, none of it accessible.
    pub fn new(shape: Shape) -> io::Result<Self> {
        let reserved = shape.capacity + shape.guard;
        assert_eq!(reserved % PAGE, 0, "memories are made of whole pages");
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice replaces nothing.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                reserved,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base =
            NonNull::new(address.cast::<u8>()).expect("mmap does not return null for an address it chose");
        let mapping = Self {
            base,
            reserved,
            capacity: shape.capacity,
            step: shape.step,
            len: AtomicUsize::new(0),
            accessible: AtomicUsize::new(0),
            file_len: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
            growth_refused: AtomicBool::new(false),
            protection: None,
        };
        let advice = if shape.huge_pages { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: advice about our own range; it changes no contents. A kernel without huge pages refuses it, which is as
        // good.
        unsafe { libc::madvise(address, reserved, advice) };
        Ok(mapping)
    }

    /// A mapping with so many accessible, zero bytes.
    pub fn with_len(shape: Shape, len: usize) -> io::Result<Self> {
        let mapping = Self::new(shape)?;
        mapping.grow_to(len)?;
        Ok(mapping)
    }

    /// The base address, for Wasmtime alone.
    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Accessible bytes.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Bytes up to which it can grow.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of address space taken, the guard included.
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Whole accessible pages.
    pub fn pages(&self) -> usize {
        self.len() / PAGE
    }

    /// Makes bytes up to `len` accessible; they read as zero.
    pub fn grow_to(&self, len: usize) -> io::Result<()> {
        let old = self.len();
        assert_eq!(len % PAGE, 0, "memories are made of whole pages");
        if len <= old {
            return Ok(());
        }
        if len > self.capacity {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if self.has_readers() {
            self.growth_refused.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let is_open = self.protection.as_ref().is_none_or(|protection| protection.opens_growth(old, len));
        let accessible = self.accessible.load(Ordering::Relaxed);
        let wanted = len.next_multiple_of(self.step).min(self.capacity);
        if wanted > accessible {
            self.protect(accessible, wanted, libc::PROT_READ | libc::PROT_WRITE)?;
            self.accessible.store(wanted, Ordering::Relaxed);
        }
        self.len.store(len, Ordering::Relaxed);
        if !is_open {
            // As `write_once`.
            // SAFETY: `address` checked it, and the page was made writable above.
            unsafe { self.address(old, 1).write(0) };
            self.protect(old, len, libc::PROT_READ)?;
        }
        Ok(())
    }

    /// Whether it is accessible up to its length and no further.
    pub(super) fn has_exact_length(&self) -> bool {
        self.step == PAGE
    }

    /// Bytes from the base that are a file's.
    pub(super) fn file_len(&self) -> usize {
        self.file_len.load(Ordering::Relaxed)
    }

    /// Whether others read it.
    pub(super) fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Does `work`, during which others may read too and nobody grows it; also returns whether a growth was refused since
    /// the first of those who read now began. Nobody may write.
    pub fn reading<R>(&self, work: impl FnOnce() -> R) -> (R, bool) {
        if self.readers.fetch_add(1, Ordering::Relaxed) == 0 {
            self.growth_refused.store(false, Ordering::Relaxed);
        }
        let result = work();
        let refused = self.growth_refused.load(Ordering::Relaxed);
        self.readers.fetch_sub(1, Ordering::Relaxed);
        (result, refused)
    }

    /// Replaces the first `len` bytes, all accessible from now on, by those of a file, privately; what was written there
    /// is dropped. The file must stay as long as it is; a file that is too short is refused.
    pub fn map_file(&self, file: BorrowedFd<'_>, len: usize) -> io::Result<()> {
        assert_eq!(len % PAGE, 0, "memories are made of whole pages");
        if len == 0 {
            return Ok(());
        }
        if len > self.capacity {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let file_bytes = std::fs::File::from(file.try_clone_to_owned()?).metadata()?.len();
        if file_bytes < len as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the range lies in this mapping, so that nothing of anybody else's is replaced, and no reference points
        // into it. The descriptor is open; the mapping outlives it.
        let address = unsafe {
            libc::mmap(
                self.base.as_ptr().cast(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let old = self.len.fetch_max(len, Ordering::Relaxed);
        self.accessible.fetch_max(len, Ordering::Relaxed);
        self.file_len.fetch_max(len, Ordering::Relaxed);
        if let Some(protection) = &self.protection {
            self.protect(0, old.max(len), libc::PROT_READ | libc::PROT_WRITE)?;
            protection.set_all_open();
        }
        Ok(())
    }

    /// Drops the bytes from `len` on: inaccessible, but for a step of several pages, and zero if grown back to. Not for bytes that are a file's, which
    /// would come back.
    pub fn shrink_to(&self, len: usize) -> io::Result<()> {
        let old = self.len();
        assert_eq!(len % PAGE, 0, "memories are made of whole pages");
        if len >= old {
            return Ok(());
        }
        assert!(len >= self.file_len(), "committed bytes are never taken back");
        // SAFETY: `len < old <= reserved`, so the address stays inside our range.
        let start = unsafe { self.base.as_ptr().add(len) };
        // SAFETY: the range lies in this mapping, which is private and anonymous: its pages read as zero afterwards.
        if unsafe { libc::madvise(start.cast(), old - len, libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if self.step == PAGE {
            self.protect(len, old, libc::PROT_NONE)?;
            self.accessible.store(len, Ordering::Relaxed);
        }
        self.len.store(len, Ordering::Relaxed);
        if let Some(protection) = &self.protection {
            protection.truncate(len / PAGE);
        }
        Ok(())
    }

    pub(super) fn protect(&self, from: usize, to: usize, protection: libc::c_int) -> io::Result<()> {
        debug_assert!(from <= to && to <= self.reserved);
        // SAFETY: `from <= reserved`, so the address stays inside our range.
        let start = unsafe { self.base.as_ptr().add(from) };
        // SAFETY: the range lies in this mapping and no reference points into it.
        if unsafe { libc::mprotect(start.cast(), to - from, protection) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// The address of `bytes` accessible bytes at `at`. Panics if they are not all accessible: callers check first.
    fn address(&self, at: usize, bytes: usize) -> *mut u8 {
        let end = at.checked_add(bytes).expect("an address range that wraps");
        assert!(end <= self.len(), "bytes {at}..{end} of a memory of {}", self.len());
        // SAFETY: `at <= len <= reserved`, inside our range.
        unsafe { self.base.as_ptr().add(at) }
    }

    /// As [`Mapping::address`], of bytes that are then written.
    fn writable(&self, at: usize, bytes: usize) -> *mut u8 {
        let address = self.address(at, bytes);
        self.open_bytes(at, bytes);
        address
    }

    /// Copies bytes out.
    pub fn read(&self, at: usize, into: &mut [u8]) {
        let from = self.address(at, into.len());
        // SAFETY: `address` checked the source; `into` is a Rust slice, hence not inside the mapping.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) }
    }

    /// Copies bytes out into a vector.
    pub fn read_vec(&self, at: usize, bytes: usize) -> Vec<u8> {
        let mut vec = Vec::new();
        self.append_to(at, bytes, &mut vec);
        vec
    }

    /// Copies bytes out to the end of a vector.
    pub fn append_to(&self, at: usize, bytes: usize, vec: &mut Vec<u8>) {
        let from = self.address(at, bytes);
        vec.reserve(bytes);
        let end = vec.len();
        // SAFETY: `reserve` made room for `bytes` bytes after `end`.
        let to = unsafe { vec.as_mut_ptr().add(end) };
        // SAFETY: `address` checked the source, `to` points to reserved memory of the vector, outside the mapping.
        unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
        // SAFETY: the copy initialised exactly these bytes.
        unsafe { vec.set_len(end + bytes) };
    }

    /// Copies bytes in.
    pub fn write(&self, at: usize, from: &[u8]) {
        let to = self.writable(at, from.len());
        // SAFETY: `writable` checked the target; `from` is a Rust slice, hence not inside the mapping.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }

    /// One byte.
    pub fn byte(&self, at: usize) -> u8 {
        // SAFETY: `address` checked it.
        unsafe { self.address(at, 1).read() }
    }

    /// Sets one byte.
    pub fn set_byte(&self, at: usize, value: u8) {
        // SAFETY: `writable` checked it.
        unsafe { self.writable(at, 1).write(value) }
    }

    /// Whether a page has the same bytes here and in `other`.
    pub fn page_equals(&self, page: usize, other: &Mapping) -> bool {
        let (mine, theirs) = (self.address(page * PAGE, PAGE), other.address(page * PAGE, PAGE));
        // SAFETY: both ranges were checked and are readable.
        unsafe { libc::memcmp(mine.cast(), theirs.cast(), PAGE) == 0 }
    }

    /// Gives a page the bytes that it has in `other`, writing only where they differ; whether any did.
    pub fn update_page_from(&self, page: usize, other: &Mapping) -> bool {
        let (to, from) = (self.writable(page * PAGE, PAGE), other.address(page * PAGE, PAGE));
        // SAFETY: both ranges were checked and are whole pages, `to` is writable; two mappings do not overlap.
        unsafe { update_page(to, from) }
    }

    /// Asks the processor for the beginning of a page that is going to be read, if there is such a page.
    pub fn expect_page(&self, page: usize) {
        if page < self.pages() {
            expect(self.address(page * PAGE, PAGE));
        }
    }

    /// Copies a page from the same place in `other`.
    pub fn copy_page_from(&self, page: usize, other: &Mapping) {
        let (to, from) = (self.writable(page * PAGE, PAGE), other.address(page * PAGE, PAGE));
        // SAFETY: both ranges were checked and `to` is writable; two mappings do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, to, PAGE) }
    }

    /// Calls `visit` with the offset of each non-zero byte in `at .. at + bytes`, ascending. `at` and `bytes` are
    /// multiples of eight.
    pub fn each_set_byte(&self, at: usize, bytes: usize, mut visit: impl FnMut(usize)) {
        let start = self.address(at, bytes);
        assert!(at.is_multiple_of(8) && bytes.is_multiple_of(8), "maps are made of whole words");
        let word_at = |word: usize| {
            // SAFETY: `word < bytes / 8`, so the eight bytes lie in the range that `address` checked.
            let address = unsafe { start.add(word * 8) };
            // SAFETY: readable as checked; the base is page-aligned and `at` a multiple of eight, so it is aligned.
            unsafe { address.cast::<u64>().read() }
        };
        let words = bytes / 8;
        for block in (0..words).step_by(BLOCK_WORDS) {
            let end = (block + BLOCK_WORDS).min(words);
            // SAFETY: the block's words lie in the range that `address` checked.
            let block_start = unsafe { start.add(block * 8) };
            // SAFETY: as above; `end - block` words are left of it.
            if unsafe { is_zero(block_start, (end - block) * 8) } {
                continue;
            }
            for word in block..end {
                let mut left = u64::from_le(word_at(word));
                while left != 0 {
                    let byte = left.trailing_zeros() / 8;
                    visit(word * 8 + byte as usize);
                    left &= !(0xff << (byte * 8));
                }
            }
        }
    }

    /// Calls `visit` with each page that is not all zero, ascending.
    pub fn each_page(&self, mut visit: impl FnMut(usize, &[u8; PAGE])) {
        let mut page_bytes = [0; PAGE];
        for page in 0..self.pages() {
            self.read(page * PAGE, &mut page_bytes);
            if page_bytes != [0; PAGE] {
                visit(page, &page_bytes);
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours since `new` and nothing refers to it: Wasmtime's memories hold an `Arc` of us.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.reserved) };
        debug_assert_eq!(result, 0, "munmap of a range that mmap returned");
    }
}

/// Words of a map that are looked at together: 32 of its cache lines.
const BLOCK_WORDS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { capacity: 16 * PAGE, guard: PAGE, huge_pages: false, step: PAGE };

    #[test]
    fn grows_shrinks_and_forgets() {
        let mapping = Mapping::with_len(SHAPE, 2 * PAGE).unwrap();
        mapping.write(PAGE, b"kept");
        mapping.grow_to(4 * PAGE).unwrap();
        mapping.write(3 * PAGE, b"gone");
        mapping.shrink_to(2 * PAGE).unwrap();
        mapping.grow_to(4 * PAGE).unwrap();
        assert_eq!(mapping.read_vec(PAGE, 4), b"kept");
        assert_eq!(mapping.read_vec(3 * PAGE, 4), [0; 4]);
        assert!(mapping.grow_to(17 * PAGE).is_err());
    }

    #[test]
    fn finds_set_bytes() {
        let mapping = Mapping::with_len(SHAPE, PAGE).unwrap();
        for at in [0, 7, 8, 100, 4094] {
            mapping.set_byte(at, 1);
        }
        let mut found = Vec::new();
        mapping.each_set_byte(0, 4096, |at| found.push(at));
        assert_eq!(found, [0, 7, 8, 100, 4094]);
    }

    #[test]
    #[should_panic(expected = "of a memory of")]
    fn refuses_what_is_not_accessible() {
        Mapping::with_len(SHAPE, PAGE).unwrap().byte(PAGE);
    }
}

//! Memory for machine code that is loaded, and how Wasmtime makes code executable.
//!
//! Loading through Wasmtime's own memory would copy everything once more, into pages of 4 KiB that are each faulted in: on
//! virtual machines that takes longer than reading and hashing. So code is read into a [`Region`] of huge pages, in which
//! Wasmtime uses it. Invariants:
//! - A region is written by its owner alone, until it is given to Wasmtime; from then on by nobody, and it is read-only.
//! - It is unmapped when Wasmtime gives its code up, which it says by [`CustomCodeMemory::unpublish_executable`]: from its
//!   drop, after which it only forgets the addresses.
//! - Code is never writable and executable at once.

use std::collections::BTreeMap;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::{CustomCodeMemory, Engine, Module};

use super::PAGE;

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Memory of its own for bytes that become code.
#[derive(Debug)]
pub(super) struct Region {
    /// What is mapped: a huge page more than is used, so that the used part can begin with one.
    mapped: NonNull<libc::c_void>,
    mapped_bytes: usize,
    /// What is used.
    bytes: NonNull<[u8]>,
}

// SAFETY: a region is memory that this value owns; nothing in it belongs to a thread.
unsafe impl Send for Region {}

impl Region {
    /// So many zeros.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let pages = bytes.max(1).next_multiple_of(PAGE);
        let mapped_bytes = pages + HUGE_PAGE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice replaces nothing.
        let mapped = unsafe { libc::mmap(std::ptr::null_mut(), mapped_bytes, protection, flags, -1, 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = mapped.cast::<u8>();
        // SAFETY: at most one huge page on, which the mapping is longer than what is used.
        let start = unsafe { start.add(start.align_offset(HUGE_PAGE)) };
        if bytes >= HUGE_PAGE / 2 {
            // SAFETY: advice about our own range; it changes no contents, and a kernel may do without.
            unsafe { libc::madvise(start.cast(), pages, libc::MADV_HUGEPAGE) };
        }
        const MAPPED: &str = "mmap does not return null for an address it chose";
        let start = NonNull::new(start).expect(MAPPED);
        Ok(Self {
            mapped: NonNull::new(mapped).expect(MAPPED),
            mapped_bytes,
            bytes: NonNull::slice_from_raw_parts(start, bytes),
        })
    }

    /// Its bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, initialised (by the kernel, with zeros) memory that this value owns, and is borrowed exclusively.
        unsafe { self.bytes.as_mut() }
    }

    fn address(&self) -> usize {
        self.bytes.cast::<u8>().addr().get()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `new` mapped. Who used it is through, as stated above.
        unsafe { libc::munmap(self.mapped.as_ptr(), self.mapped_bytes) };
    }
}

/// The regions that an engine's modules run in, by address. Each engine has one for itself.
#[derive(Debug, Default)]
pub(crate) struct LoadedCode(Mutex<BTreeMap<usize, Region>>);

impl LoadedCode {
    fn regions(&self) -> MutexGuard<'_, BTreeMap<usize, Region>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `config`'s engine make code executable through this.
    pub fn serve(self: &Arc<Self>, config: &mut wasmtime::Config) {
        // Elsewhere caches of instructions would have to be flushed, which Wasmtime knows how to do.
        if cfg!(target_arch = "x86_64") {
            config.with_custom_code_memory(Some(Arc::clone(self) as Arc<dyn CustomCodeMemory>));
        }
    }

    /// The module in a region, which must hold a serialised module that Wasmtime made: [`super::artefact`] answers for that.
    pub(super) fn load(&self, engine: &Engine, mut region: Region) -> wasmtime::Result<Module> {
        if cfg!(not(target_arch = "x86_64")) {
            // SAFETY: the bytes are a serialised module, as the caller promises.
            return unsafe { Module::deserialize(engine, region.bytes_mut()) };
        }
        let (address, bytes) = (region.address(), region.bytes);
        protect(bytes.cast::<u8>().as_ptr(), bytes.len(), libc::PROT_READ)?;
        self.regions().insert(address, region);
        // SAFETY: the bytes are a serialised module, as the caller promises; nobody writes them any more. They stay where they
        // are until `unpublish_executable`, which Wasmtime calls when it drops the code, or until loading has failed.
        let module = unsafe { Module::deserialize_raw(engine, bytes) };
        if module.is_err() {
            // Unless Wasmtime dropped it already.
            self.regions().remove(&address);
        }
        module
    }
}

fn protect(start: *const u8, bytes: usize, protection: libc::c_int) -> io::Result<()> {
    let bytes = bytes.next_multiple_of(PAGE);
    // SAFETY: the callers name memory that holds code only: a region of ours, or, from Wasmtime, the text of a module.
    match unsafe { libc::mprotect(start.cast_mut().cast(), bytes, protection) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

impl CustomCodeMemory for LoadedCode {
    fn required_alignment(&self) -> usize {
        PAGE
    }

    fn publish_executable(&self, start: *const u8, bytes: usize) -> wasmtime::Result<()> {
        Ok(protect(start, bytes, libc::PROT_READ | libc::PROT_EXEC)?)
    }

    /// Called when a module's code is dropped. (Wasmtime would call it to edit code in place, too, which takes a debugger
    /// that this build does not have.)
    fn unpublish_executable(&self, start: *const u8, _bytes: usize) -> wasmtime::Result<()> {
        let mut regions = self.regions();
        let before = regions.range(..=start.addr()).next_back();
        let found = before.filter(|(address, region)| start.addr() < **address + region.bytes.len());
        let address = found.map(|(address, _)| *address);
        // Code that was compiled here is in Wasmtime's own memory, which it unmaps itself.
        let region = address.and_then(|address| regions.remove(&address));
        drop(regions);
        drop(region);
        Ok(())
    }
}

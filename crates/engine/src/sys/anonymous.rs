//! A file without a name, in RAM: mapped privately any number of times, gone with its last user.
//!
//! Invariants:
//! - It never shrinks, so a mapping of its front never faults.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct AnonymousFile(File);

impl AnonymousFile {
    /// A file of so many zeros, which take no room until they are written.
    pub fn new(bytes: u64) -> io::Result<Self> {
        // SAFETY: the name is a C string; the call touches no other memory.
        let descriptor = unsafe { libc::memfd_create(c"bedstone".as_ptr(), libc::MFD_CLOEXEC) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let file = unsafe { File::from_raw_fd(descriptor) };
        file.set_len(bytes)?;
        Ok(Self(file))
    }

    /// Writes bytes inside the file.
    pub fn write(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    /// Reads bytes inside the file.
    pub fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, at)
    }
}

impl AsFd for AnonymousFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The first byte from `at` on that is not in a hole of the file; `None` if only holes follow. A file system that knows no
/// holes has none.
///
/// # Errors
/// If the file cannot be read.
pub fn next_data(file: BorrowedFd<'_>, at: u64) -> io::Result<Option<u64>> {
    let Ok(from) = libc::off_t::try_from(at) else { return Ok(None) };
    // SAFETY: the descriptor is open; the call touches no memory. The position that it moves is used by nobody: files are
    // read and written at places that are given.
    let found = unsafe { libc::lseek(file.as_raw_fd(), from, libc::SEEK_DATA) };
    if let Ok(found) = u64::try_from(found) {
        return Ok(Some(found));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENXIO) => Ok(None),
        Some(libc::EINVAL) => Ok(Some(at)),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_skipped() {
        let file = AnonymousFile::new(1 << 40).unwrap();
        assert_eq!(next_data(file.as_fd(), 0).unwrap(), None);
        file.write((1 << 39) + 5, b"here").unwrap();
        let found = next_data(file.as_fd(), 0).unwrap().unwrap();
        assert!(found <= (1 << 39) + 5 && found > 1 << 38);
        let mut bytes = [0; 6];
        file.read((1 << 39) + 4, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\0here\0");
    }
}

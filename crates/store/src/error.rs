//! What can go wrong with a store, as one word that callers branch on and one sentence for a person.
//!
//! - The message says what is wrong, where (file and byte offset, or page), and what to do.
//! - Messages name host paths: they are meant for whoever runs the process, never for a client of it.
//! - A mistake of the calling code is an assertion, not an `Error`.

use std::fmt;
use std::io;

/// The result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong; as fine as callers branch, and no finer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another process, or another `Store` of this one, has the directory open.
    Busy,
    /// The directory is not ours, or was made by another release.
    Format,
    /// There is no such directory, memory or blob.
    NotFound,
    /// Bytes on disk are not the ones that were written.
    Damaged,
    /// The disk or the quota is full.
    StorageFull,
    /// An earlier write or sync failed, or the store was closed: it must be opened again.
    Poisoned,
    /// The operating system refused an operation.
    Io,
    /// Something given to the store does not fit its format.
    TooLarge,
}

/// Why an operation on a store failed.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<io::Error>,
    damage: Option<Damage>,
}

/// What is damaged.
#[derive(Clone)]
pub(crate) struct Damage {
    /// The file, as it is called in messages.
    pub(crate) file: String,
    /// The byte in it.
    pub(crate) offset: u64,
    /// What is wrong there.
    pub(crate) what: String,
}

const _: () = assert!(size_of::<Error>() == size_of::<usize>());

/// EIO: the disk could not read back what it holds.
const EIO: i32 = 5;

impl Error {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What is damaged, if something is.
    pub(crate) fn damage(&self) -> Option<&Damage> {
        self.0.damage.as_ref()
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner { kind, message: message.into(), source: None, damage: None }))
    }

    /// Damage in `file` at byte `offset`.
    pub(crate) fn damaged(file: &str, offset: u64, what: impl fmt::Display) -> Error {
        let what = what.to_string();
        let message =
            format!("{file} is damaged at byte {offset}: {what}; restore the state directory from a copy");
        let damage = Some(Damage { file: file.to_string(), offset, what });
        Error(Box::new(Inner { kind: ErrorKind::Damaged, message, source: None, damage }))
    }

    /// A failure to read `file`. The kernel's EIO means that the disk lost the bytes.
    pub(crate) fn reading(file: &str, error: io::Error) -> Error {
        if error.raw_os_error() == Some(EIO) || error.kind() == io::ErrorKind::UnexpectedEof {
            return Error::damaged(file, 0, format_args!("it cannot be read ({error})"));
        }
        let message = format!("{file} cannot be read ({error}); check that it exists and may be read");
        Error(Box::new(Inner { kind: ErrorKind::Io, message, source: Some(error), damage: None }))
    }

    /// A failure to change `file`.
    pub(crate) fn writing(file: &str, error: io::Error) -> Error {
        let (kind, remedy) = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (ErrorKind::StorageFull, "what was acknowledged is intact: free some space and open it again")
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                (ErrorKind::Io, "make the state directory writable or choose another one")
            }
            io::ErrorKind::NotFound => (ErrorKind::Io, "make the directory above it first"),
            _ => (ErrorKind::Io, "what was acknowledged is intact: check the disk and open it again"),
        };
        let message = format!("{file} cannot be written ({error}); {remedy}");
        Error(Box::new(Inner { kind, message, source: Some(error), damage: None }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|error| error as _)
    }
}

//! Machine code that was compiled before: sealed when it is put away, and loaded only if the seal is whole.
//!
//! A seal is a keyed hash over a purpose, what is said of the code, and the keyed hashes of the code's parts: so threads
//! share the work, and the code is never held twice. Invariants:
//! - Code is loaded from bytes whose seal was made, with the same key and for the same purpose, over exactly these bytes.
//!   They are read once, into memory that nobody else has; what is hashed is what is loaded.
//! - Nothing is sealed but what Wasmtime made of a module. Who has the key can make this process run anything.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::AnonymousFile;

/// What proves that bytes are those that were sealed.
pub(crate) type Seal = [u8; 32];

/// Secret of those who may put machine code away and load it.
pub(crate) type Key = [u8; 32];

/// Bytes of code that are hashed together: large enough for the widest vectors, small enough for several threads.
const PART_BYTES: usize = 1 << 20;
/// Bytes that are read at once; they stay in a core's own cache until they are hashed and written.
const BUFFER_BYTES: usize = 256 << 10;
const _: () = assert!(PART_BYTES.is_multiple_of(BUFFER_BYTES));
/// More threads than this would wait for memory.
const THREADS_MAX: usize = 4;

/// A hasher of parts, whose hashes are told to nobody and are no seals.
fn part_hasher(key: &Key) -> blake3::Hasher {
    blake3::Hasher::new_keyed(&blake3::derive_key("bedstone compiled code, part", key))
}

fn seal_of(
    key: &Key,
    purpose: &[u8; 32],
    about: &[u8],
    code_bytes: u64,
    parts: &[blake3::Hash],
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(purpose);
    hasher.update(&(about.len() as u64).to_le_bytes());
    hasher.update(&code_bytes.to_le_bytes());
    hasher.update(about);
    for part in parts {
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

/// A module in Wasmtime's own form.
pub(crate) struct SerialisedModule(Vec<u8>);

impl SerialisedModule {
    /// Of a module that Wasmtime compiled, or loaded, in this process.
    pub fn new(module: &wasmtime::Module) -> wasmtime::Result<Self> {
        module.serialize().map(Self)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The seal of the module and of what is said of it.
    pub fn seal(&self, key: &Key, purpose: &[u8; 32], about: &[u8]) -> Seal {
        let hash = |part: &[u8]| part_hasher(key).update(part).finalize();
        let parts: Vec<_> = self.0.chunks(PART_BYTES).map(hash).collect();
        *seal_of(key, purpose, about, self.0.len() as u64, &parts).as_bytes()
    }
}

/// A serialised module whose seal is whole.
pub(crate) struct Authentic(AnonymousFile);

impl Authentic {
    /// Reads `file` from `code_at` to its end; `None` if anything of the code, of what is said of it, of the purpose or of the
    /// key is different from what was sealed.
    pub fn read(
        file: &File,
        code_at: u64,
        key: &Key,
        purpose: &[u8; 32],
        (seal, about): (&Seal, &[u8]),
    ) -> io::Result<Option<Self>> {
        let code_bytes = file.metadata()?.len().saturating_sub(code_at);
        let memory = AnonymousFile::new(code_bytes)?;
        let count = usize::try_from(code_bytes).map_err(io::Error::other)?.div_ceil(PART_BYTES);
        let mut parts = vec![blake3::Hash::from_bytes([0; 32]); count];
        let share = count.div_ceil(THREADS_MAX).max(1);
        let take = |first: usize, parts: &mut [blake3::Hash]| {
            let mut buffer = vec![0; BUFFER_BYTES];
            for (index, part) in (first..).zip(parts) {
                let from = (index * PART_BYTES) as u64;
                let to = code_bytes.min(from + PART_BYTES as u64);
                *part = take_part(file, code_at, &memory, from..to, part_hasher(key), &mut buffer)?;
            }
            io::Result::Ok(())
        };
        std::thread::scope(|scope| {
            let mut shares = parts.chunks_mut(share).enumerate();
            let own = shares.next();
            let others: Vec<_> =
                shares.map(|(index, parts)| scope.spawn(move || take(index * share, parts))).collect();
            own.map_or(Ok(()), |(_, parts)| take(0, parts))?;
            others.into_iter().try_for_each(|other| other.join().expect("reading and hashing do not panic"))
        })?;
        // Compared in constant time.
        let whole = seal_of(key, purpose, about, code_bytes, &parts) == blake3::Hash::from_bytes(*seal);
        Ok(whole.then_some(Self(memory)))
    }

    /// The module; an error if it was compiled for another machine or by another Wasmtime.
    pub fn module(self, engine: &wasmtime::Engine) -> wasmtime::Result<wasmtime::Module> {
        // SAFETY: the file must hold an unmodified serialised module, and must not change. `read` compared what it holds with
        // a seal under a key that only this user's processes have, and those seal nothing but a `SerialisedModule`. It is a
        // file without a name that nobody else was given, and this was the only handle.
        unsafe { wasmtime::Module::deserialize_open_file(engine, self.0.into_file()) }
    }
}

/// Copies a part of the code into memory; its hash. A file that ends early is an error.
fn take_part(
    file: &File,
    code_at: u64,
    memory: &AnonymousFile,
    range: std::ops::Range<u64>,
    mut hasher: blake3::Hasher,
    buffer: &mut [u8],
) -> io::Result<blake3::Hash> {
    let mut at = range.start;
    while at < range.end {
        let length = buffer.len().min(usize::try_from(range.end - at).expect("a part is small"));
        let bytes = &mut buffer[..length];
        file.read_exact_at(bytes, code_at + at)?;
        hasher.update(bytes);
        memory.write(at, bytes)?;
        at += length as u64;
    }
    Ok(hasher.finalize())
}

/// Whether a file or directory belongs to the user that this process runs as, and nobody else may write it.
pub fn is_private(metadata: &Metadata) -> bool {
    // SAFETY: the call reads nothing but what the kernel knows of this process, and always succeeds.
    let user = unsafe { libc::geteuid() };
    metadata.uid() == user && metadata.mode() & 0o022 == 0
}

/// Sets a file's time of modification to now.
pub(crate) fn touch(file: &File) {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open while `file` is borrowed; no times are given, so no memory is read.
    let result = unsafe { libc::futimens(file.as_raw_fd(), std::ptr::null()) };
    // Without it an entry counts as less recently used than it is.
    let _ = result;
}

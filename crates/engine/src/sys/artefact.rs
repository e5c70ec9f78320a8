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

use super::code::{LoadedCode, Region};

/// What proves that bytes are those that were sealed.
pub(crate) type Seal = [u8; 32];

/// Secret of those who may put machine code away and load it.
pub(crate) type Key = [u8; 32];

/// Bytes of code that are hashed together: large enough for the widest vectors, small enough for several threads.
const PART_BYTES: usize = 1 << 20;
/// Bytes that are read at once; they are in a core's own cache when they are hashed.
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
pub(crate) struct Authentic(Region);

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
        let mut region = Region::new(usize::try_from(code_bytes).map_err(io::Error::other)?)?;
        let code = region.bytes_mut();
        let count = code.len().div_ceil(PART_BYTES);
        let mut parts = vec![blake3::Hash::from_bytes([0; 32]); count];
        let share = count.div_ceil(THREADS_MAX).max(1);
        let hasher = part_hasher(key);
        let take = |first: usize, parts: &mut [blake3::Hash], code: &mut [u8]| {
            for (index, (part, code)) in (first..).zip(parts.iter_mut().zip(code.chunks_mut(PART_BYTES))) {
                *part = take_part(file, code_at + (index * PART_BYTES) as u64, code, hasher.clone())?;
            }
            io::Result::Ok(())
        };
        std::thread::scope(|scope| {
            let take = &take;
            let codes = code.chunks_mut(share * PART_BYTES);
            let mut shares = (0..).step_by(share).zip(parts.chunks_mut(share).zip(codes));
            let own = shares.next();
            let others: Vec<_> =
                shares.map(|(first, (parts, code))| scope.spawn(move || take(first, parts, code))).collect();
            own.map_or(Ok(()), |(first, (parts, code))| take(first, parts, code))?;
            others.into_iter().try_for_each(|other| other.join().expect("reading and hashing do not panic"))
        })?;
        // Compared in constant time.
        let whole = seal_of(key, purpose, about, code_bytes, &parts) == blake3::Hash::from_bytes(*seal);
        Ok(whole.then_some(Self(region)))
    }

    /// The module; an error if it was compiled for another machine or by another Wasmtime. Of the bytes nothing less is known
    /// than that they are a serialised module: [`Authentic::read`] compared them with a seal under a key that only this
    /// user's processes have, and those seal nothing but a [`SerialisedModule`].
    pub fn module(
        self,
        engine: &wasmtime::Engine,
        loaded: &LoadedCode,
    ) -> wasmtime::Result<wasmtime::Module> {
        loaded.load(engine, self.0)
    }
}

/// Reads a part of the code; its hash. A file that ends early is an error.
fn take_part(
    file: &File,
    mut at: u64,
    code: &mut [u8],
    mut hasher: blake3::Hasher,
) -> io::Result<blake3::Hash> {
    for piece in code.chunks_mut(BUFFER_BYTES) {
        file.read_exact_at(piece, at)?;
        hasher.update(piece);
        at += piece.len() as u64;
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

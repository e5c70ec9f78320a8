//! How bytes on disk are read, and the file `FORMAT`, which says what the other files are.
//!
//! - Little-endian; reserved bytes are zero and checked.
//! - A hash is checked before a field is believed, and a field is checked even when the hash is right.
//! - `FORMAT` is 128 bytes: 0 magic `BEDSTONE`, 8 format number, 12 bytes of a page, then feature bits (16
//!   incompatible, 24 read-only-compatible, 32 compatible), 40 store id, 56 store key, 88 zero, 96 BLAKE3 of
//!   bytes 0..96.
//! - Each other file carries a hash keyed with the store key, so that a file of another store is never taken
//!   for ours.

use crate::error::{Error, ErrorKind, Result};

/// Bytes of `FORMAT`.
pub(crate) const FORMAT_BYTES: usize = 128;
/// Bytes of a BLAKE3 hash.
pub(crate) const HASH_BYTES: usize = 32;

const MAGIC: &[u8; 8] = b"BEDSTONE";
const FORMAT_NUMBER: u32 = 1;
/// Incompatible feature: the state is kept as whole images that `head` names, written by `save`; there is no
/// log. This release reads no other state, and a release without this bit refuses ours.
const WHOLE_IMAGES: u64 = 1 << 63;
const HASHED_BYTES: usize = 96;

const _: () = assert!(HASHED_BYTES + HASH_BYTES == FORMAT_BYTES);

/// What `FORMAT` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) store_id: [u8; 16],
    /// Secret from canisters, so that none can choose page bytes that look like ours.
    pub(crate) store_key: [u8; 32],
}

impl Format {
    /// The identity of a new store, drawn from the caller's randomness.
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Format {
        let mut store_id = [0; 16];
        store_id.copy_from_slice(&blake3::derive_key("bedstone 1 store id", seed)[..16]);
        Format { store_id, store_key: blake3::derive_key("bedstone 1 store key", seed) }
    }

    /// The key for hashes of one purpose.
    pub(crate) fn key(&self, purpose: Purpose) -> [u8; HASH_BYTES] {
        let context = match purpose {
            Purpose::Head => "bedstone 1 head",
            Purpose::Image => "bedstone 1 image",
        };
        blake3::derive_key(context, &self.store_key)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FORMAT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_NUMBER.to_le_bytes());
        bytes.extend_from_slice(&(crate::page::PAGE_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&WHOLE_IMAGES.to_le_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&self.store_id);
        bytes.extend_from_slice(&self.store_key);
        bytes.resize(HASHED_BYTES, 0);
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    /// Reads `FORMAT`, called `file` in messages.
    pub(crate) fn decode(bytes: &[u8], file: &str) -> Result<Format> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(Error::new(
                ErrorKind::Format,
                format!(
                    "{file} does not begin with BEDSTONE, so its directory is not \
                     a Bedstone state directory; choose another one"
                ),
            ));
        }
        let hash_is_right = bytes.len() == FORMAT_BYTES
            && blake3::hash(&bytes[..HASHED_BYTES]).as_bytes().as_slice() == &bytes[HASHED_BYTES..];
        let mut cursor = Cursor::new(bytes, file);
        cursor.take(MAGIC.len())?;
        let number = cursor.u32()?;
        if number != FORMAT_NUMBER {
            return Err(other_release(
                file,
                format_args!("format {number}, and this one reads {FORMAT_NUMBER}"),
            ));
        }
        if !hash_is_right {
            return Err(Error::damaged(file, HASHED_BYTES as u64, "its hash does not match"));
        }
        if cursor.u32()? as usize != crate::page::PAGE_BYTES {
            return Err(cursor.damaged("pages do not have 4096 bytes"));
        }
        let (incompatible, read_only, _compatible) = (cursor.u64()?, cursor.u64()?, cursor.u64()?);
        if incompatible != WHOLE_IMAGES || read_only != 0 {
            let bits = format_args!(
                "features {incompatible:#x} and {read_only:#x}, and this one reads {WHOLE_IMAGES:#x}"
            );
            return Err(other_release(file, bits));
        }
        let format = Format { store_id: cursor.array()?, store_key: cursor.array()? };
        cursor.zeros(HASHED_BYTES - 88)?;
        Ok(format)
    }
}

fn other_release(file: &str, what: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Format,
        format!(
            "{file} was made by another release of Bedstone (it has {what}); use the release that made it"
        ),
    )
}

/// What a keyed hash is for; hashes of different purposes never match.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Head,
    Image,
}

/// Reads fields one after the other and never beyond the end.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    file: &'a str,
}

impl<'a> Cursor<'a> {
    /// Begins at the first of `bytes`, which are the first of `file`.
    pub(crate) fn new(bytes: &'a [u8], file: &'a str) -> Cursor<'a> {
        Cursor { bytes, at: 0, file }
    }

    /// An error that names the place just read.
    pub(crate) fn damaged(&self, what: impl std::fmt::Display) -> Error {
        Error::damaged(self.file, self.at as u64, what)
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or_else(|| self.damaged("it ends too early"))?;
        self.at += length;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes that a later format may use.
    pub(crate) fn zeros(&mut self, length: usize) -> Result<()> {
        let reserved = self.take(length)?;
        if reserved.iter().any(|byte| *byte != 0) {
            return Err(self.damaged("reserved bytes are not zero"));
        }
        Ok(())
    }

    /// Bytes that are the same in each file of a kind.
    pub(crate) fn expect(&mut self, expected: &[u8], what: &str) -> Result<()> {
        if self.take(expected.len())? != expected {
            return Err(self.damaged(format_args!("its {what} is not the expected one")));
        }
        Ok(())
    }

    pub(crate) fn end(&self) -> Result<()> {
        if self.at != self.bytes.len() {
            return Err(self.damaged("bytes follow that should not be there"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_reads_back_and_other_releases_are_refused() {
        let format = Format::from_seed(&[3; 32]);
        let bytes = format.encode();
        assert_eq!(bytes.len(), FORMAT_BYTES);
        assert_eq!(Format::decode(&bytes, "FORMAT").unwrap(), format);

        let mut final_form = bytes.clone();
        final_form[16..24].fill(0);
        let hash = blake3::hash(&final_form[..HASHED_BYTES]);
        final_form[HASHED_BYTES..].copy_from_slice(hash.as_bytes());
        let error = Format::decode(&final_form, "FORMAT").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        assert!(error.to_string().contains("another release"), "{error}");

        let mut next = bytes.clone();
        next[8] = 2;
        assert_eq!(Format::decode(&next, "FORMAT").unwrap_err().kind(), ErrorKind::Format);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let bytes = Format::from_seed(&[3; 32]).encode();
        for length in 0..bytes.len() {
            assert!(Format::decode(&bytes[..length], "FORMAT").is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Format::decode(&flipped, "FORMAT").is_err(), "bit {bit}");
        }
    }
}

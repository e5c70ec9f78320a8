//! How bytes on disk are read; the files `FORMAT`, which says what the directory is, and `CLEAN`, which says
//! that it was closed.
//!
//! - Little-endian; reserved bytes are zero and checked.
//! - A hash is checked before a field is believed, and a field is checked even when the hash is right.
//! - Every hash but `FORMAT`'s own is keyed with a key derived from the store key, which no canister can read.
//! - The layout is drawn in `docs/store-format.md`; a change here that the document does not follow is refused
//!   by `xtask tidy`.

use crate::error::{Error, ErrorKind, Result};

/// Bytes of `FORMAT`.
pub(crate) const FORMAT_BYTES: usize = 128;
/// Bytes of `CLEAN`.
pub(crate) const CLEAN_BYTES: usize = 88;
/// Bytes of a BLAKE3 hash.
pub(crate) const HASH_BYTES: usize = 32;
/// A BLAKE3 hash.
pub(crate) type Hash = [u8; HASH_BYTES];

const MAGIC: &[u8; 8] = b"BEDSTONE";
const FORMAT_NUMBER: u32 = 1;
/// Features without which a state cannot be read; this release knows none.
const INCOMPATIBLE: u64 = 0;
/// Features without which a state can be read but not written; this release knows none.
const READ_ONLY_COMPATIBLE: u64 = 0;
const HASHED_BYTES: usize = 96;

const _: () = assert!(HASHED_BYTES + HASH_BYTES == FORMAT_BYTES);

/// What `FORMAT` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) store_id: [u8; 16],
    /// Secret from canisters, so that none can choose page bytes that look like ours.
    pub(crate) store_key: [u8; 32],
    /// The length of a log segment, unless its own header says otherwise.
    pub(crate) segment_bytes: u64,
}

/// The derived keys, one for each kind of hash; hashes of different kinds never match.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) segment: Hash,
    pub(crate) body: Hash,
    pub(crate) link: Hash,
    pub(crate) own: Hash,
    pub(crate) clean: Hash,
}

impl Format {
    /// The identity of a new store, drawn from the caller's randomness.
    pub(crate) fn from_seed(seed: &[u8; 32], segment_bytes: u64) -> Format {
        let mut store_id = [0; 16];
        store_id.copy_from_slice(&blake3::derive_key("bedstone 1 store id", seed)[..16]);
        Format { store_id, store_key: blake3::derive_key("bedstone 1 store key", seed), segment_bytes }
    }

    pub(crate) fn keys(&self) -> Keys {
        let key = |context| blake3::derive_key(context, &self.store_key);
        Keys {
            segment: key("bedstone 1 segment"),
            body: key("bedstone 1 body"),
            link: key("bedstone 1 link"),
            own: key("bedstone 1 self"),
            clean: key("bedstone 1 clean"),
        }
    }

    /// The link before the first record of an opening, drawn from the caller's randomness: no record of an
    /// earlier opening follows it.
    pub(crate) fn fresh_link(&self, seed: &[u8; 32], applied: u64) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key("bedstone 1 fresh link");
        hasher.update(&self.store_key).update(seed).update(&applied.to_le_bytes());
        *hasher.finalize().as_bytes()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FORMAT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT_NUMBER.to_le_bytes());
        bytes.extend_from_slice(&(crate::page::PAGE_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 24]);
        bytes.extend_from_slice(&self.store_id);
        bytes.extend_from_slice(&self.store_key);
        bytes.extend_from_slice(&self.segment_bytes.to_le_bytes());
        assert!(bytes.len() == HASHED_BYTES, "the fields fill the hashed part");
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
        if incompatible & !INCOMPATIBLE != 0 || read_only & !READ_ONLY_COMPATIBLE != 0 {
            let bits = format_args!(
                "features {incompatible:#x} and {read_only:#x}, and this one knows {INCOMPATIBLE:#x} \
                 and {READ_ONLY_COMPATIBLE:#x}"
            );
            return Err(other_release(file, bits));
        }
        let format =
            Format { store_id: cursor.array()?, store_key: cursor.array()?, segment_bytes: cursor.u64()? };
        if !is_segment_length(format.segment_bytes) {
            return Err(cursor.damaged(format_args!("segments have {} bytes", format.segment_bytes)));
        }
        Ok(format)
    }
}

/// Whether a log segment may have this length: room for its header and a record, in whole records.
pub(crate) fn is_segment_length(bytes: u64) -> bool {
    (8192..=1 << 40).contains(&bytes) && bytes.is_multiple_of(64)
}

fn other_release(file: &str, what: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Format,
        format!(
            "{file} was made by another release of Bedstone (it has {what}); use the release that made it"
        ),
    )
}

/// What `CLEAN` says: where the catalog stood when the directory was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clean {
    pub(crate) applied: u64,
    pub(crate) link: Hash,
}

impl Clean {
    pub(crate) fn encode(&self, format: &Format, keys: &Keys) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CLEAN_BYTES);
        bytes.extend_from_slice(&format.store_id);
        bytes.extend_from_slice(&self.applied.to_le_bytes());
        bytes.extend_from_slice(&self.link);
        let hash = blake3::keyed_hash(&keys.clean, &bytes);
        bytes.extend_from_slice(hash.as_bytes());
        bytes
    }

    /// `None` for anything but a whole `CLEAN` of this store: then the directory is recovered, which needs no
    /// `CLEAN`.
    pub(crate) fn decode(bytes: &[u8], format: &Format, keys: &Keys) -> Option<Clean> {
        let (fields, hash) = bytes.split_at_checked(CLEAN_BYTES - HASH_BYTES)?;
        if blake3::keyed_hash(&keys.clean, fields).as_bytes().as_slice() != hash {
            return None;
        }
        let (store_id, rest) = fields.split_at_checked(16)?;
        let (applied, link) = rest.split_first_chunk()?;
        (store_id == format.store_id)
            .then_some(Clean { applied: u64::from_le_bytes(*applied), link: link.try_into().ok()? })
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_reads_back_and_other_releases_are_refused() {
        let format = Format::from_seed(&[3; 32], 1 << 16);
        let bytes = format.encode();
        assert_eq!(bytes.len(), FORMAT_BYTES);
        assert_eq!(Format::decode(&bytes, "FORMAT").unwrap(), format);

        for bit in [16, 24] {
            let mut later = bytes.clone();
            later[bit] = 1;
            let hash = blake3::hash(&later[..HASHED_BYTES]);
            later[HASHED_BYTES..].copy_from_slice(hash.as_bytes());
            let error = Format::decode(&later, "FORMAT").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Format);
            assert!(error.to_string().contains("another release"), "{error}");
        }
        let mut compatible = bytes.clone();
        compatible[32] = 1;
        let hash = blake3::hash(&compatible[..HASHED_BYTES]);
        compatible[HASHED_BYTES..].copy_from_slice(hash.as_bytes());
        assert_eq!(Format::decode(&compatible, "FORMAT").unwrap(), format);

        let mut next = bytes;
        next[8] = 2;
        assert_eq!(Format::decode(&next, "FORMAT").unwrap_err().kind(), ErrorKind::Format);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let bytes = Format::from_seed(&[3; 32], 1 << 16).encode();
        for length in 0..bytes.len() {
            assert!(Format::decode(&bytes[..length], "FORMAT").is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Format::decode(&flipped, "FORMAT").is_err(), "bit {bit}");
        }
    }

    #[test]
    fn clean_is_believed_only_when_it_is_whole_and_ours() {
        let format = Format::from_seed(&[3; 32], 1 << 16);
        let keys = format.keys();
        let clean = Clean { applied: 7, link: [8; 32] };
        let bytes = clean.encode(&format, &keys);
        assert_eq!(bytes.len(), CLEAN_BYTES);
        assert_eq!(Clean::decode(&bytes, &format, &keys), Some(clean));
        for at in 0..bytes.len() {
            assert_eq!(Clean::decode(&bytes[..at], &format, &keys), None);
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(Clean::decode(&flipped, &format, &keys), None);
        }
        let other = Format::from_seed(&[4; 32], 1 << 16);
        assert_eq!(Clean::decode(&bytes, &other, &other.keys()), None);
    }
}

//! Chunk stores: parts of modules that are too large for one message, kept per canister until they are cleared.
//!
//! In the store a chunk is a blob, which is named by the hash that callers know it by, and `chunk/`, the canister's id and
//! that hash say, without a value, whose chunk it is. A subnet that is saved on request only, or not at all, keeps chunks in memory until then.
//!
//! Invariants:
//! - A canister has at most [`CHUNKS_MAX`] chunks of at most [`CHUNK_BYTES_MAX`] bytes.
//! - A blob has a reference for each canister that has it as a chunk.

use std::collections::BTreeMap;
use std::sync::Arc;

use bedstone_engine::store::{BlobId, Change, Store};
use bedstone_engine::{Error, Principal};
use ic_management_canister_types::{CanisterIdRecord, ChunkHash, UploadChunkArgs};

use super::codec::encode;
use super::{ManagementCall, Reply};
use crate::journal::Journal;
use crate::lifecycle::EMPTY_REPLY;
use crate::reject::Reject;
use crate::saved::{each_raw, principal};
use crate::subnet::Subnet;

/// Largest chunk.
pub(super) const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Most chunks of a canister.
const CHUNKS_MAX: usize = 100;
/// Prefix of the keys; a canister's id and a hash follow.
const KEYS: &[u8] = b"chunk/";
const HASH_BYTES: usize = 32;

/// SHA-256 of a chunk.
pub(super) type Hash = [u8; HASH_BYTES];

/// Where a chunk's bytes are.
#[derive(Debug, Clone)]
enum Chunk {
    Memory(Arc<[u8]>),
    /// In the store.
    Blob,
}

/// The chunks of all canisters.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChunkStores(BTreeMap<Principal, BTreeMap<Hash, Chunk>>);

impl ChunkStores {
    /// Those in a store.
    pub fn load(store: &Store) -> Result<Self, Error> {
        let mut stores: BTreeMap<Principal, BTreeMap<Hash, Chunk>> = BTreeMap::new();
        each_raw(store, KEYS, |key, _| {
            let bad = || Error::damaged("an entry of a chunk store");
            let (id, hash) = key.split_last_chunk::<HASH_BYTES>().ok_or_else(bad)?;
            stores.entry(principal(id)?).or_default().insert(*hash, Chunk::Blob);
            Ok(())
        })?;
        Ok(Self(stores))
    }

    /// Adds what is not in the store yet to a change, and removes what is gone.
    pub fn save(&mut self, store: &Store, change: &mut Change) -> Result<(), Error> {
        each_raw(store, KEYS, |key, _| {
            let bad = || Error::damaged("an entry of a chunk store");
            let (id, hash) = key.split_last_chunk::<HASH_BYTES>().ok_or_else(bad)?;
            let kept = self.0.get(&principal(id)?).and_then(|chunks| chunks.get(hash));
            if !matches!(kept, Some(Chunk::Blob)) {
                change.delete(&[KEYS, key].concat());
                change.blob_references(BlobId::new(*hash), -1);
            }
            Ok(())
        })?;
        for (id, chunks) in &mut self.0 {
            for (hash, chunk) in chunks {
                let Chunk::Memory(bytes) = chunk else { continue };
                let blob = store.put_blob(bytes).map_err(Error::store)?;
                change.put(&key(*id, hash), &[]);
                change.blob_references(blob, 1);
                *chunk = Chunk::Blob;
            }
        }
        Ok(())
    }

    /// Whose they are, and their hashes.
    pub fn names(&self) -> impl Iterator<Item = (Principal, Hash)> {
        self.0.iter().flat_map(|(id, chunks)| chunks.keys().map(|hash| (*id, *hash)))
    }

    /// The hashes of a canister's chunks, in order.
    pub fn of(&self, id: Principal) -> impl Iterator<Item = Hash> {
        self.0.get(&id).into_iter().flat_map(|chunks| chunks.keys().copied())
    }

    /// Bytes that a canister's chunks occupy: each counts as a largest one.
    pub fn bytes(&self, id: Principal) -> u64 {
        (self.of(id).count() * CHUNK_BYTES_MAX) as u64
    }
}

fn key(id: Principal, hash: &Hash) -> Vec<u8> {
    [KEYS, id.as_slice(), hash].concat()
}

/// A request that a chunk store refuses.
pub(super) fn chunk_error(text: impl std::fmt::Display) -> Reject {
    Reject::new(504, format!("Error from Wasm chunk store: {text}."))
}

impl Subnet {
    pub(super) fn manage_chunk_upload(&mut self, call: &mut ManagementCall) -> Reply {
        let UploadChunkArgs { canister_id: id, chunk } = call.decode()?;
        self.controlled_or_self(id, call.caller)?;
        let size = chunk.len();
        if size > CHUNK_BYTES_MAX {
            let text = format!("Wasm chunk size {size} exceeds the maximum chunk size of {CHUNK_BYTES_MAX}");
            return Err(chunk_error(text).into());
        }
        let hash = *BlobId::of(&chunk).as_bytes();
        let chunks = self.chunks.0.entry(id).or_default();
        if !chunks.contains_key(&hash) {
            if chunks.len() >= CHUNKS_MAX {
                let most = CHUNKS_MAX * CHUNK_BYTES_MAX;
                let text = format!("Wasm chunk store has already reached maximum capacity of {most} bytes");
                return Err(chunk_error(text).into());
            }
            let chunk = match call.journal.parts() {
                Some((store, change)) => {
                    let blob = store.put_blob(&chunk).map_err(Error::store)?;
                    change.put(&key(id, &hash), &[]);
                    change.blob_references(blob, 1);
                    Chunk::Blob
                }
                None => Chunk::Memory(chunk.into()),
            };
            chunks.insert(hash, chunk);
        }
        Ok(encode(ChunkHash { hash: hash.to_vec() }))
    }

    pub(super) fn manage_stored_chunks(&mut self, call: &mut ManagementCall) -> Reply {
        let CanisterIdRecord { canister_id: id } = call.decode()?;
        self.controlled_or_self(id, call.caller)?;
        let hashes: Vec<ChunkHash> =
            self.chunks.of(id).map(|hash| ChunkHash { hash: hash.to_vec() }).collect();
        Ok(encode(hashes))
    }

    pub(super) fn manage_chunk_clearing(&mut self, call: &mut ManagementCall) -> Reply {
        let CanisterIdRecord { canister_id: id } = call.decode()?;
        self.controlled_or_self(id, call.caller)?;
        self.drop_chunks(id, &mut call.journal);
        Ok(EMPTY_REPLY.to_vec())
    }

    /// Removes a canister's chunks.
    pub(crate) fn drop_chunks(&mut self, id: Principal, journal: &mut Journal) {
        let chunks = self.chunks.0.remove(&id).unwrap_or_default();
        if let Some((_, change)) = journal.parts() {
            for hash in chunks.keys() {
                change.delete(&key(id, hash));
                change.blob_references(BlobId::new(*hash), -1);
            }
        }
    }

    /// The bytes of a canister's chunk.
    pub(super) fn chunk(&self, id: Principal, hash: &Hash) -> Result<Option<Vec<u8>>, Error> {
        match self.chunks.0.get(&id).and_then(|chunks| chunks.get(hash)) {
            None => Ok(None),
            Some(Chunk::Memory(bytes)) => Ok(Some(bytes.to_vec())),
            Some(Chunk::Blob) => {
                let store = self.store.as_ref().expect("blobs are in a store");
                store.blob(BlobId::new(*hash)).map(Some).map_err(Error::store)
            }
        }
    }
}

//! Writes a snapshot to the IC's snapshot directory.
//!
//! Invariants:
//! - A directory that has `metadata.json` holds all of the snapshot, on the disk.
//! - An export that was interrupted goes on where its note says, and writes everything after that anew.

use std::os::unix::fs::FileExt;
use std::path::Path;

use bedstone_subnet::engine::SnapshotPart;
use bedstone_subnet::{SnapshotId, SnapshotMetadata, Subnet};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::network::Network;
use crate::snapshot_directory::{
    Directory, HEAP_FILE, MODULE_FILE, STABLE_FILE, cannot, chunk_file, refused,
};

/// Bytes that are read at once.
const PIECE_BYTES: u64 = 4 << 20;
/// Bytes after which an interrupted export need not begin again.
const NOTED_BYTES: u64 = 32 << 20;

impl Network {
    /// Writes a snapshot to a directory as other tools of the IC read it. The directory must be missing or empty, or hold the
    /// same export, interrupted, which then goes on.
    ///
    /// `encode` makes `metadata.json`, or says why it cannot. `progress` is told how many bytes of memories are written, and
    /// how many there are.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such snapshot, [`Error::Snapshot`] if the directory is in the way or cannot be
    /// written, or the snapshot has no place in its form.
    pub fn export_snapshot(
        &self,
        snapshot: SnapshotId,
        directory: &Path,
        encode: impl FnOnce(&SnapshotMetadata) -> Result<Vec<u8>, String>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let metadata = self.snapshot_metadata(snapshot)?;
        let memories = self.with_snapshot(snapshot, |subnet, id| {
            Ok(subnet.snapshot(id).map_or(0, bedstone_subnet::engine::Snapshot::memory_count))
        })?;
        if memories > 1 {
            return Err(refused(format!(
                "snapshot {snapshot} has {memories} memories besides stable memory, and a snapshot's directory has room for one"
            )));
        }
        let encoded = encode(&metadata)
            .map_err(|why| refused(format!("snapshot {snapshot} cannot be exported: {why}")))?;
        let token = token(snapshot, &encoded);
        let target = Directory::at(directory);
        let done = target.begin_export(&token)?;
        self.export_whole_files(snapshot, &metadata, &target)?;
        self.export_memories(snapshot, &metadata, (&target, &token, done), progress)?;
        target.finish_export(&encoded)
    }

    /// Module and chunks.
    fn export_whole_files(
        &self,
        snapshot: SnapshotId,
        metadata: &SnapshotMetadata,
        target: &Directory,
    ) -> Result<(), Error> {
        let module = self.with_snapshot(snapshot, |subnet, id| {
            let snapshot = subnet.snapshot(id).expect("checked");
            Ok(snapshot.module(subnet.store())?.into_owned())
        })?;
        target.write(MODULE_FILE, &module)?;
        if metadata.wasm_chunks.is_empty() {
            return Ok(());
        }
        let chunks = target.make_chunk_directory()?;
        for &hash in &metadata.wasm_chunks {
            let chunk = self.with_snapshot(snapshot, move |subnet, id| {
                Ok(subnet.snapshot(id).expect("checked").chunk(&hash, subnet.store())?)
            })?;
            chunks.write(&chunk_file(&hash), &chunk.expect("listed"))?;
        }
        Ok(())
    }

    /// The heap, then stable memory, from byte `done` of both on.
    fn export_memories(
        &self,
        snapshot: SnapshotId,
        metadata: &SnapshotMetadata,
        (target, token, done): (&Directory, &str, u64),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Error> {
        let total = metadata.wasm_memory_bytes + metadata.stable_memory_bytes;
        let mut noted = done;
        let mut before = 0;
        for (part, name, bytes) in [
            (SnapshotPart::WasmMemory, HEAP_FILE, metadata.wasm_memory_bytes),
            (SnapshotPart::StableMemory, STABLE_FILE, metadata.stable_memory_bytes),
        ] {
            let mut at = done.saturating_sub(before).min(bytes);
            let file = target.memory_file(name, bytes, at)?;
            let written = |error| cannot("write", &target.file(name), &error);
            loop {
                progress(done.max(before + at), total);
                let piece = self.with_snapshot(snapshot, move |subnet, id| {
                    let snapshot = subnet.snapshot(id).expect("checked");
                    let at = snapshot.next_data(part, at)?;
                    let len = usize::try_from((bytes - at).min(PIECE_BYTES)).expect("a piece is small");
                    let mut piece = vec![0; len];
                    snapshot.read(part, at, &mut piece)?;
                    Ok((at, piece))
                })?;
                at = piece.0;
                if piece.1.is_empty() {
                    break;
                }
                file.write_all_at(&piece.1, at).map_err(written)?;
                at += piece.1.len() as u64;
                if before + at - noted >= NOTED_BYTES {
                    file.sync_all().map_err(written)?;
                    target.note(token, before + at)?;
                    noted = before + at;
                }
            }
            file.sync_all().map_err(written)?;
            before += bytes;
        }
        progress(total, total);
        Ok(())
    }

    /// Reads something of a snapshot that is there.
    fn with_snapshot<R: Send + 'static>(
        &self,
        snapshot: SnapshotId,
        read: impl FnOnce(&mut Subnet, SnapshotId) -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        self.worker.run(move |subnet| {
            // Somebody else may have deleted it meanwhile.
            if subnet.snapshot(snapshot).is_none() {
                return Err(Error::NotFound(format!("there is no snapshot {snapshot} any more")));
            }
            read(subnet, snapshot)
        })
    }
}

/// Tells an export from every other.
fn token(snapshot: SnapshotId, metadata: &[u8]) -> String {
    let hash = Sha256::new().chain_update(snapshot.to_bytes()).chain_update(metadata).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Reads a snapshot from the IC's snapshot directory.
//!
//! Invariants:
//! - Sizes, module, globals and chunks are checked before anything changes. The snapshot is seen once all of it is there.
//! - An import that was interrupted goes on where it ended, if neither the directory nor the canister's snapshots changed.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use bedstone_subnet::engine::{Principal, SnapshotPart, next_data};
use bedstone_subnet::{Import, SnapshotId, SnapshotMetadata};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::network::Network;
use crate::snapshot_directory::{
    CHUNK_DIRECTORY, Directory, HEAP_FILE, METADATA_FILE, MODULE_FILE, STABLE_FILE, cannot, chunk_file,
    refused,
};

/// Bytes that become durable at once.
const PIECE_BYTES: u64 = 16 << 20;
/// Largest chunk of a chunk store.
const CHUNK_BYTES_MAX: u64 = 1 << 20;

/// The files of a snapshot's directory, checked.
struct Files {
    module: Vec<u8>,
    heap: Option<File>,
    stable: Option<File>,
    chunks: Vec<Vec<u8>>,
}

impl Network {
    /// Makes a snapshot of a canister from a directory as this and other tools of the IC write it. The canister does not
    /// change until the snapshot is loaded. With `replace` that snapshot is deleted.
    ///
    /// `metadata` is what `metadata.json` says; where the snapshot comes from, its time and the canister's version are not
    /// taken on, as on the IC. `progress` is told how many bytes of memories are there, and how many there are to be.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if the directory is not whole or does not fit together, [`Error::Rejected`] if there is no such
    /// canister, or it has too many snapshots.
    pub fn import_snapshot(
        &self,
        canister: Principal,
        directory: &Path,
        metadata: &SnapshotMetadata,
        replace: Option<SnapshotId>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<SnapshotId, Error> {
        let place = directory.display();
        if let Some(fault) = metadata.fault() {
            return Err(refused(format!("{}: {fault}", directory.join(METADATA_FILE).display())));
        }
        let files = Files::open(directory, metadata)?;
        let token =
            files.token(canister, metadata, replace).map_err(|error| cannot("read", directory, &error))?;
        let Files { module, heap, stable, chunks } = files;
        let path = directory.join(MODULE_FILE);
        let module =
            self.worker.run(move |subnet| subnet.compile(&module)).map_err(|error| match error.into() {
                Error::Module(text) => {
                    refused(format!("{} is not a canister's module: {text}", path.display()))
                }
                error => error,
            })?;
        let import = Import { canister, metadata: metadata.clone(), module, replace, token };
        let begun = self.run(move |subnet| Ok(subnet.begin_import(&import)?));
        let (id, done) = begun.map_err(|error| match error {
            Error::Rejected(reject) if reject.error_code == 408 => {
                refused(format!("the snapshot in {place} does not fit together: {}", reject.message))
            }
            error => error,
        })?;
        for chunk in chunks {
            self.run(move |subnet| Ok(subnet.import_chunk(id, &chunk)?))?;
        }
        let total = metadata.wasm_memory_bytes + metadata.stable_memory_bytes;
        let mut before = 0;
        for (part, name, file, bytes) in [
            (SnapshotPart::WasmMemory, HEAP_FILE, heap, metadata.wasm_memory_bytes),
            (SnapshotPart::StableMemory, STABLE_FILE, stable, metadata.stable_memory_bytes),
        ] {
            let from = done.saturating_sub(before).min(bytes);
            if let Some(file) = file {
                let unread = |error| cannot("read", &directory.join(name), &error);
                each_piece(&file, (from, bytes), |at, piece| match piece {
                    Err(error) => Err(unread(error)),
                    Ok(piece) => {
                        let reached = before + at + piece.len() as u64;
                        self.run(move |subnet| Ok(subnet.import_data(id, (part, at), &piece, reached)?))?;
                        progress(reached, total);
                        Ok(())
                    }
                })?;
            }
            before += bytes;
        }
        self.run(move |subnet| Ok(subnet.finish_import(id, replace)?))?;
        progress(total, total);
        Ok(id)
    }
}

/// Reads the bytes of a file that are not in holes, in pieces that begin and end at multiples of the piece, as long as the
/// file allows.
fn each_piece(
    file: &File,
    (from, bytes): (u64, u64),
    mut take: impl FnMut(u64, std::io::Result<Vec<u8>>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut at = from;
    while at < bytes {
        match next_data(file.as_fd(), at) {
            Err(error) => return take(at, Err(error)),
            Ok(None) => return Ok(()),
            Ok(Some(data)) => at = at.max(data / PIECE_BYTES * PIECE_BYTES),
        }
        let end = (at / PIECE_BYTES + 1).saturating_mul(PIECE_BYTES).min(bytes);
        if at >= end {
            return Ok(());
        }
        let mut piece = vec![0; usize::try_from(end - at).expect("a piece is small")];
        let read = file.read_exact_at(&mut piece, at);
        take(at, read.map(|()| piece))?;
        at = end;
    }
    Ok(())
}

impl Files {
    /// Opens the files, and checks what can be checked without the canister.
    fn open(path: &Path, metadata: &SnapshotMetadata) -> Result<Self, Error> {
        let directory = Directory::at(path);
        let module = directory.open_sized(MODULE_FILE, metadata.wasm_module_bytes)?;
        let module = whole(module, metadata.wasm_module_bytes, &directory.file(MODULE_FILE))?;
        let heap = directory.open_sized(HEAP_FILE, metadata.wasm_memory_bytes)?;
        let stable = directory.open_sized(STABLE_FILE, metadata.stable_memory_bytes)?;
        let chunk_directory = Directory::at(&path.join(CHUNK_DIRECTORY));
        let chunk = |hash: &[u8; 32]| {
            let path = chunk_directory.file(&chunk_file(hash));
            let bytes = std::fs::metadata(&path).map_err(|error| cannot("read", &path, &error))?.len();
            if bytes > CHUNK_BYTES_MAX {
                return Err(refused(format!(
                    "{} has more than the {CHUNK_BYTES_MAX} bytes of a chunk",
                    path.display()
                )));
            }
            let chunk = std::fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
            match Sha256::digest(&chunk)[..] == *hash {
                true => Ok(chunk),
                false => Err(refused(format!("{} is damaged: its SHA-256 is not its name", path.display()))),
            }
        };
        let chunks = metadata.wasm_chunks.iter().map(chunk).collect::<Result<_, _>>()?;
        Ok(Self { module, heap, stable, chunks })
    }

    /// Tells what is imported from everything else. A file that was written since is another one.
    fn token(
        &self,
        canister: Principal,
        metadata: &SnapshotMetadata,
        replace: Option<SnapshotId>,
    ) -> std::io::Result<[u8; 32]> {
        let mut hash = Sha256::new();
        hash.update(format!("{canister} {replace:?} {metadata:?}"));
        hash.update(Sha256::digest(&self.module));
        for file in [&self.heap, &self.stable].into_iter().flatten() {
            let metadata = file.metadata()?;
            hash.update(metadata.mtime().to_le_bytes());
            hash.update(metadata.mtime_nsec().to_le_bytes());
            hash.update(metadata.len().to_le_bytes());
        }
        Ok(hash.finalize().into())
    }
}

fn whole(file: Option<File>, bytes: u64, path: &Path) -> Result<Vec<u8>, Error> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let mut contents = vec![0; usize::try_from(bytes).expect("modules are small")];
    file.read_exact_at(&mut contents, 0).map_err(|error| cannot("read", path, &error))?;
    Ok(contents)
}

//! Snapshots that this process makes of files: an upload in large pieces, not seen before it is complete, and taken up where
//! it ended if the process did.
//!
//! Invariants:
//! - A canister has at most one import that is not finished. Another one takes its place.
//! - What an import knows of its progress is in the same change as the bytes.

use std::sync::Arc;

use bedstone_engine::{Keeping, Module, Principal, Snapshot, SnapshotPart, Unfinished, UploadedModule};

use crate::reject::Reject;
use crate::snapshot_id::SnapshotId;
use crate::snapshot_transfer::SnapshotMetadata;
use crate::snapshots::{RequestError, key, put_new};
use crate::subnet::Subnet;

/// What is imported.
#[derive(Debug, Clone)]
pub struct Import {
    /// Into which canister.
    pub canister: Principal,
    /// Everything but the bytes of the memories.
    pub metadata: SnapshotMetadata,
    /// The module, compiled; see [`Subnet::compile`].
    pub module: Arc<Module>,
    /// The snapshot that it replaces.
    pub replace: Option<SnapshotId>,
    /// Tells what is imported from everything else: an import that was interrupted goes on if it has the same.
    pub token: [u8; 32],
}

impl Subnet {
    /// Begins an import, or goes on with it: its name, and how much of it is there by [`Subnet::import_data`]'s count.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn begin_import(&mut self, import: &Import) -> Result<(SnapshotId, u64), RequestError> {
        let canister = import.canister;
        if self.status(canister)?.is_none() {
            return Err(Reject::new(301, format!("Canister {canister} not found.")).into());
        }
        self.check_room_for_snapshot(canister, import.replace)?;
        let (metadata, sizes) = (&import.metadata, import.metadata.sizes());
        sizes.fit(&import.module, &metadata.globals).map_err(|why| Reject::new(408, why))?;
        let unfinished =
            self.snapshots.of(canister).find_map(|(id, snapshot)| Some((*id, *snapshot.unfinished()?)));
        let other = match unfinished {
            Some((id, Unfinished { token, done })) if token == import.token => return Ok((id, done)),
            other => other.map(|(id, _)| id),
        };
        self.settle(canister)?;
        let id = self.snapshots.next_id(canister);
        let details = self.uploaded_details(canister, metadata)?;
        let module = UploadedModule::Whole(Arc::clone(&import.module));
        let unfinished = Unfinished { token: import.token, done: 0 };
        let snapshot = self.with_change(|subnet, keeping| {
            let snapshot = Snapshot::upload(details, module, &sizes, Some(unfinished), keeping)?;
            put_new(id, &snapshot, keeping);
            subnet.erase_snapshot(other, keeping);
            Ok(snapshot)
        })?;
        self.snapshots.add(id, snapshot);
        self.forget_snapshot(other);
        Ok((id, 0))
    }

    /// Adds bytes of a memory to an import, after which `done` of it is there.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn import_data(
        &mut self,
        id: SnapshotId,
        (part, at): (SnapshotPart, u64),
        bytes: &[u8],
        done: u64,
    ) -> Result<(), RequestError> {
        self.write_snapshot(id, |snapshot, keeping| {
            snapshot.write(part, at, bytes, keeping)?;
            snapshot.reached(done);
            Ok(())
        })
    }

    /// Adds a chunk of the chunk store to an import.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn import_chunk(&mut self, id: SnapshotId, bytes: &[u8]) -> Result<(), RequestError> {
        self.write_snapshot(id, |snapshot, keeping| snapshot.add_chunk(bytes, keeping).map(drop))
    }

    /// Shows a complete import as a snapshot of its canister, and deletes the one that it replaces.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn finish_import(&mut self, id: SnapshotId, replace: Option<SnapshotId>) -> Result<(), RequestError> {
        self.check_room_for_snapshot(id.canister, replace)?;
        let now = self.time_nanos;
        let mut snapshot = self.snapshots.all.remove(&id).expect("an import that was begun");
        let before = snapshot.unfinished().copied();
        snapshot.finish(now);
        let finished = self.with_change(|subnet, keeping| {
            if let Keeping::InStore { change, .. } = keeping {
                snapshot.put(&key(id), change);
            }
            subnet.erase_snapshot(replace, keeping);
            Ok(())
        });
        if finished.is_err() {
            snapshot.unfinish(before);
        }
        self.snapshots.all.insert(id, snapshot);
        finished?;
        self.forget_snapshot(replace);
        Ok(())
    }

    /// The snapshot of that name.
    pub fn snapshot(&self, id: SnapshotId) -> Option<&Snapshot> {
        self.snapshots.all.get(&id).filter(|snapshot| snapshot.unfinished().is_none())
    }
}

//! The IC's requests that take, load, list and delete snapshots.
//!
//! Invariants:
//! - Only controllers ask, and are told the IC's codes.

use std::sync::Arc;

use bedstone_engine::{ErrorKind, Module, Principal, Snapshot, SnapshotSource};

use crate::reject::Reject;
use crate::snapshot_id::SnapshotId;
use crate::snapshots::{RequestError, not_found, put_new};
use crate::subnet::Subnet;

/// A snapshot in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its name.
    pub id: SnapshotId,
    /// When it was taken or uploaded, in nanoseconds since 1970.
    pub taken_at_nanos: u64,
    /// Bytes of all that it holds, as the IC counts them.
    pub total_bytes: u64,
    /// Where it comes from.
    pub source: SnapshotSource,
}

impl Subnet {
    /// Takes a snapshot of a canister, and deletes the one that it replaces.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn take_snapshot(
        &mut self,
        caller: Principal,
        canister: Principal,
        replace: Option<SnapshotId>,
    ) -> Result<SnapshotInfo, RequestError> {
        self.check_controller(caller, canister)?;
        self.check_room_for_snapshot(canister, replace)?;
        self.settle(canister)?;
        let (id, now) = (self.snapshots.next_id(canister), self.time_nanos);
        let snapshot = self.with_change(|subnet, keeping| {
            let present = subnet.awake(canister)?.expect("its controller was just checked");
            let snapshot = present.take_snapshot(now, keeping)?.ok_or_else(|| {
                Reject::new(406, format!("Failed to create snapshot for empty canister {canister}:"))
            })?;
            put_new(id, &snapshot, keeping);
            subnet.erase_snapshot(replace, keeping);
            Ok(snapshot)
        })?;
        let info = info(id, &snapshot);
        self.snapshots.add(id, snapshot);
        self.forget_snapshot(replace);
        Ok(info)
    }

    /// Gives a canister the state of a snapshot, of its own or of another canister that the caller controls.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn load_snapshot(
        &mut self,
        caller: Principal,
        canister: Principal,
        id: SnapshotId,
    ) -> Result<(), RequestError> {
        self.check_controller(caller, canister)?;
        if !self.snapshots.seen(id.canister).any(|(other, _)| *other == id) {
            return Err(not_found(canister, id).into());
        }
        if id.canister != canister {
            self.check_controller(caller, id.canister)?;
        }
        let module = self.snapshot_module(id)?;
        self.settle(canister)?;
        let snapshot = self.snapshots.all.remove(&id).expect("just found");
        let loaded = self.with_change(|subnet, keeping| {
            let present = subnet.awake(canister)?.expect("its controller was just checked");
            Ok(present.load_snapshot(&snapshot, module, keeping)?)
        });
        self.snapshots.all.insert(id, snapshot);
        match loaded {
            Err(RequestError::Failed(error)) => Ok(self.or_reload(canister, Err(error))?),
            Err(rejected) => Err(rejected),
            Ok(()) => Ok(self.watch_module(canister)?),
        }
    }

    /// The snapshot's module, compiled, if the snapshot fits it.
    pub(crate) fn snapshot_module(&self, id: SnapshotId) -> Result<Arc<Module>, RequestError> {
        let snapshot = &self.snapshots.all[&id];
        let module = match self.engine.compile(snapshot.module(self.store.as_ref())?) {
            Err(error) if error.kind() == ErrorKind::InvalidModule => {
                let text = format!(
                    "Error from Canister {}: Canister's Wasm module is not valid: {error}.",
                    id.canister
                );
                return Err(Reject::new(505, text).into());
            }
            module => module?,
        };
        snapshot.fits(&module).map_err(|why| {
            let text = "Wasm exported globals of canister module and snapshot metadata do not match";
            Reject::new(408, format!("{text}: {why}."))
        })?;
        Ok(module)
    }

    /// The snapshots of a canister, in the order in which they were made.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn list_snapshots(
        &mut self,
        caller: Principal,
        canister: Principal,
    ) -> Result<Vec<SnapshotInfo>, RequestError> {
        self.check_controller(caller, canister)?;
        Ok(self.snapshots.seen(canister).map(|(id, snapshot)| info(*id, snapshot)).collect())
    }

    /// Deletes a snapshot of a canister.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn delete_snapshot(
        &mut self,
        caller: Principal,
        canister: Principal,
        id: SnapshotId,
    ) -> Result<(), RequestError> {
        self.check_controller(caller, canister)?;
        self.find_snapshot(canister, id)?;
        self.with_change(|subnet, keeping| {
            subnet.erase_snapshot(Some(id), keeping);
            Ok(())
        })?;
        self.forget_snapshot(Some(id));
        Ok(())
    }
}

fn info(id: SnapshotId, snapshot: &Snapshot) -> SnapshotInfo {
    let details = snapshot.details();
    SnapshotInfo {
        id,
        taken_at_nanos: details.taken_at_nanos,
        total_bytes: snapshot.total_bytes(),
        source: details.source,
    }
}

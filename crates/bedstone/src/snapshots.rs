//! Snapshots and forks of the canisters of a network.
//!
//! Invariants:
//! - Whoever has the network controls its canisters: requests are made as one of a canister's controllers.

use bedstone_subnet::engine::Principal;
use bedstone_subnet::{RequestError, SnapshotId, SnapshotInfo, SnapshotMetadata, Subnet};

use crate::error::Error;
use crate::network::Network;

/// What these methods do is durable when they return, also with [`Durability::Off`](crate::Durability::Off): copies are made
/// of what is in the state directory, so that the network is saved first.
impl Network {
    /// Keeps a canister's state as it is now: module, memories, globals and certified data. The canister goes on; the snapshot
    /// stays what it is until it is deleted, or its canister is. At most [`SNAPSHOTS_MAX`](crate::SNAPSHOTS_MAX) for each
    /// canister. The one that is replaced is deleted.
    ///
    /// On a file system that shares blocks between files (XFS, Btrfs) this costs milliseconds for gigabytes; elsewhere what is
    /// in memories is copied.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such canister or snapshot, the canister is empty, or has too many already.
    pub fn take_snapshot(
        &self,
        canister: Principal,
        replace: Option<SnapshotId>,
    ) -> Result<SnapshotInfo, Error> {
        self.as_controller(canister, move |subnet, caller| subnet.take_snapshot(caller, canister, replace))
    }

    /// Gives a canister the state of a snapshot, of its own or of another canister. Its settings, cycles, log and, as on the
    /// IC, its global timer stay, unless the snapshot was imported with a timer; its version goes up.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such canister or snapshot, or an imported snapshot does not fit together.
    pub fn load_snapshot(&self, canister: Principal, snapshot: SnapshotId) -> Result<(), Error> {
        self.as_controller(canister, move |subnet, caller| subnet.load_snapshot(caller, canister, snapshot))
    }

    /// The snapshots of a canister, in the order in which they were made.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such canister.
    pub fn snapshots(&self, canister: Principal) -> Result<Vec<SnapshotInfo>, Error> {
        self.as_controller(canister, move |subnet, caller| subnet.list_snapshots(caller, canister))
    }

    /// Deletes a snapshot.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such canister or snapshot.
    pub fn delete_snapshot(&self, snapshot: SnapshotId) -> Result<(), Error> {
        let canister = snapshot.canister;
        self.as_controller(canister, move |subnet, caller| subnet.delete_snapshot(caller, canister, snapshot))
    }

    /// What a snapshot holds besides its bytes.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such canister or snapshot.
    pub fn snapshot_metadata(&self, snapshot: SnapshotId) -> Result<SnapshotMetadata, Error> {
        let canister = snapshot.canister;
        self.as_controller(canister, move |subnet, caller| {
            subnet.read_snapshot_metadata(caller, canister, snapshot)
        })
    }

    /// Makes a canister that begins as a copy of another one, or of one of its snapshots, and gives it a name: module,
    /// memories, globals, certified data, global timer, controllers; with its own id and an empty log. From then on they are
    /// strangers.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such canister or snapshot, or the canister is empty.
    pub fn fork_canister(
        &self,
        source: Principal,
        snapshot: Option<SnapshotId>,
        name: Option<&str>,
    ) -> Result<Principal, Error> {
        let name = name.map(str::to_owned);
        self.run(move |subnet| Ok(subnet.fork_canister(source, snapshot, name.as_deref())?))
    }

    fn as_controller<R: Send + 'static>(
        &self,
        canister: Principal,
        request: impl FnOnce(&mut Subnet, Principal) -> Result<R, RequestError> + Send + 'static,
    ) -> Result<R, Error> {
        self.run(move |subnet| {
            let caller = subnet.status(canister)?.and_then(|status| status.controllers.first().copied());
            Ok(request(subnet, caller.unwrap_or_else(Principal::anonymous))?)
        })
    }
}

//! The snapshots of a subnet, and what requests about them have in common. The requests are in `snapshot_requests`,
//! `snapshot_transfer`, `fork` and `import`.
//!
//! Invariants:
//! - A request is one change of the store: it happened or it did not. In a store that is saved on request only, such a
//!   request saves the subnet, since copies are made of what is in files.
//! - Snapshots belong to a canister, at most ten to each, and go with it. Uploads that are not finished are not seen.

use std::collections::BTreeMap;
use std::fmt;

use bedstone_engine::store::{Change, Durability, Room, Store};
use bedstone_engine::{Error, Keeping, Principal, Snapshot};

use crate::reject::Reject;
use crate::saved::Slot;
use crate::snapshot_id::SnapshotId;
use crate::subnet::{Subnet, not_a_controller};

/// Most snapshots of a canister.
pub const SNAPSHOTS_MAX: usize = 10;

/// Prefix of the keys of snapshots; the rest is the canister's id and the number, 8 bytes, big-endian.
const SNAPSHOT_KEYS: &[u8] = b"snapshot/";
/// Prefix of the keys of the next number of each canister's snapshots.
const NEXT_KEYS: &[u8] = b"snapshots/";

/// Why a request was not done.
#[derive(Debug)]
pub enum RequestError {
    /// The IC's rules refuse it; nothing changed.
    Rejected(Reject),
    /// This machine or the store failed.
    Failed(Error),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(reject) => reject.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<Reject> for RequestError {
    fn from(reject: Reject) -> Self {
        Self::Rejected(reject)
    }
}

impl From<Error> for RequestError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The snapshots of a subnet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshots {
    pub all: BTreeMap<SnapshotId, Snapshot>,
    /// The next number, of canisters that had one.
    next: BTreeMap<Principal, u64>,
    /// Those of canisters that were deleted since the last save.
    deleted: Vec<(SnapshotId, Snapshot)>,
}

impl Snapshots {
    /// Reads what a store has of them.
    pub fn open(store: &Store) -> Result<Self, Error> {
        let mut snapshots = Self::default();
        let broken = || Error::damaged("the key of a snapshot");
        Snapshot::each(store, SNAPSHOT_KEYS, |key, snapshot| {
            let (canister, number) = key.split_last_chunk::<8>().ok_or_else(broken)?;
            let canister = Principal::try_from_slice(canister).map_err(|_| broken())?;
            snapshots.all.insert(SnapshotId { canister, number: u64::from_be_bytes(*number) }, snapshot);
            Ok(())
        })?;
        crate::saved::each_raw(store, NEXT_KEYS, |canister, next| {
            let canister = Principal::try_from_slice(canister).map_err(|_| broken())?;
            let next =
                next.try_into().map_err(|_| Error::damaged("the next number of a canister's snapshots"))?;
            snapshots.next.insert(canister, u64::from_be_bytes(next));
            Ok(())
        })?;
        Ok(snapshots)
    }

    /// All of a canister, in the order in which they were made.
    pub fn of(&self, canister: Principal) -> impl Iterator<Item = (&SnapshotId, &Snapshot)> {
        let id = |number| SnapshotId { canister, number };
        self.all.range(id(0)..=id(u64::MAX))
    }

    /// Those of a canister that can be seen.
    pub fn seen(&self, canister: Principal) -> impl Iterator<Item = (&SnapshotId, &Snapshot)> {
        self.of(canister).filter(|(_, snapshot)| snapshot.unfinished().is_none())
    }

    /// The name of a canister's next snapshot.
    pub fn next_id(&self, canister: Principal) -> SnapshotId {
        SnapshotId { canister, number: self.next.get(&canister).copied().unwrap_or_default() }
    }

    /// Adds a snapshot with the next name.
    pub fn add(&mut self, id: SnapshotId, snapshot: Snapshot) {
        self.next.insert(id.canister, id.number + 1);
        self.all.insert(id, snapshot);
    }

    /// Lets go of a canister's.
    pub fn forget_canister(&mut self, canister: Principal) {
        let ids: Vec<SnapshotId> = self.of(canister).map(|(id, _)| *id).collect();
        for id in ids {
            self.deleted.extend(self.all.remove(&id).map(|snapshot| (id, snapshot)));
        }
        self.next.remove(&canister);
    }

    /// Adds to a change that those of deleted canisters are gone.
    pub fn erase_deleted(&mut self, change: &mut Change) {
        for (id, snapshot) in self.deleted.drain(..) {
            snapshot.erase(&key(id), change);
            change.delete(&next_key(id.canister));
        }
    }
}

pub(crate) fn key(id: SnapshotId) -> Vec<u8> {
    [SNAPSHOT_KEYS, id.canister.as_slice(), &id.number.to_be_bytes()].concat()
}

fn next_key(canister: Principal) -> Vec<u8> {
    [NEXT_KEYS, canister.as_slice()].concat()
}

/// Adds the record of a new snapshot to a change.
pub(crate) fn put_new(id: SnapshotId, snapshot: &Snapshot, keeping: &mut Keeping<'_>) {
    if let Keeping::InStore { change, .. } = keeping {
        snapshot.put(&key(id), change);
        change.put(&next_key(id.canister), &(id.number + 1).to_be_bytes());
    }
}

impl Subnet {
    pub(crate) fn check_controller(
        &mut self,
        caller: Principal,
        canister: Principal,
    ) -> Result<(), RequestError> {
        let Some(status) = self.status(canister)? else {
            return Err(Reject::new(301, format!("Canister {canister} not found.")).into());
        };
        if !status.controllers.contains(&caller) {
            return Err(not_a_controller(canister, &status.controllers, caller).into());
        }
        Ok(())
    }

    /// A snapshot of the canister.
    pub(crate) fn find_snapshot(&self, canister: Principal, id: SnapshotId) -> Result<&Snapshot, Reject> {
        let snapshot = self.snapshots.all.get(&id).filter(|snapshot| snapshot.unfinished().is_none());
        let snapshot = snapshot.ok_or_else(|| not_found(canister, id))?;
        if id.canister != canister {
            let text = format!("The snapshot {id} does not belong to canister {canister}.");
            return Err(Reject::new(406, text));
        }
        Ok(snapshot)
    }

    /// Whether the canister may have one more snapshot, or has the one to replace.
    pub(crate) fn check_room_for_snapshot(
        &self,
        canister: Principal,
        replace: Option<SnapshotId>,
    ) -> Result<(), Reject> {
        match replace {
            Some(id) => self.find_snapshot(canister, id).map(drop),
            None if self.snapshots.seen(canister).count() >= SNAPSHOTS_MAX => Err(Reject::new(
                406,
                format!(
                    "Canister {canister} has reached the maximum number of snapshots allowed: {SNAPSHOTS_MAX}."
                ),
            )),
            None => Ok(()),
        }
    }

    /// Adds to a change that a snapshot is gone.
    pub(crate) fn erase_snapshot(&self, id: Option<SnapshotId>, keeping: &mut Keeping<'_>) {
        if let (Some(id), Keeping::InStore { change, .. }) = (id, keeping) {
            self.snapshots.all[&id].erase(&key(id), change);
        }
    }

    /// Lets go of a snapshot that is gone from the store.
    pub(crate) fn forget_snapshot(&mut self, id: Option<SnapshotId>) {
        if let Some(id) = id {
            self.snapshots.all.remove(&id);
        }
    }

    /// Brings everything that a copy of the canister has to hold into the store.
    pub(crate) fn settle(&mut self, canister: Principal) -> Result<(), Error> {
        match (self.keeper(), self.canisters.get(&canister)) {
            // One that sleeps is in the store.
            (Some(_), Some(Slot::Asleep)) => Ok(()),
            (Some(_), _) => self.keep_canister(canister),
            (None, _) => self.save(),
        }
    }

    /// Does work with a change of the store, and appends the change; a store that is saved on request is saved.
    pub(crate) fn with_change<R>(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Keeping<'_>) -> Result<R, RequestError>,
    ) -> Result<R, RequestError> {
        let Some(store) = self.store.clone() else { return work(self, &mut Keeping::InRam) };
        if store.room().map_err(Error::store)? == Room::Low {
            return Err(Error::full().into());
        }
        let mut change = store.begin();
        let result = work(self, &mut Keeping::InStore { store: &store, change: &mut change })?;
        let kept = match store.durability() {
            Durability::Off => store.save(change),
            _ => store.append(change),
        };
        self.appended = Some(kept.map_err(Error::store)?);
        Ok(result)
    }
}

pub(crate) fn not_found(canister: Principal, id: SnapshotId) -> Reject {
    Reject::new(305, format!("Could not find the snapshot ID {id} for canister {canister}."))
}

//! What canisters went through: who made them, gave them code, changed their controllers.
//!
//! In the store `history/` and a canister's id hold its history. A canister that an earlier release made begins with the
//! next change.
//!
//! Invariants:
//! - The total counts every change; the newest [`CHANGES_MAX`] are kept.

use std::collections::{BTreeMap, VecDeque};

use bedstone_engine::store::{Change as StoreChange, Store};
use bedstone_engine::{Error, InstallMode, Principal};
use ic_management_canister_types as ic;
use serde::{Deserialize, Serialize};

use crate::journal::{Journal, decode, encode};
use crate::saved::{each_raw, principal};
use crate::subnet::Subnet;

/// Changes that are told of at most, as on the IC.
const CHANGES_MAX: usize = 20;
/// Prefix of the keys; the rest is a canister's id.
const KEYS: &[u8] = b"history/";

/// Who changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Actor {
    User(Principal),
    /// A canister, with the version that it said it had.
    Canister {
        id: Principal,
        version: Option<u64>,
    },
}

/// How code came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeploymentMode {
    Install,
    Reinstall,
    Upgrade,
}

impl From<InstallMode> for DeploymentMode {
    fn from(mode: InstallMode) -> Self {
        match mode {
            InstallMode::Install => Self::Install,
            InstallMode::Reinstall => Self::Reinstall,
            InstallMode::Upgrade { .. } => Self::Upgrade,
        }
    }
}

/// What happened. The order is part of the store's format: what is new comes last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Happening {
    Creation {
        controllers: Vec<Principal>,
    },
    Uninstall,
    Deployment {
        mode: DeploymentMode,
        hash: [u8; 32],
    },
    Controllers {
        controllers: Vec<Principal>,
    },
    SnapshotLoaded {
        id: Vec<u8>,
        /// Whose it is, if it is another canister's.
        from: Option<Principal>,
        version: u64,
        taken_at_nanos: u64,
        uploaded: bool,
    },
}

/// A change of a canister.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    time_nanos: u64,
    /// The canister's version after it.
    version: u64,
    actor: Actor,
    happening: Happening,
}

/// A canister's changes, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    total: u64,
    changes: VecDeque<Change>,
}

impl History {
    /// Changes ever.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that it occupies.
    pub fn bytes(&self) -> u64 {
        encode(self).len() as u64
    }

    /// The newest changes, at most so many, oldest first, as the management canister tells them.
    pub fn newest(&self, count: usize) -> Vec<ic::Change> {
        self.changes.iter().skip(self.changes.len().saturating_sub(count)).map(ic::Change::from).collect()
    }
}

impl From<&Change> for ic::Change {
    fn from(change: &Change) -> Self {
        let origin = match change.actor {
            Actor::User(user_id) => ic::ChangeOrigin::FromUser(ic::FromUserRecord { user_id }),
            Actor::Canister { id: canister_id, version: canister_version } => {
                ic::ChangeOrigin::FromCanister(ic::FromCanisterRecord { canister_id, canister_version })
            }
        };
        let details = match &change.happening {
            Happening::Creation { controllers } => ic::ChangeDetails::Creation(ic::CreationRecord {
                controllers: controllers.clone(),
                environment_variables_hash: None,
            }),
            Happening::Uninstall => ic::ChangeDetails::CodeUninstall,
            Happening::Deployment { mode, hash } => {
                let mode = match mode {
                    DeploymentMode::Install => ic::CodeDeploymentMode::Install,
                    DeploymentMode::Reinstall => ic::CodeDeploymentMode::Reinstall,
                    DeploymentMode::Upgrade => ic::CodeDeploymentMode::Upgrade,
                };
                let module_hash = hash.to_vec();
                ic::ChangeDetails::CodeDeployment(ic::CodeDeploymentRecord { mode, module_hash })
            }
            Happening::Controllers { controllers } => {
                let controllers = controllers.clone();
                ic::ChangeDetails::ControllersChange(ic::ControllersChangeRecord { controllers })
            }
            Happening::SnapshotLoaded { id, from, version, taken_at_nanos, uploaded } => {
                ic::ChangeDetails::LoadSnapshot(ic::LoadSnapshotRecord {
                    from_canister_id: *from,
                    snapshot_id: id.clone(),
                    canister_version: *version,
                    taken_at_timestamp: *taken_at_nanos,
                    source: super::snapshots::source(*uploaded),
                })
            }
        };
        Self {
            timestamp_nanos: change.time_nanos,
            canister_version: change.version,
            origin,
            details: Some(details),
        }
    }
}

/// The histories of all canisters.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Histories(BTreeMap<Principal, History>);

impl Histories {
    /// Those in a store.
    pub fn load(store: &Store) -> Result<Self, Error> {
        let mut histories = BTreeMap::new();
        each_raw(store, KEYS, |id, value| {
            histories.insert(principal(id)?, decode("a canister's history", value)?);
            Ok(())
        })?;
        Ok(Self(histories))
    }

    /// Adds all of them to a change, and removes those of canisters that are gone.
    pub fn save(&self, store: &Store, change: &mut StoreChange) -> Result<(), Error> {
        each_raw(store, KEYS, |id, _| {
            if !self.0.contains_key(&principal(id)?) {
                change.delete(&[KEYS, id].concat());
            }
            Ok(())
        })?;
        for (id, history) in &self.0 {
            change.put(&key(*id), &encode(history));
        }
        Ok(())
    }

    /// A canister's history.
    pub fn of(&self, id: Principal) -> History {
        self.0.get(&id).cloned().unwrap_or_default()
    }
}

fn key(id: Principal) -> Vec<u8> {
    [KEYS, id.as_slice()].concat()
}

impl Subnet {
    /// Notes a change of a canister.
    pub(crate) fn note(&mut self, id: Principal, actor: Actor, happening: Happening, journal: &mut Journal) {
        let version = match self.canisters.get(&id) {
            Some(crate::saved::Slot::Awake { canister, .. }) => canister.system().version,
            _ => unreachable!("it has just been changed"),
        };
        let change = Change { time_nanos: self.time_nanos, version, actor, happening };
        let history = self.histories.0.entry(id).or_default();
        history.total += 1;
        history.changes.push_back(change);
        if history.changes.len() > CHANGES_MAX {
            history.changes.pop_front();
        }
        journal.put(&key(id), &encode(history));
    }

    /// A canister is gone.
    pub(crate) fn drop_history(&mut self, id: Principal, journal: &mut Journal) {
        if self.histories.0.remove(&id).is_some() {
            journal.delete(&key(id));
        }
    }
}

//! Makes a canister that begins as a copy of another one, or of one of its snapshots.
//!
//! Invariants:
//! - A fork has its own id and log, the same module, memories, globals, certified data and global timer, and the controllers
//!   and settings of the canister that it comes from; it runs. From then on neither sees the other.
//! - A fork, its id and its name are one change.

use bedstone_engine::{Keeping, Principal, RunState, Settings, SystemState};

use crate::reject::Reject;
use crate::saved::{Slot, put_name};
use crate::snapshot_id::SnapshotId;
use crate::snapshots::{RequestError, not_found};
use crate::subnet::Subnet;

impl Subnet {
    /// Makes a canister with the next id that is a copy of `source`, or of a snapshot of it, and gives it a name.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn fork_canister(
        &mut self,
        source: Principal,
        snapshot: Option<SnapshotId>,
        name: Option<&str>,
    ) -> Result<Principal, RequestError> {
        let Some(present) = self.awake(source)? else {
            return Err(Reject::new(301, format!("Canister {source} not found.")).into());
        };
        let SystemState { wasm_memory_limit_bytes, controllers, settings, .. } = present.system().clone();
        // What was paid for the one is not paid for the other.
        let settings =
            Settings { run_state: RunState::Running, reserved_cycles: 0, paid_until_nanos: 0, ..settings };
        let module = snapshot
            .map(|id| {
                self.find_snapshot(source, id)?;
                self.snapshot_module(id)
            })
            .transpose()?;
        self.settle(source)?;

        let id = self.next_canister_id();
        let system = SystemState { wasm_memory_limit_bytes, settings, ..SystemState::new(id, controllers) };
        let now = self.time_nanos;
        let forked = self.with_change(|subnet, keeping| {
            let fork = match (snapshot, module) {
                (Some(id), Some(module)) => {
                    let snapshot = subnet.snapshots.all.get(&id).ok_or_else(|| not_found(source, id))?;
                    snapshot.fork(&subnet.engine, system, module, keeping)?
                }
                _ => {
                    let present = subnet.awake(source)?.expect("it was just there");
                    present.fork(system, now, keeping)?.ok_or_else(|| {
                        Reject::new(406, format!("Canister {source} is empty, so there is nothing to fork."))
                    })?
                }
            };
            if let Keeping::InStore { change, .. } = keeping {
                subnet.put_head(change);
                if let Some(name) = name {
                    put_name(name, id, change);
                }
            }
            Ok(fork)
        });
        let fork = forked.inspect_err(|_| self.next_id -= 1)?;
        self.uses += 1;
        self.canisters.insert(id, Slot::Awake { canister: Box::new(fork), used: self.uses });
        if let Some(name) = name {
            self.names.insert(name.to_owned(), id);
        }
        self.watch_module(id)?;
        self.park(id);
        Ok(id)
    }
}

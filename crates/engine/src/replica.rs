//! Queries beside each other: a canister's committed state, copied so that a thread has a heap and an instance of its own.
//!
//! Stable memory is not copied but read by all at once, so a query that writes it, or grows it, has to run on the canister
//! itself; so does one that calls others, and one that traps, whose instructions are counted by a second run. A replica
//! follows its canister page by page. Invariants:
//! - A replica is used while nobody has the canister to change it (`&Canister`).
//! - Between queries a replica holds what it held before, byte for byte.

use std::sync::Arc;

use crate::canister::Canister;
use crate::error::Error;
use crate::execute::{Installed, Job};
use crate::message::{Context, Message};
use crate::outcome::{Fault, Outcome};
use crate::process::{instruction_limit, outcome, refused, resolve};
use crate::system::SystemState;
use crate::touched::EXCLUSIVE;

/// Larger heaps are not copied: their queries run one after another.
const HEAP_BYTES_MAX: u64 = 256 << 20;

/// See the module's documentation.
pub struct Replica {
    installed: Installed,
    system: SystemState,
    /// How far each heap has followed the canister's.
    followed: Vec<u64>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("followed", &self.followed).finish_non_exhaustive()
    }
}

impl Canister {
    /// A replica of the present state; `None` of a canister without code, or with a heap that is too large.
    ///
    /// # Errors
    /// If this machine fails.
    pub fn replica(&self) -> Result<Option<Replica>, Error> {
        let Some(installed) = &self.installed else { return Ok(None) };
        // Without an instance there are no saved globals yet.
        if installed.memories.heap_bytes() > HEAP_BYTES_MAX || !installed.has_saved_globals() {
            return Ok(None);
        }
        let copies = installed.heaps.iter().map(crate::dirty::Heap::replica);
        let copies = copies.collect::<std::io::Result<Vec<_>>>().map_err(Error::machine)?;
        let (heaps, followed) = copies.into_iter().unzip();
        let globals = installed.globals();
        let copy = Installed::new(Arc::clone(&installed.module), &self.stable, Some(&globals))?;
        Ok(Some(Replica { installed: copy.with_heaps(heaps), system: self.system.clone(), followed }))
    }

    /// Answers a query on a replica. `None` if it has to run on the canister itself.
    ///
    /// # Errors
    /// If this machine fails; the replica must be dropped then.
    pub fn query_on(&self, replica: &mut Replica, message: &Message<'_>) -> Result<Option<Outcome>, Error> {
        let Some(installed) = &self.installed else { return Ok(None) };
        let (context, target, method) = match resolve(installed, message) {
            Ok(resolved) => resolved,
            Err(fault) => return Ok(Some(refused(fault))),
        };
        if context != Context::NonReplicatedQuery || self.query_tree.is_some() {
            return Ok(None);
        }
        if let Err(fault) = self.check_not_frozen() {
            return Ok(Some(refused(fault)));
        }
        if !self.bring_on(replica)? {
            match self.replica()? {
                Some(anew) => *replica = anew,
                None => return Ok(None),
            }
        }
        let limit = instruction_limit(context, &self.engine.config().instructions);
        let job = Job {
            context,
            target,
            arg: message.arg,
            caller: message.caller,
            method,
            time_nanos: message.time_nanos,
            limits: self.limits(limit),
            call: message.call,
        };
        let Replica { installed, system, .. } = replica;
        let (ran, growth_refused) = self.stable.reading(|| {
            installed.begin(system)?;
            installed.share_stable(system)?;
            let run = installed.run_once(&job, system)?;
            installed.roll_back_stage()?;
            installed.roll_back_transaction()?;
            Ok::<_, Error>(run)
        });
        let run = ran?;
        let is_exclusive = |fault: &Fault| fault.code == EXCLUSIVE;
        if growth_refused || !run.ended.exact || run.ended.fault.as_ref().is_some_and(is_exclusive) {
            return Ok(None);
        }
        let memory64 = installed.module.manifest().memory64();
        Ok(Some(outcome(&job, run, 0, memory64).0))
    }

    /// Whether the replica could follow to the present state.
    fn bring_on(&self, replica: &mut Replica) -> Result<bool, Error> {
        let installed = self.installed.as_ref().expect("looked at");
        let copy = &mut replica.installed;
        let same = Arc::ptr_eq(&installed.module, &copy.module)
            && Arc::ptr_eq(&self.stable, &copy.memories.stable)
            && installed.heaps.len() == copy.heaps.len();
        if !same {
            return Ok(false);
        }
        let heaps = installed.heaps.iter().zip(&mut copy.heaps);
        for ((heap, own), followed) in heaps.zip(&mut replica.followed) {
            match heap.bring_on(own, *followed).map_err(Error::machine)? {
                Some(end) => *followed = end,
                None => return Ok(false),
            }
        }
        if replica.system != self.system {
            if replica.system.version != self.system.version {
                copy.set_globals(&installed.globals());
                copy.reload_globals()?;
            }
            replica.system.clone_from(&self.system);
        }
        Ok(true)
    }
}

//! A copy of a whole subnet that lives in memory: canisters, calls under way, names, time.
//!
//! The first copy of a canister writes its pages to a file without a name; later copies map that file again, as long as the
//! canister has not changed. A page is copied when one of those that share it writes it. Invariants:
//! - From its making on neither subnet sees the other.
//! - A copy does what the original would have done: same numbers, same order, same time.

use std::collections::BTreeMap;

use bedstone_engine::{Canister, Error, Keeping, Module, Principal, Snapshot};

use std::sync::Arc;

use crate::saved::Slot;
use crate::subnet::Subnet;

/// A canister as it was copied last.
#[derive(Debug)]
pub(crate) struct Image {
    /// Goes up with everything that changes memories or globals.
    version: u64,
    module: Arc<Module>,
    snapshot: Snapshot,
}

impl Subnet {
    /// A copy of this subnet. Messages from outside that wait for an answer are not part of it; `None` if the subnet is kept
    /// in a store.
    ///
    /// # Errors
    /// If this machine has no memory or address space for it.
    pub fn twin(&mut self) -> Result<Option<Self>, Error> {
        if self.store.is_some() {
            return Ok(None);
        }
        let mut twin = self.empty_twin();
        for id in self.canisters.keys().copied().collect::<Vec<_>>() {
            let copy = self.copy_canister(id)?;
            self.uses += 1;
            twin.canisters.insert(id, Slot::Awake { canister: Box::new(copy), used: self.uses });
        }
        twin.uses = self.uses;
        Ok(Some(twin))
    }

    fn copy_canister(&mut self, id: Principal) -> Result<Canister, Error> {
        let now = self.time_nanos;
        let engine = self.engine.clone();
        let Some(Slot::Awake { canister, .. }) = self.canisters.get_mut(&id) else {
            return Err(Error::damaged("without a store every canister is in memory"));
        };
        let (version, system, log) =
            (canister.system().version, canister.system().clone(), canister.log().clone());
        let module = canister.module().cloned();
        let image = self.images.remove(&id).filter(|image| {
            image.version == version
                && module.as_ref().is_some_and(|module| Arc::ptr_eq(module, &image.module))
        });
        let image = match (image, module) {
            (Some(image), _) => Some(image),
            (None, Some(module)) => {
                let taken = canister.take_snapshot(now, &mut Keeping::InRam)?;
                taken.map(|snapshot| Image { version, module, snapshot })
            }
            (None, None) => None,
        };
        let mut copy = match &image {
            None => Canister::new(&engine, system.clone())?,
            Some(image) => {
                let module = Arc::clone(&image.module);
                image.snapshot.fork(&engine, system.clone(), module, &mut Keeping::InRam)?
            }
        };
        *copy.system_mut() = system;
        copy.set_log(log);
        if let Some(image) = image {
            self.images.insert(id, image);
        }
        Ok(copy)
    }
}

/// Images of canisters, by their ids.
pub(crate) type Images = BTreeMap<Principal, Image>;

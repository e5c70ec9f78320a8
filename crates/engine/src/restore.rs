//! Gives a canister the state of a snapshot or of another canister.
//!
//! Invariants:
//! - A canister gets all of it or none: its old state is let go once the new one is mapped.
//! - In a store its memories are copies of its own; in RAM it shares what it does not write.

use std::sync::Arc;

use bedstone_store::{BlobId, Change, Class, Memory};

use crate::canister::Canister;
use crate::commit::grow;
use crate::compile::{Engine, Module};
use crate::error::Error;
use crate::execute::Installed;
use crate::image::{Copy, Keeping, fill};
use crate::pages::PageSet;
use crate::snapshot::{Copied, Snapshot, SnapshotSource};
use crate::sys::Mapping;
use crate::system::SystemState;
use crate::{globals, memory};

impl Canister {
    /// Makes the canister what the snapshot says: module, memories, globals and certified data; of a snapshot that was
    /// uploaded also the global timer and where the hook for low memory stands, as on the IC. Its version goes up; all else
    /// stays. The module is the snapshot's, compiled, and [fits](Snapshot::fits).
    ///
    /// # Errors
    /// If this machine or the store fails; the change must be dropped then, and the canister is what it was.
    pub fn load_snapshot(
        &mut self,
        snapshot: &Snapshot,
        module: Arc<Module>,
        keeping: &mut Keeping<'_>,
    ) -> Result<(), Error> {
        let mut copied = snapshot.copy(keeping)?;
        if snapshot.details.source == SnapshotSource::TakenFromCanister {
            copied.details.global_timer = None;
            copied.details.on_low_wasm_memory_hook = None;
        }
        self.restore(copied, module, keeping)
    }

    /// A canister with the state of this one, also its global timer, and with the rest given; `None` if this one is empty.
    /// In a store this one has to be saved.
    ///
    /// # Errors
    /// If this machine or the store fails; the change must be dropped then.
    pub fn fork(
        &mut self,
        system: SystemState,
        time_nanos: u64,
        keeping: &mut Keeping<'_>,
    ) -> Result<Option<Canister>, Error> {
        let engine = self.engine.clone();
        let Some(copied) = self.copy(time_nanos, keeping)? else { return Ok(None) };
        let module = self.module().cloned().expect("a canister that was copied is not empty");
        Self::restored(&engine, system, copied, module, keeping).map(Some)
    }

    fn restored(
        engine: &Engine,
        system: SystemState,
        copied: Copied,
        module: Arc<Module>,
        keeping: &mut Keeping<'_>,
    ) -> Result<Self, Error> {
        let mut canister = Self::new(engine, system)?;
        canister.restore(copied, module, keeping)?;
        Ok(canister)
    }

    fn restore(
        &mut self,
        copied: Copied,
        module: Arc<Module>,
        keeping: &mut Keeping<'_>,
    ) -> Result<(), Error> {
        let globals = globals::save(&module, &copied.details.globals);
        let stable = memory::new_stable(self.engine.config()).map_err(Error::machine)?;
        let mut places = Places::default();
        let stable_unsaved = places.fill(copied.stable, &[&stable], keeping)?.unwrap_or_default();
        let mut heaps = Vec::new();
        for (copy, ty) in copied.heaps.into_iter().zip(&module.manifest().memories) {
            let mut heap =
                memory::new_heap(ty, copy.bytes(), self.engine.config().tracker).map_err(Error::machine)?;
            let pages = places.fill(copy, &heap.images(), keeping)?;
            heap.never_saved = pages.is_some();
            heap.unsaved = pages.unwrap_or_default();
            heaps.push(heap);
        }
        let blob = match keeping {
            Keeping::InRam => None,
            Keeping::InStore { store, .. } => Some(store.put_blob(module.bytes()).map_err(Error::store)?),
        };
        let next = Installed::new(module, &stable, Some(&globals))?.with_heaps(heaps);

        // From here on nothing fails.
        (self.stable, self.stable_unsaved) = (stable, stable_unsaved);
        self.system.certified_data = copied.details.certified_data;
        if let Some(timer) = copied.details.global_timer {
            self.system.global_timer = timer;
        }
        if let Some(hook) = copied.details.on_low_wasm_memory_hook {
            self.system.settings.low_wasm_memory_hook = hook;
        }
        self.system.version += 1;
        self.installed = Some(next);
        match (keeping, blob) {
            (Keeping::InStore { change, .. }, Some(blob)) => self.keep_restored(places, blob, change),
            _ => self.saved.stale = true,
        }
        Ok(())
    }

    /// Puts the canister where its memories already are.
    fn keep_restored(&mut self, places: Places, blob: BlobId, change: &mut Change) {
        let installed = self.installed.as_ref().expect("just restored");
        let mut memories = places.0.into_iter();
        let saved = &mut self.saved;
        for old in saved.stable.take().into_iter().chain(saved.heaps.drain(..)) {
            change.drop_memory(old);
        }
        saved.stable = memories.next();
        saved.heaps = memories.collect();
        for (memory, heap) in saved.heaps.iter().zip(&installed.heaps) {
            // A module may declare more than was kept.
            grow(change, memory, heap.live.len());
        }
        change.blob_references(blob, 1);
        if let Some(old) = saved.module.replace(blob) {
            change.blob_references(old, -1);
        }
        saved.stable_replaced = false;
        saved.stale = false;
        saved.stable_pages_told = 0;
        self.put_state(change);
    }
}

impl Snapshot {
    pub(crate) fn copy(&self, keeping: &Keeping<'_>) -> Result<Copied, Error> {
        Ok(Copied {
            details: self.details.clone(),
            code: self.code.clone(),
            heaps: self.heaps.iter().map(|heap| heap.copy(keeping)).collect::<Result<_, _>>()?,
            stable: self.stable.copy(keeping)?,
        })
    }

    /// A canister with this state, and with the rest given. The module is the snapshot's, compiled, and
    /// [fits](Snapshot::fits).
    ///
    /// # Errors
    /// If this machine or the store fails; the change must be dropped then.
    pub fn fork(
        &self,
        engine: &Engine,
        system: SystemState,
        module: Arc<Module>,
        keeping: &mut Keeping<'_>,
    ) -> Result<Canister, Error> {
        Canister::restored(engine, system, self.copy(keeping)?, module, keeping)
    }
}

/// The memories of the store that mappings were filled from, stable memory first; none in RAM.
#[derive(Default)]
struct Places(Vec<Memory>);

impl Places {
    /// Fills new mappings with a copy. In RAM, the pages that may be other than zero, which no store has.
    fn fill(
        &mut self,
        copy: Copy,
        mappings: &[&Mapping],
        keeping: &mut Keeping<'_>,
    ) -> Result<Option<PageSet>, Error> {
        match (copy, keeping) {
            (Copy::InRam(image), _) => {
                image.fill(mappings)?;
                Ok(Some(image.pages().clone()))
            }
            (Copy::Stored { copied, bytes }, Keeping::InStore { change, .. }) => {
                let memory = change.create_copy(copied, Class::Live);
                fill(&memory, bytes, mappings)?;
                self.0.push(memory);
                Ok(None)
            }
            (Copy::Stored { .. }, Keeping::InRam) => panic!("what was copied in a store stays there"),
        }
    }
}

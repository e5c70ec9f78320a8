//! A subnet in the store: canisters by their own records, everything else in one.
//!
//! Canisters are read when first used. Invariants:
//! - A save is one change: all canisters, names and the clock as of the same moment.
//! - A canister that was not used since it was read is not written again.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bedstone_engine::store::{KeyRange, Store};
use bedstone_engine::{CANISTER_KEYS, Canister, Error, Principal};

use crate::subnet::{Subnet, SubnetConfig};

/// A canister, read or not.
#[derive(Debug)]
pub(crate) enum Slot {
    /// In the store only: its record.
    Asleep(Vec<u8>),
    /// In memory.
    Awake(Box<Canister>),
}

/// Key of the subnet's own record: time and next id, 8 bytes each, little-endian.
const HEAD_KEY: &[u8] = b"subnet";
/// Prefix of the names' keys; values are ids.
const NAME_KEYS: &[u8] = b"name/";

impl Subnet {
    /// The subnet kept in `store`; an empty store gives an empty subnet.
    ///
    /// # Errors
    /// If the store fails or holds something else.
    pub fn open(config: &SubnetConfig, store: Store) -> Result<Self, Error> {
        let mut subnet = Self::new(config)?;
        if let Some(head) = store.metadata(HEAD_KEY).map_err(Error::store)? {
            let words: Option<([u8; 8], [u8; 8])> =
                head.split_first_chunk().and_then(|(time, rest)| Some((*time, rest.try_into().ok()?)));
            let (time, next) =
                words.ok_or_else(|| Error::damaged("the subnet's record does not have 16 bytes"))?;
            subnet.time_nanos = subnet.time_nanos.max(u64::from_le_bytes(time));
            subnet.next_id = u64::from_le_bytes(next);
        }
        each(&store, CANISTER_KEYS, |id, record| {
            subnet.canisters.insert(id, Slot::Asleep(record.to_vec()));
            Ok(())
        })?;
        let mut names = BTreeMap::new();
        each_raw(&store, NAME_KEYS, |name, id| {
            let name = String::from_utf8(name.to_vec()).map_err(|_| Error::damaged("a canister's name"))?;
            names.insert(name, principal(id)?);
            Ok(())
        })?;
        subnet.names = names;
        subnet.store = Some(store);
        Ok(subnet)
    }

    /// Makes everything so far durable. Without a store there is nothing to do.
    ///
    /// # Errors
    /// If the store fails; it is then poisoned until reopened.
    pub fn save(&mut self) -> Result<(), Error> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        let mut change = store.begin();
        for canister in self.deleted.drain(..) {
            canister.erase(&mut change);
        }
        for slot in self.canisters.values_mut() {
            if let Slot::Awake(canister) = slot {
                canister.save(&store, &mut change)?;
            }
        }
        let mut stale = Vec::new();
        each_raw(&store, NAME_KEYS, |name, _| {
            stale.push(name.to_vec());
            Ok(())
        })?;
        for name in stale
            .iter()
            .filter(|name| std::str::from_utf8(name).map_or(true, |name| !self.names.contains_key(name)))
        {
            change.delete(&[NAME_KEYS, name].concat());
        }
        for (name, id) in &self.names {
            change.put(&[NAME_KEYS, name.as_bytes()].concat(), id.as_slice());
        }
        change.put(HEAD_KEY, &[self.time_nanos.to_le_bytes(), self.next_id.to_le_bytes()].concat());
        store.save(change).map_err(Error::store)?;
        Ok(())
    }

    /// A canister, read now if it was not.
    pub(crate) fn awake(&mut self, id: Principal) -> Result<Option<&mut Canister>, Error> {
        let Some(slot) = self.canisters.get_mut(&id) else { return Ok(None) };
        if let Slot::Asleep(record) = slot {
            let store = self.store.as_ref().expect("sleeping canisters come from a store");
            let canister = Canister::load(&self.engine, store, record)?;
            *slot = Slot::Awake(Box::new(canister));
        }
        match slot {
            Slot::Awake(canister) => Ok(Some(canister)),
            Slot::Asleep(_) => unreachable!("just read"),
        }
    }
}

fn principal(bytes: &[u8]) -> Result<Principal, Error> {
    Principal::try_from_slice(bytes).map_err(|error| Error::damaged(format!("an id in the store: {error}")))
}

fn each(
    store: &Store,
    prefix: &[u8],
    mut visit: impl FnMut(Principal, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    each_raw(store, prefix, |id, value| visit(principal(id)?, value))
}

/// Visits keys without their prefix, and values.
fn each_raw(
    store: &Store,
    prefix: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut result = Ok(());
    store
        .metadata_range(KeyRange::Prefix(prefix), &mut |key, value| {
            result = visit(&key[prefix.len()..], value);
            if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
        .map_err(Error::store)?;
    result
}

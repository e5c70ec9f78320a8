//! A subnet in the store: canisters by their own records, everything else in one.
//!
//! Canisters are read when first used. A store that keeps every message gets a change for each request, before it is
//! answered; one in the mode `Off` gets everything when [`Subnet::save`] asks for it. Invariants:
//! - A save is one change: all canisters, names and the clock as of the same moment.
//! - Where the store keeps every message, what is in memory is what was appended, and a canister may be let go at any time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bedstone_engine::store::{Change, Durability, KeyRange, Lsn, Store};
use bedstone_engine::{CANISTER_KEYS, Canister, Engine, Error, Principal, Summary};

use crate::journal::Journal;
use crate::management::{ChunkStores, Histories, Randomness};
use crate::snapshots::Snapshots;
use crate::subnet::{Subnet, SubnetConfig};

/// A canister, read or not.
#[derive(Debug)]
pub(crate) enum Slot {
    /// In the store only.
    Asleep,
    /// In memory.
    Awake {
        canister: Box<Canister>,
        /// [`Subnet::uses`] when it was used last.
        used: u64,
    },
}

/// Key of the subnet's own record: time, next id and how much randomness was drawn, 8 bytes each, little-endian, and the
/// randomness's seed, 32 bytes. Earlier releases wrote the first two alone.
const HEAD_KEY: &[u8] = b"subnet";
/// Bytes of the record that earlier releases wrote.
const SHORT_HEAD_BYTES: usize = 16;
/// Prefix of the names' keys; values are ids.
const NAME_KEYS: &[u8] = b"name/";

impl Subnet {
    /// The subnet kept in `store`; an empty store gives an empty subnet.
    ///
    /// # Errors
    /// If the store fails or holds something else.
    pub fn open(config: &SubnetConfig, store: Store) -> Result<Self, Error> {
        Self::open_on(Engine::new(config.engine)?, config, store)
    }

    /// As [`Subnet::open`], on an engine that others may use too.
    ///
    /// # Errors
    /// As [`Subnet::open`].
    pub fn open_on(engine: Engine, config: &SubnetConfig, store: Store) -> Result<Self, Error> {
        let mut subnet = Self::on(engine, config);
        if let Some(head) = store.metadata(HEAD_KEY).map_err(Error::store)? {
            subnet.read_head(&head)?;
        }
        each_raw(&store, CANISTER_KEYS, |id, _| {
            subnet.canisters.insert(principal(id)?, Slot::Asleep);
            Ok(())
        })?;
        for id in subnet.canisters.keys().copied().collect::<Vec<_>>() {
            let system = Summary::load(&store, id.as_slice())?.system;
            subnet.watch_system(id, &system);
        }
        subnet.load_calls(&store)?;
        subnet.chunks = ChunkStores::load(&store)?;
        subnet.histories = Histories::load(&store)?;
        let mut names = BTreeMap::new();
        each_raw(&store, NAME_KEYS, |name, id| {
            let name = String::from_utf8(name.to_vec()).map_err(|_| Error::damaged("a canister's name"))?;
            names.insert(name, principal(id)?);
            Ok(())
        })?;
        subnet.names = names;
        subnet.snapshots = Snapshots::open(&store)?;
        subnet.store = Some(store);
        Ok(subnet)
    }

    /// The store, if it keeps every message by itself.
    pub(crate) fn keeper(&self) -> Option<Store> {
        self.store.clone().filter(|store| store.durability() != Durability::Off)
    }

    /// The last change that was appended: an answer must wait until it is durable.
    pub fn appended(&self) -> Option<Lsn> {
        self.appended
    }

    /// The store it is kept in.
    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Appends what one request changed.
    pub(crate) fn append(&mut self, store: &Store, change: Change) -> Result<(), Error> {
        self.appended = Some(store.append(change).map_err(Error::store)?);
        Ok(())
    }

    /// Lets a canister give memory back, if it holds much and the store has everything.
    pub(crate) fn shed(&mut self, id: Principal) -> Result<(), Error> {
        if self.keeper().is_none() {
            return Ok(());
        }
        let Some(Slot::Awake { canister, .. }) = self.canisters.get_mut(&id) else { return Ok(()) };
        let shed = canister.shed();
        self.or_reload(id, shed)
    }

    /// After a failure of the machine a canister in memory may be half changed: it is read again when it is used next.
    pub(crate) fn or_reload<T>(&mut self, id: Principal, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.reload(id);
        }
        result
    }

    /// See [`Subnet::or_reload`].
    pub(crate) fn reload(&mut self, id: Principal) {
        if self.keeper().is_some()
            && let Some(slot) = self.canisters.get_mut(&id)
        {
            *slot = Slot::Asleep;
        }
    }

    /// Appends what is not yet in the store of a canister.
    pub(crate) fn keep_canister(&mut self, id: Principal) -> Result<(), Error> {
        let mut journal = Journal::begin(self.keeper());
        let Some(canister) = self.awake(id)? else { return Ok(()) };
        let saved = journal.save(canister);
        self.or_reload(id, saved)?;
        self.append_journal(id, journal)
    }

    /// Appends the clock, the next id and the randomness.
    pub(crate) fn keep_head(&mut self) -> Result<(), Error> {
        let Some(store) = self.keeper() else { return Ok(()) };
        let mut change = store.begin();
        self.put_head(&mut change);
        self.append(&store, change)
    }

    /// Adds the clock, the next id and the randomness to a change.
    pub(crate) fn put_head(&self, change: &mut Change) {
        let words = [self.time_nanos, self.next_id, self.randomness.drawn];
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        change.put(HEAD_KEY, &words.chain(self.randomness.seed).collect::<Vec<u8>>());
    }

    fn read_head(&mut self, head: &[u8]) -> Result<(), Error> {
        let bad = || Error::damaged(format!("the subnet's record has {} bytes", head.len()));
        let (words, rest) = head.split_at_checked(SHORT_HEAD_BYTES).ok_or_else(bad)?;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes were taken"));
        self.time_nanos = self.time_nanos.max(word(&words[..8]));
        self.next_id = word(&words[8..]);
        if !rest.is_empty() {
            let (drawn, seed) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
            self.randomness =
                Randomness { drawn: u64::from_le_bytes(*drawn), seed: seed.try_into().map_err(|_| bad())? };
        }
        Ok(())
    }

    /// Appends a name.
    pub(crate) fn keep_name(&mut self, name: &str) -> Result<(), Error> {
        let Some(store) = self.keeper() else { return Ok(()) };
        let mut change = store.begin();
        put_name(name, self.names[name], &mut change);
        self.append(&store, change).inspect_err(|_| {
            self.names.remove(name);
        })
    }

    /// Adds that a name is gone.
    pub(crate) fn drop_name(&self, name: &str, journal: &mut Journal) {
        journal.delete(&[NAME_KEYS, name.as_bytes()].concat());
    }

    /// Makes everything so far durable, and writes it where it is mapped from. Without a store there is nothing to do.
    ///
    /// # Errors
    /// If the store fails; it is then poisoned until reopened.
    pub fn save(&mut self) -> Result<(), Error> {
        let Some(store) = self.store.clone() else { return Ok(()) };
        if self.keeper().is_some() {
            store.checkpoint().map_err(Error::store)?;
            return Ok(());
        }
        let mut change = store.begin();
        for canister in self.deleted.drain(..) {
            canister.erase(&mut change);
        }
        self.snapshots.erase_deleted(&mut change);
        for slot in self.canisters.values_mut() {
            if let Slot::Awake { canister, .. } = slot {
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
            put_name(name, *id, &mut change);
        }
        self.save_calls(&store, &mut change)?;
        self.chunks.save(&store, &mut change)?;
        self.histories.save(&store, &mut change)?;
        self.put_head(&mut change);
        store.save(change).map_err(Error::store)?;
        Ok(())
    }

    /// From now on nothing is written to the state directory, which stays locked: it may be removed.
    pub fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Gives the state directory back, in a form that opens quickly. What a store kept only on request and was not saved
    /// is lost.
    ///
    /// # Errors
    /// If the store fails; nothing that was durable is lost then.
    pub fn close(mut self) -> Result<(), Error> {
        let store = self.store.take().filter(|_| !self.abandoned);
        // Mappings and handles first: the store removes files of dropped memories once nobody has them.
        drop(self);
        store.map_or(Ok(()), |store| store.close().map_err(Error::store))
    }

    /// A canister, read now if it was not.
    pub(crate) fn awake(&mut self, id: Principal) -> Result<Option<&mut Canister>, Error> {
        self.uses += 1;
        let uses = self.uses;
        match self.canisters.get(&id) {
            None => return Ok(None),
            Some(Slot::Awake { .. }) => {}
            Some(Slot::Asleep) => {
                let store = self.store.as_ref().expect("sleeping canisters come from a store");
                let mut canister = Box::new(Canister::load(&self.engine, store, id.as_slice())?);
                if let Some(party) = self.parties.get(&id) {
                    canister.system_mut().open_calls = party.open_calls_by_callee();
                }
                self.canisters.insert(id, Slot::Awake { canister, used: uses });
                self.park(id);
            }
        }
        match self.canisters.get_mut(&id) {
            Some(Slot::Awake { canister, used }) => {
                *used = uses;
                Ok(Some(canister))
            }
            _ => unreachable!("just read"),
        }
    }

    /// Lets the canister that was used least recently go, if there are too many besides `id`. Only where the store has
    /// everything.
    pub(crate) fn park(&mut self, id: Principal) {
        if self.keeper().is_none() {
            return;
        }
        let awake = |slot: &Slot| match slot {
            Slot::Awake { used, .. } => Some(*used),
            Slot::Asleep => None,
        };
        if self.canisters.values().filter_map(awake).count() <= self.live_canisters_max {
            return;
        }
        // What a composite query did so far is nowhere else.
        let is_busy =
            |slot: &Slot| matches!(slot, Slot::Awake { canister, .. } if canister.is_in_query_tree());
        let others = self.canisters.iter_mut().filter(|(other, slot)| **other != id && !is_busy(slot));
        let oldest = others.filter_map(|(_, slot)| Some((awake(slot)?, slot))).min_by_key(|(used, _)| *used);
        if let Some((_, slot)) = oldest {
            *slot = Slot::Asleep;
        }
    }
}

/// Adds a name to a change.
pub(crate) fn put_name(name: &str, id: Principal, change: &mut Change) {
    change.put(&[NAME_KEYS, name.as_bytes()].concat(), id.as_slice());
}

pub(crate) fn principal(bytes: &[u8]) -> Result<Principal, Error> {
    Principal::try_from_slice(bytes).map_err(|error| Error::damaged(format!("an id in the store: {error}")))
}

/// Visits keys without their prefix, and values.
pub(crate) fn each_raw(
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

//! What calls under way look like in the store.
//!
//! | key | value |
//! |---|---|
//! | `letter/` number | sender, receiver, letter |
//! | `context/` number | canister, context |
//! | `open/` number | canister, open call |
//!
//! Numbers are 8 bytes, big-endian, so that keys sort as things happened; ids have their length before them. Messages from
//! outside are not kept before they run: nobody was told that they would.

use std::ops::ControlFlow;

use bedstone_engine::store::{Change, KeyRange, Store};
use bedstone_engine::{Canister, Error, Principal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::calls::{CallId, Context, Letter, OpenCall, Origin, Sent};
use crate::management::Waiting;
use crate::subnet::Subnet;

const LETTERS: &[u8] = b"letter/";
const CONTEXTS: &[u8] = b"context/";
const OPEN_CALLS: &[u8] = b"open/";

/// First byte of every value: how the rest is to be read.
const VERSION: u8 = 1;

/// A change of a store that keeps every message; nothing where none does.
pub(crate) struct Journal(Option<(Store, Change)>);

impl Journal {
    /// Begins a change.
    pub fn begin(keeper: Option<Store>) -> Self {
        Self(keeper.map(|store| {
            let change = store.begin();
            (store, change)
        }))
    }

    /// The store and the change.
    pub fn parts(&mut self) -> Option<(&Store, &mut Change)> {
        self.0.as_mut().map(|(store, change)| (&*store, change))
    }

    pub fn finish(self) -> Option<(Store, Change)> {
        self.0
    }

    /// Adds what of a canister no message told.
    pub fn save(&mut self, canister: &mut Canister) -> Result<(), Error> {
        match &mut self.0 {
            Some((store, change)) => canister.save(store, change),
            None => Ok(()),
        }
    }

    /// Adds that a canister is gone; whether somebody keeps that.
    pub fn erase(&mut self, canister: Box<Canister>) -> Result<(), Box<Canister>> {
        match &mut self.0 {
            Some((_, change)) => {
                canister.erase(change);
                Ok(())
            }
            None => Err(canister),
        }
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        if let Some((_, change)) = &mut self.0 {
            change.put(key, value);
        }
    }

    pub fn delete(&mut self, key: &[u8]) {
        if let Some((_, change)) = &mut self.0 {
            change.delete(key);
        }
    }

    fn put_value(&mut self, keys: &[u8], number: CallId, value: &impl Serialize) {
        if let Some((_, change)) = &mut self.0 {
            change.put(&key(keys, number), &encode(value));
        }
    }

    pub fn put_letter(&mut self, number: CallId, from: Principal, to: Principal, letter: &Letter) {
        self.put_value(LETTERS, number, &(from, to, letter));
    }

    pub fn delete_letter(&mut self, number: CallId) {
        self.delete(&key(LETTERS, number));
    }

    pub fn put_context(&mut self, number: CallId, id: Principal, context: &Context) {
        self.put_value(CONTEXTS, number, &(id, context));
    }

    pub fn delete_context(&mut self, number: CallId) {
        self.delete(&key(CONTEXTS, number));
    }

    pub fn put_open_call(&mut self, number: CallId, id: Principal, open: &OpenCall) {
        self.put_value(OPEN_CALLS, number, &(id, open));
    }

    pub fn delete_open_call(&mut self, number: CallId) {
        self.delete(&key(OPEN_CALLS, number));
    }
}

fn key(keys: &[u8], number: CallId) -> Vec<u8> {
    [keys, &number.to_be_bytes()].concat()
}

/// The bytes of a value in the store.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).expect("plain data can be written to memory")
}

/// A value from the store.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Error> {
    match bytes.split_first() {
        Some((&VERSION, bytes)) => {
            postcard::from_bytes(bytes).map_err(|error| Error::damaged(format!("{what}: {error}")))
        }
        Some((version, _)) => Err(Error::damaged(format!(
            "{what} has version {version}; this Bedstone reads version {VERSION}"
        ))),
        None => Err(Error::damaged(format!("{what} is empty"))),
    }
}

impl Subnet {
    /// Reads the calls that were under way.
    pub(crate) fn load_calls(&mut self, store: &Store) -> Result<(), Error> {
        let mut last = 0;
        let mut last_ingress = 0;
        each(store, CONTEXTS, &mut last, |number, (id, context): (Principal, Context)| {
            // Whoever sent that is gone, but nobody else may get the answer.
            if let Origin::Ingress(ingress) = context.origin {
                last_ingress = ingress.max(last_ingress);
            }
            self.parties.entry(id).or_default().contexts.insert(number, context);
        })?;
        each(store, OPEN_CALLS, &mut last, |number, (id, open): (Principal, OpenCall)| {
            if open.deadline_nanos > 0 {
                self.deadlines.insert((open.deadline_nanos, id, number));
            }
            self.parties.entry(id).or_default().open_calls.insert(number, open);
        })?;
        each(store, LETTERS, &mut last, |number, (from, to, letter): (Principal, Principal, Letter)| {
            self.parties.entry(to).or_default().mailbox.add(from, Sent { number, letter });
            self.ready(to);
        })?;
        self.last_call = last.max(last_ingress);
        let whole = self
            .parties
            .values()
            .all(|party| party.open_calls.values().all(|open| party.contexts.contains_key(&open.context)));
        if whole { Ok(()) } else { Err(Error::damaged("a call under way belongs to no context")) }
    }

    /// Calls of the management canister that are not answered yet.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.stops.values().flatten().chain(self.outcalls.waiting())
    }

    /// Adds all calls under way to a change, and removes those that are over.
    pub(crate) fn save_calls(&self, store: &Store, change: &mut Change) -> Result<(), Error> {
        for keys in [LETTERS, CONTEXTS, OPEN_CALLS] {
            let mut stale = Vec::new();
            store
                .metadata_range(KeyRange::Prefix(keys), &mut |key, _| {
                    stale.push(key.to_vec());
                    ControlFlow::Continue(())
                })
                .map_err(Error::store)?;
            for key in stale {
                change.delete(&key);
            }
        }
        for (id, party) in &self.parties {
            for (number, context) in &party.contexts {
                change.put(&key(CONTEXTS, *number), &encode(&(id, context)));
            }
            for (number, open) in &party.open_calls {
                change.put(&key(OPEN_CALLS, *number), &encode(&(id, open)));
            }
            for (from, sent) in party.mailbox.letters() {
                change.put(&key(LETTERS, sent.number), &encode(&(from, id, &sent.letter)));
            }
        }
        let management = Principal::management_canister();
        for (from, sent) in self.waiting().filter_map(Waiting::letter) {
            change.put(&key(LETTERS, sent.number), &encode(&(from, management, &sent.letter)));
        }
        Ok(())
    }
}

fn each<T: DeserializeOwned>(
    store: &Store,
    keys: &[u8],
    last: &mut CallId,
    mut take: impl FnMut(CallId, T),
) -> Result<(), Error> {
    let mut result = Ok(());
    store
        .metadata_range(KeyRange::Prefix(keys), &mut |key, value| {
            let number = key[keys.len()..].try_into().map(u64::from_be_bytes);
            let read = number
                .map_err(|_| Error::damaged("a call under way has no number"))
                .and_then(|number| Ok((number, decode("a call under way", value)?)));
            match read {
                Ok((number, value)) => {
                    *last = number.max(*last);
                    take(number, value);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    result = Err(error);
                    ControlFlow::Break(())
                }
            }
        })
        .map_err(Error::store)?;
    result
}

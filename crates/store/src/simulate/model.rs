//! What a store is expected to hold, and which of its states a crash may leave.
//!
//! - A state is compared whole: every page, size, key and count.
//! - What was acknowledged, or shown by an opening, is never missing later; what was never appended never
//!   appears.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::page::ZERO_PAGE;
use crate::{BlobId, Class, KeyRange, Lsn, MemoryId, Page, PageIndex, Result, Store};

/// The content of one memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelMemory {
    pub(super) class: Class,
    pub(super) capacity: u32,
    pub(super) pages: u32,
    /// Pages that are not all zero.
    pub(super) content: Arc<BTreeMap<u32, Arc<Page>>>,
}

impl ModelMemory {
    pub(super) fn page(&self, index: u32) -> &Page {
        self.content.get(&index).map_or(ZERO_PAGE, |page| page)
    }

    pub(super) fn set_page(&mut self, index: u32, page: Page) {
        let content = Arc::make_mut(&mut self.content);
        if page == *ZERO_PAGE {
            content.remove(&index);
        } else {
            content.insert(index, Arc::new(page));
        }
    }
}

/// The content of a store after some record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) memories: BTreeMap<MemoryId, ModelMemory>,
    pub(super) metadata: BTreeMap<Vec<u8>, Vec<u8>>,
    /// References; a blob without any is not in the state.
    pub(super) blobs: BTreeMap<BlobId, u64>,
}

impl State {
    /// What a store holds.
    pub(super) fn of(store: &Store) -> Result<State> {
        let mut state = State::default();
        for memory in store.memories()? {
            let image = memory.image()?;
            let content = image.nonzero_pages().map(|(index, page)| (index.get(), Arc::new(*page)));
            let model = ModelMemory {
                class: memory.class(),
                capacity: memory.capacity().get(),
                pages: image.pages().get(),
                content: Arc::new(content.collect()),
            };
            state.memories.insert(memory.id(), model);
        }
        store.metadata_range(KeyRange::All, &mut |key, value| {
            state.metadata.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })?;
        for (id, references) in store.blobs()? {
            // The bytes are verified against the name.
            store.blob(id)?;
            state.blobs.insert(id, references);
        }
        state.blobs.retain(|_, references| *references > 0);
        Ok(state)
    }

    /// How two states differ, in one line.
    pub(super) fn difference(&self, other: &State) -> String {
        if self.memories.keys().ne(other.memories.keys()) {
            let ids = |state: &State| state.memories.keys().map(|id| id.get()).collect::<Vec<_>>();
            return format!("memories {:?} instead of {:?}", ids(self), ids(other));
        }
        for (id, memory) in &self.memories {
            let expected = &other.memories[id];
            if (memory.pages, memory.capacity, memory.class)
                != (expected.pages, expected.capacity, expected.class)
            {
                return format!("memory {id} has {} pages instead of {}", memory.pages, expected.pages);
            }
            for index in 0..memory.pages {
                let (page, expected) = (memory.page(index), expected.page(index));
                if let Some(at) = (0..page.len()).find(|at| page[*at] != expected[*at]) {
                    let what = format!("page {} of memory {id} differs at byte {at}", PageIndex::new(index));
                    return format!("{what}: {:#x} instead of {:#x}", page[at], expected[at]);
                }
            }
        }
        for (key, value) in &self.metadata {
            if other.metadata.get(key) != Some(value) {
                return format!("metadata {key:?} is not what it should be");
            }
        }
        if let Some(key) = other.metadata.keys().find(|key| !self.metadata.contains_key(*key)) {
            return format!("metadata {key:?} is missing");
        }
        if self.blobs == other.blobs { "nothing".to_string() } else { "blobs".to_string() }
    }
}

/// Which states a crash may leave.
pub(super) struct Oracle {
    /// The states after the records from `first` on.
    states: Vec<State>,
    first: u64,
    /// The last record that a killed process may not lose,
    written: u64,
    /// and that a power cut may not lose.
    synced: u64,
}

impl Oracle {
    pub(super) fn new() -> Oracle {
        Oracle { states: vec![State::default()], first: 0, written: 0, synced: 0 }
    }

    /// The last record that was appended, or tried.
    pub(super) fn last(&self) -> u64 {
        self.first + self.states.len() as u64 - 1
    }

    /// The state after the last record.
    pub(super) fn newest(&self) -> &State {
        self.states.last().expect("there is always a state")
    }

    /// A record was appended, or may have been.
    pub(super) fn append(&mut self, state: State) -> u64 {
        self.states.push(state);
        self.last()
    }

    /// The end of the process may not lose this record any more.
    pub(super) fn wrote(&mut self, lsn: u64) {
        self.written = self.written.max(lsn);
    }

    /// Nothing may lose this record any more.
    pub(super) fn synced(&mut self, lsn: u64) {
        self.wrote(lsn);
        self.synced = self.synced.max(lsn);
        let forgotten = usize::try_from(self.synced.saturating_sub(self.first)).unwrap_or(0);
        self.states.drain(..forgotten.min(self.states.len() - 1));
        self.first += forgotten as u64;
    }

    pub(super) fn power_failed(&mut self) {
        self.written = self.synced;
    }

    /// A store was opened and shows this; from now on it may not lose it.
    pub(super) fn check(&mut self, last: Lsn, found: &State) -> Result<(), String> {
        let last = last.get();
        if last < self.written {
            return Err(format!("record {last} is the last one, but {} was acknowledged", self.written));
        }
        if last > self.last() {
            return Err(format!("record {last} was never appended, {} was the last", self.last()));
        }
        let index = usize::try_from(last - self.first).expect("few states are kept");
        let expected = &self.states[index];
        if found != expected {
            let other = self.states.iter().position(|state| state == found);
            let other =
                other.map(|index| format!(", but the one after record {}", self.first + index as u64));
            let what = found.difference(expected);
            return Err(format!(
                "the state is not the one after record {last}{}: {what}",
                other.unwrap_or_default()
            ));
        }
        self.states.truncate(index + 1);
        self.synced(last);
        Ok(())
    }
}

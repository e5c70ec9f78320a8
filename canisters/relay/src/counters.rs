//! The counters, and where everything else in stable memory is.
//!
//! - Each structure owns one virtual memory; the numbers in `memory_ids` are part of the layout and never change.
//! - A counter that never counted has no entry.

use std::cell::RefCell;

use ic_stable_structures::memory_manager::{MemoryId, MemoryManager, VirtualMemory};
use ic_stable_structures::{DefaultMemoryImpl, StableBTreeMap};

pub type Stable = VirtualMemory<DefaultMemoryImpl>;

pub mod memory_ids {
    use super::MemoryId;

    pub const COUNTERS: MemoryId = MemoryId::new(0);
    pub const CHILDREN: MemoryId = MemoryId::new(1);
}

thread_local! {
    static MEMORIES: RefCell<MemoryManager<DefaultMemoryImpl>> =
        RefCell::new(MemoryManager::init(DefaultMemoryImpl::default()));
    static COUNTERS: RefCell<StableBTreeMap<String, u64, Stable>> =
        RefCell::new(StableBTreeMap::init(memory(memory_ids::COUNTERS)));
}

pub fn memory(id: MemoryId) -> Stable {
    MEMORIES.with_borrow(|memories| memories.get(id))
}

pub fn get(name: &str) -> u64 {
    COUNTERS.with_borrow(|counters| counters.get(&name.to_string()).unwrap_or(0))
}

pub fn set(name: &str, value: u64) {
    COUNTERS.with_borrow_mut(|counters| counters.insert(name.to_string(), value));
}

/// Adds one and returns the sum.
pub fn count(name: &str) -> u64 {
    let sum = get(name) + 1;
    set(name, sum);
    sum
}

#[ic_cdk::update]
fn ping() -> u64 {
    count("pings")
}

#[ic_cdk::query]
fn value() -> u64 {
    get("pings")
}

#[ic_cdk::query]
fn counters() -> Vec<(String, u64)> {
    COUNTERS.with_borrow(|counters| counters.iter().map(|entry| entry.into_pair()).collect())
}

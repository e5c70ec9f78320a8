//! The sample dapp's map on the crate `ic-stable-memory`: another allocator, another B-tree, an older kit.
//!
//! - `init` sets the allocator up; `pre_upgrade` writes the map's handle and the allocator to stable memory, and
//!   `post_upgrade` reads them back. Between the two the heap holds nothing that matters.
//! - `pre_upgrade` must run: after an upgrade that skips it the map cannot be found again, and `post_upgrade` traps.

use std::cell::RefCell;

use ic_cdk_macros::{init, post_upgrade, pre_upgrade, query, update};
use ic_stable_memory::collections::SBTreeMap;
use ic_stable_memory::{
    SBox, retrieve_custom_data, stable_memory_init, stable_memory_post_upgrade, stable_memory_pre_upgrade,
    store_custom_data,
};
use serde_bytes::ByteBuf;

const CANDID: &[u8] = include_bytes!("../stable-memory.did");

/// The interface, readable from the module itself.
#[used]
#[unsafe(link_section = "icp:public candid:service")]
pub static CANDID_SERVICE: [u8; CANDID.len()] = *include_bytes!("../stable-memory.did");

/// A packed entry is a key and a value of 16 bytes each.
const ENTRY_BYTES: usize = 2 * size_of::<u128>();

/// Where the allocator keeps the map's handle during an upgrade.
const MAP_SLOT: usize = 0;

type Map = SBTreeMap<u128, u128>;

thread_local! {
    // Absent before `init` or `post_upgrade`: a map allocates, so the allocator must come first.
    static MAP: RefCell<Option<Map>> = const { RefCell::new(None) };
}

#[init]
fn init() {
    stable_memory_init();
    MAP.with(|map| *map.borrow_mut() = Some(Map::new()));
}

#[pre_upgrade]
fn pre_upgrade() {
    let map =
        MAP.with(|map| map.borrow_mut().take()).unwrap_or_else(|| ic_cdk::trap("there is no map to save"));
    let Ok(handle) = SBox::new(map) else { ic_cdk::trap("stable memory has no room for the map's handle") };
    store_custom_data(MAP_SLOT, handle);
    if stable_memory_pre_upgrade().is_err() {
        ic_cdk::trap("stable memory has no room for the allocator");
    }
}

#[post_upgrade]
fn post_upgrade() {
    stable_memory_post_upgrade();
    let Some(handle) = retrieve_custom_data::<Map>(MAP_SLOT) else { ic_cdk::trap("no map was saved") };
    MAP.with(|map| *map.borrow_mut() = Some(handle.into_inner()));
}

#[update]
fn insert(key: u128, value: u128) -> Option<u128> {
    with_map(|map| insert_or_trap(map, key, value))
}

/// Takes packed bytes because decoding tens of thousands of Candid numbers would cost more than inserting them.
#[update]
fn insert_many(entries: ByteBuf) -> u64 {
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        ic_cdk::trap(&format!(
            "insert_many: {} bytes are left over after the last entry of 32 bytes",
            rest.len()
        ));
    }
    with_map(|map| {
        for entry in entries {
            let (key, value) = unpack(entry);
            insert_or_trap(map, key, value);
        }
    });
    entries.len() as u64
}

#[query]
fn get(key: u128) -> Option<u128> {
    with_map(|map| map.get(&key).map(|value| *value))
}

#[query]
fn len() -> u64 {
    with_map(|map| map.len())
}

fn with_map<R>(body: impl FnOnce(&mut Map) -> R) -> R {
    MAP.with(|map| match map.borrow_mut().as_mut() {
        Some(map) => body(map),
        None => ic_cdk::trap("the map is not set up"),
    })
}

fn insert_or_trap(map: &mut Map, key: u128, value: u128) -> Option<u128> {
    match map.insert(key, value) {
        Ok(previous) => previous,
        Err(_) => ic_cdk::trap("stable memory has no room for another entry"),
    }
}

fn unpack(entry: &[u8; ENTRY_BYTES]) -> (u128, u128) {
    let (numbers, _) = entry.as_chunks::<16>();
    (u128::from_le_bytes(numbers[0]), u128::from_le_bytes(numbers[1]))
}

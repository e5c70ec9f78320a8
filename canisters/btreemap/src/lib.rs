//! The sample dapp: a map from number to number that lives in stable memory.
//!
//! - The map is the first and only tenant of stable memory, so it starts at byte 0 and survives an upgrade
//!   without any upgrade hook.
//! - The heap holds only the map's handle: what a message touches is almost entirely stable memory.

use std::cell::RefCell;

use ic_stable_structures::{DefaultMemoryImpl, StableBTreeMap};
use serde_bytes::ByteBuf;

const CANDID: &[u8] = include_bytes!("../btreemap.did");

/// The interface, readable from the module itself.
#[used]
#[unsafe(link_section = "icp:public candid:service")]
pub static CANDID_SERVICE: [u8; CANDID.len()] = *include_bytes!("../btreemap.did");

/// A packed entry is a key and a value of 16 bytes each.
const ENTRY_BYTES: usize = 2 * size_of::<u128>();

thread_local! {
    // `init` opens the existing map when stable memory is not empty, which is what an upgrade needs.
    static MAP: RefCell<StableBTreeMap<u128, u128, DefaultMemoryImpl>> =
        RefCell::new(StableBTreeMap::init(DefaultMemoryImpl::default()));
}

#[ic_cdk::update]
fn insert(key: u128, value: u128) -> Option<u128> {
    MAP.with_borrow_mut(|map| map.insert(key, value))
}

/// Takes packed bytes because decoding tens of thousands of Candid numbers would cost more than inserting them.
#[ic_cdk::update]
fn insert_many(entries: ByteBuf) -> u64 {
    let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        ic_cdk::trap(format!(
            "insert_many: {} bytes are left over after the last entry of 32 bytes",
            rest.len()
        ));
    }
    MAP.with_borrow_mut(|map| {
        for entry in entries {
            let (key, value) = unpack(entry);
            map.insert(key, value);
        }
    });
    entries.len() as u64
}

#[ic_cdk::query]
fn get(key: u128) -> Option<u128> {
    MAP.with_borrow(|map| map.get(&key))
}

#[ic_cdk::query]
fn len() -> u64 {
    MAP.with_borrow(|map| map.len())
}

fn unpack(entry: &[u8; ENTRY_BYTES]) -> (u128, u128) {
    let (numbers, _) = entry.as_chunks::<16>();
    (u128::from_le_bytes(numbers[0]), u128::from_le_bytes(numbers[1]))
}

//! A vector, a log and a cell that share stable memory through a memory manager, and methods that exercise traps,
//! upgrades and the system calls a single canister makes.
//!
//! - Each structure owns one virtual memory; the numbers in `memory_ids` are part of the layout and never change.
//! - Everything but `HEAP_VALUE` and `HEAP_SCRATCH` survives an upgrade because it never leaves stable memory.
//!   `HEAP_VALUE` survives because the upgrade hooks carry it across. `HEAP_SCRATCH` does not survive.

use std::cell::{Cell, RefCell};

use candid::{CandidType, Principal};
use ic_stable_structures::memory_manager::{MemoryId, MemoryManager, VirtualMemory};
use ic_stable_structures::{DefaultMemoryImpl, Memory, StableCell, StableLog, StableVec};
use serde_bytes::ByteBuf;

const CANDID: &[u8] = include_bytes!("../structures.did");

/// The interface, readable from the module itself.
#[used]
#[unsafe(link_section = "icp:public candid:service")]
pub static CANDID_SERVICE: [u8; CANDID.len()] = *include_bytes!("../structures.did");

type Stable = VirtualMemory<DefaultMemoryImpl>;

mod memory_ids {
    use super::MemoryId;

    pub const VECTOR: MemoryId = MemoryId::new(0);
    pub const LOG_INDEX: MemoryId = MemoryId::new(1);
    pub const LOG_DATA: MemoryId = MemoryId::new(2);
    pub const CELL: MemoryId = MemoryId::new(3);
    /// Where the upgrade hooks keep the heap's value: 8 bytes, little-endian.
    pub const UPGRADE: MemoryId = MemoryId::new(4);
    pub const SCRATCH: MemoryId = MemoryId::new(5);
}

thread_local! {
    static MEMORIES: RefCell<MemoryManager<DefaultMemoryImpl>> =
        RefCell::new(MemoryManager::init(DefaultMemoryImpl::default()));
    static VECTOR: RefCell<StableVec<u64, Stable>> = RefCell::new(StableVec::init(memory(memory_ids::VECTOR)));
    static LOG: RefCell<StableLog<String, Stable, Stable>> =
        RefCell::new(StableLog::init(memory(memory_ids::LOG_INDEX), memory(memory_ids::LOG_DATA)));
    static CELL: RefCell<StableCell<String, Stable>> =
        RefCell::new(StableCell::init(memory(memory_ids::CELL), String::new()));
    static HEAP_VALUE: Cell<u64> = const { Cell::new(0) };
    static HEAP_SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn memory(id: MemoryId) -> Stable {
    MEMORIES.with_borrow(|memories| memories.get(id))
}

#[ic_cdk::update]
fn vec_push(value: u64) -> u64 {
    VECTOR.with_borrow(|vector| {
        vector.push(&value);
        vector.len()
    })
}

#[ic_cdk::update]
fn vec_set(index: u64, value: u64) {
    VECTOR.with_borrow(|vector| {
        if index >= vector.len() {
            ic_cdk::trap(format!("vec_set: index {index} is beyond the length {}", vector.len()));
        }
        vector.set(index, &value);
    });
}

#[ic_cdk::query]
fn vec_get(index: u64) -> Option<u64> {
    VECTOR.with_borrow(|vector| vector.get(index))
}

#[ic_cdk::query]
fn vec_len() -> u64 {
    VECTOR.with_borrow(|vector| vector.len())
}

#[ic_cdk::update]
fn log_append(entry: String) -> u64 {
    LOG.with_borrow(|log| match log.append(&entry) {
        Ok(index) => index,
        Err(error) => ic_cdk::trap(format!("log_append: {error:?}")),
    })
}

#[ic_cdk::query]
fn log_read(index: u64) -> Option<String> {
    LOG.with_borrow(|log| log.get(index))
}

#[ic_cdk::query]
fn log_len() -> u64 {
    LOG.with_borrow(|log| log.len())
}

#[ic_cdk::update]
fn cell_set(value: String) -> String {
    CELL.with_borrow_mut(|cell| cell.set(value))
}

#[ic_cdk::query]
fn cell_get() -> String {
    CELL.with_borrow(|cell| cell.get().clone())
}

#[ic_cdk::update]
fn heap_set(value: u64) {
    HEAP_VALUE.set(value);
}

#[ic_cdk::query]
fn heap_get() -> u64 {
    HEAP_VALUE.get()
}

#[ic_cdk::pre_upgrade]
fn pre_upgrade() {
    let memory = memory(memory_ids::UPGRADE);
    grow_to_fit(&memory, 8);
    memory.write(0, &HEAP_VALUE.get().to_le_bytes());
}

/// A module of another kind may have been here before, and `pre_upgrade` may have been skipped: without a saved
/// value the heap keeps its initial one.
#[ic_cdk::post_upgrade]
fn post_upgrade() {
    let memory = memory(memory_ids::UPGRADE);
    if memory.size() > 0 {
        let mut bytes = [0; 8];
        memory.read(0, &mut bytes);
        HEAP_VALUE.set(u64::from_le_bytes(bytes));
    }
}

/// The page whose changes the system tracks, smaller than the 64 KiB by which a memory grows.
const PAGE_BYTES: u64 = 4096;

#[derive(CandidType)]
struct Scratch {
    heap_pages: u64,
    heap_sum: u64,
    stable_pages: u64,
    stable_sum: u64,
}

#[ic_cdk::update]
fn write_pages(pages: u32) {
    change_pages(pages);
}

#[ic_cdk::update]
fn trap_after_writing(pages: u32) {
    change_pages(pages);
    ic_cdk::trap(format!("trapped after writing {pages} pages"));
}

#[ic_cdk::query]
fn scratch() -> Scratch {
    let stable = memory(memory_ids::SCRATCH);
    let stable_pages = stable.size() * 65_536 / PAGE_BYTES;
    let stable_sum = (0..stable_pages).map(|page| u64::from(stable_byte(&stable, page))).sum();
    HEAP_SCRATCH.with_borrow(|heap| {
        let (pages, _) = heap.as_chunks::<{ PAGE_BYTES as usize }>();
        Scratch {
            heap_pages: pages.len() as u64,
            heap_sum: pages.iter().map(|page| u64::from(page[0])).sum(),
            stable_pages,
            stable_sum,
        }
    })
}

/// Adds one to the first byte of each page, so that every call changes every page it touches.
fn change_pages(pages: u32) {
    let pages = u64::from(pages);
    let stable = memory(memory_ids::SCRATCH);
    grow_to_fit(&stable, pages * PAGE_BYTES);
    for page in 0..pages {
        let byte = stable_byte(&stable, page);
        stable.write(page * PAGE_BYTES, &[byte.wrapping_add(1)]);
    }
    HEAP_SCRATCH.with_borrow_mut(|heap| {
        let bytes = (pages * PAGE_BYTES) as usize;
        if heap.len() < bytes {
            heap.resize(bytes, 0);
        }
        for byte in heap[..bytes].iter_mut().step_by(PAGE_BYTES as usize) {
            *byte = byte.wrapping_add(1);
        }
    });
}

fn stable_byte(stable: &Stable, page: u64) -> u8 {
    let mut byte = [0];
    stable.read(page * PAGE_BYTES, &mut byte);
    byte[0]
}

fn grow_to_fit(stable: &Stable, bytes: u64) {
    let missing = bytes.div_ceil(65_536).saturating_sub(stable.size());
    if missing > 0 && stable.grow(missing) == -1 {
        ic_cdk::trap(format!("stable memory cannot grow by {missing} pages of 64 KiB"));
    }
}

#[ic_cdk::update]
fn log_line(line: String) {
    ic_cdk::api::debug_print(line);
}

#[ic_cdk::update]
fn set_certified(data: ByteBuf) {
    ic_cdk::api::certified_data_set(&data[..]);
}

#[ic_cdk::query]
fn whoami() -> Principal {
    ic_cdk::api::msg_caller()
}

#[ic_cdk::query]
fn time() -> u64 {
    ic_cdk::api::time()
}

#[ic_cdk::query]
fn version() -> u64 {
    ic_cdk::api::canister_version()
}

#[ic_cdk::query]
fn balance() -> u128 {
    ic_cdk::api::canister_cycle_balance()
}

//! The same structures twice: what one costs in stable memory, and what it costs on the heap.
//!
//! - Both sets are the same code of `ic-stable-structures` behind the same memory manager; they differ in the memory
//!   below it alone.
//! - What is inserted follows from the indices, so that nothing but the structure is measured.

use std::cell::RefCell;

use ic_stable_structures::memory_manager::{MemoryId, MemoryManager, VirtualMemory};
use ic_stable_structures::{DefaultMemoryImpl, Memory, StableBTreeMap, StableLog, StableVec, VectorMemory};

const CANDID: &[u8] = include_bytes!("../twins.did");

/// The interface, readable from the module itself.
#[used]
#[unsafe(link_section = "icp:public candid:service")]
pub static CANDID_SERVICE: [u8; CANDID.len()] = *include_bytes!("../twins.did");

/// Bytes of an entry of the log.
const LOG_ENTRY_BYTES: usize = 100;

struct Structures<M: Memory> {
    map: StableBTreeMap<u128, u128, VirtualMemory<M>>,
    vec: StableVec<u64, VirtualMemory<M>>,
    log: StableLog<Vec<u8>, VirtualMemory<M>, VirtualMemory<M>>,
}

impl<M: Memory> Structures<M> {
    fn new(memory: M) -> Self {
        let manager = MemoryManager::init(memory);
        let part = |id| manager.get(MemoryId::new(id));
        Self {
            map: StableBTreeMap::init(part(0)),
            vec: StableVec::init(part(1)),
            log: StableLog::init(part(2), part(3)),
        }
    }

    fn fill_map(&mut self, first: u64, count: u64) -> u64 {
        for index in first..first + count {
            let word = |part| u128::from(mix(index * 4 + part));
            self.map.insert(word(0) << 64 | word(1), word(2) << 64 | word(3));
        }
        self.map.len()
    }

    /// Appends, and reads one from somewhere for each.
    fn fill_vec(&mut self, first: u64, count: u64) -> u64 {
        for index in first..first + count {
            self.vec.push(&index);
            let at = mix(index) % self.vec.len();
            if self.vec.get(at).is_none() {
                ic_cdk::trap("the vector has no such element");
            }
        }
        self.vec.len()
    }

    fn fill_log(&mut self, first: u64, count: u64) -> u64 {
        let mut entry = vec![0; LOG_ENTRY_BYTES];
        for index in first..first + count {
            entry[..8].copy_from_slice(&index.to_le_bytes());
            if self.log.append(&entry).is_err() {
                ic_cdk::trap("the log is full");
            }
        }
        self.log.len()
    }
}

/// The step and the finalizer of SplitMix64.
fn mix(index: u64) -> u64 {
    let mut word = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

thread_local! {
    static STABLE: RefCell<Structures<DefaultMemoryImpl>> =
        RefCell::new(Structures::new(DefaultMemoryImpl::default()));
    static HEAP: RefCell<Structures<VectorMemory>> = RefCell::new(Structures::new(VectorMemory::default()));
}

#[ic_cdk::update]
fn map_stable(first: u64, count: u64) -> u64 {
    STABLE.with_borrow_mut(|structures| structures.fill_map(first, count))
}

#[ic_cdk::update]
fn map_heap(first: u64, count: u64) -> u64 {
    HEAP.with_borrow_mut(|structures| structures.fill_map(first, count))
}

#[ic_cdk::update]
fn vec_stable(first: u64, count: u64) -> u64 {
    STABLE.with_borrow_mut(|structures| structures.fill_vec(first, count))
}

#[ic_cdk::update]
fn vec_heap(first: u64, count: u64) -> u64 {
    HEAP.with_borrow_mut(|structures| structures.fill_vec(first, count))
}

#[ic_cdk::update]
fn log_stable(first: u64, count: u64) -> u64 {
    STABLE.with_borrow_mut(|structures| structures.fill_log(first, count))
}

#[ic_cdk::update]
fn log_heap(first: u64, count: u64) -> u64 {
    HEAP.with_borrow_mut(|structures| structures.fill_log(first, count))
}

//! Any byte string: an error or a valid module, never a panic.

use bedstone_instrument::{Config, Counter, StableAccess, instrument};

use crate::{Numbers, generate};

/// One case: a random module with bytes changed, cut off, doubled or dropped; or noise.
pub fn run(seed: u64) -> bool {
    let mut numbers = Numbers::new(seed);
    let mut bytes = match numbers.below(8) {
        0 => {
            let count = numbers.below(200) as usize;
            [b"\0asm\x01\0\0\0".to_vec(), numbers.bytes(count)].concat()
        }
        _ => match generate::canister(seed) {
            Some(bytes) => bytes,
            None => return false,
        },
    };
    for _ in 0..numbers.below(6) {
        mangle(&mut bytes, &mut numbers);
    }
    self::bytes(&bytes);
    true
}

/// Rewrites these bytes in every way.
pub fn bytes(bytes: &[u8]) {
    for counter in [Counter::Global, Counter::Threaded] {
        for stable in [StableAccess::Native, StableAccess::Host] {
            // `instrument` itself panics if its output does not validate.
            for allow_multi_memory in [false, true] {
                let config = Config { counter, stable, allow_multi_memory, ..Config::default() };
                let _ = instrument(bytes, &config);
            }
        }
    }
}

fn mangle(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    if bytes.len() < 9 {
        return;
    }
    let at = 8 + numbers.below(bytes.len() as u64 - 8) as usize;
    let len = (numbers.below(16) as usize).min(bytes.len() - at);
    match numbers.below(5) {
        0 => bytes[at] = numbers.next_u64() as u8,
        1 => bytes[at] ^= 1 << numbers.below(8),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + len)),
        _ => {
            let copy = bytes[at..at + len].to_vec();
            let to = 8 + numbers.below(bytes.len() as u64 - 8) as usize;
            drop(bytes.splice(to..to, copy));
        }
    }
}

//! Differential fuzzers as ordinary code: each is a `run(seed)` that panics on a difference.
//!
//! They run on fixed seeds in `cargo test`, for as long as wanted by `cargo xtask fuzz --minutes N`, and one seed again by
//! `cargo xtask fuzz --only NAME --seed N`. A bug found leaves a test in the crate that had it.
//!
//! - [`agree`]: one random canister, random messages, every way of running it: native and host stable memory, counter in a
//!   global and threaded, pages found by the barrier and by faults. Outcomes, charges, memories and globals agree after each message; what a message dirtied is
//!   what a comparison of whole memories finds; what did not succeed left no trace.
//! - [`plain`]: the rewritten module against the original on plain Wasmtime with host functions over a vector.
//! - [`model`]: random stable reads, writes and grows, many per message, against a `Vec<u8>`.
//! - [`hostile`]: arbitrary and mangled bytes into the rewriter: an error or a valid module.
#![forbid(unsafe_code)]

pub mod agree;
mod canister;
pub mod generate;
pub mod hostile;
pub mod model;
pub mod plain;
mod tame;

/// A fuzzer.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Runs one case. Returns whether the case was worth its while (the random module was accepted).
    pub run: fn(u64) -> bool,
}

/// All fuzzers.
pub const TARGETS: [Target; 4] = [
    Target { name: "agree", run: agree::run },
    Target { name: "plain", run: plain::run },
    Target { name: "model", run: model::run },
    Target { name: "hostile", run: hostile::run },
];

/// Runs `work` on a stack that Wasm can use.
pub fn with_stack<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(work);
    match thread.expect("a thread can be started").join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A small generator of numbers (SplitMix64): the same seed, the same case, on every machine.
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64() % bound
    }

    /// That many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.next_u64().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, with_stack};

    /// Cases per target in the quick tier.
    const CASES: u64 = 150;

    #[test]
    fn fixed_seeds() {
        for target in TARGETS {
            let useful = with_stack(move || (0..CASES).filter(|seed| (target.run)(*seed)).count());
            assert!(
                useful as u64 > CASES / 3,
                "{}: only {useful} of {CASES} cases reached the engine",
                target.name
            );
        }
    }
}

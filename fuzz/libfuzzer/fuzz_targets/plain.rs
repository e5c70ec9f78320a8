//! libFuzzer's bytes are the seed of a case; a difference panics.
#![no_main]

use bedstone_fuzz::{plain, with_stack};

libfuzzer_sys::fuzz_target!(|seed: u64| {
    with_stack(move || plain::run(seed));
});

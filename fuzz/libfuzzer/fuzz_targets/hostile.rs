//! libFuzzer's bytes go to the rewriter as they are: an error or a valid module, never a panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    bedstone_fuzz::hostile::bytes(bytes);
});

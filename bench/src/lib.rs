//! Bedstone's own measurements: ratios measured side by side in one run.
//!
//! `cargo xtask measure` runs the program of this crate, which goes through [`groups`] and writes down their [`figures`].
//! `benches/` has what takes a machine to itself: durability, many canisters, large states.
#![forbid(unsafe_code)]

pub mod figures;
pub mod groups;
pub mod interleave;
mod repeated;
pub mod report;
pub mod subject;

pub use interleave::median;
pub use repeated::repeated;

/// Runs a measurement on a stack that Wasm can use.
pub fn with_stack<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(work);
    let joined = thread.expect("a thread can be started").join();
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

//! Chores of the workspace, as a library so that tests can run them.
//!
//! - [`tidy`] checks what compiler and formatter cannot see; it also runs inside `cargo test`.
//! - [`canisters`] compiles the sample canisters and tells when one is older than its source.
//! - [`fuzz`] runs the differential fuzzers.
//! - [`ci`] runs everything that must pass before a change lands.
#![forbid(unsafe_code)]

pub mod canisters;
pub mod ci;
pub mod fuzz;
pub mod measure;
pub mod reliability;
pub mod tidy;

use std::path::PathBuf;

/// The root of the checkout: the first directory with `xtask/Cargo.toml` at or above the running package's or, outside
/// of cargo, the current one.
pub fn root() -> Result<PathBuf, String> {
    let start = match std::env::var_os("CARGO_MANIFEST_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => {
            std::env::current_dir().map_err(|error| format!("cannot tell the current directory: {error}"))?
        }
    };
    start
        .ancestors()
        .find(|directory| directory.join("xtask/Cargo.toml").is_file())
        .map(PathBuf::from)
        .ok_or_else(|| format!("{} is not inside a checkout of bedstone", start.display()))
}

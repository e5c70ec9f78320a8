//! Runs the differential fuzzers, built with optimisation.
//!
//! - The fuzzers need Wasmtime and this crate must build quickly, so they are a program of their own.

use std::process::Command;

/// Passes the words on to the fuzzers.
///
/// # Errors
/// If a case differs, or the program cannot be built or started.
pub fn run(args: &[String]) -> Result<(), String> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--release", "--quiet", "--package", "bedstone-fuzz", "--example", "fuzz", "--"])
        .args(args)
        .current_dir(crate::root()?)
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the fuzzers ended with {status}")) }
}

//! Runs the measurements, built with optimisation.
//!
//! - Without words everything is measured and the report becomes part of `docs/measurements.md`; with words they decide.

use std::process::Command;

const DOCUMENT: &str = "docs/measurements.md";

/// Passes the words on to the measurements.
///
/// # Errors
/// If a measurement fails, or the program cannot be built or started.
pub fn run(words: &[String]) -> Result<(), String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["run", "--release", "--quiet", "--package", "bedstone-bench", "--bin", "measure", "--"])
        .args(words);
    if words.is_empty() {
        command.args(["--write", DOCUMENT]);
    }
    let status = command
        .current_dir(crate::root()?)
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the measurements ended with {status}")) }
}

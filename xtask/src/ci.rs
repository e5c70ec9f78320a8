//! `cargo xtask ci`: everything that must pass before a change lands.
//!
//! - The steps stand in `.ci/run`, once; this only runs them.

use std::process::Command;

/// Runs `.ci/run` at the root of the checkout and passes its verdict on.
pub fn run() -> Result<(), String> {
    let root = crate::root()?;
    let status = Command::new("bash")
        .arg(".ci/run")
        .current_dir(&root)
        .status()
        .map_err(|error| format!("cannot start bash for .ci/run: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!(".ci/run: {status}")) }
}

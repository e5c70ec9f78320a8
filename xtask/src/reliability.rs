//! Runs the trials of the store, built with optimisation: simulated crashes, seeded mistakes, kills, failing operations.
//!
//! - The trials are a program of the store's own, which needs features that no other build should have.

use std::process::Command;

/// Passes the words on to the trials.
///
/// # Errors
/// If a bar was not met, or the program cannot be built or started.
pub fn run(args: &[String]) -> Result<(), String> {
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--release", "--quiet", "--package", "bedstone-store", "--features", "sim,mutants"])
        .args(["--example", "reliability", "--"])
        .args(args)
        .current_dir(crate::root()?)
        .status()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("the trials ended with {status}")) }
}

/// The words of `reliability [--tier NAME] …` as the trials know them.
pub fn tier(args: &[String]) -> Vec<String> {
    let mut words: Vec<String> = args.to_vec();
    let name = match words.iter().position(|word| word == "--tier") {
        Some(at) if at + 1 < words.len() => words.drain(at..at + 2).next_back(),
        _ => None,
    };
    let tier = name.unwrap_or_else(|| "quick".to_owned());
    [vec!["tier".to_owned(), tier], words].concat()
}

#[cfg(test)]
mod tests {
    use super::tier;

    #[test]
    fn the_tier_comes_first() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            tier(&words("--seed 3 --tier release --only sim")),
            words("tier release --seed 3 --only sim")
        );
        assert_eq!(tier(&[]), words("tier quick"));
    }
}

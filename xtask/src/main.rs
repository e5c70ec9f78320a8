//! Chores of the workspace: `cargo xtask NAME`.
//!
//! - Exit codes: 0 done, 1 something is wrong, 2 not understood.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use xtask::{canisters, ci, fuzz, measure, reliability, tidy};

const USAGE: &str = "\
usage: cargo xtask NAME
  tidy                 check directions of imports, unsafe, docs, sizes and the like
  canisters [--check]  compile the sample canisters again, or say which are older than their source
  fuzz [--minutes N]   run the differential fuzzers (also: --cases N, --only NAME, --seed N, --from N)
  reliability [--tier quick|release]   run the trials of the store (also: --only PART, --seed N)
  crash --seed N       run one simulated life of the store again, with every operation of the disk
  measure [--quick] [--json] [--only GROUP]   measure everything side by side; without these, into docs/measurements.md
  ci                   run everything that must pass before a change lands";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["tidy"] => run_tidy(),
        ["canisters", ..] => canisters::run(&arguments[1..]),
        ["fuzz", ..] => fuzz::run(&arguments[1..]),
        ["reliability", ..] => reliability::run(&reliability::tier(&arguments[1..])),
        ["crash", ..] => reliability::run(&arguments),
        ["measure", ..] => measure::run(&arguments[1..]),
        ["ci"] => ci::run(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run_tidy() -> Result<(), String> {
    let findings = tidy::check(&xtask::root()?);
    if findings.is_empty() {
        println!("tidy");
        return Ok(());
    }
    Err(tidy::report(&findings))
}

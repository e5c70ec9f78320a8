//! Runs the fuzzers for a while, or one seed again. Called by `cargo xtask fuzz`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bedstone_fuzz::{TARGETS, Target, with_stack};

const USAGE: &str =
    "usage: cargo xtask fuzz [--minutes N | --cases N | --seed N] [--only NAME] [--from SEED]";

struct Wanted {
    only: Option<String>,
    /// Run this seed alone.
    seed: Option<u64>,
    /// First seed.
    from: u64,
    /// Cases per target.
    cases: u64,
    time: Duration,
}

fn main() -> ExitCode {
    let wanted = match parse(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(text) => {
            eprintln!("{text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let targets: Vec<Target> = TARGETS
        .into_iter()
        .filter(|target| wanted.only.as_ref().is_none_or(|only| only == target.name))
        .collect();
    if targets.is_empty() {
        eprintln!("no fuzzer of that name; there are {}", TARGETS.map(|target| target.name).join(", "));
        return ExitCode::from(2);
    }
    if let Some(seed) = wanted.seed {
        for target in targets {
            let useful = with_stack(move || (target.run)(seed));
            println!("{}: seed {seed}: {}", target.name, if useful { "agrees" } else { "refused" });
        }
        return ExitCode::SUCCESS;
    }
    let failed = targets.iter().filter(|target| !run(target, &wanted, targets.len())).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one target on all cores for its share of the time; whether all cases agreed.
fn run(target: &Target, wanted: &Wanted, targets: usize) -> bool {
    let (next, useful, failed) = (AtomicU64::new(wanted.from), AtomicU64::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let share = wanted.time / u32::try_from(targets).unwrap_or(1);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let work = || {
                while start.elapsed() < share && !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed - wanted.from >= wanted.cases {
                        return;
                    }
                    match std::panic::catch_unwind(|| (target.run)(seed)) {
                        Ok(true) => drop(useful.fetch_add(1, Ordering::Relaxed)),
                        Ok(false) => {}
                        Err(_) => {
                            eprintln!("again: cargo xtask fuzz --only {} --seed {seed}", target.name);
                            failed.store(true, Ordering::Relaxed);
                        }
                    }
                }
            };
            let thread = std::thread::Builder::new().stack_size(16 << 20).spawn_scoped(scope, work);
            thread.expect("a thread can be started");
        }
    });
    let cases = (next.into_inner() - wanted.from).min(wanted.cases);
    let agrees = !failed.into_inner();
    println!(
        "{:8} {:>9} cases, {:>9} reached the engine, {:>6.1} s: {}",
        target.name,
        cases,
        useful.into_inner(),
        start.elapsed().as_secs_f64(),
        if agrees { "0 differences" } else { "FAILED" }
    );
    agrees
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let (mut only, mut seed, mut from, mut cases, mut minutes) = (None, None, 0, None, None);
    while let Some(flag) = args.next() {
        let value = args.next().ok_or(format!("{flag} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{flag} takes a number, not {value:?}"));
        match flag.as_str() {
            "--only" => only = Some(value),
            "--seed" => seed = Some(number()?),
            "--from" => from = number()?,
            "--cases" => cases = Some(number()?),
            "--minutes" => minutes = Some(number()?),
            _ => return Err(format!("unknown flag {flag}")),
        }
    }
    let minutes = minutes.unwrap_or(if cases.is_some() { u64::from(u32::MAX) } else { 1 });
    let time = Duration::from_secs(60 * minutes);
    Ok(Wanted { only, seed, from, cases: cases.unwrap_or(u64::MAX), time })
}

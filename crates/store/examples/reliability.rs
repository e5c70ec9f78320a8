//! What the store went through, and how to look at a failure again.
//!
//! ```text
//! reliability crash --seed N [--redb] [--long] [--mutant NAME]   one seed, with every operation of the disk
//! reliability sim --seconds S [--seed N] [--redb] [--long] [--mutant NAME]   seeds, for so long
//! reliability mutants [--only NAME] [--seed N] [--seeds N]       the mistakes, by pinned or by fresh seeds
//! reliability tier quick|release [--only PART] [--seed N] [--directory DIR] [--report FILE]
//! ```
//!
//! `tier` prints a line for each part, and writes what it did as JSON; it fails when a bar was not met.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bedstone_store::simulate::{self, MUTANTS, Options, Summary, Trial};
use bedstone_store::{FileDisk, SimDisk};

fn main() -> ExitCode {
    let arguments = Arguments(std::env::args().skip(1).collect());
    if arguments.0.first().is_none_or(|first| first != "child") {
        // A panic of the store is a finding, which is printed as one.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let is_well = match arguments.0.first().map(String::as_str) {
        Some("crash") => crash(&arguments),
        Some("sim") => sim(&arguments),
        Some("mutants") => mutants(&arguments),
        Some("tier") => tier(&arguments),
        Some("child") => child(&arguments),
        _ => {
            eprintln!("reliability crash | sim | mutants | tier; see the head of its source");
            false
        }
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Arguments(Vec<String>);

impl Arguments {
    fn value(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.value(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    fn options(&self) -> Options {
        let mutant = self.value("--mutant").map(|name| {
            let known = MUTANTS.iter().find(|mutant| mutant.name == name);
            known.unwrap_or_else(|| panic!("there is no mistake {name}")).name
        });
        Options { redb: self.has("--redb"), long: self.has("--long"), mutant, trace: false }
    }
}

fn crash(arguments: &Arguments) -> bool {
    let seed = arguments.number("--seed").expect("which seed? --seed N");
    match simulate::run(seed, &Options { trace: true, ..arguments.options() }) {
        Ok(summary) => {
            println!("{summary:#?}");
            true
        }
        Err(violation) => {
            violation.trace.iter().for_each(|line| println!("{line}"));
            println!("{violation}");
            false
        }
    }
}

fn sim(arguments: &Arguments) -> bool {
    let seconds = Duration::from_secs(arguments.number("--seconds").unwrap_or(10));
    let (began, mut seed) = (Instant::now(), arguments.number("--seed").unwrap_or(0));
    let (mut sum, mut failed) = (Summary::default(), 0);
    while began.elapsed() < seconds && failed < arguments.number("--failures").unwrap_or(10) {
        match simulate::run(seed, &arguments.options()) {
            Ok(summary) => sum.add(&summary),
            Err(violation) => {
                println!("{violation}");
                failed += 1;
            }
        }
        seed += 1;
    }
    println!("up to seed {seed}, {failed} failed: {sum:#?}");
    println!("{:.0} crash points per second", sum.crashes() as f64 / began.elapsed().as_secs_f64());
    failed == 0
}

fn mutants(arguments: &Arguments) -> bool {
    let seeds = arguments.number("--seeds").unwrap_or(20_000);
    let mut is_well = true;
    for mutant in MUTANTS.iter().filter(|mutant| mutant.trial != Trial::Catalog) {
        if arguments.value("--only").is_some_and(|name| name != mutant.name) {
            continue;
        }
        let from = arguments.number("--seed").unwrap_or(mutant.seed);
        match simulate::search(mutant, from..from + seeds) {
            Some((seed, what)) => println!("{} {} seed {seed}: {what}", mutant.number, mutant.name),
            None => {
                println!("{} {} is not noticed by {seeds} seeds", mutant.number, mutant.name);
                is_well = false;
            }
        }
    }
    is_well
}

fn child(arguments: &Arguments) -> bool {
    let (directory, seed) = (&arguments.0[1], arguments.0[2].parse().expect("a seed"));
    simulate::child(Path::new(directory), seed).inspect_err(|error| eprintln!("{error}")).is_ok()
}

/// One part of a tier: its name, what it has to reach, and what it did.
struct Part {
    name: &'static str,
    bar: String,
    result: Result<String, String>,
    seconds: f64,
}

struct Tier<'a> {
    arguments: &'a Arguments,
    is_release: bool,
    seed: u64,
    parts: Vec<Part>,
}

impl Tier<'_> {
    fn part(&mut self, name: &'static str, bar: String, run: impl FnOnce(&Self) -> Result<String, String>) {
        if self.arguments.value("--only").is_some_and(|only| only != name) {
            // A bar that was not run counts as not met, and is shown as that.
            self.parts.push(Part { name, bar, result: Ok("not run".to_string()), seconds: 0.0 });
            return;
        }
        let began = Instant::now();
        let result = run(self);
        let seconds = began.elapsed().as_secs_f64();
        match &result {
            Ok(what) => println!("{name}: {what} (to reach: {bar}; {seconds:.0} s)"),
            Err(what) => println!("{name}: FAILED: {what} (to reach: {bar}; {seconds:.0} s)"),
        }
        self.parts.push(Part { name, bar, result, seconds });
    }

    fn of(&self, quick: u64, release: u64) -> u64 {
        if self.is_release { release } else { quick }
    }
}

fn tier(arguments: &Arguments) -> bool {
    let is_release = match arguments.0.get(1).map(String::as_str) {
        Some("quick") => false,
        Some("release") => true,
        _ => panic!("which tier? quick or release"),
    };
    let fresh = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let seed = arguments.number("--seed").unwrap_or(if is_release { fresh * 100_000_000 } else { 0 });
    let mut tier = Tier { arguments, is_release, seed, parts: Vec::new() };
    // The quick tier asks the disk for nothing that memory does not do: its syncs fail because we say so.
    let quickest = Some(PathBuf::from("/dev/shm")).filter(|memory| !is_release && memory.is_dir());
    let given = arguments.value("--directory").map(PathBuf::from);
    let directory = given.or(quickest).unwrap_or_else(std::env::temp_dir);
    let directory = directory.join(format!("bedstone-reliability-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the directory for files can be made");

    for (name, redb, quick, release) in
        [("simulation", false, 100_000, 10_000_000), ("simulation-redb", true, 5_000, 1_000_000)]
    {
        let points = tier.of(quick, release);
        tier.part(name, format!("{points} crash points"), |tier| lives(tier, redb, points));
    }
    tier.part("mutants", format!("{} of {} noticed", MUTANTS.len(), MUTANTS.len()), mistakes);
    let kills = tier.of(500, 10_000);
    tier.part("kills", format!("{kills} kills"), |_| {
        let summary = simulate::kills(&directory.join("kills"), kills, |directory, seed| {
            let this = std::env::current_exe().expect("this process has a path");
            let mut command = Command::new(this);
            command.arg("child").arg(directory).arg(seed.to_string());
            command
        });
        summary.map(|summary| format!("{summary:?}"))
    });
    let scripts = tier.of(1, 20);
    tier.part("faults", format!("{scripts} scripts"), |tier| {
        let mut points = 0;
        for script in 0..scripts {
            points += simulate::sweep(tier.seed + script, SimDisk::new)?.points;
            // On files it takes minutes, all of them spent in syncs that do not fail.
            if script % 10 > 0 {
                continue;
            }
            points += simulate::sweep(tier.seed + script, |point| {
                let state = directory.join(format!("sweep-{}", point % 2));
                // The state of the point before the last is of no use any more.
                let _ = std::fs::remove_dir_all(&state);
                FileDisk::new(state)
            })?
            .points;
        }
        Ok(format!("{points} points"))
    });
    let logs = tier.of(1, 100);
    tier.part("torn", format!("{logs} logs"), |tier| {
        let tried = (0..logs).map(|log| Ok(simulate::torn_tails(tier.seed + log, 12)?.tried));
        Ok(format!("{} cuts", tried.sum::<Result<u64, String>>()?))
    });
    let bits = u32::try_from(tier.of(1, 8)).expect("a byte has 8 bits");
    tier.part("flips", format!("{bits} bits of each byte"), |tier| {
        let summary = simulate::flips(tier.seed, bits, tier.of(16, 1))?;
        Ok(format!("{summary:?}"))
    });
    let _ = std::fs::remove_dir_all(&directory);
    report(&tier)
}

fn lives(tier: &Tier<'_>, redb: bool, points: u64) -> Result<String, String> {
    let options = Options { redb, long: tier.is_release, ..Options::default() };
    let (mut sum, mut seed) = (Summary::default(), tier.seed);
    while sum.crashes() < points {
        sum.add(&simulate::run(seed, &options).map_err(|violation| violation.to_string())?);
        seed += 1;
    }
    Ok(format!("{} crash points, {} of them in openings", sum.crashes(), sum.crashes_in_openings))
}

fn mistakes(tier: &Tier<'_>) -> Result<String, String> {
    let mut noticed = 0;
    for mutant in MUTANTS.iter().filter(|mutant| mutant.trial != Trial::Catalog) {
        let from = if tier.is_release { tier.seed } else { mutant.seed };
        let found = simulate::search(mutant, from..from + 100_000);
        found.ok_or_else(|| format!("{} is not noticed from seed {from} on", mutant.name))?;
        noticed += 1;
    }
    Ok(format!("{noticed} noticed here, {} by a test of the catalog", MUTANTS.len() - noticed))
}

fn report(tier: &Tier<'_>) -> bool {
    let text = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut json = format!(
        "{{\n  \"tier\": {}, \"seed\": {},\n  \"parts\": [\n",
        text(tier.arguments.0[1].as_str()),
        tier.seed
    );
    for (index, part) in tier.parts.iter().enumerate() {
        let (state, what) = match &part.result {
            Ok(what) if what == "not run" => ("not run", ""),
            Ok(what) => ("met", what.as_str()),
            Err(what) => ("failed", what.as_str()),
        };
        let comma = if index + 1 < tier.parts.len() { "," } else { "" };
        let (name, bar, what) = (text(part.name), text(&part.bar), text(what));
        let seconds = part.seconds;
        let _ = writeln!(
            json,
            "    {{\"name\": {name}, \"bar\": {bar}, \"state\": \"{state}\", \"result\": {what}, \"seconds\": {seconds:.1}}}{comma}"
        );
    }
    json.push_str("  ]\n}\n");
    if let Some(file) = tier.arguments.value("--report") {
        let path = Path::new(file);
        let written =
            path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, &json));
        if let Err(error) = written {
            eprintln!("{file} cannot be written: {error}");
            return false;
        }
    }
    tier.parts.iter().all(|part| part.result.is_ok())
}

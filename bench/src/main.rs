//! `cargo xtask measure`: everything side by side.
//!
//! `--quick` measures all promises in some minutes; without it everything is measured. `--json` prints JSON only. `--only GROUP`
//! measures one group. `--write FILE` puts the report into a document.

use std::path::PathBuf;
use std::process::ExitCode;

use bedstone_bench::figures::Figures;
use bedstone_bench::groups::{self, Effort};
use bedstone_bench::report::{self, Origin};
use bedstone_bench::with_stack;

/// A group and what measures it.
type Group = (&'static str, fn(Effort) -> Figures);

const GROUPS: [Group; 8] = [
    ("accesses", groups::accesses::run),
    ("structures", groups::structures::run),
    ("messages", groups::messages::run),
    ("pages", groups::pages::run),
    ("taxes", groups::taxes::run),
    ("upgrades", groups::upgrades::run),
    ("starts", groups::starts::run),
    ("queries", groups::queries::run),
];

struct Arguments {
    effort: Effort,
    json: bool,
    only: Option<String>,
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn arguments() -> Result<Arguments, String> {
    let mut parsed = Arguments { effort: Effort::Full, json: false, only: None, write: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => parsed.effort = Effort::Quick,
            "--json" => parsed.json = true,
            "--only" => parsed.only = Some(words.next().ok_or("--only needs a group")?),
            "--write" => parsed.write = Some(words.next().ok_or("--write needs a file")?.into()),
            other => {
                return Err(format!("{other} is not an option: --quick, --json, --only GROUP, --write FILE"));
            }
        }
    }
    if let Some(only) = &parsed.only
        && !GROUPS.iter().any(|(name, _)| name == only)
    {
        let names: Vec<&str> = GROUPS.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no group {only}; the groups are {}", names.join(", ")));
    }
    Ok(parsed)
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let mut figures = Figures::default();
    for (name, measure) in GROUPS {
        if arguments.only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let start = std::time::Instant::now();
        let effort = arguments.effort;
        figures.extend(with_stack(move || measure(effort)));
        eprintln!("{name}: measured in {} s", start.elapsed().as_secs());
    }
    let words: Vec<String> = std::env::args().skip(1).take_while(|word| word != "--write").collect();
    let origin = Origin::here(
        ["cargo xtask measure"].into_iter().map(str::to_owned).chain(words).collect::<Vec<_>>().join(" "),
    );
    if let Some(document) = &arguments.write {
        report::write(&figures, &origin, document)?;
    }
    if arguments.json {
        println!("{}", report::json(&figures, &origin));
    } else {
        print!("{}", report::text(&figures));
    }
    Ok(())
}

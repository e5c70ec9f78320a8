//! Runs the store on the simulated disk: `reliability crash --seed N` for one seed, with what led to it, and
//! `reliability sim --seconds N` for many.

use std::time::{Duration, Instant};

use bedstone_store::simulate::{self, Options, Summary, Trial};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str| value(name).map(|text| text.parse::<u64>().expect("a number"));
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    // A panic of the store is a finding, which is printed as one.
    std::panic::set_hook(Box::new(|_| {}));
    let mut options = Options { redb: has("--redb"), long: has("--long"), ..Options::default() };
    options.mutant = value("--mutant").map(|name| &*name.leak());
    match arguments.first().map(String::as_str) {
        Some("crash") => {
            options.trace = true;
            match simulate::run(number("--seed").expect("--seed"), &options) {
                Ok(summary) => println!("{summary:#?}"),
                Err(violation) => {
                    for line in &violation.trace {
                        println!("{line}");
                    }
                    println!("{violation}");
                    std::process::exit(1);
                }
            }
        }
        Some("sim") => {
            let until = Instant::now() + Duration::from_secs(number("--seconds").unwrap_or(10));
            let (mut seed, mut sum, mut failed) = (number("--seed").unwrap_or(0), Summary::default(), 0);
            let began = Instant::now();
            while Instant::now() < until {
                match simulate::run(seed, &options) {
                    Ok(summary) => sum.add(&summary),
                    Err(violation) => {
                        println!("{violation}");
                        failed += 1;
                        if failed == number("--failures").unwrap_or(10) {
                            break;
                        }
                    }
                }
                seed += 1;
            }
            println!("{seed} seeds, {failed} failed: {sum:#?}");
            println!("{:.0} crash points per second", sum.crashes() as f64 / began.elapsed().as_secs_f64());
        }
        Some("mutants") => {
            let seeds = number("--seeds").unwrap_or(20_000);
            for mutant in simulate::MUTANTS.iter().filter(|mutant| mutant.trial != Trial::Catalog) {
                if value("--only").is_some_and(|name| name != mutant.name) {
                    continue;
                }
                let from = if has("--fresh") { number("--seed").unwrap_or(0) } else { mutant.seed };
                match simulate::search(mutant, from..from + seeds) {
                    Some((seed, what)) => println!("{} {} seed {seed}: {what}", mutant.number, mutant.name),
                    None => println!("{} {} NOT NOTICED by {seeds} seeds", mutant.number, mutant.name),
                }
            }
        }
        _ => eprintln!("reliability crash --seed N | sim --seconds N [--redb] [--long] [--mutant NAME]"),
    }
}

//! The quick tier of what is done to the store on the simulated disk and on failing ones.

use crate::FileDisk;
use crate::sim::SimDisk;
use crate::simulate::{self, Options, Summary};

/// Runs seeds from `first` on until there were so many crashes.
fn lives(first: u64, crashes: u64, options: &Options) {
    let mut sum = Summary::default();
    for seed in first.. {
        sum.add(&simulate::run(seed, options).unwrap_or_else(|violation| panic!("{violation}")));
        if sum.crashes() >= crashes {
            break;
        }
    }
    assert!(sum.crashes_in_openings > crashes / 10 && sum.poisoned > crashes / 100, "{sum:?}");
}

// Two halves, for two cores.
#[test]
fn lives_on_the_simulated_disk_keep_every_promise() {
    lives(0, 50_000, &Options::default());
}

#[test]
fn more_lives_on_the_simulated_disk_keep_every_promise() {
    lives(1_000_000, 50_000, &Options { long: true, ..Options::default() });
}

#[test]
fn lives_on_the_catalog_in_use_keep_every_promise() {
    lives(0, 5_000, &Options { redb: true, ..Options::default() });
}

#[test]
fn every_operation_may_fail_on_the_simulated_disk() {
    let summary = simulate::sweep(1, SimDisk::new).unwrap();
    println!("{summary:?}");
    assert!(summary.points > 500 && summary.poisoned > 100 && summary.survived > 10, "{summary:?}");
}

/// A directory on the quickest file system there is: for what no power cut is in.
fn quick_directory(name: &str) -> std::path::PathBuf {
    let memory = std::path::Path::new("/dev/shm");
    let directory = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let directory = directory.join(format!("bedstone-store-{name}-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    directory
}

#[test]
fn every_operation_may_fail_on_files() {
    let directory = quick_directory("sweep");
    let summary = simulate::sweep(2, |point| FileDisk::new(directory.join(point.to_string())));
    std::fs::remove_dir_all(&directory).unwrap();
    let summary = summary.unwrap();
    println!("{summary:?}");
    assert!(summary.points > 500, "{summary:?}");
}

#[test]
fn flipped_bits_are_named_or_harmless() {
    let summary = simulate::flips(1, 1, 16).unwrap();
    println!("{summary:?}");
    assert!(summary.refused > 1000 && summary.named > 10, "{summary:?}");
}

#[test]
fn a_torn_log_ends_where_it_was_torn() {
    let summary = simulate::torn_tails(1, 12).unwrap();
    println!("{summary:?}");
    assert!(summary.tried > 30 && summary.refused > 10, "{summary:?}");
}

#[test]
fn a_record_of_another_life_is_not_believed() {
    (0..10).for_each(|seed| simulate::stale_record(seed).unwrap());
}

#[test]
fn every_mistake_is_noticed_by_its_seed() {
    for mutant in simulate::MUTANTS.iter().filter(|mutant| mutant.trial != simulate::Trial::Catalog) {
        // A change of what the seeds do moves them a little: `reliability mutants` finds new ones.
        let found = simulate::search(mutant, mutant.seed..mutant.seed + 20);
        assert!(found.is_some(), "{} is not noticed by seed {}", mutant.name, mutant.seed);
    }
}

/// A mistake that no trial looks for proves nothing.
#[test]
fn no_mistake_is_forgotten() {
    let mut dirs = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut names = std::collections::BTreeSet::new();
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let uses = text.split("mutant!(").skip(1).filter_map(|rest| rest.split_once(')'));
            let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
            names.extend(uses.map(|(name, _)| name).filter(is_name).map(String::from));
        }
    }
    let mut known: std::collections::BTreeSet<String> =
        simulate::MUTANTS.iter().map(|mutant| mutant.name.to_string()).collect();
    // Noticed by the tests of the engine, which maps.
    known.insert("MAPPED_BEFORE_APPLIED".to_owned());
    assert_eq!(names, known);
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..30 {
        let once = simulate::run(seed, &Options::default()).unwrap();
        assert_eq!(simulate::run(seed, &Options::default()).unwrap(), once, "seed {seed}");
    }
}

/// Named by the parent for its child.
const CHILD: &str = "BEDSTONE_STORE_TEST_CHILD";

#[test]
fn killed_processes_lose_nothing() {
    let directory = quick_directory("kills");
    let summary = simulate::kills(&directory.join("state"), 500, |directory, seed| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tests::simulation::child_of_kills", "--nocapture"]);
        command.env(CHILD, format!("{seed} {}", directory.display()));
        command
    });
    std::fs::remove_dir_all(&directory).unwrap();
    let summary = summary.unwrap();
    println!("{summary:?}");
    assert!(summary.kills == 500 && summary.acknowledged > 5_000, "{summary:?}");
}

/// Commits until it is killed, if it was started to do that.
#[test]
fn child_of_kills() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    let (seed, directory) = arguments.split_once(' ').unwrap();
    simulate::child(std::path::Path::new(directory), seed.parse().unwrap()).unwrap();
}

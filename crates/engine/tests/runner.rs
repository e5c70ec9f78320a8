//! The engine's tests, one binary. Wasm needs a large stack, so each test runs on one of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cache;
mod canisters;
mod compilers;
mod contexts;
mod counts;
mod durable;
mod faults;
mod features;
mod home;
mod lockstep;
mod machine;
mod persistence;
mod rollback;
mod several;
mod several_kept;
mod several_memories;
mod snapshots;
mod stable_edges;
mod stops;
mod support;
mod tracker;
mod twins;
mod upgrades;
mod uploads;

#[test]
fn no_test_file_is_forgotten() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let runner = include_str!("runner.rs");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "runner") {
            assert!(runner.contains(&format!("mod {module};")), "tests/{name} is not part of the runner");
        }
    }
}

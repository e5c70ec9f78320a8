//! The command's tests, one binary: they run `bedstone` as a person does. The house rules are checked here too, so that
//! `cargo test` is the whole truth.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bad_input;
mod compile_cache;
mod damage;
mod doctor;
mod golden;
mod measurements;
mod round_trip;
mod snapshots;
mod support;
mod tidy;

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

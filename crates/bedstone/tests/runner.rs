//! The tests of the library's face, in one binary. Each file in this folder is a module here.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod beside;
mod caches;
mod calls;
mod durability;
mod ends;
mod flight;
mod forks;
mod hooks;
mod languages;
mod management;
mod management_calls;
mod management_code;
mod management_kept;
mod management_settings;
mod management_snapshots;
mod scale;
mod scripted;
mod snapshots;
mod support;

#[test]
fn every_file_is_listed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "runner") else { continue };
        let listed = include_str!("runner.rs").lines().any(|line| line == format!("mod {module};"));
        assert!(listed, "{name} is not listed in runner.rs");
    }
}

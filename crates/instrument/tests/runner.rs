//! The tests of this crate, in one binary. Each file in this folder is a module here.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod costs;
mod golden;
mod hostile;
mod room;
mod system_api;
mod validation;

#[test]
fn every_file_is_listed() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_test = path.extension().is_some_and(|extension| extension == "rs") && name != "runner";
        let listed = include_str!("runner.rs").lines().any(|line| line == format!("mod {name};"));
        assert!(!is_test || listed, "{} is not listed in runner.rs", path.display());
    }
}

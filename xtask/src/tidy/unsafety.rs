//! Where `unsafe` may stand: in `crates/engine/src/sys`, and nowhere else.
//!
//! - The root file of every crate but the engine forbids it, so that no attribute further down can allow it again.
//! - Within `sys` one attribute allows it, in `mod.rs`, with its reason.
//! - Sample canisters are compiled to Wasm and run inside the sandbox; they are not ours to forbid.

use super::{Finding, Place, RustFile};

const SYS: &str = "crates/engine/src/sys/";
const SYS_ROOT: &str = "crates/engine/src/sys/mod.rs";
const ENGINE_ROOT: &str = "crates/engine/src/lib.rs";

pub fn check(files: &[RustFile<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.place.is_ours()) {
        check_word(file, &mut findings);
        check_lint(file, &mut findings);
        check_root(file, &mut findings);
    }
    let sys_root = files.iter().find(|file| file.path == SYS_ROOT);
    if let Some(file) = sys_root
        && !compact(file.source.code()).contains("#![allow(unsafe_code,reason=\"")
    {
        findings.push(Finding::new(
            file.path,
            None,
            "it is the one place to say `#![allow(unsafe_code, reason = …)]`",
        ));
    }
    findings
}

fn check_word(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    if file.path.starts_with(SYS) {
        return;
    }
    for at in file.source.words("unsafe") {
        let message = format!("unsafe code lives in {SYS} alone");
        findings.push(Finding::new(file.path, file.source.line(at), message));
    }
}

/// The lint may be tightened anywhere, loosened in one file.
fn check_lint(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    if file.path == SYS_ROOT {
        return;
    }
    for at in file.source.words("unsafe_code") {
        let before = file.source.code()[..at].trim_end();
        if !before.ends_with("forbid(") && !before.ends_with("deny(") {
            let message = format!("only {SYS_ROOT} loosens the lint `unsafe_code`");
            findings.push(Finding::new(file.path, file.source.line(at), message));
        }
    }
}

fn check_root(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    let is_root = file.place == Place::Shipped
        && matches!(file.path.rsplit_once("/src/"), Some((_, "lib.rs" | "main.rs")))
        && file.path != ENGINE_ROOT;
    if is_root && !compact(file.source.code()).contains("#![forbid(unsafe_code)]") {
        findings.push(Finding::new(file.path, None, "a crate's root says `#![forbid(unsafe_code)]`"));
    }
}

fn compact(code: &str) -> String {
    code.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{accepts, findings, finds};

    #[test]
    fn the_word_is_found_outside_sys_only() {
        let text = "//! It is unsafe.\n\nfn f() {\n    unsafe { g(\"unsafe\") }\n}\n";
        finds("crates/engine/src/memory.rs", text, 4, "unsafe code lives in");
        finds("crates/store/tests/runner.rs", text, 4, "unsafe code lives in");
        finds("bench/src/copy.rs", text, 4, "unsafe code lives in");
        accepts("crates/engine/src/sys/mapping.rs", text);
        accepts("canisters/sample/src/lib.rs", text);
    }

    #[test]
    fn attributes_and_functions_count_as_the_word() {
        finds("crates/store/src/page.rs", "//! Pages.\n#[unsafe(no_mangle)]\nfn f() {}\n", 2, "unsafe code");
        finds("crates/store/src/page.rs", "//! Pages.\nunsafe fn f() {}\n", 2, "unsafe code");
    }

    #[test]
    fn roots_forbid_it_except_the_engine_s() {
        let bare = "//! A crate.\n";
        for path in ["crates/store/src/lib.rs", "crates/cli/src/main.rs", "xtask/src/lib.rs"] {
            let found = findings(&[(path, bare)]);
            assert!(found.len() == 1 && found[0].contains("#![forbid(unsafe_code)]"), "{found:?}");
            accepts(path, "//! A crate.\n#![forbid( unsafe_code )]\n");
            let comment = findings(&[(path, "//! A crate: #![forbid(unsafe_code)]\n")]);
            assert_eq!(comment.len(), 1, "a comment forbids nothing");
        }
        accepts("crates/engine/src/lib.rs", bare);
    }

    #[test]
    fn the_lint_is_loosened_in_one_file_with_a_reason() {
        let loose = "//! Mappings.\n#![allow(unsafe_code, reason = \"the kernel is not Rust\")]\n";
        finds("crates/engine/src/sys/mapping.rs", loose, 2, "only crates/engine/src/sys/mod.rs loosens");
        finds("crates/engine/src/commit.rs", loose, 2, "only crates/engine/src/sys/mod.rs loosens");
        accepts("crates/engine/src/sys/mod.rs", loose);
        let found = findings(&[("crates/engine/src/sys/mod.rs", "//! All of it.\n#![allow(unsafe_code)]\n")]);
        assert!(found.len() == 1 && found[0].contains("the one place to say"), "{found:?}");
    }
}

//! What a Rust file must say and must not say.

use super::{Finding, Place, RustFile};

/// Macros that mark unfinished work or left-over debugging.
const MACROS: &[(&str, &str)] = &[
    ("todo", "unfinished work stands in an issue, not in the code"),
    ("unimplemented", "what is not built yet is refused by name, as a value"),
    ("dbg", "left over from debugging"),
];

/// Crates that get time and surroundings handed to them, so that the same inputs give the same outcome.
const DETERMINISTIC: &[&str] = &["crates/instrument/src/", "crates/engine/src/", "crates/subnet/src/"];
const SURROUNDINGS: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "env::var",
    "env::var_os",
    "env::vars",
    "env::args",
    "env::current_dir",
];

pub fn check(files: &[RustFile<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        check_macros(file, &mut findings);
        check_ignored_tests(file, &mut findings);
        if file.place == Place::Shipped {
            check_module_docs(file, &mut findings);
            check_unwrap(file, &mut findings);
        }
        if DETERMINISTIC.iter().any(|start| file.path.starts_with(start)) {
            check_surroundings(file, &mut findings);
        }
    }
    findings
}

fn check_module_docs(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    if !file.text.starts_with("//!") {
        let message = "a module opens with `//!`: what it owns, then its invariants";
        findings.push(Finding::new(file.path, 1, message));
    }
}

fn check_macros(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    for (name, why) in MACROS {
        for at in file.source.words(name) {
            let after = &file.source.code()[at + name.len()..];
            if after.starts_with('!') && !after.starts_with("!=") {
                findings.push(Finding::new(file.path, file.source.line(at), format!("`{name}!`: {why}")));
            }
        }
    }
}

fn check_ignored_tests(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    let code = file.source.code();
    for at in file.source.words("ignore") {
        let attribute =
            code[..at].rfind("#[").map(|open| code[open..at].split_whitespace().collect::<String>());
        let ignores = attribute.is_some_and(|attribute| {
            attribute == "#[" || (attribute.starts_with("#[cfg_attr(") && !attribute.contains(']'))
        });
        if ignores {
            let message = "an ignored test tests nothing: make it quick, or make it an xtask";
            findings.push(Finding::new(file.path, file.source.line(at), message));
        }
    }
}

fn check_unwrap(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    for at in file.source.words("unwrap") {
        let code = file.source.code();
        let is_call = code[..at].ends_with('.') && code[at..].starts_with("unwrap()");
        if is_call && !file.is_test(at) {
            let message =
                "`.unwrap()` outside tests: return the error, or `expect` the reason it cannot happen";
            findings.push(Finding::new(file.path, file.source.line(at), message));
        }
    }
}

fn check_surroundings(file: &RustFile<'_>, findings: &mut Vec<Finding>) {
    for word in SURROUNDINGS {
        for at in file.source.words(word) {
            if !file.is_test(at) {
                let message = format!("`{word}`: this crate is given clocks and surroundings, it never asks");
                findings.push(Finding::new(file.path, file.source.line(at), message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{accepts, finds};

    const PATH: &str = "crates/store/src/page.rs";

    #[test]
    fn a_module_opens_with_its_docs() {
        finds(PATH, "use std::io;\n", 1, "opens with `//!`");
        finds("xtask/src/ci.rs", "// Not docs.\n", 1, "opens with `//!`");
        accepts(PATH, "//! Pages.\n\nuse std::io;\n");
        accepts("crates/store/tests/runner.rs", "use std::io;\n");
    }

    #[test]
    fn unfinished_work_and_debugging_are_found_even_in_tests() {
        for name in ["todo", "unimplemented", "dbg"] {
            let text = format!("//! Pages.\nfn f() {{\n    {name}!(1);\n}}\n");
            finds(PATH, &text, 3, &format!("`{name}!`"));
            finds("crates/store/tests/runner.rs", &text, 3, &format!("`{name}!`"));
            finds("canisters/sample/src/lib.rs", &text, 3, &format!("`{name}!`"));
        }
        accepts(PATH, "//! No todo!() here.\nfn f() {\n    let todo = todo != \"dbg!\";\n}\n");
    }

    #[test]
    fn ignored_tests_are_found() {
        for attribute in ["ignore", "ignore = \"slow\"", "cfg_attr(miri, ignore)"] {
            let text = format!("//! Pages.\n#[test]\n#[{attribute}]\nfn f() {{}}\n");
            finds(PATH, &text, 3, "an ignored test");
        }
        accepts(PATH, "//! Pages.\n#[test]\nfn f() {\n    let ignore = 1;\n    g(ignore);\n}\n");
    }

    #[test]
    fn unwrap_is_for_tests() {
        finds(PATH, "//! Pages.\nfn f() {\n    g().unwrap();\n}\n", 3, "`.unwrap()` outside tests");
        accepts(
            PATH,
            "//! Pages.\n#[cfg(test)]\nmod tests {\n    fn f() {\n        g().unwrap();\n    }\n}\n",
        );
        accepts(PATH, "//! Pages.\nfn f() {\n    g().unwrap_or(\".unwrap()\"); // .unwrap()\n}\n");
        accepts("crates/store/tests/runner.rs", "fn f() {\n    g().unwrap();\n}\n");
    }

    #[test]
    fn deterministic_crates_do_not_ask_the_surroundings() {
        let text = "//! Time.\nfn f() -> u64 {\n    g(std::time::Instant::now())\n}\n";
        finds("crates/engine/src/execute.rs", text, 3, "`Instant::now`");
        finds(
            "crates/subnet/src/time.rs",
            "//! Time.\nfn f() {\n    std::env::var(\"A\");\n}\n",
            3,
            "`env::var`",
        );
        accepts("crates/bedstone/src/time.rs", text);
        accepts("crates/engine/tests/runner.rs", text);
    }
}

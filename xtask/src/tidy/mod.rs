//! What the compiler, clippy and rustfmt cannot see about this workspace.
//!
//! - [`check`] is the whole of it; it runs inside `cargo test` and as `cargo xtask tidy`.
//! - A rule is a function from a [`Tree`] to findings; each has a test in which it fails on a made-up tree. Whether the
//!   prebuilt canisters are up to date is for [`canisters`](crate::canisters) to say.
//! - Sizes are ratchets: what is large today stands in [`allowances`] with its size and may shrink, not grow.
//! - The formatting of code is `cargo fmt --check`'s business, not this one's.

pub mod allowances;
mod format;
mod links;
mod manifests;
mod rust;
mod sizes;
mod source;
mod text;
mod tree;
mod unsafety;

use std::fmt;
use std::path::Path;

pub use allowances::Allowances;
pub use tree::Tree;

use source::Source;

/// One thing to put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the root.
    pub path: String,
    /// The line, from 1, where one can be named.
    pub line: Option<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Finding {
    fn new(path: &str, line: impl Into<Option<usize>>, message: impl Into<String>) -> Finding {
        Finding { path: path.to_owned(), line: line.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Checks the checkout at `root` against every rule; empty means tidy.
pub fn check(root: &Path) -> Vec<Finding> {
    let tree = match Tree::read(root) {
        Ok(tree) => tree,
        Err(error) => return vec![Finding::new(".", None, error.to_string())],
    };
    let mut findings = check_tree(&tree, &Allowances::OURS);
    if let Err(message) = crate::canisters::check(root) {
        findings.push(Finding::new("canisters/prebuilt", None, message));
    }
    findings
}

/// Checks a tree of text files against every rule that needs no more than text.
pub fn check_tree(tree: &Tree, allowances: &Allowances<'_>) -> Vec<Finding> {
    let sources = rust_files(tree);
    let mut findings = manifests::check(tree);
    findings.extend(unsafety::check(&sources));
    findings.extend(rust::check(&sources));
    findings.extend(sizes::check(&sources, allowances));
    findings.extend(text::check(tree, &sources));
    findings.extend(format::check(tree));
    findings.extend(links::check(tree));
    findings.sort_by(|a, b| (&a.path, a.line, &a.message).cmp(&(&b.path, b.line, &b.message)));
    findings
}

/// A report to print: one finding a line, then their number.
pub fn report(findings: &[Finding]) -> String {
    let mut lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    let noun = if findings.len() == 1 { "finding" } else { "findings" };
    lines.push(format!("{} {noun}", findings.len()));
    lines.join("\n")
}

/// A Rust file of the tree with what the rules ask about it.
struct RustFile<'a> {
    path: &'a str,
    text: &'a str,
    source: Source,
    place: Place,
    /// The file as a whole is test code: under a `tests` directory, or a module declared `#[cfg(test)]`.
    all_test: bool,
}

impl RustFile<'_> {
    fn is_test(&self, offset: usize) -> bool {
        self.all_test || self.source.is_test(offset)
    }
}

/// Where a Rust file lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// `crates/*/src` and `xtask/src`: what is shipped or run.
    Shipped,
    /// Tests, benches, examples and fuzzers of ours.
    Around,
    /// Sample and test canisters: compiled to Wasm, outside the workspace.
    Canister,
}

impl Place {
    fn of(path: &str) -> Place {
        let mut parts = path.split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("canisters"), ..) => Place::Canister,
            (Some("crates"), Some(_), Some("src")) | (Some("xtask"), Some("src"), _) => Place::Shipped,
            _ => Place::Around,
        }
    }

    fn is_ours(self) -> bool {
        self != Place::Canister
    }
}

fn rust_files(tree: &Tree) -> Vec<RustFile<'_>> {
    let mut files: Vec<RustFile<'_>> = tree
        .files()
        .filter(|(path, _)| path.ends_with(".rs"))
        .map(|(path, text)| RustFile {
            path,
            text,
            source: Source::of(text),
            place: Place::of(path),
            all_test: path.split('/').any(|part| part == "tests"),
        })
        .collect();

    let test_modules: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let directory = module_directory(file.path);
            file.source.test_modules().iter().map(move |name| format!("{directory}{name}"))
        })
        .collect();
    for file in &mut files {
        let path = file.path;
        file.all_test |= test_modules.iter().any(|module| {
            path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        });
    }
    files
}

/// Where the files of modules declared in `path` live, with a `/` at the end.
fn module_directory(path: &str) -> String {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => format!("{directory}/"),
        _ => format!("{directory}/{}/", name.trim_end_matches(".rs")),
    }
}

#[cfg(test)]
mod testing {
    //! What the rules' tests share.

    use super::*;

    /// The findings of every rule on a made-up tree, as text.
    pub fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let none = Allowances { files: &[], functions: &[] };
        check_tree(&Tree::of(files), &none).iter().map(Finding::to_string).collect()
    }

    /// Asserts that a tree of one file yields exactly one finding, at `line`, whose message contains `message`.
    pub fn finds(path: &str, text: &str, line: usize, message: &str) {
        let found = findings(&[(path, text)]);
        let start = format!("{path}:{line}: ");
        assert!(
            found.len() == 1 && found[0].starts_with(&start) && found[0].contains(message),
            "wanted one finding at {start}with {message:?}, got {found:#?}\nin:\n{text}"
        );
    }

    /// Asserts that a tree of one file is tidy.
    pub fn accepts(path: &str, text: &str) {
        assert_eq!(findings(&[(path, text)]), Vec::<String>::new(), "in:\n{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_declared_for_tests_is_test_code_with_all_below_it() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "#[cfg(test)]\nmod testing;\nmod shipped;\n"),
            ("crates/a/src/testing.rs", ""),
            ("crates/a/src/testing/deep.rs", ""),
            ("crates/a/src/testing_more.rs", ""),
            ("crates/a/src/shipped.rs", "#[cfg(test)]\nmod check;\n"),
            ("crates/a/src/shipped/check.rs", ""),
            ("crates/a/tests/runner.rs", ""),
        ]);
        let tests: Vec<&str> =
            rust_files(&tree).iter().filter(|file| file.all_test).map(|file| file.path).collect();
        assert_eq!(
            tests,
            [
                "crates/a/src/shipped/check.rs",
                "crates/a/src/testing.rs",
                "crates/a/src/testing/deep.rs",
                "crates/a/tests/runner.rs"
            ]
        );
    }

    #[test]
    fn a_checkout_without_its_prebuilt_canisters_is_found() {
        let root = std::env::temp_dir().join(format!("bedstone-tidy-check-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        let found = check(&root);
        std::fs::remove_dir_all(&root).unwrap();
        assert!(found.len() == 1 && found[0].path == "canisters/prebuilt", "{found:?}");
    }

    #[test]
    fn findings_are_ordered_and_counted() {
        let found = check_tree(
            &Tree::of(&[("b.md", "x \ny\t \n"), ("a.md", "no end")]),
            &Allowances { files: &[], functions: &[] },
        );
        let report = report(&found);
        let lines: Vec<&str> = report.lines().collect();
        assert!(lines[0].starts_with("a.md:1: "), "{report}");
        assert!(lines[1].starts_with("b.md:1: "), "{report}");
        assert!(lines[2].starts_with("b.md:2: "), "{report}");
        assert_eq!(lines[3..], ["3 findings"]);
    }
}

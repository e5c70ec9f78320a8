//! Rules for every text file: white space at the edges, and no traces of the machine it was written on.

use super::source::line_of;
use super::{Finding, RustFile, Tree};

/// First directories of paths that exist on somebody's machine only.
const MACHINE_DIRECTORIES: &[&str] = &["home", "root", "tmp", "work", "Users"];

/// Written by tools; their white space is the tool's own.
const GENERATED: &[&str] = &["Cargo.lock", "package-lock.json", ".svg"];
const GENERATED_DIRECTORY: &str = "canisters/prebuilt/";

pub fn check(tree: &Tree, sources: &[RustFile<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files() {
        let generated =
            path.starts_with(GENERATED_DIRECTORY) || GENERATED.iter().any(|end| path.ends_with(end));
        if !generated {
            check_white_space(path, text, &mut findings);
        }
        let source = sources.iter().find(|file| file.path == path);
        check_machine_paths(path, text, source, &mut findings);
    }
    findings
}

fn check_white_space(path: &str, text: &str, findings: &mut Vec<Finding>) {
    for (index, line) in text.split('\n').enumerate() {
        if line.ends_with(char::is_whitespace) {
            findings.push(Finding::new(path, index + 1, "white space at the end of the line"));
        }
        if path.ends_with(".rs") && line.contains('\t') {
            findings.push(Finding::new(path, index + 1, "a tab; write `\\t` in a string, spaces elsewhere"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(Finding::new(path, text.lines().count(), "no newline at the end of the file"));
    } else if text.ends_with("\n\n") {
        findings.push(Finding::new(path, text.lines().count(), "empty lines at the end of the file"));
    }
}

fn check_machine_paths(path: &str, text: &str, source: Option<&RustFile<'_>>, findings: &mut Vec<Finding>) {
    for directory in MACHINE_DIRECTORIES {
        for (at, found) in text.match_indices(&format!("/{directory}/")) {
            let absolute = !text[..at].ends_with(|before: char| {
                before.is_alphanumeric() || matches!(before, '.' | '_' | '-' | '}' | ')' | '>' | '*' | '~')
            });
            let tested = source.is_some_and(|file| file.source.is_literal(at) && file.is_test(at));
            if absolute && !tested {
                let message =
                    format!("`{found}`: a path of one machine; temporary files come from the system");
                findings.push(Finding::new(path, line_of(text, at), message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{accepts, findings, finds};

    #[test]
    fn white_space_at_the_edges_is_found() {
        finds("a.md", "one\ntwo  \nthree\n", 2, "white space at the end");
        finds("a.md", "one\r\ntwo\n", 1, "white space at the end");
        finds("a.md", "one\ntwo", 2, "no newline at the end");
        finds("a.md", "one\n\n", 2, "empty lines at the end");
        accepts("a.md", "one\n\n\ttwo\n");
        accepts("empty.md", "");
    }

    #[test]
    fn tabs_are_found_in_rust() {
        finds("crates/store/src/page.rs", "//! Pages.\n\tfn f() {}\n", 2, "a tab");
        accepts("Makefile", "a:\n\tb\n");
    }

    #[test]
    fn generated_files_keep_their_white_space() {
        accepts("canisters/prebuilt/a.did", "service : {} ");
        accepts("docs/graph.svg", "<svg/>");
    }

    #[test]
    fn machine_paths_are_found() {
        for directory in ["home", "root", "tmp", "work", "Users"] {
            let text = format!("first\nsee `/{directory}/a`\n");
            finds("docs/a.md", &text, 2, &format!("`/{directory}/`"));
        }
        let code = "//! Pages.\nconst A: &str = \"/tmp/a\";\n";
        finds("crates/store/src/page.rs", code, 2, "a path of one machine");
        finds("canisters/prebuilt/a.did", "// /tmp/a\n", 1, "a path of one machine");
    }

    #[test]
    fn relative_paths_addresses_and_test_literals_are_not() {
        accepts("docs/a.md", "src/tmp/a ../work/b https://example.org/home/c $ROOT/work/d\n");
        accepts(
            "crates/store/src/page.rs",
            "//! Pages.\n#[cfg(test)]\nmod tests {\n    const A: &str = \"/tmp/a\";\n}\n",
        );
        let comment = "//! Pages.\n#[cfg(test)]\nmod tests {\n    // /tmp/a\n}\n";
        assert_eq!(findings(&[("crates/store/src/page.rs", comment)]).len(), 1);
    }
}

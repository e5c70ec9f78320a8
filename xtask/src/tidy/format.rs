//! The description of the store's files follows the code that writes them.
//!
//! - `docs/store-format.md` holds the hash of each file of code that it describes. Code that changes without the
//!   document fails here, whether or not bytes on disk changed: only a reader can tell.
//! - A tree without the store has nothing to describe.

use sha2::{Digest, Sha256};

use super::{Finding, Tree};

const DOCUMENT: &str = "docs/store-format.md";

/// The code that knows the layout of bytes on disk.
const DESCRIBED: &[&str] = &[
    "crates/store/src/catalog/redb.rs",
    "crates/store/src/files.rs",
    "crates/store/src/format.rs",
    "crates/store/src/record.rs",
    "crates/store/src/segment.rs",
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let text = |path: &str| tree.files().find(|(file, _)| *file == path).map(|(_, text)| text);
    let described: Vec<_> =
        DESCRIBED.iter().filter_map(|path| text(path).map(|code| (*path, code))).collect();
    if described.is_empty() {
        return Vec::new();
    }
    let Some(document) = text(DOCUMENT) else {
        return vec![Finding::new(
            DOCUMENT,
            None,
            "it is missing; it describes the store's files to the byte",
        )];
    };
    let mut findings = Vec::new();
    for (path, code) in described {
        let hash: String = Sha256::digest(code).iter().map(|byte| format!("{byte:02x}")).collect();
        let row = format!("| `{path}` | `{hash}` |");
        if !document.lines().any(|line| line == row) {
            let start = format!("| `{path}` |");
            let line = document.lines().position(|line| line.starts_with(&start)).map(|line| line + 1);
            let message = format!("{path} changed: see that the description is right, then record `{row}`");
            findings.push(Finding::new(DOCUMENT, line, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::testing::findings;

    const CODE: &str = "crates/store/src/format.rs";
    const TEXT: &str = "//! A file of code.\n";

    fn with_document(document: &str) -> Vec<String> {
        findings(&[(CODE, TEXT), ("docs/store-format.md", document)])
    }

    #[test]
    fn code_that_changed_without_its_description_is_found() {
        let missing = findings(&[(CODE, TEXT)]);
        assert!(missing.len() == 1 && missing[0].contains("it is missing"), "{missing:?}");
        let found = with_document("# Files\n");
        assert!(
            found.len() == 1 && found[0].contains("record `| `crates/store/src/format.rs` | `"),
            "{found:?}"
        );
        let row = found[0].split("record `").nth(1).unwrap().strip_suffix('`').unwrap();
        assert_eq!(with_document(&format!("# Files\n{row}\n")), Vec::<String>::new());

        let stale = format!("# Files\n{}\n", row.replace(&row[40..50], "0000000000"));
        let found = with_document(&stale);
        assert!(found.len() == 1 && found[0].starts_with("docs/store-format.md:2: "), "{found:?}");
    }
}

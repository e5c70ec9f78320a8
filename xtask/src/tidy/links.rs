//! Links between documents lead somewhere.
//!
//! - Relative links in Markdown only: what stands on other people's servers is not checked, tests have no network.
//! - Code, in fences or in line, holds no links.

use super::{Finding, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.ends_with(".md")) {
        let mut in_fence = false;
        for (index, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_fence = !in_fence;
            } else if !in_fence {
                for target in targets(line) {
                    if !resolve(path, target).is_some_and(|file| tree.has(&file)) {
                        let message = format!("the link to `{target}` leads nowhere");
                        findings.push(Finding::new(path, index + 1, message));
                    }
                }
            }
        }
    }
    findings
}

/// Targets of the relative links in a line, without anchors.
fn targets(line: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("](") {
        let is_code = rest[..at].matches('`').count() % 2 == 1;
        let inside = &rest[at + 2..];
        let end = inside.find(')').unwrap_or(inside.len());
        let target = inside[..end].split(['#', ' ']).next().unwrap_or_default();
        if !is_code && !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
            targets.push(target);
        }
        rest = &inside[end..];
    }
    targets
}

/// The path from the root of what `target` names in the document `path`; `None` if it leaves the checkout.
fn resolve(path: &str, target: &str) -> Option<String> {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::findings;

    fn in_document(text: &str) -> Vec<String> {
        findings(&[
            ("docs/a.md", text),
            ("docs/b.md", "b\n"),
            ("LICENSE", "free\n"),
            ("docs/decisions/0001-a.md", "a\n"),
        ])
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        for target in ["c.md", "../b.md", "../../LICENSE", "decisions/0002-b.md", "decision"] {
            let found = in_document(&format!("first\nsee [it]({target}#part)\n"));
            assert!(
                found.len() == 1
                    && found[0].starts_with("docs/a.md:2: ")
                    && found[0].contains("leads nowhere"),
                "{target}: {found:?}"
            );
        }
        assert_eq!(in_document("[one](b.md) and [two](c.md) and [three](d.md)\n").len(), 2);
    }

    #[test]
    fn links_that_lead_somewhere_or_elsewhere_are_not() {
        let text = "[a](b.md) [b](../LICENSE) [c](decisions) [d](decisions/0001-a.md#why) [e](#part)\n\
                    [f](https://example.org/x) `[g](no.md)`\n```\n[h](no.md)\n```\n";
        assert_eq!(in_document(text), Vec::<String>::new());
    }
}

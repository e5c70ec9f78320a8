//! The text files of a checkout, by their path from its root.
//!
//! - Paths use `/` and are relative, so that rules and findings read the same on every machine.
//! - Rules see a [`Tree`], never the disk: a made-up tree is as good as a real one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// Directories that hold what was built or fetched, not what was written.
const SKIPPED: &[&str] = &["target", "node_modules", ".git", ".bedstone"];

/// Every file of a checkout: the path of each, the text of those that are text.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    /// Reads the files under `root` that git tracks or would track, or all of them where there is no git.
    pub fn read(root: &Path) -> io::Result<Tree> {
        let mut paths = match listed_by_git(root) {
            Some(paths) => paths,
            None => {
                let mut paths = Vec::new();
                walk(root, "", &mut paths)?;
                paths
            }
        };
        paths.sort();

        let mut files = BTreeMap::new();
        for path in paths {
            let full = root.join(&path);
            // A tracked file may be deleted in the working tree; a symbolic link has no text of its own.
            let Ok(metadata) = fs::symlink_metadata(&full) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let bytes = fs::read(&full)
                .map_err(|error| io::Error::new(error.kind(), format!("cannot read {path}: {error}")))?;
            let text = if bytes.contains(&0) { None } else { String::from_utf8(bytes).ok() };
            files.insert(path, text);
        }
        Ok(Tree { files })
    }

    /// A tree from paths and texts.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned())));
        Tree { files: files.collect() }
    }

    /// All text files, ordered by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|(path, text)| Some((path.as_str(), text.as_deref()?)))
    }

    /// Whether `path` is a file, of text or not, or a directory with a file below it.
    pub fn has(&self, path: &str) -> bool {
        let below = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.range(below.clone()..).next().is_some_and(|(file, _)| file.starts_with(&below))
    }
}

/// What git lists, untracked files included: they are about to be tracked. `None` where `root` is not the root of a
/// checkout or git cannot be asked.
fn listed_by_git(root: &Path) -> Option<Vec<String>> {
    if !root.join(".git").exists() {
        return None;
    }
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let listed = String::from_utf8(output.stdout).ok()?;
    Some(listed.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn walk(root: &Path, directory: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(directory))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_file() {
            paths.push(path);
        } else if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            walk(root, &path, paths)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_text_below_the_root_and_skips_what_was_built() {
        let root = std::env::temp_dir().join(format!("bedstone-tidy-tree-{}", std::process::id()));
        for directory in ["crates/a/src", "target/debug", "canisters/node_modules"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::write(root.join("crates/a/src/lib.rs"), "//! A.\n").unwrap();
        fs::write(root.join("target/debug/a.rs"), "built").unwrap();
        fs::write(root.join("canisters/node_modules/b.js"), "fetched").unwrap();
        fs::write(root.join("canisters/c.wasm"), b"\0asm").unwrap();

        let tree = Tree::read(&root);
        fs::remove_dir_all(&root).unwrap();

        let tree = tree.unwrap();
        assert_eq!(tree.files().collect::<Vec<_>>(), [("crates/a/src/lib.rs", "//! A.\n")]);
        for (path, has) in [
            ("canisters/c.wasm", true),
            ("crates/a", true),
            ("crates/a/src/lib.rs", true),
            ("crates/a/src/lib", false),
            ("target/debug/a.rs", false),
        ] {
            assert_eq!(tree.has(path), has, "{path}");
        }
    }
}

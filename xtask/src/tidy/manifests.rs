//! Who may import whom, and what comes from outside.
//!
//! - The direction of imports is [`MAY_IMPORT`]; `ARCHITECTURE.md` says it in words. A new line in it, like a new
//!   dependency that changes what the project is, comes with a note in `docs/decisions/`.
//! - Tests may import whatever is below their crate.
//! - The manifests of sample canisters are not ours in this sense: they show what canisters use.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::source::line_of;
use super::{Finding, Tree};

/// Each crate with the crates it may import, and nothing else. From the top down.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("bedstone-cli", &["bedstone-server", "bedstone", "bedstone-instrument", "bedstone-store"]),
    ("bedstone-server", &["bedstone"]),
    ("bedstone", &["bedstone-subnet"]),
    ("bedstone-subnet", &["bedstone-engine"]),
    ("bedstone-engine", &["bedstone-instrument", "bedstone-store"]),
    ("bedstone-instrument", &[]),
    ("bedstone-store", &[]),
    ("xtask", &[]),
];

/// Tests that run the chores, so that `cargo test` is the whole truth.
const TESTED_WITH_XTASK: &str = "bedstone-cli";

/// Dependencies that one crate keeps behind its interface.
const AT_HOME: &[(&str, &str)] = &[
    ("wasmtime", "bedstone-engine"),
    ("libc", "bedstone-engine"),
    ("tokio", "bedstone-server"),
    ("axum", "bedstone-server"),
];

/// Direct dependencies from outside that one crate may have; about 8 is right.
const THIRD_PARTY_MAX: usize = 10;

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut manifests = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| is_ours(path)) {
        match text.parse::<Table>() {
            Ok(table) => manifests.push(Manifest { path, text, table }),
            Err(error) => findings.push(Finding::new(path, None, format!("not a manifest: {error}"))),
        }
    }
    let names: BTreeSet<String> = manifests.iter().filter_map(Manifest::name).map(str::to_owned).collect();
    let workspace =
        manifests.iter().find(|manifest| manifest.path == "Cargo.toml").map(|manifest| &manifest.table);

    for manifest in &manifests {
        let dependencies = manifest.dependencies(workspace, &names);
        check_reasons(manifest, &dependencies, &mut findings);
        let Some(name) = manifest.name() else { continue };
        check_lints(manifest, &mut findings);
        check_directions(manifest, name, &dependencies, &mut findings);
        check_third_party(manifest, name, &dependencies, &mut findings);
    }
    findings
}

fn is_ours(path: &str) -> bool {
    let is_manifest = path == "Cargo.toml" || path.ends_with("/Cargo.toml");
    is_manifest && !path.starts_with("canisters/")
}

struct Manifest<'a> {
    path: &'a str,
    text: &'a str,
    table: Table,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Shipped,
    Tests,
    /// Listed in the workspace's manifest for others to inherit.
    Inherited,
}

struct Dependency {
    key: String,
    package: String,
    purpose: Purpose,
    ours: bool,
    /// Its line stands in the workspace's manifest.
    from_workspace: bool,
}

impl Manifest<'_> {
    fn name(&self) -> Option<&str> {
        self.table.get("package")?.get("name")?.as_str()
    }

    fn dependencies(&self, workspace: Option<&Table>, names: &BTreeSet<String>) -> Vec<Dependency> {
        let targets = self.table.get("target").and_then(Value::as_table);
        let tables = std::iter::once(&self.table)
            .chain(targets.into_iter().flatten().filter_map(|(_, value)| value.as_table()));
        let mut sections = Vec::new();
        for table in tables {
            sections.push((table.get("dependencies"), Purpose::Shipped));
            sections.push((table.get("build-dependencies"), Purpose::Shipped));
            sections.push((table.get("dev-dependencies"), Purpose::Tests));
        }
        let own_workspace = self.table.get("workspace");
        sections.push((own_workspace.and_then(|own| own.get("dependencies")), Purpose::Inherited));

        let shared = workspace.and_then(|table| table.get("workspace")?.get("dependencies"));
        let mut dependencies = Vec::new();
        for (section, purpose) in sections {
            for (key, value) in section.and_then(Value::as_table).into_iter().flatten() {
                let from_workspace = value.get("workspace").and_then(Value::as_bool) == Some(true);
                let value =
                    if from_workspace { shared.and_then(|shared| shared.get(key)) } else { Some(value) };
                let renamed = value.and_then(|value| value.get("package")?.as_str());
                let package = renamed.unwrap_or(key).to_owned();
                let ours = names.contains(&package);
                dependencies.push(Dependency { key: key.clone(), package, purpose, ours, from_workspace });
            }
        }
        dependencies
    }
}

fn check_lints(manifest: &Manifest<'_>, findings: &mut Vec<Finding>) {
    let inherited = manifest.table.get("lints").and_then(|lints| lints.get("workspace"));
    if inherited.and_then(Value::as_bool) != Some(true) {
        findings.push(Finding::new(manifest.path, None, "a crate takes the workspace's `[lints]`"));
    }
}

fn check_directions(
    manifest: &Manifest<'_>,
    name: &str,
    dependencies: &[Dependency],
    findings: &mut Vec<Finding>,
) {
    let is_room = manifest.path.starts_with("crates/");
    let Some(allowed) = may_import(name) else {
        if is_room {
            let message =
                format!("`{name}` is not in tidy's table of crates: a new room needs a decision note");
            findings.push(Finding::new(manifest.path, None, message));
        }
        return;
    };
    for dependency in dependencies.iter().filter(|dependency| dependency.ours) {
        let package = dependency.package.as_str();
        let fine = match dependency.purpose {
            Purpose::Shipped => allowed.contains(&package),
            // Tests may also switch features of their own crate on.
            Purpose::Tests => {
                package == name
                    || below(name).contains(package)
                    || (package == "xtask" && name == TESTED_WITH_XTASK)
            }
            Purpose::Inherited => true,
        };
        if !fine {
            let message = format!("`{name}` may not import `{package}`: see ARCHITECTURE.md, directions");
            findings.push(Finding::new(manifest.path, line_of_key(manifest.text, &dependency.key), message));
        }
    }
}

fn may_import(name: &str) -> Option<&'static [&'static str]> {
    MAY_IMPORT.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, allowed)| *allowed)
}

/// Every crate that `name` imports, directly or through others.
fn below(name: &str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&'static str> = may_import(name).unwrap_or_default().to_vec();
    while let Some(name) = next.pop() {
        if found.insert(name) {
            next.extend(may_import(name).unwrap_or_default());
        }
    }
    found
}

fn check_third_party(
    manifest: &Manifest<'_>,
    name: &str,
    dependencies: &[Dependency],
    findings: &mut Vec<Finding>,
) {
    let shipped = |dependency: &&Dependency| dependency.purpose == Purpose::Shipped && !dependency.ours;
    let packages: BTreeSet<&str> =
        dependencies.iter().filter(shipped).map(|dependency| dependency.package.as_str()).collect();
    if packages.len() > THIRD_PARTY_MAX {
        let message = format!(
            "{} direct dependencies from outside; {THIRD_PARTY_MAX} are the limit, about 8 right",
            packages.len()
        );
        findings.push(Finding::new(manifest.path, None, message));
    }
    if !manifest.path.starts_with("crates/") {
        return;
    }
    for (package, home) in AT_HOME {
        if packages.contains(package) && name != *home {
            let message = format!("`{package}` stays behind `{home}`");
            findings.push(Finding::new(manifest.path, line_of_key(manifest.text, package), message));
        }
    }
}

fn check_reasons(manifest: &Manifest<'_>, dependencies: &[Dependency], findings: &mut Vec<Finding>) {
    for entry in entries(manifest.text) {
        let third_party = dependencies
            .iter()
            .any(|dependency| dependency.key == entry.key && !dependency.ours && !dependency.from_workspace);
        if third_party && !entry.has_reason {
            let message = format!("`{}` has no reason: end its line with `# what it is for`", entry.key);
            findings.push(Finding::new(manifest.path, entry.line, message));
        }
    }
}

/// A line of a manifest that names a dependency.
struct Entry {
    key: String,
    line: usize,
    has_reason: bool,
}

/// The lines that name dependencies, read as text since a parser drops the comments.
fn entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut in_dependencies = false;
    let mut depth = 0usize;
    let mut before = "";
    for (index, line) in text.lines().enumerate() {
        let (content, comment) = split_comment(line);
        let content = content.trim();
        let has_reason = is_reason(comment) || before.trim().strip_prefix('#').is_some_and(is_reason);
        let mut entry = |key: &str| {
            let key = key.trim().trim_matches(['"', '\'']).to_owned();
            entries.push(Entry { key, line: index + 1, has_reason });
        };
        if depth == 0
            && let Some(header) = content.strip_prefix('[')
        {
            let header = header.trim_end_matches(']');
            in_dependencies = header.ends_with("dependencies");
            if let Some((section, key)) = header.rsplit_once('.')
                && section.ends_with("dependencies")
            {
                entry(key);
            }
        } else {
            if depth == 0 && in_dependencies && content.contains('=') {
                entry(content.split(['=', '.']).next().unwrap_or_default());
            }
            depth += content.matches(['[', '{']).count();
            depth = depth.saturating_sub(content.matches([']', '}']).count());
        }
        before = line;
    }
    entries
}

/// What stands before and after the `#` of a comment; a `#` in a string starts none.
fn split_comment(line: &str) -> (&str, &str) {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return (&line[..at], &line[at + 1..]),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    (line, "")
}

fn is_reason(comment: &str) -> bool {
    comment.chars().filter(|c| c.is_alphabetic()).count() >= 3
}

fn line_of_key(text: &str, key: &str) -> Option<usize> {
    let entry = entries(text).into_iter().find(|entry| entry.key == key);
    entry.map(|entry| entry.line).or_else(|| text.find(key).map(|at| line_of(text, at)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{accepts, findings, finds};

    const ROOT: (&str, &str) = (
        "Cargo.toml",
        "[workspace.dependencies]\nbedstone-store = { path = \"crates/store\" }\nbedstone-subnet = { path = \"crates/subnet\" }\n",
    );
    const STORE: (&str, &str) =
        ("crates/store/Cargo.toml", "[package]\nname = \"bedstone-store\"\n[lints]\nworkspace = true\n");
    const SUBNET: (&str, &str) =
        ("crates/subnet/Cargo.toml", "[package]\nname = \"bedstone-subnet\"\n[lints]\nworkspace = true\n");

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{rest}")
    }

    fn of_engine(rest: &str) -> Vec<String> {
        let engine = manifest("bedstone-engine", rest);
        findings(&[ROOT, STORE, SUBNET, ("crates/engine/Cargo.toml", &engine)])
    }

    #[test]
    fn imports_go_down_only() {
        assert_eq!(of_engine("[dependencies]\nbedstone-store.workspace = true\n"), Vec::<String>::new());
        let ways_up = [
            "[dependencies]\nbedstone-subnet.workspace = true\n",
            "[dependencies]\nbedstone-subnet = { path = \"../subnet\" }\n",
            "[dependencies]\nup = { package = \"bedstone-subnet\", path = \"../subnet\" }\n",
            "[build-dependencies]\nbedstone-subnet.workspace = true\n",
            "[dev-dependencies]\nbedstone-subnet.workspace = true\n",
            "[target.'cfg(unix)'.dependencies]\nbedstone-subnet.workspace = true\n",
            "[dependencies.bedstone-subnet]\nworkspace = true\n",
        ];
        for way in ways_up {
            let found = of_engine(way);
            assert!(
                found.len() == 1 && found[0].contains("`bedstone-engine` may not import `bedstone-subnet`"),
                "{way}: {found:?}"
            );
        }
    }

    #[test]
    fn tests_may_import_their_own_crate() {
        let own = "[dev-dependencies]\nbedstone-engine = { path = \".\", features = [\"mutants\"] }\n";
        assert_eq!(of_engine(own), Vec::<String>::new());
        assert_eq!(of_engine(&own.replace("dev-", "")).len(), 1);
    }

    #[test]
    fn neighbours_and_leaps_are_refused_but_tests_may_leap_down() {
        let leap = |section| {
            let bedstone = manifest("bedstone", &format!("[{section}]\nbedstone-store.workspace = true\n"));
            findings(&[ROOT, STORE, SUBNET, ("crates/bedstone/Cargo.toml", &bedstone)])
        };
        assert!(leap("dependencies")[0].contains("`bedstone` may not import `bedstone-store`"));
        assert_eq!(leap("dev-dependencies"), Vec::<String>::new());

        let instrument = manifest("bedstone-instrument", "[dependencies]\nbedstone-store.workspace = true\n");
        let found = findings(&[ROOT, STORE, SUBNET, ("crates/instrument/Cargo.toml", &instrument)]);
        assert!(found[0].contains("`bedstone-instrument` may not import `bedstone-store`"));
    }

    #[test]
    fn only_the_command_s_tests_run_the_chores() {
        let xtask = manifest("xtask", "");
        let with = |path: &str, name: &str, section: &str| {
            let text = manifest(name, &format!("[{section}]\nxtask = {{ path = \"../../xtask\" }}\n"));
            findings(&[("xtask/Cargo.toml", &xtask), (path, &text)])
        };
        assert_eq!(with("crates/cli/Cargo.toml", "bedstone-cli", "dev-dependencies"), Vec::<String>::new());
        assert_eq!(with("crates/cli/Cargo.toml", "bedstone-cli", "dependencies").len(), 1);
        assert_eq!(with("crates/store/Cargo.toml", "bedstone-store", "dev-dependencies").len(), 1);
    }

    #[test]
    fn a_new_room_is_found() {
        let text = manifest("bedstone-common", "");
        let found = findings(&[("crates/common/Cargo.toml", &text)]);
        assert!(found.len() == 1 && found[0].contains("not in tidy's table of crates"), "{found:?}");
    }

    #[test]
    fn every_dependency_has_a_reason() {
        let path = "crates/store/Cargo.toml";
        let store = |rest: &str| manifest("bedstone-store", rest);
        accepts(path, &store("[dependencies]\nblake3 = \"1\" # keyed hashes\n"));
        accepts(path, &store("[dependencies]\n# Keyed hashes.\nblake3 = \"1\"\n"));
        finds(path, &store("[dependencies]\nblake3 = \"1\"\n"), 6, "`blake3` has no reason");
        finds(path, &store("[dependencies]\nblake3 = \"1\" #\n"), 6, "`blake3` has no reason");
        finds(path, &store("[dev-dependencies]\nproptest = \"1\"\n"), 6, "`proptest` has no reason");
        finds(path, &store("[dependencies.blake3]\nversion = \"1\"\n"), 5, "`blake3` has no reason");
        finds(
            path,
            &store("[target.'cfg(unix)'.dependencies]\nblake3 = { version = \"#1\" }\n"),
            6,
            "`blake3` has no reason",
        );
        finds("Cargo.toml", "[workspace.dependencies]\nblake3 = \"1\"\n", 2, "`blake3` has no reason");
        accepts(
            path,
            &store(
                "[dependencies]\nblake3 = { version = \"1\", features = [ # keyed hashes\n    \"std\",\n] }\n",
            ),
        );
        let inherits = store("[dependencies]\nblake3.workspace = true\n");
        let root = "[workspace.dependencies]\nblake3 = \"1\" # keyed hashes\n";
        assert_eq!(findings(&[("Cargo.toml", root), (path, &inherits)]), Vec::<String>::new());
    }

    #[test]
    fn too_many_dependencies_are_found() {
        let lines =
            |count: usize| (0..count).map(|n| format!("d{n} = \"1\" # for a test\n")).collect::<String>();
        let store = |count| manifest("bedstone-store", &format!("[dependencies]\n{}", lines(count)));
        accepts("crates/store/Cargo.toml", &store(10));
        let found = findings(&[("crates/store/Cargo.toml", &store(11))]);
        assert!(found.len() == 1 && found[0].contains("11 direct dependencies"), "{found:?}");
    }

    #[test]
    fn some_dependencies_stay_in_one_crate() {
        let rest = "[dependencies]\nwasmtime = \"48\" # the Wasm engine\n";
        accepts("crates/engine/Cargo.toml", &manifest("bedstone-engine", rest));
        finds(
            "crates/subnet/Cargo.toml",
            &manifest("bedstone-subnet", rest),
            6,
            "`wasmtime` stays behind `bedstone-engine`",
        );
    }

    #[test]
    fn lints_are_the_workspace_s_and_a_broken_manifest_is_named() {
        let found = findings(&[("crates/store/Cargo.toml", "[package]\nname = \"bedstone-store\"\n")]);
        assert!(found.len() == 1 && found[0].contains("workspace's `[lints]`"), "{found:?}");
        let found = findings(&[("crates/store/Cargo.toml", "[package\n")]);
        assert!(found.len() == 1 && found[0].contains("not a manifest"), "{found:?}");
        accepts("canisters/sample/Cargo.toml", "[dependencies]\nic-cdk = \"0.18\"\n");
    }
}

//! The prebuilt canisters in `canisters/prebuilt/`: building them, and telling when one is stale.
//!
//! - `manifest.txt` holds one line for each module: its name, its SHA-256, and a hash over its sources.
//! - Checking reads files and nothing else, so tests need no wasm32 toolchain and no Node.js.
//! - What is built comes from the tree: each directory in `canisters/` with a `Cargo.toml` is one module, and each
//!   `.mo` file in `canisters/motoko/` is two, one for each way of persisting.
//! - A module names no path of the machine that built it, and carries its Candid interface.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const TARGET: &str = "wasm32-unknown-unknown";
const CANDID_SECTION: &str = "icp:public candid:service";
const REBUILD: &str = "run `cargo xtask canisters`";

/// `canisters` rebuilds every module and the manifest; `canisters --check` only compares hashes.
pub fn run(args: &[String]) -> Result<(), String> {
    match args {
        [] => build(&crate::root()?),
        [flag] if flag == "--check" => check(&crate::root()?),
        _ => Err("usage: cargo xtask canisters [--check]".to_string()),
    }
}

/// Fails, naming the canister, if a prebuilt module does not match the sources or the manifest.
pub fn check(root: &Path) -> Result<(), String> {
    let directory = root.join("canisters/prebuilt");
    let manifest = read_manifest(&directory.join("manifest.txt"))?;
    let canisters = list(root)?;
    for canister in &canisters {
        let name = &canister.name;
        let Some(recorded) = manifest.get(name) else {
            return Err(format!("Canister {name} is not in canisters/prebuilt/manifest.txt; {REBUILD}."));
        };
        if canister.sources_hash()? != recorded.sources {
            return Err(format!(
                "Canister {name} is stale: its sources have changed since it was built; {REBUILD}."
            ));
        }
        let module = fs::read(directory.join(format!("{name}.wasm"))).map_err(|error| {
            format!("Canister {name} cannot be read from canisters/prebuilt: {error}; {REBUILD}.")
        })?;
        if hex(&Sha256::digest(&module)) != recorded.module {
            return Err(format!(
                "canisters/prebuilt/{name}.wasm is not the file in the manifest; {REBUILD}."
            ));
        }
    }
    for path in entries(&directory)? {
        if let Some(name) = module_name(&path)
            && !canisters.iter().any(|canister| canister.name == name)
        {
            return Err(format!("canisters/prebuilt/{name}.wasm has no sources; delete it or {REBUILD}."));
        }
    }
    Ok(())
}

/// One prebuilt module and the files it is made from.
struct Canister {
    name: String,
    /// Where its compiler leaves it, below the directory of its kind's output.
    artifact: String,
    kind: Kind,
    /// Sorted by the name recorded with each: its path below `canisters/`, with `/` between the parts.
    sources: BTreeMap<String, PathBuf>,
}

#[derive(PartialEq)]
enum Kind {
    Rust,
    Motoko,
}

impl Canister {
    /// Framed by name and length, so that no two sets of files share the hashed bytes.
    fn sources_hash(&self) -> Result<String, String> {
        let mut hasher = Sha256::new();
        for (name, path) in &self.sources {
            let bytes = read(path)?;
            hasher.update(name.as_bytes());
            hasher.update([0]);
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        }
        Ok(hex(&hasher.finalize()))
    }
}

fn list(root: &Path) -> Result<Vec<Canister>, String> {
    let canisters = root.join("canisters");
    let mut list = Vec::new();
    for directory in entries(&canisters)? {
        if directory.join("Cargo.toml").is_file() {
            list.push(rust_canister(&canisters, &directory)?);
        }
    }
    for source in motoko_sources(&canisters.join("motoko"))? {
        list.extend(motoko_canisters(&canisters, &source)?);
    }
    Ok(list)
}

fn motoko_sources(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut paths = entries(directory)?;
    paths.retain(|path| path.extension() == Some(OsStr::new("mo")));
    Ok(paths)
}

fn rust_canister(canisters: &Path, directory: &Path) -> Result<Canister, String> {
    let name = file_name(directory)?;
    let mut sources = BTreeMap::new();
    // The workspace's manifest holds the profile, and its lock file the version of every dependency.
    for file in ["Cargo.toml", "Cargo.lock"] {
        sources.insert(file.to_string(), canisters.join(file));
    }
    let mut directories = vec![(name.clone(), directory.to_path_buf())];
    while let Some((prefix, directory)) = directories.pop() {
        for path in entries(&directory)? {
            let name = format!("{prefix}/{}", file_name(&path)?);
            if path.is_dir() {
                directories.push((name, path));
            } else {
                sources.insert(name, path);
            }
        }
    }
    Ok(Canister { artifact: format!("{}.wasm", name.replace('-', "_")), name, kind: Kind::Rust, sources })
}

fn motoko_canisters(canisters: &Path, source: &Path) -> Result<[Canister; 2], String> {
    let file = file_name(source)?;
    let stem = file.trim_end_matches(".mo");
    let mut sources = BTreeMap::new();
    // The lock file pins the compiler, and the script holds its settings.
    for file in ["build.mjs", "package-lock.json", &file] {
        sources.insert(format!("motoko/{file}"), canisters.join("motoko").join(file));
    }
    Ok(["", "-classic"].map(|suffix| {
        let name = format!("motoko-{stem}{suffix}");
        Canister { artifact: format!("{name}.wasm"), name, kind: Kind::Motoko, sources: sources.clone() }
    }))
}

fn build(root: &Path) -> Result<(), String> {
    let machine = Machine::find(root)?;
    let rust_output = build_rust(root, &machine)?;
    let motoko_output = rust_output.join("motoko");
    build_motoko(root, &motoko_output)?;

    let prebuilt = root.join("canisters/prebuilt");
    fs::create_dir_all(&prebuilt).map_err(|error| failed("create", &prebuilt, &error))?;
    for path in entries(&prebuilt)? {
        if module_name(&path).is_some() {
            fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
        }
    }
    let mut manifest = String::from(
        "# Written by `cargo xtask canisters`, verified by `cargo xtask canisters --check`.\n\
         # name, SHA-256 of the module, SHA-256 over its sources\n",
    );
    for canister in list(root)? {
        let output = if canister.kind == Kind::Rust { &rust_output } else { &motoko_output };
        let mut module = read(&output.join(&canister.artifact))?;
        machine.overwrite_library_paths(&mut module);
        verify(&module, &machine).map_err(|problem| format!("Canister {}: {problem}.", canister.name))?;
        let (module_hash, sources_hash) = (hex(&Sha256::digest(&module)), canister.sources_hash()?);
        manifest.push_str(&format!("{} {module_hash} {sources_hash}\n", canister.name));
        write(&prebuilt.join(format!("{}.wasm", canister.name)), &module)?;
        println!("{:9} bytes  {}", module.len(), canister.name);
    }
    write(&prebuilt.join("manifest.txt"), manifest.as_bytes())
}

/// Returns the directory that holds the built modules.
fn build_rust(root: &Path, machine: &Machine) -> Result<PathBuf, String> {
    let directory = root.join("canisters");
    let library = output_of(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    if !Path::new(&library).is_dir() {
        return Err(format!("The compiler has no {TARGET} target; run `rustup target add {TARGET}`."));
    }
    let target_directory = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(path) => std::path::absolute(&path).map_err(|error| failed("find", Path::new(&path), &error))?,
        None => directory.join("target"),
    };
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"]).arg(&target_directory);
    // Unlike RUSTFLAGS this form survives spaces in paths, and it takes precedence over the user's own flags.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", machine.rustflags());
    succeed(cargo.current_dir(&directory))?;
    Ok(target_directory.join(TARGET).join("release"))
}

fn build_motoko(root: &Path, output: &Path) -> Result<(), String> {
    let directory = root.join("canisters/motoko");
    fs::create_dir_all(output).map_err(|error| failed("create", output, &error))?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund"]);
    succeed(npm.current_dir(&directory))?;
    for source in motoko_sources(&directory)? {
        let mut node = Command::new("node");
        succeed(node.arg("build.mjs").arg(file_name(&source)?).arg(output).current_dir(&directory))?;
    }
    Ok(())
}

/// The places on this machine that a compiler may write into a module.
struct Machine {
    /// Each path with the name it gets instead; later ones are more specific.
    names: Vec<(String, &'static str)>,
}

impl Machine {
    fn find(root: &Path) -> Result<Machine, String> {
        let cargo_home = match std::env::var_os("CARGO_HOME") {
            Some(path) => PathBuf::from(path),
            None => {
                std::env::home_dir().ok_or("The home directory is not known; set CARGO_HOME.")?.join(".cargo")
            }
        };
        let sysroot = PathBuf::from(output_of(Command::new("rustc").args(["--print", "sysroot"]))?);
        let library = sysroot.join("lib/rustlib/src/rust");
        let mut paths = vec![(root.to_path_buf(), "/bedstone"), (sysroot, "/rustc"), (library, "/rustc")];
        // A registry's directory is named after its host: crates are told apart by their own directories already.
        let registries = cargo_home.join("registry/src");
        paths.push((cargo_home, "/cargo"));
        if registries.is_dir() {
            paths.extend(entries(&registries)?.into_iter().map(|registry| (registry, "/cargo")));
        }
        let mut names = Vec::new();
        for (path, name) in paths {
            let text = path.to_str().ok_or_else(|| format!("The path {} is not UTF-8.", path.display()))?;
            names.push((text.to_string(), name));
        }
        Ok(Machine { names })
    }

    /// The last prefix that matches is the one that rustc applies.
    fn rustflags(&self) -> String {
        let flags = self.names.iter().map(|(path, name)| format!("--remap-path-prefix={path}={name}"));
        flags.collect::<Vec<_>>().join("\x1f")
    }

    /// Renames the paths that no flag reaches: a standard library that was compiled on this machine, rather than
    /// downloaded, has its own source paths inside. Strings are found by address and length, so each new name
    /// gets the old one's length: `/./` between two parts of a path means nothing.
    fn overwrite_library_paths(&self, module: &mut [u8]) {
        for (path, name) in self.recognizable().rev().filter(|(path, name)| path.len() >= name.len()) {
            let mut replacement = name.as_bytes().to_vec();
            if (path.len() - name.len()) % 2 == 1 {
                replacement.insert(0, b'/');
            }
            while replacement.len() < path.len() {
                replacement.extend(b"/.");
            }
            while let Some(start) = find(module, path.as_bytes()) {
                module[start..start + path.len()].copy_from_slice(&replacement);
            }
        }
    }

    /// A path of one part, such as `/src`, also occurs inside of harmless ones.
    fn recognizable(&self) -> impl DoubleEndedIterator<Item = &(String, &'static str)> {
        self.names.iter().filter(|(path, _)| Path::new(path).components().count() > 2)
    }
}

fn verify(module: &[u8], machine: &Machine) -> Result<(), String> {
    wasmparser::Validator::new()
        .validate_all(module)
        .map_err(|error| format!("the module is not valid: {error}"))?;
    for (path, _) in machine.recognizable() {
        if find(module, path.as_bytes()).is_some() {
            return Err(format!("the module names the path {path} of this machine"));
        }
    }
    let has_interface = wasmparser::Parser::new(0).parse_all(module).any(|payload| {
        matches!(payload, Ok(wasmparser::Payload::CustomSection(section)) if section.name() == CANDID_SECTION)
    });
    if has_interface { Ok(()) } else { Err(format!("the module has no section `{CANDID_SECTION}`")) }
}

struct Recorded {
    module: String,
    sources: String,
}

fn read_manifest(path: &Path) -> Result<BTreeMap<String, Recorded>, String> {
    let bytes = read(path).map_err(|error| format!("{error} To make it, {REBUILD}."))?;
    let mut manifest = BTreeMap::new();
    for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, module, sources] = words[..] else {
            return Err(format!(
                "canisters/prebuilt/manifest.txt has a line that is not three words: `{line}`."
            ));
        };
        let recorded = Recorded { module: module.to_string(), sources: sources.to_string() };
        manifest.insert(name.to_string(), recorded);
    }
    Ok(manifest)
}

/// What a directory holds, in order, without hidden files: editors leave those.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| failed("read", directory, &error))? {
        let path = entry.map_err(|error| failed("read", directory, &error))?.path();
        if !file_name(&path)?.starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> Result<String, String> {
    let name = path.file_name().and_then(OsStr::to_str);
    name.map(str::to_string).ok_or_else(|| format!("The file name of {} is not UTF-8.", path.display()))
}

fn module_name(path: &Path) -> Option<&str> {
    if path.extension()? == "wasm" { path.file_stem()?.to_str() } else { None }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| failed("read", path, &error))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| failed("write", path, &error))
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> String {
    format!("Cannot {verb} {}: {error}.", path.display())
}

fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("Cannot run {command:?}: {error}."))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

fn succeed(command: &mut Command) -> Result<(), String> {
    // The program alone names the step: the environment and the flags would bury it.
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("Cannot run {program}: {error}."))?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed in canisters ({status}).")) }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prebuilt_canisters_match_their_sources() {
        check(&crate::root().unwrap()).unwrap();
    }

    #[test]
    fn an_overwritten_path_keeps_its_length_and_its_meaning() {
        let machine =
            Machine { names: vec![("/home/x/.cargo".into(), "/cargo"), ("/home/x/rust".into(), "/rustc")] };
        let mut module = *b"..\0/home/x/.cargo/a.rs/home/x/rust/b.rs";
        machine.overwrite_library_paths(&mut module);
        assert_eq!(&module, b"..\0/cargo/././././a.rs/rustc/./././b.rs");
    }
}

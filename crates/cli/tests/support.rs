//! Directories to run in, and the command.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

/// A canister that costs nothing to compile. It keeps a byte in stable memory.
pub const TINY: &str = include_str!("golden/tiny.wat");

/// A directory of its own for a test, removed at its end.
pub struct Room(PathBuf);

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed as its result.
    pub stdout: String,
    /// What it printed besides.
    pub stderr: String,
}

impl Room {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bedstone-cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// A room with the tiny canister's text in `tiny.wat`.
    pub fn with_tiny() -> Self {
        let room = Self::new();
        room.write("tiny.wat", TINY);
        room
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
    }

    /// Runs the command in the room; the state directory is `.bedstone` in it.
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        // Tests leave nothing in anybody's home.
        self.run_with(&arguments, |command| _ = command.env("BEDSTONE_COMPILE_CACHE", "off"))
    }

    /// Runs the command in the room as `prepare` leaves it.
    pub fn run_with(&self, arguments: &[&str], prepare: impl FnOnce(&mut Command)) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bedstone"));
        command.args(arguments).current_dir(&self.0);
        prepare(&mut command);
        let output = command.output().unwrap();
        Ran {
            code: output.status.code().expect("it exits by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command that must succeed, and returns its result.
    pub fn ok<const N: usize>(&self, arguments: [&str; N]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
        ran.stdout.trim_end().to_owned()
    }

    /// Runs a command that must succeed and print one JSON value.
    pub fn json<const N: usize>(&self, arguments: [&str; N]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    /// Every file of the room with its contents, and every directory; of a state directory its memories and modules only,
    /// since opening and closing it moves its log and its tables on.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut contents = BTreeMap::new();
        gather(&self.0, &mut contents);
        contents
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_moved_on(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(name, "LOCK" | "CLEAN" | "RESERVE" | "catalog.redb") || name.ends_with(".log")
}

fn gather(directory: &Path, contents: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, contents);
            contents.insert(path, Vec::new());
        } else if !is_moved_on(&path) {
            let bytes = fs::read(&path).unwrap();
            contents.insert(path, bytes);
        }
    }
}

/// The path of a sample canister.
pub fn prebuilt(name: &str) -> String {
    format!("{}/../../canisters/prebuilt/{name}.wasm", env!("CARGO_MANIFEST_DIR"))
}

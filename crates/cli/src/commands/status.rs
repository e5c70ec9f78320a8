//! `bedstone status`: what there is.
//!
//! - No canister's module or memory is read: it takes as long for many and large ones.

use std::fmt::Write;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use bedstone::CanisterStatus;
use clap::Args;
use serde_json::{Value, json};

use crate::output::{grouped, hex};
use crate::state::State;
use crate::{Global, output};

const EXAMPLES: &str = "\
Examples:
  bedstone status
  bedstone status map
  bedstone status --json";

/// Show a canister; or all of them, and what the state directory takes on the disk
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Status {
    /// The canister's name or id [default: all canisters]
    #[arg(value_parser = super::name())]
    name: Option<String>,
}

impl Status {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        match &self.name {
            Some(name) => {
                let canister = state.find(name)?;
                let status = state.network.status(canister)?.expect("it was found");
                output::print(if global.json { json(name, &status).to_string() } else { text(name, &status) })
            }
            None => {
                let mut all = Vec::new();
                for (name, canister) in state.network.names() {
                    let status = state.network.status(canister)?.expect("names go with their canisters");
                    all.push((name, status));
                }
                let directory = Directory::of(&state, &global.state)?;
                output::print(if global.json {
                    let canisters: Vec<Value> = all.iter().map(|(name, status)| json(name, status)).collect();
                    json!({"canisters": canisters, "directory": directory.json()}).to_string()
                } else {
                    let canisters = match all.is_empty() {
                        true => format!("no canisters in {}", state.place()),
                        false => table(&all),
                    };
                    format!("{canisters}\n\n{}", directory.text(&state))
                })
            }
        }
    }
}

/// What a state directory takes, in bytes on the disk: holes take none.
#[derive(Debug, Default)]
struct Directory {
    memories: u64,
    modules: u64,
    log: u64,
    /// Tables, and what is kept free to finish with on a full disk.
    other: u64,
    /// The last change that a next opening finds without a look at the log.
    checkpoint: u64,
}

impl Directory {
    fn of(state: &State<'_>, path: &Path) -> anyhow::Result<Self> {
        let progress = state.network.progress()?.expect("a command's state is in a directory");
        let part = |name| allocated(&path.join(name));
        let (memories, modules, log) = (part("mem")?, part("blob")?, part("wal")?);
        let other = allocated(path)?.saturating_sub(memories + modules + log);
        Ok(Self { memories, modules, log, other, checkpoint: progress.applied.get() })
    }

    fn total(&self) -> u64 {
        self.memories + self.modules + self.log + self.other
    }

    fn json(&self) -> Value {
        json!({
            "bytes": self.total(),
            "memory_bytes": self.memories,
            "module_bytes": self.modules,
            "log_bytes": self.log,
            "other_bytes": self.other,
            "checkpoint": self.checkpoint,
        })
    }

    fn text(&self, state: &State<'_>) -> String {
        format!(
            "{} takes {} bytes on disk: memories {}, modules {}, log {}, other {}\nlast checkpoint: change {}",
            state.place(),
            grouped(self.total()),
            grouped(self.memories),
            grouped(self.modules),
            grouped(self.log),
            grouped(self.other),
            grouped(self.checkpoint)
        )
    }
}

/// Bytes of the disk that a file takes, or a directory with all that is in it; nothing if there is none.
fn allocated(path: &Path) -> anyhow::Result<u64> {
    let unread = || format!("the size of {} cannot be read", path.display());
    let metadata = match std::fs::symlink_metadata(path) {
        // The open store removes files that nobody needs any more.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        result => result.with_context(unread)?,
    };
    // Counted by 512 bytes, whatever the file system's own blocks are.
    let mut bytes = metadata.blocks() * 512;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path).with_context(unread)? {
            bytes += allocated(&entry.with_context(unread)?.path())?;
        }
    }
    Ok(bytes)
}

fn json(name: &str, status: &CanisterStatus) -> Value {
    json!({
        "name": name,
        "id": status.id.to_text(),
        "module_hash": status.module_hash.map(|hash| hex(&hash)),
        "controllers": status.controllers.iter().map(|id| id.to_text()).collect::<Vec<_>>(),
        "version": status.version,
        "heap_bytes": status.heap_bytes,
        "stable_bytes": status.stable_bytes,
        // A string: JSON's readers lose digits of numbers this large.
        "cycles": status.cycles.to_string(),
    })
}

fn text(name: &str, status: &CanisterStatus) -> String {
    let controllers: Vec<String> = status.controllers.iter().map(|id| id.to_text()).collect();
    let lines = [
        ("name", name.to_owned()),
        ("id", status.id.to_text()),
        ("module hash", status.module_hash.map_or_else(|| "none".to_owned(), |hash| hex(&hash))),
        ("controllers", controllers.join(", ")),
        ("version", grouped(status.version)),
        ("heap", format!("{} bytes", grouped(status.heap_bytes))),
        ("stable memory", format!("{} bytes", grouped(status.stable_bytes))),
        ("cycles", grouped(status.cycles)),
    ];
    lines.map(|(label, value)| format!("{label:<15}{value}")).join("\n")
}

fn table(all: &[(String, CanisterStatus)]) -> String {
    let width = all.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default().max("name".len());
    let mut text = format!("{:<width$}  {:<27}  {:>15}  {:>15}", "name", "id", "heap bytes", "stable bytes");
    for (name, status) in all {
        let (heap, stable) = (grouped(status.heap_bytes), grouped(status.stable_bytes));
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{name:<width$}  {:<27}  {heap:>15}  {stable:>15}", status.id.to_text());
    }
    text
}

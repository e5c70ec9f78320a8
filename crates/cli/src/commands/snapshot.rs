//! `bedstone snapshot`: keeps a canister's state, brings it back, carries it to and from the IC.

use std::path::{Path, PathBuf};

use anyhow::bail;
use bedstone::{METADATA_FILE, Principal, SnapshotId, SnapshotInfo, SnapshotSource};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::output::{grouped, timestamp};
use crate::state::State;
use crate::{Global, output, progress, snapshot_metadata};

const EXAMPLES: &str = "\
Examples:
  bedstone snapshot take map
  bedstone snapshot list map
  bedstone snapshot load map 0000000000000000ffffffffffc000000101
  bedstone snapshot export map 0000000000000000ffffffffffc000000101 ./backup
  bedstone snapshot import map ./backup

A directory that `export` writes is what the Internet Computer's own tools upload
(`icp canister snapshot upload`), and `import` reads what they download.";

/// Keep a canister's state, bring it back, carry it to and from the Internet Computer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Snapshot {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Take(Take),
    Load(Load),
    List(List),
    Delete(Delete),
    Export(Export),
    Import(Import),
}

/// Keep a canister's module, memories, globals and certified data as they are now; at most 10 times for each canister
#[derive(Debug, Args)]
struct Take {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    canister: String,

    /// A snapshot of the canister that is deleted for the new one
    #[arg(long, value_name = "ID")]
    replace: Option<SnapshotId>,
}

/// Give a canister the state of a snapshot, its own or another canister's; its settings, cycles and log stay
#[derive(Debug, Args)]
struct Load {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    canister: String,

    /// The snapshot
    #[arg(value_name = "ID")]
    snapshot: SnapshotId,
}

/// List the snapshots of a canister
#[derive(Debug, Args)]
struct List {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    canister: String,
}

/// Delete a snapshot
#[derive(Debug, Args)]
struct Delete {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    canister: String,

    /// The snapshot
    #[arg(value_name = "ID")]
    snapshot: SnapshotId,
}

/// Write a snapshot to a directory, as the Internet Computer's tools do; goes on where it was interrupted
#[derive(Debug, Args)]
struct Export {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    canister: String,

    /// The snapshot
    #[arg(value_name = "ID")]
    snapshot: SnapshotId,

    /// The directory: new, empty, or left by the same export
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Make a snapshot of a canister from a directory; goes on where it was interrupted. `snapshot load` then loads it
#[derive(Debug, Args)]
struct Import {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    canister: String,

    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// A snapshot of the canister that is deleted for the new one
    #[arg(long, value_name = "ID")]
    replace: Option<SnapshotId>,
}

impl Snapshot {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        match &self.action {
            Action::Take(take) => take.run(global),
            Action::Load(load) => load.run(global),
            Action::List(list) => list.run(global),
            Action::Delete(delete) => delete.run(global),
            Action::Export(export) => export.run(global),
            Action::Import(import) => import.run(global),
        }
    }
}

impl Take {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let canister = state.find(&self.canister)?;
        let progress = progress::spinner(global, format!("taking a snapshot of {}", self.canister));
        let taken = state.network.take_snapshot(canister, self.replace);
        drop(progress);
        let taken = taken.map_err(|error| refused("no snapshot was taken", error))?;
        if global.json {
            return output::print(info_json(&taken));
        }
        let (id, bytes) = (taken.id, grouped(taken.total_bytes));
        output::print(format_args!("took snapshot {id} of {} ({canister}): {bytes} bytes", self.canister))
    }
}

impl Load {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let canister = state.find(&self.canister)?;
        let progress = progress::spinner(global, format!("loading snapshot {}", self.snapshot));
        let loaded = state.network.load_snapshot(canister, self.snapshot);
        drop(progress);
        loaded.map_err(|error| refused("the snapshot was not loaded", error))?;
        if global.json {
            return output::print(json!({
                "name": self.canister, "canister": canister.to_text(), "id": self.snapshot.to_string(), "loaded": true,
            }));
        }
        output::print(format_args!("loaded snapshot {} into {} ({canister})", self.snapshot, self.canister))
    }
}

impl List {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let snapshots = state.network.snapshots(state.find(&self.canister)?)?;
        if global.json {
            return output::print(Value::Array(snapshots.iter().map(info_json).collect()));
        }
        if snapshots.is_empty() {
            let take = format_args!("`bedstone snapshot take {}` takes one", self.canister).to_string();
            return output::print(format_args!("{} has no snapshots; {take}", self.canister));
        }
        let mut lines = vec![format!("{:<36}  {:<30}  {:>15}  from", "id", "taken at", "bytes")];
        lines.extend(snapshots.iter().map(|snapshot| {
            let (id, time) = (snapshot.id.to_string(), timestamp(snapshot.taken_at_nanos));
            format!("{id:<36}  {time:<30}  {:>15}  {}", grouped(snapshot.total_bytes), source(snapshot))
        }));
        output::print(lines.join("\n"))
    }
}

impl Delete {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let canister = own(&state, &self.canister, self.snapshot)?;
        state
            .network
            .delete_snapshot(self.snapshot)
            .map_err(|error| refused("nothing was deleted", error))?;
        if global.json {
            return output::print(json!({
                "name": self.canister, "canister": canister.to_text(), "id": self.snapshot.to_string(), "deleted": true,
            }));
        }
        output::print(format_args!("deleted snapshot {} of {} ({canister})", self.snapshot, self.canister))
    }
}

impl Export {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let canister = own(&state, &self.canister, self.snapshot)?;
        let bar = progress::bytes(global, format!("writing {}", self.directory.display()));
        let mut show = |done, total| bar.reach(done, total);
        let written = state.network.export_snapshot(
            self.snapshot,
            &self.directory,
            snapshot_metadata::encode,
            &mut show,
        );
        drop(bar);
        written.map_err(|error| refused("the snapshot was not written", error))?;
        let place = self.directory.display();
        if global.json {
            return output::print(json!({
                "name": self.canister, "canister": canister.to_text(), "id": self.snapshot.to_string(),
                "directory": place.to_string(),
            }));
        }
        output::print(format_args!(
            "wrote snapshot {} of {} ({canister}) to {place}",
            self.snapshot, self.canister
        ))
    }
}

impl Import {
    fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let canister = state.find(&self.canister)?;
        let metadata = snapshot_metadata::read(&self.metadata_file()?)?;
        let bar = progress::bytes(global, format!("reading {}", self.directory.display()));
        let mut show = |done, total| bar.reach(done, total);
        let made =
            state.network.import_snapshot(canister, &self.directory, &metadata, self.replace, &mut show);
        drop(bar);
        let id = made.map_err(|error| refused("no snapshot was made", error))?;
        if global.json {
            let made = state.network.snapshots(canister)?.into_iter().find(|snapshot| snapshot.id == id);
            return output::print(made.as_ref().map_or(Value::Null, info_json));
        }
        let (name, place) = (&self.canister, self.directory.display());
        output::print(format_args!(
            "made snapshot {id} of {name} ({canister}) from {place}; `bedstone snapshot load {name} {id}` loads it"
        ))
    }

    fn metadata_file(&self) -> anyhow::Result<PathBuf> {
        let directory: &Path = &self.directory;
        if !directory.is_dir() {
            bail!("{} is not a directory; `bedstone snapshot export` writes one", directory.display());
        }
        Ok(directory.join(METADATA_FILE))
    }
}

/// The canister of a name, if the snapshot is one of it.
fn own(state: &State<'_>, name: &str, snapshot: SnapshotId) -> anyhow::Result<Principal> {
    let canister = state.find(name)?;
    if snapshot.canister != canister {
        let other = snapshot.canister;
        bail!(
            "snapshot {snapshot} is of canister {other}, not of {name}; `bedstone snapshot list {name}` lists its own"
        );
    }
    Ok(canister)
}

/// An error with the reject's codes, if it is one.
fn refused(what: &str, error: bedstone::Error) -> anyhow::Error {
    match error {
        bedstone::Error::Rejected(reject) => output::rejected(what, reject),
        error => error.into(),
    }
}

fn source(snapshot: &SnapshotInfo) -> &'static str {
    match snapshot.source {
        SnapshotSource::TakenFromCanister => "canister",
        SnapshotSource::MetadataUpload => "import",
    }
}

fn info_json(snapshot: &SnapshotInfo) -> Value {
    json!({
        "id": snapshot.id.to_string(),
        "canister": snapshot.id.canister.to_text(),
        "taken_at_nanos": snapshot.taken_at_nanos,
        "total_bytes": snapshot.total_bytes,
        "from": source(snapshot),
    })
}

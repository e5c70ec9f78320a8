//! `bedstone fork`: a new canister that begins as a copy of another one.

use anyhow::bail;
use bedstone::SnapshotId;
use clap::Args;
use serde_json::json;

use crate::state::State;
use crate::{Global, output, progress};

const EXAMPLES: &str = "\
Examples:
  bedstone fork map map2
  bedstone fork map try-upgrade --snapshot 0000000000000000ffffffffffc000000101";

/// Make a canister that begins as a copy of another one, with an id of its own; from then on they are strangers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Fork {
    /// The name or id of the canister to copy
    #[arg(value_parser = super::name())]
    canister: String,

    /// A name for the new canister
    #[arg(value_name = "NEW_NAME", value_parser = super::name())]
    new_name: String,

    /// Copy this snapshot of the canister instead of the canister as it is now
    #[arg(long, value_name = "ID")]
    snapshot: Option<SnapshotId>,
}

impl Fork {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let canister = state.find(&self.canister)?;
        if let Some(other) = state.look_up(&self.new_name)? {
            bail!("there is a canister {:?} ({other}) already; choose another name", self.new_name);
        }
        let progress = progress::spinner(global, format!("copying {}", self.canister));
        let forked = state.network.fork_canister(canister, self.snapshot, Some(&self.new_name));
        drop(progress);
        let fork = forked.map_err(|error| match error {
            bedstone::Error::Rejected(reject) => output::rejected("no fork was made", reject),
            error => error.into(),
        })?;
        if global.json {
            return output::print(json!({
                "name": self.new_name, "id": fork.to_text(), "forked_from": canister.to_text(),
                "snapshot": self.snapshot.map(|id| id.to_string()),
            }));
        }
        output::print(format_args!("forked {} ({canister}) as {} ({fork})", self.canister, self.new_name))
    }
}

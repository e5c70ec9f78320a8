//! `bedstone delete`: removes a canister.

use clap::Args;
use serde_json::json;

use crate::state::State;
use crate::{Global, output};

const EXAMPLES: &str = "\
Examples:
  bedstone delete map
  bedstone delete rrkah-fqaaa-aaaaa-aaaaq-cai --json";

/// Remove a canister with its code and all its data
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Delete {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    name: String,
}

impl Delete {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let canister = state.find(&self.name)?;
        state.network.delete_canister(canister)?;
        state.save()?;
        if global.json {
            return output::print(json!({"name": self.name, "id": canister.to_text(), "deleted": true}));
        }
        output::print(format_args!("deleted {} ({canister})", self.name))
    }
}

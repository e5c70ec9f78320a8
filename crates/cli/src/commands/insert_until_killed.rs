//! `bedstone insert-until-killed`: the process that the demo kills. Not for people.

use clap::Args;

use super::demo::MODULE;
use crate::{Global, kills};

/// Insert into the sample canister in the state directory until killed: a part of the demo
#[derive(Debug, Args)]
pub struct InsertUntilKilled {}

impl InsertUntilKilled {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        kills::insert_until_killed(&global.state, MODULE)
    }
}

//! `bedstone repair`: gives up what a damaged log held.
//!
//! - Without `--accept-loss` nothing is opened, let alone changed.
//! - A directory that opens by itself is left alone: there is nothing to give up.

use std::sync::Arc;

use anyhow::bail;
use bedstone_store::{Depth, FileDisk, repair_accepting_loss, verify};
use clap::Args;

use super::verify::{findings, json};
use crate::output::grouped;
use crate::{Global, output, progress, state};

const EXAMPLES: &str = "\
Examples:
  cp -a .bedstone before-repair        first a copy
  bedstone repair --accept-loss";

/// Open a state directory whose log is damaged, and give up the messages from there on
///
/// A damaged log keeps a state directory from being opened, because messages that were answered are missing. This command
/// goes back to the last message before the damage; the state is then as it was right after that message. The log is put
/// aside in `damaged/` of the state directory. Damage elsewhere (FORMAT, catalog.redb, the files in mem/ and blob/) is
/// named and not repaired: restore a copy.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Repair {
    /// Yes, messages that were answered may be lost
    #[arg(long)]
    accept_loss: bool,
}

impl Repair {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let place = global.state.display();
        if !self.accept_loss {
            bail!(
                "repair goes back to the last message before the damage, and messages that were answered are lost; look \
                 at `bedstone verify`, copy {place}, then give --accept-loss"
            );
        }
        let config = state::store_config()?;
        let disk = Arc::new(FileDisk::new(&global.state));
        let progress = progress::spinner(global, format!("reading {place}"));
        let before = verify(disk.clone(), &config, Depth::Quick)?;
        if before.is_clean() {
            drop(progress);
            return if global.json {
                output::print(json(Depth::Quick, &before))
            } else {
                output::print(format_args!("{place} has a log without damage: nothing was given up"))
            };
        }
        progress.say(format!("repairing {place}"));
        let report = repair_accepting_loss(disk, &config)?;
        drop(progress);
        if global.json {
            output::print(json(Depth::Full, &report))?;
        } else if report.is_clean() {
            output::print(format_args!(
                "{place} opens again, with {} messages of its log; the log as it was is in {place}/damaged",
                grouped(report.records)
            ))?;
        } else {
            output::print(findings(&report))?;
        }
        match report.is_clean() {
            true => Ok(()),
            false => bail!("{place} is damaged beyond its log: restore it from a copy"),
        }
    }
}

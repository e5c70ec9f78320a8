//! `bedstone upgrade`: `install --mode upgrade`.

use std::path::PathBuf;

use clap::Args;

use super::install::{Mode, Options, Request};
use crate::Global;

const EXAMPLES: &str = "\
Examples:
  bedstone upgrade map map.wasm
  bedstone upgrade map map.wasm --skip-pre-upgrade";

/// Replace a canister's code and keep its stable memory; the same as `install --mode upgrade`
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Upgrade {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    name: String,

    /// The new module: .wasm, .wasm.gz or .wat
    file: PathBuf,

    #[command(flatten)]
    options: Options,
}

impl Upgrade {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let mode = Mode::Upgrade;
        Request { name: &self.name, file: &self.file, mode, options: &self.options }.run(global)
    }
}

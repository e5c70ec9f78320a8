//! `bedstone logs`: what a canister printed.

use clap::Args;
use serde_json::{Value, json};

use crate::output::timestamp;
use crate::state::State;
use crate::{Global, output};

const EXAMPLES: &str = "\
Examples:
  bedstone logs map
  bedstone logs map --json";

/// Show what a canister printed lately, and its traps: the newest 4 KiB, as on the Internet Computer
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Logs {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    name: String,
}

impl Logs {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = State::open(global)?;
        let records = state.network.log(state.find(&self.name)?)?;
        let content = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if global.json {
            let records = records.iter().map(|record| {
                let text = content(&record.content);
                json!({"index": record.index, "time_nanos": record.time_nanos, "content": text})
            });
            return output::print(Value::Array(records.collect()));
        }
        for record in &records {
            let (time, text) = (timestamp(record.time_nanos), content(&record.content));
            output::print(format_args!("[{}. {time}]: {text}", record.index))?;
        }
        Ok(())
    }
}

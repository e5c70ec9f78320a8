//! `bedstone status`: what there is.

use std::fmt::Write;

use bedstone::CanisterStatus;
use clap::Args;
use serde_json::{Value, json};

use crate::output::{grouped, hex};
use crate::state::State;
use crate::{Global, output};

/// Show a canister, or all of them
#[derive(Debug, Args)]
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
                output::print(if global.json {
                    Value::Array(all.iter().map(|(name, status)| json(name, status)).collect()).to_string()
                } else if all.is_empty() {
                    format!("no canisters in {}", state.place())
                } else {
                    table(&all)
                })
            }
        }
    }
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

//! `bedstone-bench-compare`: Bedstone beside the stores that people would take instead, on one disk in one run.
//!
//! - `store` is about pages that become durable, `keys` about a map from keys to values.
//! - Rounds are interleaved, and a figure is the median of its rounds: the machine may be busy, and then all suffer.
//! - The same seed gives every engine the same content in the same order.
//! - Whatever was written to is a fresh directory, removed at the end.
#![forbid(unsafe_code)]

mod engine;
mod engines;
mod keys;
mod machine;
mod measure;
mod room;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde_json::Value;

use machine::Machine;
use room::Room;

/// Compares Bedstone with stores that people would take instead.
#[derive(Parser)]
#[command(name = "bedstone-bench-compare", version)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Benchmark {
    /// Durable commits of 1, 10 and 100 pages of random content, beside a raw append
    Store,
    /// Inserts into and reads from a map of 128-bit keys and values
    Keys,
}

#[derive(Args)]
struct Options {
    /// Interleaved rounds, of which the median counts
    #[arg(long, global = true, default_value_t = 7, value_parser = clap::value_parser!(u32).range(5..=1000))]
    rounds: u32,
    /// A tenth of the work: shows that it runs; the figures are rough
    #[arg(long, global = true)]
    quick: bool,
    /// Where to put the fresh directory that is written to [default: target, or the system's place]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// Prints JSON instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Of all random content
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<()> {
    let Arguments { benchmark, options } = Arguments::parse();
    let room = Room::new(options.dir.as_deref())?;
    let machine = Machine::look(room.path());
    if machine.is_in_memory() {
        eprintln!(
            "warning: {} is on {}, which is no disk: nothing there is ever durable, and syncs cost nothing; \
             name a directory on a disk with --dir",
            room.path().display(),
            machine.file_system,
        );
    }
    let result = match benchmark {
        Benchmark::Store => store::run(&room, &store::Plan::of(&options))?,
        Benchmark::Keys => keys::run(&room, &keys::Plan::of(&options))?,
    };
    if options.json {
        let mut json = result.json;
        json["machine"] = machine.json();
        println!("{json:#}");
    } else {
        println!("{machine}\n{}", result.text);
    }
    Ok(())
}

/// What a benchmark found, for people and for programs.
struct Findings {
    text: String,
    json: Value,
}

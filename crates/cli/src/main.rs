//! The `bedstone` command: parses, calls the library, prints.
//!
//! - Results go to stdout; progress, what a canister prints, and errors go to stderr.
//! - Exit code 0: done. 1: it failed, and a sentence on stderr says what, where and what to do. 2: wrong usage.
//! - A command that fails leaves the state directory as it was, except that a message which ran and trapped leaves its
//!   lines in the canister's log.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod kills;
mod machine;
mod module_file;
mod output;
mod probe;
mod progress;
mod report;
mod side_by_side;
mod snapshot_metadata;
mod state;

use std::path::PathBuf;
use std::process::ExitCode;

use bedstone::{Compiler, StableAccess};
use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  bedstone demo                                   what Bedstone brings: graphs, and a kill without loss
  bedstone install map map.wasm                   install a canister and call it `map`
  bedstone call map insert '(1, 10)'              an update call
  bedstone call map get '(1)' --query             a query call
  bedstone upgrade map map.wasm                   new code, same data
  bedstone snapshot take map                      keep its state; `snapshot load` brings it back
  bedstone fork map map2                          a second canister that begins as a copy
  bedstone status                                 the canisters, and what they take on disk
  bedstone doctor                                 whether this disk and machine are fit for them
  bedstone verify                                 look for damage in the state directory
  bedstone compare my.wasm --call 'work (1000)'   the demo's graph for a canister of yours";

/// Runs Internet Computer canisters on this machine, with stable memory as a Wasm memory of its own.
///
/// Canisters and their data live in a state directory, by default `.bedstone` here. Each command opens it, does one thing,
/// and keeps all of that or, if it is interrupted, none; what was kept survives kills and power cuts.
#[derive(Debug, Parser)]
#[command(name = "bedstone", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "For all commands", next_display_order = 1000)]
struct Global {
    /// The state directory: canisters, their names and all their data
    #[arg(long, value_name = "DIR", default_value = ".bedstone", global = true)]
    state: PathBuf,

    /// How canisters reach their stable memory; either gives the same results, and the state fits both
    #[arg(long, value_enum, default_value_t = Stable::Native, global = true)]
    stable: Stable,

    /// What makes machine code of canisters; whichever it is gives the same results
    #[arg(long, value_enum, default_value_t = Compiling::Optimising, global = true)]
    compiler: Compiling,

    /// Where compiled canisters are kept, so that they start at once the next time; `off` for nowhere. By default the
    /// directory `bedstone` in $XDG_CACHE_HOME or ~/.cache
    #[arg(long, value_name = "DIR", env = "BEDSTONE_COMPILE_CACHE", hide_env_values = true, global = true)]
    compile_cache: Option<PathBuf>,

    /// How the pages that a message writes are found; either gives the same results, and the state fits both
    #[arg(long, value_enum, default_value_t = Tracker::Barrier, global = true)]
    tracker: Tracker,

    /// Print one JSON value on stdout instead of text for people
    #[arg(long, global = true)]
    json: bool,
}

/// See [`StableAccess`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stable {
    /// Direct Wasm operations on a second, 64-bit memory
    Native,
    /// Calls of host functions
    Host,
}

/// See [`Compiler`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compiling {
    /// Fast code after a wait
    Optimising,
    /// Code that is there sooner and runs slower
    Baseline,
    /// That first, and fast code once it is there
    Both,
}

impl From<Compiling> for Compiler {
    fn from(compiling: Compiling) -> Self {
        match compiling {
            Compiling::Optimising => Self::Optimising,
            Compiling::Baseline => Self::Baseline,
            Compiling::Both => Self::BaselineThenOptimising,
        }
    }
}

impl From<Stable> for StableAccess {
    fn from(stable: Stable) -> Self {
        match stable {
            Stable::Native => Self::Native,
            Stable::Host => Self::Host,
        }
    }
}

/// See [`bedstone::Tracker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tracker {
    /// The rewritten code marks each page that it writes
    Barrier,
    /// Pages are write-protected, and the first write to one faults
    Fault,
}

impl From<Tracker> for bedstone::Tracker {
    fn from(tracker: Tracker) -> Self {
        match tracker {
            Tracker::Barrier => Self::Barrier,
            Tracker::Fault => Self::Fault,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Install(commands::install::Install),
    Upgrade(commands::upgrade::Upgrade),
    Status(commands::status::Status),
    Logs(commands::logs::Logs),
    Delete(commands::delete::Delete),
    Call(commands::call::Call),
    Snapshot(commands::snapshot::Snapshot),
    Fork(commands::fork::Fork),
    Verify(commands::verify::Verify),
    Repair(commands::repair::Repair),
    Doctor(commands::doctor::Doctor),
    Demo(commands::demo::Demo),
    Compare(commands::compare::Compare),
    Instrument(commands::instrument::Instrument),
    #[command(hide = true)]
    InsertUntilKilled(commands::insert_until_killed::InsertUntilKilled),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let global = &cli.global;
    let result = match &cli.command {
        Command::Install(command) => command.run(global),
        Command::Upgrade(command) => command.run(global),
        Command::Status(command) => command.run(global),
        Command::Logs(command) => command.run(global),
        Command::Delete(command) => command.run(global),
        Command::Call(command) => command.run(global),
        Command::Snapshot(command) => command.run(global),
        Command::Fork(command) => command.run(global),
        Command::Verify(command) => command.run(global),
        Command::Repair(command) => command.run(global),
        Command::Doctor(command) => command.run(global),
        Command::Demo(command) => command.run(global),
        Command::Compare(command) => command.run(global),
        Command::Instrument(command) => command.run(global),
        Command::InsertUntilKilled(command) => command.run(global),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(usage) = error.downcast_ref::<clap::Error>() {
                usage.exit();
            }
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// An error of usage that the parser cannot see: exit code 2.
fn usage(message: impl std::fmt::Display) -> anyhow::Error {
    use clap::CommandFactory;
    Cli::command().error(clap::error::ErrorKind::ArgumentConflict, message).into()
}

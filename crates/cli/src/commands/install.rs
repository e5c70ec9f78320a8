//! `bedstone install`: puts a module into a canister.
//!
//! - A canister whose first installation fails does not exist afterwards, nor does a state directory made for it.

use std::path::PathBuf;

use anyhow::bail;
use bedstone::{InstallMode, Principal, Receipt, WasmMemoryPersistence};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::arguments::{ArgsFormat, Argument, Given, Receiver};
use crate::state::State;
use crate::{Global, module_file, output, progress, usage};

const EXAMPLES: &str = "\
Examples:
  bedstone install map map.wasm
  bedstone install ledger ledger.wasm.gz --args '(record { owner = principal \"aaaaa-aa\" })'
  bedstone install map map.wasm --mode reinstall";

/// Install a module: into a new canister, or over the code of an existing one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Install {
    /// A name for the canister, made if it is new; or the id of an existing one
    #[arg(value_parser = super::name())]
    name: String,

    /// The module: .wasm, .wasm.gz or .wat
    file: PathBuf,

    /// What happens to a canister that has code already
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    mode: Mode,

    #[command(flatten)]
    options: Options,
}

/// What `install` and `upgrade` share.
#[derive(Debug, Args)]
pub struct Options {
    /// The argument of the canister's init or post_upgrade function [default: `()`]
    #[arg(long, value_name = "TEXT", conflicts_with = "args_file")]
    args: Option<String>,

    /// A file with that argument
    #[arg(long, value_name = "F")]
    args_file: Option<PathBuf>,

    /// How the argument is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ArgsFormat::Candid)]
    args_format: ArgsFormat,

    /// What an upgrade does with the heap [default: keep if both modules have enhanced orthogonal persistence]
    #[arg(long, value_enum, value_name = "WHAT")]
    wasm_memory_persistence: Option<Persistence>,

    /// Upgrade without running the old module's pre_upgrade function
    #[arg(long)]
    skip_pre_upgrade: bool,
}

/// How code takes the place of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Install if the canister is empty, else upgrade
    Auto,
    /// Only into an empty canister
    Install,
    /// Delete heap and stable memory first
    Reinstall,
    /// Keep stable memory
    Upgrade,
}

impl Mode {
    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Install => "install",
            Self::Reinstall => "reinstall",
            Self::Upgrade => "upgrade",
        }
    }
}

/// See [`WasmMemoryPersistence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Persistence {
    /// The heap stays as it is
    Keep,
    /// The new module starts with its own
    Replace,
}

impl Install {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let for_upgrades = self.options.skip_pre_upgrade || self.options.wasm_memory_persistence.is_some();
        if for_upgrades && matches!(self.mode, Mode::Install | Mode::Reinstall) {
            return Err(usage(format_args!(
                "--skip-pre-upgrade and --wasm-memory-persistence are about upgrades, not --mode {}",
                self.mode.word()
            )));
        }
        let request = Request { name: &self.name, file: &self.file, mode: self.mode, options: &self.options };
        request.run(global)
    }
}

/// An installation as asked for.
pub struct Request<'a> {
    /// The canister's name or id.
    pub name: &'a str,
    /// The module's file.
    pub file: &'a PathBuf,
    /// How.
    pub mode: Mode,
    /// Everything else.
    pub options: &'a Options,
}

/// An installation that succeeded.
struct Done {
    canister: Principal,
    mode: Mode,
    receipt: Receipt,
}

impl Request<'_> {
    /// Installs, saves and prints.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let options = self.options;
        let module = module_file::read(self.file)?;
        let (text, file) = (options.args.as_deref(), options.args_file.as_deref());
        let argument = Given { text, file, format: options.args_format }.read()?;
        let state = match self.mode {
            Mode::Upgrade => State::open(global)?,
            _ => State::open_or_make(global)?,
        };
        let progress = progress::spinner(global, format!("installing {}", self.file.display()));
        let result = self.install(&state, module, &argument);
        drop(progress);
        match result {
            Ok(done) => {
                state.save()?;
                output::canister_lines(&done.receipt);
                self.print(global, &done)
            }
            Err(error) => {
                state.discard_if_made()?;
                Err(error)
            }
        }
    }

    fn install(&self, state: &State<'_>, module: Vec<u8>, argument: &Argument) -> anyhow::Result<Done> {
        let (network, options) = (&state.network, self.options);
        let existing = match self.mode {
            Mode::Upgrade => Some(state.find(self.name)?),
            _ => state.look_up(self.name)?,
        };
        let interface = network.module_interface(&module).or_else(|error| match error {
            bedstone::Error::Module(text) => {
                bail!("{} is not a canister's module: {text}", self.file.display())
            }
            bedstone::Error::Candid(text) => {
                output::note(format_args!("note: {}: {text}", self.file.display()));
                Ok(None)
            }
            error => Err(error.into()),
        })?;
        let canister = existing.map_or_else(|| network.create_canister(), Ok)?;
        let empty = network.status(canister)?.is_none_or(|status| status.module_hash.is_none());
        let mode = match self.mode {
            Mode::Auto if empty => Mode::Install,
            Mode::Auto => Mode::Upgrade,
            mode => mode,
        };
        let receiver = if mode == Mode::Upgrade { Receiver::PostUpgrade } else { Receiver::Init };
        let arg = argument.encode(interface.as_ref(), receiver)?;
        let install_mode = match mode {
            Mode::Upgrade => InstallMode::Upgrade {
                skip_pre_upgrade: options.skip_pre_upgrade,
                wasm_memory_persistence: match options.wasm_memory_persistence {
                    Some(Persistence::Keep) => Some(WasmMemoryPersistence::Keep),
                    Some(Persistence::Replace) => Some(WasmMemoryPersistence::Replace),
                    None => network.both_persist_heap(canister, &module)?,
                },
            },
            Mode::Reinstall => InstallMode::Reinstall,
            Mode::Install | Mode::Auto => InstallMode::Install,
        };
        let caller = Principal::anonymous();
        let receipt =
            network.install_code(bedstone::Install { canister, mode: install_mode, module, arg, caller })?;
        if let Err(reject) = receipt.reply.clone() {
            output::canister_lines(&receipt);
            // What ran and failed leaves its lines in the log of a canister that stays.
            if existing.is_some() && !receipt.log.is_empty() {
                state.save()?;
            }
            let what = format!("the {} of {} as {} failed", mode.word(), self.file.display(), self.name);
            return Err(output::rejected(what, reject));
        }
        if existing.is_none() {
            network.name_canister(self.name, canister)?;
        }
        Ok(Done { canister, mode, receipt })
    }

    fn print(&self, global: &Global, done: &Done) -> anyhow::Result<()> {
        let id = done.canister.to_text();
        if global.json {
            let mut members = output::costs(&done.receipt);
            members.insert("name".to_owned(), json!(self.name));
            members.insert("id".to_owned(), json!(id));
            members.insert("mode".to_owned(), json!(done.mode.word()));
            return output::print(serde_json::Value::Object(members));
        }
        let verb = match done.mode {
            Mode::Install | Mode::Auto => "installed",
            Mode::Reinstall => "reinstalled",
            Mode::Upgrade => "upgraded",
        };
        let instructions = output::grouped(done.receipt.instructions);
        output::print(format_args!("{verb} {} ({id}): {instructions} instructions", self.name))
    }
}

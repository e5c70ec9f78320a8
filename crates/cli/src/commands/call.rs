//! `bedstone call`: one message to a canister.
//!
//! - A query is not saved: it leaves no trace. An update that ran is, also if it trapped: its log stays.

use std::path::PathBuf;

use bedstone::{CallKind, Interface, Principal, Receipt};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::arguments::{ArgsFormat, Given, Receiver};
use crate::output::hex;
use crate::state::State;
use crate::{Global, output, progress};

const EXAMPLES: &str = "\
Examples:
  bedstone call map insert '(1, 10)'
  bedstone call map get '(1)' --query
  bedstone call map get '(1)' --query --json
  bedstone call map get 4449444c00017d01 --args-format hex -o hex
  bedstone call ledger whoami --as 2vxsx-fae";

/// Call a method of a canister and show its reply and, with --json, what it cost
///
/// The argument is Candid text, encoded with the types of the interface that the module carries, if it does. A reject or
/// trap exits with 1 and says why. Lines that the canister prints go to stderr.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Call {
    /// The canister's name or id
    #[arg(value_parser = super::name())]
    name: String,

    /// The method
    method: String,

    /// The argument [default: `()`]
    args: Option<String>,

    /// A file with the argument
    #[arg(long, value_name = "F", conflicts_with = "args")]
    args_file: Option<PathBuf>,

    /// Call as a query: nothing that it does is kept
    #[arg(long)]
    query: bool,

    /// Who calls [default: the anonymous principal]
    #[arg(long = "as", value_name = "PRINCIPAL", value_parser = principal)]
    caller: Option<Principal>,

    /// How the argument is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ArgsFormat::Candid)]
    args_format: ArgsFormat,

    /// How the reply is shown
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = OutputFormat::Candid)]
    output: OutputFormat,
}

/// How a reply is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// Candid text
    Candid,
    /// The reply's bytes as hexadecimal digits
    Hex,
}

fn principal(text: &str) -> Result<Principal, String> {
    Principal::from_text(text).map_err(|error| format!("not a principal: {error}"))
}

impl Call {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let (text, file) = (self.args.as_deref(), self.args_file.as_deref());
        let argument = Given { text, file, format: self.args_format }.read()?;
        let state = State::open(global)?;
        let canister = state.find(&self.name)?;
        let progress = progress::spinner(global, format!("calling {} of {}", self.method, self.name));
        let interface = state.network.interface(canister).or_else(|error| match error {
            bedstone::Error::Candid(text) => {
                output::note(format_args!("note: {}: {text}", self.name));
                Ok(None)
            }
            error => Err(error),
        })?;
        let arg = argument.encode(interface.as_ref(), Receiver::Method(&self.method))?;
        let kind = if self.query { CallKind::Query } else { CallKind::Update };
        let caller = self.caller.unwrap_or_else(Principal::anonymous);
        let receipt = state.network.call(bedstone::Call {
            canister,
            method: self.method.clone(),
            arg,
            caller,
            kind,
        })?;
        drop(progress);
        output::canister_lines(&receipt);
        // A call that was refused before it ran changed nothing, not even the log.
        let ran = receipt.reply.is_ok() || receipt.instructions > 0 || !receipt.log.is_empty();
        if ran && kind == CallKind::Update {
            state.save()?;
        }
        self.print(global, interface.as_ref(), &receipt)?;
        let what = || format!("{} of {} gave no reply", self.method, self.name);
        receipt.reply.map(drop).map_err(|reject| output::rejected(what(), reject))
    }

    fn print(&self, global: &Global, interface: Option<&Interface>, receipt: &Receipt) -> anyhow::Result<()> {
        let reply = receipt.reply.as_ref().ok();
        let text = reply.map(|reply| match interface {
            Some(interface) => interface.decode(&self.method, reply),
            None => Interface::decode_untyped(reply),
        });
        if global.json {
            let mut members = output::costs(receipt);
            members.insert("reply_hex".to_owned(), json!(reply.map(|reply| hex(reply))));
            members.insert("reply".to_owned(), json!(text.and_then(Result::ok)));
            let reject = receipt.reply.as_ref().err().map(|reject| {
                let (code, error_code) = (reject.code, reject.error_code_text());
                json!({"code": code, "error_code": error_code, "message": reject.message})
            });
            members.insert("reject".to_owned(), reject.unwrap_or(Value::Null));
            return output::print(Value::Object(members));
        }
        match (self.output, reply, text) {
            (_, None, _) | (_, _, None) => Ok(()),
            (OutputFormat::Hex, Some(reply), _) => output::print(hex(reply)),
            (OutputFormat::Candid, _, Some(Ok(text))) => output::print(text),
            (OutputFormat::Candid, Some(reply), Some(Err(error))) => {
                output::note(format_args!("note: {error}; it is shown as hexadecimal digits"));
                output::print(hex(reply))
            }
        }
    }
}

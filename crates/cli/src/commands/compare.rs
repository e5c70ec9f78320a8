//! `bedstone compare`: the demo's measurement for anybody's canister.

use std::path::PathBuf;

use anyhow::bail;
use bedstone::{CallKind, Interface, Network};
use clap::Args;
use serde_json::{Map, json};

use crate::arguments::{Argument, Receiver};
use crate::report::{Report, Survived};
use crate::side_by_side::{Message, SideBySide};
use crate::{Global, module_file, output, progress};

const EXAMPLES: &str = "\
Examples:
  bedstone compare my.wasm --call 'work (1000)'
  bedstone compare ledger.wasm.gz --init '(record { owner = null })' --call 'mint (5)' --call 'total ()'
  bedstone compare my.wasm --call 'work (1000)' --repeat 20 --svg graph.svg";

/// Measure a canister of yours with and without native stable memory
///
/// Installs the module in three fresh networks that differ in how stable memory is reached, sends each the same calls,
/// draws the time of each, checks that replies, instruction counts and stable memories are equal, and upgrades the
/// canister to itself. Everything happens in memory: no state directory is used.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Compare {
    /// The module: .wasm, .wasm.gz or .wat
    #[arg(value_name = "WASM")]
    module: PathBuf,

    /// A call, as a method and its argument in Candid text; may be given several times
    #[arg(long = "call", value_name = "'METHOD (ARGS)'", required = true)]
    calls: Vec<String>,

    /// How many times each call is sent before the next one
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,

    /// Send all calls as queries [default: those that the module's interface calls queries]
    #[arg(long)]
    query: bool,

    /// The argument of init, and of post_upgrade, in Candid text [default: `()`]
    #[arg(long, value_name = "TEXT")]
    init: Option<String>,

    /// Also draw the graph into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Compare {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let module = module_file::read(&self.module)?;
        let progress = progress::bar(global, self.calls.len() as u64 * u64::from(self.repeat));
        progress.say("compiling");
        let mut networks = SideBySide::new()?;
        let interface = self.interface(networks.any_network(), &module)?;
        let init = self.init.clone().map_or(Argument::Absent, Argument::Text);
        let init = init.encode(interface.as_ref(), Receiver::Init)?;
        let calls: Vec<Message> = self
            .calls
            .iter()
            .map(|call| self.message(call, interface.as_ref()))
            .collect::<anyhow::Result<_>>()?;

        networks.install(&module, &init)?;
        progress.say("messages sent to three networks");
        for message in calls.iter().flat_map(|call| std::iter::repeat_n(call, self.repeat as usize)) {
            networks.send(message)?;
            progress.step();
        }
        progress.say("upgrading");
        let queries: Vec<&Message> = calls.iter().filter(|call| call.kind == CallKind::Query).collect();
        let survived = upgrade(&mut networks, &module, &init, &queries)?;
        let measured = networks.finish()?;
        drop(progress);

        let messages = measured.lanes[0].wall.len();
        let mut members = Map::new();
        members.insert("calls".to_owned(), json!(self.calls));
        members.insert("repeat".to_owned(), json!(self.repeat));
        members.insert("entries".to_owned(), json!(null));
        let file = self.module.file_name().unwrap_or_default().to_string_lossy();
        let report = Report {
            introduction: format!(
                "{messages} messages to {}: {}",
                self.module.display(),
                self.calls.join(", ")
            ),
            title: format!("{file}: {}", self.calls.join(", ")),
            x_label: "message".to_owned(),
            x: (1..=messages).map(|index| index as f64).collect(),
            measured,
            survived,
            epilogue: None,
            members,
        };
        report.deliver(global, self.svg.as_deref())
    }

    fn interface(&self, network: &Network, module: &[u8]) -> anyhow::Result<Option<Interface>> {
        network.module_interface(module).or_else(|error| match error {
            bedstone::Error::Module(text) => {
                bail!("{} is not a canister's module: {text}", self.module.display())
            }
            bedstone::Error::Candid(text) => {
                output::note(format_args!("note: {}: {text}", self.module.display()));
                Ok(None)
            }
            error => Err(error.into()),
        })
    }

    fn message(&self, call: &str, interface: Option<&Interface>) -> anyhow::Result<Message> {
        let call = call.trim();
        let end = call.find(|character: char| character == '(' || character.is_whitespace());
        let (method, argument) = call.split_at(end.unwrap_or(call.len()));
        if method.is_empty() {
            bail!("the call {call:?} names no method; write it as 'method (arguments)'");
        }
        let argument = match argument.trim() {
            "" => Argument::Absent,
            text => Argument::Text(text.to_owned()),
        };
        let arg = argument.encode(interface, Receiver::Method(method))?;
        let is_query = self.query || interface.and_then(|interface| interface.is_query(method)) == Some(true);
        let kind = if is_query { CallKind::Query } else { CallKind::Update };
        Ok(Message { method: method.to_owned(), arg, kind })
    }
}

/// Upgrades to the same module; the queries must answer afterwards what they answered before.
fn upgrade(
    networks: &mut SideBySide,
    module: &[u8],
    arg: &[u8],
    queries: &[&Message],
) -> anyhow::Result<Survived> {
    let replies = |networks: &mut SideBySide| -> anyhow::Result<Vec<_>> {
        queries.iter().map(|query| networks.ask(query)).collect()
    };
    let before = replies(networks)?;
    if let Err(error) = networks.upgrade(module, arg) {
        return Ok(Survived { yes: false, what: format!("{error:#}") });
    }
    let yes = replies(networks)? == before;
    let what = match queries.len() {
        _ if !yes => "a query answers differently, as with data that is on the heap alone".to_owned(),
        0 => "no call is a query that could tell more".to_owned(),
        1 => "the query answers what it did before".to_owned(),
        count => format!("{count} queries answer what they did before"),
    };
    Ok(Survived { yes, what })
}

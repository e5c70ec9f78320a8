//! `bedstone demo`: what native stable memory brings to the sample dapp.
//!
//! - The messages depend on nothing but `--messages` and `--entries`.
//! - Nothing is read from or written to the state directory; the processes that are killed have one of their own, which is
//!   temporary.

use std::path::PathBuf;

use bedstone::CallKind;
use candid::Nat;
use clap::Args;
use serde_json::{Map, json};

use crate::kills::Kills;
use crate::output::grouped;
use crate::report::{Report, Survived};
use crate::side_by_side::{Message, SideBySide};
use crate::{Global, progress};

/// The sample dapp: a map from number to number that owns the whole of stable memory.
pub const MODULE: &[u8] = include_bytes!("../../../../canisters/prebuilt/btreemap.wasm");

/// Bytes of a packed entry: key and value, 16 bytes each.
const ENTRY_BYTES: u64 = 32;
/// Largest argument of a message, in bytes.
const ARGUMENT_BYTES_MAX: u64 = 2 << 20;
/// Bytes of Candid around a blob: `DIDL`, the type `vec nat8` in 3, one argument of it in 2, and its length in 3 or 4.
const CANDID_BYTES_MAX: u64 = 4 + 3 + 2 + 4;
/// Most entries that fit in a message.
const ENTRIES_MAX: u64 = (ARGUMENT_BYTES_MAX - CANDID_BYTES_MAX) / ENTRY_BYTES;
/// Most values that are read back after the upgrade.
const READ_BACK_MAX: u64 = 100;

const EXAMPLES: &str = "\
Examples:
  bedstone demo
  bedstone demo --svg graph.svg
  bedstone demo --kills 100                          kill the canister's process more often
  bedstone demo --messages 2 --entries 200 --json    a quick one";

/// Show what Bedstone brings: bulk inserts with and without native stable memory, and a process killed without loss
///
/// Inserts entries into a map in stable memory (a canister around StableBTreeMap of ic-stable-structures), message by
/// message, in three fresh networks that differ in how stable memory is reached; draws the time of each message as the map
/// grows; checks that instruction counts and stable memories are equal; upgrades the canister and reads values back. All of
/// this happens in memory. Then another process inserts on disk, one message at a time, and is killed (SIGKILL) while it
/// does; what it was answered must all be there. That is in a temporary directory: the state directory is not used.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Demo {
    /// How many messages to send
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    messages: u32,

    /// How many entries of 32 bytes a message inserts
    #[arg(long, value_name = "N", default_value_t = 60_000, value_parser = entries)]
    entries: u64,

    /// How often the process that inserts on disk is killed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    kills: u32,

    /// Also draw the graph into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn entries(text: &str) -> Result<u64, String> {
    let entries: u64 = text.parse().map_err(|error| format!("{error}"))?;
    if (1..=ENTRIES_MAX).contains(&entries) {
        return Ok(entries);
    }
    Err(format!(
        "a message has 1 to {} entries: its argument may have {} bytes, an entry has {ENTRY_BYTES}",
        grouped(ENTRIES_MAX),
        grouped(ARGUMENT_BYTES_MAX)
    ))
}

impl Demo {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let messages = u64::from(self.messages);
        let progress = progress::bar(global, messages);
        let empty = candid::encode_args(())?;
        progress.say("compiling");
        let mut networks = SideBySide::new()?;
        networks.install(MODULE, &empty)?;
        progress.say("messages sent to three networks");
        for index in 0..messages {
            networks.send(&self.bulk_insert(index)?)?;
            progress.step();
        }
        progress.say("upgrading and reading back");
        networks.upgrade(MODULE, &empty)?;
        let survived = self.read_back(&mut networks)?;
        let measured = networks.finish()?;
        drop(progress);
        let kills = match self.kills {
            0 => None,
            kills => Some(Kills::run(kills, &progress::bar(global, u64::from(kills)))?),
        };

        let mut members = Map::new();
        members.insert("entries".to_owned(), json!(self.entries));
        members.insert("killed".to_owned(), json!(kills.as_ref().map(Kills::json)));
        let report = Report {
            introduction: self.introduction(),
            title: format!("Bulk inserts of {} entries into a StableBTreeMap", grouped(self.entries)),
            x_label: "entries in the map after the message (thousands)".to_owned(),
            x: (1..=messages).map(|index| (index * self.entries) as f64 / 1e3).collect(),
            measured,
            survived,
            epilogue: kills.as_ref().map(Kills::text),
            members,
        };
        report.deliver(global, self.svg.as_deref())
    }

    fn introduction(&self) -> String {
        format!(
            "The sample dapp keeps a StableBTreeMap<u128, u128> in stable memory.\n{} messages, each inserting {} entries \
             ({:.2} MB).",
            self.messages,
            grouped(self.entries),
            (self.entries * ENTRY_BYTES) as f64 / 1e6
        )
    }

    fn bulk_insert(&self, index: u64) -> anyhow::Result<Message> {
        let first = index * self.entries;
        let mut packed = Vec::with_capacity(usize::try_from(self.entries * ENTRY_BYTES)?);
        for (key, value) in (first..first + self.entries).map(entry) {
            packed.extend(key.to_le_bytes());
            packed.extend(value.to_le_bytes());
        }
        let arg = candid::encode_one(packed)?;
        Ok(Message { method: "insert_many".to_owned(), arg, kind: CallKind::Update })
    }

    /// Whether the map has all entries, by its length and by values from all parts of the sequence.
    fn read_back(&self, networks: &mut SideBySide) -> anyhow::Result<Survived> {
        let entries = u64::from(self.messages) * self.entries;
        let count = entries.min(READ_BACK_MAX);
        let length = query("len", candid::encode_args(())?);
        let is_length =
            |reply: &Vec<u8>| candid::decode_one::<u64>(reply).is_ok_and(|length| length == entries);
        let mut yes = networks.ask(&length)?.iter().all(is_length);
        for index in (0..count).map(|number| number * entries / count) {
            let (key, value) = entry(index);
            let get = query("get", candid::encode_one(Nat::from(key))?);
            let expected = candid::encode_one(Some(Nat::from(value)))?;
            yes &= networks.ask(&get)?.iter().all(|reply| *reply == expected);
        }
        let what = format!("the length and {count} values read back after it");
        Ok(Survived { yes, what })
    }
}

fn query(method: &str, arg: Vec<u8>) -> Message {
    Message { method: method.to_owned(), arg, kind: CallKind::Query }
}

/// An entry of the fixed pseudo-random sequence. Keys differ, since [`mix`] is a bijection.
fn entry(index: u64) -> (u128, u128) {
    let word = |part: u64| u128::from(mix(index * 4 + part));
    (word(0) << 64 | word(1), word(2) << 64 | word(3))
}

/// The step and the finalizer of SplitMix64.
fn mix(index: u64) -> u64 {
    let mut word = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_message_fits_and_one_more_entry_would_not() {
        let demo = Demo { messages: 1, entries: ENTRIES_MAX, kills: 0, svg: None };
        let bytes = demo.bulk_insert(0).unwrap().arg.len() as u64;
        assert!(bytes <= ARGUMENT_BYTES_MAX && bytes + ENTRY_BYTES > ARGUMENT_BYTES_MAX, "{bytes}");
        assert!(bytes <= ENTRIES_MAX * ENTRY_BYTES + CANDID_BYTES_MAX, "{bytes}");
    }
}

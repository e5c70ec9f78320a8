//! `bedstone doctor`: what to expect of this machine, and of the disk under a state directory.
//!
//! - Advice is a function of what was found: it is given in the same words wherever that is.
//! - The state directory is neither opened nor made.

use std::time::Duration;

use anyhow::{Context, bail};
use bedstone_instrument::abi::{STABLE_WASM_PAGES_MAX, WASM_PAGE_BYTES};
use bedstone_instrument::limits::HEAP64_BYTES_MAX;
use bedstone_store::{FileSystem, PAGE_BYTES};
use clap::Args;
use serde_json::{Value, json};

use crate::machine::{Limit, Machine};
use crate::output::grouped;
use crate::probe::{Probe, SYNCS, Trial};
use crate::{Global, output, progress};

/// Address space of a canister: stable memory, one heap, and what keeps book of them, each with a guard of 32 MiB.
const CANISTER_ADDRESS_BYTES: u64 =
    STABLE_WASM_PAGES_MAX * WASM_PAGE_BYTES + HEAP64_BYTES_MAX + (4 << 30) + 3 * (32 << 20);
/// Below this the store takes no new messages.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// A full log of 256 MiB, its checkpoint, and the reserve fit in twice that.
const FREE_BYTES_EASY: u64 = 512 << 20;
/// Files that a command may have open: the log, the tables, the one being mapped, and what a terminal and libraries hold.
const OPEN_FILES_MIN: u64 = 64;
/// Slower than a disk without moving parts.
const SYNC_SLOW: Duration = Duration::from_millis(4);
/// Faster than any disk.
const SYNC_INCREDIBLE: Duration = Duration::from_micros(10);

const EXAMPLES: &str = "\
Examples:
  bedstone doctor                        the place of ./.bedstone
  bedstone --state /mnt/state doctor
  bedstone doctor --json";

/// Show what to expect of this machine and of the disk under the state directory
///
/// Tries, with small files that are removed again, how long it takes until written bytes are safe, and whether copies of
/// files share their blocks; reads the limits of this process; and says in a sentence each what will be refused, slow, or
/// worth knowing. The state directory need not exist, and may be in use, though that makes the disk look slower. Exit code
/// 1: something will be refused.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Doctor {}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    /// It does not work.
    Refused,
    /// It works, and takes longer than it would have to.
    Slow,
    /// It works otherwise than one might think.
    Note,
}

/// A sentence.
#[derive(Debug, PartialEq, Eq)]
struct Advice {
    grade: Grade,
    text: String,
}

impl Grade {
    fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Slow => "slow",
            Self::Note => "note",
        }
    }
}

impl Doctor {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let state = global.state.display();
        let progress = progress::spinner(global, "trying the disk");
        let probe = Probe::of(&global.state)
            .with_context(|| format!("the file system of {state} cannot be looked at, check the path"))?;
        drop(progress);
        let machine = Machine::this();
        let mut advice = of_disk(&probe);
        advice.extend(of_machine(&machine));
        output::print(if global.json {
            json(global, &probe, &machine, &advice).to_string()
        } else {
            text(global, &probe, &machine, &advice)
        })?;
        match advice.iter().filter(|advice| advice.grade == Grade::Refused).count() {
            0 => Ok(()),
            1 => bail!("a state in {state} will not work here, for the reason above"),
            count => bail!("a state in {state} will not work here, for the {count} reasons above"),
        }
    }
}

fn of_disk(probe: &Probe) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut say = |grade, text: String| all.push(Advice { grade, text });
    match probe.file_system {
        FileSystem::Local(_) => {}
        FileSystem::Memory(name) => say(
            Grade::Note,
            format!("{name} is in memory: a state there survives a killed process, but neither a restart nor a power cut"),
        ),
        FileSystem::Network(name) => say(
            Grade::Refused,
            format!("{name} is reached over a network, where a sync and a lock promise less than they say: choose a local disk"),
        ),
        FileSystem::Fuse => say(
            Grade::Refused,
            "a file system served by a process (FUSE) decides by itself what a sync means: choose a local disk".to_owned(),
        ),
    }
    let free = grouped(probe.space.free_bytes);
    if probe.space.free_bytes < FREE_BYTES_MIN {
        say(
            Grade::Refused,
            format!("with {free} bytes free, updates are refused: free {} or more", grouped(FREE_BYTES_EASY)),
        );
    } else if probe.space.free_bytes < FREE_BYTES_EASY {
        say(Grade::Note, format!("{free} bytes free are soon taken: a log alone may have 268,435,456"));
    }
    match &probe.trial {
        Err(error) => say(
            Grade::Refused,
            format!(
                "{} cannot be written ({error}): make it writable or choose another directory",
                probe.place.display()
            ),
        ),
        Ok(trial) => {
            if trial.sync_median > SYNC_SLOW {
                say(
                    Grade::Slow,
                    format!(
                        "an update waits {} until it is safe: {} a second, one after another; a disk without moving parts is \
                         quicker",
                        milliseconds(trial.sync_median),
                        grouped(per_second(trial))
                    ),
                );
            }
            if trial.sync_median < SYNC_INCREDIBLE && matches!(probe.file_system, FileSystem::Local(_)) {
                say(
                    Grade::Note,
                    "a sync is quicker than any disk, so it does not wait for one: a power cut may take answered messages"
                        .to_owned(),
                );
            }
            if !trial.reflink {
                say(
                    Grade::Slow,
                    "copies of files do not share blocks here, so that a snapshot or fork of a canister writes all of its data \
                     again: XFS and btrfs share"
                        .to_owned(),
                );
            }
        }
    }
    all
}

fn of_machine(machine: &Machine) -> Vec<Advice> {
    let mut all = Vec::new();
    let mut say = |grade, text: String| all.push(Advice { grade, text });
    if let Some(bytes) = machine.page_bytes.filter(|bytes| *bytes != PAGE_BYTES as u64) {
        say(
            Grade::Refused,
            format!(
                "this kernel's pages have {} bytes, and canisters are mapped by pages of 4,096",
                grouped(bytes)
            ),
        );
    }
    if let Some(Limit::At(bytes)) = machine.address_space_bytes {
        let canisters = bytes / CANISTER_ADDRESS_BYTES;
        let each =
            format!("each takes {} bytes: raise it (`ulimit -v unlimited`)", grouped(CANISTER_ADDRESS_BYTES));
        let limit =
            format!("the limit on address space has room for {canisters} canisters at once, and {each}");
        say(if canisters == 0 { Grade::Refused } else { Grade::Note }, limit);
    }
    if let Some(Limit::At(files)) =
        machine.open_files.filter(|files| matches!(files, Limit::At(..OPEN_FILES_MIN)))
    {
        say(
            Grade::Refused,
            format!(
                "{files} open files are too few for the log, the tables and the modules: raise the limit (`ulimit -n 1024`)"
            ),
        );
    }
    if machine.overcommit == Some(2) {
        let limit = machine
            .commit_limit_bytes
            .map_or_else(String::new, |bytes| format!(" of {} bytes", grouped(bytes)));
        say(
            Grade::Note,
            format!(
                "the kernel promises no more memory than it has: all that canisters' memories could hold counts against its \
                 limit{limit}, also where nothing was written"
            ),
        );
    }
    if let Some(bytes) = machine.memory_available_bytes.filter(|bytes| *bytes < 1 << 30) {
        say(
            Grade::Slow,
            format!("{} bytes of memory are left, and compiling a large module takes more", grouped(bytes)),
        );
    }
    all
}

/// Updates that can be made safe one after another.
fn per_second(trial: &Trial) -> u64 {
    (1.0 / trial.sync_median.as_secs_f64().max(1e-9)) as u64
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

/// A file system's name, and a word for its kind.
fn kind(file_system: FileSystem) -> (&'static str, &'static str) {
    match file_system {
        FileSystem::Local(name) => (name, "local"),
        FileSystem::Memory(name) => (name, "memory"),
        FileSystem::Network(name) => (name, "network"),
        FileSystem::Fuse => ("FUSE", "fuse"),
    }
}

fn is_supported(file_system: FileSystem) -> bool {
    matches!(file_system, FileSystem::Local(_) | FileSystem::Memory(_))
}

fn text(global: &Global, probe: &Probe, machine: &Machine, advice: &[Advice]) -> String {
    let unknown = || "unknown".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, |bytes| format!("{} bytes", grouped(bytes)));
    let limit = |limit: Option<Limit>| match limit {
        None => unknown(),
        Some(Limit::Unlimited) => "unlimited".to_owned(),
        Some(Limit::At(number)) => grouped(number),
    };
    let (name, _) = kind(probe.file_system);
    let supported = if is_supported(probe.file_system) { "supported" } else { "not supported" };
    let (reflink, sync) = match &probe.trial {
        Err(_) => (unknown(), unknown()),
        Ok(trial) => (
            if trial.reflink { "yes" } else { "no" }.to_owned(),
            format!(
                "median {}, 99% within {} ({SYNCS} of 4,096 bytes): {} updates a second, one after another",
                milliseconds(trial.sync_median),
                milliseconds(trial.sync_p99),
                grouped(per_second(trial))
            ),
        ),
    };
    let overcommit = match machine.overcommit {
        Some(0) => "as the kernel guesses (0)".to_owned(),
        Some(1) => "always (1)".to_owned(),
        Some(2) => format!("never (2), limit {}", bytes(machine.commit_limit_bytes)),
        Some(mode) => mode.to_string(),
        None => unknown(),
    };
    let (free, total) = (grouped(probe.space.free_bytes), grouped(probe.space.total_bytes));
    let memory =
        format!("{}, {} available", bytes(machine.memory_bytes), bytes(machine.memory_available_bytes));
    let facts = [
        ("state", format!("{} (tried in {})", global.state.display(), probe.place.display())),
        ("file system", format!("{name}, {supported}")),
        ("free space", format!("{free} of {total} bytes")),
        ("reflink", reflink),
        ("sync", sync),
        ("memory", memory),
        ("overcommit", overcommit),
        ("address space", limit(machine.address_space_bytes)),
        ("open files", limit(machine.open_files)),
        ("page", bytes(machine.page_bytes)),
        ("kernel", machine.kernel.clone().unwrap_or_else(unknown)),
    ];
    let mut lines: Vec<String> = facts.iter().map(|(label, value)| format!("{label:<15}{value}")).collect();
    lines.push(String::new());
    lines.extend(advice.iter().map(|advice| format!("{}: {}", advice.grade.word(), advice.text)));
    if advice.iter().all(|advice| advice.grade != Grade::Refused) {
        lines.push("nothing will be refused".to_owned());
    }
    lines.join("\n")
}

fn json(global: &Global, probe: &Probe, machine: &Machine, advice: &[Advice]) -> Value {
    let limit = |limit: Option<Limit>| match limit {
        None => Value::Null,
        Some(Limit::Unlimited) => json!("unlimited"),
        Some(Limit::At(number)) => json!(number),
    };
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let (name, kind) = kind(probe.file_system);
    let trial = probe.trial.as_ref().ok();
    let advice = advice.iter().map(|advice| json!({"grade": advice.grade.word(), "text": advice.text}));
    json!({
        "state": global.state.display().to_string(),
        "tried_in": probe.place.display().to_string(),
        "file_system": {"name": name, "kind": kind, "supported": is_supported(probe.file_system)},
        "free_bytes": probe.space.free_bytes,
        "total_bytes": probe.space.total_bytes,
        "writable": trial.is_some(),
        "reflink": trial.map(|trial| trial.reflink),
        "sync_median_ns": trial.map(|trial| nanos(trial.sync_median)),
        "sync_p99_ns": trial.map(|trial| nanos(trial.sync_p99)),
        "memory_bytes": machine.memory_bytes,
        "memory_available_bytes": machine.memory_available_bytes,
        "overcommit": machine.overcommit,
        "commit_limit_bytes": machine.commit_limit_bytes,
        "address_space_bytes": limit(machine.address_space_bytes),
        "open_files": limit(machine.open_files),
        "page_bytes": machine.page_bytes,
        "kernel": machine.kernel,
        "advice": advice.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use bedstone_store::Space;

    use super::*;

    fn probe(file_system: FileSystem, free_bytes: u64, trial: Result<Trial, String>) -> Probe {
        Probe { place: "/x".into(), file_system, space: Space { free_bytes, total_bytes: 1 << 40 }, trial }
    }

    fn trial(reflink: bool, sync_median: Duration) -> Result<Trial, String> {
        Ok(Trial { reflink, sync_median, sync_p99: sync_median })
    }

    fn grades(advice: &[Advice]) -> Vec<Grade> {
        advice.iter().map(|advice| advice.grade).collect()
    }

    #[test]
    fn what_is_said_of_a_disk_follows_from_what_was_found() {
        let (easy, quick) = (1 << 40, Duration::from_micros(200));
        let said = |file_system, free, trial| grades(&of_disk(&probe(file_system, free, trial)));
        let (refused, slow, note) = (Grade::Refused, Grade::Slow, Grade::Note);
        assert_eq!(said(FileSystem::Local("XFS"), easy, trial(true, quick)), []);
        assert_eq!(said(FileSystem::Local("ext4"), easy, trial(false, quick)), [slow]);
        assert_eq!(said(FileSystem::Local("XFS"), easy, trial(true, Duration::from_millis(8))), [slow]);
        assert_eq!(said(FileSystem::Local("XFS"), easy, trial(true, Duration::from_micros(2))), [note]);
        assert_eq!(said(FileSystem::Memory("tmpfs"), easy, trial(true, Duration::from_micros(2))), [note]);
        assert_eq!(said(FileSystem::Network("NFS"), easy, trial(true, quick)), [refused]);
        assert_eq!(said(FileSystem::Fuse, easy, trial(true, quick)), [refused]);
        assert_eq!(said(FileSystem::Local("XFS"), FREE_BYTES_MIN - 1, trial(true, quick)), [refused]);
        assert_eq!(said(FileSystem::Local("XFS"), FREE_BYTES_MIN, trial(true, quick)), [note]);
        assert_eq!(said(FileSystem::Local("XFS"), easy, Err("no".to_owned())), [refused]);
        let slow = of_disk(&probe(FileSystem::Local("XFS"), easy, trial(true, Duration::from_millis(8))));
        assert!(slow[0].text.contains("8.000 ms") && slow[0].text.contains(": 125 a second"), "{slow:?}");
    }

    #[test]
    fn what_is_said_of_a_machine_follows_from_what_was_found() {
        let said = |change: fn(&mut Machine)| {
            let mut machine = Machine::default();
            change(&mut machine);
            grades(&of_machine(&machine))
        };
        assert_eq!(said(|_| {}), []);
        assert_eq!(said(|machine| machine.page_bytes = Some(4096)), []);
        assert_eq!(said(|machine| machine.page_bytes = Some(65_536)), [Grade::Refused]);
        assert_eq!(said(|machine| machine.address_space_bytes = Some(Limit::Unlimited)), []);
        let room = |bytes| Some(Limit::At(bytes));
        let machine = |bytes| Machine { address_space_bytes: room(bytes), ..Machine::default() };
        assert_eq!(grades(&of_machine(&machine(CANISTER_ADDRESS_BYTES - 1))), [Grade::Refused]);
        assert_eq!(grades(&of_machine(&machine(CANISTER_ADDRESS_BYTES))), [Grade::Note]);
        assert_eq!(said(|machine| machine.open_files = Some(Limit::At(OPEN_FILES_MIN))), []);
        assert_eq!(
            said(|machine| machine.open_files = Some(Limit::At(OPEN_FILES_MIN - 1))),
            [Grade::Refused]
        );
        assert_eq!(said(|machine| machine.overcommit = Some(2)), [Grade::Note]);
        assert_eq!(said(|machine| machine.memory_available_bytes = Some(1 << 20)), [Grade::Slow]);
    }
}

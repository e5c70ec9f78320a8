//! The demo's last act: a process that inserts, one message at a time, is killed again and again, and nothing that it was
//! answered may be missing afterwards.
//!
//! - The process is this program with a hidden command. It tells each key on its stdout once its insert was answered, so
//!   that a key which arrives here has been acknowledged.
//! - It is killed by SIGKILL: nothing in it runs from then on. The machine goes on, so this shows what a crash of the
//!   process costs, not what a power cut does.
//! - Keys are 0, 1, 2 and so on. What a recovery showed once must be there ever after, acknowledged or not.
//! - The state directory is a temporary one. It goes away, unless something was lost.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow, bail};
use bedstone::{Network, NetworkBuilder, Principal};
use candid::Nat;
use serde_json::{Value, json};

use crate::output::grouped;
use crate::progress::Progress;

/// The sample canister's name in the state.
const NAME: &str = "map";
/// What the process says when it begins to insert.
const READY: &str = "ready";
/// The process is killed so long after that, at least.
const KILL_AFTER_MIN: Duration = Duration::from_millis(5);
/// And at most: long enough for more than one message on any disk, and short enough for many kills.
const KILL_AFTER_MAX: Duration = Duration::from_millis(60);
/// How long the killed process may still hold the directory's lock.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// What became of the kills.
#[derive(Debug)]
pub struct Kills {
    kills: u32,
    acknowledged: u64,
    /// Inserts that were durable, though the process was killed before it could say so.
    unacknowledged: u64,
    /// Keys that should have been there.
    lost: Vec<u64>,
    recoveries: Vec<Duration>,
    directory: PathBuf,
}

/// The value at a key: something that zeros, or another key's value, are not.
fn value(key: u64) -> u64 {
    (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn network(directory: &Path) -> NetworkBuilder {
    Network::builder().state_dir(directory).lock_wait(LOCK_WAIT)
}

/// What the process does: inserts until it is killed.
pub fn insert_until_killed(directory: &Path, module: &[u8]) -> anyhow::Result<()> {
    let network = network(directory).build()?;
    let map = match network.canister_named(NAME) {
        Some(map) => map,
        None => {
            let map = network.create_canister()?;
            network.install(map, module, ())?;
            network.name_canister(NAME, map)?;
            map
        }
    };
    let mut key = length(&network, map)?;
    let say = |line: &dyn std::fmt::Display| {
        let mut stdout = std::io::stdout().lock();
        // One write, so that a kill cannot cut a number in two.
        stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).is_ok()
    };
    let mut is_heard = say(&READY);
    while is_heard {
        let _: (Option<Nat>,) = network.update(map, "insert", (Nat::from(key), Nat::from(value(key))))?;
        is_heard = say(&key);
        key += 1;
    }
    Ok(())
}

fn length(network: &Network, map: Principal) -> anyhow::Result<u64> {
    let (length,): (u64,) = network.query(map, "len", ())?;
    Ok(length)
}

impl Kills {
    fn none(directory: PathBuf) -> Self {
        let (lost, recoveries) = (Vec::new(), Vec::new());
        Self { kills: 0, acknowledged: 0, unacknowledged: 0, lost, recoveries, directory }
    }

    /// Kills a process that inserts `kills` times, and looks each time at what is there.
    pub fn run(kills: u32, progress: &Progress) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("bedstone-demo-{}", std::process::id()));
        std::fs::create_dir(&directory)
            .with_context(|| format!("the directory {} cannot be made", directory.display()))?;
        let mut all = Self::none(directory);
        let result = (0..kills).try_for_each(|_| {
            progress.say("inserting and being killed");
            let round = all.round();
            progress.step();
            round
        });
        if all.lost.is_empty() {
            // What stays behind is in the system's place for such things.
            let _ = std::fs::remove_dir_all(&all.directory);
        }
        result.map(|()| all)
    }

    fn round(&mut self) -> anyhow::Result<()> {
        let told = Inserting::start(&self.directory)?.kill_soon()?;
        self.kills += 1;
        self.look(&told)
    }

    /// Opens the state again, and looks for every key that was told, now or before.
    fn look(&mut self, told: &[u64]) -> anyhow::Result<()> {
        let start = Instant::now();
        let network = network(&self.directory).build()?;
        self.recoveries.push(start.elapsed());
        let map = network.canister_named(NAME).ok_or_else(|| anyhow!("the canister is gone after a kill"))?;

        let expected = self.acknowledged + self.unacknowledged;
        if let Some(key) = told.iter().zip(expected..).find_map(|(key, next)| (*key != next).then_some(key)) {
            bail!(
                "the demo's process told of key {key} out of order, a defect of the demo: please report it"
            );
        }
        let expected = expected + told.len() as u64;
        let found = length(&network, map)?;
        for key in 0..expected.max(found) {
            let (there,): (Option<Nat>,) = network.query(map, "get", (Nat::from(key),))?;
            if there != Some(Nat::from(value(key))) {
                self.lost.push(key);
            }
        }
        self.acknowledged += told.len() as u64;
        self.unacknowledged += found.saturating_sub(expected);
        network.close()?;
        if found > expected + 1 {
            bail!(
                "{found} inserts are there and only {} were made, a defect of bedstone: please report it",
                expected + 1
            );
        }
        self.check()
    }

    /// Fails if something was lost.
    fn check(&self) -> anyhow::Result<()> {
        match self.lost.first() {
            None => Ok(()),
            Some(first) => bail!(
                "{} inserts are missing after {} kills, the first of them key {first}, a defect of bedstone: please report \
                 it with {}",
                self.lost.len(),
                self.kills,
                self.directory.display()
            ),
        }
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (median, max) = self.recovery();
        json!({
            "kills": self.kills,
            "acknowledged": self.acknowledged,
            "durable_before_acknowledged": self.unacknowledged,
            "lost": self.lost.len(),
            "recovery_median_ns": nanos(median),
            "recovery_max_ns": nanos(max),
        })
    }

    /// As a sentence or two.
    pub fn text(&self) -> String {
        let (median, max) = self.recovery();
        let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        format!(
            "A process that inserts into a map on disk, one message at a time, was killed {} {}\n\
             (SIGKILL): {} inserts acknowledged, {} lost; opened again in {} (median), {} at most.",
            grouped(self.kills),
            if self.kills == 1 { "time" } else { "times" },
            grouped(self.acknowledged),
            self.lost.len(),
            milliseconds(median),
            milliseconds(max)
        )
    }

    fn recovery(&self) -> (Duration, Duration) {
        let mut times = self.recoveries.clone();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied();
        (median.unwrap_or_default(), times.last().copied().unwrap_or_default())
    }
}

/// The process; killed when dropped.
struct Inserting {
    child: Child,
    lines: Receiver<String>,
}

impl Inserting {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program cannot be found, to be started again")?;
        let mut child = Command::new(program)
            .arg("insert-until-killed")
            .arg("--state")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("this program cannot be started again, as the process to be killed")?;
        let stdout = child.stdout.take().expect("it was asked for");
        let (sender, lines) = channel();
        // Ends with the process, whose end of the pipe is the only one.
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// Kills it a random time after it began to insert; the keys that it told.
    fn kill_soon(mut self) -> anyhow::Result<Vec<u64>> {
        match self.lines.recv() {
            Ok(line) if line.trim_end() == READY => {}
            _ => bail!("the process to be killed ended by itself; see above"),
        }
        std::thread::sleep(random_delay());
        self.child.kill().context("the process cannot be killed")?;
        let status = self.child.wait().context("the killed process cannot be waited for")?;
        if let Some(code) = status.code() {
            bail!("the process to be killed ended by itself, with exit code {code}; see above");
        }
        // What it wrote before is still in the pipe.
        let keys = self.lines.iter().map(|line| line.trim_end().parse());
        keys.collect::<Result<_, _>>().context("the process to be killed printed something else than keys")
    }
}

impl Drop for Inserting {
    fn drop(&mut self) {
        // It is dead already, unless something went wrong before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn random_delay() -> Duration {
    // Nobody can foresee the clock's last digits.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let span = (KILL_AFTER_MAX - KILL_AFTER_MIN).as_micros() as u64;
    KILL_AFTER_MIN + Duration::from_micros(u64::from(now.subsec_nanos()) % span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::demo::MODULE;

    #[test]
    fn a_lost_insert_is_noticed() {
        let directory = std::env::temp_dir().join(format!("bedstone-kills-{}", std::process::id()));
        let network = network(&directory).build().unwrap();
        let map = network.create_canister().unwrap();
        network.install(map, MODULE, ()).unwrap();
        network.name_canister(NAME, map).unwrap();
        for key in [0, 1] {
            let _: (Option<Nat>,) =
                network.update(map, "insert", (Nat::from(key), Nat::from(value(key)))).unwrap();
        }
        network.close().unwrap();

        let mut kills = Kills::none(directory.clone());
        kills.look(&[0]).unwrap();
        assert_eq!((kills.acknowledged, kills.unacknowledged), (1, 1));
        let out_of_order = kills.look(&[3]).unwrap_err().to_string();
        assert!(out_of_order.contains("told of key 3 out of order"), "{out_of_order}");
        let lost = kills.look(&[2, 3]).unwrap_err().to_string();
        assert!(lost.starts_with("2 inserts are missing after 0 kills, the first of them key 2"), "{lost}");
        let surplus = Kills::none(directory.clone()).look(&[]).unwrap_err().to_string();
        assert!(surplus.starts_with("2 inserts are there and only 1 were made"), "{surplus}");
        std::fs::remove_dir_all(directory).unwrap();
    }
}

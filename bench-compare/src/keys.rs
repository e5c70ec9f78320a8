//! The benchmark `keys`: a map from 128-bit keys to 128-bit values, as an application sees it.
//!
//! - Everybody inserts the same keys in the same order and reads the same ones, so all maps have the same size.
//! - Keys are random; a value follows from its key, so every read is checked.
//! - An insert is durable when it returns, and a read is a transaction of its own.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde_json::json;

use crate::engine::Engine;
use crate::engines::{canister, fjall, lmdb, redb, sqlite};
use crate::machine::version;
use crate::measure::{Rounds, part};
use crate::room::Room;
use crate::{Findings, Options};

/// Entries of a transaction when many are inserted at once.
const BULK_ENTRIES: usize = 10_000;

/// How much is done.
pub struct Plan {
    /// Interleaved rounds of each measurement.
    pub rounds: u32,
    /// Entries that are there before anything is measured.
    pub load_entries: usize,
    /// Inserts of one entry each in a turn.
    pub single_inserts: usize,
    /// Transactions of 10,000 entries in a turn.
    pub bulk_inserts: usize,
    /// Reads in a turn.
    pub reads: usize,
    /// Of all keys.
    pub seed: u64,
}

impl Plan {
    /// What the command line asks for.
    pub fn of(options: &Options) -> Plan {
        let Options { rounds, seed, .. } = *options;
        if options.quick {
            let (load_entries, reads) = (20_000, 5_000);
            Plan { rounds, load_entries, single_inserts: 50, bulk_inserts: 1, reads, seed }
        } else {
            let (load_entries, reads) = (200_000, 50_000);
            Plan { rounds, load_entries, single_inserts: 500, bulk_inserts: 5, reads, seed }
        }
    }
}

#[derive(Clone, Copy)]
enum Workload {
    Single,
    Bulk,
    Read,
}

impl Workload {
    const ALL: [Workload; 3] = [Workload::Single, Workload::Bulk, Workload::Read];

    fn name(self) -> &'static str {
        match self {
            Workload::Single => "durable inserts, one by one",
            Workload::Bulk => "durable inserts, 10,000 at once",
            Workload::Read => "random reads",
        }
    }

    /// Of the JSON.
    fn key(self) -> &'static str {
        match self {
            Workload::Single => "single_inserts",
            Workload::Bulk => "bulk_inserts",
            Workload::Read => "reads",
        }
    }
}

/// Runs the benchmark.
pub fn run(room: &Room, plan: &Plan) -> Result<Findings> {
    let mut contestants = contestants(room)?;
    for contestant in &mut contestants {
        eprintln!("{}: {} entries", contestant.name, plan.load_entries);
        contestant.load(plan).with_context(|| contestant.name)?;
    }
    let mut text = format!(
        "a map of 128-bit keys and values, {} entries before the first round; medians of {} interleaved rounds\n\n\
         {:<33} {:<8} {:>12} {:>10} {:>24}\n",
        plan.load_entries, plan.rounds, "", "", "entries/s", "to SQLite", "lowest to highest",
    );
    let mut rows = Vec::new();
    for workload in Workload::ALL {
        eprintln!("{}", workload.name());
        let measurement = part(plan.seed, &[workload as u64]);
        let rounds = Rounds::run(&mut contestants, plan.rounds, measurement, |contestant, round| {
            let random = Rng::with_seed(part(measurement, &[u64::from(round)]));
            contestant.turn(plan, workload, random).context(contestant.name)
        })?;
        for (place, contestant) in contestants.iter().enumerate() {
            let (speed, ratio, (low, high)) =
                (rounds.median(place), rounds.ratio(place, 0), rounds.range(place));
            let (name, range) = (workload.name(), format!("{low:.0} to {high:.0}"));
            writeln!(text, "{name:<33} {:<8} {speed:>12.0} {ratio:>10.2} {range:>24}", contestant.name)?;
            rows.push(json!({
                "name": contestant.name,
                "workload": workload.key(),
                "entries_per_second": speed,
                "ratio_to_sqlite": ratio,
                "lowest": low,
                "highest": high,
            }));
        }
        text.push('\n');
    }
    text.push_str("everybody as their authors tuned it, but for what is named:");
    for contestant in &contestants {
        write!(text, "\n  {:<8} {}: {}", contestant.name, contestant.version, contestant.tuning)?;
    }
    let engines = contestants.iter().map(|contestant| {
        json!({ "name": contestant.name, "version": contestant.version, "tuning": contestant.tuning })
    });
    let json = json!({
        "benchmark": "keys",
        "rounds": plan.rounds,
        "load_entries": plan.load_entries,
        "seed": plan.seed,
        "engines": engines.collect::<Vec<_>>(),
        "rows": rows,
    });
    Ok(Findings { text, json })
}

/// One that takes part.
struct Contestant {
    name: &'static str,
    version: String,
    tuning: &'static str,
    engine: Box<dyn Engine>,
    /// Every key that was inserted.
    keys: Vec<u128>,
}

/// Everybody; the one to which all are compared first.
fn contestants(room: &Room) -> Result<Vec<Contestant>> {
    let contestant = |name, version: String, tuning, engine| Contestant {
        name,
        version,
        tuning,
        engine,
        keys: Vec::new(),
    };
    let package = |name: &str| format!("{name} {}", version(name));
    let sqlite = Box::new(sqlite::Sqlite::open(&room.join("sqlite"))?);
    let fjall = Box::new(fjall::Fjall::open(&room.join("fjall"))?);
    let lmdb = Box::new(lmdb::Lmdb::open(&room.join("lmdb"))?);
    let redb = Box::new(redb::Redb::open(&room.join("redb"))?);
    let canister = Box::new(canister::Canister::open(&room.join("canister"))?);
    Ok(vec![
        contestant("SQLite", rusqlite::version().to_owned(), sqlite::TUNING, sqlite),
        contestant("fjall", package("fjall"), fjall::TUNING, fjall),
        contestant("LMDB", package("lmdb-rkv"), lmdb::TUNING, lmdb),
        contestant("redb", package("redb"), redb::TUNING, redb),
        contestant("Bedstone", package("bedstone"), canister::TUNING, canister),
    ])
}

impl Contestant {
    fn load(&mut self, plan: &Plan) -> Result<()> {
        let mut random = Rng::with_seed(part(plan.seed, &[u64::MAX]));
        let entries = entries(plan.load_entries, &mut random);
        self.insert(entries.chunks(BULK_ENTRIES))?;
        Ok(())
    }

    /// Entries per second.
    fn turn(&mut self, plan: &Plan, workload: Workload, mut random: Rng) -> Result<f64> {
        match workload {
            Workload::Single => self.insert(entries(plan.single_inserts, &mut random).chunks(1)),
            Workload::Bulk => {
                let entries = entries(plan.bulk_inserts * BULK_ENTRIES, &mut random);
                self.insert(entries.chunks(BULK_ENTRIES))
            }
            Workload::Read => self.read(plan.reads, &mut random),
        }
    }

    fn insert<'a>(&mut self, transactions: impl Iterator<Item = &'a [(u128, u128)]>) -> Result<f64> {
        let before = self.keys.len();
        let mut seconds = 0.0;
        for entries in transactions {
            let start = Instant::now();
            self.engine.insert(entries)?;
            seconds += start.elapsed().as_secs_f64();
            self.keys.extend(entries.iter().map(|(key, _)| key));
        }
        Ok((self.keys.len() - before) as f64 / seconds)
    }

    fn read(&mut self, count: usize, random: &mut Rng) -> Result<f64> {
        let keys: Vec<u128> = (0..count).map(|_| self.keys[random.usize(..self.keys.len())]).collect();
        let start = Instant::now();
        for key in keys {
            let found = self.engine.get(key)?;
            ensure!(found == Some(value_of(key)), "the value under {key} is not what was inserted");
        }
        Ok(count as f64 / start.elapsed().as_secs_f64())
    }
}

fn entries(count: usize, random: &mut Rng) -> Vec<(u128, u128)> {
    let keys = (0..count).map(|_| random.u128(..));
    keys.map(|key| (key, value_of(key))).collect()
}

/// Not the key, so that no engine can mistake the one for the other.
fn value_of(key: u128) -> u128 {
    !key.rotate_left(1)
}

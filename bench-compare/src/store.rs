//! The benchmark `store`: durable commits of 1, 10 and 100 pages.
//!
//! - Content is random, indexes are drawn from a fixed set that was written before: pages are overwritten.
//! - A turn lasts until its commits have taken a given time; making up content and remembering it does not count.
//! - Work that an engine puts off is done in whoever's turn it falls. Nobody is asked to finish it before the end, when
//!   every engine has to give the last commit's pages back as they were written.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde_json::json;

use crate::engine::{Dirty, PAGE_BYTES, Page, PageStore};
use crate::engines::{bedstone, fjall, lmdb, raw, redb, sqlite};
use crate::machine::version;
use crate::measure::{Rounds, part};
use crate::room::Room;
use crate::{Findings, Options};

/// Pages of a commit, one measurement each.
const PAGES: [usize; 3] = [1, 10, 100];

/// Pages of a commit while the working set is written.
const LOAD_PAGES: usize = 256;

/// How much is done.
pub struct Plan {
    /// Interleaved rounds of each measurement.
    pub rounds: u32,
    /// The time that the commits of a turn take.
    pub turn: Duration,
    /// Pages that are overwritten.
    pub working_set: u32,
    /// How often the working set is written beforehand, so that logs and files have their size.
    pub warm_passes: u32,
    /// Of all content.
    pub seed: u64,
}

impl Plan {
    /// What the command line asks for.
    pub fn of(options: &Options) -> Plan {
        let Options { rounds, seed, .. } = *options;
        if options.quick {
            Plan { rounds, turn: Duration::from_millis(50), working_set: 2048, warm_passes: 1, seed }
        } else {
            Plan { rounds, turn: Duration::from_millis(500), working_set: 16_384, warm_passes: 4, seed }
        }
    }
}

/// Runs the benchmark.
pub fn run(room: &Room, plan: &Plan) -> Result<Findings> {
    let mut contestants = contestants(room, plan)?;
    for contestant in &mut contestants {
        eprintln!("{}: {} passes over {} pages", contestant.name, plan.warm_passes, plan.working_set);
        contestant.load(plan).with_context(|| contestant.name)?;
    }
    let mut text = format!(
        "durable commits of random pages out of {}; medians of {} interleaved rounds of {} ms\n\n\
         {:<11} {:>6} {:>11} {:>9} {:>20}\n",
        plan.working_set,
        plan.rounds,
        plan.turn.as_millis(),
        "",
        "pages",
        "commits/s",
        "to raw",
        "lowest to highest",
    );
    let mut rows = Vec::new();
    for pages in PAGES {
        eprintln!("commits of {pages}");
        let measurement = part(plan.seed, &[pages as u64]);
        let rounds = Rounds::run(&mut contestants, plan.rounds, measurement, |contestant, round| {
            let random = Rng::with_seed(part(measurement, &[u64::from(round)]));
            contestant.turn(plan, pages, random).context(contestant.name)
        })?;
        for (place, contestant) in contestants.iter().enumerate() {
            let (speed, ratio, (low, high)) =
                (rounds.median(place), rounds.ratio(place, 0), rounds.range(place));
            let range = format!("{low:.0} to {high:.0}");
            writeln!(text, "{:<11} {pages:>6} {speed:>11.0} {ratio:>9.2} {range:>20}", contestant.name)?;
            rows.push(json!({
                "name": contestant.name,
                "pages": pages,
                "commits_per_second": speed,
                "ratio_to_raw": ratio,
                "lowest": low,
                "highest": high,
            }));
        }
        text.push('\n');
    }
    for contestant in &mut contestants {
        contestant.check().context(contestant.name)?;
    }
    text.push_str("every rival as its authors tuned it, but for what is named:\n");
    for contestant in &contestants {
        writeln!(text, "  {:<11} {}: {}", contestant.name, contestant.version, contestant.tuning)?;
    }
    text.push_str(
        "values of a page's size take overflow pages in SQLite and LMDB; README.md says what else is unfair",
    );
    let engines = contestants.iter().map(|contestant| {
        json!({ "name": contestant.name, "version": contestant.version, "tuning": contestant.tuning })
    });
    let json = json!({
        "benchmark": "store",
        "rounds": plan.rounds,
        "turn_milliseconds": u64::try_from(plan.turn.as_millis())?,
        "working_set_pages": plan.working_set,
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
    store: Box<dyn PageStore>,
    /// What its pages hold: a message that changes pages knows what they held before.
    content: Vec<Page>,
    /// The pages of its last commit.
    last: Vec<u32>,
}

/// Everybody; the raw append, to which all are compared, first.
fn contestants(room: &Room, plan: &Plan) -> Result<Vec<Contestant>> {
    let size = plan.working_set;
    let contestant = |name, version: String, tuning, store| Contestant {
        name,
        version,
        tuning,
        store,
        content: vec![[0; PAGE_BYTES]; size as usize],
        last: Vec::new(),
    };
    let package = |name: &str| format!("{name} {}", version(name));
    let raw = Box::new(raw::Raw::open(&room.join("raw"))?);
    let bedstone = Box::new(bedstone::Bedstone::open(&room.join("bedstone"), size)?);
    let sqlite = Box::new(sqlite::Sqlite::open(&room.join("sqlite"))?);
    let fjall = Box::new(fjall::Fjall::open(&room.join("fjall"))?);
    let lmdb = Box::new(lmdb::Lmdb::open(&room.join("lmdb"))?);
    let redb = Box::new(redb::Redb::open(&room.join("redb"))?);
    Ok(vec![
        contestant("raw append", package("crc32c"), raw::TUNING, raw),
        contestant("Bedstone", package("bedstone-store"), bedstone::TUNING, bedstone),
        contestant("SQLite", rusqlite::version().to_owned(), sqlite::TUNING, sqlite),
        contestant("fjall", package("fjall"), fjall::TUNING, fjall),
        contestant("LMDB", package("lmdb-rkv"), lmdb::TUNING, lmdb),
        contestant("redb", package("redb"), redb::TUNING, redb),
    ])
}

impl Contestant {
    /// Writes the whole working set, some times over.
    fn load(&mut self, plan: &Plan) -> Result<()> {
        let mut random = Rng::with_seed(part(plan.seed, &[0]));
        let indexes: Vec<u32> = (0..plan.working_set).collect();
        for _ in 0..plan.warm_passes {
            for indexes in indexes.chunks(LOAD_PAGES) {
                self.commit(&Batch::of(indexes.to_vec(), &mut random))?;
            }
        }
        Ok(())
    }

    /// Commits for the time of a turn; commits per second.
    fn turn(&mut self, plan: &Plan, pages: usize, mut random: Rng) -> Result<f64> {
        let (mut time, mut commits) = (Duration::ZERO, 0_u32);
        while time < plan.turn {
            let indexes = draw(plan.working_set, pages, &mut random);
            time += self.commit(&Batch::of(indexes, &mut random))?;
            commits += 1;
        }
        Ok(f64::from(commits) / time.as_secs_f64())
    }

    fn check(&mut self) -> Result<()> {
        for index in &self.last {
            let found = self.store.read(*index)?;
            ensure!(
                found.as_ref() == Some(&self.content[*index as usize]),
                "page {index} is not what was committed"
            );
        }
        Ok(())
    }

    /// The time that the commit alone takes.
    fn commit(&mut self, batch: &Batch) -> Result<Duration> {
        let pages: Vec<Dirty<'_>> = batch
            .indexes
            .iter()
            .zip(&batch.content)
            .map(|(&index, after)| Dirty { index, before: &self.content[index as usize], after })
            .collect();
        let start = Instant::now();
        self.store.commit(&pages)?;
        let time = start.elapsed();
        for (index, after) in batch.indexes.iter().zip(&batch.content) {
            self.content[*index as usize] = *after;
        }
        self.last.clone_from(&batch.indexes);
        Ok(time)
    }
}

/// What one commit writes.
struct Batch {
    indexes: Vec<u32>,
    content: Vec<Page>,
}

impl Batch {
    fn of(indexes: Vec<u32>, random: &mut Rng) -> Batch {
        let mut content = vec![[0; PAGE_BYTES]; indexes.len()];
        random.fill(content.as_flattened_mut());
        Batch { indexes, content }
    }
}

/// Different indexes below `limit`, ascending, as a walk over a map of dirty pages finds them.
fn draw(limit: u32, count: usize, random: &mut Rng) -> Vec<u32> {
    let mut indexes = std::collections::BTreeSet::new();
    while indexes.len() < count {
        indexes.insert(random.u32(..limit));
    }
    indexes.into_iter().collect()
}

//! Processes that are killed while they commit to real files, and what they leave.
//!
//! - The child commits messages whose content follows from their number, and tells of each when it was
//!   acknowledged; its checkpoints run in a thread, as they do in use.
//! - The parent kills it at some moment, opens the directory and compares all of it with the same messages
//!   done to a model.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::model::State;
use crate::sim::Random;
use crate::{
    Class, Config, Depth, ErrorKind, FileDisk, Memory, MemoryId, PAGE_BYTES, Page, PageCount, PageIndex,
    Result, Store,
};

const PAGES: u32 = 24;
const MEMORIES: usize = 2;
/// A value that no segment has room for.
const BIG_BYTES: usize = 100 << 10;

/// What kills did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it, and a text for each would say the same")]
pub struct KillSummary {
    pub kills: u64,
    pub acknowledged: u64,
    pub last: u64,
    /// The child was killed before it had opened the store.
    pub before_opening: u64,
}

/// What the store holds after some message.
#[derive(Clone)]
struct Model {
    number: u64,
    memories: Vec<Vec<Page>>,
    /// A frozen copy of the first memory.
    copy: Option<Vec<Page>>,
    big: u64,
}

impl Model {
    fn new() -> Model {
        Model { number: 0, memories: Vec::new(), copy: None, big: 0 }
    }

    /// The pages that the next message changes, with their contents, after the first.
    fn pages(&self) -> (usize, Vec<(u32, Page)>) {
        let mut random = Random(self.number + 1);
        let memory = random.below(MEMORIES);
        let mut pages: Vec<(u32, Page)> = Vec::new();
        for _ in 0..1 + random.below(4) {
            let index = random.below(PAGES as usize) as u32;
            if pages.iter().any(|(other, _)| *other == index) {
                continue;
            }
            let mut page = self.memories[memory][index as usize];
            let (at, bytes) = (random.below(PAGE_BYTES), [8, 100, PAGE_BYTES][random.below(3)]);
            page[at..PAGE_BYTES.min(at + bytes)].fill(random.number() as u8);
            pages.push((index, page));
        }
        (memory, pages)
    }

    fn copies(&self) -> bool {
        (self.number + 1) % 60 == 30
    }

    fn is_big(&self) -> bool {
        (self.number + 1).is_multiple_of(40)
    }

    /// Does the next message to the model.
    fn advance(&mut self) {
        if self.number == 0 {
            self.memories = vec![vec![[0; PAGE_BYTES]; PAGES as usize]; MEMORIES];
        } else {
            if self.copies() {
                self.copy = Some(self.memories[0].clone());
            }
            let (memory, pages) = self.pages();
            for (index, page) in pages {
                self.memories[memory][index as usize] = page;
            }
            if self.is_big() {
                self.big = self.number + 1;
            }
        }
        self.number += 1;
    }

    /// Does the next message to the store.
    fn commit(&self, store: &Store) -> Result<()> {
        let mut change = store.begin();
        if self.number == 0 {
            for name in 0..MEMORIES {
                let memory = change.create(PageCount::new(PAGES))?;
                change.grow(&memory, PageCount::new(PAGES));
                change.put(&[name as u8], &memory.id().get().to_le_bytes());
            }
        } else {
            if self.copies() {
                let copied = store.snapshot(&[id(store, &[0])?])?.pop().expect("one copy of one memory");
                if store.metadata(b"copy")?.is_some() {
                    change.drop_memory(named(store, b"copy")?);
                }
                let copy = change.create_copy(copied, Class::Frozen);
                change.put(b"copy", &copy.id().get().to_le_bytes());
            }
            let (name, pages) = self.pages();
            let memory = named(store, &[name as u8])?;
            for (index, page) in pages {
                let before = &self.memories[name][index as usize];
                change.page(&memory, PageIndex::new(index), before, &page);
            }
            if self.is_big() {
                change.put(b"big", &vec![(self.number + 1) as u8; BIG_BYTES]);
            }
        }
        change.put(b"number", &(self.number + 1).to_le_bytes());
        store.wait_durable(store.append(change)?)
    }

    /// What a store holds, taken on trust.
    fn of(store: &Store) -> Result<Model> {
        let mut model = Model::new();
        let Some(number) = number(store, b"number")? else { return Ok(model) };
        model.number = number;
        for name in 0..MEMORIES {
            model.memories.push(pages(&named(store, &[name as u8])?)?);
        }
        if store.metadata(b"copy")?.is_some() {
            model.copy = Some(pages(&named(store, b"copy")?)?);
        }
        Ok(model)
    }

    fn difference(&self, store: &Store) -> Result<Option<String>> {
        let found = Model::of(store)?;
        if found.number != self.number {
            return Ok(Some(format!("message {} instead of {}", found.number, self.number)));
        }
        if found.memories != self.memories {
            return Ok(Some("other pages".to_string()));
        }
        if found.copy != self.copy {
            return Ok(Some("another copy".to_string()));
        }
        let big = store.metadata(b"big")?;
        let expected = (self.big > 0).then(|| vec![self.big as u8; BIG_BYTES]);
        if big != expected {
            return Ok(Some("another value".to_string()));
        }
        let memories = if self.number == 0 { 0 } else { MEMORIES } + usize::from(self.copy.is_some());
        let found = State::of(store)?.memories.len();
        Ok((found != memories).then(|| format!("{found} memories instead of {memories}")))
    }
}

fn number(store: &Store, key: &[u8]) -> Result<Option<u64>> {
    let value = store.metadata(key)?;
    Ok(value.map(|value| value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))))
}

fn id(store: &Store, key: &[u8]) -> Result<MemoryId> {
    Ok(MemoryId::new(number(store, key)?.unwrap_or(0)))
}

fn named(store: &Store, key: &[u8]) -> Result<Memory> {
    store.memory(id(store, key)?)
}

fn pages(memory: &Memory) -> Result<Vec<Page>> {
    let mut pages = vec![[0; PAGE_BYTES]; memory.pages().get() as usize];
    for (index, page) in memory.image()?.nonzero_pages() {
        pages[index.get() as usize] = *page;
    }
    Ok(pages)
}

fn config(seed: u64, background: bool) -> Config {
    let mut config = Config::new([seed as u8; 32]);
    config.seed[1..9].copy_from_slice(&seed.to_le_bytes());
    config.background = background;
    config.segment_bytes = 64 << 10;
    config.checkpoint_log_bytes = 100 << 10;
    config.checkpoint_idle = Duration::from_millis(5);
    config.reserve_bytes = 64 << 10;
    config.lock_wait = Duration::from_secs(5);
    config
}

/// Commits until it is killed, and tells of each message on the standard output.
///
/// # Errors
/// When the store fails.
pub fn child(directory: &Path, seed: u64) -> Result<()> {
    let disk = Arc::new(FileDisk::new(directory));
    let (store, _) = Store::open_or_create(disk, &config(seed, true))?;
    let mut model = Model::of(&store)?;
    let mut out = std::io::stdout();
    loop {
        model.commit(&store)?;
        model.advance();
        // Nobody reads any more: the parent is gone.
        if writeln!(out, "acknowledged {}", model.number).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
}

/// Kills so many children that `command` makes, each given the directory and a seed.
///
/// # Errors
/// The first promise that was broken.
pub fn kills(
    directory: &Path,
    kills: u64,
    command: impl Fn(&Path, u64) -> Command,
) -> Result<KillSummary, String> {
    let mut summary = KillSummary::default();
    let (mut model, mut random) = (Model::new(), Random(kills));
    for kill in 0..kills {
        let mut child = command(directory, kill);
        let spawned = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| format!("no child: {error}"))?;
        let out = child.stdout.take().ok_or("the child has no output")?;
        let (mut out, mut told) = (BufReader::new(out), String::new());
        // Most children come as far as to commit; the others are killed wherever they are.
        while random.below(5) > 0 && !told.contains("acknowledged") {
            if out.read_line(&mut told).map_err(|error| error.to_string())? == 0 {
                break;
            }
        }
        std::thread::sleep(Duration::from_micros(random.below(20_000) as u64));
        let alive = child.try_wait().map_err(|error| error.to_string())?.is_none();
        let killed = child.kill().and_then(|()| child.wait());
        killed.map_err(|error| format!("the child cannot be killed: {error}"))?;
        out.read_to_string(&mut told).map_err(|error| error.to_string())?;
        let mut complaints = String::new();
        let _ = child.stderr.take().map(|mut out| out.read_to_string(&mut complaints));
        if !alive {
            return Err(format!("the child ended by itself: {complaints}"));
        }
        let last = told.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().next_back().unwrap_or("");
        let acknowledged = last.strip_prefix("acknowledged ").and_then(|number| number.parse().ok());
        summary.kills += 1;
        check(directory, kill, acknowledged, &mut model, &mut summary)
            .map_err(|what| format!("after kill {kill}, acknowledged {acknowledged:?}: {what}"))?;
    }
    Ok(summary)
}

fn check(
    directory: &Path,
    kill: u64,
    acknowledged: Option<u64>,
    model: &mut Model,
    summary: &mut KillSummary,
) -> Result<(), String> {
    let opened = Store::open(Arc::new(FileDisk::new(directory)), &config(kill + 7, false));
    let (store, _) = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound && model.number == 0 && acknowledged.is_none() => {
            summary.before_opening += 1;
            return Ok(());
        }
        opened => opened.map_err(|error| format!("it does not open: {error}"))?,
    };
    let found = number(&store, b"number").map_err(|error| error.to_string())?.unwrap_or(0);
    let last = store.progress().map_err(|error| error.to_string())?.last.get();
    if found < acknowledged.unwrap_or(0) || found < model.number || found != last {
        return Err(format!("message {found}, record {last}; {} was shown", model.number));
    }
    while model.number < found {
        model.advance();
    }
    summary.acknowledged = acknowledged.unwrap_or(summary.acknowledged);
    summary.last = found;
    if let Some(difference) = model.difference(&store).map_err(|error| error.to_string())? {
        return Err(difference);
    }
    if kill.is_multiple_of(16) {
        let report = store.verify(Depth::Full).map_err(|error| error.to_string())?;
        if !report.is_clean() {
            return Err(format!("{:?}", report.findings));
        }
    }
    if kill.is_multiple_of(5) {
        store.close().map_err(|error| error.to_string())?;
    }
    Ok(())
}

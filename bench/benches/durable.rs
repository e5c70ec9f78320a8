//! What durability costs: commits against a raw append and sync of the same bytes, commits of many at once, bytes of log,
//! opening and recovering.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bedstone_bench::median;
use bedstone_engine::store::{Config, FileDisk, Memory, PageCount, PageIndex, Store};

const PAGE: usize = 4096;
const ROUNDS: usize = 7;

fn main() {
    let room = Room::new();
    commits(&room);
    many_at_once(&room);
    small_changes(&room);
    checkpoints(&room);
    openings(&room);
    recovery(&room);
}

/// A directory for the benchmark, on the file system of the target directory, which is a disk where `/tmp` may be none.
struct Room(PathBuf);

impl Room {
    fn new() -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("durable-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn store(&self, name: &str) -> Store {
        let mut config = Config::new([9; 32]);
        config.checkpoint_idle = Duration::from_secs(3600);
        Store::open_or_create(Arc::new(FileDisk::new(self.0.join(name))), &config).unwrap().0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Random bytes, the same in every run.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&self.0.to_le_bytes()[..word.len()]);
        }
    }
}

fn memory(store: &Store, pages: u32) -> Memory {
    let mut change = store.begin();
    let memory = change.create(PageCount::new(1 << 27)).unwrap();
    change.grow(&memory, PageCount::new(pages));
    store.wait_durable(store.append(change).unwrap()).unwrap();
    memory
}

/// A file of zeros that is written over and over, as the log is.
struct Raw {
    file: File,
    at: u64,
}

const RAW_BYTES: u64 = 64 << 20;

impl Raw {
    fn new(room: &Room) -> Self {
        let path = room.0.join("raw");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
        for at in (0..RAW_BYTES).step_by(1 << 20) {
            file.write_all_at(&[0; 1 << 20], at).unwrap();
        }
        file.sync_all().unwrap();
        Self { file, at: 0 }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.at + bytes.len() as u64 > RAW_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at).unwrap();
        self.file.sync_data().unwrap();
        self.at += bytes.len() as u64;
    }
}

/// Fills the log until its segments are recycled, which ends the writing of zeros behind the scenes.
fn warm(store: &Store) {
    let memory = memory(store, 1000);
    for turn in 0..400_u64 {
        let mut change = store.begin();
        for index in 0..256 {
            change.image(&memory, PageIndex::new(index), &[turn as u8; PAGE]);
        }
        store.wait_durable(store.append(change).unwrap()).unwrap();
    }
    store.checkpoint().unwrap();
}

fn commits(room: &Room) {
    println!("durable commits, interleaved with a raw append and fdatasync of the same bytes");
    println!("{:>6} {:>14} {:>14} {:>8}", "pages", "store, /s", "raw, /s", "ratio");
    let store = room.store("commits");
    warm(&store);
    for pages in [1_usize, 10, 100] {
        let memory = memory(&store, 1000);
        let mut raw = Raw::new(room);
        let mut noise = Noise(pages as u64);
        let mut before = vec![[0; PAGE]; 1000];
        let mut content = vec![[0; PAGE]; pages];
        let times = 400 / pages.min(4);
        let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let mut next = 0;
        for _ in 0..ROUNDS {
            let mut store_time = Duration::ZERO;
            let mut raw_time = Duration::ZERO;
            for _ in 0..times {
                content.iter_mut().for_each(|page| noise.fill(page));
                let start = Instant::now();
                let mut change = store.begin();
                for page in &content {
                    let index = next % 1000;
                    change.page(&memory, PageIndex::new(index as u32), &before[index], page);
                    next += 1;
                }
                store.wait_durable(store.append(change).unwrap()).unwrap();
                store_time += start.elapsed();
                for (offset, page) in content.iter().enumerate() {
                    before[(next - pages + offset) % 1000] = *page;
                }
                let start = Instant::now();
                raw.append(content.as_flattened());
                raw_time += start.elapsed();
            }
            ours.push(times as f64 / store_time.as_secs_f64());
            theirs.push(times as f64 / raw_time.as_secs_f64());
            ratios.push(raw_time.as_secs_f64() / store_time.as_secs_f64());
        }
        println!("{pages:>6} {:>14.0} {:>14.0} {:>8.2}", median(ours), median(theirs), median(ratios));
    }
}

fn many_at_once(room: &Room) {
    println!("\ncommits of one page by so many at once");
    println!("{:>10} {:>14} {:>8}", "committers", "commits/s", "ratio");
    let store = room.store("many");
    let memories: Vec<Memory> = (0..64).map(|_| memory(&store, 16)).collect();
    let run = |committers: usize| {
        let times = 3000 / committers.min(10);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for memory in &memories[..committers] {
                let store = store.clone();
                scope.spawn(move || {
                    let mut page = [0; PAGE];
                    for turn in 0..times / committers.max(1) + 20 {
                        Noise(turn as u64 ^ memory.id().get()).fill(&mut page);
                        let mut change = store.begin();
                        change.image(memory, PageIndex::new(turn as u32 % 16), &page);
                        store.wait_durable(store.append(change).unwrap()).unwrap();
                    }
                });
            }
        });
        (committers * (times / committers.max(1) + 20)) as f64 / start.elapsed().as_secs_f64()
    };
    let mut speeds = vec![Vec::new(); 4];
    for _ in 0..ROUNDS {
        for (place, committers) in [1, 4, 16, 64].into_iter().enumerate() {
            speeds[place].push(run(committers));
        }
    }
    let one = median(speeds[0].clone());
    for (speeds, committers) in speeds.into_iter().zip([1, 4, 16, 64]) {
        let speed = median(speeds);
        println!("{committers:>10} {speed:>14.0} {:>8.1}", speed / one);
    }
}

fn small_changes(room: &Room) {
    let store = room.store("small");
    let memory = memory(&store, 100);
    let before = store.progress().unwrap().log_bytes;
    let mut change = store.begin();
    for index in 0..100 {
        let mut page = [0; PAGE];
        page[640..656].fill(7);
        change.page(&memory, PageIndex::new(index), &[0; PAGE], &page);
    }
    store.wait_durable(store.append(change).unwrap()).unwrap();
    println!(
        "\n16 bytes changed in each of 100 pages: {} bytes of log",
        store.progress().unwrap().log_bytes - before
    );
}

fn checkpoints(room: &Room) {
    println!("\ncommits of ten pages with and without a checkpoint behind them");
    let store = room.store("checkpoints");
    let memory = memory(&store, 20_000);
    let mut noise = Noise(3);
    let mut next = 0_u32;
    let mut commit = |store: &Store| {
        let mut page = [0; PAGE];
        let mut change = store.begin();
        for _ in 0..10 {
            noise.fill(&mut page);
            change.image(&memory, PageIndex::new(next % 20_000), &page);
            next += 7;
        }
        let start = Instant::now();
        store.wait_durable(store.append(change).unwrap()).unwrap();
        start.elapsed().as_secs_f64() * 1e6
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.extend((0..150).map(|_| commit(&store)));
        let worker = store.clone();
        let checkpoint = std::thread::spawn(move || worker.checkpoint().unwrap());
        while !checkpoint.is_finished() {
            beside.push(commit(&store));
        }
        checkpoint.join().unwrap();
    }
    alone.sort_by(f64::total_cmp);
    beside.sort_by(f64::total_cmp);
    let at = |values: &[f64], share: f64| values[((values.len() - 1) as f64 * share) as usize];
    println!(
        "median {:.0} µs alone, {:.0} µs beside ({:.2}×); p99 {:.0} µs alone, {:.0} µs beside; {} commits beside",
        at(&alone, 0.5),
        at(&beside, 0.5),
        at(&beside, 0.5) / at(&alone, 0.5),
        at(&alone, 0.99),
        at(&beside, 0.99),
        beside.len(),
    );
}

fn openings(room: &Room) {
    println!("\nopening after a clean close");
    let shapes = [("1 MiB", 1, 256), ("100 GiB, sparse", 1, 26_214_400), ("1,000 memories", 1000, 16)];
    for (name, memories, pages) in &shapes {
        let store = room.store(name);
        for _ in 0..*memories {
            memory(&store, *pages);
        }
        store.close().unwrap();
    }
    let mut times = vec![Vec::new(); shapes.len()];
    for _ in 0..ROUNDS {
        for (times, (name, _, _)) in times.iter_mut().zip(&shapes) {
            let start = Instant::now();
            let store = room.store(name);
            times.push(start.elapsed().as_secs_f64() * 1e3);
            store.close().unwrap();
        }
    }
    for (times, (name, _, _)) in times.into_iter().zip(&shapes) {
        println!("{name:>16}: {:.1} ms", median(times));
    }
}

fn recovery(room: &Room) {
    let mut times = Vec::new();
    let mut floors = Vec::new();
    for round in 0..3 {
        let name = format!("recovery-{round}");
        let mut config = Config::new([9; 32]);
        config.background = false;
        config.checkpoint_log_bytes = 1 << 30;
        config.log_bytes_max = 1 << 30;
        config.pending_pages_max = 1 << 20;
        config.checkpoint_pages = 1 << 20;
        let disk = Arc::new(FileDisk::new(room.0.join(&name)));
        let store = Store::open_or_create(disk.clone(), &config).unwrap().0;
        let memory = memory(&store, 65_536);
        let mut page = [0; PAGE];
        let mut noise = Noise(round);
        for first in (0..63_000).step_by(1000) {
            let mut change = store.begin();
            for index in first..first + 1000 {
                noise.fill(&mut page);
                change.image(&memory, PageIndex::new(index), &page);
            }
            store.wait_durable(store.append(change).unwrap()).unwrap();
        }
        let bytes = store.progress().unwrap().log_bytes;
        drop(memory);
        drop(store);
        let start = Instant::now();
        let (store, opened) = Store::open(disk, &config).unwrap();
        times.push(start.elapsed().as_secs_f64());
        drop(store);
        let content = vec![3_u8; usize::try_from(bytes).unwrap()];
        let path = room.0.join("floor");
        std::fs::write(&path, &content).unwrap();
        let start = Instant::now();
        let content = std::fs::read(&path).unwrap();
        for copy in ["floor-a", "floor-b"] {
            let file = File::create(room.0.join(copy)).unwrap();
            file.write_all_at(&content, 0).unwrap();
            file.sync_data().unwrap();
        }
        floors.push(start.elapsed().as_secs_f64());
        if round == 0 {
            println!("\nrecovery of {} MiB of log ({opened:?})", bytes >> 20);
        }
        let _ = std::fs::remove_dir_all(room.0.join(&name));
    }
    let (time, floor) = (median(times), median(floors));
    println!(
        "{time:.2} s; reading it, writing it twice and syncing both: {floor:.2} s ({:.2}×)",
        time / floor
    );
}

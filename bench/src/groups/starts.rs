//! From a module's bytes to the answer of its first call: rewriting, either compiler, and from the cache.
//!
//! CPU time is that of the whole process, in the kernel's ticks of 10 ms; what is shorter than a few ticks is given as wall time.

use std::borrow::Cow;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use bedstone_engine::{
    CompileCache, Compiler, Counter, Engine, EngineConfig, Entry, Response, StableAccess, SubnetInfo,
};
use bedstone_instrument::{Config, instrument};

use super::Effort;
use crate::figures::{Figures, Table};
use crate::interleave::median;
use crate::repeated;
use crate::subject::{Room, Subject, prebuilt};

/// The empty tuple in Candid.
const NO_ARGUMENTS: &[u8] = b"DIDL\0\0";

/// What a start takes, in milliseconds.
struct Start {
    bytes: usize,
    rewriting: f64,
    baseline_cpu: f64,
    baseline_wall: f64,
    optimising_cpu: f64,
    kept_bytes: u64,
    cached: f64,
    cached_least: f64,
}

/// See the module's documentation.
pub fn run(effort: Effort) -> Figures {
    let wasm = prebuilt("relay");
    let copies: &[usize] = effort.pick(&[3], &[1, 3, 5]);
    let starts: Vec<Start> = copies.iter().map(|copies| measure(&repeated(&wasm, *copies), effort)).collect();
    let head = [
        "bytes of Wasm",
        "rewriting, ms",
        "Winch: CPU, ms",
        "wall, ms",
        "Cranelift: CPU, ms",
        "bytes kept",
        "cached: wall, ms",
        "the least",
    ];
    let mut table = Table::new("A canister's first call, from the bytes of its module", &head);
    let mut figures = Figures::default();
    for start in &starts {
        let cells = [
            format!("{:.0}", start.rewriting),
            format!("{:.0}", start.baseline_cpu),
            format!("{:.0}", start.baseline_wall),
            format!("{:.0}", start.optimising_cpu),
            start.kept_bytes.to_string(),
            format!("{:.2}", start.cached),
            format!("{:.2}", start.cached_least),
        ];
        table.line(start.bytes.to_string(), cells);
    }
    // 400 ms for 2 MB and 800 ms for 4 MB are the same; the cached start is to take 5 ms at any size.
    let megabytes = |start: &Start| start.bytes as f64 / 1e6;
    for start in starts.iter().filter(|start| start.bytes > 2_000_000) {
        let what = format!("first call of a canister of {:.1} MB", megabytes(start));
        let each = start.baseline_cpu / megabytes(start);
        figures.at_most(format!("{what}, cold, Winch: CPU per MB"), 200.0, each, "ms");
        figures.at_most(format!("{what}, compiled before"), 5.0, start.cached, "ms");
    }
    figures.tables.push(table);
    figures
}

fn measure(wasm: &[u8], effort: Effort) -> Start {
    let room = Room::new("starts");
    let directory = room.at("cache");
    fs::create_dir_all(&directory).expect("a directory beside the program");
    let cache = || Arc::new(CompileCache::open(&directory, [1; 32], 1 << 30).expect("our own directory"));
    let start = |compiler, cache| {
        let config = EngineConfig { compiler, ..EngineConfig::default() };
        Engine::with_cache(config, SubnetInfo::default(), cache).expect("this machine runs Wasm")
    };
    let config = Config { counter: Counter::Global, revalidate: false, ..Config::default() };
    assert_eq!(config.stable, StableAccess::Native);
    let rewriting = median(times(5, || drop(instrument(wasm, &config).expect("a valid module"))));
    let cold = |compiler| {
        let (before, wall) = (cpu_millis(), Instant::now());
        first_call(&start(compiler, None), wasm);
        (cpu_millis() - before, wall.elapsed().as_secs_f64() * 1e3)
    };
    let rounds = effort.pick(3, 5);
    let baseline: Vec<_> = (0..rounds).map(|_| cold(Compiler::Baseline)).collect();
    let optimising_cpu = cold(Compiler::Optimising).0;

    first_call(&start(Compiler::Optimising, Some(cache())), wasm);
    let kept = fs::read_dir(&directory).expect("our own directory").next().expect("an entry");
    let kept_bytes = kept.and_then(|kept| kept.metadata()).expect("our own file").len();
    // As when a canister's code is read from a state directory: whoever reads it gives it away.
    let rounds = effort.pick(51, 101);
    let mut copies = vec![wasm.to_vec(); rounds];
    let cached = times(rounds, || {
        let wasm = copies.pop().expect("one for each round");
        first_call(&start(Compiler::Optimising, Some(cache())), wasm);
    });
    Start {
        bytes: wasm.len(),
        rewriting,
        baseline_cpu: median(baseline.iter().map(|(cpu, _)| *cpu).collect()),
        baseline_wall: median(baseline.iter().map(|(_, wall)| *wall).collect()),
        optimising_cpu,
        kept_bytes,
        cached_least: cached.iter().copied().fold(f64::INFINITY, f64::min),
        cached: median(cached),
    }
}

/// Milliseconds of each round.
fn times(rounds: usize, mut work: impl FnMut()) -> Vec<f64> {
    let round = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..rounds).map(round).collect()
}

/// CPU time of this process so far, all threads, in user and system mode.
fn cpu_millis() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields = stat.rsplit_once(')').expect("a name in parentheses").1;
    // Fields 14 and 15 of proc(5); two stand before the parenthesis.
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().expect("a number") * 10.0).sum()
}

/// Compiles, installs and asks.
fn first_call<'a>(engine: &Engine, wasm: impl Into<Cow<'a, [u8]>>) {
    let mut subject = Subject::on(engine, wasm, NO_ARGUMENTS);
    let outcome = subject.send(Entry::Query("counters"), NO_ARGUMENTS);
    assert!(matches!(outcome.response, Response::Reply(_)), "{:?}", outcome.response);
}

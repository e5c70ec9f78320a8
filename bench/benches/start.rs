//! From a module's bytes to the answer of its first call: rewriting, either compiler, and from the cache.
//!
//! CPU time is that of the whole process, in the kernel's ticks of 10 ms; what is shorter than a few ticks is given as wall time.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bedstone_bench::{median, repeated, with_stack};
use bedstone_engine::{
    CallInfo, Canister, CompileCache, Compiler, Counter, Engine, EngineConfig, Entry, InstallMode,
    Installation, Message, Principal, Response, SubnetInfo, SystemState,
};
use bedstone_instrument::{Config, instrument};

/// Copies of the largest canister's functions, and what a first call may take of CPU time (cold) and wall time (cached).
const SIZES: [(usize, &str); 3] = [(1, "-"), (3, "2 MB: 400 ms, 5 ms"), (5, "4 MB: 800 ms, 5 ms")];
const ROUNDS: usize = 101;
/// The empty tuple in Candid.
const NO_ARGUMENTS: &[u8] = b"DIDL\0\0";

fn main() {
    with_stack(|| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../canisters/prebuilt");
        let wasm = fs::read(Path::new(folder).join("relay.wasm")).unwrap();
        println!(
            "{:>9} {:>9} {:>20} {:>13} {:>10}   {:<26} target",
            "", "", "baseline, ms", "optimising", "", "cached, ms"
        );
        println!(
            "{:>9} {:>9} {:>10} {:>9} {:>13} {:>10} {:>8} {:>8} {:>8}  CPU cold, wall cached",
            "bytes", "rewriting", "CPU", "wall", "CPU", "kept bytes", "median", "least", "CPU"
        );
        for (times, target) in SIZES {
            row(&repeated(&wasm, times), target);
        }
    });
}

fn row(wasm: &[u8], target: &str) {
    let directory = std::env::temp_dir().join(format!("bedstone-start-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let cache = || Arc::new(CompileCache::open(&directory, [1; 32], 1 << 30).unwrap());
    let start = |compiler, cache| {
        let config = EngineConfig { compiler, ..EngineConfig::default() };
        Engine::with_cache(config, SubnetInfo::default(), cache).unwrap()
    };

    let config = Config { counter: Counter::Global, revalidate: false, ..Config::default() };
    let rewriting = median(times(5, || drop(instrument(wasm, &config).unwrap())));
    let (before, wall) = (cpu_millis(), Instant::now());
    first_call(&start(Compiler::Baseline, None), wasm);
    let (baseline, baseline_wall) = (cpu_millis() - before, wall.elapsed().as_secs_f64() * 1e3);
    let before = cpu_millis();
    first_call(&start(Compiler::Optimising, None), wasm);
    let optimising = cpu_millis() - before;

    first_call(&start(Compiler::Optimising, Some(cache())), wasm);
    let kept = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().metadata().unwrap().len();
    // As when a canister's code is read from a state directory: whoever reads it gives it away.
    let mut copies = vec![wasm.to_vec(); ROUNDS];
    let before = cpu_millis();
    let cached = times(ROUNDS, || {
        let wasm = copies.pop().expect("one for each round");
        first_call(&start(Compiler::Optimising, Some(cache())), wasm);
    });
    let cached_cpu = (cpu_millis() - before) as f64 / ROUNDS as f64;
    let least = cached.iter().copied().fold(f64::INFINITY, f64::min);
    let cached = median(cached);
    println!(
        "{:>9} {rewriting:>9.1} {baseline:>10} {baseline_wall:>9.0} {optimising:>13} {kept:>10} {cached:>8.2} {least:>8.2} \
         {cached_cpu:>8.2}  {target}",
        wasm.len()
    );
    fs::remove_dir_all(directory).unwrap();
}

/// Milliseconds of each round.
fn times(rounds: usize, mut work: impl FnMut()) -> Vec<f64> {
    (0..rounds)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect()
}

/// CPU time of this process so far, all threads, in user and system mode.
fn cpu_millis() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit_once(')').unwrap().1;
    // Fields 14 and 15 of proc(5); two stand before the parenthesis.
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

/// Compiles, installs and asks.
fn first_call<'a>(engine: &Engine, wasm: impl Into<Cow<'a, [u8]>>) {
    let module = engine.compile(wasm).unwrap();
    let id = Principal::from_slice(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    let caller = Principal::anonymous();
    let mut canister = Canister::new(engine, SystemState::new(id, Vec::new())).unwrap();
    let mode = InstallMode::Install;
    let installed =
        canister.install(&Installation { mode, module, arg: NO_ARGUMENTS, caller, time_nanos: 0 }).unwrap();
    assert_eq!(installed.response, Response::None);
    let message = Message {
        entry: Entry::Query("counters"),
        arg: NO_ARGUMENTS,
        caller,
        time_nanos: 0,
        call: CallInfo::default(),
    };
    let outcome = canister.execute(&message).unwrap();
    assert!(matches!(outcome.response, Response::Reply(_)), "{:?}", outcome.response);
}

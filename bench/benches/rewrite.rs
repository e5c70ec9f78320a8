//! How fast modules are rewritten, whether that is linear in their size, and how much larger code gets.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use std::path::PathBuf;
use std::time::Instant;

use bedstone_bench::{median, repeated};
use bedstone_instrument::{Config, Counter, Manifest, instrument};

fn main() {
    let files = prebuilt();
    modules(&files);
    sizes(&files);
}

fn prebuilt() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../canisters/prebuilt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    files.sort();
    files
}

/// Rewrites without the final validation; MB/s of Wasm by the median of `rounds`.
fn rewrite(wasm: &[u8], counter: Counter, rounds: usize) -> (f64, Vec<u8>, Manifest) {
    let config = Config { counter, revalidate: false, ..Config::default() };
    let mut seconds = Vec::new();
    let mut result = None;
    for _ in 0..rounds {
        let start = Instant::now();
        result = Some(instrument(wasm, &config).unwrap());
        seconds.push(start.elapsed().as_secs_f64());
    }
    let (module, manifest) = result.unwrap();
    (wasm.len() as f64 / 1e6 / median(seconds), module, manifest)
}

fn modules(files: &[PathBuf]) {
    println!(
        "{:32} {:>9} {:>10} {:>8} {:>10} {:>8} {:>10}",
        "module", "bytes", "MB/s", "code x", "machine x", "elided", "counter"
    );
    for path in files {
        let wasm = std::fs::read(path).unwrap();
        let machine_before = machine_code(&wasm);
        for counter in [Counter::Global, Counter::Threaded] {
            let (speed, module, manifest) = rewrite(&wasm, counter, 15);
            let summary = manifest.summary;
            let stores = summary.stores_marked + summary.stores_elided;
            println!(
                "{:32} {:>9} {:>10.1} {:>8.2} {:>10.2} {:>7.0}% {:>10}",
                path.file_name().unwrap().to_string_lossy(),
                wasm.len(),
                speed,
                summary.code_bytes.1 as f64 / summary.code_bytes.0 as f64,
                machine_code(&module) as f64 / machine_before as f64,
                100.0 * summary.stores_elided as f64 / stores.max(1) as f64,
                format!("{counter:?}"),
            );
        }
    }
}

/// Bytes of machine code, compiled as the engine does.
fn machine_code(wasm: &[u8]) -> usize {
    let mut config = wasmtime::Config::new();
    config.wasm_multi_memory(true).wasm_memory64(true).cranelift_nan_canonicalization(true);
    config.memory_reservation(4 << 30).memory_may_move(true).memory_init_cow(false);
    let engine = wasmtime::Engine::new(&config).unwrap();
    wasmtime::Module::new(&engine, wasm).unwrap().text().len()
}

/// The largest module's functions once, twice, … sixteen times.
fn sizes(files: &[PathBuf]) {
    let wasm = files.iter().map(|path| std::fs::read(path).unwrap()).max_by_key(Vec::len).unwrap();
    println!("\n{:>12} {:>14} {:>14}", "bytes", "MB/s, global", "MB/s, threaded");
    for times in [1, 2, 4, 8, 16] {
        let larger = repeated(&wasm, times);
        let rounds = 32 / times;
        let speed = |counter| rewrite(&larger, counter, rounds).0;
        println!("{:>12} {:>14.1} {:>14.1}", larger.len(), speed(Counter::Global), speed(Counter::Threaded));
    }
}

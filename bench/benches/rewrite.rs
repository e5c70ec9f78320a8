//! How fast modules are rewritten, and how much larger they get.
#![allow(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use bedstone_bench::median;
use bedstone_instrument::{Config, Counter, instrument};
use std::time::Instant;

fn main() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../canisters/prebuilt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    files.sort();
    println!(
        "{:32} {:>9} {:>10} {:>8} {:>8} {:>16}",
        "module", "bytes", "MB/s", "code x", "elided", "counter"
    );
    for path in files {
        let wasm = std::fs::read(&path).unwrap();
        for counter in [Counter::Global, Counter::Threaded] {
            let config = Config { counter, revalidate: false, ..Config::default() };
            let mut seconds = Vec::new();
            let mut summary = None;
            for _ in 0..9 {
                let start = Instant::now();
                let (_, manifest) = instrument(&wasm, &config).unwrap();
                seconds.push(start.elapsed().as_secs_f64());
                summary = Some(manifest.summary);
            }
            let summary = summary.unwrap();
            let stores = summary.stores_marked + summary.stores_elided;
            println!(
                "{:32} {:>9} {:>10.1} {:>8.2} {:>7.0}% {:>16}",
                path.file_name().unwrap().to_string_lossy(),
                wasm.len(),
                wasm.len() as f64 / 1e6 / median(seconds),
                summary.code_bytes.1 as f64 / summary.code_bytes.0 as f64,
                100.0 * summary.stores_elided as f64 / stores.max(1) as f64,
                format!("{counter:?}"),
            );
        }
    }
}

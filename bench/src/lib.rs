//! Measuring: variants of the same work, interleaved in one run, medians of rounds.
//!
//! The machine may be shared and noisy; a ratio of medians from interleaved rounds is what can be trusted.
#![forbid(unsafe_code)]

use std::time::Instant;

/// A variant: its name and its work, which takes a number of repetitions.
pub type Variant<'a> = (String, Box<dyn FnMut(u64) + 'a>);

/// Median nanoseconds per repetition of each variant, over `rounds` interleaved rounds of `repetitions`.
pub fn interleaved(variants: &mut [Variant<'_>], rounds: usize, repetitions: u64) -> Vec<f64> {
    let mut samples = vec![Vec::with_capacity(rounds); variants.len()];
    for (_, work) in variants.iter_mut() {
        work(repetitions.div_ceil(10)); // warm
    }
    for _ in 0..rounds {
        for ((_, work), samples) in variants.iter_mut().zip(&mut samples) {
            let start = Instant::now();
            work(repetitions);
            samples.push(start.elapsed().as_nanos() as f64 / repetitions as f64);
        }
    }
    samples.into_iter().map(median).collect()
}

/// The middle value.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a table of variants with the ratio to the first.
pub fn report(title: &str, variants: &[Variant<'_>], nanos: &[f64]) {
    println!("\n{title}");
    for ((name, _), time) in variants.iter().zip(nanos) {
        println!("  {name:44} {time:12.1} ns   {:6.2} x", time / nanos[0]);
    }
}

/// Runs the benchmark on a stack that Wasm can use.
pub fn with_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(16 << 20).spawn(work);
    let joined = thread.expect("a thread can be started").join();
    assert!(joined.is_ok(), "the benchmark panicked");
}

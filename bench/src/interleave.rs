//! Measuring: variants of the same work, interleaved in one run, medians of rounds.
//!
//! The machine may be shared and noisy; a ratio of medians from interleaved rounds is what can be trusted.

use std::time::Instant;

/// A variant: its name and its work, which takes a number of repetitions.
pub struct Variant<'a> {
    /// What it is called in tables.
    pub name: String,
    work: Box<dyn FnMut(u64) + 'a>,
}

impl<'a> Variant<'a> {
    /// A variant of some work.
    pub fn new(name: impl Into<String>, work: impl FnMut(u64) + 'a) -> Self {
        Self { name: name.into(), work: Box::new(work) }
    }
}

/// Nanoseconds per repetition, by variant.
#[derive(Debug, Clone)]
pub struct Times {
    rounds: Vec<Vec<f64>>,
}

impl Times {
    /// The median of a variant's rounds.
    pub fn nanos(&self, variant: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[variant]).collect())
    }

    /// How many times the time of `other` a variant took: the median over the rounds of the ratio within each.
    pub fn ratio(&self, variant: usize, other: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[variant] / round[other]).collect())
    }
}

/// Times `rounds` rounds in which each variant does `repetitions`; each round starts with another variant.
pub fn interleaved(variants: &mut [Variant<'_>], rounds: usize, repetitions: u64) -> Times {
    for variant in variants.iter_mut() {
        (variant.work)(repetitions.div_ceil(10)); // warm
    }
    let count = variants.len();
    let rounds = (0..rounds).map(|round| {
        let mut nanos = vec![0.0; count];
        for turn in 0..count {
            let index = (round + turn) % count;
            let start = Instant::now();
            (variants[index].work)(repetitions);
            nanos[index] = start.elapsed().as_nanos() as f64 / repetitions as f64;
        }
        nanos
    });
    Times { rounds: rounds.collect() }
}

/// The middle value.
pub fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The geometric mean.
pub fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

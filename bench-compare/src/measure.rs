//! Medians of interleaved rounds.
//!
//! - In each round everybody has one turn. The order is drawn anew for each round, so that nobody always follows
//!   the one whose work behind the scenes is still going on.
//! - A ratio is the median of the rounds' ratios, so that a round in which the disk was slow counts as any other.

use anyhow::Result;
use fastrand::Rng;

/// The figures of some that take part, a column of rounds for each.
pub struct Rounds(Vec<Vec<f64>>);

impl Rounds {
    /// Gives everybody a turn in each round; a turn returns a figure.
    pub fn run<T>(
        parties: &mut [T],
        rounds: u32,
        seed: u64,
        mut turn: impl FnMut(&mut T, u32) -> Result<f64>,
    ) -> Result<Rounds> {
        let mut figures = vec![Vec::new(); parties.len()];
        let mut order: Vec<usize> = (0..parties.len()).collect();
        let mut random = Rng::with_seed(seed);
        for round in 0..rounds {
            random.shuffle(&mut order);
            for &party in &order {
                figures[party].push(turn(&mut parties[party], round)?);
            }
        }
        Ok(Rounds(figures))
    }

    /// The median of one party's rounds.
    pub fn median(&self, party: usize) -> f64 {
        median(self.0[party].clone())
    }

    /// The median, over the rounds, of one party's figure divided by another's.
    pub fn ratio(&self, party: usize, to: usize) -> f64 {
        median(self.0[party].iter().zip(&self.0[to]).map(|(one, other)| one / other).collect())
    }

    /// The lowest and the highest of one party's rounds.
    pub fn range(&self, party: usize) -> (f64, f64) {
        let rounds = self.0[party].iter().copied();
        (rounds.clone().fold(f64::INFINITY, f64::min), rounds.fold(f64::NEG_INFINITY, f64::max))
    }
}

/// The middle value; of an even number, the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "there was at least one round");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

/// A seed for a part of a run: the same for everybody who takes part, different for each part.
pub fn part(seed: u64, parts: &[u64]) -> u64 {
    parts.iter().fold(seed, |seed, part| Rng::with_seed(seed ^ part.rotate_left(32)).u64(..))
}

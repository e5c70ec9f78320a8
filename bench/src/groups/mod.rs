//! The groups of measurements, a file each.

pub mod accesses;
pub mod messages;
pub mod pages;
pub mod queries;
pub mod starts;
pub mod structures;
pub mod taxes;
pub mod upgrades;

/// How long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// All promises, in some minutes.
    Quick,
    /// Everything, as often as it takes for ratios to repeat.
    Full,
}

impl Effort {
    /// One of two numbers.
    pub fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

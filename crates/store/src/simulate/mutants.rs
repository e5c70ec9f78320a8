//! The seeded mistakes of the store, and which trial notices each: the proof that the trials are not blind.
//!
//! Three of the list need a word. *One record per memory* (9) breaks the numbering as well as atomicity; the
//! first is what is noticed. The *head in place* (12) and the catalog that is *not copied* (15) are mistakes of
//! one side of the catalog's seam each, the plain one and redb. A body of an oversized record that is synced on
//! its own (20) is no defence, the sync before the rename covers it: so that one is left out.

use super::{Options, run, stale_record, torn_tails};
use crate::simulate::flips::flips;

/// What may notice a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Lives on the simulated disk.
    Lives,
    /// Flipped bits.
    Flips,
    /// Torn logs.
    TornTails,
    /// A record of another life.
    StaleRecord,
    /// A catalog of redb after a failed sync; a test of the catalog itself.
    Catalog,
}

/// A mistake.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its number in the list of mistakes that the store has to notice.
    pub number: u32,
    /// The name of its branches.
    pub name: &'static str,
    /// What notices it.
    pub trial: Trial,
    /// A seed that does.
    pub seed: u64,
}

const fn mutant(number: u32, name: &'static str, trial: Trial, seed: u64) -> Mutant {
    Mutant { number, name, trial, seed }
}

/// All mistakes of the store, with seeds found by [`search`].
pub const MUTANTS: &[Mutant] = &[
    mutant(1, "NO_COMMIT_SYNC", Trial::Lives, 0),
    mutant(2, "BASE_NOT_SYNCED", Trial::Lives, 0),
    mutant(3, "NO_DIRECTORY_SYNC", Trial::Lives, 0),
    mutant(4, "TEMPORARY_NOT_SYNCED", Trial::Lives, 0),
    mutant(5, "BODY_NOT_CHECKED", Trial::Lives, 6),
    mutant(6, "LOG_RECYCLED_EARLY", Trial::Lives, 28),
    mutant(7, "SYNC_RETRIED", Trial::Lives, 76),
    mutant(8, "RECOVERY_NOTHING", Trial::Lives, 1613),
    mutant(9, "ONE_RECORD_PER_MEMORY", Trial::Lives, 1),
    mutant(10, "RECOVERY_NO_REWRITE", Trial::Lives, 2257),
    mutant(11, "RECOVERY_BASE_FIRST", Trial::Lives, 0),
    mutant(12, "HEAD_IN_PLACE", Trial::Lives, 2),
    mutant(12, "REPLACED_IN_PLACE", Trial::Lives, 5),
    mutant(13, "NO_CHAIN", Trial::StaleRecord, 0),
    mutant(14, "BLOCK_NOT_LOGGED", Trial::Lives, 0),
    mutant(15, "CATALOG_NOT_COPIED", Trial::Catalog, 0),
    mutant(16, "SUM_FROM_BASE", Trial::Flips, 0),
    mutant(17, "SUM_NOT_SYNCED", Trial::Lives, 0),
    mutant(18, "GROW_SKIPPED", Trial::Lives, 0),
    mutant(19, "CHAIN_NOT_RESTARTED", Trial::StaleRecord, 0),
    mutant(20, "BIG_NOT_SYNCED", Trial::Lives, 4),
    mutant(21, "BIG_NO_DIRECTORY_SYNC", Trial::Lives, 8),
    mutant(22, "COPY_NOT_SYNCED", Trial::Lives, 1),
    mutant(23, "DROP_UNLINKS_EARLY", Trial::Lives, 1534),
    mutant(24, "CLEAN_NOT_COMPARED", Trial::Lives, 30),
    mutant(25, "PUBLISH_NEWEST", Trial::Lives, 41),
    mutant(26, "CHECKPOINT_BEYOND_DURABLE", Trial::Lives, 73),
    mutant(27, "WRITE_AFTER_POISON", Trial::Lives, 1042),
    mutant(28, "TORN_TAKEN_FOR_DAMAGE", Trial::Lives, 1),
    mutant(29, "DAMAGE_TAKEN_FOR_TORN", Trial::TornTails, 0),
];

/// What a trial says about the store, with a mistake in it or without.
///
/// # Errors
/// The promise that was broken.
pub fn attempt(trial: Trial, mutant: Option<&'static str>, seed: u64) -> Result<(), String> {
    if trial == Trial::Lives {
        let options = Options { mutant, ..Options::default() };
        return run(seed, &options).map(|_| ()).map_err(|violation| violation.to_string());
    }
    super::activate(mutant);
    let tried = std::panic::AssertUnwindSafe(|| match trial {
        Trial::Lives | Trial::Catalog => Ok(()),
        Trial::Flips => flips(seed, 1, 64).map(|_| ()),
        Trial::TornTails => torn_tails(seed, 12).map(|_| ()),
        Trial::StaleRecord => stale_record(seed),
    });
    let result = std::panic::catch_unwind(tried);
    super::activate(None);
    result.unwrap_or_else(|_| Err("panic".to_string()))
}

/// The first of so many seeds that notices a mistake and is content without it.
pub fn search(mutant: &Mutant, seeds: std::ops::Range<u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| {
        let noticed = attempt(mutant.trial, Some(mutant.name), seed).err()?;
        attempt(mutant.trial, None, seed).is_ok().then_some((seed, noticed))
    })
}

//! What one seed is like. Half of the seeds switch most features off, because mistakes hide behind each
//! other's effects: a record of one page that is torn twice in a row is rare among all that can be done.

use std::time::Duration;

use crate::sim::{Model, NamesKept, Random};
use crate::{Config, Durability};

/// The features of one seed; each share is a percentage.
#[derive(Clone, Debug)]
pub(super) struct Swarm {
    pub(super) durability: Durability,
    pub(super) segment_bytes: u64,
    pub(super) lives: usize,
    pub(super) messages: usize,
    /// A crash comes within so many operations.
    pub(super) crash_within: usize,
    /// An opening is crashed, too, within `crash_within`.
    pub(super) crash_opening: usize,
    pub(super) kill: usize,
    /// The same for crashes in openings.
    pub(super) kill_opening: usize,
    pub(super) fail_syncs: usize,
    pub(super) fail_dir_syncs: usize,
    pub(super) fail: usize,
    pub(super) full: usize,
    pub(super) fail_reads: usize,
    pub(super) close: usize,
    pub(super) checkpoint: usize,
    pub(super) step: usize,
    pub(super) group: usize,
    pub(super) interrupt: usize,
    pub(super) pages: usize,
    pub(super) pages_max: usize,
    pub(super) memories: usize,
    /// Shares of what a message does besides changing pages.
    pub(super) grow: usize,
    pub(super) create: usize,
    pub(super) drop: usize,
    pub(super) copy: usize,
    pub(super) metadata: usize,
    pub(super) blobs: usize,
    pub(super) oversized: usize,
    pub(super) edit: Edit,
    pub(super) model: Model,
    pub(super) checkpoint_log_bytes: u64,
    pub(super) slice_pages: usize,
    pub(super) log_bytes_max: u64,
}

/// How pages are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    Any,
    /// Few bytes at the edges of blocks.
    Edges,
    /// Whole pages, from few contents, so that many are equal.
    Equal,
    Whole,
}

fn one_of<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

impl Swarm {
    pub(super) fn draw(random: &mut Random, long: bool) -> Swarm {
        let durability = match random.below(10) {
            0 => Durability::Interval { period: Duration::from_millis(random.below(40) as u64) },
            1 => Durability::Off,
            2 => Durability::Group { window: Duration::ZERO },
            _ => Durability::Always,
        };
        let names =
            if long && random.below(2) == 0 { NamesKept::AnyInOrderPerName } else { NamesKept::Prefix };
        let model = Model {
            names,
            stale_bytes: random.below(2) == 0,
            eviction: random.below(2) == 0,
            shares_blocks: random.below(2) == 0,
        };
        let swarm = Swarm {
            durability,
            segment_bytes: one_of(random, &[8 << 10, 16 << 10, 64 << 10]),
            lives: 4 + random.below(3),
            messages: 30,
            crash_within: one_of(random, &[40, 150, 400]),
            crash_opening: 30,
            kill: one_of(random, &[0, 30, 50, 100]),
            kill_opening: one_of(random, &[0, 50]),
            fail_syncs: 5,
            fail_dir_syncs: 3,
            fail: 15,
            full: 10,
            fail_reads: 5,
            close: 10,
            checkpoint: 10,
            step: 60,
            group: 3,
            interrupt: one_of(random, &[0, 0, 10]),
            pages: 1 + random.below(4),
            pages_max: 12,
            memories: 3,
            grow: 20,
            create: 4,
            drop: 3,
            copy: 4,
            metadata: 30,
            blobs: 5,
            oversized: 4,
            edit: Edit::Any,
            model,
            checkpoint_log_bytes: one_of(random, &[4 << 10, 12 << 10, 40 << 10]),
            slice_pages: one_of(random, &[1, 3, 1000]),
            log_bytes_max: 200 << 10,
        };
        if random.below(2) == 0 { swarm } else { swarm.narrowed(random) }
    }

    /// The same with most features off, and one of them on.
    fn narrowed(self, random: &mut Random) -> Swarm {
        let narrow = Swarm {
            durability: if random.below(4) == 0 { self.durability } else { Durability::Always },
            segment_bytes: one_of(random, &[8 << 10, 8 << 10, 16 << 10]),
            crash_within: one_of(random, &[4, 12, 12, 40]),
            crash_opening: one_of(random, &[0, 50, 80]),
            lives: 6,
            fail: 0,
            fail_syncs: 0,
            fail_dir_syncs: 0,
            full: 0,
            fail_reads: 0,
            close: 0,
            group: 1,
            interrupt: 0,
            pages: 1,
            memories: 1,
            grow: 5,
            create: 0,
            drop: 0,
            copy: 0,
            metadata: 0,
            blobs: 0,
            oversized: 0,
            edit: one_of(random, &[Edit::Edges, Edit::Equal, Edit::Whole, Edit::Any]),
            ..self
        };
        match random.below(15) {
            0 => Swarm { fail: 80, kill: 80, ..narrow },
            // A store whose making fails, in the sync of a directory, until it does not.
            14 => {
                let narrow = Swarm { kill: 0, kill_opening: 100, messages: 3, lives: 8, ..narrow };
                Swarm { crash_opening: 60, fail_dir_syncs: 95, ..narrow }
            }
            // What a failed sync left in the cache only is read by a recovery that the power fails.
            13 => {
                let model = Model { eviction: false, ..self.model };
                Swarm {
                    fail_syncs: 90,
                    kill: 100,
                    kill_opening: 0,
                    crash_opening: 90,
                    lives: 10,
                    model,
                    ..narrow
                }
            }
            1 => Swarm { full: 60, ..narrow },
            2 => Swarm { copy: 40, create: 5, memories: 3, crash_within: 40, ..narrow },
            3 => Swarm { oversized: 60, crash_within: 40, ..narrow },
            4 => Swarm { create: 20, drop: 20, memories: 3, crash_within: 40, ..narrow },
            5 => Swarm { metadata: 90, pages: 0, ..narrow },
            6 => Swarm { blobs: 40, crash_within: 60, ..narrow },
            7 => Swarm { group: 3, interrupt: 30, ..narrow },
            8 => Swarm { close: 50, crash_within: 100, ..narrow },
            9 => Swarm { pages: 4, slice_pages: 1, checkpoint: 30, crash_within: 60, ..narrow },
            10 => Swarm { grow: 60, pages_max: 60, ..narrow },
            11 => Swarm {
                messages: 200,
                crash_within: 2000,
                lives: 12,
                crash_opening: 0,
                checkpoint: 20,
                ..narrow
            },
            _ => narrow,
        }
    }

    pub(super) fn config(&self, random: &mut Random) -> Config {
        let mut seed = [0; 32];
        for chunk in seed.chunks_mut(8) {
            chunk.copy_from_slice(&random.number().to_le_bytes());
        }
        let mut config = Config::new(seed);
        config.durability = self.durability;
        config.background = false;
        config.segment_bytes = self.segment_bytes;
        config.checkpoint_log_bytes = self.checkpoint_log_bytes;
        config.checkpoint_pages = 64;
        config.checkpoint_idle = Duration::from_secs(1);
        if self.interrupt == 0 {
            config.log_bytes_max = self.log_bytes_max;
            config.pending_pages_max = 200;
        } else {
            // What is appended in the midst of a sync must not wait for a checkpoint, which would wait for
            // the sync.
            config.log_bytes_max = u64::MAX;
            config.pending_pages_max = u64::MAX;
        }
        config.slice_pages = self.slice_pages;
        config.reserve_bytes = 8 << 10;
        config
    }
}

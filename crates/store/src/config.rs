//! How a store is made and opened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::{CatalogMaker, Redb};

/// When a change is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Before anybody is answered: nothing that was answered is ever lost.
    Always,
    /// As `Always`, but whoever writes first waits so long for others to share the sync.
    Group {
        /// The longest wait.
        window: Duration,
    },
    /// Answers wait until the record was written, which survives the end of the process. A power cut loses
    /// what was answered in the last period.
    Interval {
        /// Between two syncs.
        period: Duration,
    },
    /// At each [`Store::save`](crate::Store::save), which is then the only way to append.
    Off,
}

impl Durability {
    pub(crate) fn window(self) -> Duration {
        match self {
            Durability::Group { window } => window,
            _ => Duration::ZERO,
        }
    }
}

/// How a store is made and opened.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// When a change is durable.
    pub durability: Durability,
    /// How long to wait for another process that has the directory open.
    pub lock_wait: Duration,
    /// Randomness from the caller, fresh for each call: a new store's identity and its secret key, and the
    /// first link of each opening, are drawn from it.
    pub seed: [u8; 32],
    /// Whether the store has threads of its own for checkpoints and answers. Without them the caller has to
    /// call [`Store::step`](crate::Store::step) between changes.
    pub background: bool,
    /// The length of a log segment of a new store.
    pub segment_bytes: u64,
    /// A checkpoint begins when the log holds so many bytes that were not applied,
    pub checkpoint_log_bytes: u64,
    /// or so many distinct pages,
    pub checkpoint_pages: u64,
    /// or when nothing was appended for so long.
    pub checkpoint_idle: Duration,
    /// Appending waits while the log holds so many bytes that were not applied,
    pub log_bytes_max: u64,
    /// or so many distinct pages.
    pub pending_pages_max: u64,
    /// So many pages are written before a checkpoint lets others use the disk.
    pub slice_pages: usize,
    /// Kept allocated, to finish a checkpoint on a full disk.
    pub reserve_bytes: u64,
    /// Whether a file system served by a process (FUSE) will do: it decides what a sync means.
    pub allow_fuse: bool,
    pub(crate) catalog: Arc<dyn CatalogMaker>,
}

impl Config {
    /// Durable always, with threads, and no waiting for another process.
    pub fn new(seed: [u8; 32]) -> Config {
        Config {
            durability: Durability::Always,
            lock_wait: Duration::ZERO,
            seed,
            background: true,
            segment_bytes: 64 << 20,
            checkpoint_log_bytes: 64 << 20,
            checkpoint_pages: 32_768,
            checkpoint_idle: Duration::from_secs(30),
            log_bytes_max: 256 << 20,
            pending_pages_max: 65_536,
            slice_pages: 1_000,
            reserve_bytes: 64 << 20,
            allow_fuse: false,
            catalog: Arc::new(Redb),
        }
    }

    /// The same with a catalog that is one plain file, written whole: for simulations, which have no time for
    /// a database.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn with_plain_catalog(mut self) -> Config {
        self.catalog = Arc::new(crate::catalog::Plain);
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed stays out: a store's key is drawn from it.
        write!(f, "Config({:?}, segments of {} bytes)", self.durability, self.segment_bytes)
    }
}

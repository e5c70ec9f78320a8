//! How the disk behaves where a state directory is or will be: tries in small what the store does.
//!
//! - The trial files are in a directory of their own, which is removed whatever happens.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bedstone_store::{Cloned, Disk, FileDisk, FileSystem, Open, RelPath, Space};

/// How many syncs are timed.
pub const SYNCS: u32 = 100;
/// Bytes of each write before a sync: a record of a message that touched a few pages.
const WRITE_BYTES: usize = 4096;

/// What was found.
#[derive(Debug)]
pub struct Probe {
    /// The directory that was tried: the state directory, or the nearest above it that exists.
    pub place: PathBuf,
    /// What holds it.
    pub file_system: FileSystem,
    /// What is left of it.
    pub space: Space,
    /// What became of writing there.
    pub trial: Result<Trial, String>,
}

/// What was found by writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Whether copies of files share their blocks.
    pub reflink: bool,
    /// Of the syncs, the middle one.
    pub sync_median: Duration,
    /// Of the syncs, the one that 99 of 100 are no longer than.
    pub sync_p99: Duration,
}

impl Probe {
    /// Looks at the place of a state directory, which need not exist.
    pub fn of(state: &Path) -> std::io::Result<Self> {
        let disk = FileDisk::new(state);
        let (file_system, space) = (disk.file_system()?, disk.space()?);
        let existing = state.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
        let place = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
        let directory = place.join(format!(".bedstone-doctor-{}", std::process::id()));
        let trial = Trial::run(&directory);
        let removed = std::fs::remove_dir_all(&directory);
        let trial = trial.and_then(|trial| removed.map(|()| trial)).map_err(|error| error.to_string());
        Ok(Self { place: place.to_owned(), file_system, space, trial })
    }
}

impl Trial {
    fn run(directory: &Path) -> std::io::Result<Self> {
        let disk = FileDisk::new(directory);
        disk.make_dir(&RelPath::new(""))?;
        let path = RelPath::new("log");
        let file = disk.open(&path, Open::Create)?;
        // As in the log: the bytes are there before, so that a sync carries data alone.
        let zeros = vec![0; WRITE_BYTES * SYNCS as usize];
        file.write_at(0, &[IoSlice::new(&zeros)])?;
        file.sync_data()?;
        let mut times = Vec::with_capacity(SYNCS as usize);
        for index in 0..SYNCS {
            let start = Instant::now();
            file.write_at(u64::from(index) * WRITE_BYTES as u64, &[IoSlice::new(&[1; WRITE_BYTES])])?;
            file.sync_data()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let reflink = disk.clone_file(&path, &RelPath::new("copy"))? == Cloned::Shared;
        Ok(Self {
            reflink,
            sync_median: times[times.len() / 2],
            sync_p99: times[(times.len() * 99).div_ceil(100) - 1],
        })
    }
}

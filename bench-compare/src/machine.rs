//! What a figure depends on besides the code: machine, kernel, file system, load, commit.
//!
//! - What cannot be found out is said to be unknown; a benchmark runs without it.

use std::fmt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Where and of what a measurement was made.
pub struct Machine {
    /// Those this process may use.
    pub cores: usize,
    /// As the processor calls itself.
    pub processor: String,
    /// Its release.
    pub kernel: String,
    /// The type of the one that is written to.
    pub file_system: String,
    /// Processes that wanted to run in the last 1, 5 and 15 minutes, at the beginning.
    pub load: String,
    /// How the kernel schedules this process.
    pub scheduling: &'static str,
    /// Of the checkout, with a remark when files differ from it.
    pub commit: String,
}

impl Machine {
    /// Looks around, for a benchmark that writes to `directory`.
    pub fn look(directory: &Path) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let processor =
            read("/proc/cpuinfo").lines().find(|line| line.starts_with("model name")).map(str::to_owned);
        let load: Vec<String> = read("/proc/loadavg").split(' ').take(3).map(str::to_owned).collect();
        Machine {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor
                .and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
                .unwrap_or_else(unknown),
            kernel: Some(read("/proc/sys/kernel/osrelease").trim().to_owned())
                .filter(|release| !release.is_empty())
                .unwrap_or_else(unknown),
            file_system: file_system(&read("/proc/self/mountinfo"), &directory).unwrap_or_else(unknown),
            load: if load.len() == 3 { load.join(" ") } else { unknown() },
            scheduling: scheduling(&read("/proc/self/stat")),
            commit: commit().unwrap_or_else(unknown),
        }
    }

    /// Whether the file system keeps its files in memory.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs")
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        json!({
            "cores": self.cores,
            "processor": self.processor,
            "kernel": self.kernel,
            "file_system": self.file_system,
            "load": self.load,
            "scheduling": self.scheduling,
            "commit": self.commit,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cores of {}; Linux {}; {}; load {}; {} scheduling; commit {}",
            self.cores,
            self.processor,
            self.kernel,
            self.file_system,
            self.load,
            self.scheduling,
            self.commit,
        )
    }
}

/// The type of the file system that holds `path`, from the kernel's list of mounts. Of two mounts at one place the
/// later hides the earlier.
pub fn file_system(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let place = Path::new(mount.split(' ').nth(4)?);
        path.starts_with(place).then_some((place.components().count(), source.split(' ').next()?))
    });
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind.to_owned())
}

/// The policy is field 41 of the kernel's line about a process; the second, its name, may contain anything.
pub fn scheduling(stat: &str) -> &'static str {
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    match fields.split(' ').nth(41 - 3) {
        Some("0") => "normal",
        Some("1" | "2") => "real-time",
        Some(_) => "unusual",
        None => "unknown",
    }
}

/// Asked in the directory of this package, not the one the user stands in, which may be of something else.
fn commit() -> Option<String> {
    let directory = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).current_dir(&directory).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let is_clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if is_clean { commit } else { format!("{commit}, with changes") })
}

/// The version of a package, from the lock file that this was compiled with.
pub fn version(package: &str) -> &'static str {
    let start = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines().skip_while(|line| *line != start);
    let line = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    line.expect("each engine's package is in the lock file, its version after its name")
}

//! A fresh directory for one run.
//!
//! - It did not exist before and is removed at the end, whatever is in it; nothing around it is touched.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// The directory, removed when this is dropped.
pub struct Room(PathBuf);

impl Room {
    /// A directory in `parent`, or else in `target` of the current directory, which is a disk where the system's place
    /// for temporary files may be none, or else in that.
    pub fn new(parent: Option<&Path>) -> Result<Room> {
        static ROOMS: AtomicU32 = AtomicU32::new(0);
        let parent = match parent {
            Some(parent) => parent.to_owned(),
            None if Path::new("target").is_dir() => std::env::current_dir()?.join("target"),
            None => std::env::temp_dir(),
        };
        let number = ROOMS.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("bedstone-bench-compare-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&parent)
            .and_then(|()| std::fs::create_dir(&path))
            .with_context(|| format!("cannot make {}; choose another place with --dir", path.display()))?;
        Ok(Room(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where something in it is.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} stays behind: {error}", self.0.display());
        }
    }
}

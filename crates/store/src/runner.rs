//! The threads of a store: one does the work behind the scenes, one writes for those who wait for a callback.
//!
//! - Only this file starts threads and reads the clock.
//! - The threads end, and are waited for, when the last handle on the store is dropped or the store is closed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::checkpoint::{Budget, Work};
use crate::config::Durability;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::lock;

/// Without an occasion to look, there is a look this often.
const PERIOD: Duration = Duration::from_secs(1);

/// The threads of one store.
pub(crate) struct Runner {
    core: Arc<Core>,
    is_over: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Runner {
    /// Starts the threads, if the store has any work for them.
    pub(crate) fn start(core: &Arc<Core>) -> Result<Option<Runner>> {
        let off = matches!(core.config.durability, Durability::Off);
        if off || core.directory.is_none() || !core.config.background {
            return Ok(None);
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let runner = Runner { core: core.clone(), is_over, threads: Mutex::default() };
        runner.spawn("store-work", work)?;
        runner.spawn("store-commit", answer)?;
        Ok(Some(runner))
    }

    fn spawn(&self, name: &str, run: fn(&Core, &AtomicBool)) -> Result<()> {
        let (core, is_over) = (self.core.clone(), self.is_over.clone());
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(move || run(&core, &is_over));
        let thread = thread.map_err(|error| {
            Error::new(ErrorKind::Io, format!("a thread cannot be started ({error}); allow more of them"))
        })?;
        lock(&self.threads).push(thread);
        Ok(())
    }

    /// Ends the threads and waits for them.
    pub(crate) fn stop(&self) {
        self.is_over.store(true, Ordering::Release);
        self.core.nudge();
        self.core.group.stir();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            // A callback may hold the last handle, and cannot wait for the thread that it runs on.
            if thread.thread().id() != std::thread::current().id() {
                // A thread that panicked has poisoned the store.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends the store when a thread panics: others may wait for its work.
struct Alarm<'a>(&'a Core);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison(Error::new(ErrorKind::Poisoned, "a thread of the store panicked"));
        }
    }
}

fn work(core: &Core, is_over: &AtomicBool) {
    let _alarm = Alarm(core);
    let budget = Budget::new(core.config.slice_pages);
    let period = match core.config.durability {
        Durability::Interval { period } => period.min(PERIOD),
        _ => PERIOD,
    };
    while !is_over.load(Ordering::Acquire) {
        match core.step(Instant::now(), budget) {
            Ok(Work::More) => {}
            Ok(Work::Idle) => core.wait_for_nudge(period, is_over),
            // Told to everybody by then.
            Err(_) => return,
        }
    }
}

fn answer(core: &Core, is_over: &AtomicBool) {
    let _alarm = Alarm(core);
    if let Some(directory) = &core.directory {
        let window = core.config.durability.window();
        core.group.attend(&directory.log, window, &|| is_over.load(Ordering::Acquire));
        if core.health.check().is_err() {
            core.poison(core.health.error());
        }
    }
}

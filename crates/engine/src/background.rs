//! Compiles modules again, with the optimising compiler, on a thread beside the canisters.
//!
//! Invariants:
//! - One thread works for an engine, and only while there is something to compile.
//! - It changes nothing but how fast a module runs: its canisters find the new code between two messages.
//! - It keeps neither the engine nor modules that are still waiting alive. An engine that is dropped leaves at most one
//!   compilation behind, whose result is dropped.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crate::compile::Module;

/// See the module's documentation.
#[derive(Default)]
pub(crate) struct Background {
    work: Mutex<Work>,
    /// Told when the thread ends.
    idle: Condvar,
}

#[derive(Default)]
struct Work {
    waiting: VecDeque<Weak<Module>>,
    /// Whether there is a thread.
    running: bool,
}

impl Background {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a module compiled when its turn comes. A machine that gives no thread leaves it as it is.
    pub fn add(self: &Arc<Self>, module: &Arc<Module>) {
        let mut work = self.work();
        work.waiting.push_back(Arc::downgrade(module));
        if work.running {
            return;
        }
        let background = Arc::clone(self);
        let thread = std::thread::Builder::new().name("bedstone-compiler".to_owned());
        work.running = thread.spawn(move || background.run()).is_ok();
    }

    fn run(&self) {
        loop {
            let next = {
                let mut work = self.work();
                let next = work.waiting.pop_front();
                if next.is_none() {
                    work.running = false;
                    self.idle.notify_all();
                    return;
                }
                next
            };
            if let Some(module) = next.and_then(|module| module.upgrade()) {
                // A compiler that panics leaves the module as it is.
                let _ = catch_unwind(AssertUnwindSafe(|| module.optimise()));
            }
        }
    }

    /// Waits until nothing is compiled.
    pub fn finish(&self) {
        let mut work = self.work();
        while work.running {
            work = self.idle.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

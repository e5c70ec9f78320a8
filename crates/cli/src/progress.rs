//! Progress of what may take more than a second, on stderr.
//!
//! - Nothing is drawn when stderr is not a terminal, or with `--json`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::Global;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(100);

/// A spinner for work of unknown length; it goes away when dropped.
pub fn spinner(global: &Global, text: impl Into<String>) -> Progress {
    let bar = shown(global, ProgressBar::new_spinner());
    bar.set_message(text.into());
    bar.enable_steady_tick(TICK);
    Progress(bar)
}

/// A bar for `steps` steps; it goes away when dropped.
pub fn bar(global: &Global, steps: u64) -> Progress {
    let bar = shown(global, ProgressBar::new(steps));
    let template = "{bar:30} {pos}/{len} {msg} ({elapsed})";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    Progress(bar)
}

/// A bar for bytes, as many as [`Progress::reach`] says; it goes away when dropped.
pub fn bytes(global: &Global, text: impl Into<String>) -> Progress {
    let bar = shown(global, ProgressBar::new(0));
    let template = "{bar:30} {binary_bytes} of {binary_total_bytes} {msg} ({elapsed})";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(text.into());
    bar.enable_steady_tick(TICK);
    Progress(bar)
}

/// Something drawn while it lives.
pub struct Progress(ProgressBar);

impl Progress {
    /// Says what is being done.
    pub fn say(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }

    /// So much of all is done.
    pub fn reach(&self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
    }

    /// One step is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn shown(global: &Global, bar: ProgressBar) -> ProgressBar {
    // Drawing to stderr hides itself when that is not a terminal.
    bar.set_draw_target(if global.json {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    });
    bar
}

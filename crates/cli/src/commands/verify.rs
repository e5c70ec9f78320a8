//! `bedstone verify`: looks for damage in a state directory.
//!
//! - Nothing is written but the text in `LOCK`; what a recovery would do happens in memory.
//! - Findings are the result, on stdout; that there are any is the error, on stderr.

use std::fmt::Write;
use std::sync::Arc;

use anyhow::bail;
use bedstone_store::{Depth, FileDisk, Report, verify};
use clap::Args;
use serde_json::{Value, json};

use crate::output::grouped;
use crate::{Global, output, progress, state};

const EXAMPLES: &str = "\
Examples:
  bedstone verify                       every byte of ./.bedstone
  bedstone verify --quick               without the canisters' pages and modules
  bedstone --state backup verify --json";

/// Look for damage in the state directory: every page, module and record against its checksum
///
/// Reads everything and changes nothing, so that it may be run on a copy or before an upgrade of Bedstone. Each damaged
/// place is named with its file, the byte in it, and what is wrong. Exit code 0: there is no damage. 1: there is, or the
/// directory could not be looked at. Another command must not be using the directory.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Verify {
    /// Look at the formats, the tables and the log only, not at every page and module
    #[arg(long)]
    quick: bool,
}

impl Verify {
    /// Runs the command.
    pub fn run(&self, global: &Global) -> anyhow::Result<()> {
        let depth = if self.quick { Depth::Quick } else { Depth::Full };
        let place = global.state.display();
        let progress = progress::spinner(global, format!("reading {place}"));
        let report = verify(Arc::new(FileDisk::new(&global.state)), &state::store_config()?, depth)?;
        drop(progress);
        output::print(if global.json {
            json(depth, &report).to_string()
        } else {
            self.text(global, &report)
        })?;
        match report.findings.len() {
            0 => Ok(()),
            count => bail!(
                "{place} is damaged in {count} {}: restore it from a copy; without one, `bedstone repair` says what can \
                 be given up",
                if count == 1 { "place" } else { "places" }
            ),
        }
    }

    fn text(&self, global: &Global, report: &Report) -> String {
        if !report.is_clean() {
            return findings(report);
        }
        let what = if self.quick {
            format!("{} memories", grouped(report.memories))
        } else {
            let (memories, pages) = (grouped(report.memories), grouped(report.pages));
            format!("{memories} memories with {pages} pages, {} modules", grouped(report.blobs))
        };
        let mut text = format!("{} is whole: {what}", global.state.display());
        if report.records > 0 {
            // Writing to a string cannot fail.
            let _ =
                write!(text, "; {} records of the log wait for the next opening", grouped(report.records));
        }
        text
    }
}

/// What was found, a line for each.
pub fn findings(report: &Report) -> String {
    let line = |finding: &bedstone_store::Finding| {
        format!("{}, byte {}: {}", finding.file, grouped(finding.offset), finding.what)
    };
    report.findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A report as one JSON object.
pub fn json(depth: Depth, report: &Report) -> Value {
    let findings = report
        .findings
        .iter()
        .map(|finding| json!({"file": finding.file, "offset": finding.offset, "what": finding.what}));
    json!({
        "clean": report.is_clean(),
        "depth": if depth == Depth::Full { "full" } else { "quick" },
        "findings": findings.collect::<Vec<_>>(),
        "memories": report.memories,
        "pages": report.pages,
        "modules": report.blobs,
        "records": report.records,
    })
}

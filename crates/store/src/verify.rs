//! Looks for damage without changing anything, and opens a store that lost acknowledged changes.
//!
//! - What is found is listed, all of it; only what keeps one from looking is an error.
//! - Damage is never repaired behind anybody's back: giving up acknowledged changes is a call of its own, and
//!   what they were is kept.

use std::sync::Arc;

use crate::blob::read_blob;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::core::{Core, Directory};
use crate::disk::{Disk, described};
use crate::error::{Damage, Error, Result};
use crate::files::{MemoryFile, MemoryFiles, SUM_BYTES, memory_path};
use crate::page::PAGE_BYTES;
use crate::recover::{self, Loss, Opened};
use crate::scratch::Scratch;
use crate::sync::lock;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Formats, the chain of the log, the catalog.
    Quick,
    /// Also every page against its sum and every blob against its name.
    Full,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// What was looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
    /// Memories looked at.
    pub memories: u64,
    /// Pages compared with their sums: those that are not zero.
    pub pages: u64,
    /// Blobs compared with their names.
    pub blobs: u64,
    /// Records of the log that were not in the files yet.
    pub records: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Lists damage; anything else keeps one from looking.
    fn note(&mut self, error: Error) -> Result<()> {
        let Some(damage) = error.damage() else { return Err(error) };
        let Damage { file, offset, what } = damage.clone();
        let finding = Finding { file, offset, what };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
        Ok(())
    }
}

/// Looks for damage in a store that is open.
pub(crate) fn verify_open(core: &Core, depth: Depth) -> Result<Report> {
    core.health.check()?;
    let mut report = Report::default();
    let Some(directory) = &core.directory else { return Ok(report) };
    let _nothing_is_applied = lock(&directory.checkpoint);
    directory.with_catalog(|catalog| {
        verify_catalog(&directory.disk, &directory.files, catalog, depth, &mut report)
    })?;
    verify_format(directory, &mut report)?;
    Ok(report)
}

fn verify_format(directory: &Directory, report: &mut Report) -> Result<()> {
    match recover::read_format(&*directory.disk) {
        Ok(format) if format == directory.format => Ok(()),
        Ok(_) => report.note(Error::damaged("FORMAT", 0, "it is of another store")),
        Err(error) => report.note(error),
    }
}

fn verify_catalog(
    disk: &Arc<dyn Disk>,
    files: &MemoryFiles,
    catalog: &dyn Catalog,
    depth: Depth,
    report: &mut Report,
) -> Result<()> {
    let memories = match catalog.memories() {
        Ok(memories) => memories,
        Err(error) => return report.note(error),
    };
    for (id, row) in memories {
        report.memories += 1;
        let name = |which| described(&**disk, &memory_path(id, which));
        let mut bad = Vec::new();
        let pages = &mut report.pages;
        let checked = match depth {
            Depth::Quick => files
                .open_to_read(id, MemoryFile::Base)
                .and_then(|_| files.open_to_read(id, MemoryFile::Sum))
                .map(|_| None),
            Depth::Full => files.check(id, row.pages, &mut |index, page| {
                *pages += 1;
                if page.is_err() {
                    bad.push(index);
                }
                Ok(())
            }),
        };
        for index in bad {
            // Which of the two files is wrong only another copy of them can tell.
            report.findings.push(Finding {
                file: name(MemoryFile::Base),
                offset: u64::from(index.get()) * PAGE_BYTES as u64,
                what: format!(
                    "page {index} of memory {id} does not match its sum, at byte {} of {}",
                    u64::from(index.get()) * SUM_BYTES as u64,
                    name(MemoryFile::Sum)
                ),
            });
        }
        if let Err(error) = checked {
            report.note(error)?;
        }
    }
    match catalog.blobs() {
        Ok(blobs) if depth == Depth::Full => {
            for id in blobs.into_keys() {
                report.blobs += 1;
                if let Err(error) = read_blob(&**disk, id) {
                    report.note(error)?;
                }
            }
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) => report.note(error),
    }
}

/// Looks for damage in a store that is not open: recovers it in RAM, and changes nothing on the disk but the text
/// in `LOCK`. Takes as much RAM as there are pages that wait to be applied.
///
/// # Errors
/// When the directory cannot be looked at: it is missing, in use, not ours or of another release. Damage is no
/// error, but listed.
pub fn verify(disk: Arc<dyn Disk>, config: &Config, depth: Depth) -> Result<Report> {
    let mut report = Report::default();
    match verify_closed(&disk, config, depth, Loss::Refuse) {
        Ok(report) => return Ok(report),
        Err(error) => report.note(error)?,
    }
    // What keeps the store from being opened need not be all that is wrong.
    match verify_closed(&disk, config, depth, Loss::Accept) {
        Ok(more) => {
            let damage = std::mem::take(&mut report.findings);
            report = more;
            report.findings.splice(..0, damage);
        }
        Err(error) => report.note(error)?,
    }
    Ok(report)
}

fn verify_closed(disk: &Arc<dyn Disk>, config: &Config, depth: Depth, loss: Loss) -> Result<Report> {
    let scratch = Arc::new(Scratch::new(disk.clone()));
    let (core, opened) = recover::open(scratch, config, loss)?;
    let mut report = verify_open(&core, depth)?;
    if let Opened::Recovered { records, .. } = opened {
        report.records = records;
    }
    Ok(report)
}

/// Opens a store that lost acknowledged changes without them, applies what is left and closes it. The log as
/// it was is kept in `damaged/`.
pub fn repair_accepting_loss(disk: Arc<dyn Disk>, config: &Config) -> Result<Report> {
    let (core, opened) = recover::open(disk, config, Loss::Accept)?;
    let mut report = verify_open(&core, Depth::Full)?;
    recover::close(&core)?;
    if let Opened::Recovered { records, .. } = opened {
        report.records = records;
    }
    Ok(report)
}

//! The report: figures as JSON, as text and as a part of a Markdown document with pictures.
//!
//! The document is written by hand but for what stands between [`BEGIN`] and [`END`].

mod picture;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::figures::{Figures, Row, Table};

/// The line before what is written anew.
pub const BEGIN: &str = "<!-- written by `cargo xtask measure`: begin -->";
/// The line after it.
pub const END: &str = "<!-- written by `cargo xtask measure`: end -->";

/// Where and from what the figures are.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The processor and how many of them.
    pub machine: String,
    /// The kernel.
    pub kernel: String,
    /// The commit, and whether the tree differed from it.
    pub commit: String,
    /// The command that made them.
    pub command: String,
}

impl Origin {
    /// Of this process.
    pub fn here(command: String) -> Self {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown processor");
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let git = |args: &[&str]| {
            let output = std::process::Command::new("git").args(args).output().ok()?;
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let head = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
        let changed =
            git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
        Self {
            machine: format!("{} × {}", count, model.trim_start_matches([' ', '\t', ':'])),
            kernel: format!("Linux {}", kernel.trim()),
            commit: if changed { format!("{head} and changes") } else { head },
            command,
        }
    }
}

/// `{"rows": […], …}`.
pub fn json(figures: &Figures, origin: &Origin) -> Value {
    let table = |table: &Table| json!({ "title": table.title, "head": table.head, "lines": table.lines });
    json!({
        "rows": figures.rows.iter().map(Row::json).collect::<Vec<_>>(),
        "tables": figures.tables.iter().map(table).collect::<Vec<_>>(),
        "machine": origin.machine,
        "kernel": origin.kernel,
        "commit": origin.commit,
        "command": origin.command,
    })
}

/// For a terminal.
pub fn text(figures: &Figures) -> String {
    let mut tables = vec![rows(figures)];
    tables.extend(figures.tables.iter().cloned());
    tables.iter().map(aligned).collect::<Vec<_>>().join("\n")
}

/// The promises as a table.
fn rows(figures: &Figures) -> Table {
    let mut table = Table::new("Targets", &["what", "target", "measured", "kept"]);
    for row in &figures.rows {
        let digits = if row.measured < 10.0 { 3 } else { 1 };
        let measured = format!("{:.digits$} {}", row.measured, row.unit);
        table.line(
            &row.name,
            [row.target_text(), measured, if row.ok() { "yes" } else { "**no**" }.to_owned()],
        );
    }
    table
}

fn aligned(table: &Table) -> String {
    let width = |column: usize| {
        let cells = table.lines.iter().chain([&table.head]).map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
    let mut text = format!("{}\n", table.title);
    for line in [&table.head].into_iter().chain(&table.lines) {
        for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let space = " ".repeat(width - cell.chars().count());
            text.push_str(if index == 0 { "  " } else { "   " });
            text.push_str(&if index == 0 { format!("{cell}{space}") } else { format!("{space}{cell}") });
        }
        text.push('\n');
    }
    text
}

fn markdown(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|{}\n", "---|".repeat(table.head.len()));
    let lines: String = table.lines.iter().map(|cells| line(cells)).collect();
    format!("### {}\n\n{}{rule}{lines}", table.title, line(&table.head))
}

/// Writes the figures into the document, and its pictures into `images` beside it.
///
/// # Errors
/// If a file cannot be read or written, or the document does not have both marks.
pub fn write(figures: &Figures, origin: &Origin, document: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", document.display());
    let old = std::fs::read_to_string(document).map_err(|error| failed(&error))?;
    let parts = old.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = parts else {
        return Err(failed(&format!("the lines {BEGIN} and {END} are missing")));
    };
    let images = document.parent().unwrap_or(Path::new(".")).join("images");
    std::fs::create_dir_all(&images).map_err(|error| failed(&error))?;
    let mut text = format!(
        "\n`{}` on {}, {}, at commit {}.\n\n{}",
        origin.command,
        origin.machine,
        origin.kernel,
        origin.commit,
        markdown(&rows(figures))
    );
    for table in &figures.tables {
        let _ = write!(text, "\n{}", markdown(table));
    }
    for plot in &figures.plots {
        let path = images.join(format!("{}.svg", plot.file));
        picture::draw(plot, &path)?;
        let _ = write!(text, "\n![{}](images/{}.svg)\n", plot.title, plot.file);
    }
    std::fs::write(document, format!("{before}{BEGIN}\n{text}\n{END}{after}")).map_err(|error| failed(&error))
}

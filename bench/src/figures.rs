//! What was measured: rows with targets, tables and graphs.

use serde_json::{Value, json};

/// What a measured value is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// It may not be larger.
    AtMost(f64),
    /// It may not be smaller.
    AtLeast(f64),
}

/// One promise and what became of it.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What it should be.
    pub target: Target,
    /// What it was.
    pub measured: f64,
    /// Unit of both, `×` for ratios.
    pub unit: &'static str,
}

impl Row {
    /// Whether the promise is kept.
    pub fn ok(&self) -> bool {
        match self.target {
            Target::AtMost(most) => self.measured <= most,
            Target::AtLeast(least) => self.measured >= least,
        }
    }

    /// The target in words.
    pub fn target_text(&self) -> String {
        let (sign, value) = match self.target {
            Target::AtMost(value) => ("≤", value),
            Target::AtLeast(value) => ("≥", value),
        };
        format!("{sign} {value} {}", self.unit)
    }

    /// As a member of `rows`.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "target": self.target_text(),
            "measured": (self.measured * 1000.0).round() / 1000.0,
            "ok": self.ok(),
        })
    }
}

/// A table: a name for each line, a value in each column.
#[derive(Debug, Clone)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The head, the first column included.
    pub head: Vec<String>,
    /// The lines, as many cells as the head has.
    pub lines: Vec<Vec<String>>,
}

impl Table {
    /// A table without lines.
    pub fn new(title: impl Into<String>, head: &[&str]) -> Self {
        Self {
            title: title.into(),
            head: head.iter().map(|cell| (*cell).to_owned()).collect(),
            lines: Vec::new(),
        }
    }

    /// Adds a line.
    pub fn line(&mut self, name: impl Into<String>, cells: impl IntoIterator<Item = String>) {
        let line: Vec<String> = [name.into()].into_iter().chain(cells).collect();
        assert_eq!(line.len(), self.head.len(), "a cell for each column of {}", self.title);
        self.lines.push(line);
    }
}

/// Points of one line of a graph.
pub type Series = (String, Vec<(f64, f64)>);

/// A graph.
#[derive(Debug, Clone)]
pub struct Plot {
    /// File name without extension.
    pub file: &'static str,
    /// What it shows.
    pub title: String,
    /// What the axes count.
    pub labels: [&'static str; 2],
    /// Whether both axes are logarithmic.
    pub logarithmic: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// What one group of measurements gives.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Promises.
    pub rows: Vec<Row>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Graphs.
    pub plots: Vec<Plot>,
}

impl Figures {
    /// Adds a promise of at most so much.
    pub fn at_most(&mut self, name: impl Into<String>, most: f64, measured: f64, unit: &'static str) {
        self.rows.push(Row { name: name.into(), target: Target::AtMost(most), measured, unit });
    }

    /// Adds a promise of at least so much.
    pub fn at_least(&mut self, name: impl Into<String>, least: f64, measured: f64, unit: &'static str) {
        self.rows.push(Row { name: name.into(), target: Target::AtLeast(least), measured, unit });
    }

    /// Adds another group's figures.
    pub fn extend(&mut self, other: Figures) {
        self.rows.extend(other.rows);
        self.tables.extend(other.tables);
        self.plots.extend(other.plots);
    }
}

/// A time in the unit that suits it.
pub fn time(nanos: f64) -> String {
    match nanos {
        _ if nanos < 1e3 => format!("{nanos:.1} ns"),
        _ if nanos < 1e6 => format!("{:.2} µs", nanos / 1e3),
        _ if nanos < 1e9 => format!("{:.2} ms", nanos / 1e6),
        _ => format!("{:.2} s", nanos / 1e9),
    }
}

/// A ratio.
pub fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}×") } else { format!("{ratio:.1}×") }
}

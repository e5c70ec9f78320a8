//! What `demo` and `compare` say about a measurement: text with graphs, one JSON object, a picture.
//!
//! - Whatever should be equal in all networks and is not makes the command fail.

mod svg;
mod terminal;

use std::path::Path;

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::output::{grouped, hex};
use crate::side_by_side::{Measured, Way};
use crate::{Global, output};

/// A measurement and what it was of.
pub struct Report {
    /// What was done, in a sentence or two.
    pub introduction: String,
    /// Title of the picture.
    pub title: String,
    /// What the horizontal axes count.
    pub x_label: String,
    /// A point on the horizontal axis for each message.
    pub x: Vec<f64>,
    /// What was measured.
    pub measured: Measured,
    /// What was checked across the upgrade, and whether it held.
    pub survived: Survived,
    /// What else was done, as a paragraph at the end.
    pub epilogue: Option<String>,
    /// Further members of the JSON object.
    pub members: Map<String, Value>,
}

/// The outcome of the upgrade.
pub struct Survived {
    /// Whether everything was as before.
    pub yes: bool,
    /// What was looked at.
    pub what: String,
}

impl Report {
    /// Prints the report, draws the picture if one is wanted, and fails if something was not equal.
    pub fn deliver(&self, global: &Global, svg: Option<&Path>) -> anyhow::Result<()> {
        if let Some(file) = svg {
            svg::draw(self, file)?;
        }
        if global.json {
            output::print(self.json())?;
        } else {
            output::print(self.text())?;
            if let Some(file) = svg {
                output::note(format_args!("the graph is in {}", file.display()));
            }
        }
        self.check()
    }

    fn check(&self) -> anyhow::Result<()> {
        let facts = [
            (self.measured.replies_equal, "the replies"),
            (self.measured.instructions_equal, "the instruction counts"),
            (self.measured.stable_equal(), "the stable memories"),
        ];
        let different: Vec<&str> = facts.iter().filter(|(equal, _)| !equal).map(|(_, what)| *what).collect();
        if !different.is_empty() {
            bail!(
                "{} differ between the three ways, a defect of bedstone: please report it with the module",
                different.join(" and ")
            );
        }
        if !self.survived.yes {
            bail!("the canister did not survive an upgrade to itself: {}", self.survived.what);
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let measured = &self.measured;
        let by_way = |value: &dyn Fn(Way) -> Value| {
            json!({
                "usual_host": value(Way::UsualHost),
                "best_host": value(Way::BestHost),
                "native": value(Way::Native),
            })
        };
        let mut members = self.members.clone();
        let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
        add("ratio_native_over_usual_host", json!(measured.ratio(Way::UsualHost)));
        add("ratio_native_over_best_host", json!(measured.ratio(Way::BestHost)));
        add("ratio_of_sums_native_over_usual_host", json!(measured.ratio_of_sums(Way::UsualHost)));
        add("ratio_of_sums_native_over_best_host", json!(measured.ratio_of_sums(Way::BestHost)));
        add("replies_equal", json!(measured.replies_equal));
        add("instructions_equal", json!(measured.instructions_equal));
        add("stable_sha256_equal", json!(measured.stable_equal()));
        add("survived_upgrade", json!(self.survived.yes));
        add("messages", json!(self.x.len()));
        add("instructions", by_way(&|way| json!(measured.lane(way).instructions)));
        add("stable_sha256", by_way(&|way| json!(hex(&measured.lane(way).stable.sha256))));
        let series = json!({
            "usual_host_ms": measured.lane(Way::UsualHost).milliseconds(),
            "best_host_ms": measured.lane(Way::BestHost).milliseconds(),
            "native_ms": measured.lane(Way::Native).milliseconds(),
        });
        add("series", series);
        Value::Object(members)
    }

    fn text(&self) -> String {
        let milliseconds = |way| self.measured.lane(way).milliseconds();
        let (usual, best, native) =
            (milliseconds(Way::UsualHost), milliseconds(Way::BestHost), milliseconds(Way::Native));
        let max = [&usual, &best, &native].into_iter().flatten().copied().fold(0.0, f64::max);
        // Small messages are shown in microseconds.
        let (unit, factor) = if max < 1.0 { ("µs", 1e3) } else { ("ms", 1.0) };
        let scaled = |values: Vec<f64>| values.into_iter().map(|value| value * factor).collect::<Vec<_>>();
        let axes = terminal::Axes { unit, y_max: max * factor, x_label: &self.x_label, x: &self.x };
        let host = [
            terminal::Line { mark: '●', name: "usual", values: scaled(usual) },
            terminal::Line { mark: '○', name: "best", values: scaled(best) },
        ];
        let native = [terminal::Line { mark: '◆', name: "native", values: scaled(native) }];
        let mut paragraphs = vec![
            self.introduction.clone(),
            LEGEND.to_owned(),
            terminal::graph("Host functions", &axes, &host),
            terminal::graph("Native", &axes, &native),
            self.table(),
        ];
        paragraphs.extend(self.epilogue.clone());
        paragraphs.join("\n\n")
    }

    fn table(&self) -> String {
        let measured = &self.measured;
        let yes_no = |yes: bool| if yes { "yes" } else { "NO" };
        let row = |label: &str, cells: [String; 3]| {
            let [native, best, usual] = cells;
            format!("{label:<30}{native:>16}{best:>16}{usual:>16}")
        };
        let times = |way| format!("{:.3} ms", measured.lane(way).median_milliseconds());
        let faster = |ratio: f64| format!("{ratio:.2}×");
        let counts = |way| grouped(measured.lane(way).instructions);
        let columns = [Way::Native, Way::BestHost, Way::UsualHost];
        let stable = &measured.lane(Way::Native).stable;
        let (instructions, memories) = (yes_no(measured.instructions_equal), yes_no(measured.stable_equal()));
        let mut lines = vec![
            row("", ["native", "best host", "usual host"].map(str::to_owned)),
            row("time per message, median", columns.map(times)),
            row(
                "native is faster, median",
                [
                    String::new(),
                    faster(measured.ratio(Way::BestHost)),
                    faster(measured.ratio(Way::UsualHost)),
                ],
            ),
            row(
                "native is faster, sum",
                [
                    String::new(),
                    faster(measured.ratio_of_sums(Way::BestHost)),
                    faster(measured.ratio_of_sums(Way::UsualHost)),
                ],
            ),
            row("instructions", columns.map(counts)),
            String::new(),
            format!("{:<30}{instructions}", "instructions equal"),
            format!("{:<30}{}", "replies equal", yes_no(measured.replies_equal)),
            format!("{:<30}{memories}, {} bytes", "stable memories equal", grouped(stable.bytes)),
        ];
        if measured.stable_equal() {
            lines.push(format!("  SHA-256 {}", hex(&stable.sha256)));
        } else {
            lines.extend(
                measured.lanes.iter().map(|lane| format!("  {:?} {}", lane.way, hex(&lane.stable.sha256))),
            );
        }
        lines.push(format!(
            "{:<30}{}: {}",
            "survived an upgrade",
            yes_no(self.survived.yes),
            self.survived.what
        ));
        lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
    }
}

const LEGEND: &str = "\
The same messages to the same module, three ways to reach stable memory:
  ● usual host   host functions that look the canister's heap up at each access
  ○ best host    host functions that keep it at hand (--stable host)
  ◆ native       direct operations on a second Wasm memory (--stable native)";

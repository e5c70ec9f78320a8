//! A graph in text: a mark per message, at most 80 columns wide.

/// Columns of the plot, beside a label of 8 and the axis: 78 in all.
const COLUMNS: usize = 68;
/// Columns of a label of the vertical axis.
const LABEL_COLUMNS: usize = 9;
/// Rows between two labels of the vertical axis.
const ROWS_PER_TICK: usize = 3;
/// Labelled rows above zero.
const TICKS: usize = 4;
/// Rows above zero.
const ROWS: usize = ROWS_PER_TICK * TICKS;

const _: () = assert!(LABEL_COLUMNS + 1 + COLUMNS <= 80);

/// What graphs that are compared share.
pub struct Axes<'a> {
    /// Of the vertical axis.
    pub unit: &'a str,
    /// The largest value of any.
    pub y_max: f64,
    /// Of the horizontal axis.
    pub x_label: &'a str,
    /// Ascending.
    pub x: &'a [f64],
}

/// One series.
pub struct Line<'a> {
    /// Its mark.
    pub mark: char,
    /// Its name.
    pub name: &'a str,
    /// A value for each of the axis's points.
    pub values: Vec<f64>,
}

/// Where two series meet.
const BOTH: char = '◉';

/// Draws series into one graph.
pub fn graph(title: &str, axes: &Axes<'_>, lines: &[Line<'_>]) -> String {
    let step = nice_step(axes.y_max);
    let mut rows = grid();
    for line in lines {
        for (x, value) in axes.x.iter().zip(&line.values) {
            let row = nearest(value / step * ROWS_PER_TICK as f64, ROWS);
            let cell = &mut rows[row][column(axes.x, *x)];
            *cell = if is_mark(*cell) && *cell != line.mark { BOTH } else { line.mark };
        }
    }

    let legend: Vec<String> = lines.iter().map(|line| format!("{} {}", line.mark, line.name)).collect();
    let mut text = vec![format!("{title}: time per message in {}   {}", axes.unit, legend.join("  "))];
    for (row, cells) in rows.iter().enumerate().rev() {
        let is_tick = row % ROWS_PER_TICK == 0;
        let label = if is_tick { number((row / ROWS_PER_TICK) as f64 * step) } else { String::new() };
        let axis = if is_tick { '┤' } else { '│' };
        let cells: String = cells.iter().collect();
        text.push(format!("{label:>LABEL_COLUMNS$}{axis}{cells}"));
    }
    text.push(format!("{:LABEL_COLUMNS$}└{}", "", "─".repeat(COLUMNS)));
    text.push(format!("{:LABEL_COLUMNS$} {}", "", x_labels(axes.x)));
    let indent = LABEL_COLUMNS + 1 + COLUMNS.saturating_sub(axes.x_label.chars().count()) / 2;
    text.push(format!("{:indent$}{}", "", axes.x_label));
    text.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// Dotted lines at the labelled rows but zero; row 0 is the lowest.
fn grid() -> Vec<Vec<char>> {
    let row = |row| if row > 0 && row % ROWS_PER_TICK == 0 { '┈' } else { ' ' };
    (0..=ROWS).map(|index| vec![row(index); COLUMNS]).collect()
}

fn is_mark(cell: char) -> bool {
    cell != ' ' && cell != '┈'
}

/// The column of a point; the only point stands in the middle.
fn column(x: &[f64], at: f64) -> usize {
    let (Some(first), Some(last)) = (x.first(), x.last()) else { return 0 };
    if first == last {
        return COLUMNS / 2;
    }
    nearest((at - first) / (last - first) * (COLUMNS - 1) as f64, COLUMNS - 1)
}

/// The nearest whole number, at least 0 and at most `max`.
fn nearest(value: f64, max: usize) -> usize {
    (0..=max).min_by(|a, b| (*a as f64 - value).abs().total_cmp(&(*b as f64 - value).abs())).unwrap_or(0)
}

/// Points below their columns: the last one, and of the others as many as leave a space between.
fn x_labels(x: &[f64]) -> String {
    let label = |at: f64| {
        let text = number(at);
        let start = (column(x, at) + 1).saturating_sub(text.len().div_ceil(2)).min(COLUMNS - text.len());
        (start, text)
    };
    let Some((last, others)) = x.split_last() else { return String::new() };
    let (last_start, last_text) = label(*last);
    let mut line = String::new();
    for (start, text) in others.iter().map(|at| label(*at)) {
        let has_room = line.is_empty() || line.len() < start;
        if has_room && start + text.len() < last_start {
            line = format!("{line:<start$}{text}");
        }
    }
    format!("{line:<last_start$}{last_text}")
}

/// The smallest round number of which [`TICKS`] reach `max`.
fn nice_step(max: f64) -> f64 {
    let least = (max / TICKS as f64).max(1e-6);
    let power = 10_f64.powf(least.log10().floor());
    let digits = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];
    let step = digits.into_iter().map(|digit| digit * power).find(|step| *step >= least);
    step.unwrap_or(10.0 * power)
}

/// A number with no more decimals than it needs, three at most.
pub fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_reach_the_largest_value() {
        for (max, step) in [(4.0, 1.0), (4.1, 1.5), (9.0, 2.5), (900.0, 250.0), (0.7, 0.2), (33.0, 10.0)] {
            assert!((nice_step(max) - step).abs() < 1e-9, "{max}: {}", nice_step(max));
        }
    }

    #[test]
    fn marks_stand_at_their_values() {
        let axes = Axes { unit: "ms", y_max: 400.0, x_label: "message", x: &[1.0, 2.0, 3.0] };
        let lines = [
            Line { mark: '●', name: "usual", values: vec![100.0, 200.0, 400.0] },
            Line { mark: '○', name: "best", values: vec![100.0, 100.0, 200.0] },
        ];
        let graph = graph("Host functions", &axes, &lines);
        let rows: Vec<&str> = graph.lines().collect();
        assert_eq!(rows[0], "Host functions: time per message in ms   ● usual  ○ best");
        assert!(rows[1].starts_with("      400┤") && rows[1].ends_with('●'), "{graph}");
        assert!(
            rows[7].starts_with("      200┤") && rows[7].contains("●┈") && rows[7].ends_with('○'),
            "{graph}"
        );
        assert!(rows[10].starts_with("      100┤◉") && rows[10].contains("┈○┈"), "{graph}");
        assert_eq!(rows[15].split_whitespace().collect::<Vec<_>>(), ["1", "2", "3"]);
        assert!(rows.iter().all(|row| row.chars().count() <= 80), "{graph}");
    }

    #[test]
    fn one_message_and_many_fit() {
        for count in [1_usize, 2, 500] {
            let x: Vec<f64> = (1..=count).map(|index| index as f64).collect();
            let axes = Axes { unit: "ms", y_max: 0.0, x_label: "message", x: &x };
            let line = Line { mark: '◆', name: "native", values: vec![0.0; count] };
            let graph = graph("Native", &axes, &[line]);
            assert!(graph.lines().all(|row| row.chars().count() <= 80), "{graph}");
            assert_eq!(graph.matches('◆').count() - 1, count.min(COLUMNS), "{graph}");
        }
    }
}

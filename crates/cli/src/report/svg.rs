//! The graph as a picture.
//!
//! - Colours are told apart without telling red from green.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;

use super::Report;
use super::terminal::number;
use crate::side_by_side::Way;

const SIZE: (u32, u32) = (960, 540);
/// How far the axis goes beyond the largest value: the legend stands above it.
const HEADROOM: f64 = 1.3;

/// The series in the order of the legend, slowest first as a rule.
const SERIES: [(Way, &str, RGBColor); 3] = [
    (Way::UsualHost, "usual host functions", RGBColor(0xd5, 0x5e, 0x00)),
    (Way::BestHost, "best host functions", RGBColor(0xe6, 0x9f, 0x00)),
    (Way::Native, "native", RGBColor(0x00, 0x72, 0xb2)),
];

/// Draws all series of a report.
pub fn draw(report: &Report, file: &Path) -> anyhow::Result<()> {
    let mut picture = String::new();
    // Drawn in memory, so that a file is written whole or not at all.
    draw_to(report, &mut picture).map_err(|error| anyhow!("the graph cannot be drawn: {error}"))?;
    std::fs::write(file, picture)
        .map_err(|error| anyhow!("the graph cannot be written to {}: {error}", file.display()))
}

fn draw_to(report: &Report, picture: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let series = SERIES.map(|(way, name, color)| (report.measured.lane(way).milliseconds(), name, color));
    let largest = series.iter().flat_map(|(values, ..)| values).copied().fold(0.0, f64::max);
    let y_max = (largest * HEADROOM).max(1e-3);
    let (first, last) = (report.x.first().copied().unwrap_or(0.0), report.x.last().copied().unwrap_or(1.0));
    // Room for the marks at both ends.
    let margin = ((last - first) * 0.03).max(0.05);
    let mut chart = ChartBuilder::on(&area)
        .caption(&report.title, ("sans-serif", 22))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d((first - margin)..(last + margin), 0.0..y_max)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .x_desc(&report.x_label)
        .y_desc("execution time per message (ms)")
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    for (values, name, color) in &series {
        let points: Vec<(f64, f64)> = report.x.iter().copied().zip(values.iter().copied()).collect();
        let color = *color;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], color.stroke_width(3)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(12)
        .legend_area_size(32)
        .label_font(("sans-serif", 16))
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(0xbb, 0xbb, 0xbb))
        .draw()?;
    area.present()?;
    Ok(())
}

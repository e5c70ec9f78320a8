//! A graph as a picture.
//!
//! - Colours are told apart without telling red from green.

use std::path::Path;

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;

use crate::figures::{Plot, Series};

const SIZE: (u32, u32) = (960, 540);
const COLORS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0x33, 0x33, 0x33),
];

/// Draws a graph into a file.
///
/// # Errors
/// If it cannot be written.
pub fn draw(plot: &Plot, file: &Path) -> Result<(), String> {
    let mut picture = String::new();
    draw_to(plot, &mut picture).map_err(|error| format!("{} cannot be drawn: {error}", plot.title))?;
    std::fs::write(file, picture).map_err(|error| format!("{}: {error}", file.display()))
}

fn draw_to(plot: &Plot, picture: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || plot.series.iter().flat_map(|(_, points)| points.iter().copied());
    let span = |of: fn((f64, f64)) -> f64| {
        let values = || points().map(of).filter(|value| *value > 0.0);
        (values().fold(f64::INFINITY, f64::min), values().fold(1e-3, f64::max))
    };
    let ((x_min, x_max), (y_min, y_max)) = (span(|point| point.0), span(|point| point.1));
    let mut builder = ChartBuilder::on(&area);
    builder.caption(&plot.title, ("sans-serif", 22)).margin(16).x_label_area_size(48).y_label_area_size(72);
    if plot.logarithmic {
        let x = (x_min * 0.9..x_max * 1.1).log_scale();
        // Room for the legend.
        let y = (y_min * 0.7..y_max * 6.0).log_scale();
        finish(builder.build_cartesian_2d(x, y)?, plot)?;
    } else {
        finish(builder.build_cartesian_2d(0.0..x_max * 1.03, 0.0..y_max * 1.3)?, plot)?;
    }
    area.present()?;
    Ok(())
}

type Chart<'a, 's, X, Y> = ChartContext<'a, SVGBackend<'s>, Cartesian2d<X, Y>>;

fn finish<'a, 's: 'a, X, Y>(mut chart: Chart<'a, 's, X, Y>, plot: &Plot) -> Result<(), String>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .label_style(("sans-serif", 15))
        .axis_desc_style(("sans-serif", 16))
        .x_desc(plot.labels[0])
        .y_desc(plot.labels[1])
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()
        .map_err(words)?;
    for ((name, points), color) in plot.series.iter().zip(COLORS.iter().cycle()) {
        draw_series(&mut chart, &(name.clone(), points.clone()), *color)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(12)
        .legend_area_size(32)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(0xbb, 0xbb, 0xbb))
        .draw()
        .map_err(words)?;
    Ok(())
}

fn draw_series<'a, 's: 'a, X, Y>(
    chart: &mut Chart<'a, 's, X, Y>,
    (name, points): &Series,
    color: RGBColor,
) -> Result<(), String>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let points: Vec<(f64, f64)> = points.iter().copied().filter(|(_, y)| *y > 0.0).collect();
    chart
        .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))
        .map_err(words)?
        .label(name)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], color.stroke_width(3)));
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled()))).map_err(words)?;
    Ok(())
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn number(value: f64) -> String {
    if value == 0.0 || (1.0..1e6).contains(&value) { format!("{value:.0}") } else { format!("{value}") }
}

//! Lines drawn as SVG. Text stays text, so no font is needed here, and the reader's is used there.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::results::{Axis, Series, short};

const SIZE: (u32, u32) = (800, 420);
const COLORS: [RGBColor; 5] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
];
/// How much of an axis lies beyond the outermost points.
const MARGIN: f64 = 0.08;

/// Draws a series.
///
/// # Errors
/// What the drawing says; it has not been seen to.
pub(super) fn draw(series: &Series) -> Result<String> {
    let points = || series.lines.iter().flat_map(|line| line.points.iter());
    let x = range(points().map(|(x, _)| *x), &series.x, None);
    let mut y = range(points().map(|(_, y)| *y), &series.y, Some(0.0));
    if !series.y.log {
        // Room for the legend above all lines.
        y.end += (y.end - y.start) * (0.06 + 0.055 * series.lines.len() as f64);
    }
    match (series.x.log, series.y.log) {
        (false, false) => chart(series, x, y),
        (true, false) => chart(series, x.log_scale(), y),
        (false, true) => chart(series, x, y.log_scale()),
        (true, true) => chart(series, x.log_scale(), y.log_scale()),
    }
    .map_err(|error| anyhow!("could not draw {}: {error}", series.id))
}

/// All values and a margin; a linear axis also has `least`.
fn range(values: impl Iterator<Item = f64>, axis: &Axis, least: Option<f64>) -> Range<f64> {
    let scale = |value: f64| if axis.log { value.max(f64::MIN_POSITIVE).ln() } else { value };
    let back = |value: f64| if axis.log { value.exp() } else { value };
    let values = values.chain(least.filter(|_| !axis.log)).map(scale);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return back(0.0)..back(1.0);
    }
    let margin = if high > low { (high - low) * MARGIN } else { 0.5 };
    let low = if least == Some(low) { low } else { low - margin };
    back(low)..back(high + margin)
}

fn chart<X, Y>(series: &Series, x: X, y: Y) -> Result<String, Box<dyn std::error::Error>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&root);
    builder.caption(&series.title, ("sans-serif", 20)).margin(12).x_label_area_size(44).y_label_area_size(60);
    let mut chart = builder.build_cartesian_2d(x, y)?;
    let label = |value: &f64| tick(*value);
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc(&series.x.label)
        .y_desc(&series.y.label)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .draw()?;
    for (line, color) in series.lines.iter().zip(COLORS.iter().cycle()) {
        let style = color.stroke_width(2);
        let drawn = chart.draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?;
        drawn.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperRight).background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.3));
    legend.label_font(("sans-serif", 13)).draw()?;
    root.present()?;
    drop(chart);
    drop(root);
    Ok(svg)
}

/// A value at an axis: no digits that say nothing.
fn tick(value: f64) -> String {
    if value.abs() >= 10.0 || value.fract() == 0.0 {
        return group(value);
    }
    short(value).trim_end_matches('0').to_owned()
}

/// Whole, with a comma between thousands.
fn group(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Group, Line};

    fn series(x_log: bool, y_log: bool, points: Vec<(f64, f64)>) -> Series {
        let axis = |label: &str, log| Axis { label: label.to_owned(), log };
        let line = Line { name: "the only <one>".to_owned(), points };
        Series {
            id: "x".to_owned(),
            group: Group::Keys,
            title: "A title".to_owned(),
            x: axis("across", x_log),
            y: axis("up", y_log),
            lines: vec![line],
        }
    }

    #[test]
    fn every_kind_of_axis_is_drawn_with_its_words() {
        for (x, y) in [(false, false), (true, false), (false, true), (true, true)] {
            let svg = draw(&series(x, y, vec![(10_000.0, 2.0), (10_000_000.0, 8.0)])).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            for words in ["A title", "across", "up", "the only &lt;one&gt;", "<polyline", "<circle"] {
                assert!(svg.contains(words), "{words} in {svg}");
            }
        }
    }

    #[test]
    fn one_point_and_none_are_drawn_too() {
        assert!(draw(&series(true, false, vec![(10.0, 0.5)])).unwrap().contains("<circle"));
        assert!(draw(&series(true, true, Vec::new())).unwrap().contains("A title"));
    }

    #[test]
    fn the_same_figures_give_the_same_picture() {
        let series = series(true, false, vec![(20.0, 1.0), (200.0, 3.0)]);
        assert_eq!(draw(&series).unwrap(), draw(&series).unwrap());
    }

    #[test]
    fn ticks_have_the_digits_that_count() {
        assert_eq!(["0", "1.5", "12", "10,000,000"], [0.0, 1.5, 12.3, 1e7].map(tick).each_ref().map(String::as_str));
    }

    #[test]
    fn a_linear_axis_upwards_begins_at_nothing() {
        let axis = Axis { label: String::new(), log: false };
        assert_eq!(range([2.0, 5.0].into_iter(), &axis, Some(0.0)).start, 0.0);
        assert!(range([2.0, 5.0].into_iter(), &axis, None).start < 2.0);
    }
}

//! Charts as SVG text. Colours are the page's, by class, so that they follow its light and dark.

use std::fmt::Write as _;

/// Inner width and height, and what stands around: units of the view box, which are about pixels on a page.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 22.0;
/// More points than this in one chart are no longer told apart.
const MAX_POINTS: usize = 120;

/// A line over time.
pub struct Line<'a> {
    /// What it shows; stands in the legend if there are several.
    pub name: &'a str,
    /// Seconds and values, in the order of time; at least one for a line to be seen.
    pub points: Vec<(f64, f64)>,
}

/// One or two lines over time, with a scale from 0 (or below, if a value is) to a round number.
pub fn lines(unit: &str, lines: &[Line<'_>]) -> String {
    let reduced: Vec<Vec<(f64, f64)>> = lines.iter().map(|line| reduce(&line.points)).collect();
    let all = || reduced.iter().flatten();
    let last_s = all().map(|(at, _)| *at).fold(1.0, f64::max);
    let step = round_step(all().map(|(_, value)| value.abs()).fold(0.0, f64::max) / 3.0);
    let top = step * (all().map(|(_, value)| *value).fold(0.0, f64::max) / step).ceil().max(1.0);
    let bottom = step * (all().map(|(_, value)| *value).fold(0.0, f64::min) / step).floor();
    let x = |at: f64| LEFT + at / last_s * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(unit));
    let rows = ((top - bottom) / step).round() as usize;
    for value in (0..=rows).map(|row| bottom + step * row as f64) {
        let (at, right) = (y(value), WIDTH - RIGHT);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 3.5,
            short(value)
        );
    }
    for (at, anchor) in [(0.0, "start"), (last_s / 2.0, "middle"), (last_s, "end")] {
        let (at_x, at_y) = (x(at), HEIGHT - 6.0);
        let _ =
            write!(svg, "<text class=\"tick\" x=\"{at_x:.1}\" y=\"{at_y}\" text-anchor=\"{anchor}\">{at:.0} s</text>");
    }
    for (number, points) in reduced.iter().enumerate() {
        let path: Vec<_> = points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let _ = write!(svg, "<polyline class=\"line s{number}\" points=\"{}\"/>", path.join(" "));
    }
    hover_columns(&mut svg, unit, lines, &reduced, x);
    svg + "</svg>"
}

/// What the pointer finds at each moment.
fn hover_columns(
    svg: &mut String,
    unit: &str,
    lines: &[Line<'_>],
    reduced: &[Vec<(f64, f64)>],
    x: impl Fn(f64) -> f64,
) {
    let Some(first) = reduced.first() else { return };
    for (index, (at, _)) in first.iter().enumerate() {
        let before = index.checked_sub(1).map_or(0.0, |index| first[index].0);
        let values = lines.iter().zip(reduced).filter_map(|(line, points)| {
            let (_, value) = points.get(index)?;
            Some(format!("{} {}", line.name, short(*value)))
        });
        let values: Vec<_> = values.collect();
        let _ = write!(
            svg,
            "<rect class=\"hover\" x=\"{:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{}\"><title>{at:.0} s: {} {}</title></rect>",
            x(before),
            x(*at) - x(before),
            HEIGHT - TOP - BOTTOM,
            escape(&values.join(", ")),
            escape(unit)
        );
    }
}

/// A row of a chart of spreads.
pub struct Spread<'a> {
    /// What is spread.
    pub name: &'a str,
    /// 1 in 20 below, the median, 1 in 20 and 1 in 100 above.
    pub quantiles: [f64; 4],
}

/// Bars from `p5` to `p95` with a mark at the median and a thin line to `p99`, on one scale.
pub fn spreads(unit: &str, rows: &[Spread<'_>]) -> String {
    const ROW: f64 = 24.0;
    const NAME: f64 = 108.0;
    let most = rows.iter().map(|row| row.quantiles[3]).fold(0.0, f64::max);
    let step = round_step(most / 3.0);
    let top = step * (most / step).ceil().max(1.0);
    let x = |value: f64| NAME + value / top * (WIDTH - NAME - 16.0);
    let bottom = TOP + ROW * rows.len() as f64;
    let height = bottom + BOTTOM;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escape(unit));
    for value in (0..=(top / step).round() as usize).map(|tick| step * tick as f64) {
        let (at, label) = (x(value), height - 6.0);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/><text class=\"tick\" x=\"{at:.1}\" \
             y=\"{label}\" text-anchor=\"middle\">{}</text>",
            short(value)
        );
    }
    for (number, row) in rows.iter().enumerate() {
        let [p5, p50, p95, p99] = row.quantiles;
        let middle = TOP + ROW * (number as f64 + 0.5);
        let name = escape(row.name);
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"0\" y=\"{:.1}\">{name}</text><line class=\"line s0\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" \
             y2=\"{middle}\"/><rect class=\"bar\" x=\"{:.1}\" width=\"{:.1}\" y=\"{:.1}\" height=\"8\" rx=\"2\"/><rect class=\"median\" \
             x=\"{:.1}\" width=\"2\" y=\"{:.1}\" height=\"14\"/><rect class=\"hover\" x=\"0\" y=\"{:.1}\" width=\"{WIDTH}\" \
             height=\"{ROW}\"><title>{name}: p5 {}, p50 {}, p95 {}, p99 {} {}</title></rect>",
            middle + 4.0,
            x(p95),
            x(p99),
            x(p5),
            (x(p95) - x(p5)).max(2.0),
            middle - 4.0,
            x(p50) - 1.0,
            middle - 7.0,
            middle - ROW / 2.0,
            short(p5),
            short(p50),
            short(p95),
            short(p99),
            escape(unit)
        );
    }
    svg + "</svg>"
}

/// The highest of neighbours, so that no peak is lost.
fn reduce(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let together = points.len().div_ceil(MAX_POINTS).max(1);
    let highest = |points: &[(f64, f64)]| {
        let value = points.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        (points.last().map_or(0.0, |(at, _)| *at), value)
    };
    points.chunks(together).map(highest).collect()
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

/// A number as short as it reads well: 12,400 is 12.4k.
pub fn short(value: f64) -> String {
    let trimmed = |value: f64, digits: usize| {
        let text = format!("{value:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match value.abs() {
        size if size >= 999_500.0 => trimmed(value / 1e6, 2) + "M",
        size if size >= 9_995.0 => trimmed(value / 1e3, 1) + "k",
        size if size >= 100.0 => trimmed(value, 0),
        size if size >= 1.0 => trimmed(value, 2),
        _ => trimmed(value, 4),
    }
}

/// Text in HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.01234, "0.0123"),
            (7.0, "7"),
            (7.25, "7.25"),
            (250.4, "250"),
            (1234.0, "1234"),
            (12_400.0, "12.4k"),
            (2_500_000.0, "2.5M"),
            (-3.0, "-3"),
            (100.0, "100"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn scales_are_round() {
        let steps = [0.0, 0.3, 1.0, 1.1, 34.0, 60.0].map(|least| short(round_step(least)));
        assert_eq!(steps, ["1", "0.5", "1", "2", "50", "100"]);
    }

    #[test]
    fn a_peak_survives_and_nothing_is_no_panic() {
        let mut points: Vec<_> = (0..1000).map(|s| (f64::from(s), 1.0)).collect();
        points[501].1 = 99.0;
        let reduced = reduce(&points);
        assert!(reduced.len() <= MAX_POINTS && reduced.iter().any(|(_, value)| *value > 98.0));
        assert_eq!(reduced.last().map(|(at, _)| *at), Some(999.0));
        let svg = lines("x", &[Line { name: "a", points }, Line { name: "b", points: Vec::new() }]);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("NaN"), "{svg}");
        assert!(!lines("x", &[]).contains("NaN"));
        assert!(!spreads("ms", &[]).contains("NaN"));
        assert!(!lines("x", &[Line { name: "a", points: vec![(1.0, -2.0)] }]).contains("NaN"));
    }
}

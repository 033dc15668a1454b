//! Plots as SVG: one function of numbers to text, for pages and for files.
//!
//! A plot has an axis of windows and an axis of values, and a few series. Every mark has a title, which browsers show
//! beside the pointer. Series longer than a plot is wide are averaged, so a plot of ten thousand windows has as many
//! marks as one of five hundred.

mod axis;

use maud::{Markup, PreEscaped, html};

use axis::{Axis, Scale};

/// The most marks of one series.
const MAX_MARKS: usize = 480;

/// The size of a plot, and the space around its area, in the units of the SVG.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 54.0;

/// The height of the legend of a plot that is a file, and the room for one name in it.
const LEGEND: f64 = 28.0;
const NAME_WIDTH: f64 = 300.0;

/// The style of a plot that is a file. Pages have the same rules in their style sheet.
const STYLE: &str = include_str!("assets/plot.css");

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Points that are joined by lines.
    Line,
    /// Points alone.
    Dots,
    /// Bars from the bottom of the plot.
    Bars,
}

/// One value of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// The window.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// The text beside the pointer.
    pub title: String,
}

/// Values that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The name in the legend.
    pub name: &'static str,
    /// How it is drawn.
    pub mark: Mark,
    /// The values, by window.
    pub points: Vec<Point>,
}

/// A plot of values by window.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What it shows, for people who do not see it.
    pub title: String,
    /// The name and the unit of the values.
    pub unit: &'static str,
    /// Whether equal distances are equal factors. Values that are not positive are left out then.
    pub is_logarithmic: bool,
    /// Whether the axis of values begins at zero.
    pub from_zero: bool,
    /// The series, the first one drawn below the others.
    pub series: Vec<Series>,
}

impl Plot {
    /// The plot as an element of a page, and a legend if there are several series. A plot without values is a sentence.
    pub fn figure(&self) -> Markup {
        let series = self.shown();
        if series.iter().all(|series| series.points.is_empty()) {
            return html! { p.empty { "Nothing to plot yet: no window is closed." } };
        }
        html! {
            figure.plot {
                (PreEscaped(self.svg(&series, HEIGHT, "")))
                @if series.len() > 1 {
                    figcaption {
                        @for (place, series) in series.iter().enumerate() {
                            span.key { span.{"swatch s" (place)} {} (series.name) }
                        }
                    }
                }
            }
        }
    }

    /// The plot as an SVG file, with its style and a legend.
    pub fn file(&self) -> String {
        let series = self.shown();
        let paper = html! { rect.paper width=(WIDTH) height=(HEIGHT + LEGEND) {} }.into_string();
        let head = format!("<style>{STYLE}</style>{paper}{}", legend(&series).into_string());
        self.svg(&series, HEIGHT + LEGEND, &head)
    }

    /// The series as they are drawn.
    fn shown(&self) -> Vec<Series> {
        let drawable = |point: &Point| point.y.is_finite() && (!self.is_logarithmic || point.y > 0.0);
        let shown = |series: &Series| {
            let points = series.points.iter().filter(|point| drawable(point)).cloned().collect();
            Series { points: averaged(points), ..series.clone() }
        };
        self.series.iter().map(shown).collect()
    }

    /// The plot, as high as `height`, with the elements of `head` below it.
    fn svg(&self, series: &[Series], height: f64, head: &str) -> String {
        let points = || series.iter().flat_map(|series| &series.points);
        let across = Axis::of(points().map(|point| point.x), Scale::Whole, LEFT, WIDTH - RIGHT);
        let scale = match (self.is_logarithmic, self.from_zero) {
            (true, _) => Scale::Logarithmic,
            (false, true) => Scale::FromZero,
            (false, false) => Scale::Linear,
        };
        let up = Axis::of(points().map(|point| point.y), scale, HEIGHT - BOTTOM, TOP);
        let marks = html! {
            @for tick in up.ticks() {
                line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(pixel(up.place(tick))) y2=(pixel(up.place(tick))) {}
                text.tick x=(LEFT - 8.0) y=(pixel(up.place(tick) + 4.0)) text-anchor="end" { (axis::label(tick)) }
            }
            @for tick in across.ticks() {
                text.tick x=(pixel(across.place(tick))) y=(HEIGHT - BOTTOM + 21.0) text-anchor="middle" {
                    (axis::label(tick))
                }
            }
            text.unit x=(LEFT) y=(HEIGHT - 6.0) { (self.unit) }
            text.unit x=(WIDTH - RIGHT) y=(HEIGHT - 6.0) text-anchor="end" { "window" }
            @for (place, series) in series.iter().enumerate() {
                g.{"s" (colour(place, self.series.len()))} { (drawn(series, &across, &up)) }
            }
        };
        let title = html! { (self.title) }.into_string();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{title}\">{head}{}</svg>",
            marks.into_string()
        )
    }
}

/// The number of a series' colour. One series alone has the second, which is stronger.
fn colour(place: usize, of: usize) -> usize {
    if of == 1 { 1 } else { place }
}

/// The names of the series, each with its colour, below a plot.
fn legend(series: &[Series]) -> Markup {
    html! { @for (place, name) in series.iter().map(|series| series.name).enumerate() {
        @let left = LEFT + place as f64 * NAME_WIDTH;
        g.{"s" (colour(place, series.len()))} { rect x=(left) y=(HEIGHT + 5.0) width="11" height="11" rx="2" {} }
        text.tick x=(left + 18.0) y=(HEIGHT + 15.0) { (name) }
    } }
}

/// The marks of one series.
fn drawn(series: &Series, across: &Axis, up: &Axis) -> Markup {
    let at = |point: &Point| (across.place(point.x), up.place(point.y));
    let bottom = HEIGHT - BOTTOM;
    let width = ((WIDTH - LEFT - RIGHT) / (series.points.len().max(1) as f64 + 1.0) * 0.7).clamp(1.0, 36.0);
    html! {
        @if series.mark == Mark::Line {
            polyline points=(series.points.iter().map(|point| {
                let (x, y) = at(point);
                format!("{},{}", pixel(x), pixel(y))
            }).collect::<Vec<_>>().join(" ")) {}
        }
        @for point in &series.points {
            @let (x, y) = at(point);
            @if series.mark == Mark::Bars {
                rect x=(pixel(x - width / 2.0)) y=(pixel(y)) width=(pixel(width)) height=(pixel(bottom - y)) {
                    title { (point.title) }
                }
            } @else {
                circle cx=(pixel(x)) cy=(pixel(y)) r=(if series.points.len() > 120 { "1.6" } else { "3" }) {
                    title { (point.title) }
                }
            }
        }
    }
}

/// A length with one decimal, which is finer than a screen.
fn pixel(length: f64) -> String {
    format!("{length:.1}")
}

/// Points of which neighbours are averaged until they are at most [`MAX_MARKS`].
fn averaged(points: Vec<Point>) -> Vec<Point> {
    if points.len() <= MAX_MARKS {
        return points;
    }
    let together = points.len().div_ceil(MAX_MARKS);
    let mean = |group: &[Point]| {
        let (first, last, count) = (&group[0], &group[group.len() - 1], group.len() as f64);
        let y = group.iter().map(|point| point.y).sum::<f64>() / count;
        let title = format!("windows {} to {}: {} on average", first.x, last.x, axis::label(y));
        Point { x: (first.x + last.x) / 2.0, y, title }
    };
    points.chunks(together).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(values: impl IntoIterator<Item = f64>) -> Plot {
        let point = |(x, y): (usize, f64)| Point { x: x as f64, y, title: format!("<{y}>") };
        let points = values.into_iter().enumerate().map(point).collect();
        let series = vec![Series { name: "loss", mark: Mark::Line, points }];
        Plot { title: "a \"plot\"".to_owned(), unit: "nats", is_logarithmic: false, from_zero: false, series }
    }

    #[test]
    fn texts_are_escaped_and_every_point_is_drawn() {
        let file = plot([7.6, 7.1, 6.9]).file();
        assert!(file.starts_with("<svg xmlns=") && file.ends_with("</svg>"));
        assert!(file.contains("aria-label=\"a &quot;plot&quot;\"") && file.contains("<title>&lt;7.1&gt;</title>"));
        assert_eq!(file.matches("<circle").count(), 3);
        assert_eq!(file.matches("<polyline").count(), 1);
        assert!(file.contains(">loss</text>"), "the legend");
    }

    #[test]
    fn a_higher_value_stands_higher() {
        let file = plot([1.0, 3.0, 2.0]).file();
        let heights: Vec<f64> =
            file.split("cy=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
        assert!(heights[1] < heights[2] && heights[2] < heights[0], "{heights:?}");
        assert!(heights.iter().all(|y| (TOP..=HEIGHT - BOTTOM).contains(y)));
    }

    #[test]
    fn long_series_are_averaged_and_nothing_is_a_sentence() {
        let file = plot((0..10_000).map(|window| window as f64)).file();
        assert!(file.matches("<circle").count() <= MAX_MARKS && file.len() < 100_000, "{}", file.len());
        assert!(file.contains("windows 0 to 20: 10 on average"));
        assert!(plot([]).figure().into_string().contains("no window is closed"));
        let broken = plot([f64::NAN, f64::INFINITY, 1.0]).file();
        assert_eq!(broken.matches("<circle").count(), 1);
        assert!(!broken.contains("NaN") && !broken.contains("inf"));
    }

    #[test]
    fn equal_factors_have_equal_distances() {
        let mut plot = plot([10.0, 1_000.0, 100_000.0, 0.0]);
        plot.is_logarithmic = true;
        let file = plot.file();
        let y: Vec<f64> =
            file.split("cy=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
        assert_eq!(y.len(), 3, "zero has no place");
        assert!(((y[0] - y[1]) - (y[1] - y[2])).abs() < 0.2, "{y:?}");
    }
}

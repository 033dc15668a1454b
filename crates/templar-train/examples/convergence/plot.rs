//! Draws curves as SVG: axes with ticks, lines with marks, and a legend. The output is plain text, the same for
//! the same numbers.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 56.0;

/// Colours that colour-blind people can tell apart (Okabe and Ito).
const COLOURS: [&str; 8] = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31"];

/// One line of a plot.
pub(crate) struct Series {
    /// The text of the legend.
    pub(crate) label: String,
    /// The points, in the units of the axes.
    pub(crate) points: Vec<(f64, f64)>,
}

/// One plot with its lines.
pub(crate) struct Plot {
    /// The title above the plot.
    pub(crate) title: &'static str,
    /// The label below the x axis.
    pub(crate) x_label: &'static str,
    /// Whether the x axis is logarithmic.
    pub(crate) is_log: bool,
    /// The label beside the y axis.
    pub(crate) y_label: &'static str,
    /// The highest value shown. Points above it are cut off.
    pub(crate) y_max: f64,
    /// The lines of the plot.
    pub(crate) series: Vec<Series>,
}

/// An axis: the values at its ends, and their places on the picture.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
    is_log: bool,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_log { libm::log10(value) } else { value };
        let way = (scale(value) - scale(self.from)) / (scale(self.to) - scale(self.from));
        self.start + way * (self.end - self.start)
    }

    /// Round numbers between the ends: 1, 2 or 5 times a power of ten apart, or the same within decades.
    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        if self.is_log {
            let decades = libm::log10(self.to / self.from);
            let factors: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let mut decade = libm::pow(10.0, libm::floor(libm::log10(self.from)));
            while decade <= self.to {
                ticks.extend(factors.iter().map(|factor| factor * decade));
                decade *= 10.0;
            }
        } else {
            let rough = (self.to - self.from) / 6.0;
            let power = libm::pow(10.0, libm::floor(libm::log10(rough)));
            let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
            let step = factor.unwrap_or(10.0) * power;
            let first = libm::ceil(self.from / step) as i64;
            let last = libm::floor(self.to / step) as i64;
            ticks.extend((first..=last).map(|tick| tick as f64 * step));
        }
        let slack = (self.to - self.from) * 1e-9;
        ticks.retain(|tick| (self.from - slack..=self.to + slack).contains(tick));
        ticks
    }
}

/// A number as people write it: 3.2M, 40k, 0.25.
fn number(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

impl Plot {
    /// Draws the plot as SVG text.
    pub(crate) fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| &series.points).filter(|point| point.1 <= self.y_max);
        let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::INFINITY, f64::min);
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
        let (mut x_from, mut x_to) = (least(&mut all().map(|point| point.0)), most(&mut all().map(|point| point.0)));
        if self.is_log {
            (x_from, x_to) = (x_from / 1.3, x_to * 1.3);
        }
        let (y_from, y_to) = (least(&mut all().map(|point| point.1)), most(&mut all().map(|point| point.1)));
        let margin = (y_to - y_from) * 0.05;
        let x = Axis { from: x_from, to: x_to, start: LEFT, end: WIDTH - RIGHT, is_log: self.is_log };
        let y = Axis { from: y_from - margin, to: y_to + margin, start: HEIGHT - BOTTOM, end: TOP, is_log: false };

        let mut out = String::new();
        // Writing to a string does not fail.
        let mut line = |text: String| {
            let _ = writeln!(out, "{text}");
        };
        line(format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="#222">"##
        ));
        line(format!(r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>"##));
        line(format!(r#"<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{}</text>"#, self.title));
        for tick in x.ticks() {
            let place = x.place(tick);
            line(format!(
                r##"<path d="M{place:.1} {TOP}V{:.1}" stroke="#ddd"/><text x="{place:.1}" y="{:.1}" text-anchor="middle">{}</text>"##,
                y.start,
                y.start + 18.0,
                number(tick)
            ));
        }
        for tick in y.ticks() {
            let place = y.place(tick);
            line(format!(
                r##"<path d="M{LEFT} {place:.1}H{:.1}" stroke="#ddd"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
                x.end,
                LEFT - 8.0,
                place + 4.0,
                number(tick)
            ));
        }
        line(format!(r##"<path d="M{LEFT} {TOP}V{:.1}H{:.1}" stroke="#222" fill="none"/>"##, y.start, x.end));
        let middle = (x.start + x.end) / 2.0;
        line(format!(r#"<text x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"#, HEIGHT - 14.0, self.x_label));
        let middle = (y.start + y.end) / 2.0;
        line(format!(
            r#"<text transform="translate(18 {middle:.1}) rotate(-90)" text-anchor="middle">{}</text>"#,
            self.y_label
        ));
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let places: Vec<(f64, f64)> = series
                .points
                .iter()
                .filter(|point| point.1 <= self.y_max)
                .map(|point| (x.place(point.0), y.place(point.1)))
                .collect();
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
            line(format!(r#"<path d="M{}" stroke="{colour}" stroke-width="1.8" fill="none"/>"#, path.join("L")));
            for (x, y) in places {
                line(format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="3" fill="{colour}"/>"#));
            }
            let (x, y) = (WIDTH - RIGHT + 16.0, TOP + 12.0 + 20.0 * index as f64);
            line(format!(
                r#"<circle cx="{x:.1}" cy="{:.1}" r="4" fill="{colour}"/><text x="{:.1}" y="{y:.1}">{}</text>"#,
                y - 4.0,
                x + 10.0,
                series.label
            ));
        }
        line("</svg>".to_owned());
        out
    }
}

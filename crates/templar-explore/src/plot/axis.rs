//! One axis of a plot: where a value stands, and which values are written beside it.

/// The number of ticks that an axis should have about.
const TICKS: f64 = 5.0;

/// How values are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// Between round numbers around the values.
    Linear,
    /// The same, from zero on.
    FromZero,
    /// Whole numbers with ticks on whole numbers, and a half more at each end.
    Whole,
    /// Equal factors are equal distances.
    Logarithmic,
}

/// An axis between two places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis for these finite values; the lowest stands near `from` and the highest near `to`.
    pub(super) fn of(values: impl Iterator<Item = f64>, scale: Scale, from: f64, to: f64) -> Self {
        let values = values.map(|value| if scale == Scale::Logarithmic { value.log10() } else { value });
        let around = values.fold(None, |around: Option<(f64, f64)>, value| {
            Some(around.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
        let (low, high) = around.unwrap_or((0.0, 1.0));
        let (low, high) = match scale {
            Scale::Linear => wide(low, high),
            Scale::FromZero => wide(low.min(0.0), high.max(0.0)),
            Scale::Whole => (low - 0.5, high + 0.5),
            Scale::Logarithmic => ((low - 0.1).floor(), (high + 0.1).ceil()),
        };
        let least = if matches!(scale, Scale::Whole | Scale::Logarithmic) { 1.0 } else { 0.0 };
        let step = round_step((high - low) / TICKS).max(least);
        let (low, high) = match scale {
            Scale::Linear | Scale::FromZero => ((low / step).floor() * step, (high / step).ceil() * step),
            Scale::Whole | Scale::Logarithmic => (low, high),
        };
        Self { scale, low, high, step, from, to }
    }

    /// The place of a value.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Logarithmic { value.log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// The values that are written beside the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step - 1e-6).ceil() as i64;
        let ticks =
            (first..).map(|index| index as f64 * self.step).take_while(|tick| *tick <= self.high + self.step * 1e-6);
        let ticks = ticks.take(4 * TICKS as usize);
        if self.scale == Scale::Logarithmic { ticks.map(power_of_ten).collect() } else { ticks.collect() }
    }
}

/// The interval, and around a single value one that is not empty.
fn wide(low: f64, high: f64) -> (f64, f64) {
    let margin = if high - low > 0.0 { 0.0 } else { high.abs().max(1.0) * 0.1 };
    (low - margin, high + margin)
}

/// The smallest of 1, 2, 2.5 and 5 times a power of ten that is at least `step`.
fn round_step(step: f64) -> f64 {
    let power = power_of_ten(step.max(f64::MIN_POSITIVE).log10().floor());
    let round = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= step);
    round.unwrap_or(10.0) * power
}

/// Ten to the power of a whole number.
fn power_of_ten(exponent: f64) -> f64 {
    let power = (0..exponent.abs() as u32).fold(1.0, |power, _| power * 10.0);
    if exponent < 0.0 { 1.0 / power } else { power }
}

/// A number beside an axis, short: `0.05`, `7.6`, `1.2k`, `3M`.
pub(super) fn label(value: f64) -> String {
    let size = value.abs();
    let (value, suffix) = match size {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}{suffix}", if text == "-0" { "0" } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::of([7.55, 7.64].into_iter(), Scale::Linear, 240.0, 14.0);
        assert_eq!(
            axis.ticks().iter().map(|tick| label(*tick)).collect::<Vec<_>>(),
            ["7.54", "7.56", "7.58", "7.6", "7.62", "7.64"]
        );
        let windows = Axis::of([0.0, 3.0].into_iter(), Scale::Whole, 0.0, 100.0);
        assert_eq!(windows.ticks(), [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(windows.place(1.5), 50.0);
        let sizes = Axis::of([1_500.0, 330_000.0].into_iter(), Scale::Logarithmic, 0.0, 1.0);
        assert_eq!(sizes.ticks(), [1e3, 1e4, 1e5, 1e6]);
    }

    #[test]
    fn one_value_and_none_have_an_axis_too() {
        for values in [vec![], vec![0.0], vec![5.0, 5.0], vec![-1e-9, 1e-9], vec![1e15, 1e18]] {
            for scale in [Scale::Linear, Scale::FromZero, Scale::Whole] {
                let axis = Axis::of(values.iter().copied(), scale, 0.0, 100.0);
                assert!(axis.ticks().len() <= 20);
                assert!(values.iter().all(|value| (0.0..=100.0).contains(&axis.place(*value))), "{values:?} {scale:?}");
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.05, 7.6, 12_000.0, 3e6].map(label), ["0", "0.05", "7.6", "12k", "3M"]);
        assert_eq!(label(-1e-9), "0");
    }
}

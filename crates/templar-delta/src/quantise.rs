//! From the kept values of one tensor to two-bit codes and a table of four levels, in an order stated to the bit.
//!
//! Everything here is IEEE addition, subtraction, multiplication, division, square root and comparison; sums are chains
//! of `f64` additions from +0 in wire order. On the way of the data it stands between top-k and the codec; what it leaves
//! out goes back into the error feedback.

use crate::compress::MAX_MAGNITUDE;
use crate::settings::Quantiser;

/// How many levels a two-bit code can name.
pub(crate) const LEVELS: usize = 4;

/// The codes of a tensor's kept values and what each decodes to.
///
/// Canonical: the levels in use ascend strictly with their code and none is −0; a level that no code uses is +0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantised {
    pub(crate) codes: Vec<u8>,
    pub(crate) levels: [f32; LEVELS],
}

/// Quantises finite values.
pub(crate) fn quantise(quantiser: Quantiser, values: &[f32]) -> Quantised {
    let (mut codes, levels) = match quantiser {
        Quantiser::Templar4 => templar4(values),
        Quantiser::SignLevels => sign_levels(values),
    };
    let levels = canonical(&mut codes, levels);
    Quantised { codes, levels }
}

/// A chain of `f64` additions from +0, in order.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// The mean of the values of each code, 0 where there is none: an `f64` chain per code, divided, rounded to `f32`.
fn means(codes: &[u8], values: impl Iterator<Item = f32>) -> [f32; LEVELS] {
    let mut sums = [0f64; LEVELS];
    let mut counts = [0u64; LEVELS];
    for (&code, value) in codes.iter().zip(values) {
        sums[code as usize] += f64::from(value);
        counts[code as usize] += 1;
    }
    std::array::from_fn(|code| if counts[code] == 0 { 0.0 } else { (sums[code] / counts[code] as f64) as f32 })
}

/// Templar's quantiser with 4 bins over 6 σ: scale = 6σ/4 with the unbiased σ, code = round(c/scale + 2) clamped to
/// 0..=3 where c is the value less the mean, and each code decodes to the mean of its members.
fn templar4(values: &[f32]) -> (Vec<u8>, [f32; LEVELS]) {
    let count = values.len() as f64;
    let shift = (sum(values.iter().map(|&v| f64::from(v))) / count) as f32;
    let centred = || values.iter().map(|&value| value - shift);
    let squares = sum(centred().map(|c| f64::from(c) * f64::from(c)));
    let scale = (6.0 * (squares / (count - 1.0)).sqrt() / 4.0) as f32;
    // One value (0/0), a constant tensor, or a spread below the smallest float: one bin holds all.
    let scale = if scale.is_finite() && scale > 0.0 { scale } else { 1.0 };
    let codes: Vec<u8> = centred()
        .map(|c| {
            let x = c / scale + 2.0;
            // Rounding half to even and clamping, as comparisons: 0.5 goes down to 0, 1.5 up to 2, 2.5 down to 2.
            u8::from(x > 0.5) + u8::from(x >= 1.5) + u8::from(x > 2.5)
        })
        .collect();
    let lookup = means(&codes, centred());
    (codes, lookup.map(|mean| mean + shift))
}

/// Sign and one of two magnitudes. The threshold starts at the mean magnitude and takes at most eight steps of two-means
/// (half-way between the mean of the magnitudes at or below it and of those above); each of the four groups then
/// decodes to its own mean. Codes ascend: −large, −small, +small, +large.
fn sign_levels(values: &[f32]) -> (Vec<u8>, [f32; LEVELS]) {
    let magnitudes = || values.iter().map(|&v| f64::from(v.abs()));
    let mut threshold = sum(magnitudes()) / values.len() as f64;
    for _ in 0..8 {
        let (mut small, mut large) = ((0f64, 0u64), (0f64, 0u64));
        for magnitude in magnitudes() {
            let group = if magnitude > threshold { &mut large } else { &mut small };
            group.0 += magnitude;
            group.1 += 1;
        }
        if small.1 == 0 || large.1 == 0 {
            break;
        }
        let next = (small.0 / small.1 as f64 + large.0 / large.1 as f64) / 2.0;
        if next == threshold {
            break;
        }
        threshold = next;
    }
    let codes: Vec<u8> = values
        .iter()
        .map(|&value| match (value < 0.0, f64::from(value.abs()) > threshold) {
            (true, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (false, true) => 3,
        })
        .collect();
    let levels = means(&codes, values.iter().copied());
    (codes, levels)
}

/// Keeps levels within the bound that decoding checks, merges those that rounding made equal into the lowest code, and
/// clears the unused ones, so that what is decoded has one spelling.
fn canonical(codes: &mut [u8], levels: [f32; LEVELS]) -> [f32; LEVELS] {
    let mut used = [false; LEVELS];
    for &code in codes.iter() {
        used[code as usize] = true;
    }
    let mut result = [0f32; LEVELS];
    let mut becomes = [0u8; LEVELS];
    let mut last: Option<usize> = None;
    for code in (0..LEVELS).filter(|&code| used[code]) {
        let level = levels[code].clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE) + 0.0; // −0 becomes +0
        match last {
            Some(earlier) if level <= result[earlier] => becomes[code] = earlier as u8,
            _ => {
                result[code] = level;
                becomes[code] = code as u8;
                last = Some(code);
            }
        }
    }
    for code in codes.iter_mut() {
        *code = becomes[*code as usize];
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(quantised: &Quantised) -> Vec<f32> {
        quantised.codes.iter().map(|&code| quantised.levels[code as usize]).collect()
    }

    /// The cases computed from the original's definition.
    #[test]
    fn templar4_gives_the_originals_codes_and_values() {
        let cases: [(&[f32], &[u8], &[f32]); 4] = [
            (&[1., 2., 3., 4.], &[1, 2, 2, 3], &[1., 2.5, 2.5, 4.]),
            (&[-4., -3., 3., 4.], &[1, 2, 2, 3], &[-4., 0., 0., 4.]),
            (&[-10., -1., 1., 2.], &[1, 2, 2, 2], &[-10., 2. / 3., 2. / 3., 2. / 3.]),
            (&[0.7, 0.7, 0.7], &[2, 2, 2], &[0.7, 0.7, 0.7]),
        ];
        for (values, codes, expected) in cases {
            let quantised = quantise(Quantiser::Templar4, values);
            assert_eq!(quantised.codes, codes, "{values:?}");
            for (found, expected) in decoded(&quantised).iter().zip(expected) {
                assert!((found - expected).abs() <= 3e-7 * expected.abs().max(1.0), "{values:?}: {found} {expected}");
            }
        }
    }

    #[test]
    fn sign_levels_finds_four_groups() {
        let quantised = quantise(Quantiser::SignLevels, &[-8., -1., 2., 9., 1., -2., 7.]);
        assert_eq!(quantised.codes, [0, 1, 2, 3, 2, 1, 3]);
        assert_eq!(quantised.levels, [-8., -1.5, 1.5, 8.]);
    }

    #[test]
    fn one_value_a_zero_and_a_constant_are_exact() {
        for quantiser in [Quantiser::Templar4, Quantiser::SignLevels] {
            for values in [&[3.25f32][..], &[0.0, -0.0, 0.0], &[-1e-45, -1e-45], &[-0.0], &[1e30, 1e30]] {
                let quantised = quantise(quantiser, values);
                for (found, expected) in decoded(&quantised).iter().zip(values) {
                    assert_eq!(found, expected, "{quantiser} {values:?}");
                    assert!(found.to_bits() != (-0f32).to_bits());
                }
            }
        }
    }

    #[test]
    fn levels_that_round_to_the_same_number_are_merged() {
        let mut codes = [0, 1, 3, 3];
        let levels = canonical(&mut codes, [1.0, 1.0, 9.0, 2.0]);
        assert_eq!((codes, levels), ([0, 0, 3, 3], [1.0, 0.0, 0.0, 2.0]));
    }
}

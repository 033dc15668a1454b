//! Quantisers: they turn the kept values of one tensor into small codes, and the levels that the codes decode to.
//!
//! Everything here is IEEE addition, subtraction, multiplication, division, square root and comparison. Sums
//! are chains of `f64` additions from +0 in wire order, so the result is the same bits on every machine. On the
//! way of the data this stands between top-k and the codec. The rounding error goes back into the error
//! feedback.

use templar_manifest::Quantiser;

use crate::scale::{self, MAX_MAGNITUDE};

/// The number of levels that a two-bit code can name.
pub(crate) const LEVELS: usize = 4;

/// A ratio of `block-levels` is stored in units of one 4096th.
const RATIO_ONE: f64 = 4096.0;

/// The codes of the kept values of a tensor, in wire order, and the levels that they decode to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantised {
    pub(crate) codes: Vec<u8>,
    pub(crate) levels: Levels,
}

/// The levels of a tensor: the values that its codes decode to. They have one spelling, in which a level that
/// no code uses is zero.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Levels {
    /// One table for the tensor. The levels in use ascend strictly with their code and none is −0.
    Table([f32; LEVELS]),
    /// A code is a sign, and decodes to the sign times the scale of its blocks. A scale is an index of [`scale`].
    Signs(Vec<u16>),
    /// A code decodes to a sign times one of two multiples of the scale of its blocks. The multiples are in
    /// 4096ths, the smaller one first.
    Ratios([u16; 2], Vec<u16>),
}

impl Levels {
    /// The values that codes 0 to 3 decode to, in the blocks of a scale.
    pub(crate) fn of_scale(&self, place: usize) -> [f32; LEVELS] {
        match self {
            Self::Table(levels) => *levels,
            Self::Signs(scales) => {
                let level = scale::value_of(scales[place]) as f32;
                [level, 0.0 - level, 0.0, 0.0]
            }
            Self::Ratios(ratios, scales) => {
                let [small, large] = ratios.map(|ratio| {
                    let level = f64::from(ratio) / RATIO_ONE * scale::value_of(scales[place]);
                    level.min(f64::from(MAX_MAGNITUDE)) as f32
                });
                [small, 0.0 - small, large, 0.0 - large]
            }
        }
    }

    /// Tells whether a scale is 0. Then all values of its blocks are 0, too.
    pub(crate) fn is_zero(&self, place: usize) -> bool {
        match self {
            Self::Table(_) => false,
            Self::Signs(scales) | Self::Ratios(_, scales) => scales[place] == 0,
        }
    }
}

/// Quantises finite values of which `run` consecutive ones share a scale.
pub(crate) fn quantise(quantiser: Quantiser, values: &[f32], run: usize) -> Quantised {
    let (mut codes, table) = match quantiser {
        Quantiser::Templar4 => templar4(values),
        Quantiser::BlockSign => return block_sign(values, run),
        Quantiser::BlockLevels => return block_levels(values, run),
    };
    let levels = Levels::Table(canonical(&mut codes, table));
    Quantised { codes, levels }
}

/// The index of the mean magnitude of each run of values. The sum is an `f64` chain.
fn block_scales(values: &[f32], run: usize) -> Vec<u16> {
    let mean = |block: &[f32]| sum(block.iter().map(|&v| f64::from(v.abs()))) / block.len() as f64;
    values.chunks(run).map(|block| scale::index_of(mean(block))).collect()
}

/// `block-sign`: each value becomes its sign times the mean magnitude of its block. When all magnitudes of a
/// block become equal, the mean leaves the least square error.
fn block_sign(values: &[f32], run: usize) -> Quantised {
    let codes = values.iter().map(|&value| u8::from(value < 0.0)).collect();
    Quantised { codes, levels: Levels::Signs(block_scales(values, run)) }
}

/// `block-levels`: each value becomes its sign times r·s, with s the scale of its block and r one of two
/// multiples, which are the same for the whole tensor. A value is large when |v| > t·s. The threshold t starts
/// at 1 and takes at most eight steps of two-means: r = Σ |v|·s ÷ Σ s² in each of the two groups, which leaves
/// the least square error, and then t is half the sum of both r.
fn block_levels(values: &[f32], run: usize) -> Quantised {
    let scales = block_scales(values, run);
    // Magnitude and scale of every value that is not in a block of zeros.
    let scaled = || {
        let blocks = values.chunks(run).zip(&scales).filter(|&(_, &index)| index > 0);
        blocks.flat_map(|(block, &index)| {
            let scale = scale::value_of(index);
            block.iter().map(move |&value| (f64::from(value.abs()), scale))
        })
    };
    let ratio = |threshold: f64, large: bool| {
        let (mut products, mut squares) = (0f64, 0f64);
        for (magnitude, scale) in scaled().filter(|&(magnitude, scale)| (magnitude > threshold * scale) == large) {
            products += magnitude * scale;
            squares += scale * scale;
        }
        (squares > 0.0).then(|| products / squares)
    };
    let in_units = |ratio: f64| (ratio * RATIO_ONE).round_ties_even().clamp(1.0, f64::from(u16::MAX)) as u16;

    let mut threshold = 1.0;
    let mut pair = None;
    for _ in 0..8 {
        let (Some(small), Some(large)) = (ratio(threshold, false), ratio(threshold, true)) else {
            pair = None;
            break;
        };
        pair = Some([in_units(small), in_units(large)]);
        let next = (small + large) / 2.0;
        if next == threshold {
            break;
        }
        threshold = next;
    }
    let border = |[small, large]: [u16; 2]| (f64::from(small) + f64::from(large)) / (2.0 * RATIO_ONE);
    // Rounding may have made them equal, or left one without a value: then one ratio serves all.
    let pair = pair.filter(|pair| {
        let mut sides = scaled().map(|(magnitude, scale)| magnitude > border(*pair) * scale);
        let first = sides.next();
        pair[0] < pair[1] && first.is_some_and(|first| sides.any(|side| side != first))
    });
    let ratios = pair.unwrap_or_else(|| [ratio(f64::INFINITY, false).map_or(0, in_units), 0]);
    let mut codes: Vec<u8> = values.iter().map(|&value| u8::from(value < 0.0)).collect();
    if let Some(pair) = pair {
        let blocks = codes.chunks_mut(run).zip(values.chunks(run)).zip(&scales);
        for ((codes, values), &index) in blocks {
            let border = border(pair) * scale::value_of(index);
            for (code, &value) in codes.iter_mut().zip(values) {
                *code |= u8::from(f64::from(value.abs()) > border) << 1;
            }
        }
    }
    Quantised { codes, levels: Levels::Ratios(ratios, scales) }
}

/// The sum as a chain of `f64` additions from +0, in order.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// The mean of the values of each code, or 0 for a code without values. The sum is an `f64` chain for each
/// code, and the quotient is rounded to `f32`.
fn means(codes: &[u8], values: impl Iterator<Item = f32>) -> [f32; LEVELS] {
    let mut sums = [0f64; LEVELS];
    let mut counts = [0u64; LEVELS];
    for (&code, value) in codes.iter().zip(values) {
        sums[code as usize] += f64::from(value);
        counts[code as usize] += 1;
    }
    std::array::from_fn(|code| if counts[code] == 0 { 0.0 } else { (sums[code] / counts[code] as f64) as f32 })
}

/// `templar4`: the quantiser of Templar, with 4 bins over 6 σ. With the unbiased σ, scale = 6σ ÷ 4. With c the
/// value less the mean, code = round(c ÷ scale + 2), clamped to 0..=3. Each code decodes to the mean of its
/// members.
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

/// Makes levels canonical, so that they have one spelling. It clamps them to the bound that decoding checks,
/// merges levels that rounding made equal into the lowest code, and clears unused levels.
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

    fn decoded(quantised: &Quantised, run: usize) -> Vec<f32> {
        let codes = quantised.codes.iter().enumerate();
        codes.map(|(place, &code)| quantised.levels.of_scale(place / run)[code as usize]).collect()
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
            let quantised = quantise(Quantiser::Templar4, values, values.len());
            assert_eq!(quantised.codes, codes, "{values:?}");
            for (found, expected) in decoded(&quantised, values.len()).iter().zip(expected) {
                assert!((found - expected).abs() <= 3e-7 * expected.abs().max(1.0), "{values:?}: {found} {expected}");
            }
        }
    }

    /// Two blocks of which one is a thousand times the other: their own means, to an eighth of an octave.
    #[test]
    fn block_sign_gives_every_block_its_own_mean() {
        let values = [-4., 4., 4., -4., 0.004, -0.004, 0.004, 0.004, 0., -0., 0., 0.];
        let quantised = quantise(Quantiser::BlockSign, &values, 4);
        assert_eq!(quantised.codes, [1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(quantised.levels, Levels::Signs(vec![1193 + 16, 1193 - 64, 0]));
        assert_eq!(decoded(&quantised, 4)[..4], values[..4]);
        assert_eq!(decoded(&quantised, 4)[4..8], [0.00390625, -0.00390625, 0.00390625, 0.00390625]);
        assert_eq!(decoded(&quantised, 4)[8..], [0.; 4]);
    }

    /// Means of 2 and 4 with magnitudes at 3/4 and 7/4 of them.
    #[test]
    fn block_levels_finds_two_multiples_of_the_scale() {
        let values = [-1.5, 1.5, 1.5, 3.5, -3., 3., -7., 3., 0., 0., 0., 0.];
        let quantised = quantise(Quantiser::BlockLevels, &values, 4);
        assert_eq!(quantised.codes, [1, 0, 0, 2, 1, 0, 3, 0, 0, 0, 0, 0]);
        assert_eq!(quantised.levels, Levels::Ratios([3072, 7168], vec![1193 + 8, 1193 + 16, 0]));
        assert_eq!(decoded(&quantised, 4), values);
        // Where all magnitudes are alike one multiple is left, and where there are none it is none.
        let one = quantise(Quantiser::BlockLevels, &[1., -1., 0.25, -0.25], 2);
        assert_eq!((one.codes, one.levels), (vec![0, 1, 0, 1], Levels::Ratios([4096, 0], vec![1193, 1177])));
        let none = quantise(Quantiser::BlockLevels, &[0., 0., -0., 0.], 2);
        assert_eq!((none.codes, none.levels), (vec![0; 4], Levels::Ratios([0, 0], vec![0, 0])));
    }

    /// The quantisers with scales are made for a tensor whose blocks differ by orders of magnitude.
    #[test]
    fn scales_of_blocks_leave_less_error_where_blocks_differ() {
        let values: Vec<f32> = (0..512)
            .map(|place| {
                let magnitude = 1.0 + (place * 37 % 64) as f32 / 64.0;
                let sign = if place % 3 == 0 { -1.0 } else { 1.0 };
                sign * magnitude * (1u32 << (place / 64)) as f32
            })
            .collect();
        let error = |quantiser| {
            let left = decoded(&quantise(quantiser, &values, 64), 64);
            let squares =
                left.iter().zip(&values).map(|(found, value)| f64::from(found - value) * f64::from(found - value));
            squares.sum::<f64>() / values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>()
        };
        assert!(error(Quantiser::Templar4) > 0.1);
        assert!(error(Quantiser::BlockSign) < 0.05);
        assert!(error(Quantiser::BlockLevels) < 0.015);
    }

    #[test]
    fn one_value_a_zero_and_a_constant_are_exact() {
        for quantiser in Quantiser::ALL {
            for values in [&[3.25f32][..], &[0.0, -0.0, 0.0], &[-1e-45, -1e-45], &[-0.0], &[1e30, 1e30]] {
                let quantised = quantise(quantiser, values, values.len());
                for (found, expected) in decoded(&quantised, values.len()).iter().zip(values) {
                    // An eighth of an octave is what a scale is known to.
                    let blocks = matches!(quantiser, Quantiser::BlockSign | Quantiser::BlockLevels);
                    let far = if blocks { expected.abs() * 0.045 } else { 0.0 };
                    assert!((found - expected).abs() <= far, "{quantiser} {values:?}");
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

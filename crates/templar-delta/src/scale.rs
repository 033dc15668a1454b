//! The scale of a block as a small integer: eighths of an octave, exact on every machine.
//!
//! A scale is 0, or 2^(e ÷ 8) with e in −1192..=800, which reaches from the smallest `f32` to 2^100. It is
//! written as 0 or e + 1193. With eight steps to an octave, a scale is within 4.4 % of the mean that it stands
//! for. The square error of that is 0.06 %, far below that of the quantiser.

/// The largest magnitude of the error feedback and of a decoded value, 2^100. Sums and differences of such numbers are
/// finite.
pub const MAX_MAGNITUDE: f32 = f32::from_bits((127 + 100) << 23);

/// The largest index, that of the scale 2^100.
pub(crate) const MAX_SCALE: u16 = (LARGEST - SMALLEST + 1) as u16;

const SMALLEST: i32 = -149 * 8;
const LARGEST: i32 = 100 * 8;

/// 2^(i ÷ 16) for i in 0..16, each the `f64` nearest to it.
const SIXTEENTHS: [f64; 16] = [
    1.0,
    1.0442737824274138,
    1.0905077326652577,
    1.1387886347566916,
    1.189207115002721,
    1.241857812073484,
    1.2968395546510096,
    1.3542555469368927,
    std::f64::consts::SQRT_2,
    1.4768261459394993,
    1.5422108254079407,
    1.6104903319492543,
    1.681792830507429,
    1.7562521603732995,
    1.8340080864093424,
    1.9152065613971474,
];

/// 2^`exponent`, for the exponents of normal numbers.
const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}

/// The index of the scale that is nearest to a finite `mean` ≥ 0 by ratio. It is 0 only for a mean of 0.
pub(crate) fn index_of(mean: f64) -> u16 {
    if mean == 0.0 {
        return 0;
    }
    // A mean of f32 magnitudes is at least 2^-149 ÷ 2^20: a normal f64.
    let bits = mean.to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let fraction = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    // The odd sixteenths part one eighth from the next.
    let eighths = SIXTEENTHS.iter().skip(1).step_by(2).filter(|&&border| fraction >= border).count() as i32;
    ((exponent * 8 + eighths).clamp(SMALLEST, LARGEST) - SMALLEST + 1) as u16
}

/// The scale of an index, which is at most [`MAX_SCALE`].
pub(crate) fn value_of(index: u16) -> f64 {
    if index == 0 {
        return 0.0;
    }
    let eighths = i32::from(index) - 1 + SMALLEST;
    SIXTEENTHS[eighths.rem_euclid(8) as usize * 2] * power_of_two(eighths.div_euclid(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_is_its_own_nearest() {
        assert_eq!((index_of(0.0), value_of(0)), (0, 0.0));
        for index in 1..=MAX_SCALE {
            assert_eq!(index_of(value_of(index)), index);
        }
        assert_eq!(value_of(1), f64::from(f32::from_bits(1)));
        assert_eq!(value_of(MAX_SCALE), f64::from(crate::MAX_MAGNITUDE));
    }

    #[test]
    fn a_mean_rounds_to_the_nearer_scale_and_stays_in_range() {
        assert_eq!(index_of(1.0), 1193);
        assert_eq!((index_of(1.0442), index_of(1.0443)), (1193, 1194));
        assert_eq!((index_of(1.9152), index_of(1.9153)), (1200, 1201));
        assert_eq!(index_of(1e-50), 1);
        assert_eq!(index_of(f64::from(crate::MAX_MAGNITUDE) * 1.1), MAX_SCALE);
        for step in 1..1000 {
            let mean = f64::from(step) * 0.01;
            let ratio = value_of(index_of(mean)) / mean;
            assert!((1.0 / 1.0443..=1.0443).contains(&ratio), "{mean}: {ratio}");
        }
    }

    #[test]
    fn the_table_holds_powers_of_two() {
        for (index, &value) in SIXTEENTHS.iter().enumerate() {
            let mut power = 1.0;
            for _ in 0..16 {
                power *= value;
            }
            let expected = f64::from(1u32 << index);
            assert!((power / expected - 1.0).abs() < 1e-14, "{index}");
        }
    }
}

//! Exponential, logarithm and sigmoid of one number, without branches, so that loops over them become vector
//! code, and the exponential in `f64`, of which ratings are made.
//!
//! Only IEEE 754 `+ - * /`, comparisons and integer operations on the bits: the same result on every machine.
//! Coefficients: minimax fits (Remez, 50 digits) rounded to `f32`; the twin states the same steps with its branches.

/// ln 2 in 15 bits, so that its product with any exponent is exact, and what is missing.
const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;
/// 1.5 · 2^23: adding and subtracting it rounds to an integer, which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// (e^r - 1 - r) / r² on |r| <= ln(2)/2, highest power first: relative error 3.1e-9.
const EXP: [u32; 5] = [0x3ab5_11d4, 0x3c09_1d1b, 0x3d2a_ac7a, 0x3e2a_aa48, 0x3eff_fffe];
/// (ln((1+s)/(1-s)) / s - 2) / s² in s², highest power first.
const LN: [u32; 4] = [0x3e71_7ee9, 0x3e92_1c54, 0x3ecc_cd3e, 0x3f2a_aaaa];
/// The bits of sqrt(1/2), where the reduced argument of the logarithm begins.
const SQRT_HALF: u32 = 0x3f35_04f3;

/// e^x, within 1 unit in the last place; +0 below -104, infinity above 88.72284, subnormal results rounded once.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these the result is 0 or infinity anyway; NaN passes both comparisons.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut q = f32::from_bits(EXP[0]);
    q = q * r + f32::from_bits(EXP[1]);
    q = q * r + f32::from_bits(EXP[2]);
    q = q * r + f32::from_bits(EXP[3]);
    q = q * r + f32::from_bits(EXP[4]);
    let p = (r + (r * r) * q) + 1.0;
    // 2^n in two exact halves, so that only the last multiplication rounds, once, into the subnormal range.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let low = n >> 1;
    (p * power_of_two(low)) * power_of_two(n.wrapping_sub(low))
}

/// 2^e for -127 < e < 128.
#[inline(always)]
fn power_of_two(e: i32) -> f32 {
    f32::from_bits((e.wrapping_add(127) as u32) << 23)
}

/// Natural logarithm, within 1 unit in the last place; -infinity at ±0, NaN below.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let bits = if subnormal { x * 8_388_608.0 } else { x }.to_bits();
    let offset = bits.wrapping_sub(SQRT_HALF);
    let k = ((offset as i32) >> 23).wrapping_sub(if subnormal { 23 } else { 0 }) as f32;
    let f = f32::from_bits((offset & 0x007f_ffff).wrapping_add(SQRT_HALF)) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut p = f32::from_bits(LN[0]);
    p = p * z + f32::from_bits(LN[1]);
    p = p * z + f32::from_bits(LN[2]);
    p = p * z + f32::from_bits(LN[3]);
    let half_square = 0.5 * (f * f);
    let finite = k * LN2_HIGH + (f - (half_square - (s * (half_square + z * p) + k * LN2_LOW)));
    let positive = if x == 0.0 { f32::NEG_INFINITY } else { finite };
    if x < 0.0 || x.is_nan() {
        f32::NAN
    } else if x == f32::INFINITY {
        x
    } else {
        positive
    }
}

/// `1 / (1 + exp(-x))`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// ln 2 in 32 bits, so that its product with any exponent is exact, and what is missing.
const LN2_HIGH_F64: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW_F64: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
/// 1.5 · 2^52: adding and subtracting it rounds an `f64` to an integer.
const ROUND_F64: f64 = 6_755_399_441_055_744.0;
/// 13!, 12!, … 2!: their reciprocals are the coefficients of the powers of r. The omitted terms are below 2^-57.
const FACTORIALS: [f64; 12] = [
    6_227_020_800.0,
    479_001_600.0,
    39_916_800.0,
    3_628_800.0,
    362_880.0,
    40_320.0,
    5_040.0,
    720.0,
    120.0,
    24.0,
    6.0,
    2.0,
];

/// e^x in `f64`, within 1 unit in the last place; +0 below -746, infinity above 709.782712893384, subnormal results
/// rounded once more.
#[inline]
pub fn exp_f64(x: f64) -> f64 {
    // Beyond these the result is 0 or infinity anyway; NaN passes both comparisons.
    let x = if x < -746.0 { -746.0 } else { x };
    let x = if x > 710.0 { 710.0 } else { x };
    let shifted = x * std::f64::consts::LOG2_E + ROUND_F64;
    let n = shifted - ROUND_F64;
    let r = (x - n * LN2_HIGH_F64) - n * LN2_LOW_F64;
    let mut q = 1.0 / FACTORIALS[0];
    for factorial in &FACTORIALS[1..] {
        q = q * r + 1.0 / factorial;
    }
    let p = (r + (r * r) * q) + 1.0;
    let n = (shifted.to_bits() as i64).wrapping_sub(ROUND_F64.to_bits() as i64);
    let low = n >> 1;
    let power = |e: i64| f64::from_bits((e.wrapping_add(1023) as u64) << 52);
    (p * power(low)) * power(n.wrapping_sub(low))
}

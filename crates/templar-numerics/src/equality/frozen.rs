//! Frozen vectors: the twins' bits as they were when `f32/1` was named. A change here is another arithmetic.

use crate::{RotaryScaling, elementary, twin, vectors};

/// exp and ln at every 997th bit pattern: the branch-free forms equal the twins, and both are within a unit or so in
/// the last place of the true value (taken from `f64`).
#[test]
fn exp_and_ln_equal_the_twins_and_are_accurate() {
    let (mut worst_exp, mut worst_ln) = (0.0f64, 0.0f64);
    for bits in (0..=u32::MAX).step_by(997) {
        let x = f32::from_bits(bits);
        for (fast, slow) in [(elementary::exp(x), twin::exp(x)), (elementary::ln(x), twin::ln(x))] {
            assert!(
                fast.to_bits() == slow.to_bits() || (fast.is_nan() && slow.is_nan()),
                "{x:e}: {slow:e} not {fast:e}"
            );
        }
        if (-104.0..88.72).contains(&x) {
            worst_exp = worst_exp.max(ulps(twin::exp(x), libm::exp(f64::from(x))));
        }
        if x > 0.0 && x.is_finite() {
            worst_ln = worst_ln.max(ulps(twin::ln(x), libm::log(f64::from(x))));
        }
    }
    assert!(worst_exp < 1.0, "exp is {worst_exp} units in the last place off");
    assert!(worst_ln < 1.0, "ln is {worst_ln} units in the last place off");
}

/// How far `x` is from `exact`, in units in the last place of `exact`'s neighbourhood in `f32`.
fn ulps(x: f32, exact: f64) -> f64 {
    let near = (exact as f32).abs();
    let unit = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
    (f64::from(x) - exact).abs() / unit
}

#[test]
fn elementary_functions_have_their_frozen_bits() {
    let exps =
        [0.0, -0.0, 1.0, -1.0, 0.5, 88.722_83, 88.722_84, 89.0, -87.33655, -88.0, -103.9, -103.98, -104.0, 1e-40];
    let found: Vec<u32> = exps.iter().map(|x| twin::exp(*x).to_bits()).collect();
    assert_eq!(found, EXP_BITS, "{found:#010x?}");
    // Where the reduced argument turns from just below 2 to just above 1.
    let root = std::f32::consts::FRAC_1_SQRT_2;
    let lns = [0.0, 1.0, 2.0, 0.5, 1e-45, 1e-38, 3e38, root, root.next_up(), 1.000_000_1, std::f32::consts::E];
    let found: Vec<u32> = lns.iter().map(|x| twin::ln(*x).to_bits()).collect();
    assert_eq!(found, LN_BITS, "{found:#010x?}");
    assert!(twin::exp(f32::NAN).is_nan() && twin::ln(f32::NAN).is_nan() && twin::ln(-1e-45).is_nan());
    assert_eq!([f32::NEG_INFINITY, f32::INFINITY].map(twin::exp), [0.0, f32::INFINITY]);
    assert_eq!(twin::ln(f32::INFINITY), f32::INFINITY);
}

/// At exponents and mantissas of every kind the loop-free form equals the twin, and both are within a unit in
/// the last place of `libm`'s, which is itself within one of the true value.
#[test]
fn exp_f64_equals_its_twin_and_is_accurate() {
    let step = 0x0000_7fff_ffff_ff61u64;
    let arguments = (0..=u64::MAX / step).map(|index| f64::from_bits(index * step));
    let near = (-7_500..7_100).map(|tenth| f64::from(tenth) / 10.0 + 0.037);
    for x in arguments.chain(near).chain([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]) {
        let (fast, slow) = (elementary::exp_f64(x), twin::exp_f64(x));
        assert!(fast.to_bits() == slow.to_bits() || (fast.is_nan() && slow.is_nan()), "{x:e}: {slow:e} not {fast:e}");
        let near = libm::exp(x);
        let distance = slow.to_bits().abs_diff(near.to_bits());
        assert!(distance <= 2 || (slow.is_nan() && near.is_nan()), "{x:e}: {slow:e}, libm has {near:e}");
    }
}

#[test]
fn exp_f64_has_its_frozen_bits() {
    let arguments =
        [0.0, 1.0, -1.0, 0.5, -0.346_573_590_279_972_64, -10.0, -300.0, 709.78, 709.79, -708.0, -740.0, -745.2];
    let found = arguments.map(|x| twin::exp_f64(x).to_bits());
    assert_eq!(found, EXP_F64_BITS, "{found:#018x?}");
    assert!(twin::exp_f64(f64::NAN).is_nan());
    assert_eq!([f64::NEG_INFINITY, f64::INFINITY].map(twin::exp_f64), [0.0, f64::INFINITY]);
}

/// On ordinary numbers and on wild ones: zeros of both signs, subnormals, 1e30 and 1e-30 between ordinary ones,
/// infinities and NaN in what comes of them; and the longest chain.
#[test]
fn kernels_have_their_frozen_hashes() {
    let vectors = vectors::frozen();
    let found: Vec<(&str, u64)> = vectors.iter().map(|v| (v.name, vectors::hash(&v.inputs.outputs()))).collect();
    let expected: Vec<(&str, u64)> = vectors.iter().map(|v| (v.name, v.hash)).collect();
    assert_eq!(found, expected, "{found:#018x?}");
}

/// Ties, subnormal results, cancellation and the edge of infinity, one multiply-add each.
#[test]
fn fma_has_its_frozen_bits() {
    let cases = vectors::fused_multiply_adds();
    let found = cases.map(|([a, b, c], _)| vectors::bits(twin::fma(a, b, c)));
    assert_eq!(found, cases.map(|(_, bits)| bits), "{found:#010x?}");
}

/// One entry of each band: waves that stay, that are blended, that are divided.
#[test]
fn scaled_rotary_tables_have_their_frozen_bits() {
    let llama3 =
        RotaryScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_positions: 8192 };
    let mut found = Vec::new();
    for scaling in [RotaryScaling::None, RotaryScaling::Linear { factor: 4.0 }, llama3] {
        for (position, i) in [(1, 0), (8191, 20), (8191, 31), (8191, 33), (131_071, 40), (131_071, 63)] {
            let (cos, sin) = twin::rotary_entry(position, i, 128, 500_000.0, scaling);
            found.push([cos.to_bits(), sin.to_bits()]);
        }
    }
    assert_eq!(found, ROTARY_BITS, "{found:#010x?}");
}

const ROTARY_BITS: [[u32; 2]; 18] = [
    [0x3f0a_5140, 0x3f57_6aa4],
    [0xbf59_286d, 0xbf07_912e],
    [0xbda9_5d12, 0x3f7f_1f86],
    [0xbf7f_fb96, 0xbc3e_1e22],
    [0xbe39_ad12, 0xbf7b_c1a2],
    [0x3f72_dbee, 0x3ea1_ee7a],
    [0x3f78_0aa5, 0x3e7d_5777],
    [0xbf4c_6f30, 0x3f1a_161b],
    [0xbf6a_6f58, 0xbecd_ae91],
    [0xbf35_8b31, 0x3f34_7e52],
    [0xbf67_cdaa, 0x3ed9_48f5],
    [0x3f7f_2c09, 0x3da4_9531],
    [0x3f0a_5140, 0x3f57_6aa4],
    [0xbf59_286d, 0xbf07_912e],
    [0x3f3e_001a, 0x3f2b_919c],
    [0xbf56_16fd, 0x3f0c_5cbc],
    [0xbe5e_9bda, 0xbf79_e0ad],
    [0x3f7f_cafd, 0x3d24_b74d],
];

const EXP_BITS: [u32; 14] = [
    0x3f80_0000,
    0x3f80_0000,
    0x402d_f854,
    0x3ebc_5ab2,
    0x3fd3_094c,
    0x7f7f_ff84,
    0x7f80_0000,
    0x7f80_0000,
    0x007f_ffe6,
    0x0041_edc4,
    0x0000_0001,
    0x0000_0000,
    0x0000_0000,
    0x3f80_0000,
];

const LN_BITS: [u32; 11] = [
    0xff80_0000,
    0x0000_0000,
    0x3f31_7218,
    0xbf31_7218,
    0xc2ce_8ed0,
    0xc2ae_ff18,
    0x42b1_3196,
    0xbeb1_7219,
    0xbeb1_7216,
    0x33ff_ffff,
    0x3f80_0000,
];

/// Computed beside the program, in Python's floats by the specification's steps; all within one of the bits
/// that 60 digits round to.
const EXP_F64_BITS: [u64; 12] = [
    0x3ff0_0000_0000_0000,
    0x4005_bf0a_8b14_576a,
    0x3fd7_8b56_362c_ef38,
    0x3ffa_6129_8e1e_069c,
    0x3fe6_a09e_667f_3bcc,
    0x3f07_cd79_b564_7c9a,
    0x24e2_4563_9c3a_49f7,
    0x7fef_e9ce_5c4c_52b4,
    0x7ff0_0000_0000_0000,
    0x0017_c8ab_2288_c9ac,
    0x0000_0000_0000_0055,
    0x0000_0000_0000_0000,
];

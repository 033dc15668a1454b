//! Frozen vectors: the twins' bits as they were when `f32/1` was named. A change here is another arithmetic.

use super::Numbers;
use crate::elementary;
use crate::matrix::{Mat, MatMut, Op};
use crate::{AdamW, RotaryScaling, RotaryTables, twin};

/// FNV-1a over the bits, in order; every NaN counts as the same one.
fn hash(parts: &[&[f32]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().flat_map(|v| bits(*v).to_le_bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

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

/// At exponents and mantissas of every kind the loop-free form equals the twin, and both are within a unit in the last
/// place of `libm`'s, which is itself within one of the true value.
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

#[test]
fn kernels_have_their_frozen_hashes() {
    let mut numbers = Numbers(2026);
    let mut found = Vec::new();
    for k in [0, 1, 513] {
        let (a, b, mut c) = (numbers.wild(5 * k), numbers.ordinary(k * 7), numbers.ordinary(35));
        twin::gemm(Mat::new(&a, 5, k), Op::N, Mat::new(&b, 7, k), Op::T, MatMut::new(&mut c, 5, 7), true);
        found.push(("gemm", hash(&[&c])));
    }
    let (x, y, w) = (numbers.ordinary(300), numbers.ordinary(300), numbers.ordinary(100));
    let norm = twin::squared_norm_f64(&x);
    found.push((
        "sums",
        hash(&[&[twin::sum(&x), twin::dot(&x, &y), norm as f32, (norm - f64::from(norm as f32)) as f32]]),
    ));
    let (mut p, mut ds) = (x.clone(), vec![0.0; 300]);
    twin::softmax(&mut p);
    twin::softmax_backward(&p, &y, &mut ds);
    found.push(("softmax", hash(&[&p, &ds])));
    let (mut out, mut inv, mut dx, mut dw) = (vec![0.0; 300], vec![0.0; 3], vec![0.0; 300], vec![0.0; 100]);
    twin::rms_norm(&x, &w, 1e-5, &mut out, &mut inv);
    twin::rms_norm_backward(&x, &w, &inv, &y, &mut dx, &mut dw);
    found.push(("rms_norm", hash(&[&out, &inv, &dx, &dw])));
    let [mut out, mut dgate, mut dup] = [0; 3].map(|_| vec![0.0; 300]);
    twin::swiglu(&x, &y, &mut out);
    twin::swiglu_backward(&x, &y, &p, &mut dgate, &mut dup);
    found.push(("swiglu", hash(&[&out, &dgate, &dup])));
    let (mut there, mut back) = (x[..280].to_vec(), x[..280].to_vec());
    let tables = RotaryTables::new(8192, 14, 500_000.0, RotaryScaling::None);
    twin::rotary(&mut there, 2, 14, &tables, 8180, 5);
    twin::rotary_backward(&mut back, 2, 14, &tables, 100, 7);
    found.push(("rotary", hash(&[&there, &back])));
    let (mut gradient, mut losses) = (x.clone(), vec![0.0; 3]);
    twin::cross_entropy(&mut gradient, &[0, 57, 99], 0.25, &mut losses);
    found.push(("cross_entropy", hash(&[&gradient, &losses])));
    let (mut params, mut m, mut v) = (x, vec![0.0; 300], vec![0.0; 300]);
    let settings = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.1, bias2: 0.05 };
    twin::adamw(&settings, &mut params, &y, &mut m, &mut v);
    found.push(("adamw", hash(&[&params, &m, &v])));
    assert_eq!(found, HASHES, "{found:#018x?}");
}

/// Ties, subnormal results, cancellation and the edge of infinity, one multiply-add each.
#[test]
fn fma_has_its_frozen_bits() {
    let smallest = f32::from_bits(1);
    let ulp = f32::EPSILON;
    let cases = [
        (0.0, 1.0, -0.0),
        (-0.0, 1.0, -0.0),
        (1.0, 1.0, -1.0),
        // Midway between two numbers: to the even one, down and up.
        (ulp, 0.5, 1.0),
        (ulp, 0.5, 1.0 + ulp),
        // Beside the midpoint by less than an f64 can hold beside it.
        (ulp * (1.0 + ulp), 0.5 * (1.0 - ulp), 1.0),
        (ulp * (1.0 + ulp), 0.5 * (1.0 + ulp), 1.0),
        // Subnormal results: a tie, a little more than a tie, one that reaches the smallest normal number.
        (smallest, 0.5, 0.0),
        (smallest, 0.5, smallest),
        (smallest, 0.5 + ulp, 0.0),
        (f32::MIN_POSITIVE, 1.0 - ulp / 2.0, 0.0),
        (smallest, 0.25, f32::MIN_POSITIVE),
        // Exact product, huge and tiny together.
        (1.0e30, 1.0e30, -1.0e38),
        (1.0e-30, 1.0e-30, 1.0),
        (1.0 + ulp, 1.0 - ulp, -1.0),
        // The midpoint above the last finite number, from which on a sum is infinite, and just below it.
        (f32::MAX, 1.0, f32::from_bits(0x7300_0000)),
        (f32::MAX, 1.0, f32::from_bits(0x72ff_ffff)),
        (f32::INFINITY, 0.0, 1.0),
    ];
    let found: Vec<u32> = cases.iter().map(|(a, b, c)| bits(twin::fma(*a, *b, *c))).collect();
    assert_eq!(found, FMA_BITS, "{found:#010x?}");
}

const FMA_BITS: [u32; 18] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0000,
    0x3f80_0000,
    0x3f80_0002,
    0x3f80_0000,
    0x3f80_0001,
    0x0000_0000,
    0x0000_0002,
    0x0000_0001,
    0x0080_0000,
    0x0080_0000,
    0x7f80_0000,
    0x3f80_0000,
    0xa880_0000,
    0x7f80_0000,
    0x7f7f_ffff,
    0x7fc0_0000,
];

/// The kernels on wild numbers: zeros of both signs, subnormals, 1e30 and 1e-30 between ordinary ones, infinities and
/// NaN in what comes of them; and the longest chain.
#[test]
fn kernels_have_their_frozen_hashes_on_wild_numbers() {
    let mut numbers = Numbers(2027);
    let mut found = Vec::new();
    let (a, b, mut c) = (numbers.ordinary(2 * 100_003), numbers.wild(100_003 * 3), vec![0.0; 6]);
    twin::gemm(Mat::new(&a, 2, 100_003), Op::N, Mat::new(&b, 3, 100_003), Op::T, MatMut::new(&mut c, 2, 3), false);
    found.push(("gemm", hash(&[&c])));
    let (x, y, w) = (numbers.wild(300), numbers.wild(300), numbers.ordinary(100));
    let small: Vec<f32> = x.iter().map(|x| x * 1e-28).collect();
    let [norm, small_norm] = [&y, &small].map(|x| twin::squared_norm_f64(x).to_bits());
    let halves = [norm, norm >> 32, small_norm, small_norm >> 32].map(|b| f32::from_bits(b as u32));
    found.push(("sums", hash(&[&[twin::sum(&x), twin::dot(&small, &y)], &halves])));
    let (mut p, mut ds) = (x.clone(), vec![0.0; 300]);
    twin::softmax(&mut p);
    twin::softmax_backward(&small, &y, &mut ds);
    found.push(("softmax", hash(&[&p, &ds])));
    let (mut out, mut inv, mut dx, mut dw) = (vec![0.0; 300], vec![0.0; 3], vec![0.0; 300], vec![0.0; 100]);
    twin::rms_norm(&small, &w, 1e-5, &mut out, &mut inv);
    twin::rms_norm_backward(&small, &w, &inv, &y, &mut dx, &mut dw);
    found.push(("rms_norm", hash(&[&out, &inv, &dx, &dw])));
    let [mut out, mut dgate, mut dup] = [0; 3].map(|_| vec![0.0; 300]);
    twin::swiglu(&x, &y, &mut out);
    twin::swiglu_backward(&x, &y, &small, &mut dgate, &mut dup);
    found.push(("swiglu", hash(&[&out, &dgate, &dup])));
    let (mut there, mut back) = (x[..280].to_vec(), small[..280].to_vec());
    let tables = RotaryTables::new(100, 14, 10_000.0, RotaryScaling::Linear { factor: 3.0 });
    twin::rotary(&mut there, 2, 14, &tables, 90, 10);
    twin::rotary_backward(&mut back, 2, 14, &tables, 0, 7);
    found.push(("rotary", hash(&[&there, &back])));
    let (mut gradient, mut losses) = (x.clone(), vec![0.0; 3]);
    twin::cross_entropy(&mut gradient, &[0, 57, 99], 1e-30, &mut losses);
    found.push(("cross_entropy", hash(&[&gradient, &losses])));
    let (mut params, mut m, mut v) = (x, small, vec![1e-40; 300]);
    let settings = twin::adamw_settings(1_000_003, 1e-3, 900_000, 950_000, 1e-8, 100_000);
    twin::adamw(&settings, &mut params, &y, &mut m, &mut v);
    found.push(("adamw", hash(&[&params, &m, &v])));
    let mut tensors = [numbers.ordinary(50), numbers.wild(33), numbers.ordinary(7)];
    let norm = twin::clip(&mut tensors.each_mut().map(Vec::as_mut_slice), 1.0);
    let [first, second, third] = &tensors;
    let mut rows = vec![0.0; 12];
    twin::embedding(first, 4, &[3, 1, 3], &mut rows);
    let mut table = vec![0.0; 16];
    twin::embedding_backward(second, 4, &[3, 0, 3, 3], &mut table);
    let step = [norm as f32, twin::sum_of_losses(first) as f32, twin::power(0.95, 12_345) as f32];
    found.push(("step", hash(&[first, second, third, &rows, &table, &step])));
    assert_eq!(found, WILD_HASHES, "{found:#018x?}");
}

const WILD_HASHES: [(&str, u64); 9] = [
    ("gemm", 0xd1e5_5aa8_edbb_1191),
    ("sums", 0xe78b_4d79_3cee_c341),
    ("softmax", 0xb24e_318a_10b5_d88f),
    ("rms_norm", 0x9357_4628_e82d_beea),
    ("swiglu", 0x906d_1143_f7bb_d9c6),
    ("rotary", 0x2946_ac01_bc8d_3ce1),
    ("cross_entropy", 0x868e_d940_6621_a6d3),
    ("adamw", 0xaa8b_0fde_3804_999b),
    ("step", 0x24c9_df5d_1f2d_af96),
];

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

const HASHES: [(&str, u64); 10] = [
    ("gemm", 0x4bc5_2921_487d_dddb),
    ("gemm", 0x904b_2fff_1372_c76d),
    ("gemm", 0xe1a6_ca78_eb84_67cb),
    ("sums", 0xec91_ea11_a138_8fae),
    ("softmax", 0x59f8_b688_3168_46bc),
    ("rms_norm", 0xeaf6_6b1c_06eb_6cae),
    ("swiglu", 0x1380_bd92_6c0e_6cd6),
    ("rotary", 0x42a2_02dd_97e5_3a14),
    ("cross_entropy", 0x86da_a9ec_8ba1_323d),
    ("adamw", 0xdc6b_5152_d33d_6a9c),
];

/// Computed beside the program, in Python's floats by the specification's steps; all within one of the bits that 60 digits
/// round to.
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

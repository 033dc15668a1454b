//! The specification in code: the slow, obvious, scalar form of every kernel.
//!
//! Nothing here is clever. A fast kernel is right if and only if it gives these bits, and a node whose result differs
//! from its peers' recomputes with this module before it accuses. It does not use the machine's fused multiply-add.

mod attention;
mod step;

use crate::adamw::AdamW;
use crate::matrix::{Mat, MatMut, Op, product_shape};
use crate::rotary::{Angles, RotaryScaling};

pub use crate::soft_fma::fma;
pub use attention::{attention, attention_backward, merge_heads, rotate_heads, rotate_heads_backward, split_heads};
pub use step::{adamw_settings, clip, embedding, embedding_backward, gradient_norm, power, sum_of_losses};

/// `C = op(A)·op(B)`, or `C += op(A)·op(B)` where `accumulate`: one chain of [`fma`] per element, k ascending,
/// from +0 or from the old C.
///
/// # Panics
/// If the shapes do not agree.
pub fn gemm(a: Mat, op_a: Op, b: Mat, op_b: Op, c: MatMut, accumulate: bool) {
    let (m, n, k) = product_shape(&a, op_a, &b, op_b, &c);
    for i in 0..m {
        for j in 0..n {
            let out = &mut c.data[i * c.stride + j];
            let mut chain = if accumulate { *out } else { 0.0 };
            for l in 0..k {
                chain = fma(a.at(op_a, i, l), b.at(op_b, l, j), chain);
            }
            *out = chain;
        }
    }
}

/// Adds 32 lanes: lane i takes lane i+16, then i+8, i+4, i+2, i+1.
fn tree(mut lanes: [f32; 32]) -> f32 {
    let mut half = 16;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of `x`: element i is added to lane i mod 32 in order, lanes start at +0, then the tree.
pub fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; 32];
    for (i, v) in x.iter().enumerate() {
        lanes[i % 32] += v;
    }
    tree(lanes)
}

/// The [`sum`] of the rounded products.
///
/// # Panics
/// If the lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "a dot product of different lengths");
    sum(&a.iter().zip(b).map(|(x, y)| x * y).collect::<Vec<f32>>())
}

/// The sum of squares in f64 (each square is exact): of each block of 16,384 elements with the same 32 lanes and
/// tree, then of the blocks in order, from +0.
pub fn squared_norm_f64(x: &[f32]) -> f64 {
    let mut sum = 0.0;
    for block in x.chunks(16_384) {
        sum += squared_norm_of_block(block);
    }
    sum
}

/// The sum of squares of one block in f64.
fn squared_norm_of_block(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 32];
    for (i, v) in x.iter().enumerate() {
        lanes[i % 32] += f64::from(*v) * f64::from(*v);
    }
    let mut half = 16;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// e^x; see the crate's documentation for the steps.
pub fn exp(x: f32) -> f32 {
    if x > 88.722_84 {
        return f32::INFINITY;
    }
    if x < -104.0 {
        return 0.0;
    }
    if x.is_nan() {
        return f32::NAN;
    }
    // n = x·log2(e) rounded to an integer (ties to even) by the 1.5·2^23 trick.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = (x - n * 0.693_145_75) - n * 1.428_606_8e-6;
    let mut q = f32::from_bits(0x3ab5_11d4);
    for c in [0x3c09_1d1b, 0x3d2a_ac7a, 0x3e2a_aa48, 0x3eff_fffe] {
        q = q * r + f32::from_bits(c);
    }
    let p = (r + (r * r) * q) + 1.0;
    // 2^n in two exact halves, so that only the last multiplication rounds, once, into the subnormal range.
    let n = n as i32;
    let low = n >> 1;
    let power = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
    (p * power(low)) * power(n - low)
}

/// e^x in `f64`; see the crate's documentation for the steps.
pub fn exp_f64(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    if x < -746.0 {
        return 0.0;
    }
    if x > 710.0 {
        return f64::INFINITY;
    }
    let shifted = x * std::f64::consts::LOG2_E + 6_755_399_441_055_744.0;
    let n = shifted - 6_755_399_441_055_744.0;
    let r = (x - n * f64::from_bits(0x3fe6_2e42_fee0_0000)) - n * f64::from_bits(0x3dea_39ef_3579_3c76);
    // 1/13! + … from the highest power of r down to r²; k! is exact in f64 as far as 18.
    let factorial = |k: u32| (2..=k).map(f64::from).product::<f64>();
    let mut q = 1.0 / factorial(13);
    for k in (2..=12).rev() {
        q = q * r + 1.0 / factorial(k);
    }
    let p = (r + (r * r) * q) + 1.0;
    // 2^n in two exact halves: both stay normal, and the last multiplication rounds into the subnormal range.
    let n = n as i64;
    let low = n.div_euclid(2);
    let power = |e: i64| f64::from_bits(((e + 1023) as u64) << 52);
    (p * power(low)) * power(n - low)
}

/// Natural logarithm; see the crate's documentation for the steps.
pub fn ln(x: f32) -> f32 {
    if x < 0.0 || x.is_nan() {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    let subnormal = x < f32::MIN_POSITIVE;
    let bits = if subnormal { x * 8_388_608.0 } else { x }.to_bits();
    // 0x3f3504f3 is sqrt(1/2): x = 2^k · y with y in [sqrt(1/2), sqrt(2)).
    let offset = bits.wrapping_sub(0x3f35_04f3);
    let k = ((offset as i32) >> 23) - if subnormal { 23 } else { 0 };
    let y = f32::from_bits((offset & 0x007f_ffff) + 0x3f35_04f3);
    let k = k as f32;
    let f = y - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut p = f32::from_bits(0x3e71_7ee9);
    for c in [0x3e92_1c54, 0x3ecc_cd3e, 0x3f2a_aaaa] {
        p = p * z + f32::from_bits(c);
    }
    let half_square = 0.5 * (f * f);
    k * 0.693_145_75 + (f - (half_square - (s * (half_square + z * p) + k * 1.428_606_8e-6)))
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The largest element, or minus infinity; NaN is passed over (it comes back through the exponentials).
fn max(row: &[f32]) -> f32 {
    row.iter().fold(f32::NEG_INFINITY, |m, v| if *v > m { *v } else { m })
}

/// [`exp`] of every element.
pub fn exp_in_place(x: &mut [f32]) {
    x.iter_mut().for_each(|v| *v = exp(*v));
}

/// One row: `e = exp(x - max)`, then `e · (1 / sum(e))`.
pub fn softmax(row: &mut [f32]) {
    let m = max(row);
    row.iter_mut().for_each(|v| *v = exp(*v - m));
    let inverse = 1.0 / sum(row);
    row.iter_mut().for_each(|v| *v *= inverse);
}

/// One row: `ds = p · (dp - dot(p, dp))`.
///
/// # Panics
/// If the lengths differ.
pub fn softmax_backward(p: &[f32], dp: &[f32], ds: &mut [f32]) {
    assert_eq!(p.len(), ds.len(), "softmax backward of different lengths");
    let d = dot(p, dp);
    for i in 0..p.len() {
        ds[i] = p[i] * (dp[i] - d);
    }
}

/// Rows of `weight.len()`: `inv = 1 / sqrt(sum(x²) / width + eps)`, `out = (x · inv) · weight`.
///
/// # Panics
/// If the lengths do not agree.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32], inv_rms: &mut [f32]) {
    crate::norm::check(x.len(), weight.len(), out.len(), inv_rms.len());
    let width = weight.len();
    for (r, inv) in inv_rms.iter_mut().enumerate() {
        let x = &x[r * width..][..width];
        *inv = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
        for j in 0..width {
            out[r * width + j] = (x[j] * *inv) * weight[j];
        }
    }
}

/// With `t = dy · weight`, `d = sum(t · x)`, `c = (inv · inv) · (d / width)`: `dx += inv · (t - x · c)`, and
/// `dweight += dy · (x · inv)`, rows ascending.
///
/// # Panics
/// If the lengths do not agree.
pub fn rms_norm_backward(x: &[f32], weight: &[f32], inv_rms: &[f32], dy: &[f32], dx: &mut [f32], dweight: &mut [f32]) {
    crate::norm::check(x.len(), weight.len(), dy.len(), inv_rms.len());
    crate::norm::check(x.len(), dweight.len(), dx.len(), inv_rms.len());
    let width = weight.len();
    for (r, inv) in inv_rms.iter().enumerate() {
        let x = &x[r * width..][..width];
        let dy = &dy[r * width..][..width];
        let t: Vec<f32> = dy.iter().zip(weight).map(|(g, w)| g * w).collect();
        let c = (inv * inv) * (dot(&t, x) / width as f32);
        for j in 0..width {
            dx[r * width + j] += inv * (t[j] - x[j] * c);
            dweight[j] += dy[j] * (x[j] * inv);
        }
    }
}

/// `out = (gate · sigmoid(gate)) · up`.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu(gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && up.len() == out.len(), "swiglu of different lengths");
    for i in 0..out.len() {
        out[i] = (gate[i] * sigmoid(gate[i])) * up[i];
    }
}

/// With `s = sigmoid(gate)`: `dup = dout · (gate · s)`, `dgate = (dout · up) · (s · (1 + gate · (1 - s)))`.
///
/// # Panics
/// If the lengths differ.
pub fn swiglu_backward(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    let n = gate.len();
    assert!([up.len(), dout.len(), dgate.len(), dup.len()] == [n; 4], "swiglu backward of different lengths");
    for i in 0..n {
        let s = sigmoid(gate[i]);
        dup[i] = dout[i] * (gate[i] * s);
        dgate[i] = (dout[i] * up[i]) * (s * (1.0 + gate[i] * (1.0 - s)));
    }
}

/// Cosine and sine of pair `i` of a head of `head_dim` elements at a position: an entry of
/// [`RotaryTables`](crate::RotaryTables).
pub fn rotary_entry(position: usize, i: usize, head_dim: usize, theta: f64, scaling: RotaryScaling) -> (f32, f32) {
    let plain = 1.0 / libm::pow(theta, (2 * i) as f64 / head_dim as f64);
    let frequency = match scaling {
        RotaryScaling::None => plain,
        RotaryScaling::Linear { factor } => plain / factor,
        RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
            let original = f64::from(original_positions);
            let wavelength = std::f64::consts::TAU / plain;
            let is_short = wavelength < original / high_freq_factor;
            let is_long = wavelength > original / low_freq_factor;
            let smooth = (original / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            match (is_short, is_long) {
                (true, _) => plain,
                (false, true) => plain / factor,
                (false, false) => ((1.0 - smooth) * plain) / factor + smooth * plain,
            }
        }
    };
    let angle = position as f64 * frequency;
    (libm::cos(angle) as f32, libm::sin(angle) as f32)
}

/// Turns each pair `(a, b)` = elements `(i, i + head_dim/2)` of each head by its angle:
/// `a·cos - b·sin`, `b·cos + a·sin`. Row r stands at position `first_position + r mod sequence_length`.
///
/// # Panics
/// If the shapes do not agree or a position has no table.
pub fn rotary(
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    tables: Angles<'_>,
    first_position: usize,
    sequence_length: usize,
) {
    tables.check(x.len(), heads, head_dim, first_position, sequence_length);
    turn(x, heads, head_dim, tables, first_position, sequence_length, 1.0);
}

/// The transpose of [`rotary`]: `a·cos + b·sin`, `b·cos - a·sin`.
///
/// # Panics
/// As [`rotary`].
pub fn rotary_backward(
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    tables: Angles<'_>,
    first_position: usize,
    sequence_length: usize,
) {
    tables.check(x.len(), heads, head_dim, first_position, sequence_length);
    turn(x, heads, head_dim, tables, first_position, sequence_length, -1.0);
}

fn turn(
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    tables: Angles<'_>,
    first_position: usize,
    sequence_length: usize,
    direction: f32,
) {
    let half = head_dim / 2;
    for (r, row) in x.chunks_exact_mut(heads * head_dim).enumerate() {
        let (cos, sin) = tables.at(first_position + r % sequence_length);
        for head in row.chunks_exact_mut(head_dim) {
            for i in 0..half {
                // Multiplying by ±1 is exact, so this is also "add or subtract".
                let (a, b, s) = (head[i], head[i + half], sin[i] * direction);
                head[i] = a * cos[i] - b * s;
                head[i + half] = b * cos[i] + a * s;
            }
        }
    }
}

/// Per row: `e = exp(l - max)`, `s = sum(e)`, loss `ln(s) - (l_target - max)`; then
/// `l = (e · (1 / s) - [target]) · grad_scale`.
///
/// # Panics
/// If the shapes do not agree or a target lies outside the row.
pub fn cross_entropy(logits: &mut [f32], targets: &[u32], grad_scale: f32, losses: &mut [f32]) {
    let vocab = crate::cross_entropy::check(logits.len(), targets, losses.len());
    for (r, target) in targets.iter().enumerate() {
        let row = &mut logits[r * vocab..][..vocab];
        let target = *target as usize;
        let m = max(row);
        let shifted = row[target] - m;
        row.iter_mut().for_each(|v| *v = exp(*v - m));
        let s = sum(row);
        losses[r] = ln(s) - shifted;
        let inverse = 1.0 / s;
        for (j, v) in row.iter_mut().enumerate() {
            let p = *v * inverse;
            *v = (if j == target { p - 1.0 } else { p }) * grad_scale;
        }
    }
}

/// The losses of [`cross_entropy`] alone.
///
/// # Panics
/// As [`cross_entropy`].
pub fn cross_entropy_loss(logits: &[f32], targets: &[u32], losses: &mut [f32]) {
    cross_entropy(&mut logits.to_vec(), targets, 1.0, losses);
}

/// One AdamW step; see the crate's documentation for the order of operations.
///
/// # Panics
/// If the lengths differ.
pub fn adamw(settings: &AdamW, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
    let n = params.len();
    assert!([grads.len(), m.len(), v.len()] == [n; 3], "an AdamW step over different lengths");
    let AdamW { lr, beta1, beta2, eps, weight_decay, bias1, bias2 } = *settings;
    let keep = 1.0 - lr * weight_decay;
    let step = lr / bias1;
    let unbias = 1.0 / bias2;
    for i in 0..n {
        let g = grads[i];
        m[i] = beta1 * m[i] + (1.0 - beta1) * g;
        v[i] = beta2 * v[i] + (1.0 - beta2) * (g * g);
        params[i] = params[i] * keep - (step * m[i]) / ((v[i] * unbias).sqrt() + eps);
    }
}

/// `x += y`.
///
/// # Panics
/// If the lengths differ.
pub fn add_in_place(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "a sum of different lengths");
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// `x -= y`.
///
/// # Panics
/// If the lengths differ.
pub fn subtract_in_place(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "a difference of different lengths");
    x.iter_mut().zip(y).for_each(|(x, y)| *x -= y);
}

/// Multiplies every element by s: `x *= s`.
pub fn scale_in_place(x: &mut [f32], s: f32) {
    x.iter_mut().for_each(|x| *x *= s);
}

/// The first index that holds NaN or an infinity.
pub fn first_non_finite(x: &[f32]) -> Option<usize> {
    x.iter().position(|v| !v.is_finite())
}

//! `i8x2/1` as slow, obvious code. A fast kernel is right if and only if it gives these bits.

use super::scale::{BLOCK, Exponents, MANTISSA, NEGLIGIBLE, OUT_OF_RANGE};
use crate::attention::AttentionShape;
use crate::matrix::{Mat, MatMut, Op, product_shape};
use crate::twin::{softmax, softmax_backward};

/// A block of at most [`BLOCK`] numbers, quantised.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The integers q, `|q| ≤ 32639`. All 0 in a block that is out of range.
    pub integers: Vec<i32>,
    /// The scale s of their products; NaN in a block that is out of range.
    pub scale: f32,
}

/// Quantises a block by integer operations alone.
pub fn quantise(x: &[f32]) -> Block {
    block(x, exponent(x))
}

/// The exponent E of a block.
fn exponent(x: &[f32]) -> u32 {
    let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    (largest + 0x1_0100) >> 23
}

/// A block with the exponent E.
fn block(x: &[f32], e: u32) -> Block {
    if !(NEGLIGIBLE..OUT_OF_RANGE).contains(&e) {
        return Block { integers: vec![0; x.len()], scale: if e < NEGLIGIBLE { 0.0 } else { f32::NAN } };
    }
    Block { integers: x.iter().map(|x| integer(*x, e)).collect(), scale: f32::from_bits((e + 127 - 137) << 23) }
}

/// `x·2^(141-E)`, rounded to the nearest integer, ties to even.
fn integer(x: f32, e: u32) -> i32 {
    // |x| = significand·2^(exponent - 150), so |q| is the significand without its last bits.
    let bits = x.to_bits();
    let exponent = (bits >> 23 & 0xff).max(1);
    let significand = (bits & 0x7f_ffff) | u32::from(bits & 0x7f80_0000 != 0) << 23;
    let dropped = (e + 9 - exponent).min(25);
    let ties_to_even = (1 << (dropped - 1)) - 1 + (significand >> dropped & 1);
    let q = ((significand + ties_to_even) >> dropped) as i32;
    if x.is_sign_negative() { -q } else { q }
}

/// The limbs `(hi, lo)` of an integer.
pub fn limbs(q: i32) -> (i32, i32) {
    let hi = (q + 128).div_euclid(256);
    (hi, q - 256 * hi)
}

/// The sum T of a block.
///
/// # Panics
/// If the blocks differ in length.
pub fn sum(a: &[i32], b: &[i32]) -> i32 {
    assert_eq!(a.len(), b.len(), "blocks of different lengths");
    let terms = a.iter().zip(b).map(|(a, b)| {
        let ((a_hi, a_lo), (b_hi, b_lo)) = (limbs(*a), limbs(*b));
        256 * a_hi * b_hi + a_hi * b_lo + a_lo * b_hi
    });
    terms.sum()
}

/// `C = op(A)·op(B)`, or `C += op(A)·op(B)` where `accumulate`.
///
/// # Panics
/// If the shapes do not agree.
pub fn gemm(a: Mat, op_a: Op, b: Mat, op_b: Op, c: MatMut, accumulate: bool) {
    product((a, op_a), (b, op_b), c, accumulate, Exponents::OfBlocks);
}

/// [`gemm`], with a right factor that may be mantissas.
fn product((a, op_a): (Mat, Op), (b, op_b): (Mat, Op), c: MatMut, accumulate: bool, exponents: Exponents) {
    let (m, n, k) = product_shape(&a, op_a, &b, op_b, &c);
    if !accumulate {
        (0..m).for_each(|i| c.data[i * c.stride..][..n].fill(0.0));
    }
    for start in (0..k).step_by(BLOCK) {
        let ks = start..k.min(start + BLOCK);
        let rows = (0..m).map(|i| quantise(&ks.clone().map(|k| a.at(op_a, i, k)).collect::<Vec<f32>>()));
        let columns = (0..n).map(|j| {
            let x: Vec<f32> = ks.clone().map(|k| b.at(op_b, k, j)).collect();
            if exponents == Exponents::OfMantissas { block(&x, MANTISSA) } else { quantise(&x) }
        });
        let (rows, columns): (Vec<Block>, Vec<Block>) = (rows.collect(), columns.collect());
        for (i, row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                let c = &mut c.data[i * c.stride + j];
                *c += sum(&row.integers, &column.integers) as f32 * (row.scale * column.scale);
            }
        }
    }
}

/// One block of the width of a token: a factor and mantissas, `x ≈ factor·mantissa`.
struct Split {
    factor: f32,
    mantissas: Vec<f32>,
}

/// The blocks of a token.
fn split(x: &[f32]) -> Vec<Split> {
    let split = |x: &[f32]| {
        let Block { integers, scale } = quantise(x);
        Split { factor: scale * 1024.0, mantissas: integers.iter().map(|q| *q as f32 / 16384.0).collect() }
    };
    x.chunks(BLOCK).map(split).collect()
}

/// Column `e` of a sum over tokens, `c + Σ p[t]·y[t][e]`.
fn over_tokens(p: &[f32], y: &[Vec<Split>], e: usize, c: f32) -> f32 {
    let column: Vec<f32> = y.iter().map(|blocks| blocks[e / BLOCK].mantissas[e % BLOCK]).collect();
    let moved = |(p, blocks): (&f32, &Vec<Split>)| if *p == 0.0 { 0.0 } else { p * blocks[e / BLOCK].factor };
    let p: Vec<f32> = p.iter().zip(y).map(moved).collect();
    let mut out = [c];
    let (p, y) = (Mat::new(&p, 1, p.len()), Mat::new(&column[..p.len()], p.len(), 1));
    product((p, Op::N), (y, Op::N), MatMut::new(&mut out, 1, 1), true, Exponents::OfMantissas);
    out[0]
}

/// Adds `Σ p[t]·y[t]` to `c [width]`, a sum over tokens: `p` is `[tokens]`, `y` is `[tokens, width]`.
///
/// # Panics
/// If the lengths do not agree.
pub fn sum_over_tokens(p: &[f32], y: &[f32], c: &mut [f32]) {
    assert_eq!(y.len(), p.len() * c.len(), "one row for each token");
    let rows: Vec<Vec<Split>> = y.chunks_exact(c.len().max(1)).map(split).collect();
    for (e, c) in c.iter_mut().enumerate() {
        *c = over_tokens(p, &rows, e, *c);
    }
}

/// A head of a tensor `[sequences, heads, length, width]`, row by row.
struct Head<'a> {
    elements: &'a [f32],
    /// Elements from one row to the next.
    stride: usize,
    width: usize,
}

impl<'a> Head<'a> {
    fn of(shape: AttentionShape, qkv: &'a [f32], sequence: usize, head: usize) -> Self {
        let heads = shape.heads + 2 * shape.kv_heads;
        let start = (sequence * heads + head) * shape.length * shape.width;
        Self { elements: &qkv[start..][..shape.length * shape.width], stride: shape.width, width: shape.width }
    }

    fn row(&self, position: usize) -> &'a [f32] {
        &self.elements[position * self.stride..][..self.width]
    }

    /// All its tokens, each quantised once.
    fn split(&self, length: usize) -> Vec<Vec<Split>> {
        (0..length).map(|position| split(self.row(position))).collect()
    }
}

/// The product of two rows.
fn row_product(a: &[f32], b: &[f32]) -> f32 {
    let mut out = [0.0];
    let (a, b) = (Mat::new(a, 1, a.len()), Mat::new(b, 1, b.len()));
    gemm(a, Op::N, b, Op::T, MatMut::new(&mut out, 1, 1), false);
    out[0]
}

/// Row `position` of the attention matrix, over tokens 0 to `position`.
fn probabilities(query: &Head, key: &Head, position: usize) -> Vec<f32> {
    let mut p: Vec<f32> = (0..=position).map(|c| row_product(query.row(position), key.row(c))).collect();
    softmax(&mut p);
    p
}

/// Attention of `i8x2/1`; the tensors are those of [`crate::twin::attention`].
///
/// # Panics
/// If the lengths do not agree.
pub fn attention(shape: AttentionShape, qkv: &[f32], context: &mut [f32]) {
    shape.check(qkv.len(), context.len());
    for (index, out) in context.chunks_exact_mut(shape.length * shape.width).enumerate() {
        let (sequence, head) = (index / shape.heads, index % shape.heads);
        let kv_head = shape.heads + head / (shape.heads / shape.kv_heads);
        let query = Head::of(shape, qkv, sequence, head);
        let key = Head::of(shape, qkv, sequence, kv_head);
        let value = Head::of(shape, qkv, sequence, kv_head + shape.kv_heads);
        let values = value.split(shape.length);
        for (position, out) in out.chunks_exact_mut(shape.width).enumerate() {
            let p = probabilities(&query, &key, position);
            for (e, out) in out.iter_mut().enumerate() {
                *out = over_tokens(&p, &values, e, 0.0);
            }
        }
    }
}

/// The gradients of [`attention`]; the tensors are those of [`crate::twin::attention_backward`].
///
/// # Panics
/// If the lengths do not agree.
pub fn attention_backward(shape: AttentionShape, qkv: &[f32], dcontext: &[f32], dqkv: &mut [f32]) {
    shape.check(qkv.len(), dcontext.len());
    shape.check(dqkv.len(), dcontext.len());
    let (length, width, group) = (shape.length, shape.width, shape.heads / shape.kv_heads);
    dqkv.fill(0.0);
    for sequence in 0..qkv.len() / shape.sequence_floats() {
        for head in 0..shape.heads {
            let (key_head, value_head) = (shape.heads + head / group, shape.heads + shape.kv_heads + head / group);
            let query = Head::of(shape, qkv, sequence, head);
            let key = Head::of(shape, qkv, sequence, key_head);
            let value = Head::of(shape, qkv, sequence, value_head);
            let dout = &dcontext[(sequence * length * shape.heads + head) * width..];
            let dout = Head { elements: dout, stride: shape.heads * width, width };
            let (queries, keys, douts) = (query.split(length), key.split(length), dout.split(length));
            let at = |head: usize, position: usize| {
                ((sequence * (shape.heads + 2 * shape.kv_heads) + head) * length + position) * width
            };
            let mut p = Vec::new();
            let mut ds = Vec::new();
            for position in 0..length {
                let row = probabilities(&query, &key, position);
                let dp: Vec<f32> = (0..=position).map(|c| row_product(dout.row(position), value.row(c))).collect();
                let mut dscores = vec![0.0; row.len()];
                softmax_backward(&row, &dp, &mut dscores);
                for e in 0..width {
                    dqkv[at(head, position) + e] = over_tokens(&dscores, &keys, e, 0.0);
                }
                p.push(row);
                ds.push(dscores);
            }
            for start in (0..length).step_by(BLOCK) {
                let rows = start..length.min(start + BLOCK);
                for c in 0..rows.end {
                    // What the rows of the block give to token c: +0 from rows that do not see it.
                    let column = |matrix: &[Vec<f32>]| -> Vec<f32> {
                        rows.clone().map(|r| matrix[r].get(c).copied().unwrap_or(0.0)).collect()
                    };
                    let (p, ds) = (column(&p), column(&ds));
                    for e in 0..width {
                        let (dkey, dvalue) = (at(key_head, c) + e, at(value_head, c) + e);
                        dqkv[dkey] = over_tokens(&ds, &queries[rows.clone()], e, dqkv[dkey]);
                        dqkv[dvalue] = over_tokens(&p, &douts[rows.clone()], e, dqkv[dvalue]);
                    }
                }
            }
        }
    }
}

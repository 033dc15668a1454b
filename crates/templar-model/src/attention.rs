//! Causal attention of grouped queries, forward and backward, over heads laid out one after another.
//!
//! Order, which is part of the arithmetic: rows are taken in blocks of [`ROW_BLOCK`]; a block's scores cover the columns
//! from 0 to the block's last row, row `r` is a softmax over columns `0..=r`, and its columns beyond are +0. Sums over
//! keys ascend from 0; sums over rows (gradients of keys and values) ascend over the query heads of the group, and within
//! a head over rows. Threads take whole (sequence, head) pairs, so they are not visible in the result.
//! Probabilities are recomputed in the backward pass instead of kept: they are the only quadratic buffer.

use rayon::prelude::*;
use templar_numerics::{Mat, MatMut, Op, gemm_serial, softmax, softmax_backward};

use crate::layout::Layout;

/// Query rows that are scored together. Part of the arithmetic only through the sign of a zero.
const ROW_BLOCK: usize = 64;

/// The sizes of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionShape {
    /// Positions per sequence.
    pub(crate) length: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads.
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) width: usize,
}

impl AttentionShape {
    pub(crate) fn new(layout: &Layout, length: usize) -> Self {
        Self { length, heads: layout.heads, kv_heads: layout.kv_heads, width: layout.head_width }
    }

    /// Floats of one head of one sequence.
    fn head_floats(&self) -> usize {
        self.length * self.width
    }

    /// Query heads that share a key and value head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Head `index` of a sequence in `[sequences, heads + 2 kv_heads, length, width]`.
    fn head<'a>(&self, by_head: &'a [f32], sequence: usize, index: usize) -> &'a [f32] {
        let start = (sequence * (self.heads + 2 * self.kv_heads) + index) * self.head_floats();
        &by_head[start..start + self.head_floats()]
    }

    fn key<'a>(&self, by_head: &'a [f32], sequence: usize, kv_head: usize) -> &'a [f32] {
        self.head(by_head, sequence, self.heads + kv_head)
    }

    fn value<'a>(&self, by_head: &'a [f32], sequence: usize, kv_head: usize) -> &'a [f32] {
        self.head(by_head, sequence, self.heads + self.kv_heads + kv_head)
    }

    /// The row blocks `(start, end)` of a sequence.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let length = self.length;
        (0..length).step_by(ROW_BLOCK).map(move |start| (start, length.min(start + ROW_BLOCK)))
    }

    /// Floats of the largest block of scores.
    fn block_floats(&self) -> usize {
        ROW_BLOCK.min(self.length) * self.length
    }
}

/// `context = softmax(q kᵀ, causal) v`, per sequence and head.
///
/// `qkv [sequences, heads + 2 kv_heads, length, width]` holds rotated queries that carry the scale `1/√width`, rotated
/// keys, and values; `context [sequences, heads, length, width]`.
pub(crate) fn forward(shape: AttentionShape, qkv: &[f32], context: &mut [f32]) {
    context.par_chunks_mut(shape.head_floats()).enumerate().for_each_init(
        || vec![0.0f32; shape.block_floats()],
        |scratch, (index, out)| {
            let (sequence, head) = (index / shape.heads, index % shape.heads);
            let query = shape.head(qkv, sequence, head);
            let key = shape.key(qkv, sequence, head / shape.group());
            let value = shape.value(qkv, sequence, head / shape.group());
            for (start, end) in shape.blocks() {
                let rows = end - start;
                let probabilities = &mut scratch[..rows * end];
                causal_probabilities(shape.width, query, key, start, end, probabilities);
                gemm_serial(
                    Mat::new(probabilities, rows, end),
                    Op::N,
                    Mat::new(&value[..end * shape.width], end, shape.width),
                    Op::N,
                    MatMut::new(&mut out[start * shape.width..end * shape.width], rows, shape.width),
                    false,
                );
            }
        },
    );
}

/// Rows `start..end` of the attention matrix, `[end - start, end]`, zero beyond the diagonal.
fn causal_probabilities(width: usize, query: &[f32], key: &[f32], start: usize, end: usize, out: &mut [f32]) {
    let rows = end - start;
    gemm_serial(
        Mat::new(&query[start * width..end * width], rows, width),
        Op::N,
        Mat::new(&key[..end * width], end, width),
        Op::T,
        MatMut::new(out, rows, end),
        false,
    );
    for (row, scores) in out.chunks_exact_mut(end).enumerate() {
        let (seen, unseen) = scores.split_at_mut(start + row + 1);
        softmax(seen);
        unseen.fill(0.0);
    }
}

/// The gradients that one key and value head and its group of query heads receive.
struct Group<'a> {
    sequence: usize,
    kv_head: usize,
    /// `[group, length, width]`
    dquery: &'a mut [f32],
    /// `[length, width]`
    dkey: &'a mut [f32],
    /// `[length, width]`
    dvalue: &'a mut [f32],
}

/// Gradients of [`forward`]'s `qkv` from those of its context.
///
/// `dcontext [sequences, length, heads, width]` lies token by token (as the output projection's backward leaves it);
/// `dqkv` is laid out like `qkv` and overwritten.
pub(crate) fn backward(shape: AttentionShape, qkv: &[f32], dcontext: &[f32], dqkv: &mut [f32]) {
    let head = shape.head_floats();
    let mut groups = Vec::with_capacity(dcontext.len() / (head * shape.group()));
    for (sequence, gradients) in dqkv.chunks_exact_mut((shape.heads + 2 * shape.kv_heads) * head).enumerate() {
        let (dqueries, rest) = gradients.split_at_mut(shape.heads * head);
        let (dkeys, dvalues) = rest.split_at_mut(shape.kv_heads * head);
        let dqueries = dqueries.chunks_exact_mut(shape.group() * head);
        let dkeys_dvalues = dkeys.chunks_exact_mut(head).zip(dvalues.chunks_exact_mut(head));
        for (kv_head, (dquery, (dkey, dvalue))) in dqueries.zip(dkeys_dvalues).enumerate() {
            groups.push(Group { sequence, kv_head, dquery, dkey, dvalue });
        }
    }
    groups.into_par_iter().for_each_init(
        || vec![0.0f32; 3 * shape.block_floats()],
        |scratch, group| backward_group(shape, qkv, dcontext, group, scratch),
    );
}

/// [`backward`] for one key and value head of one sequence.
fn backward_group(shape: AttentionShape, qkv: &[f32], dcontext: &[f32], group: Group<'_>, scratch: &mut [f32]) {
    let (length, width) = (shape.length, shape.width);
    let Group { sequence, kv_head, dquery, dkey, dvalue } = group;
    let key = shape.key(qkv, sequence, kv_head);
    let value = shape.value(qkv, sequence, kv_head);
    dkey.fill(0.0);
    dvalue.fill(0.0);
    let (probabilities, rest) = scratch.split_at_mut(shape.block_floats());
    let (dprobabilities, dscores) = rest.split_at_mut(shape.block_floats());
    for (member, dquery) in dquery.chunks_exact_mut(length * width).enumerate() {
        let head = kv_head * shape.group() + member;
        let query = shape.head(qkv, sequence, head);
        for (start, end) in shape.blocks() {
            let rows = end - start;
            let probabilities = &mut probabilities[..rows * end];
            let dprobabilities = &mut dprobabilities[..rows * end];
            let dscores = &mut dscores[..rows * end];
            let stride = shape.heads * width;
            let dout = &dcontext[(sequence * length + start) * stride + head * width..];
            let dout = Mat::strided(dout, rows, width, stride);
            let keys = Mat::new(&key[..end * width], end, width);
            let values = Mat::new(&value[..end * width], end, width);

            causal_probabilities(width, query, key, start, end, probabilities);
            gemm_serial(dout, Op::N, values, Op::T, MatMut::new(dprobabilities, rows, end), false);
            for row in 0..rows {
                let seen = row * end..row * end + start + row + 1;
                softmax_backward(
                    &probabilities[seen.clone()],
                    &dprobabilities[seen.clone()],
                    &mut dscores[seen.clone()],
                );
                dscores[seen.end..(row + 1) * end].fill(0.0);
            }
            let probabilities = Mat::new(probabilities, rows, end);
            let dscores = Mat::new(dscores, rows, end);
            let queries = Mat::new(&query[start * width..end * width], rows, width);
            let dvalue = MatMut::new(&mut dvalue[..end * width], end, width);
            gemm_serial(probabilities, Op::T, dout, Op::N, dvalue, true);
            let dquery = MatMut::new(&mut dquery[start * width..end * width], rows, width);
            gemm_serial(dscores, Op::N, keys, Op::N, dquery, false);
            let dkey = MatMut::new(&mut dkey[..end * width], end, width);
            gemm_serial(dscores, Op::T, queries, Op::N, dkey, true);
        }
    }
}

//! Causal attention of grouped queries, forward and backward, over heads laid out one after another.
//!
//! The order of the operations is part of the arithmetic, and the crate's documentation states it. Rows are
//! taken in blocks of [`ROW_BLOCK`]. Threads take whole (sequence, head) pairs, so their number has no
//! influence on the result. The backward pass computes the probabilities again instead of keeping them, since
//! they are the only quadratic buffer.

use rayon::prelude::*;

use crate::elementwise::scale_with;
use crate::i8x2::{self, TokenBuffers};
use crate::isa::Isa;
use crate::matrix::{Mat, MatMut, Op};
use crate::products::{Engine, Products};
use crate::rotary::{Angles, rotary_with};
use crate::softmax::{softmax_backward_row, softmax_row};

/// Query rows that are scored together in `f32/1`. Part of the arithmetic only through the sign of a zero.
pub(crate) const ROW_BLOCK: usize = 64;

impl Products {
    /// Query rows that are scored together. In `i8x2/1` they are one block of the sums over rows.
    fn row_block(self) -> usize {
        match self {
            Products::F32 => ROW_BLOCK,
            Products::I8x2(_) => i8x2::BLOCK,
        }
    }
}

/// The sizes of attention over `[sequences, heads + 2 kv_heads, length, width]`: in each sequence the query
/// heads come first, then the key heads, then the value heads. The number of sequences follows from a buffer's
/// length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Positions of a sequence.
    pub length: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key heads and of value heads. It divides `heads`.
    pub kv_heads: usize,
    /// Elements of a head; even, since the rotary embedding turns pairs.
    pub width: usize,
}

impl AttentionShape {
    /// The factor `1/√width` that queries carry into attention.
    pub fn query_scale(&self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Elements of the queries, keys and values of one sequence.
    pub fn sequence_floats(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_floats()
    }

    /// Checks that `qkv` elements are whole sequences, and that `context` is as long as their queries.
    pub(crate) fn check(&self, qkv: usize, context: usize) {
        let sequence = self.sequence_floats();
        assert!(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads) && sequence > 0,
            "attention of no heads, or of query heads that do not divide: {self:?}"
        );
        let queries = qkv / sequence * self.heads * self.head_floats();
        assert!(
            qkv.is_multiple_of(sequence) && context == queries,
            "attention of {qkv} elements into {context} with {self:?}"
        );
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
    fn blocks(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let length = self.length;
        (0..length).step_by(rows).map(move |start| (start, length.min(start + rows)))
    }

    /// Floats of the largest block of scores.
    fn block_floats(&self, rows: usize) -> usize {
        rows.min(self.length) * self.length
    }
}

/// Turns the queries and keys of every sequence by their positions and then scales the queries; or back, in the
/// opposite order.
pub(crate) fn rotate_heads(isa: Isa, shape: AttentionShape, qkv: &mut [f32], angles: Angles<'_>, backward: bool) {
    let (length, width, scale) = (shape.length, shape.width, shape.query_scale());
    let queries = shape.heads * shape.head_floats();
    let turned = queries + shape.kv_heads * shape.head_floats();
    qkv.par_chunks_mut(shape.sequence_floats()).for_each(|sequence| {
        if backward {
            scale_with(isa, &mut sequence[..queries], scale);
            rotary_with(isa, &mut sequence[..turned], 1, width, angles, 0, length, -1.0);
        } else {
            rotary_with(isa, &mut sequence[..turned], 1, width, angles, 0, length, 1.0);
            scale_with(isa, &mut sequence[..queries], scale);
        }
    });
}

/// `C = op(P)·Y [+ C]` on this thread, a sum over tokens: Y is `[tokens, width]`.
fn over_tokens(engine: Engine, p: Mat, op_p: Op, y: Mat, c: MatMut, accumulate: bool, buffers: &mut TokenBuffers) {
    match engine.products {
        Products::F32 => engine.product(1, (p, op_p), (y, Op::N), c, accumulate),
        Products::I8x2(unit) => i8x2::over_tokens((engine.isa, unit), (p, op_p), y, c, accumulate, buffers),
    }
}

/// `context = softmax(q kᵀ, causal) v`, sequence by sequence and head by head.
pub(crate) fn forward(engine: Engine, shape: AttentionShape, qkv: &[f32], context: &mut [f32]) {
    shape.check(qkv.len(), context.len());
    let row_block = engine.products.row_block();
    context.par_chunks_mut(shape.head_floats()).enumerate().for_each_init(
        || (vec![0.0f32; shape.block_floats(row_block)], TokenBuffers::default()),
        |(scratch, buffers), (index, out)| {
            let (sequence, head) = (index / shape.heads, index % shape.heads);
            let query = shape.head(qkv, sequence, head);
            let key = shape.key(qkv, sequence, head / shape.group());
            let value = shape.value(qkv, sequence, head / shape.group());
            for (start, end) in shape.blocks(row_block) {
                let rows = end - start;
                let probabilities = &mut scratch[..rows * end];
                causal_probabilities(engine, shape.width, query, key, (start, end), probabilities);
                let probabilities = Mat::new(probabilities, rows, end);
                let values = Mat::new(&value[..end * shape.width], end, shape.width);
                let out = MatMut::new(&mut out[start * shape.width..end * shape.width], rows, shape.width);
                over_tokens(engine, probabilities, Op::N, values, out, false, buffers);
            }
        },
    );
}

/// Rows `start..end` of the attention matrix, `[end - start, end]`, zero beyond the diagonal.
fn causal_probabilities(
    engine: Engine,
    width: usize,
    query: &[f32],
    key: &[f32],
    (start, end): (usize, usize),
    out: &mut [f32],
) {
    let rows = end - start;
    let queries = Mat::new(&query[start * width..end * width], rows, width);
    let keys = Mat::new(&key[..end * width], end, width);
    engine.product(1, (queries, Op::N), (keys, Op::T), MatMut::new(out, rows, end), false);
    for (row, scores) in out.chunks_exact_mut(end).enumerate() {
        let (seen, unseen) = scores.split_at_mut(start + row + 1);
        softmax_row(engine.isa, seen);
        unseen.fill(0.0);
    }
}

/// The gradients that one key and value head and its group of query heads receive.
struct Group<'a> {
    sequence: usize,
    kv_head: usize,
    /// Gradient of the group's queries, `[group, length, width]`.
    dquery: &'a mut [f32],
    /// Gradient of the keys, `[length, width]`.
    dkey: &'a mut [f32],
    /// Gradient of the values, `[length, width]`.
    dvalue: &'a mut [f32],
}

/// Gradients of [`forward`]'s `qkv` from those of its context, which lie token by token.
pub(crate) fn backward(engine: Engine, shape: AttentionShape, qkv: &[f32], dcontext: &[f32], dqkv: &mut [f32]) {
    shape.check(qkv.len(), dcontext.len());
    shape.check(dqkv.len(), dcontext.len());
    let head = shape.head_floats();
    let block_floats = shape.block_floats(engine.products.row_block());
    let mut groups = Vec::with_capacity(dcontext.len() / (head * shape.group()));
    for (sequence, gradients) in dqkv.chunks_exact_mut(shape.sequence_floats()).enumerate() {
        let (dqueries, rest) = gradients.split_at_mut(shape.heads * head);
        let (dkeys, dvalues) = rest.split_at_mut(shape.kv_heads * head);
        let dqueries = dqueries.chunks_exact_mut(shape.group() * head);
        let dkeys_dvalues = dkeys.chunks_exact_mut(head).zip(dvalues.chunks_exact_mut(head));
        for (kv_head, (dquery, (dkey, dvalue))) in dqueries.zip(dkeys_dvalues).enumerate() {
            groups.push(Group { sequence, kv_head, dquery, dkey, dvalue });
        }
    }
    groups.into_par_iter().for_each_init(
        || (vec![0.0f32; 3 * block_floats], TokenBuffers::default()),
        |(scratch, buffers), group| backward_group(engine, shape, (qkv, dcontext), group, scratch, buffers),
    );
}

/// [`backward`] for one key and value head of one sequence.
fn backward_group(
    engine: Engine,
    shape: AttentionShape,
    (qkv, dcontext): (&[f32], &[f32]),
    group: Group<'_>,
    scratch: &mut [f32],
    buffers: &mut TokenBuffers,
) {
    let (length, width) = (shape.length, shape.width);
    let Group { sequence, kv_head, dquery, dkey, dvalue } = group;
    let key = shape.key(qkv, sequence, kv_head);
    let value = shape.value(qkv, sequence, kv_head);
    dkey.fill(0.0);
    dvalue.fill(0.0);
    let row_block = engine.products.row_block();
    let (probabilities, rest) = scratch.split_at_mut(shape.block_floats(row_block));
    let (dprobabilities, dscores) = rest.split_at_mut(shape.block_floats(row_block));
    for (member, dquery) in dquery.chunks_exact_mut(length * width).enumerate() {
        let head = kv_head * shape.group() + member;
        let query = shape.head(qkv, sequence, head);
        for (start, end) in shape.blocks(row_block) {
            let rows = end - start;
            let probabilities = &mut probabilities[..rows * end];
            let dprobabilities = &mut dprobabilities[..rows * end];
            let dscores = &mut dscores[..rows * end];
            let stride = shape.heads * width;
            let dout = &dcontext[(sequence * length + start) * stride + head * width..];
            let dout = Mat::strided(dout, rows, width, stride);
            let keys = Mat::new(&key[..end * width], end, width);
            let values = Mat::new(&value[..end * width], end, width);

            causal_probabilities(engine, width, query, key, (start, end), probabilities);
            engine.product(1, (dout, Op::N), (values, Op::T), MatMut::new(dprobabilities, rows, end), false);
            for row in 0..rows {
                let seen = row * end..row * end + start + row + 1;
                softmax_backward_row(
                    engine.isa,
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
            over_tokens(engine, probabilities, Op::T, dout, dvalue, true, buffers);
            let dquery = MatMut::new(&mut dquery[start * width..end * width], rows, width);
            over_tokens(engine, dscores, Op::N, keys, dquery, false, buffers);
            let dkey = MatMut::new(&mut dkey[..end * width], end, width);
            over_tokens(engine, dscores, Op::T, queries, dkey, true, buffers);
        }
    }
}

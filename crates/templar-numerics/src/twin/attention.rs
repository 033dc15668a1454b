//! Causal attention of grouped queries as slow, obvious code: one row at a time, no block of scores.

use super::{dot, fma, scale_in_place, softmax, turn};
use crate::attention::{AttentionShape, ROW_BLOCK};
use crate::head_layout::HeadLayout;
use crate::rotary::Angles;

/// Where row `position` of head `head` of `sequence` begins in a tensor that lies head by head, with `heads` heads.
fn row(shape: AttentionShape, heads: usize, sequence: usize, head: usize, position: usize) -> usize {
    ((sequence * heads + head) * shape.length + position) * shape.width
}

/// Heads in all: queries, keys and values.
fn all_heads(shape: AttentionShape) -> usize {
    shape.heads + 2 * shape.kv_heads
}

/// The chain of [`fma`] over two rows, from +0.
fn chain(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |chain, (a, b)| fma(*a, *b, chain))
}

/// The end of the block of rows that `position` lies in: a row's chains over keys go on to there, with
/// probabilities of +0 beyond the row itself.
fn block_end(shape: AttentionShape, position: usize) -> usize {
    shape.length.min((position / ROW_BLOCK + 1) * ROW_BLOCK)
}

/// Row `position` of the attention matrix of a query head, `[block_end]`; +0 beyond the diagonal.
fn probabilities(shape: AttentionShape, qkv: &[f32], sequence: usize, head: usize, position: usize) -> Vec<f32> {
    let (count, width) = (all_heads(shape), shape.width);
    let query = &qkv[row(shape, count, sequence, head, position)..][..width];
    let key_head = shape.heads + head / (shape.heads / shape.kv_heads);
    let mut p: Vec<f32> =
        (0..=position).map(|c| chain(query, &qkv[row(shape, count, sequence, key_head, c)..][..width])).collect();
    softmax(&mut p);
    p.resize(block_end(shape, position), 0.0);
    p
}

/// `context [sequences, heads, length, width] = softmax(q kᵀ, causal) v`;
/// `qkv [sequences, heads + 2 kv_heads, length, width]` holds rotated and scaled queries, rotated keys, and
/// values.
///
/// # Panics
/// If the lengths do not agree.
pub fn attention(shape: AttentionShape, qkv: &[f32], context: &mut [f32]) {
    shape.check(qkv.len(), context.len());
    let (count, width) = (all_heads(shape), shape.width);
    for sequence in 0..qkv.len() / shape.sequence_floats() {
        for head in 0..shape.heads {
            let value_head = shape.heads + shape.kv_heads + head / (shape.heads / shape.kv_heads);
            for position in 0..shape.length {
                let p = probabilities(shape, qkv, sequence, head, position);
                let out = row(shape, shape.heads, sequence, head, position);
                for e in 0..width {
                    let value = |c: usize| qkv[row(shape, count, sequence, value_head, c) + e];
                    context[out + e] = p.iter().enumerate().fold(0.0, |sum, (c, p)| fma(*p, value(c), sum));
                }
            }
        }
    }
}

/// The gradient of `qkv` from `dcontext [sequences, length, heads, width]`, which lies token by token; `dqkv`
/// is laid out like `qkv` and overwritten.
///
/// # Panics
/// If the lengths do not agree.
pub fn attention_backward(shape: AttentionShape, qkv: &[f32], dcontext: &[f32], dqkv: &mut [f32]) {
    shape.check(qkv.len(), dcontext.len());
    shape.check(dqkv.len(), dcontext.len());
    let (count, width, group) = (all_heads(shape), shape.width, shape.heads / shape.kv_heads);
    dqkv.fill(0.0);
    for sequence in 0..qkv.len() / shape.sequence_floats() {
        // Query heads ascend, so those of a group follow one another in the chains of their key and value head.
        for head in 0..shape.heads {
            let (key_head, value_head) = (shape.heads + head / group, shape.heads + shape.kv_heads + head / group);
            let at = |head: usize, position: usize| row(shape, count, sequence, head, position);
            for position in 0..shape.length {
                let p = probabilities(shape, qkv, sequence, head, position);
                let dout = &dcontext[((sequence * shape.length + position) * shape.heads + head) * width..][..width];
                let dp: Vec<f32> = (0..=position).map(|c| chain(dout, &qkv[at(value_head, c)..][..width])).collect();
                let seen = &p[..=position];
                let d = dot(seen, &dp);
                let mut ds: Vec<f32> = seen.iter().zip(&dp).map(|(p, dp)| p * (dp - d)).collect();
                ds.resize(p.len(), 0.0);
                let query = at(head, position);
                for e in 0..width {
                    let mut dquery = 0.0;
                    for c in 0..p.len() {
                        let (key, value) = (at(key_head, c) + e, at(value_head, c) + e);
                        dquery = fma(ds[c], qkv[key], dquery);
                        dqkv[key] = fma(ds[c], qkv[query + e], dqkv[key]);
                        dqkv[value] = fma(p[c], dout[e], dqkv[value]);
                    }
                    dqkv[query + e] = dquery;
                }
            }
        }
    }
}

/// Turns the queries and keys of every sequence by their positions, from 0, and then multiplies the queries by
/// `1/√width`.
///
/// # Panics
/// If the lengths do not agree or a position has no table.
pub fn rotate_heads(shape: AttentionShape, qkv: &mut [f32], angles: Angles<'_>) {
    for sequence in qkv.chunks_mut(shape.sequence_floats()) {
        let (queries, turned) = ends(shape);
        angles.check(turned, 1, shape.width, 0, shape.length);
        turn(&mut sequence[..turned], 1, shape.width, angles, 0, shape.length, 1.0);
        scale_in_place(&mut sequence[..queries], shape.query_scale());
    }
}

/// The transpose of [`rotate_heads`]: first the factor, then the angle turned back.
///
/// # Panics
/// As [`rotate_heads`].
pub fn rotate_heads_backward(shape: AttentionShape, qkv: &mut [f32], angles: Angles<'_>) {
    for sequence in qkv.chunks_mut(shape.sequence_floats()) {
        let (queries, turned) = ends(shape);
        angles.check(turned, 1, shape.width, 0, shape.length);
        scale_in_place(&mut sequence[..queries], shape.query_scale());
        turn(&mut sequence[..turned], 1, shape.width, angles, 0, shape.length, -1.0);
    }
}

/// Where the queries of a sequence end, and where its keys do.
fn ends(shape: AttentionShape) -> (usize, usize) {
    let head = shape.length * shape.width;
    (shape.heads * head, (shape.heads + shape.kv_heads) * head)
}

/// `by_token [sequences, length, count, width]` to `by_head [sequences, count, length, width]`.
///
/// # Panics
/// If the lengths do not agree.
pub fn split_heads(layout: HeadLayout, by_token: &[f32], by_head: &mut [f32]) {
    layout.check(by_token.len(), by_head.len());
    for (index, element) in by_token.iter().enumerate() {
        by_head[place_by_head(layout, index)] = *element;
    }
}

/// `by_head [sequences, count, length, width]` to `by_token [sequences, length, count, width]`.
///
/// # Panics
/// If the lengths do not agree.
pub fn merge_heads(layout: HeadLayout, by_head: &[f32], by_token: &mut [f32]) {
    layout.check(by_head.len(), by_token.len());
    for (index, element) in by_token.iter_mut().enumerate() {
        *element = by_head[place_by_head(layout, index)];
    }
}

/// Where element `index` of the layout by token lies in the layout by head.
fn place_by_head(layout: HeadLayout, index: usize) -> usize {
    let HeadLayout { length, count, width } = layout;
    let (element, rest) = (index % width, index / width);
    let (head, token) = (rest % count, rest / count);
    let (position, sequence) = (token % length, token / length);
    ((sequence * count + head) * length + position) * width + element
}

//! The forward pass: from token ids to the normed residual stream, `[rows, hidden]`, that the head reads.
//!
//! Reads like the paper: `x += attention(norm(x))`, `x += feed_forward(norm(x))`, layer by layer. Residual additions come
//! after the product they add (`product + x`), never as the start of its chain.

use rayon::prelude::*;
use templar_numerics::{RotaryTables, add_in_place, rms_norm, rotary, scale_in_place, swiglu};

use crate::activations::{Activations, BatchShape, LayerActivations};
use crate::attention::{self, AttentionShape};
use crate::layout::{LayerRanges, Layout};
use crate::{heads, linear};

/// The factor `1/√width` that queries carry into attention.
pub(crate) fn query_scale(layout: &Layout) -> f32 {
    1.0 / (layout.head_width as f32).sqrt()
}

/// Computes everything up to and including `activations.normed`; `inputs [rows]` are ids below the vocabulary.
pub(crate) fn run(
    layout: &Layout,
    tables: &RotaryTables,
    params: &[f32],
    inputs: &[u32],
    shape: BatchShape,
    activations: &mut Activations,
) {
    activations.resize(layout, shape);
    let Activations { embedded, layers, normed, inv_rms, qkv_by_token, context_by_head, .. } = activations;

    let embedding = &params[layout.embedding.clone()];
    for (row, &token) in embedded.chunks_exact_mut(layout.hidden).zip(inputs) {
        let start = token as usize * layout.hidden;
        row.copy_from_slice(&embedding[start..start + layout.hidden]);
    }
    let mut stream: &[f32] = embedded;
    for (ranges, layer) in layout.layers.iter().zip(layers.iter_mut()) {
        attend(layout, tables, params, ranges, stream, shape, layer, qkv_by_token, context_by_head);
        feed_forward(layout, params, ranges, shape, layer);
        stream = &layer.output;
    }
    rms_norm(stream, &params[layout.final_norm.clone()], layout.norm_eps, normed, inv_rms);
}

/// `middle = attention(norm(stream)) + stream`.
#[expect(clippy::too_many_arguments, reason = "the buffers of one layer, named")]
fn attend(
    layout: &Layout,
    tables: &RotaryTables,
    params: &[f32],
    ranges: &LayerRanges,
    stream: &[f32],
    shape: BatchShape,
    layer: &mut LayerActivations,
    qkv_by_token: &mut [f32],
    context_by_head: &mut [f32],
) {
    let (rows, length, width) = (shape.rows(), shape.length, layout.head_width);
    let weight = &params[ranges.attention_norm.clone()];
    rms_norm(stream, weight, layout.norm_eps, &mut layer.attention_input, &mut layer.attention_inv_rms);
    linear::forward(&layer.attention_input, &params[ranges.qkv.clone()], qkv_by_token, rows);
    heads::split(qkv_by_token, &mut layer.qkv, length, layout.heads + 2 * layout.kv_heads, width);

    let scale = query_scale(layout);
    layer.qkv.par_chunks_mut(layout.qkv_width() * length).for_each(|sequence| {
        let queries = layout.heads * length * width;
        let turned = queries + layout.kv_heads * length * width;
        rotary(&mut sequence[..turned], 1, width, tables, 0, length);
        scale_in_place(&mut sequence[..queries], scale);
    });

    attention::forward(AttentionShape::new(layout, length), &layer.qkv, context_by_head);
    heads::merge(context_by_head, &mut layer.context, length, layout.heads, width);
    linear::forward(&layer.context, &params[ranges.attention_out.clone()], &mut layer.middle, rows);
    add_in_place(&mut layer.middle, stream);
}

/// `output = feed_forward(norm(middle)) + middle`.
fn feed_forward(
    layout: &Layout,
    params: &[f32],
    ranges: &LayerRanges,
    shape: BatchShape,
    layer: &mut LayerActivations,
) {
    let rows = shape.rows();
    let weight = &params[ranges.ffn_norm.clone()];
    rms_norm(&layer.middle, weight, layout.norm_eps, &mut layer.ffn_input, &mut layer.ffn_inv_rms);
    linear::forward(&layer.ffn_input, &params[ranges.gate.clone()], &mut layer.gate, rows);
    linear::forward(&layer.ffn_input, &params[ranges.up.clone()], &mut layer.up, rows);
    swiglu(&layer.gate, &layer.up, &mut layer.gated);
    linear::forward(&layer.gated, &params[ranges.down.clone()], &mut layer.output, rows);
    add_in_place(&mut layer.output, &layer.middle);
}

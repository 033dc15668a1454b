//! The forward pass: from token ids to the normed residual stream, `[rows, hidden]`, that the head reads.
//!
//! Reads like the paper: `x += attention(norm(x))`, `x += feed_forward(norm(x))`, layer by layer. Residual additions come
//! after the product they add (`product + x`), never as the start of its chain.

use rayon::prelude::*;
use templar_numerics::{RotaryTables, add_in_place, rms_norm, rotary, scale_in_place, swiglu};

use crate::activations::{Activations, BatchShape, Keep, LayerActivations, Workspace};
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
    keep: Keep,
    activations: &mut Activations,
) {
    activations.resize(layout, shape, keep);
    let Activations { streams, layers, normed, inv_rms, workspace, .. } = activations;
    let streams = &mut streams[..keep.streams(layout.layers.len())];
    let layers = &mut layers[..keep.layers(layout.layers.len())];

    let embedding = &params[layout.embedding.clone()];
    for (row, &token) in streams[0].chunks_exact_mut(layout.hidden).zip(inputs) {
        let start = token as usize * layout.hidden;
        row.copy_from_slice(&embedding[start..start + layout.hidden]);
    }
    let count = streams.len();
    for (index, ranges) in layout.layers.iter().enumerate() {
        let [stream, output] = streams
            .get_disjoint_mut([index % count, (index + 1) % count])
            .expect("there are two streams or more, so neighbours differ");
        let layer = &mut layers[index % layers.len()];
        attend(layout, tables, params, ranges, stream, shape, layer, workspace);
        gate(layout, params, ranges, shape, layer, workspace);
        swiglu(&layer.gate, &layer.up, &mut workspace.gated);
        linear::forward(&workspace.gated, &params[ranges.down.clone()], output, shape.rows());
        add_in_place(output, &layer.middle);
    }
    let last = &streams[layout.layers.len() % count];
    rms_norm(last, &params[layout.final_norm.clone()], layout.norm_eps, normed, inv_rms);
}

/// `middle = attention(norm(stream)) + stream`.
#[expect(clippy::too_many_arguments, reason = "the buffers of one layer, named")]
pub(crate) fn attend(
    layout: &Layout,
    tables: &RotaryTables,
    params: &[f32],
    ranges: &LayerRanges,
    stream: &[f32],
    shape: BatchShape,
    layer: &mut LayerActivations,
    workspace: &mut Workspace,
) {
    let Workspace { normed, qkv_by_token, context_by_head, .. } = workspace;
    let (rows, length, width) = (shape.rows(), shape.length, layout.head_width);
    let weight = &params[ranges.attention_norm.clone()];
    rms_norm(stream, weight, layout.norm_eps, normed, &mut layer.attention_inv_rms);
    linear::forward(normed, &params[ranges.qkv.clone()], qkv_by_token, rows);
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

/// `gate` and `up`, the projections of `norm(middle)`. The layer's output is `down(silu(gate) · up) + middle`.
pub(crate) fn gate(
    layout: &Layout,
    params: &[f32],
    ranges: &LayerRanges,
    shape: BatchShape,
    layer: &mut LayerActivations,
    workspace: &mut Workspace,
) {
    let (rows, normed) = (shape.rows(), &mut workspace.normed);
    let weight = &params[ranges.ffn_norm.clone()];
    rms_norm(&layer.middle, weight, layout.norm_eps, normed, &mut layer.ffn_inv_rms);
    linear::forward(normed, &params[ranges.gate.clone()], &mut layer.gate, rows);
    linear::forward(normed, &params[ranges.up.clone()], &mut layer.up, rows);
}

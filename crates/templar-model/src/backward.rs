//! The backward pass: from the gradient of the normed residual stream to that of every parameter.
//!
//! Layers descend; within a layer the order is that of the code below, each weight's gradient taking up the rows in
//! ascending order on top of what the flat gradient holds. The embedding comes last, rows in token order, so with tied
//! embeddings its gradient is the head's followed by the tokens'.
//!
//! What was not kept is computed again by the functions of the forward pass on the same values, so to the same bits: the
//! outputs of norms and gates always, and where only the layers' inputs were kept, all of a layer but its output.

use rayon::prelude::*;
use templar_numerics::{
    RotaryTables, add_in_place, rms_norm, rms_norm_backward, rotary_backward, scale_in_place, swiglu, swiglu_backward,
};

use crate::activations::{Activations, BatchShape, Gradients, Keep, LayerActivations, Workspace};
use crate::attention::{self, AttentionShape};
use crate::forward::{self, query_scale};
use crate::layout::{LayerRanges, Layout};
use crate::{heads, linear};

/// Adds to `grad` what follows from `gradients.normed`, the gradient of the final norm's output.
pub(crate) fn run(
    layout: &Layout,
    tables: &RotaryTables,
    params: &[f32],
    inputs: &[u32],
    activations: &mut Activations,
    gradients: &mut Gradients,
    grad: &mut [f32],
) {
    let (shape, keep) = (activations.shape, activations.keep);
    let Activations { streams, layers, inv_rms, workspace, .. } = activations;
    let kept = keep.layers(layout.layers.len());
    gradients.residual.fill(0.0);
    rms_norm_backward(
        &streams[layout.layers.len()],
        &params[layout.final_norm.clone()],
        inv_rms,
        &gradients.normed,
        &mut gradients.residual,
        &mut grad[layout.final_norm.clone()],
    );
    for (index, ranges) in layout.layers.iter().enumerate().rev() {
        let (stream, layer) = (&streams[index], &mut layers[index % kept]);
        if keep == Keep::Inputs {
            forward::attend(layout, tables, params, ranges, stream, shape, layer, workspace);
            forward::gate(layout, params, ranges, shape, layer, workspace);
        }
        feed_forward(layout, params, ranges, shape, layer, workspace, gradients, grad);
        attend(layout, tables, params, ranges, stream, shape, layer, workspace, gradients, grad);
    }
    let embedding = &mut grad[layout.embedding.clone()];
    for (row, &token) in gradients.residual.chunks_exact(layout.hidden).zip(inputs) {
        let start = token as usize * layout.hidden;
        add_in_place(&mut embedding[start..start + layout.hidden], row);
    }
}

/// Back through `output = feed_forward(norm(middle)) + middle`; the residual's gradient becomes that of `middle`.
#[expect(clippy::too_many_arguments, reason = "the buffers of one layer, named")]
fn feed_forward(
    layout: &Layout,
    params: &[f32],
    ranges: &LayerRanges,
    shape: BatchShape,
    layer: &mut LayerActivations,
    workspace: &mut Workspace,
    gradients: &mut Gradients,
    grad: &mut [f32],
) {
    let rows = shape.rows();
    let Workspace { normed: ffn_input, gated: layer_gated, .. } = workspace;
    let Gradients { residual, normed, gated, gate, up, .. } = gradients;
    let weight = &params[ranges.ffn_norm.clone()];
    rms_norm(&layer.middle, weight, layout.norm_eps, ffn_input, &mut layer.ffn_inv_rms);
    swiglu(&layer.gate, &layer.up, layer_gated);

    linear::backward_input(residual, &params[ranges.down.clone()], gated, rows, false);
    linear::backward_weight(residual, layer_gated, &mut grad[ranges.down.clone()], rows);
    swiglu_backward(&layer.gate, &layer.up, gated, gate, up);
    linear::backward_weight(gate, ffn_input, &mut grad[ranges.gate.clone()], rows);
    linear::backward_weight(up, ffn_input, &mut grad[ranges.up.clone()], rows);
    linear::backward_input(gate, &params[ranges.gate.clone()], normed, rows, false);
    linear::backward_input(up, &params[ranges.up.clone()], normed, rows, true);
    rms_norm_backward(&layer.middle, weight, &layer.ffn_inv_rms, normed, residual, &mut grad[ranges.ffn_norm.clone()]);
}

/// Back through `middle = attention(norm(stream)) + stream`; the residual's gradient becomes that of `stream`.
#[expect(clippy::too_many_arguments, reason = "the buffers of one layer, named")]
fn attend(
    layout: &Layout,
    tables: &RotaryTables,
    params: &[f32],
    ranges: &LayerRanges,
    stream: &[f32],
    shape: BatchShape,
    layer: &mut LayerActivations,
    workspace: &mut Workspace,
    gradients: &mut Gradients,
    grad: &mut [f32],
) {
    let (rows, length, width) = (shape.rows(), shape.length, layout.head_width);
    let Workspace { normed: attention_input, qkv_by_token, .. } = workspace;
    let Gradients { residual, normed, context, qkv, .. } = gradients;
    let weight = &params[ranges.attention_norm.clone()];
    rms_norm(stream, weight, layout.norm_eps, attention_input, &mut layer.attention_inv_rms);

    linear::backward_input(residual, &params[ranges.attention_out.clone()], context, rows, false);
    linear::backward_weight(residual, &layer.context, &mut grad[ranges.attention_out.clone()], rows);
    attention::backward(AttentionShape::new(layout, length), &layer.qkv, context, qkv);

    let scale = query_scale(layout);
    qkv.par_chunks_mut(layout.qkv_width() * length).for_each(|sequence| {
        let queries = layout.heads * length * width;
        let turned = queries + layout.kv_heads * length * width;
        scale_in_place(&mut sequence[..queries], scale);
        rotary_backward(&mut sequence[..turned], 1, width, tables, 0, length);
    });

    heads::merge(qkv, qkv_by_token, length, layout.heads + 2 * layout.kv_heads, width);
    linear::backward_weight(qkv_by_token, attention_input, &mut grad[ranges.qkv.clone()], rows);
    linear::backward_input(qkv_by_token, &params[ranges.qkv.clone()], normed, rows, false);
    rms_norm_backward(
        stream,
        weight,
        &layer.attention_inv_rms,
        normed,
        residual,
        &mut grad[ranges.attention_norm.clone()],
    );
}

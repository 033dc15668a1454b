//! The backward pass: from the gradient of the normed residual stream to that of every parameter.
//!
//! Layers descend; within a layer the order is that of the code below, each weight's gradient taking up the
//! rows of the micro-batch in ascending order from +0. The embedding comes last, rows in token order, so with
//! tied embeddings its gradient is the output head's followed by the tokens'.
//!
//! Activations that were not kept are computed again, by the functions of the forward pass on the same values,
//! so with the same bits. The outputs of norms and gates are always computed again; where only the layers'
//! inputs were kept, so is all of a layer but its output.

use templar_device::{AttentionGradient, Buffer, NormGradient, View};

use crate::activations::{Activations, Gradients, Keep, LayerActivations, Workspace};
use crate::forward::{self, gate_inputs};
use crate::gradient::StepGradient;
use crate::layout::LayerRanges;
use crate::linear::{self, Sum};
use crate::pass::ModelPass;

/// The buffers that every layer's backward pass writes.
struct Written<'a, 'g> {
    workspace: &'a mut Workspace,
    gradients: &'a mut Gradients,
    /// The gradient of the parameters.
    flat: StepGradient<'g>,
}

/// Gives to `flat` what follows from `gradients.normed`, the gradient of the final norm's output.
pub(crate) fn run(
    pass: ModelPass<'_>,
    inputs: View<'_, u32>,
    activations: &mut Activations,
    gradients: &mut Gradients,
    mut flat: StepGradient<'_>,
) {
    let (ModelPass { device, layout, .. }, keep) = (pass, activations.keep);
    let Activations { streams, layers, inv_rms, workspace, .. } = activations;
    let kept = keep.layers(layout.layers.len());
    device.fill(gradients.residual.all_mut(), 0.0);
    let gradient = NormGradient {
        inputs: pass.norm(&streams[layout.layers.len()], &layout.final_norm),
        inv_rms: inv_rms.all(),
        dy: gradients.normed.all(),
    };
    let residual = &mut gradients.residual;
    flat.gather(&layout.final_norm, |dweight| device.rms_norm_backward(gradient, residual.all_mut(), dweight));
    let mut written = Written { workspace, gradients, flat };
    for (index, ranges) in layout.layers.iter().enumerate().rev() {
        let (stream, layer) = (&streams[index], &mut layers[index % kept]);
        if keep == Keep::Inputs {
            forward::attend(pass, ranges, stream, layer, written.workspace);
            forward::gate(pass, ranges, layer, written.workspace);
        }
        feed_forward(pass, ranges, layer, &mut written);
        attend(pass, ranges, stream, layer, &mut written);
    }
    let Written { gradients, mut flat, .. } = written;
    let is_tied = layout.output == layout.embedding;
    if !is_tied {
        device.fill(flat.vocabulary(&layout.embedding), 0.0);
    }
    device.embedding_backward(gradients.residual.all(), inputs, flat.vocabulary(&layout.embedding));
    flat.add_vocabulary(&layout.embedding);
}

/// Back through `output = feed_forward(norm(middle)) + middle`; the residual's gradient becomes that of `middle`.
fn feed_forward(
    pass: ModelPass<'_>,
    ranges: &LayerRanges,
    layer: &mut LayerActivations,
    written: &mut Written<'_, '_>,
) {
    let ModelPass { device, layout, .. } = pass;
    let Written { workspace, gradients, flat } = written;
    let Workspace { normed: ffn_input, gated: layer_gated, .. } = &mut **workspace;
    let Gradients { residual, normed, gated, gate, up, .. } = &mut **gradients;
    // The outputs of the norm and of the gate were not kept.
    let norm = pass.norm(&layer.middle, &ranges.ffn_norm);
    device.rms_norm(norm.clone(), layout.norm_eps, ffn_input.all_mut(), layer.ffn_inv_rms.all_mut());
    device.swiglu(gate_inputs(layer), layer_gated.all_mut());

    let dy = pass.matrix(residual);
    linear::backward_input(device, dy.clone(), pass.weight(&ranges.down), gated.all_mut(), Sum::Begins);
    flat.write(&ranges.down, |dw| linear::backward_weight(device, dy, layer_gated.all(), dw, Sum::Begins));
    device.swiglu_backward(gate_inputs(layer), gated.all(), gate.all_mut(), up.all_mut());
    let (gate, up) = (pass.matrix(gate), pass.matrix(up));
    for (place, dy) in [(&ranges.gate, &gate), (&ranges.up, &up)] {
        flat.write(place, |dw| linear::backward_weight(device, dy.clone(), ffn_input.all(), dw, Sum::Begins));
    }
    linear::backward_input(device, gate, pass.weight(&ranges.gate), normed.all_mut(), Sum::Begins);
    linear::backward_input(device, up, pass.weight(&ranges.up), normed.all_mut(), Sum::GoesOn);
    let gradient = NormGradient { inputs: norm, inv_rms: layer.ffn_inv_rms.all(), dy: normed.all() };
    flat.gather(&ranges.ffn_norm, |dweight| device.rms_norm_backward(gradient, residual.all_mut(), dweight));
}

/// Back through `middle = attention(norm(stream)) + stream`; the residual's gradient becomes that of `stream`.
fn attend(
    pass: ModelPass<'_>,
    ranges: &LayerRanges,
    stream: &Buffer,
    layer: &mut LayerActivations,
    written: &mut Written<'_, '_>,
) {
    let ModelPass { device, layout, .. } = pass;
    let Written { workspace, gradients, flat } = written;
    let Workspace { normed: attention_input, qkv_by_token, .. } = &mut **workspace;
    let Gradients { residual, normed, context, qkv, .. } = &mut **gradients;
    let norm = pass.norm(stream, &ranges.attention_norm);
    device.rms_norm(norm.clone(), layout.norm_eps, attention_input.all_mut(), layer.attention_inv_rms.all_mut());

    let dy = pass.matrix(residual);
    linear::backward_input(device, dy.clone(), pass.weight(&ranges.attention_out), context.all_mut(), Sum::Begins);
    let context_input = layer.context.all();
    flat.write(&ranges.attention_out, |dw| linear::backward_weight(device, dy, context_input, dw, Sum::Begins));
    let gradient = AttentionGradient { qkv: layer.qkv.all(), dcontext: context.all(), dqkv: qkv.all_mut() };
    device.attention_backward(pass.attention(), gradient, layer.attention_statistics.all_mut());
    device.rotary_backward(pass.attention(), qkv.all_mut(), pass.tables);

    device.merge_heads(pass.qkv_layout(), qkv.all(), qkv_by_token.all_mut());
    let dqkv = pass.matrix(qkv_by_token);
    let (dy, x) = (dqkv.clone(), attention_input.all());
    flat.write(&ranges.qkv, |dw| linear::backward_weight(device, dy, x, dw, Sum::Begins));
    linear::backward_input(device, dqkv, pass.weight(&ranges.qkv), normed.all_mut(), Sum::Begins);
    let gradient = NormGradient { inputs: norm, inv_rms: layer.attention_inv_rms.all(), dy: normed.all() };
    flat.gather(&ranges.attention_norm, |dweight| device.rms_norm_backward(gradient, residual.all_mut(), dweight));
}

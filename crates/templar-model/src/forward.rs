//! The forward pass: from token ids to the normed residual stream, `[rows, hidden]`, that the output head reads.
//!
//! Reads like the paper: `x += attention(norm(x))`, `x += feed_forward(norm(x))`, layer by layer. Residual
//! additions come after the product they add (`product + x`), never as the start of its chain.

use templar_device::{Buffer, DeviceError, GateInputs, View};

use crate::activations::{Activations, Keep, LayerActivations, Workspace};
use crate::layout::LayerRanges;
use crate::linear;
use crate::pass::ModelPass;

/// Computes everything up to and including `activations.normed`; `inputs [rows]` are ids below the vocabulary.
///
/// # Errors
/// The device has no memory for the activations.
pub(crate) fn run(
    pass: ModelPass<'_>,
    inputs: View<'_, u32>,
    keep: Keep,
    activations: &mut Activations,
) -> Result<(), DeviceError> {
    let ModelPass { device, layout, .. } = pass;
    activations.resize(device, layout, pass.shape, keep)?;
    let Activations { streams, layers, normed, inv_rms, workspace, .. } = activations;
    let streams = &mut streams[..keep.streams(layout.layers.len())];
    let layers = &mut layers[..keep.layers(layout.layers.len())];

    device.embedding(pass.weight(&layout.embedding), inputs, streams[0].all_mut());
    let count = streams.len();
    for (index, ranges) in layout.layers.iter().enumerate() {
        let [stream, output] = streams
            .get_disjoint_mut([index % count, (index + 1) % count])
            .expect("there are two streams or more, so neighbours differ");
        let layer = &mut layers[index % layers.len()];
        attend(pass, ranges, stream, layer, workspace);
        gate(pass, ranges, layer, workspace);
        device.swiglu(gate_inputs(layer), workspace.gated.all_mut());
        linear::forward(device, workspace.gated.all(), pass.weight(&ranges.down), output.all_mut(), pass.rows());
        device.add(output.all_mut(), layer.middle.all());
    }
    let last = &streams[layout.layers.len() % count];
    device.rms_norm(pass.norm(last, &layout.final_norm), layout.norm_eps, normed.all_mut(), inv_rms.all_mut());
    Ok(())
}

/// `middle = attention(norm(stream)) + stream`.
pub(crate) fn attend(
    pass: ModelPass<'_>,
    ranges: &LayerRanges,
    stream: &Buffer,
    layer: &mut LayerActivations,
    workspace: &mut Workspace,
) {
    let ModelPass { device, layout, .. } = pass;
    let Workspace { normed, qkv_by_token, context_by_head, .. } = workspace;
    let LayerActivations { attention_inv_rms, qkv, attention_statistics, context, middle, .. } = layer;
    let inputs = pass.norm(stream, &ranges.attention_norm);
    device.rms_norm(inputs, layout.norm_eps, normed.all_mut(), attention_inv_rms.all_mut());
    linear::forward(device, normed.all(), pass.weight(&ranges.qkv), qkv_by_token.all_mut(), pass.rows());
    device.split_heads(pass.qkv_layout(), qkv_by_token.all(), qkv.all_mut());
    device.rotary(pass.attention(), qkv.all_mut(), pass.tables);

    let statistics = attention_statistics.all_mut();
    device.attention(pass.attention(), qkv.all(), context_by_head.all_mut(), statistics);
    device.merge_heads(pass.context_layout(), context_by_head.all(), context.all_mut());
    linear::forward(device, context.all(), pass.weight(&ranges.attention_out), middle.all_mut(), pass.rows());
    device.add(middle.all_mut(), stream.all());
}

/// `gate` and `up`, the projections of `norm(middle)`. The layer's output is `down(silu(gate) · up) + middle`.
pub(crate) fn gate(pass: ModelPass<'_>, ranges: &LayerRanges, layer: &mut LayerActivations, workspace: &mut Workspace) {
    let (ModelPass { device, layout, .. }, normed) = (pass, &mut workspace.normed);
    let inputs = pass.norm(&layer.middle, &ranges.ffn_norm);
    device.rms_norm(inputs, layout.norm_eps, normed.all_mut(), layer.ffn_inv_rms.all_mut());
    linear::forward(device, normed.all(), pass.weight(&ranges.gate), layer.gate.all_mut(), pass.rows());
    linear::forward(device, normed.all(), pass.weight(&ranges.up), layer.up.all_mut(), pass.rows());
}

/// The inputs of a layer's gated activation.
pub(crate) fn gate_inputs(layer: &LayerActivations) -> GateInputs<'_> {
    GateInputs { gate: layer.gate.all(), up: layer.up.all() }
}

//! The forward pass of texts that begin alike: their common beginning is computed once, and each text only after it.
//!
//! Every operation but attention computes a row by itself, so the rows of the beginning need not be there. Attention is
//! the same operation as ever, over whole texts, of which the rows of the beginning are left out: its keys and values
//! are kept from its own pass.

use templar_device::{Buffer, Device, DeviceError, View, ViewMut};

use crate::activations::{Activations, BatchShape, Beginning, Keep, LayerActivations, Workspace};
use crate::pass::ModelPass;
use crate::{forward, linear};

/// Computes the texts that follow `before`, from their own tokens `inputs [rows]` up to and including
/// `activations.normed`, with the bits that [`forward::run`] gives these rows of the whole texts. `kept` gets queries,
/// keys and values of each layer.
///
/// Only attention sees whole texts: it reads the keys and values of `before`, which every text has in common, and what
/// is the texts' own.
///
/// # Errors
/// The device has no memory for the activations.
pub(crate) fn run(
    pass: ModelPass<'_>,
    before: &Beginning,
    inputs: View<'_, u32>,
    activations: &mut Activations,
    mut kept: Option<&mut Vec<Buffer>>,
) -> Result<(), DeviceError> {
    let ModelPass { device, layout, shape, .. } = pass;
    activations.resize(device, layout, shape, Keep::Nothing)?;
    let mut whole = WholeTexts::new(pass, before.length, activations)?;
    let Activations { streams, layers, normed, inv_rms, workspace, .. } = activations;
    let layer = &mut layers[0];
    device.embedding(pass.weight(&layout.embedding), inputs, streams[0].all_mut());
    for (index, ranges) in layout.layers.iter().enumerate() {
        let [stream, output] = streams
            .get_disjoint_mut([index % 2, (index + 1) % 2])
            .expect("there are two streams, so neighbours differ");
        let inputs = pass.norm(stream, &ranges.attention_norm);
        device.rms_norm(inputs, layout.norm_eps, workspace.normed.all_mut(), layer.attention_inv_rms.all_mut());
        let weight = pass.weight(&ranges.qkv);
        linear::forward(device, workspace.normed.all(), weight, whole.own.all_mut(), pass.rows());
        if let Some(kept) = &mut kept {
            let mut copy = device.zeros(whole.own.len())?;
            whole.copy(device, whole.own.all(), copy.all_mut(), shape.length);
            kept.push(copy);
        }
        whole.attend(pass, before.layers.get(index), layer, workspace);
        linear::forward(
            device,
            layer.context.all(),
            pass.weight(&ranges.attention_out),
            layer.middle.all_mut(),
            pass.rows(),
        );
        device.add(layer.middle.all_mut(), stream.all());
        forward::gate(pass, ranges, layer, workspace);
        device.swiglu(forward::gate_inputs(layer), workspace.gated.all_mut());
        linear::forward(device, workspace.gated.all(), pass.weight(&ranges.down), output.all_mut(), pass.rows());
        device.add(output.all_mut(), layer.middle.all());
    }
    let last = &streams[layout.layers.len() % 2];
    device.rms_norm(pass.norm(last, &layout.final_norm), layout.norm_eps, normed.all_mut(), inv_rms.all_mut());
    Ok(())
}

/// The rooms in which texts and their common beginning come together for attention.
struct WholeTexts {
    /// Tokens of the beginning.
    before: u64,
    /// The shape of whole texts.
    shape: BatchShape,
    /// The numbers from 0 on, by which rows are copied.
    numbers: Buffer<u32>,
    /// Queries, keys and values of the texts' own tokens, `[rows, qkv_width]`.
    own: Buffer,
    /// The context of whole texts token by token, `[whole rows, query_width]`.
    context: Buffer,
}

impl WholeTexts {
    /// Makes the rooms, and those of the activations that hold whole texts.
    fn new(pass: ModelPass<'_>, before: usize, activations: &mut Activations) -> Result<Self, DeviceError> {
        let ModelPass { device, layout, shape, .. } = pass;
        let whole = ModelPass { shape: BatchShape { length: before + shape.length, ..shape }, ..pass };
        let widths = [layout.qkv_width(), layout.query_width()].map(|width| whole.rows() * width as u64);
        let statistics = device.attention_statistics(whole.attention(), shape.sequences as u64);
        let layer = &mut activations.layers[0];
        device.resize(&mut activations.workspace.qkv_by_token, widths[0])?;
        device.resize(&mut layer.qkv, widths[0])?;
        device.resize(&mut activations.workspace.context_by_head, widths[1])?;
        device.resize(&mut layer.attention_statistics, statistics)?;
        let mut numbers = Buffer::default();
        device.upload_ids(&(0..before.max(shape.length) as u32).collect::<Vec<u32>>(), &mut numbers)?;
        let own = device.zeros(shape.rows() * layout.qkv_width() as u64)?;
        Ok(Self { before: before as u64, shape: whole.shape, numbers, own, context: device.zeros(widths[1])? })
    }

    /// Copies the first `rows` rows of one buffer into another.
    fn copy(&self, device: &dyn Device, from: View<'_>, to: ViewMut<'_>, rows: usize) {
        device.embedding(from, self.numbers.view(0..rows as u64), to);
    }

    /// Attention over whole texts. What it finds for the texts' own tokens goes to `layer.context`.
    fn attend(
        &mut self,
        pass: ModelPass<'_>,
        before: Option<&Buffer>,
        layer: &mut LayerActivations,
        workspace: &mut Workspace,
    ) {
        let ModelPass { device, layout, shape, .. } = pass;
        let whole = ModelPass { shape: self.shape, ..pass };
        let (own, all) = (shape.length as u64, self.shape.length as u64);
        let width = layout.qkv_width() as u64;
        for text in 0..shape.sequences as u64 {
            let (start, after) = (text * all * width, (text * all + self.before) * width);
            if let Some(before) = before {
                let to = workspace.qkv_by_token.view_mut(start..after);
                self.copy(device, before.all(), to, self.before as usize);
            }
            let from = self.own.view(text * own * width..(text + 1) * own * width);
            let to = workspace.qkv_by_token.view_mut(after..(text + 1) * all * width);
            self.copy(device, from, to, shape.length);
        }
        device.split_heads(whole.qkv_layout(), workspace.qkv_by_token.all(), layer.qkv.all_mut());
        device.rotary(whole.attention(), layer.qkv.all_mut(), pass.tables);
        let statistics = layer.attention_statistics.all_mut();
        let context = workspace.context_by_head.all_mut();
        device.attention_from(whole.attention(), self.before, layer.qkv.all(), context, statistics);
        device.merge_heads(whole.context_layout(), workspace.context_by_head.all(), self.context.all_mut());
        let width = layout.query_width() as u64;
        for text in 0..shape.sequences as u64 {
            let from = self.context.view((text * all + self.before) * width..(text + 1) * all * width);
            let to = layer.context.view_mut(text * own * width..(text + 1) * own * width);
            self.copy(device, from, to, shape.length);
        }
    }
}

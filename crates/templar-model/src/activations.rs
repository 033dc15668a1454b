//! The buffers that one micro-batch passes through, allocated once and reused.
//!
//! The backward pass reads activations of every layer. They are kept, or only each layer's input is kept and
//! the rest is computed a second time. Everything else is one workspace that the layers share. Sizes follow the
//! micro-batch: a buffer in use is exactly as long as the current micro-batch needs, so an operation on a whole
//! buffer sees whole rows.

use templar_device::{AttentionShape, Buffer, Device, DeviceError};

use crate::layout::Layout;

/// How many sequences of how many positions are being computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BatchShape {
    pub(crate) sequences: usize,
    pub(crate) length: usize,
}

impl BatchShape {
    /// Token positions in all: the rows of every activation.
    pub(crate) fn rows(&self) -> u64 {
        self.sequences as u64 * self.length as u64
    }
}

/// The activations that a forward pass keeps for a backward pass. The choice does not change any result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Keep {
    /// Every layer's input and [`LayerActivations`].
    Everything,
    /// Every layer's input; the backward pass computes the layer again.
    Inputs,
    /// Nothing: there is no backward pass.
    #[default]
    Nothing,
}

impl Keep {
    /// How many residual streams a forward pass through `layers` layers takes: stream `i` modulo this is the input of
    /// layer `i`, and the output of the one before it.
    pub(crate) fn streams(self, layers: usize) -> usize {
        if self == Self::Nothing { 2 } else { layers + 1 }
    }

    /// How many [`LayerActivations`] it takes: layer `i` has number `i` modulo this.
    pub(crate) fn layers(self, layers: usize) -> usize {
        if self == Self::Everything { layers } else { 1 }
    }
}

/// The activations of one layer that its backward pass reads. Outputs of norms and of the gate are not kept:
/// one pass over these buffers gives them again, which costs less than the memory to keep them.
#[derive(Debug, Default)]
pub(crate) struct LayerActivations {
    /// Inverse root mean square of the layer's input, `[rows]`.
    pub(crate) attention_inv_rms: Buffer,
    /// Rotated, scaled queries, rotated keys, values: `[sequences, heads + 2 kv_heads, length, width]`.
    pub(crate) qkv: Buffer,
    /// Statistics that attention keeps for its backward pass; empty on a CPU.
    pub(crate) attention_statistics: Buffer,
    /// The context that attention computed, token by token, `[rows, query_width]`.
    pub(crate) context: Buffer,
    /// The residual stream after attention, `[rows, hidden]`.
    pub(crate) middle: Buffer,
    /// Inverse root mean square of `middle`, `[rows]`.
    pub(crate) ffn_inv_rms: Buffer,
    /// The gate of the feed-forward before its sigmoid, `[rows, ffn]`.
    pub(crate) gate: Buffer,
    /// The values that the gate multiplies, `[rows, ffn]`.
    pub(crate) up: Buffer,
}

/// Buffers that every layer uses in turn.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// The output of a norm, which goes into a projection, `[rows, hidden]`.
    pub(crate) normed: Buffer,
    /// `silu(gate) · up`, `[rows, ffn]`.
    pub(crate) gated: Buffer,
    /// Queries, keys and values token by token, or their gradients, `[rows, qkv_width]`.
    pub(crate) qkv_by_token: Buffer,
    /// Context head by head, `[sequences, heads, length, width]`.
    pub(crate) context_by_head: Buffer,
}

/// All buffers of a model.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    pub(crate) shape: BatchShape,
    /// The activations that the last forward pass kept.
    pub(crate) keep: Keep,
    /// The residual stream before each layer and after the last, `[rows, hidden]` each; see [`Keep::streams`].
    pub(crate) streams: Vec<Buffer>,
    /// The kept activations of each layer; [`Keep::layers`] says how many there are.
    pub(crate) layers: Vec<LayerActivations>,
    /// The residual stream through the final norm, `[rows, hidden]`.
    pub(crate) normed: Buffer,
    /// Inverse root mean square of the residual stream, `[rows]`.
    pub(crate) inv_rms: Buffer,
    /// Negative log-likelihood per token, nats, `[rows]`.
    pub(crate) losses: Buffer,
    /// Logits of some rows and then their gradients; sized by `lm_head`.
    pub(crate) logits: Buffer,
    pub(crate) workspace: Workspace,
}

/// The buffers that only the backward pass needs.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    /// Gradient of the residual stream, `[rows, hidden]`.
    pub(crate) residual: Buffer,
    /// Gradient of a norm's output, `[rows, hidden]`.
    pub(crate) normed: Buffer,
    /// Gradient of `context`, `[rows, query_width]`.
    pub(crate) context: Buffer,
    /// Gradient of `qkv`, laid out like it.
    pub(crate) qkv: Buffer,
    /// Gradient of `gated`, `[rows, ffn]`.
    pub(crate) gated: Buffer,
    /// Gradient of `gate`, `[rows, ffn]`.
    pub(crate) gate: Buffer,
    /// Gradient of `up`, `[rows, ffn]`.
    pub(crate) up: Buffer,
}

impl Activations {
    /// Makes every buffer that is used as long as `shape` needs. Buffers that are not used stay for when they are.
    pub(crate) fn resize(
        &mut self,
        device: &dyn Device,
        layout: &Layout,
        shape: BatchShape,
        keep: Keep,
    ) -> Result<(), DeviceError> {
        (self.shape, self.keep) = (shape, keep);
        let widths = Widths::new(layout, shape);
        let (streams, layers) = (keep.streams(layout.layers.len()), keep.layers(layout.layers.len()));
        self.streams.resize_with(streams.max(self.streams.len()), Buffer::default);
        self.layers.resize_with(layers.max(self.layers.len()), LayerActivations::default);
        let Workspace { normed, gated, qkv_by_token, context_by_head } = &mut self.workspace;
        for buffer in self.streams[..streams].iter_mut().chain([&mut self.normed, normed]) {
            device.resize(buffer, widths.hidden)?;
        }
        device.resize(context_by_head, widths.context)?;
        device.resize(gated, widths.ffn)?;
        device.resize(qkv_by_token, widths.qkv)?;
        device.resize(&mut self.inv_rms, widths.rows)?;
        device.resize(&mut self.losses, widths.rows)?;
        let statistics = device.attention_statistics(attention_shape(layout, shape), shape.sequences as u64);
        for layer in &mut self.layers[..layers] {
            device.resize(&mut layer.context, widths.context)?;
            device.resize(&mut layer.middle, widths.hidden)?;
            device.resize(&mut layer.gate, widths.ffn)?;
            device.resize(&mut layer.up, widths.ffn)?;
            device.resize(&mut layer.attention_inv_rms, widths.rows)?;
            device.resize(&mut layer.ffn_inv_rms, widths.rows)?;
            device.resize(&mut layer.qkv, widths.qkv)?;
            device.resize(&mut layer.attention_statistics, statistics)?;
        }
        Ok(())
    }
}

impl Gradients {
    /// Makes every buffer as long as `shape` needs.
    pub(crate) fn resize(
        &mut self,
        device: &dyn Device,
        layout: &Layout,
        shape: BatchShape,
    ) -> Result<(), DeviceError> {
        let widths = Widths::new(layout, shape);
        for buffer in [&mut self.residual, &mut self.normed] {
            device.resize(buffer, widths.hidden)?;
        }
        device.resize(&mut self.context, widths.context)?;
        for buffer in [&mut self.gated, &mut self.gate, &mut self.up] {
            device.resize(buffer, widths.ffn)?;
        }
        device.resize(&mut self.qkv, widths.qkv)
    }
}

/// Elements of a micro-batch's buffers.
struct Widths {
    /// Elements of a buffer with one number a row.
    rows: u64,
    /// Elements of a `[rows, hidden]` buffer.
    hidden: u64,
    /// Elements of a `[rows, query_width]` buffer.
    context: u64,
    /// Elements of a `[rows, ffn]` buffer.
    ffn: u64,
    /// Elements of a `[rows, qkv_width]` buffer.
    qkv: u64,
}

impl Widths {
    fn new(layout: &Layout, shape: BatchShape) -> Self {
        let rows = shape.rows();
        Self {
            rows,
            hidden: rows * layout.hidden as u64,
            context: rows * layout.query_width() as u64,
            ffn: rows * layout.ffn as u64,
            qkv: rows * layout.qkv_width() as u64,
        }
    }
}

/// The heads of a micro-batch as attention takes them.
pub(crate) fn attention_shape(layout: &Layout, shape: BatchShape) -> AttentionShape {
    AttentionShape { length: shape.length, heads: layout.heads, kv_heads: layout.kv_heads, width: layout.head_width }
}

//! The buffers that one micro-batch passes through, allocated once and reused.
//!
//! What the backward pass reads is kept per layer, or of each layer its input alone, from which the rest is computed a
//! second time; everything else is one workspace. Sizes follow the micro-batch: a buffer in use is always exactly as long
//! as the current one needs, so a kernel that is given a whole buffer sees whole rows.

use crate::layout::Layout;

/// How many sequences of how many positions are being computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct BatchShape {
    pub(crate) sequences: usize,
    pub(crate) length: usize,
}

impl BatchShape {
    /// Token positions in all: the rows of every activation.
    pub(crate) fn rows(&self) -> usize {
        self.sequences * self.length
    }
}

/// What the forward pass leaves for a backward pass. The results of both have the same bits whichever it is.
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

/// What one layer computes from its input and its backward pass reads. Outputs of norms and of the gate are not among it:
/// one pass over what is here gives them again, which costs less than the memory to keep them.
#[derive(Debug, Default)]
pub(crate) struct LayerActivations {
    /// Inverse root mean square of the layer's input, `[rows]`.
    pub(crate) attention_inv_rms: Vec<f32>,
    /// Rotated, scaled queries, rotated keys, values: `[sequences, heads + 2 kv_heads, length, width]`.
    pub(crate) qkv: Vec<f32>,
    /// What attention found, token by token, `[rows, hidden]`.
    pub(crate) context: Vec<f32>,
    /// The residual stream after attention, `[rows, hidden]`.
    pub(crate) middle: Vec<f32>,
    /// Inverse root mean square of `middle`, `[rows]`.
    pub(crate) ffn_inv_rms: Vec<f32>,
    /// `[rows, ffn]`.
    pub(crate) gate: Vec<f32>,
    /// `[rows, ffn]`.
    pub(crate) up: Vec<f32>,
}

/// Buffers that every layer uses in turn.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    /// What went through a norm and goes into a projection, `[rows, hidden]`.
    pub(crate) normed: Vec<f32>,
    /// `silu(gate) · up`, `[rows, ffn]`.
    pub(crate) gated: Vec<f32>,
    /// Queries, keys and values token by token, or their gradients, `[rows, qkv_width]`.
    pub(crate) qkv_by_token: Vec<f32>,
    /// Context head by head, `[sequences, heads, length, width]`.
    pub(crate) context_by_head: Vec<f32>,
}

/// All buffers of a model.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    pub(crate) shape: BatchShape,
    /// What the last forward pass left.
    pub(crate) keep: Keep,
    /// The residual stream before each layer and after the last, `[rows, hidden]` each; see [`Keep::streams`].
    pub(crate) streams: Vec<Vec<f32>>,
    /// See [`Keep::layers`].
    pub(crate) layers: Vec<LayerActivations>,
    /// The residual stream through the final norm, `[rows, hidden]`.
    pub(crate) normed: Vec<f32>,
    /// Inverse root mean square of the residual stream, `[rows]`.
    pub(crate) inv_rms: Vec<f32>,
    /// Negative log-likelihood per token, nats, `[rows]`.
    pub(crate) losses: Vec<f32>,
    /// Logits of some rows and then their gradients; sized by the head.
    pub(crate) logits: Vec<f32>,
    pub(crate) workspace: Workspace,
}

/// What only the backward pass needs.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    /// Gradient of the residual stream, `[rows, hidden]`.
    pub(crate) residual: Vec<f32>,
    /// Gradient of a norm's output, `[rows, hidden]`.
    pub(crate) normed: Vec<f32>,
    /// Gradient of `context`, `[rows, hidden]`.
    pub(crate) context: Vec<f32>,
    /// Gradient of `qkv`, laid out like it.
    pub(crate) qkv: Vec<f32>,
    /// Gradient of `gated`, `[rows, ffn]`.
    pub(crate) gated: Vec<f32>,
    /// Gradient of `gate`, `[rows, ffn]`.
    pub(crate) gate: Vec<f32>,
    /// Gradient of `up`, `[rows, ffn]`.
    pub(crate) up: Vec<f32>,
}

impl Activations {
    /// Makes every buffer that is used as long as `shape` needs. Buffers that are not used stay for when they are.
    pub(crate) fn resize(&mut self, layout: &Layout, shape: BatchShape, keep: Keep) {
        (self.shape, self.keep) = (shape, keep);
        let rows = shape.rows();
        let (stream, wide, qkv) = (rows * layout.hidden, rows * layout.ffn, rows * layout.qkv_width());
        let (streams, layers) = (keep.streams(layout.layers.len()), keep.layers(layout.layers.len()));
        self.streams.resize_with(streams.max(self.streams.len()), Vec::new);
        self.layers.resize_with(layers.max(self.layers.len()), LayerActivations::default);
        let Workspace { normed, gated, qkv_by_token, context_by_head } = &mut self.workspace;
        for buffer in self.streams[..streams].iter_mut().chain([&mut self.normed, normed, context_by_head]) {
            buffer.resize(stream, 0.0);
        }
        gated.resize(wide, 0.0);
        qkv_by_token.resize(qkv, 0.0);
        self.inv_rms.resize(rows, 0.0);
        self.losses.resize(rows, 0.0);
        for layer in &mut self.layers[..layers] {
            layer.context.resize(stream, 0.0);
            layer.middle.resize(stream, 0.0);
            layer.gate.resize(wide, 0.0);
            layer.up.resize(wide, 0.0);
            layer.attention_inv_rms.resize(rows, 0.0);
            layer.ffn_inv_rms.resize(rows, 0.0);
            layer.qkv.resize(qkv, 0.0);
        }
    }
}

impl Gradients {
    /// Makes every buffer as long as `shape` needs.
    pub(crate) fn resize(&mut self, layout: &Layout, shape: BatchShape) {
        let rows = shape.rows();
        for buffer in [&mut self.residual, &mut self.normed, &mut self.context] {
            buffer.resize(rows * layout.hidden, 0.0);
        }
        for buffer in [&mut self.gated, &mut self.gate, &mut self.up] {
            buffer.resize(rows * layout.ffn, 0.0);
        }
        self.qkv.resize(rows * layout.qkv_width(), 0.0);
    }
}

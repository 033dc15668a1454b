//! The buffers that one micro-batch passes through, allocated once and reused.
//!
//! What the backward pass reads is kept per layer; everything else is one workspace. Sizes follow the micro-batch: a
//! buffer is always exactly as long as the current one needs, so a kernel that is given a whole buffer sees whole rows.

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

/// What one layer keeps for its backward pass.
#[derive(Debug, Default)]
pub(crate) struct LayerActivations {
    /// The input through the norm before attention, `[rows, hidden]`.
    pub(crate) attention_input: Vec<f32>,
    /// Inverse root mean square of the layer's input, `[rows]`.
    pub(crate) attention_inv_rms: Vec<f32>,
    /// Rotated, scaled queries, rotated keys, values: `[sequences, heads + 2 kv_heads, length, width]`.
    pub(crate) qkv: Vec<f32>,
    /// What attention found, token by token, `[rows, hidden]`.
    pub(crate) context: Vec<f32>,
    /// The residual stream after attention, `[rows, hidden]`.
    pub(crate) middle: Vec<f32>,
    /// `middle` through the norm before the feed-forward, `[rows, hidden]`.
    pub(crate) ffn_input: Vec<f32>,
    /// Inverse root mean square of `middle`, `[rows]`.
    pub(crate) ffn_inv_rms: Vec<f32>,
    /// `[rows, ffn]`.
    pub(crate) gate: Vec<f32>,
    /// `[rows, ffn]`.
    pub(crate) up: Vec<f32>,
    /// `silu(gate) · up`, `[rows, ffn]`.
    pub(crate) gated: Vec<f32>,
    /// The residual stream after the layer, `[rows, hidden]`.
    pub(crate) output: Vec<f32>,
}

/// All buffers of a model.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    pub(crate) shape: BatchShape,
    /// Rows of the embedding, `[rows, hidden]`.
    pub(crate) embedded: Vec<f32>,
    pub(crate) layers: Vec<LayerActivations>,
    /// The residual stream through the final norm, `[rows, hidden]`.
    pub(crate) normed: Vec<f32>,
    /// Inverse root mean square of the residual stream, `[rows]`.
    pub(crate) inv_rms: Vec<f32>,
    /// Negative log-likelihood per token, nats, `[rows]`.
    pub(crate) losses: Vec<f32>,
    /// Logits of some rows and then their gradients; sized by the head.
    pub(crate) logits: Vec<f32>,
    /// Queries, keys and values token by token, or their gradients, `[rows, qkv_width]`.
    pub(crate) qkv_by_token: Vec<f32>,
    /// Context head by head, `[sequences, heads, length, width]`.
    pub(crate) context_by_head: Vec<f32>,
}

/// What only the backward pass needs.
#[derive(Debug, Default)]
pub(crate) struct Gradients {
    shape: BatchShape,
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
    /// Makes every buffer as long as `shape` needs.
    pub(crate) fn resize(&mut self, layout: &Layout, shape: BatchShape) {
        if self.shape == shape {
            return;
        }
        self.shape = shape;
        let rows = shape.rows();
        let (stream, wide, qkv) = (rows * layout.hidden, rows * layout.ffn, rows * layout.qkv_width());
        for buffer in [&mut self.embedded, &mut self.normed, &mut self.context_by_head] {
            buffer.resize(stream, 0.0);
        }
        self.inv_rms.resize(rows, 0.0);
        self.losses.resize(rows, 0.0);
        self.qkv_by_token.resize(qkv, 0.0);
        self.layers.resize_with(layout.layers.len(), LayerActivations::default);
        for layer in &mut self.layers {
            for buffer in [
                &mut layer.attention_input,
                &mut layer.context,
                &mut layer.middle,
                &mut layer.ffn_input,
                &mut layer.output,
            ] {
                buffer.resize(stream, 0.0);
            }
            for buffer in [&mut layer.gate, &mut layer.up, &mut layer.gated] {
                buffer.resize(wide, 0.0);
            }
            layer.attention_inv_rms.resize(rows, 0.0);
            layer.ffn_inv_rms.resize(rows, 0.0);
            layer.qkv.resize(qkv, 0.0);
        }
    }
}

impl Gradients {
    /// Makes every buffer as long as `shape` needs.
    pub(crate) fn resize(&mut self, layout: &Layout, shape: BatchShape) {
        if self.shape == shape {
            return;
        }
        self.shape = shape;
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

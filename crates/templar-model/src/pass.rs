//! The context of a forward or backward pass: the device, the sizes, and the parameters.

use std::ops::Range;

use templar_device::{AttentionShape, Buffer, Device, HeadLayout, Matrix, NormInputs, RotaryBuffers, View};

use crate::activations::{BatchShape, attention_shape};
use crate::layout::Layout;

/// A pass over one micro-batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ModelPass<'a> {
    pub(crate) device: &'a dyn Device,
    pub(crate) layout: &'a Layout,
    pub(crate) tables: &'a RotaryBuffers,
    /// The flat parameter vector.
    pub(crate) params: &'a Buffer,
    pub(crate) shape: BatchShape,
}

impl<'a> ModelPass<'a> {
    /// Token positions: the rows of every activation.
    pub(crate) fn rows(&self) -> u64 {
        self.shape.rows()
    }

    /// A tensor of the parameters.
    pub(crate) fn weight(&self, place: &Range<u64>) -> View<'a> {
        self.params.view(place.clone())
    }

    /// Rows `x` with the weight of the norm that they go through.
    pub(crate) fn norm<'b>(&self, x: &'b Buffer, weight: &Range<u64>) -> NormInputs<'b>
    where
        'a: 'b,
    {
        NormInputs { x: x.all(), weight: self.weight(weight) }
    }

    /// An activation or its gradient, `[rows, width]`.
    pub(crate) fn matrix<'b>(&self, x: &'b Buffer) -> Matrix<'b> {
        Matrix::new(x.all(), self.rows())
    }

    /// The heads of queries, keys and values together.
    pub(crate) fn attention(&self) -> AttentionShape {
        attention_shape(self.layout, self.shape)
    }

    /// The layout of queries, keys and values together.
    pub(crate) fn qkv_layout(&self) -> HeadLayout {
        self.heads(self.layout.heads + 2 * self.layout.kv_heads)
    }

    /// The layout of what attention found.
    pub(crate) fn context_layout(&self) -> HeadLayout {
        self.heads(self.layout.heads)
    }

    fn heads(&self, count: usize) -> HeadLayout {
        HeadLayout { length: self.shape.length, count, width: self.layout.head_width }
    }
}

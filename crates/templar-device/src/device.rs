//! The operations that a device has, named as the specification in `templar-numerics` names them.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use templar_manifest::Arithmetic;
use templar_numerics::{AdamW, AttentionShape, HeadLayout, RotaryTables};

use crate::buffer::{Buffer, View, ViewMut};

/// A device cannot go on. Each variant names the device as [`Device::name`] does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The memory of the device is full.
    #[error("device {device} is out of memory{}", asked(*bytes))]
    OutOfMemory {
        /// The name of the device.
        device: String,
        /// The number of bytes that were asked for; 0 where the driver does not say.
        bytes: u64,
    },
    /// The device was reset or taken away, or does not answer any more.
    #[error("device {device} is lost: {reason}")]
    Lost {
        /// The name of the device.
        device: String,
        /// The message of the driver.
        reason: String,
    },
    /// The device computed something else than the CPU does. It passed its test, so its hardware is damaged or its
    /// driver has a fault.
    #[error("device {device} computed {what} otherwise than the CPU, and is not used any more")]
    Differs {
        /// The name of the device.
        device: String,
        /// The result that differs, with its place.
        what: String,
    },
    /// The driver of the device reports another error.
    #[error("device {device} fails: {reason}")]
    Failed {
        /// The name of the device.
        device: String,
        /// The message of the driver.
        reason: String,
    },
}

/// How much memory was asked for, as the end of a sentence.
fn asked(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!(": it has no room for {bytes} bytes more") }
}

/// A matrix to read, stored row by row without gaps.
#[derive(Debug, Clone)]
pub struct Matrix<'a> {
    /// The elements, `[rows, cols]` as stored.
    pub elements: View<'a>,
    /// Number of rows as stored.
    pub rows: u64,
    /// Number of columns as stored.
    pub cols: u64,
    /// Whether the product sees its transpose.
    pub is_transposed: bool,
}

impl<'a> Matrix<'a> {
    /// A matrix of `rows` rows, as it is stored.
    ///
    /// # Panics
    /// If the elements do not divide into so many rows.
    pub fn new(elements: View<'a>, rows: u64) -> Self {
        let cols = columns(elements.len(), rows);
        Self { elements, rows, cols, is_transposed: false }
    }

    /// The same matrix, whose transpose takes part in the product.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { is_transposed: !self.is_transposed, ..self }
    }
}

/// A matrix to write, stored row by row without gaps.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    /// The elements, `[rows, cols]`.
    pub elements: ViewMut<'a>,
    /// The number of rows.
    pub rows: u64,
    /// The number of columns.
    pub cols: u64,
}

impl<'a> MatrixMut<'a> {
    /// A matrix of `rows` rows.
    ///
    /// # Panics
    /// If the elements do not divide into so many rows.
    pub fn new(elements: ViewMut<'a>, rows: u64) -> Self {
        let cols = columns(elements.len(), rows);
        Self { elements, rows, cols }
    }
}

fn columns(elements: u64, rows: u64) -> u64 {
    let cols = elements.checked_div(rows).unwrap_or(0);
    assert_eq!(cols.checked_mul(rows), Some(elements), "a matrix of {elements} elements in {rows} rows");
    cols
}

/// The rotary tables in the memory of a device.
#[derive(Debug, Default)]
pub struct RotaryBuffers {
    /// Cosines, `[positions, width / 2]`.
    pub cos: Buffer,
    /// Sines, `[positions, width / 2]`.
    pub sin: Buffer,
}

/// The inputs that the forward and the backward pass of RMSNorm share.
#[derive(Debug, Clone)]
pub struct NormInputs<'a> {
    /// The rows, `[rows, width]`.
    pub x: View<'a>,
    /// The norm's weight, `[width]`.
    pub weight: View<'a>,
}

/// The inputs of the backward pass of RMSNorm.
#[derive(Debug, Clone)]
pub struct NormGradient<'a> {
    /// The inputs of the forward pass.
    pub inputs: NormInputs<'a>,
    /// The inverse root mean square of each row, which the forward pass left, `[rows]`.
    pub inv_rms: View<'a>,
    /// The gradient of the output, `[rows, width]`.
    pub dy: View<'a>,
}

/// The inputs that both passes of the gated activation share. They have the same length.
#[derive(Debug, Clone)]
pub struct GateInputs<'a> {
    /// The elements that go through the sigmoid.
    pub gate: View<'a>,
    /// The elements that the gate multiplies.
    pub up: View<'a>,
}

/// The inputs and the output of the backward pass of attention.
#[derive(Debug)]
pub struct AttentionGradient<'a> {
    /// Queries, keys and values as the forward pass read them.
    pub qkv: View<'a>,
    /// The gradient of the context, token by token: `[sequences, length, heads, width]`.
    pub dcontext: View<'a>,
    /// The gradient of `qkv`, laid out like it and overwritten.
    pub dqkv: ViewMut<'a>,
}

/// The vectors of one AdamW step. They have the same length.
#[derive(Debug)]
pub struct AdamWUpdate<'a> {
    /// The parameters, updated in place.
    pub params: ViewMut<'a>,
    /// The gradient of the parameters, already clipped.
    pub gradient: View<'a>,
    /// First moments, updated in place.
    pub first: ViewMut<'a>,
    /// Second moments, updated in place.
    pub second: ViewMut<'a>,
}

/// The memory of a device of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes of the largest buffer.
    pub buffer_bytes: u64,
}

/// Hardware that computes one arithmetic.
///
/// A device owns the memory of its buffers and runs the operations below on them. Each operation has the bits
/// that the specification gives it: `templar_numerics::twin` says the same as slow code, and
/// [`self_test`](crate::self_test) compares a device with it.
///
/// # Order and errors
///
/// Operations on a buffer take effect in the order in which they were called. An operation may only be queued
/// when its call returns. So operations that compute cannot fail by themselves: a device that fails keeps the
/// error, and every later call that brings something back ([`Device::read`], [`Device::download`],
/// [`Device::squared_norms`],
/// [`Device::first_non_finite`], [`Device::hash`]) returns it.
///
/// # Panics
///
/// Every operation panics if the lengths of its views do not agree, or if a view belongs to another device: both are
/// mistakes in the program, never in its input.
pub trait Device: fmt::Debug + Send + Sync {
    /// A name to show people, for example `cpu (avx512)`.
    fn name(&self) -> String;

    /// The arithmetic that the device computes. It decides the matrix product, and so every result.
    fn arithmetic(&self) -> Arithmetic;

    /// The same hardware with another arithmetic; `None` where it has no code for it.
    fn with_arithmetic(&self, _arithmetic: Arithmetic) -> Option<Arc<dyn Device>> {
        None
    }

    /// The memory that the device has; `None` for the host's, which nobody reserves for it.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }

    /// Whether samples of its work are to be computed again on the CPU. A GPU that passed its test may be damaged
    /// later.
    fn is_rechecked(&self) -> bool {
        false
    }

    /// Ends the use of a device whose work was found to differ: from now on every call that can fail gives `why`.
    /// Devices that are not [rechecked](Device::is_rechecked) go on.
    fn stop_using(&self, _why: &DeviceError) {}

    // Memory.

    /// A new buffer of `len` elements, all +0.
    fn zeros(&self, len: u64) -> Result<Buffer, DeviceError>;

    /// Makes a buffer `len` elements long; its contents are unspecified where that changes its length. A buffer that
    /// became shorter keeps its memory for when it grows again.
    fn resize(&self, buffer: &mut Buffer, len: u64) -> Result<(), DeviceError>;

    /// A new buffer that holds `values`. Owned values are moved, not copied, where the device's memory is the host's.
    fn upload(&self, values: Cow<'_, [f32]>) -> Result<Buffer, DeviceError>;

    /// Makes `buffer` hold `ids`.
    fn upload_ids(&self, ids: &[u32], buffer: &mut Buffer<u32>) -> Result<(), DeviceError>;

    /// Overwrites a part of a buffer with `values`, of the same length.
    fn write(&self, values: &[f32], to: ViewMut<'_>) -> Result<(), DeviceError>;

    /// Copies a part of a buffer into `values`, of the same length.
    fn read(&self, from: View<'_>, values: &mut [f32]) -> Result<(), DeviceError>;

    /// The contents of a buffer that is not needed any more. They are moved where the device's memory is the host's.
    fn download(&self, buffer: Buffer) -> Result<Vec<f32>, DeviceError>;

    /// Sets every element to `value`.
    fn fill(&self, x: ViewMut<'_>, value: f32);

    /// Puts rotary tables into the device's memory.
    fn upload_tables(&self, tables: RotaryTables) -> Result<RotaryBuffers, DeviceError> {
        let (cos, sin) = tables.into_parts();
        Ok(RotaryBuffers { cos: self.upload(cos.into())?, sin: self.upload(sin.into())? })
    }

    // Products.

    /// `C = op(A)·op(B)`, or `C += op(A)·op(B)` where `accumulate`, with the arithmetic's order of the sum over k.
    fn gemm(&self, a: Matrix<'_>, b: Matrix<'_>, c: MatrixMut<'_>, accumulate: bool);

    // Rows.

    /// Row r of `out [ids, width]` is row `ids[r]` of `table [vocab, width]`.
    fn embedding(&self, table: View<'_>, ids: View<'_, u32>, out: ViewMut<'_>);

    /// Adds row r of `dout [ids, width]` to row `ids[r]` of `dtable [vocab, width]`, rows ascending.
    fn embedding_backward(&self, dout: View<'_>, ids: View<'_, u32>, dtable: ViewMut<'_>);

    /// RMSNorm of every row: `out [rows, width]`, and `inv_rms [rows]` for the backward pass.
    fn rms_norm(&self, inputs: NormInputs<'_>, eps: f32, out: ViewMut<'_>, inv_rms: ViewMut<'_>);

    /// Adds the gradients of RMSNorm to `dx [rows, width]` and to `dweight [width]`.
    fn rms_norm_backward(&self, gradient: NormGradient<'_>, dx: ViewMut<'_>, dweight: ViewMut<'_>);

    /// `losses [rows]` in nats of `logits [rows, vocab]` for `targets [rows]`; the logits are replaced by the
    /// gradient of the losses' sum times `grad_scale`. Targets are below `vocab`.
    fn cross_entropy(&self, logits: ViewMut<'_>, targets: View<'_, u32>, grad_scale: f32, losses: ViewMut<'_>);

    /// The losses of [`Device::cross_entropy`] alone, the same bits.
    fn cross_entropy_loss(&self, logits: View<'_>, targets: View<'_, u32>, losses: ViewMut<'_>);

    // Heads.

    /// `by_token [sequences, length, count, width]` to `by_head [sequences, count, length, width]`.
    fn split_heads(&self, layout: HeadLayout, by_token: View<'_>, by_head: ViewMut<'_>);

    /// `by_head [sequences, count, length, width]` to `by_token [sequences, length, count, width]`.
    fn merge_heads(&self, layout: HeadLayout, by_head: View<'_>, by_token: ViewMut<'_>);

    /// Turns queries and keys of `qkv [sequences, heads + 2 kv_heads, length, width]` by their positions, from
    /// 0 in each sequence, and then multiplies the queries by `1/√width`.
    fn rotary(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers);

    /// The transpose of [`Device::rotary`]: first the factor, then the angle turned back.
    fn rotary_backward(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers);

    /// The number of elements that [`Device::attention`] keeps for its backward pass, beside the context.
    ///
    /// A GPU keeps the maximum and the sum of each row's softmax. A device that computes them again says 0.
    fn attention_statistics(&self, _shape: AttentionShape, _sequences: u64) -> u64 {
        0
    }

    /// `context [sequences, heads, length, width] = softmax(q kᵀ, causal) v`.
    ///
    /// `qkv [sequences, heads + 2 kv_heads, length, width]` has been through [`Device::rotary`]; `statistics` has
    /// [`Device::attention_statistics`] elements.
    fn attention(&self, shape: AttentionShape, qkv: View<'_>, context: ViewMut<'_>, statistics: ViewMut<'_>);

    /// The gradients of [`Device::attention`], from what it left in `statistics`.
    fn attention_backward(&self, shape: AttentionShape, gradient: AttentionGradient<'_>, statistics: ViewMut<'_>);

    // Element by element.

    /// Adds y to x element by element: `x += y`.
    fn add(&self, x: ViewMut<'_>, y: View<'_>);

    /// Subtracts y from x element by element: `x -= y`. A window's pseudo-gradient is its first parameters
    /// minus its last.
    fn subtract(&self, x: ViewMut<'_>, y: View<'_>);

    /// Multiplies every element: `x *= factor`.
    fn scale(&self, x: ViewMut<'_>, factor: f32);

    /// `out = (gate · sigmoid(gate)) · up`.
    fn swiglu(&self, inputs: GateInputs<'_>, out: ViewMut<'_>);

    /// The gradients of [`Device::swiglu`] for `dout`, overwritten.
    fn swiglu_backward(&self, inputs: GateInputs<'_>, dout: View<'_>, dgate: ViewMut<'_>, dup: ViewMut<'_>);

    /// One step of AdamW.
    fn adamw(&self, settings: &AdamW, update: AdamWUpdate<'_>);

    // Results that come back to the host.

    /// For each of `ranges` of a buffer, the sum of its squares in `f64`.
    fn squared_norms(&self, x: &Buffer, ranges: &[Range<u64>]) -> Result<Vec<f64>, DeviceError>;

    /// The first element of a view that is NaN or infinite.
    fn first_non_finite(&self, x: View<'_>) -> Result<Option<u64>, DeviceError>;

    /// For each of `ranges`, the BLAKE3 hash of that range of every one of `parts` in their order, as little-endian
    /// bytes. With a `key` it is the keyed hash.
    fn hash(
        &self,
        parts: &[&Buffer],
        ranges: &[Range<u64>],
        key: Option<&[u8; 32]>,
    ) -> Result<Vec<[u8; 32]>, DeviceError>;
}

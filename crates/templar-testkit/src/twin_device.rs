//! A device that computes every operation with the slow twin: the proof that nothing above the seam knows which
//! device it is on, and a reference for devices to come.

use std::borrow::Cow;
use std::ops::Range;

use templar_device::host::{self, angles, operand, slice, slice_mut};
use templar_device::{
    AdamW, AdamWUpdate, Arithmetic, AttentionGradient, AttentionShape, Buffer, Device, DeviceError, GateInputs,
    HeadLayout, Matrix, MatrixMut, NormGradient, NormInputs, RotaryBuffers, View, ViewMut,
};
use templar_numerics::{MatMut, i8x2, twin};

/// The specification as a device: `templar_numerics::twin` on memory of the host, one thread, no vectors.
///
/// It is hundreds of times slower than a `Cpu`, and gives the same bits.
#[derive(Debug, Clone, Copy)]
pub struct TwinDevice {
    arithmetic: Arithmetic,
}

impl TwinDevice {
    /// The specification of an arithmetic.
    pub fn of(arithmetic: Arithmetic) -> Self {
        Self { arithmetic }
    }
}

impl Device for TwinDevice {
    fn name(&self) -> String {
        "twin".to_owned()
    }

    fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    fn zeros(&self, len: u64) -> Result<Buffer, DeviceError> {
        Ok(host::zeros(len))
    }

    fn resize(&self, buffer: &mut Buffer, len: u64) -> Result<(), DeviceError> {
        // The contents after a resize are unspecified. NaN shows up in any result that depends on them.
        if buffer.len() != len {
            host::resize(buffer, len);
            slice_mut(buffer.all_mut()).fill(f32::NAN);
        }
        Ok(())
    }

    fn upload(&self, values: Cow<'_, [f32]>) -> Result<Buffer, DeviceError> {
        Ok(host::upload(values))
    }

    fn upload_ids(&self, ids: &[u32], buffer: &mut Buffer<u32>) -> Result<(), DeviceError> {
        host::upload_ids(ids, buffer);
        Ok(())
    }

    fn write(&self, values: &[f32], to: ViewMut<'_>) -> Result<(), DeviceError> {
        slice_mut(to).copy_from_slice(values);
        Ok(())
    }

    fn read(&self, from: View<'_>, values: &mut [f32]) -> Result<(), DeviceError> {
        values.copy_from_slice(slice(&from));
        Ok(())
    }

    fn download(&self, buffer: Buffer) -> Result<Vec<f32>, DeviceError> {
        Ok(host::download(buffer))
    }

    fn fill(&self, x: ViewMut<'_>, value: f32) {
        slice_mut(x).fill(value);
    }

    fn gemm(&self, a: Matrix<'_>, b: Matrix<'_>, c: MatrixMut<'_>, accumulate: bool) {
        let ((a, op_a), (b, op_b)) = (operand(&a), operand(&b));
        let c = MatMut::new(slice_mut(c.elements), c.rows as usize, c.cols as usize);
        match self.arithmetic {
            Arithmetic::F32 => twin::gemm(a, op_a, b, op_b, c, accumulate),
            Arithmetic::I8x2 => i8x2::twin::gemm(a, op_a, b, op_b, c, accumulate),
        }
    }

    fn embedding(&self, table: View<'_>, ids: View<'_, u32>, out: ViewMut<'_>) {
        let width = (out.len() / ids.len()) as usize;
        twin::embedding(slice(&table), width, slice(&ids), slice_mut(out));
    }

    fn embedding_backward(&self, dout: View<'_>, ids: View<'_, u32>, dtable: ViewMut<'_>) {
        let width = (dout.len() / ids.len()) as usize;
        twin::embedding_backward(slice(&dout), width, slice(&ids), slice_mut(dtable));
    }

    fn rms_norm(&self, inputs: NormInputs<'_>, eps: f32, out: ViewMut<'_>, inv_rms: ViewMut<'_>) {
        twin::rms_norm(slice(&inputs.x), slice(&inputs.weight), eps, slice_mut(out), slice_mut(inv_rms));
    }

    fn rms_norm_backward(&self, gradient: NormGradient<'_>, dx: ViewMut<'_>, dweight: ViewMut<'_>) {
        let NormGradient { inputs, inv_rms, dy } = gradient;
        let (x, weight) = (slice(&inputs.x), slice(&inputs.weight));
        twin::rms_norm_backward(x, weight, slice(&inv_rms), slice(&dy), slice_mut(dx), slice_mut(dweight));
    }

    fn cross_entropy(&self, logits: ViewMut<'_>, targets: View<'_, u32>, grad_scale: f32, losses: ViewMut<'_>) {
        twin::cross_entropy(slice_mut(logits), slice(&targets), grad_scale, slice_mut(losses));
    }

    fn cross_entropy_loss(&self, logits: View<'_>, targets: View<'_, u32>, losses: ViewMut<'_>) {
        twin::cross_entropy_loss(slice(&logits), slice(&targets), slice_mut(losses));
    }

    fn split_heads(&self, layout: HeadLayout, by_token: View<'_>, by_head: ViewMut<'_>) {
        twin::split_heads(layout, slice(&by_token), slice_mut(by_head));
    }

    fn merge_heads(&self, layout: HeadLayout, by_head: View<'_>, by_token: ViewMut<'_>) {
        twin::merge_heads(layout, slice(&by_head), slice_mut(by_token));
    }

    fn rotary(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers) {
        twin::rotate_heads(shape, slice_mut(qkv), angles(shape.width, tables));
    }

    fn rotary_backward(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers) {
        twin::rotate_heads_backward(shape, slice_mut(qkv), angles(shape.width, tables));
    }

    /// The largest score and the sum of each row, as a GPU keeps them. The twin computes them again, but a
    /// caller must give every device the room that it asks for.
    fn attention_statistics(&self, shape: AttentionShape, sequences: u64) -> u64 {
        2 * sequences * (shape.heads * shape.length) as u64
    }

    fn attention(&self, shape: AttentionShape, qkv: View<'_>, context: ViewMut<'_>, statistics: ViewMut<'_>) {
        let sequences = qkv.len() / shape.sequence_floats() as u64;
        assert_eq!(statistics.len(), self.attention_statistics(shape, sequences), "room for the statistics");
        match self.arithmetic {
            Arithmetic::F32 => twin::attention(shape, slice(&qkv), slice_mut(context)),
            Arithmetic::I8x2 => i8x2::twin::attention(shape, slice(&qkv), slice_mut(context)),
        }
        slice_mut(statistics).fill(1.0);
    }

    fn attention_backward(&self, shape: AttentionShape, gradient: AttentionGradient<'_>, statistics: ViewMut<'_>) {
        let kept = slice_mut(statistics);
        assert!(kept.iter().all(|kept| *kept == 1.0), "the statistics of the forward pass were not kept");
        let AttentionGradient { qkv, dcontext, dqkv } = gradient;
        let (qkv, dcontext, dqkv) = (slice(&qkv), slice(&dcontext), slice_mut(dqkv));
        match self.arithmetic {
            Arithmetic::F32 => twin::attention_backward(shape, qkv, dcontext, dqkv),
            Arithmetic::I8x2 => i8x2::twin::attention_backward(shape, qkv, dcontext, dqkv),
        }
    }

    fn add(&self, x: ViewMut<'_>, y: View<'_>) {
        twin::add_in_place(slice_mut(x), slice(&y));
    }

    fn subtract(&self, x: ViewMut<'_>, y: View<'_>) {
        twin::subtract_in_place(slice_mut(x), slice(&y));
    }

    fn scale(&self, x: ViewMut<'_>, factor: f32) {
        twin::scale_in_place(slice_mut(x), factor);
    }

    fn swiglu(&self, inputs: GateInputs<'_>, out: ViewMut<'_>) {
        twin::swiglu(slice(&inputs.gate), slice(&inputs.up), slice_mut(out));
    }

    fn swiglu_backward(&self, inputs: GateInputs<'_>, dout: View<'_>, dgate: ViewMut<'_>, dup: ViewMut<'_>) {
        let (gate, up) = (slice(&inputs.gate), slice(&inputs.up));
        twin::swiglu_backward(gate, up, slice(&dout), slice_mut(dgate), slice_mut(dup));
    }

    fn adamw(&self, settings: &AdamW, update: AdamWUpdate<'_>) {
        let AdamWUpdate { params, gradient, first, second } = update;
        twin::adamw(settings, slice_mut(params), slice(&gradient), slice_mut(first), slice_mut(second));
    }

    fn squared_norms(&self, x: &Buffer, ranges: &[Range<u64>]) -> Result<Vec<f64>, DeviceError> {
        Ok(ranges.iter().map(|range| twin::squared_norm_f64(slice(&x.view(range.clone())))).collect())
    }

    fn first_non_finite(&self, x: View<'_>) -> Result<Option<u64>, DeviceError> {
        Ok(twin::first_non_finite(slice(&x)).map(|index| index as u64))
    }

    fn hash(
        &self,
        parts: &[&Buffer],
        ranges: &[Range<u64>],
        key: Option<&[u8; 32]>,
    ) -> Result<Vec<[u8; 32]>, DeviceError> {
        Ok(host::hash(parts, ranges, key))
    }
}

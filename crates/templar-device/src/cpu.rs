//! The CPU as a device: plain memory, and the kernels of `templar-numerics` in place on it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use templar_manifest::Arithmetic;
use templar_numerics::i8x2::{Unit, UnsupportedUnit};
use templar_numerics::{AdamW, AttentionShape, HeadLayout, Isa, Kernels, MatMut, UnsupportedIsa};

use crate::buffer::{Buffer, View, ViewMut};
use crate::device::{
    AdamWUpdate, AttentionGradient, Device, DeviceError, GateInputs, Matrix, MatrixMut, NormGradient, NormInputs,
    RotaryBuffers,
};
use crate::host::{self, angles, operand, slice, slice_mut};

/// The host's processor, with either arithmetic on one of its instruction sets; `f32/1` until [`Cpu::computing`].
///
/// A buffer is a `Vec<f32>`; nothing is copied around an operation. The threads of the current rayon pool share
/// the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cpu {
    kernels: Kernels,
}

/// The instruction set of a [`Cpu::default`]; the best one until [`Cpu::set_default_isa`] names another.
static DEFAULT_ISA: RwLock<Option<Isa>> = RwLock::new(None);

impl Default for Cpu {
    /// The processor with the instruction set of this process: that of [`Cpu::set_default_isa`], else the best one.
    fn default() -> Self {
        let chosen = *DEFAULT_ISA.read().unwrap_or_else(PoisonError::into_inner);
        chosen.and_then(|isa| Self::with_isa(isa).ok()).unwrap_or_else(Self::best)
    }
}

impl Cpu {
    /// The processor with its fastest instruction set.
    pub fn best() -> Self {
        Self { kernels: Kernels::best() }
    }

    /// The processor with one instruction set. The results are the same bits on all of them.
    ///
    /// # Errors
    /// [`UnsupportedIsa`] if the machine lacks it.
    pub fn with_isa(isa: Isa) -> Result<Self, UnsupportedIsa> {
        Ok(Self { kernels: Kernels::with_isa(isa)? })
    }

    /// Says for the whole process which instruction set a [`Cpu::default`] has from now on. For whoever configures a
    /// program; devices that exist keep theirs.
    ///
    /// # Errors
    /// [`UnsupportedIsa`] if the machine lacks it; nothing changes then.
    pub fn set_default_isa(isa: Isa) -> Result<(), UnsupportedIsa> {
        Self::with_isa(isa)?;
        *DEFAULT_ISA.write().unwrap_or_else(PoisonError::into_inner) = Some(isa);
        Ok(())
    }

    /// The processor with the same instruction set and this arithmetic.
    #[must_use]
    pub fn computing(self, arithmetic: Arithmetic) -> Self {
        let kernels = match arithmetic {
            Arithmetic::F32 => self.kernels.f32(),
            Arithmetic::I8x2 => self.kernels.i8x2(),
        };
        Self { kernels }
    }

    /// The processor with the arithmetic `i8x2/1` on one of its units.
    ///
    /// # Errors
    /// [`UnsupportedUnit`] if the machine lacks it.
    pub fn with_unit(self, unit: Unit) -> Result<Self, UnsupportedUnit> {
        Ok(Self { kernels: self.kernels.i8x2_with(unit)? })
    }

    /// The instruction set that this device's kernels use.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }
}

impl Device for Cpu {
    fn name(&self) -> String {
        match self.kernels.unit() {
            None => format!("cpu ({})", self.isa()),
            Some(unit) => format!("cpu ({}, limbs by {unit})", self.isa()),
        }
    }

    fn arithmetic(&self) -> Arithmetic {
        if self.kernels.unit().is_some() { Arithmetic::I8x2 } else { Arithmetic::F32 }
    }

    fn with_arithmetic(&self, arithmetic: Arithmetic) -> Option<Arc<dyn Device>> {
        Some(Arc::new(self.computing(arithmetic)))
    }

    fn zeros(&self, len: u64) -> Result<Buffer, DeviceError> {
        Ok(host::zeros(len))
    }

    fn resize(&self, buffer: &mut Buffer, len: u64) -> Result<(), DeviceError> {
        host::resize(buffer, len);
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
        self.kernels.gemm(a, op_a, b, op_b, c, accumulate);
    }

    fn embedding(&self, table: View<'_>, ids: View<'_, u32>, out: ViewMut<'_>) {
        self.kernels.embedding(slice(&table), slice(&ids), slice_mut(out));
    }

    fn embedding_backward(&self, dout: View<'_>, ids: View<'_, u32>, dtable: ViewMut<'_>) {
        self.kernels.embedding_backward(slice(&dout), slice(&ids), slice_mut(dtable));
    }

    fn rms_norm(&self, inputs: NormInputs<'_>, eps: f32, out: ViewMut<'_>, inv_rms: ViewMut<'_>) {
        let (x, weight) = (slice(&inputs.x), slice(&inputs.weight));
        self.kernels.rms_norm(x, weight, eps, slice_mut(out), slice_mut(inv_rms));
    }

    fn rms_norm_backward(&self, gradient: NormGradient<'_>, dx: ViewMut<'_>, dweight: ViewMut<'_>) {
        let NormGradient { inputs, inv_rms, dy } = gradient;
        let (x, weight) = (slice(&inputs.x), slice(&inputs.weight));
        let (dx, dweight) = (slice_mut(dx), slice_mut(dweight));
        self.kernels.rms_norm_backward(x, weight, slice(&inv_rms), slice(&dy), dx, dweight);
    }

    fn cross_entropy(&self, logits: ViewMut<'_>, targets: View<'_, u32>, grad_scale: f32, losses: ViewMut<'_>) {
        self.kernels.cross_entropy(slice_mut(logits), slice(&targets), grad_scale, slice_mut(losses));
    }

    fn cross_entropy_loss(&self, logits: View<'_>, targets: View<'_, u32>, losses: ViewMut<'_>) {
        self.kernels.cross_entropy_loss(slice(&logits), slice(&targets), slice_mut(losses));
    }

    fn split_heads(&self, layout: HeadLayout, by_token: View<'_>, by_head: ViewMut<'_>) {
        self.kernels.split_heads(layout, slice(&by_token), slice_mut(by_head));
    }

    fn merge_heads(&self, layout: HeadLayout, by_head: View<'_>, by_token: ViewMut<'_>) {
        self.kernels.merge_heads(layout, slice(&by_head), slice_mut(by_token));
    }

    fn rotary(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers) {
        self.kernels.rotate_heads(shape, slice_mut(qkv), angles(shape.width, tables));
    }

    fn rotary_backward(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers) {
        self.kernels.rotate_heads_backward(shape, slice_mut(qkv), angles(shape.width, tables));
    }

    fn attention(&self, shape: AttentionShape, qkv: View<'_>, context: ViewMut<'_>, _statistics: ViewMut<'_>) {
        self.kernels.attention(shape, slice(&qkv), slice_mut(context));
    }

    fn attention_backward(&self, shape: AttentionShape, gradient: AttentionGradient<'_>, _statistics: ViewMut<'_>) {
        let AttentionGradient { qkv, dcontext, dqkv } = gradient;
        self.kernels.attention_backward(shape, slice(&qkv), slice(&dcontext), slice_mut(dqkv));
    }

    fn add(&self, x: ViewMut<'_>, y: View<'_>) {
        self.kernels.add_in_place(slice_mut(x), slice(&y));
    }

    fn subtract(&self, x: ViewMut<'_>, y: View<'_>) {
        self.kernels.subtract_in_place(slice_mut(x), slice(&y));
    }

    fn scale(&self, x: ViewMut<'_>, factor: f32) {
        self.kernels.scale_in_place(slice_mut(x), factor);
    }

    fn swiglu(&self, inputs: GateInputs<'_>, out: ViewMut<'_>) {
        self.kernels.swiglu(slice(&inputs.gate), slice(&inputs.up), slice_mut(out));
    }

    fn swiglu_backward(&self, inputs: GateInputs<'_>, dout: View<'_>, dgate: ViewMut<'_>, dup: ViewMut<'_>) {
        let (gate, up) = (slice(&inputs.gate), slice(&inputs.up));
        self.kernels.swiglu_backward(gate, up, slice(&dout), slice_mut(dgate), slice_mut(dup));
    }

    fn adamw(&self, settings: &AdamW, update: AdamWUpdate<'_>) {
        let AdamWUpdate { params, gradient, first, second } = update;
        self.kernels.adamw(settings, slice_mut(params), slice(&gradient), slice_mut(first), slice_mut(second));
    }

    fn squared_norms(&self, x: &Buffer, ranges: &[Range<u64>]) -> Result<Vec<f64>, DeviceError> {
        let norm = |range: &Range<u64>| self.kernels.squared_norm_f64(slice(&x.view(range.clone())));
        Ok(ranges.iter().map(norm).collect())
    }

    fn first_non_finite(&self, x: View<'_>) -> Result<Option<u64>, DeviceError> {
        Ok(self.kernels.first_non_finite(slice(&x)).map(|index| index as u64))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_moved_and_not_copied() {
        let cpu = Cpu::best();
        let values = vec![1.0f32, 2.0, 3.0];
        let place = values.as_ptr();
        let buffer = cpu.upload(values.into()).unwrap();
        let back = cpu.download(buffer).unwrap();
        assert_eq!((back.as_ptr(), &*back), (place, &[1.0, 2.0, 3.0][..]));
    }

    #[test]
    fn a_buffer_keeps_its_memory_when_it_shrinks() {
        let cpu = Cpu::best();
        let mut buffer = Buffer::default();
        cpu.resize(&mut buffer, 100).unwrap();
        let place = slice(&buffer.all()).as_ptr();
        cpu.resize(&mut buffer, 10).unwrap();
        cpu.resize(&mut buffer, 100).unwrap();
        assert_eq!((slice(&buffer.all()).as_ptr(), buffer.len()), (place, 100));
    }

    #[test]
    fn hashes_are_those_of_the_bytes_of_each_range_in_every_part() {
        let cpu = Cpu::best();
        let (x, y) = (cpu.upload(vec![1.0, 2.0, 3.0].into()).unwrap(), cpu.upload(vec![4.0, 5.0, 6.0].into()).unwrap());
        let bytes: Vec<u8> = [2.0f32, 3.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let found = cpu.hash(&[&x, &y], &[1..3, 0..0], None).unwrap();
        assert_eq!(found, [*blake3::hash(&bytes).as_bytes(), *blake3::hash(&[]).as_bytes()]);
        let keyed = cpu.hash(&[&x, &y], std::slice::from_ref(&(1..3)), Some(&[7; 32])).unwrap();
        assert_eq!(keyed, [*blake3::keyed_hash(&[7; 32], &bytes).as_bytes()]);
    }

    #[test]
    #[should_panic(expected = "a buffer in the memory of the host")]
    fn a_buffer_of_another_device_is_refused() {
        Cpu::best().fill(Buffer::new(3, Box::new("a driver's handle")).all_mut(), 0.0);
    }
}

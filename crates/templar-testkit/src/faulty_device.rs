//! A device that goes wrong at a chosen moment: it is lost, runs out of memory, or computes something else.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use templar_device::{
    AdamW, AdamWUpdate, Arithmetic, AttentionGradient, AttentionShape, Buffer, Cpu, Device, DeviceError, DeviceMemory,
    GateInputs, HeadLayout, Matrix, MatrixMut, NormGradient, NormInputs, RotaryBuffers, View, ViewMut,
};

/// How a [`FaultyDevice`] goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not.
    None,
    /// It is lost at its product of this number, from 1.
    Lost(u64),
    /// It has no memory any more after so many allocations.
    OutOfMemory(u64),
    /// The last element of its product of this number, from 1, is doubled.
    Product(u64),
    /// All its products of a number that this one divides are wrong.
    Products(u64),
}

/// The CPU as a device of its own, with a fault.
#[derive(Debug)]
pub struct FaultyDevice {
    cpu: Cpu,
    fault: Fault,
    memory: DeviceMemory,
    products: AtomicU64,
    allocations: AtomicU64,
    /// The failure, which every later call gives.
    failure: Mutex<Option<DeviceError>>,
}

impl FaultyDevice {
    /// A device with a fault, and with more memory than any test needs.
    pub fn new(fault: Fault) -> Self {
        Self::with_memory(fault, DeviceMemory { total_bytes: 1 << 40, buffer_bytes: 1 << 40 })
    }

    /// A device with a fault that says that it has so much memory.
    pub fn with_memory(fault: Fault, memory: DeviceMemory) -> Self {
        let [products, allocations] = [const { AtomicU64::new(0) }; 2];
        Self { cpu: Cpu::default(), fault, memory, products, allocations, failure: Mutex::default() }
    }

    /// The number of products so far.
    pub fn products(&self) -> u64 {
        self.products.load(Ordering::Relaxed)
    }

    fn fail(&self, error: &DeviceError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
    }

    fn check(&self) -> Result<(), DeviceError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone().map_or(Ok(()), Err)
    }

    fn allocation(&self) -> Result<(), DeviceError> {
        self.check()?;
        let count = self.allocations.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::OutOfMemory(limit) if count >= limit => {
                Err(DeviceError::OutOfMemory { device: self.name(), bytes: 0 })
            }
            _ => Ok(()),
        }
    }
}

impl Device for FaultyDevice {
    fn name(&self) -> String {
        "faulty".to_owned()
    }

    fn arithmetic(&self) -> Arithmetic {
        self.cpu.arithmetic()
    }

    fn memory(&self) -> Option<DeviceMemory> {
        Some(self.memory)
    }

    fn is_rechecked(&self) -> bool {
        true
    }

    fn stop_using(&self, why: &DeviceError) {
        self.fail(why);
    }

    fn zeros(&self, len: u64) -> Result<Buffer, DeviceError> {
        self.allocation()?;
        self.cpu.zeros(len)
    }

    fn resize(&self, buffer: &mut Buffer, len: u64) -> Result<(), DeviceError> {
        self.allocation()?;
        self.cpu.resize(buffer, len)
    }

    fn upload(&self, values: Cow<'_, [f32]>) -> Result<Buffer, DeviceError> {
        self.allocation()?;
        self.cpu.upload(values)
    }

    fn upload_ids(&self, ids: &[u32], buffer: &mut Buffer<u32>) -> Result<(), DeviceError> {
        self.check()?;
        self.cpu.upload_ids(ids, buffer)
    }

    fn write(&self, values: &[f32], to: ViewMut<'_>) -> Result<(), DeviceError> {
        self.check()?;
        self.cpu.write(values, to)
    }

    fn read(&self, from: View<'_>, values: &mut [f32]) -> Result<(), DeviceError> {
        self.check()?;
        self.cpu.read(from, values)
    }

    fn download(&self, buffer: Buffer) -> Result<Vec<f32>, DeviceError> {
        self.check()?;
        self.cpu.download(buffer)
    }

    fn fill(&self, x: ViewMut<'_>, value: f32) {
        self.cpu.fill(x, value);
    }

    fn gemm(&self, a: Matrix<'_>, b: Matrix<'_>, c: MatrixMut<'_>, accumulate: bool) {
        let number = self.products.fetch_add(1, Ordering::Relaxed) + 1;
        let MatrixMut { mut elements, rows, cols } = c;
        self.cpu.gemm(a, b, MatrixMut::new(elements.part(0..rows * cols), rows), accumulate);
        let is_wrong = match self.fault {
            Fault::Product(wrong) => number == wrong,
            Fault::Products(every) => number.is_multiple_of(every),
            Fault::Lost(at) => {
                if number >= at {
                    self.fail(&DeviceError::Lost { device: self.name(), reason: "it was unplugged".to_owned() });
                }
                false
            }
            Fault::None | Fault::OutOfMemory(_) => false,
        };
        if is_wrong {
            self.cpu.scale(elements.part(rows * cols - 1..rows * cols), 2.0);
        }
    }

    fn embedding(&self, table: View<'_>, ids: View<'_, u32>, out: ViewMut<'_>) {
        self.cpu.embedding(table, ids, out);
    }

    fn embedding_backward(&self, dout: View<'_>, ids: View<'_, u32>, dtable: ViewMut<'_>) {
        self.cpu.embedding_backward(dout, ids, dtable);
    }

    fn rms_norm(&self, inputs: NormInputs<'_>, eps: f32, out: ViewMut<'_>, inv_rms: ViewMut<'_>) {
        self.cpu.rms_norm(inputs, eps, out, inv_rms);
    }

    fn rms_norm_backward(&self, gradient: NormGradient<'_>, dx: ViewMut<'_>, dweight: ViewMut<'_>) {
        self.cpu.rms_norm_backward(gradient, dx, dweight);
    }

    fn cross_entropy(&self, logits: ViewMut<'_>, targets: View<'_, u32>, grad_scale: f32, losses: ViewMut<'_>) {
        self.cpu.cross_entropy(logits, targets, grad_scale, losses);
    }

    fn cross_entropy_loss(&self, logits: View<'_>, targets: View<'_, u32>, losses: ViewMut<'_>) {
        self.cpu.cross_entropy_loss(logits, targets, losses);
    }

    fn split_heads(&self, layout: HeadLayout, by_token: View<'_>, by_head: ViewMut<'_>) {
        self.cpu.split_heads(layout, by_token, by_head);
    }

    fn merge_heads(&self, layout: HeadLayout, by_head: View<'_>, by_token: ViewMut<'_>) {
        self.cpu.merge_heads(layout, by_head, by_token);
    }

    fn rotary(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers) {
        self.cpu.rotary(shape, qkv, tables);
    }

    fn rotary_backward(&self, shape: AttentionShape, qkv: ViewMut<'_>, tables: &RotaryBuffers) {
        self.cpu.rotary_backward(shape, qkv, tables);
    }

    fn attention(&self, shape: AttentionShape, qkv: View<'_>, context: ViewMut<'_>, statistics: ViewMut<'_>) {
        self.cpu.attention(shape, qkv, context, statistics);
    }

    fn attention_backward(&self, shape: AttentionShape, gradient: AttentionGradient<'_>, statistics: ViewMut<'_>) {
        self.cpu.attention_backward(shape, gradient, statistics);
    }

    fn add(&self, x: ViewMut<'_>, y: View<'_>) {
        self.cpu.add(x, y);
    }

    fn subtract(&self, x: ViewMut<'_>, y: View<'_>) {
        self.cpu.subtract(x, y);
    }

    fn scale(&self, x: ViewMut<'_>, factor: f32) {
        self.cpu.scale(x, factor);
    }

    fn swiglu(&self, inputs: GateInputs<'_>, out: ViewMut<'_>) {
        self.cpu.swiglu(inputs, out);
    }

    fn swiglu_backward(&self, inputs: GateInputs<'_>, dout: View<'_>, dgate: ViewMut<'_>, dup: ViewMut<'_>) {
        self.cpu.swiglu_backward(inputs, dout, dgate, dup);
    }

    fn adamw(&self, settings: &AdamW, update: AdamWUpdate<'_>) {
        self.cpu.adamw(settings, update);
    }

    fn squared_norms(&self, x: &Buffer, ranges: &[Range<u64>]) -> Result<Vec<f64>, DeviceError> {
        self.check()?;
        self.cpu.squared_norms(x, ranges)
    }

    fn first_non_finite(&self, x: View<'_>) -> Result<Option<u64>, DeviceError> {
        self.check()?;
        self.cpu.first_non_finite(x)
    }

    fn hash(
        &self,
        parts: &[&Buffer],
        ranges: &[Range<u64>],
        key: Option<&[u8; 32]>,
    ) -> Result<Vec<[u8; 32]>, DeviceError> {
        self.check()?;
        self.cpu.hash(parts, ranges, key)
    }
}

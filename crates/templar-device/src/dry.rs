//! A device that computes nothing and counts memory, so that the need of a computation is known before it begins.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use templar_manifest::Arithmetic;
use templar_numerics::{AdamW, AttentionShape, HeadLayout};

use crate::buffer::{Buffer, Element, View, ViewMut};
use crate::device::{
    AdamWUpdate, AttentionGradient, Device, DeviceError, GateInputs, Matrix, MatrixMut, NormGradient, NormInputs,
    RotaryBuffers,
};

/// The memory that a computation takes on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryUse {
    /// Bytes of all buffers at the time when there are most.
    pub peak_bytes: u64,
    /// Bytes of the largest buffer.
    pub buffer_bytes: u64,
}

/// The bytes that are held now, and what was held at most.
#[derive(Debug, Default)]
struct Ledger {
    now: u64,
    most: MemoryUse,
}

/// The memory of a buffer: a number of bytes that are given back when it is dropped.
struct Held {
    bytes: u64,
    ledger: Arc<Mutex<Ledger>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).now -= self.bytes;
    }
}

/// A device without memory. Operations do nothing, and everything that comes back is 0.
///
/// Whoever computes on a device runs the same code on this one first, and [`DryDevice::memory_use`] says what it takes.
/// The memory that a driver keeps for itself, and the small tables of some operations, are not counted.
#[derive(Debug)]
pub struct DryDevice {
    like: Arc<dyn Device>,
    ledger: Arc<Mutex<Ledger>>,
}

impl DryDevice {
    /// A device that takes the place of `like` and has its needs.
    pub fn of(like: Arc<dyn Device>) -> Self {
        Self { like, ledger: Arc::default() }
    }

    /// The memory that the buffers took so far.
    pub fn memory_use(&self) -> MemoryUse {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).most
    }

    fn buffer<T: Element>(&self, len: u64) -> Buffer<T> {
        let bytes = len.saturating_mul(size_of::<T>() as u64);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.now = ledger.now.saturating_add(bytes);
        ledger.most.peak_bytes = ledger.most.peak_bytes.max(ledger.now);
        ledger.most.buffer_bytes = ledger.most.buffer_bytes.max(bytes);
        Buffer::new(len, Box::new(Held { bytes, ledger: Arc::clone(&self.ledger) }))
    }

    /// A buffer that becomes shorter keeps its memory, as on every device.
    fn resize_buffer<T: Element>(&self, buffer: &mut Buffer<T>, len: u64) {
        match std::mem::take(buffer).into_memory::<Held>() {
            Some(held) if held.bytes >= len.saturating_mul(size_of::<T>() as u64) => {
                *buffer = Buffer::new(len, Box::new(held));
            }
            held => {
                drop(held);
                *buffer = self.buffer(len);
            }
        }
    }
}

impl Device for DryDevice {
    fn name(&self) -> String {
        format!("the memory of {}", self.like.name())
    }

    fn arithmetic(&self) -> Arithmetic {
        self.like.arithmetic()
    }

    fn zeros(&self, len: u64) -> Result<Buffer, DeviceError> {
        Ok(self.buffer(len))
    }

    fn resize(&self, buffer: &mut Buffer, len: u64) -> Result<(), DeviceError> {
        self.resize_buffer(buffer, len);
        Ok(())
    }

    fn upload(&self, values: Cow<'_, [f32]>) -> Result<Buffer, DeviceError> {
        Ok(self.buffer(values.len() as u64))
    }

    fn upload_ids(&self, ids: &[u32], buffer: &mut Buffer<u32>) -> Result<(), DeviceError> {
        self.resize_buffer(buffer, ids.len() as u64);
        Ok(())
    }

    fn write(&self, _values: &[f32], _to: ViewMut<'_>) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read(&self, _from: View<'_>, values: &mut [f32]) -> Result<(), DeviceError> {
        values.fill(0.0);
        Ok(())
    }

    fn download(&self, buffer: Buffer) -> Result<Vec<f32>, DeviceError> {
        Ok(vec![0.0; buffer.len() as usize])
    }

    fn fill(&self, _x: ViewMut<'_>, _value: f32) {}
    fn gemm(&self, _a: Matrix<'_>, _b: Matrix<'_>, _c: MatrixMut<'_>, _accumulate: bool) {}
    fn embedding(&self, _table: View<'_>, _ids: View<'_, u32>, _out: ViewMut<'_>) {}
    fn embedding_backward(&self, _dout: View<'_>, _ids: View<'_, u32>, _dtable: ViewMut<'_>) {}
    fn rms_norm(&self, _inputs: NormInputs<'_>, _eps: f32, _out: ViewMut<'_>, _inv_rms: ViewMut<'_>) {}
    fn rms_norm_backward(&self, _gradient: NormGradient<'_>, _dx: ViewMut<'_>, _dweight: ViewMut<'_>) {}
    fn cross_entropy(&self, _logits: ViewMut<'_>, _targets: View<'_, u32>, _scale: f32, _losses: ViewMut<'_>) {}
    fn cross_entropy_loss(&self, _logits: View<'_>, _targets: View<'_, u32>, _losses: ViewMut<'_>) {}
    fn split_heads(&self, _layout: HeadLayout, _by_token: View<'_>, _by_head: ViewMut<'_>) {}
    fn merge_heads(&self, _layout: HeadLayout, _by_head: View<'_>, _by_token: ViewMut<'_>) {}
    fn rotary(&self, _shape: AttentionShape, _qkv: ViewMut<'_>, _tables: &RotaryBuffers) {}
    fn rotary_backward(&self, _shape: AttentionShape, _qkv: ViewMut<'_>, _tables: &RotaryBuffers) {}

    fn attention_statistics(&self, shape: AttentionShape, sequences: u64) -> u64 {
        self.like.attention_statistics(shape, sequences)
    }

    fn attention(&self, _shape: AttentionShape, _qkv: View<'_>, _context: ViewMut<'_>, _statistics: ViewMut<'_>) {}
    fn attention_backward(&self, _shape: AttentionShape, _of: AttentionGradient<'_>, _statistics: ViewMut<'_>) {}
    fn add(&self, _x: ViewMut<'_>, _y: View<'_>) {}
    fn subtract(&self, _x: ViewMut<'_>, _y: View<'_>) {}
    fn scale(&self, _x: ViewMut<'_>, _factor: f32) {}
    fn swiglu(&self, _inputs: GateInputs<'_>, _out: ViewMut<'_>) {}
    fn swiglu_backward(&self, _inputs: GateInputs<'_>, _dout: View<'_>, _dgate: ViewMut<'_>, _dup: ViewMut<'_>) {}
    fn adamw(&self, _settings: &AdamW, _update: AdamWUpdate<'_>) {}

    fn squared_norms(&self, _x: &Buffer, ranges: &[Range<u64>]) -> Result<Vec<f64>, DeviceError> {
        Ok(vec![0.0; ranges.len()])
    }

    fn first_non_finite(&self, _x: View<'_>) -> Result<Option<u64>, DeviceError> {
        Ok(None)
    }

    fn hash(
        &self,
        _parts: &[&Buffer],
        ranges: &[Range<u64>],
        _key: Option<&[u8; 32]>,
    ) -> Result<Vec<[u8; 32]>, DeviceError> {
        Ok(vec![[0; 32]; ranges.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Cpu;

    #[test]
    fn memory_is_counted_while_it_is_held() {
        let dry = DryDevice::of(Arc::new(Cpu::best()));
        let first = dry.zeros(100).unwrap();
        let mut second = dry.upload(vec![0.0; 50].into()).unwrap();
        assert_eq!(dry.memory_use(), MemoryUse { peak_bytes: 600, buffer_bytes: 400 });
        drop(first);
        // A shorter buffer keeps its memory, and a longer one gives it back before it takes new.
        dry.resize(&mut second, 10).unwrap();
        dry.resize(&mut second, 60).unwrap();
        assert_eq!(dry.memory_use().peak_bytes, 600);
        dry.resize(&mut second, 200).unwrap();
        assert_eq!(dry.memory_use(), MemoryUse { peak_bytes: 800, buffer_bytes: 800 });
        // Nothing is reserved: a model of any size can be measured.
        dry.zeros(1 << 50).unwrap();
        assert_eq!(dry.memory_use().buffer_bytes, 1 << 52);
    }
}

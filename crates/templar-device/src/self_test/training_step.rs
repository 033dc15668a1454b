//! A few training steps of a small transformer through the operations of a device, hashed after each step.
//!
//! The frozen vectors test every operation alone. This tests them one after another on memory that stays on the device:
//! an operation that starts before the one before it has finished, or a product whose edges are wrong at a size that no
//! vector has, changes the hashes. It is not the model of a run, which belongs to a higher layer; it only has the same
//! parts.

use std::ops::Range;

use templar_numerics::{AttentionShape, HeadLayout, RotaryScaling, RotaryTables, twin, vectors};

use crate::buffer::{Buffer, View};
use crate::device::{
    AdamWUpdate, AttentionGradient, Device, DeviceError, GateInputs, Matrix, MatrixMut, NormGradient, NormInputs,
    RotaryBuffers,
};

/// Two sequences, whose rows do not fill the last block of attention, and sizes that fill no tile of a product.
const SEQUENCES: usize = 2;
const SHAPE: AttentionShape = AttentionShape { length: 100, heads: 4, kv_heads: 2, width: 34 };
const QKV_LAYOUT: HeadLayout = HeadLayout { length: 100, count: 8, width: 34 };
const CONTEXT_LAYOUT: HeadLayout = HeadLayout { length: 100, count: 4, width: 34 };
const ROWS: usize = SEQUENCES * SHAPE.length;
const HIDDEN: usize = SHAPE.heads * SHAPE.width;
const QKV: usize = QKV_LAYOUT.count * SHAPE.width;
const FFN: usize = 200;
const VOCAB: usize = 517;
const EPS: f32 = 1e-5;

/// The tensors of the model, in their order.
#[derive(Debug, Clone, Copy)]
enum Tensor {
    Embedding,
    Qkv,
    Out,
    Gate,
    Up,
    Down,
    AttentionNorm,
    FfnNorm,
}

/// Elements of each [`Tensor`]. A matrix is `[outputs, inputs]`.
const ELEMENTS: [usize; 8] =
    [VOCAB * HIDDEN, QKV * HIDDEN, HIDDEN * HIDDEN, FFN * HIDDEN, FFN * HIDDEN, HIDDEN * FFN, HIDDEN, HIDDEN];

fn places() -> [Range<u64>; 8] {
    let mut end = 0;
    ELEMENTS.map(|elements| {
        let start = end;
        end += elements as u64;
        start..end
    })
}

/// Of so many steps, for each the bits of the losses' sum and of the gradient's norm, and the hash of each tensor with its moments.
pub(super) fn trace(device: &dyn Device, steps: u64) -> Result<Vec<Vec<u8>>, DeviceError> {
    let mut numbers = vectors::Generator::new(2032);
    let (places, count) = (places(), ELEMENTS.iter().sum());
    let start: Vec<f32> = numbers.ordinary(count).into_iter().map(|value| value / 16.0).collect();
    let mut params = device.upload(start.into())?;
    let [mut gradient, mut first, mut second] =
        [device.zeros(count as u64)?, device.zeros(count as u64)?, device.zeros(count as u64)?];
    let tables = RotaryTables::new(SHAPE.length, SHAPE.width, 10_000.0, RotaryScaling::None);
    let tables = device.upload_tables(tables)?;
    let mut found = Vec::new();
    for number in 1..=steps {
        let mut ids = || -> Result<Buffer<u32>, DeviceError> {
            let ids: Vec<u32> = (0..ROWS).map(|_| (numbers.bits() % VOCAB as u64) as u32).collect();
            let mut buffer = Buffer::default();
            device.upload_ids(&ids, &mut buffer)?;
            Ok(buffer)
        };
        let ids = [ids()?, ids()?];
        let mut pass = Pass { device, params: &params, gradient: &mut gradient, tables: &tables };
        let loss = pass.run(&ids)?;
        let squares = device.squared_norms(&gradient, &places)?;
        let norm = squares.into_iter().fold(0.0, |sum, square| sum + square).sqrt();
        device.scale(gradient.all_mut(), (1.0 / norm) as f32);
        let settings = twin::adamw_settings(number, 1e-3, 900_000, 950_000, 1e-8, 100_000);
        for place in &places {
            let update = AdamWUpdate {
                params: params.view_mut(place.clone()),
                gradient: gradient.view(place.clone()),
                first: first.view_mut(place.clone()),
                second: second.view_mut(place.clone()),
            };
            device.adamw(&settings, update);
        }
        found.extend([loss, norm].map(|number| number.to_bits().to_le_bytes().to_vec()));
        let hashes = device.hash(&[&params, &first, &second], &places, None)?;
        found.extend(hashes.into_iter().map(|hash| hash.to_vec()));
    }
    Ok(found)
}

/// One forward and backward pass.
struct Pass<'a> {
    device: &'a dyn Device,
    params: &'a Buffer,
    gradient: &'a mut Buffer,
    tables: &'a RotaryBuffers,
}

impl<'a> Pass<'a> {
    fn weight(&self, tensor: Tensor) -> View<'a> {
        self.params.view(places()[tensor as usize].clone())
    }

    fn activation(&self, width: usize) -> Result<Buffer, DeviceError> {
        self.device.zeros((ROWS * width) as u64)
    }

    /// `x Wᵀ`, `[ROWS, outputs]`.
    fn linear(&self, x: &Buffer, tensor: Tensor, outputs: usize) -> Result<Buffer, DeviceError> {
        let mut y = self.activation(outputs)?;
        let weight = Matrix::new(self.weight(tensor), outputs as u64).transposed();
        self.device.gemm(matrix(x), weight, MatrixMut::new(y.all_mut(), ROWS as u64), false);
        Ok(y)
    }

    /// The gradient of the weight of a [`Pass::linear`], and `dx = dy W`, or `dx += dy W`.
    fn back(&mut self, dy: &Buffer, x: &Buffer, tensor: Tensor, dx: &mut Buffer, accumulate: bool) {
        let outputs = dy.len() / ROWS as u64;
        let dweight = MatrixMut::new(self.gradient.view_mut(places()[tensor as usize].clone()), outputs);
        self.device.gemm(matrix(dy).transposed(), matrix(x), dweight, false);
        let weight = Matrix::new(self.weight(tensor), outputs);
        self.device.gemm(matrix(dy), weight, MatrixMut::new(dx.all_mut(), ROWS as u64), accumulate);
    }

    /// RMSNorm of `x`, with the inverse root mean squares.
    fn norm(&self, x: &Buffer, tensor: Tensor) -> Result<[Buffer; 2], DeviceError> {
        let (mut out, mut inv) = (self.activation(HIDDEN)?, self.activation(1)?);
        let inputs = NormInputs { x: x.all(), weight: self.weight(tensor) };
        self.device.rms_norm(inputs, EPS, out.all_mut(), inv.all_mut());
        Ok([out, inv])
    }

    /// Adds the gradient of a [`Pass::norm`] to `dx`.
    fn norm_back(&mut self, (x, inv): (&Buffer, &Buffer), tensor: Tensor, dy: &Buffer, dx: &mut Buffer) {
        let inputs = NormInputs { x: x.all(), weight: self.weight(tensor) };
        let place = places()[tensor as usize].clone();
        self.device.fill(self.gradient.view_mut(place.clone()), 0.0);
        let gradient = NormGradient { inputs, inv_rms: inv.all(), dy: dy.all() };
        self.device.rms_norm_backward(gradient, dx.all_mut(), self.gradient.view_mut(place));
    }

    /// The sum of the losses; the gradient is overwritten.
    fn run(&mut self, [inputs, targets]: &[Buffer<u32>; 2]) -> Result<f64, DeviceError> {
        let device = self.device;
        let mut x = self.activation(HIDDEN)?;
        device.embedding(self.weight(Tensor::Embedding), inputs.all(), x.all_mut());
        let [normed, inv] = self.norm(&x, Tensor::AttentionNorm)?;
        let by_token = self.linear(&normed, Tensor::Qkv, QKV)?;
        let (mut qkv, mut by_head, mut context) =
            (self.activation(QKV)?, self.activation(HIDDEN)?, self.activation(HIDDEN)?);
        device.split_heads(QKV_LAYOUT, by_token.all(), qkv.all_mut());
        device.rotary(SHAPE, qkv.all_mut(), self.tables);
        let mut statistics = device.zeros(device.attention_statistics(SHAPE, SEQUENCES as u64))?;
        device.attention(SHAPE, qkv.all(), by_head.all_mut(), statistics.all_mut());
        device.merge_heads(CONTEXT_LAYOUT, by_head.all(), context.all_mut());
        let mut middle = self.linear(&context, Tensor::Out, HIDDEN)?;
        device.add(middle.all_mut(), x.all());
        let [ffn_normed, ffn_inv] = self.norm(&middle, Tensor::FfnNorm)?;
        let (gate, up) = (self.linear(&ffn_normed, Tensor::Gate, FFN)?, self.linear(&ffn_normed, Tensor::Up, FFN)?);
        let gates = GateInputs { gate: gate.all(), up: up.all() };
        let mut gated = self.activation(FFN)?;
        device.swiglu(gates.clone(), gated.all_mut());
        let mut output = self.linear(&gated, Tensor::Down, HIDDEN)?;
        device.add(output.all_mut(), middle.all());
        let mut logits = self.linear(&output, Tensor::Embedding, VOCAB)?;
        let mut losses = self.activation(1)?;
        device.cross_entropy(logits.all_mut(), targets.all(), 1.0 / ROWS as f32, losses.all_mut());

        let [mut residual, mut dnormed, mut dcontext] =
            [self.activation(HIDDEN)?, self.activation(HIDDEN)?, self.activation(HIDDEN)?];
        let (mut dgated, mut dgate, mut dup) = (self.activation(FFN)?, self.activation(FFN)?, self.activation(FFN)?);
        self.back(&logits, &output, Tensor::Embedding, &mut residual, false);
        self.back(&residual, &gated, Tensor::Down, &mut dgated, false);
        device.swiglu_backward(gates, dgated.all(), dgate.all_mut(), dup.all_mut());
        self.back(&dgate, &ffn_normed, Tensor::Gate, &mut dnormed, false);
        self.back(&dup, &ffn_normed, Tensor::Up, &mut dnormed, true);
        self.norm_back((&middle, &ffn_inv), Tensor::FfnNorm, &dnormed, &mut residual);
        self.back(&residual, &context, Tensor::Out, &mut dcontext, false);
        let mut dqkv = self.activation(QKV)?;
        let gradient = AttentionGradient { qkv: qkv.all(), dcontext: dcontext.all(), dqkv: dqkv.all_mut() };
        device.attention_backward(SHAPE, gradient, statistics.all_mut());
        device.rotary_backward(SHAPE, dqkv.all_mut(), self.tables);
        let mut dqkv_by_token = by_token;
        device.merge_heads(QKV_LAYOUT, dqkv.all(), dqkv_by_token.all_mut());
        self.back(&dqkv_by_token, &normed, Tensor::Qkv, &mut dnormed, false);
        self.norm_back((&x, &inv), Tensor::AttentionNorm, &dnormed, &mut residual);
        let table = self.gradient.view_mut(places()[Tensor::Embedding as usize].clone());
        device.embedding_backward(residual.all(), inputs.all(), table);
        let mut values = vec![0.0; ROWS];
        device.read(losses.all(), &mut values)?;
        Ok(twin::sum_of_losses(&values))
    }
}

/// An activation, `[ROWS, width]`.
fn matrix(x: &Buffer) -> Matrix<'_> {
    Matrix::new(x.all(), ROWS as u64)
}

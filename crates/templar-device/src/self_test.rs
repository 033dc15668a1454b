//! Compares a device with the slow twin, operation by operation, on the frozen vectors.

mod training_step;

use std::borrow::Cow;

use templar_manifest::Arithmetic;
use templar_numerics::vectors::{self, Inputs};
use templar_numerics::{Op, twin};

use crate::buffer::Buffer;
use crate::cpu::Cpu;
use crate::device::{
    AdamWUpdate, AttentionGradient, Device, DeviceError, GateInputs, Matrix, MatrixMut, NormGradient, NormInputs,
};

/// A device cannot be tested, or it computes something else than the specification.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelfTestError {
    /// The device failed while it was tested.
    #[error("the self-test cannot be run")]
    Device(#[from] DeviceError),
    /// An operation has other bits than the specification.
    #[error(
        "{operation} on {device} gives {found:#010x} where the specification has {expected:#010x}, \
         in element {element} of output {output}"
    )]
    Difference {
        /// The tested device, by its [`Device::name`].
        device: String,
        /// The operation, or the group of operations that one vector tests.
        operation: &'static str,
        /// Which output, from 0.
        output: usize,
        /// Which element of it.
        element: usize,
        /// The bits that the twin gives.
        expected: u32,
        /// The bits that the device gives.
        found: u32,
    },
}

/// Runs every operation of a device on the frozen vectors, wild numbers among them, and compares each element
/// with the slow twin's. NaN equals NaN; everything else must have the same bits.
///
/// Takes about a second on a CPU. A device that passes may compute for a run; a device that flushes subnormal
/// numbers, contracts products and sums, or divides by an approximate reciprocal does not pass.
///
/// # Errors
/// The first difference, or the device's own error.
pub fn self_test(device: &dyn Device) -> Result<(), SelfTestError> {
    match device.arithmetic() {
        Arithmetic::F32 => fused_multiply_adds(device)?,
        Arithmetic::I8x2 => sums_of_limbs(device)?,
    }
    for vector in vectors::frozen() {
        let expected = match device.arithmetic() {
            Arithmetic::F32 => vector.inputs.outputs(),
            Arithmetic::I8x2 => vector.inputs.outputs_by_limbs(),
        };
        if let Inputs::CrossEntropy { logits, targets, .. } = &vector.inputs {
            // The losses without a gradient have the same bits.
            compare(device, "cross_entropy_loss", &expected[1..], &[losses(device, logits, targets)?])?;
        }
        if let Some(found) = run(device, vector.inputs)? {
            compare(device, vector.name, &expected, &found)?;
        }
    }
    norms(device)?;
    memory(device)?;
    hashes(device)
}

/// The [`self_test`], and two training steps of a small model, which must end in the bits that the CPU gives. A device
/// that passes may compute for a run.
///
/// # Errors
/// The first difference, or the device's own error.
pub fn prove(device: &dyn Device) -> Result<(), SelfTestError> {
    self_test(device)?;
    let cpu = Cpu::best().computing(device.arithmetic());
    let (expected, found) = (training_step::trace(&cpu, STEPS)?, training_step::trace(device, STEPS)?);
    for (output, (expected, found)) in expected.iter().zip(&found).enumerate() {
        compare_words(device, ("training_step", output), &words(expected), &words(found))?;
    }
    Ok(())
}

/// Products of one step, at every edge of rounding.
fn fused_multiply_adds(device: &dyn Device) -> Result<(), SelfTestError> {
    for ([a, b, c], bits) in vectors::fused_multiply_adds() {
        let inputs =
            Inputs::Gemm { shape: [1, 1, 1], a: (vec![a], Op::N), b: (vec![b], Op::N), c: vec![c], accumulate: true };
        let found = run(device, inputs)?.unwrap_or_default();
        compare(device, "fma", &[vec![f32::from_bits(bits)]], &found)?;
    }
    Ok(())
}

/// Products whose sums are as large as limbs can make them, which an accumulator that is too narrow does not hold.
fn sums_of_limbs(device: &dyn Device) -> Result<(), SelfTestError> {
    for inputs in vectors::largest_sums_of_limbs() {
        let expected = inputs.outputs_by_limbs();
        compare(device, "sums of limbs", &expected, &run(device, inputs)?.unwrap_or_default())?;
    }
    Ok(())
}

/// Training steps that [`prove`] takes.
const STEPS: u64 = 2;

fn compare(
    device: &dyn Device,
    operation: &'static str,
    expected: &[Vec<f32>],
    found: &[Vec<f32>],
) -> Result<(), SelfTestError> {
    let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|value| vectors::bits(*value)).collect() };
    for (output, (expected, found)) in expected.iter().zip(found).enumerate() {
        compare_words(device, (operation, output), &bits(expected), &bits(found))?;
    }
    Ok(())
}

/// Compares one output of an operation, as words of any meaning.
fn compare_words(
    device: &dyn Device,
    (operation, output): (&'static str, usize),
    expected: &[u32],
    found: &[u32],
) -> Result<(), SelfTestError> {
    assert_eq!(expected.len(), found.len(), "{operation} has outputs of the specified length");
    match expected.iter().zip(found).position(|(expected, found)| expected != found) {
        None => Ok(()),
        Some(element) => {
            let (expected, found) = (expected[element], found[element]);
            Err(SelfTestError::Difference { device: device.name(), operation, output, element, expected, found })
        }
    }
}

/// Bytes as words, in little-endian order.
fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// A device with shorthand for vectors that come and go.
struct Bench<'a>(&'a dyn Device);

impl Bench<'_> {
    fn up(&self, values: Vec<f32>) -> Result<Buffer, DeviceError> {
        self.0.upload(values.into())
    }

    fn ids(&self, ids: &[u32]) -> Result<Buffer<u32>, DeviceError> {
        let mut buffer = Buffer::default();
        self.0.upload_ids(ids, &mut buffer)?;
        Ok(buffer)
    }

    fn zeros(&self, len: usize) -> Result<Buffer, DeviceError> {
        self.0.zeros(len as u64)
    }

    fn down<const N: usize>(&self, buffers: [Buffer; N]) -> Result<Option<Vec<Vec<f32>>>, DeviceError> {
        buffers.into_iter().map(|buffer| self.0.download(buffer)).collect::<Result<_, _>>().map(Some)
    }
}

/// The outputs of a vector by the operations of a device; `None` for kernels that are no operation by
/// themselves, which attention and rotation contain.
fn run(device: &dyn Device, inputs: Inputs) -> Result<Option<Vec<Vec<f32>>>, DeviceError> {
    let bench = Bench(device);
    match inputs {
        Inputs::Sums { .. } | Inputs::SumsByBits { .. } | Inputs::Softmax { .. } | Inputs::Rotary { .. } => Ok(None),
        Inputs::Gemm { shape: [m, n, k], a: (a, op_a), b: (b, op_b), c, accumulate } => {
            let (a, b, mut c) = (bench.up(a)?, bench.up(b)?, bench.up(c)?);
            let (a, b) = (operand(&a, op_a, m, k), operand(&b, op_b, k, n));
            device.gemm(a, b, MatrixMut::new(c.all_mut(), m as u64), accumulate);
            bench.down([c])
        }
        Inputs::RmsNorm { x, weight, dy, eps } => {
            let rows = x.len() / weight.len();
            let (mut out, mut inv) = (bench.zeros(x.len())?, bench.zeros(rows)?);
            let (mut dx, mut dweight) = (bench.zeros(x.len())?, bench.zeros(weight.len())?);
            let (x, weight, dy) = (bench.up(x)?, bench.up(weight)?, bench.up(dy)?);
            let inputs = NormInputs { x: x.all(), weight: weight.all() };
            device.rms_norm(inputs.clone(), eps, out.all_mut(), inv.all_mut());
            let gradient = NormGradient { inputs, inv_rms: inv.all(), dy: dy.all() };
            device.rms_norm_backward(gradient, dx.all_mut(), dweight.all_mut());
            bench.down([out, inv, dx, dweight])
        }
        Inputs::Swiglu { gate, up, dout } => {
            let len = gate.len();
            let (gate, up, dout) = (bench.up(gate)?, bench.up(up)?, bench.up(dout)?);
            let (mut out, mut dgate, mut dup) = (bench.zeros(len)?, bench.zeros(len)?, bench.zeros(len)?);
            let inputs = GateInputs { gate: gate.all(), up: up.all() };
            device.swiglu(inputs.clone(), out.all_mut());
            device.swiglu_backward(inputs, dout.all(), dgate.all_mut(), dup.all_mut());
            bench.down([out, dgate, dup])
        }
        Inputs::CrossEntropy { logits, targets, grad_scale } => {
            let (mut logits, targets) = (bench.up(logits)?, bench.ids(&targets)?);
            let mut losses = device.zeros(targets.len())?;
            device.cross_entropy(logits.all_mut(), targets.all(), grad_scale, losses.all_mut());
            bench.down([logits, losses])
        }
        Inputs::AdamW { settings, params, grads, m, v } => {
            let (mut params, grads) = (bench.up(params)?, bench.up(grads)?);
            let (mut m, mut v) = (bench.up(m)?, bench.up(v)?);
            let update = AdamWUpdate {
                params: params.all_mut(),
                gradient: grads.all(),
                first: m.all_mut(),
                second: v.all_mut(),
            };
            device.adamw(&settings, update);
            bench.down([params, m, v])
        }
        Inputs::Step { tensors } => step(&bench, tensors),
        Inputs::Attention { shape, tables, qkv, dcontext } => {
            let sequences = (qkv.len() / shape.sequence_floats()) as u64;
            let mut statistics = device.zeros(device.attention_statistics(shape, sequences))?;
            let (mut context, mut dqkv) = (bench.zeros(dcontext.len())?, bench.zeros(qkv.len())?);
            let (mut qkv, dcontext) = (bench.up(qkv)?, bench.up(dcontext)?);
            let tables = device.upload_tables(tables)?;
            device.rotary(shape, qkv.all_mut(), &tables);
            device.attention(shape, qkv.all(), context.all_mut(), statistics.all_mut());
            let gradient = AttentionGradient { qkv: qkv.all(), dcontext: dcontext.all(), dqkv: dqkv.all_mut() };
            device.attention_backward(shape, gradient, statistics.all_mut());
            let mut values = vec![0.0; dqkv.len() as usize];
            device.read(dqkv.all(), &mut values)?;
            let mut back = device.upload(Cow::Borrowed(&values))?;
            device.rotary_backward(shape, back.all_mut(), &tables);
            bench.down([qkv, context, dqkv, back])
        }
        Inputs::Layouts { layout, x } => {
            let (mut split, mut merged) = (bench.zeros(x.len())?, bench.zeros(x.len())?);
            let x = bench.up(x)?;
            device.split_heads(layout, x.all(), split.all_mut());
            device.merge_heads(layout, x.all(), merged.all_mut());
            bench.down([split, merged])
        }
        Inputs::Elementwise { x, y } => {
            let factor = y[0];
            let (mut sum, mut difference) = (bench.up(x.clone())?, bench.up(x.clone())?);
            let (mut product, y) = (bench.up(x)?, bench.up(y)?);
            device.add(sum.all_mut(), y.all());
            device.subtract(difference.all_mut(), y.all());
            device.scale(product.all_mut(), factor);
            bench.down([sum, difference, product])
        }
    }
}

/// The losses of [`Device::cross_entropy_loss`].
fn losses(device: &dyn Device, logits: &[f32], targets: &[u32]) -> Result<Vec<f32>, DeviceError> {
    let (logits, targets) = (device.upload(Cow::Borrowed(logits))?, Bench(device).ids(targets)?);
    let mut losses = device.zeros(targets.len())?;
    device.cross_entropy_loss(logits.all(), targets.all(), losses.all_mut());
    device.download(losses)
}

/// A matrix that the product sees as `[rows, cols]`. With no elements, rows cannot be told from the length.
fn operand(elements: &Buffer, op: Op, rows: usize, cols: usize) -> Matrix<'_> {
    let (stored_rows, stored_cols) = if op == Op::N { (rows, cols) } else { (cols, rows) };
    Matrix { elements: elements.all(), rows: stored_rows as u64, cols: stored_cols as u64, is_transposed: op == Op::T }
}

/// [`Inputs::Step`] with the three tensors in one buffer, as a gradient lies in memory.
fn step(bench: &Bench<'_>, tensors: [Vec<f32>; 3]) -> Result<Option<Vec<Vec<f32>>>, DeviceError> {
    let device = bench.0;
    let mut ranges = Vec::new();
    let mut flat = Vec::new();
    for tensor in &tensors {
        ranges.push(flat.len() as u64..(flat.len() + tensor.len()) as u64);
        flat.extend_from_slice(tensor);
    }
    let mut flat = bench.up(flat)?;
    let squares = device.squared_norms(&flat, &ranges)?.into_iter().fold(0.0, |sum, square| sum + square);
    let norm = squares.sqrt();
    if norm > 1.0 {
        device.scale(flat.all_mut(), (1.0 / norm) as f32);
    }
    let (mut rows, mut table) = (bench.zeros(12)?, bench.zeros(16)?);
    let (ids, others) = (bench.ids(&[3, 1, 3])?, bench.ids(&[3, 0, 3, 3])?);
    device.embedding(flat.view(ranges[0].start..ranges[0].start + 48), ids.all(), rows.all_mut());
    device.embedding_backward(flat.view(ranges[1].start..ranges[1].start + 16), others.all(), table.all_mut());
    let values = device.download(flat)?;
    let part = |index: usize| values[ranges[index].start as usize..ranges[index].end as usize].to_vec();
    let losses = twin::sum_of_losses(&part(0)) as f32;
    let numbers = vec![norm as f32, losses, twin::power(0.95, 12_345) as f32];
    Ok(Some(vec![part(0), part(1), part(2), device.download(rows)?, device.download(table)?, numbers]))
}

/// Tests squared norms to the last bit of their `f64`: of nothing, of parts of a block, and of several blocks that
/// begin anywhere in a buffer.
fn norms(device: &dyn Device) -> Result<(), SelfTestError> {
    let values = vectors::Generator::new(2031).wild(70_000);
    let buffer = device.upload(Cow::Borrowed(&values))?;
    let ranges = [0..0, 3..34, 100..16_484, 5..16_390, 1..70_000];
    let found = device.squared_norms(&buffer, &ranges)?;
    for (index, (range, found)) in ranges.into_iter().zip(found).enumerate() {
        let expected = twin::squared_norm_f64(&values[range.start as usize..range.end as usize]);
        let [expected, found] = [expected, found].map(|norm| words(&norm.to_bits().to_le_bytes()));
        compare_words(device, ("squared_norms", index), &expected, &found)?;
    }
    Ok(())
}

/// Tests the calls that bring data back: written and filled parts, the search for a non-finite element, and hashes.
fn memory(device: &dyn Device) -> Result<(), SelfTestError> {
    let mut values = vectors::Generator::new(2029).wild(70);
    let mut buffer = device.upload(Cow::Borrowed(&values))?;
    device.write(&[f32::NAN, 1.0], buffer.view_mut(40..42))?;
    device.fill(buffer.view_mut(60..63), -0.0);
    values[40..42].copy_from_slice(&[f32::NAN, 1.0]);
    values[60..63].fill(-0.0);
    let first = device.first_non_finite(buffer.view(3..70))?.map_or(u32::MAX, |index| index as u32);
    compare_words(device, ("first_non_finite", 0), &[37], &[first])?;
    let found = device.download(buffer)?;
    compare(device, "memory", &[values], &[found])
}

/// Tests hashes of one, two and three buffers: of nothing, of less and more than a block and a chunk of BLAKE3, and of
/// trees that are not full.
fn hashes(device: &dyn Device) -> Result<(), SelfTestError> {
    const LEN: u64 = 300_000;
    let values: Vec<Vec<f32>> = (0..3).map(|seed| vectors::Generator::new(2033 + seed).wild(LEN as usize)).collect();
    let buffers = values.iter().map(|values| device.upload(Cow::Borrowed(values))).collect::<Result<Vec<_>, _>>()?;
    let lengths = [0, 1, 5, 16, 17, 85, 86, 256, 257, 300, 1000, 65_536, 65_537, 100_003, LEN - 7];
    let ranges: Vec<_> = lengths.iter().map(|len| 7..7 + len).collect();
    for count in 1..=3 {
        let parts: Vec<&Buffer> = buffers[..count].iter().collect();
        for key in [None, Some([9; 32])] {
            let found = device.hash(&parts, &ranges, key.as_ref())?;
            for (index, (range, found)) in ranges.iter().zip(&found).enumerate() {
                let mut hasher = key.map_or_else(blake3::Hasher::new, |key| blake3::Hasher::new_keyed(&key));
                for part in &values[..count] {
                    let part = &part[range.start as usize..range.end as usize];
                    hasher.update(&part.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
                }
                compare_words(device, ("hash", index), &words(hasher.finalize().as_bytes()), &words(found))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use templar_numerics::Isa;
    use templar_numerics::i8x2::Unit;

    #[test]
    fn every_instruction_set_passes() {
        for isa in Isa::available() {
            self_test(&Cpu::with_isa(isa).unwrap()).unwrap();
        }
    }

    #[test]
    fn every_unit_that_multiplies_limbs_passes() {
        for unit in Unit::available() {
            prove(&Cpu::best().with_unit(unit).unwrap()).unwrap();
        }
    }

    const F32_STEPS: &str = "cb6e979f7b77e1995cc95a2c4a47e7fee91e145160ed3839f61a5aa288089b10";
    const I8X2_STEPS: &str = "fb78a1bba157e638ab979cc20dcc76812a7e12d4369d90c567d8f9545edf18f7";

    /// The hash of three training steps.
    fn three_steps(device: &dyn Device) -> String {
        blake3::hash(&training_step::trace(device, 3).unwrap().concat()).to_string()
    }

    /// Frozen: a change of a hash is a change of the arithmetic, and of every run that names it.
    #[test]
    fn three_training_steps_have_their_frozen_hash_on_every_unit_and_in_any_number_of_threads() {
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for isa in Isa::available() {
                let cpu = Cpu::with_isa(isa).unwrap();
                let found = pool.install(|| three_steps(&cpu));
                assert_eq!(found, F32_STEPS, "{isa}, {threads} threads");
            }
            for unit in Unit::available() {
                let cpu = Cpu::best().with_unit(unit).unwrap();
                let found = pool.install(|| three_steps(&cpu));
                assert_eq!(found, I8X2_STEPS, "{unit}, {threads} threads");
            }
        }
    }

    /// Wild numbers are out of range of limbs, so each arithmetic has vectors that the other does not pass.
    #[test]
    fn the_vectors_tell_the_arithmetics_apart() {
        let limbs = Cpu::best().computing(Arithmetic::I8x2);
        for inputs in vectors::largest_sums_of_limbs() {
            let found = run(&Cpu::best(), inputs.clone()).unwrap().unwrap();
            compare(&limbs, "sums of limbs", &inputs.outputs_by_limbs(), &found).unwrap_err();
        }
    }

    #[test]
    fn a_difference_says_where_it_is() {
        let error = compare(&Cpu::best(), "swiglu", &[vec![], vec![1.0, -0.0]], &[vec![], vec![1.0, 0.0]]).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("gives 0x00000000 where the specification has 0x80000000, in element 1 of output 1")
        );
        compare(&Cpu::best(), "swiglu", &[vec![f32::NAN]], &[vec![-f32::NAN]]).unwrap();
    }
}

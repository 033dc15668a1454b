//! The frozen vectors as data: inputs, and the hash of what the specification gives for them.
//!
//! A device tests itself by computing the outputs of each vector and comparing them with [`Inputs::outputs`],
//! which the slow twin computes, and with the frozen [`FrozenVector::hash`]. Vectors with *wild* numbers hold
//! zeros of both signs, subnormal, huge and tiny numbers. They find a device that flushes subnormal numbers to
//! zero; whole training steps of ordinary size do not.
//!
//! The hashes are the twin's as they were when `f32/1` was named. A change of one is a change of the arithmetic.

use crate::adamw::AdamW;
use crate::attention::AttentionShape;
use crate::head_layout::HeadLayout;
use crate::i8x2::twin as limbs;
use crate::matrix::{Mat, MatMut, Op};
use crate::rotary::{RotaryScaling, RotaryTables};
use crate::twin;

/// A stream of test numbers: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub struct Generator(u64);

impl Generator {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `len` numbers spread over [-4, 4), all 24 bits of the significand in use.
    pub fn ordinary(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.bits() >> 40) as f32 / 2_097_152.0 - 4.0).collect()
    }

    /// Ordinary numbers with zeros of both signs, subnormals, huge and tiny ones between them; all finite.
    pub fn wild(&mut self, len: usize) -> Vec<f32> {
        let mut x = self.ordinary(len);
        for v in &mut x {
            let bits = self.bits();
            match bits % 16 {
                0 => *v = 0.0,
                1 => *v = -0.0,
                2 => *v = f32::from_bits((bits >> 32) as u32 & 0x807f_ffff),
                3 => *v *= 1.0e30,
                4 => *v *= 1.0e-30,
                _ => {}
            }
        }
        x
    }
}

/// A kernel or a group of kernels, the inputs of one call of each, and the hash of their outputs.
#[derive(Debug, Clone)]
pub struct FrozenVector {
    /// The name of the kernel or group, for a report.
    pub name: &'static str,
    /// The inputs of one call of each kernel.
    pub inputs: Inputs,
    /// The frozen [`hash`] of [`Inputs::outputs`].
    pub hash: u64,
}

/// The inputs of a frozen vector. Each variant says which outputs are hashed, in order.
#[derive(Debug, Clone)]
pub enum Inputs {
    /// A product `C = op(A)·op(B) [+ C]`: C.
    Gemm {
        /// Rows and columns of C, and the length of the sum.
        shape: [usize; 3],
        /// A with its form, stored without gaps.
        a: (Vec<f32>, Op),
        /// B with its form, stored without gaps.
        b: (Vec<f32>, Op),
        /// C before the product, stored without gaps.
        c: Vec<f32>,
        /// Whether the chains begin with C.
        accumulate: bool,
    },
    /// Sums over a row: `sum(x)`, `dot(x, y)`, and the squared norm of x in two `f32`.
    Sums {
        /// The first row.
        x: Vec<f32>,
        /// A row of the same length as x.
        y: Vec<f32>,
    },
    /// Sums over wild rows: `sum(x)`, `dot(small, y)`, and the 32-bit halves of the squared norms of y and of small.
    SumsByBits {
        /// The first row.
        x: Vec<f32>,
        /// A row of numbers near the smallest, as long as x.
        small: Vec<f32>,
        /// A row of the same length as x.
        y: Vec<f32>,
    },
    /// Softmax of x in place, and the gradient of `p` for `dp`: p, ds.
    Softmax {
        /// Scores, whose softmax is taken.
        x: Vec<f32>,
        /// Probabilities, whose gradient is taken.
        p: Vec<f32>,
        /// Gradient of the probabilities.
        dp: Vec<f32>,
    },
    /// RMSNorm and its gradients, added to zeros: out, inv_rms, dx, dweight.
    RmsNorm {
        /// The rows, `[rows, width]`.
        x: Vec<f32>,
        /// The norm's weight, `[width]`.
        weight: Vec<f32>,
        /// Gradient of the output, `[rows, width]`.
        dy: Vec<f32>,
        /// Added to the mean square.
        eps: f32,
    },
    /// The gated activation and its gradients: out, dgate, dup.
    Swiglu {
        /// The elements that go through the sigmoid.
        gate: Vec<f32>,
        /// The elements that the gate multiplies.
        up: Vec<f32>,
        /// Gradient of the output.
        dout: Vec<f32>,
    },
    /// Rotation of rows of two heads of 14 elements: there, back.
    Rotary {
        /// Cosines and sines of every position used.
        tables: RotaryTables,
        /// Rows that are turned, with the first position and the length of a sequence.
        there: (Vec<f32>, usize, usize),
        /// Rows that are turned back, likewise.
        back: (Vec<f32>, usize, usize),
    },
    /// Cross-entropy: the gradient, the losses.
    CrossEntropy {
        /// The logits, `[targets, vocab]`.
        logits: Vec<f32>,
        /// One id below vocab for each row.
        targets: Vec<u32>,
        /// Factor of the gradient.
        grad_scale: f32,
    },
    /// One step of AdamW: parameters, first moments, second moments.
    AdamW {
        /// The numbers of the step.
        settings: AdamW,
        /// The parameters before the step.
        params: Vec<f32>,
        /// The gradient of the parameters.
        grads: Vec<f32>,
        /// First moments before the step.
        m: Vec<f32>,
        /// Second moments before the step.
        v: Vec<f32>,
    },
    /// The parts of a step around the kernels: three tensors clipped to a norm of 1; rows 3, 1, 3 of the first,
    /// as a table four wide; the first four rows of the second added to rows 3, 0, 3, 3 of zeros; then in `f32`
    /// the norm before, the sum of the first's elements as losses, and 0.95 to the power 12,345.
    Step {
        /// Three tensors of a gradient.
        tensors: [Vec<f32>; 3],
    },
    /// Rotation of queries and keys, attention, its gradient and the rotation back: rotated qkv, context, dqkv,
    /// and dqkv turned back.
    Attention {
        /// The sizes of a sequence.
        shape: AttentionShape,
        /// Tables of the shape's width with a row for every position.
        tables: RotaryTables,
        /// `[sequences, heads + 2 kv_heads, length, width]`.
        qkv: Vec<f32>,
        /// `[sequences, length, heads, width]`.
        dcontext: Vec<f32>,
    },
    /// The two layouts of heads: x split, x merged.
    Layouts {
        /// The sizes of a sequence.
        layout: HeadLayout,
        /// Elements that are read in either layout.
        x: Vec<f32>,
    },
    /// `x + y`, `x - y`, `x · y[0]`.
    Elementwise {
        /// The first operand.
        x: Vec<f32>,
        /// The second operand, as long as x.
        y: Vec<f32>,
    },
}

impl Inputs {
    /// The outputs by the slow twin.
    pub fn outputs(&self) -> Vec<Vec<f32>> {
        match self.clone() {
            Inputs::Gemm { shape: [m, n, k], a, b, mut c, accumulate } => {
                let (a, b) = ((operand(&a, m, k), a.1), (operand(&b, k, n), b.1));
                twin::gemm(a.0, a.1, b.0, b.1, MatMut::new(&mut c, m, n), accumulate);
                vec![c]
            }
            Inputs::Sums { x, y } => {
                let norm = twin::squared_norm_f64(&x);
                vec![vec![twin::sum(&x), twin::dot(&x, &y), norm as f32, (norm - f64::from(norm as f32)) as f32]]
            }
            Inputs::SumsByBits { x, small, y } => {
                let [norm, small_norm] = [&y, &small].map(|x| twin::squared_norm_f64(x).to_bits());
                let halves = [norm, norm >> 32, small_norm, small_norm >> 32].map(|b| f32::from_bits(b as u32));
                vec![vec![twin::sum(&x), twin::dot(&small, &y)], halves.to_vec()]
            }
            Inputs::Softmax { mut x, p, dp } => {
                let mut ds = vec![0.0; p.len()];
                twin::softmax(&mut x);
                twin::softmax_backward(&p, &dp, &mut ds);
                vec![x, ds]
            }
            Inputs::RmsNorm { x, weight, dy, eps } => {
                let rows = x.len() / weight.len();
                let (mut out, mut inv) = (vec![0.0; x.len()], vec![0.0; rows]);
                let (mut dx, mut dweight) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
                twin::rms_norm(&x, &weight, eps, &mut out, &mut inv);
                twin::rms_norm_backward(&x, &weight, &inv, &dy, &mut dx, &mut dweight);
                vec![out, inv, dx, dweight]
            }
            Inputs::Swiglu { gate, up, dout } => {
                let [mut out, mut dgate, mut dup] = [(); 3].map(|()| vec![0.0; gate.len()]);
                twin::swiglu(&gate, &up, &mut out);
                twin::swiglu_backward(&gate, &up, &dout, &mut dgate, &mut dup);
                vec![out, dgate, dup]
            }
            Inputs::Rotary { tables, mut there, mut back } => {
                twin::rotary(&mut there.0, 2, 14, tables.angles(), there.1, there.2);
                twin::rotary_backward(&mut back.0, 2, 14, tables.angles(), back.1, back.2);
                vec![there.0, back.0]
            }
            Inputs::CrossEntropy { mut logits, targets, grad_scale } => {
                let mut losses = vec![0.0; targets.len()];
                twin::cross_entropy(&mut logits, &targets, grad_scale, &mut losses);
                vec![logits, losses]
            }
            Inputs::AdamW { settings, mut params, grads, mut m, mut v } => {
                twin::adamw(&settings, &mut params, &grads, &mut m, &mut v);
                vec![params, m, v]
            }
            Inputs::Step { mut tensors } => {
                let norm = twin::clip(&mut tensors.each_mut().map(Vec::as_mut_slice), 1.0);
                let (mut rows, mut table) = (vec![0.0; 12], vec![0.0; 16]);
                twin::embedding(&tensors[0], 4, &[3, 1, 3], &mut rows);
                twin::embedding_backward(&tensors[1], 4, &[3, 0, 3, 3], &mut table);
                let losses = twin::sum_of_losses(&tensors[0]) as f32;
                let [first, second, third] = tensors;
                vec![first, second, third, rows, table, vec![norm as f32, losses, twin::power(0.95, 12_345) as f32]]
            }
            Inputs::Attention { shape, tables, qkv, dcontext } => {
                attention_outputs((shape, &tables), qkv, &dcontext, (twin::attention, twin::attention_backward))
            }
            Inputs::Layouts { layout, x } => {
                let [mut split, mut merged] = [(); 2].map(|()| vec![0.0; x.len()]);
                twin::split_heads(layout, &x, &mut split);
                twin::merge_heads(layout, &x, &mut merged);
                vec![split, merged]
            }
            Inputs::Elementwise { x, y } => {
                let [mut sum, mut difference, mut product] = [(); 3].map(|()| x.clone());
                twin::add_in_place(&mut sum, &y);
                twin::subtract_in_place(&mut difference, &y);
                twin::scale_in_place(&mut product, y[0]);
                vec![sum, difference, product]
            }
        }
    }

    /// The outputs that the twin of `i8x2/1` computes. They differ from [`Inputs::outputs`] in products and attention.
    pub fn outputs_by_limbs(&self) -> Vec<Vec<f32>> {
        match self.clone() {
            Inputs::Gemm { shape: [m, n, k], a, b, mut c, accumulate } => {
                let (a, b) = ((operand(&a, m, k), a.1), (operand(&b, k, n), b.1));
                limbs::gemm(a.0, a.1, b.0, b.1, MatMut::new(&mut c, m, n), accumulate);
                vec![c]
            }
            Inputs::Attention { shape, tables, qkv, dcontext } => {
                attention_outputs((shape, &tables), qkv, &dcontext, (limbs::attention, limbs::attention_backward))
            }
            _ => self.outputs(),
        }
    }
}

/// Products whose sums of limbs are the largest there are, of every pattern of signs.
pub fn largest_sums_of_limbs() -> Vec<Inputs> {
    // 127 in both limbs, and 127 and -128.
    let largest = [32_639.0, -32_639.0, 32_384.0, -32_384.0];
    let [m, n, k] = [4, 8, 300];
    let of_row = |row: usize, k: usize| if k % 128 == 5 { largest[row % 2] } else { largest[row % 4] };
    let mixed = |row: usize, k: usize| largest[(row + k) % 4];
    let fill = |rows: usize, number: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
        (0..rows * k).map(|index| number(index / k, index % k)).collect()
    };
    let product = |number: &dyn Fn(usize, usize) -> f32| Inputs::Gemm {
        shape: [m, n, k],
        a: (fill(m, number), Op::N),
        b: (fill(n, number), Op::T),
        c: vec![1.0; m * n],
        accumulate: true,
    };
    vec![product(&of_row), product(&mixed)]
}

/// A forward and a backward pass of attention.
type Passes = (fn(AttentionShape, &[f32], &mut [f32]), fn(AttentionShape, &[f32], &[f32], &mut [f32]));

/// The outputs of [`Inputs::Attention`].
fn attention_outputs(
    (shape, tables): (AttentionShape, &RotaryTables),
    mut qkv: Vec<f32>,
    dcontext: &[f32],
    (attention, attention_backward): Passes,
) -> Vec<Vec<f32>> {
    let (mut context, mut dqkv) = (vec![0.0; dcontext.len()], vec![0.0; qkv.len()]);
    twin::rotate_heads(shape, &mut qkv, tables.angles());
    attention(shape, &qkv, &mut context);
    attention_backward(shape, &qkv, dcontext, &mut dqkv);
    let mut back = dqkv.clone();
    twin::rotate_heads_backward(shape, &mut back, tables.angles());
    vec![qkv, context, dqkv, back]
}

/// An operand that the product sees as `[rows, cols]`.
fn operand((elements, op): &(Vec<f32>, Op), rows: usize, cols: usize) -> Mat<'_> {
    match op {
        Op::N => Mat::new(elements, rows, cols),
        Op::T => Mat::new(elements, cols, rows),
    }
}

/// FNV-1a over the bits of all outputs in order; every NaN counts as the same one.
pub fn hash(outputs: &[Vec<f32>]) -> u64 {
    let bytes = outputs.iter().flatten().flat_map(|v| bits(*v).to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |h, byte| (h ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The bits of a number; the bits of a NaN are not defined, so every NaN has the same ones here.
pub fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

/// All frozen vectors, on ordinary and on wild numbers.
pub fn frozen() -> Vec<FrozenVector> {
    let mut vectors = ordinary();
    vectors.extend(wild());
    vectors.extend(whole_operations());
    vectors.extend(several_blocks());
    vectors
}

/// One vector for each kernel on ordinary numbers.
fn ordinary() -> Vec<FrozenVector> {
    let mut numbers = Generator::new(2026);
    let mut found = Vec::new();
    let gemm_hashes = [0x4bc5_2921_487d_dddb, 0x904b_2fff_1372_c76d, 0xe1a6_ca78_eb84_67cb];
    for (k, hash) in [0, 1, 513].into_iter().zip(gemm_hashes) {
        let (a, b, c) = (numbers.wild(5 * k), numbers.ordinary(k * 7), numbers.ordinary(35));
        let inputs = Inputs::Gemm { shape: [5, 7, k], a: (a, Op::N), b: (b, Op::T), c, accumulate: true };
        found.push(FrozenVector { name: "gemm", inputs, hash });
    }
    let (x, y, weight) = (numbers.ordinary(300), numbers.ordinary(300), numbers.ordinary(100));
    let mut p = x.clone();
    twin::softmax(&mut p);
    let tables = RotaryTables::new(8192, 14, 500_000.0, RotaryScaling::None);
    let (there, back) = ((x[..280].to_vec(), 8180, 5), (x[..280].to_vec(), 100, 7));
    let settings = AdamW { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.1, bias2: 0.05 };
    let zeros = || vec![0.0; 300];
    let (x, y) = (|| x.clone(), || y.clone());
    found.extend([
        FrozenVector { name: "sums", inputs: Inputs::Sums { x: x(), y: y() }, hash: 0xec91_ea11_a138_8fae },
        FrozenVector {
            name: "softmax",
            inputs: Inputs::Softmax { x: x(), p: p.clone(), dp: y() },
            hash: 0x59f8_b688_3168_46bc,
        },
        FrozenVector {
            name: "rms_norm",
            inputs: Inputs::RmsNorm { x: x(), weight, dy: y(), eps: 1e-5 },
            hash: 0xeaf6_6b1c_06eb_6cae,
        },
        FrozenVector {
            name: "swiglu",
            inputs: Inputs::Swiglu { gate: x(), up: y(), dout: p },
            hash: 0x1380_bd92_6c0e_6cd6,
        },
        FrozenVector { name: "rotary", inputs: Inputs::Rotary { tables, there, back }, hash: 0x42a2_02dd_97e5_3a14 },
        FrozenVector {
            name: "cross_entropy",
            inputs: Inputs::CrossEntropy { logits: x(), targets: vec![0, 57, 99], grad_scale: 0.25 },
            hash: 0x86da_a9ec_8ba1_323d,
        },
        FrozenVector {
            name: "adamw",
            inputs: Inputs::AdamW { settings, params: x(), grads: y(), m: zeros(), v: zeros() },
            hash: 0xdc6b_5152_d33d_6a9c,
        },
    ]);
    found
}

/// The kernels on wild numbers, with infinities and NaN in what comes of them; and the longest chain.
fn wild() -> Vec<FrozenVector> {
    let mut numbers = Generator::new(2027);
    let (a, b) = (numbers.ordinary(2 * 100_003), numbers.wild(100_003 * 3));
    let long =
        Inputs::Gemm { shape: [2, 3, 100_003], a: (a, Op::N), b: (b, Op::T), c: vec![0.0; 6], accumulate: false };
    let (x, y, weight) = (numbers.wild(300), numbers.wild(300), numbers.ordinary(100));
    let small: Vec<f32> = x.iter().map(|x| x * 1e-28).collect();
    let tables = RotaryTables::new(100, 14, 10_000.0, RotaryScaling::Linear { factor: 3.0 });
    let (there, back) = ((x[..280].to_vec(), 90, 10), (small[..280].to_vec(), 0, 7));
    let settings = twin::adamw_settings(1_000_003, 1e-3, 900_000, 950_000, 1e-8, 100_000);
    let tensors = [numbers.ordinary(50), numbers.wild(33), numbers.ordinary(7)];
    let (x, small, y) = (|| x.clone(), || small.clone(), || y.clone());
    vec![
        FrozenVector { name: "gemm", inputs: long, hash: 0xd1e5_5aa8_edbb_1191 },
        FrozenVector {
            name: "sums",
            inputs: Inputs::SumsByBits { x: x(), small: small(), y: y() },
            hash: 0xe78b_4d79_3cee_c341,
        },
        FrozenVector {
            name: "softmax",
            inputs: Inputs::Softmax { x: x(), p: small(), dp: y() },
            hash: 0xb24e_318a_10b5_d88f,
        },
        FrozenVector {
            name: "rms_norm",
            inputs: Inputs::RmsNorm { x: small(), weight, dy: y(), eps: 1e-5 },
            hash: 0x9357_4628_e82d_beea,
        },
        FrozenVector {
            name: "swiglu",
            inputs: Inputs::Swiglu { gate: x(), up: y(), dout: small() },
            hash: 0x906d_1143_f7bb_d9c6,
        },
        FrozenVector { name: "rotary", inputs: Inputs::Rotary { tables, there, back }, hash: 0x2946_ac01_bc8d_3ce1 },
        FrozenVector {
            name: "cross_entropy",
            inputs: Inputs::CrossEntropy { logits: x(), targets: vec![0, 57, 99], grad_scale: 1e-30 },
            hash: 0x868e_d940_6621_a6d3,
        },
        FrozenVector {
            name: "adamw",
            inputs: Inputs::AdamW { settings, params: x(), grads: y(), m: small(), v: vec![1e-40; 300] },
            hash: 0xaa8b_0fde_3804_999b,
        },
        FrozenVector { name: "step", inputs: Inputs::Step { tensors }, hash: 0x24c9_df5d_1f2d_af96 },
    ]
}

/// Products in every form, attention as a whole, the layouts of heads, and what is done element by element.
fn whole_operations() -> Vec<FrozenVector> {
    let mut numbers = Generator::new(2028);
    let mut found = Vec::new();
    let forms = [(Op::N, Op::N), (Op::N, Op::T), (Op::T, Op::N), (Op::T, Op::T)];
    for ((op_a, op_b), hash) in forms.into_iter().zip(FORM_HASHES) {
        let shape @ [m, n, k] = [13, 37, 150];
        let (a, b, c) = (numbers.wild(m * k), numbers.wild(k * n), numbers.wild(m * n));
        let inputs = Inputs::Gemm { shape, a: (a, op_a), b: (b, op_b), c, accumulate: true };
        found.push(FrozenVector { name: "gemm", inputs, hash });
    }
    let shape = AttentionShape { length: 70, heads: 4, kv_heads: 2, width: 6 };
    let (floats, queries) = (2 * shape.sequence_floats(), 2 * shape.heads * shape.length * shape.width);
    let inputs =
        [(numbers.ordinary(floats), numbers.ordinary(queries)), (numbers.wild(floats), numbers.ordinary(queries))];
    for ((qkv, dcontext), hash) in inputs.into_iter().zip(ATTENTION_HASHES) {
        let tables = RotaryTables::new(shape.length, shape.width, 10_000.0, RotaryScaling::None);
        found.push(FrozenVector {
            name: "attention",
            inputs: Inputs::Attention { shape, tables, qkv, dcontext },
            hash,
        });
    }
    let layout = HeadLayout { length: 5, count: 3, width: 4 };
    let x = numbers.wild(2 * 60);
    found.push(FrozenVector { name: "layouts", inputs: Inputs::Layouts { layout, x }, hash: LAYOUTS_HASH });
    let (x, y) = (numbers.wild(1000), numbers.wild(1000));
    found.push(FrozenVector { name: "elementwise", inputs: Inputs::Elementwise { x, y }, hash: ELEMENTWISE_HASH });
    found
}

/// Squared norms of tensors with more than one block, the last one shorter.
fn several_blocks() -> Vec<FrozenVector> {
    let mut numbers = Generator::new(2030);
    let [x, y] = [(); 2].map(|()| numbers.wild(40_000));
    let small = x.iter().map(|x| x * 1e-28).collect();
    let tensors = [numbers.ordinary(16_385), numbers.wild(32_768), numbers.ordinary(50_000)];
    vec![
        FrozenVector { name: "sums", inputs: Inputs::SumsByBits { x, small, y }, hash: BLOCK_HASHES[0] },
        FrozenVector { name: "step", inputs: Inputs::Step { tensors }, hash: BLOCK_HASHES[1] },
    ]
}

const BLOCK_HASHES: [u64; 2] = [0xfdea_9191_4b37_8249, 0xc3de_5301_7287_096d];
const FORM_HASHES: [u64; 4] =
    [0x8250_d8bf_0c4e_5d5d, 0xbb94_8981_da53_2f99, 0xd64e_cf7e_fd3d_36f9, 0x9f58_6b7b_def3_b432];
const ATTENTION_HASHES: [u64; 2] = [0x8b00_35ab_03dc_d4ba, 0x6f9a_16e5_6184_cda8];
const LAYOUTS_HASH: u64 = 0xdad8_6902_a482_1a49;
const ELEMENTWISE_HASH: u64 = 0xbcf9_6c1a_f88e_487c;

/// One multiply-add each, `[a, b, c]` and the bits of `fma(a, b, c)`: ties, subnormal results, cancellation and
/// the edge of infinity. A device computes one as a product of 1 × 1 matrices on top of c.
pub fn fused_multiply_adds() -> [([f32; 3], u32); 18] {
    let smallest = f32::from_bits(1);
    let ulp = f32::EPSILON;
    [
        ([0.0, 1.0, -0.0], 0x0000_0000),
        ([-0.0, 1.0, -0.0], 0x8000_0000),
        ([1.0, 1.0, -1.0], 0x0000_0000),
        // Midway between two numbers: to the even one, down and up.
        ([ulp, 0.5, 1.0], 0x3f80_0000),
        ([ulp, 0.5, 1.0 + ulp], 0x3f80_0002),
        // Beside the midpoint by less than an f64 can hold beside it.
        ([ulp * (1.0 + ulp), 0.5 * (1.0 - ulp), 1.0], 0x3f80_0000),
        ([ulp * (1.0 + ulp), 0.5 * (1.0 + ulp), 1.0], 0x3f80_0001),
        // Subnormal results: a tie, a little more than a tie, one that reaches the smallest normal number.
        ([smallest, 0.5, 0.0], 0x0000_0000),
        ([smallest, 0.5, smallest], 0x0000_0002),
        ([smallest, 0.5 + ulp, 0.0], 0x0000_0001),
        ([f32::MIN_POSITIVE, 1.0 - ulp / 2.0, 0.0], 0x0080_0000),
        ([smallest, 0.25, f32::MIN_POSITIVE], 0x0080_0000),
        // Exact product, huge and tiny together.
        ([1.0e30, 1.0e30, -1.0e38], 0x7f80_0000),
        ([1.0e-30, 1.0e-30, 1.0], 0x3f80_0000),
        ([1.0 + ulp, 1.0 - ulp, -1.0], 0xa880_0000),
        // The midpoint above the last finite number, from which on a sum is infinite, and just below it.
        ([f32::MAX, 1.0, f32::from_bits(0x7300_0000)], 0x7f80_0000),
        ([f32::MAX, 1.0, f32::from_bits(0x72ff_ffff)], 0x7f7f_ffff),
        ([f32::INFINITY, 0.0, 1.0], 0x7fc0_0000),
    ]
}

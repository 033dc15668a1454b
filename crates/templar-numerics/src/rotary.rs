//! Rotary position embedding (Su et al. 2021), in the pairing of Hugging Face: element i with element i + head_dim/2.
//!
//! Angles are made in `f64` by the `libm` crate, which is plain arithmetic and the same everywhere, and rounded once.

use rayon::prelude::*;

use crate::isa::Isa;
use crate::kernel::{PARALLEL_COPY, grain, kernel};

/// How the frequencies of a model are changed so that it can read further than it was first trained to, as
/// Hugging Face names and computes it (`modeling_rope_utils`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RotaryScaling {
    /// Frequencies as they are.
    None,
    /// Every frequency divided by `factor`, as though positions lay closer together.
    Linear {
        /// The divisor of every frequency that is scaled; positive and finite.
        factor: f64,
    },
    /// Llama 3.1: waves longer than the first context are divided by `factor`, short ones stay, between them it
    /// blends.
    Llama3 {
        /// The divisor of every frequency that is scaled; positive and finite.
        factor: f64,
        /// A wave longer than `original_positions / low_freq_factor` is divided. Positive and finite.
        low_freq_factor: f64,
        /// A wave shorter than `original_positions / high_freq_factor` stays. Above `low_freq_factor`, finite.
        high_freq_factor: f64,
        /// The context length of the first training; at least 1.
        original_positions: u32,
    },
}

impl RotaryScaling {
    /// # Panics
    /// If a number is not as its field says.
    fn check(self) {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let fit = match self {
            RotaryScaling::None => true,
            RotaryScaling::Linear { factor } => positive(factor),
            RotaryScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_positions } => {
                positive(factor) && positive(low) && high.is_finite() && high > low && original_positions > 0
            }
        };
        assert!(fit, "rotary scaling out of range: {self:?}");
    }

    /// The scaled form of a frequency, in radians a position.
    fn scale(self, frequency: f64) -> f64 {
        match self {
            RotaryScaling::None => frequency,
            RotaryScaling::Linear { factor } => frequency / factor,
            RotaryScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: high, original_positions } => {
                let original = f64::from(original_positions);
                let wavelength = std::f64::consts::TAU / frequency;
                if wavelength < original / high {
                    frequency
                } else if wavelength > original / low {
                    frequency / factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    ((1.0 - smooth) * frequency) / factor + smooth * frequency
                }
            }
        }
    }
}

/// Cosines and sines for every position, `[positions, head_dim / 2]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryTables {
    positions: usize,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RotaryTables {
    /// Angles `position · scaled(1 / theta^(2i / head_dim))`, all in `f64` through the `libm` crate, each
    /// cosine and sine rounded once to `f32`.
    ///
    /// # Panics
    /// If `head_dim` is odd or 0, the scaling out of range, or the tables' size overflows.
    pub fn new(positions: usize, head_dim: usize, theta: f64, scaling: RotaryScaling) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "rotary heads of odd width {head_dim}");
        scaling.check();
        let half = head_dim / 2;
        let len = positions.checked_mul(half).expect("rotary tables fit the address space");
        let unscaled = |i: usize| 1.0 / libm::pow(theta, (2 * i) as f64 / head_dim as f64);
        let frequencies: Vec<f64> = (0..half).map(|i| scaling.scale(unscaled(i))).collect();
        let (mut cos, mut sin) = (Vec::with_capacity(len), Vec::with_capacity(len));
        for position in 0..positions {
            for frequency in &frequencies {
                let angle = position as f64 * frequency;
                cos.push(libm::cos(angle) as f32);
                sin.push(libm::sin(angle) as f32);
            }
        }
        RotaryTables { positions, half, cos, sin }
    }

    /// How many positions there are.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// The tables as the kernels read them.
    pub fn angles(&self) -> Angles<'_> {
        Angles { half: self.half, cos: &self.cos, sin: &self.sin }
    }

    /// Cosines and sines, `[positions, head_dim / 2]` each, for a device to keep.
    pub fn into_parts(self) -> (Vec<f32>, Vec<f32>) {
        (self.cos, self.sin)
    }
}

/// Rotary tables in anybody's memory: cosines and sines, `[positions, head_dim / 2]` each.
#[derive(Debug, Clone, Copy)]
pub struct Angles<'a> {
    half: usize,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl<'a> Angles<'a> {
    /// The tables of heads of `head_dim` elements.
    ///
    /// # Panics
    /// If `head_dim` is odd or 0, or the two do not have the same whole number of rows.
    pub fn new(head_dim: usize, cos: &'a [f32], sin: &'a [f32]) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "rotary heads of odd width {head_dim}");
        let half = head_dim / 2;
        assert!(cos.len() == sin.len() && cos.len().is_multiple_of(half), "rotary tables of different lengths");
        Angles { half, cos, sin }
    }

    /// Cosines and sines of a position.
    pub(crate) fn at(&self, position: usize) -> (&'a [f32], &'a [f32]) {
        let start = position * self.half;
        (&self.cos[start..][..self.half], &self.sin[start..][..self.half])
    }

    pub(crate) fn check(&self, len: usize, heads: usize, head_dim: usize, first: usize, sequence: usize) {
        assert_eq!(self.half.checked_mul(2), Some(head_dim), "rotary tables of another head width");
        let row = heads.checked_mul(head_dim).expect("a row fits the address space");
        assert!(row > 0 && len.is_multiple_of(row), "rotary: {len} elements in rows of {row}");
        let last = first.checked_add(sequence.min(len / row));
        let positions = self.cos.len() / self.half;
        assert!(sequence > 0 && last.is_some_and(|l| l <= positions), "rotary: positions beyond the tables");
    }
}

/// Turns forward (`direction` 1) or back (-1).
#[allow(clippy::too_many_arguments, reason = "the shape, the positions, and how to compute")]
pub(crate) fn rotary_with(
    isa: Isa,
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    tables: Angles<'_>,
    first_position: usize,
    sequence_length: usize,
    direction: f32,
) {
    tables.check(x.len(), heads, head_dim, first_position, sequence_length);
    let width = heads * head_dim;
    let grain = grain(x.len(), width, PARALLEL_COPY);
    x.par_chunks_mut(grain).enumerate().for_each(|(task, part)| {
        for (i, row) in part.chunks_exact_mut(width).enumerate() {
            let r = task * (grain / width) + i;
            let (cos, sin) = tables.at(first_position + r % sequence_length);
            turn_row(isa, row, cos, sin, direction);
        }
    });
}

kernel! {
    fn turn_row(row: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
        let half = cos.len();
        for head in row.chunks_exact_mut(half.wrapping_mul(2)) {
            let (low, high) = head.split_at_mut(half);
            for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                // Multiplying by ±1 is exact, so this is also "add or subtract".
                let (x, y, s) = (*a, *b, s * direction);
                *a = x * c - y * s;
                *b = y * c + x * s;
            }
        }
    }
}

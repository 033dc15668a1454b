//! Rotary position embedding.

/// Cosines and sines for every position, `[positions, head_dim / 2]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct RotaryTables {
    positions: usize,
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RotaryTables {
    /// Angles `position · theta^(-2i / head_dim)`, all in `f64` through the `libm` crate, each cosine and sine rounded
    /// once to `f32`.
    ///
    /// # Panics
    /// If `head_dim` is odd or 0, or the tables' size overflows.
    pub fn new(positions: usize, head_dim: usize, theta: f64) -> Self {
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "rotary heads of odd width {head_dim}");
        let half = head_dim / 2;
        let len = positions.checked_mul(half).expect("rotary tables fit the address space");
        let frequencies: Vec<f64> =
            (0..half).map(|i| 1.0 / libm::pow(theta, (2 * i) as f64 / head_dim as f64)).collect();
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

    /// Cosines and sines of a position.
    pub(crate) fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let start = position * self.half;
        (&self.cos[start..][..self.half], &self.sin[start..][..self.half])
    }

    pub(crate) fn check(&self, len: usize, heads: usize, head_dim: usize, first: usize, sequence: usize) {
        assert_eq!(self.half.checked_mul(2), Some(head_dim), "rotary tables of another head width");
        let row = heads.checked_mul(head_dim).expect("a row fits the address space");
        assert!(row > 0 && len.is_multiple_of(row), "rotary: {len} elements in rows of {row}");
        let last = first.checked_add(sequence.min(len / row));
        assert!(sequence > 0 && last.is_some_and(|l| l <= self.positions), "rotary: positions beyond the tables");
    }
}

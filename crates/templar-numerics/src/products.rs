//! The matrix products of a chosen arithmetic, for the kernels that contain some.

use crate::gemm::gemm_with;
use crate::i8x2::{self, Exponents, Unit};
use crate::isa::Isa;
use crate::matrix::{Mat, MatMut, Op};

/// What computes matrix products, and with them attention. It decides the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Products {
    /// Chains of fused multiply-adds: `f32/1`.
    F32,
    /// Sums of integers: `i8x2/1`.
    I8x2(Unit),
}

/// An instruction set, and what computes products beside it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Engine {
    pub(crate) isa: Isa,
    pub(crate) products: Products,
}

impl Engine {
    /// `C = op(A)·op(B) [+ C]`, cut for `threads` threads.
    pub(crate) fn product(
        self,
        threads: usize,
        (a, op_a): (Mat, Op),
        (b, op_b): (Mat, Op),
        c: MatMut,
        accumulate: bool,
    ) {
        match self.products {
            Products::F32 => gemm_with(self.isa, threads, a, op_a, b, op_b, c, accumulate),
            Products::I8x2(unit) => {
                i8x2::multiply(unit, threads, (a, op_a), (b, op_b, Exponents::OfBlocks), c, accumulate);
            }
        }
    }
}

//! The arithmetic `i8x2/1`: matrix products made of 8-bit integers, so the fastest unit of a machine gives the same
//! bits as its slowest.
//!
//! `f32/1` fixes the order of a sum of floats, and no tensor core adds in that order. Here a sum is one of integers,
//! which no order can change. Any unit will do that multiplies 8-bit integers and adds without losing a bit below
//! 2^22: integer dot products, plain multiplications, the fp16 and bf16 units of GPUs with accumulators of 32 bits.
//!
//! Two things differ from `f32/1`: products, and how attention uses them. Everything else of the
//! [crate's specification](crate) holds unchanged. This page is the whole difference. The module [`twin`] says it as
//! slow code, `tests/vectors/i8x2.py` says it once more in Python, and both equal the vectors in
//! `tests/vectors/i8x2.txt`.
//!
//! # A block and its scale
//!
//! Both factors of a product are cut along k into blocks of [`BLOCK`] = 128, from k = 0. The last block may be
//! shorter. The block of one row of `op(A)`, or of one column of `op(B)`, is quantised by itself. Its numbers are x.
//!
//! 1. M is the largest of the integers `bits(x) & 0x7fffffff`, and `E = (M + 0x10100) >> 23`.
//! 2. If E ≥ 187, the block is **out of range**: it holds NaN, an infinity, or a number of about 2^60 or more.
//! 3. If E < 74, every number is below 2^-53. Every q is 0, and the scale s is +0.
//! 4. Else q is `x·2^(141-E)`, rounded to the nearest integer, ties to even, and `s = 2^(E-137)`.
//!
//! Each q is two limbs: `hi = floor((q + 128) / 256)` and `lo = q - 256·hi`. So `x ≈ (256·hi + lo)·2^(E-141)`.
//!
//! # A product
//!
//! C begins with +0, or with its old value where the product accumulates. Then, for each block, k ascending:
//!
//! ```text
//! T = Σ (256·hiA·hiB + hiA·loB + loA·hiB)        an integer, over the k of the block, in any order
//! C = C + f32(T)·(sA·sB)                         f32(T) is rounded to nearest, ties to even, and so is the sum
//! ```
//!
//! The product of the two low limbs is left out: it is below 2^-16 of the block's largest products. If either block
//! is out of range, C is NaN, and NaN means that the step is invalid. [`check_factor`] then names the place.
//!
//! # Why every machine gets these bits
//!
//! - **E.** A number with exponent E has 15 bits in q, so `|q|` would be at most 32,768. The addition of 0x10100
//!   raises E exactly where the largest number would round above 32,639 = 127·256 + 127. So `|q| ≤ 32,639` without
//!   any clamp.
//! - **Limbs.** From `-32,639 ≤ q ≤ 32,639` follow `-127 ≤ hi ≤ 127` and `-128 ≤ lo ≤ 127`: both are signed bytes, and
//!   q is a signed 16-bit integer.
//! - **Sums.** Over 128 numbers, `|Σ hiA·hiB| ≤ 128·127·127 < 2^21` and `|Σ hiA·loB + loA·hiB| ≤ 128·2·127·128 < 2^22`.
//!   Partial sums obey the same bounds in any order. So each of the two sums is exact in an integer of 23 bits with its
//!   sign, and in an `f32`. `|T| ≤ 256·128·127² + 2^22 < 2^29` is exact in an `i32`.
//! - **Scaling.** The window `74 ≤ E ≤ 186` gives `2^-63 ≤ s ≤ 2^49`. So `sA·sB` is a power of two between 2^-126 and
//!   2^98, and the term `f32(T)·(sA·sB)` is +0 or has a size between 2^-126 and 2^127. It is exact in any
//!   order of its two multiplications. A sum is therefore rounded at one place, its addition, and **fusing** that
//!   addition with a multiplication cannot be seen. (With blocks up to 2^63 it could: a term of 2^128 is infinite
//!   unless it is fused with a C of opposite sign.)
//! - **Subnormal numbers.** A term is a multiple of 2^-126, the smallest normal number. The sum of two such multiples
//!   rounds to such a multiple. So C, which begins with +0, never becomes subnormal, and **flushing** subnormal results
//!   or operands **to zero** cannot be seen. A subnormal x rounds to q = 0 whether it is flushed or not, since
//!   `x·2^67 < 2^-59`.
//! - **The exception** is a product that accumulates on an old C that is no multiple of 2^-126: one that is subnormal,
//!   or normal below 2^-103 with bits below 2^-126. Elementwise kernels keep subnormal numbers too. So the gate of
//!   `f32/1`, [`check_environment`](crate::check_environment), stands before `i8x2/1` as well.
//! - **Zeros.** `f32(0)` is +0 and scales are never negative, so a term is never -0. After the first block C is not -0
//!   either, and a block that is all zeros changes nothing. So a product may be cut along k after any whole block.
//!
//! A row or a column alone gives the bits that it gives in the whole, as in `f32/1`.
//!
//! What would break it: an accumulator with less than 23 bits, saturating sums (`vpmaddubsw` saturates at 16 bits),
//! blocks added in another order, another rounding of T, and a copy of a factor that was quantised along another axis.
//!
//! # Attention
//!
//! Of a head, queries Q, keys K, values V and the context's gradient dO are each cut along the *width*, and every block
//! of a token is quantised once. Every product uses these same integers. Sums over the width (`Q·Kᵀ` and `dO·Vᵀ`) are
//! products as above. In sums over tokens the scale of a token lies inside the sum, so it moves to the other factor:
//!
//! ```text
//! Y = the block of a token, as above with q and E.  factor = 2^(E-127), +0 if E < 74, NaN if out of range
//! mantissa = q·2^-14, in (-2, 2)                    Y ≈ factor·mantissa
//! Σ over tokens p·Y  is  the product of p' and the mantissas, with p' = p·factor, but +0 where p is ±0
//! ```
//!
//! In that product p' is quantised per row and 128 tokens, as any A. The mantissas' blocks have the constant E = 127,
//! which gives back the very same q, and `s = 2^-10`. This is the rule for the context `P·V` and for the gradients
//! `dQ = dS·K`, `dK = dSᵀ·Q` and `dV = Pᵀ·dO`, where P are the final, normalised probabilities. A width above 128 has
//! one such product for each block of the width.
//!
//! The rest follows attention of `f32/1` with blocks of 128 rows instead of 64: rows r of 128j to 128j + 127 are one
//! block of k in `dK` and `dV`, which add over the query heads of the group ascending and in each over j ascending.
//! Tokens c > r have `p = ds = +0`.
//!
//! Why not quantise V along the tokens, as any B? A row would then depend on the scales of later tokens: padding behind
//! a text would change its likelihood. Here row r depends on tokens 0 to r alone. And a fused kernel that walks over
//! the tiles of a head needs one quantised copy of each tensor; only the tile of p' in its registers is new.
//!
//! # Choosing it
//!
//! [`Kernels::i8x2`](crate::Kernels::i8x2) makes every product and attention of a set of kernels use this arithmetic. A
//! [`Unit`] is the part of the processor that multiplies; it changes speed and never a bit.

mod pack;
mod region;
mod scale;
#[cfg(test)]
mod tests;
mod tokens;
pub mod twin;
mod unit;
mod units;

pub(crate) use region::multiply;
pub use scale::BLOCK;
pub(crate) use scale::Exponents;
pub(crate) use tokens::{TokenBuffers, over_tokens};
pub use unit::{Unit, UnknownUnit, UnsupportedUnit};

use crate::matrix::{Mat, Op};
use scale::{OUT_OF_RANGE, block_exponent};

/// A factor of a product holds a number that `i8x2/1` cannot scale, so the step is invalid.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("element {k} of row {row} is {value:e}; i8x2/1 multiplies numbers below 2^60")]
pub struct OutOfRange {
    /// The row, as the product sees it.
    pub row: usize,
    /// The place in the row, along k.
    pub k: usize,
    /// The number: NaN, an infinity, or about 2^60 and more.
    pub value: f32,
}

/// Finds the first row of `op(a)` with a number that is out of range. For a right factor give the opposite `op`: its
/// columns are what is quantised.
///
/// # Errors
/// [`OutOfRange`] with the place and the number.
pub fn check_factor(a: Mat<'_>, op: Op) -> Result<(), OutOfRange> {
    let (rows, length) = a.shape(op);
    for row in 0..rows {
        for k in 0..length {
            let value = a.at(op, row, k);
            if block_exponent(value.to_bits() & i32::MAX as u32) >= OUT_OF_RANGE {
                return Err(OutOfRange { row, k, value });
            }
        }
    }
    Ok(())
}

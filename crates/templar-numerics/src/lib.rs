//! The arithmetic `f32/1`, defined to the bit: matrix products, sums, elementary functions, and the kernels of a
//! transformer and of its optimiser.
//!
//! Every claim in a run is a hash of numbers that this crate computed, so two machines must get the same bits. The text
//! below is the specification of `f32/1`. [`i8x2`] is that of the second arithmetic, `i8x2/1`, which differs in
//! products and attention and is made for integer matrix units. The module [`twin`] says the same as slow, obvious
//! code. The fast kernels equal the twin on every input; tests check this on every instruction set and with several
//! numbers of threads. The module [`vectors`] has frozen inputs and outputs, with which other hardware can check
//! itself.
//!
//! ```
//! use templar_numerics::{Kernels, Mat, MatMut, Op, twin};
//!
//! // [1 2 3] · [[4 5 6] [7 8 9]]ᵀ: the second operand is stored transposed.
//! let (a, b) = ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
//! let mut c = [0.0; 2];
//! let (a, b) = (Mat::new(&a, 1, 3), Mat::new(&b, 2, 3));
//! Kernels::best().gemm(a, Op::N, b, Op::T, MatMut::new(&mut c, 1, 2), false);
//! assert_eq!(c, [32.0, 50.0]);
//!
//! // The slow twin has the same bits, here and on every other input.
//! let mut expected = [0.0; 2];
//! twin::gemm(a, Op::N, b, Op::T, MatMut::new(&mut expected, 1, 2), false);
//! assert_eq!(c.map(f32::to_bits), expected.map(f32::to_bits));
//! ```
//!
//! # Ground rules
//!
//! - Numbers are IEEE 754 binary32 (`f32`), in places binary64 (`f64`). Every operation written below,
//!   `+ - * /`, `√` and `fma`, is rounded once, to nearest, ties to even. Subnormal numbers are kept, as
//!   operands and as results ([`check_environment`] tests that). Operations are done in the order written: no
//!   reassociation, no contraction of `a·b + c`, no approximate reciprocals.
//! - `fma` appears in matrix products and nowhere else.
//! - NaN has one meaning, "this step is invalid", and its bits are not defined. [`first_non_finite`] finds it.
//! - The width of integers and vectors, tiles, caches and threads have no influence. Threads split rows and
//!   columns, never a sum.
//!
//! # Matrix products ([`gemm`])
//!
//! `C = op(A)·op(B)` with `op(A)` `[m, K]`, `op(B)` `[K, n]` and C `[m, n]`, each stored row by row. With
//! `A[i,k]` the element in stored row i and column k, every element of C is one chain over k = 0, 1, … K-1:
//!
//! | forms | stored A, B | step k of the chain of `C[i,j]` |
//! |---|---|---|
//! | NN | `[m, K]`, `[K, n]` | `c ← fma(A[i,k], B[k,j], c)` |
//! | NT | `[m, K]`, `[n, K]` | `c ← fma(A[i,k], B[j,k], c)` |
//! | TN | `[K, m]`, `[K, n]` | `c ← fma(A[k,i], B[k,j], c)` |
//! | TT | `[K, m]`, `[n, K]` | `c ← fma(A[k,i], B[j,k], c)` |
//!
//! Without accumulation the chain begins with `c = +0`, so the first step is `fma(a, b, +0)`; with accumulation it
//! begins with the old `C[i,j]`, and nothing is added afterwards. With K = 0 the result is that beginning. No step is
//! left out where a factor is zero. So a product may be cut anywhere along k by leaving the partial chain in C, and a
//! row or a column alone gives the bits that it gives in the whole.
//!
//! # Sums over a row ([`sum`], [`dot`], [`squared_norm_f64`])
//!
//! 32 lanes begin at +0. Element i is added to lane i mod 32, i ascending. Then, for h = 16, 8, 4, 2, 1, lane j takes
//! lane j + h for all j < h; the sum is lane 0. `dot` sums rounded products `a[i]·b[i]`. Below, `sum` is this sum and
//! `max` the largest element.
//!
//! `squared_norm_f64` takes the elements in blocks of [`NORM_BLOCK`] = 16,384, of which the last may be shorter.
//! The norm of a block sums, in `f64` and with the same lanes and tree, the squares of the elements converted to
//! `f64` (lanes count from the block's first element). The norms of the blocks are then added, in `f64` from +0,
//! in their order. So a tensor of any size has enough blocks to occupy every core or GPU, and no long chain.
//!
//! # Elementary functions ([`exp`], [`ln`], [`sigmoid`], [`exp_f64`])
//!
//! Constants are given by their bits where decimals could mislead. `H = 0x3f317200` (ln 2 in 15 bits),
//! `L = 0x35bfbe8e` (the rest), `E = 0x3fb8aa3b` (log2 e), `R = 12582912` (1.5·2^23).
//!
//! **exp(x)**: NaN for NaN, +0 for x < -104, infinity for x > `0x42b17218` (88.72284). Else `t = x·E + R`,
//! `n = t - R`, `r = (x - n·H) - n·L`; with q = `0x3ab511d4`, then four times `q = q·r + c` for c =
//! `0x3c091d1b`, `0x3d2aac7a`, `0x3e2aaa48`, `0x3efffffe`; `p = (r + (r·r)·q) + 1`. With the integer
//! `a = floor(n/2)`, the result is `(p·2^a)·2^(n-a)`. Largest error found: 0.95 units in the last place.
//!
//! **exp_f64(x)**, in `f64`: NaN for NaN, +0 for x < -746, infinity for x > 710. Else `t = x·E + R`,
//! `n = t - R`, `r = (x - n·H) - n·L` with `E = 0x3ff71547652b82fe` (log2 e), `R = 1.5·2^52`,
//! `H = 0x3fe62e42fee00000` (ln 2 in 32 bits) and `L = 0x3dea39ef35793c76` (the rest); with `q = 1 / 13!`, then
//! `q = q·r + 1 / k!` for k = 12, 11, … 2, each reciprocal divided once; `p = (r + (r·r)·q) + 1`. With the
//! integer `a = floor(n/2)`, the result is `(p·2^a)·2^(n-a)`. Largest error found: 0.91 units in the last
//! place.
//!
//! **ln(x)**: NaN for NaN and x < 0, minus infinity for ±0, infinity for infinity. A subnormal x is first
//! multiplied by 2^23, and 23 taken from k. With the bits b of x and `o = b - 0x3f3504f3` (two's complement),
//! `k = o >> 23` (arithmetic), and y has the bits `(o & 0x7fffff) + 0x3f3504f3`, so that `x = 2^k·y`,
//! `√½ ≤ y < √2`. `f = y - 1`, `s = f / (2 + f)`, `z = s·s`; p = `0x3e717ee9`, then three times `p = p·z + c`
//! for c = `0x3e921c54`, `0x3ecccd3e`, `0x3f2aaaaa`; `h = 0.5·(f·f)`; the result is
//! `k·H + (f - (h - (s·(h + z·p) + k·L)))`. Largest error found: 0.79 units.
//!
//! **sigmoid(x)** = `1 / (1 + exp(-x))`.
//!
//! # Kernels
//!
//! Each kernel is described for one row or one element, in the order of its operations.
//!
//! - [`softmax`]: `m = max(x)`; `e = exp(x - m)`; `i = 1 / sum(e)`; `p = e·i`.
//! - [`softmax_backward`]: `d = dot(p, dp)`; `ds = p·(dp - d)`.
//! - [`rms_norm`]: `inv = 1 / √(sum(x·x) / width + eps)`; `out = (x·inv)·weight`.
//! - [`rms_norm_backward`]: `t = dy·weight`; `c = (inv·inv)·(sum(t·x) / width)`; `dx += inv·(t - x·c)`;
//!   `dweight += dy·(x·inv)`, rows ascending.
//! - [`swiglu`]: `out = (gate·sigmoid(gate))·up`.
//! - [`swiglu_backward`]: `s = sigmoid(gate)`; `dup = dout·(gate·s)`;
//!   `dgate = (dout·up)·(s·(1 + gate·(1 - s)))`.
//! - [`rotary`]: the elements `(a, b) = (x[i], x[i + head_dim/2])` of a head become `(a·cos - b·sin, b·cos + a·sin)`.
//! - [`rotary_backward`]: `(a·cos + b·sin, b·cos - a·sin)`.
//! - [`cross_entropy`]: `m = max(l)`; `e = exp(l - m)`; `s = sum(e)`; the loss is `ln(s) - (l[target] - m)`;
//!   `i = 1 / s`; the gradient is `(e·i)·scale`, at the target `(e·i - 1)·scale`.
//! - [`adamw`]: `m = beta1·m + (1 - beta1)·g`; `v = beta2·v + (1 - beta2)·(g·g)`;
//!   `p = p·(1 - lr·wd) - ((lr / bias1)·m) / (√(v·(1 / bias2)) + eps)`.
//! - [`add_in_place`]: `x + y`. [`subtract_in_place`]: `x - y`. [`scale_in_place`]: `x·s`.
//!
//! `width` is converted to `f32`. The expressions of [`adamw`] that hold no element (`1 - beta1`, `1 - beta2`,
//! `1 - lr·wd`, `lr / bias1`, `1 / bias2`) are computed once, in `f32`.
//!
//! `max` begins with minus infinity and takes an element that is greater. NaN is passed over and comes back
//! through the exponentials. It does not matter whether +0 or -0 is found, since `x - max` is then +0 or -0 and
//! `exp` of both is 1.
//!
//! # Attention ([`attention`], [`attention_backward`], [`rotate_heads`])
//!
//! Queries, keys and values lie head by head, `[sequences, heads + 2 kv_heads, length, width]`: in a sequence
//! first the query heads, then the key heads, then the value heads. Query head h reads key and value head
//! `h / (heads / kv_heads)`.
//!
//! [`rotate_heads`] turns queries and keys by [`rotary`], with positions from 0 in each sequence, and then
//! multiplies each element of the queries by `1 / √width`, an `f32`. Its transpose multiplies first and then
//! turns back.
//!
//! Rows are taken in blocks of 64 positions. A block that begins at row b ends at row
//! `e = min(b + 64, length)`. For row r of the block, with chains as in a matrix product, from +0:
//!
//! 1. The score of column c is the chain of `q[r]·k[c]` over the width, for c = 0, 1, … r.
//! 2. `p` is the [`softmax`] of the scores. For c from r + 1 to e - 1, `p[c]` is +0.
//! 3. The context is the chain of `p[c]·v[c]` over c = 0, 1, … e - 1. (The steps with `p[c] = +0` can change
//!    the sign of a zero, and make NaN of an infinity.)
//!
//! Backward, with the gradient `dout` of the context: `dp[c]` is the chain of `dout·v[c]` over the width; `ds` is
//! [`softmax_backward`] of p and dp over columns 0 to r, and +0 in the block's columns beyond. `dq` is the chain of
//! `ds[c]·k[c]` over c = 0, 1, … e - 1, from +0. `dk[c]` and `dv[c]` are chains from +0 that take `ds[c]·q[r]`
//! and `p[c]·dout` of every row r whose block ends beyond c: over the query heads of the group ascending, and
//! in each head over the rows ascending.
//!
//! # Rotary tables ([`RotaryTables`], [`RotaryScaling`])
//!
//! All in `f64`, with `pow`, `cos` and `sin` of the `libm` crate (plain arithmetic on every platform), rounded
//! once to `f32` at the end. Pair i has the frequency `f = 1 / pow(theta, 2i / head_dim)`, scaled to g;
//! position p then has `cos(p·g)` and `sin(p·g)`. Scaling is that of Hugging Face:
//!
//! - `None`: `g = f`.
//! - `Linear`: `g = f / factor`.
//! - `Llama3`: with the wavelength `w = 2π / f` (2π the `f64` `0x401921fb54442d18`) and the original context o,
//!   `g = f` if `w < o / high`; else `g = f / factor` if `w > o / low`; else, with
//!   `s = (o / w - low) / (high - low)`, `g = ((1 - s)·f) / factor + s·f`.
//!
//! # What surrounds the kernels in a step
//!
//! The code is in [`twin`]. The callers of the kernels do the same with the fast forms.
//!
//! - **Embedding**: row r of the stream is a copy of row `id[r]` of the table. Backward: row r is added to row
//!   `id[r]` of the gradient, one `f32` addition an element, r ascending, on top of what the gradient holds.
//! - **Losses** are `f32` a token. Their sum is a chain of `f64` additions from +0 in token order; a mean is that sum
//!   divided once, in `f64`, by the number of tokens. The gradient's scale is `1 / tokens`, divided in `f64`, rounded
//!   to `f32`.
//! - **Gradient of a step**: the gradient of its first micro-batch, to which the gradients of the others are added
//!   ([`add_in_place`]) in their order. Each of them is computed by itself, its chains from +0.
//! - **Gradient norm**: `squared_norm_f64` of each tensor, added in `f64` from +0 in tensor order, then one
//!   `f64` root.
//! - **Clip**: where the norm is above a limit that is not 0, every element is multiplied by `limit / norm`,
//!   divided in `f64` and rounded to `f32`. The limit is a whole number of millionths, divided by 1e6 in `f64`.
//! - **AdamW's numbers** at step t ≥ 1: `beta` and weight decay are parts per million, divided by 1e6 in `f64`;
//!   `bias = 1 - beta^t` in `f64`, with the power by squaring: for the bits of t from the lowest,
//!   `result ← result·square` (from 1) where the bit is set, then `square ← square·square` (from beta). Each of
//!   these numbers is then rounded once to `f32`. Tensors of one dimension have no weight decay. The learning
//!   rate is computed in `f64` by its schedule and rounded once.
//! - **Scores** are integers: a mean loss in 1e-9 nats is the `f64` product with 1e9, rounded half away from zero, 0
//!   below zero, and 2^64 - 1 for NaN and for a product that does not fit. All later steps are integer arithmetic.
//!
//! A loss that is NaN or infinite, and a gradient with such an element, make the step invalid: the model's step
//! returns an error with the token's position, or the first such tensor's name and the index in it, and changes
//! neither parameters nor moments. The norm detects such an element at no cost, because finite `f32` cannot
//! make a sum of squares in `f64` infinite; [`first_non_finite`] then finds the place.
//!
//! # Instruction sets and other hardware
//!
//! [`Isa`] lists the instruction sets that a machine offers, and a [`Kernels`] is one choice of them. `unsafe`
//! has two purposes here: to call code compiled for an instruction set that was found at
//! run time, and to let threads write disjoint rectangles of one matrix.
//!
//! Products of `i8x2/1` have units of their own ([`i8x2::Unit`]).
//!
//! To add an instruction set, add a variant of [`Isa`] with its test of availability, an arm in
//! `gemm::region::compute` for products, and an arm in the macro `kernel!` (or in the kernel's `_with`
//! function) for everything else. No caller changes.
//!
//! Other hardware is a device of its own (`templar-device`). A GPU gives these bits if each element of C has
//! one thread that goes through k ascending; if `fma`, `/` and `√` are correctly rounded; if nothing is
//! contracted or flushed to zero; and if a row's sum has 32 lanes.
//!
//! [`adamw`]: Kernels::adamw
//! [`add_in_place`]: Kernels::add_in_place
//! [`attention`]: Kernels::attention
//! [`attention_backward`]: Kernels::attention_backward
//! [`cross_entropy`]: Kernels::cross_entropy
//! [`dot`]: Kernels::dot
//! [`first_non_finite`]: Kernels::first_non_finite
//! [`gemm`]: Kernels::gemm
//! [`rms_norm`]: Kernels::rms_norm
//! [`rms_norm_backward`]: Kernels::rms_norm_backward
//! [`rotary`]: Kernels::rotary
//! [`rotary_backward`]: Kernels::rotary_backward
//! [`rotate_heads`]: Kernels::rotate_heads
//! [`scale_in_place`]: Kernels::scale_in_place
//! [`softmax`]: Kernels::softmax
//! [`softmax_backward`]: Kernels::softmax_backward
//! [`squared_norm_f64`]: Kernels::squared_norm_f64
//! [`subtract_in_place`]: Kernels::subtract_in_place
//! [`sum`]: Kernels::sum
//! [`swiglu`]: Kernels::swiglu
//! [`swiglu_backward`]: Kernels::swiglu_backward
#![allow(unsafe_code)]

mod adamw;
mod attention;
mod cross_entropy;
mod elementary;
mod elementwise;
#[cfg(test)]
mod equality;
mod gemm;
mod head_layout;
pub mod i8x2;
mod isa;
mod kernel;
mod kernels;
mod matrix;
mod norm;
mod products;
mod reduce;
mod rotary;
mod soft_fma;
mod softmax;
mod swiglu;
pub mod twin;
pub mod vectors;

pub use adamw::AdamW;
pub use attention::AttentionShape;
pub use elementary::{exp, exp_f64, ln, sigmoid};
pub use head_layout::HeadLayout;
pub use isa::{FlushesSubnormals, Isa, UnknownIsa, UnsupportedIsa, check_environment};
pub use kernels::Kernels;
pub use matrix::{Mat, MatMut, Op};
pub use reduce::NORM_BLOCK;
pub use rotary::{Angles, RotaryScaling, RotaryTables};

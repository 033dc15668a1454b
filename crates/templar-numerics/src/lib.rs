//! The arithmetic `f32/1`, defined to the bit: matrix products, sums, elementary functions, and the kernels of a
//! transformer and its optimiser made of them.
//!
//! Everything a run claims is a hash of numbers that this crate computed, so two machines must get the same bits. The
//! text below is the specification; [`twin`] is the same in code, slow and obvious; the fast kernels are equal to the
//! twin on every input, which the tests check on every instruction set and several thread counts.
//!
//! # Ground rules
//!
//! - Numbers are IEEE 754 binary32 (`f32`), in places binary64 (`f64`). Every operation written below, `+ - * /`, `√`
//!   and `fma`, is rounded once, to nearest, ties to even. Subnormal numbers are kept, as operands and as results
//!   ([`check_environment`] tests that). Operations are done in the order written: no reassociation, no contraction of
//!   `a·b + c`, no approximate reciprocals.
//! - `fma` appears in matrix products and nowhere else.
//! - NaN has one meaning, "this step is invalid" ([`first_non_finite`](Kernels::first_non_finite) finds it), and its bits are not defined.
//! - Integer widths, vector widths, tiles, caches and threads never enter. Threads split rows and columns, never a sum.
//!
//! # Matrix products ([`gemm`](Kernels::gemm))
//!
//! `C = op(A)·op(B)` with `op(A)` `[m, K]`, `op(B)` `[K, n]` and C `[m, n]`, each stored row by row. With `A[i,k]` the
//! element in stored row i and column k, every element of C is one chain over k = 0, 1, … K-1:
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
//! # Sums over a row ([`sum`](Kernels::sum), [`dot`](Kernels::dot), [`squared_norm_f64`](Kernels::squared_norm_f64))
//!
//! 32 lanes begin at +0. Element i is added to lane i mod 32, i ascending. Then, for h = 16, 8, 4, 2, 1, lane j takes
//! lane j + h for all j < h; the sum is lane 0. `dot` sums rounded products `a[i]·b[i]`. `squared_norm_f64` sums in
//! `f64` the squares of the elements converted to `f64`. Below, `sum` is this sum and `max` the largest element.
//!
//! # Elementary functions ([`exp`], [`ln`], [`sigmoid`], [`exp_f64`])
//!
//! Constants are given by their bits where decimals could mislead. `H = 0x3f317200` (ln 2 in 15 bits),
//! `L = 0x35bfbe8e` (the rest), `E = 0x3fb8aa3b` (log2 e), `R = 12582912` (1.5·2^23).
//!
//! **exp(x)**: NaN for NaN, +0 for x < -104, infinity for x > `0x42b17218` (88.72284). Else `t = x·E + R`, `n = t - R`,
//! `r = (x - n·H) - n·L`; with q = `0x3ab511d4`, then four times `q = q·r + c` for c = `0x3c091d1b`, `0x3d2aac7a`,
//! `0x3e2aaa48`, `0x3efffffe`; `p = (r + (r·r)·q) + 1`. With the integer `a = floor(n/2)`, the result is
//! `(p·2^a)·2^(n-a)`. Largest error found: 0.95 units in the last place.
//!
//! **exp_f64(x)**, in `f64`: NaN for NaN, +0 for x < -746, infinity for x > 710. Else `t = x·E + R`, `n = t - R`,
//! `r = (x - n·H) - n·L` with `E = 0x3ff71547652b82fe` (log2 e), `R = 1.5·2^52`, `H = 0x3fe62e42fee00000` (ln 2 in 32
//! bits) and `L = 0x3dea39ef35793c76` (the rest); with `q = 1 / 13!`, then `q = q·r + 1 / k!` for k = 12, 11, … 2, each
//! reciprocal divided once; `p = (r + (r·r)·q) + 1`. With the integer `a = floor(n/2)`, the result is
//! `(p·2^a)·2^(n-a)`. Largest error found: 0.91 units in the last place.
//!
//! **ln(x)**: NaN for NaN and x < 0, minus infinity for ±0, infinity for infinity. A subnormal x is first multiplied by
//! 2^23, and 23 taken from k. With the bits b of x and `o = b - 0x3f3504f3` (two's complement), `k = o >> 23`
//! (arithmetic), and y has the bits `(o & 0x7fffff) + 0x3f3504f3`, so that `x = 2^k·y`, `√½ ≤ y < √2`. `f = y - 1`,
//! `s = f / (2 + f)`, `z = s·s`; p = `0x3e717ee9`, then three times `p = p·z + c` for c = `0x3e921c54`, `0x3ecccd3e`,
//! `0x3f2aaaaa`; `h = 0.5·(f·f)`; the result is `k·H + (f - (h - (s·(h + z·p) + k·L)))`. Largest error
//! found: 0.79 units.
//!
//! **sigmoid(x)** = `1 / (1 + exp(-x))`.
//!
//! # Kernels
//!
//! | kernel | per row or element, in this order |
//! |---|---|
//! | [`softmax`](Kernels::softmax) | `m = max(x)`; `e = exp(x - m)`; `i = 1 / sum(e)`; `p = e·i` |
//! | [`softmax_backward`](Kernels::softmax_backward) | `d = dot(p, dp)`; `ds = p·(dp - d)` |
//! | [`rms_norm`](Kernels::rms_norm) | `inv = 1 / √(sum(x·x) / width + eps)`; `out = (x·inv)·weight` |
//! | [`rms_norm_backward`](Kernels::rms_norm_backward) | `t = dy·weight`; `c = (inv·inv)·(sum(t·x) / width)`; `dx += inv·(t - x·c)`; `dweight += dy·(x·inv)`, rows ascending |
//! | [`swiglu`](Kernels::swiglu) | `out = (gate·sigmoid(gate))·up` |
//! | [`swiglu_backward`](Kernels::swiglu_backward) | `s = sigmoid(gate)`; `dup = dout·(gate·s)`; `dgate = (dout·up)·(s·(1 + gate·(1 - s)))` |
//! | [`rotary`](Kernels::rotary) | `(a, b)` = elements `(i, i + head_dim/2)` of a head: `(a·cos - b·sin, b·cos + a·sin)` |
//! | [`rotary_backward`](Kernels::rotary_backward) | `(a·cos + b·sin, b·cos - a·sin)` |
//! | [`cross_entropy`](Kernels::cross_entropy) | `m = max(l)`; `e = exp(l - m)`; `s = sum(e)`; loss `ln(s) - (l[target] - m)`; `i = 1 / s`; gradient `(e·i)·scale`, at the target `(e·i - 1)·scale` |
//! | [`adamw`](Kernels::adamw) | `m = beta1·m + (1 - beta1)·g`; `v = beta2·v + (1 - beta2)·(g·g)`; `p = p·(1 - lr·wd) - ((lr / bias1)·m) / (√(v·(1 / bias2)) + eps)` |
//!
//! `width` is converted to `f32`. The expressions of [`adamw`](Kernels::adamw) that hold no element (`1 - beta1`, `1 - beta2`,
//! `1 - lr·wd`, `lr / bias1`, `1 / bias2`) are computed once, in `f32`. [`add_in_place`](Kernels::add_in_place) is `x + y`, [`scale_in_place`](Kernels::scale_in_place)
//! `x·s`, element by element.
//!
//! `max` begins with minus infinity and takes an element that is greater; NaN is passed over and comes back through the
//! exponentials. Which zero is found of +0 and -0 cannot be seen, since `x - max` is +0 or -0 and `exp` of both is 1.
//!
//! # Rotary tables ([`RotaryTables`], [`RotaryScaling`])
//!
//! All in `f64`, with `pow`, `cos` and `sin` of the `libm` crate (plain arithmetic on every platform), rounded once to
//! `f32` at the end. Pair i has the frequency `f = 1 / pow(theta, 2i / head_dim)`, scaled to g; position p then has
//! `cos(p·g)` and `sin(p·g)`. Scaling is that of Hugging Face:
//!
//! - `None`: `g = f`.
//! - `Linear`: `g = f / factor`.
//! - `Llama3`: with the wavelength `w = 2π / f` (2π the `f64` `0x401921fb54442d18`) and the original context o, `g = f`
//!   if `w < o / high`; else `g = f / factor` if `w > o / low`; else, with `s = (o / w - low) / (high - low)`,
//!   `g = ((1 - s)·f) / factor + s·f`.
//!
//! # What surrounds the kernels in a step
//!
//! The code is [`twin`]'s; the kernels' callers do the same with the fast forms.
//!
//! - **Embedding**: row r of the stream is a copy of row `id[r]` of the table. Backward: row r is added to row `id[r]`
//!   of the gradient, one `f32` addition an element, r ascending, on top of what the gradient holds.
//! - **Losses** are `f32` a token. Their sum is a chain of `f64` additions from +0 in token order; a mean is that sum
//!   divided once, in `f64`, by the number of tokens. The gradient's scale is `1 / tokens`, divided in `f64`, rounded
//!   to `f32`.
//! - **Gradient norm**: `squared_norm_f64` of each tensor, added in `f64` from +0 in tensor order, then one `f64` root.
//! - **Clip**: where the norm is above a limit that is not 0, every element is multiplied by `limit / norm`, divided in
//!   `f64` and rounded to `f32`. The limit is a whole number of millionths, divided by 1e6 in `f64`.
//! - **AdamW's numbers** at step t ≥ 1: `beta` and weight decay are parts per million, divided by 1e6 in `f64`;
//!   `bias = 1 - beta^t` in `f64`, with the power by squaring: for the bits of t from the lowest,
//!   `result ← result·square` (from 1) where the bit is set, then `square ← square·square` (from beta). Each of these
//!   numbers is then rounded once to `f32`. Tensors of one dimension have no weight decay. The learning rate is computed in `f64` by its
//!   schedule and rounded once.
//! - **Scores** are integers: a mean loss in 1e-9 nats is the `f64` product with 1e9, rounded half away from zero, 0
//!   below zero and 2^64 - 1 for NaN and what does not fit. What follows from it is integer arithmetic.
//!
//! A loss that is NaN or infinite, and a gradient with such an element, make the step invalid: the model's step returns
//! an error with the token's position, or the first such tensor's name and the index in it, and changes neither
//! parameters nor moments. The norm shows it for nothing, because finite `f32` cannot make a sum of squares in `f64`
//! infinite; [`first_non_finite`](Kernels::first_non_finite) then finds the place.
//!
//! # Instruction sets
//!
//! [`Isa`] says what the machine offers, and a [`Kernels`] is one choice of it. `unsafe` exists in this crate alone:
//! to call code compiled for an instruction set that was found at run time, and to let threads write disjoint
//! rectangles of one matrix.
//!
//! Another kind of machine is added at the same place: a variant of [`Isa`] with its test of availability, an arm in
//! `gemm::region::compute` for products, and one in the macro `kernel!` (or in the kernel's `_with` function) for
//! everything else. Callers know none of it. A GPU gives these bits with one thread for each element of C and k
//! ascending in it, with correctly rounded `fma`, `/` and `√`, without contraction or flushing, and with 32 lanes for a
//! row's sum.
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
mod isa;
mod kernel;
mod kernels;
mod matrix;
mod norm;
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
pub use rotary::{Angles, RotaryScaling, RotaryTables};

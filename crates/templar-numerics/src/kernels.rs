//! The fast kernels, as methods of a chosen instruction set.

use crate::adamw::{AdamW, adamw_with};
use crate::attention::{self, AttentionShape};
use crate::cross_entropy::{cross_entropy_loss_with, cross_entropy_with};
use crate::head_layout::{self, HeadLayout};
use crate::i8x2::{Unit, UnsupportedUnit};
use crate::isa::{Isa, UnsupportedIsa};
use crate::matrix::{Mat, MatMut, Op};
use crate::norm::{rms_norm_backward_with, rms_norm_with};
use crate::products::{Engine, Products};
use crate::rotary::{Angles, rotary_with};
use crate::softmax::{softmax_backward_row, softmax_row};
use crate::swiglu::{swiglu_backward_with, swiglu_with};
use crate::{elementwise, reduce};

/// Every kernel of the specification, compiled for one instruction set that this machine has.
///
/// Their arithmetic is `f32/1`, or `i8x2/1` after [`Kernels::i8x2`].
///
/// All instruction sets give the same bits, so the choice changes speed alone. Kernels use the threads of the current
/// rayon pool where the work is worth it; the number of threads cannot be seen in a result either.
///
/// Kernels panic if the lengths of their slices do not agree: that is a mistake in the program, never in its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernels {
    isa: Isa,
    products: Products,
}

impl Default for Kernels {
    /// The kernels of [`Kernels::best`].
    fn default() -> Self {
        Self::best()
    }
}

impl Kernels {
    /// The kernels for the fastest instruction set of this machine.
    pub fn best() -> Self {
        Kernels { isa: Isa::best(), products: Products::F32 }
    }

    /// The kernels for one instruction set.
    ///
    /// # Errors
    /// [`UnsupportedIsa`] if the machine lacks it.
    pub fn with_isa(isa: Isa) -> Result<Self, UnsupportedIsa> {
        if isa.is_available() { Ok(Kernels { isa, products: Products::F32 }) } else { Err(UnsupportedIsa(isa)) }
    }

    /// The instruction set that these kernels use.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// These kernels with products and attention of the arithmetic [`i8x2/1`](crate::i8x2), on the fastest unit that
    /// goes with their instruction set.
    pub fn i8x2(self) -> Self {
        Kernels { products: Products::I8x2(Unit::for_isa(self.isa)), ..self }
    }

    /// These kernels with the products and attention of `f32/1`.
    pub fn f32(self) -> Self {
        Kernels { products: Products::F32, ..self }
    }

    /// [`Kernels::i8x2`] on one unit.
    ///
    /// # Errors
    /// [`UnsupportedUnit`] if the machine lacks it.
    pub fn i8x2_with(self, unit: Unit) -> Result<Self, UnsupportedUnit> {
        if !unit.is_available() {
            return Err(UnsupportedUnit(unit));
        }
        Ok(Kernels { products: Products::I8x2(unit), ..self })
    }

    /// The unit that multiplies limbs, if the arithmetic is `i8x2/1`.
    pub fn unit(self) -> Option<Unit> {
        match self.products {
            Products::F32 => None,
            Products::I8x2(unit) => Some(unit),
        }
    }

    /// `C = op(A)·op(B)`, or `C += op(A)·op(B)` where `accumulate`. In `i8x2/1` the product is that of
    /// [`crate::i8x2::twin::gemm`]; in `f32/1`:
    ///
    /// `C[i,j] = fma(A[i,K-1], B[K-1,j], … fma(A[i,0], B[0,j], C0))` with `C0 = +0`, or the old `C[i,j]` when
    /// accumulating. With K = 0 the result is `C0`.
    pub fn gemm(self, a: Mat, op_a: Op, b: Mat, op_b: Op, c: MatMut, accumulate: bool) {
        self.engine().product(rayon::current_num_threads(), (a, op_a), (b, op_b), c, accumulate);
    }

    /// [`Kernels::gemm`] on the calling thread alone, for a caller inside a parallel loop.
    pub fn gemm_serial(self, a: Mat, op_a: Op, b: Mat, op_b: Op, c: MatMut, accumulate: bool) {
        self.engine().product(1, (a, op_a), (b, op_b), c, accumulate);
    }

    fn engine(self) -> Engine {
        Engine { isa: self.isa, products: self.products }
    }

    /// The sum of a row `[n]` with 32 lanes; +0 for an empty row.
    pub fn sum(self, x: &[f32]) -> f32 {
        reduce::sum_row(self.isa, x)
    }

    /// The [`Kernels::sum`] of the products `a[i] · b[i]`, each rounded.
    pub fn dot(self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "a dot product of different lengths");
        reduce::dot_row(self.isa, a, b)
    }

    /// The sum of squares in `f64`, where each square is exact: of each block of [`NORM_BLOCK`](crate::NORM_BLOCK)
    /// elements with the lanes and the tree of [`Kernels::sum`], then of the blocks in order.
    pub fn squared_norm_f64(self, x: &[f32]) -> f64 {
        reduce::squared_norm_with(self.isa, x)
    }

    /// Softmax of one row `[n]`, in place: `e = exp(x - max)`, then `e · (1 / sum(e))`.
    pub fn softmax(self, row: &mut [f32]) {
        softmax_row(self.isa, row);
    }

    /// The gradient of a softmax row: `ds = p · (dp - dot(p, dp))`, all `[n]`.
    pub fn softmax_backward(self, p: &[f32], dp: &[f32], ds: &mut [f32]) {
        assert!(p.len() == dp.len() && p.len() == ds.len(), "softmax backward of different lengths");
        softmax_backward_row(self.isa, p, dp, ds);
    }

    /// RMSNorm: `inv = 1 / sqrt(sum(x²) / width + eps)`, `out = (x · inv) · weight`.
    ///
    /// `x` and `out` are `[rows, width]`, `weight` is `[width]`. `inv_rms [rows]` is kept for the backward pass.
    pub fn rms_norm(self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32], inv_rms: &mut [f32]) {
        rms_norm_with(self.isa, x, weight, eps, out, inv_rms);
    }

    /// Adds the gradients of [`Kernels::rms_norm`] for `dy [rows, width]` to `dx [rows, width]` and
    /// `dweight [width]`.
    ///
    /// With `t = dy · weight`, `d = sum(t · x)` and `c = (inv · inv) · (d / width)`: `dx += inv · (t - x · c)`, and
    /// `dweight += dy · (x · inv)`, one addition a row, rows ascending.
    pub fn rms_norm_backward(
        self,
        x: &[f32],
        weight: &[f32],
        inv_rms: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        dweight: &mut [f32],
    ) {
        rms_norm_backward_with(self.isa, x, weight, inv_rms, dy, dx, dweight);
    }

    /// `out = (gate · sigmoid(gate)) · up`, all of one length.
    pub fn swiglu(self, gate: &[f32], up: &[f32], out: &mut [f32]) {
        swiglu_with(self.isa, gate, up, out);
    }

    /// The gradients of [`Kernels::swiglu`], all of one length, overwritten.
    ///
    /// With `s = sigmoid(gate)`: `dup = dout · (gate · s)`, `dgate = (dout · up) · (s · (1 + gate · (1 - s)))`.
    pub fn swiglu_backward(self, gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        swiglu_backward_with(self.isa, gate, up, dout, dgate, dup);
    }

    /// Turns every head of `x [rows, heads · head_dim]` in place: the pair `(a, b)` of elements `(i, i + head_dim/2)`
    /// becomes `(a·cos - b·sin, b·cos + a·sin)`.
    ///
    /// Row r stands at position `first_position + r mod sequence_length`, so a batch of sequences is one call.
    pub fn rotary(
        self,
        x: &mut [f32],
        heads: usize,
        head_dim: usize,
        angles: Angles<'_>,
        first_position: usize,
        sequence_length: usize,
    ) {
        rotary_with(self.isa, x, heads, head_dim, angles, first_position, sequence_length, 1.0);
    }

    /// The transpose of [`Kernels::rotary`], in place: `(a·cos + b·sin, b·cos - a·sin)`.
    pub fn rotary_backward(
        self,
        x: &mut [f32],
        heads: usize,
        head_dim: usize,
        angles: Angles<'_>,
        first_position: usize,
        sequence_length: usize,
    ) {
        rotary_with(self.isa, x, heads, head_dim, angles, first_position, sequence_length, -1.0);
    }

    /// Turns the queries and keys of `qkv [sequences, heads + 2 kv_heads, length, width]` by their positions,
    /// from 0 in each sequence, and then multiplies the queries by `1/√width`.
    pub fn rotate_heads(self, shape: AttentionShape, qkv: &mut [f32], angles: Angles<'_>) {
        attention::rotate_heads(self.isa, shape, qkv, angles, false);
    }

    /// The transpose of [`Kernels::rotate_heads`]: first the factor, then the angle turned back.
    pub fn rotate_heads_backward(self, shape: AttentionShape, qkv: &mut [f32], angles: Angles<'_>) {
        attention::rotate_heads(self.isa, shape, qkv, angles, true);
    }

    /// `context [sequences, heads, length, width] = softmax(q kᵀ, causal) v`.
    ///
    /// `qkv [sequences, heads + 2 kv_heads, length, width]` holds queries that are rotated and scaled, keys that are
    /// rotated, and values. Query head h reads key and value head `h / (heads / kv_heads)`.
    pub fn attention(self, shape: AttentionShape, qkv: &[f32], context: &mut [f32]) {
        attention::forward(self.engine(), shape, qkv, context);
    }

    /// The gradient of `qkv` from `dcontext [sequences, length, heads, width]`, which lies token by token.
    /// `dqkv` is laid out like `qkv` and overwritten.
    pub fn attention_backward(self, shape: AttentionShape, qkv: &[f32], dcontext: &[f32], dqkv: &mut [f32]) {
        attention::backward(self.engine(), shape, qkv, dcontext, dqkv);
    }

    /// `by_token [sequences, length, count, width]` to `by_head [sequences, count, length, width]`.
    pub fn split_heads(self, layout: HeadLayout, by_token: &[f32], by_head: &mut [f32]) {
        head_layout::split_heads(layout, by_token, by_head);
    }

    /// `by_head [sequences, count, length, width]` to `by_token [sequences, length, count, width]`.
    pub fn merge_heads(self, layout: HeadLayout, by_head: &[f32], by_token: &mut [f32]) {
        head_layout::merge_heads(layout, by_head, by_token);
    }

    /// Row r of `out [ids, width]` is row `ids[r]` of `table [vocab, width]`, copied.
    pub fn embedding(self, table: &[f32], ids: &[u32], out: &mut [f32]) {
        head_layout::embedding(table, ids, out);
    }

    /// Adds row r of `dout [ids, width]` to row `ids[r]` of `dtable [vocab, width]`, rows ascending.
    pub fn embedding_backward(self, dout: &[f32], ids: &[u32], dtable: &mut [f32]) {
        head_layout::embedding_backward(self.isa, dout, ids, dtable);
    }

    /// Cross-entropy in nats, with its gradient in place of the logits.
    ///
    /// `logits` is `[rows, vocab]`, `targets` and `losses` are `[rows]`. Per row: `e = exp(l - max)`,
    /// `s = sum(e)`, the loss `ln(s) - (l_target - max)`, and in place of the logits
    /// `(e · (1 / s) - [target]) · grad_scale`.
    ///
    /// # Panics
    /// Also if a target is not below `vocab`: check ids where they come in.
    pub fn cross_entropy(self, logits: &mut [f32], targets: &[u32], grad_scale: f32, losses: &mut [f32]) {
        cross_entropy_with(self.isa, logits, targets, grad_scale, losses);
    }

    /// The losses of [`Kernels::cross_entropy`] alone, the same bits.
    pub fn cross_entropy_loss(self, logits: &[f32], targets: &[u32], losses: &mut [f32]) {
        cross_entropy_loss_with(self.isa, logits, targets, losses);
    }

    /// One step of AdamW (Loshchilov and Hutter 2019), in place, all of one length. Per element, each operation
    /// rounded:
    ///
    /// ```text
    /// m = beta1·m + (1 - beta1)·g
    /// v = beta2·v + (1 - beta2)·(g·g)
    /// p = p·(1 - lr·weight_decay) - ((lr / bias1)·m) / (sqrt(v·(1 / bias2)) + eps)
    /// ```
    ///
    /// The four expressions that hold no element are computed once.
    pub fn adamw(self, settings: &AdamW, params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32]) {
        adamw_with(self.isa, settings, params, grads, m, v);
    }

    /// Adds y to x element by element: `x += y`.
    pub fn add_in_place(self, x: &mut [f32], y: &[f32]) {
        elementwise::add_with(self.isa, x, y);
    }

    /// Subtracts y from x element by element: `x -= y`.
    pub fn subtract_in_place(self, x: &mut [f32], y: &[f32]) {
        elementwise::subtract_with(self.isa, x, y);
    }

    /// Multiplies every element by s: `x *= s`.
    pub fn scale_in_place(self, x: &mut [f32], s: f32) {
        elementwise::scale_with(self.isa, x, s);
    }

    /// [`crate::exp`] of every element.
    pub fn exp_in_place(self, x: &mut [f32]) {
        elementwise::exp_with(self.isa, x);
    }

    /// The first index that holds NaN or an infinity: the sign that a step is invalid.
    pub fn first_non_finite(self, x: &[f32]) -> Option<usize> {
        elementwise::first_non_finite_with(self.isa, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instruction_set_that_the_machine_lacks_is_refused() {
        let foreign = if cfg!(target_arch = "aarch64") { Isa::Avx2 } else { Isa::Neon };
        assert_eq!(Kernels::with_isa(foreign), Err(UnsupportedIsa(foreign)));
        assert_eq!(Kernels::with_isa(Isa::Soft).map(Kernels::isa), Ok(Isa::Soft));
        assert_eq!(Kernels::best().isa(), Isa::best());
    }
}

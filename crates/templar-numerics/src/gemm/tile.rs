//! The innermost loop: one tile of C, `[[f32; NR]; MR]`, held in registers while k runs.
//!
//! Written once and without intrinsics. Compiled under a `#[target_feature]`, the inner loop over NR becomes vector
//! fused multiply-adds; nothing here can reorder a chain, because each accumulator only ever sees its own k.
//! Whether a compiler keeps a tile in registers depends on its shape (8x32 was 50 times slower than 12x32 under
//! AVX-512): after a change of shape or compiler, run the `gemm` example.

/// A correctly rounded `a·b + c`.
pub(crate) trait MultiplyAdd {
    fn multiply_add(a: f32, b: f32, c: f32) -> f32;
}

/// The machine's own instruction. Use only under a target feature that has one: elsewhere it is a slow call.
pub(crate) struct Hardware;

/// [`crate::twin::fma`].
pub(crate) struct Soft;

impl MultiplyAdd for Hardware {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl MultiplyAdd for Soft {
    #[inline(always)]
    fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
        crate::soft_fma::fma(a, b, c)
    }
}

/// A tile's accumulators.
pub(crate) type Tile<const MR: usize, const NR: usize> = [[f32; NR]; MR];

/// Continues the chains of a tile over all k of the panels: A packed, MR values for each k; B packed, NR for each k.
#[inline(always)]
pub(crate) fn packed<F: MultiplyAdd, const MR: usize, const NR: usize>(
    a: &[f32],
    b: &[f32],
    mut tile: Tile<MR, NR>,
) -> Tile<MR, NR> {
    let (a, b) = (a.as_chunks::<MR>().0, b.as_chunks::<NR>().0);
    for (a, b) in a.iter().zip(b) {
        for i in 0..MR {
            for j in 0..NR {
                tile[i][j] = F::multiply_add(a[i], b[j], tile[i][j]);
            }
        }
    }
    tile
}

/// The same with A read in place: one slice a row, each at least as long as B has k.
///
/// # Panics
/// If a row is shorter.
#[inline(always)]
pub(crate) fn in_place<F: MultiplyAdd, const MR: usize, const NR: usize>(
    a: [&[f32]; MR],
    b: &[f32],
    mut tile: Tile<MR, NR>,
) -> Tile<MR, NR> {
    let b = b.as_chunks::<NR>().0;
    assert!(a.iter().all(|row| row.len() >= b.len()), "rows of A as long as the panel");
    let a = a.map(<[f32]>::as_ptr);
    for (l, b) in b.iter().enumerate() {
        for i in 0..MR {
            // SAFETY: l < b.len() <= the length of every row, asserted above.
            let x = unsafe { *a[i].add(l) };
            for j in 0..NR {
                tile[i][j] = F::multiply_add(x, b[j], tile[i][j]);
            }
        }
    }
    tile
}

//! The innermost loop: one tile of C, `[[f32; NR]; MR]`, held in registers while k runs.
//!
//! Written once and without intrinsics. Compiled under a `#[target_feature]`, the inner loop over NR becomes vector
//! fused multiply-adds; nothing here can reorder a chain, because each accumulator only ever sees its own k.
//! Whether a compiler keeps a tile in registers depends on its shape (8x32 was 50 times slower than 12x32 under
//! AVX-512): after a change of shape or compiler, run the `gemm` example.

use crate::soft_fma;

/// The accumulators of a tile of MR rows and NR columns.
pub(crate) type Tile<const MR: usize, const NR: usize> = [[f32; NR]; MR];

/// One step of a tile's chains: `c[i][j] = a[i]·b[j] + c[i][j]`, each correctly rounded.
pub(crate) trait MultiplyAdd {
    fn step<const MR: usize, const NR: usize>(a: [f32; MR], b: &[f32; NR], tile: &mut Tile<MR, NR>);
}

/// The machine's own instruction. Use only under a target feature that has one: elsewhere it is a slow call.
pub(crate) struct Hardware;

/// The multiply-add of [`crate::twin::fma`], a row at a time.
pub(crate) struct Soft;

impl MultiplyAdd for Hardware {
    #[inline(always)]
    fn step<const MR: usize, const NR: usize>(a: [f32; MR], b: &[f32; NR], tile: &mut Tile<MR, NR>) {
        for i in 0..MR {
            for j in 0..NR {
                tile[i][j] = a[i].mul_add(b[j], tile[i][j]);
            }
        }
    }
}

impl MultiplyAdd for Soft {
    #[inline(always)]
    fn step<const MR: usize, const NR: usize>(a: [f32; MR], b: &[f32; NR], tile: &mut Tile<MR, NR>) {
        let b = b.map(f64::from);
        for (a, row) in a.into_iter().zip(tile) {
            soft_fma::fma_row(a, &b, row);
        }
    }
}

/// Continues the chains of a tile over all k of the panels: A packed, MR values for each k; B packed, NR for each k.
#[inline(always)]
pub(crate) fn packed<F: MultiplyAdd, const MR: usize, const NR: usize>(
    a: &[f32],
    b: &[f32],
    mut tile: Tile<MR, NR>,
) -> Tile<MR, NR> {
    let (a, b) = (a.as_chunks::<MR>().0, b.as_chunks::<NR>().0);
    for (a, b) in a.iter().zip(b) {
        F::step(*a, b, &mut tile);
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
        // SAFETY: l < b.len() <= the length of every row, asserted above.
        F::step(a.map(|row| unsafe { *row.add(l) }), b, &mut tile);
    }
    tile
}

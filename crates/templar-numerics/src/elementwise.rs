//! Sums, scalings and exponentials of whole vectors, and the search for what is not a number.

use rayon::prelude::*;

use crate::elementary;
use crate::isa::Isa;
use crate::kernel::{PARALLEL_COPY, PARALLEL_EXP, grain, kernel};

pub(crate) fn add_with(isa: Isa, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "a sum of different lengths");
    let grain = grain(x.len(), 1, PARALLEL_COPY);
    x.par_chunks_mut(grain).zip(y.par_chunks(grain)).for_each(|(x, y)| add(isa, x, y));
}

pub(crate) fn subtract_with(isa: Isa, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "a difference of different lengths");
    let grain = grain(x.len(), 1, PARALLEL_COPY);
    x.par_chunks_mut(grain).zip(y.par_chunks(grain)).for_each(|(x, y)| subtract(isa, x, y));
}

pub(crate) fn scale_with(isa: Isa, x: &mut [f32], s: f32) {
    let grain = grain(x.len(), 1, PARALLEL_COPY);
    x.par_chunks_mut(grain).for_each(|x| scale(isa, x, s));
}

pub(crate) fn exp_with(isa: Isa, x: &mut [f32]) {
    let grain = grain(x.len(), 1, PARALLEL_EXP);
    x.par_chunks_mut(grain).for_each(|x| exp_all(isa, x));
}

pub(crate) fn first_non_finite_with(isa: Isa, x: &[f32]) -> Option<usize> {
    const CHUNK: usize = 4096;
    let grain = grain(x.len(), CHUNK, PARALLEL_COPY);
    x.par_chunks(grain).enumerate().find_map_first(|(task, part)| {
        let chunk = part.chunks(CHUNK).position(|chunk| !all_finite(isa, chunk))?;
        let start = task * grain + chunk * CHUNK;
        x[start..].iter().position(|v| !v.is_finite()).map(|i| start + i)
    })
}

kernel! {
    fn add(x: &mut [f32], y: &[f32]) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    }
}

kernel! {
    fn subtract(x: &mut [f32], y: &[f32]) {
        x.iter_mut().zip(y).for_each(|(x, y)| *x -= y);
    }
}

kernel! {
    fn scale(x: &mut [f32], s: f32) {
        x.iter_mut().for_each(|x| *x *= s);
    }
}

kernel! {
    fn exp_all(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = elementary::exp(*x));
    }
}

kernel! {
    fn all_finite(x: &[f32]) -> bool {
        // No early exit, so that the comparison runs in vectors.
        x.iter().fold(true, |all, v| all & ((v.to_bits() & 0x7f80_0000) != 0x7f80_0000))
    }
}

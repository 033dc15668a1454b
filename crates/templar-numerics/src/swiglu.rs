//! The gated activation of the feed-forward layer: `silu(gate) · up` (Shazeer 2020).

use rayon::prelude::*;

use crate::elementary::sigmoid;
use crate::isa::Isa;
use crate::kernel::{PARALLEL_EXP, grain, kernel};

pub(crate) fn swiglu_with(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && up.len() == out.len(), "swiglu of different lengths");
    let grain = grain(out.len(), 1, PARALLEL_EXP);
    let tasks = out.par_chunks_mut(grain).zip(gate.par_chunks(grain)).zip(up.par_chunks(grain));
    tasks.for_each(|((out, gate), up)| forward(isa, gate, up, out));
}

pub(crate) fn swiglu_backward_with(
    isa: Isa,
    gate: &[f32],
    up: &[f32],
    dout: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    let n = gate.len();
    assert!([up.len(), dout.len(), dgate.len(), dup.len()] == [n; 4], "swiglu backward of different lengths");
    let grain = grain(n, 1, PARALLEL_EXP);
    let tasks = dgate.par_chunks_mut(grain).zip(dup.par_chunks_mut(grain));
    let tasks = tasks.zip(gate.par_chunks(grain)).zip(up.par_chunks(grain)).zip(dout.par_chunks(grain));
    tasks.for_each(|((((dgate, dup), gate), up), dout)| backward(isa, gate, up, dout, dgate, dup));
}

kernel! {
    fn forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
            *out = (g * sigmoid(*g)) * u;
        }
    }
}

kernel! {
    fn backward(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        for ((((dg, du), g), u), d) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dout) {
            let s = sigmoid(*g);
            *du = d * (g * s);
            *dg = (d * u) * (s * (1.0 + g * (1.0 - s)));
        }
    }
}

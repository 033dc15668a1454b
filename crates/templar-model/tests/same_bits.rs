//! One short training run, hashed: the same on every instruction set and thread count, and the same as when it was
//! frozen. A changed hash is a changed arithmetic: every run that was recorded with the old one stops replaying.

use std::fmt::Write;

use templar_model::{AdamWSettings, Model, step};
use templar_numerics::Isa;

use crate::support::{small_spec, tokens};

/// Losses, gradients, parameters and moments of [`run`], tied and untied.
const FROZEN: [&str; 2] = ["edff0a26cf1495dd", "e9f889d8dcf64489"];

fn hash_floats(hasher: &mut blake3::Hasher, floats: &[f32]) {
    for float in floats {
        hasher.update(&float.to_bits().to_le_bytes());
    }
}

/// Three steps of two micro-batches each; everything that a replay would compare goes into the hash.
fn run(tied: bool, recompute: bool) -> String {
    let spec = small_spec(tied);
    let mut model = Model::new(&spec).unwrap();
    model.recompute(recompute);
    let mut params = model.init(&[9; 32]);
    let mut moments = [vec![0.0f32; params.len()], vec![0.0f32; params.len()]];
    let mut hasher = blake3::Hasher::new();
    let scale = 1.0 / (4 * spec.sequence_length) as f32;
    for t in 1..=3u32 {
        let mut grad = vec![0.0f32; params.len()];
        for micro in 0..2 {
            let batch = tokens(&spec, 2, 10 * t + micro);
            let loss = model.forward_backward(&params, &batch, scale, &mut grad).unwrap();
            assert_eq!(model.loss(&params, &batch).unwrap().to_bits(), loss.to_bits(), "forward only, step {t}");
            hasher.update(&loss.to_bits().to_le_bytes());
        }
        hash_floats(&mut hasher, &grad);
        let [m, v] = &mut moments;
        let settings = AdamWSettings::reference();
        let norm = step(&model, &settings, 0.01, t.into(), &mut params, &mut grad, m, v).unwrap();
        hasher.update(&norm.to_bits().to_le_bytes());
    }
    hash_floats(&mut hasher, &params);
    moments.iter().for_each(|moment| hash_floats(&mut hasher, moment));
    hasher.finalize().to_hex()[..16].to_string()
}

#[test]
fn every_instruction_set_and_thread_count_gives_the_frozen_hashes() {
    let mut report = String::new();
    let best = Isa::current();
    for isa in Isa::available() {
        Isa::force(isa).unwrap();
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for recompute in [false, true] {
                let hashes = pool.install(|| [run(true, recompute), run(false, recompute)]);
                if hashes != FROZEN {
                    writeln!(report, "{isa}, {threads} threads, recomputing: {recompute}: {hashes:?}").unwrap();
                }
            }
        }
    }
    Isa::force(best).unwrap();
    assert!(report.is_empty(), "not the frozen {FROZEN:?}:\n{report}");
}

#[test]
fn micro_batches_accumulate_to_the_gradient_of_one_batch() {
    let spec = small_spec(false);
    let mut model = Model::new(&spec).unwrap();
    let params = model.init(&[1; 32]);
    let batch = tokens(&spec, 3, 5);
    let mut whole = vec![0.0f32; params.len()];
    model.forward_backward(&params, &batch, 0.25, &mut whole).unwrap();
    let mut parts = vec![0.0f32; params.len()];
    for sequence in batch.chunks(spec.sequence_length as usize + 1) {
        model.forward_backward(&params, sequence, 0.25, &mut parts).unwrap();
    }
    assert!(whole.iter().zip(&parts).all(|(a, b)| a.to_bits() == b.to_bits()));
}

#[test]
fn the_first_parameters_are_frozen() {
    let model = Model::new(&small_spec(true)).unwrap();
    let params = model.init(&[9; 32]);
    let mut hasher = blake3::Hasher::new();
    hash_floats(&mut hasher, &params);
    assert_eq!(hasher.finalize().to_hex()[..16], *"b543fb5a4127b084");
    assert_ne!(params, model.init(&[10; 32]));
}

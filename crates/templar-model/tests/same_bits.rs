//! A few steps of training in every way that this machine offers, hashed: losses, gradients, weights and moments are the
//! frozen ones on every instruction set, in any number of threads, with activations kept or recomputed, however the step
//! is cut into micro-batches. A changed hash is a changed arithmetic: every run that was recorded with the old one stops
//! replaying.
//!
//! `cargo test --release -p templar-model same_bits -- --nocapture` prints the rows of `SAME_BITS.md`.

use std::fmt::Write;

use templar_manifest::ModelSpec;
use templar_model::{AdamWSettings, Model, step};
use templar_numerics::{Isa, check_environment};

use crate::support::{small_spec, tokens};

const STEPS: u32 = 3;
/// Sequences of one step.
const SEQUENCES: usize = 4;
/// The cut of a step that every model is trained with: sequences of each micro-batch.
const MICRO_BATCHES: &[usize] = &[2, 2];
/// Other cuts, which give the same gradient where embedding and head are not tied.
const OTHER_CUTS: [&[usize]; 3] = [&[4], &[1, 3], &[1, 1, 1, 1]];
const THREADS: [usize; 4] = [1, 2, 3, 8];

/// First 16 digits of the hash of all losses, all gradients, the last parameters and the last moments.
type Hashes = [String; 4];

/// A model with the hashes that its training ends in.
struct Case {
    name: &'static str,
    spec: ModelSpec,
    frozen: [&'static str; 4],
}

/// Grouped queries with and without a head of its own, sequences long enough for a second block of attention rows; and
/// one model so wide that its products, norms and updates really are divided among threads.
fn cases() -> [Case; 3] {
    let wide = ModelSpec {
        vocab_size: 1100,
        hidden_size: 64,
        layers: 1,
        kv_heads: 4,
        ffn_size: 264,
        sequence_length: 32,
        ..small_spec(false)
    };
    [
        Case {
            name: "grouped, tied",
            spec: small_spec(true),
            frozen: ["f77cd0558f424960", "09379f8c895357d3", "203f49ce3178bd9b", "0c57504a7df46645"],
        },
        Case {
            name: "grouped, untied",
            spec: small_spec(false),
            frozen: ["39a76006908d3310", "c133e7f95868c8b9", "800e85146e02b307", "470e489c644de460"],
        },
        Case {
            name: "wide, untied",
            spec: wide,
            frozen: ["1eed8477edfe9cfa", "f9eb80193fbc78e4", "63f6d59a6463e3b9", "46e7f1a91a0536ca"],
        },
    ]
}

fn update(hasher: &mut blake3::Hasher, floats: &[f32]) {
    for float in floats {
        hasher.update(&float.to_bits().to_le_bytes());
    }
}

/// Trains `STEPS` steps; everything that a replay would compare goes into a hash.
fn train(spec: &ModelSpec, micro_batches: &[usize], recompute: bool) -> Hashes {
    let mut model = Model::new(spec).unwrap();
    model.recompute(recompute);
    let mut params = model.init(&[9; 32]);
    let (mut m, mut v) = (vec![0.0f32; params.len()], vec![0.0f32; params.len()]);
    let [mut losses, mut gradients, mut weights, mut moments] = [(); 4].map(|()| blake3::Hasher::new());
    let width = spec.sequence_length as usize + 1;
    let scale = 1.0 / (SEQUENCES * (width - 1)) as f32;
    for t in 1..=STEPS {
        let batch = tokens(spec, SEQUENCES, t);
        // The sum of a micro-batch depends on the cut, the loss of a sequence does not.
        for sequence in batch.chunks_exact(width) {
            losses.update(&model.loss(&params, sequence).unwrap().to_bits().to_le_bytes());
        }
        let (mut grad, mut rest) = (vec![0.0f32; params.len()], &batch[..]);
        for sequences in micro_batches {
            let (micro_batch, others) = rest.split_at(sequences * width);
            rest = others;
            let loss = model.forward_backward(&params, micro_batch, scale, &mut grad).unwrap();
            assert_eq!(loss.to_bits(), model.loss(&params, micro_batch).unwrap().to_bits(), "forward only, step {t}");
        }
        assert!(rest.is_empty());
        update(&mut gradients, &grad);
        let settings = AdamWSettings::reference();
        let norm = step(&model, &settings, 0.01, t.into(), &mut params, &mut grad, &mut m, &mut v).unwrap();
        gradients.update(&norm.to_bits().to_le_bytes());
    }
    update(&mut weights, &params);
    update(&mut moments, &m);
    update(&mut moments, &v);
    [losses, gradients, weights, moments].map(|hasher| hasher.finalize().to_hex()[..16].to_owned())
}

#[test]
fn every_way_of_computing_gives_the_frozen_hashes() {
    check_environment().unwrap();
    let best = Isa::current();
    let pools = THREADS.map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    let mut report = String::new();
    for isa in Isa::available() {
        Isa::force(isa).unwrap();
        for Case { name, spec, frozen } in cases() {
            let mut check = |pool: &rayon::ThreadPool, cut: &[usize], recompute: bool| {
                let found = pool.install(|| train(&spec, cut, recompute));
                if found != frozen {
                    let threads = pool.current_num_threads();
                    let way = format!("{threads} threads, micro-batches {cut:?}, recomputing: {recompute}");
                    writeln!(report, "{isa}, {name}, {way}: {found:?}").unwrap();
                }
            };
            pools.iter().for_each(|pool| check(pool, MICRO_BATCHES, false));
            check(&pools[1], MICRO_BATCHES, true);
            let mut cuts = "2+2";
            if !spec.tied_embeddings {
                OTHER_CUTS.iter().for_each(|cut| check(&pools[1], cut, false));
                cuts = "2+2, 4, 1+3, 1+1+1+1";
            }
            if report.is_empty() {
                println!("| {isa} | {name} | {cuts} | {} |", frozen.join(" | "));
            }
        }
    }
    Isa::force(best).unwrap();
    assert!(report.is_empty(), "not the frozen hashes:\n{report}");
}

/// The cut into micro-batches is free, their order is not: it is part of what a run defines.
#[test]
fn the_order_of_sequences_is_part_of_the_gradient() {
    let spec = small_spec(false);
    let mut model = Model::new(&spec).unwrap();
    let params = model.init(&[1; 32]);
    let batch = tokens(&spec, 2, 5);
    let (first, second) = batch.split_at(spec.sequence_length as usize + 1);
    let mut gradient = |order: [&[u32]; 2]| {
        let mut grad = vec![0.0f32; params.len()];
        for sequence in order {
            model.forward_backward(&params, sequence, 0.25, &mut grad).unwrap();
        }
        grad
    };
    assert_ne!(gradient([first, second]), gradient([second, first]));
}

#[test]
fn the_first_parameters_are_frozen() {
    let model = Model::new(&small_spec(true)).unwrap();
    let params = model.init(&[9; 32]);
    let mut hasher = blake3::Hasher::new();
    update(&mut hasher, &params);
    assert_eq!(hasher.finalize().to_hex()[..16], *"b543fb5a4127b084");
    assert_ne!(params, model.init(&[10; 32]));
}

//! A few steps of training in every way that this machine offers, hashed: losses, gradients, weights and
//! moments are the frozen ones on every instruction set, in any number of threads, with activations kept or
//! recomputed, however the step is cut into micro-batches. A changed hash is a changed arithmetic: every run
//! that was recorded with the old one stops replaying.
//!
//! `cargo test --release -p templar-model same_bits -- --nocapture` prints the rows of `SAME_BITS.md`.

use std::fmt::Write;
use std::sync::Arc;

use templar_device::{Cpu, Device, Isa};
use templar_numerics::check_environment;

use crate::frozen::{Case, MICRO_BATCHES, cases, train, update};
use crate::support::{HostModel, small_spec, tokens};

/// Other cuts, which give the same gradient where embedding and output head are not tied.
const OTHER_CUTS: [&[usize]; 3] = [&[4], &[1, 3], &[1, 1, 1, 1]];
const THREADS: [usize; 4] = [1, 2, 3, 8];

#[test]
fn every_way_of_computing_gives_the_frozen_hashes() {
    check_environment().unwrap();
    let pools = THREADS.map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    let mut report = String::new();
    for isa in Isa::available() {
        let device: Arc<dyn Device> = Arc::new(Cpu::with_isa(isa).unwrap());
        for Case { name, spec, frozen } in cases() {
            let mut check = |pool: &rayon::ThreadPool, cut: &[usize], recompute: bool| {
                let found = pool.install(|| train(&device, &spec, cut, recompute));
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
    assert!(report.is_empty(), "not the frozen hashes:\n{report}");
}

/// The cut into micro-batches is free, their order is not: it is part of what a run defines.
#[test]
fn the_order_of_sequences_is_part_of_the_gradient() {
    let spec = small_spec(false);
    let mut model = HostModel::new(&spec).unwrap();
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
    let model = HostModel::new(&small_spec(true)).unwrap();
    let params = model.init(&[9; 32]);
    let mut hasher = blake3::Hasher::new();
    update(&mut hasher, &params);
    assert_eq!(hasher.finalize().to_hex()[..16], *"b543fb5a4127b084");
    assert_ne!(params, model.init(&[10; 32]));
}

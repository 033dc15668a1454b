//! A few steps of training in every way that this machine offers, hashed: losses, gradients, weights and
//! moments are the frozen ones on every instruction set, in any number of threads, with activations kept or
//! recomputed. A changed hash is a changed arithmetic: every run that was recorded with the old one stops
//! replaying.
//!
//! `cargo test --release -p templar-model same_bits -- --nocapture` prints the rows of `SAME_BITS.md`.

use std::fmt::Write;
use std::sync::Arc;

use templar_device::{Cpu, Device, Isa};
use templar_numerics::check_environment;

use crate::frozen::{Case, MICRO_BATCHES, cases, train, update};
use crate::support::{HostModel, small_spec, tokens};

const THREADS: [usize; 4] = [1, 2, 3, 8];

#[test]
fn every_way_of_computing_gives_the_frozen_hashes() {
    check_environment().unwrap();
    let pools = THREADS.map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
    let mut report = String::new();
    for isa in Isa::available() {
        let device: Arc<dyn Device> = Arc::new(Cpu::with_isa(isa).unwrap());
        for Case { name, spec, frozen } in cases() {
            let mut check = |pool: &rayon::ThreadPool, recompute: bool| {
                let found = pool.install(|| train(&device, &spec, MICRO_BATCHES, recompute));
                if found != frozen {
                    let threads = pool.current_num_threads();
                    writeln!(report, "{isa}, {name}, {threads} threads, recomputing: {recompute}: {found:?}").unwrap();
                }
            };
            pools.iter().for_each(|pool| check(pool, false));
            check(&pools[1], true);
            if report.is_empty() {
                println!("| {isa} | {name} | {} |", frozen.join(" | "));
            }
        }
    }
    assert!(report.is_empty(), "not the frozen hashes:\n{report}");
}

/// The gradient of a step is the sum of its micro-batches' gradients, each computed by itself (here each by another
/// model), one addition an element in their order.
#[test]
fn a_gradient_is_the_sum_of_its_micro_batches() {
    for tied in [false, true] {
        let spec = small_spec(tied);
        let params = HostModel::new(&spec).unwrap().init(&[1; 32]);
        let batch = tokens(&spec, 4, 5);
        let width = spec.sequence_length as usize + 1;
        let micro_batches = [&batch[..width], &batch[width..3 * width], &batch[3 * width..]];
        let mut model = HostModel::new(&spec).unwrap();
        let mut gradient = vec![f32::NAN; params.len()];
        model.forward_backward(&params, micro_batches[0], 0.25, &mut gradient).unwrap();
        for micro_batch in &micro_batches[1..] {
            model.forward_backward_accumulate(&params, micro_batch, 0.25, &mut gradient).unwrap();
        }

        let mut alone = micro_batches.map(|micro_batch| {
            let mut gradient = vec![f32::NAN; params.len()];
            HostModel::new(&spec).unwrap().forward_backward(&params, micro_batch, 0.25, &mut gradient).unwrap();
            gradient
        });
        let sum = |[first, others @ ..]: &[Vec<f32>; 3]| -> Vec<u32> {
            let mut sum = first.clone();
            others.iter().for_each(|other| sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other));
            sum.into_iter().map(f32::to_bits).collect()
        };
        let found: Vec<u32> = gradient.into_iter().map(f32::to_bits).collect();
        assert_eq!(found, sum(&alone), "tied: {tied}");
        alone.reverse();
        assert_ne!(found, sum(&alone), "the order is part of the gradient, tied: {tied}");
    }
}

/// How a step is cut into micro-batches, and in which order a micro-batch has its sequences, are part of what a run
/// defines.
#[test]
fn the_cut_of_a_step_and_the_order_of_sequences_are_part_of_the_gradient() {
    let spec = small_spec(false);
    let mut model = HostModel::new(&spec).unwrap();
    let params = model.init(&[1; 32]);
    let batch = tokens(&spec, 2, 5);
    let (first, second) = batch.split_at(spec.sequence_length as usize + 1);
    let mut gradient = |micro_batches: &[&[u32]]| {
        let mut grad = vec![0.0f32; params.len()];
        model.forward_backward(&params, micro_batches[0], 0.25, &mut grad).unwrap();
        for micro_batch in &micro_batches[1..] {
            model.forward_backward_accumulate(&params, micro_batch, 0.25, &mut grad).unwrap();
        }
        grad
    };
    let whole = gradient(&[&batch]);
    assert_ne!(whole, gradient(&[first, second]));
    assert_ne!(whole, gradient(&[&[second, first].concat()]));
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

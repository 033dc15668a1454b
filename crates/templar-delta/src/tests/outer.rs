//! The outer step by hand, its rules, its refusals, and overlap.

use super::*;
use crate::{AggregationRule, Delta, OuterStepError, apply_trial, compress, decode, overlap_ppm, overlaps_ppm};

/// A delta of exactly these values: one row per block, so that each block sends its `k` largest.
fn delta(specs: &[TensorSpec], settings: &DeltaSettings, values: &[f32]) -> Delta {
    let mut error = vec![0.0; values.len()];
    let bytes = compress(specs, settings, &header(), values, &mut error).unwrap();
    decode(&bytes, specs, settings, &header()).unwrap()
}

/// Three contributors send two of four coordinates each: {0:4, 1:4}, {1:8, 2:8}, {2:1, 3:−1}; norms √32, √128 and √2.
fn three() -> (Vec<TensorSpec>, [Delta; 3]) {
    let specs = specs(&[&[1, 4]]);
    let settings = settings(4, 8, Quantiser::BlockSign, 0); // ⌈8 · 4/16⌉ = 2 of a block of four
    let send = |values: [f32; 4]| delta(&specs, &settings, &values);
    let deltas = [send([4.0, 4.0, 0.0, 0.0]), send([0.0, 8.0, 8.0, 0.0]), send([0.0, 0.0, 1.0, -1.0])];
    (specs, deltas)
}

#[test]
fn the_step_by_hand() {
    let (specs, deltas) = three();
    let deltas: Vec<&Delta> = deltas.iter().collect();
    assert_eq!(deltas.iter().map(|delta| delta.norm(0)).collect::<Vec<_>>(), [32f64, 128.0, 2.0].map(f64::sqrt));

    // Mean of senders: the second is halved, g = [4, (4 + 4)/2, (4 + 1)/2, −1].
    let mut params = [10f32; 4];
    let report = apply(&specs, &deltas, AggregationRule::MeanOfSenders, 0.4, &mut params).unwrap();
    let lr = f64::from(0.4f32);
    let expected = [4.0, 4.0, 2.5, -1.0].map(|g: f64| (10.0 - lr * g) as f32);
    assert_eq!(params, expected);
    let median = 32f64.sqrt();
    assert_eq!((report.tensors[0].median_norm, report.tensors[0].clipped, report.touched()), (median, 1, 4));

    // Mean of all: the sums over three.
    let mut params = [10f32; 4];
    apply(&specs, &deltas, AggregationRule::MeanOfAll, 0.4, &mut params).unwrap();
    let expected = [4.0, 8.0, 5.0, -1.0].map(|sum: f64| (10.0 - lr * (sum / 3.0)) as f32);
    assert_eq!(params, expected);

    // Of two norms the lower is the median.
    let mut params = [0f32; 4];
    let report = apply(&specs, &deltas[..2], AggregationRule::MeanOfAll, 1.0, &mut params).unwrap();
    assert_eq!(report.tensors[0].median_norm, median);
    assert_eq!(params, [-2.0, -4.0, -2.0, 0.0]);
}

#[test]
fn no_deltas_change_nothing_and_unsent_coordinates_keep_their_bits() {
    let (specs, deltas) = three();
    let mut params = [-0.0f32, 1.5, f32::MIN_POSITIVE / 4.0, -3.0];
    let before = params.map(f32::to_bits);
    assert!(apply(&specs, &[], AggregationRule::MeanOfAll, 1.0, &mut params).unwrap().tensors.is_empty());
    assert_eq!(params.map(f32::to_bits), before);
    apply_trial(&specs, &deltas[1], 0.5, &mut params).unwrap();
    assert_eq!(params.map(f32::to_bits)[0], before[0]);
    assert_eq!(params[1..], [-2.5, -4.0, -3.0]);
}

#[test]
fn what_cannot_be_applied_is_refused_by_name() {
    let (specs, deltas) = three();
    let all: Vec<&Delta> = deltas.iter().collect();
    let mut params = [1f32; 4];
    let run = |specs: &[TensorSpec], lr, params: &mut [f32]| apply(specs, &all, AggregationRule::MeanOfAll, lr, params);
    assert_eq!(run(&specs, 1.0, &mut [0.0; 3]), Err(OuterStepError::Length { found: 3, expected: 4 }));
    assert!(matches!(run(&specs, f32::NAN, &mut params), Err(OuterStepError::LearningRate(_))));
    let other = super::specs(&[&[2, 2]]);
    assert_eq!(run(&other, 1.0, &mut params), Err(OuterStepError::OtherDelta { position: 0 }));
    assert_eq!(params, [1.0; 4]);
    let mut params = [1.0, f32::NAN, 1.0, 1.0];
    let error = run(&specs, 1.0, &mut params).unwrap_err();
    assert_eq!(error, OuterStepError::NonFinite { tensor: "tensor0".into(), index: 1 });
    let settings = settings(2, 1, Quantiser::BlockSign, 0);
    let finer = delta(&specs, &settings, &[1.0; 4]);
    let mixed = apply(&specs, &[&deltas[0], &finer], AggregationRule::MeanOfAll, 1.0, &mut [0.0; 4]);
    assert_eq!(mixed, Err(OuterStepError::OtherDelta { position: 1 }));
}

#[test]
fn overlap_is_the_share_of_common_positions() {
    let specs = specs(&[&[2, 8], &[8]]);
    // Blocks of 1 × 8 do not exist (the largest divisors are 2 and 8): one block of 16 that keeps ⌈16 · 16/64⌉ = 4, and
    // a vector that is sent whole and must not count.
    let settings = settings(8, 16, Quantiser::BlockSign, 0);
    let send = |chosen: [usize; 4]| {
        let mut values = [0f32; 24];
        chosen.iter().for_each(|&at| values[at] = 1.0);
        delta(&specs, &settings, &values)
    };
    let (a, b, c) = (send([0, 1, 2, 3]), send([2, 3, 4, 5]), send([12, 13, 14, 15]));
    assert_eq!(overlap_ppm(&a, &a), 1_000_000);
    assert_eq!(overlap_ppm(&a, &b), 500_000);
    assert_eq!(overlap_ppm(&b, &a), 500_000);
    assert_eq!(overlap_ppm(&a, &c), 0);
    assert_eq!(overlaps_ppm(&[&a, &b, &c])[1], [500_000, 1_000_000, 0]);
    let whole = super::specs(&[&[8]]);
    let only_whole = delta(&whole, &settings, &[1.0; 8]);
    assert_eq!(overlap_ppm(&only_whole, &only_whole), 0);
    assert!(overlaps_ppm(&[]).is_empty());
}

/// One block shared whole and another not at all are half.
#[test]
fn overlap_is_the_mean_over_blocks() {
    let specs = specs(&[&[1, 4], &[1, 4]]);
    // Two tensors of one block, which keep ⌈8 · 4/16⌉ = 2 each.
    let settings = settings(4, 8, Quantiser::Templar4, 0);
    let deltas = [[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]
        .map(|values| delta(&specs, &settings, &values));
    assert_eq!(overlap_ppm(&deltas[0], &deltas[1]), 500_000);
}

/// A delta under another header keeps its body, and another delta has another.
#[test]
fn a_body_is_known_again_under_another_header() {
    let specs = specs(&[&[4, 8], &[3]]);
    let settings = settings(4, 8, Quantiser::Templar4, 0);
    let bytes = |header: &DeltaHeader, seed: &str| {
        let mut error = vec![0.0; 35];
        compress(&specs, &settings, header, &values(seed, 35), &mut error).unwrap()
    };
    let body =
        |header: &DeltaHeader, seed: &str| decode(&bytes(header, seed), &specs, &settings, header).unwrap().body_hash();
    // A later window has a longer header.
    let other = DeltaHeader { window: 300, miner: [4; 32], ..header() };
    assert_ne!(bytes(&header(), "a"), bytes(&other, "a"));
    assert_eq!(body(&header(), "a"), body(&other, "a"));
    assert_ne!(body(&header(), "a"), body(&header(), "b"));
}

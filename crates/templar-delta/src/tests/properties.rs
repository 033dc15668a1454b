//! Properties: what is sent is the top-k, what is not sent is kept, threads do not matter, and one vector is frozen.

use proptest::prelude::*;
use rayon::ThreadPoolBuilder;

use super::noise::random_delta;
use super::*;
use crate::layout::BlockLayout;
use crate::{AggregationRule, CompressError, ShapeError, compress, decode, inspect, max_bytes};

fn quantiser() -> impl Strategy<Value = Quantiser> {
    prop::sample::select(Quantiser::ALL.to_vec())
}

fn shape() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![prop::collection::vec(1u64..60, 1), prop::collection::vec(1u64..40, 2)]
}

/// The slow twin of the selection: sort every block by (magnitude descending, position ascending).
fn kept_by_sorting(layout: &BlockLayout, tensor: &[f32]) -> Vec<u32> {
    let mut all = Vec::new();
    for block in 0..layout.blocks() {
        let (down, across) = (block / layout.blocks_across(), block % layout.blocks_across());
        let start = down * layout.band_len() + layout.block_start(across);
        let mut offsets: Vec<u32> = (0..layout.block_len() as u32).collect();
        let value = |offset: u32| tensor[start + layout.within_block(offset as usize)];
        offsets.sort_by(|&a, &b| value(b).abs().total_cmp(&value(a).abs()).then(a.cmp(&b)));
        offsets.truncate(layout.kept_per_block());
        offsets.sort_unstable();
        all.extend(offsets.iter().map(|&offset| (start + layout.within_block(offset as usize)) as u32));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_sent_and_what_is_kept_add_up(
        shapes in prop::collection::vec(shape(), 1..5),
        (side, top_k) in (1u32..20).prop_flat_map(|side| (Just(side), 1..=side * side)),
        quantiser in quantiser(),
        seed in any::<u32>(),
        coarse in any::<bool>(),
    ) {
        let shapes: Vec<&[u64]> = shapes.iter().map(Vec::as_slice).collect();
        let specs = specs(&shapes);
        let settings = settings(side, top_k, quantiser, 500_000);
        let total = specs.iter().map(TensorSpec::elements).sum();
        let mut delta = values(&format!("delta {seed}"), total);
        let mut error = values(&format!("error {seed}"), total);
        if coarse {
            // Many ties and zeros of both signs.
            delta.iter_mut().for_each(|value| *value = (*value * 4.0).round_ties_even() / 2.0);
            error.iter_mut().for_each(|value| *value = (*value * 2.0).round_ties_even());
        }
        let target: Vec<f32> =
            delta.iter().zip(&error).map(|(&d, &e)| (0.5 * f64::from(e) + f64::from(d)) as f32).collect();

        let bytes = compress(&specs, &settings, &header(), &delta, &mut error).unwrap();
        prop_assert!(bytes.len() as u64 <= max_bytes(&specs, &settings).unwrap());
        let decoded = decode(&bytes, &specs, &settings, &header()).unwrap();
        let (found, parts) = inspect(&bytes).unwrap();
        prop_assert_eq!(found, header());
        prop_assert_eq!(parts.bytes(), bytes.len() as u64);
        prop_assert_eq!(parts.tensors.len(), specs.len());

        let mut start = 0;
        for (index, spec) in specs.iter().enumerate() {
            let target = &target[start..start + spec.elements()];
            let error = &error[start..start + spec.elements()];
            start += spec.elements();
            let layout = BlockLayout::new(spec, &settings).unwrap();
            let sparse = decoded.tensor(index);
            let flat: Vec<u32> = sparse.entries().map(|(at, _)| at).collect();
            prop_assert_eq!(&flat, &kept_by_sorting(&layout, target));
            let mut expected = target.to_vec();
            let mut squares = 0f64;
            for (at, value) in sparse.entries() {
                expected[at as usize] -= value;
                squares += f64::from(value) * f64::from(value);
            }
            prop_assert_eq!(&expected, error);
            prop_assert!((squares.sqrt() - decoded.norm(index)).abs() <= 1e-12 * squares.sqrt());
        }
    }
}

/// A small model with every kind of block: full, narrow, sent whole, of one element, of one row.
fn model() -> Vec<TensorSpec> {
    specs(&[&[256, 128], &[128, 352], &[128], &[97, 64], &[1, 640], &[1000], &[67, 71]])
}

#[test]
fn threads_do_not_matter() {
    let specs = model();
    let total: usize = specs.iter().map(TensorSpec::elements).sum();
    for quantiser in Quantiser::ALL {
        let settings = settings(64, 64, quantiser, 950_000);
        let run = |threads: usize| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut error = values("error", total);
                let mut deltas = Vec::new();
                for window in 0..3 {
                    let gradient = values(&format!("gradient {window}"), total);
                    let bytes = compress(&specs, &settings, &header(), &gradient, &mut error).unwrap();
                    deltas.push(decode(&bytes, &specs, &settings, &header()).unwrap());
                }
                let mut params = values("params", total);
                let refs: Vec<_> = deltas.iter().collect();
                apply(&specs, &refs, AggregationRule::MeanOfSenders, 0.7, &mut params).unwrap();
                let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                let bytes: Vec<Vec<u8>> = deltas.iter().map(|delta| delta.bytes().to_vec()).collect();
                (bytes, bits(&error), bits(&params))
            })
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3));
    }
}

#[test]
fn with_full_decay_nothing_is_lost() {
    let specs = specs(&[&[64, 64], &[100]]);
    let settings = settings(16, 8, Quantiser::Templar4, 1_000_000);
    let total = 64 * 64 + 100;
    let mut error = vec![0f32; total];
    let (mut sent, mut wanted) = (vec![0f64; total], vec![0f64; total]);
    for window in 0..20 {
        let delta = values(&format!("window {window}"), total);
        wanted.iter_mut().zip(&delta).for_each(|(sum, &value)| *sum += f64::from(value));
        let bytes = compress(&specs, &settings, &header(), &delta, &mut error).unwrap();
        let decoded = decode(&bytes, &specs, &settings, &header()).unwrap();
        for (index, start) in [(0, 0), (1, 64 * 64)] {
            for (at, value) in decoded.tensor(index).entries() {
                sent[start + at as usize] += f64::from(value);
            }
        }
    }
    for index in 0..total {
        let kept = sent[index] + f64::from(error[index]);
        assert!((kept - wanted[index]).abs() < 1e-5, "{index}: {kept} {}", wanted[index]);
    }
}

/// The bytes are a contract: a change of this hash is a change of the format or of the arithmetic.
#[test]
fn the_bytes_are_frozen() {
    let specs = model();
    let total: usize = specs.iter().map(TensorSpec::elements).sum();
    let gradient = values("gradient", total);
    let hash = |quantiser| {
        let mut error = values("error", total);
        let bytes = compress(&specs, &settings(64, 64, quantiser, 950_000), &header(), &gradient, &mut error).unwrap();
        let errors: Vec<u8> = error.iter().flat_map(|value| value.to_le_bytes()).collect();
        (bytes.len(), Hash::of(&bytes).to_string(), Hash::of(&errors).to_string())
    };
    let noise = random_delta(&specs, &settings(64, 64, Quantiser::Templar4, 0), &header(), &[9; 32], 1e-3).unwrap();
    let found = [
        hash(Quantiser::Templar4),
        hash(Quantiser::BlockSign),
        hash(Quantiser::BlockLevels),
        (noise.len(), Hash::of(&noise).to_string(), String::new()),
    ];
    let frozen = [
        (
            2735,
            "dc57df6347984e0b646540b0deaf4ae76471195e05d6f8aa75a320bba270bd22",
            "ce77019887a847a9e711de2f7537ce4d9072ed8fb1412def108255a57c9f4e68",
        ),
        (
            2339,
            "092cd695279733793db7270bb8cd498f501747ae31b51335934cc671d67f186e",
            "0bb6102538ee5671f2adfbd16d2f4e1b192b0b0a3b38d07f4ee1e4d8e7d35031",
        ),
        (
            3289,
            "046cc3194a8c1d36f4048f171267d33deda5122758ff1976a9d9193dd03ba053",
            "560cc024d2624fd4cd1c7c98543917ef612c62876219e279e80b9e04a82a4e49",
        ),
        (2762, "43d9259e23d701bf1dc92de356469b7eb5ba7ef83990adda0992a41c028266a4", ""),
    ];
    assert_eq!(found.each_ref().map(|(length, bytes, error)| (*length, bytes.as_str(), error.as_str())), frozen);
}

#[test]
fn noise_is_well_formed_and_differs_by_seed() {
    let specs = model();
    let settings = settings(64, 64, Quantiser::BlockSign, 950_000);
    let noise = |seed: u8| random_delta(&specs, &settings, &header(), &[seed; 32], 0.01).unwrap();
    let delta = decode(&noise(1), &specs, &settings, &header()).unwrap();
    assert!((0..specs.len()).any(|index| delta.norm(index) > 0.0));
    assert_eq!(noise(1), noise(1));
    assert_ne!(noise(1), noise(2));
    assert!(random_delta(&specs, &settings, &header(), &[0; 32], f32::INFINITY).is_err());
}

#[test]
fn values_that_cannot_be_sent_are_named_and_change_nothing() {
    let specs = specs(&[&[4, 4], &[5]]);
    let settings = settings(4, 4, Quantiser::Templar4, 1_000_000);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.3e30] {
        let mut gradient = vec![1f32; 21];
        let mut error = vec![0.25f32; 21];
        gradient[16 + 2] = bad;
        let found = compress(&specs, &settings, &header(), &gradient, &mut error).unwrap_err();
        assert!(matches!(&found, CompressError::Value { tensor, index: 2, .. } if tensor == "tensor1"), "{found}");
        assert_eq!(error, [0.25; 21]);
    }
    let mut error = vec![0f32; 21];
    error[3] = f32::NAN;
    assert!(compress(&specs, &settings, &header(), &[0.0; 21], &mut error).is_err());
    let short = compress(&specs, &settings, &header(), &[0.0; 20], &mut [0.0; 21]);
    assert_eq!(short, Err(CompressError::Length { what: "pseudo-gradient", found: 20, expected: 21 }));
    let cube = super::specs(&[&[2, 2, 2]]);
    let shape = compress(&cube, &settings, &header(), &[0.0; 8], &mut [0.0; 8]);
    assert!(matches!(shape, Err(CompressError::Shape(ShapeError::Dimensions { .. }))));
}

/// At the largest magnitude that is accepted everything stays finite and decodes.
#[test]
fn extreme_magnitudes_round_trip() {
    let specs = specs(&[&[8, 8]]);
    for quantiser in Quantiser::ALL {
        let settings = settings(8, 16, quantiser, 1_000_000);
        for pattern in [[1.0f32, -1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1e-38]] {
            let gradient: Vec<f32> = (0..64).map(|at| pattern[at % 2] * crate::MAX_MAGNITUDE).collect();
            let mut error = vec![0f32; 64];
            let bytes = compress(&specs, &settings, &header(), &gradient, &mut error).unwrap();
            decode(&bytes, &specs, &settings, &header()).unwrap();
            assert!(error.iter().all(|value| value.is_finite()));
        }
    }
}

/// On uniform position sets, k = 64 of 4096 costs 7.44 bits a position, and then a sign and a scale for a
/// block, or codes by their entropy, here 1.45 bits. The header and the front of the tensor are a hundred bytes
/// and left out.
#[test]
fn a_large_matrix_costs_what_was_promised() {
    let specs = specs(&[&[2048, 1024]]);
    for (quantiser, promised) in [(Quantiser::Templar4, 0.1318), (Quantiser::BlockSign, 0.1320)] {
        let settings = settings(64, 64, quantiser, 0);
        let noise = random_delta(&specs, &settings, &header(), &[1; 32], 1.0).unwrap();
        let sum = inspect(&noise).unwrap().1.sum();
        let bits = (sum.bytes() - sum.front_bytes) as f64 * 8.0 / (2048.0 * 1024.0);
        assert!((bits - promised).abs() < 0.0001, "{quantiser}: {bits}");
        assert!(noise.len() as u64 - sum.bytes() + sum.front_bytes < 120);
    }
}

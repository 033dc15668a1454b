//! The aggregate: it steps as the slow twin does, has one spelling, and hostile bytes get a name.

use proptest::prelude::*;

use super::noise::random_delta;
use super::*;
use crate::body::encode;
use crate::{AggregateError, AggregateHeader, TensorFault, decode, max_bytes};

/// Deltas of noise, the later ones larger, so that some are clipped.
fn noise(specs: &[TensorSpec], settings: &DeltaSettings, count: usize) -> Vec<Delta> {
    (0..count)
        .map(|index| {
            let scale = 1e-3 * (1.0 + index as f32);
            let bytes = random_delta(specs, settings, &header(), &[index as u8; 32], scale).unwrap();
            decode(&bytes, specs, settings, &header()).unwrap()
        })
        .collect()
}

fn merge(specs: &[TensorSpec], settings: &DeltaSettings, deltas: &[Delta]) -> Aggregate {
    let deltas: Vec<&Delta> = deltas.iter().collect();
    Aggregate::new(specs, settings, header().run, header().window, &deltas).unwrap()
}

fn expected(contributors: usize) -> AggregateHeader {
    AggregateHeader { run: header().run, window: header().window, contributors }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The norm as its definition reads: for each block, for each code, how many values have it.
fn norm(delta: &Delta, index: usize) -> f64 {
    let layout = delta.layout(index);
    let (_, quantised) = delta.encoded(index);
    let mut squares = 0f64;
    for (block, codes) in quantised.codes.chunks(layout.kept_per_block()).enumerate() {
        for (code, level) in (0u8..).zip(quantised.levels.of_scale(block / layout.blocks_per_scale())) {
            let count = codes.iter().filter(|&&found| found == code).count() as f64;
            squares += count * (f64::from(level) * f64::from(level));
        }
    }
    squares.sqrt()
}

/// The outer step as its definition reads, with a sum for every element of a tensor.
fn twin(specs: &[TensorSpec], deltas: &[Delta], rule: AggregationRule, lr: f32, params: &mut [f32]) {
    let mut start = 0;
    for (index, spec) in specs.iter().enumerate() {
        let params = &mut params[start..start + spec.elements()];
        start += spec.elements();
        let tensors: Vec<Vec<(u32, f32)>> =
            deltas.iter().map(|delta| delta.tensor(index).entries().collect()).collect();
        let norms: Vec<f64> = deltas.iter().map(|delta| norm(delta, index)).collect();
        let mut sorted = norms.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted[(sorted.len() - 1) / 2];
        let mut sums = vec![0f64; params.len()];
        let mut senders = vec![0u32; params.len()];
        for (entries, &norm) in tensors.iter().zip(&norms) {
            let factor = if norm > median { median / norm } else { 1.0 };
            for &(at, value) in entries {
                sums[at as usize] += factor * f64::from(value);
                senders[at as usize] += 1;
            }
        }
        for (at, param) in params.iter_mut().enumerate().filter(|&(at, _)| senders[at] > 0) {
            let count = if rule == AggregationRule::MeanOfAll { deltas.len() as f64 } else { f64::from(senders[at]) };
            *param = (f64::from(*param) - f64::from(lr) * (sums[at] / count)) as f32;
        }
    }
}

fn shape() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![prop::collection::vec(1u64..200, 1), prop::collection::vec(1u64..70, 2)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn it_steps_as_the_twin_does_and_has_one_spelling(
        shapes in prop::collection::vec(shape(), 1..4),
        (side, top_k) in (1u32..70).prop_flat_map(|side| (Just(side), 1..=side * side)),
        quantiser in prop::sample::select(Quantiser::ALL.to_vec()),
        rule in prop_oneof![Just(AggregationRule::MeanOfAll), Just(AggregationRule::MeanOfSenders)],
        count in 1usize..8,
    ) {
        let shapes: Vec<&[u64]> = shapes.iter().map(Vec::as_slice).collect();
        let (specs, settings) = (specs(&shapes), settings(side, top_k, quantiser, 0));
        let deltas = noise(&specs, &settings, count);
        let aggregate = merge(&specs, &settings, &deltas);
        let before = values("params", specs.iter().map(TensorSpec::elements).sum());
        let (mut found, mut wanted) = (before.clone(), before);
        aggregate.step(rule, 0.7, &mut found).unwrap();
        twin(&specs, &deltas, rule, 0.7, &mut wanted);
        prop_assert_eq!(bits(&found), bits(&wanted));

        let bytes = aggregate.bytes().to_vec();
        prop_assert!(bytes.len() as u64 <= Aggregate::max_bytes(&specs, &settings, count).unwrap());
        let again = Aggregate::decode(bytes, &specs, &settings, &expected(count)).unwrap();
        prop_assert_eq!(again, aggregate);
    }
}

/// The header of a small aggregate: each number takes one byte.
const HEADER: usize = 47;

fn small(count: usize) -> (Vec<TensorSpec>, DeltaSettings, Aggregate) {
    let specs = specs(&[&[16, 12], &[6], &[7, 3]]);
    let settings = settings(8, 10, Quantiser::Templar4, 0);
    let deltas = noise(&specs, &settings, count);
    let aggregate = merge(&specs, &settings, &deltas);
    (specs, settings, aggregate)
}

fn try_decode(bytes: &[u8], count: usize) -> Result<Aggregate, AggregateError> {
    let (specs, settings, _) = small(0);
    Aggregate::decode(bytes.to_vec(), &specs, &settings, &expected(count))
}

#[test]
fn without_contributors_it_is_a_header_and_changes_nothing() {
    let (specs, _, aggregate) = small(0);
    assert_eq!(aggregate.bytes().len(), HEADER);
    assert_eq!(try_decode(aggregate.bytes(), 0).unwrap(), aggregate);
    let before = values("params", specs.iter().map(TensorSpec::elements).sum());
    let mut params = before.clone();
    assert!(aggregate.step(AggregationRule::MeanOfSenders, 1.0, &mut params).unwrap().tensors.is_empty());
    assert_eq!(bits(&params), bits(&before));
}

#[test]
fn truncated_extended_and_flipped_bytes_are_refused_or_another_aggregate() {
    let (_, _, aggregate) = small(3);
    let bytes = aggregate.bytes();
    for length in 0..bytes.len() {
        assert!(matches!(try_decode(&bytes[..length], 3), Err(AggregateError::Truncated { .. })), "{length}");
    }
    let longer = [bytes, &[0]].concat();
    assert!(matches!(try_decode(&longer, 3), Err(AggregateError::Trailing { .. })));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match try_decode(&flipped, 3) {
            Ok(other) => assert!(bit / 8 >= HEADER && other != aggregate && other.bytes() == flipped),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn what_another_window_or_run_made_is_refused_by_name() {
    let (specs, settings, aggregate) = small(3);
    let bytes = aggregate.bytes();
    let with = |at: usize, value: u8| {
        let mut changed = bytes.to_vec();
        changed[at] = value;
        try_decode(&changed, 3).unwrap_err().to_string()
    };
    assert_eq!(with(0, b'X'), "not an aggregate: it does not begin with TPLAGGRE");
    assert_eq!(with(8, 1), "aggregate version 1 is not known, expected 0");
    assert_eq!(with(9, 1), "quantiser is block-sign, expected templar4");
    assert_eq!(with(9, 99), "quantiser is 99, expected templar4");
    assert!(with(10, 0).starts_with("run is 00"));
    assert_eq!(with(42, 8), "window is 8, expected 7");
    assert_eq!(with(43, 9), "block side is 9, expected 8");
    assert_eq!(with(44, 0), "top-k is 0, expected 10");
    assert_eq!(with(45, 2), "number of contributors is 2, expected 3");
    assert_eq!(with(46, 9), "number of tensors is 9, expected 3");
    // The second tensor's third contributor gives a byte to the third tensor's first.
    let mut moved = bytes.to_vec();
    moved[HEADER + 5] -= 1;
    moved[HEADER + 6] += 1;
    let error = try_decode(&moved, 3).unwrap_err().to_string();
    assert!(error.starts_with("tensor tensor1, contributor 2, byte "), "{error}");
    assert!(error.contains("the codes do not end with their"), "{error}");
    let limit = Aggregate::max_bytes(&specs, &settings, 3).unwrap();
    assert!(limit >= 3 * max_bytes(&specs, &settings).unwrap());
    let endless = vec![0; limit as usize + 1];
    assert!(matches!(try_decode(&endless, 3), Err(AggregateError::TooLong { contributors: 3, .. })));
    // A body that announces more bytes than there are.
    let mut announced = bytes.to_vec();
    announced[HEADER] += 100;
    assert!(matches!(try_decode(&announced, 3), Err(AggregateError::Truncated { .. })));
    // As many contributors as the record aggregates, and no other number.
    assert!(try_decode(bytes, 2).is_err());
}

#[test]
fn a_position_beyond_its_block_is_found_at_its_group() {
    let (specs, settings, aggregate) = small(2);
    // The first body once more, as only a stranger's encoder writes it: its last block goes on behind its end.
    let delta = noise(&specs, &settings, 1).remove(0);
    let (mut offsets, quantised) = delta.encoded(0);
    *offsets.last_mut().unwrap() = delta.layout(0).block_len() as u32;
    let body = encode(delta.layout(0), &offsets, &quantised);
    let (front, last) = (1 + 6 * body[2].count_ones() as u64, delta.layout(0).blocks() - 1);

    let mut bytes = aggregate.bytes().to_vec();
    let start = HEADER + 6;
    bytes.splice(start..start + usize::from(bytes[HEADER]), body.iter().copied());
    bytes[HEADER] = body.len() as u8;
    let error = try_decode(&bytes, 2).unwrap_err();
    let AggregateError::Tensor { tensor, contributor: 0, offset, fault } = error else { panic!("{error}") };
    assert_eq!((tensor.as_str(), offset), ("tensor0", start as u64 + front));
    assert!(matches!(fault, TensorFault::Position { block, .. } if block == last), "{fault}");
}

#[test]
fn deltas_of_another_window_are_not_merged() {
    let (specs, settings, _) = small(0);
    let deltas = noise(&specs, &settings, 2);
    let all: Vec<&Delta> = deltas.iter().collect();
    let merged = Aggregate::new(&specs, &settings, header().run, 8, &all);
    assert_eq!(merged, Err(OuterStepError::OtherDelta { position: 0 }));
}

/// The bytes and the step are a contract: a change of these hashes is a change of the format or of the arithmetic.
#[test]
fn the_aggregate_and_its_step_are_frozen() {
    let specs = specs(&[&[256, 128], &[128, 352], &[128], &[97, 64]]);
    let settings = settings(64, 64, Quantiser::Templar4, 0);
    let aggregate = merge(&specs, &settings, &noise(&specs, &settings, 5));
    let stepped = |rule| {
        let mut params = values("params", specs.iter().map(TensorSpec::elements).sum());
        aggregate.step(rule, 0.65, &mut params).unwrap();
        let bytes: Vec<u8> = params.iter().flat_map(|value| value.to_le_bytes()).collect();
        Hash::of(&bytes).to_string()
    };
    let found = [
        Hash::of(aggregate.bytes()).to_string(),
        stepped(AggregationRule::MeanOfAll),
        stepped(AggregationRule::MeanOfSenders),
    ];
    let frozen = [
        "a697b2d28ff78d8e142748d617c112b8376ce94f2b255b81dbc09fd499ba2b77",
        "76ddefbc1e7e3cf39e8f835c6f47c37e59e9b6ef817d2d00ea07ff6a7b79f972",
        "ddcd4b14ecf40948013b5a8d8a02f74b5ab66d748a62a8a5a9ac4b663a8f1c5e",
    ];
    assert_eq!(found, frozen);
}

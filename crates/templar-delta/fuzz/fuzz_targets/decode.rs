//! Hostile deltas and aggregates: nothing panics, and what decodes is spelled as it was sent.
//!
//! `cargo fuzz run --sanitizer none decode` in `crates/templar-delta` (the crate has no unsafe code to sanitise), or
//! `.ci/long fuzz`. The first bytes of an input choose quantiser, model and form: the bytes as they are, bodies behind a
//! header and a directory that fit, or a valid delta with edits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use templar_delta::{
    Aggregate, AggregateHeader, Header, Quantiser, Settings, apply_trial, decode, inspect, max_bytes, random_delta,
};
use templar_manifest::{Hash, TensorSpec};

/// The last one has so many codes that they have four states; it makes a slower model.
const SHAPES: [&[u64]; 5] = [&[32, 24], &[6], &[7, 3], &[5, 64], &[4096]];

fn number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// A header that is expected, and a directory of the bodies that `data` is cut into: each has its length before it.
fn wrapped(quantiser: u8, settings: &Settings, header: &Header, tensors: usize, mut data: &[u8]) -> Vec<u8> {
    let mut bytes = [b"TPLDELTA", &[0, quantiser][..], header.run.as_bytes(), &header.miner].concat();
    number(&mut bytes, header.window as usize);
    number(&mut bytes, settings.block_side() as usize);
    number(&mut bytes, settings.top_k() as usize);
    number(&mut bytes, tensors);
    let mut bodies = Vec::new();
    for _ in 0..tensors {
        let (length, rest) = data.split_first().map_or((0, data), |(&length, rest)| (usize::from(length), rest));
        let (body, rest) = rest.split_at(length.min(rest.len()));
        number(&mut bytes, body.len());
        bodies.extend_from_slice(body);
        data = rest;
    }
    bytes.extend_from_slice(&bodies);
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((&[choice, seed], data)) = data.split_first_chunk::<2>() else { return };
    let shapes = if choice & 32 == 0 { &SHAPES[..4] } else { &SHAPES[..] };
    let specs: Vec<TensorSpec> = shapes.iter().map(|shape| TensorSpec::new("tensor", *shape)).collect();
    let quantiser = choice % Quantiser::ALL.len() as u8;
    let settings = Settings::new(8, 10, Quantiser::ALL[usize::from(quantiser)], 0).expect("valid settings");
    let header = Header { run: Hash::of(b"run"), window: 3, miner: [7; 32] };
    let bytes = match choice / 64 {
        0 => data.to_vec(),
        1 => wrapped(quantiser, &settings, &header, specs.len(), data),
        _ => {
            let mut bytes = random_delta(&specs, &settings, &header, &[seed; 32], 1.0).expect("valid settings");
            for edit in data.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
                bytes[at] = edit[2];
            }
            bytes
        }
    };
    let _ = inspect(&bytes);
    let Ok(delta) = decode(&bytes, &specs, &settings, &header) else { return };
    assert!(bytes.len() as u64 <= max_bytes(&specs, &settings).expect("valid shapes"));
    assert_eq!(delta.bytes(), bytes);
    assert!((0..specs.len()).all(|index| delta.norm(index).is_finite()));
    let sent: usize = (0..specs.len()).map(|index| delta.tensor(index).entries().count()).sum();
    assert_eq!(sent as u64, delta.kept());
    let mut params = vec![0.0; specs.iter().map(TensorSpec::elements).sum()];
    apply_trial(&specs, &delta, 1e-3, &mut params).expect("values are at most 2^100");
    let aggregate = Aggregate::new(&specs, &settings, header.run, 3, &[&delta, &delta]).expect("one window");
    let expected = AggregateHeader { run: header.run, window: 3, contributors: 2 };
    let again = Aggregate::decode(aggregate.bytes().to_vec(), &specs, &settings, &expected);
    assert_eq!(again, Ok(aggregate));
});

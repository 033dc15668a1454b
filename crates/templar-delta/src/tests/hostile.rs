//! Bytes that a stranger might send. None panics, and whatever decodes is the one spelling of what it decodes to.

use proptest::prelude::*;

use super::*;
use crate::body::encode;
use crate::fields::{put_number, take_number};
use crate::quantise::Levels;
use crate::wire;
use crate::{Delta, DeltaError, TensorFault, compress, decode, inspect};

/// Where the fields of a small delta's header lie: each number takes one byte.
const QUANTISER: usize = 9;
const RUN: usize = 10;
const MINER: usize = 42;
const WINDOW: usize = 74;
const SIDE: usize = 75;
const TOP_K: usize = 76;
const TENSORS: usize = 77;
const DIRECTORY: usize = 78;

fn small(quantiser: Quantiser) -> (Vec<TensorSpec>, DeltaSettings, Vec<u8>) {
    let specs = specs(&[&[32, 24], &[6], &[7, 3]]);
    let settings = settings(8, 10, quantiser, 0);
    let mut gradient = values("small", 768 + 6 + 21);
    gradient[768..774].fill(0.0); // a block of zeros
    let bytes = compress(&specs, &settings, &header(), &gradient, &mut [0.0; 768 + 6 + 21]).unwrap();
    (specs, settings, bytes)
}

fn try_decode(quantiser: Quantiser, bytes: &[u8]) -> Result<Delta, DeltaError> {
    let (specs, settings, _) = small(quantiser);
    decode(bytes, &specs, &settings, &header())
}

/// The honest spelling of what a delta decodes to.
fn spell(delta: &Delta) -> Vec<u8> {
    let bodies: Vec<_> = (0..delta.tensor_count())
        .map(|index| {
            let (offsets, quantised) = delta.encoded(index);
            encode(delta.layout(index), &offsets, &quantised)
        })
        .collect();
    wire::write(delta.settings(), delta.header(), &bodies)
}

/// Decodes, and checks the promises that hold for any bytes.
fn probe(quantiser: Quantiser, bytes: &[u8]) -> bool {
    let _ = inspect(bytes);
    match try_decode(quantiser, bytes) {
        Ok(delta) => {
            assert_eq!(spell(&delta), bytes);
            assert!((0..delta.tensor_count()).all(|index| delta.norm(index).is_finite()));
            assert!((0..delta.tensor_count()).all(|index| delta.tensor(index).len() == delta.encoded(index).0.len()));
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    for quantiser in Quantiser::ALL {
        let (_, _, bytes) = small(quantiser);
        assert!(probe(quantiser, &bytes));
        for length in 0..bytes.len() {
            let found = try_decode(quantiser, &bytes[..length]);
            assert!(matches!(found, Err(DeltaError::Truncated { .. })), "{length}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(try_decode(quantiser, &longer), Err(DeltaError::Trailing { .. })));
    }
}

#[test]
fn every_flipped_bit_is_refused_or_another_valid_delta() {
    for quantiser in Quantiser::ALL {
        let (_, _, bytes) = small(quantiser);
        let mut valid = 0;
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let accepted = probe(quantiser, &flipped);
            assert!(!accepted || bit / 8 >= DIRECTORY, "a changed header was accepted");
            valid += usize::from(accepted);
        }
        assert!(valid > 0, "changed codes are another delta");
    }
}

/// The bodies of a delta, to change one and write the directory that fits.
fn bodies(bytes: &[u8]) -> Vec<Vec<u8>> {
    wire::parse(bytes).unwrap().bodies.into_iter().map(|range| bytes[range].to_vec()).collect()
}

fn any_quantiser() -> impl Strategy<Value = Quantiser> {
    prop::sample::select(Quantiser::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_never_panics(
        quantiser in any_quantiser(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (_, _, mut bytes) = small(quantiser);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        probe(quantiser, &bytes);
    }

    /// A body of any bytes behind a directory that fits, with lengths in its front that often do.
    #[test]
    fn damaged_bodies_never_panic(
        quantiser in any_quantiser(),
        tensor in 0usize..3,
        front in prop::collection::vec(0u8..24, 0..6),
        body in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let (_, settings, bytes) = small(quantiser);
        let mut bodies = bodies(&bytes);
        bodies[tensor] = [front, body].concat();
        probe(quantiser, &wire::write(&settings, &header(), &bodies));
    }
}

/// Overwrites bytes of the small delta and gives the error.
fn refused(at: usize, with: &[u8]) -> DeltaError {
    let (_, _, mut bytes) = small(Quantiser::Templar4);
    bytes[at..at + with.len()].copy_from_slice(with);
    try_decode(Quantiser::Templar4, &bytes).unwrap_err()
}

#[test]
fn wrong_headers_are_named() {
    assert_eq!(refused(0, b"X"), DeltaError::NotADelta);
    assert_eq!(refused(8, &[1]), DeltaError::Version { found: 1 });
    assert_eq!(refused(QUANTISER, &[9]), DeltaError::Quantiser { found: 9 });
    assert!(matches!(refused(QUANTISER, &[1]), DeltaError::Setting { what: "quantiser", .. }));
    assert!(matches!(refused(SIDE, &[64]), DeltaError::Setting { what: "block side", .. }));
    assert!(matches!(refused(TOP_K, &[0]), DeltaError::Setting { what: "top-k", .. }));
    assert!(matches!(refused(RUN, &[0]), DeltaError::Run { .. }));
    assert_eq!(refused(WINDOW, &[8]), DeltaError::Window { found: 8, expected: 7 });
    assert!(matches!(refused(MINER, &[4]), DeltaError::Miner { .. }));
    assert_eq!(refused(WINDOW, &[0x87, 0]), DeltaError::Number { offset: WINDOW as u64 });
    let (specs, settings, bytes) = small(Quantiser::Templar4);
    let fewer = decode(&bytes, &specs[..2], &settings, &header());
    assert!(matches!(fewer, Err(DeltaError::TooLong { .. } | DeltaError::TensorCount { .. })));
    let more = super::specs(&[&[32, 24], &[6], &[7, 3], &[1]]);
    let more = decode(&bytes, &more, &settings, &header());
    assert_eq!(more, Err(DeltaError::TensorCount { found: 3, expected: 4 }));
}

/// A million blocks, tensors or bytes announced in a few hundred bytes.
#[test]
fn lengths_that_lie_are_refused() {
    let announced = |at: usize, number: u64| {
        let (_, _, bytes) = small(Quantiser::Templar4);
        let mut changed = bytes[..at].to_vec();
        put_number(&mut changed, number);
        changed.extend_from_slice(&bytes[at + 1..]);
        try_decode(Quantiser::Templar4, &changed).unwrap_err()
    };
    assert!(matches!(announced(TENSORS, 1_000_000), DeltaError::Truncated { needed: 1_000_080, .. }));
    assert!(matches!(announced(TENSORS, u64::MAX), DeltaError::TensorCount { found: u64::MAX, .. }));
    assert!(matches!(announced(DIRECTORY, 1 << 40), DeltaError::Truncated { .. }));
    assert!(matches!(announced(DIRECTORY, u64::MAX), DeltaError::Truncated { needed: u64::MAX, .. }));
    assert!(matches!(announced(SIDE, 1 << 40), DeltaError::Setting { what: "block side", .. }));
    let huge = vec![0u8; 1 << 20];
    assert!(matches!(try_decode(Quantiser::Templar4, &huge), Err(DeltaError::TooLong { .. })));
}

/// Changes the body of one tensor and gives what is wrong with it, with the offset in the body.
fn fault(quantiser: Quantiser, tensor: usize, change: impl FnOnce(&mut Vec<u8>)) -> (u64, TensorFault) {
    let (_, settings, bytes) = small(quantiser);
    let mut bodies = bodies(&bytes);
    change(&mut bodies[tensor]);
    let bytes = wire::write(&settings, &header(), &bodies);
    let start = wire::parse(&bytes).unwrap().bodies[tensor].start as u64;
    match try_decode(quantiser, &bytes).unwrap_err() {
        DeltaError::Tensor { tensor: name, offset, fault } => {
            assert_eq!(name, format!("tensor{tensor}"));
            (offset - start, fault)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn levels_and_frequencies_that_cannot_be_are_refused() {
    // The parameter, index bytes, the set of codes, the frequencies of all but the last, then the levels.
    let (_, _, bytes) = small(Quantiser::Templar4);
    let body = &bodies(&bytes)[0];
    let count = body[2].count_ones() as usize;
    let (last, code) = (3 + 2 * (count - 1) + 4 * (count - 1), body[2].ilog2() as usize);
    assert!(count >= 3 && body[1] < 128);
    let with = |at: usize, bytes: &[u8]| {
        fault(Quantiser::Templar4, 0, |body| body[at..at + bytes.len()].copy_from_slice(bytes))
    };
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.3e30, -0.0] {
        let (at, fault) = with(last, &value.to_le_bytes());
        assert!(
            at == last as u64 && matches!(fault, TensorFault::Level { code: found, .. } if found == code),
            "{value}"
        );
    }
    assert_eq!(with(last, &(-9f32).to_le_bytes()), (last as u64, TensorFault::LevelOrder { code }));
    assert_eq!((with(2, &[0]), with(2, &[16])), ((2, TensorFault::CodeSet(0)), (2, TensorFault::CodeSet(16))));
    assert_eq!(with(3, &[0, 0]), (3, TensorFault::Frequencies));
    assert_eq!(with(5, &[0, 4]), (5, TensorFault::Frequencies)); // 1024: nothing is left for the last
    let other = with(3, &(u16::from_le_bytes([body[3], body[4]]) + 1).to_le_bytes()).1;
    assert!(matches!(other, TensorFault::Frequencies | TensorFault::Codes(_)), "{other}");
    let codes = inspect(&bytes).unwrap().1.tensors[0].code_bytes as usize;
    let start = body.len() - codes;
    assert_eq!(with(start + 2, &[0, 0]), (start as u64, TensorFault::Codes(codes)));
    let longer = fault(Quantiser::Templar4, 0, |body| body.extend([0, 0]));
    assert_eq!(longer, (start as u64, TensorFault::Codes(codes + 2)));
    let shorter = fault(Quantiser::Templar4, 0, |body| body.truncate(start + 3));
    assert_eq!(shorter, (start as u64, TensorFault::Codes(3)));
}

/// So many codes that they have four states, of which each is checked at both ends.
#[test]
fn long_lists_of_codes_are_read_as_strictly() {
    let specs = specs(&[&[4096]]);
    for quantiser in [Quantiser::Templar4, Quantiser::BlockLevels] {
        let settings = settings(64, 64, quantiser, 0);
        let bytes = compress(&specs, &settings, &header(), &values("long", 4096), &mut [0.0; 4096]).unwrap();
        let try_decode = |bytes: &[u8]| decode(bytes, &specs, &settings, &header());
        assert_eq!(spell(&try_decode(&bytes).unwrap()), bytes);
        let codes = inspect(&bytes).unwrap().1.tensors[0].code_bytes as usize;
        let start = bytes.len() - codes;
        for state in 0..4 {
            let mut changed = bytes.clone();
            changed[start + 4 * state + 2..start + 4 * state + 4].fill(0);
            let error = try_decode(&changed).unwrap_err();
            assert_eq!(error, DeltaError::tensor("tensor0".into(), start, TensorFault::Codes(codes)), "{state}");
        }
        for bit in (8 * start..8 * bytes.len()).step_by(5) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = try_decode(&flipped) {
                assert_eq!(spell(&other), flipped);
            }
        }
    }
}

#[test]
fn scales_and_ratios_that_cannot_be_are_refused() {
    // The parameter, index bytes, first scale, its parameter, scale bytes.
    let (_, _, bytes) = small(Quantiser::BlockSign);
    let body = &bodies(&bytes)[0];
    let mut first = &body[2..];
    assert!(take_number(&mut first).unwrap() > 127, "two bytes");
    let (scale_bytes, index_bytes) = (usize::from(body[5]), usize::from(body[1]));
    let sign = |change: &dyn Fn(&mut Vec<u8>)| fault(Quantiser::BlockSign, 0, change);
    assert_eq!(sign(&|body| body[2..4].copy_from_slice(&[0xca, 0x0f])), (2, TensorFault::Number)); // 1994
    assert!(matches!(sign(&|body| body[4] = 0), (0, TensorFault::Golomb { what: "scales", found: 0 })));
    // Scales that only a stranger's encoder writes.
    let (specs, settings, _) = small(Quantiser::BlockSign);
    let delta = decode(&bytes, &specs, &settings, &header()).unwrap();
    let (offsets, mut quantised) = delta.encoded(0);
    quantised.levels = Levels::Signs(vec![1993, 1994, 1993]);
    let beyond = sign(&|body| *body = encode(delta.layout(0), &offsets, &quantised));
    assert!(matches!(beyond.1, TensorFault::Scale { place: 1 }), "{beyond:?}");
    let missing = sign(&|body| {
        body[5] = 0;
        body.drain(6 + index_bytes..6 + index_bytes + scale_bytes);
    });
    assert!(matches!(missing.1, TensorFault::Overrun { what: "scales", .. }), "{missing:?}");
    // The second tensor is one block of zeros.
    let negative = fault(Quantiser::BlockSign, 1, |body| *body.last_mut().unwrap() |= 4);
    assert!(matches!(negative.1, TensorFault::ZeroBlock { block: 0 }));

    // The ratios stand behind the parameter, index bytes, the set of codes (four, or one) and the frequencies.
    let ratios = |tensor, at: usize, value: u16| {
        fault(Quantiser::BlockLevels, tensor, |body| body[at..at + 2].copy_from_slice(&value.to_le_bytes())).1
    };
    assert!(matches!(ratios(0, 9, 0), TensorFault::Ratios { small: 0, .. }));
    assert!(matches!(ratios(0, 9, u16::MAX), TensorFault::Ratios { small: u16::MAX, .. }));
    assert!(matches!(ratios(0, 11, 0), TensorFault::Ratios { large: 0, .. }));
    assert!(matches!(ratios(1, 3, 4096), TensorFault::Ratios { small: 4096, large: 0 }));
}

#[test]
fn positions_beyond_their_block_and_padding_are_refused() {
    let (_, _, bytes) = small(Quantiser::BlockSign);
    let (_, parts) = inspect(&bytes).unwrap();
    let front = parts.tensors[0].front_bytes as usize;
    let index_bytes = parts.tensors[0].index_bytes as usize;
    let signs = |tensor, change: &dyn Fn(&mut Vec<u8>)| fault(Quantiser::BlockSign, tensor, change);
    // One-bits: a gap beyond any block.
    let (offset, beyond) = signs(0, &|body| body[front..front + 9].fill(0xff));
    assert!(matches!(beyond, TensorFault::Position { block: 0, len: 64 }), "{beyond}");
    assert!((offset as usize) < front + index_bytes);
    // The second tensor has six codes in a byte.
    assert_eq!(parts.tensors[1].code_bytes, 1);
    let length = parts.tensors[1].bytes();
    assert_eq!(signs(1, &|body| *body.last_mut().unwrap() |= 0x80), (length - 1, TensorFault::CodePadding));
    assert!(matches!(signs(1, &|body| body.push(0)).1, TensorFault::CodeBytes { found: 2, expected: 1 }));
    // A whole tensor has no position bytes: announcing one is another spelling.
    let inserted = signs(1, &|body| {
        body[1] = 1;
        body.insert(body.len() - 1, 0);
    });
    assert!(matches!(inserted.1, TensorFault::Padding { what: "positions", bytes: 1 }), "{inserted:?}");
    // One zero byte more of positions, one byte less, and more than the tensor has.
    let longer = signs(0, &|body| {
        body[1] += 1;
        body.insert(front + index_bytes, 0);
    });
    assert!(matches!(longer.1, TensorFault::Padding { what: "positions", .. }), "{longer:?}");
    let shorter = signs(0, &|body| {
        body[1] -= 1;
        body.remove(front + index_bytes - 1);
    });
    assert!(matches!(shorter.1, TensorFault::Overrun { .. } | TensorFault::Padding { .. }), "{shorter:?}");
    assert!(matches!(signs(0, &|body| body[1] = 127).1, TensorFault::Truncated(_)));
    let other = signs(0, &|body| body[0] += 1).1;
    assert!(
        matches!(other, TensorFault::Golomb { .. } | TensorFault::Padding { .. } | TensorFault::Position { .. }),
        "{other}"
    );
    let parameter = signs(1, &|body| body[0] = 2);
    assert_eq!(parameter, (0, TensorFault::Golomb { what: "positions", found: 2 }));
}

#[test]
fn shapes_of_another_model_are_refused() {
    let (_, settings, bytes) = small(Quantiser::BlockSign);
    let other = specs(&[&[16, 24], &[6], &[7, 3]]);
    let error = decode(&bytes, &other, &settings, &header()).unwrap_err();
    assert!(matches!(error, DeltaError::Tensor { fault: TensorFault::CodeBytes { .. }, .. }), "{error}");
    let cube = specs(&[&[2, 2, 2]]);
    assert!(matches!(decode(&bytes, &cube, &settings, &header()), Err(DeltaError::Shape(_))));
}

/// The tensors of a delta in another order, with the directory that fits.
#[test]
fn reordered_tensors_are_refused() {
    let (_, settings, bytes) = small(Quantiser::Templar4);
    let mut reordered = bodies(&bytes);
    reordered.swap(0, 2);
    let error = try_decode(Quantiser::Templar4, &wire::write(&settings, &header(), &reordered)).unwrap_err();
    assert!(matches!(error, DeltaError::Tensor { ref tensor, .. } if tensor == "tensor0"), "{error}");
}

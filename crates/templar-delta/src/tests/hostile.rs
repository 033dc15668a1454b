//! Bytes that a stranger might send. None panics, and whatever decodes is the one spelling of what it decodes to.

use proptest::prelude::*;

use super::*;
use crate::compress::encode;
use crate::quantise::Quantised;
use crate::wire::{ENTRY_BYTES, HEADER_BYTES, entry_offset};
use crate::{DecodeError, Delta, Fault, compress, decode, inspect, wire};

fn small() -> (Vec<TensorSpec>, Settings, Vec<u8>) {
    let specs = specs(&[&[16, 12], &[6], &[7, 3]]);
    let settings = settings(8, 10, Quantiser::Templar4, 0);
    let gradient = values("small", 16 * 12 + 6 + 21);
    let bytes = compress(&specs, &settings, &header(), &gradient, &mut [0.0; 16 * 12 + 6 + 21]).unwrap();
    (specs, settings, bytes)
}

fn try_decode(bytes: &[u8]) -> Result<Delta, DecodeError> {
    let (specs, settings, _) = small();
    decode(bytes, &specs, &settings, &header())
}

/// The honest spelling of what a delta decodes to.
fn spell(delta: &Delta) -> Vec<u8> {
    let tensors: Vec<_> = (0..delta.tensor_count())
        .map(|index| {
            let tensor = delta.tensor(index);
            encode(&tensor.layout, &tensor.offsets, &Quantised { codes: tensor.codes.clone(), levels: tensor.levels })
        })
        .collect();
    wire::write(delta.settings(), delta.header(), &tensors)
}

/// Decodes, and checks the promises that hold for any bytes.
fn probe(bytes: &[u8]) -> bool {
    let _ = inspect(bytes);
    match try_decode(bytes) {
        Ok(delta) => {
            assert_eq!(spell(&delta), bytes);
            assert!((0..delta.tensor_count()).all(|index| delta.norm(index).is_finite()));
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
    let (_, _, bytes) = small();
    assert!(probe(&bytes));
    for length in 0..bytes.len() {
        assert!(matches!(try_decode(&bytes[..length]), Err(DecodeError::Truncated { .. })), "{length}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(try_decode(&longer), Err(DecodeError::Trailing { .. })));
}

#[test]
fn every_flipped_bit_is_refused_or_another_valid_delta() {
    let (_, _, bytes) = small();
    let mut valid = 0;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let accepted = probe(&flipped);
        assert!(!accepted || bit / 8 >= HEADER_BYTES, "a changed header was accepted");
        valid += usize::from(accepted);
    }
    assert!(valid > 0, "changed codes are another delta");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damage_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (_, _, mut bytes) = small();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        probe(&bytes);
    }

    #[test]
    fn damaged_positions_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..40),
        rice in 0u8..24,
    ) {
        let (_, _, bytes) = small();
        let old = u32::from_le_bytes(bytes[entry_offset(0) + 4..entry_offset(0) + 8].try_into().unwrap()) as usize;
        let start = entry_offset(3);
        let mut changed = bytes.clone();
        changed[entry_offset(0) + 4..entry_offset(0) + 8].copy_from_slice(&(body.len() as u32).to_le_bytes());
        changed[entry_offset(0) + 8] = rice;
        changed.splice(start..start + old, body);
        probe(&changed);
    }
}

/// Overwrites bytes of the small delta and gives the error.
fn refused(at: usize, with: &[u8]) -> DecodeError {
    let (_, _, mut bytes) = small();
    bytes[at..at + with.len()].copy_from_slice(with);
    try_decode(&bytes).unwrap_err()
}

#[test]
fn wrong_headers_are_named() {
    assert_eq!(refused(0, b"X"), DecodeError::NotADelta);
    assert_eq!(refused(8, &[1]), DecodeError::Version { found: 1 });
    assert_eq!(refused(9, &[9]), DecodeError::Quantiser { found: 9 });
    assert!(matches!(refused(9, &[1]), DecodeError::Setting { what: "quantiser", .. }));
    assert!(matches!(refused(10, &[64]), DecodeError::Setting { what: "block side", .. }));
    assert!(matches!(refused(14, &[11]), DecodeError::Setting { what: "top-k", .. }));
    assert!(matches!(refused(18, &[0]), DecodeError::Run { .. }));
    assert_eq!(refused(50, &[8]), DecodeError::Window { found: 8, expected: 7 });
    assert!(matches!(refused(58, &[4]), DecodeError::Miner { .. }));
    // A million tensors announced in a few hundred bytes, and more than any model has.
    assert!(matches!(refused(90, &1_000_000u32.to_le_bytes()), DecodeError::Truncated { needed: 25_000_094, .. }));
    assert!(matches!(refused(90, &u32::MAX.to_le_bytes()), DecodeError::TensorCount { .. }));
    let (specs, settings, bytes) = small();
    let fewer = decode(&bytes, &specs[..2], &settings, &header());
    assert!(matches!(fewer, Err(DecodeError::TooLong { .. } | DecodeError::TensorCount { .. })));
}

#[test]
fn lengths_that_lie_are_refused() {
    let kept = entry_offset(0);
    assert!(matches!(refused(kept, &u32::MAX.to_le_bytes()), DecodeError::Truncated { .. }));
    assert!(matches!(refused(kept + 4, &u32::MAX.to_le_bytes()), DecodeError::Truncated { .. }));
    // The first tensor's 32 values take 8 code bytes, as 31 would: only the shape tells.
    let error = refused(kept, &31u32.to_le_bytes());
    let expected = Fault::Kept { found: 31, expected: 32 };
    assert_eq!(error, DecodeError::Tensor { tensor: "tensor0".into(), offset: kept as u64, fault: expected });
    assert!(matches!(refused(kept + 8, &[21]), DecodeError::Tensor { fault: Fault::Rice { found: 21 }, .. }));
    assert!(matches!(refused(kept + 8, &[255]), DecodeError::Tensor { fault: Fault::Rice { .. }, .. }));
    let huge = vec![0u8; 1 << 20];
    assert!(matches!(try_decode(&huge), Err(DecodeError::TooLong { .. })));
}

#[test]
fn levels_that_cannot_be_are_refused() {
    let level = |code: usize, value: f32| refused(entry_offset(0) + 9 + 4 * code, &value.to_le_bytes());
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.3e30, -0.0] {
        let DecodeError::Tensor { tensor, offset, fault: Fault::Level { code: 3, .. } } = level(3, value) else {
            panic!("{value}");
        };
        assert_eq!((tensor.as_str(), offset), ("tensor0", (HEADER_BYTES + 21) as u64));
    }
    assert!(matches!(level(3, -9.0), DecodeError::Tensor { fault: Fault::LevelOrder { code: 3 }, .. }));
}

#[test]
fn positions_beyond_their_block_and_padding_are_refused() {
    // The first bytes of the first body as one-bits: a gap beyond any block.
    let start = HEADER_BYTES + 3 * ENTRY_BYTES;
    let error = refused(start, &[0xff; 5]);
    assert!(matches!(error, DecodeError::Tensor { fault: Fault::Position { block: 0, .. }, .. }), "{error}");
    // The last tensor has 4 codes in its last bytes' low bits only where its count is not a multiple of four.
    let (specs, settings, bytes) = small();
    let (_, parts) = inspect(&bytes).unwrap();
    assert_eq!(parts.tensors[1].kept, 6);
    let codes = start as u64 + parts.tensors[0].index_bytes + parts.tensors[0].code_bytes;
    let last = (codes + parts.tensors[1].code_bytes - 1) as usize;
    let error = refused(last, &[bytes[last] | 0x80]);
    assert_eq!(error, DecodeError::Tensor { tensor: "tensor1".into(), offset: last as u64, fault: Fault::CodePadding });
    // A whole tensor has no position bytes: announcing one and inserting a zero is another spelling.
    let mut other = bytes.clone();
    other[entry_offset(1) + 4] = 1;
    other.insert(codes as usize, 0);
    let error = decode(&other, &specs, &settings, &header()).unwrap_err();
    assert!(matches!(error, DecodeError::Tensor { fault: Fault::IndexPadding(1), .. }), "{error}");
    // One zero byte more of positions, and one byte less.
    let index_bytes = parts.tensors[0].index_bytes as usize;
    let mut other = bytes.clone();
    other[entry_offset(0) + 4] += 1;
    other.insert(start + index_bytes, 0);
    let error = decode(&other, &specs, &settings, &header()).unwrap_err();
    assert!(matches!(error, DecodeError::Tensor { fault: Fault::IndexPadding(_), .. }), "{error}");
    let mut other = bytes.clone();
    other[entry_offset(0) + 4] -= 1;
    other.remove(start + index_bytes - 1);
    let error = decode(&other, &specs, &settings, &header()).unwrap_err();
    assert!(matches!(error, DecodeError::Tensor { tensor, .. } if tensor == "tensor0"));
}

#[test]
fn shapes_of_another_model_are_refused() {
    let (_, settings, bytes) = small();
    let other = specs(&[&[16, 24], &[6], &[7, 3]]);
    let error = decode(&bytes, &other, &settings, &header()).unwrap_err();
    assert!(matches!(error, DecodeError::Tensor { fault: Fault::Kept { .. }, .. }), "{error}");
    let cube = specs(&[&[2, 2, 2]]);
    assert!(matches!(decode(&bytes, &cube, &settings, &header()), Err(DecodeError::Shape(_))));
}

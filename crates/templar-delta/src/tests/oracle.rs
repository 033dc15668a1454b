//! The original compressor's own output on one matrix: index sets, codes and decoded values must be ours too.

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::*;
use crate::layout::BlockLayout;
use crate::quantise::{Levels, quantise};
use crate::{compress, decode};

const FILE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/oracle/templar_topk64_c64_q4.safetensors");

fn floats(view: &TensorView) -> Vec<f32> {
    view.data().as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn the_originals_output_is_reproduced() {
    let Ok(bytes) = std::fs::read(FILE) else {
        println!("skipped: the oracle file is not there");
        return;
    };
    let oracle = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name| oracle.tensor(name).unwrap();
    let (x, expected) = (floats(&tensor("x")), floats(&tensor("decompressed")));
    let indices: Vec<u64> =
        tensor("idx_unpacked").data().as_chunks::<8>().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
    let codes = tensor("val_u8").data().to_vec();
    let lookup = floats(&tensor("lookup"));
    let shift = floats(&tensor("shift"))[0];

    let specs = specs(&[&[128, 192]]);
    let settings = settings(64, 64, Quantiser::Templar4, 0);
    let mut error = vec![0.0; x.len()];
    let bytes = compress(&specs, &settings, &header(), &x, &mut error).unwrap();
    let delta = decode(&bytes, &specs, &settings, &header()).unwrap();
    let sparse = delta.tensor(0);
    let (_, quantised) = delta.encoded(0);
    let Levels::Table(levels) = quantised.levels else { panic!("{:?}", quantised.levels) };

    // The original's top-k is unsorted: compare (index, code) pairs block by block.
    for block in 0..6 {
        let places = block * 64..(block + 1) * 64;
        let mut theirs: Vec<(u64, u8)> =
            indices[places.clone()].iter().copied().zip(codes[places.clone()].iter().copied()).collect();
        theirs.sort_unstable();
        let ours: Vec<(u64, u8)> = sparse.offsets[places.clone()]
            .iter()
            .map(|&o| o.into())
            .zip(quantised.codes[places].iter().copied())
            .collect();
        assert_eq!(ours, theirs, "block {block}");
    }

    // Levels are lookup + shift; the original adds in f32 and another order, so up to two units in the last place of
    // these values (2 to 4 in magnitude) may differ.
    let mut farthest = 0f32;
    for (code, &level) in levels.iter().enumerate() {
        if codes.contains(&(code as u8)) {
            farthest = farthest.max((level - (lookup[code] + shift)).abs());
        }
    }
    assert!(farthest <= 5e-7, "a level differs by {farthest}");
    let mut decoded = vec![0f32; x.len()];
    for (index, value) in sparse.entries() {
        decoded[index as usize] = value;
    }
    for (index, (found, expected)) in decoded.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() <= 5e-7, "{index}: {found} {expected}");
        assert_eq!(error[index], x[index] - found, "what was not sent stays");
    }

    // The order of the values does not matter to the codes: the original's own order gives its own codes.
    let layout = BlockLayout::new(&specs[0], &settings).unwrap();
    let chunks = floats(&tensor("chunks"));
    let unsorted: Vec<f32> =
        indices.iter().enumerate().map(|(place, &at)| chunks[place / 64 * layout.block_len() + at as usize]).collect();
    assert_eq!(quantise(Quantiser::Templar4, &unsorted, 64).codes, codes);
}

//! Deltas that are well formed and that nobody computed. The testkit has the same, for crates above this one.

use templar_manifest::TensorSpec;

use crate::compress::{CompressError, compress};
use crate::layout::BlockLayout;
use crate::settings::DeltaSettings;
use crate::wire::DeltaHeader;

/// A delta of noise: what [`compress`] makes of a pseudo-gradient whose values are uniform in [−`scale`,
/// `scale`), drawn from BLAKE3's output keyed with `seed`, without error feedback.
///
/// # Errors
/// When the tensors cannot be laid out, or `scale` is not a number that can be sent.
pub(super) fn random_delta(
    specs: &[TensorSpec],
    settings: &DeltaSettings,
    header: &DeltaHeader,
    seed: &[u8; 32],
    scale: f32,
) -> Result<Vec<u8>, CompressError> {
    let (_, total) = BlockLayout::all(specs, settings)?;
    let mut stream = blake3::Hasher::new_keyed(seed).update(b"templar noise delta").finalize_xof();
    let mut noise = Vec::with_capacity(total);
    let mut buffer = [0u8; 4096];
    while noise.len() < total {
        stream.fill(&mut buffer);
        let missing = total - noise.len();
        noise.extend(buffer.as_chunks::<4>().0.iter().take(missing).map(|&word| {
            // 24 bits fill a float's significand, so the fraction and the difference are exact.
            let fraction = (u32::from_le_bytes(word) >> 8) as f32 / 8_388_608.0;
            scale * (fraction - 1.0)
        }));
    }
    let mut error = vec![0.0; total];
    compress(specs, settings, header, &noise, &mut error)
}

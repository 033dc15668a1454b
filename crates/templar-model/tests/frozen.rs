//! Training steps of small models and the hashes that they end in on every device: losses, gradients, weights
//! and moments.

use std::sync::Arc;

use templar_device::{Buffer, Device};
use templar_manifest::ModelSpec;
use templar_model::{AdamWSettings, Model, Moments, OptimizerStep, step};

use crate::support::{small_spec, tokens};

const STEPS: u32 = 3;
/// Sequences of one step.
const SEQUENCES: usize = 4;
/// The cut of a step that every model is trained with: sequences of each micro-batch.
pub(crate) const MICRO_BATCHES: &[usize] = &[1, 2, 1];

/// First 16 digits of the hash of all losses, all gradients, the last parameters and the last moments.
pub(crate) type Hashes = [String; 4];

/// A model with the hashes that its training ends in.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) spec: ModelSpec,
    pub(crate) frozen: [&'static str; 4],
}

/// Grouped queries with and without a head of its own, sequences long enough for a second block of attention
/// rows; and one model so wide that its products, norms and updates really are divided among threads.
pub(crate) fn cases() -> [Case; 3] {
    let wide = ModelSpec {
        vocab_size: 1100,
        hidden_size: 64,
        layers: 1,
        kv_heads: 4,
        ffn_size: 264,
        sequence_length: 32,
        ..small_spec(false)
    };
    [
        Case {
            name: "grouped, tied",
            spec: small_spec(true),
            frozen: ["377ea6d23945bdc7", "7b28198ec434f84d", "addf49a76d035910", "47aea031a0f6b181"],
        },
        Case {
            name: "grouped, untied",
            spec: small_spec(false),
            frozen: ["9bf581e3feb4449a", "f4d1b5dec4478435", "e7647a001b065236", "5f5f5647966d4ef5"],
        },
        Case {
            name: "wide, untied",
            spec: wide,
            frozen: ["9024a52cfcbd8180", "a9b82988dd08a14a", "0872a5d8b1405ba4", "a1743af73fb4ed63"],
        },
    ]
}

/// Adds the bits of numbers to a hash.
pub(crate) fn update(hasher: &mut blake3::Hasher, floats: &[f32]) {
    for float in floats {
        hasher.update(&float.to_bits().to_le_bytes());
    }
}

/// Trains `STEPS` steps; everything that a replay would compare goes into a hash.
pub(crate) fn train(device: &Arc<dyn Device>, spec: &ModelSpec, micro_batches: &[usize], recompute: bool) -> Hashes {
    let mut model = Model::new(spec, Arc::clone(device)).unwrap();
    model.recompute(recompute);
    let mut params = device.upload(model.init(&[9; 32]).into()).unwrap();
    let mut moments = Moments::zero(&**device, model.parameter_count()).unwrap();
    let [mut losses, mut gradients, mut weights, mut hashed_moments] = [(); 4].map(|()| blake3::Hasher::new());
    let hash = |hasher: &mut blake3::Hasher, buffer: &Buffer| {
        let mut floats = vec![0.0; buffer.len() as usize];
        device.read(buffer.all(), &mut floats).unwrap();
        update(hasher, &floats);
    };
    let width = spec.sequence_length as usize + 1;
    let scale = 1.0 / (SEQUENCES * (width - 1)) as f32;
    for t in 1..=STEPS {
        let batch = tokens(spec, SEQUENCES, t);
        // The sum of a micro-batch depends on the cut, the loss of a sequence does not.
        for sequence in batch.chunks_exact(width) {
            losses.update(&model.loss(&params, sequence).unwrap().to_bits().to_le_bytes());
        }
        // The first micro-batch overwrites the gradient, whatever is there.
        let (mut grad, mut rest) = (device.upload(vec![f32::NAN; params.len() as usize].into()).unwrap(), &batch[..]);
        for (index, sequences) in micro_batches.iter().enumerate() {
            let (micro_batch, others) = rest.split_at(sequences * width);
            rest = others;
            let loss = match index {
                0 => model.forward_backward(&params, micro_batch, scale, &mut grad).unwrap(),
                _ => model.forward_backward_accumulate(&params, micro_batch, scale, &mut grad).unwrap(),
            };
            assert_eq!(loss.to_bits(), model.loss(&params, micro_batch).unwrap().to_bits(), "forward only, step {t}");
        }
        assert!(rest.is_empty());
        hash(&mut gradients, &grad);
        let at = OptimizerStep { settings: &AdamWSettings::reference(), learning_rate: 0.01, number: t.into() };
        let norm = step(&model, at, &mut params, &mut grad, &mut moments).unwrap();
        gradients.update(&norm.to_bits().to_le_bytes());
    }
    hash(&mut weights, &params);
    hash(&mut hashed_moments, &moments.first);
    hash(&mut hashed_moments, &moments.second);
    [losses, gradients, weights, hashed_moments].map(|hasher| hasher.finalize().to_hex()[..16].to_owned())
}

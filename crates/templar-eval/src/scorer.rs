//! The models that score: one arithmetic that is the same everywhere, and candle's for other architectures.

use std::sync::Arc;

use templar_device::{Buffer, Device, DeviceError};
use templar_manifest::{BlobId, Hash, ModelSpec, TensorBlob};
use templar_model::generate::{GenerateError, LanguageModel};
use templar_model::{Beginning, ConfigError, Likelihood, Model, StepError, tensors};

use crate::batch::Batch;

/// A batch cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// The specification of the model is refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The device fails.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The model of this program cannot compute.
    #[error(transparent)]
    Step(#[from] StepError),
    /// candle cannot compute.
    #[error(transparent)]
    Candle(#[from] GenerateError),
    /// A likelihood of candle's is not finite.
    #[error("a token's likelihood is not finite")]
    NotFinite,
}

/// The longest context that is scored, in tokens: that of [`ModelSpec::positions`], up to this.
const MAX_POSITIONS: u32 = 1 << 17;

/// A model that says how likely tokens are.
#[derive(Debug)]
pub struct Scorer(Kind);

#[derive(Debug)]
enum Kind {
    Exact {
        model: Box<Model>,
        parameters: Buffer,
        /// The beginning that was computed last, with its tokens.
        last: Option<(Vec<u32>, Beginning)>,
    },
    Candle(Box<LanguageModel>),
}

impl Scorer {
    /// The model that runs train, by the arithmetic `f32/1`: the same bits on every machine.
    ///
    /// # Errors
    /// A specification that is refused, a device without memory.
    pub fn exact(spec: &ModelSpec, parameters: &[f32], device: Arc<dyn Device>) -> Result<Self, ScoreError> {
        let model = Box::new(Model::new(&whole_context(spec), device.clone())?);
        Ok(Self(Kind::Exact { model, parameters: device.upload(parameters.into())?, last: None }))
    }

    /// A model of another architecture, by candle. Its results may differ in the last bits between machines.
    pub fn candle(model: LanguageModel) -> Self {
        Self(Kind::Candle(Box::new(model)))
    }

    /// Whether every machine computes the same bits.
    pub fn is_exact(&self) -> bool {
        matches!(self.0, Kind::Exact { .. })
    }

    /// The number of tokens that the model reads at most.
    pub fn positions(&self) -> usize {
        match &self.0 {
            Kind::Exact { model, .. } => model.spec().sequence_length as usize,
            Kind::Candle(model) => model.positions(),
        }
    }

    /// The likelihoods of the tokens that a batch asks about.
    pub(crate) fn likelihoods(&mut self, batch: &Batch) -> Result<Vec<Likelihood>, ScoreError> {
        match &mut self.0 {
            Kind::Exact { model, parameters, last } => {
                if !batch.beginning.is_empty() && last.as_ref().is_none_or(|(tokens, _)| *tokens != batch.beginning) {
                    *last = Some((batch.beginning.clone(), model.beginning(parameters, &batch.beginning)?));
                }
                let beginning = last.as_ref().filter(|_| !batch.beginning.is_empty()).map(|(_, beginning)| beginning);
                Ok(model.likelihoods(parameters, beginning, (&batch.tokens, batch.length), &batch.asked)?)
            }
            Kind::Candle(model) => candle(model, batch),
        }
    }
}

fn candle(model: &mut LanguageModel, batch: &Batch) -> Result<Vec<Likelihood>, ScoreError> {
    let mut found = vec![Likelihood { nats: 0.0, is_greedy: false }; batch.asked.len()];
    let sequence_of = |place: usize| batch.asked[place].row as usize / batch.length;
    let place_in = |place: usize| batch.asked[place].row as usize % batch.length;
    for sequence in 0..batch.tokens.len() / batch.length {
        let here: Vec<usize> = (0..found.len()).filter(|&place| sequence_of(place) == sequence).collect();
        let Some(last) = here.iter().map(|&place| place_in(place)).max() else { continue };
        let logits = model.logits(&batch.whole(sequence, last))?;
        for place in here {
            let at = batch.beginning.len() + place_in(place);
            let row = &logits[at * model.vocab_size()..][..model.vocab_size()];
            found[place] = Likelihood::of(row, batch.asked[place].token);
            if !found[place].nats.is_finite() {
                return Err(ScoreError::NotFinite);
            }
        }
    }
    Ok(found)
}

/// The same model with its whole context as the length of its sequences.
fn whole_context(spec: &ModelSpec) -> ModelSpec {
    ModelSpec { sequence_length: spec.positions().min(MAX_POSITIONS), position_limit: None, ..spec.clone() }
}

/// The root hash of a model: BLAKE3 of the DAG-CBOR list of its specification and its tensors, each tensor by its name,
/// shape and BLAKE3 as little-endian f32, as a checkpoint names them. A checkpoint and the folder that is exported from
/// it have the same root.
///
/// # Errors
/// A specification that is refused.
///
/// # Panics
/// `parameters` is not the model's vector.
pub fn model_root(spec: &ModelSpec, parameters: &[f32]) -> Result<Hash, ConfigError> {
    let specs = tensors(spec)?;
    let mut rest = parameters;
    let named: Vec<TensorBlob> = specs
        .into_iter()
        .map(|spec| {
            let (tensor, others) = rest.split_at(spec.elements());
            rest = others;
            let mut hasher = blake3::Hasher::new();
            for piece in tensor.chunks(1 << 14) {
                hasher.update(&piece.iter().flat_map(|element| element.to_le_bytes()).collect::<Vec<u8>>());
            }
            TensorBlob { spec, blob: BlobId::new(hasher.finalize().into()) }
        })
        .collect();
    assert!(rest.is_empty(), "{} parameters too many", rest.len());
    let bytes = serde_ipld_dagcbor::to_vec(&(whole_context(spec), named));
    Ok(Hash::of(&bytes.expect("encoding into memory cannot fail")))
}

//! The models that score: one arithmetic that is the same everywhere, and candle's for other architectures.

use std::sync::Arc;

use templar_device::{Buffer, Device, DeviceError};
use templar_manifest::{BlobId, Hash, ModelSpec, TensorBlob};
use templar_model::decoder::{Decoder, Reading, TextCache};
use templar_model::generate::{GenerateError, LanguageModel};
use templar_model::{Asked, ConfigError, Likelihood, Model, StepError, tensors};

use crate::batch::{Batch, End, Group};

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
    /// The CPU or candle cannot compute.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A likelihood is not finite.
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
    /// The CPU, which keeps the keys and values of a beginning for all texts behind it.
    Cpu {
        decoder: Box<Decoder>,
        /// The beginning that was computed last, with its tokens.
        last: Option<(Vec<u32>, TextCache)>,
    },
    /// A device of its own, which computes whole texts.
    Device {
        model: Box<Model>,
        parameters: Buffer,
    },
    Candle(Box<LanguageModel>),
}

/// Most tokens of whole texts that a device computes together, unless one text has more.
const WHOLE_TOKENS: usize = 16_384;

/// The token that fills a short text up. Nothing that is scored sees it.
const FILLING: u32 = 0;

impl Scorer {
    /// The model that runs train, by the arithmetic `f32/1`: the same bits on every machine.
    ///
    /// # Errors
    /// A specification that is refused, a device without memory.
    pub fn exact(spec: &ModelSpec, parameters: &[f32], device: Arc<dyn Device>) -> Result<Self, ScoreError> {
        let spec = whole_context(spec);
        if device.memory().is_none() {
            let decoder = Box::new(Decoder::new(&spec, parameters.to_vec())?);
            return Ok(Self(Kind::Cpu { decoder, last: None }));
        }
        let model = Box::new(Model::new(&spec, device.clone())?);
        Ok(Self(Kind::Device { model, parameters: device.upload(parameters.into())? }))
    }

    /// A model of another architecture, by candle. Its results may differ in the last bits between machines.
    pub fn candle(model: LanguageModel) -> Self {
        Self(Kind::Candle(Box::new(model)))
    }

    /// Whether every machine computes the same bits.
    pub fn is_exact(&self) -> bool {
        !matches!(self.0, Kind::Candle(_))
    }

    /// The number of tokens that the model reads at most.
    pub fn positions(&self) -> usize {
        match &self.0 {
            Kind::Cpu { decoder, .. } => decoder.positions(),
            Kind::Device { model, .. } => model.spec().sequence_length as usize,
            Kind::Candle(model) => model.positions(),
        }
    }

    /// The likelihoods of the tokens that a batch asks about.
    pub(crate) fn likelihoods(&mut self, batch: &Batch) -> Result<Vec<Likelihood>, ScoreError> {
        let found = match &mut self.0 {
            Kind::Cpu { decoder, last } => in_parts(decoder, last, batch)?,
            Kind::Device { model, parameters } => as_wholes(model, parameters, batch)?,
            Kind::Candle(model) => one_by_one(model, batch)?,
        };
        if found.iter().all(|likelihood| likelihood.nats.is_finite()) { Ok(found) } else { Err(ScoreError::NotFinite) }
    }
}

/// Reads the beginnings that are not known yet, and then what follows them.
fn in_parts(
    decoder: &Decoder,
    last: &mut Option<(Vec<u32>, TextCache)>,
    batch: &Batch,
) -> Result<Vec<Likelihood>, ScoreError> {
    let known = |group: &Group| match &*last {
        Some((tokens, cache)) if *tokens == group.beginning => cache.clone(),
        _ => TextCache::default(),
    };
    let mut beginnings: Vec<TextCache> = batch.groups.iter().map(known).collect();
    let unread = beginnings.iter_mut().zip(&batch.groups).filter(|(cache, group)| cache.len() < group.beginning.len());
    let mut unread: Vec<Reading<'_>> =
        unread.map(|(cache, group)| Reading { cache, tokens: &group.beginning, wanted: 0 }).collect();
    decoder.read(&mut unread)?;
    beginnings.iter_mut().for_each(TextCache::share);
    *last = batch.groups.last().zip(beginnings.last()).map(|(group, cache)| (group.beginning.clone(), cache.clone()));

    let groups = batch.groups.iter().zip(beginnings);
    let mut caches: Vec<TextCache> = groups.flat_map(|(group, cache)| vec![cache; group.ends.len()]).collect();
    let (mut readings, mut starts, mut states) = (Vec::new(), Vec::new(), 0);
    for (cache, (_, End { tokens, first })) in caches.iter_mut().zip(batch.texts()) {
        let wanted = tokens.len() - first;
        readings.push(Reading { cache, tokens, wanted });
        starts.push((states, *first));
        states += wanted;
    }
    let states = decoder.read(&mut readings)?;
    let row = |text: usize, at: usize| (starts[text].0 + at - starts[text].1) as u32;
    let asked = batch.places.iter().map(|place| Asked { row: row(place.text, place.at), token: place.token });
    Ok(decoder.likelihoods(&states, &asked.collect::<Vec<_>>())?)
}

/// Computes whole texts, neighbours together, filled up to the same length.
fn as_wholes(model: &mut Model, parameters: &Buffer, batch: &Batch) -> Result<Vec<Likelihood>, ScoreError> {
    let texts: Vec<(&[u32], &End)> = batch.texts().collect();
    let mut found = vec![Likelihood { nats: 0.0, is_greedy: false }; batch.places.len()];
    let mut first = 0;
    while first < texts.len() {
        let (mut count, mut length) = (0, 0);
        for (beginning, end) in &texts[first..] {
            let longest = length.max(beginning.len() + end.tokens.len());
            if count > 0 && (count + 1) * longest > WHOLE_TOKENS {
                break;
            }
            (count, length) = (count + 1, longest);
        }
        let mut tokens = Vec::with_capacity(count * length);
        for (number, (beginning, end)) in texts[first..first + count].iter().enumerate() {
            tokens.extend_from_slice(beginning);
            tokens.extend_from_slice(&end.tokens);
            tokens.resize((number + 1) * length, FILLING);
        }
        let here: Vec<usize> =
            (0..found.len()).filter(|&place| (first..first + count).contains(&batch.places[place].text)).collect();
        let asked = |&place: &usize| {
            let place = batch.places[place];
            let row = (place.text - first) * length + texts[place.text].0.len() + place.at;
            Asked { row: row as u32, token: place.token }
        };
        let asked: Vec<Asked> = here.iter().map(asked).collect();
        for (place, likelihood) in here.into_iter().zip(model.likelihoods(parameters, (&tokens, length), &asked)?) {
            found[place] = likelihood;
        }
        first += count;
    }
    Ok(found)
}

fn one_by_one(model: &mut LanguageModel, batch: &Batch) -> Result<Vec<Likelihood>, ScoreError> {
    let mut found = vec![Likelihood { nats: 0.0, is_greedy: false }; batch.places.len()];
    for (text, (beginning, end)) in batch.texts().enumerate() {
        let here: Vec<usize> = (0..found.len()).filter(|&place| batch.places[place].text == text).collect();
        let Some(last) = here.iter().map(|&place| batch.places[place].at).max() else { continue };
        let logits = model.logits(&[beginning, &end.tokens[..=last]].concat())?;
        for place in here {
            let row = (beginning.len() + batch.places[place].at) * model.vocab_size();
            found[place] = Likelihood::of(&logits[row..row + model.vocab_size()], batch.places[place].token);
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

#[cfg(test)]
mod tests {
    use templar_device::Cpu;
    use templar_model::sizes;

    use super::*;
    use crate::batch::batches;
    use crate::request::Request;

    /// What a device with a memory of its own does, here by the CPU.
    #[test]
    fn whole_texts_have_the_bits_of_parts() {
        let spec = ModelSpec { sequence_length: 300, ..sizes::preset("tiny", 90).unwrap() };
        let device: Arc<dyn Device> = Arc::new(Cpu::best());
        let parameters: Vec<f32> =
            Model::new(&spec, device.clone()).unwrap().init(&[4; 32]).iter().map(|parameter| parameter * 5.0).collect();
        let uploaded = device.upload(parameters.as_slice().into()).unwrap();
        let mut model = Model::new(&spec, device.clone()).unwrap();
        let mut scorer = Scorer::exact(&spec, &parameters, device).unwrap();
        // Texts of all lengths, many behind one beginning, more of them than go into one batch.
        let text = |number: u32| {
            let own = (0..1 + number * 13 % 90).map(move |at| (at * 31 + number * 7) % 90);
            let before = (0..if number.is_multiple_of(3) { 0 } else { 200 }).map(|at| at * 17 % 90);
            let tokens: Vec<u32> = before.chain([number % 5]).chain(own).collect();
            Request { scored: 1 + number as usize % (tokens.len() - 1).min(4), tokens }
        };
        let batches = batches(&(0..120).map(text).collect::<Vec<_>>());
        assert!(batches.len() > 1);
        for batch in &batches {
            let found = scorer.likelihoods(batch).unwrap();
            assert_eq!(found, as_wholes(&mut model, &uploaded, batch).unwrap());
        }
    }
}

//! Genesis: the whole configuration of a run. It holds no time, host or path, so the same choices give the same
//! run id.

use serde::{Deserialize, Serialize};

use super::benchmarks::{BenchmarkSpec, MAX_BENCHMARKS};
use super::emission::EmissionSpec;
use super::gauntlet::{GauntletSpec, WeightRule};
use super::registration::RegistrationSpec;
use super::replay::ReplaySpec;
use super::rules::{MAX_ENTRIES, ascending, ascii, positive};
use super::validators::ValidatorSpec;
use crate::id::{BlobId, DatasetId, Hash, RunId};
use crate::key::PublicKey;
use crate::model::{ModelSpec, RopeScaling};
use crate::names::{AggregationRule, Arithmetic, Quantiser};
use crate::payload::{Kind, Payload};

/// One million: fractions are given in parts per million.
const ONE_PPM: u64 = 1_000_000;

/// The whole configuration of a run. Its id is the run's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// A short name for people. A validator's hash chain is drawn from it, so a name is used once.
    pub name: String,
    /// The arithmetic that defines every result.
    pub arithmetic: Arithmetic,
    /// The architecture and sizes of the model.
    pub model: ModelSpec,
    /// Where the first checkpoint comes from.
    pub initial: Initial,
    /// The blob with the `tokenizer.json`.
    pub tokenizer: BlobId,
    /// The dataset to train on.
    pub dataset: DatasetId,
    /// The inner optimiser and its schedule.
    pub inner: InnerSpec,
    /// The windows from which another context holds than that of `model` and `inner`, sorted by window. Empty
    /// where the context never changes.
    pub context: Vec<ContextSegment>,
    /// How pseudo-gradients are compressed.
    pub compression: CompressionSpec,
    /// The outer optimiser and its schedule.
    pub outer: OuterSpec,
    /// The measurements of validators, and how they become weights.
    pub gauntlet: GauntletSpec,
    /// Which contributions are replayed by whom, and when.
    pub replay: ReplaySpec,
    /// How long each phase of a window may last.
    pub deadlines: Deadlines,
    /// How much a window mints, and for whom.
    pub emission: EmissionSpec,
    /// The validators, sorted by key.
    pub validators: Vec<ValidatorSpec>,
    /// The rules of registration: the number of slots, and the cost of one.
    pub registration: RegistrationSpec,
    /// Windows for which a miner keeps its state blobs for challenges.
    pub state_retention_windows: u64,
    /// Every so many windows a member begins from zero state, staggered by slot, so that its state can be
    /// derived again from no more history than that. 0 means never.
    pub state_reset_every: u64,
    /// The number of windows after which the run is over; 0 for a run without end.
    pub windows: u64,
    /// The measurements of models that the run's nodes make. Nothing in the records follows from them.
    pub benchmarks: Vec<BenchmarkSpec>,
}

/// The parameters that a run starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initial {
    /// Drawn from this seed.
    Seed(Hash),
    /// Trained before the run began: the blob of each tensor, in the model's order.
    Tensors(Vec<BlobId>),
}

/// The inner optimiser: AdamW on a plain schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InnerSpec {
    /// Inner steps of a window at most (H).
    pub steps: u32,
    /// Sequences of one inner step.
    pub batch_sequences: u32,
    /// Sequences of one micro-batch; divides `batch_sequences`.
    pub micro_batch_sequences: u32,
    /// AdamW's β1, the decay of the first moment.
    pub beta1_ppm: u32,
    /// AdamW's β2, the decay of the second moment.
    pub beta2_ppm: u32,
    /// Raw bits of AdamW's ε, an f32.
    pub eps_bits: u32,
    /// Decoupled weight decay; it applies to two-dimensional tensors alone.
    pub weight_decay_ppm: u32,
    /// The largest global norm of a gradient; a larger gradient is scaled down to it.
    pub clip_norm_ppm: u32,
    /// The learning rate over the inner steps of the run, one segment after the other. After the last segment
    /// its final value stays.
    pub schedule: Vec<Segment>,
}

/// One segment of the learning rate's schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// How many inner steps it lasts.
    pub steps: u64,
    /// Learning rate at its start, in 1e-9.
    pub from_nanos: u64,
    /// Learning rate at its end, in 1e-9.
    pub to_nanos: u64,
    /// The curve between the two.
    pub shape: SegmentShape,
}

/// The curve of a segment between its two learning rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentShape {
    /// A straight line between the two rates.
    Linear,
    /// Half a period of a cosine.
    Cosine,
}

/// A change of the context, for example to longer sequences: from a window on, these values replace the fields
/// of the same names of [`ModelSpec`] and [`InnerSpec`]. The parameters of the model stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextSegment {
    /// The first window with this context; not 0.
    pub from_window: u64,
    /// Tokens that a training sequence predicts.
    pub sequence_length: u32,
    /// Sequences of one inner step.
    pub batch_sequences: u32,
    /// Sequences of one micro-batch; divides `batch_sequences`.
    pub micro_batch_sequences: u32,
    /// Base of the rotary embedding's frequencies.
    pub rope_theta: u32,
    /// How those frequencies are changed for a longer context.
    pub rope_scaling: Option<RopeScaling>,
}

/// How a pseudo-gradient is compressed, as in SparseLoCo: the largest values of every block, quantised, with
/// error feedback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompressionSpec {
    /// The largest side of a block. Each dimension of a tensor is cut by its largest divisor up to this.
    pub block_side: u32,
    /// How many values of each block are kept.
    pub top_k: u32,
    /// The quantiser of the kept values.
    pub quantiser: Quantiser,
    /// β, the decay of the error feedback e ← βe + Δ.
    pub error_decay_ppm: u32,
}

/// The outer optimiser: plain SGD on the aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OuterSpec {
    /// How the deltas of a window are combined.
    pub rule: AggregationRule,
    /// The learning rate by window, sorted; the first segment starts at window 0.
    pub schedule: Vec<OuterSegment>,
    /// The most contributions of one window that are aggregated.
    pub max_contributions: u32,
    /// The number of null windows at the start of the run. In a null window deltas are made, judged and
    /// recorded as in any other, but no outer step is taken and no error feedback is carried on: only the
    /// moments of the inner optimisers warm up.
    pub null_windows: u64,
}

/// The outer learning rate from a window on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OuterSegment {
    /// The first window with this rate.
    pub from_window: u64,
    /// The outer learning rate, in ppm.
    pub learning_rate_ppm: u32,
}

/// How long each phase of a window lasts at most. A phase ends early when there is nobody left to wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deadlines {
    /// Milliseconds from the opening of a window until validators sign their inboxes.
    pub commit_ms: u64,
    /// Milliseconds from the certified cut until validators stop waiting for reveals.
    pub reveal_ms: u64,
    /// Milliseconds from the seed until validators stop waiting for scores.
    pub judge_ms: u64,
}

impl Genesis {
    /// The members of window 0 in the order of their slots.
    pub fn miners(&self) -> &[PublicKey] {
        &self.registration.members
    }

    /// The validator with this key, if it is one.
    pub fn validator(&self, key: &PublicKey) -> Option<&ValidatorSpec> {
        self.validators.binary_search_by_key(key, |validator| validator.key).ok().map(|index| &self.validators[index])
    }

    /// The sum of all validators' stakes.
    pub fn total_stake(&self) -> u64 {
        self.validators.iter().map(|validator| validator.stake).sum()
    }

    /// The contexts of the run, one after the other; the first begins at window 0 with the fields of `model`
    /// and `inner`.
    pub fn contexts(&self) -> impl Iterator<Item = ContextSegment> {
        let (model, inner) = (&self.model, &self.inner);
        let first = ContextSegment {
            from_window: 0,
            sequence_length: model.sequence_length,
            batch_sequences: inner.batch_sequences,
            micro_batch_sequences: inner.micro_batch_sequences,
            rope_theta: model.rope_theta,
            rope_scaling: model.rope_scaling,
        };
        std::iter::once(first).chain(self.context.iter().copied())
    }

    /// The context of a window: its sequence length, batch and rotary base. Code takes these from here and
    /// never from `model` and `inner`, which hold the first context alone.
    pub fn context_at(&self, window: u64) -> ContextSegment {
        let begun = self.contexts().take_while(|segment| segment.from_window <= window);
        begun.last().expect("the first context begins at window 0")
    }

    /// The model with the context of a window.
    pub fn model_at(&self, window: u64) -> ModelSpec {
        let ContextSegment { sequence_length, rope_theta, rope_scaling, .. } = self.context_at(window);
        ModelSpec { sequence_length, rope_theta, rope_scaling, ..self.model.clone() }
    }

    /// The model with the context in which the parameters before `window` were trained last.
    pub fn model_before(&self, window: u64) -> ModelSpec {
        self.model_at(window.saturating_sub(1))
    }

    /// The number of pages that a slot is assigned in a window: the sequences of H full steps.
    pub fn pages_per_slot(&self, window: u64) -> u64 {
        u64::from(self.inner.steps) * u64::from(self.context_at(window).batch_sequences)
    }

    /// Whether a window is a null window, see [`OuterSpec::null_windows`].
    pub fn is_null(&self, window: u64) -> bool {
        window < self.outer.null_windows
    }

    /// The outer learning rate of a window.
    pub fn outer_learning_rate_ppm(&self, window: u64) -> u32 {
        let segments = &self.outer.schedule;
        let after = segments.partition_point(|segment| segment.from_window <= window);
        after.checked_sub(1).map_or(0, |index| segments[index].learning_rate_ppm)
    }
}

impl InnerSpec {
    fn check(&self) -> Result<(), String> {
        positive("inner.steps", self.steps.into())?;
        check_batch("inner", self.batch_sequences, self.micro_batch_sequences)?;
        for (name, beta) in [("inner.beta1_ppm", self.beta1_ppm), ("inner.beta2_ppm", self.beta2_ppm)] {
            if u64::from(beta) >= ONE_PPM {
                return Err(format!("{name} is not below 1000000"));
            }
        }
        let eps = f32::from_bits(self.eps_bits);
        if !(eps.is_finite() && eps > 0.0) {
            return Err("inner.eps_bits is not a positive finite number".to_owned());
        }
        positive("inner.clip_norm_ppm", self.clip_norm_ppm.into())?;
        if self.schedule.is_empty() || self.schedule.len() > 64 {
            return Err("inner.schedule needs 1 to 64 segments".to_owned());
        }
        for segment in &self.schedule {
            positive("inner.schedule.steps", segment.steps)?;
            if segment.from_nanos.max(segment.to_nanos) > 1_000_000_000 {
                return Err("inner.schedule holds a learning rate above 1".to_owned());
            }
        }
        Ok(())
    }
}

impl ContextSegment {
    fn check(&self) -> Result<(), String> {
        positive("context.from_window", self.from_window)?;
        positive("context.sequence_length", self.sequence_length.into())?;
        check_batch("context", self.batch_sequences, self.micro_batch_sequences)
    }
}

fn check_batch(path: &str, batch: u32, micro_batch: u32) -> Result<(), String> {
    positive(&format!("{path}.batch_sequences"), batch.into())?;
    positive(&format!("{path}.micro_batch_sequences"), micro_batch.into())?;
    if !batch.is_multiple_of(micro_batch) {
        return Err(format!(
            "{path}.micro_batch_sequences {micro_batch} does not divide {path}.batch_sequences {batch}"
        ));
    }
    Ok(())
}

impl Payload for Genesis {
    const KIND: Kind = Kind::Genesis;

    fn run(&self) -> Option<RunId> {
        None
    }

    fn check(&self) -> Result<(), String> {
        ascii("name", &self.name, 64)?;
        positive("length of name", self.name.len() as u64)?;
        if let Initial::Tensors(tensors) = &self.initial
            && !(1..=MAX_ENTRIES).contains(&tensors.len())
        {
            return Err(format!("initial.tensors needs 1 to {MAX_ENTRIES} blobs"));
        }
        self.inner.check()?;
        ascending("context", &self.context, |segment| segment.from_window)?;
        self.context.iter().try_for_each(ContextSegment::check)?;
        if u64::from(self.compression.error_decay_ppm) > ONE_PPM {
            return Err("compression.error_decay_ppm is above 1000000".to_owned());
        }
        positive("outer.max_contributions", self.outer.max_contributions.into())?;
        ascending("outer.schedule", &self.outer.schedule, |segment| segment.from_window)?;
        if self.outer.schedule.first().is_none_or(|segment| segment.from_window != 0) {
            return Err("outer.schedule does not start at window 0".to_owned());
        }
        self.gauntlet.check()?;
        if self.gauntlet.exploration_contributions > self.outer.max_contributions {
            return Err("gauntlet.exploration_contributions is above outer.max_contributions".to_owned());
        }
        if self.gauntlet.weights == WeightRule::ProvenSteps && self.registration.slots > self.outer.max_contributions {
            return Err(
                "registration.slots is above outer.max_contributions: proven-steps would pay for what is not used"
                    .to_owned(),
            );
        }
        let emission = &self.emission;
        let parts = [emission.miners_ppm, emission.validators_ppm, emission.treasury_ppm];
        if parts.iter().map(|&part| u64::from(part)).sum::<u64>() > ONE_PPM {
            return Err("emission: the parts add up to more than 1000000".to_owned());
        }
        if emission.per_window_micros > 1 << 50 {
            return Err("emission.per_window_micros is above 2^50".to_owned());
        }
        positive("emission.target_steps", emission.target_steps)?;
        if u64::from(emission.replays_ppm) > ONE_PPM {
            return Err("emission.replays_ppm is above 1000000".to_owned());
        }
        ascending("validators", &self.validators, |validator| validator.key)?;
        if self.validators.is_empty() {
            return Err("validators is empty".to_owned());
        }
        for validator in &self.validators {
            positive("validators.stake", validator.stake)?;
            if validator.stake > 1 << 48 {
                return Err("validators.stake is above 2^48".to_owned());
            }
        }
        self.replay.check(emission, &self.validators)?;
        if self.replay.open_windows() > self.state_retention_windows {
            let longer =
                "replay.verdict_windows and replay.challenge_windows are together above state_retention_windows";
            return Err(longer.to_owned());
        }
        if self.gauntlet.spot_checks_ppm > 0 && self.state_retention_windows == 0 {
            return Err("gauntlet.spot_checks_ppm needs the model before, and state_retention_windows is 0".to_owned());
        }
        if self.benchmarks.len() > MAX_BENCHMARKS {
            return Err(format!("benchmarks has more than {MAX_BENCHMARKS} entries"));
        }
        self.benchmarks.iter().try_for_each(BenchmarkSpec::check)?;
        self.registration.check()?;
        let (burn, cost) = (&self.registration.burn, emission.registration_cost_micros);
        if burn.per_window > 0 && burn.least < cost {
            return Err(format!(
                "registration.burn.least {} is below emission.registration_cost_micros {cost}: a slot could be had for less than \
                 it is said to cost",
                burn.least
            ));
        }
        Ok(())
    }
}

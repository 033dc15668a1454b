//! A run's genesis from one dial: the size of the model sets every value, and each value can be overridden.
//!
//! Values are addressed by their path in the genesis, such as `inner.steps` or `outer.rule`. A path that does
//! not exist is an error that suggests the nearest one.

use serde_json::Value;
use templar_data::words;
use templar_manifest::{
    AggregationRule, Arithmetic, BlobId, CompressionSpec, ContextSegment, Dataset, DatasetId, Deadlines, EmissionSpec,
    GauntletSpec, Genesis, Hash, Initial, InnerSpec, ModelSpec, OuterSegment, OuterSpec, PublicKey, Quantiser,
    RegistrationSpec, ReplaySpec, RunId, Segment, SegmentShape, TensorSpec, ValidatorSpec, page_count,
};
use templar_model::{ConfigError, sizes};
use templar_protocol::{GenesisError, RunState};
use templar_train::{Recipe, RecipeError};

use crate::load;

/// Slots of a run whose dataset is large enough for them; Covenant-72B had as many.
const SLOTS: u32 = 250;

/// A configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// No model size has that name.
    #[error("unknown size {found:?}{}; sizes are {known}", nearest_hint(.nearest))]
    Size {
        /// The name that was asked for.
        found: String,
        /// The name of the most similar size.
        nearest: Option<String>,
        /// All names, separated by commas.
        known: String,
    },
    /// No value of the genesis has that path.
    #[error("unknown configuration key {found:?}{}", nearest_hint(.nearest))]
    Key {
        /// The path that was asked for.
        found: String,
        /// The most similar path that exists.
        nearest: Option<String>,
    },
    /// A setting is not of the form `key=value`.
    #[error("{0:?} is not of the form key=value")]
    Form(String),
    /// A value has another type or range than its key takes.
    #[error("the configuration does not hold together: {0}")]
    Value(String),
    /// The model has fewer rows than the tokenizer has tokens. More are usual: models are padded to round numbers.
    #[error("the model has {model} rows for the {dataset} tokens of the dataset's tokenizer")]
    Vocabulary {
        /// Rows of the model's embedding.
        model: u32,
        /// Tokens of the dataset's tokenizer.
        dataset: u32,
    },
    /// The protocol's rules refuse the genesis, so no node would follow the run.
    #[error("no node would follow this run")]
    Rules(#[source] GenesisError),
    /// A validator cannot judge a window before the deadline.
    #[error("a validator needs {needed_ms} ms to judge a window, and deadlines.judge_ms is {judge_ms}")]
    Load {
        /// The time that the work takes at the speed that was told, in milliseconds.
        needed_ms: u64,
        /// The deadline in milliseconds.
        judge_ms: u64,
    },
    /// The dataset has fewer held-out tokens than one page.
    #[error("the dataset has {0} held-out tokens, which is less than one page")]
    NothingHeldOut(u64),
    /// The sizes of the model do not fit together.
    #[error("the model cannot be built")]
    Model(#[from] ConfigError),
    /// Training is impossible with these values.
    #[error("the run cannot be trained")]
    Recipe(#[from] RecipeError),
}

fn nearest_hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |nearest| format!("; did you mean {nearest:?}?"))
}

/// The parts of a genesis that no size gives.
#[derive(Debug, Clone)]
pub struct RunPlan<'a> {
    /// The name of the run.
    pub name: String,
    /// The id of the dataset's manifest.
    pub dataset_id: DatasetId,
    /// The manifest of the dataset.
    pub dataset: &'a Dataset,
    /// The validators: keys, stakes and hash chains.
    pub validators: Vec<ValidatorSpec>,
    /// The first miners; others register later.
    pub miners: Vec<PublicKey>,
    /// The model and its initial parameters.
    pub origin: Origin,
}

/// The model that a run trains, and the source of its initial parameters.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A size of the table, with parameters drawn from a seed.
    Drawn {
        /// A name of [`sizes`].
        size: String,
        /// The seed from which the parameters are drawn.
        seed: Hash,
    },
    /// A model that was trained before.
    Trained {
        /// The sizes of the model.
        model: ModelSpec,
        /// The blob of each tensor, in the model's order.
        tensors: Vec<BlobId>,
    },
}

/// The name most similar to `text` among `known`, by Damerau-Levenshtein distance. `None` if none is similar.
pub fn nearest<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(text, candidate), candidate))
        .filter(|(distance, candidate)| *distance * 2 <= candidate.len().max(text.len()))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// The values of training that follow from the size. Large models take the final values of Covenant-72B.
struct Dial {
    steps: u32,
    batch: u32,
    micro: u32,
    peak_nanos: u64,
    warm_up: u64,
    decay: u64,
    top_k: u32,
}

fn dial(size: &str) -> Dial {
    match size {
        "tiny" | "nano" | "micro" => {
            Dial { steps: 30, batch: 4, micro: 4, peak_nanos: 3_000_000, warm_up: 20, decay: 10_000, top_k: 64 }
        }
        "small" | "medium" => {
            Dial { steps: 30, batch: 8, micro: 8, peak_nanos: 1_000_000, warm_up: 100, decay: 20_000, top_k: 64 }
        }
        _ => Dial { steps: 30, batch: 192, micro: 1, peak_nanos: 120_000, warm_up: 1_500, decay: 140_000, top_k: 64 },
    }
}

/// The largest size that has no more parameters than `model`, with the same vocabulary; else the smallest.
fn nearest_size(model: &ModelSpec) -> Result<&'static str, ConfigureError> {
    let count = |model: &ModelSpec| -> Result<usize, ConfigError> {
        Ok(templar_model::tensors(model)?.iter().map(TensorSpec::elements).sum())
    };
    let parameters = count(model)?;
    let fits = |size: &&sizes::Size| count(&size.spec(model.vocab_size)).is_ok_and(|size| size <= parameters);
    let size = sizes::SIZES.iter().rev().find(fits).unwrap_or(&sizes::SIZES[0]);
    Ok(size.name)
}

/// The genesis of a size, with `settings` (`key=value`) on top, checked as a whole.
///
/// # Errors
/// A size or a key is unknown, or the values do not hold together.
pub fn configure(plan: &RunPlan<'_>, settings: &[String]) -> Result<Genesis, ConfigureError> {
    configured(plan, None, settings)
}

/// The genesis of [`configure`], with replays, evaluators, fee and deadlines for a run of this scale, as far as no
/// setting says them.
///
/// # Errors
/// As of [`configure`]; or the validators cannot judge a window in time.
pub fn configure_for(plan: &RunPlan<'_>, scale: &Scale, settings: &[String]) -> Result<Genesis, ConfigureError> {
    configured(plan, Some(scale), settings)
}

/// The scale of a run, as far as genesis does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// The number of miners that are expected.
    pub miners: u32,
    /// The tokens that a machine trains on in a second; `None` leaves the deadlines of the size.
    pub tokens_per_second: Option<u64>,
}

fn configured(plan: &RunPlan<'_>, scale: Option<&Scale>, settings: &[String]) -> Result<Genesis, ConfigureError> {
    let mut genesis = override_with(&from_size(plan)?, settings)?;
    let is_set = |path: &str| settings.iter().any(|setting| setting.starts_with(path));
    if !genesis.gauntlet.measures() {
        let gauntlet = &mut genesis.gauntlet;
        for (path, number) in [
            ("gauntlet.assigned_pages", &mut gauntlet.assigned_pages),
            ("gauntlet.unassigned_pages", &mut gauntlet.unassigned_pages),
            ("gauntlet.evaluators", &mut gauntlet.evaluators),
        ] {
            *number = if is_set(path) { *number } else { 0 };
        }
    }
    if !is_set("emission.target_steps") {
        // Everything is minted if all expected miners take all steps.
        let miners = scale.map_or(genesis.miners().len() as u64, |scale| scale.miners.into()).max(1);
        genesis.emission.target_steps = miners * u64::from(genesis.inner.steps);
    }
    load::choose_spot_checks(&mut genesis, &is_set);
    if let Some(scale) = scale {
        load::choose_checks(&mut genesis, &is_set);
        if let Some(speed) = scale.tokens_per_second {
            load::choose_deadlines(&mut genesis, speed, &is_set);
        }
    }
    if !is_set("registration.slots") {
        genesis.registration.slots = fitting_slots(&genesis, plan.dataset);
    }
    check(&genesis, plan.dataset)?;
    if let Some(speed) = scale.and_then(|scale| scale.tokens_per_second) {
        let (needed_ms, judge_ms) = (load::judging_ms(&genesis, speed), genesis.deadlines.judge_ms);
        if needed_ms > judge_ms {
            return Err(ConfigureError::Load { needed_ms, judge_ms });
        }
    }
    Ok(genesis)
}

/// The number of slots: as many as Covenant-72B had, but no more than the dataset has pages for, and where
/// members are paid by steps no more than are aggregated. At least one for each of the first miners.
fn fitting_slots(genesis: &Genesis, dataset: &Dataset) -> u32 {
    let unassigned = u64::from(genesis.gauntlet.unassigned_pages);
    let fitting = |context: ContextSegment| {
        let pages = page_count(dataset.training_tokens(), context.sequence_length).saturating_sub(unassigned);
        pages.checked_div(genesis.pages_per_slot(context.from_window)).unwrap_or(0)
    };
    let most = if genesis.gauntlet.measures() { SLOTS } else { SLOTS.min(genesis.outer.max_contributions) };
    let fitting = genesis.contexts().map(fitting).min().unwrap_or(0).min(most.into());
    (fitting as u32).max(genesis.miners().len() as u32).max(1)
}

/// The genesis that follows from the size alone.
fn from_size(plan: &RunPlan<'_>) -> Result<Genesis, ConfigureError> {
    let (model, initial, dial) = match &plan.origin {
        Origin::Drawn { size, seed } => {
            let model = sizes::preset(size, plan.dataset.vocab_size).ok_or_else(|| ConfigureError::Size {
                found: size.clone(),
                nearest: nearest(size, sizes::names()),
                known: sizes::names().collect::<Vec<_>>().join(", "),
            })?;
            (model, Initial::Seed(*seed), dial(size))
        }
        Origin::Trained { model, tensors } => {
            (model.clone(), Initial::Tensors(tensors.clone()), dial(nearest_size(model)?))
        }
    };
    let mut validators = plan.validators.clone();
    validators.sort_by_key(|validator| validator.key);
    let mut miners = plan.miners.clone();
    miners.sort();
    Ok(Genesis {
        name: plan.name.clone(),
        arithmetic: Arithmetic::F32,
        model,
        initial,
        tokenizer: plan.dataset.tokenizer,
        dataset: plan.dataset_id,
        inner: InnerSpec {
            steps: dial.steps,
            batch_sequences: dial.batch,
            micro_batch_sequences: dial.micro,
            beta1_ppm: 900_000,
            beta2_ppm: 950_000,
            eps_bits: 1e-8f32.to_bits(),
            weight_decay_ppm: 100_000,
            clip_norm_ppm: 1_000_000,
            schedule: vec![
                Segment {
                    steps: dial.warm_up,
                    from_nanos: dial.peak_nanos / dial.warm_up,
                    to_nanos: dial.peak_nanos,
                    shape: SegmentShape::Linear,
                },
                Segment {
                    steps: dial.decay,
                    from_nanos: dial.peak_nanos,
                    to_nanos: dial.peak_nanos / 10,
                    shape: SegmentShape::Cosine,
                },
            ],
        },
        context: Vec::new(),
        compression: CompressionSpec {
            block_side: 64,
            top_k: dial.top_k,
            quantiser: Quantiser::BlockSign,
            error_decay_ppm: 950_000,
        },
        outer: OuterSpec {
            rule: AggregationRule::MeanOfSenders,
            schedule: vec![OuterSegment { from_window: 0, learning_rate_ppm: 1_000_000 }],
            max_contributions: 20,
            null_windows: 0,
        },
        gauntlet: GauntletSpec { assigned_pages: 8, unassigned_pages: 8, ..GauntletSpec::customary() },
        replay: ReplaySpec::whole(),
        deadlines: Deadlines { commit_ms: 1_200_000, reveal_ms: 120_000, judge_ms: 1_200_000 },
        emission: EmissionSpec {
            per_window_micros: 1_000_000,
            target_steps: 1,
            miners_ppm: 410_000,
            validators_ppm: 410_000,
            treasury_ppm: 180_000,
            replays_ppm: 500_000,
            vesting_windows: 4,
            registration_cost_micros: 0,
        },
        validators,
        registration: RegistrationSpec::customary(SLOTS.max(miners.len() as u32), miners),
        state_retention_windows: 8,
        state_reset_every: 0,
        windows: 0,
        benchmarks: Vec::new(),
    })
}

/// Collects all paths of a value: leaves such as `inner.steps`, the objects on the way, and elements of lists such as
/// `outer.schedule.0.from_window`.
fn paths(value: &Value, prefix: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => return,
    };
    for (key, value) in inner {
        let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        found.push(path.clone());
        paths(value, &path, found);
    }
}

/// The kind of a value, for people.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a group of values",
        Value::Null => "nothing",
    }
}

/// All keys that `--set` takes.
fn keys(genesis: &Genesis) -> Vec<String> {
    let mut found = Vec::new();
    paths(&serde_json::to_value(genesis).unwrap_or_default(), "", &mut found);
    found
}

fn override_with(genesis: &Genesis, settings: &[String]) -> Result<Genesis, ConfigureError> {
    let wrong = |error: serde_json::Error| ConfigureError::Value(error.to_string());
    let mut tree = serde_json::to_value(genesis).map_err(wrong)?;
    for setting in settings {
        let (key, text) = setting.split_once('=').ok_or_else(|| ConfigureError::Form(setting.clone()))?;
        let pointer = format!("/{}", key.trim().replace('.', "/"));
        let Some(place) = tree.pointer_mut(&pointer) else {
            let known = keys(genesis);
            let nearest = nearest(key, known.iter().map(String::as_str));
            return Err(ConfigureError::Key { found: key.to_owned(), nearest });
        };
        // Numbers, booleans, lists and objects are JSON; anything else is text.
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        let before = std::mem::replace(place, value);
        if let Err(error) = serde_json::from_value::<Genesis>(tree.clone()) {
            let is = if before.is_object() { kind(&before).to_owned() } else { format!("{before}, {}", kind(&before)) };
            let why = words::misfit(&error.to_string());
            return Err(ConfigureError::Value(format!("{key} is {is}, and cannot be {text}: {why}")));
        }
    }
    serde_json::from_value(tree).map_err(wrong)
}

/// Checks that a run with this genesis can be trained on this dataset, which the genesis alone cannot tell.
///
/// # Errors
/// The rules refuse the genesis, the model has too few rows for the tokens, or nothing is held out.
pub fn check(genesis: &Genesis, dataset: &Dataset) -> Result<(), ConfigureError> {
    RunState::check(genesis, dataset.training_tokens()).map_err(|error| match error {
        GenesisError::Rule(rule) => ConfigureError::Value(rule),
        error => ConfigureError::Rules(error),
    })?;
    if genesis.model.vocab_size < dataset.vocab_size {
        let (model, dataset) = (genesis.model.vocab_size, dataset.vocab_size);
        return Err(ConfigureError::Vocabulary { model, dataset });
    }
    Recipe::new(RunId::default(), genesis.clone())?;
    for context in genesis.contexts() {
        let length = context.sequence_length;
        if page_count(dataset.validation_tokens(), length) == 0 {
            return Err(ConfigureError::NothingHeldOut(dataset.validation_tokens()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use templar_blob::MemoryBlobs;
    use templar_data::bundled;

    use super::*;

    #[test]
    fn a_trained_model_takes_the_dial_of_its_size_and_needs_the_vocabulary_of_the_tokens() {
        let dataset = bundled::import_shakespeare(&mut MemoryBlobs::new()).unwrap();
        let plan = |vocab_size, tensors| {
            let model = ModelSpec { hidden_size: 384, ..sizes::preset("small", vocab_size).unwrap() };
            RunPlan {
                name: "test".to_owned(),
                dataset_id: DatasetId::default(),
                dataset: &dataset,
                validators: vec![ValidatorSpec {
                    key: PublicKey::from_bytes([1; 32]),
                    stake: 1,
                    chain_anchor: Hash::default(),
                }],
                miners: vec![PublicKey::from_bytes([2; 32])],
                origin: Origin::Trained { model, tensors: vec![BlobId::default(); tensors] },
            }
        };
        let tensors = 6 * 9 + 2;
        let genesis = configure(&plan(dataset.vocab_size, tensors), &[]).unwrap();
        assert_eq!((genesis.model.hidden_size, genesis.inner.batch_sequences), (384, dial("small").batch));
        let padded = configure(&plan(dataset.vocab_size + 64, tensors), &[]).unwrap();
        assert_eq!(padded.model.vocab_size, dataset.vocab_size + 64);
        let found = configure(&plan(dataset.vocab_size - 1, tensors), &[]);
        assert!(matches!(found, Err(ConfigureError::Vocabulary { .. })), "{found:?}");
        let found = configure(&plan(dataset.vocab_size, tensors), &["windows=65538".to_owned()]);
        let too_many = GenesisError::TooManyWindows { windows: 65_538, limit: 65_537 };
        assert!(matches!(found, Err(ConfigureError::Rules(error)) if error == too_many));
        let found = configure(&plan(dataset.vocab_size, tensors - 1), &[]);
        assert!(matches!(found, Err(ConfigureError::Recipe(RecipeError::Initial { .. }))), "{found:?}");
    }
}

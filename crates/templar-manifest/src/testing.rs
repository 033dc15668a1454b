//! One valid genesis for tests and simulations, and the parts of it that they change.
//!
//! A fixture starts from [`GenesisBuilder::tiny`] and says what is special about it, so that a new field of the
//! genesis is given a value in one place.
//!
//! ```
//! use templar_manifest::testing::GenesisBuilder;
//!
//! let short = GenesisBuilder::tiny("a run of three windows").with(|genesis| genesis.windows = 3).build();
//! assert_eq!(short.windows, 3);
//! ```

use crate::id::{BlobId, Hash};
use crate::key::PublicKey;
use crate::kinds::{
    CompressionSpec, Deadlines, EmissionSpec, GauntletSpec, Genesis, Initial, InnerSpec, OuterSegment, OuterSpec,
    PriceRule, RegistrationSpec, ReplaySpec, Segment, SegmentShape, ValidatorSpec, WeightRule,
};
use crate::model::ModelSpec;
use crate::names::{AggregationRule, Arithmetic, Quantiser};

/// Builds the genesis of a test or of a simulation.
#[derive(Debug, Clone)]
pub struct GenesisBuilder {
    genesis: Genesis,
}

impl GenesisBuilder {
    /// A run of one tiny layer and windows of a second, which mints 1,000 ALPHA a window and never ends. It pays
    /// by rank, and every window in which anybody trains mints all.
    ///
    /// It has neither validators nor miners yet, and a run needs a validator at least.
    pub fn tiny(name: &str) -> Self {
        let genesis = Genesis {
            name: name.to_owned(),
            arithmetic: Arithmetic::F32,
            model: tiny_model(),
            initial: Initial::Seed(Hash::of(b"model")),
            tokenizer: BlobId::of(b"tokenizer"),
            dataset: Hash::of(b"dataset").into(),
            inner: short_inner_steps(),
            context: Vec::new(),
            compression: CompressionSpec {
                block_side: 8,
                top_k: 4,
                quantiser: Quantiser::BlockSign,
                error_decay_ppm: 950_000,
            },
            outer: OuterSpec {
                rule: AggregationRule::MeanOfAll,
                schedule: vec![OuterSegment { from_window: 0, learning_rate_ppm: 1_000_000 }],
                max_contributions: 2,
                null_windows: 0,
            },
            gauntlet: GauntletSpec {
                assigned_pages: 2,
                unassigned_pages: 3,
                held_out_pages: 1,
                exploration_contributions: 0,
                evaluators: 2,
                weights: WeightRule::rank_ramp(),
                ..GauntletSpec::customary()
            },
            replay: ReplaySpec::whole(),
            deadlines: Deadlines { commit_ms: 1000, reveal_ms: 1000, judge_ms: 1000 },
            emission: EmissionSpec {
                per_window_micros: 1_000_000_000,
                target_steps: 1,
                miners_ppm: 410_000,
                validators_ppm: 410_000,
                treasury_ppm: 180_000,
                replays_ppm: 500_000,
                vesting_windows: 4,
                registration_cost_micros: 0,
            },
            validators: Vec::new(),
            registration: RegistrationSpec::customary(1, Vec::new()),
            state_retention_windows: 2,
            state_reset_every: 0,
            windows: 0,
            benchmarks: Vec::new(),
        };
        Self { genesis }
    }

    /// These validators, in the order of their keys.
    #[must_use]
    pub fn validators(mut self, validators: impl IntoIterator<Item = ValidatorSpec>) -> Self {
        self.genesis.validators = validators.into_iter().collect();
        self.genesis.validators.sort_by_key(|validator| validator.key);
        self
    }

    /// As many slots as first members. A few hashes are work enough for a slot, and a new member may be
    /// replaced after two windows.
    #[must_use]
    pub fn members_and_cheap_slots(mut self, members: Vec<PublicKey>) -> Self {
        let spec = RegistrationSpec::customary(members.len().max(1) as u32, members);
        let hashcash = PriceRule { per_window: 2, first: 16, least: 4, ..spec.hashcash };
        let burn = PriceRule { per_window: 1, first: 1_000, least: 100, ..spec.burn };
        self.genesis.registration = RegistrationSpec { immunity_windows: 2, anchor_windows: 3, hashcash, burn, ..spec };
        self
    }

    /// Applies a change to any fields of the genesis.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Genesis)) -> Self {
        change(&mut self.genesis);
        self
    }

    /// The genesis. It is not checked, so that a test can build one that breaks a rule.
    pub fn build(self) -> Genesis {
        self.genesis
    }
}

/// A decoder of one layer, 8 wide, over 256 tokens.
fn tiny_model() -> ModelSpec {
    ModelSpec {
        vocab_size: 256,
        hidden_size: 8,
        layers: 1,
        heads: 1,
        head_size: None,
        kv_heads: 1,
        ffn_size: 16,
        rope_theta: 10_000,
        rope_scaling: None,
        norm_eps_bits: 1e-5f32.to_bits(),
        tied_embeddings: true,
        sequence_length: 16,
        position_limit: None,
    }
}

/// Three steps of two sequences, with AdamW's usual constants and next to no learning rate.
fn short_inner_steps() -> InnerSpec {
    InnerSpec {
        steps: 3,
        batch_sequences: 2,
        micro_batch_sequences: 1,
        beta1_ppm: 900_000,
        beta2_ppm: 950_000,
        eps_bits: 1e-8f32.to_bits(),
        weight_decay_ppm: 100_000,
        clip_norm_ppm: 1_000_000,
        schedule: vec![Segment { steps: 1, from_nanos: 1, to_nanos: 1, shape: SegmentShape::Linear }],
    }
}

/// Sets what a slot must cost at least so that cheating loses money under this genesis' rules of replay.
pub fn price_slots(genesis: &mut Genesis) {
    let least = genesis.replay.least_registration_cost(&genesis.emission, &genesis.validators);
    genesis.emission.registration_cost_micros = least.and_then(|least| u64::try_from(least).ok()).unwrap_or(u64::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::Payload;

    #[test]
    fn a_tiny_genesis_with_a_validator_breaks_no_rule() {
        let key = PublicKey::from_bytes([1; 32]);
        let validator = ValidatorSpec { key, stake: 1, chain_anchor: Hash::default() };
        let built = GenesisBuilder::tiny("tiny").validators([validator]).members_and_cheap_slots(vec![key]).build();
        assert_eq!(built.check(), Ok(()));
    }
}

//! Proofs of computation: keyed hashes of values that exist only where something was computed.
//!
//! # Replay
//!
//! A miner's trace holds the plain hash of each tensor's state after every inner step, and the blobs that it
//! leaves hold the last state. The states between are published nowhere. So a validator that replays a
//! contribution hashes one tensor after one step with a key of its own. Step, tensor and key follow from its
//! hash-chain value, which nobody knows before the cut, and from its public key, so that another validator
//! cannot use the claim.
//!
//! A validator that replays the same contribution passes through the states of all other claims as well. It
//! publishes the short form of each, which is eight bytes of a hash (a *witness*). The short forms show
//! everybody when two validators contradict each other, and they help nobody to make a claim. A further replay
//! tells which of the two lies. Without one the bytes that were hashed tell it ([`ProofDraw::check`]), since
//! their plain hash is in the trace.
//!
//! # Evaluation
//!
//! A loss is one number, and copying it costs nothing. So a validator that measures a contribution also hashes
//! the final hidden states of every page with a key of its own ([`EvaluationKey`]). Nobody publishes these
//! states, so losses may be published at once, and whoever copies them has no claim. It publishes the short
//! forms of the other drawn validators' claims as well, for the same reason as above. Validators that share
//! their work in private cannot be told apart from validators that each did it.

use crate::id::{ContributionId, Hash, RunId};
use crate::key::PublicKey;
use crate::kinds::{Losses, Measurement, ReplayProof};
use crate::trace::Trace;

const KEY_CONTEXT: &str = "templar/1 proof of replay";
const PLACE_CONTEXT: &str = "templar/1 place of a proof of replay";
const WITNESS_CONTEXT: &str = "templar/1 witness of a proof of replay";
const EVALUATION_CONTEXT: &str = "templar/1 proof of evaluation";
const STATES_CONTEXT: &str = "templar/1 hidden states of an evaluation";

/// The step, tensor and key with which one validator proves its replay of one contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofDraw {
    /// The validator whose proof it is.
    pub validator: PublicKey,
    key: Hash,
    place: [u64; 2],
}

/// The reasons for which bytes do not show that a claim is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The bytes belong to another step or tensor: the trace has another hash at the drawn place.
    #[error("the bytes are not the state of tensor {tensor} after inner step {step}")]
    OtherStep {
        /// The inner step that was drawn.
        step: u32,
        /// The index of the tensor that was drawn.
        tensor: u32,
    },
    /// The bytes are the state that was drawn, and their keyed hash is another claim.
    #[error("the claim is not the keyed hash of the state that was drawn")]
    Claim,
}

impl ProofDraw {
    /// The draw of a validator with this hash-chain value, for a contribution of the window with this seed.
    pub fn new(run: &RunId, seed: &Hash, validator: &PublicKey, value: &Hash, contribution: &ContributionId) -> Self {
        let hasher = |context: &str| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            for part in [run.hash().as_bytes(), seed.as_bytes(), validator.as_bytes(), value.as_bytes()] {
                hasher.update(part);
            }
            hasher.update(contribution.hash().as_bytes());
            hasher.finalize()
        };
        let place = hasher(PLACE_CONTEXT);
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| place.as_bytes()[at + byte]));
        Self { validator: *validator, key: hasher(KEY_CONTEXT).into(), place: [number(0), number(8)] }
    }

    /// The inner step after which the state is hashed, in a window of `steps` steps. It lies in the second half
    /// and is not the last, because the miner's blobs publish the last state.
    pub fn step(&self, steps: u32) -> u32 {
        let first = (steps / 2).max(1);
        let last = steps.saturating_sub(1).max(first);
        first + (self.place[0] % u64::from(last - first + 1)) as u32
    }

    /// The index of the tensor that is hashed, in a model of `tensors` tensors, which is not 0.
    pub fn tensor(&self, tensors: usize) -> usize {
        (self.place[1] % tensors as u64) as usize
    }

    /// The key of the claim's hash.
    pub fn key(&self) -> &Hash {
        &self.key
    }

    /// The hasher of the claim. It takes the tensor's elements, first moments and second moments as
    /// little-endian f32.
    pub fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(self.key.as_bytes())
    }

    /// Checks with the contribution's trace whether `bytes`, the state that was hashed, show that `claim` is true.
    ///
    /// # Errors
    /// [`ProofError`]
    pub fn check(&self, trace: &Trace, bytes: &[u8], claim: &Hash) -> Result<(), ProofError> {
        let (step, tensor) = (self.step(trace.header.steps), self.tensor(trace.header.tensors as usize));
        if trace.leaves[step as usize].tensors[tensor] != Hash::of(bytes) {
            return Err(ProofError::OtherStep { step, tensor: tensor as u32 });
        }
        let found = self.hasher().update(bytes).finalize();
        if found == *claim.as_bytes() { Ok(()) } else { Err(ProofError::Claim) }
    }
}

/// The key with which one validator proves that it measured one contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluationKey {
    /// The validator whose proof it is.
    pub validator: PublicKey,
    key: Hash,
}

impl EvaluationKey {
    /// The key of a validator for a contribution of the window with this seed.
    pub fn new(run: &RunId, seed: &Hash, validator: &PublicKey, contribution: &ContributionId) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(EVALUATION_CONTEXT);
        for part in [run.hash().as_bytes(), seed.as_bytes(), validator.as_bytes(), contribution.hash().as_bytes()] {
            hasher.update(part);
        }
        Self { validator: *validator, key: hasher.finalize().into() }
    }

    /// The validator's claim, of what [`hidden_states`] gives.
    pub fn claim(&self, states: &Hash) -> Hash {
        blake3::keyed_hash(self.key.as_bytes(), states.as_bytes()).into()
    }
}

/// The hash of all hidden states of an evaluation: of the plain hashes of those on assigned pages before and
/// after the trial step, and of those on unassigned pages before and after it. Each covers the pages in order,
/// the states of a page `[tokens, hidden]` as little-endian f32.
pub fn hidden_states(passes: &[Hash; 4]) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key(STATES_CONTEXT);
    for pass in passes {
        hasher.update(pass.as_bytes());
    }
    hasher.finalize().into()
}

/// The measurement of `validator`: the losses with the claims of all drawn validators, in the order of `keys`.
/// `None` where it was not drawn.
pub fn measurement(
    keys: &[EvaluationKey],
    validator: &PublicKey,
    losses: Losses,
    states: &Hash,
) -> Option<Measurement> {
    let own = keys.iter().find(|key| key.validator == *validator)?;
    let witnesses = keys.iter().map(|key| witness(&key.claim(states))).collect();
    Some(Measurement { losses, claim: own.claim(states), witnesses })
}

/// The proof of `validator`, made of the claims of all drawn validators in the order of `draws`. `None` where
/// it was not drawn.
pub fn prove(draws: &[ProofDraw], claims: &[Hash], validator: &PublicKey) -> Option<ReplayProof> {
    let place = draws.iter().position(|draw| draw.validator == *validator)?;
    Some(ReplayProof { claim: *claims.get(place)?, witnesses: claims.iter().map(witness).collect() })
}

/// The short form of a claim: eight bytes of its hash.
pub fn witness(claim: &Hash) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key(WITNESS_CONTEXT);
    hasher.update(claim.as_bytes());
    let hash = hasher.finalize();
    u64::from_le_bytes(std::array::from_fn(|byte| hash.as_bytes()[byte]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WindowIndex;
    use crate::trace::{Leaf, TraceHeader};

    fn draw(validator: u8, value: &[u8], contribution: &[u8]) -> ProofDraw {
        let key = PublicKey::from_bytes([validator; 32]);
        ProofDraw::new(
            &Hash::of(b"run").into(),
            &Hash::of(b"seed"),
            &key,
            &Hash::of(value),
            &Hash::of(contribution).into(),
        )
    }

    fn bytes(step: u32, tensor: usize) -> Vec<u8> {
        format!("state of tensor {tensor} after step {step}").into_bytes()
    }

    fn trace(steps: u32) -> Trace {
        let (run, window) = (Hash::of(b"run").into(), WindowIndex(0));
        let header = TraceHeader { run, window, miner: PublicKey::from_bytes([9; 32]), steps, tensors: 3 };
        let leaf = |step| Leaf { loss_bits: 0, tensors: (0..3).map(|tensor| Hash::of(&bytes(step, tensor))).collect() };
        Trace { header, leaves: (0..steps + 2).map(leaf).collect() }
    }

    #[test]
    fn a_claim_is_of_one_validator_one_value_one_contribution_and_one_place() {
        let (own, trace) = (draw(1, b"x", b"c"), trace(10));
        let place = |draw: &ProofDraw| (draw.step(10), draw.tensor(3));
        let claim = |draw: &ProofDraw, bytes: &[u8]| Hash::from(draw.hasher().update(bytes).finalize());
        let (step, tensor) = place(&own);
        let state = bytes(step, tensor);
        assert_eq!(own.check(&trace, &state, &claim(&own, &state)), Ok(()));
        for other in [draw(2, b"x", b"c"), draw(1, b"y", b"c"), draw(1, b"x", b"d")] {
            assert_eq!(own.check(&trace, &state, &claim(&other, &state)), Err(ProofError::Claim));
        }
        // A proof for another step is told by name, although its hash is right for what it hashes.
        let elsewhere = bytes(step + 1, tensor);
        let found = own.check(&trace, &elsewhere, &claim(&own, &elsewhere));
        assert_eq!(found, Err(ProofError::OtherStep { step, tensor: tensor as u32 }));
    }

    #[test]
    fn steps_are_of_the_second_half_and_never_the_last() {
        for steps in 1..=40 {
            let mut seen = std::collections::BTreeSet::new();
            for value in 0..400u32 {
                seen.insert(draw(1, &value.to_le_bytes(), b"c").step(steps));
            }
            let (first, last) = ((steps / 2).max(1), (steps - 1).max(1));
            assert_eq!(seen.into_iter().collect::<Vec<_>>(), (first..=last.max(first)).collect::<Vec<_>>(), "{steps}");
        }
    }

    #[test]
    fn an_evaluation_is_claimed_by_one_validator_for_one_contribution_and_all_its_pages() {
        let key = |validator: u8, seed: &[u8], contribution: &[u8]| {
            let validator = PublicKey::from_bytes([validator; 32]);
            EvaluationKey::new(&Hash::of(b"run").into(), &Hash::of(seed), &validator, &Hash::of(contribution).into())
        };
        let passes = [b"a", b"b", b"c", b"d"].map(|pass| Hash::of(pass));
        let (own, states) = (key(1, b"seed", b"c"), hidden_states(&passes));
        for other in [key(2, b"seed", b"c"), key(1, b"other", b"c"), key(1, b"seed", b"d")] {
            assert_ne!(other.claim(&states), own.claim(&states));
        }
        for changed in 0..4 {
            let mut passes = passes;
            passes[changed] = Hash::of(b"e");
            assert_ne!(own.claim(&hidden_states(&passes)), own.claim(&states));
        }
        let keys = [own, key(2, b"seed", b"c")];
        let losses = Losses {
            assigned_before_nanonats: 4,
            assigned_after_nanonats: 2,
            unassigned_before_nanonats: 4,
            unassigned_after_nanonats: 5,
        };
        assert_eq!((losses.gain_nanonats(), losses.own_gain_nanonats()), (-1, 2));
        let both = keys.map(|key| measurement(&keys, &key.validator, losses, &states).unwrap());
        assert_ne!(both[0].claim, both[1].claim);
        assert_eq!(both[0].witnesses, both[1].witnesses);
        assert_eq!(both[1].witnesses[1], witness(&both[1].claim));
        assert_eq!(measurement(&keys, &PublicKey::from_bytes([9; 32]), losses, &states), None);
    }

    #[test]
    fn a_witness_is_no_part_of_its_claim() {
        let claim = Hash::of(b"claim");
        assert_ne!(witness(&claim).to_le_bytes(), claim.as_bytes()[..8]);
        assert_ne!(witness(&claim), witness(&Hash::of(b"other")));
    }
}

//! Malachite's types for a ballot of a window: values are the ids of cuts, reveal sets and records, and voting power is
//! stake. Signatures are empty, because the votes were verified before.

use std::fmt;
use std::time::Duration;

use arc_malachitebft_core_types as malachite;
use malachite::{NilOrVal, Round, SignedExtension, Timeout, VoteType, VotingPower};
use templar_manifest::{Hash, PublicKey};

/// The types of one ballot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ballots;

/// The key of a validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Address(pub(crate) PublicKey);

/// The number of a ballot among all of a run: three for each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Height(pub(crate) u64);

/// The id of a cut, reveal set or record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value(pub(crate) Hash);

/// A vote as Malachite reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) step: VoteType,
    pub(crate) value: NilOrVal<Hash>,
    pub(crate) voter: Address,
}

/// A proposal as Malachite reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: Value,
    pub(crate) polka: Round,
    pub(crate) proposer: Address,
}

/// No proposal comes in parts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part;

/// A validator and its stake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validator {
    pub(crate) address: Address,
    pub(crate) stake: u64,
}

/// The validators of the run, sorted by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validators(pub(crate) Vec<Validator>);

/// The test says itself when a time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct NoClock;

/// Nothing is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsigned;

impl malachite::Context for Ballots {
    type Address = Address;
    type Height = Height;
    type ProposalPart = Part;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = Validators;
    type Timeouts = NoClock;
    type Value = Value;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Unsigned;

    /// Never asked: the test names the proposer of every round.
    fn select_proposer<'a>(&self, validators: &'a Validators, height: Height, round: Round) -> &'a Validator {
        let turn = height.0 + u64::from(round.as_u32().unwrap_or(0));
        &validators.0[(turn % validators.0.len() as u64) as usize]
    }

    fn new_proposal(&self, height: Height, round: Round, value: Value, polka: Round, proposer: Address) -> Proposal {
        Proposal { height, round, value, polka, proposer }
    }

    fn new_prevote(&self, height: Height, round: Round, value: NilOrVal<Hash>, voter: Address) -> Vote {
        Vote { height, round, step: VoteType::Prevote, value, voter }
    }

    fn new_precommit(&self, height: Height, round: Round, value: NilOrVal<Hash>, voter: Address) -> Vote {
        Vote { height, round, step: VoteType::Precommit, value, voter }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl malachite::Address for Address {}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(0);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0 + n)
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl malachite::Value for Value {
    type Id = Hash;

    fn id(&self) -> Hash {
        self.0
    }
}

impl malachite::Vote<Ballots> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Hash> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Hash> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.step
    }

    fn validator_address(&self) -> &Address {
        &self.voter
    }

    fn extension(&self) -> Option<&SignedExtension<Ballots>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Ballots>> {
        None
    }

    fn extend(self, _: SignedExtension<Ballots>) -> Self {
        self
    }
}

impl malachite::Proposal<Ballots> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Value {
        &self.value
    }

    fn take_value(self) -> Value {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.polka
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

impl malachite::ProposalPart<Ballots> for Part {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

impl malachite::Validator<Ballots> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &() {
        &()
    }

    fn voting_power(&self) -> VotingPower {
        self.stake
    }
}

impl malachite::ValidatorSet<Ballots> for Validators {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.0.iter().map(|validator| validator.stake).sum()
    }

    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.0.iter().find(|validator| validator.address == *address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.0.get(index)
    }
}

impl malachite::Timeouts<Ballots> for NoClock {
    fn duration_for(&self, _: Timeout) -> Duration {
        Duration::ZERO
    }
}

impl malachite::SigningScheme for Unsigned {
    type DecodingError = fmt::Error;
    type Signature = ();
    type PublicKey = ();
    type PrivateKey = ();

    fn decode_signature(_: &[u8]) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn encode_signature((): &()) -> Vec<u8> {
        Vec::new()
    }

    fn decode_public_key(_: &[u8]) -> Result<(), fmt::Error> {
        Ok(())
    }

    fn encode_public_key((): &()) -> Vec<u8> {
        Vec::new()
    }
}

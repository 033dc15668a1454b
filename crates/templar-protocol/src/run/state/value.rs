//! The values of the state's entries, as bytes.
//!
//! A value is a row of 32-byte keys and hashes and of eight-byte numbers, little-endian, signed ones in two's
//! complement. A list has the number of its elements before it, and yes or no is 1 or 0.

use std::collections::BTreeSet;
use std::sync::Arc;

use templar_manifest::{Hash, PublicKey, WindowIndex};

use crate::gauntlet::Standing;
use crate::run::draw::PagesDrawn;
use crate::run::measurements::Measurements;
use crate::run::members::{Anchor, Member};
use crate::run::pending::Pending;
use crate::run::{Parent, Told, Tried};

/// The value of an entry, as the state holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum StateValue<'a> {
    Account(u64),
    Anchor(&'a Anchor),
    Chain(WindowIndex, &'a Hash),
    Contribution(ContributionFacts<'a>),
    DeltaBody(WindowIndex, &'a PublicKey),
    Draw(&'a PagesDrawn),
    FormerNode(&'a PublicKey, WindowIndex),
    Grant(u64),
    Measured(MeasuredFacts<'a>),
    Measurements(MeasurementsFacts<'a>),
    Member(&'a Member),
    /// The key alone says everything.
    Nothing,
    Pages([u64; 3]),
    Parent(&'a Parent),
    Pending(PendingFacts<'a>),
    Prices([u64; 2]),
    Run(&'a Told),
    Seed(&'a Hash),
    Standing(&'a Standing),
    Strike(WindowIndex),
    Supply([u64; 3]),
}

/// A closed window for which verdicts still count. Most of them do not change from one state to the next, so
/// the states share them and are compared quickly.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingFacts<'a>(pub(super) &'a Arc<Pending>);

impl PartialEq for PendingFacts<'_> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.0, other.0) || self.bytes() == other.bytes()
    }
}

/// A contribution of such a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct ContributionFacts<'a> {
    pub(super) pending: &'a Arc<Pending>,
    pub(super) miner: &'a PublicKey,
}

impl PartialEq for ContributionFacts<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.miner == other.miner && (Arc::ptr_eq(self.pending, other.pending) || self.bytes() == other.bytes())
    }
}

/// The window before, whose measurements may be contested.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeasurementsFacts<'a>(pub(super) &'a Arc<Measurements>);

impl PartialEq for MeasurementsFacts<'_> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.0, other.0) || self.bytes() == other.bytes()
    }
}

/// A measurement of that window.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeasuredFacts<'a> {
    pub(super) measurements: &'a Arc<Measurements>,
    pub(super) miner: &'a PublicKey,
}

impl PartialEq for MeasuredFacts<'_> {
    fn eq(&self, other: &Self) -> bool {
        let is_same = Arc::ptr_eq(self.measurements, other.measurements);
        self.miner == other.miner && (is_same || self.bytes() == other.bytes())
    }
}

/// Bytes of a value while they are written.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn signed(mut self, number: i64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn flag(self, is_so: bool) -> Self {
        self.number(is_so.into())
    }

    fn hash(mut self, hash: &Hash) -> Self {
        self.0.extend_from_slice(hash.as_bytes());
        self
    }

    fn key(mut self, key: &PublicKey) -> Self {
        self.0.extend_from_slice(key.as_bytes());
        self
    }

    fn numbers(self, numbers: &[u64]) -> Self {
        let counted = self.number(numbers.len() as u64);
        numbers.iter().fold(counted, |writer, number| writer.number(*number))
    }

    fn keys<'k>(self, keys: impl ExactSizeIterator<Item = &'k PublicKey>) -> Self {
        let counted = self.number(keys.len() as u64);
        keys.fold(counted, Self::key)
    }
}

impl MeasurementsFacts<'_> {
    /// The checkpoint that the window started from, its seed, and the unassigned pages that were measured on.
    fn bytes(&self) -> Vec<u8> {
        let Measurements { checkpoint, seed, unassigned, .. } = &**self.0;
        Writer::default().hash(&checkpoint.hash()).hash(seed).numbers(unassigned).0
    }
}

impl MeasuredFacts<'_> {
    /// Id of the contribution; the validators that were drawn to measure it; its assigned pages that were measured
    /// on; whether the trial step was taken, then the losses (assigned before and after, unassigned before and after)
    /// and the witnesses; the counted scores that say so, each as validator and id.
    fn bytes(&self) -> Vec<u8> {
        let Self { measurements, miner } = *self;
        let Some(said) = measurements.of.get(miner) else { return Vec::new() };
        let writer = Writer::default().hash(&said.id.hash()).keys(said.evaluators.iter()).numbers(&said.assigned);
        let writer = match &said.stated {
            Tried::Untried | Tried::Unavailable => writer.flag(false),
            Tried::Measured { losses, witnesses } => {
                let losses = [
                    losses.assigned_before_nanonats,
                    losses.assigned_after_nanonats,
                    losses.unassigned_before_nanonats,
                    losses.unassigned_after_nanonats,
                ];
                losses.into_iter().fold(writer.flag(true), Writer::number).numbers(witnesses)
            }
        };
        let writer = writer.number(said.by.len() as u64);
        said.by.iter().fold(writer, |writer, (validator, score)| writer.key(validator).hash(&score.hash())).0
    }
}

impl PendingFacts<'_> {
    /// The checkpoint that the window started from, the id of its cut, its seed, and its reveals, each as validator
    /// and value.
    fn bytes(&self) -> Vec<u8> {
        let judged = &self.0.judged;
        let writer = Writer::default().hash(&self.0.checkpoint.hash()).hash(&judged.cut_id.hash());
        let writer = writer.hash(&judged.seed).number(judged.reveals.len() as u64);
        let reveals = judged.reveals.iter();
        reveals.fold(writer, |writer, reveal| writer.key(&reveal.validator).hash(&reveal.value)).0
    }
}

impl ContributionFacts<'_> {
    /// Id of the contribution; whether it was accepted, refuted, and ever challenged; the validators drawn for
    /// it, and those whose verdicts are counted; the challenge that is open (none is 0; else 1, the window whose
    /// record listed it first, and the validators that cannot fetch the bytes); its pages in training order.
    fn bytes(&self) -> Vec<u8> {
        let Self { pending, miner } = *self;
        let contribution = pending.contribution(miner).unwrap_or_default();
        let of_miner = (*miner, PublicKey::from_bytes([0; 32]))..=(*miner, PublicKey::from_bytes([255; 32]));
        let landed: BTreeSet<&PublicKey> = pending.landed.range(of_miner).map(|(_, validator)| validator).collect();
        let drawn = pending.judged.replayers_of(miner);
        let writer = Writer::default()
            .hash(&contribution.hash())
            .flag(pending.accepted.contains(miner))
            .flag(pending.refuted.contains(miner))
            .flag(pending.challenged.contains(miner))
            .keys(drawn.iter())
            .keys(landed.into_iter());
        let writer = match pending.challenges.get(miner) {
            None => writer.flag(false),
            Some(open) => writer.flag(true).number(open.since.0).keys(open.unanswered.iter()),
        };
        let pages = pending.pages.get(miner).map_or(&[][..], Vec::as_slice);
        writer.numbers(pages).0
    }
}

impl StateValue<'_> {
    /// The value as bytes, in the order of `manifests/README.md`.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let writer = Writer::default();
        match *self {
            Self::Account(number) | Self::Grant(number) => writer.number(number),
            Self::Anchor(anchor) => writer.hash(&anchor.seed),
            Self::Chain(window, value) => writer.number(window.0).hash(value),
            Self::Contribution(facts) => return facts.bytes(),
            Self::DeltaBody(window, miner) => writer.number(window.0).key(miner),
            Self::Draw(drawn) => writer.hash(&drawn.seed).number(drawn.pages),
            Self::FormerNode(owner, window) => writer.key(owner).number(window.0),
            Self::Measured(facts) => return facts.bytes(),
            Self::Measurements(facts) => return facts.bytes(),
            Self::Member(member) => {
                let writer = writer.key(&member.owner).key(&member.node);
                let writer = writer.number(member.since.0).number(member.anchor.0).number(member.merit_nanos);
                writer.number(member.idle_since.0)
            }
            Self::Nothing => writer,
            Self::Pages(numbers) | Self::Supply(numbers) => numbers.into_iter().fold(writer, Writer::number),
            Self::Parent(last) => writer.hash(&last.contribution.hash()).hash(&last.state_out.hash()),
            Self::Pending(facts) => return facts.bytes(),
            Self::Prices(numbers) => numbers.into_iter().fold(writer, Writer::number),
            Self::Run(told) => writer.hash(&told.zero_state.hash()).number(told.training_tokens),
            Self::Seed(seed) => writer.hash(seed),
            Self::Standing(standing) => {
                let rating = standing.rating;
                let writer = writer.signed(rating.mu_picos).number(rating.sigma_picos).signed(standing.proof_nanos);
                let histories = [standing.missing, standing.withheld, standing.negative];
                let writer = histories.iter().fold(writer, |writer, history| writer.number(history.bits().into()));
                writer.number(standing.excluded_until.0).number(standing.factor_nanos)
            }
            Self::Strike(window) => writer.number(window.0),
        }
        .0
    }
}

//! From one window to the next: a closed window with everything that its record names, and the state after it.
//!
//! [`RunState::advance`] recomputes the record from its parts before it believes a field of it, so folding closed
//! windows is the same as auditing them as far as that needs no tensors.

use std::collections::BTreeMap;

use templar_manifest::envelope::signed_bytes;
use templar_manifest::{
    Contribution, Cut, CutId, Envelope, Genesis, Hash, Inbox, InboxId, Kind, Payload, PublicKey, RecordId,
    Registration, RunId, Score, ScoreId, Signature, Signed, Vote, VoteOn, VoteStep, WindowIndex, WindowRecord,
    page_count, payload,
};

use super::close::{Stepped, accepted};
use super::difference::{RecordField, first_difference};
use super::{CutError, Judging, JudgingError, Parent, RunState, ScoreError, Shared};
use crate::entry::{Entry, RevealEntry};
use crate::gauntlet::Standings;
use crate::stake;

/// Why a record is not the one of the open window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvanceError {
    /// The inboxes make no cut.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// The cut or record has another id than it is said to have.
    #[error("{0} does not have the id it is said to have")]
    Id(Kind),
    /// The cut is not what its inboxes give.
    #[error("cut {0} is not what its inboxes give")]
    CutDiffers(CutId),
    /// The record is of another cut.
    #[error("record is of another cut than {0}")]
    OtherCut(CutId),
    /// A contribution or registration is not signed by the node key that may.
    #[error("{kind} of {owner} is not signed by its node key")]
    Signer {
        /// What.
        kind: Kind,
        /// Whose.
        owner: String,
    },
    /// Contributions, registrations or reveals do not fit.
    #[error(transparent)]
    Judging(#[from] JudgingError),
    /// A score does not recompute.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// Two scores of one validator.
    #[error("two scores of validator {0}")]
    TwoScores(String),
    /// Scores of two thirds of the stake or less.
    #[error("scores of {stake} of the stake of {total}, more than two thirds are needed")]
    NoQuorum {
        /// Their stake.
        stake: u64,
        /// The stake of all.
        total: u64,
    },
    /// The first field of the record that is not what its parts give.
    #[error("record does not recompute: {0} differs")]
    Differs(RecordField),
    /// Signatures of two thirds of the stake or less, or one that does not verify.
    #[error("{0} is not certified by more than two thirds of the stake")]
    NotCertified(Kind),
}

/// What makes a cut or record final: votes of more than two thirds of the stake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteCertificate {
    /// The attempt in which it was agreed on. Nothing follows from it.
    pub attempt: u32,
    /// A validator that signed the cut or record itself, so that it could travel.
    pub publisher: Witness,
    /// The signatures under the precommit for it, by signer.
    pub witnesses: Vec<Witness>,
}

impl VoteCertificate {
    /// The payload that the witnesses have signed.
    pub fn vote<T: Payload>(&self, run: RunId, window: WindowIndex, on: VoteOn, body: &T) -> Vote {
        let value = Some(payload::id_of(body));
        Vote { run, window, on, attempt: self.attempt, step: VoteStep::Precommit, value }
    }

    /// Verifies every signature, and that they are enough.
    fn check<T: Payload>(
        &self,
        genesis: &Genesis,
        run: RunId,
        window: WindowIndex,
        on: VoteOn,
        body: &T,
    ) -> Result<(), AdvanceError> {
        let vote = self.vote(run, window, on, body);
        let valid = is_signed(body, &self.publisher) && self.witnesses.iter().all(|witness| is_signed(&vote, witness));
        let publisher = genesis.validator(&self.publisher.signer);
        if valid
            && publisher.is_some()
            && stake::is_quorum(genesis, self.witnesses.iter().map(|witness| &witness.signer))
        {
            return Ok(());
        }
        Err(AdvanceError::NotCertified(T::KIND))
    }
}

fn is_signed<T: Payload>(payload: &T, witness: &Witness) -> bool {
    let bytes = signed_bytes(T::KIND, T::VERSION, payload.run(), &payload::id_of(payload));
    witness.signer.verify(&bytes, &witness.signature).is_ok()
}

/// One signature beside a payload that is kept elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// Who signed.
    pub signer: PublicKey,
    /// The signature.
    pub signature: Signature,
}

/// A window that is closed, with everything that its record names.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedWindow {
    /// The record's id.
    pub record: RecordId,
    /// The record.
    pub window: WindowRecord,
    /// The cut.
    pub cut: Cut,
    /// The inboxes that the cut names, in its order.
    pub inboxes: Vec<Signed<Inbox>>,
    /// The contributions that the cut names, in its order.
    pub contributions: Vec<Signed<Contribution>>,
    /// The registrations that the cut names, in its order.
    pub registrations: Vec<Signed<Registration>>,
    /// The scores that the record names, in its order.
    pub scores: Vec<Signed<Score>>,
    /// What certifies the cut.
    pub cut_certificate: VoteCertificate,
    /// What certifies the record.
    pub record_certificate: VoteCertificate,
}

impl ClosedWindow {
    /// Verifies the signatures under cut and record.
    pub fn check_certificates(&self, genesis: &Genesis) -> Result<(), AdvanceError> {
        let (run, window) = (self.window.run, self.window.window);
        self.cut_certificate.check(genesis, run, window, VoteOn::Cut, &self.cut)?;
        self.record_certificate.check(genesis, run, window, VoteOn::Window, &self.window)
    }

    /// The entries that close this window in any node that has the window before, in an order in which each can be
    /// checked when it comes.
    pub fn entries(&self) -> Vec<Entry> {
        let (run, window) = (self.window.run, self.window.window);
        let reveals =
            self.window.reveals.iter().map(|reveal| {
                Entry::Reveal(RevealEntry { run, window, validator: reveal.validator, value: reveal.value })
            });
        let mut entries: Vec<Entry> = Vec::new();
        entries.extend(self.contributions.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(self.registrations.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(self.inboxes.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(witnessed(&self.cut, &[self.cut_certificate.publisher]));
        let vote = self.cut_certificate.vote(run, window, VoteOn::Cut, &self.cut);
        entries.extend(witnessed(&vote, &self.cut_certificate.witnesses));
        entries.extend(reveals);
        entries.extend(self.scores.iter().map(|signed| Entry::Envelope(signed.envelope())));
        entries.extend(witnessed(&self.window, &[self.record_certificate.publisher]));
        let vote = self.record_certificate.vote(run, window, VoteOn::Window, &self.window);
        entries.extend(witnessed(&vote, &self.record_certificate.witnesses));
        entries
    }
}

fn witnessed<T: Payload>(body: &T, witnesses: &[Witness]) -> Vec<Entry> {
    let payload = payload::encode(body);
    let witnesses = witnesses.iter();
    witnesses
        .map(|&Witness { signer, signature }| Envelope { payload: payload.clone(), signer, signature })
        .map(Entry::Envelope)
        .collect()
}

impl RunState {
    /// Recomputes the record of the open window from the scores that it counts, with its own account of the outer step,
    /// which only tensors can tell. The scores must have passed [`RunState::check_score`].
    pub fn check_record(
        &self,
        judging: &Judging,
        scores: &[&Score],
        record: &WindowRecord,
    ) -> Result<(), AdvanceError> {
        compare(&self.close(judging, scores, Stepped::of(record))?, record)
    }

    /// The same of scores by their ids, with what others who share this state and judging have worked out.
    pub(crate) fn shared_check_record(
        &self,
        judging: &Judging,
        scores: &[(ScoreId, &Score)],
        record: &WindowRecord,
    ) -> Result<(), AdvanceError> {
        compare(&self.shared_close(judging, scores, Stepped::of(record))?.record, record)
    }

    /// Checks a closed window against this state, all but its signatures and tensors, and returns what was judged.
    pub fn check_closed(&self, closed: &ClosedWindow) -> Result<Judging, AdvanceError> {
        let record = &closed.window;
        if closed.record.hash() != payload::id_of(record) {
            return Err(AdvanceError::Id(Kind::Window));
        }
        let cut_id = CutId::new(payload::id_of(&closed.cut));
        if record.cut != cut_id {
            return Err(AdvanceError::OtherCut(cut_id));
        }
        let inboxes: Vec<(InboxId, &Inbox)> =
            closed.inboxes.iter().map(|inbox| (inbox.id().into(), inbox.payload())).collect();
        if self.cut(&inboxes)? != closed.cut {
            return Err(AdvanceError::CutDiffers(cut_id));
        }
        let judging = self.judging_of(closed)?;
        self.check_signers(closed)?;
        let scores: Vec<&Score> = closed.scores.iter().map(Signed::payload).collect();
        for score in &scores {
            self.check_score(&judging, score)?;
        }
        self.check_record(&judging, &scores, record)?;
        Ok(judging)
    }

    /// Whether contributions are signed by the node keys of their miners, and registrations by those that they name.
    fn check_signers(&self, closed: &ClosedWindow) -> Result<(), AdvanceError> {
        for signed in &closed.contributions {
            let owner = &signed.payload().miner;
            if self.members.by_owner(owner).is_none_or(|member| member.node != signed.signer()) {
                return Err(AdvanceError::Signer { kind: Kind::Contribution, owner: owner.short() });
            }
        }
        for signed in &closed.registrations {
            let certificate = &signed.payload().certificate;
            if certificate.node != signed.signer() {
                return Err(AdvanceError::Signer { kind: Kind::Registration, owner: certificate.owner.short() });
            }
        }
        Ok(())
    }

    /// Moves on to the next window. Where the closed window does not recompute, nothing changes.
    pub fn advance(&mut self, closed: &ClosedWindow) -> Result<(), AdvanceError> {
        let judging = self.check_closed(closed)?;
        let (record, scores) = (&closed.window, closed.scores.iter().map(Signed::payload).collect::<Vec<_>>());
        let standings = self.settled(&judging, &scores, &record.outcomes, &record.slashes);
        self.follow(closed, judging, standings);
        Ok(())
    }

    /// The same for whoever has looked at all of it, entry by entry, and worked the record out for itself.
    pub(crate) fn advance_by(&mut self, closed: &ClosedWindow, judging: &Judging) -> Result<(), AdvanceError> {
        let scores: Vec<(ScoreId, &Score)> =
            closed.scores.iter().map(|score| (score.id().into(), score.payload())).collect();
        let closing = self.shared_close(judging, &scores, Stepped::of(&closed.window))?;
        compare(&closing.record, &closed.window)?;
        if closing.id != closed.record {
            return Err(AdvanceError::Id(Kind::Window));
        }
        self.follow(closed, judging.clone(), closing.standings.clone());
        Ok(())
    }

    /// Moves on by a record that is right.
    fn follow(&mut self, closed: &ClosedWindow, judging: Judging, standings: Standings) {
        let record = &closed.window;
        let (_, pages) = self.take_pages();
        let scores: Vec<&Score> = closed.scores.iter().map(Signed::payload).collect();
        self.standings = standings;
        self.remember_bodies(&scores);
        for outcome in accepted(&record.outcomes) {
            if let Some(contribution) = judging.contributions().get(&outcome.miner) {
                let parent = Parent { contribution: outcome.contribution, state_out: contribution.state_out };
                self.parents.insert(outcome.miner, parent);
            }
        }
        for reveal in &record.reveals {
            self.chains.insert(reveal.validator, (self.window, reveal.value));
        }
        self.ledger.settle(self.window, &record.slashes, &record.mints);
        let decided = self.decided(&judging, &record.weights, &record.slashes);
        self.ledger.spend(&decided.burns);
        let challenged = self.challenged(&scores, &self.refuted(&scores));
        self.remember_slashes(&record.slashes);
        self.remember_replays(judging, &record.outcomes, &scores, &challenged);
        for owner in &decided.replaced {
            // Its account stays, and what has not vested goes on vesting. Should it come back, it begins anew.
            self.parents.remove(owner);
            for miners in self.standings.values_mut() {
                miners.remove(owner);
            }
        }
        self.remember_nodes(decided.members);
        self.pages = pages;
        let length = |window: WindowIndex| self.genesis.context_at(window.0).sequence_length;
        let next = length(self.window.next());
        if next != length(self.window) {
            // Other sequences are other pages, so which of them were used says nothing.
            self.pages.begin(page_count(self.training_tokens, next));
        }
        self.reset_states();
        self.seed = record.seed;
        self.checkpoint = record.checkpoint;
        self.record = Some(closed.record);
        self.window = self.window.next();
        self.shared = Shared::default();
    }

    /// Forgets the states of those whose turn it is to begin the next window from zero state, contribute in it or not. Nobody's
    /// certainty is lost by it, since there is nothing that they could have gone on from.
    fn reset_states(&mut self) {
        let (every, next) = (self.genesis.state_reset_every, self.window.next().0);
        for member in self.members.iter().filter(|_| every > 0) {
            if (next + u64::from(member.slot)).is_multiple_of(every) {
                self.parents.remove(&member.owner);
            }
        }
    }

    /// Remembers the bodies on which validators with more than half of the stake agree, and forgets old ones. A body that
    /// is known stays whose it was.
    fn remember_bodies(&mut self, scores: &[&Score]) {
        let mut support = BTreeMap::<(PublicKey, Hash), u64>::new();
        for score in scores {
            let stake = stake::stake_of(&self.genesis, [&score.validator]);
            for entry in &score.entries {
                if let Some(body) = entry.body {
                    *support.entry((entry.miner, body)).or_default() += stake;
                }
            }
        }
        let whole = u128::from(self.genesis.total_stake());
        let memory = self.genesis.gauntlet.copy_memory_windows;
        self.bodies.retain(|_, (window, _)| self.window.0 - window.0 < memory);
        for ((miner, body), stake) in support {
            if u128::from(stake) * 2 > whole && memory > 0 {
                self.bodies.entry(body).or_insert((self.window, miner));
            }
        }
    }
}

/// Whether a record is what recomputing it gives.
fn compare(own: &WindowRecord, record: &WindowRecord) -> Result<(), AdvanceError> {
    first_difference(own, record).map_or(Ok(()), |field| Err(AdvanceError::Differs(field)))
}

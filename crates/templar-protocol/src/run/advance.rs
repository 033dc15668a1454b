//! From one window to the next: checks a closed window and computes the state after it.
//!
//! [`RunState::advance`] recomputes the record from its parts before it believes any field of it. So folding
//! closed windows is the same as auditing them, except for what needs tensors.

use std::collections::BTreeMap;
use std::sync::Arc;

use templar_manifest::{
    CutId, Hash, Inbox, InboxId, Kind, PublicKey, Score, ScoreId, Signed, WindowBody, WindowIndex, WindowRecord,
    page_count, payload,
};

use super::challenges::Challenged;
use super::closed::{AdvanceError, ClosedWindow};
use super::closing::{OwnRecord, Stepped, accepted};
use super::difference::first_difference;
use super::judge::JudgingError;
use super::judging::Judging;
use super::members::Decided;
use super::{Parent, RunState, SharedWork};
use crate::gauntlet::Standings;
use crate::ledger::Ledger;
use crate::stake;

/// Decisions of a closing window that its body states only in part.
pub(super) struct Decisions {
    /// The ledger after the window.
    pub(super) ledger: Ledger,
    /// The members of the next window, and who lost its slot.
    pub(super) decided: Decided,
    /// The state of the challenges.
    pub(super) challenged: Challenged,
    /// The standings of the members after the assessment.
    pub(super) standings: Standings,
}

impl RunState {
    /// Recomputes the record of the open window from the scores that it counts, each with its id. The outer step and
    /// what it refutes are taken from the record, since only tensors can tell them. The scores must have passed
    /// [`RunState::check_score`]. Nodes at this state share the result.
    ///
    /// # Errors
    /// [`AdvanceError::Differs`] with the first field that differs, or the reason for which there is no record.
    pub(crate) fn shared_check_record(
        &self,
        judging: &Judging,
        scores: &[(ScoreId, &Score)],
        record: &WindowRecord,
    ) -> Result<(), AdvanceError> {
        compare(&self.shared_close(judging, scores, &record.body.refuted, Stepped::of(record))?.record, record)
    }

    /// The judging of a closed window, which must be the next one after this state.
    pub fn judging_of(&self, closed: &ClosedWindow) -> Result<Judging, JudgingError> {
        let contributions = closed.contributions.iter().map(Signed::payload);
        let registrations = closed.registrations.iter().map(Signed::payload);
        self.judging(&closed.cut, contributions, registrations, closed.window.body.reveals.clone())
    }

    /// Checks a closed window against this state, except for its signatures and tensors. Returns its record, computed
    /// anew, and the state after it.
    fn checked(&self, closed: &ClosedWindow) -> Result<OwnRecord<Self>, AdvanceError> {
        let record = &closed.window;
        if closed.record != record.id() {
            return Err(AdvanceError::Id(Kind::Window));
        }
        let cut_id = CutId::new(payload::id_of(&closed.cut));
        if record.body.cut != cut_id {
            return Err(AdvanceError::OtherCut(cut_id));
        }
        let inboxes: Vec<(InboxId, &Inbox)> =
            closed.inboxes.iter().map(|inbox| (inbox.id().into(), inbox.payload())).collect();
        if self.cut(&inboxes)? != closed.cut {
            return Err(AdvanceError::CutDiffers(cut_id));
        }
        let judging = self.judging_of(closed)?;
        self.check_signers(closed)?;
        let scores: Vec<(ScoreId, &Score)> =
            closed.scores.iter().map(|score| (score.id().into(), score.payload())).collect();
        let refuted = closed.refuted.iter().map(|score| (score.id().into(), score.payload()));
        let all: Vec<(ScoreId, &Score)> = scores.iter().copied().chain(refuted).collect();
        for (_, score) in &all {
            self.check_score(&judging, score)?;
        }
        for refuted in &record.body.refuted {
            let score = all.iter().find(|(id, _)| *id == refuted.score).map(|(_, score)| *score);
            self.check_refuted(refuted, score, &scores)?;
        }
        let own = self.close_with(&judging, &scores, &record.body.refuted, Stepped::of(record))?;
        compare(&own.record, record)?;
        Ok(own)
    }

    /// Checks that contributions are signed by the node keys of their miners, and registrations by the node
    /// keys that they name.
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

    /// Moves on to the next window.
    ///
    /// # Errors
    /// [`AdvanceError`], and nothing changes, where the closed window does not recompute.
    pub fn advance(&mut self, closed: &ClosedWindow) -> Result<(), AdvanceError> {
        let own = self.checked(closed)?;
        *self = Arc::unwrap_or_clone(own.next);
        Ok(())
    }

    /// The state after a closed window, for a node that has checked every entry of the window. All who share
    /// this state and judging share the result.
    pub(crate) fn after(&self, closed: &ClosedWindow, judging: &Judging) -> Result<Arc<Self>, AdvanceError> {
        let scores: Vec<(ScoreId, &Score)> =
            closed.scores.iter().map(|score| (score.id().into(), score.payload())).collect();
        let record = &closed.window;
        let own = self.shared_close(judging, &scores, &record.body.refuted, Stepped::of(record))?;
        compare(&own.record, &closed.window)?;
        if own.id != closed.record {
            return Err(AdvanceError::Id(Kind::Window));
        }
        Ok(own.next.clone())
    }

    /// Moves on to the next window but for its tree, checkpoint and record.
    pub(super) fn follow(&mut self, judging: &Judging, scores: &[&Score], body: &WindowBody, decisions: Decisions) {
        let Decisions { ledger, decided, challenged, standings } = decisions;
        let (_, pages) = self.take_pages();
        self.standings = standings;
        self.reset_slashed_standings(&body.slashes);
        self.remember_bodies(scores);
        for outcome in accepted(&body.outcomes) {
            if let Some(contribution) = judging.contributions().get(&outcome.miner) {
                let parent = Parent { contribution: outcome.contribution, state_out: contribution.state_out };
                self.contributed.parents.insert(outcome.miner, parent);
            }
        }
        for reveal in &body.reveals {
            self.chains.insert(reveal.validator, (self.window, reveal.value));
        }
        self.ledger = ledger;
        self.remember_slashes(&body.slashes);
        self.remember_replays(judging, &body.outcomes, scores, &challenged);
        let named: Vec<(ScoreId, &Score)> = body.scores.iter().copied().zip(scores.iter().copied()).collect();
        self.remember_measurements(judging, &named);
        for owner in &decided.replaced {
            // The account of a replaced member stays and goes on vesting. Should the owner come back, it begins
            // anew.
            self.contributed.parents.remove(owner);
            self.standings.remove(owner);
        }
        self.remember_nodes(decided.members);
        self.pages = pages;
        let length = |window: WindowIndex| self.genesis.context_at(window.0).sequence_length;
        let next = length(self.window.next());
        if next != length(self.window) {
            // Pages of another length are other pages, so a new epoch begins with all of them.
            self.pages.begin(page_count(self.told.training_tokens, next));
        }
        self.reset_states();
        self.seed = body.seed;
        self.window = self.window.next();
        self.shared = SharedWork::default();
    }

    /// Forgets the states of the members whose turn it is to begin the next window from zero state, whether
    /// they contribute to it or not. Their ratings lose no certainty by it, since there is no state that they
    /// could have gone on from.
    fn reset_states(&mut self) {
        let (every, next) = (self.genesis.state_reset_every, self.window.next().0);
        for member in self.members.iter().filter(|_| every > 0) {
            if (next + u64::from(member.slot)).is_multiple_of(every) {
                self.contributed.parents.remove(&member.owner);
            }
        }
    }

    /// Remembers the bodies of deltas on which validators with more than half of the stake agree, and forgets
    /// old ones. A body that is known already stays its first miner's.
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
        self.contributed.bodies.retain(|_, (window, _)| self.window.0 - window.0 < memory);
        for ((miner, body), stake) in support {
            if u128::from(stake) * 2 > whole && memory > 0 {
                self.contributed.bodies.entry(body).or_insert((self.window, miner));
            }
        }
    }
}

/// Checks that a record is the one that this node computed.
fn compare(own: &WindowRecord, record: &WindowRecord) -> Result<(), AdvanceError> {
    first_difference(own, record).map_or(Ok(()), |field| Err(AdvanceError::Differs(field)))
}

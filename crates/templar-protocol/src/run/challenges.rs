//! Challenges: what happens when the bytes that a replay needs cannot be fetched.
//!
//! A replay after the record needs the contribution's delta and trace and the state before it. Only the miner
//! has that state. If withholding it had no consequence, every cheating miner would withhold it. So:
//!
//! 1. A validator that was *drawn* to replay a contribution and cannot fetch the bytes says `withheld` in its
//!    score. That opens a challenge, which the record lists. Only drawn validators can open one, and a score
//!    opens at most [`MAX_CHALLENGES`](templar_manifest::MAX_CHALLENGES).
//! 2. In the following windows *every* validator searches for the bytes, and says `withheld` in its score as
//!    long as it cannot fetch them. A validator that has them serves them to others. The last counted answer of
//!    each validator holds.
//! 3. The challenge ends when `challenge_windows` windows have closed since the first record that listed it. If
//!    validators with more than half of *all* stake say `withheld` then, the challenge is unanswered and the
//!    miner pays as for a mismatch. Otherwise nothing follows. It ends earlier if no validator says `withheld`
//!    any more, or if a replay has refuted the contribution.
//! 4. A drawn validator may give its verdict on a challenged contribution for `challenge_windows` windows
//!    longer than on others, since the bytes may have come late.
//!
//! # A minority can neither slash nor shield
//!
//! Suppose that validators with less than a third of the stake lie.
//!
//! *They cannot slash an honest miner.* A miner that serves its state serves it to every honest validator. Then
//! less than a third says `withheld`, which is not more than half. This is why all validators answer and not
//! only the drawn ones: of few drawn validators all may be liars.
//!
//! *They cannot shield a cheating one.* A miner that serves no honest validator has more than two thirds
//! against it, once their scores were counted. An answer holds even when a later record does not count its
//! validator's score, so one sixth of the stake may be absent all the time. A false match by a liar ends
//! nothing: it is one validator that does not say `withheld`. And a miner that serves some honest validators
//! has served all, since these pass the bytes on.
//!
//! # The cost
//!
//! An unanswered challenge costs as much as a mismatch: all unvested pay, the standing, and the state, from
//! which the miner cannot go on. If it cost less, a miner that is about to be caught would withhold instead. It
//! also counts as a mismatch towards expulsion. Otherwise a cheat would have twice the lives on which genesis'
//! price of a slot is calculated.
//!
//! A lost disk does not end an honest miner. The first time costs no slot, and all contributions from before it
//! was recorded count as one time. The miner goes on from zero state, which everybody has. A node that finds
//! itself challenged derives its state again if it has lost it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{Challenge, PublicKey, Score, WindowIndex};

use super::RunState;
use super::pending::{OpenChallenge, Pending};
use super::replay::ReplayTask;
use crate::stake;

/// Contributions of closed windows, by window and miner.
type Deeds = BTreeSet<(WindowIndex, PublicKey)>;

/// The state of the challenges after a window.
pub(super) struct Challenged {
    /// The challenges that are open after the window.
    pub(super) open: BTreeMap<(WindowIndex, PublicKey), OpenChallenge>,
    /// The contributions whose challenge ended without an answer.
    pub(super) unanswered: Deeds,
}

impl RunState {
    /// The last window whose scores may answer a challenge first listed in the record of `since`.
    fn answer_deadline(&self, since: WindowIndex) -> WindowIndex {
        WindowIndex(since.0.saturating_add(self.genesis.replay.challenge_windows))
    }

    fn open_challenges(&self) -> BTreeMap<(WindowIndex, PublicKey), OpenChallenge> {
        let of = |(window, pending): (&WindowIndex, &Arc<Pending>)| {
            let window = *window;
            let open = pending.challenges.iter().map(move |(miner, open)| ((window, *miner), open.clone()));
            open.collect::<Vec<_>>()
        };
        self.contributed.pending.iter().flat_map(of).collect()
    }

    /// The open challenges, sorted by window, then miner, each with the last window whose scores may answer it.
    pub fn challenges(&self) -> Vec<(Challenge, WindowIndex)> {
        let open = self.open_challenges();
        let listed = self.listed(&open);
        listed.into_iter().map(|challenge| (challenge, self.answer_deadline(challenge.since))).collect()
    }

    /// The challenges in the form in which a record lists them.
    pub(super) fn listed(&self, open: &BTreeMap<(WindowIndex, PublicKey), OpenChallenge>) -> Vec<Challenge> {
        let of = |(&(window, miner), open): (&(WindowIndex, PublicKey), &OpenChallenge)| {
            let contribution = self.contributed.pending.get(&window)?.contribution(&miner)?;
            Some(Challenge { window, miner, contribution, since: open.since })
        };
        open.iter().filter_map(of).collect()
    }

    /// The challenged contributions whose bytes a validator should search for although it was not drawn for
    /// them.
    pub(super) fn tasks_to_look_for(&self, validator: &PublicKey) -> Vec<ReplayTask> {
        let open = self.open_challenges().into_keys();
        let others =
            open.filter(|(window, miner)| self.late_replayers(*window, miner).binary_search(validator).is_err());
        others.filter_map(|(window, miner)| self.late_task(window, &miner)).collect()
    }

    /// The number of challenges that a score opens.
    pub(super) fn opens(&self, score: &Score) -> usize {
        let is_open = |window: &WindowIndex, miner: &PublicKey| {
            self.contributed.pending.get(window).is_some_and(|pending| pending.challenges.contains_key(miner))
        };
        let challenges = score.verdicts.iter().filter(|verdict| verdict.is_challenge());
        challenges.filter(|verdict| !is_open(&verdict.window, &verdict.miner)).count()
    }

    /// The state of the challenges when the open window closes with these scores, which refute the
    /// contributions in `refuted`.
    pub(super) fn challenged(&self, scores: &[&Score], refuted: &Deeds) -> Challenged {
        let mut open = self.open_challenges();
        for score in scores {
            for open in open.values_mut() {
                open.unanswered.remove(&score.validator);
            }
            for verdict in score.verdicts.iter().filter(|verdict| verdict.is_challenge()) {
                let new = || OpenChallenge { since: self.window, unanswered: BTreeSet::new() };
                let open = open.entry((verdict.window, verdict.miner)).or_insert_with(new);
                open.unanswered.insert(score.validator);
            }
        }
        open.retain(|deed, open| !open.unanswered.is_empty() && !refuted.contains(deed));
        let total = u128::from(self.genesis.total_stake());
        let (mut over, mut unanswered) = (Deeds::new(), Deeds::new());
        for (deed, open) in &open {
            if self.window < self.answer_deadline(open.since) {
                continue;
            }
            over.insert(*deed);
            if u128::from(stake::stake_of(&self.genesis, &open.unanswered)) * 2 > total {
                unanswered.insert(*deed);
            }
        }
        open.retain(|deed, _| !over.contains(deed));
        Challenged { open, unanswered }
    }

    /// Takes over the challenges that are open now, and marks the contributions of unanswered ones as refuted.
    pub(super) fn remember_challenges(&mut self, challenged: &Challenged) {
        for (window, pending) in &mut self.contributed.pending {
            let nobody = PublicKey::from_bytes([0; 32]);
            let open = challenged.open.range((*window, nobody)..(window.next(), nobody));
            let open: BTreeMap<PublicKey, OpenChallenge> =
                open.map(|((_, miner), open)| (*miner, open.clone())).collect();
            let unanswered = challenged.unanswered.range((*window, nobody)..(window.next(), nobody));
            let unanswered: Vec<PublicKey> = unanswered.map(|(_, miner)| *miner).collect();
            if unanswered.is_empty() && open == pending.challenges {
                continue;
            }
            let pending = Arc::make_mut(pending);
            pending.challenged.extend(open.keys().copied());
            pending.challenges = open;
            pending.refuted.extend(unanswered);
        }
    }
}

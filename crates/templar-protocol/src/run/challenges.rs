//! Challenges: what cannot be replayed because it is not to be had, and what that costs.
//!
//! A replay after the record needs the contribution's delta and trace and the state before it, and only the
//! miner has that state. Were it no fault to keep it, whoever cheats would keep it. So:
//!
//! 1. A validator that was *drawn* to replay a contribution, and cannot get what that takes, says `withheld` in
//!    its score. That opens a challenge, which the record lists. Nobody else can open one, and a score opens at
//!    most [`MAX_CHALLENGES`](templar_manifest::MAX_CHALLENGES).
//! 2. In the windows that follow *every* validator looks for it, and says `withheld` in its score as long as it
//!    finds it nowhere; whoever finds it serves it from then on, also to those who were drawn. A validator's
//!    last counted word holds.
//! 3. When `challenge_windows` windows have closed since the record that listed it first, the challenge is
//!    over. Where validators with more than half of *all* stake say `withheld`, nobody has answered: the miner
//!    loses what a mismatch costs. Else nothing follows. It is over sooner where nobody says `withheld` any
//!    more, or a replay has refuted the contribution.
//! 4. Who was drawn may say what its replay gave of a contribution that was challenged until
//!    `challenge_windows` after the deadline of other verdicts, since what it takes may have come late.
//!
//! # Why a minority can neither burn nor shield
//!
//! Let validators with less than a third of the stake lie. A miner that serves its state serves it to every
//! honest one, so less than a third says `withheld`, and that is not more than half: those who were drawn
//! decide nothing by themselves, since with few draws they may all be liars. A miner that serves nobody honest
//! has more than two thirds against it, as soon as their scores were counted once, and the word that a score
//! gave holds where a later record leaves its validator's out: one sixth of the stake may be away all the time.
//! A match by a liar ends nothing; it is one validator that does not say `withheld`. And who serves some honest
//! validators has served all, since these serve it.
//!
//! # What it costs
//!
//! What a mismatch does: all that has not vested, the standing, and the state, from which nobody goes on. Less,
//! and whoever is about to be caught would withhold instead. And it counts as a mismatch where another follows
//! soon, or a cheat would have twice the lives that genesis' price of a slot is for. A lost disk ends nobody:
//! the first time costs no slot, all contributions from before it was recorded are one time, and the miner goes
//! on from zero state, which everybody has. A node that finds itself challenged derives the state again where
//! it has lost it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{Challenge, PublicKey, Score, WindowIndex};

use super::RunState;
use super::pending::{OpenChallenge, Pending};
use super::replay::ReplayTask;
use crate::stake;

/// Contributions of closed windows, by window and miner.
type Deeds = BTreeSet<(WindowIndex, PublicKey)>;

/// What becomes of the challenges when a window closes.
pub(super) struct Challenged {
    /// Those that are open after it.
    pub(super) open: BTreeMap<(WindowIndex, PublicKey), OpenChallenge>,
    /// Those that nobody has answered in time.
    pub(super) unanswered: Deeds,
}

impl RunState {
    /// The last window in whose scores a challenge can be answered that the record of `since` was the first to list.
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

    /// The challenges that are open before the open window, with the last window in whose scores each can be
    /// answered. Sorted by window, then miner.
    pub fn challenges(&self) -> Vec<(Challenge, WindowIndex)> {
        let open = self.open_challenges();
        let listed = self.listed(&open);
        listed.into_iter().map(|challenge| (challenge, self.answer_deadline(challenge.since))).collect()
    }

    /// As a record lists them.
    pub(super) fn listed(&self, open: &BTreeMap<(WindowIndex, PublicKey), OpenChallenge>) -> Vec<Challenge> {
        let of = |(&(window, miner), open): (&(WindowIndex, PublicKey), &OpenChallenge)| {
            let contribution = self.contributed.pending.get(&window)?.contribution(&miner)?;
            Some(Challenge { window, miner, contribution, since: open.since })
        };
        open.iter().filter_map(of).collect()
    }

    /// The contributions of others' draws that a validator should look for, because they are challenged.
    pub(super) fn tasks_to_look_for(&self, validator: &PublicKey) -> Vec<ReplayTask> {
        let open = self.open_challenges().into_keys();
        let others =
            open.filter(|(window, miner)| self.late_replayers(*window, miner).binary_search(validator).is_err());
        others.filter_map(|(window, miner)| self.late_task(window, &miner)).collect()
    }

    /// How many challenges a score opens.
    pub(super) fn opens(&self, score: &Score) -> usize {
        let is_open = |window: &WindowIndex, miner: &PublicKey| {
            self.contributed.pending.get(window).is_some_and(|pending| pending.challenges.contains_key(miner))
        };
        let challenges = score.verdicts.iter().filter(|verdict| verdict.is_challenge());
        challenges.filter(|verdict| !is_open(&verdict.window, &verdict.miner)).count()
    }

    /// What becomes of the challenges when the open window closes with these scores, which refute these
    /// contributions.
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

    /// Takes over the challenges that are open now; who has not answered one in time is refuted.
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

//! Where validators contradict each other, or a refusal stands alone: what this node must replay before it
//! counts a score or signs a record, and whose scores it does not count.
//!
//! A refusal is confirmed by everybody who has not found it, but that a delta was withheld, which is no fact
//! about bytes. A match is believed while nobody contradicts it: matches of one contribution carry the claims
//! of all who were drawn, in short, so that a claim without a replay contradicts every claim with one. Then
//! everybody replays that contribution, and everybody comes to the same scores.
//!
//! Before the record a match also contradicts another who was drawn and could not have the delta, the trace or
//! the state: whoever has replayed has them and serves them. Where this node cannot have them either, it does
//! not count the match, so that one liar does not shield a miner that keeps its state.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{ContributionId, PublicKey, Refusal, Replay, ReplayProof, Score, ScoreId, WindowIndex};

use super::Node;
use super::messages::{Dispute, Output, Subject};
use crate::run::Judging;

/// What stands between a node and a set of scores.
#[derive(Default)]
pub(super) struct Rechecks {
    /// What must be replayed first.
    pub(super) open: Vec<Output>,
    /// Validators whose scores this node does not count.
    pub(super) disputed: BTreeSet<PublicKey>,
    /// Why.
    pub(super) disputes: Vec<Output>,
}

/// What one score says of a contribution.
#[derive(Clone, Copy)]
struct ScoredReplay<'a> {
    validator: PublicKey,
    replay: &'a Replay,
    proof: Option<&'a ReplayProof>,
}

/// What this node found of a contribution; of a match with the witnesses of all who were drawn, where they are
/// of this seed.
struct OwnReplay<'a> {
    replay: &'a Replay,
    witnesses: Option<&'a [u64]>,
}

/// A contribution by its window, miner and id.
type About = (WindowIndex, PublicKey, ContributionId);

/// What scores say of contributions that they replayed or refuse, as far as somebody wants to know of them.
fn statements<'a>(
    scores: &[(ScoreId, &'a Score)],
    is_wanted: impl Fn(&About) -> bool,
) -> BTreeMap<About, Vec<ScoredReplay<'a>>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for (_, score) in scores {
        let mut add = |of, replay: &'a Replay, proof: &'a Option<ReplayProof>| {
            if *replay != Replay::NotDrawn && is_wanted(&of) {
                let said = ScoredReplay { validator: score.validator, replay, proof: proof.as_ref() };
                found.entry(of).or_default().push(said);
            }
        };
        for entry in &score.entries {
            add((score.window, entry.miner, entry.contribution), &entry.replay, &entry.proof);
        }
        for verdict in &score.verdicts {
            add((verdict.window, verdict.miner, verdict.contribution), &verdict.replay, &verdict.proof);
        }
    }
    found
}

/// Whether matches contradict each other, or a match something that blobs show, or a match the word of another
/// of `drawn` that what a replay takes is not to be had.
fn contradict(said: &[ScoredReplay<'_>], drawn: &[PublicKey]) -> bool {
    let mut witnesses = said.iter().filter_map(|said| said.proof).map(|proof| &proof.witnesses);
    let Some(first) = witnesses.next() else { return false };
    witnesses.any(|other| other != first)
        || said.iter().any(|said| matches!(said.replay, Replay::Refused(refusal) if refusal.is_in_blobs()))
        || is_sought(said, drawn)
}

/// Whether one of `drawn` could not have what a replay takes.
fn is_sought(said: &[ScoredReplay<'_>], drawn: &[PublicKey]) -> bool {
    let withheld = Replay::Refused(Refusal::Withheld);
    said.iter().any(|said| *said.replay == withheld && drawn.binary_search(&said.validator).is_ok())
}

/// The contributions that a score refuses for any reason, or about which scores contradict each other.
fn contested(scores: &[(ScoreId, &Score)]) -> BTreeSet<About> {
    let is_contested = |said: &[ScoredReplay<'_>]| {
        contradict(said, &[]) || said.iter().any(|said| matches!(said.replay, Replay::Refused(_)))
    };
    statements(scores, |_| true).into_iter().filter(|(_, said)| is_contested(said)).map(|(of, _)| of).collect()
}

impl Node {
    /// Holds what other validators say against each other, and against what this node knows.
    pub(super) fn rechecks(
        &self,
        me: &PublicKey,
        judging: &Judging,
        scores: &[(ScoreId, &Score)],
        attempt: u32,
    ) -> Rechecks {
        let mut rechecks = Rechecks::default();
        let contested = judging.contested(scores, contested);
        let mut own = self.open.scores.iter().filter(|(_, score)| score.signer() == *me);
        // What is not contested, this node's own score agrees with, where it is among these and its only one.
        let is_counted = own.all(|(id, _)| scores.iter().any(|(counted, _)| counted == id));
        if is_counted && contested.is_empty() && self.open.own.confirmed.is_empty() {
            return rechecks;
        }
        let confirmed = self.open.own.confirmed.keys().map(|subject| (subject.window, subject.miner));
        let confirmed: BTreeSet<(WindowIndex, PublicKey)> = confirmed.collect();
        let is_wanted = |of: &About| !is_counted || contested.contains(of) || confirmed.contains(&(of.0, of.1));
        for ((window, miner, _), said) in statements(scores, is_wanted) {
            let subject = Subject { seed: judging.seed(), window, miner };
            let mut asked = false;
            for said in said.iter().filter(|said| said.validator != *me) {
                let Replay::Refused(claimed) = said.replay else { continue };
                if *claimed == Refusal::Withheld {
                    continue;
                }
                match self.finding(me, &subject, true, attempt) {
                    None if asked => {}
                    None => {
                        asked = true;
                        rechecks.open.extend(self.confirm(judging, subject, Some(claimed.clone())));
                    }
                    Some(found) if found.replay == said.replay => {}
                    Some(found) => {
                        rechecks.disputed.insert(said.validator);
                        rechecks.disputes.push(Output::Dispute(Dispute::Refusal {
                            validator: said.validator,
                            miner,
                            claimed: claimed.clone(),
                            found: found.replay.clone(),
                        }));
                    }
                }
            }
            let found = self.finding(me, &subject, false, attempt);
            // After the record it is for a challenge to say whether the state is to be had.
            let drawn = judging.replayers().get(&miner).filter(|_| window == self.state.window());
            let drawn = drawn.map_or(&[][..], Vec::as_slice);
            if found.is_none() && contradict(&said, drawn) && !asked {
                rechecks.open.extend(self.confirm(judging, subject, None));
            }
            let Some(found) = found else { continue };
            for one in said.iter().filter(|one| one.validator != *me) {
                let Some(proof) = one.proof else { continue };
                let holds = match (found.replay, found.witnesses) {
                    // Whoever replays has all that it takes, and serves it.
                    (Replay::Refused(Refusal::Withheld), _) => !is_sought(&said, drawn),
                    (Replay::Match, Some(witnesses)) => proof.witnesses == witnesses,
                    (Replay::Refused(refusal), _) => !refusal.is_in_blobs(),
                    (Replay::Match | Replay::NotDrawn, _) => true,
                };
                if !holds {
                    rechecks.disputed.insert(one.validator);
                    let validator = one.validator;
                    rechecks.disputes.push(Output::Dispute(Dispute::Proof { validator, window, miner }));
                }
            }
        }
        rechecks
    }

    fn confirm(&self, judging: &Judging, subject: Subject, claimed: Option<Refusal>) -> Option<Output> {
        let task = if subject.window == self.state.window() {
            self.state.replay_task(judging, &subject.miner)
        } else {
            self.state.late_task(subject.window, &subject.miner)
        };
        Some(Output::Confirm { window: self.state.window(), subject, task: Box::new(task?), claimed })
    }

    /// What this node found out about a contribution, where it is enough to judge another's reason
    /// (`is_reason`), or another's proof. That it could not have the bytes, in its own judging or in an earlier
    /// attempt, says nothing.
    fn finding(&self, me: &PublicKey, subject: &Subject, is_reason: bool, attempt: u32) -> Option<OwnReplay<'_>> {
        let withheld = Replay::Refused(Refusal::Withheld);
        if let Some(confirmed) = self.open.own.confirmed.get(subject) {
            let found = OwnReplay { replay: &confirmed.replay, witnesses: Some(&confirmed.witnesses[..]) };
            return Some(found).filter(|found| *found.replay != withheld || confirmed.attempt >= attempt);
        }
        let is_late = subject.window != self.state.window();
        for score in self.open.scores.values().filter(|score| score.signer() == *me) {
            let score = score.payload();
            let said = if is_late {
                let of = (subject.window, subject.miner);
                let found = score.verdicts.binary_search_by_key(&of, |verdict| (verdict.window, verdict.miner));
                found.ok().map(|index| (&score.verdicts[index].replay, &score.verdicts[index].proof))
            } else {
                let found = score.entries.binary_search_by_key(&subject.miner, |entry| entry.miner);
                found.ok().map(|index| (&score.entries[index].replay, &score.entries[index].proof))
            };
            let is_of_seed = is_late || score.seed == subject.seed;
            let Some((replay, proof)) = said else { continue };
            let enough = match replay {
                Replay::NotDrawn | Replay::Refused(Refusal::Withheld) => false,
                Replay::Match => is_reason || is_of_seed,
                Replay::Refused(_) => true,
            };
            if enough {
                let proof = proof.as_ref().filter(|_| is_of_seed);
                return Some(OwnReplay { replay, witnesses: proof.map(|proof| &proof.witnesses[..]) });
            }
        }
        None
    }
}

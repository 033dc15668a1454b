//! Rechecks: which contributions of others this node must replay itself before it counts a score or signs a
//! record, and whose scores it does not count.
//!
//! Each validator rechecks, by replay, any refusal that it did not find itself. The exception is `withheld`,
//! which no bytes can prove.
//!
//! A match is believed while nobody contradicts it. The matches of one contribution carry the claims of all
//! drawn validators in short form, so a claim without a replay contradicts every claim with one. If there is a
//! contradiction, every validator replays that contribution, and all honest ones come to the same scores.
//!
//! Before the record, a match also contradicts a drawn validator that could not fetch the delta, the trace or
//! the state: a validator that has replayed has these bytes and serves them. If this node cannot fetch them
//! either, it does not count the match. So one liar cannot shield a miner that withholds its state.
//!
//! Measurements are rechecked likewise (`remeasures.rs`), and contests of measurements (`contests.rs`).

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{
    ContributionId, PublicKey, Refusal, Refuted, Replay, ReplayProof, Score, ScoreId, Statement, WindowIndex,
};

use super::Node;
use super::messages::{Dispute, Output, Subject};
use crate::run::Judging;

/// The result of rechecking a set of scores.
#[derive(Default)]
pub(super) struct Rechecks {
    /// The replays that must be done first.
    pub(super) open: Vec<Output>,
    /// The scores that this node does not count.
    pub(super) disputed: BTreeSet<ScoreId>,
    /// The differences for which it does not count them.
    pub(super) disputes: Vec<Output>,
    /// The statements of others that this node has found false.
    pub(super) refuted: BTreeSet<Refuted>,
}

/// The statement of one score about one contribution.
#[derive(Clone, Copy)]
struct ScoredReplay<'a> {
    validator: PublicKey,
    score: ScoreId,
    replay: &'a Replay,
    proof: Option<&'a ReplayProof>,
}

/// This node's own finding about a contribution. For a match it has the witnesses of all drawn validators, if
/// they are of this seed.
struct OwnReplay<'a> {
    replay: &'a Replay,
    witnesses: Option<&'a [u64]>,
}

/// A contribution about which scores must be compared, and their statements about it.
struct ContestedCase<'a> {
    me: &'a PublicKey,
    judging: &'a Judging,
    subject: Subject,
    said: &'a [ScoredReplay<'a>],
    /// The attempt to agree on the record.
    attempt: u32,
}

impl<'a> ContestedCase<'a> {
    /// What a record says of this statement where it refutes it.
    fn refuted(&self, said: &ScoredReplay<'_>) -> Refuted {
        let Subject { window, miner, .. } = self.subject;
        Refuted { validator: said.validator, score: said.score, window, miner, statement: Statement::Replay }
    }

    fn said_by_others(&self) -> impl Iterator<Item = &'a ScoredReplay<'a>> {
        let me = *self.me;
        self.said.iter().filter(move |said| said.validator != me)
    }
}

/// A contribution by its window, miner and id.
type About = (WindowIndex, PublicKey, ContributionId);

/// The statements of scores about contributions that they replayed or refuse, by contribution, as far as they
/// are wanted.
fn statements<'a>(
    scores: &[(ScoreId, &'a Score)],
    is_wanted: impl Fn(&About) -> bool,
) -> BTreeMap<About, Vec<ScoredReplay<'a>>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for (id, score) in scores {
        let mut add = |of, replay: &'a Replay, proof: &'a Option<ReplayProof>| {
            if *replay != Replay::NotDrawn && is_wanted(&of) {
                let said = ScoredReplay { validator: score.validator, score: *id, replay, proof: proof.as_ref() };
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

/// Whether statements contradict each other: two matches, or a match and a refusal that blobs show, or a match
/// and a validator of `drawn` that could not fetch the bytes.
fn contradict(said: &[ScoredReplay<'_>], drawn: &[PublicKey]) -> bool {
    let mut witnesses = said.iter().filter_map(|said| said.proof).map(|proof| &proof.witnesses);
    let Some(first) = witnesses.next() else { return false };
    witnesses.any(|other| other != first)
        || said.iter().any(|said| matches!(said.replay, Replay::Refused(refusal) if refusal.is_in_blobs()))
        || is_sought(said, drawn)
}

/// Whether one of `drawn` could not fetch the bytes that a replay needs.
fn is_sought(said: &[ScoredReplay<'_>], drawn: &[PublicKey]) -> bool {
    let withheld = Replay::Refused(Refusal::Withheld);
    said.iter().any(|said| *said.replay == withheld && drawn.binary_search(&said.validator).is_ok())
}

/// The contributions that some score refuses for any reason, or about which scores contradict each other.
fn contested(scores: &[(ScoreId, &Score)]) -> BTreeSet<About> {
    let is_contested = |said: &[ScoredReplay<'_>]| {
        contradict(said, &[]) || said.iter().any(|said| matches!(said.replay, Replay::Refused(_)))
    };
    statements(scores, |_| true).into_iter().filter(|(_, said)| is_contested(said)).map(|(of, _)| of).collect()
}

impl Node {
    /// Whether every score that this node has of `me` is among `scores`.
    pub(super) fn is_among(&self, me: &PublicKey, scores: &[(ScoreId, &Score)]) -> bool {
        let mut own = self.open.scores.iter().filter(|(_, score)| score.signer() == *me);
        own.all(|(id, _)| scores.iter().any(|(counted, _)| counted == id))
    }

    /// Compares the statements of other validators, about replays and measurements, with each other and with this
    /// node's own findings.
    pub(super) fn rechecks(
        &self,
        me: &PublicKey,
        judging: &Judging,
        scores: &[(ScoreId, &Score)],
        attempt: u32,
    ) -> Rechecks {
        let mut rechecks = self.remeasures(me, judging, scores, attempt);
        self.recheck_contests(judging, scores, attempt, &mut rechecks);
        let contested = judging.contested(scores, contested);
        // If nothing is contested, this node's own score agrees with the others, provided that it is among them
        // and its only one.
        let is_counted = self.is_among(me, scores);
        if is_counted && contested.is_empty() && self.open.own.confirmed.is_empty() {
            return rechecks;
        }
        let confirmed = self.open.own.confirmed.keys().map(|subject| (subject.window, subject.miner));
        let confirmed: BTreeSet<(WindowIndex, PublicKey)> = confirmed.collect();
        let is_wanted = |of: &About| !is_counted || contested.contains(of) || confirmed.contains(&(of.0, of.1));
        for ((window, miner, _), said) in statements(scores, is_wanted) {
            let subject = Subject { seed: judging.seed(), window, miner };
            let case = ContestedCase { me, judging, subject, said: &said, attempt };
            let is_asked = self.recheck_refusals(&case, &mut rechecks);
            self.recheck_matches(&case, is_asked, &mut rechecks);
        }
        rechecks
    }

    /// Compares the refusals of others with this node's own finding. Where it has none it must replay the
    /// contribution first, and one replay answers all refusals. Returns whether it must.
    fn recheck_refusals(&self, case: &ContestedCase<'_>, rechecks: &mut Rechecks) -> bool {
        let mut is_asked = false;
        for said in case.said_by_others() {
            let Replay::Refused(claimed) = said.replay else { continue };
            // Nobody can confirm or refute that bytes could not be fetched.
            if *claimed == Refusal::Withheld {
                continue;
            }
            match self.finding(case, true) {
                None if is_asked => {}
                None => {
                    is_asked = true;
                    rechecks.open.extend(self.confirm(case, Some(claimed.clone())));
                }
                Some(found) if found.replay == said.replay => {}
                Some(found) => {
                    rechecks.disputed.insert(said.score);
                    // Of two reasons to refuse, one may be the mistake of a driver, and both refuse.
                    if *found.replay == Replay::Match {
                        rechecks.refuted.insert(case.refuted(said));
                    }
                    rechecks.disputes.push(Output::Dispute(Dispute::Refusal {
                        validator: said.validator,
                        miner: case.subject.miner,
                        claimed: claimed.clone(),
                        found: found.replay.clone(),
                    }));
                }
            }
        }
        is_asked
    }

    /// Compares the matches of others with this node's own finding. Where it has none and something contradicts
    /// a match, it must replay the contribution first, unless it is asked to already.
    fn recheck_matches(&self, case: &ContestedCase<'_>, is_asked: bool, rechecks: &mut Rechecks) {
        let Subject { window, miner, .. } = case.subject;
        // After the record, a challenge decides whether the state can be fetched.
        let drawn = case.judging.replayers().get(&miner).filter(|_| window == self.state.window());
        let drawn = drawn.map_or(&[][..], Vec::as_slice);
        let Some(found) = self.finding(case, false) else {
            if contradict(case.said, drawn) && !is_asked {
                rechecks.open.extend(self.confirm(case, None));
            }
            return;
        };
        for said in case.said_by_others() {
            let Some(proof) = said.proof else { continue };
            let holds = match (found.replay, found.witnesses) {
                // A validator that replays has all the bytes and serves them.
                (Replay::Refused(Refusal::Withheld), _) => !is_sought(case.said, drawn),
                (Replay::Match, Some(witnesses)) => proof.witnesses == witnesses,
                (Replay::Refused(refusal), _) => !refusal.is_in_blobs(),
                (Replay::Match | Replay::NotDrawn, _) => true,
            };
            if !holds {
                rechecks.disputed.insert(said.score);
                if *found.replay != Replay::Refused(Refusal::Withheld) {
                    rechecks.refuted.insert(case.refuted(said));
                }
                let validator = said.validator;
                rechecks.disputes.push(Output::Dispute(Dispute::Proof { validator, window, miner }));
            }
        }
    }

    /// The output that asks for this node's own replay.
    fn confirm(&self, case: &ContestedCase<'_>, claimed: Option<Refusal>) -> Option<Output> {
        let subject = case.subject;
        let task = if subject.window == self.state.window() {
            self.state.replay_task(case.judging, &subject.miner)
        } else {
            self.state.late_task(subject.window, &subject.miner)
        };
        Some(Output::Confirm { window: self.state.window(), subject, task: Box::new(task?), claimed })
    }

    /// This node's own finding about a contribution, if it is enough to judge another validator's refusal
    /// (`is_reason`) or proof. That this node could not fetch the bytes, in its own judging or in an earlier
    /// attempt, proves nothing.
    fn finding(&self, case: &ContestedCase<'_>, is_reason: bool) -> Option<OwnReplay<'_>> {
        let ContestedCase { me, subject, attempt, .. } = *case;
        let withheld = Replay::Refused(Refusal::Withheld);
        if let Some(confirmed) = self.open.own.confirmed.get(&subject) {
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

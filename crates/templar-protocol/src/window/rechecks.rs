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
//! # How far
//!
//! Two statements about a contribution differ first at one leaf of its trace. A refusal and a match differ at the leaf
//! that the refusal names. Two matches differ at the first drawn step for which they have another witness. A replay up to
//! that leaf finds at least one of the two false, and what comes behind it decides nothing. So a recheck replays as far
//! as the last of the leaves at which any two statements first differ. It cannot begin later than at the start, because
//! nobody publishes the states between.
//!
//! For example, an accuser that names the first of 64 steps costs everybody one step instead of 64. One that names a
//! step at random costs half of a window. A false claim costs three quarters on average, since the drawn steps lie in the
//! second half. Statements about delta, state and loss after the last step cost the whole window, as does a match
//! beside a validator that could not fetch the bytes.
//!
//! Whoever replays all of it and whoever replays a part of it refute the same statements: a refusal is refuted if the
//! replay agrees with the miner at the leaf that it names, whatever comes later.
//!
//! Before the record, a match also contradicts a drawn validator that could not fetch the delta, the trace or
//! the state: a validator that has replayed has these bytes and serves them. If this node cannot fetch them
//! either, it does not count the match. So one liar cannot shield a miner that withholds its state.
//!
//! Measurements are rechecked likewise (`remeasures.rs`), and contests of measurements (`contests.rs`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{
    ContributionId, PublicKey, Refusal, Refuted, Replay, ReplayProof, Score, ScoreId, Statement, WindowIndex,
};

use super::Node;
use super::messages::{Dispute, Output, Subject};
use super::open::Confirmed;
use crate::run::Judging;
use crate::run::replay::ReplayTask;

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
    witnesses: Option<Cow<'a, [Option<u64>]>>,
}

impl OwnReplay<'_> {
    /// Whether the witnesses of another validator are those that this node knows.
    fn agrees(&self, proof: &ReplayProof) -> bool {
        let same = |(own, said): (&Option<u64>, &u64)| own.is_none_or(|own| own == *said);
        let agrees =
            |own: &[Option<u64>]| own.len() == proof.witnesses.len() && own.iter().zip(&proof.witnesses).all(same);
        self.witnesses.as_deref().is_none_or(agrees)
    }
}

/// How far a replay got before it refused, or `None` where no bytes say so: 0 where it did not begin, else one more than
/// the leaf that it names. A match got further than any.
fn progress(replay: &Replay) -> Option<u64> {
    match replay {
        Replay::Match => Some(u64::MAX),
        Replay::Refused(Refusal::Mismatch { step, .. }) => Some(u64::from(*step) + 1),
        Replay::Refused(Refusal::Malformed { .. } | Refusal::WrongClaim { .. }) => Some(0),
        Replay::Refused(Refusal::Withheld | Refusal::NotReplayed) | Replay::NotDrawn => None,
    }
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

    /// The last of the leaves at which two statements first differ, or at which one refuses. The draws of the `whole` task
    /// are those of the witnesses. `None` where only the whole window decides.
    fn last_difference(&self, whole: &ReplayTask, is_sought: bool) -> Option<u32> {
        if is_sought {
            return None;
        }
        let refusals = self.said_by_others().filter_map(|said| match said.replay {
            Replay::Refused(Refusal::Withheld) | Replay::Match | Replay::NotDrawn => None,
            refused => progress(refused).map(|progress| progress.saturating_sub(1)),
        });
        let steps = whole.contribution.steps;
        let proofs = || self.said.iter().filter_map(|said| said.proof).map(|proof| &proof.witnesses);
        let claims = proofs().flat_map(|one| proofs().map(move |other| (one, other))).filter_map(|(one, other)| {
            let differs = whole.draws.iter().zip(one.iter().zip(other)).filter(|(_, (one, other))| one != other);
            differs.map(|(draw, _)| draw.step(steps)).min()
        });
        let last = refusals.chain(claims.map(u64::from)).max().unwrap_or_default();
        u32::try_from(last).ok().filter(|last| *last <= steps)
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
                    // Both may refuse. Only what the replay has passed is known to be false.
                    let (own, claim) = (progress(found.replay), progress(said.replay));
                    if own.zip(claim).is_some_and(|(own, claim)| own > claim) {
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
        let drawn = self.drawn_before_the_record(case);
        let Some(found) = self.finding(case, false) else {
            if contradict(case.said, drawn) && !is_asked {
                rechecks.open.extend(self.confirm(case, None));
            }
            return;
        };
        for said in case.said_by_others() {
            let Some(proof) = said.proof else { continue };
            let holds = match found.replay {
                // A validator that replays has all the bytes and serves them.
                Replay::Refused(Refusal::Withheld) => !is_sought(case.said, drawn),
                Replay::Refused(refusal) => !refusal.is_in_blobs(),
                Replay::Match => found.agrees(proof),
                Replay::NotDrawn => true,
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
        let (window, subject) = (self.state.window(), case.subject);
        let whole = self.whole_task(case)?;
        let last = case.last_difference(&whole, is_sought(case.said, self.drawn_before_the_record(case)));
        let task = Box::new(last.map_or(whole.clone(), |leaf| whole.up_to(leaf)));
        Some(Output::Confirm { window, subject, task, claimed })
    }

    /// The task of replaying all of the contribution.
    fn whole_task(&self, case: &ContestedCase<'_>) -> Option<ReplayTask> {
        let Subject { window, miner, .. } = case.subject;
        if window == self.state.window() {
            self.state.replay_task(case.judging, &miner)
        } else {
            self.state.late_task(window, &miner)
        }
    }

    /// The validators that were drawn for a contribution of the open window. After the record, a challenge decides
    /// whether the state can be fetched.
    fn drawn_before_the_record<'a>(&self, case: &ContestedCase<'a>) -> &'a [PublicKey] {
        let Subject { window, miner, .. } = case.subject;
        let drawn = case.judging.replayers().get(&miner).filter(|_| window == self.state.window());
        drawn.map_or(&[][..], Vec::as_slice)
    }

    /// Whether a replay up to this leaf decides everything that the statements differ about.
    fn is_far_enough(&self, case: &ContestedCase<'_>, upto: Option<u32>) -> bool {
        let Some(upto) = upto else { return true };
        let is_sought = is_sought(case.said, self.drawn_before_the_record(case));
        let last = self.whole_task(case).and_then(|whole| case.last_difference(&whole, is_sought));
        last.is_some_and(|last| last <= upto)
    }

    /// This node's own finding about a contribution, if it is enough to judge another validator's refusal
    /// (`is_reason`) or proof. That this node could not fetch the bytes, in its own judging or in an earlier
    /// attempt, proves nothing.
    fn finding(&self, case: &ContestedCase<'_>, is_reason: bool) -> Option<OwnReplay<'_>> {
        let ContestedCase { me, subject, attempt, .. } = *case;
        let withheld = Replay::Refused(Refusal::Withheld);
        let confirmed = self.open.own.confirmed.get(&subject);
        // A refusal is the end of a replay, however far it was to go.
        let decides =
            |confirmed: &&Confirmed| confirmed.replay != Replay::Match || self.is_far_enough(case, confirmed.upto);
        if let Some(confirmed) = confirmed.filter(decides) {
            let found = OwnReplay { replay: &confirmed.replay, witnesses: Some((&confirmed.witnesses[..]).into()) };
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
                let witnesses = proof.map(|proof| proof.witnesses.iter().copied().map(Some).collect());
                return Some(OwnReplay { replay, witnesses });
            }
        }
        None
    }
}

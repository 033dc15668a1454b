//! The judgements and documents of adversarial validators.

use std::collections::BTreeMap;

use templar_manifest::proof::{ProofDraw, prove};
use templar_manifest::{
    Cut, Evaluation, Hash, Inbox, InboxId, LateVerdict, Losses, PublicKey, Refusal, Replay, ReplayProof, ScoreEntry,
    Vote, VoteOn,
};
use templar_protocol::{EvaluationTask, JudgePlan, Judgement, Judging, ReplayTask, RunState, Unsigned};

use super::Strategy;
use crate::rng::SimRng;

/// The knowledge of a validator that reports a judgement.
pub(crate) struct JudgeView<'a> {
    /// The miner that it favours.
    pub(crate) favourite: PublicKey,
    /// The entries of another validator's score, if one has arrived.
    pub(crate) other: Option<&'a [ScoreEntry]>,
    /// The plan of its own judgement.
    pub(crate) plan: &'a JudgePlan,
    /// Whether it proposes the record of this window.
    pub(crate) is_proposer: bool,
    /// Whether an honest validator replays the favoured miner's contribution before the record.
    pub(crate) favourite_is_seen: bool,
    /// Tells whether a member is honest.
    pub(crate) is_honest: &'a dyn Fn(&PublicKey) -> bool,
}

/// The decision about a judgement.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judged {
    /// These entries are reported.
    Now(Vec<ScoreEntry>),
    /// Nothing is reported yet; the validator decides again later.
    Wait,
}

/// The entries that a validator with this strategy reports in place of the measured `entries`.
pub(crate) fn alter_judgement(
    strategy: Strategy,
    mut entries: Vec<ScoreEntry>,
    view: &JudgeView<'_>,
    rng: &mut SimRng,
) -> Judged {
    match strategy {
        Strategy::Favour => {
            for entry in entries.iter_mut().filter(|entry| entry.miner == view.favourite) {
                if let Evaluation::Measured(measured) = &mut entry.evaluation {
                    let Losses { unassigned_before_nanonats: before, unassigned_after_nanonats: after, .. } =
                        measured.losses;
                    let gain = before.saturating_sub(after);
                    measured.losses.unassigned_after_nanonats = before.saturating_sub(gain * 2);
                }
            }
        }
        Strategy::League => {
            let is_alone = |miner: &PublicKey| {
                let task = view.plan.evaluations.iter().find(|task| task.contribution.miner == *miner);
                task.is_some_and(|task| task.keys.iter().all(|key| !(view.is_honest)(&key.validator)))
            };
            for entry in entries.iter_mut().filter(|entry| is_alone(&entry.miner)) {
                let Evaluation::Measured(measured) = &mut entry.evaluation else { continue };
                let Losses { unassigned_before_nanonats: before, unassigned_after_nanonats: after, .. } =
                    measured.losses;
                let gain = before.saturating_sub(after);
                let told = if entry.miner == view.favourite { gain * 2 } else { gain / 2 };
                measured.losses.unassigned_after_nanonats = before.saturating_sub(told);
            }
        }
        Strategy::RandomScores => {
            for entry in &mut entries {
                if let Evaluation::Measured(measured) = &mut entry.evaluation {
                    let before = measured.losses.unassigned_before_nanonats;
                    measured.losses.unassigned_after_nanonats = before - rng.below(before / 50);
                }
            }
        }
        Strategy::Grind if !view.favourite_is_seen => {
            for entry in entries.iter_mut().filter(|entry| entry.miner == view.favourite) {
                (entry.replay, entry.proof) = unproven(&view.plan.draws, &view.favourite, None, &view.plan.validator);
            }
        }
        // The others would refuse a record that holds its false score, so it gives none when it proposes.
        Strategy::CopyScores | Strategy::SkipReplays if view.is_proposer => return Judged::Wait,
        Strategy::CopyScores => {
            let Some(other) = view.other else { return Judged::Wait };
            for (entry, copied) in entries.iter_mut().zip(other) {
                *entry = copied.clone();
                let miner = entry.miner;
                (entry.replay, entry.proof) =
                    unproven(&view.plan.draws, &miner, copied.proof.as_ref(), &view.plan.validator);
                let task = view.plan.evaluations.iter().find(|task| task.contribution.miner == miner);
                entry.evaluation = task.map_or(Evaluation::NotDrawn, |task| unmeasured(task, copied, view.plan));
            }
        }
        Strategy::SkipReplays => {
            for entry in entries.iter_mut().filter(|entry| view.plan.draws.contains_key(&entry.miner)) {
                let miner = entry.miner;
                (entry.replay, entry.proof) = unproven(&view.plan.draws, &miner, None, &view.plan.validator);
            }
        }
        Strategy::Accuse if view.is_proposer => {}
        Strategy::Accuse | Strategy::AccuseProposing => {
            for entry in &mut entries {
                if view.plan.draws.contains_key(&entry.miner) && (view.is_honest)(&entry.miner) {
                    let tensor = "model.norm.weight".to_owned();
                    entry.replay = Replay::Refused(Refusal::Mismatch { step: 1, tensor });
                    entry.proof = None;
                }
            }
        }
        _ => {}
    }
    Judged::Now(entries)
}

/// A measurement that was not made: the losses and witnesses of another score, or made-up ones where it has none.
/// The own claim is made up, with a witness that fits it: nobody can refute more than that without measuring.
fn unmeasured(task: &EvaluationTask, copied: &ScoreEntry, plan: &JudgePlan) -> Evaluation {
    let losses = copied.evaluation.losses().unwrap_or(Losses {
        assigned_before_nanonats: 7_000_000_000,
        assigned_after_nanonats: 6_900_000_000,
        unassigned_before_nanonats: 7_000_000_000,
        unassigned_after_nanonats: 6_910_000_000,
    });
    let states = Hash::of(plan.validator.as_bytes());
    let mut made_up = task.evaluation(&plan.validator, Some((losses, states)));
    if let (Evaluation::Measured(made_up), Some(copied)) = (&mut made_up, copied.evaluation.measurement()) {
        for ((key, witness), known) in task.keys.iter().zip(&mut made_up.witnesses).zip(&copied.witnesses) {
            if key.validator != plan.validator {
                *witness = *known;
            }
        }
    }
    made_up
}

/// A match without a replay, where a replay was drawn. Its proof copies the witnesses of another proof, and
/// makes up a claim that fits its own witness: nobody can refute more than that without a replay.
fn unproven(
    draws: &BTreeMap<PublicKey, Vec<ProofDraw>>,
    miner: &PublicKey,
    copied: Option<&ReplayProof>,
    me: &PublicKey,
) -> (Replay, Option<ReplayProof>) {
    let Some(draws) = draws.get(miner) else { return (Replay::NotDrawn, None) };
    let made_up = |draw: &ProofDraw| Hash::of(draw.validator.as_bytes());
    let claims: Vec<Hash> = draws.iter().map(made_up).collect();
    let mut proof = prove(draws, &claims, me);
    if let (Some(proof), Some(copied)) = (&mut proof, copied) {
        for (place, draw) in draws.iter().enumerate() {
            match copied.witnesses.get(place) {
                Some(known) if draw.validator != *me => proof.witnesses[place] = *known,
                _ => {}
            }
        }
    }
    (Replay::Match, proof)
}

/// Changes the verdicts on closed windows that a validator has from its replays.
pub(crate) fn alter_verdicts(
    strategy: Strategy,
    verdicts: &mut Vec<LateVerdict>,
    plan: &JudgePlan,
    favourite: &PublicKey,
    is_proposer: bool,
) {
    if strategy == Strategy::Grind {
        verdicts.retain(|verdict| verdict.miner != *favourite);
    }
    for verdict in verdicts {
        let of = |task: &&ReplayTask| task.window == verdict.window && task.id == verdict.contribution;
        let Some(task) = plan.late.iter().find(of) else { continue };
        match strategy {
            Strategy::CopyScores | Strategy::SkipReplays => {
                let claims: Vec<Hash> = task.draws.iter().map(|draw| Hash::of(draw.validator.as_bytes())).collect();
                *verdict = task.verdict(&plan.validator, Replay::Match, &claims);
            }
            Strategy::Accuse if is_proposer => {}
            Strategy::Accuse | Strategy::AccuseProposing => {
                let refusal = Refusal::Mismatch { step: 1, tensor: "model.norm.weight".to_owned() };
                *verdict = task.verdict(&plan.validator, Replay::Refused(refusal), &[]);
            }
            _ => {}
        }
    }
}

/// The knowledge of a validator that signs a document.
pub(crate) struct SignerView<'a> {
    pub(crate) state: &'a RunState,
    pub(crate) judging: Option<&'a Judging>,
    /// The inboxes that its node has accepted.
    pub(crate) inboxes: &'a [(InboxId, Inbox)],
    /// The second cut and the second record that it has proposed.
    pub(crate) rivals: &'a BTreeMap<VoteOn, Hash>,
}

/// A second document that contradicts the one that a validator is asked to sign; `None` where the strategy
/// signs no such document. Different salts give different documents.
pub(crate) fn second_document(
    strategy: Strategy,
    document: &Unsigned,
    known: &SignerView<'_>,
    salt: u64,
) -> Option<Unsigned> {
    let &SignerView { state, judging, inboxes, rivals } = known;
    let me_equivocates = matches!(strategy, Strategy::Equivocate | Strategy::Flood);
    match document {
        Unsigned::Inbox(inbox) if me_equivocates => {
            let mut other = inbox.clone();
            if other.contributions.is_empty() {
                return None;
            }
            let place = salt as usize % other.contributions.len();
            other.contributions.remove(place);
            Some(Unsigned::Inbox(other))
        }
        Unsigned::Score(score) if me_equivocates => {
            let mut entries = score.entries.clone();
            let measured = entries.iter_mut().find_map(|entry| match &mut entry.evaluation {
                Evaluation::Measured(measured) => Some(measured),
                Evaluation::NotDrawn | Evaluation::Untried => None,
            })?;
            let after = &mut measured.losses.unassigned_after_nanonats;
            *after = after.saturating_sub(1 + salt);
            let (verdicts, evidence) = (score.verdicts.clone(), score.evidence.clone());
            let contests = score.contests.clone();
            state
                .score(judging?, &score.validator, Judgement { entries, verdicts, evidence, contests })
                .ok()
                .map(Unsigned::Score)
        }
        Unsigned::Vote(vote) if me_equivocates => {
            let value = Some(Hash::of(format!("{salt} {:?}", vote.value).as_bytes()));
            Some(Unsigned::Vote(Vote { value, ..*vote }))
        }
        // A vote for what it proposed to the other members.
        Unsigned::Vote(vote) => {
            let value = Some(*rivals.get(&vote.on)?);
            Some(Unsigned::Vote(Vote { value, ..*vote }))
        }
        Unsigned::Cut(cut) if strategy == Strategy::EquivocateProposing => other_cut(state, cut, inboxes),
        Unsigned::Cut(cut) if strategy == Strategy::ForgeCut => {
            let mut other = cut.clone();
            other.contributions.pop()?;
            Some(Unsigned::Cut(other))
        }
        Unsigned::Window(record) if strategy == Strategy::ForkRecords => {
            let mut other = record.clone();
            other.header.checkpoint = Hash::of(record.header.checkpoint.hash().as_bytes()).into();
            Some(Unsigned::Window(other))
        }
        _ => None,
    }
}

/// A valid cut out of one inbox less; `None` where it would be the same cut or none.
fn other_cut(state: &RunState, cut: &Cut, inboxes: &[(InboxId, Inbox)]) -> Option<Unsigned> {
    let named: Vec<_> =
        inboxes.iter().filter(|(id, _)| cut.inboxes.contains(id)).map(|(id, inbox)| (*id, inbox)).collect();
    let other = state.cut(named.get(1..)?).ok()?;
    (other != *cut).then_some(Unsigned::Cut(other))
}

//! Audits a closed window: everything that its record says, found again from blobs or not.

use std::collections::BTreeMap;

use templar_manifest::{
    Audit, AuditEntry, AuditVerdict, Checkpoint, Contribution, Hash, LateVerdict, Outcome, PublicKey, Refusal, Replay,
    Score, ScoreEntry, Signed, State, TensorBlob, Verdict, WindowIndex, payload,
};
use templar_protocol::{AdvanceError, ClosedWindow, Judging, RecordField, RunState};
use templar_train::Replayed;

use crate::apply::{Applied, apply};
use crate::evidence::{Evidence, EvidenceError, States};
use crate::judge::{judge, replay_contribution};

/// What an audit of a window found, and where the next window starts.
#[derive(Debug)]
pub struct WindowAudit {
    /// The findings.
    pub audit: Audit,
    /// The state after the window; `None` where the record does not follow from its parts.
    pub after: Option<RunState>,
    /// The parameters after the window; `None` where they could not be found again.
    pub parameters: Option<Vec<f32>>,
}

impl WindowAudit {
    /// The worst of all verdicts: a mismatch over something unavailable over a match.
    pub fn verdict(&self) -> &AuditVerdict {
        let audit = &self.audit;
        let all = [&audit.record_verdict, &audit.checkpoint_verdict, &audit.ledger_verdict];
        let all = || all.into_iter().chain(audit.contributions.iter().map(|entry| &entry.verdict));
        all()
            .find(|verdict| matches!(verdict, AuditVerdict::Mismatch { .. }))
            .or_else(|| all().find(|verdict| matches!(verdict, AuditVerdict::Unavailable { .. })))
            .unwrap_or(&AuditVerdict::Match)
    }
}

fn mismatch(what: impl Into<String>) -> AuditVerdict {
    AuditVerdict::Mismatch { what: printable(what.into()) }
}

fn unavailable(what: impl Into<String>) -> AuditVerdict {
    AuditVerdict::Unavailable { what: printable(what.into()) }
}

/// Texts of manifests are printable ASCII and bounded.
fn printable(text: String) -> String {
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).take(1024).collect()
}

fn failed(error: &EvidenceError) -> AuditVerdict {
    match error {
        EvidenceError::Unavailable { what } => unavailable(what.clone()),
        EvidenceError::Broken(what) => mismatch(what.clone()),
    }
}

/// The replay of every contribution of a window, by miner.
type Replays = BTreeMap<PublicKey, Result<Replayed, EvidenceError>>;

/// Recomputes a closed window from the state `before` it and the `parameters` of its checkpoint: replays every
/// contribution, measures every loss of every score, takes the outer step, and computes the record anew. States that
/// replays give are kept in `states` for the next window. `seen` hears of each contribution as it is found.
pub fn audit_window(
    evidence: &Evidence<'_>,
    before: &RunState,
    closed: &ClosedWindow,
    parameters: &[f32],
    states: &mut States,
    auditor: PublicKey,
    seen: &mut dyn FnMut(&AuditEntry),
) -> WindowAudit {
    let record = &closed.window;
    let mut replays = Replays::new();
    let mut entries = Vec::new();
    let judging = before.judging_of(closed);
    let before_close = before.genesis().replay.before_close;
    for (signed, outcome) in closed.contributions.iter().zip(&record.outcomes) {
        let contribution = signed.payload();
        let task = judging.as_ref().ok().and_then(|judging| before.replay_task(judging, &contribution.miner));
        let task = task.or_else(|| before.unproven_task(contribution));
        let replayed = match task {
            Some(task) => replay_contribution(evidence, &task, parameters, |id| states.get(evidence, id)),
            None => Err(EvidenceError::Broken(format!("miner {} has no slot", contribution.miner))),
        };
        let mut verdict = compare(outcome, &replayed, before_close);
        if verdict == AuditVerdict::Match
            && let Err(error) = stored_state(evidence, contribution)
        {
            verdict = failed(&error);
        }
        let entry = AuditEntry { miner: outcome.miner, contribution: outcome.contribution, verdict };
        seen(&entry);
        entries.push(entry);
        replays.insert(contribution.miner, replayed);
    }

    let mut after = before.clone();
    let advanced = after.advance(closed);
    let record_verdict = match &advanced {
        Err(error) => mismatch(error.to_string()),
        Ok(()) => check_scores(evidence, before, closed, parameters, &replays, states),
    };
    let ledger_verdict = match &advanced {
        Ok(()) => AuditVerdict::Match,
        Err(error) if is_of_the_ledger(error) => mismatch(error.to_string()),
        Err(error) => unavailable(format!("the record does not recompute: {error}")),
    };
    let contributions = &closed.contributions;
    let applied = apply(evidence, record.window, &record.outcomes, contributions, parameters.to_vec());
    let checkpoint_verdict = check_checkpoint(evidence, closed, &applied);

    for (miner, replayed) in replays {
        let Ok(Replayed { verdict, state, claims }) = replayed else { continue };
        if let (Some(state), Some(contribution)) = (state, by_miner(closed, &miner)) {
            states.insert(contribution.state_out, state);
        }
        if !before_close {
            states.remember(record.window, miner, verdict, claims);
        }
    }
    let deadline = before.genesis().replay.open_windows();
    states.forget_before(WindowIndex((record.window.0 + 1).saturating_sub(deadline)));
    let parents =
        |id| after.members().iter().any(|member| after.parent(&member.owner).is_some_and(|p| p.state_out == id));
    states.retain(|id| parents(*id));
    WindowAudit {
        parameters: applied.ok().map(|applied| applied.parameters),
        after: advanced.is_ok().then_some(after),
        audit: Audit {
            run: record.run,
            window: record.window,
            record: payload::id_of(record).into(),
            auditor,
            record_verdict,
            checkpoint_verdict,
            ledger_verdict,
            contributions: entries,
        },
    }
}

/// Whether a record was refused for a field that decides about money.
fn is_of_the_ledger(error: &AdvanceError) -> bool {
    let AdvanceError::Differs(field) = error else { return false };
    match field {
        RecordField::Weights | RecordField::Mints | RecordField::Slashes | RecordField::LedgerRoot => true,
        RecordField::Run
        | RecordField::Window
        | RecordField::Previous
        | RecordField::CheckpointBefore
        | RecordField::Cut
        | RecordField::Reveals
        | RecordField::Seed
        | RecordField::Scores
        | RecordField::Outcomes
        | RecordField::Challenges
        | RecordField::Admissions
        | RecordField::MembersRoot
        | RecordField::StandingsRoot
        | RecordField::Aggregate
        | RecordField::AggregateBytes
        | RecordField::Checkpoint
        | RecordField::HeldOutLoss => false,
    }
}

fn by_miner<'a>(closed: &'a ClosedWindow, miner: &PublicKey) -> Option<&'a Contribution> {
    closed.contributions.iter().map(Signed::payload).find(|contribution| contribution.miner == *miner)
}

/// Whether the recorded outcome of a contribution is what its replay gives.
fn compare(outcome: &Outcome, replayed: &Result<Replayed, EvidenceError>, before_close: bool) -> AuditVerdict {
    match (&outcome.verdict, replayed) {
        // Which scores were in time is for the record; the outcome follows from them.
        (Verdict::Refused(Refusal::NotReplayed), _) => AuditVerdict::Match,
        // That bytes did not come in time leaves no trace in any bytes.
        (Verdict::Refused(Refusal::Withheld), _) => unavailable("recorded as withheld, which no blob can show"),
        (_, Err(error)) => failed(error),
        (Verdict::Aggregated | Verdict::Reserve | Verdict::Excluded, Ok(replayed)) => match &replayed.verdict {
            Replay::Match => AuditVerdict::Match,
            Replay::Refused(refusal) if before_close => mismatch(format!("recorded as accepted; {refusal}")),
            // Nobody had to replay it by then; scores of later windows may burn what it earned, and are audited for it.
            Replay::Refused(refusal) => mismatch(format!("accepted before any replay; {refusal}")),
            Replay::NotDrawn => unavailable("not replayed"),
        },
        (Verdict::Refused(recorded), Ok(replayed)) => match &replayed.verdict {
            Replay::Refused(found) if found == recorded => AuditVerdict::Match,
            Replay::Refused(found) => mismatch(format!("recorded as refused ({recorded}); found: {found}")),
            Replay::Match => mismatch(format!("recorded as refused ({recorded}); it replays to its hash")),
            Replay::NotDrawn => unavailable("not replayed"),
        },
    }
}

/// Recomputes every number of every score.
fn check_scores(
    evidence: &Evidence<'_>,
    before: &RunState,
    closed: &ClosedWindow,
    parameters: &[f32],
    replays: &Replays,
    states: &States,
) -> AuditVerdict {
    let judging = match before.judging_of(closed) {
        Ok(judging) => judging,
        Err(error) => return mismatch(error.to_string()),
    };
    for score in &closed.scores {
        let verdict = check_score(evidence, before, &judging, score.payload(), closed, parameters, replays);
        if verdict != AuditVerdict::Match {
            return verdict;
        }
        // That something was not to be had leaves no trace in any bytes; what follows from it the record says.
        for late in score.payload().verdicts.iter().filter(|late| !late.is_challenge()) {
            let verdict = check_late(evidence, before, &score.payload().validator, late, states);
            if verdict != AuditVerdict::Match {
                return verdict;
            }
        }
    }
    AuditVerdict::Match
}

/// Replays what a validator says of a contribution of a closed window, unless the audit has just come from there.
fn check_late(
    evidence: &Evidence<'_>,
    before: &RunState,
    validator: &PublicKey,
    said: &LateVerdict,
    states: &States,
) -> AuditVerdict {
    let Some(task) = before.late_task(said.window, &said.miner) else {
        return mismatch(format!("verdict on {} in window {}: it was too late", said.miner.short(), said.window));
    };
    let found = match states.replayed(said.window, &said.miner) {
        Some(known) => Ok(known.clone()),
        None => evidence.parameters(&task.checkpoint).and_then(|parameters| {
            let replayed = replay_contribution(evidence, &task, &parameters, |id| states.get(evidence, id))?;
            Ok((replayed.verdict, replayed.claims))
        }),
    };
    let (replay, claims) = match found {
        Ok(found) => found,
        Err(error) => return failed(&error),
    };
    if task.verdict(validator, replay.clone(), &claims) == *said {
        return AuditVerdict::Match;
    }
    let (validator, miner, window) = (validator.short(), said.miner.short(), said.window);
    let what = if said.replay == replay {
        "proof of replay".to_owned()
    } else {
        format!("{:?}, found {replay:?}", said.replay)
    };
    mismatch(format!("verdict of validator {validator} on miner {miner} in window {window}: {what}"))
}

fn check_score(
    evidence: &Evidence<'_>,
    before: &RunState,
    judging: &Judging,
    score: &Score,
    closed: &ClosedWindow,
    parameters: &[f32],
    replays: &Replays,
) -> AuditVerdict {
    let validator = score.validator.short();
    let Some(plan) = before.judge_plan(judging, &score.validator) else {
        return mismatch(format!("validator {validator} scored without having revealed"));
    };
    let recorded: BTreeMap<_, &ScoreEntry> = score.entries.iter().map(|entry| (entry.miner, entry)).collect();
    let is_withheld = |contribution: &Contribution| {
        let said = recorded.get(&contribution.miner).map(|entry| &entry.replay);
        said == Some(&Replay::Refused(Refusal::Withheld))
    };
    let replay = |contribution: &Contribution| {
        if is_withheld(contribution) {
            return Ok((Replay::Refused(Refusal::Withheld), Vec::new()));
        }
        match replays.get(&contribution.miner) {
            // The claims are those of all who were drawn, as the plan has them.
            Some(Ok(replayed)) => Ok((replayed.verdict.clone(), replayed.claims.clone())),
            Some(Err(EvidenceError::Broken(what))) => Err(EvidenceError::Broken(what.clone())),
            Some(Err(EvidenceError::Unavailable { what })) => Err(EvidenceError::Unavailable { what: what.clone() }),
            None => Err(EvidenceError::Unavailable { what: format!("replay of {}", contribution.miner) }),
        }
    };
    let found = judge(evidence, &plan, &closed.contributions, parameters, replay, |claimed, _| is_withheld(claimed));
    let found = match found {
        Ok(found) => found,
        Err(error) => return failed(&error),
    };
    for entry in &found {
        let Some(said) = recorded.get(&entry.miner) else {
            return mismatch(format!("score of validator {validator} lacks miner {}", entry.miner.short()));
        };
        if let Some(field) = first_difference(said, entry) {
            let miner = entry.miner.short();
            return mismatch(format!("score of validator {validator} on miner {miner}: {field}"));
        }
    }
    AuditVerdict::Match
}

/// The first field in which two entries differ, with both values.
fn first_difference(said: &ScoreEntry, found: &ScoreEntry) -> Option<String> {
    if said.replay != found.replay {
        return Some(format!("replay is {:?}, found {:?}", said.replay, found.replay));
    }
    if said.proof != found.proof {
        return Some("proof of replay is not the keyed hash of the state that was drawn".to_owned());
    }
    if said.body != found.body {
        return Some(format!("body is {:?}, found {:?}", said.body, found.body));
    }
    if said.nearest != found.nearest {
        let name = |key: Option<PublicKey>| key.map_or_else(|| "nobody".to_owned(), |key| key.short());
        return Some(format!("nearest is {}, found {}", name(said.nearest), name(found.nearest)));
    }
    let fields = [
        ("overlap_ppm", said.overlap_ppm.into(), found.overlap_ppm.into()),
        ("assigned_before_nanonats", said.assigned_before_nanonats, found.assigned_before_nanonats),
        ("assigned_after_nanonats", said.assigned_after_nanonats, found.assigned_after_nanonats),
        ("unassigned_before_nanonats", said.unassigned_before_nanonats, found.unassigned_before_nanonats),
        ("unassigned_after_nanonats", said.unassigned_after_nanonats, found.unassigned_after_nanonats),
    ];
    fields
        .into_iter()
        .find(|(_, said, found)| said != found)
        .map(|(field, said, found)| format!("{field} is {said}, found {found}"))
}

fn check_checkpoint(
    evidence: &Evidence<'_>,
    closed: &ClosedWindow,
    applied: &Result<Applied, EvidenceError>,
) -> AuditVerdict {
    let record = &closed.window;
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => return failed(error),
    };
    let found = &applied.stepped;
    if found.checkpoint != record.checkpoint {
        return mismatch(format!("checkpoint is recorded as {}, found {}", record.checkpoint, found.checkpoint));
    }
    let (said, bytes) = ((record.aggregate, record.aggregate_bytes), (found.aggregate, found.aggregate_bytes));
    if said != bytes {
        return mismatch(format!(
            "aggregate is recorded as {} of {} bytes, found {} of {}",
            said.0, said.1, bytes.0, bytes.1
        ));
    }
    if found.held_out_loss_nanonats != record.held_out_loss_nanonats {
        let (said, found) = (record.held_out_loss_nanonats, found.held_out_loss_nanonats);
        return mismatch(format!("held_out_loss_nanonats is {said}, found {found}"));
    }
    // Blobs that are here anyway must be what they are called, although the audit did not need them.
    let aggregate = record.aggregate.hash();
    if evidence.blobs.contains(&aggregate)
        && let Err(error) = evidence.blob("aggregate", &aggregate, record.aggregate_bytes)
    {
        return failed(&error);
    }
    match stored_tensors::<Checkpoint>(evidence, &record.checkpoint.hash(), |checkpoint| &checkpoint.tensors, 1) {
        Ok(()) => AuditVerdict::Match,
        Err(error) => failed(&error),
    }
}

/// The blobs of the state that a contribution leaves must be what they are called, where they are here.
fn stored_state(evidence: &Evidence<'_>, contribution: &Contribution) -> Result<(), EvidenceError> {
    stored_tensors::<State>(evidence, &contribution.state_out.hash(), |state| &state.tensors, 3)
}

fn stored_tensors<T: templar_manifest::Payload>(
    evidence: &Evidence<'_>,
    id: &Hash,
    tensors: impl Fn(&T) -> &[TensorBlob],
    vectors: u64,
) -> Result<(), EvidenceError> {
    if !evidence.blobs.contains(id) {
        return Ok(());
    }
    let manifest: T = evidence.manifest(id)?;
    for tensor in tensors(&manifest) {
        if evidence.blobs.contains(&tensor.blob.hash()) {
            let bytes = tensor.spec.elements() as u64 * 4 * vectors;
            evidence.blob(&format!("tensor {} of {}", tensor.spec.name, id.short()), &tensor.blob.hash(), bytes)?;
        }
    }
    Ok(())
}

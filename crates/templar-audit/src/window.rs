//! Audits a closed window: recomputes every number of its record from blobs and compares.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use templar_manifest::{
    Audit, AuditEntry, AuditVerdict, Checkpoint, Contest, Contribution, Evaluation, Hash, LateVerdict, Losses, Outcome,
    PublicKey, Refusal, Refuted, Replay, Score, ScoreEntry, Signed, State, Statement, TensorBlob, Verdict, WindowIndex,
};
use templar_protocol::{AdvanceError, ClosedWindow, EvaluationTask, Judging, RecordField, RunState, Tried};
use templar_train::Replayed;

use crate::apply::{Applied, apply};
use crate::inputs::{AuditInputs, InputError, States};
use crate::judge::{JudgeTask, judge, measure_contribution, replay_contribution};

/// The findings of an audit of a window, and the point from which the next window is audited.
#[derive(Debug)]
pub struct WindowAudit {
    /// The findings, as the manifest that an auditor signs.
    pub audit: Audit,
    /// The state of the run after the window; `None` where the record does not follow from its parts.
    pub after: Option<RunState>,
    /// The parameters after the window, flat; `None` where they could not be recomputed, or are not those of the
    /// checkpoint that the record names.
    pub parameters: Option<Vec<f32>>,
    /// How many contributions were replayed: their inputs were here, and the replay came to an end.
    pub replayed: u64,
}

impl WindowAudit {
    /// The worst of all verdicts. A mismatch is worse than something unavailable, which is worse than a match.
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

/// Makes a text fit a manifest: printable ASCII of at most 1,024 characters.
fn printable(text: String) -> String {
    text.chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).take(1024).collect()
}

/// The verdict where an input cannot be had. Only verified bytes that are wrong say something about others.
fn failed(error: &InputError) -> AuditVerdict {
    match error {
        InputError::Unavailable { .. } | InputError::Withheld { .. } => unavailable(error.to_string()),
        InputError::Damaged { .. } | InputError::Machine(_) => unavailable(error.to_string()),
        InputError::Broken(what) => mismatch(what.clone()),
    }
}

/// The result of the replay of every contribution of a window, by miner.
type WindowReplays = BTreeMap<PublicKey, Result<Replayed, InputError>>;

/// A closed window to audit, and the point in the run from which it is recomputed.
#[derive(Clone, Copy)]
pub struct AuditTask<'a> {
    /// The state of the run before the window.
    pub before: &'a RunState,
    /// The parameters of the checkpoint before the window, flat.
    pub parameters: &'a [f32],
    /// The record of the window, with the contributions and scores that it is made of.
    pub closed: &'a ClosedWindow,
    /// The identity in whose name the audit is made.
    pub auditor: PublicKey,
}

/// Recomputes a closed window: replays every contribution, measures every loss of every score, takes the outer
/// step and computes the record anew. The states that replays give are kept in `states`, for the audit of the
/// next window. `seen` is called with the finding on each contribution as soon as there is one.
pub fn audit_window(
    inputs: &AuditInputs<'_>,
    task: &AuditTask<'_>,
    states: &mut States,
    seen: &mut dyn FnMut(&AuditEntry),
) -> WindowAudit {
    let AuditTask { before, parameters, closed, auditor } = *task;
    let record = &closed.window.body;
    let (mut replays, mut replayed_count) = (WindowReplays::new(), 0);
    let mut entries = Vec::new();
    let judging = before.judging_of(closed);
    let before_close = before.genesis().replay.before_close;
    for (signed, outcome) in closed.contributions.iter().zip(&record.outcomes) {
        let contribution = signed.payload();
        let task = judging.as_ref().ok().and_then(|judging| before.replay_task(judging, &contribution.miner));
        let task = task.or_else(|| before.unproven_task(contribution));
        let replayed = match task {
            Some(task) => replay_contribution(inputs, &task, parameters, |id| states.get(inputs, id)),
            None => Err(InputError::Broken(format!("miner {} has no slot", contribution.miner))),
        };
        replayed_count += u64::from(replayed.is_ok());
        let mut verdict = compare(outcome, &replayed, before_close);
        if verdict == AuditVerdict::Match
            && let Err(error) = stored_state(inputs, contribution)
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
        Ok(()) => check_scores(inputs, task, &replays, states),
    };
    let ledger_verdict = match &advanced {
        Ok(()) => AuditVerdict::Match,
        Err(error) if is_of_the_ledger(error) => mismatch(error.to_string()),
        Err(error) => unavailable(format!("the record does not recompute: {error}")),
    };
    let contributions = &closed.contributions;
    let applied = apply(inputs, record.window, &record.outcomes, contributions, parameters.to_vec());
    let checkpoint_verdict = check_checkpoint(inputs, closed, &applied);

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
        parameters: applied
            .ok()
            .filter(|applied| applied.stepped.checkpoint == closed.window.header.checkpoint)
            .map(|applied| applied.parameters),
        replayed: replayed_count,
        after: advanced.is_ok().then_some(after),
        audit: Audit {
            run: record.run,
            window: record.window,
            record: closed.window.id(),
            auditor,
            record_verdict,
            checkpoint_verdict,
            ledger_verdict,
            contributions: entries,
        },
    }
}

/// Whether a record was refused for a field that decides about money. The state holds all balances.
fn is_of_the_ledger(error: &AdvanceError) -> bool {
    let AdvanceError::Differs(field) = error else { return false };
    match field {
        RecordField::Weights | RecordField::Mints | RecordField::Slashes | RecordField::StateRoot => true,
        RecordField::Run
        | RecordField::Window
        | RecordField::Previous
        | RecordField::CheckpointBefore
        | RecordField::Cut
        | RecordField::Reveals
        | RecordField::Seed
        | RecordField::Scores
        | RecordField::Outcomes
        | RecordField::Refuted
        | RecordField::Challenges
        | RecordField::Admissions
        | RecordField::Aggregate
        | RecordField::AggregateBytes
        | RecordField::Checkpoint
        | RecordField::HeldOutLoss
        | RecordField::BodyRoot
        | RecordField::ValidatorsRoot => false,
    }
}

fn by_miner<'a>(closed: &'a ClosedWindow, miner: &PublicKey) -> Option<&'a Contribution> {
    closed.contributions.iter().map(Signed::payload).find(|contribution| contribution.miner == *miner)
}

/// Compares the recorded outcome of a contribution with the result of its replay.
fn compare(outcome: &Outcome, replayed: &Result<Replayed, InputError>, before_close: bool) -> AuditVerdict {
    match (&outcome.verdict, replayed) {
        // The record decides which scores were in time, and the outcome follows from these.
        (Verdict::Refused(Refusal::NotReplayed), _) => AuditVerdict::Match,
        // No bytes can show that other bytes did not arrive in time.
        (Verdict::Refused(Refusal::Withheld), _) => unavailable("recorded as withheld, which no blob can show"),
        (_, Err(error)) => failed(error),
        (Verdict::Aggregated | Verdict::Reserve | Verdict::Excluded, Ok(replayed)) => match &replayed.verdict {
            Replay::Match => AuditVerdict::Match,
            Replay::Refused(refusal) if before_close => mismatch(format!("recorded as accepted; {refusal}")),
            // Nobody had to replay it by then. Scores of later windows may slash its pay, and are audited for that.
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
    inputs: &AuditInputs<'_>,
    task: &AuditTask<'_>,
    replays: &WindowReplays,
    states: &States,
) -> AuditVerdict {
    let AuditTask { before, closed, .. } = *task;
    let judging = match before.judging_of(closed) {
        Ok(judging) => judging,
        Err(error) => return mismatch(error.to_string()),
    };
    for score in &closed.scores {
        let verdict = check_entries(inputs, task, &judging, score.payload(), replays, None);
        if verdict != AuditVerdict::Match {
            return verdict;
        }
        // No bytes can show that a blob was missing. The consequences are in the record, and are audited there.
        for late in score.payload().verdicts.iter().filter(|late| !late.is_challenge()) {
            let verdict = check_late(inputs, before, &score.payload().validator, late, states);
            if verdict != AuditVerdict::Match {
                return verdict;
            }
        }
    }
    let past = PastModel { inputs, before, parameters: OnceCell::new() };
    for contest in closed.scores.iter().flat_map(|score| &score.payload().contests) {
        let verdict = past.check(&contest.miner, Some(contest));
        if verdict != AuditVerdict::Match {
            return verdict;
        }
    }
    for refuted in &closed.window.body.refuted {
        let verdict = check_refuted(&past, task, &judging, refuted, replays, states);
        if verdict != AuditVerdict::Match {
            return verdict;
        }
    }
    AuditVerdict::Match
}

/// Checks that a statement which the record refutes is false.
fn check_refuted(
    past: &PastModel<'_>,
    task: &AuditTask<'_>,
    judging: &Judging,
    refuted: &Refuted,
    replays: &WindowReplays,
    states: &States,
) -> AuditVerdict {
    if refuted.is_of_past_score(task.closed.window.body.window) {
        return match past.check(&refuted.miner, None) {
            AuditVerdict::Match => mismatch(format!(
                "the record refutes a true evaluation of validator {} on miner {}",
                refuted.validator.short(),
                refuted.miner.short()
            )),
            AuditVerdict::Mismatch { .. } => AuditVerdict::Match,
            unavailable @ AuditVerdict::Unavailable { .. } => unavailable,
        };
    }
    let Some(score) = task.closed.refuted.iter().find(|score| score.id() == refuted.score.hash()) else {
        return unavailable(format!("score {}, which the record refutes", refuted.score.short()));
    };
    let score = score.payload();
    let found = if refuted.statement == Statement::Contest {
        let Some(contest) = score.contests.iter().find(|contest| contest.miner == refuted.miner) else {
            return mismatch("the record refutes a contest that its score does not have");
        };
        past.check(&refuted.miner, Some(contest))
    } else if refuted.window == score.window {
        check_entries(past.inputs, task, judging, score, replays, Some(refuted))
    } else {
        let said = score.verdicts.iter().find(|said| (said.window, said.miner) == (refuted.window, refuted.miner));
        let Some(said) = said else { return mismatch("the record refutes a verdict that its score does not have") };
        check_late(past.inputs, task.before, &score.validator, said, states)
    };
    match found {
        AuditVerdict::Match => {
            let (validator, miner) = (refuted.validator.short(), refuted.miner.short());
            mismatch(format!(
                "the record refutes a true {} of validator {validator} on miner {miner}",
                refuted.statement.name()
            ))
        }
        AuditVerdict::Mismatch { .. } => AuditVerdict::Match,
        AuditVerdict::Unavailable { what } => AuditVerdict::Unavailable { what },
    }
}

/// The model from which the window before started, read once for everything that is measured again.
struct PastModel<'a> {
    inputs: &'a AuditInputs<'a>,
    /// The state before the audited window.
    before: &'a RunState,
    parameters: OnceCell<Vec<f32>>,
}

impl PastModel<'_> {
    fn measured(&self, task: &EvaluationTask) -> Result<Tried, InputError> {
        let parameters = match self.parameters.get() {
            Some(parameters) => parameters,
            None => {
                let read = self.inputs.parameters(&task.checkpoint)?;
                self.parameters.get_or_init(|| read)
            }
        };
        Ok(task.tried(measure_contribution(self.inputs, task, parameters)?))
    }

    /// Measures a contribution of the window before again. Checks the contest of a score against it, or without one what
    /// the record of that window rests on.
    fn check(&self, miner: &PublicKey, contest: Option<&Contest>) -> AuditVerdict {
        let (task, stated) = (self.before.past_evaluation_task(miner), self.before.past_measurement(miner));
        let (Some(task), Some(stated)) = (task, stated) else {
            return mismatch(format!("contest of {}, whom nobody measured in the window before", miner.short()));
        };
        let found = match self.measured(&task) {
            Ok(found) => found,
            Err(error) => return failed(&error),
        };
        let is_so = contest.map_or(*stated == found, |contest| contest.found == found.losses());
        if is_so {
            return AuditVerdict::Match;
        }
        let what = if contest.is_some() { "contest" } else { "measurement" };
        mismatch(format!("{what} of {} in the window before: found {:?}", miner.short(), found.losses()))
    }
}

/// Checks a verdict of a validator on a contribution of an earlier window. It replays the contribution, unless
/// this audit has just done so.
fn check_late(
    inputs: &AuditInputs<'_>,
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
        None => inputs.parameters(&task.checkpoint).and_then(|parameters| {
            let replayed = replay_contribution(inputs, &task, &parameters, |id| states.get(inputs, id))?;
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

/// Recomputes the entries of a score, or with `only` the one statement that a record refutes.
fn check_entries(
    inputs: &AuditInputs<'_>,
    task: &AuditTask<'_>,
    judging: &Judging,
    score: &Score,
    replays: &WindowReplays,
    only: Option<&Refuted>,
) -> AuditVerdict {
    let validator = score.validator.short();
    let Some(plan) = task.before.judge_plan(judging, &score.validator) else {
        return mismatch(format!("{validator} scored and is not a validator"));
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
            // The claims are those of all validators that were drawn, as in the plan.
            Some(Ok(replayed)) => Ok((replayed.verdict.clone(), replayed.claims.clone())),
            Some(Err(error)) => Err(error.clone()),
            None => Err(InputError::Unavailable { what: format!("replay of {}", contribution.miner) }),
        }
    };
    let work = JudgeTask { plan: &plan, contributions: &task.closed.contributions, parameters: task.parameters };
    let found = judge(inputs, &work, replay, |claimed, _| is_withheld(claimed));
    let found = match found {
        Ok(found) => found,
        Err(error) => return failed(&error),
    };
    for entry in found.iter().filter(|entry| only.is_none_or(|refuted| refuted.miner == entry.miner)) {
        let Some(said) = recorded.get(&entry.miner) else {
            return mismatch(format!("score of validator {validator} lacks miner {}", entry.miner.short()));
        };
        let difference = match only.map(|refuted| refuted.statement) {
            None => first_difference(said, entry),
            Some(Statement::Replay) => difference_of_replays(said, entry),
            Some(Statement::Evaluation | Statement::Contest) => {
                difference_of_evaluations(&said.evaluation, &entry.evaluation)
            }
        };
        if let Some(field) = difference {
            let miner = entry.miner.short();
            return mismatch(format!("score of validator {validator} on miner {miner}: {field}"));
        }
    }
    AuditVerdict::Match
}

/// Describes the first field in which two entries differ, with both values.
fn first_difference(said: &ScoreEntry, found: &ScoreEntry) -> Option<String> {
    let replay = difference_of_replays(said, found);
    if replay.is_some() {
        return replay;
    }
    if said.body != found.body {
        return Some(format!("body is {:?}, found {:?}", said.body, found.body));
    }
    if said.nearest != found.nearest {
        let name = |key: Option<PublicKey>| key.map_or_else(|| "nobody".to_owned(), |key| key.short());
        return Some(format!("nearest is {}, found {}", name(said.nearest), name(found.nearest)));
    }
    if said.overlap_ppm != found.overlap_ppm {
        return Some(format!("overlap_ppm is {}, found {}", said.overlap_ppm, found.overlap_ppm));
    }
    difference_of_evaluations(&said.evaluation, &found.evaluation)
}

fn difference_of_replays(said: &ScoreEntry, found: &ScoreEntry) -> Option<String> {
    if said.replay != found.replay {
        return Some(format!("replay is {:?}, found {:?}", said.replay, found.replay));
    }
    (said.proof != found.proof).then(|| "proof of replay is not the keyed hash of the state that was drawn".to_owned())
}

fn difference_of_evaluations(said: &Evaluation, found: &Evaluation) -> Option<String> {
    let (Evaluation::Measured(said), Evaluation::Measured(found)) = (said, found) else {
        return (said != found).then(|| format!("evaluation is {said:?}, found {found:?}"));
    };
    first_difference_of_losses(&said.losses, &found.losses).or_else(|| {
        (said != found).then(|| "proof of evaluation is not the keyed hash of the hidden states".to_owned())
    })
}

/// Describes the first loss in which two measurements differ, with both values.
fn first_difference_of_losses(said: &Losses, found: &Losses) -> Option<String> {
    let fields = [
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
    inputs: &AuditInputs<'_>,
    closed: &ClosedWindow,
    applied: &Result<Applied, InputError>,
) -> AuditVerdict {
    let (record, checkpoint) = (&closed.window.body, closed.window.header.checkpoint);
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) => return failed(error),
    };
    let found = &applied.stepped;
    if found.checkpoint != checkpoint {
        return mismatch(format!("checkpoint is recorded as {checkpoint}, found {}", found.checkpoint));
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
    // The audit did not need these blobs. Where they are here all the same, their bytes must have the right hash.
    let aggregate = record.aggregate.hash();
    if inputs.blobs.contains(&aggregate)
        && let Err(error) = inputs.blob("aggregate", &aggregate, record.aggregate_bytes)
    {
        return failed(&error);
    }
    match stored_tensors::<Checkpoint>(inputs, &checkpoint.hash(), |checkpoint| &checkpoint.tensors, 1) {
        Ok(()) => AuditVerdict::Match,
        Err(error) => failed(&error),
    }
}

/// Checks the blobs of the state after a contribution, as far as they are here: their bytes must have the right hash.
fn stored_state(inputs: &AuditInputs<'_>, contribution: &Contribution) -> Result<(), InputError> {
    stored_tensors::<State>(inputs, &contribution.state_out.hash(), |state| &state.tensors, 3)
}

fn stored_tensors<T: templar_manifest::Payload>(
    inputs: &AuditInputs<'_>,
    id: &Hash,
    tensors: impl Fn(&T) -> &[TensorBlob],
    vectors: u64,
) -> Result<(), InputError> {
    if !inputs.blobs.contains(id) {
        return Ok(());
    }
    let manifest: T = inputs.manifest(id)?;
    for tensor in tensors(&manifest) {
        if inputs.blobs.contains(&tensor.blob.hash()) {
            let bytes = tensor.spec.elements() as u64 * 4 * vectors;
            inputs.blob(&format!("tensor {} of {}", tensor.spec.name, id.short()), &tensor.blob.hash(), bytes)?;
        }
    }
    Ok(())
}

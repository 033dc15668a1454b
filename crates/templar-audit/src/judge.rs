//! Judges the contributions of a cut: decodes their deltas, and replays and measures those that were drawn.

use templar_delta::{Delta, max_bytes, overlaps_ppm};
use templar_manifest::proof::prove;
use templar_manifest::trace::{Trace, TraceHeader};
use templar_manifest::{Contest, Contribution, Evaluation, Hash, Losses, Refusal, Replay, ScoreEntry, Signed, StateId};
use templar_protocol::{EvaluationTask, JudgePlan, ReplayTask, SpotCheck};
use templar_train::{Claim, MinerState, Replayed, WindowStart, WindowTask, replay_up_to};

use crate::evaluator::Evaluator;
use crate::inputs::{AuditInputs, InputError, chain};

/// The overlap of two deltas of which every position is the same.
const WHOLE_PPM: u32 = 1_000_000;

/// The text of a refusal: printable ASCII of at most 512 bytes, as manifests require it.
fn refusal_text(error: &dyn std::error::Error) -> String {
    let mut text: String = chain(error).chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    text.truncate(512);
    text
}

/// The delta of a contribution, or the reason why the contribution is refused.
fn open_delta(inputs: &AuditInputs<'_>, contribution: &Contribution) -> Result<Result<Delta, Refusal>, InputError> {
    let recipe = inputs.recipe;
    let limit = max_bytes(&recipe.tensors, &recipe.compression)
        .map_err(|error| InputError::Broken(format!("bound of deltas: {}", chain(&error))))?;
    if contribution.delta_bytes > limit {
        // The claim alone is enough to refuse it: nobody has to fetch bytes that cannot be a delta.
        return Ok(Err(Refusal::WrongClaim { field: "delta_bytes".to_owned() }));
    }
    let bytes = match inputs.miner_blob("delta", &contribution.delta.hash(), limit) {
        // The blob is here, and it is longer than any delta.
        Err(InputError::Broken(_)) => return Ok(Err(Refusal::WrongClaim { field: "delta_bytes".to_owned() })),
        read => read?,
    };
    if bytes.len() as u64 != contribution.delta_bytes {
        return Ok(Err(Refusal::WrongClaim { field: "delta_bytes".to_owned() }));
    }
    Ok(recipe.decode_delta(contribution, &bytes).map_err(|error| Refusal::Malformed { error: refusal_text(&error) }))
}

/// The trace of a contribution, or the reason why the contribution is refused.
fn open_trace(inputs: &AuditInputs<'_>, contribution: &Contribution) -> Result<Result<Trace, Refusal>, InputError> {
    let expected = TraceHeader::of(contribution, inputs.recipe.tensors.len() as u32);
    if contribution.trace_bytes != expected.trace_bytes() {
        return Ok(Err(Refusal::WrongClaim { field: "trace_bytes".to_owned() }));
    }
    let bytes = match inputs.miner_blob("trace", &contribution.trace.hash(), contribution.trace_bytes) {
        // The blob is here, and it is longer than claimed.
        Err(InputError::Broken(_)) => return Ok(Err(Refusal::WrongClaim { field: "trace_bytes".to_owned() })),
        read => read?,
    };
    Ok(Trace::decode(&bytes, &expected).map_err(|error| Refusal::Malformed { error: refusal_text(&error) }))
}

/// Replays one contribution from `parameters`, those of the checkpoint before its window. The result has the
/// claims of all validators that the task draws.
///
/// `state` gives the miner's state by its id. It is called only where delta and trace are well formed.
///
/// # Errors
/// [`InputError`] where an input is missing, damaged or broken. A contribution that is wrong is no error but a refusal.
pub fn replay_contribution(
    inputs: &AuditInputs<'_>,
    task: &ReplayTask,
    parameters: &[f32],
    state: impl FnOnce(&StateId) -> Result<MinerState, InputError>,
) -> Result<Replayed, InputError> {
    let contribution = &task.contribution;
    let refused = |refusal| Ok(Replayed::without_state(Replay::Refused(refusal)));
    if let Err(refusal) = open_delta(inputs, contribution)? {
        return refused(refusal);
    }
    let trace = match open_trace(inputs, contribution)? {
        Ok(trace) => trace,
        Err(refusal) => return refused(refusal),
    };
    let state = state(&contribution.state_in)?;
    let (window, miner, steps) = (contribution.window, contribution.miner, contribution.steps);
    let (claim, draws, upto) = (Claim { contribution, trace: &trace }, &task.draws, task.upto);
    let task = WindowTask { window, miner, pages: task.pages.clone(), steps };
    let start = WindowStart { task: &task, parameters: parameters.into(), state };
    replay_up_to(inputs.recipe, start, claim, draws, upto, &|page| inputs.page(window, page))
        .map_err(|error| InputError::from(&error))
}

/// The contributions of a cut, for one validator to judge.
#[derive(Clone, Copy)]
pub struct JudgeTask<'a> {
    /// The draws of the validator: which contributions it replays, and which it measures on which pages.
    pub plan: &'a JudgePlan,
    /// The contributions, in the order of the cut.
    pub contributions: &'a [Signed<Contribution>],
    /// The parameters of the checkpoint before the window, flat.
    pub parameters: &'a [f32],
}

/// Judges every contribution of a cut as its plan says, and gives one entry for each, in the order of the cut.
///
/// `replay` decides about a contribution that the plan draws; it also gives the claims of a match.
/// `is_withheld` decides whether any other contribution counts as withheld, and is told whether its delta is
/// missing. A delta that is damaged here is not missing: it is an error.
///
/// Every delta is decoded and compared with the others. Those that the plan draws for it are measured, unless
/// this validator refuses them as withheld or malformed.
///
/// # Errors
/// [`InputError`] where a blob that is needed is missing, damaged or broken.
pub fn judge(
    inputs: &AuditInputs<'_>,
    task: &JudgeTask<'_>,
    mut replay: impl FnMut(&Contribution) -> Result<(Replay, Vec<Hash>), InputError>,
    is_withheld: impl Fn(&Contribution, bool) -> bool,
) -> Result<Vec<ScoreEntry>, InputError> {
    let JudgeTask { plan, contributions, parameters } = *task;
    let (mut replays, mut proofs) = (Vec::new(), Vec::new());
    let mut deltas = Vec::new();
    for contribution in contributions.iter().map(Signed::payload) {
        let drawn = plan.replay.contains(&contribution.miner);
        let (replay, claims) = if drawn { replay(contribution)? } else { (Replay::NotDrawn, Vec::new()) };
        let draws = plan.draws.get(&contribution.miner).filter(|_| replay == Replay::Match);
        proofs.push(draws.and_then(|draws| prove(draws, &claims, &plan.validator)));
        let delta = open_delta(inputs, contribution);
        let missing = matches!(delta, Err(InputError::Withheld { .. }));
        let (replay, delta) = match delta {
            _ if is_unreadable(&replay) => (replay, None),
            _ if !drawn && is_withheld(contribution, missing) => (Replay::Refused(Refusal::Withheld), None),
            delta => (replay, delta?.ok()),
        };
        replays.push(replay);
        deltas.push(delta);
    }
    let nearest = nearest(&deltas);
    let mut evaluator = Evaluator::new(inputs, parameters);
    let mut entries = Vec::new();
    for (((signed, (replay, proof)), delta), nearest) in
        contributions.iter().zip(replays.into_iter().zip(proofs)).zip(deltas).zip(nearest)
    {
        let miner = signed.payload().miner;
        let task = plan.evaluations.iter().find(|task| task.contribution.miner == miner);
        let evaluation = match (task, &delta) {
            (None, _) => Evaluation::NotDrawn,
            (Some(_), None) => Evaluation::Untried,
            (Some(task), Some(delta)) => task.evaluation(&plan.validator, evaluator.measure(task, delta)?),
        };
        entries.push(ScoreEntry {
            miner,
            contribution: signed.id().into(),
            replay,
            proof,
            evaluation,
            body: delta.as_ref().map(Delta::body_hash),
            nearest: nearest.map(|(index, _)| contributions[index].payload().miner),
            overlap_ppm: nearest.map_or(0, |(_, overlap_ppm)| overlap_ppm),
        });
    }
    Ok(entries)
}

/// Makes spot checks of contributions to one window, from the `parameters` of the checkpoint before it. Returns a
/// contest for each measurement that is not what the record says. What cannot be read here is left out.
///
/// # Errors
/// [`InputError`] where an input is broken, or the device fails.
pub fn spot_check(
    inputs: &AuditInputs<'_>,
    checks: &[SpotCheck],
    parameters: &[f32],
) -> Result<Vec<Contest>, InputError> {
    let mut evaluator = Evaluator::new(inputs, parameters);
    let mut contests = Vec::new();
    for check in checks {
        let measured = open_delta(inputs, &check.task.contribution).and_then(|delta| match delta {
            Ok(delta) => evaluator.measure(&check.task, &delta),
            Err(_) => Ok(None),
        });
        match measured {
            Ok(measured) => contests.extend(check.contest(measured.map(|(losses, _)| losses))),
            Err(InputError::Withheld { .. } | InputError::Unavailable { .. } | InputError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(contests)
}

/// Measures one contribution from `parameters`, those of the checkpoint before its window. `None` where the delta
/// does not decode, or its trial step is not finite.
///
/// # Errors
/// [`InputError`] where a blob that is needed is missing, damaged or broken.
pub fn measure_contribution(
    inputs: &AuditInputs<'_>,
    task: &EvaluationTask,
    parameters: &[f32],
) -> Result<Option<(Losses, Hash)>, InputError> {
    match open_delta(inputs, &task.contribution)? {
        Ok(delta) => Evaluator::new(inputs, parameters).measure(task, &delta),
        Err(_) => Ok(None),
    }
}

/// For each delta: the place of the other delta that is most like it (the first of equals), and their overlap
/// in parts per million. The overlap is the share of the positions that both send. It is the whole where two
/// deltas are equal in everything but the header.
fn nearest(deltas: &[Option<Delta>]) -> Vec<Option<(usize, u32)>> {
    let (places, here): (Vec<usize>, Vec<&Delta>) =
        deltas.iter().enumerate().filter_map(|(place, delta)| Some((place, delta.as_ref()?))).unzip();
    let bodies: Vec<Hash> = here.iter().map(|delta| delta.body_hash()).collect();
    let overlaps = overlaps_ppm(&here);
    let mut found = vec![None; deltas.len()];
    for (i, place) in places.iter().enumerate() {
        for (j, other) in places.iter().enumerate().filter(|(j, _)| *j != i) {
            let overlap = if bodies[i] == bodies[j] { WHOLE_PPM } else { overlaps[i][j] };
            if found[*place].is_none_or(|(_, nearest)| overlap > nearest) {
                found[*place] = Some((*other, overlap));
            }
        }
    }
    found
}

/// Tells whether a contribution is not read further, because its delta or its trace is missing or malformed.
fn is_unreadable(replay: &Replay) -> bool {
    matches!(replay, Replay::Refused(Refusal::Withheld | Refusal::Malformed { .. }))
}

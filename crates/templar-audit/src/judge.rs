//! Judges the contributions of a cut: decodes, replays, measures.

use templar_delta::{Delta, max_bytes, overlaps_ppm};
use templar_manifest::proof::prove;
use templar_manifest::trace::{Trace, TraceHeader};
use templar_manifest::{Contribution, Hash, PublicKey, Refusal, Replay, ScoreEntry, Signed, StateId};
use templar_protocol::{JudgePlan, ReplayTask};
use templar_train::{Claim, MinerState, Replayed, Task, evaluate, replay, trial};

use crate::evidence::{Evidence, EvidenceError, chain};

/// All positions.
const WHOLE_PPM: u32 = 1_000_000;

/// A refusal's text: printable ASCII, bounded, as manifests have it.
fn refusal_text(error: &dyn std::error::Error) -> String {
    let mut text: String = chain(error).chars().map(|c| if (' '..='~').contains(&c) { c } else { '?' }).collect();
    text.truncate(512);
    text
}

/// The delta of a contribution, or why it is refused.
fn open_delta(evidence: &Evidence<'_>, contribution: &Contribution) -> Result<Result<Delta, Refusal>, EvidenceError> {
    let recipe = evidence.recipe;
    let limit = max_bytes(&recipe.tensors, &recipe.compression)
        .map_err(|error| EvidenceError::Broken(format!("bound of deltas: {}", chain(&error))))?;
    if contribution.delta_bytes > limit {
        // Refused by its claim alone: nobody has to fetch what cannot be a delta.
        return Ok(Err(Refusal::WrongClaim { field: "delta_bytes".to_owned() }));
    }
    let bytes = evidence.blob("delta", &contribution.delta.hash(), limit)?;
    if bytes.len() as u64 != contribution.delta_bytes {
        return Ok(Err(Refusal::WrongClaim { field: "delta_bytes".to_owned() }));
    }
    Ok(recipe.decode_delta(contribution, &bytes).map_err(|error| Refusal::Malformed { error: refusal_text(&error) }))
}

/// The trace of a contribution, or why it is refused.
fn open_trace(evidence: &Evidence<'_>, contribution: &Contribution) -> Result<Result<Trace, Refusal>, EvidenceError> {
    let expected = TraceHeader::of(contribution, evidence.recipe.tensors.len() as u32);
    if contribution.trace_bytes != expected.trace_bytes() {
        return Ok(Err(Refusal::WrongClaim { field: "trace_bytes".to_owned() }));
    }
    let bytes = evidence.blob("trace", &contribution.trace.hash(), contribution.trace_bytes)?;
    Ok(Trace::decode(&bytes, &expected).map_err(|error| Refusal::Malformed { error: refusal_text(&error) }))
}

/// Replays one contribution from the parameters of its window's checkpoint, with the claims of those who were drawn. `state`
/// gives the miner's state by its id; it is asked only where delta and trace are well formed.
///
/// # Errors
/// What is missing or broken; a contribution that is wrong is not an error but a refusal.
pub fn replay_contribution(
    evidence: &Evidence<'_>,
    task: &ReplayTask,
    parameters: &[f32],
    state: impl FnOnce(&StateId) -> Result<MinerState, EvidenceError>,
) -> Result<Replayed, EvidenceError> {
    let contribution = &task.contribution;
    let refused = |refusal| Ok(Replayed::without_state(Replay::Refused(refusal)));
    if let Err(refusal) = open_delta(evidence, contribution)? {
        return refused(refusal);
    }
    let trace = match open_trace(evidence, contribution)? {
        Ok(trace) => trace,
        Err(refusal) => return refused(refusal),
    };
    let state = state(&contribution.state_in)?;
    let (window, miner, steps) = (contribution.window, contribution.miner, contribution.steps);
    let (claim, draws) = (Claim { contribution, trace: &trace }, &task.draws);
    let task = Task { window, miner, pages: task.pages.clone(), steps };
    replay(evidence.recipe, &task, parameters, state, claim, draws, &|page| evidence.page(window, page))
        .map_err(|error| EvidenceError::train(&error))
}

/// Measures every contribution of the cut as `plan` says. `replay` decides about one contribution of those that the plan
/// draws, with the claims that a match gives, and `is_withheld` whether another is withheld, told whether its delta is missing; the entries come in the order of
/// the cut. With a delta that cannot be tried the losses are 0, and in a run that measures nothing all are; one that this validator refuses as withheld or
/// malformed is not looked at.
pub fn judge(
    evidence: &Evidence<'_>,
    plan: &JudgePlan,
    contributions: &[Signed<Contribution>],
    parameters: &[f32],
    mut replay: impl FnMut(&Contribution) -> Result<(Replay, Vec<Hash>), EvidenceError>,
    is_withheld: impl Fn(&Contribution, bool) -> bool,
) -> Result<Vec<ScoreEntry>, EvidenceError> {
    let recipe = evidence.recipe;
    let (mut replays, mut proofs) = (Vec::new(), Vec::new());
    let mut deltas = Vec::new();
    for contribution in contributions.iter().map(Signed::payload) {
        let drawn = plan.replay.contains(&contribution.miner);
        let (replay, claims) = if drawn { replay(contribution)? } else { (Replay::NotDrawn, Vec::new()) };
        let draws = plan.draws.get(&contribution.miner).filter(|_| replay == Replay::Match);
        proofs.push(draws.and_then(|draws| prove(draws, &claims, &plan.validator)));
        let delta = open_delta(evidence, contribution);
        let missing = matches!(delta, Err(EvidenceError::Unavailable { .. }));
        let (replay, delta) = match delta {
            _ if is_unreadable(&replay) => (replay, None),
            _ if !drawn && is_withheld(contribution, missing) => (Replay::Refused(Refusal::Withheld), None),
            delta => (replay, delta?.ok()),
        };
        replays.push(replay);
        deltas.push(delta);
    }
    let nearest = nearest(&deltas);
    let mut model = recipe.model(plan.window);
    let mut loss = |parameters: &[f32], pages: &[Vec<u32>]| {
        evaluate(&mut model, parameters, pages)
            .map_err(|error| EvidenceError::Broken(format!("evaluation: {}", chain(&error))))
    };
    let unassigned = evidence.pages(plan.window, &plan.unassigned)?;
    let unassigned_before = loss(parameters, &unassigned)?;
    let mut entries = Vec::new();
    for (((signed, (replay, proof)), delta), nearest) in
        contributions.iter().zip(replays.into_iter().zip(proofs)).zip(deltas).zip(nearest)
    {
        let miner = signed.payload().miner;
        let mut entry = ScoreEntry {
            miner,
            contribution: signed.id().into(),
            replay,
            proof,
            assigned_before_nanonats: 0,
            assigned_after_nanonats: 0,
            unassigned_before_nanonats: 0,
            unassigned_after_nanonats: 0,
            body: delta.as_ref().map(Delta::body_hash),
            nearest: nearest.map(|(index, _)| contributions[index].payload().miner),
            overlap_ppm: nearest.map_or(0, |(_, overlap_ppm)| overlap_ppm),
        };
        let delta = delta.filter(|_| recipe.genesis.gauntlet.measures());
        let tried = delta.and_then(|delta| trial(recipe, plan.window.0, &delta, parameters).ok());
        if let Some(tried) = tried {
            let assigned = evidence.pages(plan.window, assigned_pages(plan, &miner))?;
            entry.assigned_before_nanonats = loss(parameters, &assigned)?;
            entry.assigned_after_nanonats = loss(&tried, &assigned)?;
            entry.unassigned_before_nanonats = unassigned_before;
            entry.unassigned_after_nanonats = loss(&tried, &unassigned)?;
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// For each delta the place of the other that is most alike, the first of equals, and how alike it is: the share of the
/// positions that both send, and all of them where everything but the header is equal.
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

/// Whether nothing of a contribution is measured, because the delta or the trace beside it is not there or not sound.
fn is_unreadable(replay: &Replay) -> bool {
    matches!(replay, Replay::Refused(Refusal::Withheld | Refusal::Malformed { .. }))
}

fn assigned_pages<'a>(plan: &'a JudgePlan, miner: &PublicKey) -> &'a [u64] {
    plan.assigned.get(miner).map_or(&[], Vec::as_slice)
}

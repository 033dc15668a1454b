//! Explanations, computed again from the journal and never stored: what a score or a record does to the standings of miners,
//! step by step.

use serde_json::{Value, json};
use templar_home::access::Access;
use templar_manifest::{Hash, Kind, Outcome, Registration, Score, Signed, WindowRecord, payload};
use templar_protocol::{Judging, Node, RunState, Standing};

use crate::error::CommandError;

/// An explanation, for programs and for people; empty where the run or the window is not here.
#[derive(Default)]
pub(super) struct Explanation {
    /// A list: of a score or record with one element for each validator.
    pub(super) value: Vec<Value>,
    /// Lines.
    pub(super) lines: Vec<String>,
}

/// Explains a registration by what became of it, a score by the standings before and after it, and a record by what its scores came to in the end.
pub(super) fn of(access: &Access, kind: Kind, id: Hash, bytes: &[u8]) -> Result<Explanation, CommandError> {
    match kind {
        Kind::Score => {
            let Ok(score) = payload::decode::<Score>(bytes) else { return Ok(Explanation::default()) };
            let Some(node) = node(access, score.run.hash())? else { return Ok(Explanation::default()) };
            Ok(explain_score(&node, &score).unwrap_or_default())
        }
        Kind::Window => {
            let Ok(record) = payload::decode::<WindowRecord>(bytes) else { return Ok(Explanation::default()) };
            let Some(node) = node(access, record.run.hash())? else { return Ok(Explanation::default()) };
            Ok(explain_record(&node, id, &record).unwrap_or_default())
        }
        Kind::Registration => {
            let Ok(asked) = payload::decode::<Registration>(bytes) else { return Ok(Explanation::default()) };
            let Some(node) = node(access, asked.run.hash())? else { return Ok(Explanation::default()) };
            Ok(super::registration::explain(&node, id, &asked).unwrap_or_default())
        }
        _ => Ok(Explanation::default()),
    }
}

fn node(access: &Access, run: Hash) -> Result<Option<Node>, CommandError> {
    if !access.home.runs()?.contains(&run.into()) {
        return Ok(None);
    }
    Ok(Some(access.fold(&access.run(Some(run.into()))?)?))
}

fn explain_score(node: &Node, score: &Score) -> Option<Explanation> {
    let state = node.state_at(score.window)?;
    let closed = node.closed().get(usize::try_from(score.window.0).ok()?);
    let judging = match closed {
        Some(closed) => state.judging_of(closed).ok()?,
        None => node.judging()?.clone(),
    };
    if judging.seed() != score.seed || judging.cut_id() != score.cut {
        return None;
    }
    let mut found = Explanation::default();
    found.add(&state, &judging, score, None);
    Some(found)
}

fn explain_record(node: &Node, id: Hash, record: &WindowRecord) -> Option<Explanation> {
    let state = node.state_at(record.window)?;
    let closed = node.closed().get(usize::try_from(record.window.0).ok()?)?;
    if closed.record.hash() != id {
        return None;
    }
    let judging = state.judging_of(closed).ok()?;
    let mut found = Explanation::default();
    for score in closed.scores.iter().map(Signed::payload) {
        found.add(&state, &judging, score, Some(&record.outcomes));
    }
    Some(found)
}

impl Explanation {
    fn add(&mut self, state: &RunState, judging: &Judging, score: &Score, outcomes: Option<&[Outcome]>) {
        let found = state.assessment(judging, &score.validator, &score.entries, outcomes);
        let when = if outcomes.is_some() { "after the record" } else { "by this score" };
        self.lines.push(format!("standings with validator {} {when}:", score.validator.short()));
        let mut miners = Vec::new();
        for (miner, after) in &found.standings {
            let before = state.standing(&score.validator, miner);
            let weight = score.row.iter().find(|weight| weight.miner == *miner).map_or(0, |weight| weight.weight_ppm);
            let worth = found.scores.get(miner).copied();
            self.lines.push(format!(
                "  miner {}: {} -> {}; score {}, weight {:.2} %",
                miner.short(),
                words(&before),
                words(after),
                worth.map_or_else(|| "none".to_owned(), |worth| format!("{:.6}", worth as f64 / 1e12)),
                f64::from(weight) / 1e4,
            ));
            let changes: Vec<_> = found.changes.iter().filter(|change| change.miner == *miner).collect();
            for change in &changes {
                let (before, after) = (words(&change.before), words(&change.after));
                let moved = if before == after { String::new() } else { format!(": {before} -> {after}") };
                self.lines.push(format!("    {}{moved}", change.cause));
            }
            miners.push(json!({
                "miner": miner, "before": numbers(&before), "after": numbers(after), "score_picos": worth,
                "weight_ppm": weight,
                "changes": changes.iter().map(|change| json!({
                    "why": change.cause.to_string(), "before": numbers(&change.before), "after": numbers(&change.after),
                })).collect::<Vec<_>>(),
            }));
        }
        self.value.push(json!({"validator": score.validator, "miners": miners}));
    }
}

/// A standing in a few words.
fn words(standing: &Standing) -> String {
    let rating = standing.rating;
    format!(
        "{:.3} \u{b1} {:.3}, proof {:+.4}",
        rating.mu_picos as f64 / 1e12,
        rating.sigma_picos as f64 / 1e12,
        standing.proof_nanos as f64 / 1e9
    )
}

/// A standing in all its integers.
fn numbers(standing: &Standing) -> Value {
    json!({
        "mu_picos": standing.rating.mu_picos, "sigma_picos": standing.rating.sigma_picos,
        "ordinal_picos": standing.rating.ordinal_picos(), "proof_nanos": standing.proof_nanos,
        "missing": standing.missing.bits(), "withheld": standing.withheld.bits(),
        "negative": standing.negative.bits(), "excluded_until": standing.excluded_until,
    })
}

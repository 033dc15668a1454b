//! What was measured of a run's models: the signed evaluations that a home keeps, by checkpoint.

use std::collections::BTreeMap;

use serde::Serialize;
use templar_eval::Measured;
use templar_home::access::Access;
use templar_home::evaluations::{KeptEvaluation, KeptEvaluations};
use templar_manifest::{CheckpointId, Hash, PublicKey, RunId};

use crate::error::QueryError;

/// A signed evaluation in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignedEvaluation {
    /// The id of the document.
    pub evaluation: Hash,
    /// The name of the benchmark, or `text`.
    pub task: String,
    /// Examples before each question.
    pub shots: u32,
    /// Questions that were asked, or tokens of a text.
    pub questions: u64,
    /// Questions that were answered correctly; `None` for a text.
    pub correct: Option<u64>,
    /// The same by the score that is divided by characters, where the task has one.
    pub correct_normalised: Option<u64>,
    /// The negative log-likelihood of all right answers, or of the text, in 1e-9 nats.
    pub loss_nanonats: u64,
    /// The keys that vouch for it, sorted.
    pub signers: Vec<PublicKey>,
}

impl SignedEvaluation {
    fn of(kept: &KeptEvaluation) -> Self {
        let evaluation = kept.evaluation.id();
        let signers = kept.witnesses.iter().map(|witness| witness.signer).collect();
        match &kept.evaluation.measured {
            Measured::Task(result) => Self {
                evaluation,
                task: result.task.clone(),
                shots: result.shots,
                questions: result.questions,
                correct: Some(result.correct),
                correct_normalised: result.correct_normalised,
                loss_nanonats: result.loss_nanonats,
                signers,
            },
            Measured::Text(result) => Self {
                evaluation,
                task: "text".to_owned(),
                shots: 0,
                questions: result.tokens,
                correct: None,
                correct_normalised: None,
                loss_nanonats: result.loss_nanonats,
                signers,
            },
        }
    }

    /// The result in words: `acc 0.2632`, or nats a token.
    pub fn in_words(&self) -> String {
        let share = |part: u64| part as f64 / self.questions.max(1) as f64;
        match (self.correct, self.correct_normalised) {
            (Some(correct), None) => format!("acc {:.4}", share(correct)),
            (Some(correct), Some(normalised)) => {
                format!("acc {:.4}, acc_norm {:.4}", share(correct), share(normalised))
            }
            (None, _) => format!("{:.4} nats a token", self.loss_nanonats as f64 / 1e9 / self.questions.max(1) as f64),
        }
    }
}

/// The signed evaluations that a home keeps of a run's checkpoints, sorted by task, then by document.
///
/// # Errors
/// A kept document is damaged or cannot be read.
pub fn signed_evaluations(
    access: &Access,
    run: RunId,
) -> Result<BTreeMap<CheckpointId, Vec<SignedEvaluation>>, QueryError> {
    let mut found: BTreeMap<CheckpointId, Vec<SignedEvaluation>> = BTreeMap::new();
    for kept in KeptEvaluations::of(&access.home, run).read()? {
        if let (Some(checkpoint), false) = (kept.evaluation.checkpoint, kept.witnesses.is_empty()) {
            found.entry(checkpoint).or_default().push(SignedEvaluation::of(&kept));
        }
    }
    for of_checkpoint in found.values_mut() {
        of_checkpoint.sort_by(|one, other| (&one.task, one.evaluation).cmp(&(&other.task, other.evaluation)));
    }
    Ok(found)
}

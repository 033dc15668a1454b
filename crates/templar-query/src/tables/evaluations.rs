//! The table of evaluations.

use std::collections::BTreeMap;

use templar_eval::{Evaluation, Measured, TaskResult, TextResult};
use templar_export::tables::Field::{Id, Integer, OptionalId, OptionalInteger, OptionalText, Text};
use templar_export::tables::{Column, Table};
use templar_home::evaluations::KeptEvaluation;
use templar_manifest::{BlobId, CheckpointId, PublicKey, WindowIndex};

/// A document and one of its signers.
pub(super) struct EvaluationRow<'a> {
    evaluation: &'a Evaluation,
    /// `None` for a document that nobody has signed.
    signer: Option<PublicKey>,
    /// The window that starts from the checkpoint; `None` where the run has no such checkpoint.
    window: Option<WindowIndex>,
}

impl EvaluationRow<'_> {
    fn task(&self) -> Option<&TaskResult> {
        match &self.evaluation.measured {
            Measured::Task(result) => Some(result),
            Measured::Text(_) => None,
        }
    }

    fn text(&self) -> Option<&TextResult> {
        match &self.evaluation.measured {
            Measured::Task(_) => None,
            Measured::Text(result) => Some(result),
        }
    }

    fn files(&self) -> String {
        let ids = |ids: &[BlobId]| ids.iter().map(BlobId::to_string).collect::<Vec<_>>().join(" ");
        match &self.evaluation.measured {
            Measured::Task(result) => ids(&result.files),
            Measured::Text(result) => result.file.to_string(),
        }
    }

    fn loss_nanonats(&self) -> u64 {
        match &self.evaluation.measured {
            Measured::Task(result) => result.loss_nanonats,
            Measured::Text(result) => result.loss_nanonats,
        }
    }
}

/// The rows of one document: one for each signer, or one without.
pub(super) fn rows<'a>(
    kept: &'a KeptEvaluation,
    windows: &BTreeMap<CheckpointId, WindowIndex>,
) -> Vec<EvaluationRow<'a>> {
    let evaluation = &kept.evaluation;
    let window = evaluation.checkpoint.and_then(|checkpoint| windows.get(&checkpoint).copied());
    let row = |signer| EvaluationRow { evaluation, signer, window };
    match &kept.witnesses[..] {
        [] => vec![row(None)],
        witnesses => witnesses.iter().map(|witness| row(Some(witness.signer))).collect(),
    }
}

pub(super) fn table<'a>() -> Table<EvaluationRow<'a>> {
    let column = Column::<EvaluationRow<'a>>::new;
    Table {
        name: "evaluations",
        about: "A signature under an evaluation that this home keeps; nothing of it is in the records",
        columns: vec![
            column("evaluation", "id of the document", Id(|row| *row.evaluation.id().as_bytes())),
            column(
                "signer",
                "key that vouches for it; null if none does",
                OptionalId(|row| row.signer.map(|key| *key.as_bytes())),
            ),
            column(
                "window",
                "window that starts from the model; null if it is no checkpoint of the run",
                OptionalInteger(|row| row.window.map(|window| window.0)),
            ),
            column(
                "checkpoint",
                "checkpoint that was measured",
                OptionalId(|row| row.evaluation.checkpoint.map(|id| *id.hash().as_bytes())),
            ),
            column("model", "root of its weights", Id(|row| *row.evaluation.model.as_bytes())),
            column(
                "task",
                "name of the benchmark, or `text`",
                Text(|row| row.task().map_or("text", |task| &task.task).to_owned()),
            ),
            column(
                "template",
                "definition of its prompts and scores",
                OptionalText(|row| row.task().map(|task| task.template.clone())),
            ),
            column("files", "the files with the questions, or the text, divided by blanks", Text(EvaluationRow::files)),
            column(
                "shots",
                "examples before each question",
                OptionalInteger(|row| row.task().map(|task| task.shots.into())),
            ),
            column(
                "limit",
                "the most questions of a subject that were asked; null if all were",
                OptionalInteger(|row| row.task().and_then(|task| task.limit)),
            ),
            column(
                "questions",
                "questions that were asked",
                OptionalInteger(|row| row.task().map(|task| task.questions)),
            ),
            column(
                "correct",
                "of these, those that were answered correctly",
                OptionalInteger(|row| row.task().map(|task| task.correct)),
            ),
            column(
                "correct_normalised",
                "the same by the score divided by characters, where the task has one",
                OptionalInteger(|row| row.task().and_then(|task| task.correct_normalised)),
            ),
            column("tokens", "tokens of a text", OptionalInteger(|row| row.text().map(|text| text.tokens))),
            column("bytes", "bytes of a text", OptionalInteger(|row| row.text().map(|text| text.bytes))),
            column(
                "loss_nanonats",
                "negative log-likelihood of all right answers, or of the text, in 1e-9 nats",
                Integer(EvaluationRow::loss_nanonats),
            ),
        ],
    }
}

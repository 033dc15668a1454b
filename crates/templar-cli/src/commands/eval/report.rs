//! A result for people and for programs.

use serde_json::{Value, json};
use templar_eval::{Measured, TaskResult, TextResult};
use templar_manifest::{CheckpointId, Hash};
use templar_numerics::exp_f64;

use crate::printer;

/// The result as JSON.
pub(crate) fn value(measured: &Measured, model: Option<&Hash>, checkpoint: Option<&CheckpointId>) -> Value {
    let mut value = serde_json::to_value(measured).unwrap_or_default();
    let mut value =
        value.as_object_mut().and_then(|kinds| kinds.values_mut().next().map(Value::take)).unwrap_or_default();
    (value["model"], value["checkpoint"]) = (json!(model), json!(checkpoint));
    match measured {
        Measured::Task(result) => {
            value["acc"] = json!(share(result.correct, result.questions));
            value["acc_stderr"] = json!(error_of(result.correct, result.questions));
            if let Some(correct) = result.correct_normalised {
                value["acc_norm"] = json!(share(correct, result.questions));
                value["acc_norm_stderr"] = json!(error_of(correct, result.questions));
            }
            if is_last_word(result) {
                value["perplexity"] = json!(perplexity(result.loss_nanonats, result.questions));
            }
        }
        Measured::Text(result) => {
            value["nats_per_token"] = json!(mean(result.loss_nanonats, result.tokens));
            value["bits_per_byte"] = json!(mean(result.loss_nanonats, result.bytes) / std::f64::consts::LN_2);
            value["perplexity"] = json!(perplexity(result.loss_nanonats, result.tokens));
        }
    }
    value
}

/// The result in a line.
pub(crate) fn line(measured: &Measured) -> String {
    match measured {
        Measured::Task(result) => {
            let normalised = result.correct_normalised.map(|correct| share(correct, result.questions));
            let normalised = normalised.map_or_else(String::new, |share| format!(", acc_norm {share:.4}"));
            let (task, questions) = (&result.task, result.questions);
            format!("{task}: acc {:.4}{normalised} of {questions} questions", share(result.correct, questions))
        }
        Measured::Text(result) => format!("text: {:.6} nats a token", mean(result.loss_nanonats, result.tokens)),
    }
}

/// The result as a table.
pub(crate) fn table(measured: &Measured) -> String {
    match measured {
        Measured::Task(result) => task(result),
        Measured::Text(result) => text(result),
    }
}

fn task(result: &TaskResult) -> String {
    let cell = |correct, questions| match error_of(correct, questions) {
        Some(error) => format!("{:.4} ± {error:.4}", share(correct, questions)),
        None => format!("{:.4}", share(correct, questions)),
    };
    let mut heading = vec!["task", "examples", "questions", "acc"];
    let mut row = vec![
        result.task.clone(),
        result.shots.to_string(),
        result.questions.to_string(),
        cell(result.correct, result.questions),
    ];
    if let Some(correct) = result.correct_normalised {
        heading.push("acc_norm");
        row.push(cell(correct, result.questions));
    }
    if is_last_word(result) {
        heading.push("perplexity");
        row.push(format!("{:.4}", perplexity(result.loss_nanonats, result.questions)));
    }
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect(), row];
    for subject in &result.subjects {
        let share = cell(subject.correct, subject.questions);
        rows.push(vec![format!("  {}", subject.subject), String::new(), subject.questions.to_string(), share]);
    }
    printer::table(&rows)
}

fn text(result: &TextResult) -> String {
    let heading = ["tokens", "bytes", "nats per token", "bits per byte", "perplexity"].map(str::to_owned).to_vec();
    let row = vec![
        result.tokens.to_string(),
        result.bytes.to_string(),
        format!("{:.6}", mean(result.loss_nanonats, result.tokens)),
        format!("{:.6}", mean(result.loss_nanonats, result.bytes) / std::f64::consts::LN_2),
        format!("{:.4}", perplexity(result.loss_nanonats, result.tokens)),
    ];
    printer::table(&[heading, row])
}

fn is_last_word(result: &TaskResult) -> bool {
    result.task.parse().is_ok_and(templar_eval::Task::is_last_word)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The standard error of a share: that of the mean of as many zeros and ones. One question has none.
fn error_of(correct: u64, questions: u64) -> Option<f64> {
    let mean = share(correct, questions);
    (questions > 1).then(|| (mean * (1.0 - mean) / (questions - 1) as f64).sqrt())
}

/// A loss by its count, in nats.
fn mean(nanonats: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { nanonats as f64 / 1e9 / count as f64 }
}

fn perplexity(nanonats: u64, count: u64) -> f64 {
    exp_f64(mean(nanonats, count))
}

//! Evaluations on a schedule, beside a running node.
//!
//! A thread of its own measures the models that windows leave behind, and keeps each result signed in the home. It
//! reads the home as any other command does, through the node's socket, so the node never waits for it, and a result
//! that cannot be had is a warning. The schedule is a setting of this node: a result is the statement of whoever signs
//! it, and nothing in the records follows from one.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use templar_data::words;
use templar_eval::{Table, Task, read_text};
use templar_home::evaluations::KeptEvaluations;
use templar_home::files::read_small;
use templar_manifest::CheckpointId;

use crate::commands::eval::measure::{Subject, measure};
use crate::commands::eval::model::Measurable;
use crate::commands::eval::report;
use crate::commands::eval::result_files::Inputs;
use crate::error::{Code, CommandError};
use crate::invocation::Invocation;
use crate::printer::shown;

/// How often a model is looked for that the node has not brought here yet.
const LOOK: Duration = Duration::from_secs(1);

/// How often it is looked for in all. The bytes of a window are not there for ever.
const LOOKS: u32 = 600;

/// What is measured, and how often: a file in TOML.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScheduleFile {
    /// The model after every so many windows.
    #[serde(default = "one")]
    every: u64,
    /// The measurements.
    measure: Vec<Measurement>,
}

fn one() -> u64 {
    1
}

/// One measurement: a benchmark, or a text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measurement {
    task: Option<String>,
    #[serde(default)]
    file: Vec<PathBuf>,
    #[serde(default)]
    fewshot: u32,
    #[serde(default)]
    fewshot_from: Vec<PathBuf>,
    limit: Option<u64>,
    text: Option<PathBuf>,
}

/// What a node measures, checked.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    every: u64,
    measurements: Vec<(Subject, Inputs)>,
}

impl Schedule {
    /// Reads a schedule, and every file that it names once, so that a mistake is found before the node starts. Paths
    /// are relative to the folder of the schedule.
    pub(super) fn read(path: &Path) -> Result<Self, CommandError> {
        let text = read_small(path)?;
        let wrong = |what: &dyn std::fmt::Display| {
            let error = CommandError::says(Code::Usage, format_args!("{} is no schedule: {what}", shown(path)));
            error.hint("it has lines such as `every = 2`, and for each measurement `[[measure]]`, `task` and `file`")
        };
        let file: ScheduleFile = toml::from_str(&text)
            .map_err(|error: toml::de::Error| wrong(&words::toml(&text, error.span(), error.message())))?;
        if file.every == 0 || file.measure.is_empty() {
            return Err(wrong(&"it measures nothing"));
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let measurements = file.measure.into_iter().map(|measurement| measurement.checked(folder, &wrong));
        Ok(Self { every: file.every, measurements: measurements.collect::<Result<_, _>>()? })
    }

    /// Whether the model after this window is measured.
    fn has(&self, window: u64) -> bool {
        (window + 1).is_multiple_of(self.every)
    }
}

impl Measurement {
    fn checked(
        self,
        folder: &Path,
        wrong: &dyn Fn(&dyn std::fmt::Display) -> CommandError,
    ) -> Result<(Subject, Inputs), CommandError> {
        let beside = |paths: Vec<PathBuf>| paths.into_iter().map(|path| folder.join(path)).collect::<Vec<_>>();
        let subject = match (&self.task, &self.text) {
            (Some(name), None) => {
                let task: Task = name.parse().map_err(|error: templar_eval::UnknownTask| wrong(&error))?;
                Subject::Task { task, shots: self.fewshot, limit: self.limit }
            }
            (None, Some(_)) => Subject::Text,
            _ => return Err(wrong(&"a measurement has a `task` with its `file`, or a `text`")),
        };
        let model = String::new();
        let files = beside(self.text.into_iter().chain(self.file).collect());
        let inputs = Inputs { model, files, example_files: beside(self.fewshot_from) };
        match subject {
            Subject::Text if inputs.files.len() == 1 => drop(read_text(&inputs.files[0])?),
            Subject::Text => return Err(wrong(&"a text has no `file` beside it")),
            Subject::Task { .. } if inputs.files.is_empty() => return Err(wrong(&"a task has a `file`")),
            Subject::Task { shots, .. } if (shots > 0) == inputs.example_files.is_empty() => {
                return Err(wrong(&"`fewshot` and `fewshot_from` belong together"));
            }
            Subject::Task { task, limit, .. } => {
                Table::read(task, &inputs.files, limit)?;
                Table::read(task, &inputs.example_files, None)?;
            }
        }
        Ok((subject, inputs))
    }
}

/// The thread that measures.
pub(super) struct Evaluator {
    schedule: Schedule,
    due: Sender<(u64, CheckpointId)>,
}

impl Evaluator {
    /// Starts the thread. It ends with the process: what it has not finished is measured by nobody, or by hand.
    pub(super) fn start(invocation: &Invocation, schedule: Schedule) -> std::io::Result<Self> {
        let (due, models) = mpsc::channel();
        let (invocation, work) = (invocation.clone(), schedule.clone());
        std::thread::Builder::new()
            .name("evaluations".to_owned())
            .spawn(move || follow(&invocation, &work, &models))?;
        Ok(Self { schedule, due })
    }

    /// A window has closed and left this model.
    pub(super) fn closed(&self, window: u64, checkpoint: CheckpointId) {
        if self.schedule.has(window) {
            // The thread listens as long as this sender is there.
            let _ = self.due.send((window, checkpoint));
        }
    }
}

fn follow(invocation: &Invocation, schedule: &Schedule, models: &Receiver<(u64, CheckpointId)>) {
    for (window, checkpoint) in models {
        if let Err(error) = evaluate(invocation, schedule, window, checkpoint) {
            let lines = error.lines().join(": ");
            invocation.printer.warn(format_args!("the model after window {window} is not measured: {lines}"));
        }
    }
}

/// Measures one model, and keeps the results.
fn evaluate(
    invocation: &Invocation,
    schedule: &Schedule,
    window: u64,
    checkpoint: CheckpointId,
) -> Result<(), CommandError> {
    let mut model = brought(invocation, checkpoint)?;
    let home = templar_home::Home::open(invocation.root()?)?;
    let key = home.key()?;
    let quiet = Invocation { printer: invocation.printer.quiet(), ..invocation.clone() };
    for (subject, inputs) in &schedule.measurements {
        let done = measure(&quiet, &mut model, subject, inputs, None)?;
        let (Some(evaluation), Some(run)) = (&done.evaluation, model.run) else { continue };
        KeptEvaluations::of(&home, run).keep(evaluation, evaluation.sign(&key))?;
        let mut value = report::value(&done.measured, model.root.as_ref(), model.checkpoint.as_ref());
        (value["type"], value["window"], value["id"]) = (json!("evaluated"), json!(window), json!(evaluation.id()));
        invocation.printer.progress(&value, format_args!("w{window} {}", report::line(&done.measured)));
    }
    Ok(())
}

/// The model, as soon as the node has it.
fn brought(invocation: &Invocation, checkpoint: CheckpointId) -> Result<Measurable, CommandError> {
    let mut looks = 0;
    loop {
        match Measurable::open(invocation, &checkpoint.to_string()) {
            Err(error) if looks < LOOKS && matches!(error.code(), Code::NotFound | Code::Partial | Code::Locked) => {
                looks += 1;
                std::thread::sleep(LOOK);
            }
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Schedule, String> {
        let dir = tempfile::tempdir().unwrap();
        let row = r#"{"question": "?", "answerKey": "A", "choices": {"text": ["a", "b"], "label": ["A", "B"]}}"#;
        std::fs::write(dir.path().join("arc.jsonl"), format!("{row}\n{row}\n")).unwrap();
        std::fs::write(dir.path().join("text"), "words").unwrap();
        let path = dir.path().join("schedule.toml");
        std::fs::write(&path, text).unwrap();
        Schedule::read(&path).map_err(|error| error.lines().join(": "))
    }

    #[test]
    fn a_schedule_says_what_and_how_often() {
        let both = "every = 3\n[[measure]]\ntask = \"arc_easy\"\nfile = [\"arc.jsonl\"]\nlimit = 1\n[[measure]]\ntext = \"text\"";
        let schedule = read(both).unwrap();
        assert_eq!((0..7).filter(|window| schedule.has(*window)).collect::<Vec<_>>(), [2, 5]);
        assert_eq!(schedule.measurements.len(), 2);
        assert!(read("[[measure]]\ntext = \"text\"").unwrap().has(0), "every window without a number");
    }

    #[test]
    fn a_mistake_in_a_schedule_is_found_before_the_node_starts() {
        for (text, words) in [
            ("", "at line 1, column 1: the key `measure` is missing"),
            ("every = 0\n[[measure]]\ntext = \"text\"", "measures nothing"),
            ("measure = []", "measures nothing"),
            ("[[measure]]\ntask = \"chess\"\nfile = [\"arc.jsonl\"]", "chess"),
            ("[[measure]]\ntask = \"arc_easy\"", "a task has a `file`"),
            ("[[measure]]\ntask = \"arc_easy\"\nfile = [\"arc.jsonl\"]\nfewshot = 2", "belong together"),
            ("[[measure]]\ntask = \"piqa\"\nfile = [\"arc.jsonl\"]", "`goal` is missing"),
            ("[[measure]]\ntask = \"arc_easy\"\nfile = [\"nowhere\"]", "nowhere"),
            ("[[measure]]\ntext = \"text\"\nfile = [\"arc.jsonl\"]", "no `file`"),
            ("[[measure]]\ntext = \"text\"\nsample = 1", "sample"),
        ] {
            let said = read(text).unwrap_err();
            assert!(said.contains(words), "{words} in {said}");
        }
    }
}

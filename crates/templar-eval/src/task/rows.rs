//! What each task reads out of a row, and how it words the question.

use serde_json::Value;

use super::item::{Form, Item};
use super::names::Task;
use super::python::{capitalize, is_space, strip, without_brackets};
use super::row::{Row, RowError, wrong};

/// The letters of MMLU's answers.
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

/// The most answers that a question may have.
const MAX_ANSWERS: usize = 64;

pub(super) fn item(task: Task, fields: &Value) -> Result<Item, RowError> {
    let row = Row(fields);
    match task {
        Task::ArcChallenge | Task::ArcEasy => {
            let beginning = format!("Question: {}\nAnswer:", row.text("question")?);
            labelled(row, beginning, |key| key)
        }
        Task::OpenBookQa => {
            let beginning = row.some_text("question_stem")?.to_owned();
            labelled(row, beginning, |key| key.trim_start_matches(is_space))
        }
        Task::HellaSwag => hella_swag(row),
        Task::Lambada => last_word(row),
        Task::Mmlu => mmlu(row),
        Task::Piqa => {
            let beginning = format!("Question: {}\nAnswer:", row.text("goal")?);
            let endings = vec![row.text("sol1")?.to_owned(), row.text("sol2")?.to_owned()];
            endings_of(None, beginning, endings, row.label("label", 2)?)
        }
        Task::SciQ => {
            let support = row.text("support")?.trim_start_matches(is_space);
            let beginning = format!("{support}\nQuestion: {}\nAnswer:", row.text("question")?);
            let fields = ["distractor1", "distractor2", "distractor3", "correct_answer"];
            let endings =
                fields.into_iter().map(|field| row.text(field).map(str::to_owned)).collect::<Result<_, _>>()?;
            endings_of(None, beginning, endings, 3)
        }
        Task::WinoGrande => wino_grande(row),
    }
}

fn endings_of(subject: Option<String>, beginning: String, endings: Vec<String>, gold: usize) -> Result<Item, RowError> {
    Ok(Item { subject, form: Form::Endings { beginning, endings }, gold })
}

/// A question whose answers have labels, and whose right answer is named by its label.
fn labelled(row: Row<'_>, beginning: String, key: fn(&str) -> &str) -> Result<Item, RowError> {
    let (endings, labels) = (row.texts("choices.text")?, row.texts("choices.label")?);
    if endings.is_empty() || endings.len() > MAX_ANSWERS {
        return wrong("choices.text", format!("has {} answers", endings.len()));
    }
    if labels.len() != endings.len() {
        return wrong("choices.label", format!("has {} labels for {} answers", labels.len(), endings.len()));
    }
    let answer = key(row.text("answerKey")?);
    match labels.iter().position(|label| label == answer) {
        Some(gold) => endings_of(None, beginning, endings, gold),
        None => wrong("answerKey", format!("is {answer:?}, none of the labels {}", labels.join(", "))),
    }
}

fn hella_swag(row: Row<'_>) -> Result<Item, RowError> {
    let (label, first, second) = (row.text("activity_label")?, row.text("ctx_a")?, row.text("ctx_b")?);
    let beginning = plain(&format!("{label}: {first} {}", capitalize(second)));
    let endings: Vec<String> = row.texts("endings")?.iter().map(|ending| plain(ending)).collect();
    if endings.is_empty() || endings.len() > MAX_ANSWERS {
        return wrong("endings", format!("has {} answers", endings.len()));
    }
    let gold = row.label("label", endings.len())?;
    endings_of(None, beginning, endings, gold)
}

/// A text without the marks of WikiHow. The steps are in this order, so a text may keep a blank at its ends.
fn plain(text: &str) -> String {
    without_brackets(&strip(text).replace(" [title]", ". ")).replace("  ", " ")
}

fn last_word(row: Row<'_>) -> Result<Item, RowError> {
    let text = row.some_text("text")?;
    // Only blanks divide words: after a line end, the word is "end\nword".
    let (beginning, word) = text.rsplit_once(' ').unwrap_or(("", text));
    let form = Form::LastWord { beginning: beginning.to_owned(), word: word.to_owned() };
    Ok(Item { subject: None, form, gold: 0 })
}

fn mmlu(row: Row<'_>) -> Result<Item, RowError> {
    let choices = row.texts("choices")?;
    if choices.len() != LETTERS.len() {
        return wrong("choices", format!("has {} answers, not {}", choices.len(), LETTERS.len()));
    }
    let mut beginning = format!("{}\n", strip(row.text("question")?));
    for (letter, choice) in LETTERS.iter().zip(&choices) {
        beginning.push_str(&format!("{letter}. {choice}\n"));
    }
    beginning.push_str("Answer:");
    let subject = Some(row.some_text("subject")?.to_owned());
    endings_of(subject, beginning, LETTERS.map(str::to_owned).to_vec(), row.label("answer", LETTERS.len())?)
}

fn wino_grande(row: Row<'_>) -> Result<Item, RowError> {
    let sentence = row.text("sentence")?;
    let Some((before, after)) = sentence.split_once('_') else { return wrong("sentence", "has no `_`") };
    let options = [row.text("option1")?, row.text("option2")?];
    let gold = match row.text("answer")? {
        "1" => 0,
        "2" => 1,
        other => return wrong("answer", format!("is {other:?}, neither \"1\" nor \"2\"")),
    };
    let beginnings = options.map(|option| format!("{before}{option}")).to_vec();
    Ok(Item { subject: None, form: Form::Beginnings { beginnings, ending: strip(after).to_owned() }, gold })
}

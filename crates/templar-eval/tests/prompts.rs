//! The texts of each task, frozen: what lm-evaluation-harness 0.4.13 sends for the same rows.
//!
//! The rows are invented. `tests/compare/eval.py` compares whole files with the harness itself.

use serde_json::{Value, json};
use templar_eval::{Ask, Examples, Form, Item, Source, Task};

fn source(task: Task, fields: Value) -> Source {
    let item = task.item(&fields).unwrap();
    Source { fields, item }
}

fn item(task: Task, fields: Value) -> Item {
    task.item(&fields).unwrap()
}

fn texts(item: &Item) -> Vec<(String, String)> {
    item.asks("").into_iter().map(|Ask { context, continuation }| (context, continuation)).collect()
}

fn pairs(context: &str, continuations: &[&str]) -> Vec<(String, String)> {
    continuations.iter().map(|text| (context.to_owned(), (*text).to_owned())).collect()
}

#[test]
fn arc() {
    let row = json!({ "id": "x", "question": " Which is a rock? ", "answerKey": "3",
        "choices": { "text": ["basalt ", "a fern", "basil"], "label": ["1", "2", "3"] } });
    for task in [Task::ArcEasy, Task::ArcChallenge] {
        let item = item(task, row.clone());
        assert_eq!(item.gold, 2);
        let context = "Question:  Which is a rock? \nAnswer:";
        assert_eq!(texts(&item), pairs(context, &[" basalt ", " a fern", " basil"]));
        assert_eq!(item.example(), "Question:  Which is a rock? \nAnswer: basil\n\n");
        assert_eq!(item.characters(), [7, 6, 5]);
    }
}

#[test]
fn open_book_qa() {
    let row = json!({ "question_stem": "Ice is", "answerKey": " B",
        "choices": { "text": ["warm", "größer"], "label": ["A", "B"] } });
    let item = item(Task::OpenBookQa, row);
    assert_eq!((item.gold, item.characters()), (1, vec![4, 6]));
    assert_eq!(texts(&item), pairs("Ice is", &[" warm", " größer"]));
    assert_eq!(item.example(), "Ice is größer\n\n");
}

#[test]
fn hella_swag() {
    let row = json!({ "activity_label": "Baking", "ctx_a": "[header] How to bake [title] Mix it.  Then",
        "ctx_b": "then John and MARY [step]", "label": "1",
        "endings": ["[substeps] eat.", " sit  down ", "a   b"] });
    let item = item(Task::HellaSwag, row);
    // All but the first letter of the second part is in lower case, two blanks become one once, and blanks stay at the
    // ends where a bracket went.
    let context = "Baking: How to bake. Mix it. Then Then john and mary ";
    assert_eq!(texts(&item), pairs(context, &["  eat.", " sit down", " a  b"]));
    assert_eq!((item.gold, item.characters()), (1, vec![5, 8, 4]));
}

#[test]
fn piqa() {
    let row = json!({ "goal": "How to 100 ", "sol1": "count.", "sol2": " wait", "label": 0 });
    let item = item(Task::Piqa, row);
    assert_eq!(texts(&item), pairs("Question: How to 100 \nAnswer:", &[" count.", "  wait"]));
    assert_eq!(item.example(), "Question: How to 100 \nAnswer: count.\n\n");
}

#[test]
fn wino_grande() {
    let row =
        json!({ "sentence": "Ann met Bea because _ called. ", "option1": "Ann", "option2": "Bea", "answer": "2" });
    let wino = item(Task::WinoGrande, row);
    let expected = [("Ann met Bea because Ann", " called."), ("Ann met Bea because Bea", " called.")];
    assert_eq!(texts(&wino), expected.map(|(context, text)| (context.to_owned(), text.to_owned())));
    assert_eq!((wino.gold, wino.example()), (1, "Ann met Bea because Bea called.\n\n".to_owned()));
    // An ending without text has no gaps either.
    let row = json!({ "sentence": "Ann met _", "option1": "Bea", "option2": "Cy", "answer": "1" });
    assert_eq!(item(Task::WinoGrande, row).example(), "Ann met Bea");
}

#[test]
fn sci_q() {
    let row = json!({ "question": "What burns?", "support": "\n Wood burns.", "correct_answer": "wood",
        "distractor1": "air", "distractor2": "sand", "distractor3": "iron" });
    let sci = item(Task::SciQ, row);
    let context = "Wood burns.\nQuestion: What burns?\nAnswer:";
    assert_eq!(texts(&sci), pairs(context, &[" air", " sand", " iron", " wood"]));
    assert_eq!(sci.gold, 3);
}

#[test]
fn lambada() {
    let row = |text: &str| item(Task::Lambada, json!({ "text": text }));
    assert_eq!(texts(&row("the last word is\nhorse")), pairs("the last word", &[" is\nhorse"]));
    assert_eq!(texts(&row("alone")), pairs("", &[" alone"]));
    assert_eq!(row("the last horse").example(), "the last  horse\n\n", "two blanks");
}

#[test]
fn mmlu() {
    let row = |subject: &str, question: &str, answer: u32| {
        source(
            Task::Mmlu,
            json!({ "subject": subject, "question": question, "choices": ["p", "q ", "r", "s"], "answer": answer }),
        )
    };
    let pool = [row("dull_facts", " One? ", 0), row("other", "No?", 1), row("dull_facts", "Two?", 3)];
    let question = row("dull_facts", "Three?", 2);
    let before = Examples::new(Task::Mmlu, 2, &pool).before(&question).unwrap();
    let choices = "A. p\nB. q \nC. r\nD. s\nAnswer:";
    let description = "The following are multiple choice questions (with answers) about dull facts.\n\n";
    assert_eq!(before, format!("{description}One?\n{choices} A\n\nTwo?\n{choices} D\n\n"));
    let asks = question.item.asks(&before);
    assert_eq!(asks.iter().map(|ask| ask.continuation.as_str()).collect::<Vec<_>>(), [" A", " B", " C", " D"]);
    assert!(asks.iter().all(|ask| ask.context == format!("{before}Three?\n{choices}")));
    let error = Examples::new(Task::Mmlu, 3, &pool).before(&question).unwrap_err().to_string();
    assert_eq!(error, "a question needs 3 examples to choose from, and there are 2 of the subject dull_facts");
}

/// Rows of PIQA with a number each.
fn numbered(count: usize) -> Vec<Source> {
    let row = |number| source(Task::Piqa, json!({ "goal": format!("{number}"), "sol1": "a", "sol2": "b", "label": 0 }));
    (0..count).map(row).collect()
}

fn goals(before: &str) -> Vec<usize> {
    before.split("\n\n").filter_map(|text| text.split_once("Question: ")?.1.split('\n').next()?.parse().ok()).collect()
}

/// `r = random.Random(1234)`, then for each question `r.sample(range(100), 4)`: where the harness draws one more than
/// it shows, it leaves the question itself out of these four, and shows the first three.
#[test]
fn random_examples_are_pythons() {
    let pool = numbered(100);
    let draws = [[99, 56, 14, 0], [11, 74, 4, 85], [88, 10, 12, 98]];
    let mut examples = Examples::new(Task::Piqa, 3, &pool);
    let first = examples.before(&pool[56]).unwrap();
    assert_eq!(goals(&first), [99, 14, 0]);
    for draw in &draws[1..] {
        assert_eq!(goals(&examples.before(&numbered(200)[150]).unwrap()), draw[..3]);
    }
    let error = Examples::new(Task::Piqa, 100, &pool).before(&pool[0]).unwrap_err().to_string();
    assert_eq!(error, "a question needs 101 examples to choose from, and there are 100");
}

#[test]
fn a_question_that_stands_twice_among_its_examples_is_left_out_of_both() {
    let pool: Vec<Source> = numbered(2).into_iter().chain(numbered(3)).collect();
    // Two of the five rows are the question. Four are drawn, so that two others may be left where three are shown.
    let mut examples = Examples::new(Task::Piqa, 3, &pool);
    for _ in 0..20 {
        let shown = goals(&examples.before(&pool[0]).unwrap());
        assert!(shown.len() == 3 && !shown.contains(&0), "{shown:?}");
    }
}

#[test]
fn a_row_of_another_shape_is_named_by_its_field() {
    let arc = |key: &str, labels: &[&str]| json!({ "question": "q", "answerKey": key, "choices": { "text": ["a", "b"], "label": labels } });
    let piqa = |label: Value| json!({ "goal": "g", "sol1": "a", "sol2": "b", "label": label });
    let cases = [
        (Task::ArcEasy, json!({ "text": "x" }), "field `question` is missing; there are text"),
        (Task::ArcEasy, json!({ "question": 5 }), "field `question` is a number, not a text"),
        (Task::ArcEasy, arc("C", &["A", "B"]), "field `answerKey` is \"C\", none of the labels A, B"),
        (Task::ArcEasy, arc("A", &["A"]), "field `choices.label` has 1 labels for 2 answers"),
        (
            Task::ArcEasy,
            json!({ "question": "q", "choices": [1] }),
            "field `choices.text` is missing: the row is no object here",
        ),
        (Task::Piqa, piqa(json!(2)), "field `label` is 2, not a label from 0 to 1"),
        (Task::Piqa, piqa(json!(-1)), "field `label` is -1, not a label from 0 to 1"),
        (Task::Piqa, piqa(json!("")), "field `label` is \"\", not a label from 0 to 1"),
        (Task::WinoGrande, json!({ "sentence": "no gap" }), "field `sentence` has no `_`"),
        (Task::Lambada, json!({ "text": "" }), "field `text` is empty"),
        (
            Task::Mmlu,
            json!({ "question": "q", "choices": ["a"], "answer": 0, "subject": "s" }),
            "field `choices` has 1 answers, not 4",
        ),
        (
            Task::HellaSwag,
            json!({ "activity_label": "a", "ctx_a": "b", "ctx_b": "c", "endings": [1] }),
            "field `endings` has an element that is no text",
        ),
    ];
    for (task, row, expected) in cases {
        assert_eq!(task.item(&row).unwrap_err().to_string(), expected, "{task} {row}");
    }
}

#[test]
fn tasks_have_the_names_of_the_harness() {
    for task in Task::ALL {
        assert_eq!(task.name().parse(), Ok(task));
    }
    assert_eq!("lambada".parse(), Ok(Task::Lambada));
    let error = "arc".parse::<Task>().unwrap_err().to_string();
    assert!(error.starts_with("no task is called \"arc\"; there are arc_challenge, arc_easy, hellaswag"), "{error}");
    assert!(matches!(item(Task::Lambada, json!({ "text": "a b" })).form, Form::LastWord { .. }));
}

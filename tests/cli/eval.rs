//! Evaluations as people make and check them: a benchmark, a text, the folder of the same model, and everything that
//! can be wrong with a file.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::home::{Home, hash};

/// A run whose first checkpoint is evaluated, and a folder for files beside its home.
struct Bench {
    home: Home,
    folder: PathBuf,
}

impl Bench {
    fn new(seed: &str) -> Self {
        let home = Home::with_run(seed, &[]);
        let folder = home.path().with_file_name("bench");
        fs::create_dir_all(&folder).unwrap();
        Self { home, folder }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Twelve questions that nobody published.
    fn questions(&self) -> String {
        let row = |number: usize| {
            let answer = ["A", "B"][number % 2];
            json!({ "question": format!("To be number {number}?"), "answerKey": answer,
                "choices": { "text": ["to be", "or not"], "label": ["A", "B"] } })
        };
        self.file("arc.jsonl", &(0..12).map(|number| format!("{}\n", row(number))).collect::<String>())
    }

    fn out(&self) -> String {
        self.folder.join("results").to_str().unwrap().to_owned()
    }
}

/// The path of a result, as the program printed it.
fn result(value: &Value) -> String {
    let path = value["result"].as_str().unwrap().to_owned();
    assert!(Path::new(&path).ends_with(format!("evaluation-{}.cbor", hash(value, "id"))), "{path}");
    path
}

#[test]
fn a_checkpoint_its_folder_and_a_check_come_to_the_same() {
    let bench = Bench::new("evaluated");
    let (questions, out) = (bench.questions(), bench.out());
    let shown = ["--fewshot", "1", "--fewshot-from", &questions];
    let task = ["eval", "--task", "arc_easy", "--file", &questions, "--out", &out, "--sign"];
    let value = bench.home.ok(task.iter().chain(&shown));
    assert_eq!((&value["questions"], &value["shots"], &value["exact"]), (&json!(12), &json!(1), &json!(true)));
    let correct = value["correct"].as_u64().unwrap();
    assert_eq!(value["acc"], json!(correct as f64 / 12.0));
    let path = result(&value);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "no state is left");

    // The folder that is exported is the same model, and its sums have the same bits.
    let exported = bench.folder.join("exported").to_str().unwrap().to_owned();
    bench.home.ok(["export", "@", "--hf", &exported]);
    let again =
        bench.home.ok(["eval", "--task", "arc_easy", "--file", &questions, "--model", &exported].iter().chain(&shown));
    for field in ["model", "scores", "loss_nanonats", "correct", "correct_normalised"] {
        assert_eq!(again[field], value[field], "{field}");
    }

    let checked = bench.home.ok(["eval", "check", &path]);
    assert_eq!((&checked["verdict"], &checked["id"]), (&json!("match"), &value["id"]));
    assert_eq!(checked["signers"].as_array().unwrap().len(), 1);
    let with_folder =
        ["eval", "check", &path, "--model", &exported, "--file", &questions, "--fewshot-from", &questions];
    assert_eq!(bench.home.ok(with_folder)["verdict"], "match", "by the exported folder");

    // Another file is no disproof, and a signature that does not verify is one.
    let other = bench.file("other.jsonl", &fs::read_to_string(&questions).unwrap().replace("number 3", "number 4"));
    let said = bench.home.fails(5, ["eval", "check", &path, "--file", &other]);
    assert!(said.out.contains("unavailable") && said.out.contains("was used"), "{said:?}");
    let witness = path.replace(".cbor", ".witness.json");
    let mut signed: Value = serde_json::from_slice(&fs::read(&witness).unwrap()).unwrap();
    let signature = signed[0]["signature"].as_str().unwrap().to_owned();
    signed[0]["signature"] =
        json!(format!("{}{}", if signature.starts_with('0') { "1" } else { "0" }, &signature[1..]));
    fs::write(&witness, signed.to_string()).unwrap();
    let said = bench.home.fails(4, ["eval", "check", &path]);
    assert!(said.out.contains("mismatch") && said.out.contains("does not verify"), "{said:?}");
}

#[test]
fn a_result_with_another_number_does_not_match() {
    use templar_eval::{Evaluation, Measured};

    let bench = Bench::new("forged");
    let (questions, out) = (bench.questions(), bench.out());
    let value = bench.home.ok(["eval", "--task", "arc_easy", "--file", &questions, "--out", &out, "--limit", "5"]);
    let path = result(&value);
    let mut forged = Evaluation::decode(&fs::read(&path).unwrap()).unwrap();
    let Measured::Task(task) = &mut forged.measured else { panic!("a task") };
    assert_eq!((task.questions, task.limit), (5, Some(5)));
    task.loss_nanonats -= 1;
    let place = bench.file(&format!("evaluation-{}.cbor", forged.id()), "");
    fs::write(&place, forged.encode()).unwrap();
    let said = bench.home.fails(4, ["eval", "check", &place, "--model", "@", "--file", &questions]);
    assert!(said.last()["what"].as_str().unwrap().starts_with("loss_nanonats is "), "{said:?}");
    let said = bench.home.fails(2, ["eval", "check", &place]);
    assert!(said.err.contains("name them with --model and --file"), "{said:?}");
    let cut = bench.file("cut.cbor", "");
    fs::write(&cut, &fs::read(&path).unwrap()[..40]).unwrap();
    assert!(bench.home.fails(4, ["eval", "check", &cut]).err.contains("not an evaluation"));
}

#[test]
fn the_loss_on_a_text_is_measured() {
    let bench = Bench::new("text");
    let text = bench.file("text.txt", &"To be, or not to be: that is the question.\n".repeat(20));
    let value = bench.home.ok(["eval", "--text", &text, "--out", &bench.out()]);
    assert_eq!(value["bytes"], 20 * 43);
    // A model that has learnt nothing guesses among 2,048 tokens.
    let nats = value["nats_per_token"].as_f64().unwrap();
    assert!((nats - 2048f64.log2() * std::f64::consts::LN_2).abs() < 0.1, "{nats}");
    assert_eq!(bench.home.ok(["eval", "check", &result(&value)])["verdict"], "match");
    fs::write(&text, b"\xff").unwrap();
    assert!(bench.home.fails(1, ["eval", "--text", &text]).err.contains("is not UTF-8"));
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let bench = Bench::new("wrong files");
    let questions = bench.questions();
    let fails = |code, arguments: &[&str], words: &[&str]| {
        let said = bench.home.fails(code, ["eval"].iter().chain(arguments));
        words.iter().for_each(|words| assert!(said.err.contains(words), "{words} in {said:?}"));
        assert!(said.out.is_empty(), "{said:?}");
    };
    let out = bench.out();
    let piqa = ["--task", "piqa", "--file", &questions, "--out", &out];
    fails(1, &piqa, &["is no file of piqa", "row 1: field `goal` is missing; there are", "TASKS.md"]);
    let broken = bench.file("broken.jsonl", &(fs::read_to_string(&questions).unwrap() + "{\"question\": 5}\n"));
    fails(1, &["--task", "arc_easy", "--file", &broken], &["row 13: field `question` is a number, not a text"]);
    let bad = bench.file("bad.jsonl", "{\"question\": }\n");
    fails(1, &["--task", "arc_easy", "--file", &bad], &["row 1: not a JSON object"]);
    let empty = bench.file("empty.jsonl", "");
    fails(1, &["--task", "arc_easy", "--file", &empty], &["has no rows"]);
    fails(3, &["--task", "arc_easy", "--file", "/no such file"], &["/no such file"]);
    let few = ["--task", "arc_easy", "--file", &questions, "--fewshot", "13", "--fewshot-from", &questions];
    fails(1, &few, &["a question needs 13 examples to choose from, and there are 12", "--fewshot-from"]);
    let row = json!({ "goal": "g", "sol1": "to be ".repeat(40), "sol2": "b", "label": 0 });
    let long = bench.file("long.jsonl", &format!("{row}\n"));
    fails(1, &["--task", "piqa", "--file", &long], &["question 1 cannot be asked", "and the model reads 32"]);
    fails(2, &["--task", "arc", "--file", &questions], &["no task is called"]);
    fails(2, &["--task", "arc_easy"], &["--file"]);
    fails(2, &["--file", &questions], &["--task"]);
    assert!(!Path::new(&out).exists());

    // A place that cannot be written is said before the work.
    let nowhere = bench.folder.join("nowhere/samples.jsonl");
    let task = ["--task", "arc_easy", "--file", &questions, "--out", &out];
    fails(
        1,
        &[&task[..], &["--samples", nowhere.to_str().unwrap()]].concat(),
        &["nowhere/samples.jsonl cannot be written"],
    );
    assert!(!Path::new(&out).exists());
    fails(
        1,
        &["--task", "arc_easy", "--file", &questions, "--out", &questions],
        &["arc.jsonl cannot be written", "exists"],
    );
}

#[test]
fn a_prompt_longer_than_the_context_is_cut_and_said() {
    let bench = Bench::new("cut");
    let row = |words: usize| {
        json!({ "question": "to be ".repeat(words), "answerKey": "A",
            "choices": { "text": ["to be", "or not"], "label": ["A", "B"] } })
    };
    let said = |name: &str, words: usize| {
        let file = bench.file(name, &format!("{}\n{}\n", row(1), row(words)));
        let output = bench.home.command(["eval", "--task", "arc_easy", "--file", &file]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(!said("short.jsonl", 1).contains("left out"));
    let long = said("long.jsonl", 40);
    assert!(long.contains("2 of 4 answers do not fit the model's context of 32 tokens"), "{long}");
}

#[test]
fn a_kept_result_is_shown_by_the_log_the_card_and_the_tables() {
    let bench = Bench::new("kept");
    bench.home.window("0");
    let questions = bench.questions();
    let beside = |name: &str| bench.folder.join(name).to_str().unwrap().to_owned();
    assert!(bench.home.ok(["log"])["windows"][0].get("evaluations").is_none());
    let value = bench.home.ok(["eval", "--task", "arc_easy", "--file", &questions, "--keep"]);
    let key = hash(&bench.home.ok(["key", "show"]), "key");
    let logged = bench.home.ok(["log"])["windows"][0]["evaluations"].take();
    assert_eq!(
        logged,
        json!([{
            "evaluation": value["id"], "task": "arc_easy", "shots": 0, "questions": 12, "correct": value["correct"],
            "correct_normalised": value["correct_normalised"], "loss_nanonats": value["loss_nanonats"], "signers": [key],
        }])
    );
    let said = bench.home.say(["log"]).out;
    assert!(said.contains("evaluations") && said.contains("arc_easy: acc "), "{said}");
    bench.home.ok(["export", "@", "--hf", &beside("exported")]);
    let card = fs::read_to_string(bench.folder.join("exported/README.md")).unwrap();
    assert!(card.contains(value["id"].as_str().unwrap()) && card.contains(&format!("`{key}`")), "{card}");
    bench.home.ok(["export", "tables", "--format", "csv", "--out", &beside("tables")]);
    let table = fs::read_to_string(bench.folder.join("tables/evaluations.csv")).unwrap();
    let row = table.lines().nth(1).unwrap();
    assert!(row.starts_with(&format!("{},{key},1,", hash(&value, "id"))), "{table}");
    // The same once more adds nothing, and the model of before the window has a result of its own.
    bench.home.ok(["eval", "--task", "arc_easy", "--file", &questions, "--keep"]);
    assert_eq!(bench.home.ok(["log"])["windows"][0]["evaluations"].as_array().unwrap().len(), 1);
    let said = bench
        .home
        .fails(2, ["eval", "--task", "arc_easy", "--file", &questions, "--keep", "--model", &beside("exported")]);
    assert!(said.err.contains("no checkpoint of a run"), "{said:?}");

    // A damaged document is named, and nothing is made of it.
    let run = hash(&bench.home.ok(["run", "show"]), "run");
    let document = bench.home.path().join(format!("runs/{run}/evaluations/evaluation-{}.cbor", hash(&value, "id")));
    let bytes = fs::read(&document).unwrap();
    fs::write(&document, &bytes[..bytes.len() - 3]).unwrap();
    for arguments in [&["log"][..], &["export", "tables", "--out", &beside("more")]] {
        let said = bench.home.fails(5, arguments);
        assert!(said.err.contains("is damaged") && said.err.contains("remove the file"), "{said:?}");
    }
    assert!(!bench.folder.join("more").exists());
}

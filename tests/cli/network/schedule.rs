//! A node that measures the models of its run as genesis says, beside its work.

use std::fs;

use serde_json::{Value, json};

use super::running::Running;
use super::{Home, refused};
use crate::cli::home::hash;

/// Questions that nobody published, and a schedule that asks them after every second window.
fn write_schedule(home: &Home) -> String {
    let folder = home.path().with_file_name("schedule");
    fs::create_dir_all(&folder).unwrap();
    let row = |number: usize| {
        let answer = ["A", "B"][number % 2];
        let choices = json!({ "text": ["to be", "or not"], "label": ["A", "B"] });
        format!("{}\n", json!({ "question": format!("{number}?"), "answerKey": answer, "choices": choices }))
    };
    fs::write(folder.join("arc.jsonl"), (0..6).map(row).collect::<String>()).unwrap();
    fs::write(folder.join("words.txt"), "To be, or not to be: that is the question.\n").unwrap();
    let path = folder.join("schedule.toml");
    let text =
        "every = 2\n[[measure]]\ntask = \"arc_easy\"\nfile = [\"arc.jsonl\"]\n[[measure]]\ntext = \"words.txt\"\n";
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_validator_measures_every_second_model_and_signs() {
    let (validator, miner) = (Home::new("measuring"), Home::new("measured"));
    validator.ok(["dataset", "import", "--bundled"]);
    let schedule = write_schedule(&validator);
    let member = hash(&miner.ok(["key", "show"]), "key");
    validator.run_new(&["--miner", &member, "--benchmarks", &schedule], &["windows=4"]);
    // The files are part of the run now.
    let questions = validator.path().with_file_name("schedule").join("arc.jsonl");
    let moved = questions.with_extension("moved");
    fs::rename(&questions, &moved).unwrap();
    let judging = Running::start(&validator, ["node", "--role", "validator"]);
    miner.ok(["run", "join", &judging.ticket()]);
    let mining = Running::start(&miner, ["node", "--role", "miner"]);
    let is_done = |window: u64| move |line: &Value| line["type"] == "evaluated" && line["window"] == window;
    let first = judging.until(is_done(1));
    assert_eq!((&first["task"], &first["questions"]), (&json!("arc_easy"), &json!(6)));
    judging.until(is_done(3));
    let last = judging.until(is_done(3));
    assert!(last["nats_per_token"].is_f64(), "{last}");
    mining.stop();
    judging.stop();

    let log = validator.ok(["log"])["windows"].take();
    let measured = |window: usize| log[window]["evaluations"].as_array().map_or(0, Vec::len);
    assert_eq!([measured(0), measured(1), measured(2), measured(3)], [0, 2, 0, 2]);
    let (shown, key) = (&log[1]["evaluations"][0], hash(&validator.ok(["key", "show"]), "key"));
    assert_eq!((&shown["evaluation"], &shown["signers"]), (&first["id"], &json!([key])));
    // Anybody computes it again.
    let run = hash(&validator.ok(["run", "show"]), "run");
    let document = validator.path().join(format!("runs/{run}/evaluations/evaluation-{}.cbor", hash(&first, "id")));
    fs::rename(&moved, &questions).unwrap();
    let check = ["eval", "check", document.to_str().unwrap(), "--model", "w1", "--file", questions.to_str().unwrap()];
    assert_eq!(validator.ok(check)["verdict"], "match");
    // Whoever joins has the questions, and whoever removes what is old keeps them.
    miner.ok(["store", "gc"]);
    let blob = blake3::hash(&fs::read(&questions).unwrap()).to_string();
    assert_eq!(miner.ok(["show", &blob])["bytes"], fs::metadata(&questions).unwrap().len());

    fs::write(&schedule, "[[measure]]\ntask = \"chess\"\nfile = [\"arc.jsonl\"]\n").unwrap();
    let error = refused(&validator, 2, ["node", "--role", "validator", "--evaluate", &schedule]);
    assert!(error["error"].as_str().unwrap().contains("chess"), "{error}");
}

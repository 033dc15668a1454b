//! README and the guide are true: the hash that the demo ends in, the two commands, and the window by hand. The test
//! runs that window exactly as it is written.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use templar_testkit::demo::DEFAULT_CHECKPOINT;

/// The text of a document, named by its path from the root of the repository.
fn document(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The first block of shell commands under a heading.
fn commands<'a>(text: &'a str, heading: &str) -> &'a str {
    let section = text.split_once(heading).unwrap_or_else(|| panic!("there is no section {heading}")).1;
    section.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0
}

#[test]
fn the_hash_is_the_demos() {
    assert_eq!(DEFAULT_CHECKPOINT.len(), 64);
    assert!(document("README.md").contains(&format!("```text\n{DEFAULT_CHECKPOINT}\n```")));
}

#[test]
fn the_two_commands_are_these() {
    let readme = document("README.md");
    let first: Vec<&str> = commands(&readme, "## Try it")
        .lines()
        .map(|line| line.split_once('#').map_or(line, |(command, _)| command).trim())
        .collect();
    assert_eq!(first, ["cargo run --release -- demo", "cargo test --release"]);
}

/// Runs a block of shell commands in a directory, as it is written. Returns what it printed on stdout and on stderr.
fn run_as_written(dir: &Path, script: &str) -> (String, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_templar"));
    let path = program.parent().unwrap().display();
    // If a command fails, no background process may stay. Output goes to files, because a process that stayed
    // would hold a pipe open.
    let guarded =
        format!("set -eu\nexport PATH=\"{path}:$PATH\"\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
    let file = |name: &str| std::fs::File::create(dir.join(name)).unwrap();
    let mut child = Command::new("bash")
        .args(["-c", &guarded])
        .current_dir(dir)
        .env_remove("TEMPLAR_HOME")
        .stdin(Stdio::null())
        .stdout(file("said"))
        .stderr(file("complained"))
        .spawn()
        .unwrap();
    let bash = child.id();
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait()));
    let status = ended.recv_timeout(Duration::from_secs(240)).map(|status| status.unwrap().success());
    if status.is_err() {
        // The trap in the script ends the other processes.
        Command::new("kill").arg(bash.to_string()).status().unwrap();
    }
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let (out, err) = (read("said"), read("complained"));
    assert_eq!(status, Ok(true), "{out}\n{err}");
    (out, err)
}

#[test]
fn a_window_by_hand_is_as_written() {
    let guide = document("crates/GUIDE.md");
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = run_as_written(dir.path(), commands(&guide, "## A window by hand"));
    assert!(out.contains("match: 1 window, 2 of 2 contributions replayed"), "{out}\n{err}");
    assert_eq!(out.matches("contribution ").count() - out.matches("contribution of ").count(), 3, "{out}\n{err}");
}

/// Copies the files of a folder.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::write(to.join(entry.file_name()), std::fs::read(entry.path()).unwrap()).unwrap();
    }
}

/// Makes a model that has learnt nothing, with the tokenizer of the bundled dataset.
fn small_model(to: &Path) {
    use templar_model::{Model, hf, sizes};

    let spec = sizes::preset("tiny", 2048).unwrap();
    let spec = templar_manifest::ModelSpec { sequence_length: 512, ..spec };
    let parameters = Model::new(&spec, std::sync::Arc::new(templar_device::Cpu::best())).unwrap().init(&[7; 32]);
    let tokenizer = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/shakespeare/tokenizer.json"));
    let contents = hf::FolderContents {
        spec: &spec,
        params: &parameters,
        special: hf::SpecialIds { start: None, end: 0 },
        tokenizer: &tokenizer.unwrap(),
        tokenizer_config: &serde_json::json!({}),
    };
    hf::export(to, &contents).unwrap();
}

/// Questions that nobody published, in the form of ARC-Easy's. The name says parquet; what a file holds decides.
fn small_questions(to: &Path) {
    let row = |number: usize| {
        let answer = ["A", "B"][number % 2];
        let choices = serde_json::json!({ "text": ["to be", "or not"], "label": ["A", "B"] });
        let row = serde_json::json!({ "question": format!("{number}?"), "answerKey": answer, "choices": choices });
        format!("{row}\n")
    };
    std::fs::write(to, (0..30).map(row).collect::<String>()).unwrap();
}

/// A model comes in as a folder, is trained, measured, served, asked, handed on and checked.
#[test]
fn from_a_folder_to_a_folder_is_as_written() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no curl");
        return;
    }
    let guide = document("crates/GUIDE.md");
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A model that somebody trained and questions that somebody published, where they are beside the repository.
    let shared = root.join("../shared/data");
    let (model, questions) = (shared.join("stories260K-hf"), shared.join("eval/ai2_arc-ARC-Easy.parquet"));
    if model.is_dir() {
        copy_folder(&model, &at("base"))
    } else {
        small_model(&at("base"))
    }
    if questions.is_file() {
        std::fs::write(at("ARC-Easy.parquet"), std::fs::read(questions).unwrap()).unwrap();
    } else {
        small_questions(&at("ARC-Easy.parquet"));
    }
    std::fs::copy(root.join("datasets/shakespeare/shakespeare.parquet"), at("plays.parquet")).unwrap();

    let (out, err) = run_as_written(dir.path(), commands(&guide, "## From a folder to a folder"));
    assert_eq!(out.matches("match: the weights are checkpoint").count(), 2, "{out}\n{err}");
    assert!(out.contains("arc_easy: acc "), "{out}\n{err}");
    let text = |name: &str| std::fs::read_to_string(at(name)).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&text("answer.json")).unwrap();
    let generated = Command::new(env!("CARGO_BIN_EXE_templar"))
        .arg("--home")
        .arg(at("home"))
        .args(["generate", "--greedy", "--tokens", "20", "--prompt", "Once upon a time", "--json"])
        .output()
        .unwrap();
    let generated: serde_json::Value = serde_json::from_slice(&generated.stdout).unwrap();
    assert_eq!(answer["choices"][0]["text"], generated["text"]);
    let card = text("model/README.md");
    assert!(card.contains("## Evaluation") && card.contains("| arc\\_easy | 0 | 25 | acc "), "{card}");
    assert!(std::fs::read(at("model.gguf")).unwrap().starts_with(b"GGUF"));
    // The patched folder is the exported one.
    for entry in std::fs::read_dir(at("model")).unwrap() {
        let name = entry.unwrap().file_name();
        let [whole, patched] = ["model", "served"].map(|dir| std::fs::read(at(dir).join(&name)).unwrap());
        assert!(whole == patched, "{name:?}");
    }
    assert!(text("tables/tables.json").contains("\"evaluations\""));
}

/// The Slurm script of the guide, run by the guide's loop, gives the dataset that one machine makes.
#[test]
fn an_import_in_parts_is_as_written() {
    let guide = document("crates/GUIDE.md");
    let section = guide.split_once("## Import on a cluster").unwrap().1;
    let section = section.split_once("\n## ").unwrap().0;
    let blocks: Vec<&str> = section.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    let [script, commands] = blocks[..] else { panic!("the section has {} blocks", blocks.len()) };
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/shakespeare");
    std::fs::copy(root.join("tokenizer.json"), dir.path().join("tokenizer.json")).unwrap();
    std::fs::create_dir(dir.path().join("corpus")).unwrap();
    std::fs::copy(root.join("shakespeare.parquet"), dir.path().join("corpus/a.parquet")).unwrap();
    std::fs::write(dir.path().join("corpus/b.jsonl"), "{\"text\": \"Exit, pursued by a bear.\"}\n".repeat(40)).unwrap();
    std::fs::write(dir.path().join("import.sbatch"), script).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_templar"));
    let path = program.parent().unwrap().display().to_string();
    let last = |home: &str, commands: &str| {
        let commands = format!("set -e\nexport PATH=\"{path}:$PATH\"\ntemplar init > init\n{commands}");
        let mut bash = Command::new("bash");
        bash.args(["-c", &commands]).current_dir(dir.path()).env("TEMPLAR_HOME", home);
        let output = bash.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().last().unwrap().to_owned()
    };
    let joined = last("joined", commands);
    let one = "templar dataset import corpus --tokenizer tokenizer.json --licence CC-BY-4.0 --name corpus";
    assert_eq!(joined, last("one", one));
    assert_eq!(joined.len(), 64);
}

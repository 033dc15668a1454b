//! Tokenizers and models as people have them: which token ends a document, what an export states, and which folders
//! a run can start from.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use templar_manifest::ModelSpec;
use templar_model::{hf, sizes};

use super::home::{Home, Said};

/// The tokenizer of the bundled dataset, changed.
fn tokenizer(change: impl FnOnce(&mut Value)) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/shakespeare/tokenizer.json");
    let mut json = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    json
}

fn special(id: u32, name: &str) -> Value {
    json!({ "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true })
}

/// Writes a file beside the home and returns its path.
fn beside(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().with_file_name(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn import(home: &Home, tokenizer: &Path, arguments: &[&str]) -> Said {
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/shakespeare/shakespeare.parquet");
    let mut command = home.command(["dataset", "import", "--licence", "CC-BY-2.5", "--name", "shakespeare"]);
    command.arg(text).arg("--tokenizer").arg(tokenizer).args(arguments);
    Said::of(command.output().unwrap())
}

fn json_file(path: PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_tokenizer_without_a_known_end_token_is_answered_with_its_special_tokens() {
    let home = Home::new("no end");
    let own = tokenizer(|json| json["added_tokens"] = json!([special(2048, "<|doc|>"), special(2049, "<|user|>")]));
    let path = beside(&home, "own.json", &own.to_string());
    let said = import(&home, &path, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    // It is still in the vocabulary, as an ordinary token.
    for words in ["\"<|endoftext|>\" is an ordinary token", "\"<|doc|>\", \"<|user|>\"", "--end-token NAME"] {
        assert!(said.err.contains(words), "{words} in {said:?}");
    }
    assert_eq!(import(&home, &path, &["--end-token", "<|nobody|>"]).code, 1);
    assert_eq!(import(&home, &path, &["--end-token", "<|doc|>"]).code, 0);
    assert_eq!(home.ok(["dataset", "show", "shakespeare"])["manifest"]["end_token"], 2048);
}

/// The end token of the dataset is the one of everything after it, and the template of the file is nowhere.
#[test]
fn the_end_token_and_the_chat_template_reach_the_export() {
    let home = Home::new("ends");
    let piece = |name: &str| json!({ "SpecialToken": { "id": name, "type_id": 0 } });
    let token = |name: &str, id: u32| json!({ "id": name, "ids": [id], "tokens": [name] });
    let saved = tokenizer(|json| {
        let added = json["added_tokens"].as_array_mut().unwrap();
        added.extend([special(2048, "<END>"), special(2049, "<s>")]);
        json["truncation"] = json!({ "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0 });
        json["post_processor"] = json!({ "type": "TemplateProcessing",
            "single": [piece("<s>"), { "Sequence": { "id": "A", "type_id": 0 } }, piece("<|endoftext|>")],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": token("<s>", 2049), "<|endoftext|>": token("<|endoftext|>", 0) } });
    });
    let path = beside(&home, "saved/tokenizer.json", &saved.to_string());
    beside(&home, "saved/tokenizer_config.json", r#"{"chat_template": "{{ messages[0].content }}"}"#);
    let said = import(&home, &path, &["--end-token", "<END>"]);
    assert_eq!(said.code, 0, "{said:?}");
    for words in ["end with \"<END>\"", "truncation to 4 tokens is off", "\"<s>\" before and \"<|endoftext|>\" after"] {
        assert!(said.err.contains(words), "{words} in {said:?}");
    }
    home.run_new(&[], &[]);
    let folder = home.path().with_file_name("hf");
    home.ok(["export", "@", "--hf", folder.to_str().unwrap()]);
    let at = |name: &str| json_file(folder.join(name));
    for file in ["config.json", "generation_config.json"] {
        assert_eq!((&at(file)["eos_token_id"], &at(file)["bos_token_id"]), (&json!(2048), &Value::Null), "{file}");
    }
    let config = at("tokenizer_config.json");
    assert_eq!(config["eos_token"], "<END>");
    assert_eq!(config["chat_template"], "{{ messages[0].content }}");
    let exported = at("tokenizer.json");
    assert!(exported["post_processor"].is_null() && exported["truncation"].is_null());
    assert_eq!(exported["model"], saved["model"]);

    let said = home.say(["generate", "--prompt", "HAMLET", "--tokens", "3", "--greedy"]);
    assert!(said.err.contains("3 tokens; as many as --tokens allows"), "{said:?}");
    let drawn = home.ok(["generate", "--prompt", "HAMLET", "--tokens", "8"]);
    let seed = drawn["seed"].as_str().unwrap();
    let again = home.ok(["generate", "--prompt", "HAMLET", "--tokens", "8", "--seed", seed]);
    assert_eq!(drawn["text"], again["text"]);
    // The folder gives the same text as the run. It does not say what stands before a prompt, so it is written.
    let greedy = |arguments: &[&str]| {
        let all = [&["generate", "--tokens", "8", "--greedy", "--prompt", ""], arguments].concat();
        home.ok(all)["text"].clone()
    };
    assert_eq!(greedy(&["--from", folder.to_str().unwrap()]), greedy(&[]));
    // A run on the same dataset starts from the folder, whose tokenizer differs in its settings alone.
    let second = ["run", "new", "second", "--dataset", "shakespeare", "--from", folder.to_str().unwrap()];
    home.ok(second.into_iter().chain(["--set", "registration.slots=1", "--set", "inner.steps=1"]));
}

/// A folder with a model of a specification.
fn folder(home: &Home, spec: &ModelSpec, change: impl FnOnce(&mut Value)) -> PathBuf {
    let dir = home.path().with_file_name("source");
    let _ = fs::remove_dir_all(&dir);
    let elements: usize = templar_model::tensors(spec).unwrap().iter().map(|tensor| tensor.elements()).sum();
    let params: Vec<f32> = (0..elements).map(|index| (index % 251) as f32 / 1000.0 - 0.12).collect();
    let bundled = tokenizer(|_| ()).to_string();
    let contents = hf::FolderContents {
        spec,
        params: &params,
        special: hf::SpecialIds { start: None, end: 0 },
        tokenizer: bundled.as_bytes(),
        tokenizer_config: &Value::Null,
    };
    hf::export(&dir, &contents).unwrap();
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/shakespeare/tokenizer.json");
    fs::copy(tokenizer, dir.join("tokenizer.json")).unwrap();
    let mut config = json_file(dir.join("config.json"));
    change(&mut config);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    dir
}

const START: [&str; 5] = ["run", "new", "from", "--dataset", "shakespeare"];
const SMALL: [&str; 6] =
    ["--set", "registration.slots=1", "--set", "inner.steps=1", "--set", "inner.batch_sequences=4"];

fn starts(home: &Home, dir: &Path) -> Said {
    let arguments = START.into_iter().chain(SMALL).chain(["--from", dir.to_str().unwrap()]);
    Said::of(home.command(arguments).output().unwrap())
}

/// Heads of their own width, more rows than tokens, and a long context: trained, and exported as they came.
#[test]
fn a_model_comes_back_as_it_went_in() {
    let home = Home::new("models");
    home.ok(["dataset", "import", "--bundled"]);
    let small = sizes::preset("tiny", 2112).unwrap();
    let spec = ModelSpec { head_size: Some(16), sequence_length: 128, position_limit: Some(131_072), ..small };
    let dir = folder(&home, &spec, |config| {
        config["architectures"] = json!(["MistralForCausalLM"]);
        config["model_type"] = json!("mistral");
        config["sliding_window"] = Value::Null;
    });
    assert_eq!(starts(&home, &dir).code, 0);
    let genesis = home.ok(["run", "show"])["genesis"]["model"].clone();
    assert_eq!((&genesis["head_size"], &genesis["vocab_size"]), (&json!(16), &json!(2112)));
    assert_eq!((&genesis["sequence_length"], &genesis["position_limit"]), (&json!(2048), &json!(131_072)));
    let out = home.path().with_file_name("out");
    home.ok(["export", "@", "--hf", out.to_str().unwrap()]);
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), fs::read(dir.join("model.safetensors")).unwrap());
    let config = json_file(out.join("config.json"));
    assert_eq!((&config["max_position_embeddings"], &config["head_dim"]), (&json!(131_072), &json!(16)));
    home.window("0");
    home.ok(["generate", "--tokens", "2"]);
    assert_eq!(home.ok(["audit"])["verdict"], "match");
}

#[test]
fn a_folder_that_only_generates_is_named_by_run_new() {
    let home = Home::new("relatives");
    home.ok(["dataset", "import", "--bundled"]);
    let spec = sizes::preset("tiny", 2048).unwrap();
    let windowed = folder(&home, &spec, |config| {
        config["architectures"] = json!(["MistralForCausalLM"]);
        config["model_type"] = json!("mistral");
        config["sliding_window"] = json!(20);
    });
    let said = starts(&home, &windowed);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("sliding_window is 20") && said.err.contains("generate --from"), "{said:?}");
    assert_eq!(home.ok(["run", "list"])["runs"], json!([]));
    // Generation needs no home, and reads no further than the window.
    let text = Home::absent().ok(["generate", "--from", windowed.to_str().unwrap(), "--tokens", "50", "--greedy"]);
    assert!(text["stop"] == "context" || text["stop"] == "end-token", "{text}");
    let pickled = folder(&home, &spec, |_| ());
    fs::rename(pickled.join("model.safetensors"), pickled.join("pytorch_model.bin")).unwrap();
    let said = starts(&home, &pickled);
    assert!(
        said.code == 1 && said.err.contains("pytorch_model.bin") && said.err.contains("save_pretrained"),
        "{said:?}"
    );
    fs::write(pickled.join("model.safetensors"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    let said = starts(&home, &pickled);
    assert!(said.code == 1 && said.err.contains("git lfs pull"), "{said:?}");
}

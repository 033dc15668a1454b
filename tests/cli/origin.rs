//! A run that starts from a Hugging Face folder: it begins with exactly the model that another run exported.

use serde_json::{Value, json};

use super::home::{Home, hash};

const SETTINGS: [&str; 4] =
    ["inner.steps=3", "inner.batch_sequences=2", "inner.micro_batch_sequences=1", "gauntlet.held_out_pages=2"];

/// A home with a run of one window, and the folder that its model is exported to.
fn exported() -> (Home, String) {
    let home = Home::with_run("exporter", &[]);
    home.window("0");
    let folder = home.path().with_file_name("hf").to_str().unwrap().to_owned();
    home.ok(["export", "@", "--hf", &folder]);
    (home, folder)
}

fn run_new<'a>(folder: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run", "new", "second", "--dataset", "shakespeare", "--from", folder];
    arguments.extend(SETTINGS.iter().chain(settings).flat_map(|setting| ["--set", setting]));
    arguments
}

const CONTEXT: &str = r#"context=[{"from_window": 2, "sequence_length": 64, "batch_sequences": 1,
    "micro_batch_sequences": 1, "rope_theta": 20000, "rope_scaling": null}]"#;

fn blobs(checkpoint: &Value) -> Vec<&Value> {
    checkpoint["contents"]["tensors"].as_array().unwrap().iter().map(|tensor| &tensor["blob"]).collect()
}

#[test]
fn a_run_starts_from_an_exported_model() {
    let (exporter, folder) = exported();
    let home = Home::new("importer");
    home.ok(["dataset", "import", "--bundled"]);
    let run = home.ok(run_new(&folder, &["outer.null_windows=1", CONTEXT]));
    let model = exporter.ok(["show", "@"]);
    assert_eq!(json!(blobs(&model)), run["genesis"]["initial"]["tensors"]);
    assert_eq!(run["genesis"]["model"], exporter.ok(["run", "show"])["genesis"]["model"]);
    assert_eq!(home.ok(run_new(&folder, &["outer.null_windows=1", CONTEXT])), run, "the same folder is the same run");
    let first = home.ok(["show", &hash(&run, "checkpoint")]);
    assert_eq!(blobs(&first), blobs(&model));
    let genesis = home.ok(["show", &hash(&run, "run")]);
    assert!(genesis["links"].as_array().unwrap().iter().any(|link| link["kind"] == "tensor"), "{genesis}");

    // A null window records the training and leaves the model unchanged. From the third window on the context
    // is twice as long.
    for window in ["0", "1", "2", "3"] {
        home.window(window);
    }
    let after = |window: &str| home.ok(["show", &hash(&home.ok(["show", window])["contents"], "checkpoint")]);
    assert_eq!(home.body("w0")["outcomes"][0]["verdict"], "aggregated");
    assert_eq!(blobs(&after("w0")), blobs(&model));
    assert_ne!(blobs(&after("w1")), blobs(&model));
    let audit = home.ok(["audit", "--offline"]);
    assert_eq!((audit["verdict"].clone(), audit["windows"].clone()), (json!("match"), json!(4)));
    for (checkpoint, positions) in [("w1", 32), ("w2", 64)] {
        let folder = home.path().with_file_name(checkpoint);
        home.ok(["export", checkpoint, "--hf", folder.to_str().unwrap()]);
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["max_position_embeddings"], positions);
    }
}

#[test]
fn a_folder_that_does_not_fit_is_refused_before_anything_is_kept() {
    let (_exporter, folder) = exported();
    let home = Home::new("importer");
    home.ok(["dataset", "import", "--bundled"]);
    let refused = |code: i32, folder: &str, words: &str| {
        let said = home.fails(code, run_new(folder, &[]));
        assert!(said.err.contains(words) || said.out.contains(words), "{words:?} in {said:?}");
    };
    refused(3, "/nowhere", "tokenizer");
    let change = |file: &str, from: &str, to: &str| {
        let path = std::path::Path::new(&folder).join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}: {text}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    change("config.json", "LlamaForCausalLM", "GemmaForCausalLM");
    refused(1, &folder, "architectures is not supported");
    change("config.json", "GemmaForCausalLM", "LlamaForCausalLM");
    change("tokenizer.json", "{", " {");
    refused(1, &folder, "was tokenised with");
    assert_eq!(home.ok(["run", "list"])["runs"], json!([]));
    home.fails(2, ["run", "new", "both", "--dataset", "shakespeare", "--from", &folder, "--size", "tiny"]);
}

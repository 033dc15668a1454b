//! A model continues texts through the tokenizer of its training.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use templar_data::{TokenNames, Tokenizer};
use templar_device::Cpu;
use templar_eval::{ContinueError, Prompt, TextModel};
use templar_manifest::ModelSpec;
use templar_model::Model;
use templar_model::generate::{GenerateError, LanguageModel, Sampling, StopReason};
use templar_model::{hf, sizes};

fn token(id: u32, name: &str) -> Value {
    json!({ "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true })
}

/// A tokenizer of seven words.
fn words() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [token(0, "</s>"), token(1, "<pad>")],
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "unk_token": "<pad>",
            "vocab": { "</s>": 0, "<pad>": 1, "to": 2, "be": 3, "or": 4, "not": 5, "that": 6 } },
    })
}

/// A model with random parameters and more rows than tokens.
fn model(rows: u32) -> LanguageModel {
    let spec = ModelSpec { sequence_length: 24, ..sizes::preset("tiny", rows).unwrap() };
    let parameters = Model::new(&spec, Arc::new(Cpu::best())).unwrap().init(&[3; 32]);
    LanguageModel::new(&spec, &parameters).unwrap()
}

fn text_model(tokenizer: &Value, rows: u32) -> TextModel {
    let tokenizer = Tokenizer::new(tokenizer.to_string().into_bytes(), TokenNames::default()).unwrap();
    TextModel::new(model(rows), tokenizer, Vec::new())
}

const HOT: Sampling = Sampling::Draw { temperature: 2.0, top_p: 1.0, seed: [1; 32] };

/// What people save in a tokenizer must not change what a model reads.
#[test]
fn saved_settings_do_not_change_a_continuation() {
    let mut cut = words();
    cut["truncation"] = json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0 });
    let mut filled = words();
    filled["padding"] = json!({ "strategy": { "Fixed": 16 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 1, "pad_type_id": 0, "pad_token": "<pad>" });
    let mut ended = words();
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    ended["post_processor"] = json!({ "type": "TemplateProcessing",
        "single": [text, { "SpecialToken": { "id": "</s>", "type_id": 0 } }], "pair": [text, text],
        "special_tokens": { "</s>": { "id": "</s>", "ids": [0], "tokens": ["</s>"] } } });
    let say = |tokenizer: &Value| {
        let prompt = Prompt { text: "to be or not to", max_tokens: 6, sampling: HOT };
        text_model(tokenizer, 7).continue_text(&prompt).unwrap()
    };
    let plain = say(&words());
    assert!(!plain.tokens.is_empty());
    for other in [cut, filled, ended] {
        assert_eq!(say(&other), plain);
    }
}

#[test]
fn only_tokens_of_the_tokenizer_are_generated() {
    for seed in 0..8 {
        let sampling = Sampling::Draw { temperature: 50.0, top_p: 1.0, seed: [seed; 32] };
        let continued =
            text_model(&words(), 64).continue_text(&Prompt { text: "to", max_tokens: 30, sampling }).unwrap();
        assert!(continued.tokens.iter().all(|&token| token < 7), "{continued:?}");
        assert_ne!(continued.stop, Some(StopReason::Length));
    }
}

#[test]
fn a_caller_ends_a_text_and_keeps_what_there_is() {
    let prompt = Prompt { text: "to", max_tokens: 20, sampling: HOT };
    let whole = text_model(&words(), 7).continue_text(&prompt).unwrap();
    let asked = std::cell::Cell::new(0);
    let goes_on = || asked.replace(asked.get() + 1) < 2;
    let cut = text_model(&words(), 7).continue_while(&prompt, goes_on).unwrap();
    assert_eq!((cut.stop, &cut.tokens[..]), (None, &whole.tokens[..2]));
    assert!(whole.text.starts_with(&cut.text));
}

#[test]
fn blank_text_is_told_from_text_that_can_be_seen() {
    let mut model = text_model(&words(), 7);
    let mut continued = model.continue_text(&Prompt { text: "", max_tokens: 3, sampling: HOT }).unwrap();
    assert_eq!(continued.is_visible(), !continued.tokens.is_empty());
    for (text, visible) in [("", false), (" \n\t", false), ("\u{7}", false), ("\n.", true)] {
        continued.text = text.to_owned();
        assert_eq!(continued.is_visible(), visible, "{text:?}");
    }
}

#[test]
fn prompts_that_do_not_fit_are_refused() {
    let mut model = text_model(&words(), 7);
    let long = "to ".repeat(30);
    let refused = model.continue_text(&Prompt { text: &long, max_tokens: 3, sampling: HOT });
    assert!(matches!(refused, Err(ContinueError::Generate(GenerateError::PromptTooLong { found: 31, positions: 24 }))));
    // A model with fewer rows than the tokenizer has tokens.
    let mut small = text_model(&words(), 4);
    let refused = small.continue_text(&Prompt { text: "that", max_tokens: 3, sampling: HOT });
    assert!(matches!(refused, Err(ContinueError::Generate(GenerateError::Token { token: 6, .. }))));
}

#[test]
fn a_trained_model_has_its_published_text() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/stories260K-hf");
    if !dir.exists() {
        eprintln!("skipped: stories260K is not beside the repository");
        return;
    }
    let opened = hf::open(&dir).unwrap();
    assert_eq!((&opened.ends[..], opened.start), (&[2][..], Some(1)));
    let json = std::fs::read(dir.join("tokenizer.json")).unwrap();
    let tokenizer = Tokenizer::for_model(json, opened.ends[0], opened.start).unwrap();
    let mut model = TextModel::new(opened.model, tokenizer, opened.ends);
    let mut text =
        |text| model.continue_text(&Prompt { text, max_tokens: 60, sampling: Sampling::Greedy }).unwrap().text;
    let published = ", there was a little girl named Lily. She loved to play outside in the park.";
    assert!(text("").trim_start().starts_with(&format!("Once upon a time{published}")), "{}", text(""));
    assert!(text("Once upon a time").starts_with(published), "{}", text("Once upon a time"));
}

//! A small model of letters, for tests.

use std::sync::Arc;

use serde_json::json;
use templar_data::{ChatTemplate, TokenNames, Tokenizer};
use templar_device::Cpu;
use templar_manifest::ModelSpec;
use templar_model::generate::LanguageModel;
use templar_model::{Model, sizes};

use crate::served::{About, Computation, Served};

/// Letters, each a token. Token 0 ends a text.
pub(crate) fn letters() -> Tokenizer {
    let mut vocabulary = serde_json::Map::from_iter([("</s>".to_owned(), json!(0))]);
    vocabulary.extend(('a'..='z').enumerate().map(|(index, letter)| (letter.to_string(), json!(index + 1))));
    let end = json!({ "id": 0, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "added_tokens": [end],
        "pre_tokenizer": { "type": "Split", "pattern": { "Regex": "[\\s\\S]" }, "behavior": "Isolated", "invert": false },
        "post_processor": null, "decoder": { "type": "Fuse" },
        "model": { "type": "WordLevel", "unk_token": "z", "vocab": vocabulary },
    });
    Tokenizer::new(tokenizer.to_string().into_bytes(), TokenNames::default()).unwrap()
}

/// A model of 96 positions, with three rows that are no tokens.
pub(crate) fn spec() -> ModelSpec {
    ModelSpec { sequence_length: 96, ..sizes::preset("tiny", 30).unwrap() }
}

/// Parameters that say something else at every place.
pub(crate) fn parameters(seed: u8) -> Vec<f32> {
    let mut parameters = Model::new(&spec(), Arc::new(Cpu::best())).unwrap().init(&[seed; 32]);
    // Larger ones, so that choices differ from place to place.
    parameters.iter_mut().for_each(|parameter| *parameter *= 4.0);
    parameters
}

/// A model that reads and writes letters.
pub(crate) fn served(seed: u8) -> Served {
    Served::trained(About { name: "letters".into(), ..About::default() }, &spec(), parameters(seed), letters(), None)
        .unwrap()
}

/// The same model through candle.
pub(crate) fn foreign(seed: u8) -> Served {
    let model = LanguageModel::new(&spec(), &parameters(seed)).unwrap();
    Served::new(About::default(), Computation::Foreign(Box::new(model.into())), letters(), Vec::new(), None).unwrap()
}

/// A model of letters that also reads conversations.
pub(crate) fn chatting(seed: u8) -> Served {
    let template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}x{% endif %}";
    let template = ChatTemplate::new(template);
    let about = About {
        name: "letters".into(),
        checkpoint: Some("cafe".into()),
        run: Some("0123".into()),
        licence: Some("CC0-1.0".into()),
    };
    Served::trained(about, &spec(), parameters(seed), letters(), Some(&template)).unwrap()
}

//! A model taught one sentence says it, stops at the end token, and draws the same words from the same seed.

use templar_manifest::ModelSpec;
use templar_model::AdamWSettings;
use templar_model::generate::{Continuation, GenerateError, Sampling, generate};

use crate::support::{HostModel, small_spec, word_tokenizer};

const WORDS: [&str; 6] = ["to", "be", "or", "not", "that", "is"];

/// Parameters that know "to be or not to be that is", then the end.
fn taught() -> (ModelSpec, Vec<f32>) {
    let mut spec = small_spec(true);
    (spec.vocab_size, spec.sequence_length) = (8, 18);
    let sentence = [0, 1, 2, 3, 4, 1, 2, 5, 6];
    let batch: Vec<u32> = (0..19).map(|i| sentence[i % 9]).collect();
    let mut model = HostModel::new(&spec).unwrap();
    let mut params = model.init(&[6; 32]);
    let (mut m, mut v) = (vec![0.0f32; params.len()], vec![0.0f32; params.len()]);
    for t in 1..=60 {
        let mut grad = vec![0.0f32; params.len()];
        model.forward_backward(&params, &batch, 1.0 / 18.0, &mut grad).unwrap();
        model.step(&AdamWSettings::reference(), 1e-2, t, [&mut params, &mut grad, &mut m, &mut v]).unwrap();
    }
    (spec, params)
}

#[test]
fn a_taught_model_says_its_sentence() {
    let (spec, params) = taught();
    let tokenizer = word_tokenizer(&WORDS);
    let say = |prompt: &str, max_tokens, sampling| {
        generate(&spec, &params, &tokenizer, Continuation { prompt, max_tokens, sampling })
    };
    // The end token follows "is", long before fifteen tokens.
    assert_eq!(say("", 15, Sampling::Greedy).unwrap(), "to be or not to be that is");
    assert_eq!(say("", 3, Sampling::Greedy).unwrap(), "to be or");
    assert_eq!(say("", 0, Sampling::Greedy).unwrap(), "");
    assert_eq!(say("to be or", 15, Sampling::Greedy).unwrap(), " not to be that is");
    let drawn = |seed, temperature| say("", 15, Sampling::Temperature { temperature, seed: [seed; 32] }).unwrap();
    assert_eq!(drawn(1, 50.0), drawn(1, 50.0));
    assert_ne!(drawn(1, 50.0), drawn(2, 50.0));
    assert_eq!(drawn(1, 0.01), "to be or not to be that is");
}

#[test]
fn what_cannot_be_continued_is_refused_by_name() {
    let spec = ModelSpec { vocab_size: 8, ..small_spec(true) };
    let params = HostModel::new(&spec).unwrap().init(&[6; 32]);
    let tokenizer = word_tokenizer(&WORDS);
    let say = |params: &[f32], tokenizer: &[u8], prompt: &str| {
        generate(&spec, params, tokenizer, Continuation { prompt, max_tokens: 5, sampling: Sampling::Greedy })
    };
    assert!(matches!(say(&params[1..], &tokenizer, ""), Err(GenerateError::Length { .. })));
    assert!(matches!(say(&params, b"{}", ""), Err(GenerateError::Tokenizer(_))));
    say(&params, &word_tokenizer(&["a"]), "").unwrap();
    let many = word_tokenizer(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    assert!(matches!(say(&params, &many, ""), Err(GenerateError::Tokenizer(_))));
    // With the token that starts a text, 70.
    let long = "to ".repeat(69);
    assert!(matches!(say(&params, &tokenizer, &long), Err(GenerateError::PromptTooLong { found: 70, positions: 70 })));
    assert!(matches!(say(&vec![f32::NAN; params.len()], &tokenizer, ""), Err(GenerateError::NonFinite)));
    let cold = Sampling::Temperature { temperature: 0.0, seed: [0; 32] };
    let cold = Continuation { prompt: "", max_tokens: 5, sampling: cold };
    assert!(matches!(generate(&spec, &params, &tokenizer, cold), Err(GenerateError::Temperature)));
}

#[test]
fn generation_ends_at_the_last_position() {
    let spec = ModelSpec { vocab_size: 8, sequence_length: 5, ..small_spec(true) };
    let params = HostModel::new(&spec).unwrap().init(&[6; 32]);
    let hot = Sampling::Temperature { temperature: 1.0, seed: [1; 32] };
    let request = Continuation { prompt: "to be", max_tokens: 1000, sampling: hot };
    let text = generate(&spec, &params, &word_tokenizer(&WORDS), request).unwrap();
    assert!(text.split_whitespace().count() <= 4, "{text}");
}

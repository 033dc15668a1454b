//! A model taught one sentence says it, stops at the end token, and draws the same tokens from the same seed.

use std::sync::Arc;

use templar_device::Cpu;
use templar_manifest::ModelSpec;
use templar_model::AdamWSettings;
use templar_model::generate::{GenerateError, LanguageModel, Request, Sampling, StopReason};

use crate::support::{HostModel, LINEAR, LLAMA3, lively_params, small_spec, tokens};

/// The end of a text, and the token before its first.
const END: u32 = 0;
/// What the taught model says, and then the end.
const SENTENCE: [u32; 8] = [1, 2, 3, 4, 1, 2, 5, 6];
const IS_TOKEN: [bool; 8] = [true; 8];

/// Parameters that know the sentence.
fn taught() -> (ModelSpec, Vec<f32>) {
    let mut spec = small_spec(true);
    (spec.vocab_size, spec.sequence_length) = (8, 18);
    let batch: Vec<u32> = (0..19).map(|i| if i % 9 == 0 { END } else { SENTENCE[i % 9 - 1] }).collect();
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

fn request<'a>(prompt: &'a [u32], max_tokens: usize, sampling: Sampling) -> Request<'a> {
    Request { prompt, max_tokens, sampling, ends: &[END], is_token: &IS_TOKEN }
}

fn say(model: &mut LanguageModel, request: Request<'_>) -> (Vec<u32>, StopReason) {
    let mut generation = model.generate(request).unwrap();
    let tokens = generation.by_ref().collect::<Result<_, _>>().unwrap();
    (tokens, generation.stop().unwrap())
}

#[test]
fn a_taught_model_says_its_sentence() {
    let (spec, params) = taught();
    let mut model = LanguageModel::new(&spec, &params).unwrap();
    let greedy = |model: &mut LanguageModel, prompt: &[u32], max| say(model, request(prompt, max, Sampling::Greedy));
    assert_eq!(greedy(&mut model, &[END], 15), (SENTENCE.to_vec(), StopReason::EndToken(END)));
    assert_eq!(greedy(&mut model, &[END], 3), (SENTENCE[..3].to_vec(), StopReason::Length));
    assert_eq!(greedy(&mut model, &[END], 0), (Vec::new(), StopReason::Length));
    assert_eq!(greedy(&mut model, &[END, 1, 2, 3], 15), (SENTENCE[3..].to_vec(), StopReason::EndToken(END)));
    // Another token may end a text, too.
    let mut two_ends = request(&[END], 15, Sampling::Greedy);
    two_ends.ends = &[END, 5];
    assert_eq!(say(&mut model, two_ends), (SENTENCE[..6].to_vec(), StopReason::EndToken(5)));
    let mut drawn = |seed, temperature| {
        let sampling = Sampling::Draw { temperature, top_p: 1.0, seed: [seed; 32] };
        say(&mut model, request(&[END], 15, sampling)).0
    };
    assert_eq!(drawn(1, 50.0), drawn(1, 50.0));
    assert_ne!(drawn(1, 50.0), drawn(2, 50.0));
    assert_eq!(drawn(1, 0.01), SENTENCE);
}

#[test]
fn a_device_says_the_same_sentence_with_the_logits_of_training() {
    let (spec, params) = taught();
    let mut model = LanguageModel::on(Arc::new(Cpu::best()), &spec, &params).unwrap();
    let said = say(&mut model, request(&[END], 15, Sampling::Greedy));
    assert_eq!(said, (SENTENCE.to_vec(), StopReason::EndToken(END)));
    let logits = HostModel::new(&spec).unwrap().logits(&params, &[END, 1, 2]).unwrap();
    assert_eq!(model.logits(&[END, 1, 2]).unwrap(), logits);
}

#[test]
fn what_cannot_be_continued_is_refused_by_name() {
    let spec = ModelSpec { vocab_size: 8, ..small_spec(true) };
    let params = HostModel::new(&spec).unwrap().init(&[6; 32]);
    assert!(matches!(LanguageModel::new(&spec, &params[1..]), Err(GenerateError::Length { .. })));
    let mut model = LanguageModel::new(&spec, &params).unwrap();
    let mut refused = |prompt: &[u32], sampling| model.generate(request(prompt, 5, sampling)).err().unwrap();
    assert!(matches!(refused(&[], Sampling::Greedy), GenerateError::EmptyPrompt));
    assert!(matches!(refused(&[1; 70], Sampling::Greedy), GenerateError::PromptTooLong { found: 70, positions: 70 }));
    assert!(matches!(refused(&[8], Sampling::Greedy), GenerateError::Token { token: 8, vocab_size: 8 }));
    let cold = Sampling::Draw { temperature: 0.0, top_p: 1.0, seed: [0; 32] };
    assert!(matches!(refused(&[1], cold), GenerateError::Temperature));
    let mut broken = LanguageModel::new(&spec, &vec![f32::NAN; params.len()]).unwrap();
    let mut generation = broken.generate(request(&[1], 5, Sampling::Greedy)).unwrap();
    assert!(matches!(generation.next(), Some(Err(GenerateError::NonFinite))));
}

#[test]
fn generation_ends_at_the_last_position_of_the_whole_context() {
    let hot = Sampling::Draw { temperature: 1.0, top_p: 1.0, seed: [1; 32] };
    for (position_limit, generated) in [(None, 4), (Some(9), 8), (Some(3), 4)] {
        let spec = ModelSpec { vocab_size: 8, sequence_length: 5, position_limit, ..small_spec(true) };
        let params = HostModel::new(&spec).unwrap().init(&[6; 32]);
        let mut model = LanguageModel::new(&spec, &params).unwrap();
        let mut endless = request(&[1, 2], 1000, hot);
        endless.ends = &[];
        let (tokens, stop) = say(&mut model, endless);
        assert_eq!((tokens.len(), stop), (generated, StopReason::Context));
    }
}

/// A model may have more rows than the tokenizer has tokens.
#[test]
fn rows_without_a_token_are_never_generated() {
    let spec = ModelSpec { vocab_size: 8, ..small_spec(true) };
    let params = HostModel::new(&spec).unwrap().init(&[6; 32]);
    let mut model = LanguageModel::new(&spec, &params).unwrap();
    let hot = Sampling::Draw { temperature: 100.0, top_p: 1.0, seed: [1; 32] };
    let mut padded = request(&[1], 60, hot);
    (padded.ends, padded.is_token) = (&[], &[true, true, false, true, true]);
    let (tokens, _) = say(&mut model, padded);
    assert!(tokens.iter().all(|token| [0, 1, 3, 4].contains(token)), "{tokens:?}");
}

/// Every computation behind generation gives the logits that training computes, token by token from its cache.
#[test]
fn the_logits_of_generation_are_those_of_training() {
    let kinds = [
        small_spec(true),
        ModelSpec { rope_scaling: Some(LLAMA3), ..small_spec(false) },
        ModelSpec { rope_scaling: Some(LINEAR), kv_heads: 1, ..small_spec(true) },
        ModelSpec { head_size: Some(10), ..small_spec(true) },
        ModelSpec { head_size: Some(4), ..small_spec(false) },
        ModelSpec { head_size: Some(8), rope_scaling: Some(LLAMA3), ..small_spec(false) },
    ];
    for spec in kinds {
        let mut model = HostModel::new(&spec).unwrap();
        let params = lively_params(&model);
        let tokens = &tokens(&spec, 1, 4)[..30];
        let trained = model.logits(&params, tokens).unwrap();
        let generated = LanguageModel::new(&spec, &params).unwrap().logits(tokens).unwrap();
        assert_eq!(generated.len(), trained.len());
        for (a, b) in trained.iter().zip(&generated) {
            assert!((a - b).abs() < 1e-4, "{a} where generation has {b}, {spec:?}");
        }
    }
}

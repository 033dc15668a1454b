//! Texts that are read in parts and beside other texts have the bits of the whole forward pass.

use proptest::prelude::*;
use templar_manifest::ModelSpec;
use templar_model::decoder::{Decoder, Reading, TextCache};
use templar_model::generate::GenerateError;

use crate::support::{HostModel, LLAMA3, lively_params, small_spec, tokens};

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A model whose contexts need two blocks of rows, and its decoder.
fn models(spec: &ModelSpec) -> (HostModel, Vec<f32>, Decoder) {
    let model = HostModel::new(spec).unwrap();
    let params = lively_params(&model);
    let decoder = Decoder::new(spec, params.clone()).unwrap();
    (model, params, decoder)
}

/// The logits of one text, read in parts that end at `cuts`.
fn in_parts(decoder: &Decoder, text: &[u32], cuts: &[usize]) -> Vec<f32> {
    let (mut cache, mut logits, mut from) = (TextCache::default(), Vec::new(), 0);
    for to in cuts.iter().copied().chain([text.len()]) {
        let states = decoder.read(&mut [Reading { cache: &mut cache, tokens: &text[from..to] }]).unwrap();
        logits.extend(decoder.logits(&states));
        from = to;
    }
    assert_eq!(cache.len(), text.len());
    logits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn parts_have_the_bits_of_the_whole(mut cuts in prop::collection::vec(0usize..70, 0..6), salt in 0u32..100) {
        let spec = small_spec(true);
        let (mut model, params, decoder) = models(&spec);
        let text = &tokens(&spec, 1, salt)[..70];
        cuts.sort_unstable();
        let whole = model.logits(&params, text).unwrap();
        prop_assert_eq!(bits(&in_parts(&decoder, text, &cuts)), bits(&whole));
    }
}

#[test]
fn every_token_alone_has_the_bits_of_the_whole() {
    let untied = ModelSpec { rope_scaling: Some(LLAMA3), ..small_spec(false) };
    let wide = ModelSpec { head_size: Some(10), ..small_spec(true) };
    for spec in [small_spec(true), untied, wide] {
        let (mut model, params, decoder) = models(&spec);
        let text = &tokens(&spec, 1, 5)[..70];
        let cuts: Vec<usize> = (1..70).collect();
        assert_eq!(bits(&in_parts(&decoder, text, &cuts)), bits(&model.logits(&params, text).unwrap()), "{spec:?}");
    }
}

#[test]
fn texts_do_not_see_each_other() {
    let spec = small_spec(true);
    let (_, _, decoder) = models(&spec);
    let texts: Vec<Vec<u32>> = (0..4).map(|salt| tokens(&spec, 1, salt)[..40 + 7 * salt as usize].to_vec()).collect();
    let mut caches = vec![TextCache::default(); 4];
    let mut together = vec![Vec::new(); 4];
    // In each round every text goes on by another number of tokens, and some by none.
    for round in 0.. {
        let mut parts: Vec<(usize, usize)> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let from = caches[index].len();
            parts.push((from, text.len().min(from + (index * 5 + round * 3) % 11)));
        }
        let readings = caches.iter_mut().zip(&texts).zip(&parts);
        let mut readings: Vec<Reading<'_>> =
            readings.map(|((cache, text), &(from, to))| Reading { cache, tokens: &text[from..to] }).collect();
        let logits = decoder.logits(&decoder.read(&mut readings).unwrap());
        let mut rest = &logits[..];
        for (index, (from, to)) in parts.into_iter().enumerate() {
            let (own, others) = rest.split_at((to - from) * decoder.vocab_size());
            together[index].extend_from_slice(own);
            rest = others;
        }
        if caches.iter().zip(&texts).all(|(cache, text)| cache.len() == text.len()) {
            break;
        }
    }
    for (text, together) in texts.iter().zip(together) {
        assert_eq!(bits(&together), bits(&in_parts(&decoder, text, &[])));
    }
}

#[test]
fn a_prefix_is_the_cache_of_the_first_tokens() {
    let spec = small_spec(true);
    let (_, _, decoder) = models(&spec);
    let (one, other) = (&tokens(&spec, 1, 1)[..50], &tokens(&spec, 1, 2)[..20]);
    let mut cache = TextCache::default();
    decoder.read(&mut [Reading { cache: &mut cache, tokens: one }]).unwrap();
    let mut forked = cache.prefix(30);
    assert_eq!((forked.len(), cache.prefix(99).len(), TextCache::default().prefix(3).len()), (30, 50, 0));
    let states = decoder.read(&mut [Reading { cache: &mut forked, tokens: other }]).unwrap();
    let whole = [&one[..30], other].concat();
    let rows = 30 * decoder.vocab_size()..;
    assert_eq!(bits(&decoder.logits(&states)), bits(&in_parts(&decoder, &whole, &[])[rows]));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let spec = small_spec(true);
    let (_, params, decoder) = models(&spec);
    let mut cache = TextCache::default();
    let mut read =
        |tokens: &[u32]| decoder.read(&mut [Reading { cache: &mut cache, tokens }]).map(|states| states.len());
    assert_eq!(read(&[1; 60]).unwrap(), 60 * decoder.hidden_size());
    assert!(matches!(read(&[1; 11]), Err(GenerateError::PromptTooLong { found: 71, positions: 70 })));
    assert!(matches!(read(&[53]), Err(GenerateError::Token { token: 53, vocab_size: 53 })));
    assert_eq!(read(&[]).unwrap(), 0);
    assert_eq!(read(&[1; 10]).unwrap(), 10 * decoder.hidden_size());
    assert!(matches!(Decoder::new(&spec, params[1..].to_vec()), Err(GenerateError::Length { .. })));
}

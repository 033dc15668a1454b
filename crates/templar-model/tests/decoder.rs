//! Texts that are read in parts and beside other texts have the bits of the whole forward pass.

use proptest::prelude::*;
use templar_manifest::ModelSpec;
use templar_model::decoder::{Decoder, Reading, TextCache};
use templar_model::generate::GenerateError;
use templar_model::{Asked, Likelihood};

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

/// Further tokens of a text, all of whose states are wanted.
fn all<'a>(cache: &'a mut TextCache, tokens: &'a [u32]) -> Reading<'a> {
    Reading { cache, tokens, wanted: tokens.len() }
}

/// The logits of one text, read in parts that end at `cuts`.
fn in_parts(decoder: &Decoder, text: &[u32], cuts: &[usize]) -> Vec<f32> {
    let (mut cache, mut logits, mut from) = (TextCache::default(), Vec::new(), 0);
    for to in cuts.iter().copied().chain([text.len()]) {
        let states = decoder.read(&mut [all(&mut cache, &text[from..to])]).unwrap();
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
            readings.map(|((cache, text), &(from, to))| all(cache, &text[from..to])).collect();
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
    decoder.read(&mut [all(&mut cache, one)]).unwrap();
    let mut forked = cache.prefix(30);
    assert_eq!((forked.len(), cache.prefix(99).len(), TextCache::default().prefix(3).len()), (30, 50, 0));
    let states = decoder.read(&mut [all(&mut forked, other)]).unwrap();
    let whole = [&one[..30], other].concat();
    let rows = 30 * decoder.vocab_size()..;
    assert_eq!(bits(&decoder.logits(&states)), bits(&in_parts(&decoder, &whole, &[])[rows]));
}

/// Texts behind one beginning that nobody copies, beside texts with none and with another, of which the last states
/// alone are wanted.
#[test]
fn a_shared_beginning_changes_no_bit() {
    for spec in [small_spec(true), small_spec(false), ModelSpec { heads: 6, kv_heads: 3, ..small_spec(true) }] {
        let (mut model, params, decoder) = models(&spec);
        let vocab = decoder.vocab_size();
        let text = |salt| tokens(&spec, 1, salt)[..70].to_vec();
        // Beginnings within the first block of attention's rows, at its end, and beyond it.
        for before in [1, 17, 63, 64, 65, 69] {
            let mut beginning = TextCache::default();
            let none = decoder.read(&mut [Reading { cache: &mut beginning, tokens: &text(1)[..before], wanted: 0 }]);
            assert!(none.unwrap().is_empty());
            beginning.share();
            let texts: Vec<Vec<u32>> = (0..9)
                .map(
                    |salt| {
                        if salt % 4 == 3 { text(salt) } else { [&text(1)[..before], &text(salt)[before..]].concat() }
                    },
                )
                .map(|text| text[..70 - text[69] as usize % (70 - before).min(5)].to_vec())
                .collect();
            let mut caches: Vec<TextCache> =
                (0..9).map(|salt| if salt % 4 == 3 { TextCache::default() } else { beginning.clone() }).collect();
            let wanted = |number: usize, text: &[u32]| (number * 3 % 7).min(text.len() - before);
            let mut readings: Vec<Reading<'_>> = caches
                .iter_mut()
                .zip(&texts)
                .enumerate()
                .map(|(number, (cache, text))| {
                    let tokens = &text[cache.len()..];
                    Reading { cache, tokens, wanted: wanted(number, text) }
                })
                .collect();
            let states = decoder.read(&mut readings).unwrap();
            let logits = decoder.logits(&states);
            let mut rest = &logits[..];
            for (number, (text, cache)) in texts.iter().zip(&caches).enumerate() {
                let (own, others) = rest.split_at(wanted(number, text) * vocab);
                let whole = model.logits(&params, text).unwrap();
                assert_eq!(bits(own), bits(&whole[whole.len() - own.len()..]), "text {number} after {before} tokens");
                assert_eq!(cache.len(), text.len());
                rest = others;
            }
            assert!(rest.is_empty());
            goes_on(&mut model, &params, &decoder, caches, &texts);
        }
    }
}

/// Texts that were read with states left out go on with the bits of the whole, and so do their shared prefixes.
fn goes_on(model: &mut HostModel, params: &[f32], decoder: &Decoder, caches: Vec<TextCache>, texts: &[Vec<u32>]) {
    for (mut cache, text) in caches.into_iter().zip(texts) {
        cache.share();
        for kept in [text.len() / 2, text.len() - 1, 1] {
            let mut prefix = cache.prefix(kept);
            assert_eq!(prefix.len(), kept);
            // One token is the text's own before all is shared once more.
            decoder.read(&mut [all(&mut prefix, &text[kept..kept + 1])]).unwrap();
            let copied = prefix.prefix(kept + 1);
            prefix.share();
            for mut prefix in [copied, prefix.prefix(kept + 1)] {
                let next = &[5, 6, 7][..text.len().min(3).min(70 - kept - 1)];
                let states = decoder.read(&mut [all(&mut prefix, next)]).unwrap();
                let whole = model.logits(params, &[&text[..=kept], next].concat()).unwrap();
                let found = decoder.logits(&states);
                assert_eq!(bits(&found), bits(&whole[whole.len() - found.len()..]));
            }
        }
    }
}

#[test]
fn likelihoods_are_those_of_the_whole_pass() {
    let spec = small_spec(true);
    let (mut model, params, decoder) = models(&spec);
    let text = &tokens(&spec, 1, 4)[..40];
    let mut cache = TextCache::default();
    let states = decoder.read(&mut [Reading { cache: &mut cache, tokens: text, wanted: 10 }]).unwrap();
    // Rows out of order, one of them twice.
    let asked = [(9, 5), (0, 3), (4, 52), (4, 0)].map(|(row, token)| Asked { row, token });
    let found: Vec<Likelihood> = decoder.likelihoods(&states, &asked).unwrap();
    let asked = asked.map(|asked| Asked { row: asked.row + 30, ..asked });
    assert_eq!(found, model.likelihoods(&params, text, text.len(), &asked).unwrap());
    let outside = decoder.likelihoods(&states, &[Asked { row: 0, token: 53 }]);
    assert!(matches!(outside, Err(GenerateError::Token { token: 53, vocab_size: 53 })));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let spec = small_spec(true);
    let (_, params, decoder) = models(&spec);
    let mut cache = TextCache::default();
    let mut read = |tokens: &[u32]| decoder.read(&mut [all(&mut cache, tokens)]).map(|states| states.len());
    assert_eq!(read(&[1; 60]).unwrap(), 60 * decoder.hidden_size());
    assert!(matches!(read(&[1; 11]), Err(GenerateError::PromptTooLong { found: 71, positions: 70 })));
    assert!(matches!(read(&[53]), Err(GenerateError::Token { token: 53, vocab_size: 53 })));
    assert_eq!(read(&[]).unwrap(), 0);
    assert_eq!(read(&[1; 10]).unwrap(), 10 * decoder.hidden_size());
    assert!(matches!(Decoder::new(&spec, params[1..].to_vec()), Err(GenerateError::Length { .. })));
}

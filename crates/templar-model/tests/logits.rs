//! Logits against candle-transformers' Llama, and against the published ones of a trained model.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama};
use templar_model::generate::{Sampling, generate};
use templar_model::{Model, hf};

use crate::support::{lively_params, small_spec, tokens};

#[test]
fn logits_are_those_of_candle_transformers() -> candle_core::Result<()> {
    for tied in [true, false] {
        let spec = small_spec(tied);
        let mut model = Model::new(&spec).unwrap();
        let params = lively_params(&model);
        let mut tensors = HashMap::new();
        for (tensor, range) in model.tensors().iter().zip(model.ranges()) {
            let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
            tensors.insert(tensor.name.clone(), Tensor::from_slice(&params[range.clone()], shape, &Device::Cpu)?);
        }
        let config = Config {
            hidden_size: 24,
            intermediate_size: 40,
            vocab_size: 53,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            use_flash_attn: false,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling: None,
            max_position_embeddings: 70,
            tie_word_embeddings: tied,
        };
        let llama = Llama::load(VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu), &config)?;
        let tokens = &tokens(&spec, 1, 4)[..70];
        let ours = model.logits(&params, tokens).unwrap();
        for length in [1, 2, 17, 64, 65, 70] {
            let mut cache = Cache::new(false, DType::F32, &config, &Device::Cpu)?;
            let input = Tensor::new(&tokens[..length], &Device::Cpu)?.unsqueeze(0)?;
            let theirs = llama.forward(&input, 0, &mut cache)?.flatten_all()?.to_vec1::<f32>()?;
            let ours = &ours[(length - 1) * 53..length * 53];
            for (a, b) in ours.iter().zip(&theirs) {
                assert!((a - b).abs() < 1e-4, "{a} where candle has {b}, length {length}, tied {tied}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_prefix_has_the_logits_it_has_in_the_whole() {
    let spec = small_spec(true);
    let mut model = Model::new(&spec).unwrap();
    let params = lively_params(&model);
    let tokens = &tokens(&spec, 1, 8)[..70];
    let whole = model.logits(&params, tokens).unwrap();
    for length in [1, 5, 33] {
        let part = model.logits(&params, &tokens[..length]).unwrap();
        assert!(part.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()), "length {length}");
    }
}

#[test]
fn a_trained_model_has_its_published_logits_and_text() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/stories260K-hf");
    if !dir.exists() {
        eprintln!("skipped: stories260K is not beside the repository");
        return;
    }
    let (spec, params) = hf::import(&dir).unwrap();
    let mut model = Model::new(&spec).unwrap();
    assert_eq!(model.parameter_count(), 260_032);
    let logits = model.logits(&params, &[1]).unwrap();
    for (ours, published) in logits.iter().zip([-6.222_913_7f64, 8.404_340_7, -6.223_738_2, -6.222_542_8]) {
        assert!((f64::from(*ours) - published).abs() < 1e-5, "{ours} where {published} is published");
    }
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    assert_eq!(best, 403);

    let tokenizer = std::fs::read(dir.join("tokenizer.json")).unwrap();
    let text = |prompt| generate(&spec, &params, &tokenizer, prompt, 60, Sampling::Greedy).unwrap();
    let published = ", there was a little girl named Lily. She loved to play outside in the park.";
    assert!(text("").trim_start().starts_with(&format!("Once upon a time{published}")), "{}", text(""));
    assert!(text("Once upon a time").starts_with(published), "{}", text("Once upon a time"));
}

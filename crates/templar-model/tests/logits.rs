//! Logits against candle-transformers' Llama, and against the published ones of a trained model.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{Cache, Config, Llama, Llama3RopeConfig, Llama3RopeType};
use templar_manifest::ModelSpec;
use templar_model::hf;

use crate::support::{HostModel, LINEAR, LLAMA3, lively_params, small_spec, tokens};

fn candle_scaling(factor: f32, high_freq_factor: f32, original_max_position_embeddings: usize) -> Llama3RopeConfig {
    Llama3RopeConfig {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor,
        original_max_position_embeddings,
        rope_type: Llama3RopeType::Llama3,
    }
}

#[test]
fn logits_are_those_of_candle_transformers() -> candle_core::Result<()> {
    // `linear` as candle has it: Llama 3's with bands that no wavelength lies below.
    let linear = candle_scaling(2.0, 2.0, 1);
    let cases = [
        (true, None, None),
        (false, None, None),
        (true, Some(LLAMA3), Some(candle_scaling(8.0, 4.0, 200))),
        (true, Some(LINEAR), Some(linear)),
    ];
    for (tied, ours, rope_scaling) in cases {
        let spec = ModelSpec { rope_scaling: ours, ..small_spec(tied) };
        let mut model = HostModel::new(&spec).unwrap();
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
            rope_scaling,
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
                assert!((a - b).abs() < 1e-4, "{a} where candle has {b}, length {length}, {spec:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_prefix_has_the_logits_it_has_in_the_whole() {
    let spec = small_spec(true);
    let mut model = HostModel::new(&spec).unwrap();
    let params = lively_params(&model);
    let tokens = &tokens(&spec, 1, 8)[..70];
    let whole = model.logits(&params, tokens).unwrap();
    for length in [1, 5, 33] {
        let part = model.logits(&params, &tokens[..length]).unwrap();
        assert!(part.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()), "length {length}");
    }
}

/// A run may go on with a longer context: the tensors stay, positions it knew keep their bits, and new ones are
/// there.
#[test]
fn a_model_of_another_context_computes_over_the_same_parameters() {
    let spec = small_spec(false);
    let longer = ModelSpec { sequence_length: 140, ..spec.clone() };
    let mut model = HostModel::new(&spec).unwrap();
    let params = lively_params(&model);
    let mut longer_model = HostModel::new(&longer).unwrap();
    assert_eq!((longer_model.tensors(), longer_model.ranges()), (model.tensors(), model.ranges()));
    let tokens = &tokens(&longer, 1, 8)[..140];
    let known = model.logits(&params, &tokens[..70]).unwrap();
    let whole = longer_model.logits(&params, tokens).unwrap();
    assert!(known.iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits()));
    let scaled = ModelSpec { rope_theta: 500_000, rope_scaling: Some(LLAMA3), ..longer };
    let mut scaled_model = HostModel::new(&scaled).unwrap();
    assert_eq!(scaled_model.ranges(), model.ranges());
    let scaled = scaled_model.logits(&params, tokens).unwrap();
    // The first position turns nothing; later ones turn by other angles.
    assert_eq!(scaled[..53], whole[..53]);
    assert_ne!(scaled[53..], whole[53..]);
}

#[test]
fn a_trained_model_has_its_published_logits() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/stories260K-hf");
    if !dir.exists() {
        eprintln!("skipped: stories260K is not beside the repository");
        return;
    }
    let (spec, params) = hf::import(&dir).unwrap();
    let mut model = HostModel::new(&spec).unwrap();
    assert_eq!(model.parameter_count(), 260_032);
    let logits = model.logits(&params, &[1]).unwrap();
    for (ours, published) in logits.iter().zip([-6.222_913_7f64, 8.404_340_7, -6.223_738_2, -6.222_542_8]) {
        assert!((f64::from(*ours) - published).abs() < 1e-5, "{ours} where {published} is published");
    }
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    assert_eq!(best, 403);
}

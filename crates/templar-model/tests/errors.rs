//! Every refusal by name: specifications, lengths, tokens, values that are not finite.

use proptest::prelude::*;
use templar_manifest::{ModelSpec, RopeScaling};
use templar_model::{AdamWSettings, ConfigError, StepError};

use crate::support::{HostModel, small_spec, tokens};

fn refused(change: impl Fn(&mut ModelSpec)) -> ConfigError {
    let mut spec = small_spec(true);
    change(&mut spec);
    HostModel::new(&spec).err().unwrap()
}

#[test]
fn specifications_are_refused_by_name() {
    assert_eq!(refused(|s| s.vocab_size = 0), ConfigError::Zero { field: "vocab_size" });
    assert_eq!(refused(|s| s.layers = 0), ConfigError::Zero { field: "layers" });
    assert_eq!(refused(|s| s.rope_theta = 0), ConfigError::Zero { field: "rope_theta" });
    assert_eq!(refused(|s| s.sequence_length = 0), ConfigError::Zero { field: "sequence_length" });
    assert_eq!(refused(|s| s.heads = 5), ConfigError::Heads { hidden_size: 24, heads: 5 });
    assert_eq!(refused(|s| s.kv_heads = 3), ConfigError::KvHeads { heads: 4, kv_heads: 3 });
    assert_eq!(refused(|s| s.kv_heads = 8), ConfigError::KvHeads { heads: 4, kv_heads: 8 });
    assert_eq!(refused(|s| s.hidden_size = 20), ConfigError::OddHead { width: 5 });
    assert!(matches!(refused(|s| s.layers = u32::MAX), ConfigError::TooLarge { field: "layers", .. }));
    assert!(matches!(refused(|s| s.hidden_size = 4096), ConfigError::TooLarge { field: "head width", .. }));
    assert!(matches!(refused(|s| s.sequence_length = 1 << 20), ConfigError::TooLarge { .. }));
    for bits in [0, 1, f32::NAN.to_bits(), f32::INFINITY.to_bits(), (-1e-5f32).to_bits()] {
        assert_eq!(refused(|s| s.norm_eps_bits = bits), ConfigError::NormEps { bits });
    }
    let llama3 = |factor_ppm, low_freq_factor_ppm, high_freq_factor_ppm, original_positions| RopeScaling::Llama3 {
        factor_ppm,
        low_freq_factor_ppm,
        high_freq_factor_ppm,
        original_positions,
    };
    for (scaling, rule) in [
        (RopeScaling::Linear { factor_ppm: 999_999 }, "has a factor below 1"),
        (llama3(0, 1, 2, 1), "has a factor below 1"),
        (llama3(1_000_000, 0, 2, 1), "has a low_freq_factor of 0"),
        (llama3(1_000_000, 1, 1, 1), "has a high_freq_factor that is not above its low_freq_factor"),
        (llama3(1_000_000, 1, 2, 0), "has original positions of 0"),
    ] {
        assert_eq!(refused(|s| s.rope_scaling = Some(scaling)), ConfigError::RopeScaling { found: scaling, rule });
    }
    assert_eq!(refused(|s| s.heads = 5).to_string(), "hidden_size 24 does not divide into 5 heads");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever genesis says, there is a model whose tensors fill the flat vector without a gap, or a named error.
    #[test]
    fn any_specification_is_laid_out_or_refused(
        sizes in prop::array::uniform7(prop_oneof![0u32..300, Just(u32::MAX)]), tied: bool, eps: u32,
        head_size in prop::option::of(prop_oneof![0u32..40, Just(u32::MAX)]),
    ) {
        let [vocab_size, hidden_size, layers, heads, kv_heads, ffn_size, sequence_length] = sizes;
        let spec = ModelSpec {
            vocab_size, hidden_size, layers, heads, kv_heads, ffn_size, sequence_length,
            head_size, rope_theta: 10_000, rope_scaling: None, norm_eps_bits: eps, tied_embeddings: tied,
            position_limit: None,
        };
        if let Ok(model) = HostModel::new(&spec) {
            let mut end = 0;
            for (tensor, range) in model.tensors().iter().zip(model.ranges()) {
                prop_assert_eq!((range.start, range.len()), (end, tensor.elements()));
                end = range.end;
            }
            prop_assert_eq!(end, model.parameter_count());
        }
    }
}

#[test]
fn inputs_are_checked_before_any_work() {
    let spec = small_spec(true);
    let mut model = HostModel::new(&spec).unwrap();
    let params = model.init(&[1; 32]);
    let mut grad = vec![0.0f32; params.len()];
    let batch = tokens(&spec, 1, 1);

    let short = model.loss(&params[1..], &batch).unwrap_err();
    assert_eq!(
        short,
        StepError::Length { what: "the parameter vector", expected: params.len(), found: params.len() - 1 }
    );
    let short = model.forward_backward(&params, &batch, 1.0, &mut grad[1..]).unwrap_err();
    assert!(matches!(short, StepError::Length { what: "the gradient", .. }));
    assert_eq!(model.loss(&params, &batch[1..]).unwrap_err(), StepError::Batch { found: 70, width: 71 });
    assert_eq!(model.loss(&params, &[]).unwrap_err(), StepError::Batch { found: 0, width: 71 });
    // The last token is only ever a target; it is checked like the others.
    let mut outside = batch.clone();
    outside[70] = 53;
    let error = model.forward_backward(&params, &outside, 1.0, &mut grad).unwrap_err();
    assert_eq!(error, StepError::Token { index: 70, token: 53, vocab_size: 53 });
    assert!(grad.iter().all(|&g| g == 0.0));
    assert_eq!(model.logits(&params, &[]).unwrap_err(), StepError::Sequence { found: 0, positions: 70 });
    assert_eq!(model.logits(&params, &batch).unwrap_err(), StepError::Sequence { found: 71, positions: 70 });
    assert!(matches!(model.logits(&params, &[u32::MAX]).unwrap_err(), StepError::Token { .. }));
}

#[test]
fn a_loss_that_is_not_finite_is_named() {
    let spec = small_spec(true);
    let mut model = HostModel::new(&spec).unwrap();
    let mut params = model.init(&[1; 32]);
    let end = params.len();
    params[end - 1] = f32::NAN;
    let mut grad = vec![0.0f32; end];
    let error = model.forward_backward(&params, &tokens(&spec, 2, 1), 1.0, &mut grad).unwrap_err();
    assert_eq!(error, StepError::NonFiniteLoss { sequence: 0, position: 0 });
    assert_eq!(model.loss(&params, &tokens(&spec, 2, 1)).unwrap_err(), error);
}

#[test]
fn a_step_is_refused_without_a_trace() {
    let model = HostModel::new(&small_spec(true)).unwrap();
    let start = model.init(&[1; 32]);
    let count = start.len();
    let attempt = |settings: AdamWSettings, lr: f32, t: u64, gradient: f32| {
        let mut state = [start.clone(), vec![1e-3f32; count], vec![0.0f32; count], vec![0.0f32; count]];
        state[1][model.ranges()[4].start + 2] = gradient;
        let before = state.clone();
        let parts = state.each_mut().map(Vec::as_mut_slice);
        let error = model.step(&settings, lr, t, parts).unwrap_err();
        let bits = |state: &[Vec<f32>; 4]| state.iter().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&before), bits(&state));
        error
    };
    let settings = AdamWSettings::reference();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let tensor = "model.layers.0.self_attn.o_proj.weight".to_string();
        assert_eq!(attempt(settings, 1e-3, 1, value), StepError::NonFiniteGradient { tensor, index: 2 });
    }
    let setting = |setting| StepError::Setting { setting };
    assert_eq!(attempt(settings, f32::NAN, 1, 0.0), setting("the learning rate"));
    assert_eq!(attempt(settings, -1.0, 1, 0.0), setting("the learning rate"));
    assert_eq!(attempt(settings, 1e-3, 0, 0.0), setting("the step number"));
    assert_eq!(attempt(AdamWSettings { beta1_ppm: 1_000_000, ..settings }, 1e-3, 1, 0.0), setting("beta1_ppm"));
    assert_eq!(attempt(AdamWSettings { beta2_ppm: u32::MAX, ..settings }, 1e-3, 1, 0.0), setting("beta2_ppm"));
    assert_eq!(attempt(AdamWSettings { eps_bits: 0, ..settings }, 1e-3, 1, 0.0), setting("eps_bits"));
}

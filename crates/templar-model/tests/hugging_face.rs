//! Folders out and in: every bit comes back, and every kind of damage is refused by its name.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use templar_manifest::ModelSpec;
use templar_model::ConfigError;
use templar_model::hf::{ExportError, FolderContents, ImportError, SpecialIds, import};

use crate::support::{HostModel, LINEAR, LLAMA3, lively_params, small_spec};

/// Writes a folder whose texts end with token 0. The bytes of a tokenizer are not looked at.
fn export(dir: &Path, spec: &ModelSpec, params: &[f32]) -> Result<(), ExportError> {
    let special = SpecialIds { start: Some(1), end: 0 };
    let config = json!({ "eos_token": "end" });
    let tokenizer = b"{}";
    templar_model::hf::export(dir, &FolderContents { spec, params, special, tokenizer, tokenizer_config: &config })
}

fn exported(spec: &ModelSpec) -> (TempDir, Vec<f32>) {
    let params = lively_params(&HostModel::new(spec).unwrap());
    let dir = TempDir::new().unwrap();
    export(dir.path(), spec, &params).unwrap();
    (dir, params)
}

#[test]
fn a_round_trip_keeps_every_bit() {
    for (tied, scaling, head_size) in [(true, None, None), (false, Some(LLAMA3), Some(10)), (true, Some(LINEAR), None)]
    {
        let mut spec = ModelSpec { rope_scaling: scaling, head_size, ..small_spec(tied) };
        spec.norm_eps_bits += 1;
        let (dir, params) = exported(&spec);
        let (read_spec, read) = import(dir.path()).unwrap();
        assert_eq!(read_spec, spec);
        assert!(read.iter().zip(&params).all(|(a, b)| a.to_bits() == b.to_bits()) && read.len() == params.len());
        // The same parameters make the same bytes, and the body is the vector itself.
        let again = TempDir::new().unwrap();
        export(again.path(), &read_spec, &read).unwrap();
        let weights = fs::read(dir.path().join("model.safetensors")).unwrap();
        assert_eq!(weights, fs::read(again.path().join("model.safetensors")).unwrap());
        assert!(weights.ends_with(&params.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()));
        assert_eq!(safetensors::SafeTensors::deserialize(&weights).unwrap().len(), 19 + usize::from(!tied) + 1);
        let mut names: Vec<_> = fs::read_dir(again.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(
            names,
            ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
        );
    }
}

#[test]
fn the_config_has_the_keys_that_loaders_read() {
    let (dir, _) = exported(&small_spec(true));
    let text = fs::read(dir.path().join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&text).unwrap();
    for (key, value) in [
        ("architectures", json!(["LlamaForCausalLM"])),
        ("model_type", json!("llama")),
        ("hidden_size", json!(24)),
        ("intermediate_size", json!(40)),
        ("num_hidden_layers", json!(2)),
        ("num_attention_heads", json!(4)),
        ("num_key_value_heads", json!(2)),
        ("head_dim", json!(6)),
        ("max_position_embeddings", json!(70)),
        ("rms_norm_eps", json!(1e-5)),
        ("rope_theta", json!(10000.0)),
        ("tie_word_embeddings", json!(true)),
        ("bos_token_id", json!(1)),
        ("eos_token_id", json!(0)),
        ("torch_dtype", json!("float32")),
        ("hidden_act", json!("silu")),
    ] {
        assert_eq!(config[key], value, "{key}");
    }
    serde_json::from_slice::<candle_transformers::models::llama::LlamaConfig>(&text).unwrap();
}

#[test]
fn nothing_is_overwritten_and_nothing_bad_is_written() {
    let spec = small_spec(true);
    let (dir, params) = exported(&spec);
    assert!(matches!(export(dir.path(), &spec, &params), Err(ExportError::Exists { .. })));
    let empty = TempDir::new().unwrap();
    let target = empty.path().join("deep/er");
    assert!(matches!(export(&target, &spec, &params[1..]), Err(ExportError::Length { .. })));
    let one = ModelSpec { vocab_size: 1, ..spec.clone() };
    let few = vec![0.0; HostModel::new(&one).unwrap().parameter_count()];
    assert!(matches!(export(&target, &one, &few), Err(ExportError::Token { token: 1, vocab_size: 1 })));
    let flat = ModelSpec { layers: 0, ..spec.clone() };
    assert!(matches!(export(&target, &flat, &params), Err(ExportError::Config(_))));
    assert!(!target.exists());
    let file = empty.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(export(&file, &spec, &params), Err(ExportError::Io { .. })));
    // A folder where the weights would be written makes the export fail after its first files; none of them stays.
    let obstacle = target.join(".model.safetensors.partial");
    fs::create_dir_all(&obstacle).unwrap();
    assert!(matches!(export(&target, &spec, &params), Err(ExportError::Io { .. })));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    fs::remove_dir(&obstacle).unwrap();
    export(&target, &spec, &params).unwrap();
    assert_eq!(fs::read_dir(&target).unwrap().count(), 5);
}

/// Imports a sound folder after `change` was made to its config.
fn with_config(change: impl FnOnce(&mut Value)) -> Result<(ModelSpec, Vec<f32>), ImportError> {
    let (dir, _) = exported(&small_spec(true));
    let path = dir.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    import(dir.path())
}

#[test]
fn configs_are_refused_by_the_key_that_is_wrong() {
    for (key, value) in [
        ("architectures", json!(["GemmaForCausalLM"])),
        ("architectures", json!(["LlamaForSequenceClassification"])),
        ("architectures", json!([])),
        ("model_type", json!("gemma3")),
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("partial_rotary_factor", json!(0.5)),
        ("rope_scaling", json!({ "factor": 2.0 })),
        ("rope_scaling", json!("linear")),
        ("rope_scaling", json!({ "rope_type": "llama3", "factor": 8.0 })),
        ("rope_scaling", json!({ "rope_type": "linear", "factor": 1e300 })),
        ("rope_scaling", json!({ "rope_type": "linear", "factor": 2.000_000_1 })),
        ("rope_scaling", json!({ "rope_type": "linear", "factor": "2" })),
        ("rope_parameters", json!({ "rope_theta": 10000.0, "factor": 2.0 })),
        ("rope_parameters", json!({ "full_attention": { "rope_type": "default", "rope_theta": 10000.0 } })),
        ("rope_theta", json!(10000.5)),
        ("rope_theta", json!(-1.0)),
        ("rope_theta", json!(1e300)),
        ("quantization_config", json!({ "quant_method": "gptq" })),
    ] {
        let error = with_config(|config| config[key] = value.clone()).unwrap_err();
        assert!(matches!(error, ImportError::Unsupported { what, .. } if what == key), "{key}: {error:?}");
    }
    for (key, value) in [
        ("vocab_size", json!(-1)),
        ("hidden_size", json!(1u64 << 40)),
        ("num_hidden_layers", json!("two")),
        ("intermediate_size", Value::Null),
    ] {
        let error = with_config(|config| config[key] = value.clone()).unwrap_err();
        assert!(matches!(error, ImportError::Parse { .. }), "{key}: {error:?}");
    }
    let error = with_config(|config| config["num_attention_heads"] = json!(0)).unwrap_err();
    assert!(matches!(error, ImportError::Config(ConfigError::Zero { field: "heads" })), "{error:?}");
    let error = with_config(|config| config["head_dim"] = json!(7)).unwrap_err();
    assert!(matches!(error, ImportError::Config(ConfigError::OddHead { width: 7 })), "{error:?}");
    let error = with_config(|config| config["head_dim"] = json!(8)).unwrap_err();
    assert!(matches!(&error, ImportError::Shape { name, .. } if name.ends_with("q_proj.weight")), "{error:?}");
    for kind in ["dynamic", "yarn", "longrope", "su"] {
        for key in ["rope_type", "type"] {
            let error = with_config(|config| config["rope_scaling"] = json!({ key: kind, "factor": 2.0 })).unwrap_err();
            assert!(matches!(&error, ImportError::RopeKind { kind: found } if found == kind), "{error:?}");
        }
    }
    let error = with_config(|config| config["num_key_value_heads"] = json!(3)).unwrap_err();
    assert!(matches!(error, ImportError::Config(ConfigError::KvHeads { .. })), "{error:?}");
    let error = with_config(|config| config["rms_norm_eps"] = json!(0)).unwrap_err();
    assert!(matches!(error, ImportError::Config(ConfigError::NormEps { .. })), "{error:?}");
    // Sizes that the weights do not have: refused from the header, before parameters are allocated.
    let error = with_config(|config| config["vocab_size"] = json!(4_000_000)).unwrap_err();
    assert!(matches!(error, ImportError::Shape { .. }), "{error:?}");
    let error = with_config(|config| config["num_hidden_layers"] = json!(3)).unwrap_err();
    assert!(matches!(&error, ImportError::Missing { name } if name.starts_with("model.layers.2.")), "{error:?}");
    let error = with_config(|config| config["num_hidden_layers"] = json!(1)).unwrap_err();
    assert!(matches!(&error, ImportError::Extra { name } if name.starts_with("model.layers.1.")), "{error:?}");
}

#[test]
fn configs_of_other_writers_are_read() {
    let (spec, _) = with_config(|config| {
        let config = config.as_object_mut().unwrap();
        config.remove("head_dim");
        config.remove("rope_theta");
        config.insert("rope_parameters".into(), json!({ "rope_type": "default", "rope_theta": 500000.0 }));
        config.insert("dtype".into(), json!("float32"));
    })
    .unwrap();
    assert_eq!((spec.rope_theta, spec.rope_scaling), (500_000, None));
    let newer = |parameters: Value| {
        with_config(|config| {
            config["rope_theta"] = Value::Null;
            config["rope_parameters"] = parameters;
        })
    };
    let (spec, _) = newer(json!({ "rope_type": "linear", "rope_theta": 500000.0, "factor": 2.0 })).unwrap();
    assert_eq!((spec.rope_theta, spec.rope_scaling), (500_000, Some(LINEAR)));
    let (spec, _) = newer(json!({ "rope_theta": 20000.0 })).unwrap();
    assert_eq!((spec.rope_theta, spec.rope_scaling), (20_000, None));
    let (spec, _) = with_config(|config| config["rope_scaling"] = json!({ "type": "linear", "factor": 2 })).unwrap();
    assert_eq!(spec.rope_scaling, Some(LINEAR));
    // A factor that makes no sense is refused like any specification that has it.
    let error = with_config(|config| config["rope_scaling"] = json!({ "type": "linear", "factor": 0.5 }));
    assert!(matches!(error, Err(ImportError::Config(ConfigError::RopeScaling { .. }))));
}

/// transformers 5 lets an older key replace the newer one whole; other readers do not.
#[test]
fn two_keys_of_the_rotary_embedding_that_disagree_are_ambiguous() {
    let scaled = json!({ "rope_type": "linear", "rope_theta": 500000.0, "factor": 2.0 });
    let both = |theta: Value, newer: &Value, older: Value| {
        let newer = newer.clone();
        with_config(|config| {
            config["rope_theta"] = theta;
            config["rope_parameters"] = newer;
            config["rope_scaling"] = older;
        })
    };
    for older in [json!({ "rope_type": "linear", "factor": 2.0 }), json!({ "rope_type": "linear", "factor": 4.0 })] {
        let error = both(Value::Null, &scaled, older).unwrap_err();
        assert!(matches!(error, ImportError::AmbiguousRope { .. }), "{error:?}");
    }
    let error = both(json!(10000.0), &scaled, Value::Null).unwrap_err();
    assert!(matches!(error, ImportError::AmbiguousRope { .. }), "{error:?}");
    // Keys that say the same are not ambiguous.
    let (spec, _) = both(json!(500000.0), &scaled, scaled.clone()).unwrap();
    assert_eq!((spec.rope_theta, spec.rope_scaling), (500_000, Some(LINEAR)));
}

#[test]
fn relatives_are_trained_where_their_arithmetic_is_the_same() {
    let mistral = |window: Option<Value>| {
        with_config(|config| {
            config["architectures"] = json!(["MistralForCausalLM"]);
            config["model_type"] = json!("mistral");
            if let Some(window) = window {
                config["sliding_window"] = window;
            }
        })
    };
    // The context has 70 positions. Without the key a Mistral has a window of 4,096.
    for window in [Some(Value::Null), Some(json!(70)), Some(json!(4096)), None] {
        assert_eq!(mistral(window).unwrap().0, small_spec(true));
    }
    let error = mistral(Some(json!(69))).unwrap_err();
    assert!(
        matches!(&error, ImportError::GenerateOnly { reason, .. } if reason.contains("sliding_window is 69")),
        "{error}"
    );
    for (name, kind, reason) in
        [("Qwen2ForCausalLM", "qwen2", "biases"), ("Qwen3ForCausalLM", "qwen3", "norms of their own")]
    {
        let error = with_config(|config| {
            config["architectures"] = json!([name]);
            config["model_type"] = json!(kind);
        })
        .unwrap_err();
        let said = matches!(&error, ImportError::GenerateOnly { architecture, reason: found }
            if *architecture == name && found.contains(reason));
        assert!(said, "{error:?}");
    }
    let old = with_config(|config| config["architectures"] = json!(["LLaMAForCausalLM"])).unwrap();
    assert_eq!(old.0, small_spec(true));
}

#[test]
fn the_context_of_the_source_comes_back() {
    let (spec, _) = with_config(|config| config["max_position_embeddings"] = json!(1_024_000)).unwrap();
    assert_eq!((spec.sequence_length, spec.position_limit), (1 << 17, Some(1_024_000)));
    let limited = ModelSpec { position_limit: Some(131_072), ..small_spec(true) };
    let (dir, _) = exported(&limited);
    let config: Value = serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["max_position_embeddings"], 131_072);
}

/// Imports a sound folder after `change` was made to the bytes of its weights.
fn with_weights(change: impl FnOnce(&mut Vec<u8>)) -> ImportError {
    let (dir, _) = exported(&small_spec(true));
    let path = dir.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    import(dir.path()).unwrap_err()
}

/// The same, with the header as JSON.
fn with_header(change: impl FnOnce(&mut Value)) -> ImportError {
    with_weights(|bytes| {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        change(&mut header);
        let header = header.to_string().into_bytes();
        let body = bytes.split_off(8 + length);
        *bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.extend(body);
    })
}

#[test]
fn weights_are_refused_by_what_is_wrong() {
    const NORM: &str = "model.norm.weight";
    let error = with_header(|header| header[NORM]["dtype"] = json!("I32"));
    assert!(matches!(&error, ImportError::Dtype { name, .. } if name == NORM), "{error:?}");
    let error = with_header(|header| header[NORM]["shape"] = json!([1, 24]));
    assert!(matches!(&error, ImportError::Shape { name, .. } if name == NORM), "{error:?}");
    let error = with_header(|header| header[NORM]["shape"] = json!([u64::MAX, 24]));
    assert!(matches!(error, ImportError::Header { .. }), "{error:?}");
    let error = with_header(|header| header[NORM]["data_offsets"] = json!([0, 96]));
    assert!(matches!(error, ImportError::Header { .. }), "{error:?}");
    let error = with_header(|header| {
        let norm = header.as_object_mut().unwrap().remove(NORM).unwrap();
        header["model.other.weight"] = norm;
    });
    assert!(matches!(&error, ImportError::Missing { name } if name == NORM), "{error:?}");

    let error = with_weights(|bytes| bytes.truncate(bytes.len() - 1));
    assert!(matches!(error, ImportError::Truncated { .. }), "{error:?}");
    let error = with_weights(|bytes| bytes.push(0));
    assert!(matches!(error, ImportError::Truncated { .. }), "{error:?}");
    for length in [0, 7, 8, 100] {
        let error = with_weights(|bytes| bytes.truncate(length));
        assert!(matches!(error, ImportError::Truncated { .. }), "{error:?}");
    }
    let error = with_weights(|bytes| bytes[..8].fill(0xff));
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error:?}");
    let error = with_weights(|bytes| bytes[8] = b'x');
    assert!(matches!(error, ImportError::Header { .. }), "{error:?}");
    let error = with_weights(|bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    assert!(matches!(&error, ImportError::NonFinite { name, index: 23 } if name == NORM), "{error:?}");
}

/// A folder as large models come: some tensors in one file, the rest in another, here in 16 bits.
fn sharded(name: &str, weight_map: impl FnOnce(&mut serde_json::Map<String, Value>)) -> (TempDir, Vec<f32>) {
    let (dir, params) = exported(&small_spec(false));
    let model = HostModel::new(&small_spec(false)).unwrap();
    let files = ["model-00001-of-00002.safetensors", name];
    let mut tensors = [Vec::new(), Vec::new()];
    let mut map = serde_json::Map::new();
    let mut expected = params.clone();
    for (index, (tensor, range)) in model.tensors().iter().zip(model.ranges()).enumerate() {
        let halves = index % 2 == 1;
        let bytes: Vec<u8> = if halves {
            expected[range.clone()].iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits() & 0xffff_0000));
            params[range.clone()].iter().flat_map(|x| ((x.to_bits() >> 16) as u16).to_le_bytes()).collect()
        } else {
            params[range.clone()].iter().flat_map(|x| x.to_le_bytes()).collect()
        };
        let dtype = if halves { safetensors::Dtype::BF16 } else { safetensors::Dtype::F32 };
        let shape: Vec<usize> = tensor.shape.iter().map(|&size| size as usize).collect();
        let file = usize::from(index > 7);
        tensors[file].push((tensor.name.clone(), dtype, shape, bytes));
        map.insert(tensor.name.clone(), files[file].into());
    }
    for (file, tensors) in files.iter().zip(&tensors) {
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        if file.ends_with("0002.safetensors") {
            fs::write(dir.path().join(file), safetensors::serialize(views, None).unwrap()).unwrap();
        }
    }
    weight_map(&mut map);
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map });
    fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    (dir, expected)
}

#[test]
fn weights_in_several_files_and_in_16_bits_are_read() {
    const SECOND: &str = "model-00002-of-00002.safetensors";
    let (dir, expected) = sharded(SECOND, |_| ());
    let (spec, params) = import(dir.path()).unwrap();
    assert_eq!(spec, small_spec(false));
    assert!(params.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()) && params.len() == expected.len());

    let error =
        |name, change: fn(&mut serde_json::Map<String, Value>)| import(sharded(name, change).0.path()).unwrap_err();
    let missing = error(SECOND, |map| drop(map.remove("lm_head.weight")));
    assert!(matches!(&missing, ImportError::Missing { name } if name == "lm_head.weight"), "{missing:?}");
    let extra = error(SECOND, |map| drop(map.insert("other.weight".into(), SECOND.into())));
    assert!(matches!(&extra, ImportError::Extra { name } if name == "other.weight"), "{extra:?}");
    // The index puts a tensor into the file that does not have it.
    let elsewhere = error(SECOND, |map| drop(map.insert("model.embed_tokens.weight".into(), SECOND.into())));
    assert!(
        matches!(&elsewhere, ImportError::Extra { name } | ImportError::Missing { name }
        if name == "model.embed_tokens.weight"),
        "{elsewhere:?}"
    );
    for name in ["../elsewhere.safetensors", "/etc/passwd", "..", "a/b", ""] {
        let outside = error(name, |_| ());
        assert!(matches!(&outside, ImportError::FileName { name: found } if found == name), "{name}: {outside:?}");
    }
    let absent = error(SECOND, |map| drop(map.insert("lm_head.weight".into(), "third.safetensors".into())));
    assert!(
        matches!(&absent, ImportError::Extra { .. })
            || matches!(&absent, ImportError::Io { path, .. } if path.ends_with("third.safetensors")),
        "{absent:?}"
    );
    let (dir, _) = sharded(SECOND, |_| ());
    fs::write(dir.path().join(SECOND), b"short").unwrap();
    let error = import(dir.path()).unwrap_err();
    assert!(matches!(&error, ImportError::Truncated { path, .. } if path.ends_with(SECOND)), "{error:?}");
}

#[test]
fn missing_and_overlong_files_are_named() {
    let error = import(Path::new("/nowhere/at/all")).unwrap_err();
    assert!(matches!(&error, ImportError::Io { path, .. } if path.ends_with("config.json")), "{error:?}");
    let (dir, _) = exported(&small_spec(true));
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let error = import(dir.path()).unwrap_err();
    assert!(matches!(&error, ImportError::Io { path, .. } if path.ends_with("model.safetensors")), "{error:?}");
    fs::write(dir.path().join("config.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    assert!(matches!(import(dir.path()).unwrap_err(), ImportError::TooLarge { what: "config.json", .. }));
}

/// The weights of an exported folder, written anew with more tensors.
fn with_more(spec: &ModelSpec, more: &[(&str, Vec<usize>, Vec<f32>)]) -> (TempDir, Vec<f32>) {
    let (dir, params) = exported(spec);
    let path = dir.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let written = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let more: Vec<(String, Vec<usize>, Vec<u8>)> = more
        .iter()
        .map(|(name, shape, values)| {
            ((*name).to_owned(), shape.clone(), values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let more = more.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    let all: Vec<_> = written.tensors().into_iter().chain(more).collect();
    fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
    (dir, params)
}

#[test]
fn a_tied_head_may_be_there_as_a_copy() {
    let spec = small_spec(true);
    let embedding = exported(&spec).1[..53 * 24].to_vec();
    let read = |head: Vec<f32>, shape: Vec<usize>| {
        let (dir, params) = with_more(&spec, &[("lm_head.weight", shape, head)]);
        import(dir.path()).map(|(read_spec, read)| {
            assert_eq!(read_spec, spec);
            assert!(read == params, "the copy changes a parameter");
        })
    };
    read(embedding.clone(), vec![53, 24]).unwrap();
    let mut other = embedding.clone();
    other[700] = -other[700];
    let error = read(other, vec![53, 24]).unwrap_err();
    assert!(matches!(error, ImportError::TiedHeadDiffers { index: 700 }), "{error:?}");
    let error = read(embedding[24..].to_vec(), vec![52, 24]).unwrap_err();
    assert!(matches!(error, ImportError::Shape { .. }), "{error:?}");
}

#[test]
fn tables_of_the_rotary_embedding_are_passed_by() {
    for name in ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"] {
        let (dir, params) = with_more(&small_spec(false), &[(name, vec![3], vec![1.0, 0.5, 0.25])]);
        assert!(import(dir.path()).unwrap().1 == params);
    }
    let (dir, _) = with_more(&small_spec(false), &[("model.rotary_emb.other", vec![1], vec![1.0])]);
    assert!(matches!(import(dir.path()), Err(ImportError::Extra { .. })));
}

#[test]
fn files_that_are_not_the_weights_are_named() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n";
    for name in ["model.safetensors", "config.json"] {
        let (dir, _) = exported(&small_spec(true));
        fs::write(dir.path().join(name), POINTER).unwrap();
        let error = import(dir.path()).unwrap_err();
        assert!(matches!(&error, ImportError::LfsPointer { path } if path.ends_with(name)), "{error:?}");
    }
    let (dir, _) = sharded("model-00002-of-00002.safetensors", |_| ());
    fs::write(dir.path().join("model-00002-of-00002.safetensors"), POINTER).unwrap();
    assert!(matches!(import(dir.path()).unwrap_err(), ImportError::LfsPointer { .. }));
    for name in ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth", "model.gguf"] {
        let (dir, _) = exported(&small_spec(true));
        fs::rename(dir.path().join("model.safetensors"), dir.path().join(name)).unwrap();
        let error = import(dir.path()).unwrap_err();
        assert!(matches!(&error, ImportError::OtherFormat { path } if path.ends_with(name)), "{error:?}");
    }
}

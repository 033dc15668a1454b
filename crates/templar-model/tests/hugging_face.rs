//! Folders out and in: every bit comes back, and every kind of damage is refused by its name.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use templar_manifest::ModelSpec;
use templar_model::ConfigError;
use templar_model::hf::{ExportError, ImportError, export, import};

use crate::support::{HostModel, LINEAR, LLAMA3, lively_params, small_spec, word_tokenizer};

fn exported(spec: &ModelSpec) -> (TempDir, Vec<f32>) {
    let params = lively_params(&HostModel::new(spec).unwrap());
    let dir = TempDir::new().unwrap();
    export(dir.path(), spec, &params, &word_tokenizer(&["a", "b"])).unwrap();
    (dir, params)
}

#[test]
fn a_round_trip_keeps_every_bit() {
    for (tied, scaling) in [(true, None), (false, Some(LLAMA3)), (true, Some(LINEAR))] {
        let mut spec = ModelSpec { rope_scaling: scaling, ..small_spec(tied) };
        spec.norm_eps_bits += 1;
        let (dir, params) = exported(&spec);
        let (read_spec, read) = import(dir.path()).unwrap();
        assert_eq!(read_spec, spec);
        assert!(read.iter().zip(&params).all(|(a, b)| a.to_bits() == b.to_bits()) && read.len() == params.len());
        // The same parameters make the same bytes, and the body is the vector itself.
        let again = TempDir::new().unwrap();
        export(again.path(), &read_spec, &read, &word_tokenizer(&["a", "b"])).unwrap();
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
        ("bos_token_id", json!(0)),
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
    let tokenizer = word_tokenizer(&["a"]);
    assert!(matches!(export(dir.path(), &spec, &params, &tokenizer), Err(ExportError::Exists { .. })));
    let empty = TempDir::new().unwrap();
    let target = empty.path().join("deep/er");
    assert!(matches!(export(&target, &spec, &params[1..], &tokenizer), Err(ExportError::Length { .. })));
    assert!(matches!(export(&target, &spec, &params, b"not a tokenizer"), Err(ExportError::Tokenizer(_))));
    let flat = ModelSpec { layers: 0, ..spec.clone() };
    assert!(matches!(export(&target, &flat, &params, &tokenizer), Err(ExportError::Config(_))));
    assert!(!target.exists());
    let file = empty.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(export(&file, &spec, &params, &tokenizer), Err(ExportError::Io { .. })));
    // A folder where the weights would be written makes the export fail after its first files; none of them stays.
    let obstacle = target.join(".model.safetensors.partial");
    fs::create_dir_all(&obstacle).unwrap();
    assert!(matches!(export(&target, &spec, &params, &tokenizer), Err(ExportError::Io { .. })));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    fs::remove_dir(&obstacle).unwrap();
    export(&target, &spec, &params, &tokenizer).unwrap();
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
        ("architectures", json!(["MistralForCausalLM"])),
        ("architectures", json!([])),
        ("model_type", json!("gemma3")),
        ("hidden_act", json!("gelu")),
        ("attention_bias", json!(true)),
        ("mlp_bias", json!(true)),
        ("head_dim", json!(8)),
        ("rope_scaling", json!({ "rope_type": "dynamic", "factor": 2.0 })),
        ("rope_scaling", json!({ "type": "yarn", "factor": 2.0 })),
        ("rope_scaling", json!({ "factor": 2.0 })),
        ("rope_scaling", json!("linear")),
        ("rope_scaling", json!({ "rope_type": "llama3", "factor": 8.0 })),
        ("rope_scaling", json!({ "rope_type": "linear", "factor": 1e300 })),
        ("rope_scaling", json!({ "rope_type": "linear", "factor": 2.000_000_1 })),
        ("rope_scaling", json!({ "rope_type": "linear", "factor": "2" })),
        ("rope_parameters", json!({ "rope_type": "yarn", "rope_theta": 10000.0 })),
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
    assert!(matches!(error, ImportError::Unsupported { what: "head_dim", .. }), "{error:?}");
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
    let scaled = json!({ "rope_type": "linear", "rope_theta": 500000.0, "factor": 2.0 });
    let (spec, _) = with_config(|config| config["rope_parameters"] = scaled.clone()).unwrap();
    assert_eq!((spec.rope_theta, spec.rope_scaling), (500_000, Some(LINEAR)));
    let (spec, _) = with_config(|config| config["rope_scaling"] = json!({ "type": "linear", "factor": 2 })).unwrap();
    assert_eq!(spec.rope_scaling, Some(LINEAR));
    let error = with_config(|config| {
        config["rope_scaling"] = json!({ "type": "linear", "factor": 4 });
        config["rope_parameters"] = scaled;
    });
    assert!(matches!(error, Err(ImportError::Unsupported { what: "rope_scaling", .. })));
    // A factor that makes no sense is refused like any specification that has it.
    let error = with_config(|config| config["rope_scaling"] = json!({ "type": "linear", "factor": 0.5 }));
    assert!(matches!(error, Err(ImportError::Config(ConfigError::RopeScaling { .. }))));
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

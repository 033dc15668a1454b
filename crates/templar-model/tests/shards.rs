//! Exports in several files and in bf16: what comes back is what was promised.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use templar_model::hf::{ExportError, ExportOptions, FolderContents, SpecialIds, WeightType, export_with, import};

use crate::support::{HostModel, lively_params, small_spec};

fn exported(params: &[f32], options: &ExportOptions<'_>) -> Result<TempDir, ExportError> {
    let (dir, spec) = (TempDir::new().unwrap(), small_spec(false));
    let special = SpecialIds { start: Some(1), end: 0 };
    let config = json!({ "eos_token": "end" });
    let contents = FolderContents { spec: &spec, params, special, tokenizer: b"{}", tokenizer_config: &config };
    export_with(dir.path(), &contents, options).map(|()| dir)
}

fn params() -> Vec<f32> {
    lively_params(&HostModel::new(&small_spec(false)).unwrap())
}

#[test]
fn several_files_hold_the_same_weights() {
    let params = params();
    for (most, least_files) in [(1, 21), (8_000, 3), (1 << 30, 1)] {
        let options = ExportOptions { max_shard_bytes: Some(most), ..ExportOptions::default() };
        let dir = exported(&params, &options).unwrap();
        let (spec, read) = import(dir.path()).unwrap();
        assert_eq!(spec, small_spec(false));
        assert!(read.iter().zip(&params).all(|(a, b)| a.to_bits() == b.to_bits()) && read.len() == params.len());
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
        assert!(files.len() >= least_files, "{files:?}");
        let index = dir.path().join("model.safetensors.index.json");
        if files.len() == 1 {
            assert!(!index.exists() && files == ["model.safetensors"]);
            continue;
        }
        let index: Value = serde_json::from_slice(&fs::read(index).unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], params.len() * 4);
        for (name, file) in index["weight_map"].as_object().unwrap() {
            let bytes = fs::read(dir.path().join(file.as_str().unwrap())).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            assert!(tensors.tensor(name).is_ok());
            let weights: usize = tensors.iter().map(|(_, tensor)| tensor.data().len()).sum();
            assert!(weights as u64 <= most || tensors.len() == 1, "{weights} bytes in {file}");
        }
    }
}

#[test]
fn bf16_is_the_nearest_and_names_what_it_cannot_hold() {
    let mut params = params();
    let options = ExportOptions { weights: WeightType::Bf16, max_shard_bytes: Some(5_000), card: Some("# card\n") };
    let dir = exported(&params, &options).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("README.md")).unwrap(), "# card\n");
    let config: Value = serde_json::from_slice(&fs::read(dir.path().join("config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "bfloat16");
    for (read, own) in import(dir.path()).unwrap().1.iter().zip(&params) {
        assert_eq!(read.to_bits() & 0xffff, 0);
        // Half a step of 8 bits of precision.
        assert!((read - own).abs() <= own.abs() / 256.0, "{own} became {read}");
    }
    params[7] = f32::MAX;
    let refused = exported(&params, &options).unwrap_err();
    assert!(matches!(&refused, ExportError::TooLarge { tensor } if tensor == "model.embed_tokens.weight"), "{refused}");
}

//! Folders of models as Hugging Face writes them: `config.json`, and the header and data of `model.safetensors`.

use std::path::Path;
use std::sync::LazyLock;

use templar_manifest::{ModelSpec, TensorSpec};
use templar_model::hf;

/// The smallest model that the format can hold.
static FOLDER: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let spec = ModelSpec {
        vocab_size: 8,
        hidden_size: 4,
        layers: 1,
        heads: 2,
        head_size: None,
        kv_heads: 1,
        ffn_size: 4,
        rope_theta: 10_000,
        rope_scaling: None,
        norm_eps_bits: 1e-5f32.to_bits(),
        tied_embeddings: true,
        sequence_length: 8,
        position_limit: None,
    };
    let tensors = templar_model::tensors(&spec).expect("a valid model");
    let elements: usize = tensors.iter().map(TensorSpec::elements).sum();
    let parameters: Vec<f32> = (0..elements).map(|index| index as f32 / 8.0).collect();
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let dir = folder.path().join("model");
    let tokenizer = super::tokenizer::opened();
    let files = tokenizer.hugging_face_files(8, None).expect("a sound tokenizer");
    let contents = hf::FolderContents {
        spec: &spec,
        params: &parameters,
        special: hf::SpecialIds { start: None, end: 0 },
        tokenizer: &files.tokenizer,
        tokenizer_config: &files.config,
    };
    hf::export(&dir, &contents).expect("an export");
    let read = |name: &str| std::fs::read(dir.join(name)).expect("a file of the export");
    (read("config.json"), read("model.safetensors"))
});

fn read(config: &[u8], weights: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let write = |name: &str, bytes: &[u8]| std::fs::write(Path::join(folder.path(), name), bytes);
    write("config.json", config).expect("a temporary file");
    write("model.safetensors", weights).expect("a temporary file");
    match hf::import(folder.path()) {
        Ok((_, parameters)) => {
            assert!(parameters.iter().all(|value| value.is_finite()));
            true
        }
        Err(_) => false,
    }
}

pub(super) fn read_weights(bytes: &[u8]) -> bool {
    read(&FOLDER.0, bytes)
}

pub(super) fn read_config(bytes: &[u8]) -> bool {
    read(bytes, &FOLDER.1)
}

pub(super) fn weights_seeds() -> Vec<Vec<u8>> {
    vec![FOLDER.1.clone()]
}

pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    vec![FOLDER.0.clone()]
}

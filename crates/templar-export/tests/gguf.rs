//! Files are read again by the format's rules alone, and tokenizers that llama.cpp has no name for are refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use templar_data::bundled;
use templar_device::Cpu;
use templar_export::gguf::vocabulary::Vocabulary;
use templar_export::gguf::{GgufContents, GgufError, MatrixType, write};
use templar_manifest::{ModelSpec, RopeScaling};
use templar_model::{Model, sizes};

/// A value of a file, as much of it as the tests look at.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    U32(u32),
    F32(f32),
    Flag(bool),
    Text(String),
    Texts(Vec<String>),
    Numbers(Vec<u32>),
}

/// A tensor of a file: its dimensions, innermost first, its type, and its bytes.
struct Tensor {
    sizes: Vec<u64>,
    of: u32,
    bytes: Vec<u8>,
}

struct Reader<'a>(&'a [u8], usize);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> &[u8] {
        self.1 += count;
        &self.0[self.1 - count..self.1]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let length = self.u64() as usize;
        String::from_utf8(self.take(length).to_vec()).unwrap()
    }

    fn value(&mut self) -> Value {
        match self.u32() {
            4 => Value::U32(self.u32()),
            6 => Value::F32(f32::from_bits(self.u32())),
            7 => Value::Flag(self.take(1)[0] == 1),
            8 => Value::Text(self.text()),
            9 => match (self.u32(), self.u64()) {
                (8, count) => Value::Texts((0..count).map(|_| self.text()).collect()),
                (5 | 6, count) => Value::Numbers((0..count).map(|_| self.u32()).collect()),
                other => panic!("an array of {other:?}"),
            },
            other => panic!("a value of the type {other}"),
        }
    }
}

fn read(path: &Path) -> (BTreeMap<String, Value>, BTreeMap<String, Tensor>) {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = Reader(&bytes, 0);
    assert_eq!(reader.take(4), b"GGUF");
    assert_eq!(reader.u32(), 3);
    let (tensors, values) = (reader.u64(), reader.u64());
    let values: BTreeMap<String, Value> = (0..values).map(|_| (reader.text(), reader.value())).collect();
    let mut list = Vec::new();
    for _ in 0..tensors {
        let name = reader.text();
        let sizes: Vec<u64> = (0..reader.u32()).map(|_| reader.u64()).collect();
        list.push((name, sizes, reader.u32(), reader.u64() as usize));
    }
    let start = reader.1.next_multiple_of(32);
    let mut end = start;
    let tensors = list.into_iter().map(|(name, sizes, of, offset)| {
        assert_eq!((start + offset) % 32, 0);
        let length = sizes.iter().product::<u64>() as usize * if of == 0 { 4 } else { 2 };
        end = (start + offset + length).next_multiple_of(32);
        (name, Tensor { sizes, of, bytes: bytes[start + offset..start + offset + length].to_vec() })
    });
    let tensors = tensors.collect();
    assert_eq!(end, bytes.len());
    (values, tensors)
}

fn contents<'a>(spec: &'a ModelSpec, params: &'a [f32], vocabulary: &'a Vocabulary) -> GgufContents<'a> {
    GgufContents {
        spec,
        params,
        matrices: MatrixType::F32,
        vocabulary,
        start: None,
        end: 0,
        chat_template: Some("{{ x }}"),
        name: "a model",
        licence: Some("MIT"),
        source: None,
    }
}

fn model() -> (ModelSpec, Vec<f32>, Vocabulary) {
    let (_, json) = bundled::shakespeare();
    // Grouped queries, and two rows more than tokens.
    let spec = ModelSpec { heads: 4, kv_heads: 2, ..sizes::preset("tiny", 2050).unwrap() };
    let params = Model::new(&spec, Arc::new(Cpu::best())).unwrap().init(&[4; 32]);
    (spec, params, Vocabulary::read(json).unwrap())
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

#[test]
fn a_file_has_every_tensor_and_every_key() {
    let (spec, params, vocabulary) = model();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write(&path, &contents(&spec, &params, &vocabulary)).unwrap();
    let (values, tensors) = read(&path);
    for (key, value) in [
        ("general.architecture", Value::Text("llama".into())),
        ("general.license", Value::Text("MIT".into())),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.rope.freq_base", Value::F32(spec.rope_theta as f32)),
        ("tokenizer.ggml.model", Value::Text("gpt2".into())),
        ("tokenizer.ggml.pre", Value::Text("gpt-2".into())),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ("tokenizer.ggml.add_bos_token", Value::Flag(false)),
        ("tokenizer.chat_template", Value::Text("{{ x }}".into())),
    ] {
        assert_eq!(values.get(key), Some(&value), "{key}");
    }
    let Value::Texts(tokens) = &values["tokenizer.ggml.tokens"] else { panic!("no tokens") };
    let Value::Numbers(kinds) = &values["tokenizer.ggml.token_type"] else { panic!("no kinds") };
    assert_eq!((tokens.len(), tokens[0].as_str(), tokens[2049].as_str()), (2050, "<|endoftext|>", "[PAD2049]"));
    assert_eq!((kinds[0], kinds[1], kinds[2049]), (3, 1, 5));
    let names = templar_model::tensors(&spec).unwrap();
    assert_eq!(tensors.len(), names.len());
    assert_eq!(tensors["token_embd.weight"].sizes, [u64::from(spec.hidden_size), 2050]);
    let norm = &tensors["blk.0.attn_norm.weight"];
    assert_eq!((norm.of, &norm.sizes[..]), (0, &[u64::from(spec.hidden_size)][..]));
    assert_eq!(floats(&tensors["token_embd.weight"]), params[..2050 * spec.hidden_size as usize]);
    // Row 1 of the first head comes from the middle of the head.
    let (width, hidden) = (spec.head_width() as usize, spec.hidden_size as usize);
    let start: usize =
        names.iter().take_while(|t| !t.name.ends_with("0.self_attn.k_proj.weight")).map(|t| t.elements()).sum();
    let written = floats(&tensors["blk.0.attn_k.weight"]);
    assert_eq!(written.len(), 2 * width * hidden);
    assert_eq!(written[hidden..2 * hidden], params[start + width / 2 * hidden..][..hidden]);
    assert!(matches!(write(&path, &contents(&spec, &params, &vocabulary)), Err(GgufError::Exists { .. })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn halves_are_written_for_matrices_alone() {
    let (spec, params, vocabulary) = model();
    let spec = ModelSpec {
        rope_scaling: Some(RopeScaling::Llama3 {
            factor_ppm: 8_000_000,
            low_freq_factor_ppm: 1_000_000,
            high_freq_factor_ppm: 4_000_000,
            original_positions: 64,
        }),
        ..spec
    };
    let dir = tempfile::tempdir().unwrap();
    let halves =
        |params| GgufContents { matrices: MatrixType::F16, start: Some(5), ..contents(&spec, params, &vocabulary) };
    let path = dir.path().join("half.gguf");
    write(&path, &halves(&params)).unwrap();
    let (values, tensors) = read(&path);
    assert_eq!(
        (&values["general.file_type"], &values["tokenizer.ggml.add_bos_token"]),
        (&Value::U32(1), &Value::Flag(true))
    );
    assert_eq!(values["tokenizer.ggml.bos_token_id"], Value::U32(5));
    assert!(tensors.values().all(|tensor| tensor.of == u32::from(tensor.sizes.len() == 2)));
    let divisors = floats(&tensors["rope_freqs.weight"]);
    assert_eq!((divisors.len(), divisors[0]), (spec.head_width() as usize / 2, 1.0));
    assert!(divisors.is_sorted() && divisors.last() == Some(&8.0), "{divisors:?}");
    let mut large = params.clone();
    large[3] = 1e6;
    let refused = write(&dir.path().join("other.gguf"), &halves(&large)).unwrap_err();
    assert!(matches!(&refused, GgufError::TooLarge { tensor } if tensor == "model.embed_tokens.weight"));
    let few = ModelSpec { vocab_size: 2047, ..spec.clone() };
    let params = vec![0.0; templar_model::tensors(&few).unwrap().iter().map(|t| t.elements()).sum()];
    let refused = write(&dir.path().join("other.gguf"), &contents(&few, &params, &vocabulary));
    assert!(matches!(refused, Err(GgufError::Rows { tokens: 2048, rows: 2047 })));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The bundled tokenizer after a change.
fn changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<Vocabulary, String> {
    let mut file: serde_json::Value = serde_json::from_slice(bundled::shakespeare().1).unwrap();
    change(&mut file);
    Vocabulary::read(file.to_string().as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn a_tokenizer_without_a_name_is_refused() {
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let digits = r#"{"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}]}"#;
    assert!(changed(|file| file["pre_tokenizer"] = json(digits)).is_ok());
    type Change = fn(&mut serde_json::Value);
    let changes: [(Change, &str); 7] = [
        (|file| file["model"]["type"] = "Unigram".into(), "BPE alone"),
        (|file| file["model"]["end_of_word_suffix"] = "</w>".into(), "end_of_word_suffix"),
        (|file| file["normalizer"] = serde_json::json!({ "type": "NFC" }), "NFC"),
        (|file| file["pre_tokenizer"]["add_prefix_space"] = true.into(), "splits text"),
        (|file| file["model"]["ignore_merges"] = true.into(), "splits text"),
        (|file| file["model"]["byte_fallback"] = true.into(), "normalizer"),
        (|file| file["model"]["merges"][0] = "ab".into(), "no merge"),
    ];
    for (change, reason) in changes {
        let refused = changed(change).unwrap_err();
        assert!(refused.contains(reason), "{reason:?} is not in {refused:?}");
    }
}

#[test]
fn a_sentencepiece_model_is_told_by_its_merges() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/stories260K-hf/tokenizer.json");
    let Ok(json) = std::fs::read(path) else {
        eprintln!("skipped: stories260K is not beside the repository");
        return;
    };
    let whole = Vocabulary::read(&json).unwrap();
    assert_eq!(whole.len(), 512);
    let mut file: serde_json::Value = serde_json::from_slice(&json).unwrap();
    file["model"]["merges"].as_array_mut().unwrap().pop();
    let refused = Vocabulary::read(file.to_string().as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("are not merged"), "{refused}");
}

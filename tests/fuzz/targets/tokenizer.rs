//! Tokenizer files (`tokenizer.json`).

use templar_data::{TokenNames, Tokenizer};

/// A tokenizer of a few tokens, with every part that the bundled one has.
const SMALL: &str = r#"{
  "version": "1.0", "truncation": null, "padding": null,
  "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true}],
  "normalizer": {"type": "NFC"},
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": null,
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
  "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 4, "Ġa": 5}, "merges": [["a", "b"], ["Ġ", "a"]]}
}"#;

pub(super) fn decode(bytes: &[u8]) -> bool {
    let Ok(tokenizer) = Tokenizer::new(bytes.to_vec(), TokenNames::default()) else { return false };
    if let Ok(tokens) = tokenizer.encode("ab a\u{e9} ba <|endoftext|>") {
        assert!(tokens.iter().all(|&token| token < tokenizer.vocab_size() && token != tokenizer.end_token()));
        let _ = tokenizer.decode(&tokens);
    }
    let _ = tokenizer.hugging_face_files(128, None).expect("a file that was read");
    true
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    vec![SMALL.as_bytes().to_vec(), small()]
}

/// The same tokenizer without a normalizer, which is enough to import text.
pub(super) fn small() -> Vec<u8> {
    SMALL.replace(r#"{"type": "NFC"}"#, "null").into_bytes()
}

/// The same, ready for use.
pub(super) fn opened() -> Tokenizer {
    Tokenizer::new(small(), TokenNames::default()).expect("a sound tokenizer")
}

//! The tokenizer wrapper: a pure function of the text, and files from strangers that must be errors.

use proptest::prelude::*;
use serde_json::{Value, json};
use templar_data::{MAX_TOKENIZER_BYTES, Tokenizer, TokenizerError, bundled};

fn shipped() -> Value {
    serde_json::from_slice(bundled::shakespeare().1).unwrap()
}

fn parse(json: &Value) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_bytes(json.to_string().as_bytes(), None)
}

fn with(field: &str, value: Value) -> Value {
    let mut json = shipped();
    json[field] = value;
    json
}

#[test]
fn the_shipped_tokenizer() {
    let tokenizer = parse(&shipped()).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_token(), tokenizer.token_bytes()), (2048, 0, 2));
    let text = "Now is the winter of our discontent";
    // Frozen: PyPI tokenizers 0.23.3 gives the same ids.
    assert_eq!(tokenizer.encode(text).unwrap(), [946, 322, 268, 264, 263, 361, 297, 440, 1216, 937, 334]);
    assert_eq!(tokenizer.decode(&[0]).unwrap(), "<|endoftext|>");
    assert!(matches!(tokenizer.decode(&[2048]), Err(TokenizerError::Decode(_))));
}

#[test]
fn settings_that_do_not_depend_on_the_text_are_off() {
    let plain = parse(&shipped()).unwrap();
    let mut changed = shipped();
    changed["truncation"] = json!({ "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0 });
    changed["padding"] = json!({ "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "<|endoftext|>" });
    changed["post_processor"] = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
        "use_regex": true });
    let text = "the end token <|endoftext|> in a text is text";
    let tokens = plain.encode(text).unwrap();
    assert!(!tokens.contains(&plain.end_token()));
    assert_eq!(parse(&changed).unwrap().encode(text).unwrap(), tokens);
}

#[test]
fn files_that_are_no_usable_tokenizer_are_refused() {
    for bytes in [&b""[..], b"{}", b"null", b"[1]", b"\xff\xfe", b"{\"model\":"] {
        assert!(matches!(Tokenizer::from_bytes(bytes, None), Err(TokenizerError::Parse(_))), "{bytes:?}");
    }
    // The parser itself panics on some of these.
    for field in ["decoder", "pre_tokenizer", "normalizer", "post_processor", "model", "added_tokens"] {
        for value in [json!(5), json!("x"), json!([]), json!({ "type": "Nothing" }), json!([{ "type": 3 }])] {
            if field == "added_tokens" && value == json!([]) {
                continue;
            }
            let refused = parse(&with(field, value.clone()));
            assert!(matches!(refused, Err(TokenizerError::Parse(_))), "{field} = {value}: {refused:?}");
        }
    }
    let mut json = shipped();
    json["model"]["dropout"] = json!(0.1);
    assert!(matches!(parse(&json), Err(TokenizerError::Random)));
    let mut json = shipped();
    json["model"]["vocab"]["far"] = json!(u32::MAX);
    assert!(matches!(parse(&json), Err(TokenizerError::Vocabulary { size: 0x1_0000_0000 })));
    let mut json = shipped();
    json["model"]["merges"][0] = json!(["never", "seen"]);
    assert!(matches!(parse(&json), Err(TokenizerError::Parse(_))));
    let found = Tokenizer::from_bytes(bundled::shakespeare().1, Some("<stop>"));
    assert!(matches!(found, Err(TokenizerError::NoEndToken { tried }) if tried == ["<stop>"]));
    let long = vec![b' '; MAX_TOKENIZER_BYTES + 1];
    assert!(matches!(Tokenizer::from_bytes(&long, None), Err(TokenizerError::TooLarge { .. })));
}

proptest! {
    #[test]
    fn every_text_comes_back(text in "\\PC{0,80}|[\\s\\S]{0,80}") {
        let tokenizer = parse(&shipped()).unwrap();
        let tokens = tokenizer.encode(&text).unwrap();
        prop_assert!(tokens.iter().all(|&token| token != 0 && token < 2048));
        prop_assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    }
}

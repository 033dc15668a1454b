//! The logits of a Hugging Face folder, for a comparison with transformers (`tests/compare/logits.py`).
//!
//! `logits DIR OUT TOKEN...` prints one JSON object: `trained`, the logits after each token as training computes
//! them, or null for a model that only generates, with the `reason`; and `generated`, as generation computes them. A
//! model that can be trained is written to the folder OUT again.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use templar_device::{Cpu, Device};
use templar_model::{Model, hf};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, out, tokens @ ..] = &arguments[..] else { return Err("usage: logits DIR OUT TOKEN...".into()) };
    let tokens: Vec<u32> = tokens.iter().map(|token| token.parse()).collect::<Result<_, _>>()?;
    let generated = hf::open(Path::new(dir))?.model.logits(&tokens)?;
    let mut value = json!({ "trained": null, "reason": null, "generated": generated });
    match hf::import(Path::new(dir)) {
        Ok((spec, params)) => {
            let special = hf::SpecialIds { start: None, end: 0 };
            let (tokenizer, config) = (b"{}", Value::Null);
            let contents =
                hf::FolderContents { spec: &spec, params: &params, special, tokenizer, tokenizer_config: &config };
            hf::export(Path::new(out), &contents)?;
            let device = Arc::new(Cpu::best());
            let params = device.upload(params.into())?;
            value["trained"] = json!(Model::new(&spec, device)?.logits(&params, &tokens)?);
        }
        Err(error) => value["reason"] = error.to_string().into(),
    }
    println!("{value}");
    Ok(())
}

//! A delta explained to a person: whose it is, what its bytes are spent on, and, where the run is known here, what it
//! sends of every tensor and how much smaller than the parameters it is.

use serde_json::{Value, json};
use templar_delta::{Header, Parts, TensorParts, decode, inspect};
use templar_manifest::{Genesis, PublicKey, payload};
use templar_train::Recipe;

use super::contents::Contents;
use crate::error::{Code, CommandError};
use crate::index::Index;
use crate::printer::bytes;

/// What a delta begins with.
pub(super) const MAGIC: &[u8] = b"TPLDELTA";

/// Explains the bytes of a delta. Without its run only their lengths are known; with it the delta is decoded, and one
/// that does not decode is an error.
pub(super) fn contents(index: &Index, raw: &[u8]) -> Result<Contents, CommandError> {
    let verification = |error: templar_delta::DecodeError| CommandError::new(Code::Verification, error);
    let (header, parts) = inspect(raw).map_err(verification)?;
    let (mut lines, mut value) = front(&header, &parts);
    match recipe(index, &header) {
        None => lines.push("what it sends = known only with the run's genesis, which is not here".to_owned()),
        Some(recipe) => {
            let delta = decode(raw, &recipe.tensors, &recipe.compression, &header).map_err(verification)?;
            let each = recipe.tensors.iter().zip(&parts.tensors).enumerate();
            let tensors = each.map(|(place, (spec, parts))| {
                let (values, norm) = (delta.tensor(place).len(), delta.norm(place));
                let line = tensor_line(&spec.name, &spec.shape, values, norm, parts);
                let mut value = parts_value(parts);
                value["name"] = json!(spec.name);
                value["shape"] = json!(spec.shape);
                value["values"] = json!(values);
                value["norm"] = json!(norm);
                (line, value)
            });
            let (tensor_lines, tensor_values): (Vec<String>, Vec<Value>) = tensors.unzip();
            let parameters = recipe.parameter_count();
            let bits = raw.len() as f64 * 8.0 / parameters as f64;
            let (fp32, bf16) = (32.0 / bits, 16.0 / bits);
            lines.push(format!("values = {} of {parameters} parameters", delta.kept()));
            lines.push(format!("bits a parameter = {bits:.4}, {fp32:.1} x smaller than fp32, {bf16:.1} x than bf16"));
            lines.extend(tensor_lines);
            value["values"] = json!(delta.kept());
            value["parameters"] = json!(parameters);
            value["ratio_fp32"] = json!(fp32);
            value["ratio_bf16"] = json!(bf16);
            value["by_tensor"] = json!(tensor_values);
        }
    }
    let links = vec![json!({"field": "run", "id": header.run, "kind": "genesis"})];
    Ok(Contents { value, links, lines })
}

/// What the genesis of the delta's run asks for, where it is here and understood.
fn recipe(index: &Index, header: &Header) -> Option<Recipe> {
    let genesis: Genesis = payload::decode(index.object(&header.run)?.payload.as_ref()?).ok()?;
    Recipe::new(header.run.into(), genesis).ok()
}

/// What the bytes alone say.
fn front(header: &Header, parts: &Parts) -> (Vec<String>, Value) {
    let miner = PublicKey::from_bytes(header.miner);
    let sum = parts.sum();
    let lines = vec![
        format!("run = {}", header.run.short()),
        format!("window = {}", header.window),
        format!("miner = {}", miner.short()),
        format!(
            "quantiser = {}, {} of a block of {} x {}",
            parts.quantiser, parts.top_k, parts.block_side, parts.block_side
        ),
        format!("tensors = {}", parts.tensors.len()),
        format!("header and directory = {}", bytes(parts.header_bytes + parts.directory_bytes)),
        format!("fronts = {}", bytes(sum.front_bytes)),
        format!("positions = {}", bytes(sum.index_bytes)),
        format!("scales = {}", bytes(sum.scale_bytes)),
        format!("codes = {}", bytes(sum.code_bytes)),
    ];
    let mut value = parts_value(&sum);
    value["run"] = json!(header.run);
    value["window"] = json!(header.window);
    value["miner"] = json!(miner);
    value["quantiser"] = json!(parts.quantiser.to_string());
    value["block_side"] = json!(parts.block_side);
    value["top_k"] = json!(parts.top_k);
    value["tensors"] = json!(parts.tensors.len());
    value["header_bytes"] = json!(parts.header_bytes);
    value["directory_bytes"] = json!(parts.directory_bytes);
    (lines, value)
}

fn parts_value(parts: &TensorParts) -> Value {
    json!({
        "front_bytes": parts.front_bytes, "index_bytes": parts.index_bytes, "scale_bytes": parts.scale_bytes,
        "code_bytes": parts.code_bytes,
    })
}

fn tensor_line(name: &str, shape: &[u64], values: usize, norm: f64, parts: &TensorParts) -> String {
    let shape: Vec<String> = shape.iter().map(u64::to_string).collect();
    let each = |bytes: u64| bytes as f64 * 8.0 / values as f64;
    format!(
        "{name} ({}) = {values} values, norm {norm:.3e}, {}: {:.2} bits a position, {:.2} a code",
        shape.join(" x "),
        bytes(parts.bytes()),
        each(parts.index_bytes),
        each(parts.code_bytes + parts.scale_bytes),
    )
}

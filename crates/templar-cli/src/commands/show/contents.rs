//! What an object holds, as far as its nature tells: manifests field by field, deltas and traces by their parts.

use serde_json::{Value, json};
use templar_home::access::Access;
use templar_manifest::trace::{Trace, TraceHeader};
use templar_manifest::{Contribution, Genesis, Hash, Kind, payload};
use templar_store::ReadError;

use crate::error::{Code, CommandError};
use crate::index::{Index, Object};
use crate::view::{self, Nature};

use super::delta::MAGIC;

/// A blob that nothing names is read up to this length, to see what it is.
const MAX_STRAY_BYTES: u64 = 1 << 30;

/// What there is to see.
#[derive(Default)]
pub(super) struct Contents {
    /// For programs.
    pub(super) value: Value,
    /// What it names, for programs.
    pub(super) links: Vec<Value>,
    /// For people.
    pub(super) lines: Vec<String>,
}

/// The contents of an object; nothing where its bytes are not here or say nothing by themselves.
pub(super) fn of(access: &Access, index: &Index, id: Hash, object: &Object) -> Result<Contents, CommandError> {
    match object.nature {
        Nature::Manifest(kind) => match &object.payload {
            Some(payload) => manifest(kind, payload),
            None => Ok(Contents::default()),
        },
        Nature::Delta => match read(access, &id)? {
            Some(bytes) => super::delta::contents(index, &bytes),
            None => Ok(Contents::default()),
        },
        Nature::Trace => match read(access, &id)? {
            Some(bytes) => Ok(trace(index, id, object, &bytes).unwrap_or_default()),
            None => Ok(Contents::default()),
        },
        // A blob that nothing here names may still say what it is.
        Nature::Blob if index.stored.get(&id).is_some_and(|size| *size <= MAX_STRAY_BYTES) => {
            match read(access, &id)? {
                Some(bytes) if bytes.starts_with(MAGIC) => super::delta::contents(index, &bytes),
                _ => Ok(Contents::default()),
            }
        }
        Nature::Tokenizer | Nature::Shard | Nature::Tensor | Nature::Blob => Ok(Contents::default()),
    }
}

fn read(access: &Access, id: &Hash) -> Result<Option<Vec<u8>>, CommandError> {
    match access.blobs().read(id, u64::MAX) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(ReadError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn manifest(kind: Kind, payload: &[u8]) -> Result<Contents, CommandError> {
    let body = view::body(kind, payload).map_err(|error| CommandError::new(Code::Verification, error))?;
    let links = view::links(kind, &body);
    let links =
        links.iter().map(|link| json!({"field": link.field, "id": link.to, "kind": link.nature.name()})).collect();
    let lines = view::lines(&body).iter().map(|line| shorten(line)).collect();
    Ok(Contents { value: body, links, lines })
}

/// A line with every hash cut to ten digits.
fn shorten(line: &str) -> String {
    let mut text = String::new();
    for piece in line.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        match word.parse::<Hash>() {
            Ok(hash) => text.push_str(&format!("{}{}", hash.short(), &piece[word.len()..])),
            Err(_) => text.push_str(piece),
        }
    }
    text
}

/// The losses of a trace, with the contribution that names it telling how to read it.
fn trace(index: &Index, id: Hash, object: &Object, bytes: &[u8]) -> Option<Contents> {
    let namer = object.named_by.iter().find_map(|(by, _)| index.object(by)?.payload.as_ref());
    let contribution: Contribution = payload::decode(namer?).ok()?;
    let genesis: Genesis = payload::decode(index.object(&contribution.run.hash())?.payload.as_ref()?).ok()?;
    let tensors = templar_model::tensors(&genesis.model).ok()?;
    let header = TraceHeader::of(&contribution, u32::try_from(tensors.len()).ok()?);
    let trace = Trace::decode(bytes, &header).ok()?;
    let losses: Vec<f64> = trace.leaves.iter().map(|leaf| f64::from_bits(leaf.loss_bits)).collect();
    let steps = losses.get(1..=contribution.steps as usize)?;
    let mut lines = vec![format!("steps = {}", contribution.steps), format!("tensors = {}", header.tensors)];
    lines.extend(steps.iter().enumerate().map(|(step, loss)| format!("loss of step {} = {loss:.6}", step + 1)));
    let value = json!({"trace": id, "window": contribution.window, "miner": contribution.miner, "losses": steps});
    Some(Contents { value, links: Vec::new(), lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_in_a_line_are_cut() {
        let (a, b) = (Hash::of(b"a"), Hash::of(b"b"));
        let line = format!("outcomes[0].x = [\"{a}\",\"{b}\"], 12");
        assert_eq!(shorten(&line), format!("outcomes[0].x = [\"{}\",\"{}\"], 12", a.short(), b.short()));
        assert_eq!(shorten("name = a b"), "name = a b");
    }
}

//! Manifests as people and programs read them, and the links in them.
//!
//! JSON is a view: hashes and keys as hexadecimal, nothing that could be encoded back into the payload. Which fields name
//! other objects is known here once, so that `show`, `verify` and prefixes agree about what belongs to a run.

use serde::Serialize;
use serde_json::Value;
use templar_manifest::{
    Audit, Checkpoint, Contribution, Cut, Dataset, Genesis, Hash, Inbox, Kind, Payload, PayloadError, Registration,
    Score, State, Vote, WindowRecord, payload,
};

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nature {
    /// A manifest of a kind.
    Manifest(Kind),
    /// The `tokenizer.json` of a dataset.
    Tokenizer,
    /// Tokens of a dataset.
    Shard,
    /// A tensor of a checkpoint or state.
    Tensor,
    /// A delta.
    Delta,
    /// A trace.
    Trace,
    /// Bytes that nothing here names.
    Blob,
}

impl Nature {
    /// For people and programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Manifest(kind) => kind.name(),
            Self::Tokenizer => "tokenizer",
            Self::Shard => "shard",
            Self::Tensor => "tensor",
            Self::Delta => "delta",
            Self::Trace => "trace",
            Self::Blob => "blob",
        }
    }
}

/// A field of a manifest that names an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Where it stands: `outcomes[2].contribution`.
    pub field: String,
    /// What it names.
    pub to: Hash,
    /// What that is.
    pub nature: Nature,
}

/// The body of a manifest.
pub(crate) fn body(kind: Kind, bytes: &[u8]) -> Result<Value, PayloadError> {
    fn of<T: Payload + Serialize>(bytes: &[u8]) -> Result<Value, PayloadError> {
        let body: T = payload::decode(bytes)?;
        serde_json::to_value(body).map_err(|error| PayloadError::Malformed(error.to_string()))
    }
    match kind {
        Kind::Genesis => of::<Genesis>(bytes),
        Kind::Dataset => of::<Dataset>(bytes),
        Kind::Contribution => of::<Contribution>(bytes),
        Kind::Registration => of::<Registration>(bytes),
        Kind::Inbox => of::<Inbox>(bytes),
        Kind::Cut => of::<Cut>(bytes),
        Kind::Score => of::<Score>(bytes),
        Kind::Window => of::<WindowRecord>(bytes),
        Kind::Vote => of::<Vote>(bytes),
        Kind::Checkpoint => of::<Checkpoint>(bytes),
        Kind::State => of::<State>(bytes),
        Kind::Audit => of::<Audit>(bytes),
    }
}

/// What a field of a manifest names; `None` for fields that hold keys, seeds, numbers and texts.
fn nature(kind: Kind, field: &str) -> Option<Nature> {
    Some(match field {
        "run" => Nature::Manifest(Kind::Genesis),
        "dataset" => Nature::Manifest(Kind::Dataset),
        "parent" | "contribution" => Nature::Manifest(Kind::Contribution),
        "state_in" | "state_out" => Nature::Manifest(Kind::State),
        "registration" => Nature::Manifest(Kind::Registration),
        "inboxes" => Nature::Manifest(Kind::Inbox),
        "cut" => Nature::Manifest(Kind::Cut),
        "scores" => Nature::Manifest(Kind::Score),
        "previous" | "record" => Nature::Manifest(Kind::Window),
        "checkpoint" | "checkpoint_before" => Nature::Manifest(Kind::Checkpoint),
        "tokenizer" => Nature::Tokenizer,
        "delta" => Nature::Delta,
        "trace" => Nature::Trace,
        "tensors" if kind == Kind::Genesis => Nature::Tensor,
        "blob" if kind == Kind::Dataset => Nature::Shard,
        "blob" => Nature::Tensor,
        _ => return None,
    })
}

/// The links in a manifest's body, in the order of its fields.
pub(crate) fn links(kind: Kind, body: &Value) -> Vec<Link> {
    let mut found = Vec::new();
    collect(kind, body, "", "", &mut found);
    found
}

fn collect(kind: Kind, value: &Value, path: &str, field: &str, found: &mut Vec<Link>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(kind, value, &path, key, found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                collect(kind, value, &format!("{path}[{index}]"), field, found);
            }
        }
        Value::String(text) => {
            if let (Some(nature), Ok(to)) = (nature(kind, field), text.parse()) {
                found.push(Link { field: path.to_owned(), to, nature });
            }
        }
        _ => {}
    }
}

/// A value as sorted lines `path = value`; lists of plain values stay on one line.
pub(crate) fn lines(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    flatten(value, "", &mut found);
    found
}

fn flatten(value: &Value, path: &str, found: &mut Vec<String>) {
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(key, value)| flatten(value, &join(key), found)),
        Value::Array(list) if list.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, value) in list.iter().enumerate() {
                flatten(value, &format!("{path}[{index}]"), found);
            }
        }
        Value::String(text) => found.push(format!("{path} = {text}")),
        value => found.push(format!("{path} = {value}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_have_their_place_and_nature_and_keys_are_none() {
        let hash = |text: &str| Hash::of(text.as_bytes());
        let body = json!({
            "run": hash("run"),
            "previous": null,
            "seed": hash("seed"),
            "outcomes": [{"miner": hash("key"), "contribution": hash("c")}],
            "scores": [hash("s0"), hash("s1")],
        });
        let found = links(Kind::Window, &body);
        let found: Vec<_> = found.iter().map(|link| (link.field.as_str(), link.to, link.nature.name())).collect();
        assert_eq!(
            found,
            [
                ("outcomes[0].contribution", hash("c"), "contribution"),
                ("run", hash("run"), "genesis"),
                ("scores[0]", hash("s0"), "score"),
                ("scores[1]", hash("s1"), "score"),
            ]
        );
        let shard = json!({"training": [{"blob": hash("b"), "tokens": 3}]});
        assert_eq!(links(Kind::Dataset, &shard)[0].nature, Nature::Shard);
        assert_eq!(links(Kind::State, &shard)[0].nature, Nature::Tensor);
        let start = json!({"initial": {"tensors": [hash("t")]}});
        assert_eq!(links(Kind::Genesis, &start)[0].field, "initial.tensors[0]");
    }

    #[test]
    fn values_become_sorted_lines() {
        let value = json!({"b": {"z": 1, "a": "text"}, "a": [1, 2], "c": [{"k": true}], "d": [], "e": null});
        assert_eq!(lines(&value), ["a = [1,2]", "b.a = text", "b.z = 1", "c[0].k = true", "d = []", "e = null"]);
    }
}

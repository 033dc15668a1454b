//! Manifests as JSON, and the links in them.
//!
//! The JSON is a view for people and programs: hashes and keys are hexadecimal, and the payload cannot be
//! encoded back from it. This file alone knows the fields that name other objects, so `show`, `verify` and
//! prefixes agree about the objects that belong to a run.

use serde::Serialize;
use serde_json::Value;
use templar_manifest::{
    Audit, Checkpoint, Contribution, Cut, Dataset, Genesis, Hash, Inbox, Kind, Payload, PayloadError, Registration,
    RevealSet, Score, State, Vote, WindowBody, WindowHeader, payload,
};

/// The type of an object, as the manifests that name it tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A manifest of this kind.
    Manifest(Kind),
    /// The `tokenizer.json` of a dataset.
    Tokenizer,
    /// The template that joins the turns of a conversation.
    ChatTemplate,
    /// A shard of a dataset: tokens.
    Shard,
    /// A tensor of a checkpoint or of a miner's state.
    Tensor,
    /// A delta: the compressed pseudo-gradient of one miner for one window.
    Delta,
    /// A trace: the hashes that a miner records after each inner step.
    Trace,
    /// Bytes that no manifest here names.
    Blob,
}

impl ObjectKind {
    /// The name in texts and JSON, such as `checkpoint` or `delta`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest(kind) => kind.name(),
            Self::Tokenizer => "tokenizer",
            Self::ChatTemplate => "chat template",
            Self::Shard => "shard",
            Self::Tensor => "tensor",
            Self::Delta => "delta",
            Self::Trace => "trace",
            Self::Blob => "blob",
        }
    }
}

impl Serialize for ObjectKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A field of a manifest that names another object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestLink {
    /// The path of the field, such as `outcomes[2].contribution`.
    pub field: String,
    /// The object that it names.
    #[serde(rename = "id")]
    pub to: Hash,
    /// The type of that object.
    pub kind: ObjectKind,
}

/// Decodes a manifest of a kind and gives its fields as JSON.
///
/// # Errors
/// The bytes are no canonical payload of this kind.
pub fn body(kind: Kind, bytes: &[u8]) -> Result<Value, PayloadError> {
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
        Kind::Reveals => of::<RevealSet>(bytes),
        Kind::Score => of::<Score>(bytes),
        Kind::Window => of::<WindowHeader>(bytes),
        Kind::Body => of::<WindowBody>(bytes),
        Kind::Vote => of::<Vote>(bytes),
        Kind::Checkpoint => of::<Checkpoint>(bytes),
        Kind::State => of::<State>(bytes),
        Kind::Audit => of::<Audit>(bytes),
    }
}

/// The type of the object that a field names; `None` for fields that hold keys, seeds, numbers and texts.
fn target(kind: Kind, field: &str) -> Option<ObjectKind> {
    Some(match field {
        "run" => ObjectKind::Manifest(Kind::Genesis),
        "dataset" => ObjectKind::Manifest(Kind::Dataset),
        "parent" | "contribution" => ObjectKind::Manifest(Kind::Contribution),
        "state_in" | "state_out" => ObjectKind::Manifest(Kind::State),
        "registration" => ObjectKind::Manifest(Kind::Registration),
        "inboxes" => ObjectKind::Manifest(Kind::Inbox),
        "cut" => ObjectKind::Manifest(Kind::Cut),
        "scores" => ObjectKind::Manifest(Kind::Score),
        "previous" | "record" => ObjectKind::Manifest(Kind::Window),
        "body_root" => ObjectKind::Manifest(Kind::Body),
        "checkpoint" | "checkpoint_before" => ObjectKind::Manifest(Kind::Checkpoint),
        "tokenizer" => ObjectKind::Tokenizer,
        "chat_template" => ObjectKind::ChatTemplate,
        "delta" => ObjectKind::Delta,
        "trace" => ObjectKind::Trace,
        "tensors" if kind == Kind::Genesis => ObjectKind::Tensor,
        "blob" if kind == Kind::Dataset => ObjectKind::Shard,
        "blob" => ObjectKind::Tensor,
        _ => return None,
    })
}

/// The links in the body of a manifest, in the order of its fields.
pub fn links(kind: Kind, body: &Value) -> Vec<ManifestLink> {
    let mut found = Vec::new();
    collect(kind, body, "", "", &mut found);
    found
}

fn collect(kind: Kind, value: &Value, path: &str, field: &str, found: &mut Vec<ManifestLink>) {
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
            if let (Some(kind), Ok(to)) = (target(kind, field), text.parse()) {
                found.push(ManifestLink { field: path.to_owned(), to, kind });
            }
        }
        _ => {}
    }
}

/// Writes a value as sorted lines `path = value`. A list of plain values stays on one line.
pub fn lines(value: &Value) -> Vec<String> {
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
    fn links_have_their_path_and_kind_and_keys_are_none() {
        let hash = |text: &str| Hash::of(text.as_bytes());
        let body = json!({
            "run": hash("run"),
            "previous": null,
            "seed": hash("seed"),
            "outcomes": [{"miner": hash("key"), "contribution": hash("c")}],
            "scores": [hash("s0"), hash("s1")],
        });
        let found = links(Kind::Window, &body);
        let found: Vec<_> = found.iter().map(|link| (link.field.as_str(), link.to, link.kind.name())).collect();
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
        assert_eq!(links(Kind::Dataset, &shard)[0].kind, ObjectKind::Shard);
        assert_eq!(links(Kind::State, &shard)[0].kind, ObjectKind::Tensor);
        let start = json!({"initial": {"tensors": [hash("t")]}});
        assert_eq!(links(Kind::Genesis, &start)[0].field, "initial.tensors[0]");
    }

    #[test]
    fn values_become_sorted_lines() {
        let value = json!({"b": {"z": 1, "a": "text"}, "a": [1, 2], "c": [{"k": true}], "d": [], "e": null});
        assert_eq!(lines(&value), ["a = [1,2]", "b.a = text", "b.z = 1", "c[0].k = true", "d = []", "e = null"]);
    }
}

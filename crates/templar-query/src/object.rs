//! Any object of a home: its figures, its contents, its links in both directions, and the outcome of registrations,
//! scores and records.

pub mod contents;
pub mod delta;
pub mod explanation;
pub mod registration;
pub mod standing;
pub mod summary;
pub mod trace;

use serde::Serialize;
use templar_home::access::Access;
use templar_manifest::{Hash, PublicKey};

use crate::error::QueryError;
use crate::index::{HomeIndex, KnownObject};
use crate::manifest_view::{ManifestLink, ObjectKind};
use contents::Contents;
use explanation::Explanation;
use summary::ObjectSummary;

/// A manifest that names an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backlink {
    /// The id of the manifest.
    pub id: Hash,
    /// The path of the field that names the object.
    pub field: String,
    /// The type of the manifest.
    #[serde(skip)]
    pub kind: Option<ObjectKind>,
}

/// Everything that a home can say about one object.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectView {
    /// The hash of the object.
    pub id: Hash,
    /// The type of the object.
    pub kind: ObjectKind,
    /// The length in bytes, when it is known.
    pub bytes: Option<u64>,
    /// Whether the bytes are in this home.
    pub here: bool,
    /// The keys that signed it.
    pub signers: Vec<PublicKey>,
    /// A few figures that say what it is.
    pub summary: ObjectSummary,
    /// The contents, as far as the type of the object allows to read them.
    pub contents: Contents,
    /// The objects that it names.
    pub links: Vec<ManifestLink>,
    /// The manifests that name it.
    pub named_by: Vec<Backlink>,
    /// The outcome of a registration, score or record, computed again from the journal.
    pub explanation: Explanation,
}

impl ObjectView {
    /// Reads the object `id`; `None` when the home neither has it nor knows a manifest that names it.
    ///
    /// # Errors
    /// The bytes cannot be read or do not decode, or the run that explains the object cannot be folded.
    pub fn read(access: &Access, index: &HomeIndex, id: Hash) -> Result<Option<Self>, QueryError> {
        let stored = access.blobs().contains(&id);
        let unnamed = KnownObject::new(ObjectKind::Blob);
        let object = match index.object(&id) {
            Some(object) => object,
            None if stored => &unnamed,
            None => return Ok(None),
        };
        let payload_bytes = object.payload.as_ref().map(|payload| payload.len() as u64);
        let (contents, links) = Contents::read(access, index, id, object)?;
        let (summary, explanation) = match (&object.kind, &object.payload) {
            (ObjectKind::Manifest(kind), Some(payload)) => {
                (ObjectSummary::of(*kind, payload), Explanation::of(access, *kind, id, payload)?)
            }
            _ => (ObjectSummary::None, Explanation::None),
        };
        let backlink = |(by, field): &(Hash, String)| Backlink { id: *by, field: field.clone(), kind: index.kind(by) };
        Ok(Some(Self {
            id,
            kind: object.kind,
            bytes: index.stored.get(&id).copied().or(payload_bytes),
            here: stored || object.payload.is_some(),
            signers: object.signers.clone(),
            summary,
            contents,
            links,
            named_by: object.named_by.iter().map(backlink).collect(),
            explanation,
        }))
    }
}

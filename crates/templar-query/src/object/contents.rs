//! The contents of an object: the fields of a manifest, the parts of a delta, the losses of a trace.

use serde::Serialize;
use serde_json::Value;
use templar_blob::ReadError;
use templar_home::access::Access;
use templar_manifest::Hash;

use super::delta::{DELTA_MAGIC, DeltaView};
use super::trace::TraceView;
use crate::error::QueryError;
use crate::index::{HomeIndex, KnownObject};
use crate::manifest_view::{self, ManifestLink, ObjectKind};

/// The longest blob, in bytes, that is read to see its type although no manifest names it.
const MAX_STRAY_BYTES: u64 = 1 << 30;

/// The contents of an object.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Contents {
    /// The bytes are not here, or cannot be read without the object that names them.
    None,
    /// The fields of a manifest.
    Manifest(Value),
    /// The header, sizes and values of a delta.
    Delta(Box<DeltaView>),
    /// The losses in a trace.
    Trace(TraceView),
}

impl Contents {
    /// Reads the contents of an object, and the links in them.
    ///
    /// # Errors
    /// The bytes are here and cannot be read or do not decode.
    pub fn read(
        access: &Access,
        index: &HomeIndex,
        id: Hash,
        object: &KnownObject,
    ) -> Result<(Self, Vec<ManifestLink>), QueryError> {
        let nothing = || Ok((Self::None, Vec::new()));
        match object.kind {
            ObjectKind::Manifest(kind) => {
                let Some(payload) = &object.payload else { return nothing() };
                let body = manifest_view::body(kind, payload)?;
                let links = manifest_view::links(kind, &body);
                Ok((Self::Manifest(body), links))
            }
            ObjectKind::Delta => match bytes(access, &id)? {
                Some(bytes) => delta(index, &bytes),
                None => nothing(),
            },
            ObjectKind::Trace => {
                let trace = bytes(access, &id)?.and_then(|bytes| TraceView::of(index, id, object, &bytes));
                Ok((trace.map_or(Self::None, Self::Trace), Vec::new()))
            }
            // A blob that no manifest names may still be a delta.
            ObjectKind::Blob if index.stored.get(&id).is_some_and(|size| *size <= MAX_STRAY_BYTES) => {
                match bytes(access, &id)? {
                    Some(bytes) if bytes.starts_with(DELTA_MAGIC) => delta(index, &bytes),
                    _ => nothing(),
                }
            }
            ObjectKind::Tokenizer
            | ObjectKind::ChatTemplate
            | ObjectKind::Shard
            | ObjectKind::Tensor
            | ObjectKind::Blob => nothing(),
        }
    }
}

fn delta(index: &HomeIndex, bytes: &[u8]) -> Result<(Contents, Vec<ManifestLink>), QueryError> {
    let view = DeltaView::of(index, bytes)?;
    let link = view.run_link();
    Ok((Contents::Delta(Box::new(view)), vec![link]))
}

fn bytes(access: &Access, id: &Hash) -> Result<Option<Vec<u8>>, QueryError> {
    match access.blobs().read(id, u64::MAX) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(ReadError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

//! The index of a home: every object that it knows of, with its type, its signers and the manifests that name it.
//!
//! The index is built from the journals and from the manifests in the store. No other blob is read. A home may
//! know the hash of an object without having its bytes.

use std::collections::{BTreeMap, BTreeSet};

use templar_blob::ReadError;
use templar_home::access::Access;
use templar_home::context::{RunContext, read_manifest};
use templar_home::journal::Journal;
use templar_manifest::{Genesis, Hash, Kind, MAX_PAYLOAD_BYTES, PublicKey, RunId, payload};
use templar_protocol::Entry;
use templar_store::Store;

use crate::error::QueryError;
use crate::manifest_view::{self, ObjectKind};

/// The longest blob, in bytes, that is read as a manifest although no other manifest names it. Of longer ones the
/// beginning is looked at first.
const STRAY_MANIFEST_BYTES: u64 = 64 << 10;

/// The beginning of every manifest: a map of three fields, of which the first one is `body`.
const BEGINNING: &[u8] = b"\xa3\x64body";

/// An object that a home knows of.
#[derive(Debug, Clone)]
pub struct KnownObject {
    /// The type of the object.
    pub kind: ObjectKind,
    /// The canonical bytes, for a manifest that is here.
    pub payload: Option<Vec<u8>>,
    /// The manifests that name it, each with the path of the field.
    pub named_by: Vec<(Hash, String)>,
    /// The keys that signed it, in the order of the journal.
    pub signers: Vec<PublicKey>,
}

impl KnownObject {
    /// An object that nothing has been learnt about but its type.
    pub fn new(kind: ObjectKind) -> Self {
        Self { kind, payload: None, named_by: Vec::new(), signers: Vec::new() }
    }
}

/// A manifest that cannot be read or does not decode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFault {
    /// The id of the manifest.
    pub id: Hash,
    /// The error, as a sentence.
    pub what: String,
}

/// The objects of a home.
#[derive(Debug, Default)]
pub struct HomeIndex {
    objects: BTreeMap<Hash, KnownObject>,
    /// The blobs of the store with their lengths in bytes; an index of journals has none while a node runs in the home.
    pub stored: BTreeMap<Hash, u64>,
    /// The zero states that miners start from. Manifests name them, and no store keeps them.
    pub zero_states: BTreeSet<Hash>,
    /// Manifests that cannot be read or do not decode.
    pub faults: Vec<IndexFault>,
    unread: BTreeMap<Hash, ReadError>,
}

impl HomeIndex {
    /// Indexes the home of `access`: all runs and blobs, or with `only` the objects of one run.
    ///
    /// # Errors
    /// The home or the store cannot be listed, or a journal is damaged.
    pub fn build(access: &Access, only: Option<RunId>) -> Result<Self, QueryError> {
        let mut index = Self::default();
        let runs = match only {
            Some(run) => vec![run],
            None => access.home.runs()?,
        };
        for run in runs {
            index.add_run(access, run)?;
        }
        if let Some(store) = access.store_to_read() {
            index.stored = access.runtime().block_on(store.list())?.into_iter().collect();
            if only.is_none() {
                index.add_stray(access);
            }
        }
        index.follow(access);
        Ok(index)
    }

    /// Indexes the small blobs of the home that are manifests, whether a run names them or not, without any journal.
    /// Beside a running node, which gives no beginnings of blobs, long ones are found only where a run names them.
    ///
    /// # Errors
    /// The blobs cannot be listed, or the directory of the runs cannot be read.
    pub fn of_manifests(access: &Access) -> Result<Self, QueryError> {
        let stored = access.stock()?.whole.into_iter().collect();
        let mut index = Self { stored, ..Self::default() };
        index.add_stray(access);
        for run in access.home.runs()? {
            let Ok(genesis) = read_manifest::<Genesis>(access.blobs(), &run.hash()) else { continue };
            let id = genesis.dataset.hash();
            if let Ok(bytes) = access.blobs().read(&id, MAX_PAYLOAD_BYTES as u64) {
                index.know(id, ObjectKind::Manifest(Kind::Dataset)).payload = Some(bytes.into());
            }
        }
        Ok(index)
    }

    /// The small blobs that are here and cannot be read, so that nobody knows what they are, each with the error.
    pub fn unread(&self) -> &BTreeMap<Hash, ReadError> {
        &self.unread
    }

    /// The first error of such a blob.
    pub fn into_unread(self) -> Option<ReadError> {
        self.unread.into_values().next()
    }

    fn add_run(&mut self, access: &Access, run: RunId) -> Result<(), QueryError> {
        self.know(run.hash(), ObjectKind::Manifest(Kind::Genesis));
        if let Ok(context) = RunContext::open(&access.home, access.blobs(), run) {
            self.know(context.first_checkpoint().hash(), ObjectKind::Manifest(Kind::Checkpoint));
            self.zero_states.insert(context.zero_state().hash());
        }
        for record in Journal::read(&access.home.run_dir(&run))? {
            let Ok(entry) = Entry::decode(&record) else { continue };
            for (bytes, signer) in entry.payloads() {
                let Ok((kind, _)) = payload::peek(bytes) else { continue };
                let object = self.know(Hash::of(bytes), ObjectKind::Manifest(kind));
                object.signers.extend(signer);
                object.payload.get_or_insert_with(|| bytes.to_vec());
            }
        }
        Ok(())
    }

    /// Adds manifests that no journal names, such as audits and datasets that no run uses yet.
    fn add_stray(&mut self, access: &Access) {
        let stored = self.stored.clone();
        for (id, size) in stored.into_iter().filter(|(_, size)| *size <= MAX_PAYLOAD_BYTES as u64) {
            // The manifest of a large dataset is long, and so is a delta. Damage of what is no manifest is not told.
            if size > STRAY_MANIFEST_BYTES && !can_begin(access, &id) {
                continue;
            }
            let bytes = match access.blobs().read(&id, MAX_PAYLOAD_BYTES as u64) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.unread.insert(id, error);
                    continue;
                }
            };
            if let Ok((kind, _)) = payload::peek(&bytes) {
                self.know(id, ObjectKind::Manifest(kind)).payload = Some(bytes.into());
            }
        }
    }

    /// Reads every known manifest, adds the objects that it names, and goes on with those.
    fn follow(&mut self, access: &Access) {
        let mut seen = BTreeSet::new();
        let mut next: Vec<Hash> = self.objects.keys().copied().collect();
        while let Some(id) = next.pop() {
            let Some(ObjectKind::Manifest(kind)) = self.kind(&id) else { continue };
            if !seen.insert(id) {
                continue;
            }
            let Some(bytes) = self.payload_of(access, id) else { continue };
            let body = match manifest_view::body(kind, &bytes) {
                Ok(body) => body,
                Err(error) => {
                    self.faults.push(IndexFault { id, what: error.to_string() });
                    continue;
                }
            };
            for link in manifest_view::links(kind, &body) {
                self.know(link.to, link.kind).named_by.push((id, link.field));
                next.push(link.to);
            }
        }
    }

    fn payload_of(&mut self, access: &Access, id: Hash) -> Option<Vec<u8>> {
        if let Some(payload) = self.objects.get(&id).and_then(|object| object.payload.clone()) {
            return Some(payload);
        }
        match access.blobs().read(&id, MAX_PAYLOAD_BYTES as u64) {
            Ok(bytes) => {
                let bytes = Vec::from(bytes);
                self.objects.get_mut(&id)?.payload = Some(bytes.clone());
                Some(bytes)
            }
            Err(ReadError::NotFound { .. }) => None,
            Err(error) => {
                self.faults.push(IndexFault { id, what: error.to_string() });
                None
            }
        }
    }

    fn know(&mut self, id: Hash, kind: ObjectKind) -> &mut KnownObject {
        self.objects.entry(id).or_insert_with(|| KnownObject::new(kind))
    }

    /// The type of an object; `None` when no manifest names it.
    pub fn kind(&self, id: &Hash) -> Option<ObjectKind> {
        self.objects.get(id).map(|object| object.kind)
    }

    /// The type and the hash of an object in words, such as `delta 3f…`; `blob …` when no manifest names it.
    pub fn describe(&self, id: &Hash) -> String {
        format!("{} {id}", self.kind(id).map_or("blob", ObjectKind::name))
    }

    /// An object by its hash.
    pub fn object(&self, id: &Hash) -> Option<&KnownObject> {
        self.objects.get(id)
    }

    /// All objects, sorted by hash.
    pub fn objects(&self) -> &BTreeMap<Hash, KnownObject> {
        &self.objects
    }

    /// All hashes, including those of blobs that no manifest names.
    pub fn hashes(&self) -> BTreeSet<Hash> {
        self.objects.keys().chain(self.stored.keys()).copied().collect()
    }

    /// The manifests of a kind that are here, with their payloads.
    pub fn manifests(&self, kind: Kind) -> impl Iterator<Item = (&Hash, &Vec<u8>)> {
        self.objects
            .iter()
            .filter(move |(_, object)| object.kind == ObjectKind::Manifest(kind))
            .filter_map(|(id, object)| object.payload.as_ref().map(|payload| (id, payload)))
    }
}

/// Whether a blob of the store begins as a manifest does. Beside a running node nobody can say.
fn can_begin(access: &Access, id: &Hash) -> bool {
    let beginning = |store: &Store| access.runtime().block_on(store.beginning(id));
    access.store_to_read().is_some_and(|store| beginning(store).is_ok_and(|bytes| bytes.starts_with(BEGINNING)))
}

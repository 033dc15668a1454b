//! Every object that a home knows of: what it is, who signed it and what names it.
//!
//! Built from the journals and the manifests in the store; no blob is read that is not a manifest. A hash may be known
//! without its bytes being here.

use std::collections::{BTreeMap, BTreeSet};

use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::journal::Journal;
use templar_manifest::{Hash, Kind, MAX_PAYLOAD_BYTES, PublicKey, RunId, payload};
use templar_protocol::Entry;
use templar_store::ReadError;

use crate::error::CommandError;
use crate::view::{self, Nature};

/// A manifest among blobs that nothing names is looked for up to this length.
const STRAY_MANIFEST_BYTES: u64 = 64 << 10;

/// What is known of one object.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// What it is.
    pub nature: Nature,
    /// The canonical bytes, of manifests that are here.
    pub payload: Option<Vec<u8>>,
    /// The manifests that name it, and where.
    pub named_by: Vec<(Hash, String)>,
    /// Who signed it, in the order of the journal.
    pub signers: Vec<PublicKey>,
}

/// Something that is not what it claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What.
    pub id: Hash,
    /// What is wrong with it.
    pub what: String,
}

/// The objects of a home.
#[derive(Debug, Default)]
pub(crate) struct Index {
    objects: BTreeMap<Hash, Object>,
    /// Blobs of the store and their lengths; empty beside a running node.
    pub stored: BTreeMap<Hash, u64>,
    /// The states that miners join with: known by their names, kept by nobody.
    pub zero_states: BTreeSet<Hash>,
    /// Manifests that do not decode.
    pub faults: Vec<Fault>,
}

impl Index {
    /// Everything that the home of `access` knows of, or with `only` what one run does.
    pub(crate) fn build(access: &Access, only: Option<RunId>) -> Result<Self, CommandError> {
        let mut index = Self::default();
        let runs = match only {
            Some(run) => vec![run],
            None => access.home.runs()?,
        };
        for run in runs {
            index.add_run(access, run)?;
        }
        if let Some(store) = access.store() {
            index.stored = access.runtime().block_on(store.list())?.into_iter().collect();
            if only.is_none() {
                index.add_stray(access);
            }
        }
        index.follow(access);
        Ok(index)
    }

    fn add_run(&mut self, access: &Access, run: RunId) -> Result<(), CommandError> {
        self.know(run.hash(), Nature::Manifest(Kind::Genesis));
        if let Ok(context) = RunContext::open(&access.home, access.blobs(), run) {
            self.know(context.first_checkpoint().hash(), Nature::Manifest(Kind::Checkpoint));
            self.zero_states.insert(context.zero_state().hash());
        }
        for record in Journal::read(&access.home.run_dir(&run))? {
            let Ok(Entry::Envelope(envelope)) = Entry::decode(&record) else { continue };
            let Ok((kind, _)) = payload::peek(&envelope.payload) else { continue };
            let object = self.know(envelope.id(), Nature::Manifest(kind));
            object.signers.push(envelope.signer);
            object.payload = Some(envelope.payload);
        }
        Ok(())
    }

    /// Manifests that no journal names: datasets that no run uses yet, audits.
    fn add_stray(&mut self, access: &Access) {
        let stored = self.stored.clone();
        for (id, _) in stored.into_iter().filter(|(_, size)| *size <= STRAY_MANIFEST_BYTES) {
            let Ok(bytes) = access.blobs().read(&id, STRAY_MANIFEST_BYTES) else { continue };
            if let Ok((kind, _)) = payload::peek(&bytes) {
                self.know(id, Nature::Manifest(kind)).payload = Some(bytes.into());
            }
        }
    }

    /// Reads the manifests that are named, and those that they name.
    fn follow(&mut self, access: &Access) {
        let mut seen = BTreeSet::new();
        let mut next: Vec<Hash> = self.objects.keys().copied().collect();
        while let Some(id) = next.pop() {
            let Some(Nature::Manifest(kind)) = self.nature(&id) else { continue };
            if !seen.insert(id) {
                continue;
            }
            let Some(bytes) = self.payload_of(access, id) else { continue };
            let body = match view::body(kind, &bytes) {
                Ok(body) => body,
                Err(error) => {
                    self.faults.push(Fault { id, what: error.to_string() });
                    continue;
                }
            };
            for link in view::links(kind, &body) {
                self.know(link.to, link.nature).named_by.push((id, link.field));
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
                self.faults.push(Fault { id, what: error.to_string() });
                None
            }
        }
    }

    fn know(&mut self, id: Hash, nature: Nature) -> &mut Object {
        let new = || Object { nature, payload: None, named_by: Vec::new(), signers: Vec::new() };
        self.objects.entry(id).or_insert_with(new)
    }

    /// What a hash is, if anything names it.
    pub(crate) fn nature(&self, id: &Hash) -> Option<Nature> {
        self.objects.get(id).map(|object| object.nature)
    }

    /// What is known of a hash.
    pub(crate) fn object(&self, id: &Hash) -> Option<&Object> {
        self.objects.get(id)
    }

    /// All objects, by hash.
    pub(crate) fn objects(&self) -> &BTreeMap<Hash, Object> {
        &self.objects
    }

    /// All hashes, also of blobs that nothing names.
    pub(crate) fn hashes(&self) -> BTreeSet<Hash> {
        self.objects.keys().chain(self.stored.keys()).copied().collect()
    }

    /// The manifests of a kind that are here.
    pub(crate) fn manifests(&self, kind: Kind) -> impl Iterator<Item = (&Hash, &Vec<u8>)> {
        self.objects
            .iter()
            .filter(move |(_, object)| object.nature == Nature::Manifest(kind))
            .filter_map(|(id, object)| object.payload.as_ref().map(|payload| (id, payload)))
    }
}

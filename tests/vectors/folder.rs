//! The folder of examples: one file for each payload, named by kind and hash, its witnesses beside it.
//!
//! `<kind>-<hash>.cbor` holds the bytes of a payload and hashes to its name. `<kind>-<hash>.witness.json` lists
//! its signatures. `delta-`, `trace-` and `entry-<hash>.bin` are blobs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use templar_manifest::*;
use templar_protocol::{Entry, RecordEntry, RevealEntry, VoteCertificate, Witness};

use super::window::Example;

/// A record as it travels.
fn proposed(record: &WindowRecord, publisher: Witness) -> Entry {
    let Witness { signer, signature } = publisher;
    let header = Envelope { payload: payload::encode(&record.header), signer, signature };
    Entry::Record(Box::new(RecordEntry { header, body: payload::encode(&record.body) }))
}

/// The folder `manifests/` of this repository.
pub(crate) fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/manifests"))
}

/// A signature as `*.witness.json` states it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WitnessText {
    signer: PublicKey,
    signature: Signature,
}

/// The files of the folder, by name.
#[derive(Default, PartialEq)]
pub(crate) struct Folder {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Folder {
    /// All files of `manifests/` except its documentation.
    pub(crate) fn read() -> Self {
        let entries = std::fs::read_dir(path()).unwrap().map(|entry| entry.unwrap().path());
        let named = entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path));
        let files = named.filter(|(name, _)| !name.ends_with(".md"));
        Self { files: files.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect() }
    }

    /// Replaces the files of `manifests/` by these.
    pub(crate) fn write(&self) {
        for name in Self::read().files.keys() {
            std::fs::remove_file(path().join(name)).unwrap();
        }
        for (name, bytes) in &self.files {
            std::fs::write(path().join(name), bytes).unwrap();
        }
    }

    /// The files that an example run writes.
    pub(crate) fn of(example: &Example) -> Self {
        let mut folder = Self::default();
        folder.signed(&example.dataset);
        folder.signed(&example.genesis);
        folder.payload(&example.zero, &[]);
        folder.payload(&example.start, &[]);
        for signed in &example.closed.contributions {
            folder.signed(signed);
            folder.blob("entry", Entry::Envelope(signed.envelope()).encode());
        }
        for state in &example.states {
            folder.payload(state, &[]);
        }
        for (delta, trace) in example.deltas.iter().zip(&example.traces) {
            folder.blob("delta", delta.clone());
            folder.blob("trace", trace.clone());
        }
        for signed in &example.closed.registrations {
            folder.signed(signed);
            folder.blob("entry", Entry::Envelope(signed.envelope()).encode());
        }
        for inbox in &example.closed.inboxes {
            folder.signed(inbox);
        }
        folder.agreed(&example.closed.cut, VoteOn::Cut, &example.closed.cut_certificate);
        let WindowRecord { header, body: record } = &example.closed.window;
        for Reveal { validator, value } in record.reveals.iter().copied() {
            let reveal = RevealEntry { run: record.run, window: record.window, validator, value };
            folder.blob("entry", Entry::Reveal(reveal).encode());
        }
        folder.agreed(&example.closed.reveal_set(), VoteOn::Reveals, &example.closed.reveals_certificate);
        for score in &example.closed.scores {
            folder.signed(score);
        }
        folder.payload(record, &[]);
        folder.agreed(header, VoteOn::Window, &example.closed.record_certificate);
        let publisher = example.closed.record_certificate.publisher;
        folder.blob("entry", proposed(&example.closed.window, publisher).encode());
        folder.payload(&example.end, &[]);
        folder.signed(&example.audit);
        folder
    }

    fn signed<T: Payload>(&mut self, signed: &Signed<T>) {
        let signature = signed.envelope().signature;
        self.payload(signed.payload(), &[Witness { signer: signed.signer(), signature }]);
    }

    /// A cut, reveal set or record with its publisher's signature, and the votes that certify it.
    fn agreed<T: Payload>(&mut self, body: &T, on: VoteOn, certificate: &VoteCertificate) {
        self.payload(body, &[certificate.publisher]);
        let vote = certificate.vote(body.run().unwrap(), WindowIndex(0), on, body);
        self.payload(&vote, &certificate.witnesses);
    }

    fn payload<T: Payload>(&mut self, payload: &T, witnesses: &[Witness]) {
        let name = format!("{}-{}", T::KIND, payload::id_of(payload));
        self.files.insert(format!("{name}.cbor"), payload::encode(payload));
        if witnesses.is_empty() {
            return;
        }
        let text = |witness: &Witness| WitnessText { signer: witness.signer, signature: witness.signature };
        let texts: Vec<WitnessText> = witnesses.iter().map(text).collect();
        let json = serde_json::to_string_pretty(&texts).unwrap() + "\n";
        self.files.insert(format!("{name}.witness.json"), json.into_bytes());
    }

    fn blob(&mut self, what: &str, bytes: Vec<u8>) {
        self.files.insert(format!("{what}-{}.bin", Hash::of(&bytes)), bytes);
    }

    /// The payload of this id, decoded.
    pub(crate) fn get<T: Payload>(&self, id: &Hash) -> T {
        payload::decode(&self.files[&format!("{}-{id}.cbor", T::KIND)]).unwrap()
    }

    /// The signatures beside the payload of this id; none where nobody signed it.
    pub(crate) fn witnesses(&self, kind: Kind, id: &Hash) -> Vec<Witness> {
        let Some(json) = self.files.get(&format!("{kind}-{id}.witness.json")) else { return Vec::new() };
        let texts: Vec<WitnessText> = serde_json::from_slice(json).unwrap();
        texts.into_iter().map(|text| Witness { signer: text.signer, signature: text.signature }).collect()
    }

    /// The payload of this id with its first signature, verified.
    pub(crate) fn signed_by_one<T: Payload>(&self, id: &Hash) -> Signed<T> {
        self.envelopes(T::KIND, id)[0].open().unwrap()
    }

    /// The payload of this id with each of its signatures.
    pub(crate) fn envelopes(&self, kind: Kind, id: &Hash) -> Vec<Envelope> {
        let payload = &self.files[&format!("{kind}-{id}.cbor")];
        let envelope = |witness: Witness| Envelope {
            payload: payload.clone(),
            signer: witness.signer,
            signature: witness.signature,
        };
        self.witnesses(kind, id).into_iter().map(envelope).collect()
    }

    /// Kind and id of every payload.
    pub(crate) fn payloads(&self) -> Vec<(Kind, Hash)> {
        let names = self.files.keys().filter_map(|name| name.strip_suffix(".cbor"));
        let split = names.map(|name| name.split_once('-').unwrap());
        split.map(|(kind, hash)| (Kind::from_name(kind).unwrap(), hash.parse().unwrap())).collect()
    }
}

//! Entries in plain form. Each is decoded once for all validators.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use templar_manifest::{
    Cut, CutId, Hash, Inbox, InboxId, Kind, PublicKey, RevealSet, Score, ScoreId, Signed, Vote, WindowBody,
    WindowHeader, WindowRecord, payload,
};
use templar_protocol::{Entry, Verified};

/// What an entry says.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Inbox(InboxId, Inbox),
    Cut(CutId, Cut),
    Value(PublicKey, Hash),
    Reveals(Hash, RevealSet),
    Score(ScoreId, Score),
    Record(Hash, Box<WindowRecord>),
    Vote(PublicKey, Vote),
    Nothing,
}

/// What all entries say, by their ids, and the votes by the ids of their payloads.
#[derive(Debug, Default)]
pub(crate) struct Library {
    entries: RefCell<BTreeMap<Hash, Rc<Said>>>,
    votes: RefCell<BTreeMap<Hash, Vote>>,
    /// The ids of records by what they follow from.
    pub(crate) records: RefCell<BTreeMap<(Hash, Vec<ScoreId>, Hash), Hash>>,
}

impl Library {
    pub(crate) fn read(&self, entry: &Verified) -> Rc<Said> {
        if let Some(known) = self.entries.borrow().get(&entry.id()) {
            return known.clone();
        }
        let said = Rc::new(Said::of(entry.entry()));
        if let Said::Vote(_, vote) = &*said {
            self.votes.borrow_mut().insert(payload::id_of(vote), *vote);
        }
        self.entries.borrow_mut().insert(entry.id(), said.clone());
        said
    }

    /// The vote with this id, if anybody has taken it in.
    pub(crate) fn vote(&self, id: &Hash) -> Option<Vote> {
        self.votes.borrow().get(id).copied()
    }
}

impl Said {
    fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Reveal(reveal) => Self::Value(reveal.validator, reveal.value),
            Entry::Evidence(_) => Self::Nothing,
            Entry::Record(record) => {
                let header: WindowHeader = decode(&record.header.payload);
                let body: WindowBody = decode(&record.body);
                let record = WindowRecord { header, body };
                Self::Record(record.id().hash(), Box::new(record))
            }
            Entry::Envelope(envelope) => {
                let (id, bytes) = (envelope.id(), &envelope.payload);
                match payload::peek(bytes).map(|(kind, _)| kind) {
                    Ok(Kind::Inbox) => Self::Inbox(id.into(), decode(bytes)),
                    Ok(Kind::Cut) => Self::Cut(id.into(), decode(bytes)),
                    Ok(Kind::Reveals) => Self::Reveals(id, decode(bytes)),
                    Ok(Kind::Score) => Self::Score(id.into(), decode(bytes)),
                    Ok(Kind::Vote) => Self::Vote(envelope.signer, decode(bytes)),
                    _ => Self::Nothing,
                }
            }
        }
    }
}

/// Decodes the payload of an entry that a node has accepted.
fn decode<T: templar_manifest::Payload>(bytes: &[u8]) -> T {
    payload::decode(bytes).expect("a node has decoded it")
}

/// An entry of one manifest, verified.
pub(crate) fn sign<T: templar_manifest::Payload>(manifest: T, key: &templar_manifest::SecretKey) -> Verified {
    let envelope = Signed::sign(manifest, key).envelope();
    Verified::open(Entry::Envelope(envelope)).expect("it is signed")
}

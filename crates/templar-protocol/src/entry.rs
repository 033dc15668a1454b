//! Entries: the statements that nodes exchange and keep in their journals.
//!
//! An entry is an envelope (a manifest with one signature), a hash-chain value, evidence, or a proposed record.
//! Values and evidence authenticate themselves, and the signed header of a record authenticates its body. The
//! bytes of an entry are postcard with exactly one spelling, and payloads keep their own canonical bytes inside.

use serde::{Deserialize, Serialize};
use templar_manifest::{Contradiction, Envelope, Hash, MAX_PAYLOAD_BYTES, PublicKey, RunId, WindowIndex};

/// The length limit of every entry in bytes: a payload, a header of a record, a key, a signature and lengths.
pub const MAX_ENTRY_BYTES: usize = MAX_PAYLOAD_BYTES + 768;

const ID_CONTEXT: &str = "templar/1 entry id";

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The bytes are more than [`MAX_ENTRY_BYTES`].
    #[error("entry of {0} bytes is longer than the {MAX_ENTRY_BYTES} that any may have")]
    TooLong(usize),
    /// The bytes are not an entry of this version.
    #[error("entry does not decode: {0}")]
    Malformed(String),
    /// Decodes, but is not the one spelling of its value.
    #[error("entry is not canonical: the same value is spelled differently")]
    NotCanonical,
}

/// One statement about a run that nodes exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A contribution, registration, inbox, cut, reveal set, score or vote, with one signature.
    Envelope(Envelope),
    /// A validator's hash-chain value.
    Reveal(RevealEntry),
    /// Two statements that contradict each other.
    Evidence(Box<EvidenceEntry>),
    /// A proposed record.
    Record(Box<RecordEntry>),
}

/// A record of a window as it travels: the header that a validator signed, and the body that the header names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEntry {
    /// The header with one signature.
    pub header: Envelope,
    /// Canonical bytes of the body.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// Evidence for the validators of an open window to show in their scores. The finder does not sign it, since the two
/// statements in it are signed by the one they accuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceEntry {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window in which it is handed in, which may be later than that of the statements. A node that hears
    /// of it later shows it in the window that is open then.
    pub window: WindowIndex,
    /// The two statements that contradict each other.
    pub contradiction: Contradiction,
}

/// A validator's hash-chain value of a window. It needs no signature, since nobody else can know a value that
/// fits the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevealEntry {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window whose value it is.
    pub window: WindowIndex,
    /// The validator whose value it is.
    pub validator: PublicKey,
    /// The value; it hashes to the value of the window before.
    pub value: Hash,
}

impl Entry {
    /// The id of the entry, over the statement and its signer. Two signatures of one signer on one payload are
    /// the same statement, so the signature is left out. The header of a record names its body.
    pub fn id(&self) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        match self {
            Self::Envelope(envelope) => {
                hasher.update(&[0]);
                hasher.update(envelope.id().as_bytes());
                hasher.update(envelope.signer.as_bytes());
            }
            Self::Reveal(reveal) => {
                hasher.update(&[1]);
                hasher.update(reveal.run.hash().as_bytes());
                hasher.update(&reveal.window.0.to_le_bytes());
                hasher.update(reveal.validator.as_bytes());
                hasher.update(reveal.value.as_bytes());
            }
            Self::Evidence(evidence) => {
                let shown = &evidence.contradiction;
                hasher.update(&[2]);
                hasher.update(evidence.run.hash().as_bytes());
                hasher.update(&evidence.window.0.to_le_bytes());
                hasher.update(shown.signer.as_bytes());
                hasher.update(shown.first.id().as_bytes());
                hasher.update(shown.second.id().as_bytes());
            }
            Self::Record(record) => {
                hasher.update(&[3]);
                hasher.update(record.header.id().as_bytes());
                hasher.update(record.header.signer.as_bytes());
            }
        }
        hasher.finalize().into()
    }

    /// The payloads in the entry, each with the key that signed it. The body of a record is not signed itself.
    pub fn payloads(&self) -> Vec<(&[u8], Option<PublicKey>)> {
        match self {
            Self::Envelope(envelope) => vec![(&envelope.payload, Some(envelope.signer))],
            Self::Record(record) => {
                vec![(&record.header.payload, Some(record.header.signer)), (&record.body, None)]
            }
            Self::Reveal(_) | Self::Evidence(_) => Vec::new(),
        }
    }

    /// The bytes of the entry, as nodes exchange and keep them.
    ///
    /// # Panics
    /// Never: encoding into memory cannot fail for these types.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("an entry has only lengths that are known")
    }

    /// Decodes an entry, refusing every other spelling of it. The signature is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLong(bytes.len()));
        }
        let entry: Self = postcard::from_bytes(bytes).map_err(|error| EntryError::Malformed(error.to_string()))?;
        if entry.encode() != bytes {
            return Err(EntryError::NotCanonical);
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use templar_manifest::Signature;

    fn envelope() -> Entry {
        Entry::Envelope(Envelope {
            payload: vec![7; 300],
            signer: PublicKey::from_bytes([3; 32]),
            signature: Signature::from_bytes([5; 64]),
        })
    }

    fn reveal() -> Entry {
        Entry::Reveal(RevealEntry {
            run: Hash::of(b"run").into(),
            window: WindowIndex(300),
            validator: PublicKey::from_bytes([4; 32]),
            value: Hash::of(b"value"),
        })
    }

    fn evidence() -> Entry {
        let said = |byte| Envelope {
            payload: vec![byte; 40],
            signer: PublicKey::from_bytes([3; 32]),
            signature: Signature::from_bytes([byte; 64]),
        };
        let (signer, window) = (PublicKey::from_bytes([3; 32]), WindowIndex(299));
        let contradiction = Contradiction { signer, window, first: said(1), second: said(2) };
        let run = Hash::of(b"run").into();
        Entry::Evidence(Box::new(EvidenceEntry { run, window: WindowIndex(300), contradiction }))
    }

    fn record() -> Entry {
        let Entry::Envelope(header) = envelope() else { unreachable!() };
        Entry::Record(Box::new(RecordEntry { header, body: vec![9; 500] }))
    }

    #[test]
    fn entries_come_back_and_other_spellings_do_not() {
        for entry in [envelope(), reveal(), evidence(), record()] {
            let bytes = entry.encode();
            assert_eq!(Entry::decode(&bytes), Ok(entry));
            for length in 0..bytes.len() {
                assert!(Entry::decode(&bytes[..length]).is_err(), "{length}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(Entry::decode(&longer), Err(EntryError::NotCanonical));
        }
        // The variant's number as a two-byte varint: postcard takes it, an entry does not.
        let mut padded = envelope().encode();
        padded[0] = 0x80;
        padded.insert(1, 0);
        assert_eq!(Entry::decode(&padded), Err(EntryError::NotCanonical));
        assert!(matches!(Entry::decode(&vec![0; MAX_ENTRY_BYTES + 1]), Err(EntryError::TooLong(_))));
    }

    #[test]
    fn a_lying_length_allocates_nothing() {
        let bytes = [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(matches!(Entry::decode(&bytes), Err(EntryError::Malformed(_))));
    }

    #[test]
    fn the_id_is_of_statement_and_signer() {
        let Entry::Envelope(mut other) = envelope() else { unreachable!() };
        other.signature = Signature::from_bytes([6; 64]);
        assert_eq!(Entry::Envelope(other.clone()).id(), envelope().id());
        other.signer = PublicKey::from_bytes([9; 32]);
        assert_ne!(Entry::Envelope(other).id(), envelope().id());
        // A header alone is not the record.
        assert_ne!(record().id(), envelope().id());
    }

    #[test]
    fn payloads_come_with_their_signers() {
        let count = |entry: Entry| entry.payloads().into_iter().map(|(_, signer)| signer.is_some()).collect::<Vec<_>>();
        assert_eq!(count(envelope()), [true]);
        assert_eq!(count(record()), [true, false]);
        assert_eq!(count(reveal()), [false; 0]);
        assert_eq!(count(evidence()), [false; 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_error_or_an_entry(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(entry) = Entry::decode(&bytes) {
                prop_assert_eq!(entry.encode(), bytes);
            }
        }
    }
}

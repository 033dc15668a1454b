//! Signatures beside payloads.
//!
//! A signature is a detached witness: it is not part of the payload and does not change its id. An [`Envelope`]
//! is a payload with one witness, in the form that travels between nodes. A [`Signed`] value exists only after
//! its witness was checked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{Hash, RunId};
use crate::key::{KeyError, PublicKey, SecretKey, Signature};
use crate::payload::{self, Kind, Payload, PayloadError};

/// Why an envelope is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The payload does not decode.
    #[error(transparent)]
    Decode(#[from] PayloadError),
    /// The witness does not verify.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signer is another key than the payload names.
    #[error("{kind} manifest names {named} and is signed by {signer}")]
    WrongSigner {
        /// The kind of manifest.
        kind: Kind,
        /// The key that should have signed, in short.
        named: String,
        /// The key that signed, in short.
        signer: String,
    },
}

/// The domain of every signature under a manifest. Signatures for other purposes begin otherwise.
const DOMAIN: &[u8] = b"templar/1\0";

/// The bytes that a witness signs: domain, kind (ASCII, then a zero byte), version (u32, little-endian), the
/// run's id (32 zero bytes where the payload belongs to no run) and the payload's id.
pub fn signed_bytes(kind: Kind, version: u64, run: Option<RunId>, id: &Hash) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(96);
    bytes.extend_from_slice(DOMAIN);
    bytes.extend_from_slice(kind.name().as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&u32::try_from(version).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(run.unwrap_or_default().hash().as_bytes());
    bytes.extend_from_slice(id.as_bytes());
    bytes
}

/// The bytes of a payload with one witness. Neither was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Canonical bytes of the payload.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    /// The key of the signer.
    pub signer: PublicKey,
    /// The signature over [`signed_bytes`].
    pub signature: Signature,
}

impl Envelope {
    /// The id of the payload: the BLAKE3 hash of its bytes.
    pub fn id(&self) -> Hash {
        Hash::of(&self.payload)
    }

    /// Decodes the payload and checks the witness.
    ///
    /// # Errors
    /// [`EnvelopeError::Decode`] or [`EnvelopeError::Key`].
    pub fn open<T: Payload>(&self) -> Result<Signed<T>, EnvelopeError> {
        let payload: T = payload::decode(&self.payload)?;
        let id = self.id();
        self.signer.verify(&signed_bytes(T::KIND, T::VERSION, payload.run(), &id), &self.signature)?;
        Ok(Signed::of(payload, id, self.signer, self.signature))
    }
}

/// A payload whose witness was checked. Only [`Signed::sign`], [`Signed::seal`] and [`Envelope::open`] make one.
/// Clones share everything, and each takes the memory of one pointer.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed<T>(Arc<Statement<T>>);

/// What all clones of a signed payload share.
#[derive(Debug, PartialEq)]
struct Statement<T> {
    payload: Arc<T>,
    id: Hash,
    signer: PublicKey,
    signature: Signature,
}

impl<T: Payload> Signed<T> {
    fn of(payload: T, id: Hash, signer: PublicKey, signature: Signature) -> Self {
        Self(Arc::new(Statement { payload: Arc::new(payload), id, signer, signature }))
    }

    /// Signs `payload` with `key`.
    pub fn sign(payload: T, key: &SecretKey) -> Self {
        Self::seal(payload, key).0
    }

    /// Signs `payload` with `key`, and gives its envelope as well. The payload is encoded once for both.
    pub fn seal(payload: T, key: &SecretKey) -> (Self, Envelope) {
        let bytes = payload::encode(&payload);
        let id = Hash::of(&bytes);
        let (signer, signature) = (key.public(), key.sign(&signed_bytes(T::KIND, T::VERSION, payload.run(), &id)));
        (Self::of(payload, id, signer, signature), Envelope { payload: bytes, signer, signature })
    }

    /// The payload that was signed.
    pub fn payload(&self) -> &T {
        &self.0.payload
    }

    /// The payload, shared instead of borrowed.
    pub fn shared(&self) -> Arc<T> {
        self.0.payload.clone()
    }

    /// The id of the payload.
    pub fn id(&self) -> Hash {
        self.0.id
    }

    /// The signature of the witness.
    pub fn signature(&self) -> Signature {
        self.0.signature
    }

    /// The key that signed.
    pub fn signer(&self) -> PublicKey {
        self.0.signer
    }

    /// The payload and its witness, in the form that travels between nodes.
    pub fn envelope(&self) -> Envelope {
        let Statement { payload, signer, signature, .. } = &*self.0;
        Envelope { payload: payload::encode(&**payload), signer: *signer, signature: *signature }
    }

    /// Checks that `named`, the key that the payload names, is the signer.
    ///
    /// # Errors
    /// [`EnvelopeError::WrongSigner`] where another key signed.
    pub fn expect_signer(self, named: &PublicKey) -> Result<Self, EnvelopeError> {
        if self.signer() == *named {
            return Ok(self);
        }
        Err(EnvelopeError::WrongSigner { kind: T::KIND, named: named.short(), signer: self.signer().short() })
    }
}

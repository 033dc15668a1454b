//! The manifests of a run as bytes: ids, keys, canonical payloads, and the signatures beside them.
//!
//! This crate is the bottom of the workspace and knows neither files nor sockets nor tensors. It defines how
//! every artifact is named and how a claim about it is written down, so that everybody reads the same.
//!
//! * **Ids.** Every artifact is named by the BLAKE3 hash of its bytes ([`struct@Hash`]), with a type per
//!   meaning ([`id`]).
//! * **Payloads.** A manifest is a value of a [`kinds`] type, encoded as DAG-CBOR with exactly one spelling
//!   ([`payload`]). Its id is the hash of those bytes and does not depend on the signer.
//! * **Witnesses.** Signatures stand beside the payload ([`envelope`]). A [`Signed`] value is proof that one
//!   was checked.
//! * **Names.** The arithmetic, the quantiser and the aggregation rule of a run are enums ([`Arithmetic`],
//!   [`Quantiser`], [`AggregationRule`]), so a genesis that asks for something unknown does not decode.
//! * **Trace.** The leaves that a miner commits to, one for each inner step ([`trace`]).
//! * **Proof.** A validator's proof that it replayed a contribution ([`proof`]).
//! * **Chain.** A validator's pre-committed random values ([`chain`]).
//! * **Tree.** Many entries under one hash, each provable by itself ([`tree`]).
//!
//! The way of the data, in the words that every crate uses:
//! `dataset → window → delta → manifest → score → checkpoint → audit`.
//!
//! # Example
//!
//! A miner signs a contribution. A stranger reads it from its bytes and checks the signature.
//!
//! ```
//! use templar_manifest::{BlobId, Contribution, RunId, SecretKey, Signed, StateId, WindowIndex};
//!
//! let key = SecretKey::from_bytes(&[7; 32]);
//! let contribution = Contribution {
//!     run: RunId::default(),
//!     window: WindowIndex(0),
//!     miner: key.public(),
//!     parent: None,
//!     state_in: StateId::default(),
//!     state_out: StateId::default(),
//!     delta: BlobId::of(b"the compressed pseudo-gradient"),
//!     delta_bytes: 30,
//!     trace: BlobId::of(b"one leaf for each inner step"),
//!     trace_bytes: 28,
//!     steps: 4,
//!     tokens: 4096,
//!     loss_nanonats: 5_000_000_000,
//! };
//! let sent = Signed::sign(contribution, &key).envelope();
//!
//! let read: Signed<Contribution> = sent.open()?;
//! assert_eq!(read.signer(), key.public());
//! assert_eq!(read.payload().steps, 4);
//!
//! // A payload has one spelling. With a changed byte it does not decode, or the signature does not verify.
//! let mut forged = sent;
//! forged.payload[40] ^= 1;
//! assert!(forged.open::<Contribution>().is_err());
//! # Ok::<(), templar_manifest::EnvelopeError>(())
//! ```

pub mod chain;
pub mod envelope;
pub mod id;
pub mod key;
pub mod kinds;
pub mod model;
mod names;
pub mod payload;
pub mod proof;
pub mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
pub mod tree;

pub use envelope::{Envelope, EnvelopeError, Signed};
pub use id::{
    BlobId, BodyId, CheckpointId, ContributionId, CutId, DatasetId, Hash, InboxId, ParseHashError, RecordId,
    RegistrationId, RevealSetId, RunId, ScoreId, StateId, WindowIndex,
};
pub use key::{KeyError, PublicKey, SecretKey, Signature};
pub use kinds::*;
pub use model::{ModelSpec, RopeScaling};
pub use names::{AggregationRule, Arithmetic, ParseNameError, Quantiser};
pub use payload::{Kind, MAX_PAYLOAD_BYTES, Payload, PayloadError};
pub use tensor::TensorSpec;

//! What a run leaves behind, as bytes: ids, keys, canonical manifests and the signatures beside them.
//!
//! This crate is the bottom of the workspace. It knows neither files nor sockets nor tensors; it knows what every
//! artifact is called and how a claim about it is written down so that everybody reads the same.
//!
//! * **Ids.** Every artifact is named by the BLAKE3 hash of its bytes ([`struct@Hash`]), with a type per meaning ([`id`]).
//! * **Payloads.** A manifest is a value of a [`kinds`] type, encoded as DAG-CBOR with exactly one spelling
//!   ([`payload`]). Its id is the hash of those bytes, whoever signed them.
//! * **Witnesses.** Signatures stand beside the payload ([`envelope`]). A [`Signed`] value is proof that one was checked.
//! * **Trace.** The leaves that a miner commits to, one for each inner step ([`trace`]).
//! * **Proof.** What only a validator can say that has replayed a contribution ([`proof`]).
//! * **Chain.** A validator's pre-committed random values ([`chain`]).
//!
//! The way of the data, in the words that every crate uses:
//! `dataset → window → delta → manifest → score → checkpoint → audit`.

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

pub use envelope::{Envelope, EnvelopeError, Signed};
pub use id::{
    BlobId, CheckpointId, ContributionId, CutId, DatasetId, Hash, InboxId, ParseHashError, RecordId, RegistrationId,
    RunId, ScoreId, StateId, WindowIndex,
};
pub use key::{KeyError, PublicKey, SecretKey, Signature};
pub use kinds::*;
pub use model::{ModelSpec, RopeScaling};
pub use names::{AggregationRule, Arithmetic, ParseNameError, Quantiser};
pub use payload::{Kind, MAX_PAYLOAD_BYTES, Payload, PayloadError};
pub use tensor::TensorSpec;

//! A trace: the loss after each inner step of a contribution.

use serde::Serialize;
use templar_manifest::trace::{Trace, TraceHeader};
use templar_manifest::{Contribution, Genesis, Hash, PublicKey, WindowIndex, payload};

use crate::index::{HomeIndex, KnownObject};

/// A trace as a person reads it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceView {
    /// The hash of the trace.
    pub trace: Hash,
    /// The window that was trained.
    pub window: WindowIndex,
    /// The miner that trained.
    pub miner: PublicKey,
    /// The mean training loss of each inner step, in nats a token.
    pub losses: Vec<f64>,
    /// The number of tensors whose hashes each step records.
    #[serde(skip)]
    pub tensors: u32,
}

impl TraceView {
    /// Reads a trace. A trace does not say how many steps and tensors it has, so the contribution that names it
    /// and the run's genesis must be in the index; `None` when they are not, or when the bytes do not decode.
    pub fn of(index: &HomeIndex, id: Hash, object: &KnownObject, bytes: &[u8]) -> Option<Self> {
        let namer = object.named_by.iter().find_map(|(by, _)| index.object(by)?.payload.as_ref());
        let contribution: Contribution = payload::decode(namer?).ok()?;
        let genesis: Genesis = payload::decode(index.object(&contribution.run.hash())?.payload.as_ref()?).ok()?;
        let tensors = templar_model::tensors(&genesis.model).ok()?;
        let header = TraceHeader::of(&contribution, u32::try_from(tensors.len()).ok()?);
        let trace = Trace::decode(bytes, &header).ok()?;
        let losses: Vec<f64> = trace.leaves.iter().map(|leaf| f64::from_bits(leaf.loss_bits)).collect();
        // Leaf 0 is the state before the first step and has no loss.
        let losses = losses.get(1..=contribution.steps as usize)?.to_vec();
        let (window, miner) = (contribution.window, contribution.miner);
        Some(Self { trace: id, window, miner, losses, tensors: header.tensors })
    }
}

//! A few figures that say what an object is, for a person who sees it for the first time.

use serde::Serialize;
use templar_manifest::{
    Audit, AuditVerdict, BodyId, Checkpoint, CheckpointId, Contribution, Cut, Dataset, Genesis, Hash, Inbox, Kind,
    Payload, PublicKey, Registration, Replay, RevealSet, Score, State, TensorBlob, Verdict, Vote, VoteOn, VoteStep,
    WindowBody, WindowHeader, WindowIndex, payload,
};

/// The figures of a manifest. Amounts are in micro-ALPHA, losses in 1e-9 nats a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectSummary {
    /// The object is no manifest, or its bytes are not here.
    None,
    /// The configuration of a run.
    Genesis {
        /// The name of the run.
        name: String,
        /// The number of the model's parameters.
        parameters: u64,
        /// The number of validators.
        validators: usize,
        /// The number of windows; 0 for a run without an end.
        windows: u64,
    },
    /// A dataset.
    Dataset {
        /// Its name.
        name: String,
        /// Its licence.
        licence: String,
        /// The number of tokens to train on.
        training_tokens: u64,
        /// The number of tokens that are held out of training.
        held_out_tokens: u64,
    },
    /// A miner's commitment to a delta.
    Contribution {
        /// The miner, by its owner key.
        miner: PublicKey,
        /// The window that it trained.
        window: WindowIndex,
        /// The number of inner steps.
        steps: u32,
        /// The length of the delta in bytes.
        delta_bytes: u64,
        /// The mean loss of the last inner step.
        loss_nanonats: u64,
    },
    /// A request for a slot.
    Registration {
        /// The owner that asks.
        owner: PublicKey,
        /// The window that is asked to give the slot.
        window: WindowIndex,
    },
    /// A validator's list of the contributions that it received.
    Inbox {
        /// The validator.
        validator: PublicKey,
        /// The window of the contributions.
        window: WindowIndex,
        /// The number of contributions.
        contributions: usize,
    },
    /// The list of the contributions that count.
    Cut {
        /// The window of the contributions.
        window: WindowIndex,
        /// The number of contributions.
        contributions: usize,
    },
    /// The hash-chain values that count.
    Reveals {
        /// The window of the values.
        window: WindowIndex,
        /// The number of values.
        reveals: usize,
    },
    /// A validator's measurement of a window.
    Score {
        /// The validator.
        validator: PublicKey,
        /// The window that it measured.
        window: WindowIndex,
        /// The number of contributions that it measured or refused.
        contributions: usize,
        /// The number of contributions whose replay gave the same hashes.
        matching: usize,
        /// The number of contributions that it refuses.
        refused: usize,
    },
    /// The header of a window's record.
    Header {
        /// The window.
        window: WindowIndex,
        /// The model after the window.
        checkpoint: CheckpointId,
        /// The body of the record.
        body: BodyId,
    },
    /// The body of a window's record.
    Record {
        /// The window.
        window: WindowIndex,
        /// The number of contributions.
        contributions: usize,
        /// The number of contributions that are in the new model.
        aggregated: usize,
        /// The number of refused contributions.
        refused: usize,
        /// The pay that it mints.
        minted_micros: u64,
        /// The loss of the model after the window on held-out text.
        held_out_loss_nanonats: u64,
    },
    /// A validator's vote.
    Vote {
        /// The window of the vote.
        window: WindowIndex,
        /// The subject of the vote.
        on: VoteOn,
        /// The step of the vote.
        step: VoteStep,
        /// The manifest that is voted for; `None` for a vote for nothing.
        value: Option<Hash>,
    },
    /// A model.
    Checkpoint {
        /// The window that starts from it.
        window: WindowIndex,
        /// The number of tensors.
        tensors: usize,
        /// The number of parameters.
        parameters: u64,
    },
    /// A miner's training state.
    State {
        /// The number of inner steps that led to it.
        optimizer_steps: u64,
        /// The number of the model's parameters.
        parameters: u64,
    },
    /// An auditor's findings on a window.
    Audit {
        /// The auditor.
        auditor: PublicKey,
        /// The window that was audited.
        window: WindowIndex,
        /// The number of verdicts that are a match.
        matching: usize,
        /// The number of verdicts that are a mismatch.
        mismatching: usize,
        /// The number of verdicts for which an input was missing.
        unavailable: usize,
    },
}

impl ObjectSummary {
    /// The figures of a manifest of a kind. Bytes that do not decode have none.
    pub fn of(kind: Kind, bytes: &[u8]) -> Self {
        fn decoded<T: Payload>(bytes: &[u8], figures: impl FnOnce(T) -> ObjectSummary) -> ObjectSummary {
            payload::decode(bytes).map_or(ObjectSummary::None, figures)
        }
        match kind {
            Kind::Genesis => decoded(bytes, genesis),
            Kind::Dataset => decoded(bytes, dataset),
            Kind::Contribution => decoded(bytes, contribution),
            Kind::Registration => decoded(bytes, |found: Registration| {
                let Registration { certificate, window, .. } = found;
                Self::Registration { owner: certificate.owner, window }
            }),
            Kind::Inbox => decoded(bytes, |found: Inbox| {
                let Inbox { validator, window, contributions, .. } = found;
                Self::Inbox { validator, window, contributions: contributions.len() }
            }),
            Kind::Cut => decoded(bytes, |found: Cut| {
                let Cut { window, contributions, .. } = found;
                Self::Cut { window, contributions: contributions.len() }
            }),
            Kind::Reveals => decoded(bytes, |found: RevealSet| {
                let RevealSet { window, reveals, .. } = found;
                Self::Reveals { window, reveals: reveals.len() }
            }),
            Kind::Score => decoded(bytes, score),
            Kind::Window => decoded(bytes, header),
            Kind::Body => decoded(bytes, record),
            Kind::Vote => decoded(bytes, |found: Vote| {
                let Vote { window, on, step, value, .. } = found;
                Self::Vote { window, on, step, value }
            }),
            Kind::Checkpoint => decoded(bytes, |found: Checkpoint| {
                let Checkpoint { window, tensors, .. } = found;
                Self::Checkpoint { window, tensors: tensors.len(), parameters: parameters(&tensors) }
            }),
            Kind::State => decoded(bytes, |found: State| {
                let State { optimizer_steps, tensors, .. } = found;
                Self::State { optimizer_steps, parameters: parameters(&tensors) }
            }),
            Kind::Audit => decoded(bytes, audit),
        }
    }
}

fn parameters(tensors: &[TensorBlob]) -> u64 {
    tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.spec.elements() as u64))
}

fn genesis(found: Genesis) -> ObjectSummary {
    let tensors = templar_model::tensors(&found.model).unwrap_or_default();
    ObjectSummary::Genesis {
        name: found.name,
        parameters: tensors.iter().fold(0, |sum, tensor| sum.saturating_add(tensor.elements() as u64)),
        validators: found.validators.len(),
        windows: found.windows,
    }
}

fn dataset(found: Dataset) -> ObjectSummary {
    let (training_tokens, held_out_tokens) = (found.training_tokens(), found.validation_tokens());
    ObjectSummary::Dataset { name: found.name, licence: found.licence, training_tokens, held_out_tokens }
}

fn contribution(found: Contribution) -> ObjectSummary {
    let Contribution { miner, window, steps, delta_bytes, loss_nanonats, .. } = found;
    ObjectSummary::Contribution { miner, window, steps, delta_bytes, loss_nanonats }
}

fn score(found: Score) -> ObjectSummary {
    let count = |is: fn(&Replay) -> bool| found.entries.iter().filter(|entry| is(&entry.replay)).count();
    ObjectSummary::Score {
        validator: found.validator,
        window: found.window,
        contributions: found.entries.len(),
        matching: count(|replay| *replay == Replay::Match),
        refused: count(|replay| matches!(replay, Replay::Refused(_))),
    }
}

fn header(found: WindowHeader) -> ObjectSummary {
    let WindowHeader { window, checkpoint, body_root: body, .. } = found;
    ObjectSummary::Header { window, checkpoint, body }
}

fn record(found: WindowBody) -> ObjectSummary {
    let count = |is: fn(&Verdict) -> bool| found.outcomes.iter().filter(|outcome| is(&outcome.verdict)).count();
    ObjectSummary::Record {
        window: found.window,
        contributions: found.outcomes.len(),
        aggregated: count(|verdict| *verdict == Verdict::Aggregated),
        refused: count(|verdict| matches!(verdict, Verdict::Refused(_))),
        minted_micros: found.mints.iter().fold(0, |sum, mint| sum.saturating_add(mint.amount_micros)),
        held_out_loss_nanonats: found.held_out_loss_nanonats,
    }
}

fn audit(found: Audit) -> ObjectSummary {
    let parts = [&found.record_verdict, &found.checkpoint_verdict, &found.ledger_verdict];
    let verdicts = || parts.into_iter().chain(found.contributions.iter().map(|entry| &entry.verdict));
    let count = |is: fn(&AuditVerdict) -> bool| verdicts().filter(|verdict| is(verdict)).count();
    ObjectSummary::Audit {
        auditor: found.auditor,
        window: found.window,
        matching: count(|verdict| *verdict == AuditVerdict::Match),
        mismatching: count(|verdict| matches!(verdict, AuditVerdict::Mismatch { .. })),
        unavailable: count(|verdict| matches!(verdict, AuditVerdict::Unavailable { .. })),
    }
}

#[cfg(test)]
mod tests {
    use templar_manifest::{BlobId, RunId, TensorSpec};

    use super::*;

    #[test]
    fn figures_come_from_the_bytes_and_wrong_bytes_have_none() {
        let tensor = |name: &str, shape: &[u64]| TensorBlob {
            spec: TensorSpec { name: name.to_owned(), shape: shape.to_vec() },
            blob: BlobId::default(),
        };
        let tensors = vec![tensor("a", &[3, 4]), tensor("b", &[5])];
        let bytes = payload::encode(&Checkpoint { run: RunId::default(), window: WindowIndex(2), tensors });
        let found = ObjectSummary::of(Kind::Checkpoint, &bytes);
        assert_eq!(found, ObjectSummary::Checkpoint { window: WindowIndex(2), tensors: 2, parameters: 17 });
        assert_eq!(ObjectSummary::of(Kind::State, &bytes), ObjectSummary::None, "another kind");
        assert_eq!(ObjectSummary::of(Kind::Checkpoint, &bytes[1..]), ObjectSummary::None);
    }
}

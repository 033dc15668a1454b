//! Reports outputs of the protocol as events.

use templar_manifest::{
    Contribution, Kind, Losses, Refusal, Replay, ScoreEntry, Signed, Vote, VoteOn, VoteStep, WindowIndex,
};
use templar_protocol::{Dispute, Entry, Output, Phase};
use templar_train::nats;

use super::Driver;
use crate::event::NodeEvent;

impl Driver {
    pub(super) async fn report(&self, output: &Output) {
        let event = match output {
            Output::Accepted { window, entry } => {
                let Entry::Envelope(envelope) = entry.entry() else { return };
                let Ok((kind, _)) = templar_manifest::payload::peek(&envelope.payload) else { return };
                tracing::debug!(kind = kind.name(), signer = %envelope.signer.short(), "accepted");
                match kind {
                    Kind::Contribution => match envelope.open::<Contribution>() {
                        Ok(signed) => self.contributed(signed.payload(), envelope.id()),
                        Err(_) => return,
                    },
                    // Cut, reveal set and record are reported with the votes that make them final.
                    Kind::Cut | Kind::Reveals => return,
                    Kind::Vote => match envelope.open::<Vote>().as_ref().map(Signed::payload) {
                        Ok(Vote { step: VoteStep::Precommit, on, value: Some(id), .. }) => NodeEvent::Signed {
                            window: window.0,
                            kind: voted_on(*on).name().to_owned(),
                            id: *id,
                            signer: envelope.signer,
                        },
                        _ => return,
                    },
                    kind => NodeEvent::Signed {
                        window: window.0,
                        kind: kind.name().to_owned(),
                        id: envelope.id(),
                        signer: envelope.signer,
                    },
                }
            }
            Output::Closed { window, record } => {
                tracing::info!(record = %record.short(), "window {window} is closed");
                for event in self.closed_events(*window) {
                    self.emit(event).await;
                }
                return;
            }
            Output::Wrong { kind, signer, reject, .. } => {
                NodeEvent::warning(format!("{} signed a {kind} that is wrong: {reject}", signer.short()))
            }
            Output::Dropped { reject, .. } => NodeEvent::warning(format!("an entry was dropped: {reject}")),
            Output::Equivocation { kind, signer, .. } => {
                NodeEvent::warning(format!("{} signed two different {kind} manifests", signer.short()))
            }
            Output::Dispute(Dispute::Refusal { validator, miner, claimed, found }) => NodeEvent::warning(format!(
                "validator {} refuses {} ({claimed}); this node finds {}",
                validator.short(),
                miner.short(),
                in_words(found)
            )),
            Output::Dispute(Dispute::Proof { validator, window, miner }) => NodeEvent::warning(format!(
                "validator {} says that it replayed {} in window {window}, but its proof is not that of a replay",
                validator.short(),
                miner.short()
            )),
            Output::Dispute(Dispute::Measurement { validator, miner }) => NodeEvent::warning(format!(
                "validator {} measures {} differently from this node",
                validator.short(),
                miner.short()
            )),
            Output::Dispute(Dispute::Record { record, found }) => NodeEvent::warning(format!(
                "record {} differs from what this node computes; its model would be {}",
                record.short(),
                found.checkpoint
            )),
            _ => return,
        };
        self.emit(event).await;
    }

    /// The events of a closed window: that it is closed, and its decisions on registrations.
    fn closed_events(&self, window: WindowIndex) -> Vec<NodeEvent> {
        let node = self.replica.node();
        let Some(closed) = node.closed_window(window) else { return Vec::new() };
        std::iter::once(NodeEvent::closed(closed)).chain(NodeEvent::admissions(closed)).collect()
    }

    fn contributed(&self, contribution: &Contribution, id: templar_manifest::Hash) -> NodeEvent {
        let parameters = self.replica.context.recipe.parameter_count() as f64;
        NodeEvent::Contributed {
            window: contribution.window.0,
            miner: contribution.miner,
            contribution: id.into(),
            delta: contribution.delta.hash(),
            delta_bytes: contribution.delta_bytes,
            ratio_fp32: parameters * 4.0 / contribution.delta_bytes as f64,
            ratio_bf16: parameters * 2.0 / contribution.delta_bytes as f64,
            loss: nats(contribution.loss_nanonats),
        }
    }

    pub(super) async fn report_judged(&self, window: WindowIndex, entries: &[ScoreEntry]) {
        for entry in entries {
            let replay = match &entry.replay {
                Replay::NotDrawn => "not-drawn".to_owned(),
                Replay::Match => "match".to_owned(),
                Replay::Refused(refusal) => Refusal::to_string(refusal),
            };
            let improved =
                |losses: Losses| nats(losses.unassigned_before_nanonats) - nats(losses.unassigned_after_nanonats);
            let improvement = entry.evaluation.losses().map(improved);
            self.emit(NodeEvent::Judged {
                window: window.0,
                validator: self.replica.me(),
                miner: entry.miner,
                replay,
                improvement,
            })
            .await;
        }
    }

    /// Reports a deadline that has passed while somebody is missing.
    pub(super) async fn report_deadline(&self, window: WindowIndex, phase: Phase) {
        let waiting = {
            let node = self.replica.node();
            node.state().window() == window && node.phase() == phase
        };
        if waiting {
            let phase = format!("{phase:?}").to_lowercase();
            self.emit(NodeEvent::Deadline { window: window.0, phase }).await;
        }
    }

    /// Reports the end of the run, once, when the last model is here.
    pub(super) async fn report_end(&mut self) {
        let (over, checkpoint, closed) = {
            let node = self.replica.node();
            (node.is_over(), node.state().checkpoint(), node.state().window())
        };
        if over && !self.followed.finished && self.followed.until == closed {
            self.followed.finished = true;
            self.emit(NodeEvent::Finished { checkpoint }).await;
        }
    }
}

/// The kind of the manifest that a vote is on.
fn voted_on(on: VoteOn) -> Kind {
    match on {
        VoteOn::Cut => Kind::Cut,
        VoteOn::Reveals => Kind::Reveals,
        VoteOn::Window => Kind::Window,
    }
}

/// The result of a replay in words.
fn in_words(replay: &Replay) -> String {
    match replay {
        Replay::NotDrawn => "nothing, since it has not replayed it".to_owned(),
        Replay::Match => "the same hashes".to_owned(),
        Replay::Refused(refusal) => refusal.to_string(),
    }
}

//! Says what happens, as events.

use templar_manifest::{
    Admission, Contribution, Kind, MintKind, Refusal, Replay, ScoreEntry, Signed, Verdict, Vote, VoteOn, VoteStep,
    WindowIndex,
};
use templar_protocol::{ClosedWindow, Dispute, Entry, Output, Phase};
use templar_train::nats;

use super::Driver;
use crate::event::{Event, Refused};

/// A closed window, for people.
pub fn closed_event(closed: &ClosedWindow) -> Event {
    let record = &closed.window;
    let aggregated = record.outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Aggregated);
    let refused = record.outcomes.iter().filter_map(|outcome| match &outcome.verdict {
        Verdict::Refused(refusal) => Some(Refused::new(outcome.miner, refusal)),
        Verdict::Aggregated | Verdict::Reserve | Verdict::Excluded => None,
    });
    Event::Closed {
        window: record.window.0,
        record: closed.record,
        checkpoint: record.checkpoint,
        held_out_loss: nats(record.held_out_loss_nanonats),
        aggregated: aggregated.map(|outcome| outcome.miner).collect(),
        refused: refused.collect(),
        minted: record.mints.iter().map(|mint| mint.amount_micros).sum::<u64>() as f64 / 1e6,
        minted_to_miners: record
            .mints
            .iter()
            .filter(|mint| mint.kind == MintKind::Miner)
            .map(|mint| (mint.account, mint.amount_micros as f64 / 1e6))
            .collect(),
        signatures: closed.record_certificate.witnesses.len(),
    }
}

/// What a closed window decided about registrations.
fn admissions(closed: &ClosedWindow) -> impl Iterator<Item = Event> {
    let window = closed.window.window.0;
    let event = move |admission: &Admission| Event::Admitted {
        window,
        owner: admission.owner,
        verdict: admission.verdict.to_string(),
    };
    closed.window.admissions.iter().map(event)
}

impl Driver {
    pub(super) async fn report(&self, output: &Output) {
        let event = match output {
            Output::Accepted { window, entry } => {
                let Entry::Envelope(envelope) = entry.entry() else { return };
                let Ok((kind, _)) = templar_manifest::payload::peek(&envelope.payload) else { return };
                match kind {
                    Kind::Contribution => match envelope.open::<Contribution>() {
                        Ok(signed) => self.contributed(signed.payload(), envelope.id()),
                        Err(_) => return,
                    },
                    // What counts is the signature that can make it final.
                    Kind::Cut | Kind::Window => return,
                    Kind::Vote => match envelope.open::<Vote>().as_ref().map(Signed::payload) {
                        Ok(Vote { step: VoteStep::Precommit, on, value: Some(id), .. }) => Event::Signed {
                            window: window.0,
                            kind: (if *on == VoteOn::Cut { Kind::Cut } else { Kind::Window }).name().to_owned(),
                            id: *id,
                            signer: envelope.signer,
                        },
                        _ => return,
                    },
                    kind => Event::Signed {
                        window: window.0,
                        kind: kind.name().to_owned(),
                        id: envelope.id(),
                        signer: envelope.signer,
                    },
                }
            }
            Output::Closed { window, .. } => {
                for event in self.closed_events(*window) {
                    self.emit(event).await;
                }
                return;
            }
            Output::Wrong { kind, signer, reject, .. } => {
                Event::Warning { message: format!("{} signed a {kind} that is wrong: {reject}", signer.short()) }
            }
            Output::Dropped { reject, .. } => Event::Warning { message: format!("an entry was dropped: {reject}") },
            Output::Equivocation { kind, signer, .. } => {
                Event::Warning { message: format!("{} signed two different {kind} manifests", signer.short()) }
            }
            Output::Dispute(Dispute::Refusal { validator, miner, claimed, found }) => Event::Warning {
                message: format!(
                    "validator {} refuses {} ({claimed}); this node finds {found:?}",
                    validator.short(),
                    miner.short()
                ),
            },
            Output::Dispute(Dispute::Proof { validator, window, miner }) => Event::Warning {
                message: format!(
                    "validator {} says that it replayed {} in window {window}, and its proof is not what a replay gives",
                    validator.short(),
                    miner.short()
                ),
            },
            Output::Dispute(Dispute::Record { record, found }) => Event::Warning {
                message: format!("record {} is not what this node finds: {}", record.short(), found.checkpoint),
            },
            _ => return,
        };
        self.emit(event).await;
    }

    /// That a window is closed, and what it decided about registrations.
    fn closed_events(&self, window: WindowIndex) -> Vec<Event> {
        let node = self.replica.node();
        let Some(closed) = node.closed().get(window.0 as usize) else { return Vec::new() };
        std::iter::once(closed_event(closed)).chain(admissions(closed)).collect()
    }

    fn contributed(&self, contribution: &Contribution, id: templar_manifest::Hash) -> Event {
        let parameters = self.replica.context.recipe.parameter_count() as f64;
        Event::Contributed {
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
            let (before, after) = (entry.unassigned_before_nanonats, entry.unassigned_after_nanonats);
            let improvement = (before > 0).then(|| nats(before) - nats(after));
            self.emit(Event::Judged {
                window: window.0,
                validator: self.replica.me(),
                miner: entry.miner,
                replay,
                improvement,
            })
            .await;
        }
    }

    /// A deadline that passed with somebody missing.
    pub(super) async fn report_deadline(&self, window: WindowIndex, phase: Phase) {
        let waiting = {
            let node = self.replica.node();
            node.state().window() == window && node.phase() == phase
        };
        if waiting {
            let phase = format!("{phase:?}").to_lowercase();
            self.emit(Event::Deadline { window: window.0, phase }).await;
        }
    }

    /// The end of the run, once, when the last model is here.
    pub(super) async fn report_end(&mut self) {
        let (over, checkpoint, closed) = {
            let node = self.replica.node();
            (node.is_over(), node.state().checkpoint(), node.closed().len())
        };
        if over && !self.finished && self.followed == closed {
            self.finished = true;
            self.emit(Event::Finished { checkpoint }).await;
        }
    }
}

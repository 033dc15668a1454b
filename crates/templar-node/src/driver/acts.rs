//! Starts what the protocol wants done, once each, as tasks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use templar_manifest::{Challenge, Contribution, ContributionId, Hash, PublicKey, Signed};
use templar_protocol::{Output, ReplayTask, RunState};
use templar_train::StepReport;
use tokio::sync::mpsc;

use super::gather::within;
use super::{Done, Driver, Role, Shared};
use crate::compute::compute;
use crate::event::Event;
use crate::workbench::{Effort, Origin, TrainWatch, WorkError};

/// Before the second attempt at work that failed; doubled for each that fails after it, up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(500);

const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How long a seeder looks for the evidence of one window: what a miner withheld nobody may have.
const SEEDING_PATIENCE: Duration = Duration::from_secs(60);

/// How long a miner looks among peers for a state of its own that its disk does not have.
const STATE_PATIENCE: Duration = Duration::from_secs(5);

/// How the names of tasks begin that save what they have done when they are told to stop.
pub(super) const TRAINING: &str = "training window ";

/// Reports inner steps and stops with the node.
struct Reporting {
    window: u64,
    events: mpsc::Sender<Event>,
    stopping: Arc<AtomicBool>,
    last: std::time::Instant,
}

impl Reporting {
    #[expect(clippy::disallowed_methods, reason = "speed in the log line; decides nothing")]
    fn new(window: u64, shared: &Shared) -> Self {
        let (events, stopping) = (shared.events.clone(), shared.stopping.clone());
        Self { window, events, stopping, last: std::time::Instant::now() }
    }
}

impl TrainWatch for Reporting {
    #[expect(clippy::disallowed_methods, reason = "speed in the log line; decides nothing")]
    fn step(&mut self, report: &StepReport) {
        let now = std::time::Instant::now();
        let seconds = now.duration_since(self.last).as_secs_f64();
        self.last = now;
        let event = Event::Step {
            window: self.window,
            step: report.step,
            steps: report.steps,
            loss: report.loss,
            norm: report.norm,
            learning_rate: report.learning_rate,
            tokens_per_second: report.tokens as f64 / seconds.max(1e-9),
        };
        // A reader that is behind misses a line; training does not wait for it.
        let _ = self.events.try_send(event);
    }

    fn stop(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Driver {
    /// A pause before an act, where the configuration asks for one.
    pub(super) async fn pause(&mut self) {
        if let Some(delay) = self.next_delay() {
            tokio::time::sleep(delay).await;
        }
    }

    fn next_delay(&mut self) -> Option<Duration> {
        let (longest, seed) = self.config.delays?;
        self.acts += 1;
        let mut input = [0; 16];
        input[..8].copy_from_slice(&seed.to_le_bytes());
        input[8..].copy_from_slice(&self.acts.to_le_bytes());
        let draw = u64::from(Hash::of(&input).as_bytes()[0]);
        Some(longest.saturating_mul(draw as u32) / 256)
    }

    /// Starts `work` under a name, unless work of that name is under way.
    pub(super) fn spawn<F>(&mut self, name: String, work: impl FnOnce(Shared) -> F)
    where
        F: Future<Output = Result<Done, WorkError>> + Send + 'static,
    {
        if !self.under_way.insert(name.clone()) {
            return;
        }
        let delay = self.next_delay();
        let work = work(self.shared.clone());
        self.tasks.spawn(async move {
            if let Some(delay) = delay {
                tokio::time::sleep(delay).await;
            }
            (name, work.await)
        });
    }

    /// Asks the protocol again in a moment.
    pub(super) fn start_retry(&mut self) {
        let gatherer = self.shared.gatherer.clone();
        let pause = FIRST_RETRY.saturating_mul(2u32.saturating_pow(self.failures)).min(LONGEST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.spawn("retry".to_owned(), |shared| async move {
            // A corrupt blob may be what it failed for.
            for healed in gatherer.heal().await? {
                let _ = shared.events.send(Event::Warning { message: healed.to_string() }).await;
            }
            gatherer.sleep(pause).await;
            Ok(Done::Retry)
        });
    }

    /// Starts the work of an output, where it is this node's role.
    pub(super) fn start(&mut self, output: Output) {
        let validates = self.config.role == Role::Validator;
        match output {
            Output::Train { .. } if self.config.role == Role::Miner => self.start_training(),
            Output::Judge(plan) if validates => {
                let (state, contributions) = self.judged();
                let judge_ms = self.replica.context.genesis.deadlines.judge_ms;
                let late = self.signed_of(plan.late.iter().chain(&plan.wanted));
                self.spawn(
                    format!("judging window {} for seed {}", plan.window, plan.seed.short()),
                    |shared| async move {
                        let patience = Duration::from_millis(judge_ms / 2);
                        shared.gatherer.common(shared.bench.context(), None).await?;
                        // The window before may have closed without this node's own outer step.
                        shared.gatherer.checkpoint(state.checkpoint(), None).await?;
                        let gathered = shared
                            .gatherer
                            .evidence(&shared.bench, &contributions, &plan.replay, within(patience))
                            .await?;
                        let (window, seed) = (plan.window, plan.seed);
                        shared.gatherer.sync_evidence(&contributions).await?;
                        // What does not come in time is challenged, and replayed in a later window.
                        let until = within(Duration::from_millis(judge_ms / 4));
                        for checkpoint in plan.late.iter().map(|task| task.checkpoint).collect::<BTreeSet<_>>() {
                            shared.gatherer.checkpoint(checkpoint, until).await?;
                        }
                        let replayed: Vec<PublicKey> = late.iter().map(|signed| signed.payload().miner).collect();
                        shared.gatherer.evidence(&shared.bench, &late, &replayed, until).await?;
                        let bench = shared.bench;
                        let (entries, verdicts) = compute(move || {
                            let entries = bench.judge(&state, &plan, &contributions, !gathered)?;
                            Ok::<_, WorkError>((entries, bench.judge_late(&plan, true)?))
                        })
                        .await?;
                        Ok(Done::Judged { seed, window, entries, verdicts })
                    },
                );
            }
            Output::Confirm { window, subject, task, .. } if validates => {
                let miner = subject.miner;
                let Some(signed) = self.signed_of([&*task]).pop() else { return };
                let judge_ms = self.replica.context.genesis.deadlines.judge_ms;
                let name = format!(
                    "confirming {} of window {} in window {window} for seed {}",
                    miner.short(),
                    subject.window,
                    subject.seed.short()
                );
                self.spawn(name, |shared| async move {
                    let until = within(Duration::from_millis(judge_ms / 4));
                    let one = std::slice::from_ref(&signed);
                    shared.gatherer.checkpoint(task.checkpoint, until).await?;
                    let gathered = shared.gatherer.evidence(&shared.bench, one, &[miner], until).await?;
                    let bench = shared.bench;
                    let (replay, witnesses) = compute(move || bench.confirm(&task, !gathered)).await?;
                    Ok(Done::Confirmed { window, subject, replay, witnesses })
                });
            }
            Output::Apply { window, outcomes, .. } if validates => {
                let (state, contributions) = self.judged();
                self.spawn(format!("applying window {window}"), |shared| async move {
                    shared.gatherer.deltas(&outcomes, &contributions).await?;
                    shared.gatherer.sync_evidence(&contributions).await?;
                    let (bench, gatherer) = (shared.bench, shared.gatherer);
                    let from = state.checkpoint();
                    let (applied, outcomes) = compute(move || {
                        let applied = bench.apply(from, window, &outcomes, &contributions);
                        applied.map(|applied| (applied, outcomes))
                    })
                    .await?;
                    gatherer.sync_checkpoint(&applied).await?;
                    Ok(Done::Applied { window, outcomes, applied: Box::new(applied) })
                });
            }
            Output::Timer { window, phase, after_ms } if validates => {
                let gatherer = self.shared.gatherer.clone();
                self.spawn(format!("{phase:?} deadline of window {window}"), |shared| async move {
                    let time = Duration::from_millis(after_ms);
                    while let Some(late) = gatherer.stood_still(time).await {
                        let message = format!(
                            "this process stood still for {} s, in which nobody could reach it; the time of the phase \
                             begins again",
                            late.as_secs()
                        );
                        let _ = shared.events.send(Event::Warning { message }).await;
                    }
                    Ok(Done::Deadline { window, phase })
                });
            }
            _ => {}
        }
    }

    /// The state before the open window, and the contributions of its cut in order.
    fn judged(&self) -> (RunState, Vec<Signed<Contribution>>) {
        let node = self.replica.node();
        let cut = node.judging().map(|judging| judging.cut().contributions.clone()).unwrap_or_default();
        let contributions = cut.iter().filter_map(|entry| node.contribution(&entry.contribution)).cloned().collect();
        (node.state().clone(), contributions)
    }

    /// The signed contributions of these tasks, of the open window or of closed ones.
    fn signed_of<'a>(&self, tasks: impl IntoIterator<Item = &'a ReplayTask>) -> Vec<Signed<Contribution>> {
        let node = self.replica.node();
        let find = |task: &ReplayTask| {
            if let Some(open) = node.contribution(&task.id) {
                return Some(open.clone());
            }
            let closed = node.closed().get(usize::try_from(task.window.0).ok()?)?;
            closed.contributions.iter().find(|signed| signed.id() == task.id.hash()).cloned()
        };
        tasks.into_iter().filter_map(find).collect()
    }

    fn start_training(&mut self) {
        // The model of the open window is on its way.
        if self.under_way.contains("following") || !self.is_current() {
            return;
        }
        let node = self.replica.node().clone();
        let state = node.state().clone();
        let Some(me) = node.contributor() else { return };
        let conduct = self.config.conduct;
        let steps = self.replica.context.genesis.inner.steps;
        let policy = self.replica.policy();
        self.spawn(format!("{TRAINING}{}", state.window()), |shared| async move {
            shared.gatherer.common(shared.bench.context(), None).await?;
            shared.gatherer.checkpoint(state.checkpoint(), None).await?;
            let gate = move |blobs: Vec<Hash>| policy.gate(blobs);
            let mut watch = Reporting::new(state.window().0, &shared);
            let signer_of = |id: ContributionId| {
                let mut closed = node.closed().iter().rev().flat_map(|closed| &closed.contributions);
                closed.find(|signed| signed.id() == id.hash()).map(Signed::signer)
            };
            let last = state.parent(&me).map(|parent| (*parent, signer_of(parent.contribution)));
            let bench = shared.bench.clone();
            let recovered = compute(move || bench.recover_state(&node, &me)).await;
            let mut begins_anew = false;
            let message = match (recovered, last) {
                (Ok(0), _) => None,
                (Ok(replayed), _) => {
                    Some(format!("this node had lost its state and found it again; contributions replayed: {replayed}"))
                }
                // The node key that trained before may still be there and serve it: an owner has moved here.
                (Err(error), Some((parent, signer))) if error.missing().is_some() => {
                    let signer = signer.unwrap_or(me);
                    begins_anew = !shared
                        .gatherer
                        .state(&shared.bench, parent.state_out, &signer, within(STATE_PATIENCE))
                        .await?;
                    begins_anew.then(|| {
                        "what this miner's last contribution left is not to be had; it begins anew, from zero"
                            .to_owned()
                    })
                }
                (Err(error), _) => return Err(error),
            };
            if let Some(message) = message {
                let _ = shared.events.send(Event::Warning { message }).await;
            }
            let origin = if begins_anew { Origin::Zero } else { Origin::Recorded };
            let effort = Effort { steps, origin, conduct };
            let bench = shared.bench.clone();
            let train = move || bench.train(&state, me, effort, &mut watch, &gate);
            let contribution = compute(train).await?;
            shared.gatherer.sync_contribution(&contribution).await?;
            Ok(Done::Trained(contribution))
        });
    }

    /// Where validators look in vain for what it takes to replay this miner's contributions, says so, and sees to it that what is
    /// challenged is among the blobs that are served.
    pub(super) async fn answer_challenges(&mut self) {
        if self.config.role != Role::Miner {
            return;
        }
        let (node, own) = {
            let node = self.replica.node();
            let me = node.contributor();
            let is_news = |challenge: &Challenge| {
                Some(challenge.miner) == me && !self.challenged.contains(&challenge.contribution)
            };
            let challenges = node.state().challenges().into_iter();
            let own: Vec<_> = challenges.filter(|(challenge, _)| is_news(challenge)).collect();
            if own.is_empty() {
                return;
            }
            (node.clone(), own)
        };
        for (challenge, due) in own {
            self.challenged.insert(challenge.contribution);
            let Some(task) = node.state().late_task(challenge.window, &challenge.miner) else { continue };
            let message = format!(
                "validators find nowhere what it takes to replay this miner's contribution to window {}; if they do not when \
                 window {due} closes, what has not vested is burnt",
                challenge.window
            );
            self.emit(Event::Warning { message }).await;
            let node = node.clone();
            self.spawn(format!("answering a challenge of window {}", challenge.window), |shared| async move {
                let bench = shared.bench.clone();
                let window = challenge.window;
                match compute(move || bench.recover_challenged(&node, &task)).await {
                    Ok(replayed) => Ok(Done::Answered { window, replayed: Some(replayed) }),
                    Err(error) if error.missing().is_some() => Ok(Done::Answered { window, replayed: None }),
                    Err(error) => Err(error),
                }
            });
        }
    }

    /// Whether this node has the model of the open window, as far as following brings it.
    pub(super) fn is_current(&self) -> bool {
        let node = self.replica.node();
        self.followed == node.closed().len()
    }

    /// Nodes that do not judge bring the model of the last closed window up to date, and seeders all evidence.
    pub(super) fn follow(&mut self) {
        let behind = self.followed < self.replica.node().closed().len();
        let follows = matches!(self.config.role, Role::Miner | Role::Seeder);
        // After a failure it is tried again with everything else.
        if !behind || self.under_way.contains("following") || self.under_way.contains("retry") {
            return;
        }
        if !follows {
            self.followed = self.replica.node().closed().len();
            return;
        }
        let closed = self.replica.node().closed()[self.followed..].to_vec();
        let seeds = self.config.role == Role::Seeder;
        self.spawn("following".to_owned(), |shared| async move {
            shared.gatherer.common(shared.bench.context(), None).await?;
            if seeds {
                for window in &closed {
                    let until = within(SEEDING_PATIENCE);
                    shared.gatherer.evidence(&shared.bench, &window.contributions, &[], until).await?;
                }
            }
            shared.gatherer.model(&shared.bench, &closed).await?;
            Ok(Done::Followed(closed.len()))
        });
    }
}

//! A validator with Malachite beside it, for the open window: every entry that it takes in goes to both.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use templar_manifest::{Hash, PublicKey, VoteOn, payload};
use templar_protocol::{Node, Output, Phase, RunState, Stepped};

use crate::application::Application;
use crate::counts::Counts;
use crate::said::{Library, Said};
use crate::twin::Twin;

const DECISIONS: [VoteOn; 3] = [VoteOn::Cut, VoteOn::Reveals, VoteOn::Window];

/// What one validator and Malachite make of the same journal.
#[derive(Clone)]
pub(crate) struct Beside {
    me: PublicKey,
    library: Rc<Library>,
    application: Application,
    twins: [Twin; 3],
}

impl Beside {
    pub(crate) fn new(me: PublicKey, state: Arc<RunState>, library: Rc<Library>) -> Self {
        let twins = DECISIONS.map(|on| Twin::new(on, me, &state));
        Self { me, application: Application::new(state, library.clone()), library, twins }
    }

    fn twin(&mut self, on: VoteOn) -> &mut Twin {
        &mut self.twins[on as usize]
    }

    pub(crate) fn deadline(&mut self, phase: Phase) {
        match phase {
            Phase::Vote { on, attempt, wait } => self.twin(on).deadline(attempt, wait),
            phase => self.application.deadline(phase),
        }
    }

    pub(crate) fn applied(&mut self, stepped: Stepped) {
        self.application.applied(stepped);
    }

    /// Takes in the events of one input of the validator.
    pub(crate) fn take(&mut self, outputs: &[Output], counts: &mut Counts) -> Result<(), String> {
        // A contradiction is reported before the vote that makes it.
        let accepted = outputs.iter().filter_map(|output| match output {
            Output::Accepted { entry, .. } => Some(entry),
            _ => None,
        });
        accepted.for_each(|entry| drop(self.library.read(entry)));
        for output in outputs {
            match output {
                Output::Accepted { entry, .. } => {
                    let said = self.library.read(entry);
                    let Said::Vote(voter, vote) = &*said else {
                        self.application.take(&said);
                        continue;
                    };
                    if *voter == self.me {
                        if vote.on == VoteOn::Reveals {
                            self.application.votes_on_the_set();
                        }
                        let twin = self.twin(vote.on);
                        twin.cast(vote, counts).map_err(|why| twin.difference(&why))?;
                    } else {
                        self.twin(vote.on).take(*voter, vote)?;
                    }
                }
                Output::Equivocation { kind: "vote", signer, second, .. } => {
                    let vote = self.library.vote(second).ok_or("a contradicting vote was never taken in")?;
                    self.twin(vote.on).report(*signer);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells Malachite everything that follows from what the validator has taken in.
    pub(crate) fn settle(&mut self, counts: &mut Counts) -> Result<(), String> {
        for on in [VoteOn::Cut, VoteOn::Reveals] {
            if let Some((_, value)) = self.twins[on as usize].tallied() {
                self.application.decided(on, &value);
            }
        }
        for twin in &mut self.twins {
            twin.settle(&self.application, counts).map_err(|why| twin.difference(&why))?;
            counts.latest_attempt = counts.latest_attempt.max(twin.round().unwrap_or(0));
        }
        Ok(())
    }

    /// After an input and all that follows from it at once: both have voted the same, wait for the same, and know the
    /// same cut and seed.
    pub(crate) fn rest(&self, node: &Node, waits: &BTreeSet<Phase>, counts: &mut Counts) -> Result<(), String> {
        counts.inputs += 1;
        for twin in &self.twins {
            twin.rest(waits, counts).map_err(|why| twin.difference(&why))?;
        }
        let (certified, seed) = (self.application.certified(), self.application.seed());
        if certified != node.cut().map(|(id, _)| id.hash()) || seed != node.seed() {
            return Err("the certified cut or the seed differs".to_owned());
        }
        Ok(())
    }

    /// The contradicting votes that both have found.
    pub(crate) fn compare_contradictions(&self, counts: &mut Counts) -> Result<(), String> {
        self.twins.iter().try_for_each(|twin| twin.compare_contradictions(counts).map_err(|why| twin.difference(&why)))
    }

    /// The window of this is closed: its three decisions are those of Malachite.
    pub(crate) fn closed(&self, node: &Node, counts: &mut Counts) -> Result<(), String> {
        let closed = node.closed().last().ok_or("no window is closed")?;
        let decided: [(u32, Hash); 3] = [
            (closed.cut_certificate.attempt, closed.window.body.cut.hash()),
            (closed.reveals_certificate.attempt, payload::id_of(&closed.reveal_set())),
            (closed.record_certificate.attempt, closed.record.hash()),
        ];
        for (twin, decided) in self.twins.iter().zip(decided) {
            let (attempt, value) = twin.decided().ok_or("the window is closed, and Malachite has not decided")?;
            if value != decided.1 || attempt < decided.0 {
                return Err(format!("the validator has decided {decided:?}, Malachite {value} in {attempt}"));
            }
            if attempt > decided.0 {
                counts.explain("a decision that was certified in an earlier attempt as well");
            }
            counts.decisions += 1;
            counts.decisions_after_the_first_attempt += u64::from(attempt > 0);
        }
        self.compare_contradictions(counts)
    }
}

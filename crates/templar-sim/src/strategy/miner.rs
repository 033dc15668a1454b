//! What miners send.

use templar_manifest::{Contribution, Hash, PublicKey, Refusal, Replay};
use templar_protocol::RunState;

use super::{Foresight, Strategy, plants_in};
use crate::start::STEPS;
use crate::worth::{Truth, Worth};

/// Who is sent a statement at first; those who accept it pass it on as they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The miner's own node, which gives it to its peers.
    All,
    /// Every other node, one by one.
    Half,
}

/// A contribution, and what is true of it.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) contribution: Contribution,
    pub(crate) truth: Truth,
    pub(crate) audience: Audience,
}

/// What a miner knows when it sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinerView<'a> {
    pub(crate) state: &'a RunState,
    pub(crate) me: PublicKey,
    /// Another's contribution to the open window.
    pub(crate) heard: Option<&'a Contribution>,
    /// All that it knows of the seed.
    pub(crate) foresight: Foresight<'a>,
}

fn mismatch(step: u32) -> Replay {
    let tensor = "model.layers.0.self_attn.q_proj.weight".to_owned();
    Replay::Refused(Refusal::Mismatch { step, tensor })
}

fn malformed(error: &str) -> Replay {
    Replay::Refused(Refusal::Malformed { error: error.to_owned() })
}

/// A delta without its header, where nobody else has made the same.
fn body(contribution: &Contribution) -> Hash {
    Hash::of(contribution.delta.hash().as_bytes())
}

impl MinerView<'_> {
    /// The contribution of a miner that takes `steps` steps from its recorded state. `nonce` tells computations apart.
    fn contribution(&self, steps: u32, nonce: &str) -> Contribution {
        let (state, window) = (self.state, self.state.window());
        let name = |what: &str| Hash::of(format!("{what} {} {window} {} {nonce}", state.run(), self.me).as_bytes());
        let parent = state.parent(&self.me);
        let context = state.genesis().context_at(window.0);
        Contribution {
            run: state.run(),
            window,
            miner: self.me,
            parent: parent.map(|parent| parent.contribution),
            state_in: parent.map_or(state.zero_state(), |parent| parent.state_out),
            state_out: name("state").into(),
            delta: name("delta").into(),
            delta_bytes: 1000,
            trace: name("trace").into(),
            trace_bytes: 1000,
            steps,
            tokens: u64::from(steps) * u64::from(context.batch_sequences) * u64::from(context.sequence_length),
            loss_nanonats: 5_000_000_000,
        }
    }

    fn statement(&self, steps: u32, nonce: &str, worth: Worth, replay: Replay) -> Statement {
        let contribution = self.contribution(steps, nonce);
        let opens = !matches!(replay, Replay::Refused(Refusal::Malformed { .. }));
        let body = opens.then(|| body(&contribution));
        Statement { contribution, truth: Truth { worth, replay, served: true, body }, audience: Audience::All }
    }

    fn honest(&self, steps: u32) -> Statement {
        self.statement(steps, "honest", Worth::honest(steps), Replay::Match)
    }
}

/// The same statements of deltas that are told apart from others by their header alone.
fn same_body(mut statements: Vec<Statement>, body: Hash) -> Vec<Statement> {
    statements.iter_mut().for_each(|statement| statement.truth.body = Some(body));
    statements
}

/// What a miner sends for the open window; nothing where it has nothing to send. Without a strategy it is honest.
pub(crate) fn statements(strategy: Option<Strategy>, view: MinerView<'_>) -> Vec<Statement> {
    let Some(strategy) = strategy else { return vec![view.honest(STEPS)] };
    let own = Worth::honest(STEPS);
    let forged = |worth, replay| vec![view.statement(STEPS, strategy.name(), worth, replay)];
    match strategy {
        Strategy::Zeros => same_body(forged(Worth::NOTHING, mismatch(1)), Hash::of(b"zeros")),
        Strategy::Noise => forged(Worth::NOISE, mismatch(1)),
        // The header inside names the window that it was made for; under a new header it is a delta of no training.
        Strategy::Stale => {
            let first = Hash::of(format!("first delta of {}", view.me).as_bytes());
            let is_first = view.state.window().0 == 0;
            same_body(if is_first { vec![view.honest(STEPS)] } else { forged(Worth::STALE, mismatch(1)) }, first)
        }
        Strategy::CopyHash => {
            let Some(other) = view.heard else { return Vec::new() };
            let mut statement = view.statement(
                STEPS,
                strategy.name(),
                Worth::COPIED,
                malformed("delta names another miner than its contribution"),
            );
            let claimed = &mut statement.contribution;
            (claimed.delta, claimed.trace, claimed.state_out) = (other.delta, other.trace, other.state_out);
            vec![statement]
        }
        // Changed enough that its body is nobody else's.
        Strategy::CopyPerturbed if view.heard.is_some() => forged(Worth::COPIED, mismatch(1)),
        Strategy::CopyAfterCut => match view.heard {
            Some(other) => same_body(forged(Worth::COPIED, mismatch(1)), body(other)),
            None => Vec::new(),
        },
        Strategy::Late | Strategy::KeepState | Strategy::Enrol | Strategy::EnrolFree => vec![view.honest(STEPS)],
        Strategy::WithholdState if view.state.parent(&view.me).is_none() => vec![view.honest(STEPS)],
        Strategy::WithholdState => forged(Worth::COPIED, mismatch(1)),
        Strategy::Withhold => {
            let mut statement = view.honest(STEPS);
            statement.truth.served = false;
            vec![statement]
        }
        Strategy::WrongBase => forged(Worth::STALE, mismatch(0)),
        Strategy::WrongPages => forged(Worth::COPIED, mismatch(1)),
        Strategy::FewerSteps => forged(Worth::honest(STEPS / 2), mismatch(STEPS / 2 + 1)),
        Strategy::TooManySteps => vec![view.statement(STEPS + 1, strategy.name(), own, Replay::Match)],
        Strategy::TwoContributions => {
            // Both are true: one of all steps, one of all but the last.
            let second = Statement { audience: Audience::Half, ..view.honest(STEPS - 1) };
            vec![view.honest(STEPS), second]
        }
        Strategy::GrindSteps => {
            // A delta of fewer steps is another delta.
            let fewer = view.statement(STEPS - 1, strategy.name(), Worth::honest(STEPS - 1), Replay::Match);
            let mut true_ones = vec![view.honest(STEPS), fewer];
            let claims: Vec<Contribution> = true_ones.iter().map(|statement| statement.contribution.clone()).collect();
            vec![true_ones.swap_remove(view.foresight.best(view.state, &claims))]
        }
        Strategy::Nan => forged(Worth::NOTHING, malformed("tensor 0: scale is not finite")),
        Strategy::Garbage => forged(Worth::NOTHING, malformed("not a delta of this version")),
        Strategy::Scale => forged(Worth::SCALED, mismatch(STEPS + 1)),
        Strategy::SignFlip => forged(Worth::FLIPPED, mismatch(STEPS + 1)),
        Strategy::Poison => forged(Worth::POISONED, mismatch(1)),
        Strategy::Plant if plants_in(&view.state.genesis().initial, view.state.window()) => {
            forged(Worth::POISONED, mismatch(1))
        }
        Strategy::Plant => vec![view.honest(STEPS)],
        Strategy::BadState => forged(own, mismatch(STEPS + 1)),
        Strategy::FalseParent => {
            let mut statement = view.honest(STEPS);
            statement.contribution.state_in = Hash::of(b"no state").into();
            vec![statement]
        }
        Strategy::Sybil => vec![view.honest(STEPS / 10)],
        Strategy::HalfSteps => vec![view.honest(STEPS / 2)],
        _ => Vec::new(),
    }
}

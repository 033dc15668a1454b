//! The contributions that miners send, honest or not.

use templar_manifest::{Contribution, Hash, PublicKey, Refusal, Replay};
use templar_protocol::RunState;

use super::{Foresight, Strategy, plants_in};
use crate::loss_model::{DeltaGain, Truth};
use crate::settings::STEPS;

/// The nodes that first get a contribution. Nodes that accept it pass it on to their peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The miner's own node, from which its peers pull it.
    All,
    /// Every second node, each directly.
    Half,
}

/// A contribution to send, and the truth about it.
#[derive(Debug, Clone)]
pub(crate) struct SentContribution {
    pub(crate) contribution: Contribution,
    pub(crate) truth: Truth,
    pub(crate) audience: Audience,
}

/// The knowledge of a miner that makes a contribution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MinerView<'a> {
    pub(crate) state: &'a RunState,
    pub(crate) me: PublicKey,
    /// Another miner's contribution to the open window, if one was heard.
    pub(crate) heard: Option<&'a Contribution>,
    /// Its knowledge of the window's seed.
    pub(crate) foresight: Foresight<'a>,
}

fn mismatch(step: u32) -> Replay {
    let tensor = "model.layers.0.self_attn.q_proj.weight".to_owned();
    Replay::Refused(Refusal::Mismatch { step, tensor })
}

fn malformed(error: &str) -> Replay {
    Replay::Refused(Refusal::Malformed { error: error.to_owned() })
}

/// The name of a delta's body, where no other delta has the same body.
fn body(contribution: &Contribution) -> Hash {
    Hash::of(contribution.delta.hash().as_bytes())
}

impl MinerView<'_> {
    /// A contribution that claims `steps` steps from the miner's recorded state. `nonce` gives different deltas
    /// different names.
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

    /// A contribution with its gain, and with what a replay of it finds.
    fn sent(&self, steps: u32, nonce: &str, gain: DeltaGain, replay: Replay) -> SentContribution {
        let contribution = self.contribution(steps, nonce);
        let opens = !matches!(replay, Replay::Refused(Refusal::Malformed { .. }));
        let body = opens.then(|| body(&contribution));
        SentContribution { contribution, truth: Truth { gain, replay, served: true, body }, audience: Audience::All }
    }

    fn honest(&self, steps: u32) -> SentContribution {
        self.sent(steps, "honest", DeltaGain::honest(steps), Replay::Match)
    }
}

/// The same contributions with this body, for deltas that differ from others in their headers alone.
fn same_body(mut all: Vec<SentContribution>, body: Hash) -> Vec<SentContribution> {
    all.iter_mut().for_each(|sent| sent.truth.body = Some(body));
    all
}

/// The contributions that a miner with this strategy sends for the open window, which may be none. Without a
/// strategy it is honest.
pub(crate) fn contributions(strategy: Option<Strategy>, view: MinerView<'_>) -> Vec<SentContribution> {
    let Some(strategy) = strategy else { return vec![view.honest(STEPS)] };
    let own = DeltaGain::honest(STEPS);
    let forged = |gain, replay| vec![view.sent(STEPS, strategy.name(), gain, replay)];
    match strategy {
        Strategy::Zeros => same_body(forged(DeltaGain::NOTHING, mismatch(1)), Hash::of(b"zeros")),
        Strategy::Noise => forged(DeltaGain::NOISE, mismatch(1)),
        // The delta's header names its window, so the old delta is sent under a new header, and no training gives it.
        Strategy::Stale => {
            let first = Hash::of(format!("first delta of {}", view.me).as_bytes());
            let is_first = view.state.window().0 == 0;
            same_body(if is_first { vec![view.honest(STEPS)] } else { forged(DeltaGain::STALE, mismatch(1)) }, first)
        }
        Strategy::CopyHash => {
            let Some(other) = view.heard else { return Vec::new() };
            let mut sent = view.sent(
                STEPS,
                strategy.name(),
                DeltaGain::COPIED,
                malformed("delta names another miner than its contribution"),
            );
            let claimed = &mut sent.contribution;
            (claimed.delta, claimed.trace, claimed.state_out) = (other.delta, other.trace, other.state_out);
            vec![sent]
        }
        // It is changed enough to have a body of its own.
        Strategy::CopyPerturbed if view.heard.is_some() => forged(DeltaGain::COPIED, mismatch(1)),
        Strategy::CopyAfterCut => match view.heard {
            Some(other) => same_body(forged(DeltaGain::COPIED, mismatch(1)), body(other)),
            None => Vec::new(),
        },
        Strategy::Late | Strategy::KeepState | Strategy::Enrol | Strategy::EnrolFree => vec![view.honest(STEPS)],
        Strategy::WithholdState if view.state.parent(&view.me).is_none() => vec![view.honest(STEPS)],
        Strategy::WithholdState => forged(DeltaGain::COPIED, mismatch(1)),
        Strategy::Withhold => {
            let mut sent = view.honest(STEPS);
            sent.truth.served = false;
            vec![sent]
        }
        Strategy::WrongBase => forged(DeltaGain::STALE, mismatch(0)),
        Strategy::WrongPages => forged(DeltaGain::COPIED, mismatch(1)),
        Strategy::FewerSteps => forged(DeltaGain::honest(STEPS / 2), mismatch(STEPS / 2 + 1)),
        Strategy::TooManySteps => vec![view.sent(STEPS + 1, strategy.name(), own, Replay::Match)],
        Strategy::TwoContributions => {
            // Both are true: one of all steps, and one of all steps but the last.
            let second = SentContribution { audience: Audience::Half, ..view.honest(STEPS - 1) };
            vec![view.honest(STEPS), second]
        }
        Strategy::GrindSteps => {
            // A delta of one step less is another delta, and gives another seed.
            let fewer = view.sent(STEPS - 1, strategy.name(), DeltaGain::honest(STEPS - 1), Replay::Match);
            let mut true_ones = vec![view.honest(STEPS), fewer];
            let claims: Vec<Contribution> = true_ones.iter().map(|sent| sent.contribution.clone()).collect();
            vec![true_ones.swap_remove(view.foresight.best(view.state, &claims))]
        }
        Strategy::Nan => forged(DeltaGain::NOTHING, malformed("tensor 0: scale is not finite")),
        Strategy::Garbage => forged(DeltaGain::NOTHING, malformed("not a delta of this version")),
        Strategy::Scale => forged(DeltaGain::SCALED, mismatch(STEPS + 1)),
        Strategy::SignFlip => forged(DeltaGain::FLIPPED, mismatch(STEPS + 1)),
        Strategy::Poison => forged(DeltaGain::POISONED, mismatch(1)),
        Strategy::Plant if plants_in(&view.state.genesis().initial, view.state.window()) => {
            forged(DeltaGain::POISONED, mismatch(1))
        }
        Strategy::Plant => vec![view.honest(STEPS)],
        Strategy::BadState => forged(own, mismatch(STEPS + 1)),
        Strategy::FalseParent => {
            let mut sent = view.honest(STEPS);
            sent.contribution.state_in = Hash::of(b"no state").into();
            vec![sent]
        }
        Strategy::Sybil => vec![view.honest(STEPS / 10)],
        Strategy::HalfSteps => vec![view.honest(STEPS / 2)],
        _ => Vec::new(),
    }
}

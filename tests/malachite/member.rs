//! Runs in miniature and their validators: no miner contributes, so a window has its three decisions and no work.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use templar_manifest::chain::Chain;
use templar_manifest::testing::{GenesisBuilder, price_slots};
use templar_manifest::{BlobId, CheckpointId, Hash, PublicKey, ReplaySpec, SecretKey, ValidatorSpec, WindowIndex};
use templar_protocol::{Input, Measured, Node, Output, Phase, Reject, RunState, Stepped, Unsigned, Verified};

use crate::beside::Beside;
use crate::counts::Counts;
use crate::said::Library;

const NAME: &str = "beside malachite";
/// No course has more windows.
pub(crate) const WINDOWS: u64 = 2;

/// Validators with their stakes, and the state before their first window.
pub(crate) struct Setting {
    pub(crate) keys: Vec<SecretKey>,
    pub(crate) stakes: Vec<u64>,
    pub(crate) start: Arc<RunState>,
    values: BTreeMap<(PublicKey, WindowIndex), Hash>,
    /// The owner of a slot that never contributes.
    pub(crate) miner: PublicKey,
}

impl Setting {
    pub(crate) fn new(stakes: &[u64]) -> Self {
        let key = |name: String| SecretKey::from_bytes(Hash::of(name.as_bytes()).as_bytes());
        let mut keys: Vec<SecretKey> = (0..stakes.len()).map(|number| key(format!("validator {number}"))).collect();
        keys.sort_by_key(SecretKey::public);
        let miner = key("miner".to_owned()).public();
        let mut values = BTreeMap::new();
        let mut validators = Vec::new();
        for (key, stake) in keys.iter().zip(stakes) {
            let chain = Chain::insecure(key, NAME);
            validators.push(ValidatorSpec { key: key.public(), stake: *stake, chain_anchor: chain.anchor() });
            for window in (0..=WINDOWS).map(WindowIndex) {
                values.extend(chain.value(window).map(|value| ((key.public(), window), value)));
            }
        }
        let genesis = GenesisBuilder::tiny(NAME).validators(validators).members_and_cheap_slots(vec![miner]);
        let genesis = genesis.with(|genesis| {
            genesis.replay = ReplaySpec { fraction_ppm: 0, least_replays: 1, ..ReplaySpec::whole() };
            price_slots(genesis);
            if genesis.registration.burn.least < genesis.emission.registration_cost_micros {
                genesis.registration.burn.per_window = 0;
            }
        });
        let (initial, zero) = (Hash::of(b"initial").into(), Hash::of(b"zero").into());
        let start = RunState::new(Arc::new(genesis.build()), initial, zero, 1_601).expect("the genesis is valid");
        Self { keys, stakes: stakes.to_vec(), start: Arc::new(start), values, miner }
    }

    /// A validator's value of a window's chain.
    pub(crate) fn value(&self, validator: &PublicKey, window: WindowIndex) -> Hash {
        self.values[&(*validator, window)]
    }

    /// Whether a validator alone has less than a third of the stake.
    pub(crate) fn may_be_faulty(&self, place: usize) -> bool {
        3 * self.stakes[place] < self.stakes.iter().sum()
    }
}

/// The outer step of a window without deltas.
pub(crate) fn stepped(window: WindowIndex, is_right: bool) -> Stepped {
    let name = format!("checkpoint after {window}, {is_right}");
    Stepped {
        aggregate: BlobId::of(b"nothing"),
        aggregate_bytes: 7,
        checkpoint: CheckpointId::new(Hash::of(name.as_bytes())),
        held_out_loss_nanonats: 5_000_000_000,
    }
}

/// A validator, and Malachite beside it unless it is the faulty one.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) key: SecretKey,
    pub(crate) beside: Option<Beside>,
    /// What it waits for.
    pub(crate) waits: BTreeSet<Phase>,
    pub(crate) closed: u64,
    library: Rc<Library>,
}

/// What came of an input.
#[derive(Default)]
pub(crate) struct Taken {
    /// The entries that it accepted, its own among them.
    pub(crate) accepted: Vec<Verified>,
    /// Work that takes time.
    pub(crate) work: Vec<Output>,
    /// The input, if it must be offered again.
    pub(crate) again: Option<Input>,
    /// Whether the window is another one now.
    pub(crate) is_closed: bool,
}

impl Member {
    pub(crate) fn new(setting: &Setting, place: usize, is_faulty: bool, library: &Rc<Library>) -> Self {
        let key = setting.keys[place].clone();
        let beside = (!is_faulty).then(|| Beside::new(key.public(), setting.start.clone(), library.clone()));
        let node = Node::new(setting.start.clone(), Some(key.public()));
        Self { node, key, beside, waits: BTreeSet::new(), closed: 0, library: library.clone() }
    }

    /// Gives the validator an input, lets it sign what it signs at once, and compares.
    pub(crate) fn take(&mut self, input: Input, counts: &mut Counts) -> Result<Taken, String> {
        let mut taken = Taken::default();
        let mut next = Some(input);
        let mut is_own = false;
        while let Some(input) = next.take() {
            let window = self.node.state().window();
            let outputs = match self.node.take(input.clone()) {
                Ok(outputs) => outputs,
                Err(reject) if is_own && self.beside.is_some() => {
                    return Err(format!("the validator refuses what it signed itself: {reject}"));
                }
                Err(Reject::Early { .. } | Reject::TooMany { .. }) => {
                    taken.again = Some(input);
                    break;
                }
                Err(_) => break,
            };
            if let Some(beside) = &mut self.beside {
                match &input {
                    Input::Deadline { window: of, phase } if *of == window => beside.deadline(*phase),
                    Input::Measured(Measured::Applied { window: of, stepped, .. }) if *of == window => {
                        beside.applied(*stepped);
                    }
                    _ => {}
                }
                beside.take(&outputs, counts)?;
            }
            let before = taken.accepted.len();
            for output in outputs {
                match output {
                    Output::Accepted { entry, .. } => taken.accepted.push(entry),
                    Output::Closed { .. } => {
                        taken.is_closed = true;
                        self.closed += 1;
                        if let Some(beside) = &mut self.beside {
                            beside.settle(counts)?;
                            beside.closed(&self.node, counts)?;
                            *beside = Beside::new(self.key.public(), self.node.shared_state(), self.library.clone());
                        }
                    }
                    _ => {}
                }
            }
            // The faulty one may have signed so much that its node has no room for more.
            if is_own && taken.accepted.len() == before {
                break;
            }
            is_own = true;
            let document = self.node.todo().into_iter().find_map(|output| match output {
                Output::Sign(document) => Some(document),
                _ => None,
            });
            // An inbox, a score or a body that it signs at once may change what it votes for.
            if let Some(beside) = &mut self.beside
                && matches!(document, None | Some(Unsigned::Vote(_)))
            {
                beside.settle(counts)?;
            }
            let Some(document) = document else { break };
            let entry = Verified::open(document.sign(&self.key)).map_err(|error| error.to_string())?;
            next = Some(Input::Verified(entry));
        }
        self.waits.clear();
        for output in self.node.todo() {
            match output {
                Output::Timer { phase, .. } => _ = self.waits.insert(phase),
                Output::Reveal { .. } | Output::Judge(_) | Output::Apply { .. } => taken.work.push(output),
                _ => {}
            }
        }
        if let Some(beside) = &self.beside {
            beside.rest(&self.node, &self.waits, counts)?;
        }
        Ok(taken)
    }
}

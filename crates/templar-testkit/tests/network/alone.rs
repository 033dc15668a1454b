//! A run in one home and without a network, with real training. A miner's state may not match its hash, or may
//! be lost from its disk; the tests show the consequences, and that an audit finds every change of them.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use templar_blob::{BlobSource, MemoryBlobs, ReadError};
use templar_data::bundled;
use templar_home::Home;
use templar_home::configure::{self, RunPlan, configure};
use templar_home::context::RunContext;
use templar_home::replica::Replica;
use templar_manifest::chain::Chain;
use templar_manifest::{
    AuditVerdict, Contribution, Hash, PublicKey, Refusal, Replay, Signed, SlashCause, State, StateId, TensorBlob,
    ValidatorSpec, WindowIndex, payload,
};
use templar_node::executor::{Executor, StartingState, TrainRequest, TrainWatch, WorkError};
use templar_protocol::{ClosedWindow, Input, Measured, Output, ReplayTask, RunState};
use templar_train::{MinerState, StepReport};

use super::{SETTINGS, forgeries, key};

/// Verdicts come after the record.
const LATE: [&str; 5] = [
    "model.kv_heads=1",
    "replay.before_close=false",
    "replay.fraction_ppm=1000000",
    "replay.verdict_windows=2",
    "replay.challenge_windows=1",
];

/// Blobs that can be lost.
pub(super) struct Shelf(Mutex<BTreeMap<Hash, Bytes>>);

impl Shelf {
    fn put(&self, bytes: Vec<u8>) -> Hash {
        let id = Hash::of(&bytes);
        self.0.lock().unwrap().insert(id, bytes.into());
        id
    }

    fn lose(&self, id: Hash) {
        assert!(self.0.lock().unwrap().remove(&id).is_some(), "{id} was here");
    }

    /// Loses a state: its manifest and its tensors.
    fn lose_state(&self, id: StateId) {
        let state: State = payload::decode(&self.read(&id.hash(), u64::MAX).unwrap()).unwrap();
        self.lose(id.hash());
        state
            .tensors
            .iter()
            .map(|tensor| tensor.blob.hash())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .for_each(|id| self.lose(id));
    }
}

impl BlobSource for Shelf {
    fn read(&self, id: &Hash, max_bytes: u64) -> Result<Bytes, ReadError> {
        let bytes = self.0.lock().unwrap().get(id).cloned().ok_or(ReadError::NotFound { id: *id })?;
        let size = bytes.len() as u64;
        if size > max_bytes { Err(ReadError::TooLarge { id: *id, size, max_bytes }) } else { Ok(bytes) }
    }

    fn contains(&self, id: &Hash) -> bool {
        self.0.lock().unwrap().contains_key(id)
    }
}

pub(crate) struct Silent;

impl TrainWatch for Silent {
    fn step(&mut self, _report: &StepReport) {}
}

/// The only miner and the only validator of a run are the same node.
pub(super) struct Alone {
    pub(super) context: RunContext,
    pub(super) home: Home,
    pub(super) shelf: Arc<Shelf>,
    executor: Executor,
    pub(super) replica: Replica,
    pub(super) me: PublicKey,
    _dir: tempfile::TempDir,
}

pub(super) fn executor(context: &RunContext, home: &Home, shelf: &Arc<Shelf>) -> Executor {
    let keeping = shelf.clone();
    let keep = Arc::new(move |bytes| Ok(keeping.put(bytes)));
    Executor::new(context.clone(), home.clone(), shelf.clone(), keep).unwrap()
}

impl Alone {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let secret = key("validator-1");
        let me = secret.public();
        let home = Home::init(&dir.path().join("home"), &secret).unwrap();
        let chain_anchor = home.keep_chain(&Chain::insecure(&secret, "alone")).unwrap();
        let mut imported = MemoryBlobs::new();
        let dataset = bundled::import_shakespeare(&mut imported).unwrap();
        let blobs = imported.iter().map(|(id, bytes)| (*id, bytes.clone())).collect();
        let shelf = Arc::new(Shelf(Mutex::new(blobs)));
        let plan = RunPlan {
            name: "alone".to_owned(),
            dataset_id: shelf.put(payload::encode(&dataset)).into(),
            dataset: &dataset,
            validators: vec![ValidatorSpec { key: me, stake: 1, chain_anchor }],
            miners: vec![me],
            origin: configure::Origin::Drawn { size: "tiny".to_owned(), seed: Hash::of(b"seed") },
        };
        let settings: Vec<String> = SETTINGS.iter().chain(&LATE).map(ToString::to_string).collect();
        let run = shelf.put(payload::encode(&configure(&plan, &settings).unwrap())).into();
        let context = RunContext::create(&home, &*shelf, &|bytes| Ok(shelf.put(bytes)), &|_| Ok(()), run).unwrap();
        let executor = executor(&context, &home, &shelf);
        let replica = Replica::open(&home, context.clone(), secret).unwrap();
        Self { context, home, shelf, executor, replica, me, _dir: dir }
    }

    /// Plays the open window to its end, with a contribution that is changed before it is signed.
    pub(super) fn window(&mut self, from: StartingState, change: impl Fn(&RunState, &mut Contribution)) {
        let closed = self.replica.node().closed().len();
        for _ in 0..40 {
            let node = self.replica.node().clone();
            if node.closed().len() > closed {
                return;
            }
            let state = node.state();
            let contributions: Vec<Signed<Contribution>> = node.contributions().cloned().collect();
            let todo = node.todo().into_iter().find(|output| !matches!(output, Output::Timer { .. }));
            match todo.expect("something to do") {
                Output::Train { .. } => {
                    let request = TrainRequest { from, ..TrainRequest::honest(state, self.me, 3) };
                    let mut trained = self.executor.train(request, &mut Silent, &|_| {}).unwrap();
                    change(state, &mut trained);
                    self.replica.contribute(trained).unwrap();
                }
                Output::Sign(document) => drop(self.replica.sign(document).unwrap()),
                Output::Reveal { .. } => drop(self.replica.reveal().unwrap()),
                Output::Judge(plan) => {
                    let entries = self.executor.judge(state, &plan, &contributions, false).unwrap();
                    let verdicts = self.executor.judge_late(&plan, true).unwrap();
                    let measured = Measured::Judged {
                        window: plan.window,
                        seed: plan.seed,
                        entries,
                        verdicts,
                        contests: Vec::new(),
                    };
                    self.replica.submit(Input::Measured(measured)).unwrap();
                }
                Output::Apply { window, outcomes, .. } => {
                    let applied = self.executor.apply(state.checkpoint(), window, &outcomes, &contributions).unwrap();
                    let measured = Measured::Applied { window, outcomes, stepped: applied.stepped };
                    self.replica.submit(Input::Measured(measured)).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("the window does not close");
    }

    fn closed(&self) -> Vec<ClosedWindow> {
        self.replica.node().closed().to_vec()
    }

    /// Whether a replay of the contribution to a window has all that it reads of its miner.
    fn can_replay(&self, window: usize) -> bool {
        let closed = self.closed();
        self.executor.inputs().unwrap().can_replay(closed[window].contributions[0].payload()).unwrap()
    }

    /// Plays four windows of a cheat that names `made_up` as the state that it left, and continues from there.
    /// Then it is found out, and starts again from the zero state.
    fn cheat(&mut self, made_up: StateId) {
        self.window(StartingState::Recorded, |_, claimed| claimed.state_out = made_up);
        let me = self.me;
        self.window(StartingState::Zero, |state, claimed| {
            let parent = state.parent(&me).unwrap();
            (claimed.parent, claimed.state_in) = (Some(parent.contribution), parent.state_out);
            assert_eq!(parent.state_out, made_up);
        });
        self.window(StartingState::Recorded, |_, claimed| assert_eq!(claimed.parent, None));
        self.window(StartingState::Recorded, |_, _| {});
    }
}

/// Blobs that somebody may name as its state, none of which is one.
fn made_up(alone: &Alone) -> Vec<(&'static str, StateId)> {
    let (recipe, shelf) = (&alone.context.recipe, &alone.shelf);
    let mut state = MinerState::zero(recipe.parameter_count());
    state.optimizer_steps = 3;
    let keep = |bytes| {
        shelf.put(bytes);
        Ok::<_, Infallible>(())
    };
    let sound = state.write(recipe.run, &recipe.tensors, keep).unwrap();
    let inputs = alone.executor.inputs().unwrap();
    let put = |state: &State| StateId::from(shelf.put(payload::encode(state)));
    assert_eq!(inputs.state(&put(&sound)).unwrap(), state);
    let with = |change: &dyn Fn(&mut State)| {
        let mut changed = sound.clone();
        change(&mut changed);
        put(&changed)
    };
    let last = |state: &mut State, bytes: usize| {
        let tensor: &mut TensorBlob = state.tensors.last_mut().unwrap();
        tensor.blob = shelf.put(vec![0; bytes]).into();
    };
    let length = 12 * sound.tensors.last().unwrap().spec.elements();
    vec![
        ("bytes that are no manifest", shelf.put(b"no manifest".to_vec()).into()),
        ("a manifest of another kind", alone.context.first_checkpoint().hash().into()),
        ("too few tensors", with(&|state| drop(state.tensors.pop()))),
        ("a tensor of another shape", with(&|state| state.tensors[0].spec.shape.reverse())),
        ("a tensor that is too short", with(&|state| last(state, length - 12))),
        ("a tensor that is too long", with(&|state| last(state, length + 12))),
        ("more steps than a run can have", with(&|state| state.optimizer_steps = u64::MAX)),
    ]
}

/// A hash that no state has names a state that nobody has. The drawn validators report it as withheld, before
/// the record or after it, and the run continues.
#[test]
fn a_state_that_is_none_is_withheld_and_stops_nobody() {
    let kinds = made_up(&Alone::new()).len();
    for kind in 0..kinds {
        let mut alone = Alone::new();
        let (what, id) = made_up(&alone)[kind];
        alone.cheat(id);
        let closed = alone.closed();
        let withheld = Replay::Refused(Refusal::Withheld);
        let said = |window: usize| {
            let verdicts = &closed[window].scores[0].payload().verdicts;
            verdicts.iter().map(|said| (said.window.0, said.replay.clone())).collect::<Vec<_>>()
        };
        assert_eq!(said(2), [(1, withheld.clone())], "{what}");
        let slashed = |window: usize| {
            closed[window].window.body.slashes.iter().map(|slash| (slash.cause, slash.window.0)).collect::<Vec<_>>()
        };
        let challenged: Vec<u64> = closed[2].window.body.challenges.iter().map(|listed| listed.window.0).collect();
        assert_eq!((slashed(1), challenged), (vec![(SlashCause::Mismatch, 0)], vec![1]), "{what}");
        assert_eq!((slashed(2), slashed(3)), (vec![], vec![(SlashCause::Unanswered, 1)]), "{what}");
        assert!(!alone.can_replay(1), "{what}");

        // The same contribution, as a validator would judge it that has to replay it before the record.
        let node = alone.replica.node().clone();
        let before = node.state_at(WindowIndex(1)).unwrap();
        let mut plan = before.judge_plan(&before.judging_of(&closed[1]).unwrap(), &alone.me).unwrap();
        plan.replay.push(alone.me);
        let entries = alone.executor.judge(&before, &plan, &closed[1].contributions, true).unwrap();
        assert_eq!((&entries[0].replay, &entries[0].proof), (&withheld, &None), "{what}");
        let early = alone.executor.judge(&before, &plan, &closed[1].contributions, false);
        assert!(early.is_err_and(|error| error.missing().is_some()), "{what}");
    }
}

/// A miner whose contribution is challenged serves the state before it once it has answered, wherever the state
/// comes from.
#[test]
fn a_challenged_state_that_is_lost_is_derived_again_and_served() {
    let mut alone = Alone::new();
    for _ in 0..3 {
        alone.window(StartingState::Recorded, |_, _| {});
    }
    let node = alone.replica.node().clone();
    let challenged = |window: u64| -> ReplayTask { node.state().late_task(WindowIndex(window), &alone.me).unwrap() };
    let lose = |window: u64| alone.shelf.lose_state(challenged(window).contribution.state_in);
    let answer = |executor: &Executor, window: u64| executor.recover_challenged(&node, &challenged(window));
    let cold = || executor(&alone.context, &alone.home, &alone.shelf);
    // Zero state is nobody's to serve.
    assert_eq!(answer(&cold(), 0).unwrap(), 0);

    // It replayed the window before, and has the state in memory alone.
    lose(2);
    assert!(!alone.can_replay(2));
    assert_eq!(answer(&alone.executor, 2).unwrap(), 0);
    assert!(alone.can_replay(2));

    // It was started again: the contribution before leads to it, from the state before that.
    lose(2);
    assert_eq!(answer(&cold(), 2).unwrap(), 1);
    assert!(alone.can_replay(2));

    // That is lost as well, so it takes all that there was; only what is challenged is kept.
    lose(2);
    lose(1);
    assert_eq!(answer(&cold(), 2).unwrap(), 2);
    assert!(alone.can_replay(2) && !alone.can_replay(1));
    assert_eq!(answer(&cold(), 1).unwrap(), 1);
    assert!(alone.can_replay(1));

    // Without the states that lead to it, it is lost, and the miner says so.
    lose(2);
    lose(1);
    alone.shelf.lose(node.closed()[0].contributions[0].payload().trace.hash());
    let gone = answer(&cold(), 2);
    assert!(gone.as_ref().is_err_and(|error: &WorkError| error.missing().is_some()), "{gone:?}");
    assert!(!alone.can_replay(2));
}

/// The challenges in a record, and the unanswered ones, follow from the scores, so an audit finds each change.
#[test]
fn an_audit_finds_every_change_of_a_challenge() {
    let mut alone = Alone::new();
    let id = made_up(&alone)[0].1;
    alone.cheat(id);
    let closed = alone.closed();
    for found in forgeries::audit(&alone.context, &closed, &*alone.shelf).unwrap() {
        assert_eq!(found.audit.record_verdict, AuditVerdict::Match);
        assert_eq!(found.audit.ledger_verdict, AuditVerdict::Match);
    }
    forgeries::one_changed_challenge(&alone.context, &closed, &*alone.shelf);
}

//! A long run that nobody trained: a home with as many closed windows as asked for, in seconds.
//!
//! The rules are those of every run: one validator takes every contribution through the protocol's node, scores it and
//! closes the window. Only the tensors behind the hashes do not exist, so the objects of the windows have no bytes.
//! Benchmarks of long histories and tests of what a home does with them use it.

use std::error::Error;
use std::path::Path;

use templar_data::bundled;
use templar_home::Home;
use templar_home::access::{Access, AccessSink};
use templar_home::configure::{Origin, RunPlan, configure};
use templar_home::context::RunContext;
use templar_home::journal::Journal;
use templar_manifest::chain::Chain;
use templar_manifest::proof::witness;
use templar_manifest::{
    Contribution, Evaluation, Hash, PublicKey, Replay, ReplayProof, RunId, ScoreEntry, SecretKey, Signed,
    ValidatorSpec, WindowIndex, payload,
};
use templar_protocol::{Entry, Input, JudgePlan, Measured, Node, Output, RevealEntry, RunState, Stepped};

const NAME: &str = "a long run";

/// The bytes that each delta claims to have.
const DELTA_BYTES: u64 = 1_500;

/// A run that is played without training. Its home is that of the only validator.
#[derive(Debug)]
pub struct LongRun {
    /// The run.
    pub context: RunContext,
    validator: SecretKey,
    miners: Vec<SecretKey>,
    values: Vec<Hash>,
    node: Node,
}

impl LongRun {
    /// Makes a home in `folder` with a run of so many windows and miners, of which none is closed.
    ///
    /// # Errors
    /// The folder cannot be written, or the run cannot be made.
    pub fn begin(folder: &Path, windows: u64, miners: u32) -> Result<Self, Box<dyn Error>> {
        let validator = key("key 0");
        let miners: Vec<SecretKey> = (1..=miners).map(|number| key(&format!("key {number}"))).collect();
        let context = set_up(folder, &validator, &miners, windows)?;
        let values = Chain::insecure(&validator, NAME).values(windows);
        let node = Node::new(context.first_state()?, Some(validator.public()));
        Ok(Self { context, validator, miners, values, node })
    }

    /// The key of the home.
    pub fn validator(&self) -> &SecretKey {
        &self.validator
    }

    /// The protocol's state after the windows that were played.
    pub fn state(&self) -> &RunState {
        self.node.state()
    }

    /// Plays the next window, and gives the entries that close it. `None` once the run is over.
    ///
    /// # Errors
    /// The rules refuse an entry, which is a bug here or there.
    pub fn play(&mut self) -> Result<Option<Vec<Vec<u8>>>, Box<dyn Error>> {
        if self.node.is_over() {
            return Ok(None);
        }
        let value = self.values[self.node.state().window().0 as usize];
        let records = play(&mut self.node, &self.validator, &self.miners, value)?;
        self.node.forget_past();
        Ok(Some(records))
    }

    /// Plays the whole run, and writes its journal into the home in `folder`. Gives the entries.
    ///
    /// # Errors
    /// As of [`LongRun::play`]; the journal cannot be written.
    pub fn write(&mut self, folder: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
        let mut records = Vec::new();
        while let Some(more) = self.play()? {
            records.extend(more);
        }
        Journal::replace(&Home::open(folder)?.run_dir(&self.context.run), &records)?;
        Ok(records)
    }
}

fn key(name: &str) -> SecretKey {
    SecretKey::from_bytes(Hash::of(name.as_bytes()).as_bytes())
}

/// A home with the run in it, and no window closed.
fn set_up(
    folder: &Path,
    validator: &SecretKey,
    miners: &[SecretKey],
    windows: u64,
) -> Result<RunContext, Box<dyn Error>> {
    Home::init(folder, validator)?;
    let access = Access::write(folder)?;
    let dataset = bundled::import_shakespeare(&mut AccessSink(&access))?;
    let plan = RunPlan {
        name: NAME.to_owned(),
        dataset_id: access.put(payload::encode(&dataset))?.into(),
        dataset: &dataset,
        validators: vec![ValidatorSpec {
            key: validator.public(),
            stake: 1,
            chain_anchor: Chain::insecure(validator, NAME).anchor(),
        }],
        miners: miners.iter().map(SecretKey::public).collect(),
        origin: Origin::Drawn { size: "tiny".to_owned(), seed: Hash::of(b"seed") },
    };
    let settings = [
        "model.sequence_length=16".to_owned(),
        "inner.steps=1".to_owned(),
        "inner.batch_sequences=1".to_owned(),
        "inner.micro_batch_sequences=1".to_owned(),
        "gauntlet.weights=proven-steps".to_owned(),
        format!("outer.max_contributions={}", miners.len()),
        format!("registration.slots={}", miners.len()),
        format!("windows={windows}"),
    ];
    let run: RunId = access.put(payload::encode(&configure(&plan, &settings)?))?.into();
    let put = |bytes| access.put(bytes);
    let context = RunContext::create(&access.home, access.blobs(), &put, &|ids| access.sync(ids), run)?;
    access.home.set_current_run(&run)?;
    Ok(context)
}

/// Plays one window, and gives the entries that the node accepted.
fn play(
    node: &mut Node,
    validator: &SecretKey,
    miners: &[SecretKey],
    value: Hash,
) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let (run, window) = (node.state().run(), node.state().window());
    let mut inputs: Vec<Input> = miners
        .iter()
        .map(|miner| Signed::sign(contribution(node.state(), miner.public()), miner).envelope())
        .map(|envelope| Input::Entry(Entry::Envelope(envelope)))
        .collect();
    let (mut records, mut todo) = (Vec::new(), Vec::new());
    while node.state().window() == window && !node.is_over() {
        if inputs.is_empty() {
            todo.extend(node.todo());
        }
        for output in todo.drain(..) {
            match output {
                Output::Sign(document) => inputs.push(Input::Entry(document.sign(validator))),
                Output::Reveal { .. } => inputs.push(Input::Entry(Entry::Reveal(RevealEntry {
                    run,
                    window,
                    validator: validator.public(),
                    value,
                }))),
                Output::Judge(plan) => inputs.push(Input::Measured(judged(node, &plan))),
                Output::Apply { window, outcomes, .. } => {
                    inputs.push(Input::Measured(Measured::Applied { window, outcomes, stepped: stepped(window) }));
                }
                _ => {}
            }
        }
        if inputs.is_empty() {
            return Err(format!("window {window} does not close").into());
        }
        for input in inputs.drain(..) {
            for output in node.take(input)? {
                if let Output::Accepted { entry, .. } = output {
                    records.push(entry.entry().encode());
                }
            }
        }
    }
    Ok(records)
}

/// A contribution that fits the rules, whose delta does not exist.
fn contribution(state: &RunState, miner: PublicKey) -> Contribution {
    let (genesis, window) = (state.genesis(), state.window());
    let parent = state.parent(&miner);
    let made_up = |what: &str| Hash::of(format!("{what} {miner} {window}").as_bytes());
    let context = genesis.context_at(window.0);
    let steps = genesis.inner.steps;
    Contribution {
        run: state.run(),
        window,
        miner,
        parent: parent.map(|parent| parent.contribution),
        state_in: parent.map_or(state.zero_state(), |parent| parent.state_out),
        state_out: made_up("state").into(),
        delta: made_up("delta").into(),
        delta_bytes: DELTA_BYTES,
        trace: made_up("trace").into(),
        trace_bytes: 1_000,
        steps,
        tokens: u64::from(steps) * u64::from(context.batch_sequences) * u64::from(context.sequence_length),
        loss_nanonats: 7_000_000_000 - window.0.min(10_000) * 100_000,
    }
}

/// A score that says of every contribution that its replay matches.
fn judged(node: &Node, plan: &JudgePlan) -> Measured {
    let entry = |signed: &Signed<Contribution>| {
        let claim = Hash::of(signed.id().as_bytes());
        ScoreEntry {
            miner: signed.payload().miner,
            contribution: signed.id().into(),
            replay: Replay::Match,
            proof: Some(ReplayProof { claim, witnesses: vec![witness(&claim)] }),
            evaluation: Evaluation::NotDrawn,
            body: Some(signed.payload().delta.hash()),
            nearest: None,
            overlap_ppm: 0,
        }
    };
    let mut entries: Vec<ScoreEntry> = node.contributions().map(entry).collect();
    entries.sort_by_key(|entry| entry.miner);
    Measured::Judged { window: plan.window, seed: plan.seed, entries, verdicts: Vec::new(), contests: Vec::new() }
}

/// An outer step that nobody took. The loss falls slowly.
fn stepped(window: WindowIndex) -> Stepped {
    let made_up = |what: &str| Hash::of(format!("{what} {window}").as_bytes());
    Stepped {
        aggregate: made_up("aggregate").into(),
        aggregate_bytes: DELTA_BYTES,
        checkpoint: made_up("checkpoint").into(),
        held_out_loss_nanonats: 7_600_000_000 - window.0.min(20_000) * 200_000,
    }
}

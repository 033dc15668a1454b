//! A window is a function: the same bits again, in any number of threads, on any instruction set, after any
//! interruption, and a replay finds every way in which a claim departs from it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use templar_blob::MemoryBlobs;
use templar_data::{PageReader, Split};
use templar_device::{Cpu, Device, Isa, Unit};
use templar_manifest::proof::ProofDraw;
use templar_manifest::trace::Leaf;
use templar_manifest::{
    Arithmetic, BlobId, ContextSegment, Contribution, Genesis, Hash, PublicKey, Refusal, Replay, RopeScaling, State,
    WindowIndex, payload,
};
use templar_train::tensors::{checkpoint, checkpoint_of, read_parameters};
use templar_train::{
    Claim, MinerState, Recipe, RecipeError, Watch, WindowResult, WindowRun, WindowStart, WindowTask, aggregate_step,
    evaluate, outer_step, replay, replay_up_to, run_window,
};

use crate::support::{
    FROZEN_DELTA, FROZEN_TRACE, RUN, STEPS, dataset, first, genesis, initial, pages, recipe, run, task,
};

/// Calls `seen` at every leaf, and stops where it says so.
struct At<F>(F);

impl<F: FnMut(&WindowRun<'_>, u32, &Leaf) -> ControlFlow<()>> Watch for At<F> {
    fn leaf(&mut self, run: &WindowRun<'_>, index: u32, leaf: &Leaf) -> ControlFlow<()> {
        self.0(run, index, leaf)
    }
}

#[test]
fn the_same_bits_in_any_number_of_threads_and_on_any_instruction_set() {
    let recipe = recipe();
    let expected = first(&recipe);
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| first(&recipe)), expected, "{threads} threads");
    }
    for isa in Isa::available() {
        let device = Arc::new(Cpu::with_isa(isa).unwrap());
        assert_eq!(first(&Recipe::on(device, RUN, genesis()).unwrap()), expected, "{isa}");
    }
    // Frozen: a change of this hash is a change of the arithmetic, and of every run.
    assert_eq!(Hash::of(&expected.trace.encode()).to_string(), FROZEN_TRACE);
    assert_eq!(Hash::of(&expected.delta).to_string(), FROZEN_DELTA);
}

/// The other arithmetic, on every unit that multiplies limbs beside every instruction set.
#[test]
fn i8x2_has_the_same_bits_in_any_number_of_threads_and_on_any_unit() {
    let genesis = || Genesis { arithmetic: Arithmetic::I8x2, ..genesis() };
    let recipe = Recipe::new(RUN, genesis()).unwrap();
    let expected = first(&recipe);
    for threads in [1, 2, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| first(&recipe)), expected, "{threads} threads");
    }
    for isa in Isa::available() {
        for unit in Unit::available() {
            let device = Arc::new(Cpu::with_isa(isa).unwrap().with_unit(unit).unwrap());
            assert_eq!(first(&Recipe::on(device, RUN, genesis()).unwrap()), expected, "{isa}, {unit}");
        }
    }
    assert_ne!(expected.trace, first(&self::recipe()).trace, "another arithmetic than f32/1");
}

/// What one arithmetic has trained, no replay by the other confirms; and no device computes in a run of the other.
#[test]
fn a_run_has_one_arithmetic() {
    let of = |arithmetic| Recipe::new(RUN, Genesis { arithmetic, ..genesis() }).unwrap();
    for (own, other) in [(Arithmetic::F32, Arithmetic::I8x2), (Arithmetic::I8x2, Arithmetic::F32)] {
        let recipe = of(own);
        assert_eq!(recipe.device.arithmetic(), own);
        assert_eq!(recipe.on_cpu().device.arithmetic(), own);
        let device = Arc::new(Cpu::best().computing(other));
        let refused = Recipe::on(device.clone(), RUN, recipe.genesis.clone()).unwrap_err().to_string();
        let name = device.name();
        assert_eq!(refused, format!("genesis names the arithmetic {own}, device {name} computes {other}"));

        let result = first(&of(other));
        let contribution = result.contribution(&recipe, None, zero(&recipe));
        let (task, reader) = (task(0), pages());
        let (parameters, state) = (initial(&recipe), MinerState::zero(recipe.parameter_count()));
        let start = WindowStart { task: &task, parameters: parameters.into(), state };
        let claim = Claim { contribution: &contribution, trace: &result.trace };
        let verdict = replay(&recipe, start, claim, &[], &|page| reader.read(page)).unwrap().verdict;
        assert!(matches!(verdict, Replay::Refused(Refusal::Mismatch { step: 1, .. })), "{verdict:?}");
    }
}

#[test]
fn a_window_that_was_interrupted_ends_in_the_same_hash() {
    let recipe = recipe();
    let expected = first(&recipe);
    let (task, reader) = (task(0), pages());
    let (parameters, state) = (initial(&recipe), MinerState::zero(recipe.parameter_count()));
    let start =
        |saved: &[u8]| WindowRun::resume(&recipe, &task, parameters.clone(), state.clone(), &mut &saved[..]).unwrap();
    for stop_at in 1..=STEPS {
        let mut saved = Vec::new();
        let mut watch = At(|run: &WindowRun<'_>, index: u32, _: &Leaf| {
            if index == stop_at {
                run.save(&mut saved).unwrap();
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        assert!(run_window(start(&[]), &|page| reader.read(page), &mut watch).unwrap().is_none());
        let resumed = start(&saved);
        assert_eq!(resumed.steps_taken(), stop_at);
        let result = run_window(resumed, &|page| reader.read(page), &mut ()).unwrap().unwrap();
        assert_eq!(result, expected, "stopped at {stop_at}");

        // A torn or damaged snapshot is noticed, and the window starts again.
        assert_eq!(start(&saved[..saved.len() - 1]).steps_taken(), 0);
        let middle = saved.len() / 2;
        saved[middle] ^= 1;
        assert_eq!(start(&saved).steps_taken(), 0);
    }
}

#[test]
fn a_second_window_goes_on_from_blobs() {
    let recipe = recipe();
    let result = first(&recipe);
    let mut blobs = MemoryBlobs::new();
    let mut parameters = initial(&recipe);
    let delta = recipe.decode_delta(&result.contribution(&recipe, None, zero(&recipe)), &result.delta).unwrap();
    let aggregate = outer_step(&recipe, WindowIndex(0), &[delta], &mut parameters).unwrap().into_bytes();
    let mut light = initial(&recipe);
    aggregate_step(&recipe, WindowIndex(0), aggregate, 1, &mut light).unwrap();
    assert_eq!(light, parameters, "the aggregate alone gives the same step");
    let keep = |blobs: &mut MemoryBlobs, bytes: Vec<u8>| {
        blobs.insert(bytes);
        Ok::<(), ()>(())
    };
    let manifest =
        checkpoint(RUN, WindowIndex(1), &recipe.tensors, &parameters, |bytes| keep(&mut blobs, bytes)).unwrap();
    let state: State = result.state.write(RUN, &recipe.tensors, |bytes| keep(&mut blobs, bytes)).unwrap();
    assert_eq!(state, result.state_manifest, "the last leaf names the state's blobs");
    assert_eq!(manifest, checkpoint_of(RUN, WindowIndex(1), &recipe.tensors, &parameters));

    let read = read_parameters(&recipe.tensors, &manifest, &blobs).unwrap();
    assert_eq!(read, parameters);
    let read_state = MinerState::read(&recipe.tensors, &state, &blobs).unwrap();
    assert_eq!(read_state, result.state);
    assert_eq!(run(&recipe, 1, read, read_state), run(&recipe, 1, parameters, result.state));
}

fn zero(recipe: &Recipe) -> templar_manifest::StateId {
    MinerState::zero_id(RUN, &recipe.tensors)
}

#[test]
fn the_zero_state_has_the_id_of_its_blobs() {
    let recipe = recipe();
    let zeros = MinerState::zero(recipe.parameter_count());
    let manifest = zeros.write(RUN, &recipe.tensors, |_| Ok::<(), ()>(())).unwrap();
    assert_eq!(payload::id_of(&manifest), zero(&recipe).hash());
}

#[test]
fn a_replay_finds_every_departure() {
    let recipe = recipe();
    let result = first(&recipe);
    let (task, reader) = (task(0), pages());
    let honest = result.contribution(&recipe, None, zero(&recipe));
    let draw = |validator: u8| {
        let (key, value) = (PublicKey::from_bytes([validator; 32]), Hash::of(&[validator]));
        ProofDraw::new(&recipe.run, &Hash::of(b"seed"), &key, &value, &payload::id_of(&honest).into())
    };
    let draws = [draw(1), draw(2), draw(3)];
    let check = |contribution: &Contribution, result: &WindowResult| {
        let state = MinerState::zero(recipe.parameter_count());
        let claim = Claim { contribution, trace: &result.trace };
        let parameters = initial(&recipe);
        let start = WindowStart { task: &task, parameters: parameters.into(), state };
        replay(&recipe, start, claim, &draws, &|page| reader.read(page)).unwrap()
    };
    let found = check(&honest, &result);
    assert_eq!(found.verdict, Replay::Match);
    assert_eq!(found.state.as_ref(), Some(&result.state));
    // A claim is the keyed hash of what the trace's leaf has the plain hash of.
    let mut run = WindowRun::new(&recipe, &task, initial(&recipe), MinerState::zero(recipe.parameter_count())).unwrap();
    let mut states = vec![Vec::new()];
    for _ in 1..=STEPS {
        run.step(&|page| reader.read(page)).unwrap();
        states.push(run.tensor_states().unwrap());
    }
    for (draw, claim) in draws.iter().zip(&found.claims) {
        let bytes = &states[draw.step(STEPS) as usize][draw.tensor(recipe.tensors.len())];
        assert_eq!(draw.check(&result.trace, bytes, claim), Ok(()));
    }
    assert_eq!(found.claims.len(), 3);

    let mismatch = |step, tensor: &str| Replay::Refused(Refusal::Mismatch { step, tensor: tensor.to_owned() });
    for (leaf, tensor) in [(0, 0), (1, 3), (STEPS, 1), (STEPS + 1, 2)] {
        let mut other = result.clone();
        other.trace.leaves[leaf as usize].tensors[tensor] = Hash::of(b"made up");
        let found = check(&other.contribution(&recipe, None, zero(&recipe)), &other);
        assert_eq!(found.verdict, mismatch(leaf, &recipe.tensors[tensor].name));
        assert_eq!(found.state, None);
    }
    let mut other = result.clone();
    other.trace.leaves[2].loss_bits ^= 1;
    assert_eq!(check(&other.contribution(&recipe, None, zero(&recipe)), &other).verdict, mismatch(2, "loss"));

    // What stands beside the trace.
    let last = STEPS + 1;
    let delta = Contribution { delta: BlobId::of(b"another delta"), ..honest.clone() };
    assert_eq!(check(&delta, &result).verdict, mismatch(last, "delta"));
    let state = Contribution { state_out: zero(&recipe), ..honest.clone() };
    assert_eq!(check(&state, &result).verdict, mismatch(last, "state_out"));
    let loss = Contribution { loss_nanonats: honest.loss_nanonats - 1, ..honest.clone() };
    assert_eq!(check(&loss, &result).verdict, mismatch(last, "loss_nanonats"));
    let tokens = Contribution { tokens: 1, ..honest };
    assert_eq!(check(&tokens, &result).verdict, mismatch(last, "contribution"));
}

/// A replay up to a leaf finds every departure up to there and none behind it, makes the claims on the way, and takes no
/// step that is not asked for.
#[test]
fn a_replay_up_to_a_leaf_goes_no_further() {
    let recipe = recipe();
    let result = first(&recipe);
    let (task, reader) = (task(0), pages());
    let honest = result.contribution(&recipe, None, zero(&recipe));
    let id = payload::id_of(&honest).into();
    let draw = |validator: u8| {
        let key = PublicKey::from_bytes([validator; 32]);
        ProofDraw::new(&recipe.run, &Hash::of(b"seed"), &key, &Hash::of(&[validator]), &id)
    };
    let read = AtomicU32::new(0);
    let check = |result: &WindowResult, draws: &[ProofDraw], upto| {
        let contribution = result.contribution(&recipe, None, zero(&recipe));
        let state = MinerState::zero(recipe.parameter_count());
        let claim = Claim { contribution: &contribution, trace: &result.trace };
        let start = WindowStart { task: &task, parameters: initial(&recipe).into(), state };
        read.store(0, Relaxed);
        let pages = |page| {
            read.fetch_add(1, Relaxed);
            reader.read(page)
        };
        replay_up_to(&recipe, start, claim, draws, upto, &pages).unwrap()
    };
    let a_step = recipe.genesis.inner.batch_sequences;
    let whole = check(&result, &[], None);
    assert_eq!((read.load(Relaxed), &whole.verdict, whole.state.is_some()), (STEPS * a_step, &Replay::Match, true));
    for upto in 0..=STEPS {
        let draws: Vec<ProofDraw> = (0..9).map(draw).filter(|draw| draw.step(STEPS) <= upto).collect();
        let found = check(&result, &draws, Some(upto));
        assert_eq!((read.load(Relaxed), &found.verdict), (upto * a_step, &Replay::Match));
        assert_eq!((found.state, found.claims), (None, check(&result, &draws, None).claims));
        for leaf in 0..=STEPS + 1 {
            let mut other = result.clone();
            other.trace.leaves[leaf as usize].tensors[1] = Hash::of(b"made up");
            let found = check(&other, &[], Some(upto)).verdict;
            let tensor = recipe.tensors[1].name.clone();
            let departs = Replay::Refused(Refusal::Mismatch { step: leaf, tensor });
            assert_eq!(found, if leaf <= upto { departs } else { Replay::Match }, "{leaf} of {upto}");
            assert_eq!(read.load(Relaxed), leaf.min(upto) * a_step);
        }
    }
}

/// The same steps and the same delta as in any other window, but the model stays and nothing is owed to the next one.
#[test]
fn a_null_window_only_warms_the_moments_up() {
    let (plain, mut recipe) = (recipe(), recipe());
    recipe.genesis.outer.null_windows = 1;
    let (honest, other) = (first(&recipe), first(&plain));
    assert_eq!(honest.delta, other.delta);
    let state = MinerState { error: vec![0.0; recipe.parameter_count()], ..other.state.clone() };
    assert_eq!(honest.state, state);
    assert!(other.state.error.iter().any(|error| *error != 0.0));

    let delta = [recipe.decode_delta(&honest.contribution(&recipe, None, zero(&recipe)), &honest.delta).unwrap()];
    let mut parameters = initial(&recipe);
    let aggregate = outer_step(&recipe, WindowIndex(0), &delta, &mut parameters).unwrap();
    assert_eq!(parameters, initial(&recipe));
    assert_eq!(outer_step(&plain, WindowIndex(0), &delta, &mut parameters).unwrap(), aggregate);
    assert_ne!(parameters, initial(&recipe));

    let (task, reader) = (task(0), pages());
    let verdict = |result: &WindowResult| {
        let contribution = result.contribution(&recipe, None, zero(&recipe));
        let claim = Claim { contribution: &contribution, trace: &result.trace };
        let zeros = MinerState::zero(recipe.parameter_count());
        let start = WindowStart { task: &task, parameters: initial(&recipe).into(), state: zeros };
        replay(&recipe, start, claim, &[], &|page| reader.read(page)).unwrap().verdict
    };
    assert_eq!(verdict(&honest), Replay::Match);
    // Who carries error feedback on is found in the last leaf, and so is who hides it there and names its state.
    let tensor = recipe.tensors[0].name.clone();
    assert_eq!(verdict(&other), Replay::Refused(Refusal::Mismatch { step: STEPS + 1, tensor }));
    let hidden = WindowResult { state_manifest: other.state_manifest, ..honest };
    let tensor = "state_out".to_owned();
    assert_eq!(verdict(&hidden), Replay::Refused(Refusal::Mismatch { step: STEPS + 1, tensor }));
}

/// Twice the length from window 2 on, with rotary frequencies to fit: trained and replayed with what genesis
/// says of each window, in one thread and in two.
#[test]
fn the_context_doubles_at_a_window() {
    let mut genesis = genesis();
    genesis.context = vec![ContextSegment {
        from_window: 2,
        sequence_length: 48,
        batch_sequences: 2,
        micro_batch_sequences: 1,
        rope_theta: 40_000,
        rope_scaling: Some(RopeScaling::Linear { factor_ppm: 2_000_000 }),
    }];
    let recipe = Recipe::new(RUN, genesis.clone()).unwrap();
    let (dataset, blobs) = dataset();
    let (mut parameters, mut state) = (initial(&recipe), MinerState::zero(recipe.parameter_count()));
    for window in 0..4 {
        let length = if window < 2 { 24 } else { 48 };
        let reader = PageReader::new(blobs, dataset, Split::Training, length).unwrap();
        let task = task(window);
        let start = || WindowRun::new(&recipe, &task, parameters.clone(), state.clone()).unwrap();
        let honest = run_window(start(), &|page| reader.read(page), &mut ()).unwrap().unwrap();
        assert_eq!(honest.tokens, u64::from(STEPS) * 4 * 24);
        let contribution = honest.contribution(&recipe, None, zero(&recipe));
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let claim = Claim { contribution: &contribution, trace: &honest.trace };
            let start = WindowStart { task: &task, parameters: (&parameters).into(), state: state.clone() };
            let again = || replay(&recipe, start, claim, &[], &|page| reader.read(page)).unwrap();
            assert_eq!(pool.install(again).verdict, Replay::Match, "window {window} in {threads} threads");
        }
        // The pages of another length are not the window's.
        let other = PageReader::new(blobs, dataset, Split::Training, 72 - length).unwrap();
        assert!(run_window(start(), &|page| other.read(page), &mut ()).is_err());
        let delta = recipe.decode_delta(&contribution, &honest.delta).unwrap();
        outer_step(&recipe, WindowIndex(window), &[delta], &mut parameters).unwrap();
        state = honest.state;
    }
    genesis.context[0].rope_theta = 0;
    assert!(matches!(Recipe::new(RUN, genesis), Err(RecipeError::Model(_))));
}

#[test]
fn fewer_steps_are_a_shorter_trace() {
    let recipe = recipe();
    let reader = pages();
    let short = WindowTask { steps: 1, ..task(0) };
    let start = || {
        let (parameters, state) = (initial(&recipe), MinerState::zero(recipe.parameter_count()));
        WindowRun::new(&recipe, &short, parameters, state).unwrap()
    };
    let result = run_window(start(), &|page| reader.read(page), &mut ()).unwrap().unwrap();
    assert_eq!(result.trace.leaves.len(), 3);
    assert_eq!(result.trace.leaves[..2], first(&recipe).trace.leaves[..2]);
    assert_eq!(result.tokens, 4 * 24);
    for steps in [0, STEPS + 1] {
        let wrong = WindowTask { steps, ..task(0) };
        let state = MinerState::zero(recipe.parameter_count());
        assert!(WindowRun::new(&recipe, &wrong, initial(&recipe), state).is_err(), "{steps}");
    }
}

#[test]
fn training_lowers_the_loss() {
    let recipe = recipe();
    let reader = pages();
    let held_out: Vec<_> = (100..104).map(|page| reader.read(page).unwrap()).collect();
    let mut parameters = initial(&recipe);
    let loss = |parameters: &[f32]| {
        let parameters = recipe.device.upload(parameters.into()).unwrap();
        evaluate(&mut recipe.model(WindowIndex(0)), &parameters, &held_out).unwrap()
    };
    let before = loss(&parameters);
    let mut state = MinerState::zero(recipe.parameter_count());
    for window in 0..8 {
        let result = run(&recipe, window, parameters.clone(), state);
        let contribution = result.contribution(&recipe, None, zero(&recipe));
        let delta = recipe.decode_delta(&contribution, &result.delta).unwrap();
        outer_step(&recipe, WindowIndex(window), &[delta], &mut parameters).unwrap();
        state = result.state;
    }
    let after = loss(&parameters);
    assert!(after + 100_000_000 < before, "{before} {after}");
}

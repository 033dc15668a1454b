//! Compares the harness with the library: the same inner steps, the same windows, and no loss from an
//! interruption.

use std::sync::OnceLock;

use templar_manifest::{PublicKey, WindowIndex};
use templar_train::{MinerState, WindowRun, WindowTask, outer_step, run_window};

use crate::cache::{Cache, Record};
use crate::data::Data;
use crate::plan::{Config, DILOCO, Method, SPARSELOCO};
use crate::run::{Run, State, nesterov};
use crate::workers::Workers;

fn setting() -> (&'static Data, &'static Workers) {
    static SETTING: OnceLock<(Data, Workers)> = OnceLock::new();
    let (data, workers) = SETTING.get_or_init(|| (Data::load(None).unwrap(), Workers::new().unwrap()));
    (data, workers)
}

/// A plan with two miners and two inner steps.
fn config(method: Method) -> Config {
    Config::new(2, 2, method)
}

fn after(run: &Run<'_>, windows: u64) -> State {
    let mut state = run.start();
    for _ in 0..windows {
        run.window(&mut state).unwrap();
    }
    state
}

#[test]
fn a_contribution_is_that_of_a_window() {
    let (data, workers) = setting();
    let config = config(SPARSELOCO.method());
    let run = Run::new(&config, data, workers).unwrap();
    let recipe = config.recipe(data.vocab_size).unwrap();
    let State { mut parameters, miners, .. } = run.start();
    let mut miners = [miners[0].clone(), miners[1].clone()];
    let mut whole = run.start();
    for window in 0..2 {
        let mut deltas = Vec::new();
        for (miner, state) in (0..).zip(&mut miners) {
            let mut own = state.clone();
            let delta = run.contribute(window, miner, &parameters, &mut own).unwrap();

            let pages = (0..2).flat_map(|step| run.pages(window * 2 + step, miner)).copied().collect();
            let key = PublicKey::from_bytes([miner as u8; 32]);
            let task = WindowTask { window: WindowIndex(window), miner: key, pages, steps: 2 };
            let started = WindowRun::new(&recipe, &task, &*parameters, state.clone()).unwrap();
            let result = run_window(started, &|page| Ok(data.page(page).to_vec()), &mut ()).unwrap().unwrap();
            assert_eq!(delta, result.delta);
            assert_eq!(own, result.state);
            let zero = MinerState::zero_id(recipe.run, &recipe.tensors);
            deltas.push(recipe.decode_delta(&result.contribution(&recipe, None, zero), &delta).unwrap());
            *state = own;
        }
        outer_step(&recipe, WindowIndex(window), &deltas, &mut parameters).unwrap();
        run.window(&mut whole).unwrap();
        assert_eq!(whole.parameters, parameters);
        assert_eq!(whole.miners, miners);
    }
}

#[test]
fn one_miner_without_compression_is_plain_adamw() {
    let (data, workers) = setting();
    let one = |method| Config { miners: 1, ..config(method) };
    let (plain, local) = (one(Method::AdamW), one(Method::DiLoCo { rate_ppm: 1_000_000, momentum_ppm: 0 }));
    let plain = after(&Run::new(&plain, data, workers).unwrap(), 2);
    let local = after(&Run::new(&local, data, workers).unwrap(), 2);
    // θ − (θ − θ_end) in f64 is θ_end, rounded once.
    assert_eq!(plain.parameters, local.parameters);
    assert_eq!(plain.miners[0].second, local.miners[0].second);
}

#[test]
fn nesterov_by_hand() {
    let (mut parameters, mut momentum) = (vec![1.0], vec![0.0]);
    let ends = [vec![0.5], vec![0.0]];
    nesterov(&mut parameters, &mut momentum, &ends, 0.5, 0.5);
    // g = 0.75, m = 0.75, θ = 1 − 0.5·(0.75 + 0.375)
    assert_eq!((parameters[0], momentum[0]), (0.4375, 0.75));
    nesterov(&mut parameters, &mut momentum, &[vec![0.4375]], 0.5, 0.5);
    // g = 0, m = 0.375, θ = 0.4375 − 0.5·0.1875
    assert_eq!((parameters[0], momentum[0]), (0.34375, 0.375));
}

#[test]
fn a_run_goes_on_from_its_snapshot() {
    let (data, workers) = setting();
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path()).unwrap();
    for method in [Method::AdamW, DILOCO, SPARSELOCO.method()] {
        let config = config(method);
        let run = Run::new(&config, data, workers).unwrap();
        let mut whole = after(&run, 1);
        cache.keep_snapshot("run", &Record::default(), &whole).unwrap();
        let (_, mut resumed) = cache.snapshot("run", &run.start()).unwrap();
        run.window(&mut whole).unwrap();
        run.window(&mut resumed).unwrap();
        assert_eq!(whole, resumed);
    }
    let path = folder.path().join("run.snapshot");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let config = config(SPARSELOCO.method());
    assert!(cache.snapshot("run", &Run::new(&config, data, workers).unwrap().start()).is_none());
}

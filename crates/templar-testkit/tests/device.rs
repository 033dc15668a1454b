//! A second device passes the tests of the first, with no change above the seam: the operations, whole training steps
//! that end in the frozen hashes, and a window with its frozen trace and delta.

#[path = "device/faults.rs"]
mod faults;
#[path = "../../templar-model/tests/frozen.rs"]
mod frozen;
#[path = "../../templar-model/tests/support.rs"]
#[allow(dead_code, reason = "the model's tests use the rest")]
mod support;
#[path = "../../templar-train/tests/support.rs"]
#[allow(dead_code, reason = "the trainer's tests use the rest")]
mod window;

use std::sync::Arc;

use templar_device::{Arithmetic, Cpu, Device, DeviceChoice, Isa, OpenError, OpenOptions, open, self_test};
use templar_manifest::{Hash, Refusal, Replay, WindowIndex};
use templar_testkit::TwinDevice;
use templar_train::{Claim, MinerState, Recipe, TrainError, WindowResult, WindowStart, evaluate, replay};

/// The verdict of a replay of the first window's result.
fn replayed(recipe: &Recipe, result: &WindowResult) -> Result<Replay, TrainError> {
    let contribution = result.contribution(recipe, None, MinerState::zero_id(window::RUN, &recipe.tensors));
    let (task, reader) = (window::task(0), window::pages());
    let (parameters, state) = (window::initial(recipe), MinerState::zero(recipe.parameter_count()));
    let start = WindowStart { task: &task, parameters: parameters.into(), state };
    let claim = Claim { contribution: &contribution, trace: &result.trace };
    Ok(replay(recipe, start, claim, &[], &|page| reader.read(page))?.verdict)
}

/// The first device of OpenCL, or a word about the test that is skipped.
fn opencl() -> Option<Arc<dyn Device>> {
    match open(DeviceChoice::OpenCl(0), &OpenOptions::default()) {
        Ok(chosen) => Some(chosen.device),
        Err(error @ (OpenError::NotBuilt(..) | OpenError::NoOpenCl(_) | OpenError::NotFound { .. })) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn training_on_opencl_ends_in_the_frozen_hashes_trace_and_delta() {
    let Some(device) = opencl() else { return };
    for frozen::Case { name, spec, frozen } in frozen::cases() {
        for recompute in [false, true] {
            let found = frozen::train(&device, &spec, frozen::MICRO_BATCHES, recompute);
            assert_eq!(found, frozen, "{name}, recomputing: {recompute}");
        }
    }
    // The CPU takes every step again.
    let recipe = Recipe { recheck_one_in: 1, ..Recipe::on(device, window::RUN, window::genesis()).unwrap() };
    let found = window::first(&recipe);
    assert_eq!(Hash::of(&found.trace.encode()).to_string(), window::FROZEN_TRACE);
    assert_eq!(Hash::of(&found.delta).to_string(), window::FROZEN_DELTA);
    // Each device replays what the other one has trained, and so does an auditor.
    let on_cpu = recipe.on_cpu();
    assert_eq!(found, window::first(&on_cpu), "state and manifest too");
    for recipe in [&recipe, &on_cpu] {
        assert_eq!(replayed(recipe, &found).unwrap(), Replay::Match);
    }
    let mut forged = found.clone();
    forged.trace.leaves[2].tensors[3] = Hash::of(b"another");
    let refusal = Refusal::Mismatch { step: 2, tensor: recipe.tensors[3].name.clone() };
    assert_eq!(replayed(&recipe, &forged).unwrap(), Replay::Refused(refusal));
    // Micro-batches on two programs of the device and on the CPU.
    let helpers = vec![opencl().unwrap(), Arc::new(Cpu::default())];
    assert_eq!(window::first(&Recipe { helpers, ..recipe.clone() }), found);
    let pages = [window::pages().read(5).unwrap()];
    let measured = [&recipe, &on_cpu].map(|recipe| {
        let parameters = recipe.device.upload(window::initial(recipe).into()).unwrap();
        evaluate(&mut recipe.model(WindowIndex(0)), &parameters, &pages).unwrap()
    });
    assert_eq!(measured[0], measured[1]);
}

#[test]
fn the_twin_passes_the_self_test_of_devices() {
    for arithmetic in Arithmetic::ALL {
        self_test(&TwinDevice::of(arithmetic)).unwrap();
    }
}

#[test]
fn training_steps_on_the_twin_end_in_the_frozen_hashes() {
    let device: Arc<dyn Device> = Arc::new(TwinDevice::of(Arithmetic::F32));
    for frozen::Case { name, spec, frozen } in frozen::cases() {
        for recompute in [false, true] {
            let found = frozen::train(&device, &spec, frozen::MICRO_BATCHES, recompute);
            assert_eq!(found, frozen, "{name}, recomputing: {recompute}");
        }
    }
}

#[test]
fn a_window_of_i8x2_on_the_twin_is_that_of_the_cpu() {
    let arithmetic = Arithmetic::I8x2;
    let genesis = templar_manifest::Genesis { arithmetic, ..window::genesis() };
    let device: Arc<dyn Device> = Arc::new(TwinDevice::of(arithmetic));
    let found = window::first(&Recipe::on(device, window::RUN, genesis.clone()).unwrap());
    let on_cpu = Recipe::new(window::RUN, genesis).unwrap();
    assert_eq!(found, window::first(&on_cpu), "trace, delta, state and manifest");
    assert_eq!(replayed(&on_cpu, &found).unwrap(), Replay::Match);
}

/// OpenCL computes f32/1 alone, so a run of another arithmetic is refused by name.
#[test]
fn opencl_refuses_a_run_of_i8x2_by_name() {
    let Some(device) = opencl() else { return };
    let genesis = templar_manifest::Genesis { arithmetic: Arithmetic::I8x2, ..window::genesis() };
    let name = device.name();
    let refused = Recipe::on(device, window::RUN, genesis).unwrap_err().to_string();
    assert_eq!(refused, format!("genesis names the arithmetic i8x2/1, device {name} computes f32/1"));
}

#[test]
fn a_window_on_the_twin_has_the_frozen_trace_and_delta() {
    let on = |device| window::first(&Recipe::on(device, window::RUN, window::genesis()).unwrap());
    let found = on(Arc::new(TwinDevice::of(Arithmetic::F32)) as Arc<dyn Device>);
    assert_eq!(Hash::of(&found.trace.encode()).to_string(), window::FROZEN_TRACE);
    assert_eq!(Hash::of(&found.delta).to_string(), window::FROZEN_DELTA);
    assert_eq!(found, on(Arc::new(Cpu::with_isa(Isa::Soft).unwrap())), "state and manifest too");
}

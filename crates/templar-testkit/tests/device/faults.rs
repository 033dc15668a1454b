//! Devices that go wrong: each ends in an error that names it, nobody is accused, and the CPU goes on to the same hash.

use std::ops::ControlFlow;
use std::sync::Arc;

use templar_device::{Cpu, Device, DeviceError, DeviceMemory};
use templar_manifest::trace::Leaf;
use templar_manifest::{Refusal, Replay};
use templar_testkit::{Fault, FaultyDevice};
use templar_train::{
    MinerState, Recipe, StepError, TrainError, Watch, WindowResult, WindowRun, evaluate, recheck_one_in, run_window,
};

use crate::{replayed, window};

/// A recipe on a device whose steps are not sampled.
fn on(device: &Arc<FaultyDevice>) -> Recipe {
    Recipe { recheck_one_in: 0, ..Recipe::on(device.clone(), window::RUN, window::genesis()).unwrap() }
}

/// A recipe whose sample is all of the work.
fn checked(recipe: Recipe) -> Recipe {
    Recipe { recheck_one_in: 1, ..recipe }
}

fn faulty(fault: Fault) -> Arc<FaultyDevice> {
    Arc::new(FaultyDevice::new(fault))
}

fn honest() -> WindowResult {
    window::first(&Recipe::on(Arc::new(Cpu::default()), window::RUN, window::genesis()).unwrap())
}

/// The products of one window, and those of its first two inner steps.
fn products() -> (u64, u64) {
    let device = faulty(Fault::None);
    let mut watch = Keeping { device: Some(device.clone()), ..Keeping::default() };
    trained(&on(&device), &mut &[][..], &mut watch).unwrap().unwrap();
    (device.products(), watch.products[1])
}

/// Keeps a snapshot after each inner step, and counts the products before it.
#[derive(Default)]
struct Keeping {
    device: Option<Arc<FaultyDevice>>,
    saved: Vec<u8>,
    products: Vec<u64>,
}

impl Watch for Keeping {
    fn leaf(&mut self, run: &WindowRun<'_>, index: u32, _leaf: &Leaf) -> ControlFlow<()> {
        if index > 0 {
            self.products.extend(self.device.as_ref().map(|device| device.products()));
            let mut saved = Vec::new();
            // A device that is lost gives no snapshot, and the one before it stays.
            if run.save(&mut saved).is_ok() {
                self.saved = saved;
            }
        }
        ControlFlow::Continue(())
    }
}

fn trained(recipe: &Recipe, from: &mut &[u8], watch: &mut dyn Watch) -> Result<Option<WindowResult>, TrainError> {
    let (task, reader) = (window::task(0), window::pages());
    let state = MinerState::zero(recipe.parameter_count());
    let run = WindowRun::resume(recipe, &task, window::initial(recipe), state, from)?;
    run_window(run, &|page| reader.read(page), watch)
}

/// The device error of a window that failed.
fn device_error(result: Result<Option<WindowResult>, TrainError>) -> DeviceError {
    match result.unwrap_err() {
        TrainError::Device(error) | TrainError::Step { source: StepError::Device(error), .. } => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_that_is_lost_leaves_a_snapshot_from_which_the_cpu_goes_on_to_the_same_hash() {
    let (all, _) = products();
    let expected = honest();
    for at in [1, all / 2, all - 1] {
        let device = faulty(Fault::Lost(at));
        let mut watch = Keeping::default();
        let error = device_error(trained(&on(&device), &mut &[][..], &mut watch));
        assert_eq!(error.to_string(), "device faulty is lost: it was unplugged");
        let cpu = on(&device).on_cpu();
        let resumed = trained(&cpu, &mut &watch.saved[..], &mut ()).unwrap().unwrap();
        assert_eq!(resumed, expected, "lost at product {at}");
    }
}

#[test]
fn memory_that_runs_out_is_named_wherever_it_does() {
    for limit in (0..40).step_by(3) {
        let error = device_error(trained(&on(&faulty(Fault::OutOfMemory(limit))), &mut &[][..], &mut ()));
        assert!(matches!(&error, DeviceError::OutOfMemory { device, .. } if device == "faulty"), "{limit}: {error}");
    }
}

#[test]
fn a_step_that_differs_from_the_cpu_gives_no_result_and_names_tensor_and_step() {
    let (_, until_second) = products();
    let device = faulty(Fault::Product(until_second + 1));
    let error = device_error(trained(&checked(on(&device)), &mut &[][..], &mut ()));
    let DeviceError::Differs { device: name, what } = &error else { panic!("{error}") };
    assert!(name == "faulty" && what.ends_with(" of inner step 3"), "{error}");
    assert!(what.starts_with("model."), "the first tensor that differs: {error}");
    // It is not used any more, whatever is asked of it.
    assert_eq!(device.zeros(1).map(|_| ()), Err(error));
}

#[test]
fn a_replay_on_a_device_that_differs_accuses_nobody() {
    let (_, until_second) = products();
    let result = honest();
    for wrong in [1, until_second + 1] {
        let error = replayed(&on(&faulty(Fault::Product(wrong))), &result).unwrap_err();
        assert!(matches!(error, TrainError::Device(DeviceError::Differs { .. })), "{error:?}");
    }
    assert_eq!(replayed(&on(&faulty(Fault::None)), &result).unwrap(), Replay::Match);
}

#[test]
fn a_replay_on_a_device_finds_every_departure_that_the_cpu_confirms() {
    let honest = honest();
    let device = faulty(Fault::None);
    let tensor = |index: usize| on(&device).tensors[index].name.clone();
    for step in 0..=window::STEPS + 1 {
        let mut forged = honest.clone();
        forged.trace.leaves[step as usize].tensors[2] = templar_manifest::Hash::of(b"another");
        let verdict = replayed(&on(&device), &forged).unwrap();
        assert_eq!(verdict, Replay::Refused(Refusal::Mismatch { step, tensor: tensor(2) }));
    }
}

#[test]
fn a_loss_that_differs_from_the_cpu_is_not_measured() {
    recheck_one_in(1);
    let (recipe, reader) = (on(&faulty(Fault::None)), window::pages());
    let pages = [reader.read(0).unwrap(), reader.read(1).unwrap()];
    let measure = |recipe: &Recipe| {
        let parameters = recipe.device.upload(window::initial(recipe).into()).unwrap();
        evaluate(&mut recipe.model(templar_manifest::WindowIndex(0)), &parameters, &pages)
    };
    assert_eq!(measure(&recipe).unwrap(), measure(&recipe.on_cpu()).unwrap());
    let error = measure(&on(&faulty(Fault::Products(1)))).unwrap_err();
    assert!(matches!(error, StepError::Device(DeviceError::Differs { .. })), "{error:?}");
}

#[test]
fn a_window_that_does_not_fit_is_refused_before_any_work_and_what_would_fit_is_said() {
    let refused = |total_bytes, buffer_bytes| {
        let memory = DeviceMemory { total_bytes, buffer_bytes };
        let device = Arc::new(FaultyDevice::with_memory(Fault::None, memory));
        let error = trained(&on(&device), &mut &[][..], &mut ()).unwrap_err();
        assert_eq!(device.products(), 0, "no work was done");
        let TrainError::TooLarge { device, reason } = error else { panic!("{error:?}") };
        assert_eq!(device, "faulty");
        reason
    };
    let needed = refused(0, 0).needed;
    let parameters = on(&faulty(Fault::None)).parameter_count() as u64;
    assert!(needed.buffer_bytes >= parameters * 4);
    assert!(needed.peak_bytes > parameters * 16, "parameters, gradient and moments: {needed:?}");
    let (cut, takes) = refused(needed.peak_bytes - 1, needed.buffer_bytes).fits.unwrap();
    assert!(cut.recompute && takes.peak_bytes < needed.peak_bytes);
    assert_eq!(cut.micro_batch_sequences, 2, "recomputing is enough");
    let (smaller, _) = refused(takes.peak_bytes - 1, needed.buffer_bytes).fits.unwrap();
    assert_eq!(smaller.micro_batch_sequences, 1);
    assert_eq!(refused(u64::MAX, parameters * 4 - 1).fits, None);
    // What fits is computed.
    let memory = DeviceMemory { total_bytes: needed.peak_bytes, buffer_bytes: needed.buffer_bytes };
    let device = Arc::new(FaultyDevice::with_memory(Fault::None, memory));
    assert_eq!(trained(&on(&device), &mut &[][..], &mut ()).unwrap().unwrap(), honest());
}

#[test]
fn micro_batches_on_several_devices_have_the_same_bits() {
    let mut genesis = window::genesis();
    genesis.inner.micro_batch_sequences = 1;
    let alone = Recipe::on(Arc::new(Cpu::default()), window::RUN, genesis).unwrap();
    let expected = window::first(&alone);
    for helpers in 1..=4 {
        let helper = || -> Arc<dyn Device> { faulty(Fault::None) };
        let helpers = (0..helpers).map(|_| helper()).collect();
        let recipe = Recipe { device: faulty(Fault::None), helpers, ..alone.clone() };
        assert_eq!(window::first(&recipe), expected);
    }
    // A helper's fault is found like any other's.
    let recipe = checked(Recipe { helpers: vec![faulty(Fault::Product(9))], ..on(&faulty(Fault::None)) });
    let error = device_error(trained(&recipe, &mut &[][..], &mut ()));
    assert!(matches!(error, DeviceError::Differs { .. }), "{error}");
    let recipe = Recipe { helpers: vec![faulty(Fault::Lost(9))], ..on(&faulty(Fault::None)) };
    let error = device_error(trained(&recipe, &mut &[][..], &mut ()));
    assert!(matches!(error, DeviceError::Lost { .. }), "{error}");
}

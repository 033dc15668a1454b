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

use templar_device::{Cpu, Device, DeviceChoice, Isa, OpenError, OpenOptions, open, self_test};
use templar_manifest::Hash;
use templar_testkit::TwinDevice;
use templar_train::Recipe;

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
    let found = window::first(&Recipe::on(device, window::RUN, window::genesis()).unwrap());
    assert_eq!(Hash::of(&found.trace.encode()).to_string(), window::FROZEN_TRACE);
    assert_eq!(Hash::of(&found.delta).to_string(), window::FROZEN_DELTA);
}

#[test]
fn the_twin_passes_the_self_test_of_devices() {
    self_test(&TwinDevice).unwrap();
}

#[test]
fn training_steps_on_the_twin_end_in_the_frozen_hashes() {
    let device: Arc<dyn Device> = Arc::new(TwinDevice);
    for frozen::Case { name, spec, frozen } in frozen::cases() {
        for recompute in [false, true] {
            let found = frozen::train(&device, &spec, frozen::MICRO_BATCHES, recompute);
            assert_eq!(found, frozen, "{name}, recomputing: {recompute}");
        }
    }
}

#[test]
fn a_window_on_the_twin_has_the_frozen_trace_and_delta() {
    let on = |device| window::first(&Recipe::on(device, window::RUN, window::genesis()).unwrap());
    let found = on(Arc::new(TwinDevice) as Arc<dyn Device>);
    assert_eq!(Hash::of(&found.trace.encode()).to_string(), window::FROZEN_TRACE);
    assert_eq!(Hash::of(&found.delta).to_string(), window::FROZEN_DELTA);
    assert_eq!(found, on(Arc::new(Cpu::with_isa(Isa::Soft).unwrap())), "state and manifest too");
}

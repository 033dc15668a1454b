//! A second device passes the tests of the first, with no change above the seam: the operations, whole training steps
//! that end in the frozen hashes, and a window with its frozen trace and delta.

#[path = "../../templar-model/tests/frozen.rs"]
mod frozen;
#[path = "../../templar-model/tests/support.rs"]
#[allow(dead_code, reason = "the model's tests use the rest")]
mod support;
#[path = "../../templar-train/tests/support.rs"]
#[allow(dead_code, reason = "the trainer's tests use the rest")]
mod window;

use std::sync::Arc;

use templar_device::{Cpu, Device, Isa, self_test};
use templar_manifest::Hash;
use templar_testkit::TwinDevice;
use templar_train::Recipe;

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

//! Samples of a device's work, computed again on the CPU.
//!
//! A device that has passed its test may be damaged later. So one inner step of many, and one measured page of many, is
//! computed again on the CPU. Where the bits differ, the work ends with an error that names what differs, the device is
//! not used any more, and nothing of the work is signed. A replay that disagrees with a miner is confirmed by the CPU
//! in the same way before it says so: a damaged device accuses nobody.

use std::borrow::Cow;
use std::sync::Arc;

use templar_device::{Buffer, Cpu, Device, DeviceError};
use templar_manifest::WindowIndex;
use templar_manifest::trace::Leaf;
use templar_model::{Model, StepError};

use crate::Recipe;
use crate::recheck_rate::one_in;
use crate::resident::{Resident, StepInputs};
use crate::task::{TrainError, WindowTask};

/// Draws one of `count`, by what is computed. Nobody gains from knowing the draw: it looks for faults, not for fraud.
fn is_drawn(count: u32, parts: &[&[u8]]) -> bool {
    let mut hasher = blake3::Hasher::new_derive_key("templar/1 recheck");
    parts.iter().for_each(|part| _ = hasher.update(part));
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    u64::from_le_bytes(number).checked_rem(u64::from(count)) == Some(0)
}

/// Whether an inner step is to be computed again.
pub(crate) fn is_step_drawn(recipe: &Recipe, task: &WindowTask, step: u32) -> bool {
    let place = [task.window.0.to_le_bytes(), u64::from(step).to_le_bytes()].concat();
    recipe.is_rechecked()
        && is_drawn(recipe.recheck_one_in, &[recipe.run.hash().as_bytes(), task.miner.as_bytes(), &place])
}

/// The first part of a leaf that differs: the name of a tensor, or `loss`.
pub(crate) fn first_difference<'a>(recipe: &'a Recipe, one: &Leaf, other: &Leaf) -> Option<&'a str> {
    if one == other {
        return None;
    }
    let tensor = one.tensors.iter().zip(&other.tensors).position(|(one, other)| one != other);
    Some(tensor.map_or("loss", |tensor| recipe.tensors[tensor].name.as_str()))
}

/// The error for work of a recipe's devices that the CPU does not find again. They are not used any more.
pub(crate) fn differs(recipe: &Recipe, step: u32, part: &str) -> TrainError {
    let what = format!("{part} of inner step {step}");
    let error = DeviceError::Differs { device: recipe.device.name(), what };
    recipe.devices().for_each(|device| device.stop_using(&error));
    error.into()
}

/// Takes an inner step again on the CPU from the vectors `before` it, and compares its leaf.
///
/// # Errors
/// [`DeviceError::Differs`] where the leaf is another.
pub(crate) fn step_again(
    recipe: &Recipe,
    window: WindowIndex,
    inputs: &StepInputs,
    before: [Vec<f32>; 3],
    found: &Leaf,
) -> Result<(), TrainError> {
    let on_cpu = recipe.on_cpu();
    let [parameters, first, second] = before;
    let mut resident = Resident::load(&on_cpu, window, Cow::Owned(parameters), [first, second])?;
    let part = match resident.take(&on_cpu, window, inputs) {
        Ok(taken) => {
            let leaf = Leaf { loss_bits: taken.loss.to_bits(), tensors: resident.hashes()? };
            first_difference(recipe, &leaf, found).map(str::to_owned)
        }
        Err(StepError::NonFiniteGradient { tensor, .. }) => Some(tensor),
        Err(_) => Some("loss".to_owned()),
    };
    part.map_or(Ok(()), |part| Err(differs(recipe, inputs.step, &part)))
}

/// Measures a page again on the CPU where it is drawn, and compares the bits of the loss.
///
/// # Errors
/// [`DeviceError::Differs`] where the loss is another; the device fails.
pub(crate) fn page_again(model: &Model, parameters: &Buffer, page: &[u32], loss: f64) -> Result<(), StepError> {
    let device = model.device();
    if !device.is_rechecked() || !is_drawn(one_in(), &[bytemuck::cast_slice(page), &loss.to_le_bytes()]) {
        return Ok(());
    }
    let mut values = vec![0.0; parameters.len() as usize];
    device.read(parameters.all(), &mut values)?;
    let cpu: Arc<dyn Device> = Arc::new(Cpu::default().computing(device.arithmetic()));
    let values = cpu.upload(values.into())?;
    let mut again = Model::new(model.spec(), cpu).expect("the specification of a model that exists");
    if again.loss(&values, page)?.to_bits() == loss.to_bits() {
        return Ok(());
    }
    let error = DeviceError::Differs { device: device.name(), what: "the loss of a page".to_owned() };
    device.stop_using(&error);
    Err(error.into())
}

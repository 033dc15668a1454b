//! Whether a window fits into the memory of a device, found by running its first step without computing it.

use std::fmt;
use std::sync::Arc;

use templar_device::{Device, DeviceMemory, DryDevice, MemoryUse};
use templar_manifest::WindowIndex;
use templar_model::StepError;

use crate::Recipe;
use crate::helpers::FurtherDevice;
use crate::resident::{Resident, StepInputs};

/// How a window is computed, as far as memory depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Sequences of a micro-batch.
    pub micro_batch_sequences: u32,
    /// Whether activations are computed again; see [`recompute`](templar_model::Model::recompute).
    pub recompute: bool,
}

/// A window that does not fit, refused before any work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    /// The memory that the window takes.
    pub needed: MemoryUse,
    /// The memory that the device has.
    pub room: DeviceMemory,
    /// The nearest way to compute that would fit, with what it takes.
    pub fits: Option<(Cut, MemoryUse)>,
}

/// Bytes in MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, room, fits } = self;
        write!(f, "a window takes {} MiB with a buffer of {} MiB, ", mib(needed.peak_bytes), mib(needed.buffer_bytes))?;
        write!(
            f,
            "where the device has {} MiB and buffers of {} MiB; ",
            room.total_bytes >> 20,
            room.buffer_bytes >> 20
        )?;
        match fits {
            None => f.write_str("no smaller micro-batch would fit"),
            Some((Cut { micro_batch_sequences, recompute }, takes)) => {
                let how = if *recompute { "with recomputed activations and " } else { "with " };
                write!(f, "{how}micro-batches of {micro_batch_sequences} it takes {} MiB", mib(takes.peak_bytes))
            }
        }
    }
}

/// The memory that the part of a device in a window takes: as the first device, or as a helper.
fn measure(
    recipe: &Recipe,
    device: &Arc<dyn Device>,
    is_first: bool,
    (window, cut): (WindowIndex, Cut),
) -> Result<MemoryUse, StepError> {
    let dry = Arc::new(DryDevice::of(Arc::clone(device)));
    let alone = Recipe { device: dry.clone(), helpers: Vec::new(), ..recipe.clone() };
    let mut model = alone.model(window);
    model.recompute(cut.recompute);
    let context = recipe.genesis.context_at(window.0);
    let tokens = vec![0; cut.micro_batch_sequences as usize * (context.sequence_length as usize + 1)];
    if is_first {
        let mut resident = Resident::blank(model, !recipe.helpers.is_empty())?;
        let micro_batches = context.batch_sequences.div_ceil(cut.micro_batch_sequences).min(2);
        let inputs =
            StepInputs { step: 1, run_step: 0, optimizer_step: 1, micro_batches: vec![tokens; micro_batches as usize] };
        resident.take(&alone, window, &inputs)?;
        resident.hashes()?;
    } else {
        FurtherDevice::new(model)?.micro_batch(&tokens, 1.0)?;
    }
    Ok(dry.memory_use())
}

fn fits(needed: MemoryUse, room: DeviceMemory) -> bool {
    needed.peak_bytes <= room.total_bytes && needed.buffer_bytes <= room.buffer_bytes
}

/// Refuses a window that does not fit into the memory of a device of its recipe; gives the name of the device, and a
/// window that would fit.
///
/// # Errors
/// The window cannot be measured: its sizes are beyond what a machine can address.
pub(crate) fn refusal(recipe: &Recipe, window: WindowIndex) -> Result<Option<(String, TooLarge)>, StepError> {
    let first = std::iter::once((&recipe.device, true));
    for (device, is_first) in first.chain(recipe.helpers.iter().map(|helper| (helper, false))) {
        let Some(room) = device.memory() else { continue };
        let sequences = recipe.genesis.context_at(window.0).micro_batch_sequences;
        let takes = |cut| measure(recipe, device, is_first, (window, cut));
        let cut = Cut { micro_batch_sequences: sequences, recompute: recipe.model(window).is_recomputing() };
        let needed = takes(cut)?;
        if fits(needed, room) {
            continue;
        }
        let smaller = std::iter::successors(Some(sequences), |count| (*count > 1).then(|| count / 2));
        let mut nearest = None;
        for micro_batch_sequences in smaller {
            let cut = Cut { micro_batch_sequences, recompute: true };
            let takes = takes(cut)?;
            if fits(takes, room) {
                nearest = Some((cut, takes));
                break;
            }
        }
        return Ok(Some((device.name(), TooLarge { needed, room, fits: nearest })));
    }
    Ok(None)
}

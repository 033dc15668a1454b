//! The Gauntlet: from the measurements of a window to standings, scores and weights.
//!
//! Everything here is a pure function of numbers, in five steps with one file each:
//!
//! 1. a [`Rating`] of how well a miner's deltas do beside others',
//! 2. the [`Worth`] of a miner's steps beside the others',
//! 3. a [`Standing`], which is everything that a run remembers of one miner's deltas,
//! 4. the assessment of a window by a table of penalties ([`assess`]), with a [`Change`] for every step,
//! 5. the weights of the window.
//!
//! Measurements are facts: all deltas are tried on pages that the seed gives. So there is one standing of each
//! miner, and it follows from records.
//!
//! Templar's original multiplies a score by a factor for synchronisation, estimated from two numbers of each
//! tensor. This crate needs no estimate: the first leaf of a delta's trace must be the recorded checkpoint with
//! the recorded state. If it is, the factor would be 1. If it is not, the contribution is refused with a
//! mismatch at step 0 and pays the penalty `out-of-sync`.

mod assess;
mod rating;
mod standing;
mod weights;
mod worth;

pub use assess::{Assessment, Cause, Change, Copied};
pub(crate) use assess::{Conduct, Conducts, MinerConduct, assess};
pub use rating::Rating;
pub(crate) use standing::Standings;
pub use standing::{History, Standing};
pub use weights::Payable;
pub(crate) use weights::weights;
pub use worth::Worth;

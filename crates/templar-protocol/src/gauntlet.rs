//! The Gauntlet: from one validator's measurements of a window to standings, scores and a row of weights.
//!
//! Everything here is a pure function of numbers, in four steps with one file each:
//!
//! 1. a [`Rating`] of how well a miner's deltas do beside others',
//! 2. a [`Standing`], which is everything that one validator remembers of one miner,
//! 3. the assessment of a window by a table of penalties ([`assess`]), with a [`Change`] for every step,
//! 4. the weights of a row.
//!
//! Two validators differ only in their measurements, which they make on pages of their own.
//!
//! Templar's original multiplies a score by a factor for synchronisation, estimated from two numbers of each
//! tensor. This crate needs no estimate: the first leaf of a delta's trace must be the recorded checkpoint with
//! the recorded state. If it is, the factor would be 1. If it is not, the contribution is refused with a
//! mismatch at step 0 and pays the penalty `out-of-sync`.

mod assess;
mod rating;
mod standing;
mod weights;

pub use assess::{Assessment, Cause, Change, Copied};
pub(crate) use assess::{Conducts, MinerConduct, assess};
pub use rating::Rating;
pub(crate) use standing::Standings;
pub use standing::{History, Standing};
pub(crate) use weights::row;

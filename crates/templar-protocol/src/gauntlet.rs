//! The Gauntlet: from what a validator found out about every miner in a window to standings, scores and a row
//! of weights.
//!
//! Pure functions of numbers, in four steps, one file each: a [`Rating`] of how well a miner's deltas do beside
//! others', a [`Standing`] of all that one validator remembers of one miner, the assessment of a window by one
//! table of penalties ([`assess`], with a [`Change`] for every step of it), and weights. Two validators differ
//! only in what they measured, on pages of their own.
//!
//! The original multiplies a score by a factor of synchronisation, estimated from two numbers of each tensor.
//! Here the base of a delta is exact: the first leaf of its trace must be the recorded checkpoint with the
//! recorded state. So the factor is 1, or the contribution is refused with a mismatch at step 0 and pays the
//! row `out-of-sync`.

mod assess;
mod rating;
mod standing;
mod weights;

pub use assess::{Assessment, Cause, Change, Copied};
pub(crate) use assess::{Conducts, MinerConduct, assess};
pub use rating::Rating;
pub use standing::{History, Standing};
pub(crate) use standing::{Standings, root};
pub(crate) use weights::row;

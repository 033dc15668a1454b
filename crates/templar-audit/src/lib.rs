//! Recomputes a window from blobs: what a validator measures before it closes, and what an auditor finds afterwards.
//!
//! Both call the same functions. A validator judges the contributions of a cut ([`judge`]), takes the outer step
//! ([`apply`]) and confirms what others refused ([`replay_contribution`]); an auditor does it all again for a closed window
//! ([`audit_window`]) and compares every number with the record. [`Evidence`] is what they read from: blobs by hash, each
//! verified, wherever they lie. No crate that this one uses opens a socket on its behalf.
//!
//! A difference is a `mismatch` and says where; something that is not there is `unavailable` and says what. Nothing is ever
//! taken as a match because it could not be checked.

mod apply;
mod evidence;
mod judge;
mod window;

pub use apply::{Applied, apply, apply_aggregate, held_out_loss};
pub use evidence::{Evidence, EvidenceError, States, chain};
pub use judge::{judge, replay_contribution};
pub use window::{WindowAudit, audit_window};

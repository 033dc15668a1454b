//! Serving: the answers to peers that ask for blobs, and the bounds on all answers.
//!
//! [`provide`] serves blobs, after asking the [`policy`], through the bounded [`streams`]. [`have`] tells a
//! peer which blobs it could get. [`places`] bounds connections, [`admission`] bounds requests, and [`rate`]
//! bounds bytes per second.

pub(crate) mod admission;
pub(crate) mod have;
pub(crate) mod places;
pub(crate) mod policy;
pub(crate) mod provide;
pub(crate) mod rate;
mod streams;

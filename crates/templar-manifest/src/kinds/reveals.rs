//! The agreed set of hash-chain values, from which a window's seed follows.

use serde::{Deserialize, Serialize};

use super::body::{Reveal, WindowBody};
use super::rules::ascending;
use crate::id::{CutId, RunId, WindowIndex};
use crate::payload::{Kind, Payload};

/// The hash-chain values of a window that count. Validators certify it with votes before anybody judges, so the
/// seed never changes. A validator outside the set pays as one that was absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevealSet {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window whose values these are.
    pub window: WindowIndex,
    /// The certified cut of the window.
    pub cut: CutId,
    /// The values, sorted by validator.
    pub reveals: Vec<Reveal>,
}

impl RevealSet {
    /// The set that a record was computed from.
    pub fn of(body: &WindowBody) -> Self {
        Self { run: body.run, window: body.window, cut: body.cut, reveals: body.reveals.clone() }
    }
}

impl Payload for RevealSet {
    const KIND: Kind = Kind::Reveals;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        if self.reveals.is_empty() {
            return Err("reveals is empty".to_owned());
        }
        ascending("reveals", &self.reveals, |reveal| reveal.validator)
    }
}

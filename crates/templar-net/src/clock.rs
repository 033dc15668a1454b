//! How far the clocks of peers are from this node's, as their first answer tells.
//!
//! No rule of a run looks at a wall clock, so nothing here decides anything; a clock that is far off breaks certificates
//! and logs, and whoever runs the node wants to know. Invariant: bounded by the address book, and each value comes with
//! the bound of its error, half the time that the exchange took.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::book::Book;
use crate::peer::PeerId;

/// A wall clock: milliseconds since 1970, UTC.
pub type Clock = fn() -> u64;

/// A peer's clock against this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// The peer's clock minus this one, in milliseconds.
    pub ahead_ms: i64,
    /// By how much `ahead_ms` may be wrong at most, in milliseconds, if neither clock was set meanwhile.
    pub error_ms: u64,
}

impl Skew {
    /// From an answer that says `theirs_ms`, to a question asked when this clock said `asked_ms` that took `took` to be
    /// answered. None if the peer has no clock.
    pub fn of(asked_ms: u64, took: Duration, theirs_ms: u64) -> Option<Self> {
        if theirs_ms == 0 {
            return None;
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let middle = asked_ms.saturating_add(took_ms / 2);
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        // Half of the way there and back, and the rounding of both clocks.
        let error_ms = took_ms.div_ceil(2).saturating_add(1);
        Some(Self { ahead_ms: signed(theirs_ms).saturating_sub(signed(middle)), error_ms })
    }

    /// Whether the clocks differ by more than `bound` whatever the error is.
    pub fn exceeds(&self, bound: Duration) -> bool {
        let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.unsigned_abs() > bound.saturating_add(self.error_ms)
    }
}

/// The clocks of peers.
#[derive(Debug)]
pub(crate) struct Clocks {
    ours: Option<Clock>,
    skews: Mutex<BTreeMap<PeerId, Skew>>,
}

/// A question that has been asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    ours_ms: u64,
    at: Instant,
}

impl Asked {
    pub(crate) fn now(clock: Option<Clock>) -> Self {
        Self { ours_ms: clock.map_or(0, |clock| clock()), at: Instant::now() }
    }

    pub(crate) fn took(&self) -> Duration {
        self.at.elapsed()
    }

    pub(crate) fn answered(&self, theirs_ms: u64) -> Option<Skew> {
        if self.ours_ms == 0 { None } else { Skew::of(self.ours_ms, self.at.elapsed(), theirs_ms) }
    }
}

impl Clocks {
    pub(crate) fn new(ours: Option<Clock>) -> Self {
        Self { ours, skews: Mutex::default() }
    }

    /// This node's clock, as it is sent; 0 if it has none.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.ours.map_or(0, |clock| clock())
    }

    pub(crate) fn ask(&self) -> Asked {
        Asked::now(self.ours)
    }

    /// Takes in what a peer of the book answered.
    pub(crate) fn note(&self, book: &Book, peer: &PeerId, asked: &Asked, theirs_ms: u64) {
        let mut skews = self.skews.lock().unwrap_or_else(PoisonError::into_inner);
        skews.retain(|id, _| book.contacts(id).is_some());
        match asked.answered(theirs_ms).filter(|_| book.contacts(peer).is_some()) {
            Some(skew) => drop(skews.insert(*peer, skew)),
            None => drop(skews.remove(peer)),
        }
    }

    pub(crate) fn all(&self) -> BTreeMap<PeerId, Skew> {
        self.skews.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

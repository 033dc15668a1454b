//! The difference between this node's clock and its peers' clocks, as their greetings tell it.
//!
//! No rule of a run reads a wall clock, so nothing here decides anything. But a wrong clock breaks TLS
//! certificates and makes logs hard to read, and the person who runs the node wants to know. Invariant: there
//! is at most one value for each peer of the address book, and each value comes with a bound of its error, half
//! the time that the exchange took.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Clock;
use crate::peers::book::Book;
use crate::peers::peer::PeerId;

/// The difference between a peer's clock and this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// The peer's clock minus this node's, in milliseconds.
    pub ahead_ms: i64,
    /// The largest error of `ahead_ms`, in milliseconds, if neither clock was set during the exchange.
    pub error_ms: u64,
}

impl Skew {
    /// Computes the difference from one exchange, assuming that the peer read its clock in the middle of it.
    ///
    /// The question was sent when this node's clock said `asked_ms`, the answer came after `took` and says
    /// `theirs_ms`. Returns `None` if `theirs_ms` is 0, which means that the peer has no clock.
    pub fn of(asked_ms: u64, took: Duration, theirs_ms: u64) -> Option<Self> {
        if theirs_ms == 0 {
            return None;
        }
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let middle = asked_ms.saturating_add(took_ms / 2);
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        // Half of the round trip, plus the rounding of both clocks.
        let error_ms = took_ms.div_ceil(2).saturating_add(1);
        Some(Self { ahead_ms: signed(theirs_ms).saturating_sub(signed(middle)), error_ms })
    }

    /// Returns whether the clocks certainly differ by more than `bound`, with the error taken into account.
    pub fn exceeds(&self, bound: Duration) -> bool {
        let bound = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
        self.ahead_ms.unsigned_abs() > bound.saturating_add(self.error_ms)
    }
}

/// The latest clock difference of each peer.
#[derive(Debug)]
pub(crate) struct Clocks {
    ours: Option<Clock>,
    skews: Mutex<BTreeMap<PeerId, Skew>>,
}

/// The moment at which a peer was asked for its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockQuery {
    /// This node's clock at that moment, or 0 if it has none.
    ours_ms: u64,
    at: Instant,
}

impl ClockQuery {
    /// A question that is sent now.
    pub(crate) fn now(clock: Option<Clock>) -> Self {
        Self { ours_ms: clock.map_or(0, |clock| clock()), at: Instant::now() }
    }

    /// The time since the question was sent.
    pub(crate) fn took(&self) -> Duration {
        self.at.elapsed()
    }

    /// The difference that follows from the answer `theirs_ms`, if both sides have a clock.
    pub(crate) fn answered(&self, theirs_ms: u64) -> Option<Skew> {
        if self.ours_ms == 0 { None } else { Skew::of(self.ours_ms, self.at.elapsed(), theirs_ms) }
    }
}

impl Clocks {
    /// No differences yet. `ours` is this node's clock, if it has one.
    pub(crate) fn new(ours: Option<Clock>) -> Self {
        Self { ours, skews: Mutex::default() }
    }

    /// This node's clock as it is sent to peers: milliseconds since 1970, or 0 if it has none.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.ours.map_or(0, |clock| clock())
    }

    /// A question that is sent now.
    pub(crate) fn ask(&self) -> ClockQuery {
        ClockQuery::now(self.ours)
    }

    /// Records the answer of a peer in the book, and forgets peers that are no longer in the book.
    pub(crate) fn note(&self, book: &Book, peer: &PeerId, asked: &ClockQuery, theirs_ms: u64) {
        let mut skews = self.skews.lock().unwrap_or_else(PoisonError::into_inner);
        skews.retain(|id, _| book.contacts(id).is_some());
        match asked.answered(theirs_ms).filter(|_| book.contacts(peer).is_some()) {
            Some(skew) => drop(skews.insert(*peer, skew)),
            None => drop(skews.remove(peer)),
        }
    }

    /// The latest difference of each peer.
    pub(crate) fn all(&self) -> BTreeMap<PeerId, Skew> {
        self.skews.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

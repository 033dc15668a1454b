//! The `have` protocol (`templar/have/0`): a peer asks which of some blobs this node could serve, and gets one
//! bounded answer.
//!
//! Each stream carries one question and its answer, and a connection serves one stream after another.
//! iroh-blobs has a way to observe a blob, but it is one endless stream per blob, and it reveals blobs that may
//! not be served. Invariant: for a blob that the [`ServePolicy`] withholds, the answer is the same as for a
//! blob that is not here.

use std::sync::Arc;
use std::time::Duration;

use iroh::endpoint::{Connection, RecvStream, SendStream};
use iroh::protocol::{AcceptError, ProtocolHandler};
use iroh_blobs::api::blobs::BlobStatus;
use iroh_blobs::protocol::ChunkRanges;
use serde::{Deserialize, Serialize};
use templar_manifest::Hash;
use templar_store::{Store, to_iroh};
use tokio::time::timeout;
use tracing::Instrument;

use crate::frame::{FrameError, decode, encode, read_body, read_len};
use crate::peers::book::Book;
use crate::peers::close_code;
use crate::peers::peer::{PeerId, short};
use crate::ranges::{GROUP, chunks, ranges, set, whole_groups};
use crate::serve::places::{Inbound, Place};
use crate::serve::policy::ServePolicy;
use crate::words;

/// The protocol's name in the TLS handshake. It ends in the version.
pub(crate) const HAVE_ALPN: &[u8] = b"templar/have/0";

/// The largest number of blobs in one question.
pub(crate) const MAX_ASKED: usize = 256;

/// The longest question, in bytes: 33 for each hash with its length prefix, and 16 for the rest.
pub(crate) const MAX_QUESTION: usize = MAX_ASKED * 33 + 16;

/// The largest number of ranges in one answer, over all blobs together. Further ranges are left out.
pub(crate) const MAX_RANGES: usize = 2048;

/// The longest answer, in bytes: two numbers of at most ten bytes for each range, and three bytes for each
/// blob.
pub(crate) const MAX_ANSWER: usize = MAX_RANGES * 20 + MAX_ASKED * 3 + 16;

/// The question: which of these blobs could the peer serve?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    pub(crate) ids: Vec<Hash>,
}

/// One peer's share of one blob, as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Holding {
    /// The peer has no part of the blob, or may not serve it to the asking peer.
    Nothing,
    /// It has the whole blob.
    All,
    /// Some groups of 16 KiB, as ascending half-open ranges: `(first, one past the last)`.
    Part(Vec<(u64, u64)>),
}

/// The answer: one holding for each hash, in the order of the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) holdings: Vec<Holding>,
}

/// One peer's share of one blob, after its answer has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Have {
    /// It has no part of the blob.
    Nothing,
    /// It has the whole blob.
    All,
    /// It has only these chunks of 1 KiB.
    Part(ChunkRanges),
}

impl Holding {
    /// The whole groups among the chunks `here`, of a blob of `chunks` chunks, as at most `max` ranges.
    fn part(here: &ChunkRanges, chunks: u64, max: usize) -> Self {
        let whole = whole_groups(here, chunks);
        let groups: Vec<(u64, u64)> =
            ranges(&whole).take(max).map(|range| (range.start / GROUP, range.end.div_ceil(GROUP))).collect();
        if groups.is_empty() { Self::Nothing } else { Self::Part(groups) }
    }

    /// The same as chunks, or `None` if the groups are not in ascending order.
    fn checked(self) -> Option<Have> {
        let groups = match self {
            Self::Nothing => return Some(Have::Nothing),
            Self::All => return Some(Have::All),
            Self::Part(groups) => groups,
        };
        let mut here = ChunkRanges::empty();
        let mut last = 0;
        for (start, end) in groups {
            if start < last || end <= start {
                return None;
            }
            last = end;
            here |= set(&(start.checked_mul(GROUP)?..end.checked_mul(GROUP)?));
        }
        Some(Have::Part(here))
    }
}

/// Accepts connections in the `have` protocol and answers the questions on them.
pub(crate) struct HaveServer {
    pub(crate) store: Store,
    pub(crate) policy: Arc<dyn ServePolicy>,
    pub(crate) book: Arc<Book>,
    pub(crate) inbound: Inbound,
    pub(crate) stall_timeout: Duration,
}

impl std::fmt::Debug for HaveServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HaveServer")
    }
}

impl ProtocolHandler for HaveServer {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = *connection.remote_id().as_bytes();
        let Some(place) = self.inbound.admit(&connection, close_code::BUSY) else { return Ok(()) };
        let span = tracing::debug_span!("have", peer = short(&peer));
        self.accept_questions(&connection, &peer, &place).instrument(span).await;
        Ok(())
    }
}

impl HaveServer {
    /// Answers the questions of one connection until the connection ends.
    async fn accept_questions(&self, connection: &Connection, peer: &PeerId, place: &Place) {
        // One question at a time: each peer waits for its own answers only.
        while let Ok((send, recv)) = connection.accept_bi().await {
            let _busy = place.busy();
            match timeout(self.stall_timeout, self.answer(peer, send, recv)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_misbehaviour() => {
                    self.book.blame(peer, format!("asked what we have in a way we cannot read: {error}"));
                    connection.close(close_code::PROTOCOL, b"protocol violation");
                }
                Ok(Err(error)) => tracing::debug!(%error, "a question was not answered"),
                Err(_) => connection.close(close_code::STALLED, b"stalled"),
            }
        }
    }

    /// Reads one question and sends its answer.
    async fn answer(&self, peer: &PeerId, mut send: SendStream, mut recv: RecvStream) -> Result<(), FrameError> {
        let len = read_len(&mut recv, MAX_QUESTION).await?;
        let question: Question = decode(&read_body(&mut recv, len).await?)?;
        if question.ids.len() > MAX_ASKED {
            return Err(FrameError::Garbage);
        }
        let mut holdings = Vec::with_capacity(question.ids.len());
        let mut room = MAX_RANGES;
        for id in &question.ids {
            let holding = if self.policy.may_serve(id, peer) { self.holding(id, room).await } else { Holding::Nothing };
            if let Holding::Part(groups) = &holding {
                room = room.saturating_sub(groups.len());
            }
            holdings.push(holding);
        }
        let frame = encode(&Answer { holdings }, MAX_ANSWER)?;
        send.write_all(&frame).await.map_err(|error| FrameError::Lost(words::unwritten(&error)))?;
        send.finish().ok();
        Ok(())
    }

    /// This node's share of one blob, as at most `max_ranges` ranges.
    async fn holding(&self, id: &Hash, max_ranges: usize) -> Holding {
        let blobs = self.store.blobs();
        match blobs.status(to_iroh(id)).await {
            Ok(BlobStatus::Complete { .. }) => Holding::All,
            Ok(BlobStatus::Partial { .. }) => match blobs.observe(to_iroh(id)).await {
                Ok(here) if here.is_complete() => Holding::All,
                Ok(here) => Holding::part(&here.ranges, chunks(here.size()), max_ranges),
                Err(_) => Holding::Nothing,
            },
            _ => Holding::Nothing,
        }
    }
}

/// Asks a peer for its shares of at most [`MAX_ASKED`] blobs. Returns one for each of `ids`, in their order.
///
/// # Errors
/// [`FrameError`] if the connection breaks or the answer is malformed.
pub(crate) async fn ask(connection: &Connection, ids: &[Hash]) -> Result<Vec<Have>, FrameError> {
    let lost = |error: iroh::endpoint::ConnectionError| FrameError::Lost(words::lost(&error));
    let (mut send, mut recv) = connection.open_bi().await.map_err(lost)?;
    let frame = encode(&Question { ids: ids.to_vec() }, MAX_QUESTION)?;
    send.write_all(&frame).await.map_err(|error| FrameError::Lost(words::unwritten(&error)))?;
    send.finish().ok();
    let len = read_len(&mut recv, MAX_ANSWER).await?;
    let answer: Answer = decode(&read_body(&mut recv, len).await?)?;
    let ranges: usize =
        answer.holdings.iter().map(|holding| if let Holding::Part(groups) = holding { groups.len() } else { 0 }).sum();
    if answer.holdings.len() != ids.len() || ranges > MAX_RANGES {
        return Err(FrameError::Garbage);
    }
    answer.holdings.into_iter().map(Holding::checked).collect::<Option<_>>().ok_or(FrameError::Garbage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_messages_fit() {
        let question = Question { ids: vec![Hash::of(b""); MAX_ASKED] };
        encode(&question, MAX_QUESTION).unwrap();
        let mut holdings = vec![Holding::Part(vec![(u64::MAX, u64::MAX); MAX_RANGES])];
        holdings.extend(vec![Holding::Part(Vec::new()); MAX_ASKED - 1]);
        encode(&Answer { holdings }, MAX_ANSWER).unwrap();
    }

    #[test]
    fn groups_out_of_order_are_no_answer() {
        for bad in [vec![(1, 1)], vec![(2, 1)], vec![(0, 2), (1, 3)], vec![(5, 6), (0, 1)], vec![(0, u64::MAX)]] {
            assert_eq!(Holding::Part(bad).checked(), None);
        }
        let Some(Have::Part(here)) = Holding::Part(vec![(0, 2), (2, 3), (9, 10)]).checked() else { panic!() };
        assert_eq!(ranges(&here).collect::<Vec<_>>(), [0..48, 144..160]);
    }

    #[test]
    fn a_part_is_told_in_whole_groups() {
        let here = set(&(1..40)) | set(&(96..100));
        assert_eq!(Holding::part(&here, 100, 9), Holding::Part(vec![(1, 2), (6, 7)]));
        assert_eq!(Holding::part(&here, 100, 1), Holding::Part(vec![(1, 2)]));
        assert_eq!(Holding::part(&set(&(1..9)), 100, 9), Holding::Nothing);
    }
}

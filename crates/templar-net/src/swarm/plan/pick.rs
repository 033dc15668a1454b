//! The choice of the next request: rare pieces first, and when every piece is leased, a piece that a slower
//! peer holds.

use std::ops::Range;
use std::time::Duration;

use iroh_blobs::protocol::ChunkRanges;

use crate::peers::peer::PeerId;
use crate::ranges::{CHUNK, GROUP, bytes_of, chunks, ranges, set};
use crate::serve::have::Have;
use crate::swarm::plan::lease::{BlobPiece, Job, Lease, LeaseId, Time};
use crate::swarm::plan::want::Want;
use crate::swarm::plan::{Plan, Supply};

/// The shortest range of one request, in bytes, unless less is missing.
const MIN_RANGE_BYTES: u64 = 1 << 20;

/// The number of ranges into which each peer's share of the missing bytes is cut.
const RANGES_PER_SHARE: u64 = 4;

/// The time, in seconds, that a range takes by the peer's known rate while other nodes fetch the same blob.
/// Short ranges make it rarer that several nodes are sent the same bytes, and a node can pass on each range as
/// soon as it has it.
const SHARED_SECONDS: f64 = 0.5;

/// The shortest range, in bytes, of a blob that other nodes fetch as well. Such ranges begin at its multiples.
const SHARED_RANGE_BYTES: u64 = 256 << 10;

/// A holder that has brought nothing for this long loses its lease to the next idle peer.
const SLOW: Duration = Duration::from_secs(2);

/// A piece that will have come within this time, in seconds, stays with its holder.
const SOON_SECONDS: f64 = 0.25;

/// The smallest number of chunks that changes hands, unless the holder needs longer than [`LONG_SECONDS`] for
/// its rest.
const MIN_TAKEN: u64 = 4 * GROUP;

/// The time, in seconds, above which even a few chunks are taken from their holder.
const LONG_SECONDS: f64 = 1.0;

/// The assumed rate of a peer that has not served us yet, in bytes per second.
const UNKNOWN_RATE: f64 = 1e6;

impl Plan {
    /// The next request to make to this peer. `None` if there is nothing to ask for, or if the peer has enough
    /// requests.
    pub(crate) fn next(&mut self, peer: &PeerId, now: Time) -> Option<Job> {
        let (requests, ranges) = self.peers.get(peer).map_or((0, 0), |supply| (supply.requests, supply.ranges));
        if requests >= self.rules.requests_per_peer {
            return None;
        }
        let free = ranges < self.rules.ranges_per_peer;
        let ranges_too = free || (ranges == self.rules.ranges_per_peer && self.is_nearly_done(peer, now));
        if let Some(number) = self.rarest(peer, ranges_too) {
            return self.begin(number, peer, now);
        }
        if let Some(number) = self.doubtful(peer, ranges_too) {
            return self.begin(number, peer, now);
        }
        if free { self.take_over(peer, now) } else { None }
    }

    /// Whether everything that the peer holds will have come soon.
    ///
    /// Ranges that were requested together end together. If the next one were requested only then, the
    /// connection would be idle for a round trip.
    fn is_nearly_done(&self, peer: &PeerId, now: Time) -> bool {
        self.leases.values().filter(|lease| lease.peer == *peer && !lease.void).all(|lease| match &lease.piece {
            BlobPiece::Range { size, left } => {
                lease.bytes > 0 && Self::seconds_left(lease, bytes_of(left, *size), now) <= SOON_SECONDS
            }
            BlobPiece::Whole | BlobPiece::Proof { .. } => true,
        })
    }

    /// The want that the fewest peers have, among those of which this peer has a missing piece. The oldest of
    /// equals wins.
    fn rarest(&self, peer: &PeerId, ranges_too: bool) -> Option<u64> {
        let mut best: Option<(usize, u64)> = None;
        for (number, want) in self.open_wants() {
            if best.is_some_and(|(havers, _)| havers <= want.havers)
                || !want.has_work()
                || want.answers.contains_key(peer)
                || !(ranges_too || want.size.is_none() || want.is_small())
            {
                continue;
            }
            let has = match want.haves.get(peer) {
                Some(Have::All) => true,
                // A peer with a part of a blob has the proof of its length, too.
                Some(Have::Part(part)) => {
                    !want.is_small() && (want.size.is_none() || !(part & &want.missing).is_empty())
                }
                _ => false,
            };
            if has {
                best = Some((want.havers, number));
            }
        }
        best.map(|(_, number)| number)
    }

    /// A want that no peer says it has. This peer said that it has nothing of it, but it may have got the blob
    /// since, or may be allowed to serve it by now.
    fn doubtful(&self, peer: &PeerId, ranges_too: bool) -> Option<u64> {
        let doubtful = self.open_wants().find(|(_, want)| {
            want.leases == 0
                && want.havers == 0
                && (ranges_too || want.size.is_none() || want.is_small())
                && matches!(want.haves.get(peer), Some(Have::Nothing))
        });
        doubtful.map(|(number, _)| number)
    }

    /// Leases a piece of this want to the peer.
    fn begin(&mut self, number: u64, peer: &PeerId, now: Time) -> Option<Job> {
        let want = self.wants.get(&number)?;
        let piece = match want.size {
            _ if want.is_small() => BlobPiece::Whole,
            None => BlobPiece::Proof { start: Self::proof_start(want.max_bytes) },
            Some(size) => BlobPiece::Range { size, left: self.choose_range(want, peer)? },
        };
        self.lease(number, peer, piece, now)
    }

    /// Chooses a range of missing chunks that the fewest other peers have.
    ///
    /// A node that fetches a blob alone goes through it from its own place on. If other nodes fetch it as well,
    /// each range begins at a scattered place: in the same order, all of them would ask for the same chunks.
    fn choose_range(&self, want: &Want, peer: &PeerId) -> Option<Range<u64>> {
        let total = chunks(want.size?);
        let others: Vec<&ChunkRanges> =
            want.haves.iter().filter(|(other, _)| *other != peer).filter_map(part).collect();
        let own = want.haves.get(peer).and_then(|have| part((peer, have)));
        let available = own.map_or_else(|| want.missing.clone(), |own| own & &want.missing);
        let is_shared = want.haves.values().any(|have| !matches!(have, Have::All));
        let rarest = rarest_of(&available, &others);
        let length = self.range_chunks(want, peer, is_shared);
        let (offset, first) = (self.rules.offset % total.max(1) / GROUP * GROUP, rarest.first()?);
        if !is_shared {
            let from = rarest.iter().find(|range| range.end > offset);
            let (start, end) = from.map_or((first.start, first.end), |range| (range.start.max(offset), range.end));
            return Some(start..end.min(start.saturating_add(length)));
        }
        let mut place = scattered(self.rules.offset ^ self.next_lease)
            % rarest.iter().map(|range| range.end - range.start).sum::<u64>();
        for range in rarest {
            let span = range.end - range.start;
            if place < span {
                let grid = SHARED_RANGE_BYTES / CHUNK;
                let start = ((range.start + place) / grid * grid).max(range.start);
                return Some(start..range.end.min(start.saturating_add(length)));
            }
            place -= span;
        }
        None
    }

    /// The number of chunks that one request asks for.
    fn range_chunks(&self, want: &Want, peer: &PeerId, is_shared: bool) -> u64 {
        let peers = want.havers.max(1) as u64;
        let share = (want.missing_bytes() / (peers * RANGES_PER_SHARE)).max(MIN_RANGE_BYTES);
        let brief = ((self.rate(peer) * SHARED_SECONDS) as u64).max(SHARED_RANGE_BYTES);
        let bytes = if is_shared { share.min(brief) } else { share }.min(self.rules.max_range_bytes);
        (bytes / CHUNK / GROUP).max(1) * GROUP
    }

    /// The bytes per second of one request to this peer, or [`UNKNOWN_RATE`].
    fn rate(&self, peer: &PeerId) -> f64 {
        let known = |supply: &Supply| (supply.rate > 0.0).then_some(supply.rate);
        self.peers.get(peer).and_then(known).unwrap_or(UNKNOWN_RATE)
    }

    /// The seconds that the holder of a lease will take for the remaining `bytes`, by its rate so far.
    ///
    /// This is infinite for a holder that has brought nothing for [`SLOW`], and 0 for one that has only just
    /// begun.
    fn seconds_left(lease: &Lease, bytes: u64, now: Time) -> f64 {
        let elapsed = now.saturating_sub(lease.since).as_secs_f64();
        if lease.bytes == 0 || now.saturating_sub(lease.progressed) >= SLOW {
            return if now.saturating_sub(lease.progressed) >= SLOW { f64::INFINITY } else { 0.0 };
        }
        bytes as f64 * elapsed / lease.bytes as f64
    }

    /// Takes over a piece from the holder that would finish last, if this peer brings it sooner.
    ///
    /// Of a range it takes the end, so that both finish at the same time, or all of it if the holder brings
    /// nothing. A small blob is requested once more, and the first answer counts.
    fn take_over(&mut self, peer: &PeerId, now: Time) -> Option<Job> {
        if self.peers.get(peer).is_some_and(|supply| supply.stalled) {
            // Otherwise peers that bring nothing would take the same range from one another for ever.
            return None;
        }
        let mut slowest: Option<(f64, LeaseId)> = None;
        for (id, lease) in &self.leases {
            if lease.void || lease.peer == *peer {
                continue;
            }
            let Some(want) = self.wants.get(&lease.want).filter(|want| want.settled.is_none()) else { continue };
            if want.answers.contains_key(peer) {
                continue;
            }
            let seconds = match (&lease.piece, want.haves.get(peer)) {
                (BlobPiece::Range { size, left }, Some(have)) if has_all(have, left) => {
                    Self::seconds_left(lease, bytes_of(left, *size), now)
                }
                (BlobPiece::Whole | BlobPiece::Proof { .. }, Some(Have::All)) => {
                    let seconds = Self::seconds_left(lease, want.max_bytes.saturating_sub(lease.bytes), now);
                    // This peer would have to send the whole blob again, so it must be much faster to be worth
                    // that.
                    let again = 2.0 * want.max_bytes as f64 / self.rate(peer);
                    let worth = seconds > again.max(SLOW.as_secs_f64()) && want.leases == 1;
                    if worth || seconds.is_infinite() { seconds } else { 0.0 }
                }
                _ => 0.0,
            };
            if seconds > slowest.map_or(SOON_SECONDS, |(most, _)| most) {
                slowest = Some((seconds, *id));
            }
        }
        let (seconds, id) = slowest?;
        let (own_rate, lease) = (self.rate(peer), self.leases.get_mut(&id)?);
        let (number, holder) = (lease.want, lease.peer);
        let piece = match &mut lease.piece {
            BlobPiece::Range { size, left } => {
                let length = left.end - left.start;
                let holder_rate = bytes_of(left, *size) as f64 / seconds;
                // With this split, both peers finish at the same time.
                let taken = (length as f64 * own_rate / (own_rate + holder_rate)) as u64;
                let taken = if seconds.is_infinite() { length } else { taken.min(length) };
                let middle = (left.end - taken).next_multiple_of(GROUP).clamp(left.start, left.end);
                let taken = middle..left.end;
                let least = if seconds > LONG_SECONDS { 1 } else { MIN_TAKEN };
                if taken.end - taken.start < least {
                    return None;
                }
                left.end = middle;
                BlobPiece::Range { size: *size, left: taken }
            }
            piece => piece.clone(),
        };
        if seconds.is_infinite() {
            self.void(id);
            if let Some(supply) = self.peers.get_mut(&holder) {
                supply.stalled = true;
            }
        }
        self.lease(number, peer, piece, now)
    }
}

/// The ranges of `available` that the fewest of `others` have, in ascending order.
pub(super) fn rarest_of(available: &ChunkRanges, others: &[&ChunkRanges]) -> Vec<Range<u64>> {
    // The chunks at which a share of another peer begins (+1) or ends (-1).
    let mut borders: Vec<(u64, i64)> = Vec::new();
    for part in others {
        borders.extend(part.boundaries().iter().zip([1, -1].into_iter().cycle()).map(|(chunk, step)| (chunk.0, step)));
    }
    borders.sort_unstable();
    let (mut least, mut rarest) = (i64::MAX, Vec::new());
    let (mut havers, mut next) = (0, 0);
    for range in ranges(available) {
        let mut start = range.start;
        while start < range.end {
            while let Some((_, step)) = borders.get(next).filter(|(border, _)| *border <= start) {
                havers += step;
                next += 1;
            }
            let end = borders.get(next).map_or(range.end, |(border, _)| range.end.min(*border));
            if havers < least {
                least = havers;
                rarest.clear();
            }
            if havers == least {
                rarest.push(start..end);
            }
            start = end;
        }
    }
    rarest
}

/// A scattered number (splitmix64). It only has to differ between nodes, and from one request to the next.
fn scattered(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The chunks of a peer that has only a part of the blob.
fn part<'a>((_, have): (&PeerId, &'a Have)) -> Option<&'a ChunkRanges> {
    match have {
        Have::Part(part) => Some(part),
        _ => None,
    }
}

/// Whether the share covers the range.
fn has_all(have: &Have, range: &Range<u64>) -> bool {
    match have {
        Have::All => true,
        Have::Part(part) => set(range).is_subset(part),
        Have::Nothing => false,
    }
}

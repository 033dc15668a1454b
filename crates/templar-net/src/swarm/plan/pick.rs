//! What a peer is asked for next: the rarest first; when nothing is left to begin, what a slower peer holds.

use std::ops::Range;
use std::time::Duration;

use iroh_blobs::protocol::ChunkRanges;

use super::super::ranges::{CHUNK, GROUP, bytes_of, chunks, ranges, set};
use super::{Job, Lease, LeaseId, Plan, Task, Time, Want};
use crate::have::Have;
use crate::peer::PeerId;

/// The shortest range of one request, in bytes, where there is so much left to share.
const MIN_RANGE_BYTES: u64 = 1 << 20;

/// Each peer's share of what is missing is cut into so many ranges.
const RANGES_PER_SHARE: u64 = 4;

/// While others fetch the same blob, a range takes so long by what is known of the peer: whoever asks for what another is
/// being sent wastes it, and what one has the others can take from it.
const SHARED_SECONDS: f64 = 0.5;

/// But no range is shorter than this, and those of a blob that others fetch begin at its multiples.
const SHARED_RANGE_BYTES: u64 = 256 << 10;

/// A holder that has brought nothing for so long loses what it holds to whoever is free.
const SLOW: Duration = Duration::from_secs(2);

/// What would be here so soon anyway is left to its holder.
const SOON_SECONDS: f64 = 0.25;

/// Not fewer chunks than these change hands, unless their holder needs long for them.
const MIN_TAKEN: u64 = 4 * GROUP;

/// What is long.
const LONG_SECONDS: f64 = 1.0;

/// Bytes a second of a peer of which nothing is known.
const UNKNOWN_RATE: f64 = 1e6;

impl Plan {
    /// The next request for this peer, if there is one and the peer may have one more.
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

    /// Whether all ranges that the peer holds will be here soon. Those that began together end together: if one more were
    /// asked for only then, the line would be idle for a round trip.
    fn is_nearly_done(&self, peer: &PeerId, now: Time) -> bool {
        self.leases.values().filter(|lease| lease.peer == *peer && !lease.void).all(|lease| match &lease.task {
            Task::Range { size, left } => {
                lease.bytes > 0 && Self::seconds_left(lease, bytes_of(left, *size), now) <= SOON_SECONDS
            }
            Task::Whole | Task::Proof { .. } => true,
        })
    }

    /// Of the wants that the peer has something for, the one that the fewest peers have; the oldest of equals.
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
                // Whoever has a part has the proof of the length, as we do.
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

    /// A want that no peer says it has, and that this peer may get, or be allowed to give, after all.
    fn doubtful(&self, peer: &PeerId, ranges_too: bool) -> Option<u64> {
        let doubtful = self.open_wants().find(|(_, want)| {
            want.leases == 0
                && want.havers == 0
                && (ranges_too || want.size.is_none() || want.is_small())
                && matches!(want.haves.get(peer), Some(Have::Nothing))
        });
        doubtful.map(|(number, _)| number)
    }

    fn begin(&mut self, number: u64, peer: &PeerId, now: Time) -> Option<Job> {
        let want = self.wants.get(&number)?;
        let task = match want.size {
            _ if want.is_small() => Task::Whole,
            None => Task::Proof { start: Self::proof_start(want.max_bytes) },
            Some(size) => Task::Range { size, left: self.choose_range(want, peer)? },
        };
        self.lease(number, peer, task, now)
    }

    /// Missing chunks that the fewest other peers have. Alone, a node goes through a blob from its own place on. Where others
    /// fetch it too, it begins anywhere: from the same place on, all of them would ask for the same.
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

    /// How many chunks one request asks for.
    fn range_chunks(&self, want: &Want, peer: &PeerId, is_shared: bool) -> u64 {
        let peers = want.havers.max(1) as u64;
        let share = (want.missing_bytes() / (peers * RANGES_PER_SHARE)).max(MIN_RANGE_BYTES);
        let brief = ((self.rate(peer) * SHARED_SECONDS) as u64).max(SHARED_RANGE_BYTES);
        let bytes = if is_shared { share.min(brief) } else { share }.min(self.rules.max_range_bytes);
        (bytes / CHUNK / GROUP).max(1) * GROUP
    }

    /// Bytes a second of one request to this peer, as far as known.
    fn rate(&self, peer: &PeerId) -> f64 {
        let known = |supply: &super::Supply| (supply.rate > 0.0).then_some(supply.rate);
        self.peers.get(peer).and_then(known).unwrap_or(UNKNOWN_RATE)
    }

    /// How many seconds the holder of a lease will take for the rest, by what it has done so far.
    fn seconds_left(lease: &Lease, bytes: u64, now: Time) -> f64 {
        let elapsed = now.saturating_sub(lease.since).as_secs_f64();
        if lease.bytes == 0 || now.saturating_sub(lease.progressed) >= SLOW {
            // It may have begun just now.
            return if now.saturating_sub(lease.progressed) >= SLOW { f64::INFINITY } else { 0.0 };
        }
        bytes as f64 * elapsed / lease.bytes as f64
    }

    /// Takes from the holder that would finish last what this peer brings sooner: of a range the end, or all of it
    /// where its holder brings nothing. A small blob is asked for once more, and counts from whom it comes first.
    fn take_over(&mut self, peer: &PeerId, now: Time) -> Option<Job> {
        if self.peers.get(peer).is_some_and(|supply| supply.stalled) {
            // Peers that bring nothing would take the same range from one another for ever.
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
            let seconds = match (&lease.task, want.haves.get(peer)) {
                (Task::Range { size, left }, Some(have)) if has_all(have, left) => {
                    Self::seconds_left(lease, bytes_of(left, *size), now)
                }
                (Task::Whole | Task::Proof { .. }, Some(Have::All)) => {
                    let seconds = Self::seconds_left(lease, want.max_bytes.saturating_sub(lease.bytes), now);
                    // All of it would come again.
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
        let task = match &mut lease.task {
            Task::Range { size, left } => {
                let length = left.end - left.start;
                let holder_rate = bytes_of(left, *size) as f64 / seconds;
                // Both would finish at the same time.
                let taken = (length as f64 * own_rate / (own_rate + holder_rate)) as u64;
                let taken = if seconds.is_infinite() { length } else { taken.min(length) };
                let middle = (left.end - taken).next_multiple_of(GROUP).clamp(left.start, left.end);
                let taken = middle..left.end;
                let least = if seconds > LONG_SECONDS { 1 } else { MIN_TAKEN };
                if taken.end - taken.start < least {
                    return None;
                }
                left.end = middle;
                Task::Range { size: *size, left: taken }
            }
            task => task.clone(),
        };
        if seconds.is_infinite() {
            self.void(id);
            if let Some(supply) = self.peers.get_mut(&holder) {
                supply.stalled = true;
            }
        }
        self.lease(number, peer, task, now)
    }
}

/// Of these chunks, those that the fewest of the others have; in order.
pub(super) fn rarest_of(available: &ChunkRanges, others: &[&ChunkRanges]) -> Vec<Range<u64>> {
    // Where others begin to have something, and where they cease to.
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

/// A number that looks drawn (splitmix64): what this node asks for next must differ from what others do, no more.
fn scattered(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn part<'a>((_, have): (&PeerId, &'a Have)) -> Option<&'a ChunkRanges> {
    match have {
        Have::Part(part) => Some(part),
        _ => None,
    }
}

fn has_all(have: &Have, range: &Range<u64>) -> bool {
    match have {
        Have::All => true,
        Have::Part(part) => set(range).is_subset(part),
        Have::Nothing => false,
    }
}

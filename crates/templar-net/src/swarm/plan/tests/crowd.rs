//! Many nodes want the same blob, which only a seeder has, each with its own plan. The tests bound the seeder's
//! uploads and the time.

use std::collections::BTreeMap;

use iroh_blobs::protocol::ChunkRanges;
use templar_manifest::Hash;

use super::super::*;
use super::{TICK, nothing};
use crate::ranges::{GROUP, GROUP_BYTES, chunks, set};

/// The groups that each node sends in a tick, which is 16 MiB per second.
const UP: u64 = 20;

/// The ticks between two answers about a peer's share.
const NEWS: u64 = 10;

/// A simulated request.
struct Running {
    provider: usize,
    piece: BlobPiece,
    next: u64,
}

struct Receiver {
    plan: Plan,
    here: ChunkRanges,
    running: BTreeMap<LeaseId, Running>,
}

impl Receiver {
    fn end(&mut self, lease: LeaseId, now: Time) {
        if self.running.remove(&lease).is_some() {
            self.plan.finish(lease, None, now);
        }
    }

    /// Brings one more group of a request.
    fn take(&mut self, lease: LeaseId, size: u64, now: Time) {
        let Some(running) = self.running.get_mut(&lease) else { return };
        match running.piece {
            BlobPiece::Proof { start } => {
                let last = set(&(start..chunks(size)));
                self.here |= last.clone();
                self.plan.proved(lease, size, &last);
                self.end(lease, now);
            }
            BlobPiece::Range { .. } => {
                let next = (running.next + GROUP).min(chunks(size));
                let group = set(&(running.next..next));
                running.next = next;
                match self.plan.advance(lease, next, now) {
                    Some(end) if next <= end => {
                        self.here |= group;
                        if next == end {
                            self.end(lease, now);
                        }
                    }
                    _ => self.end(lease, now),
                }
            }
            BlobPiece::Whole => panic!("it is not small"),
        }
    }
}

/// Returns the number of groups that the seeder sent, and the ticks until all nodes have the blob.
fn play(count: u8, size: u64) -> (u64, u64) {
    let id = Hash::of(b"blob");
    let peer = |number: usize| [u8::try_from(number).unwrap(); 32];
    let mut receivers: Vec<Receiver> = (1..=count)
        .map(|number| {
            let [a, b, c, d, e, f, g, h, ..] = *Hash::of(&[number]).as_bytes();
            let offset = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let mut plan = Plan::new(Rules { offset, ..super::rules() });
            plan.register(id, size, &[], &nothing());
            plan.set_have(&peer(0), &id, Have::All);
            Receiver { plan, here: ChunkRanges::empty(), running: BTreeMap::new() }
        })
        .collect();
    let whole = set(&(0..chunks(size)));
    let (mut sent, mut ticks) = (0, 0);
    while receivers.iter().any(|receiver| receiver.here != whole) {
        assert!(ticks < 20_000, "it does not end");
        let now = TICK * u32::try_from(ticks).unwrap();
        if ticks % NEWS == 0 {
            let parts: Vec<ChunkRanges> = receivers.iter().map(|receiver| receiver.here.clone()).collect();
            for (number, receiver) in receivers.iter_mut().enumerate() {
                for (other, part) in parts.iter().enumerate().filter(|(other, _)| *other != number) {
                    let have = if *part == whole {
                        Have::All
                    } else if part.is_empty() {
                        Have::Nothing
                    } else {
                        Have::Part(part.clone())
                    };
                    receiver.plan.set_have(&peer(other + 1), &id, have);
                }
            }
        }
        for (number, receiver) in receivers.iter_mut().enumerate() {
            for provider in (0..=usize::from(count)).filter(|provider| *provider != number + 1) {
                while let Some(Job { lease, piece, .. }) = receiver.plan.next(&peer(provider), now) {
                    let next = if let BlobPiece::Range { left, .. } = &piece { left.start } else { 0 };
                    receiver.running.insert(lease, Running { provider, piece, next });
                }
            }
            for lease in receiver.plan.take_voided() {
                receiver.end(lease, now);
            }
        }
        for provider in 0..=usize::from(count) {
            // Its upload is shared between all nodes that ask.
            let mut left = UP;
            loop {
                let asked: Vec<(usize, LeaseId)> = receivers
                    .iter()
                    .enumerate()
                    .flat_map(|(number, receiver)| {
                        receiver.running.iter().map(move |(lease, running)| (number, *lease, running))
                    })
                    .filter(|(.., running)| running.provider == provider)
                    .map(|(number, lease, _)| (number, lease))
                    .collect();
                if asked.is_empty() || left == 0 {
                    break;
                }
                for (number, lease) in asked.into_iter().take(usize::try_from(left).unwrap()) {
                    left -= 1;
                    sent += u64::from(provider == 0);
                    receivers[number].take(lease, size, now);
                }
            }
        }
        ticks += 1;
    }
    (sent, ticks)
}

#[test]
fn what_one_seeder_sends_to_many_leaves_it_about_once() {
    let size = 96 << 20;
    let groups = size / GROUP_BYTES;
    let (_, alone) = play(1, size);
    let (sent, ticks) = play(8, size);
    assert!(sent <= groups * 5 / 4, "{sent} of {groups} groups left the seeder");
    assert!(ticks <= alone * 3 / 2, "{ticks} ticks for eight, {alone} for one");
}

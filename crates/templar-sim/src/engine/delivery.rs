//! Entries on their way: batches of a log that a peer pulls, and entries that an adversary sends to single members.

use std::collections::VecDeque;

use templar_protocol::{Entry, Reject, Verified};

use super::Simulation;
use super::queue::SimEvent;
use crate::config::Faults;
use crate::journal::NumberedEntry;

/// The first and the longest pause before a log is read again of which an entry was not accepted, in milliseconds, as
/// in `templar-net`.
const READ_AGAIN_MS: (u64, u64) = (2_000, 30_000);

/// Whether an honest node may have accepted an entry that another refuses for this reason: it depends on which entries
/// came first.
pub(super) fn depends_on_order(reject: &Reject) -> bool {
    use templar_protocol::RegistrationError::{AfterCut, Second};
    matches!(
        reject,
        Reject::Early { .. }
            | Reject::Over
            | Reject::NotInCut(_)
            | Reject::AfterSet(_)
            | Reject::TooMany { .. }
            | Reject::Wrong(_)
            | Reject::Shown(_)
            | Reject::Registration(AfterCut(_) | Second(_))
    )
}

impl Simulation {
    /// Lets every peer pull from the nodes whose logs have grown.
    pub(super) fn tell_peers(&mut self) {
        let mut grown = std::mem::take(&mut self.grown);
        for who in grown.drain(..) {
            for place in 0..self.network.out[who].len() {
                let link = self.network.out[who][place];
                self.send(link);
            }
        }
        // Sending does not let a log grow. The memory is used again.
        self.grown = grown;
    }

    /// Sends the next batch over a link, if the log has more entries and the link is neither busy nor broken.
    pub(super) fn send(&mut self, index: usize) {
        let link = &self.network.links[index];
        if link.is_busy {
            return;
        }
        let (from, to, upto) = (link.from, link.to, self.members[link.from].journal.log.end());
        let is_up = |who: usize| self.members[who].machine.is_up;
        if link.cursor >= upto || !is_up(from) || !is_up(to) || self.network.cut_off(from, to) {
            return;
        }
        self.network.links[index].is_busy = true;
        let after_ms = self.network.delay_ms(index, &mut self.rng);
        let life = self.members[to].machine.life;
        self.queue.schedule(after_ms, SimEvent::Batch { link: index, upto, life });
    }

    /// Gives an arriving batch to its receiver, unless the link broke or the receiver crashed meanwhile. Then the batch
    /// is sent again as soon as the link is whole.
    pub(super) fn arrive(&mut self, index: usize, upto: u64, life: u32) {
        let link = &mut self.network.links[index];
        link.is_busy = false;
        let (from, to) = (link.from, link.to);
        if !self.members[to].lives(life) || self.network.cut_off(from, to) {
            return self.send(index);
        }
        let cursor = std::mem::replace(&mut self.network.links[index].cursor, upto);
        let receiver = &self.members[to];
        let mut batch: Vec<NumberedEntry> = self.members[from]
            .journal
            .log
            .range(cursor, upto)
            .filter(|carried| !receiver.journal.seen.contains(carried.number))
            .cloned()
            .collect();
        if self.config.faults == Faults::Heavy {
            // One stream keeps the order and repeats nothing; a node that pulls from several peers at once sees both.
            if self.rng.chance(300_000) {
                self.rng.shuffle(&mut batch);
            }
            let again = batch.iter().find(|_| self.rng.chance(50_000)).cloned();
            batch.extend(again);
        }
        if !batch.is_empty() && self.take_all(to, index, batch) {
            // One question after the whole batch is enough, because the answer follows from the state alone.
            let wanted = self.members[to].node.todo();
            self.carry(to, wanted);
        }
        self.send(index);
    }

    /// Gives a node the entries of a peer's log; returns whether it accepted any. It is a violation if it
    /// refuses for good an entry that an honest peer accepted.
    fn take_all(&mut self, to: usize, link: usize, batch: Vec<NumberedEntry>) -> bool {
        let from = self.network.links[link].from;
        let mut took = false;
        let mut queue = VecDeque::from(batch);
        while let Some(carried) = queue.pop_front() {
            let window = self.members[to].window();
            match self.submit_of_many(to, &carried) {
                Ok(()) => {
                    self.members[to].journal.seen.insert(carried.number);
                    took = true;
                }
                Err(Reject::Early { .. }) => self.members[to].journal.keep_early(carried),
                Err(Reject::TooMany { .. }) => self.read_again(link),
                Err(reject) if depends_on_order(&reject) => {}
                Err(reject) => {
                    if self.members[from].is_honest() {
                        let detail = format!(
                            "node {from} accepted entry {} of window {} and it is refused: {reject}",
                            carried.number,
                            carried.entry.window()
                        );
                        self.violated("what an honest node accepts, all accept", to, detail);
                    }
                }
            }
            if self.members[to].window() > window {
                queue.extend(std::mem::take(&mut self.members[to].journal.early));
            }
        }
        took
    }

    /// Schedules that a log is read again from its beginning, because an entry was not accepted that may be
    /// wanted later.
    fn read_again(&mut self, index: usize) {
        let link = &mut self.network.links[index];
        if !link.reads_again {
            link.reads_again = true;
            link.read_again_ms = (link.read_again_ms * 2).clamp(READ_AGAIN_MS.0, READ_AGAIN_MS.1);
            let after_ms = link.read_again_ms;
            self.queue.schedule(after_ms, SimEvent::ReadAgain { link: index });
        }
    }

    /// Reads a log again from its beginning.
    pub(super) fn read_now(&mut self, index: usize) {
        let start = self.members[self.network.links[index].from].journal.log.start();
        let link = &mut self.network.links[index];
        link.reads_again = false;
        link.cursor = start;
        self.send(index);
    }

    /// Gives a node an entry that its author sent to this node alone.
    pub(super) fn take_direct(&mut self, to: usize, carried: &NumberedEntry) {
        match self.submit(to, carried.input()) {
            Ok(outputs) => {
                self.members[to].journal.seen.insert(carried.number);
                self.carry(to, outputs);
            }
            Err(reject) => self.notice(to, &carried.entry.signer(), format!("refused: {reject}")),
        }
    }

    /// Decodes a member's entry and checks its signature, once for all members.
    ///
    /// # Panics
    /// If the signature is wrong: members sign what they send with their own keys.
    pub(super) fn verified(&mut self, entry: Entry) -> NumberedEntry {
        let verified = Verified::open(entry).expect("a member signs with its own key");
        self.entries.number(&verified)
    }

    /// Sends an entry to one member, past the logs.
    pub(super) fn send_directly(&mut self, to: usize, entry: Entry) {
        let carried = self.verified(entry);
        let after_ms = self.network.detour_ms(&mut self.rng);
        self.queue.schedule(after_ms, SimEvent::Direct { to, carried });
    }

    /// Sends an entry to every other member, past the logs.
    pub(super) fn send_to_all(&mut self, from: usize, entry: &Entry) {
        for to in (0..self.members.len()).filter(|to| *to != from) {
            self.send_directly(to, entry.clone());
        }
    }
}

//! Entries beyond their signer's limit, set aside until an accepted entry names them.
//!
//! They are found by what they wait for, so an accepted entry costs as much as it names, however much is set aside.
//! The order in which they are taken in is that of their signers, and of one signer that in which they came.

use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{Hash, PublicKey, Vote, VoteOn, VoteStep};

use super::verified::{Opened, Verified};

/// The most entries of one signer and kind that are set aside until something names them. Votes have their own places,
/// since a validator may sign many of them before anybody names its inbox or score.
const MAX_ASIDE: usize = 32;

/// The thing for which an entry waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Awaited {
    /// An accepted entry that names this payload.
    Naming(Hash),
    /// The same vote by others.
    Support(VoteOn, u32, VoteStep, Option<Hash>),
}

/// The place of an entry: its signer, and how many entries were set aside before it.
type Place = (PublicKey, u64);

/// The entries that are set aside.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Aside {
    entries: BTreeMap<Place, Verified>,
    waiting: BTreeMap<Awaited, BTreeSet<Place>>,
    /// Those whose thing has come since they were last looked at.
    called: BTreeSet<Place>,
    /// How many were ever set aside.
    count: u64,
}

fn support(vote: &Vote) -> Awaited {
    Awaited::Support(vote.on, vote.attempt, vote.step, vote.value)
}

/// The thing for which an entry waits.
fn awaited(opened: &Opened) -> Awaited {
    match opened {
        Opened::Vote(signed) => support(signed.payload()),
        opened => Awaited::Naming(opened.payload_id()),
    }
}

/// The things that are there once this entry is accepted.
fn brought(opened: &Opened) -> Vec<Awaited> {
    match opened {
        Opened::Inbox(signed) => {
            let named = signed.payload().contributions.iter();
            named.map(|entry| Awaited::Naming(entry.contribution.hash())).collect()
        }
        Opened::Cut(signed) => signed.payload().inboxes.iter().map(|id| Awaited::Naming(id.hash())).collect(),
        Opened::Window(proposed) => {
            let body = &proposed.record.body;
            let refuted = body.refuted.iter().map(|refuted| refuted.score);
            body.scores.iter().copied().chain(refuted).map(|id| Awaited::Naming(id.hash())).collect()
        }
        Opened::Vote(signed) => {
            let vote = signed.payload();
            vote.value.map(Awaited::Naming).into_iter().chain([support(vote)]).collect()
        }
        Opened::Contribution(_) | Opened::Registration(_) | Opened::Reveals(_) => Vec::new(),
        Opened::Score(_) | Opened::Reveal(_) | Opened::Evidence(_) => Vec::new(),
    }
}

impl Aside {
    /// Sets an entry aside for which there is no room. Returns whether it is kept; of each signer and kind the first are.
    /// Registrations and evidence are not kept, since anybody may sign them.
    pub(super) fn keep(&mut self, verified: &Verified) -> bool {
        if matches!(verified.opened(), Opened::Registration(_) | Opened::Evidence(_)) {
            return false;
        }
        let signer = verified.signer();
        let of_signer = self.entries.range((signer, 0)..=(signer, u64::MAX));
        if of_signer.clone().any(|(_, other)| other.id() == verified.id()) {
            return true;
        }
        let kind = verified.opened().name();
        if of_signer.filter(|(_, other)| other.opened().name() == kind).count() >= MAX_ASIDE {
            return false;
        }
        let place = (signer, self.count);
        self.count += 1;
        self.waiting.entry(awaited(verified.opened())).or_default().insert(place);
        self.entries.insert(place, verified.clone());
        true
    }

    /// Notes that an entry is accepted, for which some of these may wait.
    pub(super) fn call(&mut self, accepted: &Opened) {
        if self.waiting.is_empty() {
            return;
        }
        for thing in brought(accepted) {
            self.called.extend(self.waiting.get(&thing).into_iter().flatten());
        }
    }

    /// Takes out the first entry that was called and that `is_due` now.
    pub(super) fn take(&mut self, is_due: impl Fn(&Verified) -> bool) -> Option<Verified> {
        while let Some(place) = self.called.pop_first() {
            // One vote more may not be enough, and an entry may have come again by itself.
            if self.entries.get(&place).is_some_and(&is_due) {
                return self.remove(place);
            }
        }
        None
    }

    fn remove(&mut self, place: Place) -> Option<Verified> {
        let entry = self.entries.remove(&place)?;
        let thing = awaited(entry.opened());
        if let Some(places) = self.waiting.get_mut(&thing) {
            places.remove(&place);
            if places.is_empty() {
                self.waiting.remove(&thing);
            }
        }
        Some(entry)
    }

    /// The slow twin of [`Aside::take`]: the first of all entries that is due.
    #[cfg(test)]
    pub(super) fn first_due(&self, is_due: impl Fn(&Verified) -> bool) -> Option<Hash> {
        self.entries.values().find(|entry| is_due(entry)).map(Verified::id)
    }
}

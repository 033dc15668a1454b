//! The members of a run: who has which slot, and how much a slot costs.
//!
//! Genesis names the first members. From then on anybody joins by proof of work or by burning ALPHA, and nobody
//! can refuse a newcomer. If all slots are taken, the member with the lowest average weight is replaced, once
//! it has had time to earn some, or if it does not use its slot. Of equal ones the newest is replaced, so a flood
//! of keys replaces itself and no old member. An owner keeps its slot from window to window and may name another node
//! key for it.
//!
//! A closed window decides about the registrations of its cut in [`Members::decide`]. The decision holds from
//! the next window on, so members never change while a window is open.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use templar_manifest::{
    Admission, Admitted, Certificate, Hash, Payment, PublicKey, RegistrationId, RegistrationSpec, Weight, WindowIndex,
};

/// A member: an owner with a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The owner key (coldkey), whose account is paid.
    pub owner: PublicKey,
    /// The node key (hotkey), which trains for the owner and signs its contributions.
    pub node: PublicKey,
    /// The number of the slot, which decides the member's pages.
    pub slot: u32,
    /// The first window to which the member may contribute.
    pub since: WindowIndex,
    /// The anchor of the certificate that named the node key. A rotation needs a newer one.
    pub anchor: WindowIndex,
    /// The member's consensus weight, averaged over windows, in 1e-9.
    pub merit_nanos: u64,
    /// The window after its last accepted contribution; its first window while it has none.
    pub idle_since: WindowIndex,
}

impl Member {
    /// Whether the member has had no accepted contribution for so long, in the open window `window`, that nobody
    /// waits for it and its slot can be taken.
    pub fn is_idle(&self, spec: &RegistrationSpec, window: WindowIndex) -> bool {
        window.0.saturating_sub(self.idle_since.0) >= spec.idle_windows
    }
}

/// The beginning of a window, to which a certificate can be anchored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The window that begins.
    pub window: WindowIndex,
    /// The seed of the window before, which nobody knew before that window's reveals.
    pub seed: Hash,
}

/// The members of a window, and the prices of a slot in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    by_slot: BTreeMap<u32, Member>,
    of_owner: BTreeMap<PublicKey, u32>,
    of_node: BTreeMap<PublicKey, u32>,
    anchors: BTreeMap<WindowIndex, Anchor>,
    hashes: u64,
    burn_micros: u64,
}

/// The order in which the registrations of a window are decided: first rotations, then work, the most first,
/// then burns, the highest first. Of equal ones the lower id comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    way: PaidBy,
    measure: u128,
    id: RegistrationId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PaidBy {
    Rotation,
    Hashcash,
    Burn,
}

impl Rank {
    /// The registrations that an inbox names, out of `ranked`: every rotation, and of each way of payment twice
    /// as many as a window admits. So inboxes that received different ones still agree about the best.
    pub(crate) fn named<T>(mut ranked: Vec<(Self, T)>, spec: &RegistrationSpec) -> Vec<T> {
        ranked.sort_unstable_by_key(|(rank, _)| *rank);
        let mut counts = BTreeMap::<PaidBy, u32>::new();
        ranked.retain(|(rank, _)| {
            let count = counts.entry(rank.way).or_default();
            *count += 1;
            match rank.way {
                PaidBy::Rotation => true,
                PaidBy::Hashcash => *count <= 2 * spec.hashcash.per_window,
                PaidBy::Burn => *count <= 2 * spec.burn.per_window,
            }
        });
        ranked.into_iter().map(|(_, named)| named).collect()
    }

    /// The most registrations that an honest inbox names.
    pub(crate) fn most_named(spec: &RegistrationSpec) -> usize {
        (2 * spec.hashcash.per_window + 2 * spec.burn.per_window + spec.slots) as usize
    }
}

/// The facts of a closing window that decide about its members.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowEnd<'a> {
    /// The window that closes.
    pub(crate) window: WindowIndex,
    /// The seed of that window.
    pub(crate) seed: Hash,
    /// The consensus weights of its record, sorted by miner.
    pub(crate) weights: &'a [Weight],
    /// The owners whose contribution the record accepts.
    pub(crate) contributed: &'a BTreeSet<PublicKey>,
}

/// The decision of a window about its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decided {
    /// The members of the next window.
    pub(crate) members: Members,
    /// The verdicts on registrations, sorted by owner.
    pub(crate) admissions: Vec<Admission>,
    /// The owners that pay by burning, and the amounts in micro-ALPHA.
    pub(crate) burns: Vec<(PublicKey, u64)>,
    /// The owners that lose their slot to a newcomer.
    pub(crate) replaced: Vec<PublicKey>,
}

/// The registrations of a window, while they are decided one after the other.
struct Admitting<'a> {
    spec: &'a RegistrationSpec,
    window: WindowIndex,
    members: Members,
    /// The number that have joined already, by the way in which they paid.
    joined: BTreeMap<PaidBy, u32>,
}

impl Admitting<'_> {
    fn admit(&mut self, rank: &Rank, certificate: &Certificate) -> Admitted {
        let Certificate { owner, node, anchor, .. } = *certificate;
        let Self { spec, window, members, joined } = self;
        let joined = joined.entry(rank.way).or_default();
        let limit = match rank.way {
            PaidBy::Rotation => u32::MAX,
            PaidBy::Hashcash => spec.hashcash.per_window,
            PaidBy::Burn => spec.burn.per_window,
        };
        if *joined >= limit {
            return Admitted::Crowded;
        }
        if members.of_node.contains_key(&node) {
            return Admitted::NodeTaken;
        }
        if rank.way == PaidBy::Rotation {
            let Some(member) = members.by_owner(&owner).copied() else { return Admitted::NoSlot };
            members.unseat(member.slot);
            members.seat(Member { node, anchor, ..member });
            return Admitted::Rotated;
        }
        let vacant = (0..spec.slots).find(|slot| !members.by_slot.contains_key(slot));
        let (slot, replaced) = match vacant {
            Some(slot) => (slot, None),
            None => match members.worst(spec, *window) {
                Some(worst) => (worst.slot, Some(worst.owner)),
                None => return Admitted::NoSlot,
            },
        };
        members.unseat(slot);
        let since = window.next();
        members.seat(Member { owner, node, slot, since, anchor, merit_nanos: 0, idle_since: since });
        *joined += 1;
        Admitted::Joined { slot, replaced }
    }
}

impl Members {
    /// The members of window 0. `seed` is the seed before that window.
    pub(crate) fn first(spec: &RegistrationSpec, seed: Hash) -> Self {
        let first = WindowIndex(0);
        let anchor = Anchor { window: first, seed };
        let mut members = Self {
            by_slot: BTreeMap::new(),
            of_owner: BTreeMap::new(),
            of_node: BTreeMap::new(),
            anchors: BTreeMap::from([(first, anchor)]),
            hashes: spec.hashcash.first,
            burn_micros: spec.burn.first,
        };
        for (slot, key) in (0..).zip(&spec.members) {
            let member = Member {
                owner: *key,
                node: *key,
                slot,
                since: first,
                anchor: first,
                merit_nanos: 0,
                idle_since: first,
            };
            members.seat(member);
        }
        members
    }

    /// The members of a window, with the anchors and the prices of slots, by work and by burning.
    pub(crate) fn restored(members: Vec<Member>, anchors: Vec<Anchor>, [hashes, burn_micros]: [u64; 2]) -> Self {
        let mut restored = Self {
            by_slot: BTreeMap::new(),
            of_owner: BTreeMap::new(),
            of_node: BTreeMap::new(),
            anchors: anchors.into_iter().map(|anchor| (anchor.window, anchor)).collect(),
            hashes,
            burn_micros,
        };
        members.into_iter().for_each(|member| restored.seat(member));
        restored
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.by_slot.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// The members in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.by_slot.values()
    }

    /// The member with this owner key.
    pub fn by_owner(&self, owner: &PublicKey) -> Option<&Member> {
        self.by_slot.get(self.of_owner.get(owner)?)
    }

    /// The member with this node key.
    pub fn by_node(&self, node: &PublicKey) -> Option<&Member> {
        self.by_slot.get(self.of_node.get(node)?)
    }

    /// The anchor of a window, as long as certificates may be anchored to it.
    pub fn anchor(&self, window: WindowIndex) -> Option<&Anchor> {
        self.anchors.get(&window)
    }

    /// The anchors to which certificates may be anchored, oldest first.
    pub fn anchors(&self) -> impl Iterator<Item = &Anchor> {
        self.anchors.values()
    }

    /// The anchor at the beginning of the open window.
    pub fn newest_anchor(&self) -> Option<&Anchor> {
        self.anchors.values().next_back()
    }

    /// The price of a slot by work in the open window, in hashes on average. The anchor of the work does not matter,
    /// so work that was hoarded at a low price is worth no more.
    pub fn hashes(&self) -> u64 {
        self.hashes
    }

    /// The price of a slot by burning now, in micro-ALPHA.
    pub fn burn_micros(&self) -> u64 {
        self.burn_micros
    }

    pub(crate) fn rank(&self, run: templar_manifest::RunId, id: RegistrationId, certificate: &Certificate) -> Rank {
        let seed = self.anchors.get(&certificate.anchor).map(|anchor| anchor.seed).unwrap_or_default();
        let (way, measure) = match certificate.payment {
            Payment::Rotation => (PaidBy::Rotation, 0),
            Payment::Hashcash { .. } => (PaidBy::Hashcash, certificate.work(run, &seed).unwrap_or(u128::MAX)),
            Payment::Burn { amount_micros } => (PaidBy::Burn, u128::from(u64::MAX - amount_micros)),
        };
        Rank { way, measure, id }
    }

    /// Takes the slots of these owners.
    pub(crate) fn expel(&mut self, owners: impl Iterator<Item = PublicKey>) {
        for owner in owners {
            if let Some(slot) = self.of_owner.get(&owner).copied() {
                self.unseat(slot);
            }
        }
    }

    /// Decides the registrations of a window's cut in the order of their ranks. Each must be valid by itself.
    pub(crate) fn decide(
        &self,
        spec: &RegistrationSpec,
        closing: &WindowEnd<'_>,
        registrations: &BTreeMap<Rank, Certificate>,
    ) -> Decided {
        let mut members = self.clone();
        members.weigh(spec, closing);
        let mut admitting = Admitting { spec, window: closing.window, members, joined: BTreeMap::new() };
        let (mut admissions, mut burns, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
        for (rank, certificate) in registrations {
            let verdict = admitting.admit(rank, certificate);
            if let Admitted::Joined { replaced: other, .. } = verdict {
                replaced.extend(other);
                if let Payment::Burn { amount_micros } = certificate.payment {
                    burns.push((certificate.owner, amount_micros));
                }
            }
            admissions.push(Admission { owner: certificate.owner, registration: rank.id, verdict });
        }
        admissions.sort_unstable_by_key(|admission| admission.owner);
        let Admitting { mut members, joined, .. } = admitting;
        let count = |way| joined.get(&way).copied().unwrap_or(0);
        members.hashes = spec.hashcash.after(self.hashes, count(PaidBy::Hashcash));
        members.burn_micros = spec.burn.after(self.burn_micros, count(PaidBy::Burn));
        let next = closing.window.next();
        members.anchors.insert(next, Anchor { window: next, seed: closing.seed });
        members.anchors.retain(|anchor, _| next.0 - anchor.0 < spec.anchor_windows);
        Decided { members, admissions, burns, replaced }
    }

    /// The member that is replaced first: past its immunity or idle, with the lowest merit. Of equal ones it is the
    /// newest member, then the one in the highest slot.
    fn worst(&self, spec: &RegistrationSpec, window: WindowIndex) -> Option<Member> {
        let is_immune = |member: &Member| member.since.0.saturating_add(spec.immunity_windows) > window.0;
        let replaceable = |member: &&Member| !is_immune(member) || member.is_idle(spec, window.next());
        let order = |member: &&Member| (member.merit_nanos, Reverse((member.since, member.slot)));
        self.iter().filter(replaceable).min_by_key(order).copied()
    }

    /// Moves the merit of every member towards its weight of the window, by one part in `merit_windows`,
    /// rounding towards the old merit, and notes who contributed.
    fn weigh(&mut self, spec: &RegistrationSpec, closing: &WindowEnd<'_>) {
        let (windows, weights) = (spec.merit_windows, closing.weights);
        for member in self.by_slot.values_mut() {
            if closing.contributed.contains(&member.owner) {
                member.idle_since = closing.window.next();
            }
            let weight = weights.binary_search_by_key(&member.owner, |weight| weight.miner);
            let weight_nanos = weight.map_or(0, |index| u64::from(weights[index].weight_ppm) * 1_000);
            let merit = member.merit_nanos;
            member.merit_nanos = if weight_nanos >= merit {
                merit + (weight_nanos - merit) / windows
            } else {
                merit - (merit - weight_nanos) / windows
            };
        }
    }

    fn seat(&mut self, member: Member) {
        self.of_owner.insert(member.owner, member.slot);
        self.of_node.insert(member.node, member.slot);
        self.by_slot.insert(member.slot, member);
    }

    fn unseat(&mut self, slot: u32) {
        if let Some(member) = self.by_slot.remove(&slot) {
            self.of_owner.remove(&member.owner);
            self.of_node.remove(&member.node);
        }
    }
}

#[cfg(test)]
mod tests;

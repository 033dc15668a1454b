//! Registrations: a miner without a slot asks for one in every window until it has one, and floods of keys that only
//! register.

use templar_manifest::{
    Certificate, Hash, Payment, Registration, SecretKey, Signed, WindowIndex, WorkHasher, largest_digest,
};
use templar_protocol::{Anchor, Entry, RunState};

use super::Simulation;
use super::queue::Work;
use crate::member::WorkKey;
use crate::strategy::{MemberRole, Strategy};

/// The shortest and the longest time that finding a proof of work takes, in milliseconds of the virtual clock.
const REGISTER_MS: (u64, u64) = (100, 2_000);
/// Keys that a flood registers in one window.
const FLOOD: u64 = 20;

/// A registration for the open window, in which the owner key is also the node key.
fn registration(state: &RunState, anchor: &Anchor, owner: &SecretKey, payment: Payment) -> Entry {
    let key = owner.public();
    let (run, window) = (state.run(), state.window());
    let certificate = Certificate { owner: key, node: key, anchor: anchor.window, payment };
    let owner_signature = certificate.sign(run, owner);
    Entry::Envelope(Signed::sign(Registration { run, window, certificate, owner_signature }, owner).envelope())
}

/// A proof of work with the first nonce whose digest is small enough.
fn proof_of_work(state: &RunState, anchor: &Anchor, owner: &SecretKey) -> Payment {
    let key = owner.public();
    let hasher = WorkHasher::new(state.run(), anchor.window, &anchor.seed, &key, &key);
    let limit = largest_digest(state.members().hashes());
    let nonce = (0..).find(|nonce| hasher.digest(*nonce) <= limit).expect("some digest is small enough");
    Payment::Hashcash { nonce }
}

/// A false proof of work, with a nonce whose digest is too large.
fn too_little_work(state: &RunState, anchor: &Anchor, owner: &SecretKey) -> Payment {
    let key = owner.public();
    let hasher = WorkHasher::new(state.run(), anchor.window, &anchor.seed, &key, &key);
    let limit = largest_digest(state.members().hashes());
    // At a price of two hashes or more, half of the digests or fewer are small enough.
    let nonce = (0..1 << 16).find(|nonce| hasher.digest(*nonce) > limit).unwrap_or_default();
    Payment::Hashcash { nonce }
}

impl Simulation {
    /// Has a miner without a slot, or one that floods, begin to register, once in a window.
    pub(super) fn ask(&mut self, who: usize) {
        let member = &mut self.members[who];
        let window = member.window();
        let floods = matches!(member.strategy, Some(Strategy::Enrol | Strategy::EnrolFree));
        let wants = floods || member.node.contributor().is_none();
        if member.role != MemberRole::Miner || !wants || member.node.is_over() || window < member.asks_from {
            return;
        }
        if member.under_way.insert((window, WorkKey::Register)) {
            let after_ms = self.time(who, REGISTER_MS);
            self.begin(who, after_ms, Work::Register { window });
        }
    }

    /// Sends the registration, or those of a flood.
    pub(super) fn register(&mut self, who: usize, window: WindowIndex) {
        let member = &self.members[who];
        if member.window() != window {
            return;
        }
        let (state, strategy, own) = (member.node.shared_state(), member.strategy, member.key.clone());
        let Some(anchor) = state.members().newest_anchor().copied() else { return };
        match strategy {
            Some(Strategy::Enrol) => {
                for number in 0..FLOOD {
                    let key = flooding_key(&own, window, number);
                    let entry = registration(&state, &anchor, &key, proof_of_work(&state, &anchor, &key));
                    self.send_to_all(who, &entry);
                }
            }
            Some(Strategy::EnrolFree) => {
                for number in 0..FLOOD {
                    let key = flooding_key(&own, window, number);
                    let payment = if number % 2 == 0 {
                        too_little_work(&state, &anchor, &key)
                    } else {
                        Payment::Burn { amount_micros: state.members().burn_micros() }
                    };
                    let entry = registration(&state, &anchor, &key, payment);
                    self.send_to_all(who, &entry);
                }
            }
            _ => {
                let key = own;
                let price = state.members().burn_micros();
                let account = state.ledger().accounts().get(&key.public());
                // A miner that earned enough before it lost its slot burns the price instead of working.
                let payment = if account.is_some_and(|account| account.free_micros() >= price) {
                    Payment::Burn { amount_micros: price }
                } else {
                    proof_of_work(&state, &anchor, &key)
                };
                let entry = registration(&state, &anchor, &key, payment);
                let entry = self.verified(entry).entry;
                if let Some(outputs) = self.own(who, &entry) {
                    self.carry(who, outputs);
                }
            }
        }
    }
}

/// A key of a flood, which is nobody else's.
fn flooding_key(of: &SecretKey, window: WindowIndex, number: u64) -> SecretKey {
    SecretKey::from_bytes(Hash::of(format!("flood of {} in {window}: {number}", of.public()).as_bytes()).as_bytes())
}

//! Members that genesis does not know: they ask for a slot in every window until they have one, also after they lost it.

use templar_manifest::{
    Certificate, Hash, Payment, Registration, RunId, SecretKey, Signed, WindowIndex, WorkHasher, largest_digest,
};
use templar_protocol::{Anchor, Entry, RunState};

use super::{Simulation, Work};
use crate::member::Task;
use crate::strategy::{Role, Strategy};

/// How long looking for work takes: at least, and at most, in milliseconds of the simulated clock.
const REGISTER_MS: (u64, u64) = (100, 2_000);
/// Keys with which a flood asks in one window.
const FLOOD: u64 = 20;

/// The registration of `owner` for the open window, by its own key.
fn registration(state: &RunState, anchor: &Anchor, owner: &SecretKey, payment: Payment) -> Entry {
    let key = owner.public();
    let (run, window) = (state.run(), state.window());
    let certificate = Certificate { owner: key, node: key, anchor: anchor.window, payment };
    let owner_signature = certificate.sign(run, owner);
    Entry::Envelope(Signed::sign(Registration { run, window, certificate, owner_signature }, owner).envelope())
}

/// The first nonce that is worth the price.
fn work(run: RunId, anchor: &Anchor, owner: &SecretKey) -> Payment {
    let key = owner.public();
    let hasher = WorkHasher::new(run, anchor.window, &anchor.seed, &key, &key);
    let limit = largest_digest(anchor.hashes);
    let nonce = (0..).find(|nonce| hasher.digest(*nonce) <= limit).expect("some nonce is worth it");
    Payment::Hashcash { nonce }
}

/// A nonce that is not worth the price.
fn no_work(run: RunId, anchor: &Anchor, owner: &SecretKey) -> Payment {
    let key = owner.public();
    let hasher = WorkHasher::new(run, anchor.window, &anchor.seed, &key, &key);
    let limit = largest_digest(anchor.hashes);
    // At two hashes or more, of so many one is worth too little.
    let nonce = (0..1 << 16).find(|nonce| hasher.digest(*nonce) > limit).unwrap_or_default();
    Payment::Hashcash { nonce }
}

impl Simulation {
    /// Has a miner without a slot ask for one, once in a window.
    pub(super) fn ask(&mut self, who: usize) {
        let member = &mut self.members[who];
        let window = member.window();
        let floods = matches!(member.strategy, Some(Strategy::Enrol | Strategy::EnrolFree));
        let wants = floods || member.node.contributor().is_none();
        if member.role != Role::Miner || !wants || member.node.is_over() || window < member.asks_from {
            return;
        }
        if member.under_way.insert((window, Task::Register)) {
            let after_ms = self.time(who, REGISTER_MS);
            self.begin(who, after_ms, Work::Register { window });
        }
    }

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
                    let entry = registration(&state, &anchor, &key, work(state.run(), &anchor, &key));
                    self.send_to_all(who, &entry);
                }
            }
            Some(Strategy::EnrolFree) => {
                for number in 0..FLOOD {
                    let key = flooding_key(&own, window, number);
                    let payment = if number % 2 == 0 {
                        no_work(state.run(), &anchor, &key)
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
                // Who has earned enough before it lost its slot buys another.
                let payment = if account.is_some_and(|account| account.free_micros() >= price) {
                    Payment::Burn { amount_micros: price }
                } else {
                    work(state.run(), &anchor, &key)
                };
                let entry = registration(&state, &anchor, &key, payment);
                if let Some(outputs) = self.own(who, entry) {
                    self.carry(who, outputs);
                }
            }
        }
    }
}

/// A key of which nobody has heard.
fn flooding_key(of: &SecretKey, window: WindowIndex, number: u64) -> SecretKey {
    SecretKey::from_bytes(Hash::of(format!("flood of {} in {window}: {number}", of.public()).as_bytes()).as_bytes())
}

//! Joining a run without anybody's leave: a registration, and what genesis says about them.
//!
//! An owner key holds slot, account and state; a node key trains, signs contributions and is the endpoint. The owner
//! certifies the node key and what it pays, once; the node key signs the registration, anew for every window in which it
//! asks for a slot. So nobody is given a node key that did not ask for it, and the owner's key can stay where no node is.

use serde::{Deserialize, Serialize};

use super::rules::{MAX_ENTRIES, ascending, positive};
use crate::id::{Hash, RegistrationId, RunId, WindowIndex};
use crate::key::{KeyError, PublicKey, SecretKey, Signature};
use crate::payload::{Kind, Payload};

const WORK_CONTEXT: &str = "templar/1 registration work";
/// What the owner signs begins with this: no manifest's signature does.
const CERTIFICATE_DOMAIN: &[u8] = b"templar/1\0certificate\0";

/// Windows that an immunity, an average or an anchor may last at most.
const MAX_WINDOWS: u64 = 4096;
/// Registrations of one way that one window may take at most.
const MAX_PER_WINDOW: u32 = 64;
const ONE_PPM: u32 = 1_000_000;

/// Asks for a slot in a run, or for another node key; signed by the node key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The run.
    pub run: RunId,
    /// The window whose cut is to name it.
    pub window: WindowIndex,
    /// Whom it is for, and for what.
    pub certificate: Certificate,
    /// The owner's signature over the certificate.
    pub owner_signature: Signature,
}

/// What an owner says once and a node key shows in every window until it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Who will own the slot and its account.
    pub owner: PublicKey,
    /// The key that trains for the owner; the owner's own where there is no other.
    pub node: PublicKey,
    /// The window before which it was made: it holds for a stated number of windows from then on.
    pub anchor: WindowIndex,
    /// What is paid.
    pub payment: Payment,
}

/// What a slot is paid with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Payment {
    /// Work: see [`Certificate::work`].
    Hashcash {
        /// What was found.
        nonce: u64,
    },
    /// ALPHA of the owner's account, burnt when the slot is given.
    Burn {
        /// How much, in micro-ALPHA.
        amount_micros: u64,
    },
    /// Nothing: who has a slot names another node key.
    Rotation,
}

/// Hashes one certificate of work after the other: everything but the nonce is the same, and hashed once.
#[derive(Debug, Clone)]
pub struct WorkHasher(blake3::Hasher);

impl WorkHasher {
    /// For a run, the seed before the anchor, and the keys.
    pub fn new(run: RunId, anchor: WindowIndex, seed: &Hash, owner: &PublicKey, node: &PublicKey) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(WORK_CONTEXT);
        hasher.update(run.hash().as_bytes());
        hasher.update(&anchor.0.to_le_bytes());
        hasher.update(seed.as_bytes());
        hasher.update(owner.as_bytes());
        hasher.update(node.as_bytes());
        Self(hasher)
    }

    /// The digest of a nonce, as a number: the lower, the more work.
    pub fn digest(&self, nonce: u64) -> u128 {
        let mut hasher = self.0.clone();
        hasher.update(&nonce.to_le_bytes());
        let bytes: [u8; 32] = *hasher.finalize().as_bytes();
        u128::from_be_bytes(bytes[..16].try_into().unwrap_or([0xff; 16]))
    }
}

/// The largest digest that is worth `hashes` hashes on average; with 0 every digest is.
pub const fn largest_digest(hashes: u64) -> u128 {
    if hashes == 0 { u128::MAX } else { u128::MAX / hashes as u128 }
}

impl Certificate {
    /// What the owner signs: a domain, the run, the anchor, owner, node, and the payment as a byte and a number.
    fn signed_bytes(&self, run: RunId) -> Vec<u8> {
        let (way, number) = match self.payment {
            Payment::Hashcash { nonce } => (0, nonce),
            Payment::Burn { amount_micros } => (1, amount_micros),
            Payment::Rotation => (2, 0),
        };
        let mut bytes = CERTIFICATE_DOMAIN.to_vec();
        bytes.extend_from_slice(run.hash().as_bytes());
        bytes.extend_from_slice(&self.anchor.0.to_le_bytes());
        bytes.extend_from_slice(self.owner.as_bytes());
        bytes.extend_from_slice(self.node.as_bytes());
        bytes.push(way);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes
    }

    /// The owner's signature.
    pub fn sign(&self, run: RunId, owner: &SecretKey) -> Signature {
        owner.sign(&self.signed_bytes(run))
    }

    /// Checks the owner's signature.
    pub fn verify(&self, run: RunId, signature: &Signature) -> Result<(), KeyError> {
        self.owner.verify(&self.signed_bytes(run), signature)
    }

    /// The digest of the work, `seed` being that before the anchor; `None` where something else is paid.
    pub fn work(&self, run: RunId, seed: &Hash) -> Option<u128> {
        let Payment::Hashcash { nonce } = self.payment else { return None };
        Some(WorkHasher::new(run, self.anchor, seed, &self.owner, &self.node).digest(nonce))
    }
}

impl Payload for Registration {
    const KIND: Kind = Kind::Registration;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        if self.certificate.anchor > self.window {
            return Err("certificate.anchor is behind window".to_owned());
        }
        if let Payment::Burn { amount_micros } = self.certificate.payment {
            positive("certificate.payment.burn.amount_micros", amount_micros)?;
        }
        self.certificate.verify(self.run, &self.owner_signature).map_err(|error| format!("owner_signature: {error}"))
    }
}

/// A registration that an inbox or a cut names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutRegistration {
    /// Its owner.
    pub owner: PublicKey,
    /// The registration.
    pub registration: RegistrationId,
}

/// What became of a registration of the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// Its owner.
    pub owner: PublicKey,
    /// The registration.
    pub registration: RegistrationId,
    /// Whether it counts from the next window on.
    pub verdict: Admitted,
}

/// The verdict on a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Admitted {
    /// It has a slot.
    Joined {
        /// The slot.
        slot: u32,
        /// Who had the slot and has none any more.
        replaced: Option<PublicKey>,
    },
    /// The node key is another.
    Rotated,
    /// Others of its way had paid more, and filled what a window takes.
    Crowded,
    /// Every slot is taken, and nobody in them can be replaced yet.
    NoSlot,
    /// Another registration of the window has the node key.
    NodeTaken,
}

impl std::fmt::Display for Admitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Joined { slot, replaced: None } => write!(f, "joined: slot {slot}"),
            Self::Joined { slot, replaced: Some(other) } => {
                write!(f, "joined: slot {slot}, in the place of {}", other.short())
            }
            Self::Rotated => f.write_str("rotated: the node key is another"),
            Self::Crowded => f.write_str("crowded out: others paid more in this window"),
            Self::NoSlot => f.write_str("no slot: all are taken by members that cannot be replaced yet"),
            Self::NodeTaken => f.write_str("the node key is taken by another registration"),
        }
    }
}

/// Who may contribute: anybody who pays, as far as there are slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationSpec {
    /// Members that there are at most.
    pub slots: u32,
    /// The first members, sorted; the slot of each is its place in the list. They are their own node keys.
    pub members: Vec<PublicKey>,
    /// Windows, counted from its first, in which a member cannot be replaced.
    pub immunity_windows: u64,
    /// Over how many windows the weights of a member are averaged: the lowest average is replaced first.
    pub merit_windows: u64,
    /// Windows for which a certificate holds: from its anchor on.
    pub anchor_windows: u64,
    /// Those who pay with work; the price is in hashes.
    pub hashcash: PriceRule,
    /// Those who burn; the price is in micro-ALPHA.
    pub burn: PriceRule,
}

/// A price that rises with each who pays it and falls with each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRule {
    /// How many a window takes.
    pub per_window: u32,
    /// The price in window 0.
    pub first: u64,
    /// It never falls below.
    pub least: u64,
    /// It never rises above.
    pub most: u64,
    /// What it is multiplied by for each who joined.
    pub rise_ppm: u32,
    /// What it is multiplied by after each window.
    pub decay_ppm: u32,
}

impl RegistrationSpec {
    /// `slots` slots with these first members, sorted, and the customary rules: a member is safe for 32 windows; work of
    /// 2^28 hashes at first (37 CPU seconds, at the 7.2 million hashes in a CPU second that `templar register` was measured
    /// to try), with which one in a window keeps the price where it is; a burn of 1 ALPHA at first, which
    /// doubles with each and is halved by 8 windows.
    pub fn customary(slots: u32, members: Vec<PublicKey>) -> Self {
        Self {
            slots,
            members,
            immunity_windows: 32,
            merit_windows: 16,
            anchor_windows: 16,
            hashcash: PriceRule {
                per_window: 4,
                first: 1 << 28,
                least: 1 << 24,
                most: 1 << 40,
                rise_ppm: 1_250_000,
                decay_ppm: 800_000,
            },
            burn: PriceRule {
                per_window: 4,
                first: 1_000_000,
                least: 10_000,
                most: 1_000_000_000_000,
                rise_ppm: 2_000_000,
                decay_ppm: 917_004,
            },
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let within = |field: &str, value: u64, limit: u64| {
            if (1..=limit).contains(&value) { Ok(()) } else { Err(format!("{field} is not from 1 to {limit}")) }
        };
        within("registration.slots", self.slots.into(), MAX_ENTRIES as u64)?;
        ascending("registration.members", &self.members, |member| *member)?;
        if self.members.len() > self.slots as usize {
            return Err("registration.members has more than registration.slots".to_owned());
        }
        if self.immunity_windows > MAX_WINDOWS {
            // A longer one would close a run to newcomers.
            return Err(format!("registration.immunity_windows is above {MAX_WINDOWS}"));
        }
        within("registration.merit_windows", self.merit_windows, MAX_WINDOWS)?;
        within("registration.anchor_windows", self.anchor_windows, 64)?;
        // Work is the way of those who hold nothing, so it is never closed.
        positive("registration.hashcash.per_window", self.hashcash.per_window.into())?;
        self.hashcash.check("registration.hashcash", 1 << 48)?;
        self.burn.check("registration.burn", 1 << 60)
    }
}

impl PriceRule {
    fn check(&self, path: &str, limit: u64) -> Result<(), String> {
        if self.per_window > MAX_PER_WINDOW {
            return Err(format!("{path}.per_window is above {MAX_PER_WINDOW}"));
        }
        if !(1 <= self.least && self.least <= self.first && self.first <= self.most && self.most <= limit) {
            return Err(format!("{path}: prices are not 1 <= least <= first <= most <= {limit}"));
        }
        if !(ONE_PPM..=16 * ONE_PPM).contains(&self.rise_ppm) {
            return Err(format!("{path}.rise_ppm is not from 1000000 to 16000000"));
        }
        if !(1..=ONE_PPM).contains(&self.decay_ppm) {
            return Err(format!("{path}.decay_ppm is not from 1 to 1000000"));
        }
        Ok(())
    }

    /// The price after a window in which `joined` paid it: risen once for each, then fallen, every step rounded down and
    /// kept between the bounds.
    pub fn after(&self, price: u64, joined: u32) -> u64 {
        let scaled = |price: u64, ppm: u32| {
            let scaled = u128::from(price) * u128::from(ppm) / u128::from(ONE_PPM);
            u64::try_from(scaled).unwrap_or(u64::MAX).clamp(self.least, self.most)
        };
        scaled((0..joined).fold(price, |price, _| scaled(price, self.rise_ppm)), self.decay_ppm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{EnvelopeError, Signed};
    use crate::payload::{self, PayloadError};

    fn key(number: u8) -> SecretKey {
        SecretKey::from_bytes(&[number; 32])
    }

    fn registration(payment: Payment) -> Registration {
        let run = RunId::new(Hash::of(b"run"));
        let (owner, node) = (key(1), key(2).public());
        let certificate = Certificate { owner: owner.public(), node, anchor: WindowIndex(3), payment };
        let owner_signature = certificate.sign(run, &owner);
        Registration { run, window: WindowIndex(5), certificate, owner_signature }
    }

    #[test]
    fn a_certificate_is_bound_to_all_that_it_says() {
        let honest = registration(Payment::Burn { amount_micros: 7 });
        let decoded = |registration: &Registration| payload::decode::<Registration>(&payload::encode(registration));
        assert_eq!(decoded(&honest), Ok(honest.clone()));
        // The node key shows it in another window.
        assert!(decoded(&Registration { window: WindowIndex(6), ..honest.clone() }).is_ok());
        let change = |change: fn(&mut Registration)| {
            let mut changed = honest.clone();
            change(&mut changed);
            match decoded(&changed) {
                Err(PayloadError::Rule { rule, .. }) => rule,
                other => panic!("{other:?}"),
            }
        };
        for rule in [
            change(|r| r.run = RunId::new(Hash::of(b"other"))),
            change(|r| r.certificate.owner = key(3).public()),
            change(|r| r.certificate.node = key(3).public()),
            change(|r| r.certificate.anchor = WindowIndex(4)),
            change(|r| r.certificate.payment = Payment::Burn { amount_micros: 8 }),
            change(|r| r.certificate.payment = Payment::Hashcash { nonce: 7 }),
        ] {
            assert!(rule.starts_with("owner_signature: "), "{rule}");
        }
        assert_eq!(change(|r| r.window = WindowIndex(2)), "certificate.anchor is behind window");
        let nothing = change(|r| r.certificate.payment = Payment::Burn { amount_micros: 0 });
        assert_eq!(nothing, "certificate.payment.burn.amount_micros is zero");
    }

    #[test]
    fn an_owner_s_certificate_is_no_manifest_s_signature() {
        let honest = registration(Payment::Rotation);
        let mut envelope = Signed::sign(honest.clone(), &key(2)).envelope();
        assert!(envelope.open::<Registration>().is_ok());
        (envelope.signer, envelope.signature) = (honest.certificate.owner, honest.owner_signature);
        assert!(matches!(envelope.open::<Registration>(), Err(EnvelopeError::Key(_))));
    }

    #[test]
    fn work_is_of_run_anchor_seed_and_keys() {
        let honest = registration(Payment::Hashcash { nonce: 11 }).certificate;
        let (run, seed) = (RunId::new(Hash::of(b"run")), Hash::of(b"seed"));
        let digest = honest.work(run, &seed).unwrap();
        let other = |change: fn(&mut Certificate)| {
            let mut other = honest;
            change(&mut other);
            other.work(run, &seed).unwrap()
        };
        for different in [
            other(|c| c.owner = key(9).public()),
            other(|c| c.node = key(9).public()),
            other(|c| c.anchor = WindowIndex(4)),
            other(|c| c.payment = Payment::Hashcash { nonce: 12 }),
            honest.work(RunId::default(), &seed).unwrap(),
            honest.work(run, &Hash::default()).unwrap(),
        ] {
            assert_ne!(different, digest);
        }
        // One digest in a thousand is worth a thousand hashes.
        let hasher = WorkHasher::new(run, WindowIndex(0), &seed, &honest.owner, &honest.node);
        let found = (0..100_000).filter(|nonce| hasher.digest(*nonce) <= largest_digest(1_000)).count();
        assert!((60..150).contains(&found), "{found}");
        assert_eq!((largest_digest(0), largest_digest(1)), (u128::MAX, u128::MAX));
    }

    #[test]
    fn a_price_rises_with_each_and_falls_with_time_within_its_bounds() {
        let rule =
            PriceRule { per_window: 4, first: 100, least: 10, most: 1_000, rise_ppm: 2_000_000, decay_ppm: 500_000 };
        assert_eq!([0, 1, 2, 3].map(|joined| rule.after(100, joined)), [50, 100, 200, 400]);
        assert_eq!((rule.after(15, 0), rule.after(900, 4), rule.after(u64::MAX, 0)), (10, 500, 1_000));
        let customary = RegistrationSpec::customary(250, Vec::new());
        assert_eq!(customary.check(), Ok(()));
        // One in a window keeps the price of work; a burn's falls by half in 8 windows.
        assert_eq!(customary.hashcash.after(1 << 28, 1), 1 << 28);
        let burn = (0..8).fold(1_000_000, |price, _| customary.burn.after(price, 0));
        assert!((499_000..=500_001).contains(&burn), "{burn}");
    }

    #[test]
    fn a_spec_that_would_close_a_run_is_refused() {
        let error = |change: fn(&mut RegistrationSpec)| {
            let mut spec = RegistrationSpec::customary(2, vec![key(1).public()]);
            change(&mut spec);
            spec.check().unwrap_err()
        };
        assert_eq!(error(|s| s.slots = 0), "registration.slots is not from 1 to 4096");
        assert_eq!(
            error(|s| s.members = [key(1).public(); 2].into()),
            "registration.members is not strictly ascending"
        );
        assert_eq!(error(|s| s.slots = 4097), "registration.slots is not from 1 to 4096");
        assert_eq!(error(|s| s.immunity_windows = 4097), "registration.immunity_windows is above 4096");
        assert_eq!(error(|s| s.merit_windows = 0), "registration.merit_windows is not from 1 to 4096");
        assert_eq!(error(|s| s.anchor_windows = 65), "registration.anchor_windows is not from 1 to 64");
        assert_eq!(error(|s| s.hashcash.per_window = 0), "registration.hashcash.per_window is zero");
        assert_eq!(error(|s| s.burn.per_window = 65), "registration.burn.per_window is above 64");
        assert!(error(|s| s.hashcash.most = 1 << 49).starts_with("registration.hashcash: prices are not"));
        assert!(error(|s| s.burn.least = 0).starts_with("registration.burn: prices are not"));
        assert_eq!(error(|s| s.burn.rise_ppm = 1), "registration.burn.rise_ppm is not from 1000000 to 16000000");
        assert_eq!(error(|s| s.burn.decay_ppm = 0), "registration.burn.decay_ppm is not from 1 to 1000000");
        let full = |s: &mut RegistrationSpec| {
            s.members = (1..=3).map(|number| PublicKey::from_bytes([number; 32])).collect();
        };
        assert_eq!(error(full), "registration.members has more than registration.slots");
    }
}

//! Registration: how anybody joins a run without permission, and what genesis says about it.
//!
//! A member has two keys. The owner key (Bittensor's coldkey) owns slot, account and state. The node key (the
//! hotkey) trains, signs contributions and is the network endpoint. The owner signs one certificate for the
//! node key and the payment. The node key signs a registration with that certificate, a new one for every
//! window in which it asks for a slot. So a key becomes a node key only by its own signature, and the owner key
//! never has to be on the machine of a node.

use serde::{Deserialize, Serialize};

use super::rules::{MAX_ENTRIES, ascending, positive};
use crate::id::{Hash, RegistrationId, RunId, WindowIndex};
use crate::key::{KeyError, PublicKey, SecretKey, Signature};
use crate::payload::{Kind, Payload};

const WORK_CONTEXT: &str = "templar/1 registration work";
/// The domain of the owner's signature, which differs from that of every manifest's.
const CERTIFICATE_DOMAIN: &[u8] = b"templar/1\0certificate\0";

/// The most windows that an immunity or an average may last.
const MAX_WINDOWS: u64 = 4096;
/// The most registrations of one way of payment that a window may admit.
const MAX_PER_WINDOW: u32 = 64;
const ONE_PPM: u32 = 1_000_000;

/// A request for a slot in a run, or for another node key. The node key signs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window whose cut is to name it.
    pub window: WindowIndex,
    /// The owner's certificate for the node key and the payment.
    pub certificate: Certificate,
    /// The owner's signature over the certificate.
    pub owner_signature: Signature,
}

/// The certificate of an owner for its node key. The node shows it in every window until the registration counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The owner key (coldkey), which will own the slot and its account.
    pub owner: PublicKey,
    /// The node key (hotkey), which trains for the owner. It may be the owner key itself.
    pub node: PublicKey,
    /// The window before which the certificate was made. From then on it holds for
    /// `registration.anchor_windows` windows.
    pub anchor: WindowIndex,
    /// How the slot is paid for.
    pub payment: Payment,
}

/// The ways to pay for a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Payment {
    /// Proof of work, see [`Certificate::work`].
    Hashcash {
        /// The number whose digest is low enough.
        nonce: u64,
    },
    /// ALPHA of the owner's account, burnt when the slot is given.
    Burn {
        /// The amount in micro-ALPHA.
        amount_micros: u64,
    },
    /// No payment: a member names another node key for its slot.
    Rotation,
}

/// Computes the digests of a proof of work for many nonces. Everything but the nonce is the same and is hashed once.
#[derive(Debug, Clone)]
pub struct WorkHasher(blake3::Hasher);

impl WorkHasher {
    /// The hasher for certificates of these keys that are anchored before window `anchor`; `seed` is the seed
    /// of the window before it.
    pub fn new(run: RunId, anchor: WindowIndex, seed: &Hash, owner: &PublicKey, node: &PublicKey) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(WORK_CONTEXT);
        hasher.update(run.hash().as_bytes());
        hasher.update(&anchor.0.to_le_bytes());
        hasher.update(seed.as_bytes());
        hasher.update(owner.as_bytes());
        hasher.update(node.as_bytes());
        Self(hasher)
    }

    /// The digest of a nonce as a number; a lower one stands for more work.
    pub fn digest(&self, nonce: u64) -> u128 {
        let mut hasher = self.0.clone();
        hasher.update(&nonce.to_le_bytes());
        let bytes: [u8; 32] = *hasher.finalize().as_bytes();
        u128::from_be_bytes(bytes[..16].try_into().unwrap_or([0xff; 16]))
    }
}

/// The largest digest that takes `hashes` hashes on average to find. For 0 hashes every digest is low enough.
pub const fn largest_digest(hashes: u64) -> u128 {
    if hashes == 0 { u128::MAX } else { u128::MAX / hashes as u128 }
}

impl Certificate {
    /// The bytes that the owner signs: the domain, the run, the anchor, owner, node, and the payment as a byte
    /// and a number.
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

    /// Signs the certificate with the owner key.
    pub fn sign(&self, run: RunId, owner: &SecretKey) -> Signature {
        owner.sign(&self.signed_bytes(run))
    }

    /// Checks that `signature` is the owner's over this certificate.
    pub fn verify(&self, run: RunId, signature: &Signature) -> Result<(), KeyError> {
        self.owner.verify(&self.signed_bytes(run), signature)
    }

    /// The digest of the proof of work, where `seed` is the seed of the window before the anchor. `None` where
    /// the payment is not work.
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

/// The entry of one registration in an inbox or cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutRegistration {
    /// The owner that asks for a slot.
    pub owner: PublicKey,
    /// The id of the registration.
    pub registration: RegistrationId,
}

/// The verdict of a record on one registration of the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admission {
    /// The owner that asked for a slot.
    pub owner: PublicKey,
    /// The id of the registration.
    pub registration: RegistrationId,
    /// Whether it counts from the next window on.
    pub verdict: Admitted,
}

/// The verdict on a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Admitted {
    /// The owner has a slot.
    Joined {
        /// The number of the slot.
        slot: u32,
        /// The owner that had the slot before and has lost it, if there was one.
        replaced: Option<PublicKey>,
    },
    /// The slot has the new node key.
    Rotated,
    /// The window admits only so many of one way of payment, and others paid more.
    Crowded,
    /// All slots are taken, and no member can be replaced yet.
    NoSlot,
    /// Another registration of the window was given the node key.
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

/// The rules of registration: anybody who pays may contribute, as far as there are slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrationSpec {
    /// The number of slots, and so the most members.
    pub slots: u32,
    /// The members of window 0, sorted. The slot of each is its place in the list, and its node key is its owner key.
    pub members: Vec<PublicKey>,
    /// For how many windows from its first one a member cannot be replaced, unless it is idle.
    pub immunity_windows: u64,
    /// After how many windows without an accepted contribution a member is idle. Nobody waits for an idle member, and
    /// its slot can be taken.
    pub idle_windows: u64,
    /// Over how many windows the weight of a member is averaged. The member with the lowest average is replaced
    /// first.
    pub merit_windows: u64,
    /// For how many windows from its anchor on a certificate holds.
    pub anchor_windows: u64,
    /// The price for those who pay with work, in hashes.
    pub hashcash: PriceRule,
    /// The price for those who burn, in micro-ALPHA.
    pub burn: PriceRule,
}

/// A price that rises with every registration that pays it and falls with every window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRule {
    /// The most registrations that a window admits at this price.
    pub per_window: u32,
    /// The price in window 0.
    pub first: u64,
    /// The lower bound of the price.
    pub least: u64,
    /// The upper bound of the price.
    pub most: u64,
    /// The factor by which each registration that joined multiplies the price, in ppm.
    pub rise_ppm: u32,
    /// The factor by which each window multiplies the price, in ppm.
    pub decay_ppm: u32,
}

impl RegistrationSpec {
    /// The customary rules for `slots` slots and these first members, which are sorted.
    ///
    /// A new member is safe for 32 windows, if it is idle in less than four of them in a row. Work costs 2^28 hashes at
    /// first, which are 37 CPU seconds at the
    /// 7.2 million hashes per second that `templar register` was measured to try; one registration in a window
    /// keeps that price where it is. A burn costs 1 ALPHA at first, doubles with every registration and halves
    /// in 8 windows.
    pub fn customary(slots: u32, members: Vec<PublicKey>) -> Self {
        Self {
            slots,
            members,
            immunity_windows: 32,
            idle_windows: 4,
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
            // A longer immunity would close the run to newcomers.
            return Err(format!("registration.immunity_windows is above {MAX_WINDOWS}"));
        }
        within("registration.idle_windows", self.idle_windows, MAX_WINDOWS)?;
        within("registration.merit_windows", self.merit_windows, MAX_WINDOWS)?;
        within("registration.anchor_windows", self.anchor_windows, 64)?;
        // Newcomers without ALPHA can pay only with work, so that way must stay open.
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

    /// The price after a window in which `joined` registrations paid it. It rises once for each of them, then
    /// falls once; every step is rounded down and kept between the bounds.
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
        assert_eq!(error(|s| s.idle_windows = 0), "registration.idle_windows is not from 1 to 4096");
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

//! Whether a registration is valid in the open window, and what the window decides about those of its cut.

use std::collections::BTreeMap;

use templar_manifest::{Payment, Registration, RegistrationId, Slash, SlashCause, Weight, WindowIndex, largest_digest};

use super::RunState;
use super::judging::Judging;
use super::members::{Decided, Members, Rank, WindowEnd};

/// Why a registration is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// Of another run or window.
    #[error("registration is of another run or window")]
    Foreign,
    /// Its certificate was made too long ago.
    #[error("certificate is anchored before window {anchor}, which is too long before window {window}")]
    Stale {
        /// The certificate's anchor.
        anchor: WindowIndex,
        /// The open window.
        window: WindowIndex,
    },
    /// The nonce is not worth the hashes that a slot costs.
    #[error("work of {owner} is not worth the {hashes} hashes that were asked for before window {anchor}")]
    Work {
        /// Whose.
        owner: String,
        /// What is asked for.
        hashes: u64,
        /// The certificate's anchor.
        anchor: WindowIndex,
    },
    /// The owner lost its slot for fraud.
    #[error("{0} is expelled")]
    Expelled(String),
    /// The owner has a slot.
    #[error("{0} is registered already")]
    Registered(String),
    /// A node key that is taken.
    #[error("node key {0} trains for a member already")]
    NodeTaken(String),
    /// A rotation by somebody without a slot.
    #[error("{0} has no slot, so it has no node key to change")]
    NotAMember(String),
    /// A rotation that is not newer than what holds.
    #[error("certificate of {owner} is not newer than the one before window {anchor} that holds")]
    Older {
        /// Whose.
        owner: String,
        /// The anchor of the one that holds.
        anchor: WindowIndex,
    },
    /// Less is burnt than a slot costs.
    #[error("{offered} micro-ALPHA are burnt and a slot costs {price}")]
    Price {
        /// What is burnt.
        offered: u64,
        /// What a slot costs.
        price: u64,
    },
    /// The account does not hold what is burnt.
    #[error("account of {owner} has {free} micro-ALPHA free and {offered} are to be burnt")]
    Balance {
        /// Whose.
        owner: String,
        /// What is free.
        free: u64,
        /// What is to be burnt.
        offered: u64,
    },
    /// Nobody is taken for burning.
    #[error("this run takes nobody for burning")]
    NoBurns,
    /// It came after the cut was certified without it.
    #[error("registration of {0} is not in the certified cut")]
    AfterCut(String),
    /// A second registration of one owner in one window.
    #[error("{0} has made another registration in this window")]
    Second(String),
}

impl RunState {
    /// Whether a registration, whose signatures are those of its node key and its owner, can be part of the
    /// open window's cut. The state before the window decides alone, so everybody finds the same.
    pub fn check_registration(&self, registration: &Registration) -> Result<(), RegistrationError> {
        let certificate = &registration.certificate;
        let (owner, anchored) = (certificate.owner.short(), certificate.anchor);
        if registration.run != self.run || registration.window != self.window {
            return Err(RegistrationError::Foreign);
        }
        let Some(anchor) = self.members.anchor(anchored) else {
            return Err(RegistrationError::Stale { anchor: anchored, window: self.window });
        };
        let member = self.members.by_owner(&certificate.owner);
        match (certificate.payment, member) {
            (Payment::Rotation, None) => return Err(RegistrationError::NotAMember(owner)),
            (Payment::Rotation, Some(member)) if anchored <= member.anchor => {
                return Err(RegistrationError::Older { owner, anchor: member.anchor });
            }
            (Payment::Rotation, Some(_)) => {}
            (_, Some(_)) => return Err(RegistrationError::Registered(owner)),
            (_, None) if self.is_expelled(&certificate.owner) => return Err(RegistrationError::Expelled(owner)),
            (Payment::Hashcash { .. }, None) => {
                let work = certificate.work(self.run, &anchor.seed);
                if work.is_none_or(|digest| digest > largest_digest(anchor.hashes)) {
                    return Err(RegistrationError::Work { owner, hashes: anchor.hashes, anchor: anchored });
                }
            }
            (Payment::Burn { amount_micros: offered }, None) => {
                if self.genesis.registration.burn.per_window == 0 {
                    return Err(RegistrationError::NoBurns);
                }
                let price = self.members.burn_micros();
                if offered < price {
                    return Err(RegistrationError::Price { offered, price });
                }
                let account = self.ledger.accounts().get(&certificate.owner);
                let free = account.map_or(0, |account| account.free_micros());
                if free < offered {
                    return Err(RegistrationError::Balance { owner, free, offered });
                }
            }
        }
        if self.members.by_node(&certificate.node).is_some() {
            return Err(RegistrationError::NodeTaken(certificate.node.short()));
        }
        Ok(())
    }

    /// The place of a registration among others.
    pub(crate) fn rank(&self, id: RegistrationId, registration: &Registration) -> Rank {
        self.members.rank(self.run, id, &registration.certificate)
    }

    /// What the open window decides about its registrations, and about the slots of those whom its record expels.
    pub(super) fn decided(&self, judging: &Judging, weights: &[Weight], slashes: &[Slash]) -> Decided {
        let ranked: BTreeMap<_, _> = judging
            .cut()
            .registrations
            .iter()
            .filter_map(|entry| Some((entry.registration, judging.registrations().get(&entry.owner)?)))
            .map(|(id, registration)| (self.rank(id, registration), registration.certificate))
            .collect();
        let expelled = slashes.iter().filter(|slash| slash.cause == SlashCause::Expulsion).map(|slash| slash.account);
        let mut members = self.members.clone();
        members.expel(expelled);
        let closing = WindowEnd { window: self.window, seed: judging.seed(), weights };
        members.decide(&self.genesis.registration, &closing, &ranked)
    }

    /// Takes the members of the next window, and remembers whose key a node key was that they do not have any more.
    pub(super) fn remember_nodes(&mut self, members: Members) {
        let gone = self.members.iter().filter(|member| members.by_node(&member.node).is_none());
        let gone = gone.map(|member| (member.node, (member.owner, self.window)));
        self.offences.former_nodes.extend(gone);
        let oldest = self.window.0.saturating_sub(self.genesis.emission.vesting_windows);
        self.offences.former_nodes.retain(|node, (_, until)| until.0 >= oldest && members.by_node(node).is_none());
        self.members = members;
    }
}

//! The check of a registration in the open window, and the decision about those of its cut.

use std::collections::BTreeMap;

use templar_manifest::{
    Outcome, Payment, Registration, RegistrationId, Slash, SlashCause, Weight, WindowIndex, largest_digest,
};

use super::RunState;
use super::closing::accepted;
use super::judging::Judging;
use super::members::{Decided, Members, Rank, WindowEnd};

/// The reasons for which a registration is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// The registration belongs to another run or window.
    #[error("registration is of another run or window")]
    Foreign,
    /// The certificate was made too long ago.
    #[error("certificate is anchored before window {anchor}, which is too long before window {window}")]
    Stale {
        /// The anchor of the certificate.
        anchor: WindowIndex,
        /// The window that is open.
        window: WindowIndex,
    },
    /// The work is worth less than a slot costs in the window that shows it. It may have been enough when the
    /// certificate was made.
    #[error("work of {owner} is worth {worth} hashes, and a slot costs {hashes} in window {window}")]
    StalePrice {
        /// The owner, in short.
        owner: String,
        /// The hashes that such work takes on average.
        worth: u64,
        /// The price in hashes.
        hashes: u64,
        /// The window that is open.
        window: WindowIndex,
    },
    /// The owner lost its slot for fraud and can have none again.
    #[error("{0} is expelled")]
    Expelled(String),
    /// The owner has a slot already.
    #[error("{0} is registered already")]
    Registered(String),
    /// The node key trains for a member already.
    #[error("node key {0} trains for a member already")]
    NodeTaken(String),
    /// The registration is a rotation, and the owner has no slot.
    #[error("{0} has no slot, so it has no node key to change")]
    NotAMember(String),
    /// The registration is a rotation, and its certificate is not newer than the one that holds.
    #[error("certificate of {owner} is not newer than the one before window {anchor} that holds")]
    Older {
        /// The owner, in short.
        owner: String,
        /// The anchor of the certificate that holds.
        anchor: WindowIndex,
    },
    /// The amount to burn is less than a slot costs.
    #[error("{offered} micro-ALPHA are burnt and a slot costs {price}")]
    Price {
        /// The amount that is offered, in micro-ALPHA.
        offered: u64,
        /// The price of a slot, in micro-ALPHA.
        price: u64,
    },
    /// The account does not hold the amount to burn.
    #[error("account of {owner} has {free} micro-ALPHA free and {offered} are to be burnt")]
    Balance {
        /// The owner, in short.
        owner: String,
        /// The free balance of the account, in micro-ALPHA.
        free: u64,
        /// The amount that is offered, in micro-ALPHA.
        offered: u64,
    },
    /// The run admits nobody by burning.
    #[error("this run takes nobody for burning")]
    NoBurns,
    /// The registration came after the cut was certified without it.
    #[error("registration of {0} is not in the certified cut")]
    AfterCut(String),
    /// The owner has made another registration in this window.
    #[error("{0} has made another registration in this window")]
    Second(String),
}

impl RunState {
    /// Checks that a registration can be part of the open window's cut. Its two signatures were checked before.
    /// Only the state before the window decides, so everybody finds the same.
    ///
    /// # Errors
    /// [`RegistrationError`]
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
                let (hashes, window) = (self.members.hashes(), self.window);
                let digest = certificate.work(self.run, &anchor.seed).unwrap_or(u128::MAX);
                if digest > largest_digest(hashes) {
                    let worth = u64::try_from(u128::MAX / digest.max(1)).unwrap_or(u64::MAX);
                    return Err(RegistrationError::StalePrice { owner, worth, hashes, window });
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

    /// The rank of a registration among those of its window.
    pub(crate) fn rank(&self, id: RegistrationId, registration: &Registration) -> Rank {
        self.members.rank(self.run, id, &registration.certificate)
    }

    /// The decision of the open window about its registrations. First it takes the slots of the owners that its
    /// record expels.
    pub(super) fn decided(
        &self,
        judging: &Judging,
        outcomes: &[Outcome],
        weights: &[Weight],
        slashes: &[Slash],
    ) -> Decided {
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
        let contributed = &accepted(outcomes).map(|outcome| outcome.miner).collect();
        let closing = WindowEnd { window: self.window, seed: judging.seed(), weights, contributed };
        members.decide(&self.genesis.registration, &closing, &ranked)
    }

    /// Takes over the members of the next window, and remembers the owners of node keys that are not in use any
    /// more.
    pub(super) fn remember_nodes(&mut self, members: Members) {
        let gone = self.members.iter().filter(|member| members.by_node(&member.node).is_none());
        let gone = gone.map(|member| (member.node, (member.owner, self.window)));
        self.offences.former_nodes.extend(gone);
        let oldest = self.window.0.saturating_sub(self.genesis.emission.vesting_windows);
        self.offences.former_nodes.retain(|node, (_, until)| until.0 >= oldest && members.by_node(node).is_none());
        self.members = members;
    }
}

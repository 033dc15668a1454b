//! The cut: which contributions and registrations of a window count. It follows from the validators' inboxes.
//!
//! One counts if inboxes of validators with more than a third of the stake name it, out of inboxes of more than
//! two thirds. So a minority of less than a third can neither add one that no honest validator had, nor drop
//! one that every honest validator had.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use templar_manifest::{Cut, CutEntry, CutId, CutRegistration, Inbox, InboxId, PublicKey, payload};

use super::RunState;
use super::members::Rank;
use crate::stake;

/// The reasons for which inboxes do not make a cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// An inbox belongs to another run or window.
    #[error("inbox {0} is of another run or window")]
    Foreign(InboxId),
    /// An inbox is signed by a key that is no validator's.
    #[error("inbox {0} is not of a validator")]
    NotAValidator(InboxId),
    /// An inbox names a miner that has no slot.
    #[error("inbox {inbox} names {miner}, who is not registered")]
    NotRegistered {
        /// The id of the inbox.
        inbox: InboxId,
        /// The miner that it names, in short.
        miner: String,
    },
    /// An inbox names more registrations than an honest one could.
    #[error("inbox {inbox} names {found} registrations, an honest one at most {limit}")]
    Registrations {
        /// The id of the inbox.
        inbox: InboxId,
        /// The number of registrations that it names.
        found: usize,
        /// The most that an honest inbox names.
        limit: usize,
    },
    /// There are two inboxes of one validator.
    #[error("two inboxes of validator {0}")]
    TwoInboxes(String),
    /// The inboxes are of validators with two thirds of the stake or less.
    #[error("inboxes of {stake} of the stake of {total}, more than two thirds are needed")]
    NoQuorum {
        /// The stake of the validators of the inboxes.
        stake: u64,
        /// The stake of all validators.
        total: u64,
    },
}

impl RunState {
    /// Checks that an inbox can be part of the open window's cut.
    ///
    /// # Errors
    /// [`CutError`]
    pub fn check_inbox(&self, id: InboxId, inbox: &Inbox) -> Result<(), CutError> {
        if inbox.run != self.run || inbox.window != self.window {
            return Err(CutError::Foreign(id));
        }
        if self.genesis.validator(&inbox.validator).is_none() {
            return Err(CutError::NotAValidator(id));
        }
        let (found, limit) = (inbox.registrations.len(), Rank::most_named(&self.genesis.registration));
        if found > limit {
            return Err(CutError::Registrations { inbox: id, found, limit });
        }
        match inbox.contributions.iter().find(|entry| self.members.by_owner(&entry.miner).is_none()) {
            Some(entry) => Err(CutError::NotRegistered { inbox: id, miner: entry.miner.short() }),
            None => Ok(()),
        }
    }

    /// The cut of these inboxes and its id, computed once for all who share this state.
    pub(crate) fn shared_cut(&self, inboxes: &[(InboxId, &Inbox)]) -> Result<Arc<(CutId, Cut)>, CutError> {
        let mut ids: Vec<InboxId> = inboxes.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        self.shared.cuts.try_get_or(ids, || {
            let cut = self.cut(inboxes)?;
            Ok((CutId::new(payload::id_of(&cut)), cut))
        })
    }

    /// The cut of these inboxes. If two contributions of one miner pass, or two registrations of one owner, the
    /// lower id counts.
    ///
    /// # Errors
    /// [`CutError`]
    pub fn cut(&self, inboxes: &[(InboxId, &Inbox)]) -> Result<Cut, CutError> {
        let mut by_validator = BTreeMap::<PublicKey, (InboxId, &Inbox)>::new();
        for &(id, inbox) in inboxes {
            self.check_inbox(id, inbox)?;
            if by_validator.insert(inbox.validator, (id, inbox)).is_some() {
                return Err(CutError::TwoInboxes(inbox.validator.short()));
            }
        }
        let total = self.genesis.total_stake();
        let stake = stake::stake_of(&self.genesis, by_validator.keys());
        if !stake::more_than_two_thirds(stake, total) {
            return Err(CutError::NoQuorum { stake, total });
        }
        let lists = by_validator.iter().map(|(validator, (_, inbox))| (validator, *inbox));
        let stake_of = |validator| stake::stake_of(&self.genesis, [validator]);
        let contributions = lists.clone().map(|(validator, inbox)| (stake_of(validator), &inbox.contributions[..]));
        let registrations = lists.map(|(validator, inbox)| (stake_of(validator), &inbox.registrations[..]));
        Ok(Cut {
            run: self.run,
            window: self.window,
            inboxes: by_validator.values().map(|(id, _)| *id).collect(),
            contributions: passing(contributions, total, |entry: &CutEntry| entry.miner),
            registrations: passing(registrations, total, |entry: &CutRegistration| entry.owner),
        })
    }
}

/// The entries that lists of more than a third of the stake name, one for each key.
fn passing<'a, T: Ord + Copy + 'a>(
    lists: impl Iterator<Item = (u64, &'a [T])>,
    total: u64,
    key: impl Fn(&T) -> PublicKey,
) -> Vec<T> {
    let mut named = BTreeMap::<T, u64>::new();
    for (stake, list) in lists {
        // A list names a key once, so no stake is counted twice.
        let distinct: BTreeSet<T> = list.iter().copied().collect();
        for entry in distinct {
            *named.entry(entry).or_default() += stake;
        }
    }
    let mut passing = BTreeMap::<PublicKey, T>::new();
    for (entry, stake) in named {
        if stake::more_than_a_third(stake, total) {
            // Entries ascend by key, then id: the first of a key is the lowest.
            passing.entry(key(&entry)).or_insert(entry);
        }
    }
    passing.into_values().collect()
}

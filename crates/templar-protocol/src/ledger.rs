//! The ledger: integer accounts that change only through window records.
//!
//! All ALPHA that was ever minted is somewhere: free + vesting + treasury + burnt = minted, which is asserted
//! after every window. Only the closing of a window creates any. Balances follow from genesis and the records,
//! and each is an entry of the state's tree.
//!
//! *Slashed* and *burnt* are not the same. A slash takes unvested pay for an offence. A burn takes free ALPHA
//! as the price of a slot. Both destroy what they take, so both count as burnt in the sum above.

mod mints;

use std::collections::BTreeMap;

use templar_manifest::{Mint, MintKind, PublicKey, WindowIndex};

pub(crate) use mints::{ONE_PPM, ProvenWork, emission_of, fraction, mints};

/// The pay of one window that has not vested yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The window that minted the pay.
    pub window: WindowIndex,
    /// The amount that is left of it after slashes, in micro-ALPHA.
    pub amount_micros: u64,
}

/// The account of one key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    free_micros: u64,
    grants: Vec<Grant>,
}

impl Account {
    /// An account with this free balance and these grants, oldest first.
    pub(crate) fn restored(free_micros: u64, grants: Vec<Grant>) -> Self {
        Self { free_micros, grants }
    }

    /// The micro-ALPHA that are free to spend.
    pub fn free_micros(&self) -> u64 {
        self.free_micros
    }

    /// The micro-ALPHA that have not vested.
    pub fn vesting_micros(&self) -> u64 {
        self.grants.iter().map(|grant| grant.amount_micros).sum()
    }

    /// The grants that have not vested, oldest first.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }
}

/// All balances of a run.
///
/// Sums fit into u64, because [`crate::RunState::new`] refuses a genesis whose emission over the longest run
/// does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    vesting_windows: u64,
    accounts: BTreeMap<PublicKey, Account>,
    treasury_micros: u64,
    minted_micros: u64,
    burnt_micros: u64,
}

impl Ledger {
    /// An empty ledger. Pay is free `vesting_windows` windows after the one that minted it, or at once if that
    /// is 0.
    pub fn new(vesting_windows: u64) -> Self {
        Self { vesting_windows, accounts: BTreeMap::new(), treasury_micros: 0, minted_micros: 0, burnt_micros: 0 }
    }

    /// A ledger with these accounts. `supply` has the micro-ALPHA that were ever minted and burnt, and those that the
    /// treasury holds. `None` if they do not add up.
    pub(crate) fn restored(
        vesting_windows: u64,
        accounts: BTreeMap<PublicKey, Account>,
        [minted_micros, burnt_micros, treasury_micros]: [u64; 3],
    ) -> Option<Self> {
        let parts = accounts
            .values()
            .flat_map(|account| account.grants.iter().map(|grant| grant.amount_micros).chain([account.free_micros]));
        let held = parts.chain([burnt_micros, treasury_micros]).try_fold(0u64, u64::checked_add)?;
        let restored = Self { vesting_windows, accounts, treasury_micros, minted_micros, burnt_micros };
        (held == minted_micros).then_some(restored)
    }

    /// All accounts that ever received anything, by key.
    pub fn accounts(&self) -> &BTreeMap<PublicKey, Account> {
        &self.accounts
    }

    /// The micro-ALPHA that the treasury holds.
    pub fn treasury_micros(&self) -> u64 {
        self.treasury_micros
    }

    /// The micro-ALPHA that were ever minted.
    pub fn minted_micros(&self) -> u64 {
        self.minted_micros
    }

    /// The micro-ALPHA that were ever slashed, or burnt for slots.
    pub fn burnt_micros(&self) -> u64 {
        self.burnt_micros
    }

    /// Frees the grants that are due when `window` closes. This is the first step of closing it.
    pub(crate) fn vest(&mut self, window: WindowIndex) {
        for account in self.accounts.values_mut() {
            account.vest(window, self.vesting_windows);
        }
    }

    /// Slashes up to `most_micros` of an account's unvested pay, the newest grant first. Returns the amount
    /// that was taken.
    pub(crate) fn slash(&mut self, account: &PublicKey, most_micros: u64) -> u64 {
        let Some(account) = self.accounts.get_mut(account) else { return 0 };
        let mut left = most_micros;
        for grant in account.grants.iter_mut().rev() {
            let taken = grant.amount_micros.min(left);
            grant.amount_micros -= taken;
            left -= taken;
        }
        account.grants.retain(|grant| grant.amount_micros > 0);
        self.burnt_micros += most_micros - left;
        most_micros - left
    }

    /// Pays the mints of `window`, which is the last step of closing it. The treasury's part is free at once.
    pub(crate) fn pay(&mut self, window: WindowIndex, mints: &[Mint]) {
        for mint in mints {
            self.minted_micros += mint.amount_micros;
            if mint.kind == MintKind::Treasury {
                self.treasury_micros += mint.amount_micros;
                continue;
            }
            let account = self.accounts.entry(mint.account).or_default();
            if self.vesting_windows == 0 {
                account.free_micros += mint.amount_micros;
            } else {
                account.grant(window, mint.amount_micros);
            }
        }
        self.assert_balanced();
    }

    /// Burns the price of slots out of the free balances of these accounts.
    ///
    /// # Panics
    /// If an account holds less than its amount. It was checked before that each holds it, and nothing else
    /// takes from free balances.
    pub(crate) fn spend(&mut self, amounts: &[(PublicKey, u64)]) {
        for (owner, amount_micros) in amounts {
            let account = self.accounts.get_mut(owner).expect("who burns has an account");
            let left = account.free_micros.checked_sub(*amount_micros);
            account.free_micros = left.expect("who burns has what it burns");
            self.burnt_micros += amount_micros;
        }
        self.assert_balanced();
    }

    /// # Panics
    /// If the balances do not add up to what was minted. That is a bug, and nothing may be signed on top of it.
    fn assert_balanced(&self) {
        let held: u64 = self.accounts.values().map(|account| account.free_micros + account.vesting_micros()).sum();
        assert_eq!(held + self.treasury_micros + self.burnt_micros, self.minted_micros, "ledger does not balance");
    }
}

impl Account {
    /// Adds pay that vests. All pay of one window is one grant.
    fn grant(&mut self, window: WindowIndex, amount_micros: u64) {
        match self.grants.last_mut() {
            Some(last) if last.window == window => last.amount_micros += amount_micros,
            _ => self.grants.push(Grant { window, amount_micros }),
        }
    }

    /// Frees the grants that were minted `windows` windows before `window` or earlier. A grant vests all at
    /// once, so a mismatch that is found in time finds it whole.
    fn vest(&mut self, window: WindowIndex, windows: u64) {
        let due = |grant: &Grant| window.0.saturating_sub(grant.window.0) >= windows;
        self.free_micros += self.grants.iter().filter(|grant| due(grant)).map(|grant| grant.amount_micros).sum::<u64>();
        self.grants.retain(|grant| !due(grant));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use templar_manifest::{Slash, SlashCause};

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn miner(number: u8, amount_micros: u64) -> Mint {
        Mint { account: key(number), kind: MintKind::Miner, amount_micros }
    }

    fn slashed(number: u8, amount_micros: u64) -> Slash {
        Slash { account: key(number), cause: SlashCause::Mismatch, window: WindowIndex(0), amount_micros }
    }

    impl Ledger {
        /// Closes a window with these slashes and mints.
        fn settle(&mut self, window: WindowIndex, slashes: &[Slash], mints: &[Mint]) {
            self.vest(window);
            for slash in slashes {
                self.slash(&slash.account, slash.amount_micros);
            }
            self.pay(window, mints);
        }
    }

    #[test]
    fn pay_is_free_all_at_once_when_it_has_vested() {
        let mut ledger = Ledger::new(3);
        ledger.settle(WindowIndex(0), &[], &[miner(1, 11)]);
        let balance =
            |ledger: &Ledger| (ledger.accounts[&key(1)].free_micros(), ledger.accounts[&key(1)].vesting_micros());
        assert_eq!(balance(&ledger), (0, 11));
        for (window, expected) in [(1, (0, 11)), (2, (0, 11)), (3, (11, 0)), (4, (11, 0))] {
            ledger.settle(WindowIndex(window), &[], &[]);
            assert_eq!(balance(&ledger), expected, "window {window}");
        }
        assert!(ledger.accounts[&key(1)].grants().is_empty());
    }

    #[test]
    fn a_slash_takes_what_has_not_vested_and_nothing_else() {
        let mut ledger = Ledger::new(2);
        let validator = Mint { account: key(2), kind: MintKind::Evaluations, amount_micros: 7 };
        let treasury = Mint { account: key(0), kind: MintKind::Treasury, amount_micros: 5 };
        ledger.settle(WindowIndex(0), &[], &[treasury, miner(1, 10), validator]);
        ledger.settle(WindowIndex(1), &[], &[miner(1, 4)]);
        // The newest goes first.
        assert_eq!(ledger.clone().slash(&key(1), 5), 5);
        let mut partly = ledger.clone();
        partly.slash(&key(1), 5);
        assert_eq!(partly.accounts[&key(1)].grants(), [Grant { window: WindowIndex(0), amount_micros: 9 }]);
        // Pay that vests in the window of the slash is out of reach.
        ledger.vest(WindowIndex(2));
        assert_eq!(ledger.slash(&key(1), u64::MAX), 4);
        assert_eq!(ledger.slash(&key(9), u64::MAX), 0);
        ledger.pay(WindowIndex(2), &[]);
        assert_eq!(ledger.accounts[&key(1)], Account { free_micros: 10, grants: vec![] });
        assert_eq!(ledger.accounts[&key(2)].free_micros(), 7);
        assert_eq!((ledger.treasury_micros(), ledger.burnt_micros(), ledger.minted_micros()), (5, 4, 26));
    }

    #[test]
    fn pay_of_one_window_is_one_grant() {
        let mut ledger = Ledger::new(2);
        let replays = Mint { kind: MintKind::Replays, ..miner(1, 7) };
        ledger.settle(WindowIndex(0), &[], &[miner(1, 10), replays]);
        ledger.settle(WindowIndex(1), &[], &[miner(1, 1)]);
        let grant = |window, amount_micros| Grant { window: WindowIndex(window), amount_micros };
        assert_eq!(ledger.accounts[&key(1)].grants(), [grant(0, 17), grant(1, 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost(
            vesting in 0u64..5,
            windows in prop::collection::vec((prop::collection::vec((0u8..4, 0u64..1000), 0..5), 0u8..6), 1..20),
        ) {
            let mut ledger = Ledger::new(vesting);
            let mut minted = 0;
            for (window, (amounts, refused)) in windows.into_iter().enumerate() {
                let mints: Vec<Mint> = amounts.iter().map(|&(who, amount)| miner(who, amount)).collect();
                minted += amounts.iter().map(|&(_, amount)| amount).sum::<u64>();
                ledger.settle(WindowIndex(window as u64), &[slashed(refused, 500)], &mints);
                prop_assert_eq!(ledger.minted_micros(), minted);
            }
        }
    }
}

//! The tables of pay: weights, mints, slashes and balances.

use templar_export::tables::Field::{Id, Integer, Text};
use templar_export::tables::{Column, Table};
use templar_manifest::{Mint, MintKind, PublicKey, Slash, Weight, WindowIndex};
use templar_protocol::RunState;

pub(super) fn weights() -> Table<(WindowIndex, Weight)> {
    let column = Column::<(WindowIndex, Weight)>::new;
    Table {
        name: "weights",
        about: "A miner's part of the miners' pay of a window; parts of zero are left out",
        columns: vec![
            column("window", "window that is paid", Integer(|row| row.0.0)),
            column("miner", "owner key of the miner", Id(|row| *row.1.miner.as_bytes())),
            column("weight_ppm", "its part, in parts per million", Integer(|row| row.1.weight_ppm.into())),
        ],
    }
}

fn mint_name(kind: MintKind) -> &'static str {
    match kind {
        MintKind::Miner => "miner",
        MintKind::Evaluations => "evaluations",
        MintKind::Replays => "replays",
        MintKind::Treasury => "treasury",
    }
}

pub(super) fn mints() -> Table<(WindowIndex, Mint)> {
    let column = Column::<(WindowIndex, Mint)>::new;
    Table {
        name: "mints",
        about: "Pay that a window created for an account",
        columns: vec![
            column("window", "window that created it", Integer(|row| row.0.0)),
            column("account", "owner key of the account; zeros for the treasury", Id(|row| *row.1.account.as_bytes())),
            column(
                "kind",
                "`miner`, `evaluations`, `replays` or `treasury`",
                Text(|row| mint_name(row.1.kind).to_owned()),
            ),
            column("amount_micros", "the amount in micro-ALPHA", Integer(|row| row.1.amount_micros)),
        ],
    }
}

pub(super) fn slashes() -> Table<(WindowIndex, Slash)> {
    let column = Column::<(WindowIndex, Slash)>::new;
    Table {
        name: "slashes",
        about: "Unvested pay that a window destroyed; an amount of zero is listed, since it counts as a strike",
        columns: vec![
            column("window", "window whose record slashed", Integer(|row| row.0.0)),
            column("account", "owner key of the account", Id(|row| *row.1.account.as_bytes())),
            column("cause", "the offence, such as `mismatch`", Text(|row| row.1.cause.name().to_owned())),
            column("offence_window", "window of the offence", Integer(|row| row.1.window.0)),
            column("amount_micros", "the amount in micro-ALPHA", Integer(|row| row.1.amount_micros)),
        ],
    }
}

/// An account after a window.
pub(super) struct BalanceRow {
    window: WindowIndex,
    account: PublicKey,
    free_micros: u64,
    vesting_micros: u64,
}

/// The accounts after a window, sorted by key, with the treasury among them.
pub(super) fn balance_rows(window: WindowIndex, state: &RunState) -> Vec<BalanceRow> {
    let ledger = state.ledger();
    let treasury = PublicKey::from_bytes([0; 32]);
    let treasury = BalanceRow { window, account: treasury, free_micros: ledger.treasury_micros(), vesting_micros: 0 };
    let accounts = ledger.accounts().iter().map(|(account, held)| BalanceRow {
        window,
        account: *account,
        free_micros: held.free_micros(),
        vesting_micros: held.vesting_micros(),
    });
    std::iter::once(treasury).chain(accounts).collect()
}

pub(super) fn balances() -> Table<BalanceRow> {
    let column = Column::<BalanceRow>::new;
    Table {
        name: "balances",
        about: "An account after a window",
        columns: vec![
            column("window", "window after which the account holds this", Integer(|row| row.window.0)),
            column("account", "owner key of the account; zeros for the treasury", Id(|row| *row.account.as_bytes())),
            column("free_micros", "free to use, in micro-ALPHA", Integer(|row| row.free_micros)),
            column("vesting_micros", "still vesting, in micro-ALPHA", Integer(|row| row.vesting_micros)),
        ],
    }
}

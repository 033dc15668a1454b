//! The page of one validator: what it signed, replayed and measured, and what it earned.

use maud::{Markup, html};
use serde::Serialize;
use templar_manifest::{Hash, MintKind, PublicKey, Replay, ScoreId, Signed, WindowIndex};
use templar_protocol::ClosedWindow;

use crate::facts::ValidatorSums;
use crate::html::{self, Number, Text, Tone, table, tag, tiles};
use crate::page::{Desk, Found, Missing};
use crate::plots;
use crate::text::{alpha, count, grouped, percent};

/// The most windows that the page lists, the newest first.
const MAX_ROWS: usize = 100;

/// One validator.
#[derive(Debug, Serialize)]
struct ValidatorPage {
    validator: PublicKey,
    stake: u64,
    total_stake: u64,
    chain_anchor: Hash,
    /// The number of closed windows of the run.
    closed: usize,
    #[serde(flatten)]
    sums: ValidatorSums,
    free_micros: u64,
    vesting_micros: u64,
    /// Its part in each window, the newest first; at most a hundred.
    windows: Vec<ValidatorWindow>,
}

/// The part of a validator in one window.
#[derive(Debug, Serialize)]
struct ValidatorWindow {
    window: WindowIndex,
    signed: bool,
    revealed: bool,
    inbox: Option<Hash>,
    score: Option<ScoreId>,
    matching: usize,
    refused: usize,
    measured: usize,
    for_replays_micros: u64,
    for_measurements_micros: u64,
}

pub(super) fn page(desk: &Desk<'_>, key: &PublicKey) -> Result<Found, Missing> {
    let genesis = &desk.source.context().genesis;
    let folded = desk.source.folded();
    let Some(spec) = genesis.validator(key) else {
        return Err(Missing::page("There is no such validator", "Genesis does not name it."));
    };
    let closed = &folded.closed;
    let account = folded.node.state().ledger().accounts().get(key);
    let view = ValidatorPage {
        validator: *key,
        stake: spec.stake,
        total_stake: genesis.total_stake(),
        chain_anchor: spec.chain_anchor,
        closed: closed.len(),
        sums: folded.facts.validators.get(key).copied().unwrap_or_default(),
        free_micros: account.map_or(0, |account| account.free_micros()),
        vesting_micros: account.map_or(0, |account| account.vesting_micros()),
        windows: closed.iter().rev().take(MAX_ROWS).map(|closed| ValidatorWindow::of(closed, key)).collect(),
    };
    let pay = plots::pay_of(closed, key);
    drop(folded);
    let title = format!("Validator {}", key.short());
    Ok(Found::page(desk.form, title, &view, |view| view.html(&pay.figure())))
}

impl ValidatorWindow {
    fn of(closed: &ClosedWindow, key: &PublicKey) -> Self {
        let body = &closed.window.body;
        let score = closed.scores.iter().find(|score| score.payload().validator == *key);
        let entries = score.map_or(&[][..], |score| &score.payload().entries);
        let paid = |kind| {
            let mint = body.mints.iter().find(|mint| mint.account == *key && mint.kind == kind);
            mint.map_or(0, |mint| mint.amount_micros)
        };
        Self {
            window: body.window,
            signed: closed.record_certificate.witnesses.iter().any(|witness| witness.signer == *key),
            revealed: body.reveals.iter().any(|reveal| reveal.validator == *key),
            inbox: closed.inboxes.iter().find(|inbox| inbox.payload().validator == *key).map(Signed::id),
            score: score.map(|score| score.id().into()),
            matching: entries.iter().filter(|entry| entry.replay == Replay::Match).count(),
            refused: entries.iter().filter(|entry| matches!(entry.replay, Replay::Refused(_))).count(),
            measured: entries.iter().filter(|entry| entry.evaluation.losses().is_some()).count(),
            for_replays_micros: paid(MintKind::Replays),
            for_measurements_micros: paid(MintKind::Evaluations),
        }
    }
}

impl ValidatorPage {
    fn html(&self, pay: &Markup) -> Markup {
        let part = u128::from(self.stake) * 1_000_000 / u128::from(self.total_stake.max(1));
        let balance = format!("{} free, {} still vesting", alpha(self.free_micros), alpha(self.vesting_micros));
        let revealed = format!("{} of {}", self.sums.revealed, self.closed);
        html! {
            h1 { "Validator " code { (self.validator.short()) } }
            p.lead {
                "It signed " (self.sums.signed) " of " (count(self.closed as u64, "record")) ", repeated the training "
                "of " (count(self.sums.replayed, "update")) " and measured " (grouped(self.sums.measured)) "."
            }
            (tiles(&[
                ("Stake", percent(part as u64), format!("{} of {}", grouped(self.stake), grouped(self.total_stake))),
                ("Earned, ALPHA", alpha(self.sums.paid_micros), balance),
                ("Values revealed", revealed, "for the seeds of windows".to_owned()),
                ("Slashed, ALPHA", alpha(self.sums.slashed_micros), String::new()),
            ]))
            h2 { "Pay by window" }
            (pay)
            h2 { "Windows, the newest first" }
            (self.windows_table())
            h2 { "Key" }
            dl.facts {
                dt { "signs with" } dd { code.whole { (self.validator) } }
                dt { "anchor of its hash chain" } dd { code.whole { (self.chain_anchor) } }
            }
        }
    }

    fn windows_table(&self) -> Markup {
        let heads = [
            Text("window"),
            Text("record"),
            Text("value"),
            Number("same hashes"),
            Number("refused"),
            Number("measured"),
            Number("for replays, ALPHA"),
            Number("for measurements, ALPHA"),
            Text("score"),
            Text("inbox"),
        ];
        let rows = html! { @for row in &self.windows { tr {
            th scope="row" { (html::window(row.window)) }
            td { @if row.signed { (tag(Tone::Good, "signed")) } @else { (tag(Tone::Quiet, "not signed")) } }
            td { @if row.revealed { "revealed" } @else { (tag(Tone::Bad, "not revealed")) } }
            td.num { (row.matching) }
            td.num { (row.refused) }
            td.num { (row.measured) }
            td.num { (alpha(row.for_replays_micros)) }
            td.num { (alpha(row.for_measurements_micros)) }
            td { @if let Some(score) = row.score { (html::object(score)) } @else { "none" } }
            td { @if let Some(inbox) = row.inbox { (html::object(inbox)) } @else { "none" } }
        } } };
        table("Windows of this validator", &heads, rows)
    }
}

//! The pages of all miners and of one: its pay, its contributions, and its chain of states.

use maud::{Markup, html};
use serde::Serialize;
use templar_manifest::{ContributionId, MintKind, PublicKey, SlashCause, StateId, Verdict, WindowIndex};
use templar_protocol::ClosedWindow;
use templar_query::object::standing::StandingView;

use crate::facts::{MinerSums, contribution_of};
use crate::html::{self, Number, Text, Tone, table, tag, tiles};
use crate::page::{Desk, Found, Missing};
use crate::plots;
use crate::source::Folded;
use crate::text::{alpha, amount, change, count, decimals, grouped, nats, percent};

/// The most contributions that the page of one miner lists, the newest first.
const MAX_ROWS: usize = 100;

/// A miner in a list.
#[derive(Debug, Serialize)]
pub(super) struct MinerRow {
    pub(super) miner: PublicKey,
    /// Its slot; `None` if it has none now.
    slot: Option<u32>,
    #[serde(flatten)]
    pub(super) sums: MinerSums,
    factor_nanos: u64,
    excluded_until: WindowIndex,
    /// The newest window in which its update was refused, and the reason.
    pub(super) newest_refusal: Option<(WindowIndex, String)>,
}

/// All miners, those with slots first, by slot.
pub(super) fn rows(folded: &Folded) -> Vec<MinerRow> {
    let state = folded.node.state();
    let row = |miner: PublicKey, slot| {
        let standing = state.standing(&miner);
        MinerRow {
            miner,
            slot,
            sums: folded.facts.miners.get(&miner).copied().unwrap_or_default(),
            factor_nanos: standing.factor_nanos,
            excluded_until: standing.excluded_until,
            newest_refusal: folded.facts.refusals.get(&miner).cloned(),
        }
    };
    let members = state.members().iter().map(|member| row(member.owner, Some(member.slot)));
    let left = folded.facts.miners.keys().filter(|miner| state.members().by_owner(miner).is_none());
    members.chain(left.map(|miner| row(*miner, None))).collect()
}

/// A table of miners.
pub(super) fn table_of<'a>(rows: impl Iterator<Item = &'a MinerRow>) -> Markup {
    let heads = [
        Text("miner"),
        Number("slot"),
        Number("updates"),
        Number("in the model"),
        Text("refused"),
        Number("tokens"),
        Number("factor of pay"),
        Number("earned, ALPHA"),
    ];
    let rows = html! { @for row in rows { tr {
        th scope="row" { (html::miner(&row.miner)) }
        td.num { @if let Some(slot) = row.slot { (slot) } @else { "left" } }
        td.num { (row.sums.contributions) }
        td.num { (row.sums.aggregated) }
        td {
            @if row.sums.refused > 0 { (tag(Tone::Bad, &format!("{} refused", row.sums.refused))) } @else { "none" }
            @if row.sums.slashed_micros > 0 { " " (tag(Tone::Bad, "slashed")) }
        }
        td.num { (amount(row.sums.tokens)) }
        td.num { (decimals(row.factor_nanos / 1_000, 6)) }
        td.num { (alpha(row.sums.paid_micros)) }
    } } };
    table("Miners", &heads, rows)
}

#[derive(Debug, Serialize)]
struct MinerList {
    slots: u32,
    /// The number of slots that are taken.
    members: usize,
    miners: Vec<MinerRow>,
}

pub(super) fn list(desk: &Desk<'_>) -> Result<Found, Missing> {
    let folded = desk.source.folded();
    let (slots, members) = (desk.source.context().genesis.registration.slots, folded.node.state().members().len());
    let list = MinerList { slots, members, miners: rows(&folded) };
    drop(folded);
    Ok(Found::page(desk.form, "Miners", &list, |list| {
        html! {
            h1 { "Miners" }
            p.lead {
                (count(list.members as u64, "miner")) " of at most " (list.slots) " have a slot. A miner is paid for "
                "training steps that were repeated with the same result, a little more or less for their worth."
            }
            (table_of(list.miners.iter()))
        }
    }))
}

/// One miner.
#[derive(Debug, Serialize)]
struct MinerPage {
    miner: PublicKey,
    slot: Option<u32>,
    node: Option<PublicKey>,
    since: Option<WindowIndex>,
    #[serde(flatten)]
    sums: MinerSums,
    free_micros: u64,
    vesting_micros: u64,
    standing: StandingView,
    /// The state that its next contribution begins with.
    state: Option<StateId>,
    slashes: Vec<MinerSlash>,
    /// Its contributions, the newest first; at most a hundred.
    contributions: Vec<MinerContribution>,
}

#[derive(Debug, Serialize)]
struct MinerSlash {
    recorded: WindowIndex,
    window: WindowIndex,
    cause: SlashCause,
    amount_micros: u64,
}

/// One contribution of a miner.
#[derive(Debug, Serialize)]
struct MinerContribution {
    window: WindowIndex,
    contribution: ContributionId,
    verdict: String,
    is_accepted: bool,
    steps: u32,
    loss_nanonats: u64,
    gain_nanonats: Option<i64>,
    weight_ppm: u32,
    paid_micros: u64,
    /// The miner's state before and after it; the first is the zero state if `begins`.
    state_in: Option<StateId>,
    state_out: Option<StateId>,
    begins: bool,
}

pub(super) fn page(desk: &Desk<'_>, miner: &PublicKey) -> Result<Found, Missing> {
    let folded = desk.source.folded();
    let view = MinerPage::of(&folded, miner);
    let pay = plots::pay_of(&folded.closed, miner);
    drop(folded);
    let title = format!("Miner {}", miner.short());
    Ok(Found::page(desk.form, title, &view, |view| view.html(&pay.figure())))
}

impl MinerPage {
    fn of(folded: &Folded, miner: &PublicKey) -> Self {
        let (state, closed) = (folded.node.state(), &folded.closed);
        let member = state.members().by_owner(miner);
        let account = state.ledger().accounts().get(miner);
        let slashes = closed.iter().flat_map(|closed| {
            let slashes = closed.window.body.slashes.iter().filter(|slash| slash.account == *miner);
            slashes.map(|slash| MinerSlash {
                recorded: closed.window.header.window,
                window: slash.window,
                cause: slash.cause,
                amount_micros: slash.amount_micros,
            })
        });
        let zero = state.zero_state();
        let contributions = closed.iter().rev().filter_map(|closed| MinerContribution::of(closed, miner, zero));
        Self {
            miner: *miner,
            slot: member.map(|member| member.slot),
            node: member.map(|member| member.node),
            since: member.map(|member| member.since),
            sums: folded.facts.miners.get(miner).copied().unwrap_or_default(),
            free_micros: account.map_or(0, |account| account.free_micros()),
            vesting_micros: account.map_or(0, |account| account.vesting_micros()),
            standing: (&state.standing(miner)).into(),
            state: state.parent(miner).map(|parent| parent.state_out),
            slashes: slashes.collect(),
            contributions: contributions.take(MAX_ROWS).collect(),
        }
    }

    fn html(&self, pay: &Markup) -> Markup {
        let slot = self.slot.map_or_else(|| "none now".to_owned(), |slot| slot.to_string());
        let since = self.since.map_or_else(String::new, |since| format!("since window {since}"));
        let score = format!("{:.3}", self.standing.ordinal_picos as f64 / 1e12);
        let balance = format!("{} free, {} still vesting", alpha(self.free_micros), alpha(self.vesting_micros));
        let updates = format!("{} in the model, {} refused", self.sums.aggregated, self.sums.refused);
        html! {
            h1 { "Miner " code { (self.miner.short()) } }
            p.lead { (self.sentence()) }
            (tiles(&[
                ("Earned, ALPHA", alpha(self.sums.paid_micros), balance),
                ("Updates", grouped(self.sums.contributions), updates),
                ("Trained on", format!("{} tokens", amount(self.sums.tokens)), "in accepted updates".to_owned()),
                ("Rating", score, format!("factor of pay {}", decimals(self.standing.factor_nanos / 1_000, 6))),
                ("Slot", slot, since),
            ]))
            h2 { "Pay by window" }
            (pay)
            @if !self.slashes.is_empty() { h2 { "Slashed" } (self.slashes()) }
            h2 { "Updates, the newest first" }
            (self.contributions())
            @if self.sums.contributions > self.contributions.len() as u64 {
                p.note {
                    "The newest " (self.contributions.len()) " of " (grouped(self.sums.contributions)) " are listed."
                }
            }
            h2 { "Keys and state" }
            dl.facts {
                dt { "owner" } dd { code.whole { (self.miner) } }
                @if let Some(node) = self.node { dt { "trains with" } dd { code.whole { (node) } } }
                @if let Some(state) = self.state {
                    dt { "state" } dd { (html::object(state)) " begins its next update" }
                }
            }
        }
    }

    fn sentence(&self) -> String {
        let MinerSums { contributions, refused, paid_micros, .. } = self.sums;
        match (contributions, refused) {
            (0, _) => "It has no update in any closed window yet.".to_owned(),
            (all, refused) if all == refused => {
                format!(
                    "{} came in time, and every one was refused, so it earned nothing for them.",
                    count(all, "update")
                )
            }
            (all, 0) => format!(
                "{} came in time and none was refused. Together they earned {} ALPHA.",
                count(all, "update"),
                alpha(paid_micros)
            ),
            (all, refused) => format!(
                "{} came in time, of which {refused} were refused. Together they earned {} ALPHA.",
                count(all, "update"),
                alpha(paid_micros)
            ),
        }
    }

    fn slashes(&self) -> Markup {
        let rows = html! { @for slash in &self.slashes { tr {
            td { (html::window(slash.recorded)) } td { (slash.cause.name()) } td { (html::window(slash.window)) }
            td.num { (alpha(slash.amount_micros)) }
        } } };
        table("Slashed", &[Text("by the record of"), Text("cause"), Text("for"), Number("ALPHA")], rows)
    }

    fn contributions(&self) -> Markup {
        let heads = [
            Text("window"),
            Text("verdict"),
            Number("steps"),
            Number("training loss"),
            Number("gain, others' pages"),
            Number("weight"),
            Number("paid, ALPHA"),
            Text("explained"),
            Text("contribution"),
            Text("state before → after"),
        ];
        let rows = html! { @for row in &self.contributions { tr {
            th scope="row" { (html::window(row.window)) }
            td.why {
                @if row.is_accepted { (tag(Tone::Good, "accepted")) } @else { (tag(Tone::Bad, "refused")) }
                " " (row.verdict)
            }
            td.num { (row.steps) }
            td.num { (nats(row.loss_nanonats)) }
            td.num { @if let Some(gain) = row.gain_nanonats { (change(gain.into())) } @else { "–" } }
            td.num { (percent(row.weight_ppm.into())) }
            td.num { (alpha(row.paid_micros)) }
            td { a href={ "/miner/" (self.miner) "/pay/" (row.window) } { "why" } }
            td { (html::object(row.contribution)) }
            td {
                @if row.begins { "zero" } @else if let Some(state) = row.state_in { (html::object(state)) }
                " → " @if let Some(state) = row.state_out { (html::object(state)) }
            }
        } } };
        table("Updates of this miner", &heads, rows)
    }
}

impl MinerContribution {
    fn of(closed: &ClosedWindow, miner: &PublicKey, zero: StateId) -> Option<Self> {
        let body = &closed.window.body;
        let place = body.outcomes.binary_search_by_key(miner, |outcome| outcome.miner).ok()?;
        let outcome = &body.outcomes[place];
        let claimed = contribution_of(closed, miner);
        let weight = body.weights.iter().find(|weight| weight.miner == *miner);
        let paid = body.mints.iter().find(|mint| mint.account == *miner && mint.kind == MintKind::Miner);
        Some(Self {
            window: body.window,
            contribution: outcome.contribution,
            verdict: match &outcome.verdict {
                Verdict::Aggregated => "in the model".to_owned(),
                Verdict::Reserve => "in reserve".to_owned(),
                Verdict::Excluded => "excluded by its standing".to_owned(),
                Verdict::Refused(refusal) => refusal.to_string(),
            },
            is_accepted: !matches!(outcome.verdict, Verdict::Refused(_)),
            steps: claimed.map_or(0, |claimed| claimed.steps),
            loss_nanonats: claimed.map_or(0, |claimed| claimed.loss_nanonats),
            gain_nanonats: outcome.losses.and_then(|losses| i64::try_from(losses.gain_nanonats()).ok()),
            weight_ppm: weight.map_or(0, |weight| weight.weight_ppm),
            paid_micros: paid.map_or(0, |paid| paid.amount_micros),
            state_in: claimed.map(|claimed| claimed.state_in),
            state_out: claimed.map(|claimed| claimed.state_out),
            begins: claimed.is_some_and(|claimed| claimed.state_in == zero),
        })
    }
}

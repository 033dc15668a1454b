//! The page of the run: how well it learns, what it costs, who takes part, and what it waits for.

use std::time::Duration;

use maud::{Markup, html};
use serde::Serialize;
use templar_home::now::NodeNow;
use templar_manifest::{CheckpointId, DatasetId, PublicKey, RecordId, RunId, WindowIndex};
use templar_query::participation::{Awaited, Participation, WindowStage};

use super::{miner, windows};
use crate::facts::{ValidatorSums, WindowRow};
use crate::html::{self, Number, Text, Tone, table, tag, tiles};
use crate::page::{Desk, Found, Missing};
use crate::plot::Plot;
use crate::plots;
use crate::source::Folded;
use crate::text::{alpha, amount, bytes, count, grouped, nats, span};

/// The most miners, and windows, of which this page has a row.
const MAX_ROWS: usize = 12;

/// The run as it stands.
#[derive(Debug, Serialize)]
struct RunPage {
    run: RunId,
    name: String,
    parameters: usize,
    dataset: DatasetId,
    /// The open window, or the number of windows of a run that is over.
    window: WindowIndex,
    /// The number of windows of the run; 0 for a run without an end.
    windows: u64,
    phase: WindowStage,
    awaited: Vec<Awaited>,
    /// The longest time that the phase lasts.
    phase_ms: u64,
    /// What the node of this home says about this moment.
    node: Option<NodeNow>,
    checkpoint: CheckpointId,
    record: Option<RecordId>,
    totals: RunTotals,
    supply: Supply,
    validators: Vec<ValidatorRow>,
    miners: Vec<miner::MinerRow>,
    /// One row for each closed window, oldest first.
    closed: Vec<WindowRow>,
}

/// Sums over all closed windows.
#[derive(Debug, Serialize)]
struct RunTotals {
    tokens: u64,
    contributions: u64,
    refused: u64,
    delta_bytes: u64,
    fp32_bytes: u64,
}

/// The ALPHA that there is, in micro-ALPHA.
#[derive(Debug, Serialize)]
struct Supply {
    minted_micros: u64,
    burnt_micros: u64,
    treasury_micros: u64,
}

/// A validator in a list.
#[derive(Debug, Serialize)]
struct ValidatorRow {
    validator: PublicKey,
    stake: u64,
    stake_ppm: u64,
    #[serde(flatten)]
    sums: ValidatorSums,
}

pub(super) fn page(desk: &Desk<'_>) -> Result<Found, Missing> {
    let now = desk.source.now();
    let folded = desk.source.folded();
    let run = RunPage::of(desk, &folded, now);
    let losses = plots::loss(&folded.facts.windows);
    let traffic = plots::traffic(&folded.facts.windows);
    drop(folded);
    Ok(Found::page(desk.form, "Run", &run, |run| run.html(&losses, &traffic)))
}

impl RunPage {
    fn of(desk: &Desk<'_>, folded: &Folded, node: Option<NodeNow>) -> Self {
        let context = desk.source.context();
        let (genesis, state, facts) = (&context.genesis, folded.node.state(), &folded.facts);
        let participation = Participation::of(&folded.node, &folded.recent);
        let phase = participation.stage();
        let deadlines = &genesis.deadlines;
        let stake = genesis.total_stake().max(1);
        let validator = |spec: &templar_manifest::ValidatorSpec| ValidatorRow {
            validator: spec.key,
            stake: spec.stake,
            stake_ppm: (u128::from(spec.stake) * 1_000_000 / u128::from(stake)) as u64,
            sums: facts.validators.get(&spec.key).copied().unwrap_or_default(),
        };
        Self {
            run: context.run,
            name: genesis.name.clone(),
            parameters: context.recipe.parameter_count(),
            dataset: genesis.dataset,
            window: state.window(),
            windows: genesis.windows,
            phase,
            awaited: participation.awaited(state),
            phase_ms: match phase {
                WindowStage::Commit => deadlines.commit_ms,
                WindowStage::Reveal => deadlines.reveal_ms,
                WindowStage::Judge | WindowStage::Over => deadlines.judge_ms,
            },
            node,
            checkpoint: state.checkpoint(),
            record: state.record(),
            totals: RunTotals {
                tokens: facts.total(|row| row.tokens),
                contributions: facts.total(|row| row.in_cut as u64),
                refused: facts.total(|row| (row.in_cut - row.valid) as u64),
                delta_bytes: facts.total(|row| row.delta_bytes),
                fp32_bytes: facts.total(|row| row.fp32_bytes),
            },
            supply: Supply {
                minted_micros: state.ledger().minted_micros(),
                burnt_micros: state.ledger().burnt_micros(),
                treasury_micros: state.ledger().treasury_micros(),
            },
            validators: genesis.validators.iter().map(validator).collect(),
            miners: miner::rows(folded),
            closed: facts.windows.clone(),
        }
    }

    fn html(&self, losses: &Plot, traffic: &Plot) -> Markup {
        html! {
            h1 { (self.name) }
            p.lead { (self.standing()) " " (self.waiting()) }
            (self.caught())
            (self.tiles())
            div.pair {
                section { h2 { "What it learns" } (losses.figure()) }
                section { h2 { "What it sends" } (traffic.figure()) }
            }
            h2 { "Miners" }
            (miner::table_of(self.miners.iter().take(MAX_ROWS)))
            @if self.miners.len() > MAX_ROWS {
                p.more { a href="/miners" { "All " (count(self.miners.len() as u64, "miner")) } }
            }
            h2 { "Validators" }
            (self.validators_table())
            h2 { "Newest windows" }
            (windows::table_of(self.closed.iter().rev().take(MAX_ROWS)))
            @if self.closed.len() > MAX_ROWS {
                p.more { a href="/windows" { "All " (count(self.closed.len() as u64, "window")) } }
            }
            h2 { "Where it comes from" }
            dl.facts {
                dt { "Run" } dd { (html::object(self.run)) " names every rule and number" }
                dt { "Dataset" } dd { a href="/dataset" { (self.dataset.short()) } }
                dt { "Newest model" } dd { (html::object(self.checkpoint)) }
                @if let Some(record) = self.record { dt { "Newest record" } dd { (html::object(record)) } }
            }
            p { "You need not believe this page: " a href="/audit" { "compute it again" } "." }
        }
    }

    fn standing(&self) -> String {
        match (self.phase, self.windows) {
            (WindowStage::Over, _) => format!("The run is over after {}.", count(self.window.0, "window")),
            (_, 0) => format!("Window {} is open: {}.", self.window, self.phase.in_words()),
            (_, of) => format!("Window {} of {of} is open: {}.", self.window, self.phase.in_words()),
        }
    }

    fn waiting(&self) -> Markup {
        let until = self.node.as_ref().and_then(NodeNow::left).map_or_else(
            || format!("This phase lasts at most {}; then", span(Duration::from_millis(self.phase_ms))),
            |left| match left.is_zero() {
                true => "The deadline has passed:".to_owned(),
                false => format!("This phase ends in {} at the latest; then", span(left)),
            },
        );
        let is_validator = |key: &PublicKey| self.validators.iter().any(|row| row.validator == *key);
        html! {
            @if self.phase != WindowStage::Over {
                @if self.awaited.is_empty() { "It waits for nobody." } @else {
                    "It waits for "
                    @for (place, one) in self.awaited.iter().take(6).enumerate() {
                        @if place > 0 { ", " }
                        "the " (one.what.name()) " of "
                        @if is_validator(&one.key) { (html::validator(&one.key)) } @else { (html::miner(&one.key)) }
                    }
                    @if self.awaited.len() > 6 { " and " (self.awaited.len() - 6) " more" }
                    ". " (until) " the others go on without whoever is missing."
                }
                @if let Some(node) = &self.node {
                    " The " (node.role) " of this home reads the logs of " (count(node.peers as u64, "peer")) "."
                }
            }
        }
    }

    /// The miners whose updates were refused, and how that was found.
    fn caught(&self) -> Markup {
        const MOST: usize = 3;
        let caught = || self.miners.iter().filter_map(|row| Some((row, row.newest_refusal.as_ref()?)));
        html! {
            @for (row, (window, reason)) in caught().take(MOST) {
                p {
                    (tag(Tone::Bad, "refused")) " " (row.sums.refused) " of " (count(row.sums.contributions, "update"))
                    " of miner " (html::miner(&row.miner)) ", last in " (html::window(*window)) ": " (reason) "."
                }
            }
            @if caught().count() > MOST { p { "Updates of " (caught().count() - MOST) " more miners were refused." } }
        }
    }

    fn tiles(&self) -> Markup {
        let RunTotals { tokens, contributions, refused, delta_bytes, fp32_bytes } = self.totals;
        let loss = self.closed.last().map_or_else(|| "–".to_owned(), |row| nats(row.held_out_loss_nanonats));
        let first = self.closed.first().map_or_else(String::new, |row| {
            format!("nats a token on held-out text; {} after window 0", nats(row.held_out_loss_nanonats))
        });
        let saved = fp32_bytes.checked_div(delta_bytes).map_or_else(String::new, |times| {
            format!("32-bit floats would take {}, {times}x as much", bytes(fp32_bytes))
        });
        let Supply { minted_micros, burnt_micros, treasury_micros } = self.supply;
        tiles(&[
            ("Loss", loss, first),
            (
                "Trained on",
                format!("{} tokens", amount(tokens)),
                format!("a model of {} parameters", amount(self.parameters as u64)),
            ),
            ("Sent", bytes(delta_bytes), saved),
            ("Updates", grouped(contributions), format!("{} refused", grouped(refused))),
            (
                "Minted, ALPHA",
                alpha(minted_micros),
                format!("{} burnt, {} in the treasury", alpha(burnt_micros), alpha(treasury_micros)),
            ),
        ])
    }

    fn validators_table(&self) -> Markup {
        let heads = [
            Text("validator"),
            Number("stake"),
            Number("records signed"),
            Number("replays"),
            Number("measured"),
            Number("earned, ALPHA"),
            Text("faults"),
        ];
        let rows = html! { @for row in &self.validators { tr {
            th scope="row" { (html::validator(&row.validator)) }
            td.num { (crate::text::percent(row.stake_ppm)) }
            td.num { (row.sums.signed) " of " (self.closed.len()) }
            td.num { (grouped(row.sums.replayed)) }
            td.num { (grouped(row.sums.measured)) }
            td.num { (alpha(row.sums.paid_micros)) }
            td { @if row.sums.slashed_micros > 0 { (tag(Tone::Bad, "slashed")) } @else { "none" } }
        } } };
        table("Validators", &heads, rows)
    }
}

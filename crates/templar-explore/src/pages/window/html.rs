//! The page of a window as HTML.

use maud::{Markup, html};
use templar_manifest::{MintKind, PublicKey};
use templar_query::score::MeasuredContribution;

use super::{Reached, Signatures, Update, WindowPage};
use crate::html::{self, Number, Text, Tone, command, table, tag, tiles};
use crate::text::{alpha, bytes, change, count, decimals, nats, percent};

impl WindowPage {
    pub(super) fn html(&self) -> Markup {
        let in_time = format!("of {} that came in time", self.row.in_cut);
        html! {
            h1 { "Window " (self.row.window) }
            p.lead { (self.sentence()) }
            (self.neighbours())
            (tiles(&[
                ("Held-out loss", nats(self.row.held_out_loss_nanonats), "nats a token, of the model after it".into()),
                ("In the model", count(self.row.aggregated as u64, "update"), in_time),
                ("Sent", bytes(self.row.delta_bytes), format!("{} as 32-bit floats", bytes(self.row.fp32_bytes))),
                ("Minted, ALPHA", alpha(self.row.minted_micros), slashed(self.row.slashed_micros)),
            ]))
            h2 { "From commitment to model" }
            (self.funnel())
            h2 { "Updates" }
            (self.updates())
            h2 { "Measured and replayed" }
            p.soft {
                "Drawn validators repeat the training of an update, and try the update on pages that the seed draws."
            }
            @for (id, score) in &self.scores {
                p { "Validator " (html::validator(&score.validator)) ", score " (html::object(*id)) }
                (measured(&score.validator, &score.entries))
            }
            (self.standings())
            (self.pay())
            (self.signatures())
            (self.seed())
            (self.parts())
        }
    }

    fn sentence(&self) -> String {
        let row = &self.row;
        let refused = row.in_cut - row.valid;
        let came = count(row.in_cut as u64, "update");
        let refused = match refused {
            0 => "None was refused.".to_owned(),
            1 => "One was refused; the reason is below.".to_owned(),
            more => format!("{more} were refused; the reasons are below."),
        };
        format!(
            "{came} came in time, and {} in the new model. {refused}",
            match row.aggregated {
                1 => "1 is".to_owned(),
                more => format!("{more} are"),
            }
        )
    }

    fn neighbours(&self) -> Markup {
        html! { p.more {
            @if let Some(previous) = self.row.window.previous() {
                a href={ "/window/" (previous) } { "← Window " (previous) }
            }
            @if self.row.window.0 + 1 < self.closed as u64 {
                a href={ "/window/" (self.row.window.0 + 1) } { "Window " (self.row.window.0 + 1) " →" }
            }
        } }
    }

    /// The steps that each update takes, with the number of those that came so far.
    fn funnel(&self) -> Markup {
        let row = &self.row;
        let steps = [
            ("committed", row.committed, "a validator had the commitment"),
            ("in time", row.in_cut, "validators with more than a third of the stake had it: the cut"),
            ("revealed", row.revealed, "the update was served after the cut"),
            ("valid", row.valid, "nothing speaks against it"),
            ("in the model", row.aggregated, "the outer step takes it"),
        ];
        let most = row.committed.max(row.in_cut).max(1);
        html! { ol.funnel { @for (name, number, meaning) in steps { li {
            span { (name) }
            span.bar { svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
                rect width=(number as f64 / most as f64 * 100.0) height="10" {}
            } }
            small { strong { (number) } " · " (meaning) }
        } } } }
    }

    fn updates(&self) -> Markup {
        let heads = [
            Text("miner"),
            Text("verdict"),
            Number("gain, others' pages"),
            Number("gain, own pages"),
            Number("weight"),
            Number("paid, ALPHA"),
            Text("update"),
            Text("explained"),
        ];
        table("Updates of this window", &heads, html! { @for update in &self.updates { (self.update(update)) } })
    }

    fn update(&self, update: &Update) -> Markup {
        html! { tr {
            th scope="row" { (html::miner(&update.miner)) }
            td.why { (verdict(update)) @if let Some(reason) = &update.reason { " " (reason) } }
            @match &update.losses {
                Some(losses) => {
                    td.num { (change(losses.gain_nanonats())) }
                    td.num { (change(losses.own_gain_nanonats())) }
                }
                None => { td.num { "–" } td.num { "–" } }
            }
            td.num { (percent(update.weight_ppm.into())) }
            td.num { (alpha(update.paid_micros)) }
            td.line {
                @match update.delta {
                    Some(delta) => { (html::object(delta)) " " small.soft { (bytes(update.delta_bytes)) } }
                    None => { (html::object(update.contribution)) }
                }
            }
            td.line { a href={ "/miner/" (update.miner) "/pay/" (self.row.window) } { "why this pay" } }
        } }
    }

    fn standings(&self) -> Markup {
        let heads = [
            Text("miner"),
            Number("rating"),
            Number("uncertainty"),
            Number("proof of work done"),
            Number("factor of pay"),
            Number("weight"),
            Text("what changed it"),
        ];
        let rows = html! { @for found in &self.standings { tr {
            th scope="row" { (html::miner(&found.miner)) }
            td.num { (picos(found.after.mu_picos)) }
            td.num { (picos(i64::try_from(found.after.sigma_picos).unwrap_or(i64::MAX))) }
            td.num { (format!("{:.3}", found.after.proof_nanos as f64 / 1e9)) }
            td.num { (decimals(found.after.factor_nanos / 1_000, 6)) }
            td.num { (percent(found.weight_ppm.into())) }
            td.why { @for (place, step) in found.changes.iter().enumerate() { @if place > 0 { "; " } (step.why) } }
        } } };
        html! { @if !self.standings.is_empty() { h2 { "Standings after it" } (table("Standings", &heads, rows)) } }
    }

    fn pay(&self) -> Markup {
        let is_miner = |key: &PublicKey| self.updates.iter().any(|update| update.miner == *key);
        let account = |key: &PublicKey| {
            if *key.as_bytes() == [0; 32] {
                html! { "treasury" }
            } else if is_miner(key) {
                html::miner(key)
            } else {
                html::validator(key)
            }
        };
        let mints = html! { @for mint in &self.mints { tr {
            th scope="row" { (account(&mint.account)) } td { (work(mint.kind)) } td.num { (alpha(mint.amount_micros)) }
        } } };
        let slashes = html! { @for slash in &self.slashes { tr {
            th scope="row" { (account(&slash.account)) } td { (slash.cause.name()) } td { (html::window(slash.window)) }
            td.num { (alpha(slash.amount_micros)) }
        } } };
        let admissions = html! { @for found in &self.admissions { tr {
            th scope="row" { (html::miner(&found.owner)) }
            td { (found.verdict) }
            td { (html::object(found.registration)) }
        } } };
        html! {
            h2 { "Minted" }
            (table("Minted", &[Text("account"), Text("for"), Number("ALPHA")], mints))
            @if !self.slashes.is_empty() {
                h2 { "Slashed" }
                (table("Slashed", &[Text("account"), Text("cause"), Text("of"), Number("ALPHA")], slashes))
            }
            @if !self.admissions.is_empty() {
                h2 { "Requests for a slot" }
                (table("Requests for a slot", &[Text("owner"), Text("decision"), Text("registration")], admissions))
            }
        }
    }

    fn signatures(&self) -> Markup {
        html! {
            h2 { "Signatures" }
            dl.facts {
                dt { "on the cut" } dd { (signed(&self.cut_signatures)) }
                dt { "on the record" } dd { (signed(&self.record_signatures)) }
            }
        }
    }

    fn seed(&self) -> Markup {
        let seed = &self.seed;
        let rows = html! { @for row in &seed.reveals { tr {
            th scope="row" { (html::validator(&row.validator)) }
            td.mono { (row.value.short()) "…" }
            td.mono { @if let Some(previous) = row.previous { (previous.short()) "…" } @else { "none revealed" } }
            td { @match row.follows {
                Some(true) => (tag(Tone::Good, "it hashes to that")),
                Some(false) => (tag(Tone::Bad, "it does not hash to that")),
                None => (tag(Tone::Quiet, "follows a longer way")),
            } }
        } } };
        let heads = [Text("validator"), Text("value"), Text("value before"), Text("checked here")];
        html! {
            h2 { "The seed" }
            p {
                "The seed draws who measures what, and the pages of the next window. Nobody could choose it: it is the "
                "hash of the run, the window, the seed before, all updates of the cut, and one value of each "
                "validator. Each value hashes to the validator's value of the window before, so only one fits."
            }
            dl.facts {
                dt { "seed" } dd { code.whole { (seed.seed) } }
                dt { "seed before" } dd { code.whole { (seed.before) } }
                dt { "made again here" } dd {
                    @match seed.made_again {
                        Some(made) if made == seed.seed => (tag(Tone::Good, "the same")),
                        Some(made) => { (tag(Tone::Bad, "another")) " " code.whole { (made) } }
                        None => (tag(Tone::Quiet, "not possible from this page")),
                    }
                }
            }
            (table("Values of the validators", &heads, rows))
        }
    }

    fn parts(&self) -> Markup {
        html! {
            h2 { "Objects, and the check" }
            dl.facts {
                dt { "record" } dd { (html::object(self.row.record)) }
                dt { "its body" } dd { (html::object(self.body)) }
                dt { "cut" } dd { (html::object(self.cut)) }
                dt { "model before" } dd { (html::object(self.checkpoint_before)) }
                dt { "all updates, merged" }
                dd { (html::object(self.aggregate)) " " span.soft { (bytes(self.aggregate_bytes)) } }
                dt { "model after" } dd { (html::object(self.row.checkpoint)) }
            }
            p { "This command computes the window again and compares every hash:" }
            (command(&format!("templar audit --window {}", self.row.window)))
        }
    }
}

fn verdict(update: &Update) -> Markup {
    match update.reached {
        Reached::Aggregated => tag(Tone::Good, "aggregated"),
        Reached::Valid => tag(Tone::Quiet, "valid"),
        Reached::Revealed => tag(Tone::Bad, "refused"),
        Reached::Committed => tag(Tone::Bad, "withheld"),
    }
}

fn measured(validator: &PublicKey, entries: &[MeasuredContribution]) -> Markup {
    let heads = [
        Text("miner"),
        Text("replay"),
        Text("measured"),
        Number("others' pages before"),
        Number("after"),
        Number("own pages before"),
        Number("after"),
        Text("nearest, and what it shares"),
    ];
    let rows = html! { @for entry in entries { tr {
        th scope="row" { (html::miner(&entry.miner)) }
        td { @match entry.replay.as_str() {
            "match" => (tag(Tone::Good, "the same hashes")),
            "not drawn" => (tag(Tone::Quiet, "not drawn")),
            refused => { (tag(Tone::Bad, "refused")) " " (refused) }
        } }
        td { (entry.evaluation) }
        @match &entry.losses {
            Some(losses) => {
                td.num { (format!("{:.4}", losses.unassigned_before)) }
                td.num { (format!("{:.4}", losses.unassigned_after)) }
                td.num { (format!("{:.4}", losses.assigned_before)) }
                td.num { (format!("{:.4}", losses.assigned_after)) }
            }
            None => { td.num { "–" } td.num { "–" } td.num { "–" } td.num { "–" } }
        }
        td.line {
            @if let Some(nearest) = &entry.nearest { (html::miner(nearest)) ", " (percent(entry.overlap_ppm.into())) }
            @else { "–" }
        }
    } } };
    table(&format!("What validator {} found", validator.short()), &heads, rows)
}

fn signed(signatures: &Signatures) -> Markup {
    let Signatures { signers, stake, total_stake, attempt, is_certified } = signatures;
    html! {
        @if *is_certified { (tag(Tone::Good, "certified")) } @else { (tag(Tone::Bad, "not certified")) }
        " by " (stake) " of " (total_stake) " stake, in attempt " (attempt) ": "
        (html::joined(signers.iter().map(html::validator)))
    }
}

fn work(kind: MintKind) -> &'static str {
    match kind {
        MintKind::Miner => "training",
        MintKind::Evaluations => "measurements",
        MintKind::Replays => "replays",
        MintKind::Treasury => "the treasury's part",
    }
}

fn slashed(micros: u64) -> String {
    if micros == 0 { "nothing slashed".to_owned() } else { format!("{} slashed", alpha(micros)) }
}

/// A number in 1e-12 with three decimals.
fn picos(value: i64) -> String {
    format!("{:.3}", value as f64 / 1e12)
}

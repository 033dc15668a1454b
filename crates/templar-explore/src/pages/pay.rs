//! Why a miner was paid what it was paid in a window: one step after the other, with every integer.

use maud::{Markup, html};
use templar_manifest::{Losses, PublicKey, WindowIndex};
use templar_query::QueryError;
use templar_query::explain::{
    ContributionPart, FactorPart, LossesPart, MintPart, PayExplanation, VerdictPart, VestingPart, WeightPart,
};

use crate::html::{self, Tone, command, tag};
use crate::page::{Desk, Found, Missing};
use crate::text::{alpha, change, count, decimals, grouped, nats, percent};

/// The most pages of the dataset to which this page has links.
const MAX_PAGES: usize = 64;

pub(super) fn page(desk: &Desk<'_>, miner: &PublicKey, window: WindowIndex) -> Result<Found, Missing> {
    let folded = desk.source.folded();
    let Some(closed) = usize::try_from(window.0).ok().and_then(|place| folded.closed.get(place)) else {
        return Err(Missing::NotFound {
            title: format!("Window {window} is not closed"),
            why: "Pay is decided by the record that closes a window.".to_owned(),
            instead: vec![("This miner".to_owned(), format!("/miner/{miner}"))],
        });
    };
    let state = folded.state_at(window).ok_or(QueryError::Unfoldable(window))?;
    let found = PayExplanation::from_state(folded.node.state(), &folded.closed, &state, closed, miner)?;
    let trained = found.contribution.map_or(0, |made| {
        made.steps as usize * desk.source.context().genesis.context_at(window.0).batch_sequences as usize
    });
    let pages: Vec<u64> =
        folded.facts.pages_of(window, miner).unwrap_or_default().iter().take(trained).copied().collect();
    drop(folded);
    let title = format!("Pay of {} in window {window}", miner.short());
    Ok(Found::page(desk.form, title, &found, |found| html(found, &pages)))
}

fn html(found: &PayExplanation, pages: &[u64]) -> Markup {
    let paid = found.mint.map_or(0, |mint| mint.amount_micros);
    html! {
        h1 {
            "Why miner " (html::miner(&found.miner)) " was paid " (alpha(paid)) " ALPHA in "
            (html::window(found.window))
        }
        p.lead {
            "Every number is computed again from the journal of this home, and anybody with the records gets the same."
        }
        ol.steps {
            @match &found.contribution {
                None => { li {
                    h2 { "Nothing came in time" }
                    p { "The cut names no update of this miner, so nothing is paid." }
                } }
                Some(made) => {
                    (contributed(made, pages))
                    @if let Some(verdict) = &found.verdict { (judged(verdict)) }
                    @match &found.losses { Some(losses) => (measured(losses)), None => (unmeasured()) }
                    @if let Some(factor) = &found.factor { (weighed_against_others(factor)) }
                    @match (&found.weight, &found.mint) {
                        (Some(weight), Some(mint)) => { (weighed(weight)) (minted(weight, mint)) }
                        _ => { li { h2 { "No part in the pay" } p { "So it has no part in the pay of this window." } } }
                    }
                    @if let Some(vesting) = &found.vesting { (vested(vesting)) }
                }
            }
        }
        p { "By record " (html::object(found.record)) ". The same in a terminal:" }
        (command(&format!("templar explain {} --window {}", found.miner.short(), found.window)))
    }
}

fn validators(keys: &[PublicKey]) -> Markup {
    html! {
        @if keys.is_empty() { "no validator" }
        (html::joined(keys.iter().map(html::validator)))
    }
}

fn contributed(made: &ContributionPart, pages: &[u64]) -> Markup {
    html! { li {
        h2 { "It trained" }
        p {
            "It committed to " (html::object(made.id)) ": " (count(made.steps, "step")) " of at most " (made.most_steps)
            ", on " (count(made.tokens, "token")) "."
        }
        @if !pages.is_empty() {
            details {
                summary { "The pages that it read" }
                p { @for page in pages.iter().take(MAX_PAGES) { a href={ "/dataset/training/" (page) } { (page) } " " }
                    @if pages.len() > MAX_PAGES { "and " (pages.len() - MAX_PAGES) " more" } }
            }
        }
    } }
}

fn judged(verdict: &VerdictPart) -> Markup {
    html! { li {
        h2 {
            "Validators checked it "
            @if verdict.is_accepted { (tag(Tone::Good, "accepted")) } @else { (tag(Tone::Bad, "refused")) }
        }
        p { "The record says: " strong { (verdict.verdict) } "." }
        p { @match (verdict.matched.is_empty(), verdict.is_accepted) {
            (false, _) => { (validators(&verdict.matched)) " repeated the training and got the same hashes." }
            (true, true) => { "Nobody had to repeat its training before the record." }
            (true, false) => { "No repetition of its training gives its hashes." }
        } }
    } }
}

fn measured(found: &LossesPart) -> Markup {
    let Losses {
        assigned_before_nanonats,
        assigned_after_nanonats,
        unassigned_before_nanonats,
        unassigned_after_nanonats,
    } = found.losses;
    html! { li {
        h2 { "Validators tried it" }
        p {
            (validators(&found.measured_by)) " took a trial step with it. On pages that nobody trains on, the loss "
            "went from " (nats(unassigned_before_nanonats)) " to " (nats(unassigned_after_nanonats))
            "; on its own pages from " (nats(assigned_before_nanonats)) " to " (nats(assigned_after_nanonats)) "."
        }
        code.sum {
            "gain = " (grouped(unassigned_before_nanonats)) " − " (grouped(unassigned_after_nanonats)) " = "
            (change(found.gain_nanonats.into())) " nats"
        }
    } }
}

fn unmeasured() -> Markup {
    html! { li {
        h2 { "Nobody measured it" }
        p { "No drawn validator measured it, which changes neither its standing nor its factor." }
    } }
}

fn weighed_against_others(found: &FactorPart) -> Markup {
    html! { li {
        h2 { "Its steps beside the others'" }
        p {
            "One of its steps gained " (found.gain_piconats) " (in 1e-12 nats); the median of all steps is "
            (found.median_piconats) ". So this window counts " (decimals(found.ratio_ppm.into(), 6))
            ", and enters the average with a weight of " (decimals(found.newest_ppm.into(), 6)) "."
        }
        code.sum { "factor of pay: " (decimals(found.before_nanos, 9)) " → " (decimals(found.after_nanos, 9)) }
    } }
}

fn weighed(found: &WeightPart) -> Markup {
    html! { li {
        h2 { "Its weight" }
        p { "Its merit is its " (found.rule) ", beside the merits of all miners together." }
        code.sum {
            (found.merit) " of " (found.merits) " = " (percent(found.weight_ppm.into())) " (" (found.weight_ppm)
            " millionths)"
        }
    } }
}

fn minted(weight: &WeightPart, found: &MintPart) -> Markup {
    html! { li {
        h2 { "Its pay: " (alpha(found.amount_micros)) " ALPHA" }
        p {
            "All miners together proved " (found.proven_steps) " of " (found.target_steps) " steps, so the window "
            "mints " (alpha(found.emission_micros)) " of " (alpha(found.full_micros)) " ALPHA. Miners have "
            (percent(found.miners_ppm.into())) " of that."
        }
        code.sum {
            (alpha(found.emission_micros)) " × " (percent(found.miners_ppm.into())) " × " (weight.weight_ppm)
            " millionths = " (alpha(found.amount_micros)) " ALPHA, rounded down"
        }
    } }
}

fn vested(found: &VestingPart) -> Markup {
    html! { li {
        h2 { @if found.is_free { "It is free" } @else { "It still vests" } }
        p {
            @if found.is_free { "It became free when window " (found.free_from) " closed." } @else {
                "It becomes free when window " (found.free_from) " closes; " (alpha(found.vesting_micros))
                " ALPHA of it are left. Until then it can be slashed if the miner is found to have cheated."
            }
        }
        @if found.slashed_micros > 0 {
            p { (alpha(found.slashed_micros)) " ALPHA of the account's unvested pay have been slashed since." }
        }
    } }
}

//! The page of one window: which updates came, what became of each and why, and how the record was made.

mod html;

use serde::Serialize;
use templar_manifest::chain::follows;
use templar_manifest::{
    BlobId, CheckpointId, Contribution, ContributionId, CutId, Hash, Losses, MintKind, Outcome, PublicKey,
    RegistrationId, ScoreId, Signed, SlashCause, Verdict, WindowIndex,
};
use templar_protocol::{ClosedWindow, RunState, VoteCertificate};
use templar_query::object::standing::{MinerStanding, of_window};
use templar_query::score::ScoreView;

use crate::facts::{WindowRow, contribution_of};
use crate::page::{Desk, Found, Missing};
use crate::source::Folded;

/// A closed window with everything that its record says.
#[derive(Debug, Serialize)]
struct WindowPage {
    #[serde(flatten)]
    row: WindowRow,
    /// The number of closed windows of the run.
    closed: usize,
    checkpoint_before: CheckpointId,
    body: Hash,
    cut: CutId,
    aggregate: BlobId,
    aggregate_bytes: u64,
    updates: Vec<Update>,
    scores: Vec<(ScoreId, ScoreView)>,
    standings: Vec<MinerStanding>,
    mints: Vec<MintRow>,
    slashes: Vec<SlashRow>,
    admissions: Vec<AdmissionRow>,
    /// Who has certified the cut, and the record.
    cut_signatures: Signatures,
    record_signatures: Signatures,
    seed: SeedView,
}

/// One contribution of the cut, and what became of it.
#[derive(Debug, Serialize)]
struct Update {
    miner: PublicKey,
    contribution: ContributionId,
    delta: Option<BlobId>,
    delta_bytes: u64,
    steps: u32,
    tokens: u64,
    loss_nanonats: u64,
    /// How far it came: `committed`, `revealed`, `valid` or `aggregated`.
    reached: Reached,
    /// Why it came no further; `None` if it came to the end.
    reason: Option<String>,
    losses: Option<Losses>,
    weight_ppm: u32,
    paid_micros: u64,
}

/// How far a contribution came. Each step contains the one after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reached {
    Committed,
    Revealed,
    Valid,
    Aggregated,
}

#[derive(Debug, Serialize)]
struct MintRow {
    account: PublicKey,
    #[serde(rename = "for")]
    kind: MintKind,
    amount_micros: u64,
}

#[derive(Debug, Serialize)]
struct SlashRow {
    account: PublicKey,
    cause: SlashCause,
    window: WindowIndex,
    amount_micros: u64,
}

#[derive(Debug, Serialize)]
struct AdmissionRow {
    owner: PublicKey,
    registration: RegistrationId,
    verdict: String,
}

/// The validators that have signed, and their stake.
#[derive(Debug, Serialize)]
struct Signatures {
    signers: Vec<PublicKey>,
    stake: u64,
    total_stake: u64,
    /// The attempt in which they agreed.
    attempt: u32,
    /// Whether the signatures verify, and are of more than two thirds of the stake.
    is_certified: bool,
}

/// The seed of the window, and what it was made of.
#[derive(Debug, Serialize)]
struct SeedView {
    seed: Hash,
    /// The seed of the window before.
    before: Hash,
    /// The seed, made again from the values of this page; `None` if the record does not name all of them.
    made_again: Option<Hash>,
    reveals: Vec<RevealRow>,
}

/// The value that a validator revealed.
#[derive(Debug, Serialize)]
struct RevealRow {
    validator: PublicKey,
    value: Hash,
    /// Its value of the window before, or the anchor in genesis; `None` where it revealed none then.
    previous: Option<Hash>,
    /// Whether the value hashes to that one.
    follows: Option<bool>,
}

pub(super) fn page(desk: &Desk<'_>, window: WindowIndex) -> Result<Found, Missing> {
    let folded = desk.source.folded();
    let place = usize::try_from(window.0).ok();
    let found = place.and_then(|place| Some((folded.closed.get(place)?, folded.facts.windows.get(place)?)));
    let Some((closed, row)) = found else {
        let open = folded.node.state().window();
        let why = match folded.node.is_over() {
            true => format!("The run ended after {open} windows, which are counted from 0."),
            false => format!("Window {open} is open now; it has a page once it is closed."),
        };
        return Err(Missing::NotFound {
            title: format!("Window {window} is not closed"),
            why,
            instead: vec![("All closed windows".to_owned(), "/windows".to_owned())],
        });
    };
    let view = WindowPage::of(desk, &folded, closed, *row);
    drop(folded);
    Ok(Found::page(desk.form, format!("Window {window}"), &view, WindowPage::html))
}

impl WindowPage {
    fn of(desk: &Desk<'_>, folded: &Folded, closed: &ClosedWindow, row: WindowRow) -> Self {
        let genesis = &desk.source.context().genesis;
        let body = &closed.window.body;
        let state = folded.state_at(row.window);
        let certified = closed.check_certificates(genesis).is_ok();
        let signatures = |certificate: &VoteCertificate| {
            let signers: Vec<PublicKey> = certificate.witnesses.iter().map(|witness| witness.signer).collect();
            let stakes = signers.iter().filter_map(|key| genesis.validator(key)).map(|spec| spec.stake);
            Signatures {
                stake: stakes.sum(),
                total_stake: genesis.total_stake(),
                attempt: certificate.attempt,
                is_certified: certified,
                signers,
            }
        };
        let scores = closed.scores.iter().map(|score| (score.id().into(), ScoreView::of(score.payload())));
        let mints = body.mints.iter();
        let slashes = body.slashes.iter();
        Self {
            row,
            closed: folded.closed.len(),
            checkpoint_before: body.checkpoint_before,
            body: closed.window.header.body_root.hash(),
            cut: body.cut,
            aggregate: body.aggregate,
            aggregate_bytes: body.aggregate_bytes,
            updates: body.outcomes.iter().map(|outcome| Update::of(closed, outcome)).collect(),
            scores: scores.collect(),
            standings: state.as_ref().and_then(|state| of_window(state, closed)).unwrap_or_default(),
            mints: mints
                .map(|mint| MintRow { account: mint.account, kind: mint.kind, amount_micros: mint.amount_micros })
                .collect(),
            slashes: slashes
                .map(|slash| SlashRow {
                    account: slash.account,
                    cause: slash.cause,
                    window: slash.window,
                    amount_micros: slash.amount_micros,
                })
                .collect(),
            admissions: body
                .admissions
                .iter()
                .map(|admission| AdmissionRow {
                    owner: admission.owner,
                    registration: admission.registration,
                    verdict: admission.verdict.to_string(),
                })
                .collect(),
            cut_signatures: signatures(&closed.cut_certificate),
            record_signatures: signatures(&closed.record_certificate),
            seed: SeedView::of(desk, folded, closed, state.as_ref()),
        }
    }
}

impl Update {
    fn of(closed: &ClosedWindow, outcome: &Outcome) -> Self {
        let body = &closed.window.body;
        let claimed: Option<&Contribution> = contribution_of(closed, &outcome.miner);
        let figure = |of: fn(&Contribution) -> u64| claimed.map_or(0, of);
        let (reached, reason) = reached(&outcome.verdict);
        let weight = body.weights.iter().find(|weight| weight.miner == outcome.miner);
        let paid = |mint: &&templar_manifest::Mint| mint.account == outcome.miner && mint.kind == MintKind::Miner;
        Self {
            miner: outcome.miner,
            contribution: outcome.contribution,
            delta: claimed.map(|claimed| claimed.delta),
            delta_bytes: figure(|claimed| claimed.delta_bytes),
            steps: claimed.map_or(0, |claimed| claimed.steps),
            tokens: figure(|claimed| claimed.tokens),
            loss_nanonats: figure(|claimed| claimed.loss_nanonats),
            reached,
            reason,
            losses: outcome.losses,
            weight_ppm: weight.map_or(0, |weight| weight.weight_ppm),
            paid_micros: body.mints.iter().find(paid).map_or(0, |mint| mint.amount_micros),
        }
    }
}

/// How far a contribution with this verdict came, and why no further.
fn reached(verdict: &Verdict) -> (Reached, Option<String>) {
    use templar_manifest::Refusal;
    match verdict {
        Verdict::Aggregated => (Reached::Aggregated, None),
        Verdict::Reserve => (Reached::Valid, Some("in reserve: others came before it".to_owned())),
        Verdict::Excluded => (Reached::Valid, Some("excluded by the miner's standing".to_owned())),
        Verdict::Refused(refusal @ Refusal::Withheld) => (Reached::Committed, Some(refusal.to_string())),
        Verdict::Refused(refusal) => (Reached::Revealed, Some(refusal.to_string())),
    }
}

impl SeedView {
    fn of(desk: &Desk<'_>, folded: &Folded, closed: &ClosedWindow, state: Option<&RunState>) -> Self {
        let genesis = &desk.source.context().genesis;
        let body = &closed.window.body;
        let before = body.window.previous().and_then(|window| folded.closed.get(window.0 as usize));
        let reveal = |reveal: &templar_manifest::Reveal| {
            let previous = match before {
                None => genesis.validator(&reveal.validator).map(|spec| spec.chain_anchor),
                Some(before) => {
                    let reveals = &before.window.body.reveals;
                    reveals.iter().find(|earlier| earlier.validator == reveal.validator).map(|earlier| earlier.value)
                }
            };
            let follows = previous.map(|previous| follows(&previous, &reveal.value));
            RevealRow { validator: reveal.validator, value: reveal.value, previous, follows }
        };
        let contributions: Vec<_> = closed.contributions.iter().map(Signed::payload).collect();
        let parts: Vec<_> = contributions.iter().map(|made| (made.miner, made.delta, made.state_out)).collect();
        Self {
            seed: body.seed,
            before: state.map_or_else(Hash::default, RunState::seed),
            made_again: state.map(|state| state.seed_of(&parts, &body.reveals)),
            reveals: body.reveals.iter().map(reveal).collect(),
        }
    }
}

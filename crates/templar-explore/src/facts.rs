//! The figures of a run that pages need of all windows at once: one row for each window, and sums for each member.
//!
//! They are taken when a window closes, so a page reads them and folds nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;
use templar_manifest::{
    CheckpointId, Contribution, MintKind, Outcome, PublicKey, RecordId, Refusal, Replay, Signed, Verdict, WindowIndex,
};
use templar_protocol::{ClosedWindow, Member, RunState};

/// The most pages whose readers are remembered. Of longer runs the newest windows are.
const MAX_PAGES: usize = 1 << 20;

/// One closed window in figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct WindowRow {
    pub(crate) window: WindowIndex,
    pub(crate) record: RecordId,
    pub(crate) checkpoint: CheckpointId,
    /// The loss of the model after the window on held-out text.
    pub(crate) held_out_loss_nanonats: u64,
    /// The mean training loss of the accepted contributions in their last step; `None` if there are none.
    pub(crate) training_loss_nanonats: Option<u64>,
    /// The contributions in at least one validator's inbox.
    pub(crate) committed: usize,
    /// The contributions in the cut.
    pub(crate) in_cut: usize,
    /// The contributions whose delta came in time.
    pub(crate) revealed: usize,
    /// The contributions that the record accepts.
    pub(crate) valid: usize,
    /// The contributions in the new model.
    pub(crate) aggregated: usize,
    /// The tokens of the accepted contributions.
    pub(crate) tokens: u64,
    /// The bytes of all deltas in the cut.
    pub(crate) delta_bytes: u64,
    /// The bytes of the same deltas as 32-bit floats.
    pub(crate) fp32_bytes: u64,
    pub(crate) minted_micros: u64,
    pub(crate) slashed_micros: u64,
}

/// What all windows together say of one miner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct MinerSums {
    /// The windows with a contribution in the cut.
    pub(crate) contributions: u64,
    pub(crate) refused: u64,
    pub(crate) aggregated: u64,
    pub(crate) tokens: u64,
    pub(crate) paid_micros: u64,
    pub(crate) slashed_micros: u64,
}

/// What all windows together say of one validator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct ValidatorSums {
    /// The records that carry its signature.
    pub(crate) signed: u64,
    /// The windows for which it revealed its value.
    pub(crate) revealed: u64,
    /// The contributions that it replayed, and measured.
    pub(crate) replayed: u64,
    pub(crate) measured: u64,
    pub(crate) paid_micros: u64,
    pub(crate) slashed_micros: u64,
}

/// The pages that a window gave to the slots of its members.
#[derive(Debug, Clone)]
struct WindowPages {
    window: WindowIndex,
    /// The member of each slot, with its pages in training order.
    pages: Vec<(PublicKey, Vec<u64>)>,
    total: usize,
}

/// The figures of all closed windows.
#[derive(Debug, Default)]
pub(crate) struct RunFacts {
    pub(crate) windows: Vec<WindowRow>,
    pub(crate) miners: BTreeMap<PublicKey, MinerSums>,
    pub(crate) validators: BTreeMap<PublicKey, ValidatorSums>,
    /// The newest refusal of each miner that has one: the window, and the reason in words.
    pub(crate) refusals: BTreeMap<PublicKey, (WindowIndex, String)>,
    pages: VecDeque<WindowPages>,
    page_count: usize,
}

impl RunFacts {
    /// Takes the figures of a window that has just closed. `before` is the state that it started from, and the model
    /// has so many `parameters`.
    pub(crate) fn close(&mut self, before: &RunState, closed: &ClosedWindow, parameters: usize) {
        self.windows.push(WindowRow::of(closed, parameters));
        for outcome in &closed.window.body.outcomes {
            self.add_outcome(closed, outcome);
        }
        self.add_validators(closed);
        for mint in &closed.window.body.mints {
            let paid = match mint.kind {
                MintKind::Miner => &mut self.miners.entry(mint.account).or_default().paid_micros,
                MintKind::Evaluations | MintKind::Replays => {
                    &mut self.validators.entry(mint.account).or_default().paid_micros
                }
                MintKind::Treasury => continue,
            };
            *paid += mint.amount_micros;
        }
        for slash in &closed.window.body.slashes {
            let slashed = match (self.miners.get_mut(&slash.account), self.validators.get_mut(&slash.account)) {
                (Some(miner), _) if slash.cause.is_of_a_replay() => &mut miner.slashed_micros,
                (_, Some(validator)) => &mut validator.slashed_micros,
                (Some(miner), None) => &mut miner.slashed_micros,
                (None, None) => continue,
            };
            *slashed += slash.amount_micros;
        }
        self.remember_pages(before);
    }

    fn add_outcome(&mut self, closed: &ClosedWindow, outcome: &Outcome) {
        let sums = self.miners.entry(outcome.miner).or_default();
        sums.contributions += 1;
        if let Verdict::Refused(refusal) = &outcome.verdict {
            sums.refused += 1;
            self.refusals.insert(outcome.miner, (closed.window.header.window, refusal.to_string()));
        }
        sums.aggregated += u64::from(outcome.verdict == Verdict::Aggregated);
        if !matches!(outcome.verdict, Verdict::Refused(_)) {
            sums.tokens += contribution_of(closed, &outcome.miner).map_or(0, |claimed| claimed.tokens);
        }
    }

    fn add_validators(&mut self, closed: &ClosedWindow) {
        for witness in &closed.record_certificate.witnesses {
            self.validators.entry(witness.signer).or_default().signed += 1;
        }
        for reveal in &closed.window.body.reveals {
            self.validators.entry(reveal.validator).or_default().revealed += 1;
        }
        for score in closed.scores.iter().map(Signed::payload) {
            let sums = self.validators.entry(score.validator).or_default();
            let replayed = score.entries.iter().filter(|entry| entry.replay != Replay::NotDrawn).count();
            sums.replayed += replayed as u64 + score.verdicts.len() as u64;
            sums.measured += score.entries.iter().filter(|entry| entry.evaluation.losses().is_some()).count() as u64;
        }
    }

    fn remember_pages(&mut self, before: &RunState) {
        let assignment = before.assignment();
        let of = |member: &Member| Some((member.owner, assignment.slot(member.slot as usize)?.to_vec()));
        let pages: Vec<_> = before.members().iter().filter_map(of).collect();
        let total = pages.iter().map(|(_, pages)| pages.len()).sum();
        self.pages.push_back(WindowPages { window: before.window(), pages, total });
        self.page_count += total;
        while self.page_count > MAX_PAGES && self.pages.len() > 1 {
            self.page_count -= self.pages.pop_front().map_or(0, |oldest| oldest.total);
        }
    }

    /// The first window whose pages are remembered.
    pub(crate) fn pages_since(&self) -> Option<WindowIndex> {
        self.pages.front().map(|oldest| oldest.window)
    }

    /// The pages that a miner was given in a window, in training order; `None` if they are not remembered.
    pub(crate) fn pages_of(&self, window: WindowIndex, miner: &PublicKey) -> Option<&[u64]> {
        let found = self.pages.iter().find(|pages| pages.window == window)?;
        found.pages.iter().find(|(owner, _)| owner == miner).map(|(_, pages)| pages.as_slice())
    }

    /// The windows and the miners that a page of the training text was given to, among those that are remembered.
    pub(crate) fn readers_of(&self, page: u64) -> Vec<(WindowIndex, PublicKey)> {
        let of_window = |window: &WindowPages| {
            let readers = window.pages.iter().filter(|(_, pages)| pages.contains(&page));
            readers.map(|(owner, _)| (window.window, *owner)).collect::<Vec<_>>()
        };
        self.pages.iter().flat_map(of_window).collect()
    }

    /// The sum of a figure over all windows.
    pub(crate) fn total(&self, figure: impl Fn(&WindowRow) -> u64) -> u64 {
        self.windows.iter().map(figure).fold(0, u64::saturating_add)
    }
}

impl WindowRow {
    fn of(closed: &ClosedWindow, parameters: usize) -> Self {
        let (header, body) = (&closed.window.header, &closed.window.body);
        let claimed = || closed.contributions.iter().map(Signed::payload);
        let is_valid = |outcome: &&Outcome| !matches!(outcome.verdict, Verdict::Refused(_));
        let valid: Vec<_> =
            body.outcomes.iter().filter(is_valid).filter_map(|valid| contribution_of(closed, &valid.miner)).collect();
        let losses = valid.iter().fold(0u128, |sum, claimed| sum + u128::from(claimed.loss_nanonats));
        let withheld = |outcome: &&Outcome| outcome.verdict == Verdict::Refused(Refusal::Withheld);
        let in_cut = body.outcomes.len();
        Self {
            window: header.window,
            record: closed.record,
            checkpoint: header.checkpoint,
            held_out_loss_nanonats: body.held_out_loss_nanonats,
            training_loss_nanonats: (!valid.is_empty()).then(|| (losses / valid.len() as u128) as u64),
            committed: committed(closed),
            in_cut,
            revealed: in_cut - body.outcomes.iter().filter(withheld).count(),
            valid: valid.len(),
            aggregated: body.aggregated(),
            tokens: valid.iter().map(|claimed| claimed.tokens).sum(),
            delta_bytes: claimed().map(|claimed| claimed.delta_bytes).sum(),
            fp32_bytes: claimed().count() as u64 * parameters as u64 * 4,
            minted_micros: body.mints.iter().map(|mint| mint.amount_micros).sum(),
            slashed_micros: body.slashes.iter().map(|slash| slash.amount_micros).sum(),
        }
    }
}

/// The contribution of a miner that a cut names.
pub(crate) fn contribution_of<'a>(closed: &'a ClosedWindow, miner: &PublicKey) -> Option<&'a Contribution> {
    let place = closed.contributions.binary_search_by_key(miner, |signed| signed.payload().miner).ok()?;
    Some(closed.contributions[place].payload())
}

/// The number of miners of whom at least one validator had a contribution.
fn committed(closed: &ClosedWindow) -> usize {
    let entries = closed.inboxes.iter().flat_map(|inbox| &inbox.payload().contributions);
    entries.map(|entry| entry.miner).collect::<BTreeSet<_>>().len()
}

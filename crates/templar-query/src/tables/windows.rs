//! The table of windows.

use templar_export::tables::Field::{Id, Integer, OptionalId};
use templar_export::tables::{Column, Table};
use templar_manifest::{Outcome, Refusal, Signed, Verdict, WindowBody};
use templar_protocol::ClosedWindow;

/// A closed window, and the number of the model's parameters.
pub(super) struct WindowRow<'a> {
    pub(super) closed: &'a ClosedWindow,
    pub(super) parameters: usize,
}

impl WindowRow<'_> {
    fn body(&self) -> &WindowBody {
        &self.closed.window.body
    }

    fn outcomes(&self, counts: fn(&Verdict) -> bool) -> u64 {
        self.body().outcomes.iter().filter(|outcome| counts(&outcome.verdict)).count() as u64
    }

    /// The tokens of the contributions that were not refused.
    fn tokens(&self) -> u64 {
        let pairs = self.closed.contributions.iter().map(Signed::payload).zip(&self.body().outcomes);
        let accepted = |outcome: &Outcome| !matches!(outcome.verdict, Verdict::Refused(_));
        pairs.filter(|(_, outcome)| accepted(outcome)).map(|(claimed, _)| claimed.tokens).fold(0, u64::saturating_add)
    }

    fn delta_bytes(&self) -> u64 {
        let claimed = self.closed.contributions.iter().map(Signed::payload);
        claimed.map(|claimed| claimed.delta_bytes).fold(0, u64::saturating_add)
    }
}

pub(super) fn table<'a>() -> Table<WindowRow<'a>> {
    let column = Column::<WindowRow<'a>>::new;
    Table {
        name: "windows",
        about: "A closed window",
        columns: vec![
            column("window", "number of the window, from 0", Integer(|row| row.body().window.0)),
            column("record", "record that closed it", Id(|row| *row.closed.record.hash().as_bytes())),
            column(
                "previous",
                "record before it",
                OptionalId(|row| row.closed.window.header.previous.map(|id| *id.hash().as_bytes())),
            ),
            column(
                "checkpoint_before",
                "model that it started from",
                Id(|row| *row.body().checkpoint_before.hash().as_bytes()),
            ),
            column("checkpoint", "model after it", Id(|row| *row.closed.window.header.checkpoint.hash().as_bytes())),
            column(
                "state_root",
                "root of the run's state after it",
                Id(|row| *row.closed.window.header.state_root.as_bytes()),
            ),
            column("seed", "random number of the window", Id(|row| *row.body().seed.as_bytes())),
            column(
                "held_out_loss_nanonats",
                "loss of the model after it on held-out text, in 1e-9 nats a token",
                Integer(|row| row.body().held_out_loss_nanonats),
            ),
            column("contributions", "contributions in the cut", Integer(|row| row.body().outcomes.len() as u64)),
            column(
                "revealed",
                "of these, those whose delta came in time",
                Integer(|row| row.outcomes(|verdict| *verdict != Verdict::Refused(Refusal::Withheld))),
            ),
            column(
                "accepted",
                "of these, those that were not refused",
                Integer(|row| row.outcomes(|verdict| !matches!(verdict, Verdict::Refused(_)))),
            ),
            column(
                "aggregated",
                "of these, those in the new model",
                Integer(|row| row.outcomes(|verdict| *verdict == Verdict::Aggregated)),
            ),
            column("tokens", "tokens of the accepted contributions", Integer(WindowRow::tokens)),
            column("delta_bytes", "bytes of all deltas in the cut", Integer(WindowRow::delta_bytes)),
            column(
                "fp32_bytes",
                "bytes of the same number of updates in 32-bit floats",
                Integer(|row| (row.closed.contributions.len() as u64).saturating_mul(4 * row.parameters as u64)),
            ),
            column("aggregate", "blob with the merged deltas", Id(|row| *row.body().aggregate.hash().as_bytes())),
            column("aggregate_bytes", "its length in bytes", Integer(|row| row.body().aggregate_bytes)),
            column(
                "minted_micros",
                "pay that it created, in micro-ALPHA",
                Integer(|row| row.body().mints.iter().map(|mint| mint.amount_micros).sum()),
            ),
            column(
                "slashed_micros",
                "unvested pay that it destroyed, in micro-ALPHA",
                Integer(|row| row.body().slashes.iter().map(|slash| slash.amount_micros).sum()),
            ),
        ],
    }
}

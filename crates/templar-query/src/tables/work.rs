//! The tables of what miners did and what validators found: contributions and scores.

use templar_export::tables::Field::{Flag, Id, Integer, OptionalId, OptionalInteger, OptionalText, Text};
use templar_export::tables::{Column, Table};
use templar_manifest::{
    Contribution, ContributionId, Evaluation, Losses, Outcome, PublicKey, Refusal, Replay, Score, Signed, Verdict,
    WindowIndex, payload,
};

/// A contribution of a cut, and what the record says of it.
pub(super) struct ContributionRow<'a> {
    pub(super) signed: &'a Signed<Contribution>,
    pub(super) outcome: &'a Outcome,
}

impl ContributionRow<'_> {
    fn claimed(&self) -> &Contribution {
        self.signed.payload()
    }

    fn refusal(&self) -> Option<&Refusal> {
        match &self.outcome.verdict {
            Verdict::Refused(refusal) => Some(refusal),
            Verdict::Aggregated | Verdict::Reserve | Verdict::Excluded => None,
        }
    }
}

/// A row with measured losses.
trait Measured {
    fn losses(&self) -> Option<Losses>;
}

impl Measured for ContributionRow<'_> {
    fn losses(&self) -> Option<Losses> {
        self.outcome.losses
    }
}

impl Measured for ScoreRow<'_> {
    fn losses(&self) -> Option<Losses> {
        self.evaluation.and_then(Evaluation::losses)
    }
}

/// The columns of measured losses.
fn losses<R: Measured>() -> [Column<R>; 4] {
    [
        Column::new(
            "assigned_before_nanonats",
            "loss on the miner's own pages before the trial step, in 1e-9 nats a token; null if nobody measured",
            OptionalInteger(|row: &R| row.losses().map(|losses| losses.assigned_before_nanonats)),
        ),
        Column::new(
            "assigned_after_nanonats",
            "the same after the trial step",
            OptionalInteger(|row: &R| row.losses().map(|losses| losses.assigned_after_nanonats)),
        ),
        Column::new(
            "unassigned_before_nanonats",
            "loss on pages that no miner trained on before the trial step",
            OptionalInteger(|row: &R| row.losses().map(|losses| losses.unassigned_before_nanonats)),
        ),
        Column::new(
            "unassigned_after_nanonats",
            "the same after the trial step",
            OptionalInteger(|row: &R| row.losses().map(|losses| losses.unassigned_after_nanonats)),
        ),
    ]
}

/// The name of a refusal in manifests.
fn refusal_name(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Withheld => "withheld",
        Refusal::Malformed { .. } => "malformed",
        Refusal::WrongClaim { .. } => "wrong-claim",
        Refusal::Mismatch { .. } => "mismatch",
        Refusal::NotReplayed => "not-replayed",
    }
}

fn verdict_name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Aggregated => "aggregated",
        Verdict::Reserve => "reserve",
        Verdict::Excluded => "excluded",
        Verdict::Refused(_) => "refused",
    }
}

pub(super) fn contributions<'a>() -> Table<ContributionRow<'a>> {
    let column = Column::<ContributionRow<'a>>::new;
    let mut columns = vec![
        column("window", "window in which it was trained", Integer(|row| row.claimed().window.0)),
        column("miner", "owner key of the miner", Id(|row| *row.claimed().miner.as_bytes())),
        column("signer", "node key that signed it", Id(|row| *row.signed.signer().as_bytes())),
        column("contribution", "its id", Id(|row| *row.outcome.contribution.hash().as_bytes())),
        column(
            "parent",
            "the miner's contribution whose state it continues; null begins from zero state",
            OptionalId(|row| row.claimed().parent.map(|id| *id.hash().as_bytes())),
        ),
        column("state_in", "the miner's state before", Id(|row| *row.claimed().state_in.hash().as_bytes())),
        column("state_out", "the miner's state after", Id(|row| *row.claimed().state_out.hash().as_bytes())),
        column("delta", "blob with the update", Id(|row| *row.claimed().delta.hash().as_bytes())),
        column("delta_bytes", "its length in bytes", Integer(|row| row.claimed().delta_bytes)),
        column("trace", "blob with the hashes of every step", Id(|row| *row.claimed().trace.hash().as_bytes())),
        column("trace_bytes", "its length in bytes", Integer(|row| row.claimed().trace_bytes)),
        column("steps", "inner steps, as claimed", Integer(|row| row.claimed().steps.into())),
        column("tokens", "tokens predicted in them, as claimed", Integer(|row| row.claimed().tokens)),
        column(
            "loss_nanonats",
            "training loss of the last step, as claimed, in 1e-9 nats a token",
            Integer(|row| row.claimed().loss_nanonats),
        ),
        column(
            "verdict",
            "`aggregated`, `reserve`, `excluded` or `refused`",
            Text(|row| verdict_name(&row.outcome.verdict).to_owned()),
        ),
        column(
            "refusal",
            "`withheld`, `malformed`, `wrong-claim`, `mismatch` or `not-replayed`; null if not refused",
            OptionalText(|row| row.refusal().map(|refusal| refusal_name(refusal).to_owned())),
        ),
        column(
            "refusal_reason",
            "the same in words, with the place",
            OptionalText(|row| row.refusal().map(Refusal::to_string)),
        ),
    ];
    columns.extend(losses());
    Table { name: "contributions", about: "A contribution of a cut, with the record's verdict", columns }
}

/// What one validator says of one contribution.
pub(super) struct ScoreRow<'a> {
    window: WindowIndex,
    validator: PublicKey,
    score: [u8; 32],
    is_counted: bool,
    of_window: WindowIndex,
    miner: PublicKey,
    contribution: ContributionId,
    replay: &'a Replay,
    /// `None` for a late verdict, which has only a replay.
    evaluation: Option<&'a Evaluation>,
    nearest: Option<PublicKey>,
    overlap_ppm: u32,
}

impl ScoreRow<'_> {
    fn refusal(&self) -> Option<&Refusal> {
        match self.replay {
            Replay::Refused(refusal) => Some(refusal),
            Replay::NotDrawn | Replay::Match => None,
        }
    }

    fn replay_name(&self) -> &'static str {
        match self.replay {
            Replay::NotDrawn => "not-drawn",
            Replay::Match => "match",
            Replay::Refused(_) => "refused",
        }
    }

    fn evaluation_name(&self) -> &'static str {
        match self.evaluation {
            None | Some(Evaluation::NotDrawn) => "not-drawn",
            Some(Evaluation::Untried) => "untried",
            Some(Evaluation::Measured(_)) => "measured",
        }
    }
}

/// The rows of one score: those of its window, then its verdicts on closed windows.
pub(super) fn score_rows(signed: &Signed<Score>, is_counted: bool) -> impl Iterator<Item = ScoreRow<'_>> {
    let body = signed.payload();
    let (window, validator, score) = (body.window, body.validator, *payload::id_of(body).as_bytes());
    let entries = body.entries.iter().map(move |entry| ScoreRow {
        window,
        validator,
        score,
        is_counted,
        of_window: window,
        miner: entry.miner,
        contribution: entry.contribution,
        replay: &entry.replay,
        evaluation: Some(&entry.evaluation),
        nearest: entry.nearest,
        overlap_ppm: entry.overlap_ppm,
    });
    let late = body.verdicts.iter().map(move |verdict| ScoreRow {
        window,
        validator,
        score,
        is_counted,
        of_window: verdict.window,
        miner: verdict.miner,
        contribution: verdict.contribution,
        replay: &verdict.replay,
        evaluation: None,
        nearest: None,
        overlap_ppm: 0,
    });
    entries.chain(late)
}

pub(super) fn scores<'a>() -> Table<ScoreRow<'a>> {
    let column = Column::<ScoreRow<'a>>::new;
    let mut columns = vec![
        column("window", "window that was judged", Integer(|row| row.window.0)),
        column("validator", "validator that signed the score", Id(|row| *row.validator.as_bytes())),
        column("score", "id of the score", Id(|row| row.score)),
        column(
            "is_counted",
            "whether the record counts the score; if not, the record refutes a statement of it",
            Flag(|row| row.is_counted),
        ),
        column(
            "contribution_window",
            "window of the contribution: the same, or an earlier one for a late verdict",
            Integer(|row| row.of_window.0),
        ),
        column("miner", "owner key of the miner", Id(|row| *row.miner.as_bytes())),
        column("contribution", "id of the contribution", Id(|row| *row.contribution.hash().as_bytes())),
        column(
            "replay",
            "`match`, `refused`, or `not-drawn` if it was not for this validator to replay",
            Text(|row| row.replay_name().to_owned()),
        ),
        column(
            "refusal",
            "as in `contributions`; null if the replay did not refuse",
            OptionalText(|row| row.refusal().map(|refusal| refusal_name(refusal).to_owned())),
        ),
        column(
            "refusal_reason",
            "the same in words, with the place",
            OptionalText(|row| row.refusal().map(Refusal::to_string)),
        ),
        column(
            "evaluation",
            "`measured`, `untried` if the trial step cannot be taken, or `not-drawn`",
            Text(|row| row.evaluation_name().to_owned()),
        ),
        column(
            "nearest",
            "miner of the most similar delta; null if no other decodes",
            OptionalId(|row| row.nearest.map(|key| *key.as_bytes())),
        ),
        column(
            "overlap_ppm",
            "sent positions that both share, in parts per million",
            Integer(|row| row.overlap_ppm.into()),
        ),
    ];
    columns.extend(losses());
    Table { name: "scores", about: "What one validator says of one contribution", columns }
}

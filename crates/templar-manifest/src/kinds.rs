//! Every kind of manifest, one file each, in the order of the way of the data.

mod audit;
mod checkpoint;
mod commit;
mod dataset;
mod gauntlet;
mod genesis;
mod registration;
mod replay;
mod score;
mod vote;
mod window;

pub use audit::{Audit, AuditEntry, AuditVerdict};
pub use checkpoint::{Checkpoint, State, TensorBlob};
pub use commit::{Contribution, Cut, CutEntry, Inbox};
pub use dataset::{Dataset, HeldOut, Shard, page_count};
pub use gauntlet::{GauntletSpec, Offence, Penalty, ProofSpec, RatingSpec, WeightRule};
pub use genesis::{
    CompressionSpec, ContextSegment, Deadlines, EmissionSpec, Genesis, Initial, InnerSpec, OuterSegment, OuterSpec,
    Segment, SegmentShape, ValidatorSpec,
};
pub use registration::{
    Admission, Admitted, Certificate, CutRegistration, Payment, PriceRule, Registration, RegistrationSpec, WorkHasher,
    largest_digest,
};
pub use replay::ReplaySpec;
pub use score::{
    Contradiction, LateVerdict, MAX_CHALLENGES, MAX_CONTRADICTIONS, Refusal, Replay, ReplayProof, Score, ScoreEntry,
    Weight,
};
pub use vote::{Vote, VoteOn, VoteStep};
pub use window::{Challenge, Mint, MintKind, Outcome, Reveal, Slash, SlashCause, Verdict, WindowRecord};

/// Most list entries that a manifest may have where the protocol sets no lower bound.
pub const MAX_ENTRIES: usize = 4096;

/// A short printable ASCII text.
fn ascii(field: &str, text: &str, max: usize) -> Result<(), String> {
    if text.len() > max {
        return Err(format!("{field} is longer than {max} bytes"));
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(format!("{field} holds a byte that is not printable ASCII"));
    }
    Ok(())
}

/// A number that must not be zero.
fn positive(field: &str, value: u64) -> Result<(), String> {
    if value == 0 { Err(format!("{field} is zero")) } else { Ok(()) }
}

/// A list whose keys must be strictly ascending, which makes its order canonical and its keys unique.
fn ascending<T, K: Ord>(field: &str, list: &[T], key: impl Fn(&T) -> K) -> Result<(), String> {
    if list.len() > MAX_ENTRIES {
        return Err(format!("{field} has {} entries, at most {MAX_ENTRIES} are allowed", list.len()));
    }
    if list.windows(2).any(|pair| key(&pair[0]) >= key(&pair[1])) {
        return Err(format!("{field} is not strictly ascending"));
    }
    Ok(())
}

//! Every kind of manifest, one file each, in the order of the way of the data.

mod audit;
mod benchmarks;
mod body;
mod checkpoint;
mod commit;
mod dataset;
mod emission;
mod gauntlet;
mod genesis;
mod registration;
mod replay;
mod reveals;
mod rules;
mod score;
mod validators;
mod vote;
mod window;

pub use audit::{Audit, AuditEntry, AuditVerdict};
pub use benchmarks::{BenchmarkSpec, MAX_BENCHMARK_BYTES, MAX_BENCHMARKS, Measures, QuestionsSpec};
pub use body::{
    Challenge, Mint, MintKind, Outcome, Refuted, Reveal, Slash, SlashCause, Statement, Verdict, WindowBody,
};
pub use checkpoint::{Checkpoint, State, TensorBlob};
pub use commit::{Contribution, Cut, CutEntry, Inbox};
pub use dataset::{Dataset, HeldOut, Shard, page_count};
pub use emission::EmissionSpec;
pub use gauntlet::{GauntletSpec, Offence, Penalty, ProofSpec, RatingSpec, WeightRule};
pub use genesis::{
    CompressionSpec, ContextSegment, Deadlines, Genesis, Initial, InnerSpec, OuterSegment, OuterSpec, Segment,
    SegmentShape,
};
pub use registration::{
    Admission, Admitted, Certificate, CutRegistration, Payment, PriceRule, Registration, RegistrationSpec, WorkHasher,
    largest_digest,
};
pub use replay::ReplaySpec;
pub use reveals::RevealSet;
pub use rules::MAX_ENTRIES;
pub use score::{
    Contest, Contradiction, Evaluation, LateVerdict, Losses, MAX_CHALLENGES, MAX_CONTESTS, MAX_CONTRADICTIONS,
    Measurement, Refusal, Replay, ReplayProof, Score, ScoreEntry, Weight,
};
pub use validators::ValidatorSpec;
pub use vote::{Vote, VoteOn, VoteStep};
pub use window::{WindowHeader, WindowRecord};

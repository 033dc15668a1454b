//! The first field in which a record differs from the one that a node computed itself.

use std::fmt;

use templar_manifest::WindowRecord;

/// Defines [`RecordField`] and the comparison, so that neither can forget a field of the record.
macro_rules! record_fields {
    ($($variant:ident $field:ident $name:literal,)*) => {
        /// A field of a [`WindowRecord`], in the order in which the record lists them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum RecordField {
            $(#[doc = concat!("The field `", $name, "`.")] $variant,)*
        }

        impl RecordField {
            /// The name in manifests.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        /// The first field in which `record` is not `own`; `None` where they are equal.
        pub(super) fn first_difference(own: &WindowRecord, record: &WindowRecord) -> Option<RecordField> {
            let WindowRecord { $($field),* } = own;
            $(
                if *$field != record.$field {
                    return Some(RecordField::$variant);
                }
            )*
            None
        }
    };
}

record_fields! {
    Run run "run",
    Window window "window",
    Previous previous "previous",
    CheckpointBefore checkpoint_before "checkpoint_before",
    Cut cut "cut",
    Reveals reveals "reveals",
    Seed seed "seed",
    Scores scores "scores",
    Outcomes outcomes "outcomes",
    Weights weights "weights",
    Mints mints "mints",
    Slashes slashes "burns",
    Challenges challenges "challenges",
    Admissions admissions "admissions",
    MembersRoot members_root "members_root",
    LedgerRoot ledger_root "ledger_root",
    StandingsRoot standings_root "standings_root",
    Aggregate aggregate "aggregate",
    AggregateBytes aggregate_bytes "aggregate_bytes",
    Checkpoint checkpoint "checkpoint",
    HeldOutLoss held_out_loss_nanonats "held_out_loss_nanonats",
}

impl fmt::Display for RecordField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

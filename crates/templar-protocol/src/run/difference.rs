//! The first field in which a record differs from the one that a node computed itself.

use std::fmt;

use templar_manifest::{WindowBody, WindowHeader, WindowRecord};

/// Defines [`RecordField`] and the comparison, so that neither can forget a field of body or header.
macro_rules! record_fields {
    (body { $($of_body:ident $body:ident $body_name:literal,)* } header { $($of_header:ident $header:ident,)* }) => {
        /// A field of a [`WindowRecord`]: those of the body in their order, then those of the header that the body
        /// does not have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum RecordField {
            $(#[doc = concat!("The field `", $body_name, "` of the body.")] $of_body,)*
            $(#[doc = concat!("The field `", stringify!($header), "` of the header.")] $of_header,)*
        }

        impl RecordField {
            /// The name in manifests.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$of_body => $body_name,)*
                    $(Self::$of_header => stringify!($header),)*
                }
            }
        }

        /// The first field in which `record` is not `own`; `None` where they are equal. A body that differs says
        /// more than its hash in the header, so the body comes first.
        pub(super) fn first_difference(own: &WindowRecord, record: &WindowRecord) -> Option<RecordField> {
            let WindowBody { $($body),* } = &own.body;
            $(
                if *$body != record.body.$body {
                    return Some(RecordField::$of_body);
                }
            )*
            // Run and window come last, since a header of another one differs in its body as well.
            let WindowHeader { run: _, window: _, $($header),* } = &own.header;
            $(
                if *$header != record.header.$header {
                    return Some(RecordField::$of_header);
                }
            )*
            if own.header.run != record.header.run {
                return Some(RecordField::Run);
            }
            (own.header.window != record.header.window).then_some(RecordField::Window)
        }
    };
}

record_fields! {
    body {
        Run run "run",
        Window window "window",
        CheckpointBefore checkpoint_before "checkpoint_before",
        Cut cut "cut",
        Reveals reveals "reveals",
        Seed seed "seed",
        Scores scores "scores",
        Outcomes outcomes "outcomes",
        Weights weights "weights",
        Mints mints "mints",
        Refuted refuted "refuted",
        Slashes slashes "burns",
        Challenges challenges "challenges",
        Admissions admissions "admissions",
        Aggregate aggregate "aggregate",
        AggregateBytes aggregate_bytes "aggregate_bytes",
        HeldOutLoss held_out_loss_nanonats "held_out_loss_nanonats",
    }
    header {
        Previous previous,
        Checkpoint checkpoint,
        BodyRoot body_root,
        StateRoot state_root,
        ValidatorsRoot validators_root,
    }
}

impl fmt::Display for RecordField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

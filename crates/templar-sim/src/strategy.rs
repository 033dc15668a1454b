//! The adversaries: one row of a table for each strategy, and small functions that make its messages. Their messages go
//! through the protocol like everybody's.

mod grind;
mod miner;
mod validator;

use templar_manifest::{Hash, Initial, WindowIndex};

pub(crate) use grind::{Foresight, Grinding};
pub(crate) use miner::{Audience, MinerView, SentContribution, contributions};
pub(crate) use validator::{JudgeView, Judged, SignerView, alter_judgement, alter_verdicts, second_document};

/// The role of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberRole {
    /// Trains and sends contributions.
    Miner,
    /// Judges contributions and closes windows.
    Validator,
}

/// When a miner sends its contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// When the time that honest training takes is over.
    Done,
    /// When it has heard another miner's contribution.
    Heard,
    /// Shortly before the deadline of the inboxes, when it has heard all others.
    BeforeInboxes,
    /// Shortly after the deadline of the inboxes.
    AfterInboxes,
    /// When the cut is certified.
    AfterCut,
    /// Never, since it sends nothing.
    Never,
}

macro_rules! strategies {
    ($($variant:ident $name:literal $role:ident $cost:literal $moment:ident, $text:literal;)*) => {
        /// A way to cheat, or to take part with less work.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Strategy {
            $(#[doc = $text] $variant,)*
        }

        impl Strategy {
            /// Every strategy; those of miners come first.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The strategy's name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The role that plays it.
            pub const fn role(self) -> MemberRole {
                match self { $(Self::$variant => MemberRole::$role),* }
            }

            /// A description in a few words, without a subject: "sends a delta of zeros".
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Its cost, in parts per thousand of the cost of an honest member of its role.
            pub const fn cost_per_mille(self) -> u32 {
                match self { $(Self::$variant => $cost),* }
            }

            /// When a miner with this strategy sends.
            pub(crate) const fn moment(self) -> Moment {
                match self { $(Self::$variant => Moment::$moment),* }
            }
        }
    };
}

strategies! {
    Zeros "zeros" Miner 0 Done, "sends a delta of zeros with a made-up trace";
    Noise "noise" Miner 0 Done, "sends a well-formed delta of noise with a made-up trace";
    Stale "stale" Miner 0 Done, "trains once, then sends the delta of its first window again and again";
    CopyHash "copy-hash" Miner 0 Heard, "names the delta, trace and state of the first contribution it hears as its own";
    CopyPerturbed "copy-perturbed" Miner 0 Heard, "is shown another's delta before the cut, and sends it a little changed, with a made-up trace";
    CopyAfterCut "copy-after-cut" Miner 0 AfterCut, "waits for the cut, then sends another's delta under its own header";
    Late "late" Miner 1000 AfterInboxes, "trains honestly and commits after the inboxes are due, first to its friend";
    Withhold "withhold" Miner 1000 Done, "trains honestly and never serves its delta";
    KeepState "keep-state" Miner 1000 Done, "trains honestly and never serves its state";
    WithholdState "withhold-state" Miner 100 Done, "trains honestly from the zero state, which everybody has; then sends made-up deltas of the same gain, and never serves its state";
    WrongBase "wrong-base" Miner 1000 Done, "trains from an older checkpoint than the record's";
    WrongPages "wrong-pages" Miner 1000 Done, "trains on pages that it was not assigned";
    FewerSteps "fewer-steps" Miner 500 Done, "takes half of the steps and claims all of them";
    TooManySteps "too-many-steps" Miner 1000 Done, "claims more steps than there are";
    TwoContributions "two-contributions" Miner 1500 Done, "sends one contribution to half of the nodes and another to the others";
    GrindSteps "grind-steps" Miner 1000 BeforeInboxes, "trains honestly, and sends all steps or all but one: whichever fewer others would replay, judged by its friends' values and all that it has heard";
    Nan "nan" Miner 0 Done, "sends a delta with a scale that is not a number";
    Garbage "garbage" Miner 0 Done, "sends bytes that are no delta";
    Scale "scale" Miner 1000 Done, "trains honestly and multiplies its delta by ten";
    SignFlip "sign-flip" Miner 1000 Done, "trains honestly and sends the delta with the other sign";
    Poison "poison" Miner 1000 Done, "trains on pages of its own that plant a trigger, within the clipped norm";
    Plant "plant" Miner 1000 Done, "is honest except in one window of eight, in which it plants a trigger with pages of its own, and continues from the state that this leaves";
    BadState "bad-state" Miner 1000 Done, "trains honestly and commits to an error feedback that it made up";
    FalseParent "false-parent" Miner 1000 Done, "starts from a state that no record leads to";
    Sybil "sybil" Miner 100 Done, "is one of ten keys of one worker, takes a tenth of the steps and says so";
    HalfSteps "half-steps" Miner 500 Done, "takes half of the steps and says so, at half the cost of an honest miner";
    Enrol "enrol" Miner 1000 Done, "trains honestly, and asks for slots with twenty other keys in each window, with work for each, and leaves them idle";
    EnrolFree "enrol-free" Miner 1000 Done, "trains honestly, and asks for slots with twenty other keys in each window without paying";
    Absent "absent" Miner 0 Never, "is silent";
    Favour "favour" Validator 1000 Done, "doubles what it measures of one miner, and proves that it measured";
    RandomScores "random-scores" Validator 500 Done, "draws the losses that it should measure at random, and replays as it should";
    League "league" Validator 1000 Done, "where only its league measures, doubles its friend's gain and halves that of others, as all of the league do; otherwise measures honestly";
    CopyScores "copy-scores" Validator 0 Done, "waits for another's score and signs its losses, matches and proofs as its own; signs no score where it proposes";
    SkipReplays "skip-replays" Validator 500 Done, "evaluates, and says match with a made-up proof; signs no score where it proposes";
    Accuse "accuse" Validator 1000 Done, "refuses honest contributions that it was drawn to replay, when another proposes";
    AccuseProposing "accuse-proposing" Validator 1000 Done, "refuses honest contributions also when it proposes the record";
    Challenge "challenge" Validator 1000 Done, "says of every contribution that it was drawn to replay after the record that its state is missing";
    Grind "grind" Validator 1000 Done, "waits for all other values, withholds its own if then nobody else would replay its friend's work, and hides what it finds there";
    WithholdReveal "withhold-reveal" Validator 1000 Done, "never releases its hash-chain value";
    LateValues "late-values" Validator 1000 Done, "releases its hash-chain value after the deadline, each such validator later than the one before it";
    HalfValues "half-values" Validator 1000 Done, "shows its hash-chain value to half of the nodes, shortly before the deadline";
    NoScore "no-score" Validator 0 Done, "reveals, and then neither judges nor scores: an outage at the worst moment";
    BadReveal "bad-reveal" Validator 1000 Done, "releases values that are not on its hash chain";
    Equivocate "equivocate" Validator 1000 Done, "signs two inboxes, scores and votes and shows each to half of the nodes";
    Flood "flood" Validator 1000 Done, "signs a different inbox, score and vote for every node";
    EquivocateProposing "equivocate-proposing" Validator 1000 Done, "as proposer signs two valid cuts, votes for both, and shows each to half of the nodes";
    ForgeCut "forge-cut" Validator 1000 Done, "as proposer signs a cut that drops a contribution which everybody holds";
    ForkRecords "fork-records" Validator 1000 Done, "signs two records with different checkpoints, votes for both, and shows each to half of the nodes";
    Friend "friend" Validator 1000 Done, "signs its inbox late, with everything that arrived meanwhile";
    Silent "silent" Validator 0 Never, "follows the run and signs nothing";
}

/// Whether a miner with the strategy `plant` plants in this window: in one of eight, drawn from the run's seed.
pub(crate) fn plants_in(initial: &Initial, window: WindowIndex) -> bool {
    Hash::of(format!("plant {initial:?} {window}").as_bytes()).as_bytes()[0] < 32
}

impl MemberRole {
    /// The role in reports: `miner` or `validator`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Miner => "miner",
            Self::Validator => "validator",
        }
    }
}

impl Strategy {
    /// Whether a miner with this strategy never serves its states.
    pub(crate) const fn keeps_states(self) -> bool {
        matches!(self, Self::KeepState | Self::WithholdState)
    }

    /// The strategy with this name; `None` where there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|strategy| strategy.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_found() {
        for (index, strategy) in Strategy::ALL.iter().enumerate() {
            assert_eq!(Strategy::from_name(strategy.name()), Some(*strategy));
            assert!(Strategy::ALL[..index].iter().all(|other| other.name() != strategy.name()));
        }
        assert_eq!(Strategy::from_name("honest"), None);
        assert!(Strategy::ALL.is_sorted_by_key(|strategy| strategy.role()));
    }
}

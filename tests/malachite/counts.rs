//! What was compared, and how often each difference by design was met.

use std::collections::BTreeMap;
use std::fmt;

/// The figures of all courses.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) courses: u64,
    /// Inputs of validators after which both were compared.
    pub(crate) inputs: u64,
    pub(crate) votes: u64,
    pub(crate) nil_votes: u64,
    pub(crate) votes_after_the_first_attempt: u64,
    pub(crate) decisions: u64,
    pub(crate) decisions_after_the_first_attempt: u64,
    pub(crate) timers: u64,
    pub(crate) contradictions: u64,
    pub(crate) latest_attempt: u32,
    explained: BTreeMap<&'static str, u64>,
}

impl Counts {
    /// Notes a difference by design.
    pub(crate) fn explain(&mut self, what: &'static str) {
        *self.explained.entry(what).or_default() += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "courses                       {:>10}", self.courses)?;
        writeln!(f, "inputs of validators          {:>10}", self.inputs)?;
        writeln!(f, "votes compared                {:>10}", self.votes)?;
        writeln!(f, "  of them for nothing         {:>10}", self.nil_votes)?;
        writeln!(f, "  of them in later attempts   {:>10}", self.votes_after_the_first_attempt)?;
        writeln!(f, "decisions compared            {:>10}", self.decisions)?;
        writeln!(f, "  of them in later attempts   {:>10}", self.decisions_after_the_first_attempt)?;
        writeln!(f, "timers compared               {:>10}", self.timers)?;
        writeln!(f, "contradictions compared       {:>10}", self.contradictions)?;
        writeln!(f, "latest attempt                {:>10}", self.latest_attempt)?;
        writeln!(f, "differences by design, translated:")?;
        for (what, times) in &self.explained {
            writeln!(f, "  {times:>10}  {what}")?;
        }
        write!(f, "other differences             {:>10}", 0)
    }
}

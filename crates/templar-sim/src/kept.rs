//! What a simulated run leaves: enough for somebody else to check its rules again.

use templar_manifest::payload;
use templar_protocol::{RunState, StateKey};

use crate::member::SimMember;

/// The genesis of a simulated run and all that an honest validator accepted in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRun {
    /// The bytes of the genesis.
    pub genesis: Vec<u8>,
    /// The value of the state's entry `run`: the zero state and the number of training tokens. A simulation has neither
    /// tensors nor a dataset from which they would follow.
    pub told: Vec<u8>,
    /// The entries of the first honest validator, as nodes exchange them, in the order in which it accepted them. Without
    /// [`Config::keep_history`](crate::Config::keep_history) those of old windows are not there any more.
    pub entries: Vec<Vec<u8>>,
}

impl KeptRun {
    /// `first` is the state before window 0.
    pub(crate) fn of(members: &[SimMember], first: &RunState) -> Self {
        let honest = members.iter().find(|member| member.is_honest()).unwrap_or(&members[0]);
        let log = &honest.journal.log;
        Self {
            genesis: payload::encode(first.genesis().as_ref()),
            told: first.entry(&StateKey::Run).unwrap_or_default().to_vec(),
            entries: log.range(log.start(), log.end()).map(|kept| kept.entry.entry().encode()).collect(),
        }
    }
}

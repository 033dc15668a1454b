//! Recovers a miner's state that its own disk has lost, by replaying the contributions that led to it.
//!
//! Nobody else has to keep it or be trusted, since a state changes through recorded contributions alone.

use templar_audit::{InputError, replay_contribution};
use templar_blob::ReadError;
use templar_manifest::{Hash, PublicKey};
use templar_protocol::{Node, Parent, ReplayTask};

use super::{Executor, WorkError};

impl Executor {
    /// Makes sure that the state is here with which `miner` trains the open window of `node`. If neither memory
    /// nor blobs have it, the miner's recorded contributions are replayed from the newest of its states that is
    /// here. Gives the number of replays.
    ///
    /// # Errors
    /// A state that is corrupt on the disk is an error and no reason to replay: the disk must be repaired first. When
    /// the repair could not bring the whole state back, this replays.
    pub fn recover_state(&self, node: &Node, miner: &PublicKey) -> Result<usize, WorkError> {
        match node.state().parent(miner).copied() {
            Some(last) => self.recover(node, last),
            None => Ok(0),
        }
    }

    /// The same for the state before a contribution of this miner that validators have challenged. The state is
    /// among the served blobs when this returns.
    pub fn recover_challenged(&self, node: &Node, task: &ReplayTask) -> Result<usize, WorkError> {
        let (contribution, state_out) = (task.contribution.parent, task.contribution.state_in);
        let Some(contribution) = contribution else { return Ok(0) };
        let replayed = self.recover(node, Parent { contribution, state_out })?;
        self.keep_known_state(&state_out)?;
        Ok(replayed)
    }

    fn recover(&self, node: &Node, last: Parent) -> Result<usize, WorkError> {
        let inputs = self.inputs()?;
        let missing = match self.state(&inputs, &last.state_out) {
            Ok(state) => {
                self.states.lock().insert(last.state_out, state);
                return Ok(0);
            }
            Err(error) if error.missing().is_some() => error,
            // The disk is repaired, and a part of the state is lost.
            Err(InputError::Damaged { blob, what }) if self.is_torn(&blob) => InputError::Withheld { what },
            Err(error) => return Err(error.into()),
        };
        let (mut way, mut next, mut from) = (Vec::new(), Some(last.contribution), None);
        for closed in node.closed().iter().rev() {
            let Some(id) = next else { break };
            let Some(signed) = closed.contributions.iter().find(|signed| signed.id() == id.hash()) else { continue };
            way.push((closed.window.body.checkpoint_before, signed.payload()));
            if let Ok(state) = self.state(&inputs, &signed.payload().state_in) {
                from = Some(state);
                break;
            }
            next = signed.payload().parent;
        }
        let mut state = from.ok_or(missing)?;
        for (checkpoint, contribution) in way.iter().rev() {
            let window = contribution.window;
            let parameters = self.parameters(*checkpoint)?;
            let broken = |what: &str| InputError::Broken(format!("own contribution to window {window} {what}"));
            let before = node.state_at(window).ok_or_else(|| broken("is of a window that does not fold again"))?;
            let given = |_: &_| Ok(state);
            let task = before.unproven_task(contribution).ok_or_else(|| broken("is of a miner without a slot"))?;
            let replayed = self.pool.install(|| replay_contribution(&inputs, &task, &parameters, given))?;
            state = replayed.state.ok_or_else(|| broken("does not replay"))?;
        }
        self.keep_state(&state)?;
        self.states.lock().insert(last.state_out, state);
        Ok(way.len())
    }

    /// Whether a repair has found the blob corrupt and could not bring all of it back.
    fn is_torn(&self, blob: &Hash) -> bool {
        matches!(self.blobs.read(blob, u64::MAX), Err(ReadError::Torn { .. }))
    }
}

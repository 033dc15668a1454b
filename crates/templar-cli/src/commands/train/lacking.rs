//! What training lacks: the model of the open window, from the deltas that are here or from peers.

use std::time::Duration;

use templar_node::exchange::{self, Wanted};
use templar_node::peers;
use templar_node::settings::Networking;

use crate::error::{Code, CommandError};
use crate::invocation::Invocation;
use crate::network::destination;
use crate::participant::Participant;
use crate::printer::count;

/// How long peers are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Brings the model that the open window starts from: every closed window's deltas are applied to the one before, as far as
/// they are here; what is still missing comes from the peers that this home knows.
pub(super) fn bring(
    invocation: &Invocation,
    participant: &mut Participant,
    networking: &Networking,
) -> Result<(), CommandError> {
    let closed = participant.node().closed().to_vec();
    let here = |participant: &Participant, id: &templar_manifest::CheckpointId| {
        participant.access.blobs().contains(&id.hash())
    };
    // What was pruned on the way to a model that is here is not wanted.
    let newest = closed.iter().rposition(|closed| here(participant, &closed.window.checkpoint));
    for window in &closed[newest.map_or(0, |newest| newest + 1)..] {
        let record = &window.window;
        if here(participant, &record.checkpoint) || !here(participant, &record.checkpoint_before) {
            continue;
        }
        let (before, contributions) = (record.checkpoint_before, &window.contributions);
        match participant.executor.apply(before, record.window, &record.outcomes, contributions) {
            Ok(applied) if applied.stepped.checkpoint == record.checkpoint => {}
            Ok(applied) => {
                let (window, said, found) = (record.window, record.checkpoint, applied.stepped.checkpoint);
                let text = format!("window {window}: checkpoint is recorded as {said}, found {found}");
                return Err(CommandError::says(Code::Verification, text));
            }
            Err(error) if error.missing().is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let state = participant.state();
    if here(participant, &state.checkpoint()) {
        return Ok(());
    }
    let known = peers::load(&participant.access.home)?;
    if known.is_empty() {
        // Training names what is missing, and what to do.
        return Ok(());
    }
    let peers = count(known.len() as u64, "known peer");
    invocation.printer.talk(format_args!("asking {peers} for the model of window {}", state.window()));
    let access = &participant.access;
    let to = destination(access, networking)?;
    let wanted = Wanted::Window(state.window());
    access.runtime().block_on(exchange::visit(&to, &mut participant.replica, &[], wanted, PATIENCE))?;
    Ok(())
}

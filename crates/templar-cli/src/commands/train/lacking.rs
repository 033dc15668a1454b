//! Gets the model of the open window, when it is not here: from the deltas that are here, or from peers.

use std::time::Duration;

use templar_node::exchange::{self, Wanted};
use templar_node::peers;
use templar_node::settings::Networking;

use crate::error::{Code, CommandError};
use crate::invocation::Invocation;
use crate::network::destination;
use crate::printer::count;
use crate::session::RunSession;

/// The time that peers get to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gets the model that the open window starts from. The deltas of each closed window are applied to the model
/// before it, as far as they are here; known peers supply the rest.
pub(super) fn bring(
    invocation: &Invocation,
    session: &mut RunSession,
    networking: &Networking,
) -> Result<(), CommandError> {
    let closed = session.node().closed().to_vec();
    let here = |session: &RunSession, id: &templar_manifest::CheckpointId| session.access.blobs().contains(&id.hash());
    // Older models that were pruned are not needed: start from the newest model that is here.
    let newest = closed.iter().rposition(|closed| here(session, &closed.window.header.checkpoint));
    for window in &closed[newest.map_or(0, |newest| newest + 1)..] {
        let record = &window.window;
        if here(session, &record.header.checkpoint) || !here(session, &record.body.checkpoint_before) {
            continue;
        }
        let (before, contributions) = (record.body.checkpoint_before, &window.contributions);
        match session.executor.apply(before, record.header.window, &record.body.outcomes, contributions) {
            Ok(applied) if applied.stepped.checkpoint == record.header.checkpoint => {}
            Ok(applied) => {
                let (window, said, found) =
                    (record.header.window, record.header.checkpoint, applied.stepped.checkpoint);
                let text = format!("window {window}: checkpoint is recorded as {said}, found {found}");
                return Err(CommandError::says(Code::Verification, text));
            }
            Err(error) if error.missing().is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    let state = session.state();
    if here(session, &state.checkpoint()) {
        return Ok(());
    }
    let known = peers::load(&session.access.home)?;
    if known.is_empty() {
        // The training itself reports the missing model, with a hint.
        return Ok(());
    }
    let peers = count(known.len() as u64, "known peer");
    invocation.printer.talk(format_args!("asking {peers} for the model of window {}", state.window()));
    let access = &session.access;
    let to = destination(access, networking)?;
    let wanted = Wanted::Window(state.window());
    access.runtime().block_on(exchange::visit(&to, &mut session.replica, &[], wanted, PATIENCE))?;
    Ok(())
}

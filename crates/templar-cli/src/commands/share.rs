//! `templar share`: serves what this home has, until Ctrl-C.

use templar_manifest::Hash;
use templar_node::driver::{DriverConfig, Role};
use templar_node::event::Event;
use templar_node::workbench::Conduct;

use crate::error::{Code, CommandError, CommandResult};
use crate::events;
use crate::index::Index;
use crate::invocation::{Invocation, object, run_context};
use crate::network::{Listen, Stop, run_node};
use crate::participant::{Participant, sync};
use crate::reference::Reference;

/// Serve this home's blobs and entries, and print tickets for them
///
/// Others fetch one blob, or join and follow the run. A delta whose window is not cut yet is not served to anybody.
/// Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A blob for which a ticket of its own is printed: a hash, or four or more digits of one
    blob: Option<Reference>,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
    /// Stop when standard input ends
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    let blob = args.blob.as_ref().map(|reference| named(invocation, args, reference)).transpose()?;
    let access = invocation.write()?;
    let context = run_context(&access, args.run.as_deref())?;
    sync(&access, &blob.into_iter().collect::<Vec<_>>())?;
    let config = DriverConfig {
        role: Role::Sharer,
        networking: args.listen.networking(invocation, &access.home)?,
        metrics: None,
        peers: Vec::new(),
        conduct: Conduct::Honest,
        share: blob,
        delays: None,
        prune: false,
    };
    let printer = invocation.printer;
    let say = |event: &Event| match event {
        Event::Started { ticket, blob_ticket, .. } => {
            printer.data(event, blob_ticket.as_ref().unwrap_or(ticket));
            printer.talk("serving; Ctrl-C ends it");
        }
        event => events::tell(&printer, event),
    };
    let stop = if args.until_stdin_closes { Stop::WithStdin } else { Stop::OnSignal };
    run_node(access, context, config, stop, say)?;
    Ok(Code::Ok)
}

/// A blob of this home that may be served.
fn named(invocation: &Invocation, args: &Args, reference: &Reference) -> Result<Hash, CommandError> {
    let participant = Participant::open(invocation, args.run.as_deref())?;
    let index = Index::build(&participant.access, Some(participant.replica.context.run))?;
    let id = object(&index, reference)?
        .ok_or_else(|| CommandError::says(Code::Usage, "a ticket for one blob needs its hash"))?;
    if !participant.access.blobs().contains(&id) {
        let error = CommandError::says(Code::NotFound, format_args!("blob {id} is not in this home"));
        return Err(error.hint(format!("`templar fetch {id}` asks peers for it")));
    }
    if !participant.node().may_serve(&id) {
        let text = format!("blob {id} belongs to a contribution whose window is not cut yet");
        return Err(CommandError::says(Code::Failed, text)
            .hint("share the run instead, `templar share`; the blob is served as soon as the cut is certified"));
    }
    Ok(id)
}

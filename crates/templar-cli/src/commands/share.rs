//! `templar share`: serves what this home has, until Ctrl-C.

use templar_manifest::Hash;
use templar_net::collect;
use templar_node::driver::{DriverConfig, NodeRole, Offer};
use templar_node::event::NodeEvent;

use crate::error::{Code, CommandError, CommandResult};
use crate::events;
use crate::index::Index;
use crate::invocation::{Invocation, object, run_context};
use crate::network::{Listen, Stop, run_node};
use crate::participant::{Participant, sync};
use crate::reference::Reference;

/// Serve this home's blobs and entries, and print tickets for them
///
/// Others fetch what is named, or join and follow the run. A delta whose window is not cut yet is not served to anybody.
/// Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a ticket for these blobs and not for the run: hashes, or four or more digits of each
    #[arg(value_name = "BLOB")]
    blobs: Vec<Reference>,
    /// Make the ticket one of a collection, as several blobs have it anyway: `sendme receive` takes it, too
    #[arg(long, requires = "blobs")]
    collection: bool,
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
    let mut blobs = named(invocation, args)?;
    let access = invocation.write()?;
    let context = run_context(&access, args.run.as_deref())?;
    let share = match (&blobs[..], access.store()) {
        ([], _) | (_, None) => None,
        ([blob], _) if !args.collection => Some(Offer::Blob(*blob)),
        (_, Some(store)) => {
            // Each under its own hash, which is what `b3sum` prints of it wherever it arrives.
            let files: Vec<(String, Hash)> = blobs.iter().map(|id| (id.to_string(), *id)).collect();
            let list = access
                .runtime()
                .block_on(collect(store, &files))
                .map_err(|error| CommandError::new(Code::Failed, error))?;
            blobs.push(list);
            Some(Offer::Collection(list))
        }
    };
    sync(&access, &blobs)?;
    let networking = args.listen.networking(invocation, &access.home)?;
    let config = DriverConfig { share, ..DriverConfig::new(NodeRole::Sharer, networking) };
    let printer = invocation.printer;
    let say = |event: &NodeEvent| match event {
        NodeEvent::Started { ticket, blob_ticket, .. } => {
            printer.data(event, blob_ticket.as_ref().unwrap_or(ticket));
            printer.talk("serving; Ctrl-C ends it");
        }
        event => events::tell(&printer, event),
    };
    let stop = if args.until_stdin_closes { Stop::WithStdin } else { Stop::OnSignal };
    run_node(access, context, config, stop, say)?;
    Ok(Code::Ok)
}

/// The blobs of this home that are named; each may be served.
fn named(invocation: &Invocation, args: &Args) -> Result<Vec<Hash>, CommandError> {
    if args.blobs.is_empty() {
        return Ok(Vec::new());
    }
    let participant = Participant::open(invocation, args.run.as_deref())?;
    let index = Index::build(&participant.access, Some(participant.replica.context.run))?;
    let mut blobs = Vec::with_capacity(args.blobs.len());
    for reference in &args.blobs {
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
        if !blobs.contains(&id) {
            blobs.push(id);
        }
    }
    Ok(blobs)
}

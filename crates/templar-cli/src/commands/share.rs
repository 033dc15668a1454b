//! `templar share`: serves the blobs and entries of this home, until Ctrl-C.

mod without_run;

use std::ops::ControlFlow;

use templar_home::access::Access;
use templar_manifest::Hash;
use templar_net::collect;
use templar_node::driver::{DriverConfig, NodeRole, Offer};
use templar_node::event::NodeEvent;
use templar_query::find::{object, run_context};
use templar_query::index::HomeIndex;
use templar_query::reference::Reference;

use crate::error::{Code, CommandError, CommandResult};
use crate::events;
use crate::invocation::Invocation;
use crate::network::{Listen, Stop, run_node, tell_addresses};
use crate::printer::is_unwritten;
use crate::session::{RunSession, sync};

/// Serve this home's blobs and entries, and print tickets for them
///
/// Others can fetch the named blobs, or join and follow the run. A delta is not served before the cut of its
/// window is certified. Named blobs, such as those of a dataset, need no run. Ctrl-C stops serving.
#[derive(Debug, clap::Args)]
pub(crate) struct ShareArgs {
    /// Print a ticket for these blobs instead of the run: hashes, or four or more digits of each
    #[arg(value_name = "BLOB")]
    blobs: Vec<Reference>,
    /// Make a ticket of a collection even for one blob, so that `sendme receive` takes it too
    #[arg(long, requires = "blobs")]
    collection: bool,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
    /// Stop when standard input is closed
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

pub(crate) fn run(invocation: &Invocation, args: &ShareArgs) -> CommandResult {
    let stop = if args.until_stdin_closes { Stop::WithStdin } else { Stop::OnSignal };
    if !args.blobs.is_empty() && args.run.is_none() {
        let access = invocation.write()?;
        if access.home.runs()?.is_empty() {
            let mut blobs = whole(&access, &HomeIndex::build(&access, None)?, &args.blobs)?;
            let read_only = || CommandError::says(Code::Failed, "the home is open for reading only");
            let offer = offer(&access, args, &mut blobs)?.ok_or_else(read_only)?;
            sync(&access, &blobs)?;
            return without_run::serve(invocation, &access, &args.listen, offer, stop);
        }
    }
    let mut blobs = named(invocation, args)?;
    let access = invocation.write()?;
    let context = run_context(&access, args.run.as_deref())?;
    let share = if blobs.is_empty() { None } else { offer(&access, args, &mut blobs)? };
    sync(&access, &blobs)?;
    let networking = args.listen.networking(invocation, &access.home, &[])?;
    let config = DriverConfig { share, ..DriverConfig::new(NodeRole::Sharer, networking) };
    let printer = invocation.printer;
    let say = |event: &NodeEvent| {
        match event {
            NodeEvent::Started { ticket, blob_ticket, .. } => {
                printer.data(event, blob_ticket.as_ref().unwrap_or(ticket));
                // Nobody can use what is served without the ticket.
                if is_unwritten() {
                    return ControlFlow::Break(());
                }
                printer.talk("serving; Ctrl-C stops");
                tell_addresses(&printer, event);
            }
            event => events::tell(&printer, event),
        }
        ControlFlow::Continue(())
    };
    run_node(access, context, config, stop, say)?;
    Ok(Code::Ok)
}

/// The thing that gets a ticket: one blob, or a collection whose list is added to `blobs`. `None` if the store is not
/// open here.
fn offer(access: &Access, args: &ShareArgs, blobs: &mut Vec<Hash>) -> Result<Option<Offer>, CommandError> {
    let Some(store) = access.store() else { return Ok(None) };
    if let [blob] = blobs[..]
        && !args.collection
    {
        return Ok(Some(Offer::Blob(blob)));
    }
    // Each file is named by its hash, which is what `b3sum` prints for it.
    let files: Vec<(String, Hash)> = blobs.iter().map(|id| (id.to_string(), *id)).collect();
    let list = access.runtime().block_on(collect(store, &files));
    let list = list.map_err(|error| CommandError::new(Code::Failed, error))?;
    blobs.push(list);
    Ok(Some(Offer::Collection(list)))
}

/// The hashes of the named blobs. Each is here and may be served.
fn named(invocation: &Invocation, args: &ShareArgs) -> Result<Vec<Hash>, CommandError> {
    if args.blobs.is_empty() {
        return Ok(Vec::new());
    }
    let session = RunSession::open(invocation, args.run.as_deref())?;
    let index = HomeIndex::build(&session.access, Some(session.replica.context.run))?;
    let blobs = whole(&session.access, &index, &args.blobs)?;
    for id in &blobs {
        if !session.node().may_serve(id) {
            let text = format!("blob {id} belongs to a contribution whose window is not cut yet");
            return Err(CommandError::says(Code::Failed, text)
                .hint("share the run instead, `templar share`; the blob is served as soon as the cut is certified"));
        }
    }
    Ok(blobs)
}

/// The hashes of the named blobs, each once. All of them are here and whole.
fn whole(access: &Access, index: &HomeIndex, named: &[Reference]) -> Result<Vec<Hash>, CommandError> {
    let mut blobs = Vec::with_capacity(named.len());
    for reference in named {
        let id = object(index, reference)?
            .ok_or_else(|| CommandError::says(Code::Usage, "a ticket for one blob needs its hash"))?;
        if !access.blobs().contains(&id) {
            let error = CommandError::says(Code::NotFound, format_args!("blob {id} is not in this home"));
            return Err(error.hint(format!("`templar fetch {id}` asks peers for it")));
        }
        // A ticket for bytes that are damaged here would help nobody.
        access.verify(&id)?;
        if !blobs.contains(&id) {
            blobs.push(id);
        }
    }
    Ok(blobs)
}

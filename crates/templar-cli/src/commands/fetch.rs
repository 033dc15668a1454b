//! `templar fetch`: verified transfer from whoever has it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use templar_home::access::Access;
use templar_home::replica::Replica;
use templar_manifest::{Hash, PublicKey};
use templar_net::{AnyTicket, BlobTicket, PeerAddr, Ticket, file_path};
use templar_node::exchange::{self, Visit, Wanted};
use templar_node::gather::CatchUp;

use crate::bar::Bar;
use crate::error::{Code, CommandError, CommandResult};
use crate::index::Index;
use crate::invocation::{Invocation, object, run_context, run_id};
use crate::network::{Listen, destination, join, peers};
use crate::participant::sync;
use crate::printer::{bytes, count};
use crate::reference::Reference;

/// Fetch a blob, a window or a whole run from peers; what was interrupted goes on where it stopped
///
/// `@` brings the current model, from the newest that is here or whole, whichever is less; `wN` everything that an audit of
/// window N needs; a ticket, or a run's hash or name, everything that an audit of the run needs, and the current model.
/// Peers learn this home's entries at the same time.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A hash, four or more digits of one, a ticket, `@`, a window such as w0, or a run
    what: String,
    /// Of a run's ticket, bring the current model and not what an audit needs
    #[arg(long)]
    model: bool,
    /// Ask these peers too: a ticket of the run, or KEY@ADDR:PORT
    #[arg(long, value_name = "TICKET|PEER")]
    from: Vec<String>,
    /// Write the blob to this file as well, or the files of a collection to this folder, which must be new or empty
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Wait so many seconds for peers, and again for what they are to send
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    patience: u64,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &Args) -> CommandResult {
    match args.what.parse::<AnyTicket>() {
        Ok(AnyTicket::Blob(ticket)) => return from_blob_ticket(invocation, args, &ticket),
        Ok(AnyTicket::Run(ticket)) => return from_run_ticket(invocation, args, ticket),
        // A text that begins like a ticket is meant as one.
        Err(error) if args.what.len() > 64 => return Err(error.into()),
        Err(_) => {}
    }
    let peers = peers(&args.from)?;
    let access = invocation.write()?;
    let context = run_context(&access, args.run.as_deref())?;
    let wanted = wanted(&access, &args.what)?;
    let replica = Replica::open(&access.home, context, access.home.key()?)?;
    visit(invocation, args, &access, replica, &peers, wanted)
}

/// What a text stands for in this home.
fn wanted(access: &Access, text: &str) -> Result<Wanted, CommandError> {
    if run_id(access, text).is_ok() {
        return Ok(Wanted::Run);
    }
    let reference: Reference = text.parse().map_err(|error| {
        CommandError::new(Code::Usage, error).hint("a ticket is copied whole, as `templar share` printed it")
    })?;
    match &reference {
        Reference::Window(window) => Ok(Wanted::Window(*window)),
        Reference::Whole(hash) => Ok(Wanted::Blob(*hash)),
        Reference::Current => Ok(Wanted::Model(CatchUp::Cheaper)),
        Reference::Prefix(_) => {
            let index = Index::build(access, None)?;
            object(&index, &reference)?
                .map(Wanted::Blob)
                .ok_or_else(|| CommandError::says(Code::NotFound, format_args!("nothing here is called {text:?}")))
        }
    }
}

fn from_run_ticket(invocation: &Invocation, args: &Args, ticket: Ticket) -> CommandResult {
    let access = invocation.write()?;
    let networking = args.listen.networking(invocation, &access.home)?;
    let context = join(&access, &networking, &ticket, invocation.printer)?;
    let replica = Replica::open(&access.home, context, access.home.key()?)?;
    let wanted = if args.model { Wanted::Model(CatchUp::Cheaper) } else { Wanted::Run };
    visit(invocation, args, &access, replica, &ticket.peers, wanted)
}

fn visit(
    invocation: &Invocation,
    args: &Args,
    access: &Access,
    mut replica: Replica,
    peers: &[PeerAddr],
    wanted: Wanted,
) -> CommandResult {
    let patience = Duration::from_secs(args.patience);
    let networking = args.listen.networking(invocation, &access.home)?;
    let to = destination(access, &networking)?;
    let bar = Bar::of(to.tally.clone(), invocation.printer, access.runtime());
    let found = access.runtime().block_on(exchange::visit(&to, &mut replica, peers, wanted, patience))?;
    drop(bar);
    if let Wanted::Blob(id) = wanted {
        if !found.complete {
            let error = CommandError::says(Code::NotFound, format_args!("no peer gave blob {id}"));
            return Err(error.hint("ask again when a peer that has it is there, or name one with --from TICKET"));
        }
        sync(access, &[id])?;
        write_out(args, access, &id)?;
    }
    report(invocation, &found);
    Ok(if found.complete { Code::Ok } else { Code::Partial })
}

fn report(invocation: &Invocation, found: &Visit) {
    let absent: Vec<_> =
        found.absent.iter().map(|(peer, why)| json!({"peer": PublicKey::from_bytes(*peer), "problem": why})).collect();
    let value = json!({
        "entries": found.entries, "peers": found.peers, "absent": absent, "complete": found.complete,
    });
    let end = if found.complete { "everything is here" } else { "not everything is here" };
    let text = format!("{} from {}; {end}", entries(found.entries), count(found.peers as u64, "peer"));
    invocation.printer.data(&value, text);
    for (peer, why) in &found.absent {
        invocation.printer.talk(format_args!("peer {}: {why}", PublicKey::from_bytes(*peer).short()));
    }
    if !found.complete {
        invocation.printer.talk("the same command goes on where this one stopped");
    }
}

fn entries(number: usize) -> String {
    if number == 1 { "1 new entry".to_owned() } else { format!("{number} new entries") }
}

fn from_blob_ticket(invocation: &Invocation, args: &Args, ticket: &BlobTicket) -> CommandResult {
    let access = invocation.write()?;
    let networking = args.listen.networking(invocation, &access.home)?;
    let to = destination(&access, &networking)?;
    let bar = Bar::of(to.tally.clone(), invocation.printer, access.runtime());
    let fetched = access.runtime().block_on(exchange::fetch_ticket(&to, ticket))?;
    drop(bar);
    sync(&access, &[&[fetched.root], &fetched.children[..]].concat())?;
    if fetched.files.is_empty() {
        write_out(args, &access, &fetched.root)?;
    } else {
        write_files(args, &access, &fetched.files)?;
    }
    let files: Vec<_> = fetched.files.iter().map(|(name, id)| json!({"name": name, "blob": id})).collect();
    let value = json!({
        "blob": fetched.root, "children": fetched.children, "files": files, "bytes": fetched.fetched.size,
        "received": fetched.fetched.received,
    });
    invocation.printer.data(&value, fetched.root);
    invocation.printer.talk(format_args!("{} fetched", bytes(fetched.fetched.received)));
    Ok(Code::Ok)
}

fn write_out(args: &Args, access: &Access, id: &Hash) -> Result<(), CommandError> {
    let (Some(path), Some(store)) = (&args.out, access.store()) else { return Ok(()) };
    access
        .runtime()
        .block_on(store.export(id, path))
        .map(|_| ())
        .map_err(|error| CommandError::new(Code::Failed, error))
}

/// Writes the files of a collection, whose names are their sender's, below a folder that is new or empty: so no name overwrites
/// anything, or goes through a link that is there.
fn write_files(args: &Args, access: &Access, files: &[(String, Hash)]) -> Result<(), CommandError> {
    let (Some(folder), Some(store)) = (&args.out, access.store()) else { return Ok(()) };
    let failed = |text: std::fmt::Arguments<'_>| CommandError::says(Code::Failed, text);
    let mut paths = BTreeSet::new();
    for (name, _) in files {
        let path = file_path(name).ok_or_else(|| failed(format_args!("the collection has a file named {name:?}")));
        if !paths.insert(path.map_err(|error| error.hint("it would lie outside the folder; nothing was written"))?) {
            return Err(failed(format_args!("the collection has two files named {name:?}")));
        }
    }
    let io = |error: std::io::Error| failed(format_args!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(io)?;
    if std::fs::read_dir(folder).map_err(io)?.next().is_some() {
        let error = CommandError::says(Code::Usage, format_args!("{} is not empty", folder.display()));
        return Err(error
            .hint("name a folder that is not there yet; what was fetched is in this home and is not fetched again"));
    }
    for (name, id) in files {
        let path = folder.join(file_path(name).unwrap_or_default());
        access.runtime().block_on(store.export(id, &path)).map_err(|error| CommandError::new(Code::Failed, error))?;
    }
    Ok(())
}

//! `templar fetch`: fetches blobs from peers, and verifies them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use templar_home::access::Access;
use templar_home::memory::Silence;
use templar_home::replica::Replica;
use templar_manifest::{Hash, PublicKey, WindowIndex};
use templar_net::{AnyTicket, BlobTicket, PeerAddr, Ticket, file_path};
use templar_node::exchange::{self, Visit, Wanted};
use templar_node::gather::CatchUp;
use templar_query::find::{object, run_context, run_id};
use templar_query::index::HomeIndex;
use templar_query::reference::Reference;

use crate::bar::Bar;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Listen, destination, join, peers};
use crate::printer::{bytes, count};
use crate::session::sync;

/// Fetch a blob, a window or a whole run from peers; an interrupted transfer resumes
///
/// `@` fetches the current model: the changes since the newest model that is here, or the whole model,
/// whichever is smaller. `wN` fetches everything that an audit of window N needs. A ticket, or a run's hash or
/// name, fetches everything that an audit of the run needs, and the current model. At the same time, peers
/// receive this home's entries.
#[derive(Debug, clap::Args)]
pub(crate) struct FetchArgs {
    /// A hash, four or more digits of one, a ticket, `@`, a window such as w0, or the name of a run
    what: String,
    /// With the ticket of a run: fetch the current model only
    #[arg(long)]
    model: bool,
    /// Ask this peer too: a ticket of the run, or KEY@ADDR:PORT
    #[arg(long, value_name = "TICKET|PEER")]
    from: Vec<String>,
    /// Also write the blob to this file, or the files of a collection to this folder, which must be new or empty
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// The number of seconds to wait for peers, and again for data from them
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    patience: u64,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, args: &FetchArgs) -> CommandResult {
    match args.what.parse::<AnyTicket>() {
        Ok(AnyTicket::Blob(ticket)) => return from_blob_ticket(invocation, args, &ticket),
        Ok(AnyTicket::Run(ticket)) => return from_run_ticket(invocation, args, ticket),
        // A text that is longer than a hash can only be a ticket.
        Err(error) if args.what.len() > 64 => return Err(error.into()),
        Err(_) => {}
    }
    let peers = peers(&args.from)?;
    let access = invocation.write()?;
    let context = run_context(&access, args.run.as_deref())?;
    let wanted = wanted(&access, &args.what)?;
    let mut replica = Replica::open(&access.home, context, access.home.key()?)?;
    FetchJob { invocation, args, access: &access }.visit(&mut replica, &peers, wanted)
}

/// The object or run that a text names in this home.
fn wanted(access: &Access, text: &str) -> Result<Wanted, CommandError> {
    if run_id(access, text).is_ok() {
        return Ok(Wanted::Run);
    }
    let reference: Reference = text.parse().map_err(|error| {
        CommandError::new(Code::Usage, error).hint("copy a ticket whole, as `templar share` printed it")
    })?;
    match &reference {
        Reference::Window(window) => Ok(Wanted::Window(*window)),
        Reference::Whole(hash) => Ok(Wanted::Blob(*hash)),
        Reference::Current => Ok(Wanted::Model(CatchUp::Cheaper)),
        Reference::Prefix(_) => {
            let index = HomeIndex::build(access, None)?;
            object(&index, &reference)?
                .map(Wanted::Blob)
                .ok_or_else(|| CommandError::says(Code::NotFound, format_args!("no object here is called {text:?}")))
        }
    }
}

fn from_run_ticket(invocation: &Invocation, args: &FetchArgs, ticket: Ticket) -> CommandResult {
    let access = invocation.write()?;
    let networking = args.listen.networking(invocation, &access.home)?;
    let context = join(&access, &networking, &ticket, invocation.printer)?;
    let mut replica = Replica::open(&access.home, context, access.home.key()?)?;
    let wanted = if args.model { Wanted::Model(CatchUp::Cheaper) } else { Wanted::Run };
    FetchJob { invocation, args, access: &access }.visit(&mut replica, &ticket.peers, wanted)
}

/// A fetch in progress: the command, its arguments and the home that it writes to.
struct FetchJob<'a> {
    invocation: &'a Invocation,
    args: &'a FetchArgs,
    access: &'a Access,
}

impl FetchJob<'_> {
    /// Visits the peers, and writes the blob out where one was asked for.
    fn visit(&self, replica: &mut Replica, peers: &[PeerAddr], wanted: Wanted) -> CommandResult {
        let Self { invocation, args, access } = self;
        let patience = Duration::from_secs(args.patience);
        let networking = args.listen.networking(invocation, &access.home)?;
        let to = destination(access, &networking)?;
        let bar = Bar::of(to.tally.clone(), invocation.printer, access.runtime());
        let found = access.runtime().block_on(exchange::visit(&to, replica, peers, wanted, patience))?;
        drop(bar);
        if let Wanted::Blob(id) = wanted {
            if !found.complete {
                let error = CommandError::says(Code::NotFound, format_args!("no peer has blob {id}"));
                return Err(error.hint("try again when a peer that has it is online, or name one with --from TICKET"));
            }
            sync(access, &[id])?;
            write_out(args, access, &id)?;
        }
        report(invocation, &found);
        if let Err(silence @ Silence::Elsewhere(_)) = replica.may_sign() {
            invocation.printer.warn(silence);
        }
        Ok(if found.complete { Code::Ok } else { Code::Partial })
    }
}

fn report(invocation: &Invocation, found: &Visit) {
    let absent: Vec<_> =
        found.absent.iter().map(|(peer, why)| json!({"peer": PublicKey::from_bytes(*peer), "problem": why})).collect();
    let value = json!({
        "entries": found.entries, "peers": found.peers, "absent": absent, "complete": found.complete,
    });
    let end = if found.complete { "complete" } else { "incomplete: peers did not have the rest" };
    let text = format!("{} from {}; {end}", entries(found.entries), count(found.peers as u64, "peer"));
    invocation.printer.data(&value, text);
    for (peer, why) in &found.absent {
        invocation.printer.talk(format_args!("peer {}: {why}", PublicKey::from_bytes(*peer).short()));
    }
    if !found.complete {
        invocation.printer.talk("run the same command again to fetch the rest");
    }
}

fn entries(number: usize) -> String {
    if number == 1 { "1 new entry".to_owned() } else { format!("{number} new entries") }
}

fn from_blob_ticket(invocation: &Invocation, args: &FetchArgs, ticket: &BlobTicket) -> CommandResult {
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

fn write_out(args: &FetchArgs, access: &Access, id: &Hash) -> Result<(), CommandError> {
    let (Some(path), Some(store)) = (&args.out, access.store()) else { return Ok(()) };
    access
        .runtime()
        .block_on(store.export(id, path))
        .map(|_| ())
        .map_err(|error| CommandError::new(Code::Failed, error))
}

/// Writes the files of a collection into a folder that is new or empty. The sender chose the names; in a new
/// folder, no name can overwrite a file or follow a link.
fn write_files(args: &FetchArgs, access: &Access, files: &[(String, Hash)]) -> Result<(), CommandError> {
    let (Some(folder), Some(store)) = (&args.out, access.store()) else { return Ok(()) };
    let failed = |text: std::fmt::Arguments<'_>| CommandError::says(Code::Failed, text);
    let mut paths = BTreeSet::new();
    for (name, _) in files {
        let path = file_path(name).ok_or_else(|| failed(format_args!("the collection has a file named {name:?}")));
        if !paths.insert(path.map_err(|error| error.hint("that path is outside the folder, so nothing was written"))?) {
            return Err(failed(format_args!("the collection has two files named {name:?}")));
        }
    }
    let io = |error: std::io::Error| failed(format_args!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(io)?;
    if std::fs::read_dir(folder).map_err(io)?.next().is_some() {
        let error = CommandError::says(Code::Usage, format_args!("{} is not empty", folder.display()));
        return Err(error.hint("name a new folder; the fetched blobs are in this home and are not fetched again"));
    }
    for (name, id) in files {
        let path = folder.join(file_path(name).unwrap_or_default());
        access.runtime().block_on(store.export(id, &path)).map_err(|error| CommandError::new(Code::Failed, error))?;
    }
    Ok(())
}

/// The hint for missing blobs of a window.
pub(crate) fn fetch_hint(window: WindowIndex) -> String {
    format!("`templar fetch w{window}` fetches everything that the window needs")
}

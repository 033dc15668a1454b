//! `templar fetch`: fetches blobs from peers, and verifies them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use templar_home::access::{Access, AccessError};
use templar_home::context::RunError;
use templar_home::memory::Silence;
use templar_home::replica::Replica;
use templar_home::unfinished;
use templar_manifest::{Hash, PublicKey, WindowIndex};
use templar_net::{AnyTicket, BlobTicket, PeerAddr, Ticket, file_path};
use templar_node::exchange::{self, Visit, Wanted};
use templar_node::gather::CatchUp;
use templar_query::QueryError;
use templar_query::find::{object, run_context, run_id};
use templar_query::index::HomeIndex;
use templar_query::reference::Reference;
use templar_store::{BlobExportError, Existing};

use crate::bar::Bar;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Listen, destination, join, only_this_machine, peers, unreached};
use crate::printer::{bytes, count};
use crate::session::sync;
use crate::signals::{finishing, interruptible};

/// Fetch a blob, a window or a whole run from peers; an interrupted transfer resumes
///
/// A blob that is here already is taken from here: that needs no peer and no run.
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
    /// Also write the blob to this file, which must be new, or the files of a collection to this folder, which must be
    /// new or empty
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Replace the file that --out names, if there is one
    #[arg(long, requires = "out")]
    force: bool,
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
    refuse_existing(args)?;
    match args.what.parse::<AnyTicket>() {
        Ok(AnyTicket::Blob(ticket)) => return from_blob_ticket(invocation, args, &ticket),
        Ok(AnyTicket::Run(ticket)) => return from_run_ticket(invocation, args, ticket),
        // These texts can only be tickets: they are longer than a hash, or begin as no other name does.
        Err(error) if args.what.trim().len() > 64 || is_like_a_ticket(&args.what) => return Err(error.into()),
        Err(_) => {}
    }
    let peers = peers(&args.from)?;
    let mut access = invocation.read()?;
    let wanted = wanted(&access, args)?;
    if let Wanted::Blob(id) = wanted
        && from_here(invocation, args, &access, &id)?
    {
        return Ok(Code::Ok);
    }
    if access.store().is_none() {
        // Everything else has to be written here. This says why it cannot be.
        access = invocation.write()?;
    }
    let job = FetchJob { invocation, args, access: &access };
    match (wanted, run_context(&access, args.run.as_deref())) {
        (Wanted::Blob(id), Err(QueryError::Access(AccessError::Run(RunError::None)))) => job.without_a_run(&peers, id),
        (_, context) => {
            let mut replica = Replica::open(&access.home, context?, access.home.key()?)?;
            job.visit(&mut replica, &peers, wanted)
        }
    }
}

/// Whether a text begins as the two kinds of tickets do, and with no hash.
fn is_like_a_ticket(text: &str) -> bool {
    let text = text.trim().to_lowercase();
    ["templar", "blob"].iter().any(|kind| text.strip_prefix(kind).is_some_and(|rest| rest.len() > 3))
}

/// Refuses to fetch into a file that is there, before anything is fetched.
fn refuse_existing(args: &FetchArgs) -> Result<(), CommandError> {
    match &args.out {
        // A folder may be empty; that is seen when its files are known.
        Some(path) if !args.force && path.exists() && !path.is_dir() => {
            Err(BlobExportError::Exists { path: path.clone() }.into())
        }
        _ => Ok(()),
    }
}

/// Takes a blob that is here, whole and right. `false` if it is not: then it is fetched from peers.
fn from_here(invocation: &Invocation, args: &FetchArgs, access: &Access, id: &Hash) -> Result<bool, CommandError> {
    if !access.blobs().contains(id) || access.verify(id).is_err() {
        return Ok(false);
    }
    write_out(args, access, id)?;
    let value = json!({"blob": id, "received": 0, "entries": 0, "peers": 0, "absent": [], "complete": true});
    invocation.printer.data(&value, format_args!("blob {id} was here already"));
    Ok(true)
}

/// The object or run that the arguments name in this home.
fn wanted(access: &Access, args: &FetchArgs) -> Result<Wanted, CommandError> {
    let text = args.what.trim();
    // A run is also a blob, its genesis. A file is written of a blob.
    if args.out.is_none() && run_id(access, text).is_ok() {
        return Ok(Wanted::Run);
    }
    let reference: Reference = text.parse().map_err(|error| {
        CommandError::new(Code::Usage, error).hint("copy a ticket whole, as `templar share` printed it")
    })?;
    let wanted = match &reference {
        Reference::Window(window) => Wanted::Window(*window),
        Reference::Whole(hash) => Wanted::Blob(*hash),
        Reference::Current => Wanted::Model(CatchUp::Cheaper),
        Reference::Prefix(_) => {
            let index = HomeIndex::build(access, None)?;
            let found = object(&index, &reference)?;
            let nothing = || CommandError::says(Code::NotFound, format_args!("no object here is called {text:?}"));
            Wanted::Blob(found.ok_or_else(nothing)?)
        }
    };
    if args.out.is_some() && !matches!(wanted, Wanted::Blob(_)) {
        return Err(nothing_to_write(text));
    }
    Ok(wanted)
}

/// The error of `--out` where no blob is named.
fn nothing_to_write(what: &str) -> CommandError {
    CommandError::says(Code::Usage, format_args!("{what} is not one blob, so --out has nothing to write"))
        .hint("leave out --out; `templar show` names the blobs, and --out writes one of them")
}

fn from_run_ticket(invocation: &Invocation, args: &FetchArgs, ticket: Ticket) -> CommandResult {
    if args.out.is_some() {
        return Err(nothing_to_write("a run"));
    }
    let access = invocation.write()?;
    let networking = args.listen.networking(invocation, &access.home, &ticket.peers)?;
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
        let networking = args.listen.networking(invocation, &access.home, peers)?;
        let to = destination(access, &networking)?;
        let bar = Bar::of(to.tally.clone(), invocation.printer, access.runtime());
        let found = interruptible(access.runtime(), exchange::visit(&to, replica, peers, wanted, patience))??;
        drop(bar);
        if let Wanted::Blob(id) = wanted {
            self.came(&id, found.complete)?;
        }
        report(invocation, &found);
        if let Some(hint) = only_this_machine(peers).filter(|_| found.peers == 0 && !found.complete) {
            invocation.printer.talk(hint);
        }
        if let Err(silence @ Silence::Elsewhere(_)) = replica.may_sign() {
            invocation.printer.warn(silence);
        }
        Ok(if found.complete { Code::Ok } else { Code::Partial })
    }

    /// Fetches a blob into a home that has no run.
    fn without_a_run(&self, peers: &[PeerAddr], id: Hash) -> CommandResult {
        let Self { invocation, args, access } = self;
        let patience = Duration::from_secs(args.patience);
        let networking = args.listen.networking(invocation, &access.home, peers)?;
        let to = destination(access, &networking)?;
        let bar = Bar::of(to.tally.clone(), invocation.printer, access.runtime());
        let complete = interruptible(access.runtime(), exchange::fetch_blob(&to, peers, &id, patience))?
            .map_err(|error| unreached(error.into(), peers))?;
        drop(bar);
        self.came(&id, complete)?;
        report(invocation, &Visit { complete, ..Visit::default() });
        Ok(Code::Ok)
    }

    /// Keeps a blob that came, and writes it out where that was asked for.
    fn came(&self, id: &Hash, complete: bool) -> Result<(), CommandError> {
        if !complete {
            let error = CommandError::says(Code::NotFound, format_args!("no peer has blob {id}"));
            return Err(error.hint("try again when a peer that has it is online, or name one with --from TICKET"));
        }
        sync(self.access, &[*id])?;
        unfinished::spare(&self.access.home, &[*id])?;
        write_out(self.args, self.access, id)
    }
}

fn report(invocation: &Invocation, found: &Visit) {
    let absent: Vec<_> =
        found.absent.iter().map(|(peer, why)| json!({"peer": PublicKey::from_bytes(*peer), "problem": why})).collect();
    let value = json!({
        "entries": found.entries, "peers": found.peers, "absent": absent, "complete": found.complete,
    });
    let end = match found.complete {
        true => "complete",
        false if found.peers == 0 => "incomplete: no peer has answered",
        false => "incomplete: peers did not have the rest",
    };
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
    let provider = PeerAddr::of_blob_ticket(ticket);
    let networking = args.listen.networking(invocation, &access.home, &[provider])?;
    let to = destination(&access, &networking)?;
    let bar = Bar::of(to.tally.clone(), invocation.printer, access.runtime());
    let patience = Duration::from_secs(args.patience);
    let fetched = interruptible(access.runtime(), exchange::fetch_ticket(&to, ticket, patience))?
        .map_err(|error| unreached(error.into(), &[PeerAddr::of_blob_ticket(ticket)]))?;
    drop(bar);
    let came = [&[fetched.root], &fetched.children[..]].concat();
    sync(&access, &came)?;
    unfinished::spare(&access.home, &came)?;
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
    let Some(path) = &args.out else { return Ok(()) };
    let _seen_to = finishing();
    access.export(id, path, if args.force { Existing::Replace } else { Existing::Refuse })?;
    Ok(())
}

/// Writes the files of a collection into a folder that is new or empty. The sender chose the names; in a new
/// folder, no name can overwrite a file or follow a link.
fn write_files(args: &FetchArgs, access: &Access, files: &[(String, Hash)]) -> Result<(), CommandError> {
    let Some(folder) = &args.out else { return Ok(()) };
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
    let _seen_to = finishing();
    for (name, id) in files {
        let path = folder.join(file_path(name).unwrap_or_default());
        access.export(id, &path, Existing::Refuse)?;
    }
    Ok(())
}

/// The hint for missing blobs of a window.
pub(crate) fn fetch_hint(window: WindowIndex) -> String {
    format!("`templar fetch w{window}` fetches everything that the window needs")
}

//! `templar evidence`: hands in statements that contradict each other, and lists those that records have burnt for.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::journal::Journal;
use templar_home::replica::{Replica, SubmitError};
use templar_manifest::{
    Contradiction, Contribution, Envelope, Hash, PublicKey, RecordId, SlashCause, WindowIndex, payload,
};
use templar_node::exchange::{self, Wanted};
use templar_node::peers;
use templar_protocol::{ClosedWindow, Entry, EvidenceEntry, MAX_ENTRY_BYTES, Reject, evidence};

use super::register;
use crate::error::{Code, CommandError, CommandResult};
use crate::index::Index;
use crate::invocation::{Invocation, object, run_context};
use crate::network::{Listen, destination};
use crate::printer::{alpha, table};
use crate::reference::Reference;

/// How long peers are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Statements that cannot both be meant: hand them in, or list those that were
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Hand in two statements of one signer that contradict each other
    ///
    /// Two contributions or inboxes of one window, two scores of one window and seed, or two votes in one step. Nobody has to be
    /// believed: the signatures are checked here and by everybody. Validators show them in their scores, and the record burns
    /// what the signer has not vested. What proves nothing is refused, and changes nothing.
    Submit(Submit),
    /// List what records carry: who contradicted itself, where, and what was burnt
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Submit {
    /// One statement: a file with an entry's bytes, or the hash of a manifest in this home's journal, or four or more digits of
    /// one
    first: String,
    /// The other
    second: String,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Of one window: `wN` or N for the window of the statements, or the hash of the record that carries them
    #[arg(long, value_name = "N|ID")]
    window: Option<String>,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, command: &Command) -> CommandResult {
    match command {
        Command::Submit(args) => submit(invocation, args),
        Command::Show(args) => show(invocation, args),
    }
}

fn proves_nothing(error: evidence::EvidenceError) -> CommandError {
    let error = CommandError::new(Code::Verification, Reject::Evidence(error));
    error.hint(
        "evidence is two contributions or inboxes of one window, two scores of one seed or two votes in one step, signed by \
         one key of the run, as long as its pay of that window can be burnt and was not",
    )
}

fn submit(invocation: &Invocation, args: &Submit) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let (first, second) = (statements(&access, &context, &args.first)?, statements(&access, &context, &args.second)?);
    let found = contradiction(&context, &first, &second).map_err(proves_nothing)?;
    let key = access.home.key()?;
    let node = register::current(invocation, &access, &context, &key, &args.listen)?;
    if node.is_over() {
        return Err(CommandError::says(Code::NotFound, "the run is over"));
    }
    node.state().check_evidence(&found).map_err(proves_nothing)?;
    let (run, window) = (context.run, node.state().window());
    let beside = access.show(EvidenceEntry { run, window, contradiction: found.clone() })?;
    let mut peers_told = 0;
    if !beside {
        let mut replica = Replica::open(&access.home, context.clone(), key)?;
        match replica.show(found.clone()) {
            Ok(_) | Err(SubmitError::Reject(Reject::Shown(_))) => {}
            Err(error) => return Err(error.into()),
        }
        if !peers::load(&access.home)?.is_empty() {
            let networking = args.listen.networking(invocation, &access.home)?;
            let to = destination(&access, &networking)?;
            invocation.printer.talk("giving it to known peers");
            let visit = exchange::visit(&to, &mut replica, &[], Wanted::Entries, PATIENCE);
            peers_told = access.runtime().block_on(visit)?.peers;
        }
    }
    let kind = kind_of(&found);
    let value = json!({
        "type": "result", "signer": found.signer, "window": found.window, "kind": kind,
        "first": found.first.id(), "second": found.second.id(), "handed_to_node": beside, "peers": peers_told,
    });
    let text = format!(
        "signer     {}\nkind       two statements of the kind {kind}\nwindow     {}\nstatements {}\n           {}",
        found.signer,
        found.window,
        found.first.id(),
        found.second.id()
    );
    invocation.printer.data(&value, text);
    invocation.printer.talk(match (beside, peers_told) {
        (true, _) => {
            "the node of this home passes it on; `templar evidence show` lists it when a record has burnt for it"
        }
        (false, 0) => "it is in this home's journal; `templar node` and `templar share` give it to others",
        (false, _) => "peers had the time to take it; `templar evidence show` lists it when a record has burnt for it",
    });
    Ok(Code::Ok)
}

/// The statements that a text names: of a file one, of a hash those of all who signed it.
fn statements(access: &Access, context: &RunContext, text: &str) -> Result<Vec<Envelope>, CommandError> {
    let path = Path::new(text);
    if path.is_file() {
        return file(path).map(|envelope| vec![envelope]);
    }
    let reference: Reference = text.parse().map_err(|error| {
        let error = CommandError::new(Code::Usage, error);
        error.hint("a statement is a file with an entry's bytes, or the hash of a manifest in this home")
    })?;
    let index = Index::build(access, Some(context.run))?;
    let id = object(&index, &reference)?;
    let mut found = BTreeMap::<PublicKey, Envelope>::new();
    for record in Journal::read(&access.home.run_dir(&context.run))? {
        if let Ok(Entry::Envelope(envelope)) = Entry::decode(&record)
            && Some(envelope.id()) == id
        {
            found.insert(envelope.signer, envelope);
        }
    }
    if found.is_empty() {
        let error = CommandError::says(Code::NotFound, format_args!("this home's journal has no entry {text}"));
        return Err(error.hint("`templar show` tells what a hash is; an entry can also be given as a file"));
    }
    Ok(found.into_values().collect())
}

fn file(path: &Path) -> Result<Envelope, CommandError> {
    let fails = |error: &dyn std::fmt::Display| {
        CommandError::says(Code::Failed, format_args!("{} is no statement: {error}", path.display()))
    };
    let length = std::fs::metadata(path).map_err(|error| fails(&error))?.len();
    if length > MAX_ENTRY_BYTES as u64 {
        return Err(fails(&format_args!("{length} bytes are more than an entry has")));
    }
    let bytes = std::fs::read(path).map_err(|error| fails(&error))?;
    match Entry::decode(&bytes).map_err(|error| fails(&error))? {
        Entry::Envelope(envelope) => Ok(envelope),
        Entry::Reveal(_) => Err(fails(&"a hash-chain value has no signature")),
        Entry::Evidence(_) => Err(fails(&"it is evidence already, of two")),
    }
}

/// The evidence that two of these statements make.
fn contradiction(
    context: &RunContext,
    first: &[Envelope],
    second: &[Envelope],
) -> Result<Contradiction, evidence::EvidenceError> {
    let pairs = || first.iter().flat_map(|one| second.iter().map(move |other| (one, other)));
    let of = |(one, other): (&Envelope, &Envelope)| evidence::of_two(&context.run, one.clone(), other.clone());
    let same_signer = pairs().filter(|(one, other)| one.signer == other.signer);
    let mut found = same_signer.chain(pairs()).map(of);
    let first = found.next().expect("each has a statement");
    found.fold(first, |best, next| if best.is_ok() { best } else { next.or(best) })
}

fn kind_of(found: &Contradiction) -> &'static str {
    payload::peek(&found.first.payload).map_or("statement", |(kind, _)| kind.name())
}

/// Evidence that a record carries.
struct Row {
    recorded: WindowIndex,
    record: RecordId,
    found: Contradiction,
    shown_by: Vec<PublicKey>,
    account: PublicKey,
    burnt_micros: u64,
}

/// Who pays: for a contribution the miner for whom it was signed, else the signer.
fn account(found: &Contradiction) -> PublicKey {
    found.first.open::<Contribution>().map_or(found.signer, |signed| signed.payload().miner)
}

fn rows(closed: &ClosedWindow) -> Vec<Row> {
    let mut rows = BTreeMap::<(PublicKey, WindowIndex), Row>::new();
    for score in closed.scores.iter().map(|signed| signed.payload()) {
        for found in &score.evidence {
            let account = account(found);
            let slashed = closed.window.slashes.iter().find(|slash| {
                (slash.account, slash.window, slash.cause) == (account, found.window, SlashCause::Contradiction)
            });
            let row = rows.entry((found.signer, found.window)).or_insert_with(|| Row {
                recorded: closed.window.window,
                record: closed.record,
                found: found.clone(),
                shown_by: Vec::new(),
                account,
                burnt_micros: slashed.map_or(0, |slash| slash.amount_micros),
            });
            row.shown_by.push(score.validator);
        }
    }
    rows.into_values().collect()
}

/// Of which windows or record.
enum Of {
    All,
    Window(WindowIndex),
    Record(Hash),
}

fn show(invocation: &Invocation, args: &Show) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let node = access.fold(&context)?;
    let of = match args.window.as_deref() {
        None => Of::All,
        Some(text) => match crate::reference::parse_window(text) {
            Ok(window) => Of::Window(window),
            Err(_) => {
                let reference: Reference = text.parse().map_err(|error| CommandError::new(Code::Usage, error))?;
                match (object(&Index::build(&access, Some(context.run))?, &reference)?, &reference) {
                    (Some(id), _) => Of::Record(id),
                    (None, Reference::Window(window)) => Of::Window(*window),
                    (None, _) => return Err(CommandError::says(Code::Usage, format_args!("{text:?} names no window"))),
                }
            }
        },
    };
    let is_wanted = |row: &Row| match of {
        Of::All => true,
        Of::Window(window) => row.found.window == window,
        Of::Record(id) => row.record.hash() == id,
    };
    let found: Vec<Row> = node.closed().iter().flat_map(rows).filter(is_wanted).collect();
    let heading = ["window", "signer", "kind", "recorded", "burnt", "of", "shown by"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    let mut values = Vec::new();
    for row in &found {
        let kind = kind_of(&row.found);
        lines.push(vec![
            format!("w{}", row.found.window),
            row.found.signer.short(),
            kind.to_owned(),
            format!("w{}", row.recorded),
            alpha(row.burnt_micros),
            row.account.short(),
            row.shown_by.len().to_string(),
        ]);
        values.push(json!({
            "window": row.found.window, "signer": row.found.signer, "kind": kind, "recorded": row.recorded,
            "record": row.record, "account": row.account, "burnt_micros": row.burnt_micros,
            "first": row.found.first.id(), "second": row.found.second.id(), "shown_by": row.shown_by,
        }));
    }
    let text = if found.is_empty() { String::new() } else { table(&lines) };
    invocation.printer.data(&json!({"run": context.run, "evidence": values}), text);
    if found.is_empty() {
        invocation.printer.talk("no record carries evidence");
    }
    Ok(Code::Ok)
}

//! `templar evidence`: submits proof that a signer contradicted itself, and lists the proofs that records carry.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use templar_home::access::Access;
use templar_home::context::RunContext;
use templar_home::journal::Journal;
use templar_home::replica::{Replica, SubmitError};
use templar_manifest::{Contradiction, Envelope, PublicKey};
use templar_node::exchange::{self, Wanted};
use templar_node::peers;
use templar_protocol::{Entry, EvidenceEntry, MAX_ENTRY_BYTES, Reject, evidence};
use templar_query::evidence::{EvidenceFilter, EvidenceList, RecordedEvidence, statement_kind};
use templar_query::find::{object, run_context};
use templar_query::index::HomeIndex;
use templar_query::reference::Reference;

use super::register;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Listen, destination};
use crate::printer::{alpha, table};

/// The time that peers get to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Proof that a signer contradicted itself: submit it, or list what records carry
#[derive(Debug, clap::Subcommand)]
pub(crate) enum EvidenceCommand {
    /// Submit two statements of one signer that contradict each other
    ///
    /// Valid evidence is two contributions or two inboxes of one window, two scores of one window and seed, or
    /// two votes in one step. Every node checks the signatures itself. Validators include the evidence in their
    /// scores, and the record slashes the signer's unvested pay. Statements that do not contradict each other
    /// are refused and change nothing.
    Submit(SubmitArgs),
    /// List the evidence in records: the signer, the window, and the amount slashed
    Show(ListEvidenceArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {
    /// The first statement: a file with the bytes of an entry, or the hash of a manifest in this home's
    /// journal, or four or more digits of one
    first: String,
    /// The second statement, in the same form
    second: String,
    #[command(flatten)]
    listen: Listen,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListEvidenceArgs {
    /// Only the evidence about window N (N or wN), or in the record with this hash
    #[arg(long, value_name = "N|ID")]
    window: Option<String>,
    /// The run: a hash, four or more digits of one, or a name [default: the current one]
    #[arg(long)]
    run: Option<String>,
}

pub(crate) fn run(invocation: &Invocation, command: &EvidenceCommand) -> CommandResult {
    match command {
        EvidenceCommand::Submit(args) => submit(invocation, args),
        EvidenceCommand::Show(args) => show(invocation, args),
    }
}

fn proves_nothing(error: evidence::EvidenceError) -> CommandError {
    let error = CommandError::new(Code::Verification, Reject::Evidence(error));
    error.hint(
        "evidence is two contributions or inboxes of one window, two scores of one window, or two votes in one step, signed by \
         one key of the run, while its pay for that window can still be slashed",
    )
}

fn submit(invocation: &Invocation, args: &SubmitArgs) -> CommandResult {
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
            let networking = args.listen.networking(invocation, &access.home, &[])?;
            let to = destination(&access, &networking)?;
            invocation.printer.talk("sending it to known peers");
            let visit = exchange::visit(&to, &mut replica, &[], Wanted::Entries, PATIENCE);
            peers_told = access.runtime().block_on(visit)?.peers;
        }
    }
    let kind = statement_kind(&found);
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
        (true, _) => "the node of this home passes it on; `templar evidence show` lists it once a record carries it",
        (false, 0) => "it is in this home's journal; `templar node` and `templar share` pass it on",
        (false, _) => "it was sent to peers; `templar evidence show` lists it once a record carries it",
    });
    Ok(Code::Ok)
}

/// The statements that a text names: the one in a file, or all signed copies of a manifest.
fn statements(access: &Access, context: &RunContext, text: &str) -> Result<Vec<Envelope>, CommandError> {
    let path = Path::new(text);
    if path.is_file() {
        return file(path).map(|envelope| vec![envelope]);
    }
    let reference: Reference = text.parse().map_err(|error| {
        let error = CommandError::new(Code::Usage, error);
        error.hint("name a statement by a file with the bytes of an entry, or by the hash of a manifest in this home")
    })?;
    let index = HomeIndex::build(access, Some(context.run))?;
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
        let error = CommandError::says(Code::NotFound, format_args!("the journal of this home has no entry {text}"));
        return Err(error.hint("`templar show` shows what a hash names; an entry can also be given as a file"));
    }
    Ok(found.into_values().collect())
}

fn file(path: &Path) -> Result<Envelope, CommandError> {
    let fails = |error: &dyn std::fmt::Display| {
        CommandError::says(Code::Failed, format_args!("{} is not a statement: {error}", path.display()))
    };
    let length = std::fs::metadata(path).map_err(|error| fails(&error))?.len();
    if length > MAX_ENTRY_BYTES as u64 {
        return Err(fails(&format_args!("{length} bytes is too long for an entry")));
    }
    let bytes = std::fs::read(path).map_err(|error| fails(&error))?;
    match Entry::decode(&bytes).map_err(|error| fails(&error))? {
        Entry::Envelope(envelope) => Ok(envelope),
        Entry::Reveal(_) => Err(fails(&"a hash-chain value has no signature")),
        Entry::Evidence(_) => Err(fails(&"it is already evidence, made of two statements")),
        Entry::Record(_) => Err(fails(&"a proposed record contradicts no other")),
    }
}

/// The evidence that a pair of these statements makes.
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

fn show(invocation: &Invocation, args: &ListEvidenceArgs) -> CommandResult {
    let access = invocation.read()?;
    let context = run_context(&access, args.run.as_deref())?;
    let filter = EvidenceFilter::parse(&access, &context, args.window.as_deref())?;
    let list = EvidenceList::read(&access, &context, filter)?;
    invocation.printer.document(&list, text(&list.evidence));
    if list.evidence.is_empty() {
        invocation.printer.talk("no record carries evidence");
    }
    Ok(Code::Ok)
}

fn text(evidence: &[RecordedEvidence]) -> String {
    if evidence.is_empty() {
        return String::new();
    }
    let heading = ["window", "signer", "kind", "recorded", "slashed", "account", "shown by"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(evidence.iter().map(|found| {
        vec![
            format!("w{}", found.window),
            found.signer.short(),
            found.kind.to_owned(),
            format!("w{}", found.recorded),
            alpha(found.burnt_micros),
            found.account.short(),
            found.shown_by.len().to_string(),
        ]
    }));
    table(&rows)
}

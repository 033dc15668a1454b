//! `templar store scrub`: reads every blob and every journal, reports damage, and repairs it: blobs from peers, the
//! files of a run from what is whole of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use templar_blob::ReadError;
use templar_home::access::Access;
use templar_home::mend::{MendError, RunFault, check};
use templar_manifest::Hash;
use templar_net::PeerAddr;
use templar_node::exchange::{self, ExchangeError, Mended};
use templar_query::audit::findings::AuditAnswer;
use templar_query::error_line;
use templar_query::index::HomeIndex;
use templar_store::{ListError, ScrubProgress};

use super::locked::beside_a_node;
use crate::error::{Code, CommandError, CommandResult};
use crate::invocation::Invocation;
use crate::network::{Listen, destination, peers};
use crate::printer::{Printer, bytes, count};
use crate::verdict;

/// Read and verify every blob and every journal, and repair what is damaged
///
/// Checks the bytes of every blob and the inner nodes of its hash tree, in files and in the database. A corrupt
/// blob is marked; its parts that still verify are kept, and peers supply the rest. Checks the files of every run
/// too. A damaged journal is set aside and its whole entries are kept; peers send the others again, and this home signs
/// nothing in a window in which it may have forgotten something. Ends with `match`; with `unavailable: damaged here`
/// (exit code 5) if damage remains; or with `mismatch` (exit code 4) if a file is whole and breaks the rules.
#[derive(Debug, clap::Args)]
pub(crate) struct ScrubArgs {
    /// Only report: change nothing and open no socket; works beside a running node
    #[arg(long, conflicts_with_all = ["from", "bind"])]
    offline: bool,
    /// Ask this peer too: a ticket of the run, or KEY@ADDR:PORT
    #[arg(long, value_name = "TICKET|PEER")]
    from: Vec<String>,
    #[command(flatten)]
    listen: Listen,
}

/// The result of a scrub.
#[derive(Default)]
struct ScrubFindings {
    blobs: u64,
    bytes: u64,
    /// The faults of the runs' own files.
    files: Vec<RunFault>,
    /// The damaged blobs, sorted by hash, each with its problem.
    damaged: BTreeMap<Hash, &'static str>,
}

const CORRUPT: &str = "corrupt";
const TORN: &str = "was found corrupt before, and a part of it is missing";

pub(crate) fn run(invocation: &Invocation, args: &ScrubArgs) -> CommandResult {
    let others = peers(&args.from)?;
    let access = if args.offline { invocation.read() } else { invocation.write().map_err(node_runs) };
    let access = access.map_err(verdict::unopened)?;
    let printer = invocation.printer;
    let mut found = find(&access, printer)?;
    // A damaged journal or genesis may prevent the index. The damaged blobs are reported by their hashes all
    // the same.
    let index = HomeIndex::build(&access, None).unwrap_or_default();
    let name = |id: &Hash| index.describe(id);
    for (id, what) in &found.damaged {
        let value = json!({"type": "damage", "blob": id, "what": name(id), "problem": what});
        printer.progress(&value, format_args!("{}: {what}", name(id)));
    }
    let ids: Vec<Hash> = found.damaged.keys().copied().collect();
    let mended =
        if args.offline || ids.is_empty() { Vec::new() } else { mend(invocation, &access, args, &others, &ids)? };
    // The blobs come first, because what follows from genesis needs genesis.
    found.files = check_files(&access, printer, !args.offline)?;
    Ok(Ending { found: &found, ids: &ids, mended: &mended, is_offline: args.offline }.tell(printer, &name))
}

/// Checks the files of every run, and repairs them if that is asked for.
fn check_files(access: &Access, printer: Printer, repair: bool) -> Result<Vec<RunFault>, CommandError> {
    let mut faults = Vec::new();
    for run in access.home.runs()? {
        match check(&access.home, access.blobs(), run, access.is_beside_a_node(), repair) {
            Ok(found) => faults.extend(found),
            // Without its genesis nothing else of a run can be checked.
            Err(MendError::Run(error)) => {
                let problem = format!("the run cannot be checked: {}", error_line(&error));
                faults.push(RunFault { run, file: "journal", problem, differs: false, repaired: None });
            }
            Err(error) => return Err(error.into()),
        }
    }
    for fault in &faults {
        let RunFault { run, file, problem, differs, repaired } = fault;
        let end = repaired.as_ref().map_or_else(String::new, |repaired| format!("; {repaired}"));
        let value = json!({
            "type": "damage", "run": run, "file": file, "problem": problem, "differs": differs, "repaired": repaired,
        });
        printer.progress(&value, format_args!("run {}, {file}: {problem}{end}", run.short()));
    }
    Ok(faults)
}

fn node_runs(error: CommandError) -> CommandError {
    let hint = "beside a running node, use `templar store scrub --offline`; the node repairs corrupt blobs itself when it reads them";
    beside_a_node(error, hint)
}

fn find(access: &Access, printer: Printer) -> Result<ScrubFindings, CommandError> {
    let mut told = 0;
    let mut tell = |progress: &ScrubProgress| {
        let tenth = progress.bytes.saturating_mul(10) / progress.of_bytes.max(1);
        if tenth > told {
            told = tenth;
            let value = json!({
                "type": "progress", "blobs": progress.blobs, "of_blobs": progress.of_blobs, "bytes": progress.bytes,
                "of_bytes": progress.of_bytes, "damaged": progress.damaged,
            });
            let text = format!(
                "{} of {}, {} of {}, {} damaged",
                progress.blobs,
                count(progress.of_blobs, "blob"),
                bytes(progress.bytes),
                bytes(progress.of_bytes),
                progress.damaged
            );
            printer.progress(&value, text);
        }
    };
    let mut found = ScrubFindings::default();
    if let Some(store) = access.store_to_read() {
        let report = access.runtime().block_on(store.scrub(&mut tell))?;
        (found.blobs, found.bytes) = (report.checked, report.checked_bytes);
        found.damaged.extend(report.corrupt.into_iter().map(|id| (id, CORRUPT)));
        found.damaged.extend(report.torn.into_iter().map(|id| (id, TORN)));
        return Ok(found);
    }
    let stock = access.stock()?;
    found.damaged.extend(stock.torn.iter().map(|id| (*id, TORN)));
    let of_bytes = stock.whole.iter().map(|(_, size)| size).sum();
    for (id, size) in &stock.whole {
        match access.verify(id) {
            Ok(()) => {}
            Err(ReadError::Corrupt { .. }) => drop(found.damaged.insert(*id, CORRUPT)),
            // The node has removed it in the meantime.
            Err(ReadError::NotFound { .. } | ReadError::Torn { .. }) => continue,
            Err(ReadError::Io { source, .. }) => return Err(ListError::Io(source).into()),
            Err(error) => return Err(error.into()),
        }
        found.blobs += 1;
        found.bytes += size;
        let of_blobs = stock.whole.len() as u64;
        let damaged = found.damaged.len() as u64;
        tell(&ScrubProgress { blobs: found.blobs, of_blobs, bytes: found.bytes, of_bytes, damaged });
    }
    Ok(found)
}

/// Repairs the damaged blobs from peers. Without any known peer, it says so and changes nothing.
fn mend(
    invocation: &Invocation,
    access: &Access,
    args: &ScrubArgs,
    others: &[PeerAddr],
    ids: &[Hash],
) -> Result<Vec<Mended>, CommandError> {
    let printer = invocation.printer;
    let networking = args.listen.networking(invocation, &access.home, others)?;
    let to = destination(access, &networking)?;
    let seen = |mended: &Mended| {
        let value = json!({"type": "mended", "blob": mended.id, "healed": mended.problem.is_none()});
        let end = mended.problem.as_deref().unwrap_or("whole again");
        printer.progress(&value, format_args!("blob {}: {end}", mended.id.short()));
    };
    match access.runtime().block_on(exchange::mend(&to, others, ids, seen)) {
        Err(ExchangeError::NoPeers) => {
            printer.talk("this home knows no peers to ask; name one with --from TICKET");
            Ok(Vec::new())
        }
        mended => Ok(mended?),
    }
}

/// Everything that the end of a scrub tells.
struct Ending<'a> {
    found: &'a ScrubFindings,
    /// The damaged blobs.
    ids: &'a [Hash],
    mended: &'a [Mended],
    is_offline: bool,
}

impl Ending<'_> {
    /// The reason why a blob was not healed; `Some(None)` if it was, and `None` if nobody was asked.
    fn problem(&self, id: &Hash) -> Option<Option<String>> {
        self.mended.iter().find(|mended| mended.id == *id).map(|mended| mended.problem.clone())
    }

    fn is_healed(&self, id: &Hash) -> bool {
        self.problem(id) == Some(None)
    }

    fn files_left(&self) -> impl Iterator<Item = &RunFault> {
        self.found.files.iter().filter(|fault| fault.repaired.is_none())
    }

    fn answer(&self) -> AuditAnswer {
        if self.files_left().any(|fault| fault.differs) {
            AuditAnswer::Mismatch
        } else if self.files_left().next().is_some() || !self.ids.iter().all(|id| self.is_healed(id)) {
            AuditAnswer::Unavailable
        } else {
            AuditAnswer::Match
        }
    }

    /// A command that repairs the rest.
    fn hint(&self, answer: AuditAnswer) -> Option<&'static str> {
        if answer == AuditAnswer::Match {
            None
        } else if self.is_offline {
            Some("`templar store scrub` repairs it: blobs from peers, the files of a run from what is whole of them")
        } else {
            Some("`templar store scrub --from TICKET` asks one more peer; `templar fetch RUN` brings lost entries")
        }
    }

    /// Prints the end, and gives its exit code.
    fn tell(&self, printer: Printer, name: &dyn Fn(&Hash) -> String) -> Code {
        let Self { found, ids, .. } = self;
        let (answer, files) = (self.answer(), found.files.len() as u64);
        let (healed, files_left) = (ids.iter().filter(|id| self.is_healed(id)).count(), self.files_left().count());
        let hint = self.hint(answer);
        let damaged = |id: &Hash| {
            let why = self.problem(id).flatten();
            json!({"blob": id, "what": name(id), "healed": self.is_healed(id), "problem": why})
        };
        let value = json!({
            "type": "result", "verdict": answer, "blobs": found.blobs, "bytes": found.bytes,
            "damaged": ids.iter().map(damaged).collect::<Vec<Value>>(), "healed": healed, "left": ids.len() - healed,
            "files": found.files, "files_left": files_left, "hint": hint,
        });
        let mut text = String::new();
        for id in ids.iter().filter(|id| !self.is_healed(id)) {
            let why = self.problem(id).flatten().unwrap_or_else(|| found.damaged[id].to_owned());
            text.push_str(&format!("{}: {why}\n", name(id)));
        }
        for RunFault { run, file, problem, .. } in self.files_left() {
            text.push_str(&format!("run {}, {file}: {problem}\n", run.short()));
        }
        if files > 0 {
            let repaired = files - files_left as u64;
            text.push_str(&format!("{} of runs, {repaired} repaired\n", count(files, "damaged file")));
        }
        text.push_str(&format!(
            "{}: {} of {}; damaged {}, healed {healed}",
            verdict::own_word(printer, answer),
            count(found.blobs, "blob"),
            bytes(found.bytes),
            ids.len(),
        ));
        printer.data(&value, text);
        if let Some(hint) = hint {
            printer.talk(format_args!("hint: {hint}"));
        }
        verdict::code(answer)
    }
}

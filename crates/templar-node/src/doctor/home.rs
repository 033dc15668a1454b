//! Checks of the home: its key, its run, and a sample of its blobs.

use std::collections::BTreeSet;
use std::path::Path;

use templar_blob::{BlobSource, ReadError};
use templar_home::access::Access;
use templar_home::context::{RunContext, RunError, common_blobs};
use templar_home::journal::Journal;
use templar_home::memory::{Memory, Silence};
use templar_home::shell::word;
use templar_home::socket::SocketBlobs;
use templar_home::{Home, HomeError, is_open_to_others};
use templar_manifest::{Checkpoint, Hash, MAX_PAYLOAD_BYTES, PublicKey, RunId, payload};
use templar_protocol::{Entry, Node};

use super::finding::{DoctorFinding, error_chain, shown, size};

/// The sample of blobs that is read and hashed: their number, and their bytes altogether.
const SAMPLE_BLOBS: usize = 64;
const SAMPLE_BYTES: u64 = 64 << 20;

pub(super) fn look_at(root: &Path, say: &mut impl FnMut(DoctorFinding)) -> Option<Home> {
    let home = match Home::open(root) {
        Ok(home) => home,
        Err(error) => {
            let hint = match &error {
                HomeError::Missing(path) => format!("`templar --home {} init` makes one", word(path)),
                _ => "use the version of templar that made it".to_owned(),
            };
            say(DoctorFinding::fail("home", error_chain(&error), hint));
            return None;
        }
    };
    say(DoctorFinding::ok("home", shown(root).to_string()));
    if is_open_to_others(root).unwrap_or(false) {
        let hint = format!("`chmod 700 {}`", word(root));
        say(DoctorFinding::warn("home", "other users of this machine can read it, and deltas before the cut", hint));
    }
    match home.key() {
        Ok(key) => say(DoctorFinding::ok("key", key.public().to_string())),
        Err(error) => say(DoctorFinding::fail(
            "key",
            error_chain(&error),
            "put the key back from a copy; `templar init` makes a new one in another home",
        )),
    }
    Some(home)
}

/// Whether a node answers at the home's socket.
pub(super) fn node_runs_in(home: &Home) -> bool {
    SocketBlobs::connect(&home.socket_path()).is_ok()
}

/// Looks at the run and at a sample of the blobs. Gives the milestones of the journal, newest first, if it can be
/// folded.
pub(super) fn look_at_run_and_store(
    access: &Access,
    runs_here: bool,
    say: &mut impl FnMut(DoctorFinding),
) -> Option<Vec<Hash>> {
    if runs_here {
        say(DoctorFinding::ok("home", "a node runs here; its blobs are read through it"));
    }
    let context = match access.home.current_run() {
        Ok(Some(run)) => match RunContext::open(&access.home, access.blobs(), run) {
            Ok(context) => context,
            Err(error) => {
                let hint = match error {
                    RunError::Start { .. } => "`templar store scrub` makes it again from genesis".to_owned(),
                    _ => format!("`templar fetch {run}` asks peers for it"),
                };
                say(DoctorFinding::fail("run", error_chain(&error), hint));
                return None;
            }
        },
        Ok(None) => {
            let hint = "`templar run join TICKET` takes one from others, `templar run new` makes one";
            say(DoctorFinding::warn("run", "this home has no run", hint));
            return None;
        }
        Err(error) => {
            say(DoctorFinding::fail("run", error_chain(&error), "`templar run use RUN` chooses one"));
            return None;
        }
    };
    let folded =
        Journal::read(&access.home.run_dir(&context.run)).map_err(|error| error_chain(&error)).and_then(|records| {
            let node = context.fold(None, &records).map_err(|error| error_chain(&error))?;
            Ok((records.len(), node))
        });
    let (run, name) = (context.run.short(), &context.genesis.name);
    match folded {
        Ok((entries, node)) => {
            let window = node.state().window();
            say(DoctorFinding::ok("run", format!("{run} ({name}): window {window}, {entries} entries in order")));
            look_at_memory(access, &context, &node, say);
            sample(access.blobs(), &wanted(&context, &node, access.blobs()), say);
            let records = node.closed().iter().rev().map(|closed| closed.record.hash());
            Some(records.collect())
        }
        // Never without its entries: a validator that forgets what it has signed may contradict itself.
        Err(text) => {
            let hint = "`templar store scrub` keeps every entry that is whole; peers send the others again";
            say(DoctorFinding::fail("run", text, hint));
            None
        }
    }
}

/// Compares the journal with what the home must not forget, and says why the home signs nothing, if it does not.
fn look_at_memory(access: &Access, context: &RunContext, node: &Node, say: &mut impl FnMut(DoctorFinding)) {
    let memory = match Memory::read(&access.home.run_dir(&context.run)) {
        Ok(memory) => memory,
        Err(error) => {
            let hint = "`templar store scrub` makes it again from the journal";
            return say(DoctorFinding::fail("run", error_chain(&error), hint));
        }
    };
    if let Some(problem) = memory.head.and_then(|head| head.problem(node)) {
        let hint = format!("`templar fetch {}` or a node brings its entries from peers", context.run);
        say(DoctorFinding::warn("run", problem, hint));
    }
    match memory.may_sign(node.state().window()) {
        Ok(()) => {}
        Err(silence @ Silence::Elsewhere(_)) => say(DoctorFinding::fail("key", silence.to_string(), ELSEWHERE)),
        Err(silence) => {
            let hint = "a node signs again by itself; `templar key reclaim` if the run cannot go on without this key";
            say(DoctorFinding::warn("key", silence.to_string(), hint));
        }
    }
}

/// The advice for a key that is in use elsewhere.
pub(super) const ELSEWHERE: &str =
    "stop the other node; if none runs and this home is an older copy, `templar key reclaim` lets it sign again";

/// The entries of the journal that `key` has signed.
pub(super) fn own_entries(home: &Home, run: &RunId, key: &PublicKey) -> Option<BTreeSet<Hash>> {
    let records = Journal::read(&home.run_dir(run)).ok()?;
    let entries = records.iter().filter_map(|record| Entry::decode(record).ok());
    Some(entries.filter(|entry| names(entry, key)).map(|entry| entry.id()).collect())
}

/// Whether an entry says that `key` has signed it.
pub(super) fn names(entry: &Entry, key: &PublicKey) -> bool {
    matches!(entry, Entry::Envelope(envelope) if envelope.signer == *key)
}

/// The blobs without which the home cannot continue: manifests, the model, the tokenizer and the text.
fn wanted(context: &RunContext, node: &Node, blobs: &dyn BlobSource) -> Vec<(Hash, u64)> {
    let small = MAX_PAYLOAD_BYTES as u64;
    let checkpoint = node.state().checkpoint().hash();
    let mut wanted = vec![(context.run.hash(), small), (context.genesis.dataset.hash(), small), (checkpoint, small)];
    let model = blobs.read(&checkpoint, small).ok().and_then(|bytes| payload::decode::<Checkpoint>(&bytes).ok());
    let tensors = model.iter().flat_map(|model| &model.tensors);
    wanted.extend(tensors.map(|tensor| (tensor.blob.hash(), tensor.spec.elements() as u64 * 4)));
    wanted.extend(common_blobs(&context.genesis, &context.dataset));
    wanted
}

/// Reads the blobs of the sample. Reading hashes them.
fn sample(blobs: &dyn BlobSource, wanted: &[(Hash, u64)], say: &mut impl FnMut(DoctorFinding)) {
    let (mut whole, mut bytes, mut missing, mut wrong) = (0, 0, Vec::new(), Vec::new());
    for (id, max_bytes) in wanted.iter().take(SAMPLE_BLOBS) {
        // Longer blobs are left to a scrub.
        if bytes >= SAMPLE_BYTES || *max_bytes > SAMPLE_BYTES {
            continue;
        }
        match blobs.read(id, *max_bytes) {
            Ok(read) => {
                whole += 1;
                bytes += read.len() as u64;
            }
            Err(ReadError::NotFound { .. }) => missing.push(*id),
            Err(error) => wrong.push((*id, error_chain(&error))),
        }
    }
    for (id, text) in &wrong {
        say(DoctorFinding::fail(
            "store",
            text.clone(),
            format!("`templar fetch {id}` heals it from a peer that has it"),
        ));
    }
    if !missing.is_empty() {
        let text = format!("{} of the {} blobs that the open window needs are not here", missing.len(), wanted.len());
        say(DoctorFinding::warn("store", text, "`templar fetch @` brings them; a node does so by itself"));
    }
    if wrong.is_empty() {
        say(DoctorFinding::ok("store", format!("{whole} blobs read and hashed, {}", size(bytes))));
    }
}

//! Gives every error its exit code and its hint.
//!
//! The errors of the libraries say what happened and why. Here, one function for each error type gives a
//! [`Code`] and, where something can be done, a hint. The user sees three kinds of lines: `error: ...`, `cause:
//! ...` and `hint: ...`, the last with a command to run. No other file of this crate chooses the exit code of a
//! library's error.

mod dataset;
mod handed_on;
mod meaning;
mod models;
mod network;
mod serve;
mod words;

use std::io::ErrorKind;
use std::path::Path;

use anyhow::anyhow;
use serde_json::json;
use templar_audit::InputError;
use templar_blob::ReadError;
use templar_data::{ChatTemplateError, ImportError, ListingError, PageError, SampleError, TokenizerError};
use templar_device::{DeviceError, OpenError as DeviceOpenError};
use templar_eval::ContinueError;
use templar_home::HomeError;
use templar_home::access::{AccessError, HandInError};
use templar_home::configure::ConfigureError;
use templar_home::context::RunError;
use templar_home::evaluations::KeptError;
use templar_home::folder::FolderError;
use templar_home::inventory::InventoryError;
use templar_home::journal::JournalError;
use templar_home::memory::Silence;
use templar_home::mend::MendError;
use templar_home::replica::{ReplicaError, SubmitError};
use templar_home::shell::word;
use templar_manifest::Hash;
use templar_model::generate::GenerateError;
use templar_model::hf::{ExportError, OpenFolderError};
use templar_net::{FetchError, PeerAddrError, TicketError};
use templar_node::driver::DriverError;
use templar_node::exchange::ExchangeError;
use templar_node::executor::WorkError;
use templar_protocol::GenesisError;
use templar_query::QueryError;
use templar_query::reference::NameError;
use templar_store::{BlobExportError, ListError, OpenError, PutError, RemoveError, SyncError};
use templar_testkit::demo::DemoError;
use templar_train::TrainError;
use templar_train::tensors::LoadError;

use crate::printer::{Printer, Tone};
use dataset::{import, listing};
pub(crate) use meaning::Code;
use meaning::{FULL, Meaning, hint, io, kept_document, plain, put};
use models::{chat_template, continued, export, folder, generate, open, tokenizer};
use network::{bind, fetch, peer_addr, ticket};

/// The reason why a command failed.
#[derive(Debug)]
pub(crate) struct CommandError {
    code: Code,
    error: anyhow::Error,
    hint: Option<String>,
}

/// The result of a command: the exit code when everything is printed already, or an error that is still to be
/// printed.
pub(crate) type CommandResult = Result<Code, CommandError>;

impl CommandError {
    /// An error with an exit code.
    pub(crate) fn new(code: Code, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into(), hint: None }
    }

    /// An error that is only a sentence.
    pub(crate) fn says(code: Code, text: impl std::fmt::Display) -> Self {
        Self::new(code, anyhow!("{text}"))
    }

    /// The same error, with a hint about what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error, with one more sentence at the end of its hint.
    pub(crate) fn more(mut self, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        self.hint = Some(self.hint.map_or_else(|| sentence.clone(), |hint| format!("{hint}; {sentence}")));
        self
    }

    /// The exit code of this error.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The library's error behind this one, if it is a `T`.
    pub(crate) fn cause<T: std::error::Error + Send + Sync + 'static>(&self) -> Option<&T> {
        self.error.downcast_ref()
    }

    /// The same error with another code, for a command in which it means something else.
    pub(crate) fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// The error, followed by its causes.
    pub(crate) fn lines(&self) -> Vec<String> {
        words::lines(&self.error)
    }

    /// Prints the error, its causes and its hint.
    pub(crate) fn report(&self, printer: &Printer) {
        let lines = self.lines();
        let (error, causes) = lines.split_first().map_or(("", &[][..]), |(error, causes)| (error.as_str(), causes));
        let value =
            json!({"type": "error", "error": error, "causes": causes, "hint": self.hint, "code": self.code as u8});
        let mut text = format!("{}: {error}", printer.error_tone(Tone::Bad, "error"));
        for cause in causes {
            text.push_str(&format!("\ncause: {cause}"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nhint: {hint}"));
        }
        printer.error(&value, text);
    }
}

/// Converts each library error into a [`CommandError`], with the function named beside it.
macro_rules! meanings {
    ($($error:ty => $meaning:ident;)*) => {$(
        impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                let (code, hint) = $meaning(&error);
                Self { code, error: error.into(), hint }
            }
        }
    )*};
}

mod eval;

meanings! {
    AccessError => access;
    ChatTemplateError => chat_template;
    ContinueError => continued;
    HandInError => apply;
    ConfigureError => configure;
    DemoError => demo;
    DeviceOpenError => device;
    BlobExportError => blob_export;
    DriverError => driver;
    InputError => evidence;
    ExchangeError => exchange;
    ExportError => export;
    GenerateError => generate;
    FetchError => fetch;
    FolderError => folder;
    HomeError => home;
    ImportError => import;
    InventoryError => inventory;
    JournalError => journal;
    ListError => list;
    ListingError => listing;
    MendError => mend;
    NameError => name;
    OpenFolderError => open;
    PeerAddrError => peer_addr;
    PutError => put;
    QueryError => query;
    ReadError => read;
    RemoveError => remove;
    ReplicaError => replica;
    RunError => run;
    SampleError => sample;
    SubmitError => submit;
    SyncError => sync;
    TicketError => ticket;
    TokenizerError => tokenizer;
    WorkError => work;
    std::io::Error => io;
}

/// The advice for a run whose own files are damaged. It never makes a validator forget what it has signed.
const MEND: &str = "`templar store scrub` keeps every entry that is whole; peers send the others again";

const NO_RUN: &str = "`templar run use NAME` chooses one that `templar run list` shows, `templar run join TICKET` takes one from \
     others, and `templar run new NAME --dataset D` makes one";

const READ_ONLY: &str = "commands that only read work in this home; to change it, give this user the right to write there, or copy \
     the home to a disk that can be written";

fn query(error: &QueryError) -> Meaning {
    match error {
        QueryError::Access(error) => access(error),
        QueryError::Home(error) => home(error),
        QueryError::Journal(error) => journal(error),
        QueryError::Run(error) => run(error),
        QueryError::Inventory(error) => inventory(error),
        QueryError::List(error) => list(error),
        QueryError::Read(error) => read(error),
        QueryError::Name(error) => name(error),
        QueryError::Audit(error) => evidence(error),
        QueryError::Evaluation(KeptError::Home(error)) => home(error),
        QueryError::Evaluation(_) => kept_document(),
        QueryError::Manifest(_) | QueryError::Delta(_) | QueryError::Unfoldable(_) => plain(Code::Verification),
    }
}

fn name(error: &NameError) -> Meaning {
    match error {
        NameError::UnknownPrefix(_) => hint(
            Code::NotFound,
            "`templar log` lists what closed windows made; `templar fetch HASH` asks peers for a whole hash",
        ),
        NameError::NotClosed { .. } => hint(Code::NotFound, "`templar log` lists the closed windows"),
        NameError::NeedsRun(_) => hint(Code::NotFound, NO_RUN),
        NameError::UnknownRun(_) => hint(Code::NotFound, "`templar run list` lists the runs of this home"),
        NameError::UnknownDataset(_) => hint(
            Code::NotFound,
            "`templar dataset list` lists those that are here, and `templar dataset import` makes one",
        ),
        NameError::AmbiguousPrefix { .. } => hint(Code::Usage, "give more digits"),
        NameError::AmbiguousDataset { .. } | NameError::AmbiguousRun { .. } => hint(Code::Usage, "give the hash"),
        NameError::NotAReference(_) => hint(
            Code::Usage,
            "names are taken by `templar dataset show NAME` and `templar run show NAME`, and a miner is its key",
        ),
        NameError::NoWindow(_) => plain(Code::Usage),
    }
}

fn home(error: &HomeError) -> Meaning {
    match error {
        HomeError::Missing(path) => hint(Code::NoHome, format!("`templar --home {} init` makes one", word(path))),
        HomeError::Exists(_) => {
            hint(Code::Failed, "nothing was changed; `templar key show` prints the key of that home")
        }
        HomeError::FileExists(_) => hint(Code::Failed, "nothing was changed; choose another file"),
        HomeError::NotEmpty(_) => hint(Code::Failed, "nothing was changed; choose another directory with --home"),
        HomeError::Format { .. } => hint(Code::Failed, "use the version of templar that made this home"),
        HomeError::Locked(_) => hint(Code::Locked, "wait until the other process ends, or use another home"),
        HomeError::ReadOnly { .. } => hint(Code::Failed, READ_ONLY),
        HomeError::NoLocks { .. } => hint(
            Code::Failed,
            "a home must lie where files can be locked: copy it to a local disk and name it with --home DIR or TEMPLAR_HOME",
        ),
        HomeError::Key { .. } => {
            hint(Code::BadKey, "put the key back from a copy; `templar init` makes a new one in another home")
        }
        HomeError::Parse { path, .. } => hint(Code::Failed, unparsed(path)),
        HomeError::Damaged { .. } => hint(Code::Verification, "`templar store scrub` makes it again from the journal"),
        HomeError::Io { source, .. } if source.kind() == ErrorKind::NotADirectory => {
            hint(Code::Failed, "a home is a directory: name another place with --home DIR or TEMPLAR_HOME")
        }
        HomeError::Io { source, .. } => (Code::Failed, io(source).1),
    }
}

/// The advice about a text file of a home that does not parse. Only `config.toml` is written by people.
fn unparsed(path: &Path) -> &'static str {
    match path.file_name().and_then(|name| name.to_str()) {
        Some("peers.json") => "remove it; a ticket brings its peers back",
        Some("run") => "`templar run use NAME` chooses one of the runs that `templar run list` shows",
        _ => "nothing was changed; correct the file",
    }
}

fn journal(error: &JournalError) -> Meaning {
    match error {
        JournalError::Damaged { .. } => hint(Code::Verification, MEND),
        JournalError::Home(error) => home(error),
    }
}

fn mend(error: &MendError) -> Meaning {
    match error {
        MendError::Run(error) => run(error),
        MendError::Journal(error) => journal(error),
        MendError::Home(error) => home(error),
    }
}

fn access(error: &AccessError) -> Meaning {
    match error {
        AccessError::Home(error) => home(error),
        AccessError::Store(OpenError::Locked { .. }) => {
            hint(Code::Locked, "wait until the other process ends, or use another home")
        }
        AccessError::Store(OpenError::DiskFull { .. }) => hint(Code::Failed, FULL),
        AccessError::Store(OpenError::Io { source, .. }) => match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => hint(Code::Failed, READ_ONLY),
            _ => (Code::Failed, io(source).1),
        },
        AccessError::Store(OpenError::Copy { .. }) => hint(
            Code::Failed,
            "reading a home that may not be written needs some room for temporary files: set TMPDIR to a directory with room",
        ),
        AccessError::Store(OpenError::Database { path, .. }) => hint(
            Code::Failed,
            format!(
                "rename {} and fetch its blobs again, `templar fetch RUN`; the key and the journals are not in it",
                path.display()
            ),
        ),
        AccessError::Runtime(_) => plain(Code::Failed),
        AccessError::Run(error) => run(error),
        AccessError::Journal(error) => journal(error),
    }
}

fn apply(error: &HandInError) -> Meaning {
    match error {
        HandInError::Home(error) => home(error),
        HandInError::Socket(error) => (Code::Failed, io(error).1),
        HandInError::Refused(_) => hint(Code::Failed, "`templar status` prints the state of the run"),
    }
}

fn run(error: &RunError) -> Meaning {
    match error {
        RunError::Unknown(_) => hint(Code::NotFound, "`templar run list` lists the runs of this home"),
        RunError::None => hint(Code::NotFound, NO_RUN),
        RunError::Read { source, .. } => read(source),
        RunError::Decode { .. } => plain(Code::Verification),
        RunError::Journal { .. } => hint(Code::Verification, MEND),
        RunError::Forgotten(_) => hint(Code::Partial, MEND),
        RunError::Start { .. } => hint(Code::Verification, "`templar store scrub` makes it again from genesis"),
        RunError::Load(LoadError::Read { source, .. }) => read(source),
        RunError::Load(_) => plain(Code::Verification),
        RunError::Put(error) => put(error),
        RunError::Sync(error) => sync(error),
        RunError::Configure(error) => configure(error),
        RunError::Recipe(_) | RunError::Genesis(_) => plain(Code::Failed),
        RunError::Tokenizer(_) => plain(Code::Verification),
        RunError::Home(error) => home(error),
    }
}

fn configure(error: &ConfigureError) -> Meaning {
    match error {
        ConfigureError::Size { .. } | ConfigureError::Form(_) | ConfigureError::Value(_) => plain(Code::Usage),
        ConfigureError::Key { .. } => {
            hint(Code::Usage, "`templar run new --long` and `templar run show` print every key")
        }
        ConfigureError::Vocabulary { .. } => hint(
            Code::Failed,
            "a model may have more rows than tokens, not fewer; resize it, or use the tokenizer that it was trained with",
        ),
        ConfigureError::Load { .. } => hint(
            Code::Usage,
            "expect fewer miners, name more validators, or set fewer replays or a longer deadlines.judge_ms",
        ),
        ConfigureError::NothingHeldOut(_) => hint(
            Code::Failed,
            "import more text, hold more of it out with --held-out-every, or lower model.sequence_length",
        ),
        ConfigureError::Rules(GenesisError::TooFewPages { .. }) => hint(
            Code::Failed,
            "use more text, or lower registration.slots, inner.steps, the batch size or the sequence length",
        ),
        ConfigureError::Model(_) | ConfigureError::Recipe(_) | ConfigureError::Rules(_) => plain(Code::Usage),
    }
}

/// The command that repairs a blob, for a hint.
pub(crate) fn repair_hint(blob: &Hash) -> String {
    format!("`templar fetch {blob}` repairs it from a peer; `templar store scrub` repairs everything")
}

fn read(error: &ReadError) -> Meaning {
    match error {
        ReadError::NotFound { id } => hint(Code::NotFound, format!("`templar fetch {id}` asks peers for it")),
        ReadError::Corrupt { id, .. } | ReadError::Torn { id } => hint(Code::Verification, repair_hint(id)),
        ReadError::TooLarge { .. } => plain(Code::Verification),
        ReadError::Closed => plain(Code::Failed),
        ReadError::Io { source, .. } => (Code::Failed, io(source).1),
    }
}

fn blob_export(error: &BlobExportError) -> Meaning {
    match error {
        BlobExportError::Read(error) => read(error),
        BlobExportError::Exists { .. } => {
            hint(Code::Failed, "nothing was overwritten; name another file, or pass --force to replace this one")
        }
        BlobExportError::DiskFull { .. } => hint(Code::Failed, FULL),
        BlobExportError::Write { source, .. } => (Code::Failed, io(source).1),
    }
}

fn list(_: &ListError) -> Meaning {
    plain(Code::Failed)
}

fn remove(error: &RemoveError) -> Meaning {
    match error {
        RemoveError::Io(source) => (Code::Failed, io(source).1),
        RemoveError::Busy | RemoveError::Memory | RemoveError::Closed => plain(Code::Failed),
    }
}

fn inventory(error: &InventoryError) -> Meaning {
    match error {
        InventoryError::Run { source, .. } => run(source),
        InventoryError::Journal(error) => journal(error),
        InventoryError::Home(error) => home(error),
        InventoryError::List(error) => list(error),
        InventoryError::Read(error) => read(error),
    }
}

fn sync(error: &SyncError) -> Meaning {
    match error {
        SyncError::NotFound { .. } => plain(Code::NotFound),
        SyncError::DiskFull => hint(Code::Failed, FULL),
        SyncError::Closed => plain(Code::Failed),
        SyncError::Io { source, .. } => (Code::Failed, io(source).1),
    }
}

fn evidence(error: &InputError) -> Meaning {
    match error {
        InputError::Unavailable { .. } | InputError::Withheld { .. } => plain(Code::Partial),
        InputError::Damaged { blob, .. } => hint(Code::Partial, repair_hint(blob)),
        InputError::Machine(_) => plain(Code::Failed),
        InputError::Broken(_) => plain(Code::Verification),
    }
}

fn device(error: &DeviceOpenError) -> Meaning {
    let on_cpu = "`--device cpu` computes the same results";
    match error {
        DeviceOpenError::NotBuilt(..) => hint(Code::Usage, "build it with: cargo build --release --features opencl"),
        DeviceOpenError::NoOpenCl(_) => {
            hint(Code::NotFound, "install the OpenCL of your GPU's vendor; for a CPU there is pocl (pocl-opencl-icd)")
        }
        DeviceOpenError::NotFound { .. } => hint(Code::NotFound, "`templar device list` shows the devices"),
        DeviceOpenError::Refused { .. } => hint(Code::Verification, on_cpu),
        DeviceOpenError::Unusable { .. }
        | DeviceOpenError::Compile { .. }
        | DeviceOpenError::TimeLimit { .. }
        | DeviceOpenError::Device(_) => hint(Code::Failed, on_cpu),
    }
}

fn work(error: &WorkError) -> Meaning {
    match error {
        WorkError::Inputs(error) => evidence(error),
        WorkError::Put(error) => put(error),
        WorkError::Home(error) => home(error),
        WorkError::Stopped => plain(Code::Interrupted),
        WorkError::NotAMiner(_) => hint(Code::Failed, "`templar register` applies for a slot"),
        WorkError::Train(TrainError::TooLarge { .. }) => hint(
            Code::Failed,
            "TEMPLAR_RECOMPUTE=1 recomputes activations; the size of micro-batches is a rule of the run; --device cpu has \
             the memory of the host",
        ),
        WorkError::Train(error) => match device_error(error) {
            Some(DeviceError::Differs { .. }) => hint(
                Code::Failed,
                "nothing of this work was signed; --device cpu computes it, and `templar device test` tests the device",
            ),
            Some(DeviceError::OutOfMemory { .. }) => hint(
                Code::Failed,
                "TEMPLAR_RECOMPUTE=1 trains in less memory with a third more work; --device cpu has the memory of the host",
            ),
            Some(_) => {
                hint(Code::Failed, "run it again; --device cpu goes on from the same snapshot, to the same result")
            }
            None => plain(Code::Failed),
        },
        WorkError::Threads(_) => plain(Code::Failed),
    }
}

/// The error of a device among the causes of an error.
fn device_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a DeviceError> {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.find_map(|cause| cause.downcast_ref())
}

fn submit(error: &SubmitError) -> Meaning {
    match error {
        SubmitError::Reject(_) => plain(Code::Verification),
        SubmitError::Journal(error) => journal(error),
        SubmitError::NoChain(_) => {
            hint(Code::NotFound, "copy the directory `chains` of this home back from its backup")
        }
        SubmitError::ChainEnds(_) => plain(Code::Failed),
        SubmitError::Silent(reason) => silence(reason),
    }
}

fn silence(reason: &Silence) -> Meaning {
    match reason {
        Silence::Elsewhere(_) => hint(
            Code::BadKey,
            "stop the other node; if none runs and this home is an older copy, `templar key reclaim` lets it sign again",
        ),
        Silence::Forgot(_) => hint(
            Code::Partial,
            "wait until that window is open; where the run cannot go on without this key, `templar key reclaim`",
        ),
        Silence::Listening => hint(Code::Partial, "`templar fetch @` or a node asks peers"),
    }
}

fn replica(error: &ReplicaError) -> Meaning {
    match error {
        ReplicaError::Memory(error) => home(error),
        ReplicaError::Run(error) => run(error),
        ReplicaError::Journal(error) => journal(error),
    }
}

fn driver(error: &DriverError) -> Meaning {
    match error {
        DriverError::Replica(error) => replica(error),
        DriverError::Submit(error) => submit(error),
        DriverError::Work(error) => work(error),
        DriverError::Home(error) => home(error),
        DriverError::Bind(error) => bind(error),
        DriverError::Metrics { .. } => hint(Code::Failed, "choose another address with --metrics"),
        DriverError::Inventory(error) => inventory(error),
        DriverError::Socket(error) => (Code::Failed, io(error).1),
        DriverError::Silent(reason) => silence(reason),
        DriverError::NotAValidator(_) => hint(Code::Failed, "`templar run show` lists the validators"),
    }
}

fn exchange(error: &ExchangeError) -> Meaning {
    match error {
        ExchangeError::Bind(error) => bind(error),
        ExchangeError::NoWindow { open, .. } => {
            hint(Code::NotFound, format!("window {open} is the latest; `templar status` says who is awaited"))
        }
        ExchangeError::NoPeers => hint(Code::NotFound, "name one with --from TICKET"),
        ExchangeError::Fetch(error) => fetch(error),
        ExchangeError::Run(error) => run(error),
        ExchangeError::Submit(error) => submit(error),
        ExchangeError::Work(error) => work(error),
        ExchangeError::Home(error) => home(error),
    }
}

fn demo(error: &DemoError) -> Meaning {
    match error {
        DemoError::Home(error) => home(error),
        DemoError::Access(error) => access(error),
        DemoError::Configure(error) => configure(error),
        DemoError::Run(error) => run(error),
        DemoError::Import(error) => import(error),
        DemoError::Deadline { .. } => {
            hint(Code::Partial, "run it again on a less busy machine; the result is the same")
        }
        DemoError::Interrupted => plain(Code::Interrupted),
        DemoError::TooFewMiners(_) => hint(Code::Usage, "leave --miners out, or give 2 or more"),
        DemoError::NoWindows => hint(Code::Usage, "leave --windows out, or give 1 or more"),
        DemoError::Child(_) | DemoError::Generate(_) => plain(Code::Failed),
    }
}

fn sample(error: &SampleError) -> Meaning {
    match error {
        SampleError::Page(error) => page(error),
        SampleError::Tokenizer(_) => plain(Code::Verification),
    }
}

fn page(error: &PageError) -> Meaning {
    match error {
        PageError::OutOfRange { .. } => plain(Code::NotFound),
        PageError::SequenceLength(_) => plain(Code::Usage),
        PageError::Read { source, .. } => read(source),
        _ => plain(Code::Verification),
    }
}

#[cfg(test)]
mod tests;

//! Exit codes, and what errors of the operating system and of the store mean.

use std::io::ErrorKind;
use std::process::ExitCode;

use templar_store::PutError;

/// The result of a command. The numbers are the exit codes of the program and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Code {
    /// The command is done.
    Ok = 0,
    /// The command failed for another reason.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The named object, run, window or file is not here.
    NotFound = 3,
    /// A verification failed: data differs from its hash, or a result from the record.
    Verification = 4,
    /// The command did a part; the rest waits for other members or for missing data.
    Partial = 5,
    /// There is no home in the directory.
    NoHome = 10,
    /// Another process holds the home.
    Locked = 11,
    /// The key of the home cannot be used.
    BadKey = 12,
    /// The user interrupted the command.
    Interrupted = 130,
    /// A bug in this program.
    Bug = 255,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An exit code, and a hint about what to do.
pub(super) type Meaning = (Code, Option<String>);

pub(super) fn plain(code: Code) -> Meaning {
    (code, None)
}

pub(super) fn hint(code: Code, hint: impl Into<String>) -> Meaning {
    (code, Some(hint.into()))
}

pub(super) const FULL: &str = "free some space on the disk and run the command again; no half-written files are left";

pub(super) fn io(error: &std::io::Error) -> Meaning {
    match error.kind() {
        ErrorKind::StorageFull => hint(Code::Failed, FULL),
        ErrorKind::PermissionDenied => hint(Code::Failed, "give this user the right to do that, or name another place"),
        ErrorKind::ReadOnlyFilesystem => hint(Code::Failed, "this disk can only be read; name a place on another one"),
        ErrorKind::NotFound => plain(Code::NotFound),
        _ => plain(Code::Failed),
    }
}

pub(super) fn put(error: &PutError) -> Meaning {
    match error {
        PutError::DiskFull => hint(Code::Failed, FULL),
        PutError::Io(source) | PutError::Input { source, .. } => io(source),
        PutError::NotFound { .. } => plain(Code::NotFound),
        PutError::Closed => plain(Code::Failed),
    }
}

/// Kept evaluations are statements beside a run, so nothing is lost with a damaged one.
pub(super) fn kept_document() -> Meaning {
    hint(Code::Partial, "remove the file; `templar eval` makes the document again")
}

//! The verdict of a check: its exit code, its colour, and the command that repairs what is damaged here.

use templar_home::access::AccessError;
use templar_query::audit::findings::AuditAnswer;
use templar_store::OpenError;

use crate::error::{Code, CommandError};
use crate::printer::{Printer, Tone};

/// The exit code of an answer.
pub(crate) fn code(answer: AuditAnswer) -> Code {
    match answer {
        AuditAnswer::Match => Code::Ok,
        AuditAnswer::Mismatch => Code::Verification,
        AuditAnswer::Unavailable => Code::Partial,
    }
}

/// An answer in colour.
pub(crate) fn word(printer: Printer, answer: AuditAnswer) -> String {
    let tone = match answer {
        AuditAnswer::Match => Tone::Good,
        AuditAnswer::Mismatch => Tone::Bad,
        AuditAnswer::Unavailable => Tone::Unsure,
    };
    printer.tone(tone, answer.name())
}

/// The same for a check of this home alone, in which nothing but damage makes an answer unavailable.
pub(crate) fn own_word(printer: Printer, answer: AuditAnswer) -> String {
    let word = word(printer, answer);
    if answer == AuditAnswer::Unavailable { format!("{word}: damaged here") } else { word }
}

/// The error of a home that does not open for a check. A store whose database is damaged makes its answer unavailable.
pub(crate) fn unopened(error: CommandError) -> CommandError {
    match error.cause() {
        Some(AccessError::Store(OpenError::Database { .. })) => error.with_code(Code::Partial),
        _ => error,
    }
}

//! Reports a panic as a bug of this program.
//!
//! Some libraries panic on malformed files, and their callers catch it. So the panic hook prints nothing; it
//! keeps the message. When a panic reaches the top of the program, the last message is printed with its place
//! in the source.

use std::panic;
use std::sync::{Mutex, PoisonError};

use serde_json::json;

use crate::error::Code;
use crate::printer::{Printer, Tone};

static LAST: Mutex<Option<String>> = Mutex::new(None);

/// Installs a panic hook that keeps the last message instead of printing each.
pub(crate) fn remember_panics() {
    panic::set_hook(Box::new(|info| {
        let said = info.payload_as_str().unwrap_or("no reason given");
        let place = info.location().map_or_else(String::new, |place| format!(" at {}:{}", place.file(), place.line()));
        tracing::debug!("panic{place}: {said}");
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{said}{place}"));
    }));
}

/// Prints the last panic, with a request to report it.
pub(crate) fn report(printer: &Printer) {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
    let hint = "this is a bug in templar; please report it with this message and the command";
    let value = json!({"type": "error", "error": last, "causes": [], "hint": hint, "code": Code::Bug as u8});
    printer.error(&value, format_args!("{}: {last}\nhint: {hint}", printer.error_tone(Tone::Bad, "bug")));
}

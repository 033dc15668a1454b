//! The commands that use the network, as processes that talk to one another on the loopback interface.
//!
//! Nothing here sleeps. A test reads the JSON lines of the processes that it started, and continues when they
//! report the expected event.

mod beside;
mod chains;
mod commitments;
mod doctor;
mod evidence;
mod key;
mod killed;
mod registration;
pub(super) mod running;
mod schedule;
mod tickets;

use serde_json::Value;

use super::home::{Home, Said};

/// The error that a command ended with, as `--json` prints it; there must be a hint.
fn error(said: &Said) -> Value {
    let line = said.err.lines().find(|line| line.contains("\"type\":\"error\"")).unwrap_or_else(|| panic!("{said:?}"));
    let error: Value = serde_json::from_str(line).unwrap();
    assert!(error["hint"].is_string(), "no hint: {error}");
    error
}

/// Runs a command that must end with this exit code and print a hint.
pub(super) fn refused<const N: usize>(home: &Home, code: i32, arguments: [&str; N]) -> Value {
    let error = error(&home.fails(code, arguments));
    assert_eq!(error["code"], code, "{error}");
    error
}

//! The hint of a command that cannot run beside a node.

use crate::error::{Code, CommandError};

/// Adds a hint to the error that a running node holds the home.
pub(super) fn beside_a_node(error: CommandError, hint: &str) -> CommandError {
    if error.code() == Code::Locked { error.hint(hint) } else { error }
}

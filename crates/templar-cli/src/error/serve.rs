//! The exit codes and hints of serving a model.

use templar_serve::{IssueError, KeysError, OpenError, ServerError};

use super::CommandError;
use super::meaning::{Code, Meaning, hint, io, plain};
use super::models::{chat_template, generate, open, tokenizer};

impl From<OpenError> for CommandError {
    fn from(error: OpenError) -> Self {
        let meaning = match &error {
            OpenError::Folder(error) => open(error),
            OpenError::Io { source, .. } => io(source),
            OpenError::Tokenizer(error) => tokenizer(error),
            OpenError::ChatTemplate(error) => chat_template(error),
            OpenError::Chat(_) => hint(Code::Failed, "--chat-template FILE names another template"),
            OpenError::Model(error) => generate(error),
        };
        meant(meaning, error)
    }
}

impl From<ServerError> for CommandError {
    fn from(error: ServerError) -> Self {
        let meaning = match &error {
            ServerError::Bind { .. } => hint(Code::Failed, "choose another address with --bind"),
            ServerError::Thread(_) => plain(Code::Failed),
        };
        meant(meaning, error)
    }
}

impl From<KeysError> for CommandError {
    fn from(error: KeysError) -> Self {
        let meaning = match &error {
            KeysError::Io { source, .. } => io(source),
            KeysError::Issuer(_) => hint(Code::Failed, "`templar key show` prints the public key of a home"),
            KeysError::Revoked(_) => hint(Code::Failed, "`templar key issue` printed the id with the key"),
            KeysError::Hash { .. } => hint(Code::Failed, "`printf %s \"$KEY\" | b3sum` prints the hash of a key"),
            KeysError::Parse { .. } | KeysError::None(_) => hint(
                Code::Failed,
                "each key has lines such as `[[key]]`, `name = \"alice\"` and `hash = \"...\"`; the guide lists all",
            ),
            KeysError::TooLong(_) | KeysError::Twice(..) => plain(Code::Failed),
        };
        meant(meaning, error)
    }
}

impl From<IssueError> for CommandError {
    fn from(error: IssueError) -> Self {
        let meaning = match &error {
            IssueError::NotTheHolder { .. } => hint(Code::BadKey, "--signer FILE names the holder's key"),
            IssueError::NotAKey | IssueError::TooMuch | IssueError::TooLong | IssueError::Holder(_) => {
                plain(Code::Failed)
            }
        };
        meant(meaning, error)
    }
}

fn meant((code, hint): Meaning, error: impl Into<anyhow::Error>) -> CommandError {
    CommandError { code, error: error.into(), hint }
}

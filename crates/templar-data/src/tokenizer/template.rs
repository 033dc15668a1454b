//! The chat template of a tokenizer: a Jinja text that joins the turns of a conversation, as Hugging Face saves it
//! beside `tokenizer.json`.
//!
//! [`render`] renders it.

mod python;
mod render;

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

pub(super) use render::ParsedTemplate;

/// The longest chat template that is read, in bytes. Long ones have 20 KB.
pub const MAX_CHAT_TEMPLATE_BYTES: usize = 1 << 20;

/// The longest `tokenizer_config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: usize = 16 << 20;

/// A chat template cannot be read or rendered.
#[derive(Debug, thiserror::Error)]
pub enum ChatTemplateError {
    /// A file cannot be read.
    #[error("{path} cannot be read")]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file is not what its name says, or is too long.
    #[error("{path} holds no chat template that can be read: {reason}")]
    Malformed {
        /// The path of the file.
        path: PathBuf,
        /// The rule that it breaks.
        reason: String,
    },
    /// The template does not parse, or refuses the conversation.
    #[error("the chat template does not render: {0}")]
    Render(String),
}

/// A chat template as text. It is parsed when it is used, so a template that this program cannot render can
/// still be kept and exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTemplate(String);

/// The names of the tokens that templates speak of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TemplateTokens {
    pub(super) bos: Option<String>,
    pub(super) eos: String,
}

impl ChatTemplate {
    /// A template from its text.
    pub fn new(source: impl Into<String>) -> Self {
        Self(source.into())
    }

    /// The template that lies beside a `tokenizer.json`: the file `chat_template.jinja`, or the entry
    /// `chat_template` of `tokenizer_config.json` (where there are several, the one called `default`).
    ///
    /// # Errors
    /// A file is there but cannot be read, or is malformed.
    pub fn beside(tokenizer: &Path) -> Result<Option<Self>, ChatTemplateError> {
        let path = tokenizer.with_file_name("chat_template.jinja");
        if let Some(text) = read(&path, MAX_CHAT_TEMPLATE_BYTES)? {
            return Ok(Some(Self(text)));
        }
        let path = tokenizer.with_file_name("tokenizer_config.json");
        let Some(text) = read(&path, MAX_CONFIG_BYTES)? else { return Ok(None) };
        let malformed = |reason: String| ChatTemplateError::Malformed { path: path.clone(), reason };
        let config: serde_json::Value = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        let template = match &config["chat_template"] {
            serde_json::Value::Array(named) => named
                .iter()
                .find(|entry| entry["name"] == "default")
                .map_or(&serde_json::Value::Null, |entry| &entry["template"]),
            one => one,
        };
        match template {
            serde_json::Value::Null => Ok(None),
            serde_json::Value::String(source) if source.len() <= MAX_CHAT_TEMPLATE_BYTES => {
                Ok(Some(Self(source.clone())))
            }
            _ => Err(malformed(format!("chat_template is not a text of at most {MAX_CHAT_TEMPLATE_BYTES} bytes"))),
        }
    }

    /// The template that a file holds.
    ///
    /// # Errors
    /// There is no such file, it cannot be read, or it is no text of at most [`MAX_CHAT_TEMPLATE_BYTES`].
    pub fn read(path: &Path) -> Result<Self, ChatTemplateError> {
        let missing = || ChatTemplateError::Io { path: path.to_owned(), source: ErrorKind::NotFound.into() };
        read(path, MAX_CHAT_TEMPLATE_BYTES)?.map(Self).ok_or_else(missing)
    }

    /// The text of the template.
    pub fn source(&self) -> &str {
        &self.0
    }
}

/// The text of a file of at most `limit` bytes, or `None` where there is none.
fn read(path: &Path, limit: usize) -> Result<Option<String>, ChatTemplateError> {
    let io = |source| ChatTemplateError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    let malformed = |reason: String| ChatTemplateError::Malformed { path: path.to_owned(), reason };
    if bytes.len() > limit {
        return Err(malformed(format!("longer than {limit} bytes")));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| malformed("not UTF-8".to_owned()))
}

//! The chat template of a tokenizer: a Jinja text that joins the turns of a conversation, as Hugging Face saves it
//! beside `tokenizer.json`.
//!
//! It is rendered as transformers renders it: the same options, Python's methods of strings, and `raise_exception`.
//! One function is left out: `strftime_now`, since tokens must not depend on the day. Templates that ask whether
//! it is there have a fixed date for that case.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind as TemplateErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;

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

    /// The text of the template.
    pub fn source(&self) -> &str {
        &self.0
    }

    /// The text of a conversation: `turns` is a list of objects with `role` and `content`.
    pub(super) fn render(
        &self,
        turns: &serde_json::Value,
        tokens: &TemplateTokens,
    ) -> Result<String, ChatTemplateError> {
        let failed = |error: Error| ChatTemplateError::Render(said(&error));
        let source = without_generation_marks(&self.0);
        let environment = environment().map_err(failed)?;
        let template = environment.template_from_str(&source).map_err(failed)?;
        let known = context! {
            messages => Value::from(Serde(turns)),
            add_generation_prompt => false,
            eos_token => tokens.eos.as_str(),
        };
        let variables = match &tokens.bos {
            Some(bos) => context! { bos_token => bos.as_str(), ..known },
            None => known,
        };
        template.render(variables).map_err(failed)
    }
}

/// The environment of transformers.
fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
        Err(Error::new(TemplateErrorKind::InvalidOperation, reason))
    });
    environment.add_filter("tojson", |value: Value, options: Kwargs| -> Result<String, Error> {
        let failed = |error: serde_json::Error| Error::new(TemplateErrorKind::BadSerialization, error.to_string());
        let indent: Option<usize> = options.get("indent")?;
        let mut text = Vec::new();
        match indent {
            Some(indent) => {
                let spaces = " ".repeat(indent.min(16));
                let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
                value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).map_err(failed)?;
            }
            None => {
                value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, PythonJson)).map_err(failed)?;
            }
        }
        String::from_utf8(text).map_err(|error| Error::new(TemplateErrorKind::BadSerialization, error.to_string()))
    });
    Ok(environment)
}

/// JSON as Python's `json.dumps` spaces it. Objects have their keys sorted, since the order in a file is not kept.
struct PythonJson;

impl serde_json::ser::Formatter for PythonJson {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// The template with its marks of generated text (`{% generation %}`) as comments. transformers knows these tags
/// and prints nothing for them.
fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (tag, after) = (&rest[start + 2..start + length], &rest[start + length + 2..]);
        text.push_str(&rest[..start]);
        let name = tag.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        if matches!(name, "generation" | "endgeneration") {
            let trim = |trimmed: bool| if trimmed { "-" } else { "" };
            text.push_str(&format!("{{#{} {}#}}", trim(tag.starts_with('-')), trim(tag.ends_with('-'))));
            // A tag takes the line end behind it away; a comment does as well.
        } else {
            text.push_str(&rest[start..start + length + 2]);
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

/// The error and its causes, in one line.
fn said(error: &Error) -> String {
    error.detail().map_or_else(
        || error.to_string(),
        |detail| match error.line() {
            Some(line) => format!("line {line}: {detail}"),
            None => detail.to_owned(),
        },
    )
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

//! Chat templates are rendered as transformers renders them: the same options, Python's methods of strings, its way to
//! print values, and `raise_exception`.
//!
//! One function is left out: `strftime_now`, since tokens must not depend on the day. Templates that ask whether it is
//! there have a fixed date for that case. A template is a program from a stranger, so what it may do is bounded.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value, context, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::{ChatTemplate, ChatTemplateError, TemplateTokens, python};

/// The name of the one template.
const NAME: &str = "chat template";

/// The instructions that one conversation may take. A turn takes some hundreds.
const MAX_INSTRUCTIONS: u64 = 10_000_000;

/// A template that was parsed.
#[derive(Debug)]
pub(in crate::tokenizer) struct ParsedTemplate(Environment<'static>);

impl ChatTemplate {
    /// # Errors
    /// [`ChatTemplateError::Render`] where it does not parse.
    pub(in crate::tokenizer) fn parsed(&self) -> Result<ParsedTemplate, ChatTemplateError> {
        let mut environment = environment().map_err(failed)?;
        // Jinja reads every line end as one of Unix.
        let source = self.source().replace("\r\n", "\n").replace('\r', "\n");
        environment.add_template_owned(NAME, without_generation_marks(&source)).map_err(failed)?;
        Ok(ParsedTemplate(environment))
    }
}

impl ParsedTemplate {
    /// The text of a conversation: `turns` is a list of objects with `role` and `content`. With `asks`, the
    /// beginning of the next turn of the assistant follows.
    ///
    /// # Errors
    /// [`ChatTemplateError::Render`] where the template refuses the conversation.
    pub(in crate::tokenizer) fn render(
        &self,
        turns: Value,
        tokens: &TemplateTokens,
        asks: bool,
    ) -> Result<String, ChatTemplateError> {
        let template = self.0.get_template(NAME).map_err(failed)?;
        let known = context! {
            messages => turns,
            tools => (),
            documents => (),
            add_generation_prompt => asks,
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
    environment.set_fuel(Some(MAX_INSTRUCTIONS));
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_formatter(|out, state, value| match python::printed(value) {
        Some(text) => out.write_str(&text).map_err(Error::from),
        None => escape_formatter(out, state, value),
    });
    environment.add_function("raise_exception", |reason: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, reason))
    });
    environment.add_filter("tojson", |value: Value, options: Kwargs| -> Result<String, Error> {
        let layout = python::Layout {
            indent: options.get("indent")?,
            separators: options.get("separators")?,
            ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
            sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        };
        options.assert_all_used()?;
        python::json(&value, &layout)
    });
    Ok(environment)
}

/// The template with its marks of generated text (`{% generation %}`) as comments. transformers knows these tags
/// and prints nothing for them.
fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // The end of `{%}` is no end of a tag that it begins.
        let Some(length) = rest[start + 2..].find("%}") else { break };
        let (tag, after) = (&rest[start + 2..start + 2 + length], &rest[start + length + 4..]);
        text.push_str(&rest[..start]);
        let name = tag.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim();
        if matches!(name, "generation" | "endgeneration") {
            let trim = |trimmed: bool| if trimmed { "-" } else { "" };
            text.push_str(&format!("{{#{} {}#}}", trim(tag.starts_with('-')), trim(tag.ends_with('-'))));
            // A tag takes the line end behind it away; a comment does as well.
        } else {
            text.push_str(&rest[start..start + length + 4]);
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

fn failed(error: Error) -> ChatTemplateError {
    ChatTemplateError::Render(said(&error))
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

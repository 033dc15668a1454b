//! The fields of a row, by name and type.

use serde_json::Value;

/// A row is not of the shape that its task needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}` {reason}")]
pub struct RowError {
    /// The path of the field.
    pub field: String,
    /// What is wrong with it, after "field `x`".
    pub reason: String,
}

/// A row of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a>(pub(super) &'a Value);

pub(super) fn wrong<T>(field: &str, reason: impl Into<String>) -> Result<T, RowError> {
    Err(RowError { field: field.to_owned(), reason: reason.into() })
}

impl<'a> Row<'a> {
    /// The value of a field. A dot leads into an object.
    fn value(self, field: &str) -> Result<&'a Value, RowError> {
        let mut value = self.0;
        for name in field.split('.') {
            let Some(object) = value.as_object() else { return wrong(field, "is missing: the row is no object here") };
            let Some(inner) = object.get(name) else {
                let names: Vec<&str> = object.keys().map(String::as_str).take(16).collect();
                return wrong(field, format!("is missing; there are {}", names.join(", ")));
            };
            value = inner;
        }
        Ok(value)
    }

    /// A text.
    pub(super) fn text(self, field: &str) -> Result<&'a str, RowError> {
        let value = self.value(field)?;
        value.as_str().map_or_else(|| wrong(field, format!("is {}, not a text", kind(value))), Ok)
    }

    /// A text that is not empty.
    pub(super) fn some_text(self, field: &str) -> Result<&'a str, RowError> {
        match self.text(field)? {
            "" => wrong(field, "is empty"),
            text => Ok(text),
        }
    }

    /// A list of texts.
    pub(super) fn texts(self, field: &str) -> Result<Vec<String>, RowError> {
        let value = self.value(field)?;
        let texts = value.as_array().map(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect());
        match texts {
            Some(Some(texts)) => Ok(texts),
            Some(None) => wrong(field, "has an element that is no text"),
            None => wrong(field, format!("is {}, not a list of texts", kind(value))),
        }
    }

    /// A label from 0 to `count` - 1. Some files have it as a text.
    pub(super) fn label(self, field: &str, count: usize) -> Result<usize, RowError> {
        let value = self.value(field)?;
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_u64(),
        };
        let label = number.and_then(|number| usize::try_from(number).ok()).filter(|&label| label < count);
        label.map_or_else(|| wrong(field, format!("is {}, not a label from 0 to {}", shown(value), count - 1)), Ok)
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value, or its kind where it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 40 { text } else { kind(value).to_owned() }
}

//! Values as Python prints them: `str` in the text of a template, and `json.dumps` in its filter `tojson`.
//!
//! Objects keep the order of their fields, as Python's dictionaries do.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Lists and objects inside of each other.
const MAX_DEPTH: usize = 128;

/// How `json.dumps` lays its text out.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The blanks of a level. Without it, everything is on one line.
    pub(super) indent: Option<usize>,
    /// The texts between elements, and between a name and its value.
    pub(super) separators: Option<Vec<String>>,
    /// Whether characters outside of ASCII become escapes.
    pub(super) ascii: bool,
    /// Whether fields are sorted by name.
    pub(super) sorted: bool,
}

/// The text of a value, where Python prints it in another way than minijinja.
pub(super) fn printed(value: &Value) -> Option<String> {
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Seq | ValueKind::Map => Some(repr(value, 0)),
        ValueKind::Number if !value.is_integer() => Some(repr(value, 0)),
        _ => None,
    }
}

/// Python's `repr`.
fn repr(value: &Value, depth: usize) -> String {
    if depth == MAX_DEPTH {
        return "...".to_owned();
    }
    let inner = |value: Value| repr(&value, depth + 1);
    match value.kind() {
        ValueKind::None | ValueKind::Undefined => "None".to_owned(),
        ValueKind::Bool => if value.is_true() { "True" } else { "False" }.to_owned(),
        ValueKind::Number => number(value),
        ValueKind::String => quoted(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            let elements: Vec<String> = value.try_iter().into_iter().flatten().map(inner).collect();
            format!("[{}]", elements.join(", "))
        }
        ValueKind::Map => {
            let fields = fields(value).into_iter().map(|(name, value)| format!("{}: {}", inner(name), inner(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        _ => value.to_string(),
    }
}

fn fields(object: &Value) -> Vec<(Value, Value)> {
    let names = object.try_iter().into_iter().flatten();
    names.map(|name| (name.clone(), object.get_item(&name).unwrap_or_default())).collect()
}

/// A number: integers as they are, others with the fewest digits that give them back.
fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => float(number),
        _ => value.to_string(),
    }
}

fn float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "nan"
        } else if number > 0.0 {
            "inf"
        } else {
            "-inf"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or(0) {
        // The plain form has a point, and no exponent.
        -4..=15 => format!("{number:?}"),
        exponent if exponent < 0 => format!("{digits}e-{:02}", exponent.unsigned_abs()),
        exponent => format!("{digits}e+{exponent:02}"),
    }
}

/// A text in quotes, as Python shows it.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            character if character == quote => quoted.extend(['\\', quote]),
            character if character.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(character))),
            character => quoted.push(character),
        }
    }
    quoted.push(quote);
    quoted
}

/// Python's `json.dumps`.
///
/// # Errors
/// The value nests too deep, or has something that JSON has not.
pub(super) fn json(value: &Value, layout: &Layout) -> Result<String, Error> {
    let mut text = String::new();
    Json { layout, text: &mut text }.value(value, 0)?;
    Ok(text)
}

struct Json<'a> {
    layout: &'a Layout,
    text: &'a mut String,
}

impl Json<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth == MAX_DEPTH {
            return Err(bad(format!("a value nests more than {MAX_DEPTH} deep")));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self.text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(match number(value).as_str() {
                "nan" => "NaN",
                "inf" => "Infinity",
                "-inf" => "-Infinity",
                number => number,
            }),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let elements: Vec<Value> = value.try_iter()?.collect();
                self.list(['[', ']'], &elements, depth, |json, element| json.value(element, depth + 1))?;
            }
            ValueKind::Map => {
                let mut fields = fields(value);
                if self.layout.sorted {
                    fields.sort_by_key(|(name, _)| name.to_string());
                }
                self.list(['{', '}'], &fields, depth, |json, (name, value)| {
                    json.string(&name.to_string())?;
                    let between = json.separator(1, ": ").to_owned();
                    json.text.push_str(&between);
                    json.value(value, depth + 1)
                })?;
            }
            other => return Err(bad(format!("JSON has no {other}"))),
        }
        Ok(())
    }

    fn list<T>(
        &mut self,
        brackets: [char; 2],
        elements: &[T],
        depth: usize,
        mut element: impl FnMut(&mut Self, &T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.text.push(brackets[0]);
        for (index, one) in elements.iter().enumerate() {
            if index > 0 {
                let between = self.separator(0, if self.layout.indent.is_some() { "," } else { ", " }).to_owned();
                self.text.push_str(&between);
            }
            self.line(depth + 1);
            element(self, one)?;
        }
        if !elements.is_empty() {
            self.line(depth);
        }
        self.text.push(brackets[1]);
        Ok(())
    }

    /// Begins a line, where there are lines.
    fn line(&mut self, depth: usize) {
        if let Some(indent) = self.layout.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent.min(16) * depth));
        }
    }

    fn separator<'b>(&'b self, index: usize, usual: &'b str) -> &'b str {
        self.layout.separators.as_ref().and_then(|given| given.get(index)).map_or(usual, String::as_str)
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let escaped = serde_json::to_string(text).map_err(|error| bad(error.to_string()))?;
        for character in escaped.chars() {
            if character.is_ascii() || !self.layout.ascii {
                self.text.push(character);
            } else {
                let mut units = [0; 2];
                let units = character.encode_utf16(&mut units);
                units.iter().for_each(|unit| self.text.push_str(&format!("\\u{unit:04x}")));
            }
        }
        Ok(())
    }
}

fn bad(reason: String) -> Error {
    Error::new(ErrorKind::BadSerialization, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers as Python 3.11 prints them.
    #[test]
    fn numbers_have_the_digits_of_python() {
        let cases = [
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (-0.0, "-0.0"),
        ];
        for (value, expected) in cases {
            assert_eq!(float(value), expected);
        }
    }

    #[test]
    fn texts_are_quoted_as_python_quotes_them() {
        for (text, expected) in
            [("a", "'a'"), ("it's", "\"it's\""), ("'\"", "'\\'\"'"), ("a\n\t\\\u{1}é", "'a\\n\\t\\\\\\x01é'")]
        {
            assert_eq!(quoted(text), expected);
        }
    }
}

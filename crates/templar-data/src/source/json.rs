//! One field out of a JSON object, without a look at the others.
//!
//! The field is named by a path: a dot leads into an object. A name that has a dot itself is taken first, so `doc.text`
//! finds `{"doc.text": ...}` and `{"doc": {"text": ...}}`. The rest is passed over unread, so nothing in
//! it can spoil the row.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::document::Found;
use super::fault::RowFault;
use super::mend::mend;
use super::turns::TurnValue;
use crate::words;

/// Columns that an error lists.
pub(super) const LISTED: usize = 32;

/// A field that is looked for.
pub(super) struct Field {
    path: String,
}

impl Field {
    pub(super) fn new(path: &str) -> Self {
        Self { path: path.to_owned() }
    }

    /// Reads the field out of one JSON object. None where the object has no such field.
    pub(super) fn read(&self, json: &[u8]) -> Result<Option<Found>, RowFault> {
        let error = match parse(json, Object { path: &self.path }) {
            Ok(value) => return found(value, false),
            Err(error) => error,
        };
        if let Some(mended) = mend(json)
            && let Ok(value) = parse(&mended.json, Object { path: &self.path })
        {
            return found(value, mended.halves);
        }
        Err(match std::str::from_utf8(json) {
            Ok(_) => RowFault::BadJson(words::json(&error)),
            Err(_) => RowFault::NotUtf8,
        })
    }

    /// The fields of an object with their types, for an error.
    pub(super) fn columns(json: &[u8]) -> Vec<String> {
        let mended = mend(json).map(|mended| mended.json);
        let mut columns = Vec::new();
        if let Ok(Value::Object(fields)) = serde_json::from_slice(mended.as_deref().unwrap_or(json)) {
            list("", &fields, &mut columns);
        }
        columns
    }
}

fn found(value: Option<Leaf<'_>>, halves: bool) -> Result<Option<Found>, RowFault> {
    Ok(match value {
        None => None,
        Some(Leaf::Null) => Some(Found::Nothing),
        Some(Leaf::Text(text)) => {
            let mended = halves && text.contains('\u{fffd}');
            Some(Found::Text { text: text.into_owned(), mended })
        }
        Some(Leaf::Turns(turns)) => Some(Found::Turns(turns)),
        Some(Leaf::Other(kind)) => return Err(RowFault::NotText(kind.to_owned())),
    })
}

fn list(prefix: &str, fields: &serde_json::Map<String, Value>, columns: &mut Vec<String>) {
    for (name, value) in fields {
        if columns.len() == LISTED {
            return;
        }
        let name = format!("{prefix}{name}");
        match value {
            Value::Object(fields) if prefix.len() < 64 => list(&format!("{name}."), fields, columns),
            value => columns.push(format!("{name} ({})", kind(value))),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

fn parse<'de>(json: &'de [u8], seed: Object<'_>) -> serde_json::Result<Option<Leaf<'de>>> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The value at the end of the path.
enum Leaf<'de> {
    Text(Cow<'de, str>),
    /// A list, which may be the turns of a conversation.
    Turns(TurnValue),
    Null,
    Other(&'static str),
}

/// An object in which the rest of the path leads to a leaf.
struct Object<'a> {
    path: &'a str,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Option<Leaf<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Option<Leaf<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        // Of several ways to follow the path, that of the longest name counts.
        let (mut best, mut length) = (None, 0);
        while let Some(step) = map.next_key_seed(Key { path: self.path })? {
            let (name_length, leaf) = match step {
                Step::Aside => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                Step::Leaf => (self.path.len(), Some(map.next_value_seed(AtLeaf)?)),
                Step::Into(name) => (name, map.next_value_seed(Inner(Object { path: &self.path[name + 1..] }))?),
            };
            if leaf.is_some() && name_length == length {
                return Err(A::Error::custom(format!("the field `{}` stands there twice", &self.path[..length])));
            }
            if leaf.is_some() && name_length > length {
                (best, length) = (leaf, name_length);
            }
        }
        Ok(best)
    }
}

/// Where a key leads.
enum Step {
    Leaf,
    /// Into an object, by a name of this many bytes.
    Into(usize),
    Aside,
}

struct Key<'a> {
    path: &'a str,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Step;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Step, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Step;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Step, E> {
        Ok(match self.path.strip_prefix(name) {
            Some("") => Step::Leaf,
            Some(rest) if rest.starts_with('.') => Step::Into(name.len()),
            _ => Step::Aside,
        })
    }
}

/// A value that ought to be an object. Where it is another, the path leads nowhere.
struct Inner<'a>(Object<'a>);

macro_rules! scalars {
    ($value:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($value("true or false"))
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($value("a number"))
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($value("a number"))
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($value("a number"))
        }
    };
}

impl<'de> DeserializeSeed<'de> for Inner<'_> {
    type Value = Option<Leaf<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inner<'_> {
    type Value = Option<Leaf<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.0.visit_map(map)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Some(Leaf::Null))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    scalars!(|_| None);
}

/// The value at the end of the path.
struct AtLeaf;

impl<'de> DeserializeSeed<'de> for AtLeaf {
    type Value = Leaf<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AtLeaf {
    type Value = Leaf<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Leaf::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Leaf::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Leaf::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Leaf::Other("an object"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut turns = Vec::new();
        while let Some(turn) = list.next_element()? {
            turns.push(turn);
        }
        Ok(Leaf::Turns(TurnValue::List(turns)))
    }

    scalars!(Leaf::Other);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<Option<Found>, RowFault> {
        Ok(Some(Found::Text { text: text.to_owned(), mended: false }))
    }

    fn read(path: &str, json: &str) -> Result<Option<Found>, RowFault> {
        Field::new(path).read(json.as_bytes())
    }

    #[test]
    fn a_path_leads_into_objects_and_names_with_dots_come_first() {
        assert_eq!(read("text", r#"{"id":1,"text":"a\nb","x":{"text":"c"}}"#), text("a\nb"));
        assert_eq!(read("doc.text", r#"{"doc":{"url":"u","text":"a"},"text":"b"}"#), text("a"));
        assert_eq!(read("a.b.c", r#"{"a":{"b.c":"flat","b":{"c":"deep"}}}"#), text("flat"));
        assert_eq!(read("doc.text", r#"{"doc.text":"flat","doc":{"text":"deep"}}"#), text("flat"));
        assert_eq!(read("doc.text", r#"{"doc":{"text":"deep"},"doc.text":"flat"}"#), text("flat"));
        assert_eq!(read("doc.text", r#"{"doc":"a string"}"#), Ok(None));
        assert_eq!(read("doc.text", r#"{"doc":[1,{"text":"a"}]}"#), Ok(None));
        assert_eq!(read("doc.text", r#"{"doc":null}"#), Ok(Some(Found::Nothing)));
        assert_eq!(read("text", r#"{"text":null}"#), Ok(Some(Found::Nothing)));
        assert_eq!(read("text", r#"{"texts":"a"}"#), Ok(None));
    }

    #[test]
    fn a_field_that_is_not_read_cannot_spoil_the_row() {
        assert_eq!(read("text", r#"{"score":NaN,"text":"a","x":[-Infinity]}"#), text("a"));
        assert_eq!(read("text", r#"{"title":"half \ud83d","text":"a"}"#), text("a"));
        let deep = format!("{{\"x\":{}{},\"text\":\"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read("text", &deep), text("a"));
        let foreign = Field::new("text").read(b"{\"x\":\"\xff\",\"text\":\"a\"}");
        assert_eq!(foreign, text("a"));
    }

    #[test]
    fn a_half_character_in_the_text_is_mended() {
        let mended = Found::Text { text: "a\u{fffd}b".to_owned(), mended: true };
        assert_eq!(read("text", r#"{"text":"a\ud83db"}"#), Ok(Some(mended)));
        assert_eq!(read("text", r#"{"text":NaN}"#), Ok(Some(Found::Nothing)));
    }

    #[test]
    fn what_is_no_text_is_named() {
        let kinds = [("5", "a number"), ("-1.5", "a number"), ("true", "true or false")];
        for (json, kind) in kinds.into_iter().chain([("{\"a\":1}", "an object")]) {
            let found = read("text", &format!("{{\"text\":{json}}}"));
            assert_eq!(found, Err(RowFault::NotText(kind.to_owned())), "{json}");
        }
        assert_eq!(Field::new("text").read(b"{\"text\":\"\xff\"}"), Err(RowFault::NotUtf8));
        for line in [r#"["text"]"#, "\"text\"", "5", "null", "{", r#"{"text":"a"} x"#, r#"{"text":"a","text":"b"}"#] {
            assert!(matches!(read("text", line), Err(RowFault::BadJson(_))), "{line}");
        }
    }

    #[test]
    fn columns_are_listed_with_their_types() {
        let found = Field::columns(br#"{"id":1,"doc":{"url":"u","n":NaN},"tags":[]}"#);
        assert_eq!(found, ["doc.n (null)", "doc.url (text)", "id (number)", "tags (list)"]);
        assert!(Field::columns(b"[1]").is_empty());
    }
}

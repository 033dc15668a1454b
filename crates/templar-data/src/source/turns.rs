//! The turns of a conversation, as values of any shape.
//!
//! A turn is an object with a role and a content, and often more: tools that were called, a name. Chat templates look
//! at all of it, and at the order of the fields. So a turn is kept as it stands in the file.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::fault::RowFault;

/// A value inside of a turn. Objects keep the order of their fields.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TurnValue {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<TurnValue>),
    Object(Vec<(String, TurnValue)>),
}

/// The names that other programs have for role and content, and for the roles.
const ROLE: [&str; 2] = ["role", "from"];
const CONTENT: [&str; 2] = ["content", "value"];
const ROLES: [(&str, &str); 2] = [("human", "user"), ("gpt", "assistant")];

impl TurnValue {
    /// The field of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => fields.iter().find(|(field, _)| field == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The bytes of text in it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::List(values) => values.iter().map(Self::bytes).sum(),
            Self::Object(fields) => fields.iter().map(|(name, value)| name.len() + value.bytes()).sum(),
            _ => 8,
        }
    }

    /// The turns of a conversation, each with a role and a content. Turns of ShareGPT's kind, with `from` and `value`,
    /// get these names.
    ///
    /// # Errors
    /// [`RowFault::BadTurns`] where the value is no list of such turns.
    pub(crate) fn into_turns(self) -> Result<Vec<Self>, RowFault> {
        let Self::List(turns) = self else { return Err(bad("no list")) };
        turns.into_iter().map(turn).collect()
    }
}

fn turn(turn: TurnValue) -> Result<TurnValue, RowFault> {
    let mut fields = match turn {
        TurnValue::Object(fields) => fields,
        TurnValue::Text(_) => return Err(bad("the list holds texts, where turns have a role and a content")),
        _ => return Err(bad("a turn is no object")),
    };
    for names in [ROLE, CONTENT] {
        let has = |fields: &[(String, TurnValue)], name: &str| fields.iter().any(|(field, _)| field == name);
        if has(&fields, names[0]) {
            continue;
        }
        let other = fields.iter_mut().find(|(field, _)| field == names[1]);
        let (name, value) = other.ok_or_else(|| bad(&format!("a turn has no `{}`", names[0])))?;
        names[0].clone_into(name);
        if let TurnValue::Text(role) = value
            && let Some((_, known)) = ROLES.iter().find(|(other, _)| names == ROLE && other == role)
        {
            (*known).clone_into(role);
        }
    }
    Ok(TurnValue::Object(fields))
}

/// A conversation in the plain form: `role: content` for each turn, with a blank line between turns. A turn without
/// content is left out.
///
/// # Errors
/// [`RowFault::BadTurns`] where a content is no text.
pub(crate) fn plain(turns: &[TurnValue]) -> Result<String, RowFault> {
    let mut text = String::new();
    for turn in turns {
        let Some(TurnValue::Text(role)) = turn.get("role") else { return Err(bad("a role is no text")) };
        let content = match turn.get("content") {
            Some(TurnValue::Text(content)) => content.clone(),
            Some(TurnValue::Null) => continue,
            Some(TurnValue::List(parts)) => {
                let parts: Option<Vec<&str>> = parts.iter().map(part).collect();
                parts.ok_or_else(|| bad("a part of a turn is no text"))?.concat()
            }
            _ => return Err(bad("a content is no text")),
        };
        let gap = if text.is_empty() { "" } else { "\n\n" };
        let _ = write!(text, "{gap}{role}: {content}");
    }
    Ok(text)
}

fn part(part: &TurnValue) -> Option<&str> {
    match (part, part.get("text")) {
        (TurnValue::Text(text), _) | (_, Some(TurnValue::Text(text))) => Some(text),
        _ => None,
    }
}

pub(super) fn bad(reason: &str) -> RowFault {
    RowFault::BadTurns(reason.to_owned())
}

impl<'de> Deserialize<'de> for TurnValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

impl Serialize for TurnValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_none(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Number(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(values) => serializer.collect_seq(values),
            Self::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
                map.end()
            }
        }
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = TurnValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<TurnValue, E> {
        Ok(TurnValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<TurnValue, E> {
        Ok(TurnValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<TurnValue, E> {
        Ok(TurnValue::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<TurnValue, E> {
        Ok(i64::try_from(value).map_or(TurnValue::Number(value as f64), TurnValue::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<TurnValue, E> {
        Ok(TurnValue::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<TurnValue, E> {
        Ok(TurnValue::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<TurnValue, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(TurnValue::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TurnValue, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(TurnValue::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(json: &str) -> Result<Vec<TurnValue>, RowFault> {
        serde_json::from_str::<TurnValue>(json).unwrap().into_turns()
    }

    #[test]
    fn turns_of_both_kinds_have_roles_and_contents() {
        let ours = turns(r#"[{"role":"user","content":"a"},{"role":"assistant","content":null,"x":[1,2.5,true]}]"#);
        let ours = ours.unwrap();
        assert_eq!(
            ours[1].get("x"),
            Some(&TurnValue::List(vec![TurnValue::Integer(1), TurnValue::Number(2.5), TurnValue::Bool(true),]))
        );
        let theirs =
            turns(r#"[{"from":"human","value":"human"},{"from":"gpt","value":"b"},{"from":"tool","value":""}]"#);
        let expected =
            r#"[{"role":"user","content":"human"},{"role":"assistant","content":"b"},{"role":"tool","content":""}]"#;
        assert_eq!(theirs, turns(expected));
    }

    #[test]
    fn the_plain_form_names_the_roles() {
        let json = r#"[{"role":"user","content":"a\nb"},{"role":"assistant","content":null},
            {"role":"assistant","content":[{"type":"text","text":"c"},"d"]}]"#;
        assert_eq!(plain(&turns(json).unwrap()).unwrap(), "user: a\nb\n\nassistant: cd");
        for content in ["5", r#"[{"type":"image"}]"#, "{}"] {
            let turns = turns(&format!(r#"[{{"role":"user","content":{content}}}]"#)).unwrap();
            assert!(matches!(plain(&turns), Err(RowFault::BadTurns(_))), "{content}");
        }
    }

    #[test]
    fn what_is_no_conversation_is_named() {
        for (json, said) in [
            ("{}", "no list"),
            ("[1]", "no object"),
            (r#"["a"]"#, "holds texts"),
            (r#"[{"role":"a"}]"#, "no `content`"),
        ] {
            let error = turns(json).unwrap_err().to_string();
            assert!(error.contains(said), "{json}: {error}");
        }
    }
}

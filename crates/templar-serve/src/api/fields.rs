//! The fields of a request, read with an error that names the field. `null` is the same as an absent field, and fields
//! that nobody knows are passed by, because clients send many.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::ApiError;

/// The object of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// The fields of a body.
    pub(super) fn of(body: &'a Value) -> Result<Self, ApiError> {
        body.as_object().map(Self).ok_or_else(|| ApiError::malformed("the body is not a JSON object"))
    }

    /// A field that is there.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A number without a fraction.
    pub(super) fn whole(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ApiError> {
        // Some clients write 16.0.
        let read = |value: &Value| {
            value.as_u64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0 && *f >= 0.0).map(|f| f as u64))
        };
        self.bounded(name, "a whole number", range, read)
    }

    /// A number.
    pub(super) fn number(&self, name: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        self.bounded(name, "a number", range, Value::as_f64)
    }

    /// Yes or no. Absent is no.
    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.value(name) {
            None => Ok(false),
            Some(value) => value.as_bool().ok_or_else(|| ApiError::field(name, format!("{name} is not true or false"))),
        }
    }

    /// A text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&'a str>, ApiError> {
        let wrong = || ApiError::field(name, format!("{name} is not a text"));
        self.value(name).map(|value| value.as_str().ok_or_else(wrong)).transpose()
    }

    /// Refuses a field unless it has a value that asks for nothing.
    pub(super) fn neutral(&self, name: &str, is_neutral: impl Fn(&Value) -> bool) -> Result<(), ApiError> {
        match self.value(name) {
            Some(value) if !is_neutral(value) => {
                Err(ApiError::unsupported(name, format!("{name} is not supported by this server")))
            }
            _ => Ok(()),
        }
    }

    fn bounded<T: PartialOrd + Display>(
        &self,
        name: &str,
        kind: &str,
        range: RangeInclusive<T>,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match read(value).filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = (range.start(), range.end());
                Err(ApiError::field(name, format!("{name} is not {kind} from {least} to {most}")))
            }
        }
    }
}

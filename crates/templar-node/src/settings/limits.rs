//! Limits on peers as a person writes them: a name and a value for each bound, such as `upload=2MB`.
//!
//! | name | bounds | default |
//! |---|---|---|
//! | `upload`, `download` | bytes of blobs a second, over all peers; `none`: no bound | `none` |
//! | `connections`, `connections-per-peer` | connections that peers made, in each protocol | 512, 8 |
//! | `requests`, `requests-per-peer` | requests for blobs that are served at the same time | 512, 32 |
//! | `request-bytes` | the longest request for blobs | 64KiB |
//! | `memory`, `memory-per-peer` | what may wait on the connections that peers made, in each protocol | 1GiB, 64MiB |
//!
//! Numbers of bytes may end in kB (or KB), MB, GB, KiB, MiB or GiB. Invariant: no value is accepted with which a node
//! would serve nobody, or its memory would be unbounded.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use templar_net::{ConnectionLimits, NetLimits};

/// The bounds that can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Bound {
    Upload,
    Download,
    Connections,
    ConnectionsPerPeer,
    Requests,
    RequestsPerPeer,
    RequestBytes,
    Memory,
    MemoryPerPeer,
}

/// The unit of a bound, which decides how its value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Bytes a second, or `none`.
    Rate,
    Bytes,
    Number,
}

impl Bound {
    const ALL: [Self; 9] = [
        Self::Upload,
        Self::Download,
        Self::Connections,
        Self::ConnectionsPerPeer,
        Self::Requests,
        Self::RequestsPerPeer,
        Self::RequestBytes,
        Self::Memory,
        Self::MemoryPerPeer,
    ];

    /// The name, the unit, and the least and greatest value of the bound.
    fn rule(self) -> (&'static str, Unit, u64, u64) {
        let connection = u64::from(ConnectionLimits::default().memory);
        match self {
            Self::Upload => ("upload", Unit::Rate, 1, u64::MAX),
            Self::Download => ("download", Unit::Rate, 1, u64::MAX),
            Self::Connections => ("connections", Unit::Number, 1, 65_536),
            Self::ConnectionsPerPeer => ("connections-per-peer", Unit::Number, 1, 65_536),
            Self::Requests => ("requests", Unit::Number, 1, 65_536),
            Self::RequestsPerPeer => ("requests-per-peer", Unit::Number, 1, 65_536),
            // An honest request of several ranges fits.
            Self::RequestBytes => ("request-bytes", Unit::Bytes, 1 << 10, 16 << 20),
            // At least one connection fits.
            Self::Memory => ("memory", Unit::Bytes, connection, 1 << 40),
            Self::MemoryPerPeer => ("memory-per-peer", Unit::Bytes, connection, 1 << 40),
        }
    }

    fn apply(self, value: Option<u64>, limits: &mut NetLimits) {
        let NetLimits { connections, serving, fetching, .. } = limits;
        let set = |limit: &mut usize| *limit = value.and_then(|value| usize::try_from(value).ok()).unwrap_or(*limit);
        match self {
            Self::Upload => serving.bytes_per_second = value,
            Self::Download => fetching.bytes_per_second = value,
            Self::Connections => set(&mut connections.max_inbound),
            Self::ConnectionsPerPeer => set(&mut connections.max_inbound_per_peer),
            Self::Requests => set(&mut serving.max_requests),
            Self::RequestsPerPeer => set(&mut serving.max_requests_per_peer),
            Self::RequestBytes => {
                let bytes = value.and_then(|bytes| u32::try_from(bytes).ok());
                serving.max_request_bytes = bytes.unwrap_or(serving.max_request_bytes);
            }
            Self::Memory => connections.max_memory = value.unwrap_or(connections.max_memory),
            Self::MemoryPerPeer => connections.max_memory_per_peer = value.unwrap_or(connections.max_memory_per_peer),
        }
    }
}

/// A text is no bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// It has no value, or its name is unknown.
    #[error("{text:?} bounds nothing: expected NAME=VALUE, with one of the names {}", names().join(", "))]
    Name {
        /// The beginning of the text.
        text: String,
    },
    /// The value is no number of this unit.
    #[error("{name} cannot be {text:?}: expected {expected}")]
    Value {
        /// The name of the bound.
        name: &'static str,
        /// The beginning of the value.
        text: String,
        /// A description of valid values.
        expected: &'static str,
    },
    /// The value is outside the range of the bound.
    #[error("{name} cannot be {value}: expected {least} to {most}")]
    Range {
        /// The name of the bound.
        name: &'static str,
        /// The value that was given.
        value: u64,
        /// The least valid value.
        least: u64,
        /// The greatest valid value.
        most: u64,
    },
}

fn names() -> Vec<&'static str> {
    Bound::ALL.iter().map(|bound| bound.rule().0).collect()
}

fn beginning(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The bounds that a person has set, in a file, the environment or the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitSettings {
    said: BTreeMap<Bound, Option<u64>>,
}

impl LimitSettings {
    fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
        let found = Bound::ALL.into_iter().find(|bound| bound.rule().0 == name);
        let bound = found.ok_or_else(|| LimitError::Name { text: beginning(name) })?;
        let (name, unit, least, most) = bound.rule();
        if unit == Unit::Rate && value == "none" {
            self.said.insert(bound, None);
            return Ok(());
        }
        let expected = match unit {
            Unit::Rate => "none, or bytes a second such as 500kB or 2MB",
            Unit::Bytes => "bytes such as 64KiB or 256MiB",
            Unit::Number => "a number",
        };
        let parsed = if unit == Unit::Number { value.parse().ok() } else { bytes(value) };
        let value = parsed.ok_or_else(|| LimitError::Value { name, text: beginning(value), expected })?;
        if !(least..=most).contains(&value) {
            return Err(LimitError::Range { name, value, least, most });
        }
        self.said.insert(bound, Some(value));
        Ok(())
    }

    /// These bounds, and where they are silent those of `weaker`.
    #[must_use]
    pub fn or(mut self, weaker: Self) -> Self {
        for (bound, value) in weaker.said {
            self.said.entry(bound).or_insert(value);
        }
        self
    }

    /// The limits of a node: the set bounds, and the defaults for all others.
    pub fn limits(&self) -> NetLimits {
        let mut limits = NetLimits::default();
        self.said.iter().for_each(|(bound, value)| bound.apply(*value, &mut limits));
        limits
    }
}

/// Parses a number of bytes with its unit.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let unit: u64 = match text[digits..].trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}

/// Parses bounds separated by commas: `upload=2MB,connections=64`.
impl FromStr for LimitSettings {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut limits = Self::default();
        for one in text.split(',') {
            let (name, value) = one.split_once('=').ok_or_else(|| LimitError::Name { text: beginning(one) })?;
            limits.set(name.trim(), value.trim())?;
        }
        Ok(limits)
    }
}

/// A value in the file: a number or text.
#[derive(Deserialize)]
#[serde(untagged)]
enum LimitValue {
    Number(u64),
    Text(String),
}

impl<'de> Deserialize<'de> for LimitSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut limits = Self::default();
        for (name, value) in BTreeMap::<String, LimitValue>::deserialize(deserializer)? {
            let text = match value {
                LimitValue::Number(number) => number.to_string(),
                LimitValue::Text(text) => text,
            };
            limits.set(&name, &text).map_err(D::Error::custom)?;
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> NetLimits {
        text.parse::<LimitSettings>().unwrap().limits()
    }

    #[test]
    fn each_bound_reaches_the_network() {
        assert_eq!(limits("upload=500KB").serving.bytes_per_second, Some(500_000));
        let all = "upload=2MB,download=500kB,connections=3,connections-per-peer=2,requests=5,requests-per-peer=4,\
                   request-bytes=2KiB,memory=64MiB,memory-per-peer=16MiB";
        let found = limits(all);
        let rates = (found.serving.bytes_per_second, found.fetching.bytes_per_second);
        assert_eq!(rates, (Some(2_000_000), Some(500_000)));
        let (connections, serving) = (found.connections, found.serving);
        assert_eq!((connections.max_inbound, connections.max_inbound_per_peer), (3, 2));
        assert_eq!((serving.max_requests, serving.max_requests_per_peer, serving.max_request_bytes), (5, 4, 2048));
        assert_eq!((connections.max_memory, connections.max_memory_per_peer), (64 << 20, 16 << 20));
        // All of them were named, and each in the table of this file's documentation.
        assert_eq!(all.split(',').count(), Bound::ALL.len());
        let table = include_str!("limits.rs").split("\n\n").next().unwrap();
        for name in names() {
            assert!(table.contains(&format!("`{name}`")), "{name}");
        }
        let (said, default) =
            (format!("{:?}", LimitSettings::default().limits()), format!("{:?}", NetLimits::default()));
        assert_eq!(said, default);
    }

    #[test]
    fn the_stronger_word_counts() {
        let parse = |text: &str| text.parse::<LimitSettings>().unwrap();
        let both = parse("upload=none,connections=7").or(parse("upload=1MB,requests=9")).limits();
        let (connections, serving) = (both.connections, both.serving);
        assert_eq!((serving.bytes_per_second, connections.max_inbound, serving.max_requests), (None, 7, 9));
        assert_eq!(limits("connections=7,connections=8").connections.max_inbound, 8);
    }

    #[test]
    fn what_bounds_nothing_is_refused() {
        for text in ["", "upload", "speed=1", "Upload=1", "upload=1,"] {
            assert!(matches!(text.parse::<LimitSettings>(), Err(LimitError::Name { .. })), "{text}");
        }
        for text in
            ["upload=", "upload=-1", "upload=1mb", "upload=1.5MB", "connections=none", "memory=none", "requests=2kB"]
        {
            assert!(matches!(text.parse::<LimitSettings>(), Err(LimitError::Value { .. })), "{text}");
        }
        let huge = format!("upload={}GB", u64::MAX);
        assert!(matches!(huge.parse::<LimitSettings>(), Err(LimitError::Value { .. })));
        for text in
            ["upload=0", "connections=0", "memory=1MiB", "memory-per-peer=1", "request-bytes=100", "requests=70000"]
        {
            assert!(matches!(text.parse::<LimitSettings>(), Err(LimitError::Range { .. })), "{text}");
        }
    }
}

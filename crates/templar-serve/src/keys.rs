//! Keys that clients show, and what each may use.
//!
//! A file lists them, with the BLAKE3 hash of each key and never the key itself, which must be long and random:
//!
//! ```toml
//! [[key]]
//! name = "alice"
//! hash = "7d3c…"              # printf %s "$KEY" | b3sum
//! requests_per_minute = 60    # without a number there is no limit
//! tokens_per_day = 1000000
//! ```
//!
//! A quota is a bucket that fills evenly. Requests are taken from it before they are computed, tokens afterwards, when
//! their number is known; a bucket can be overdrawn by one request, and fills from there.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Deserialize;
use templar_data::words;

use crate::ApiError;

/// The longest file of keys, in bytes.
const MAX_BYTES: u64 = 4 << 20;
const MINUTE_MS: f64 = 60_000.0;
const DAY_MS: f64 = 86_400_000.0;

/// A file of keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file is longer than any that is read.
    #[error("{} has more than {MAX_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
    /// The file is no list of keys.
    #[error("{} is no list of keys: {reason}", path.display())]
    Parse {
        /// The path of the file.
        path: PathBuf,
        /// The fault, with its line and column.
        reason: String,
    },
    /// A key is listed that nobody can show.
    #[error("the hash of the key {name:?} is not 64 hexadecimal digits")]
    Hash {
        /// The name of the key.
        name: String,
    },
    /// One key is listed twice.
    #[error("the keys {0:?} and {1:?} have one hash")]
    Twice(String, String),
    /// Nobody could use the server.
    #[error("{} lists no key", .0.display())]
    None(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    hash: String,
    requests_per_minute: Option<u32>,
    tokens_per_day: Option<u64>,
}

/// The keys of a server.
#[derive(Debug)]
pub struct ApiKeys(Vec<Key>);

#[derive(Debug)]
struct Key {
    name: String,
    hash: blake3::Hash,
    requests: Option<Mutex<Bucket>>,
    tokens: Option<Mutex<Bucket>>,
}

/// A quota that fills evenly.
#[derive(Debug)]
struct Bucket {
    most: f64,
    level: f64,
    /// Milliseconds in which an empty bucket fills.
    fills_in_ms: f64,
    at_ms: u64,
}

impl ApiKeys {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let io = |source| KeysError::Io { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(io)?.len() > MAX_BYTES {
            return Err(KeysError::TooLong(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let parse = |error: toml::de::Error| KeysError::Parse {
            path: path.to_owned(),
            reason: words::toml(&text, error.span(), error.message()),
        };
        let file: File = toml::from_str(&text).map_err(parse)?;
        let keys = file.key.into_iter().map(Key::new).collect::<Result<Vec<_>, _>>()?;
        for (index, key) in keys.iter().enumerate() {
            if let Some(other) = keys[..index].iter().find(|other| other.hash == key.hash) {
                return Err(KeysError::Twice(other.name.clone(), key.name.clone()));
            }
        }
        if keys.is_empty() { Err(KeysError::None(path.to_owned())) } else { Ok(Self(keys)) }
    }

    /// Lets a request in, by its key. `now_ms` is the time since the server began.
    ///
    /// # Errors
    /// No such key is known, or it has used up a quota.
    pub(crate) fn admit(&self, shown: Option<&str>, now_ms: u64) -> Result<usize, ApiError> {
        let hash = blake3::hash(shown.unwrap_or_default().as_bytes());
        // The comparison of hashes takes the same time whatever differs.
        let index = self.0.iter().position(|key| key.hash == hash).ok_or_else(ApiError::key)?;
        let key = &self.0[index];
        if let Some(tokens) = &key.tokens {
            tokens.lock().take(0.0, now_ms).map_err(|wait| ApiError::quota("tokens", wait))?;
        }
        if let Some(requests) = &key.requests {
            requests.lock().take(1.0, now_ms).map_err(|wait| ApiError::quota("requests", wait))?;
        }
        Ok(index)
    }

    /// Takes the tokens of a request from the quota of its key.
    pub(crate) fn charge(&self, key: usize, tokens: u64, now_ms: u64) {
        if let Some(bucket) = self.0.get(key).and_then(|key| key.tokens.as_ref()) {
            let mut bucket = bucket.lock();
            bucket.fill(now_ms);
            bucket.level -= tokens as f64;
        }
    }
}

impl Key {
    fn new(entry: Entry) -> Result<Self, KeysError> {
        let Entry { name, hash, requests_per_minute, tokens_per_day } = entry;
        let Ok(hash) = blake3::Hash::from_hex(&hash) else { return Err(KeysError::Hash { name }) };
        let bucket = |most: f64, fills_in_ms| Mutex::new(Bucket { most, level: most, fills_in_ms, at_ms: 0 });
        Ok(Self {
            name,
            hash,
            requests: requests_per_minute.map(|most| bucket(f64::from(most), MINUTE_MS)),
            tokens: tokens_per_day.map(|most| bucket(most as f64, DAY_MS)),
        })
    }
}

impl Bucket {
    fn fill(&mut self, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.at_ms) as f64;
        self.at_ms = self.at_ms.max(now_ms);
        self.level = (self.level + self.most * passed / self.fills_in_ms).min(self.most);
    }

    /// Takes `amount`, or with 0 looks whether anything is left. The error is the wait in seconds.
    fn take(&mut self, amount: f64, now_ms: u64) -> Result<(), u64> {
        self.fill(now_ms);
        let needed = if amount > 0.0 { amount } else { 1.0 };
        if self.level >= needed {
            self.level -= amount;
            return Ok(());
        }
        let wait_ms = (needed - self.level) / self.most.max(f64::MIN_POSITIVE) * self.fills_in_ms;
        Err(((wait_ms / 1000.0).ceil() as u64).clamp(1, 86_400))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<ApiKeys, KeysError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.toml");
        std::fs::write(&path, text).unwrap();
        ApiKeys::read(&path)
    }

    fn entry(name: &str, key: &str, more: &str) -> String {
        format!("[[key]]\nname = {name:?}\nhash = \"{}\"\n{more}\n", blake3::hash(key.as_bytes()))
    }

    #[test]
    fn only_known_keys_come_in() {
        let keys = keys(&(entry("a", "one", "") + &entry("b", "two", ""))).unwrap();
        assert_eq!(keys.admit(Some("one"), 0), Ok(0));
        assert_eq!(keys.admit(Some("two"), 0), Ok(1));
        for wrong in [None, Some(""), Some("One"), Some("one "), Some("three")] {
            assert_eq!(keys.admit(wrong, 0).unwrap_err().status, 401, "{wrong:?}");
        }
    }

    #[test]
    fn quotas_are_used_up_and_fill_again() {
        let keys = keys(&entry("a", "one", "requests_per_minute = 2\ntokens_per_day = 86400")).unwrap();
        let admit = |now_ms| keys.admit(Some("one"), now_ms).map_err(|error| (error.status, error.retry_after));
        assert_eq!([admit(0), admit(0)], [Ok(0), Ok(0)]);
        assert_eq!(admit(0), Err((429, Some(30))));
        assert_eq!([admit(30_000), admit(30_001)], [Ok(0), Err((429, Some(30)))]);
        // A token a second: 100 more than the bucket holds take 101 seconds until there is one again.
        keys.charge(0, 86_500, 100_000);
        assert_eq!(admit(100_000), Err((429, Some(101))));
        assert_eq!(admit(202_000), Ok(0));
        // A clock that stands still or goes back fills nothing.
        keys.charge(0, 2, 202_000);
        assert_eq!(admit(100), Err((429, Some(1))));
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_by_name() {
        assert!(matches!(keys(""), Err(KeysError::None(_))));
        assert!(matches!(keys("[[key]]\nname = \"a\"\nhash = \"ab\"\n"), Err(KeysError::Hash { name }) if name == "a"));
        let Err(KeysError::Parse { reason, .. }) = keys(&entry("a", "one", "tokens = 5")) else { panic!() };
        assert!(reason.starts_with("at line ") && reason.contains("`tokens` is no key here, but `name`, "), "{reason}");
        let twice = keys(&(entry("a", "one", "") + &entry("b", "one", "")));
        assert!(matches!(twice, Err(KeysError::Twice(a, b)) if (a.as_str(), b.as_str()) == ("a", "b")));
        assert!(matches!(ApiKeys::read(Path::new("/no/such/file")), Err(KeysError::Io { .. })));
    }
}

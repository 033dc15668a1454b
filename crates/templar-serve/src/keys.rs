//! Keys that clients show, and what each may use.
//!
//! A key is a random secret whose hash a file lists, or a [signed capability](signed) of an issuer whom the file names.
//! The file never holds a key itself:
//!
//! ```toml
//! issuer = "20a1…"            # keys that `templar key issue` signed with this one are let in
//! revoked = ["9c0d…"]         # but not those with these ids
//!
//! [[key]]
//! name = "alice"
//! hash = "7d3c…"              # printf %s "$KEY" | b3sum, for a long random KEY
//! requests_per_minute = 60    # without a number there is no limit
//! tokens_per_day = 1000000
//! ```

mod quota;
pub(crate) mod signed;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use templar_data::words;
use templar_manifest::PublicKey;

use crate::ApiError;
use quota::Account;
pub(crate) use quota::Admitted;
pub use quota::Allowance;
use signed::SignedKeys;

/// The longest file of keys, in bytes.
const MAX_BYTES: u64 = 4 << 20;

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
    /// The issuer is no public key.
    #[error("the issuer {0:?} is not a public key of 64 hexadecimal digits")]
    Issuer(String),
    /// What is revoked is no id.
    #[error("{0:?} under revoked is not an id of 64 hexadecimal digits")]
    Revoked(String),
    /// One key is listed twice.
    #[error("the keys {0:?} and {1:?} have one hash")]
    Twice(String, String),
    /// Nobody could use the server.
    #[error("{} lists no key and names no issuer", .0.display())]
    None(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    issuer: Option<String>,
    #[serde(default)]
    revoked: Vec<String>,
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
pub struct ApiKeys {
    listed: Vec<Key>,
    signed: Option<SignedKeys>,
}

#[derive(Debug)]
struct Key {
    name: String,
    hash: blake3::Hash,
    account: Arc<Account>,
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
        let File { issuer, revoked, key } = toml::from_str(&text).map_err(parse)?;
        let listed = key.into_iter().map(Key::new).collect::<Result<Vec<_>, _>>()?;
        for (index, key) in listed.iter().enumerate() {
            if let Some(other) = listed[..index].iter().find(|other| other.hash == key.hash) {
                return Err(KeysError::Twice(other.name.clone(), key.name.clone()));
            }
        }
        let revoked = revoked.into_iter().map(|id| id.parse().map_err(|_| KeysError::Revoked(id)));
        let revoked = revoked.collect::<Result<_, _>>()?;
        let signed = issuer.map(|issuer| {
            let key = issuer.parse::<PublicKey>().ok().and_then(|key| SignedKeys::new(&key, revoked));
            key.ok_or(KeysError::Issuer(issuer))
        });
        let signed = signed.transpose()?;
        if listed.is_empty() && signed.is_none() {
            return Err(KeysError::None(path.to_owned()));
        }
        Ok(Self { listed, signed })
    }

    /// Lets a request in, by its key. `now_ms` is the time since the server began.
    ///
    /// # Errors
    /// No such key is known, or it has used up a quota.
    pub(crate) fn admit(&self, shown: Option<&str>, now_ms: u64) -> Result<Admitted, ApiError> {
        let shown = shown.unwrap_or_default();
        let hash = blake3::hash(shown.as_bytes());
        // The comparison of hashes takes the same time whatever differs.
        if let Some(key) = self.listed.iter().find(|key| key.hash == hash) {
            key.account.admit(now_ms)?;
            return Ok(Admitted(vec![key.account.clone()]));
        }
        match &self.signed {
            Some(signed) => signed.admit(shown, now_ms),
            None => Err(ApiError::key()),
        }
    }
}

impl Key {
    fn new(entry: Entry) -> Result<Self, KeysError> {
        let Entry { name, hash, requests_per_minute, tokens_per_day } = entry;
        let Ok(hash) = blake3::Hash::from_hex(&hash) else { return Err(KeysError::Hash { name }) };
        let account = Arc::new(Account::new(&Allowance { requests_per_minute, tokens_per_day }));
        Ok(Self { name, hash, account })
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
        for known in ["one", "two"] {
            assert!(keys.admit(Some(known), 0).is_ok(), "{known}");
        }
        for wrong in [None, Some(""), Some("One"), Some("one "), Some("three")] {
            assert_eq!(keys.admit(wrong, 0).unwrap_err().status, 401, "{wrong:?}");
        }
    }

    #[test]
    fn quotas_are_used_up_and_fill_again() {
        let keys = keys(&entry("a", "one", "requests_per_minute = 2\ntokens_per_day = 86400")).unwrap();
        let admitted = keys.admit(Some("one"), 0).unwrap();
        let admit = |now_ms| match keys.admit(Some("one"), now_ms) {
            Ok(_) => Ok(()),
            Err(error) => Err((error.status, error.retry_after)),
        };
        assert_eq!(admit(0), Ok(()));
        assert_eq!(admit(0), Err((429, Some(30))));
        assert_eq!([admit(30_000), admit(30_001)], [Ok(()), Err((429, Some(30)))]);
        // A token a second: 100 more than the bucket holds take 101 seconds until there is one again.
        admitted.charge(86_500, 100_000);
        assert_eq!(admit(100_000), Err((429, Some(101))));
        assert_eq!(admit(202_000), Ok(()));
        // A clock that stands still or goes back fills nothing.
        admitted.charge(2, 202_000);
        assert_eq!(admit(100), Err((429, Some(1))));
    }

    #[test]
    fn a_file_that_is_wrong_is_refused_by_name() {
        assert!(matches!(keys(""), Err(KeysError::None(_))));
        assert!(matches!(keys("[[key]]\nname = \"a\"\nhash = \"ab\"\n"), Err(KeysError::Hash { name }) if name == "a"));
        let Err(KeysError::Parse { reason, .. }) = keys(&entry("a", "one", "tokens = 5")) else { panic!() };
        assert!(reason.starts_with("at line ") && reason.contains("`tokens` is no key here, but `name`, "), "{reason}");
        assert!(matches!(keys("issuer = \"ab\""), Err(KeysError::Issuer(issuer)) if issuer == "ab"));
        // No point of the curve has this y.
        let no_point = format!("issuer = \"02{}\"", "0".repeat(62));
        assert!(matches!(keys(&no_point), Err(KeysError::Issuer(_))));
        let revoked = format!("revoked = [\"x\"]\n{}", entry("a", "one", ""));
        assert!(matches!(keys(&revoked), Err(KeysError::Revoked(id)) if id == "x"));
        let twice = keys(&(entry("a", "one", "") + &entry("b", "one", "")));
        assert!(matches!(twice, Err(KeysError::Twice(a, b)) if (a.as_str(), b.as_str()) == ("a", "b")));
        assert!(matches!(ApiKeys::read(Path::new("/no/such/file")), Err(KeysError::Io { .. })));
    }
}

//! Names of things: BLAKE3 hashes, with one type for each kind of thing.
//!
//! A [`struct@Hash`] is what `b3sum` prints for the bytes it names. The typed ids ([`RunId`], [`CheckpointId`],
//! …) are the same 32 bytes with a meaning, so that a checkpoint cannot be passed where a delta is wanted. In
//! CBOR and on the wire a hash is a byte string of length 32; in a human-readable format (JSON, as a view) it
//! is 64 lowercase hex digits.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text is not a hash: it must be 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hash: expected 64 hexadecimal digits")]
pub struct ParseHashError(pub String);

/// A BLAKE3 hash, 32 bytes: the name of the bytes it was computed from.
#[derive(Clone, Copy, PartialEq, Eq, std::hash::Hash, Default)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The 32 bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A hash from its 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The BLAKE3 hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The first ten hexadecimal digits, for people.
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(10);
        hex
    }
}

impl Ord for Hash {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        order_of(&self.0, &other.0)
    }
}

impl PartialOrd for Hash {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(*hash.as_bytes())
    }
}

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        decode_hex(text).map(Self).ok_or_else(|| ParseHashError(text.to_owned()))
    }
}

/// The order of 32 bytes, which is that of the arrays. The first eight nearly always decide, and a number is compared
/// faster than a slice: maps by hash or key compare in every step of a search.
#[inline]
pub(crate) fn order_of(a: &[u8; 32], b: &[u8; 32]) -> Ordering {
    let head = |bytes: &[u8; 32]| {
        let [b0, b1, b2, b3, b4, b5, b6, b7, ..] = *bytes;
        u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7])
    };
    head(a).cmp(&head(b)).then_with(|| a.cmp(b))
}

/// 32 bytes from 64 hexadecimal digits of either case.
pub(crate) fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// Serialises `N` bytes as a byte string, or as hexadecimal where people read it.
pub(crate) fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&data_encoding::HEXLOWER.encode(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

struct ArrayVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for ArrayVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// The inverse of [`serialize_bytes`].
pub(crate) fn deserialize_bytes<'de, const N: usize, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(ArrayVisitor::<N>)
    } else {
        deserializer.deserialize_bytes(ArrayVisitor::<N>)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_bytes(deserializer).map(Self)
    }
}

macro_rules! typed_id {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Hash);

        impl $name {
            /// The id's bytes as a plain hash.
            pub const fn hash(&self) -> Hash {
                self.0
            }

            /// Gives a hash this meaning.
            pub const fn new(hash: Hash) -> Self {
                Self(hash)
            }

            /// The first ten hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0.short())
            }
        }

        impl From<Hash> for $name {
            fn from(hash: Hash) -> Self {
                Self(hash)
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

typed_id! {
    /// Names a run: the id of its genesis manifest.
    RunId
    /// Names a dataset manifest.
    DatasetId
    /// Names a contribution manifest.
    ContributionId
    /// Names a registration manifest.
    RegistrationId
    /// Names an inbox manifest.
    InboxId
    /// Names a cut manifest.
    CutId
    /// Names a manifest of the values that count.
    RevealSetId
    /// Names a score manifest.
    ScoreId
    /// Names a record of a window: the id of its header.
    RecordId
    /// Names the body of a window's record.
    BodyId
    /// Names a checkpoint manifest.
    CheckpointId
    /// Names a state manifest: a miner's optimiser moments and error feedback between two windows.
    StateId
    /// Names bytes that are not a manifest: a shard, a tensor, a delta, a trace, a tokenizer.
    BlobId
}

impl BlobId {
    /// The id of a blob with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Hash::of(bytes))
    }
}

/// The number of a window in its run, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WindowIndex(pub u64);

impl WindowIndex {
    /// The window after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The window before this one; `None` for window 0.
    pub fn previous(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }
}

impl fmt::Display for WindowIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for WindowIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_what_b3sum_prints() {
        // `printf '' | b3sum`
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Hash::of(b"").to_string(), empty);
        assert_eq!(empty.parse::<Hash>().unwrap(), Hash::of(b""));
        assert_eq!(Hash::of(b"").short(), "af1349b9f5");
    }

    #[test]
    fn hashes_are_ordered_as_their_bytes_are() {
        let low = Hash::of(b"order");
        for place in 0..32 {
            let mut bytes = *low.as_bytes();
            bytes[place] = bytes[place].wrapping_add(100);
            let other = Hash::from_bytes(bytes);
            assert_eq!(low.cmp(&other), low.as_bytes().cmp(other.as_bytes()), "{place}");
            assert_eq!(other.cmp(&low), other.as_bytes().cmp(low.as_bytes()), "{place}");
        }
        assert_eq!(low.cmp(&Hash::of(b"order")), Ordering::Equal);
    }

    #[test]
    fn texts_that_are_not_hashes_are_refused() {
        for text in ["", "af13", &"z".repeat(64), &"a".repeat(63), &"a".repeat(66)] {
            assert!(text.parse::<Hash>().is_err(), "{text}");
        }
    }
}

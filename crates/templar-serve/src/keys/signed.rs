//! Keys that nobody has to list: signed capabilities, as the crate `rcan` has them.
//!
//! The issuer signs what a key may use and until when. The server knows the issuer's public key and nothing else, so a
//! key needs no entry and no restart. A key is issued to a holder, another public key. Who has the holder's secret can
//! hand the key on, to a third and with no more than it allows; the new key is the old one with a further link, and
//! each link has its own quotas. So a team divides its key without asking the server. [`SignedKeys`] can refuse a link
//! by its id, and with it everything that was handed on under it.
//!
//! Invariant: a link has one spelling. `rcan` decodes with postcard, which takes longer spellings of a number and bytes
//! behind the end; both would give a revoked key another id.
//!
//! Whether a key has ended is asked of the system's clock, which `rcan` reads itself.
//!
//! Clients of OpenAI's interface show a key and sign nothing. So whoever shows a key may use it; only to hand it on
//! takes the holder's secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{SigningKey, VerifyingKey};
use parking_lot::Mutex;
use rcan::{Authorizer, Capability, Expires, Rcan};
use templar_manifest::{Hash, PublicKey, SecretKey};

use super::quota::{Account, Admitted, Allowance};
use crate::ApiError;

/// How a key begins, so that people and scanners for secrets know it.
const PREFIX: &str = "templar-";
/// Most links of a key.
const MAX_LINKS: usize = 4;
/// The longest link, in characters. A link has about 190 bytes at most.
const MAX_LINK: usize = 512;
/// So many accounts are kept before those that are full are forgotten.
const KEPT_ACCOUNTS: usize = 1024;

/// A key was not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// What shall be handed on is no key.
    #[error("what shall be handed on is not a key that `templar key issue` made")]
    NotAKey,
    /// Another one may hand the key on.
    #[error("the key was issued to {holder}, so {signer} cannot hand it on")]
    NotTheHolder {
        /// Whose secret is needed.
        holder: PublicKey,
        /// Who signs.
        signer: PublicKey,
    },
    /// The new key would allow more than the one that is handed on.
    #[error("the key that is handed on allows less")]
    TooMuch,
    /// The key was handed on too often.
    #[error("a key has {MAX_LINKS} links at most")]
    TooLong,
    /// The holder is not a point of the curve.
    #[error("the holder {0} is not a public key")]
    Holder(PublicKey),
}

/// A new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedKey {
    /// What a client shows.
    pub key: String,
    /// The id by which a server revokes it: the BLAKE3 of its last link.
    pub id: Hash,
}

/// What a new key allows, to whom, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTerms {
    /// What it may use.
    pub allowance: Allowance,
    /// Who can hand it on; nobody but the signer where this is missing.
    pub holder: Option<PublicKey>,
    /// How long it is valid from now on; for ever where this is missing.
    pub lasts: Option<Duration>,
}

impl Capability for Allowance {
    fn permits(&self, other: &Self) -> bool {
        fn within<T: Ord>(limit: Option<T>, asked: Option<T>) -> bool {
            limit.is_none_or(|limit| asked.is_some_and(|asked| asked <= limit))
        }
        within(self.requests_per_minute, other.requests_per_minute) && within(self.tokens_per_day, other.tokens_per_day)
    }
}

/// Issues a key, or hands on the key `under`.
///
/// # Errors
/// See [`IssueError`].
pub fn issue(signer: &SecretKey, under: Option<&str>, terms: &KeyTerms) -> Result<IssuedKey, IssueError> {
    let KeyTerms { allowance, holder, lasts } = *terms;
    let (signing, public) = (SigningKey::from_bytes(&signer.to_bytes()), signer.public());
    let holder = holder.unwrap_or(public);
    let audience = VerifyingKey::from_bytes(holder.as_bytes()).map_err(|_| IssueError::Holder(holder))?;
    let builder = match under {
        None => Rcan::issuing_builder(&signing, audience, allowance),
        Some(under) => {
            let links = parse(under).ok_or(IssueError::NotAKey)?;
            let [Link { capability: first, .. }, ..] = &links[..] else { return Err(IssueError::NotAKey) };
            let holder =
                links.last().map_or(public, |last| PublicKey::from_bytes(last.capability.audience().to_bytes()));
            if holder != public {
                return Err(IssueError::NotTheHolder { holder, signer: public });
            }
            if links.len() == MAX_LINKS {
                return Err(IssueError::TooLong);
            }
            if !links.iter().all(|link| link.capability.capability().permits(&allowance)) {
                return Err(IssueError::TooMuch);
            }
            Rcan::delegating_builder(&signing, audience, *first.issuer(), allowance)
        }
    };
    let bytes = builder.sign(lasts.map_or(Expires::Never, Expires::valid_for)).encode();
    let link = BASE64URL_NOPAD.encode(&bytes);
    let key = under.map_or_else(|| format!("{PREFIX}{link}"), |under| format!("{under}.{link}"));
    Ok(IssuedKey { key, id: Hash::of(&bytes) })
}

/// A link of a key, whose signature has been checked.
struct Link {
    id: Hash,
    capability: Rcan<Allowance>,
}

/// The links of a key, or nothing where it is none. Whether they belong together is not checked.
fn parse(key: &str) -> Option<Vec<Link>> {
    let links: Vec<&str> = key.strip_prefix(PREFIX)?.split('.').take(MAX_LINKS + 1).collect();
    if links.len() > MAX_LINKS {
        return None;
    }
    let link = |text: &str| {
        let bytes = if text.len() > MAX_LINK { None } else { BASE64URL_NOPAD.decode(text.as_bytes()).ok() }?;
        let capability = Rcan::<Allowance>::decode(&bytes).ok()?;
        (capability.encode() == bytes).then(|| Link { id: Hash::of(&bytes), capability })
    };
    links.into_iter().map(link).collect()
}

/// The keys of one issuer.
pub(super) struct SignedKeys {
    issuer: Authorizer,
    revoked: BTreeSet<Hash>,
    /// What is left of each link that was shown; of one that is missing everything is.
    accounts: Mutex<BTreeMap<Hash, Arc<Account>>>,
}

impl SignedKeys {
    /// The keys of an issuer without those that are revoked; `None` where it is not a point of the curve.
    pub(super) fn new(issuer: &PublicKey, revoked: BTreeSet<Hash>) -> Option<Self> {
        let issuer = Authorizer::new(VerifyingKey::from_bytes(issuer.as_bytes()).ok()?);
        Some(Self { issuer, revoked, accounts: Mutex::default() })
    }

    /// Lets a request in by its key.
    ///
    /// # Errors
    /// The issuer did not sign such a key, or it is revoked, out of date or used up.
    pub(super) fn admit(&self, shown: &str, now_ms: u64) -> Result<Admitted, ApiError> {
        let links = parse(shown).ok_or_else(ApiError::key)?;
        let last = &links.last().ok_or_else(ApiError::key)?.capability;
        if links.iter().any(|link| self.revoked.contains(&link.id)) {
            return Err(ApiError::key());
        }
        let chain: Vec<&Rcan<Allowance>> = links.iter().map(|link| &link.capability).collect();
        let checked = self.issuer.check_invocation_from(*last.audience(), *last.capability(), &chain);
        checked.map_err(|_| ApiError::key())?;
        // From the narrowest on, so that what it refuses costs the others nothing.
        let accounts = links.iter().rev().map(|link| self.account(link, now_ms)).collect();
        let admitted = Admitted(accounts);
        admitted.0.iter().try_for_each(|account| account.admit(now_ms))?;
        Ok(admitted)
    }

    fn account(&self, link: &Link, now_ms: u64) -> Arc<Account> {
        let mut accounts = self.accounts.lock();
        if accounts.len() >= KEPT_ACCOUNTS && !accounts.contains_key(&link.id) {
            accounts.retain(|_, account| Arc::strong_count(account) > 1 || !account.is_full(now_ms));
        }
        let new = || Arc::new(Account::new(link.capability.capability()));
        accounts.entry(link.id).or_insert_with(new).clone()
    }
}

impl std::fmt::Debug for SignedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedKeys").field("revoked", &self.revoked).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(number: u8) -> SecretKey {
        SecretKey::from_bytes(&[number; 32])
    }

    fn terms(tokens: Option<u64>, holder: Option<u8>) -> KeyTerms {
        let allowance = Allowance { requests_per_minute: None, tokens_per_day: tokens };
        let holder = holder.map(|number| secret(number).public());
        KeyTerms { allowance, holder, lasts: Some(Duration::from_secs(3600)) }
    }

    /// The keys that number 1 issues.
    fn keys(revoked: &[Hash]) -> SignedKeys {
        SignedKeys::new(&secret(1).public(), revoked.iter().copied().collect()).unwrap()
    }

    fn is_in(keys: &SignedKeys, key: &str) -> bool {
        match keys.admit(key, 0) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.status, 401, "{key}");
                false
            }
        }
    }

    fn spelled(bytes: &[u8]) -> String {
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(bytes))
    }

    fn bytes_of(key: &IssuedKey) -> Vec<u8> {
        BASE64URL_NOPAD.decode(key.key.strip_prefix(PREFIX).unwrap().as_bytes()).unwrap()
    }

    #[test]
    fn the_issuers_keys_come_in_until_they_are_revoked() {
        let key = issue(&secret(1), None, &terms(None, None)).unwrap();
        assert!(is_in(&keys(&[]), &key.key) && key.key.len() < PREFIX.len() + MAX_LINK);
        assert!(!is_in(&keys(&[key.id]), &key.key));
        // Another issuer's, one that is out of date, and none at all.
        assert!(!is_in(&keys(&[]), &issue(&secret(2), None, &terms(None, None)).unwrap().key));
        let issuer = SigningKey::from_bytes(&secret(1).to_bytes());
        let old = Rcan::issuing_builder(&issuer, issuer.verifying_key(), Allowance::default()).sign(Expires::At(1));
        assert!(!is_in(&keys(&[]), &spelled(&old.encode())));
        for wrong in ["", "templar-", "templar-.", "templar-AA", "sk-abc", "templar-\u{e9}", &key.key[8..]] {
            assert!(!is_in(&keys(&[]), wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_has_one_spelling() {
        let key = issue(&secret(1), None, &terms(Some(5), None)).unwrap();
        let bytes = bytes_of(&key);
        let server = keys(&[]);
        assert!(is_in(&server, &spelled(&bytes)));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_in(&server, &spelled(&changed)), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(!is_in(&server, &spelled(&bytes[..length])), "{length} bytes");
        }
        // rcan takes both of these: a byte behind the end, and the number 5 in two bytes.
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!((bytes[69], bytes[70]), (1, 5), "the quota of tokens");
        let wider = [&bytes[..70], &[0x85, 0], &bytes[71..]].concat();
        for other in [longer, wider] {
            assert!(Rcan::<Allowance>::decode(&other).is_ok());
            assert!(!is_in(&server, &spelled(&other)));
        }
        for text in [format!("{}=", key.key), format!("{} ", key.key), format!("{}.", key.key), "A".repeat(1 << 20)] {
            assert!(!is_in(&server, &text));
        }
    }

    #[test]
    fn a_holder_hands_on_no_more_than_it_has() {
        let server = keys(&[]);
        let first = issue(&secret(1), None, &terms(Some(100), Some(2))).unwrap();
        let second = issue(&secret(2), Some(&first.key), &terms(Some(40), Some(3))).unwrap();
        let third = issue(&secret(3), Some(&second.key), &terms(Some(40), None)).unwrap();
        for key in [&first, &second, &third] {
            assert!(is_in(&server, &key.key));
        }
        assert!(!is_in(&keys(&[first.id]), &third.key) && !is_in(&keys(&[second.id]), &third.key));
        assert!(is_in(&keys(&[third.id]), &second.key));
        let refused = |signer: u8, under: &str, tokens| issue(&secret(signer), Some(under), &terms(tokens, None));
        assert_eq!(refused(2, &first.key, Some(101)), Err(IssueError::TooMuch));
        assert_eq!(refused(2, &first.key, None), Err(IssueError::TooMuch));
        assert!(matches!(refused(3, &first.key, Some(1)), Err(IssueError::NotTheHolder { .. })));
        assert_eq!(refused(2, "templar-AA", Some(1)), Err(IssueError::NotAKey));
        let fourth = issue(&secret(3), Some(&third.key), &terms(Some(1), None)).unwrap();
        assert_eq!(refused(3, &fourth.key, Some(1)), Err(IssueError::TooLong));
        // Links that somebody put together: without the first, in another order, and a fifth.
        let links: Vec<&str> = fourth.key[PREFIX.len()..].split('.').collect();
        for chosen in [vec![1], vec![1, 2], vec![1, 0], vec![0, 2], vec![0, 1, 1], vec![0, 1, 2, 3, 3]] {
            let texts: Vec<&str> = chosen.iter().map(|&index: &usize| links[index]).collect();
            assert!(!is_in(&server, &format!("{PREFIX}{}", texts.join("."))), "{chosen:?}");
        }
    }

    /// A link that its holder signed with more than it has, which `issue` would not do.
    #[test]
    fn a_wider_link_is_refused() {
        let first = issue(&secret(1), None, &terms(Some(100), Some(2))).unwrap();
        let signing = SigningKey::from_bytes(&secret(2).to_bytes());
        let owner = SigningKey::from_bytes(&secret(1).to_bytes()).verifying_key();
        for (tokens, root, comes_in) in [
            (Some(100), owner, true),
            (Some(101), owner, false),
            (None, owner, false),
            (Some(1), signing.verifying_key(), false),
        ] {
            let allowance = Allowance { requests_per_minute: None, tokens_per_day: tokens };
            let link = Rcan::delegating_builder(&signing, owner, root, allowance).sign(Expires::Never).encode();
            let key = format!("{}.{}", first.key, BASE64URL_NOPAD.encode(&link));
            assert_eq!(is_in(&keys(&[]), &key), comes_in, "{tokens:?}");
        }
    }

    #[test]
    fn every_link_is_charged() {
        let server = keys(&[]);
        let first = issue(&secret(1), None, &terms(Some(100), Some(2))).unwrap();
        let [one, other] =
            [60, 70].map(|tokens| issue(&secret(2), Some(&first.key), &terms(Some(tokens), None)).unwrap());
        let status = |key: &IssuedKey| server.admit(&key.key, 0).map_or_else(|error| error.status, |_| 200);
        server.admit(&one.key, 0).unwrap().charge(60, 0);
        assert_eq!((status(&one), status(&other), status(&first)), (429, 200, 200));
        server.admit(&other.key, 0).unwrap().charge(40, 0);
        assert_eq!((status(&other), status(&first)), (429, 429), "the first is used up by both");
        assert_eq!(server.admit(&other.key, 86_400_000).map_or(0, |_| 200), 200);
    }

    #[test]
    fn full_accounts_are_forgotten() {
        let server = keys(&[]);
        let first = issue(&secret(1), None, &terms(Some(9), Some(2))).unwrap();
        server.admit(&first.key, 0).unwrap().charge(9, 0);
        for number in 0..KEPT_ACCOUNTS as u64 + 10 {
            let key = KeyTerms { lasts: None, ..terms(Some(1000 + number), None) };
            assert!(is_in(&server, &issue(&secret(1), None, &key).unwrap().key));
        }
        assert!(server.accounts.lock().len() < 100);
        assert_eq!(server.admit(&first.key, 0).map_or_else(|error| error.status, |_| 200), 429);
    }
}

//! A state with the certified header that names its root: a copy that proves itself to everybody who has genesis.
//!
//! A node that has it begins after the header's window and folds nothing before it. It trusts nobody: the header is
//! signed by validators with more than two thirds of the stake, genesis names these, the header names the root of the
//! state, and the root covers every entry. A copy that is damaged, of another run or made up is refused before any of
//! its entries is looked at.
//!
//! # The bytes
//!
//! ```text
//! the words `templar state 1` and a line feed
//! the header               u32 length, and its canonical bytes
//! its certificate          u32 attempt; the publisher's key and signature; u32 number of witnesses, each key and
//!                          signature, sorted by key
//! the entries of the state u32 number; each u16 length and key, u32 length and value; sorted by key
//! contributions            u32 number; each u32 length and canonical bytes; sorted by their hashes
//! ```
//!
//! Integers are little-endian. The contributions are those that entries of the state name by their ids: verdicts on them
//! still count, or their measurements may be contested. So there is one copy of a state with one certificate, to the byte.

mod error;
mod restore;

use std::collections::BTreeMap;
use std::sync::Arc;

use templar_manifest::tree::{MAX_KEY_BYTES, Tree};
use templar_manifest::{
    Contribution, ContributionId, Genesis, Hash, MAX_PAYLOAD_BYTES, PublicKey, RunId, Signature, VoteOn, WindowHeader,
    payload,
};

pub use error::CertifiedStateError;

use super::{ClosedWindow, RunState, VoteCertificate, Witness};

const MAGIC: &[u8] = b"templar state 1\n";

/// The longest copy of a state, in bytes.
pub const MAX_STATE_BYTES: usize = 256 << 20;

/// The longest value of an entry, in bytes.
const MAX_VALUE_BYTES: usize = 16 << 20;

/// The state after a closed window, with the window's header and the certificate of the header.
#[derive(Debug, Clone, PartialEq)]
pub struct CertifiedState {
    header: WindowHeader,
    certificate: VoteCertificate,
    state: Arc<RunState>,
}

impl CertifiedState {
    /// The state after `closed`, whose root the header names. `None` if it is another state.
    pub fn new(closed: &ClosedWindow, state: Arc<RunState>) -> Option<Self> {
        let header = closed.window.header;
        let is_after = state.record() == Some(closed.record) && state.root() == header.state_root;
        is_after.then(|| Self { header, certificate: closed.record_certificate.clone(), state })
    }

    /// The header of the window after which the state is.
    pub fn header(&self) -> &WindowHeader {
        &self.header
    }

    /// The state.
    pub fn state(&self) -> &Arc<RunState> {
        &self.state
    }

    /// The copy as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, &payload::encode(&self.header));
        let VoteCertificate { attempt, publisher, witnesses } = &self.certificate;
        count(&mut bytes, *attempt as usize);
        put_witness(&mut bytes, publisher);
        let witnesses: BTreeMap<&PublicKey, &Witness> =
            witnesses.iter().map(|witness| (&witness.signer, witness)).collect();
        count(&mut bytes, witnesses.len());
        witnesses.values().for_each(|witness| put_witness(&mut bytes, witness));
        count(&mut bytes, self.state.tree.iter().count());
        for (key, value) in self.state.tree.iter() {
            bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
            bytes.extend_from_slice(key);
            put(&mut bytes, value);
        }
        let pending = self.state.contributed.pending.values();
        let judged = pending.flat_map(|pending| pending.judged.contributions.values());
        let judged = judged.map(|judged| (judged.id, &judged.contribution));
        let measured = self.state.measurements.iter().flat_map(|measured| measured.of.values());
        let measured = measured.map(|measured| (measured.id, &measured.contribution));
        let contributions: BTreeMap<Hash, Vec<u8>> =
            judged.chain(measured).map(|(id, contribution)| (id.hash(), payload::encode(contribution))).collect();
        count(&mut bytes, contributions.len());
        contributions.values().for_each(|contribution| put(&mut bytes, contribution));
        bytes
    }

    /// Reads a copy of a state of the run of `genesis`, and checks that validators have certified it.
    ///
    /// # Errors
    /// [`CertifiedStateError`]
    pub fn decode(genesis: &Arc<Genesis>, bytes: &[u8]) -> Result<Self, CertifiedStateError> {
        if bytes.len() > MAX_STATE_BYTES {
            return Err(CertifiedStateError::Malformed);
        }
        let parts = Parts::read(bytes).ok_or(CertifiedStateError::Malformed)?;
        let run = RunId::new(payload::id_of(&**genesis));
        let (header, certificate) = (parts.header, parts.certificate);
        if header.run != run {
            return Err(CertifiedStateError::OtherRun(header.run));
        }
        // More signatures than validators are not worth checking.
        if certificate.witnesses.len() > genesis.validators.len() {
            return Err(CertifiedStateError::NotCertified);
        }
        let vote = certificate.vote(run, header.window, VoteOn::Window, &header);
        certificate.check(genesis, &vote, &header).map_err(|_| CertifiedStateError::NotCertified)?;
        let mut tree = Tree::new();
        for (key, value) in &parts.entries {
            tree.insert(key, value);
        }
        if tree.root() != header.state_root {
            return Err(CertifiedStateError::Root { found: tree.root(), said: header.state_root });
        }
        let state = restore::restore(genesis.clone(), &header, tree, &parts.contributions)?;
        let found = Self { header, certificate, state: Arc::new(state) };
        // Every other spelling of it has something too much, or in another order.
        if found.encode() == bytes { Ok(found) } else { Err(CertifiedStateError::Malformed) }
    }
}

fn count(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    count(bytes, part.len());
    bytes.extend_from_slice(part);
}

fn put_witness(bytes: &mut Vec<u8>, witness: &Witness) {
    bytes.extend_from_slice(witness.signer.as_bytes());
    bytes.extend_from_slice(witness.signature.as_bytes());
}

/// The parts of a copy, which nothing has checked.
struct Parts<'a> {
    header: WindowHeader,
    certificate: VoteCertificate,
    entries: Vec<(&'a [u8], &'a [u8])>,
    contributions: BTreeMap<ContributionId, Contribution>,
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let header: WindowHeader = payload::decode(part(&mut rest, MAX_PAYLOAD_BYTES)?).ok()?;
        let attempt = number(&mut rest)?;
        let publisher = witness(&mut rest)?;
        let witnesses = (0..number(&mut rest)?).map(|_| witness(&mut rest)).collect::<Option<Vec<_>>>()?;
        let certificate = VoteCertificate { attempt, publisher, witnesses };
        let mut entries = Vec::new();
        for _ in 0..number(&mut rest)? {
            let length = u16::from_le_bytes(taken(&mut rest, 2)?.try_into().ok()?) as usize;
            let key = taken(&mut rest, length).filter(|key| key.len() <= MAX_KEY_BYTES)?;
            entries.push((key, part(&mut rest, MAX_VALUE_BYTES)?));
        }
        let mut contributions = BTreeMap::new();
        for _ in 0..number(&mut rest)? {
            let bytes = part(&mut rest, MAX_PAYLOAD_BYTES)?;
            contributions.insert(ContributionId::new(Hash::of(bytes)), payload::decode(bytes).ok()?);
        }
        rest.is_empty().then_some(Self { header, certificate, entries, contributions })
    }
}

fn taken<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(taken(rest, 4)?.try_into().ok()?))
}

fn part<'a>(rest: &mut &'a [u8], longest: usize) -> Option<&'a [u8]> {
    let length = number(rest)? as usize;
    if length > longest { None } else { taken(rest, length) }
}

fn witness(rest: &mut &[u8]) -> Option<Witness> {
    let signer = PublicKey::from_bytes(taken(rest, 32)?.try_into().ok()?);
    let signature = Signature::from_bytes(taken(rest, 64)?.try_into().ok()?);
    Some(Witness { signer, signature })
}

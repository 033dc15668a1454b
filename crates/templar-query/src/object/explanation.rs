//! The outcome of a registration or a record.
//!
//! An explanation is computed again from the journal each time and never stored.

use serde::{Serialize, Serializer};
use templar_home::access::Access;
use templar_manifest::{Hash, Kind, Registration, WindowBody, WindowHeader, payload};
use templar_protocol::{ClosedWindow, Node};

use super::registration::RegistrationExplanation;
use super::standing::{self, MinerStanding};
use crate::error::QueryError;

/// An explanation. In JSON it is a list.
#[derive(Debug, Clone, PartialEq)]
pub enum Explanation {
    /// The object needs none, or its run or window is not here.
    None,
    /// Of a registration: its payment, the decision, and the owner's slot now.
    Registration(RegistrationExplanation),
    /// Of a record: the standings of the miners, sorted by key.
    Standings(Vec<MinerStanding>),
}

impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.collect_seq([(); 0]),
            Self::Registration(found) => found.serialize(serializer),
            Self::Standings(found) => found.serialize(serializer),
        }
    }
}

impl Explanation {
    /// Explains the manifest `id` of a kind, whose payload is `bytes`.
    ///
    /// # Errors
    /// The run of the manifest is here and cannot be folded.
    pub fn of(access: &Access, kind: Kind, id: Hash, bytes: &[u8]) -> Result<Self, QueryError> {
        let found = match kind {
            Kind::Window => {
                let Ok(header) = payload::decode::<WindowHeader>(bytes) else { return Ok(Self::None) };
                let Some(node) = node(access, header.run.hash())? else { return Ok(Self::None) };
                let is_this = |closed: &ClosedWindow| closed.record.hash() == id;
                standing::of_record(&node, header.window, is_this).map(Self::Standings)
            }
            Kind::Body => {
                let Ok(body) = payload::decode::<WindowBody>(bytes) else { return Ok(Self::None) };
                let Some(node) = node(access, body.run.hash())? else { return Ok(Self::None) };
                let is_this = |closed: &ClosedWindow| closed.window.header.body_root.hash() == id;
                standing::of_record(&node, body.window, is_this).map(Self::Standings)
            }
            Kind::Registration => {
                let Ok(registration) = payload::decode::<Registration>(bytes) else { return Ok(Self::None) };
                let Some(node) = node(access, registration.run.hash())? else { return Ok(Self::None) };
                RegistrationExplanation::of(&node, id, &registration).map(Self::Registration)
            }
            _ => None,
        };
        Ok(found.unwrap_or(Self::None))
    }
}

/// The folded node of a run; `None` when the run is not in this home.
fn node(access: &Access, run: Hash) -> Result<Option<Node>, QueryError> {
    if !access.home.runs()?.contains(&run.into()) {
        return Ok(None);
    }
    Ok(Some(access.fold(&access.run(Some(run.into()))?)?))
}

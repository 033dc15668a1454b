//! The record that closes a window: a header of a few hundred bytes, which validators certify, and the body
//! behind it.
//!
//! The header commits to everything: `body_root` to what the window decided, `state_root` to everything that the
//! next window follows from, and `validators_root` to the validators that certify the next window. So whoever
//! knows a certified header can check the body, any single entry of the state, and the next header, and needs
//! nothing else. The roots of state and validators are those of a [tree](crate::tree).

use serde::{Deserialize, Serialize};

use super::body::WindowBody;
use crate::id::{BodyId, CheckpointId, Hash, RecordId, RunId, WindowIndex};
use crate::payload::{self, Kind, Payload};

/// The header of a window's record. Its id names the record, and validators with more than two thirds of the
/// stake certify it. Its kind is `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowHeader {
    /// The run that this belongs to.
    pub run: RunId,
    /// The window that this closes.
    pub window: WindowIndex,
    /// The record of the window before; null for the first.
    pub previous: Option<RecordId>,
    /// The checkpoint after the window.
    pub checkpoint: CheckpointId,
    /// The body of the record. BLAKE3 is a tree, so the id of the body is the root of its bytes.
    pub body_root: BodyId,
    /// Root of the state after the window: everything that the next window follows from.
    pub state_root: Hash,
    /// Root of the validators that certify the next window, with their stakes.
    pub validators_root: Hash,
}

/// A record: the header that validators certify, and the body that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowRecord {
    /// The header.
    pub header: WindowHeader,
    /// The body.
    pub body: WindowBody,
}

impl WindowRecord {
    /// The id of the record, which is that of its header.
    pub fn id(&self) -> RecordId {
        payload::id_of(&self.header).into()
    }
}

impl Payload for WindowHeader {
    const KIND: Kind = Kind::Window;

    fn run(&self) -> Option<RunId> {
        Some(self.run)
    }

    fn check(&self) -> Result<(), String> {
        if self.previous.is_none() != (self.window.0 == 0) {
            return Err("previous is null exactly for window 0".to_owned());
        }
        Ok(())
    }
}

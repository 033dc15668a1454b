//! A home's application for a slot: the owner's certificate, which the node submits in every window until it counts.
//!
//! A registration is valid for one window, and that window may be cut before validators have received it, or
//! other owners may take its slots. Therefore the application is kept in the home, and the driver signs the
//! certificate again for each next window while it is valid. The owner's key is what Bittensor calls a coldkey,
//! the node's key a hotkey.

use std::io;

use serde::{Deserialize, Serialize};
use templar_data::words;
use templar_manifest::{Certificate, PublicKey, Registration, RunId, SecretKey, Signature, WindowIndex};
use templar_protocol::{Member, Node};

use crate::error::HomeError;
use crate::files::{Privacy, at, read_small, write_whole};
use crate::home::Home;

/// The longest application on the local socket, in bytes of JSON.
pub const MAX_APPLICATION_BYTES: usize = 4096;

/// An owner's signed request that this home's node gets a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// The run in which a slot is wanted.
    pub run: RunId,
    /// The owner's certificate for the node's key.
    pub certificate: Certificate,
    /// The owner's signature on the certificate.
    pub owner_signature: Signature,
}

/// The status of an application in the open window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplicationStatus {
    /// The owner has a slot, and the node's key trains for it.
    Counts(Member),
    /// The open window cannot take it any more, or has it already: the next window decides.
    Wait,
    /// The open window can still take it: the node should submit it.
    Ask,
    /// The certificate names a record that is too old, or the run is over.
    Stale,
}

impl Application {
    /// An application for `certificate`, signed with the owner's key.
    pub fn new(run: RunId, certificate: Certificate, owner: &SecretKey) -> Self {
        Self { run, certificate, owner_signature: certificate.sign(run, owner) }
    }

    /// The registration that the node signs for `window`.
    pub fn registration(&self, window: WindowIndex) -> Registration {
        let Self { run, certificate, owner_signature } = *self;
        Registration { run, window, certificate, owner_signature }
    }

    /// The status of this application, as `node` knows it.
    pub fn progress(&self, node: &Node) -> ApplicationStatus {
        let members = node.state().members();
        match members.by_node(&self.certificate.node) {
            Some(member) if member.owner == self.certificate.owner => return ApplicationStatus::Counts(*member),
            _ => {}
        }
        if node.is_over() || members.anchor(self.certificate.anchor).is_none() {
            return ApplicationStatus::Stale;
        }
        let asked = node.registrations().any(|asked| asked.payload().certificate == self.certificate);
        if asked || node.cut().is_some() { ApplicationStatus::Wait } else { ApplicationStatus::Ask }
    }

    /// The owner's public key.
    pub fn owner(&self) -> PublicKey {
        self.certificate.owner
    }

    fn path(home: &Home, run: &RunId) -> std::path::PathBuf {
        home.run_dir(run).join("registration.json")
    }

    /// Keeps the application in a home. It replaces an earlier one for the same run.
    pub fn keep(&self, home: &Home) -> Result<(), HomeError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        write_whole(&Self::path(home, &self.run), text.as_bytes(), Privacy::Everybody)
    }

    /// The application that a home keeps for `run`, if any.
    pub fn kept(home: &Home, run: &RunId) -> Result<Option<Self>, HomeError> {
        let path = Self::path(home, run);
        match read_small(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| HomeError::Parse { path, reason: words::json(&error) }),
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the application that a home keeps for `run`.
    pub fn forget(home: &Home, run: &RunId) -> Result<(), HomeError> {
        let path = Self::path(home, run);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }
}

//! A home's application for a slot: the owner's certificate, kept until it counts, and shown by the node in every window.
//!
//! A registration is about one window, and a window may be cut before everybody has heard of it, or take others first. So
//! whoever asked once is asked for again: the driver signs the certificate anew for the next window, as long as it holds.

use std::io;

use serde::{Deserialize, Serialize};
use templar_manifest::{Certificate, PublicKey, Registration, RunId, SecretKey, Signature, WindowIndex};
use templar_protocol::{Member, Node};

use crate::home::{Home, HomeError, Privacy, at, read_small, write_whole};

/// No application is longer, as it goes through a socket.
pub const MAX_APPLICATION_BYTES: usize = 4096;

/// What a home asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// The run.
    pub run: RunId,
    /// What the owner says.
    pub certificate: Certificate,
    /// The owner's signature.
    pub owner_signature: Signature,
}

/// How far an application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The node key trains for the owner.
    Counts(Member),
    /// It is not in the open window's cut: in the next window it is shown again.
    Wait,
    /// The open window can still take it.
    Ask,
    /// It was anchored too long ago.
    Stale,
}

impl Application {
    /// What `owner` says, signed.
    pub fn new(run: RunId, certificate: Certificate, owner: &SecretKey) -> Self {
        Self { run, certificate, owner_signature: certificate.sign(run, owner) }
    }

    /// The registration for a window.
    pub fn registration(&self, window: WindowIndex) -> Registration {
        let Self { run, certificate, owner_signature } = *self;
        Registration { run, window, certificate, owner_signature }
    }

    /// How far it is, as a node knows.
    pub fn progress(&self, node: &Node) -> Progress {
        let members = node.state().members();
        match members.by_node(&self.certificate.node) {
            Some(member) if member.owner == self.certificate.owner => return Progress::Counts(*member),
            _ => {}
        }
        if node.is_over() || members.anchor(self.certificate.anchor).is_none() {
            return Progress::Stale;
        }
        let asked = node.registrations().any(|asked| asked.payload().certificate == self.certificate);
        if asked || node.cut().is_some() { Progress::Wait } else { Progress::Ask }
    }

    /// Whose it is.
    pub fn owner(&self) -> PublicKey {
        self.certificate.owner
    }

    fn path(home: &Home, run: &RunId) -> std::path::PathBuf {
        home.run_dir(run).join("registration.json")
    }

    /// Keeps it in a home, in the place of an earlier one.
    pub fn keep(&self, home: &Home) -> Result<(), HomeError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        write_whole(&Self::path(home, &self.run), text.as_bytes(), Privacy::Everybody)
    }

    /// The one that a home keeps, if any.
    pub fn kept(home: &Home, run: &RunId) -> Result<Option<Self>, HomeError> {
        let path = Self::path(home, run);
        match read_small(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|error| HomeError::Parse { path, reason: error.to_string() }),
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what a home keeps.
    pub fn forget(home: &Home, run: &RunId) -> Result<(), HomeError> {
        let path = Self::path(home, run);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            _ => Ok(()),
        }
    }
}

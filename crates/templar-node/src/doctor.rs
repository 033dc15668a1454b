//! Checks everything that a node depends on, and says what is wrong and how to repair it.
//!
//! The doctor changes nothing. It asks peers and relays with a key that it drew for the purpose and forgets
//! afterwards, so it may run beside the node. A check that cannot be made says so; it never passes for want of
//! an answer.

mod home;
mod machine;
mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use templar_home::access::Access;
use templar_net::PeerAddr;

use crate::settings::{HomeSettings, NetworkSettings};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is as it should be.
    Ok,
    /// It works, but perhaps not for long or not for everybody. Or it could not be checked.
    Warn,
    /// It does not work at all.
    Fail,
}

/// The finding of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoctorFinding {
    /// `home`, `settings`, `key`, `run`, `store`, `disk`, `interfaces`, `port`, `relay`, `peer` or `clock`.
    pub check: &'static str,
    /// The result of the check.
    pub level: Level,
    /// The finding, as a sentence for people.
    pub text: String,
    /// A way to repair it, if there is one.
    pub hint: Option<String>,
}

impl DoctorFinding {
    fn new(check: &'static str, level: Level, text: impl Into<String>) -> Self {
        Self { check, level, text: text.into(), hint: None }
    }

    fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Level::Ok, text)
    }

    fn warn(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(check, Level::Warn, text) }
    }

    fn fail(check: &'static str, text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..Self::new(check, Level::Fail, text) }
    }
}

/// The task of the doctor.
#[derive(Debug, Clone)]
pub struct Examination {
    /// The directory of the home.
    pub root: PathBuf,
    /// Network settings of the command line and the environment. Those of the home's file are added.
    pub network: NetworkSettings,
    /// Peers to ask besides those that the home knows.
    pub peers: Vec<PeerAddr>,
    /// The longest wait for a relay. Peers have limits of their own.
    pub patience: Duration,
    /// A secret key for asking, drawn for this examination alone.
    pub key: [u8; 32],
}

/// Makes all checks and passes each finding to `say`. Blocks, so it must not run on a thread that runs async tasks.
pub fn examine(examination: &Examination, mut say: impl FnMut(DoctorFinding)) {
    let Examination { root, network, peers, patience, key } = examination;
    let Some(home) = home::look_at(root, &mut say) else { return };
    let settings = match HomeSettings::load(&home) {
        Ok(settings) => settings,
        Err(error) => {
            say(DoctorFinding::fail("settings", error.to_string(), "correct config.toml, or remove it"));
            HomeSettings::default()
        }
    };
    let networking = network.clone().or(settings.network).networking();
    let runs_here = home::node_runs_in(&home);
    // The home is closed before the network is asked, which takes longer.
    match Access::read(root) {
        Ok(access) => home::look_at_run_and_store(&access, runs_here, &mut say),
        Err(error) => {
            let text = error_chain(&error);
            say(DoctorFinding::fail(
                "store",
                text,
                "another command may use the home: wait until it ends, and look again",
            ));
        }
    }
    machine::look_at_disk(&home, &mut say);
    machine::look_at_port(networking.bind, runs_here, &mut say);
    let run = home.current_run().ok().flatten();
    let asked = network::Asked { networking: &networking, run, more: peers, patience: *patience, key: *key };
    network::look_at(&home, &asked, &mut say);
}

/// An error with its causes, in one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(&format!(": {cause_text}"));
        }
        next = cause.source();
    }
    text
}

/// A number of bytes, for people.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// A path as text, for people.
fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

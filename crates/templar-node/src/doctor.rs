//! Looks at everything that a node depends on, and says what is wrong and what to do about it.
//!
//! Nothing is changed and nobody is impersonated: peers and relays are asked with a key that is forgotten afterwards, so a
//! doctor may come while the node runs. A check that cannot be made says so; it is never passed for want of an answer.

mod home;
mod machine;
mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use templar_net::PeerAddr;

use crate::access::Access;
use crate::settings::{NetworkSettings, Settings};

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not for long or not for everybody; or it could not be checked.
    Warn,
    /// It does not work.
    Fail,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `home`, `settings`, `key`, `run`, `store`, `disk`, `interfaces`, `port`, `relay`, `peer` or `clock`.
    pub check: &'static str,
    /// How it went.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
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

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct Examination {
    /// The directory of the home.
    pub root: PathBuf,
    /// What the command line and the environment say of the network; the home's file is added.
    pub network: NetworkSettings,
    /// Peers to ask besides those that the home knows.
    pub peers: Vec<PeerAddr>,
    /// How long a relay is waited for; peers have limits of their own.
    pub patience: Duration,
    /// A secret key that was just drawn, for asking; it is forgotten.
    pub key: [u8; 32],
}

/// Looks at everything, and says what it finds as it finds it. Blocks; not for a thread that runs async tasks.
pub fn examine(examination: &Examination, mut say: impl FnMut(Finding)) {
    let Examination { root, network, peers, patience, key } = examination;
    let Some(home) = home::look_at(root, &mut say) else { return };
    let settings = match Settings::load(&home) {
        Ok(settings) => settings,
        Err(error) => {
            say(Finding::fail("settings", error.to_string(), "correct config.toml, or remove it"));
            Settings::default()
        }
    };
    let networking = network.clone().or(settings.network).networking();
    let runs_here = home::node_runs_in(&home);
    // The home is given back before the network is asked, which takes longer.
    match Access::read(root) {
        Ok(access) => home::look_at_run_and_store(&access, runs_here, &mut say),
        Err(error) => {
            let text = error_chain(&error);
            say(Finding::fail("store", text, "another command may use the home: wait until it ends, and look again"));
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

/// Bytes for people.
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

/// A path for people.
fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}

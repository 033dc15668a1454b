//! Checks everything that a node depends on, and says what is wrong and how to repair it.
//!
//! The doctor changes nothing, and nothing that it advises makes a home forget what its key has signed. It asks peers
//! and relays with a key that it drew for the purpose and forgets afterwards, so it may run beside the node. A check
//! that cannot be made says so; it never passes for want of an answer.

mod device;
mod finding;
mod home;
mod machine;
mod network;

use std::path::PathBuf;
use std::time::Duration;

use templar_device::{DeviceChoices, OpenOptions};
use templar_home::access::Access;
use templar_net::PeerAddr;

use self::finding::error_chain;
use crate::settings::{HomeSettings, NetworkSettings};

pub use finding::{DoctorFinding, Level};

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
    /// The device that computes, and how it is opened.
    pub device: (DeviceChoices, OpenOptions),
    /// A secret key for asking, drawn for this examination alone.
    pub key: [u8; 32],
}

/// Makes all checks and passes each finding to `say`. Blocks, so it must not run on a thread that runs async tasks.
pub fn examine(examination: &Examination, mut say: impl FnMut(DoctorFinding)) {
    let Examination { root, network, peers, patience, device, key } = examination;
    let Some(home) = home::look_at(root, &mut say) else { return };
    let settings = match HomeSettings::load(&home) {
        Ok(settings) => settings,
        Err(error) => {
            say(DoctorFinding::fail("settings", error.to_string(), "correct config.toml, or remove it"));
            HomeSettings::default()
        }
    };
    let mut known = crate::peers::load(&home).unwrap_or_default();
    known.extend(peers.iter().cloned());
    let networking = network.clone().or(settings.network).networking(&known);
    let runs_here = home::node_runs_in(&home);
    // The home is closed before the network is asked, which takes longer.
    let reached = match Access::read(root) {
        Ok(access) => home::look_at_run_and_store(&access, runs_here, &mut say),
        Err(error) => {
            let text = error_chain(&error);
            say(DoctorFinding::fail(
                "store",
                text,
                "another command may use the home: wait until it ends, and look again",
            ));
            None
        }
    };
    machine::look_at_disk(&home, &mut say);
    device::look_at_device(device, &mut say);
    machine::look_at_port(networking.bind, runs_here, &mut say);
    let run = home.current_run().ok().flatten();
    let asked = network::Asked { networking: &networking, run, reached, more: peers, patience: *patience, key: *key };
    network::look_at(&home, &asked, &mut say);
}

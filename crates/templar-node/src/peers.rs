//! Which peers take part in the run, and the addresses at which other nodes were last reached: a file of the home, for
//! the next start. Nothing in that file is trusted.

use std::collections::BTreeMap;

use templar_data::words;
use templar_home::files::{Privacy, read_small, write_whole};
use templar_home::{Home, HomeError};
use templar_net::{PeerAddr, PeerId, Standing};
use templar_protocol::RunState;

/// The greatest number of peers kept.
const MAX_PEERS: usize = 64;

/// The peers that take part in the open window of a run: its validators, and the node keys of its members.
pub(crate) fn roll(state: &RunState) -> BTreeMap<PeerId, Standing> {
    let members = state.members().iter().map(|member| (*member.node.as_bytes(), Standing::Member));
    let validators = state.genesis().validators.iter().map(|seat| (*seat.key.as_bytes(), Standing::Validator));
    // A validator that has a slot, too, has the better right.
    members.chain(validators).collect()
}

/// Reads the peers of a home. Lines that do not parse are skipped.
///
/// # Errors
/// The file cannot be read, or is not a JSON list of texts.
pub fn load(home: &Home) -> Result<Vec<PeerAddr>, HomeError> {
    let path = home.root().join("peers.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read_small(&path)?;
    let lines: Vec<String> =
        serde_json::from_str(&text).map_err(|error| HomeError::Parse { path, reason: words::json(&error) })?;
    Ok(lines.iter().filter_map(|line| line.parse().ok()).take(MAX_PEERS).collect())
}

/// Remembers peers in the home's file, in front of those that are there already.
///
/// # Errors
/// The file cannot be written.
pub fn save(home: &Home, peers: &[PeerAddr]) -> Result<(), HomeError> {
    let mut all: Vec<PeerAddr> = peers.to_vec();
    for known in load(home).unwrap_or_default() {
        if !all.iter().any(|peer| peer.id == known.id) {
            all.push(known);
        }
    }
    let lines: Vec<String> = all.iter().take(MAX_PEERS).map(ToString::to_string).collect();
    let text = serde_json::to_string_pretty(&lines).unwrap_or_default();
    write_whole(&home.root().join("peers.json"), text.as_bytes(), Privacy::Everybody)
}

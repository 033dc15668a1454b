//! Where other nodes were last reached: a file of the home, for the next time. Addresses only; nothing is trusted.

use templar_net::PeerAddr;

use crate::home::{Home, HomeError, Privacy, read_small, write_whole};

/// Peers kept at most.
const MAX_PEERS: usize = 64;

/// The peers of a home.
pub fn load(home: &Home) -> Result<Vec<PeerAddr>, HomeError> {
    let path = home.root().join("peers.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = read_small(&path)?;
    let lines: Vec<String> =
        serde_json::from_str(&text).map_err(|error| HomeError::Parse { path, reason: error.to_string() })?;
    Ok(lines.iter().filter_map(|line| line.parse().ok()).take(MAX_PEERS).collect())
}

/// Remembers peers, those of before included.
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

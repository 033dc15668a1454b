//! How a node uses the network, and the file of a home that says so: `config.toml`, written by a person, read at the start.
//!
//! ```toml
//! [network]
//! bind = "0.0.0.0:4433"                   # where to listen
//! lan = true                              # find nodes of the same run in the local network, and be found
//! relay = "n0"                            # or "none", or URLs of one's own relays with commas between them
//! advertise = ["203.0.113.7:4433"]        # where others reach this node, if it cannot see that itself
//! metrics = "127.0.0.1:9464"              # where `/metrics` is answered
//!
//! [network.limits]                        # what peers may use: see [`LimitSettings`]
//! upload = "2MB"
//! connections = 64
//! ```
//!
//! Everything may be left out. What the command line or the environment says is stronger; a word that is not known here is
//! an error, since somebody meant something by it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use templar_net::{Discovery, NetConfig, Relays};

use crate::clock::unix_ms;
use crate::home::{Home, HomeError, read_small};

mod limits;

pub use limits::{LimitError, LimitSettings};

/// What `config.toml` holds. Nothing is set by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The section `[network]`.
    #[serde(default)]
    pub network: NetworkSettings,
}

/// What a person has said about the network, in a file, the environment or the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// Where to listen.
    pub bind: Option<SocketAddr>,
    /// See [`Discovery::lan`].
    pub lan: Option<bool>,
    /// See [`Discovery::relays`].
    #[serde(deserialize_with = "relays")]
    pub relay: Option<Relays>,
    /// See [`Discovery::advertise`].
    pub advertise: Option<Vec<SocketAddr>>,
    /// Where `/metrics` is answered.
    pub metrics: Option<SocketAddr>,
    /// What peers may use.
    pub limits: LimitSettings,
}

fn relays<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Relays>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

impl Settings {
    /// Those of a home; none if it has no such file.
    pub fn load(home: &Home) -> Result<Self, HomeError> {
        let path = home.root().join("config.toml");
        let text = match read_small(&path) {
            Ok(text) => text,
            Err(HomeError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        toml::from_str(&text).map_err(|error| HomeError::Parse { path, reason: error.to_string().trim().to_owned() })
    }
}

impl NetworkSettings {
    /// These, and where they say nothing, `weaker` ones.
    #[must_use]
    pub fn or(self, weaker: Self) -> Self {
        Self {
            bind: self.bind.or(weaker.bind),
            lan: self.lan.or(weaker.lan),
            relay: self.relay.or(weaker.relay),
            advertise: self.advertise.or(weaker.advertise),
            metrics: self.metrics.or(weaker.metrics),
            limits: self.limits.or(weaker.limits),
        }
    }

    /// What follows from them. Who says nothing listens on any free port that this machine alone reaches; who wants to be
    /// found by others, on all interfaces.
    pub fn networking(self) -> Networking {
        let discovery = Discovery {
            lan: self.lan.unwrap_or_default(),
            relays: self.relay.unwrap_or_default(),
            advertise: self.advertise.unwrap_or_default(),
        };
        let all = if discovery.is_wide() { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        Networking { bind: self.bind.unwrap_or(SocketAddr::from((all, 0))), discovery, limits: self.limits }
    }
}

/// How a node or a command uses the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networking {
    /// Where it listens.
    pub bind: SocketAddr,
    /// How it is reached and finds others.
    pub discovery: Discovery,
    /// What peers may use of it.
    pub limits: LimitSettings,
}

impl Default for Networking {
    fn default() -> Self {
        NetworkSettings::default().networking()
    }
}

impl Networking {
    /// For the network, with a key and this machine's clock.
    pub fn config(&self, secret_key: [u8; 32]) -> NetConfig {
        NetConfig {
            bind: self.bind,
            discovery: self.discovery.clone(),
            clock: Some(unix_ms),
            limits: self.limits.limits(),
            ..NetConfig::loopback(secret_key)
        }
    }
}

#[cfg(test)]
mod tests {
    use templar_manifest::SecretKey;

    use super::*;

    fn load(text: &str) -> Result<Settings, HomeError> {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("home"), &SecretKey::from_bytes(&[1; 32])).unwrap();
        assert_eq!(Settings::load(&home).unwrap(), Settings::default(), "no file says nothing");
        std::fs::write(home.root().join("config.toml"), text).unwrap();
        Settings::load(&home)
    }

    #[test]
    fn the_file_says_what_the_documentation_shows() {
        // The example of this file's own documentation.
        let source = include_str!("settings.rs");
        let example = source.split("```").nth(1).unwrap().trim_start_matches("toml");
        let text: String = example.lines().map(|line| format!("{}\n", line.trim_start_matches("//!"))).collect();
        let network = load(&text).unwrap().network;
        assert_eq!(network.relay, Some(Relays::N0));
        assert_eq!(network.advertise.as_ref().unwrap().len(), 1);
        assert!(network.bind.is_some() && network.lan == Some(true) && network.metrics.is_some());
        assert_eq!(network.limits, "upload=2000000,connections=64".parse().unwrap());
        let config = network.networking().config([1; 32]);
        assert_eq!(config.limits.serving.bytes_per_second, Some(2_000_000));
        assert_eq!(config.limits.connections.max_inbound, 64);
        assert_eq!(load("").unwrap(), Settings::default());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let limits = ["up = 1", "upload = -1", "upload = true", "upload = \"fast\"", "connections = 0"];
        let limits = limits.map(|line| format!("[network.limits]\n{line}"));
        let others = [
            "[network]\nrelays = \"n0\"",
            "[net]\n",
            "[network]\nbind = 4433",
            "[network]\nrelay = \"x\"",
            "=",
            "bind",
        ];
        for text in others.into_iter().chain(limits.iter().map(String::as_str)) {
            let error = load(text).unwrap_err();
            assert!(matches!(error, HomeError::Parse { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_is_reached_that_nobody_asked_for() {
        let silent = NetworkSettings::default().networking();
        assert_eq!(silent, Networking::default());
        assert!(silent.bind.ip().is_loopback() && !silent.discovery.is_wide());
        let wide = NetworkSettings { lan: Some(true), ..Default::default() };
        assert!(wide.clone().networking().bind.ip().is_unspecified());
        // The stronger word counts, also where it says no.
        let strong = NetworkSettings { lan: Some(false), bind: "10.0.0.1:5".parse().ok(), ..Default::default() };
        assert_eq!(strong.clone().or(wide).networking().bind, "10.0.0.1:5".parse().unwrap());
        assert!(!strong.or(NetworkSettings { lan: Some(true), ..Default::default() }).networking().discovery.lan);
    }
}

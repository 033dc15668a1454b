//! The network settings of a node, and the file of a home that holds them: `config.toml`, written by a person.
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
//! Everything may be left out. The command line and the environment override the file. An unknown key is an
//! error, since a person meant something by it.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use templar_data::words;
use templar_home::files::read_small;
use templar_home::{Home, HomeError};
use templar_net::{Addr, Discovery, NetConfig, PeerAddr, Reach, Relays, can_send};

use crate::clock::unix_ms;

mod limits;

pub use limits::{LimitError, LimitSettings};

/// The content of `config.toml`. Nothing is set by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeSettings {
    /// The settings of the section `[network]`.
    #[serde(default)]
    pub network: NetworkSettings,
}

/// Network settings of a person, from a file, the environment or the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// The address to listen on.
    pub bind: Option<SocketAddr>,
    /// Whether to use the local network, see [`Discovery::lan`].
    pub lan: Option<bool>,
    /// The relays to use, see [`Discovery::relays`].
    #[serde(deserialize_with = "relays")]
    pub relay: Option<Relays>,
    /// The addresses to advertise, see [`Discovery::advertise`].
    pub advertise: Option<Vec<SocketAddr>>,
    /// The address at which `/metrics` is answered.
    pub metrics: Option<SocketAddr>,
    /// The limits on peers.
    pub limits: LimitSettings,
}

fn relays<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Relays>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

impl HomeSettings {
    /// Reads the settings of a home. Without a file nothing is set.
    ///
    /// # Errors
    /// The file cannot be read or does not parse.
    pub fn load(home: &Home) -> Result<Self, HomeError> {
        let path = home.root().join("config.toml");
        let text = match read_small(&path) {
            Ok(text) => text,
            Err(HomeError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        toml::from_str(&text).map_err(|error: toml::de::Error| HomeError::Parse {
            path,
            reason: words::toml(&text, error.span(), error.message()),
        })
    }
}

impl NetworkSettings {
    /// These settings, and where they are silent those of `weaker`.
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

    /// The use of the network that follows from these settings, with these peers to reach.
    ///
    /// By default a node listens on a free port that only this machine reaches. It listens on all interfaces if it
    /// is to be found by others, and if one of the peers is on another machine: a socket that is bound to loopback
    /// can send nothing to another machine. A user who names such a peer asks for that.
    pub fn networking(self, peers: &[PeerAddr]) -> Networking {
        let discovery = Discovery {
            lan: self.lan.unwrap_or_default(),
            relays: self.relay.unwrap_or_default(),
            advertise: self.advertise.unwrap_or_default(),
        };
        let is_elsewhere = |addr: &Addr| addr.ip().is_some_and(|addr| Reach::of(addr.ip()) != Reach::Machine);
        let is_wide = discovery.is_wide() || peers.iter().flat_map(|peer| &peer.addrs).any(is_elsewhere);
        let default: IpAddr = if is_wide { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::LOCALHOST.into() };
        let bind = self.bind.unwrap_or(SocketAddr::from((default, 0)));
        Networking { bind, discovery, limits: self.limits }
    }
}

/// The use of the network by a node or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networking {
    /// The address to listen on.
    pub bind: SocketAddr,
    /// The ways to be reached and to find others.
    pub discovery: Discovery,
    /// The limits on peers.
    pub limits: LimitSettings,
}

impl Default for Networking {
    fn default() -> Self {
        NetworkSettings::default().networking(&[])
    }
}

impl Networking {
    /// The same for an endpoint that only asks. It takes any free port, since the node's own may be in use, and it does
    /// not announce itself, since nobody has to find it.
    pub(crate) fn aside(&self) -> Self {
        let mut aside = self.clone();
        aside.bind.set_port(0);
        aside.discovery.lan = false;
        aside
    }

    /// Whether a node with this configuration can try to reach the peer at all.
    pub fn can_try(&self, peer: &PeerAddr) -> bool {
        let Discovery { lan, relays, .. } = &self.discovery;
        // `[::]` stands for IPv4, too.
        let from = |to: SocketAddr| match self.bind.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() => true,
            _ => can_send(self.bind, to),
        };
        let reaches = |addr: &Addr| match (addr, relays) {
            (Addr::Ip(addr), _) => from(*addr),
            (Addr::Relay(url), Relays::Own(urls)) => urls.contains(url),
            (Addr::Relay(_), relays) => *relays == Relays::N0,
        };
        *lan || *relays == Relays::N0 || peer.addrs.iter().any(reaches)
    }

    /// The configuration of the network layer, with this secret key and this machine's clock.
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

    fn load(text: &str) -> Result<HomeSettings, HomeError> {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::init(&dir.path().join("home"), &SecretKey::from_bytes(&[1; 32])).unwrap();
        assert_eq!(HomeSettings::load(&home).unwrap(), HomeSettings::default(), "no file says nothing");
        std::fs::write(home.root().join("config.toml"), text).unwrap();
        HomeSettings::load(&home)
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
        let config = network.networking(&[]).config([1; 32]);
        assert_eq!(config.limits.serving.bytes_per_second, Some(2_000_000));
        assert_eq!(config.limits.connections.max_inbound, 64);
        assert_eq!(load("").unwrap(), HomeSettings::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_in_plain_words() {
        let told = |text: &str| load(text).unwrap_err().to_string();
        let said = told("[network]\nlan = 3\n");
        assert!(
            said.ends_with("config.toml does not parse: at line 2, column 7: 3 stands where true or false must be"),
            "{said}"
        );
        let said = told("[network]\n\nbnd = \"1\"\n");
        assert!(said.contains(": at line 3, column 1: `bnd` is no key here, but `bind`, `lan`, "), "{said}");
        let said = told("[network]\nbind = \"here\"\n");
        assert!(
            said.ends_with(": at line 2, column 8: an address must be such as 0.0.0.0:4433 or [::]:4433"),
            "{said}"
        );
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
        let silent = NetworkSettings::default().networking(&[]);
        assert_eq!(silent, Networking::default());
        assert!(silent.bind.ip().is_loopback() && !silent.discovery.is_wide());
        let wide = NetworkSettings { lan: Some(true), ..Default::default() };
        assert!(wide.clone().networking(&[]).bind.ip().is_unspecified());
        // The stronger setting counts, even if it is `false`.
        let strong = NetworkSettings { lan: Some(false), bind: "10.0.0.1:5".parse().ok(), ..Default::default() };
        assert_eq!(strong.clone().or(wide).networking(&[]).bind, "10.0.0.1:5".parse().unwrap());
        assert!(!strong.or(NetworkSettings { lan: Some(true), ..Default::default() }).networking(&[]).discovery.lan);
    }
    fn peer(addrs: &[&str]) -> PeerAddr {
        let id = *SecretKey::from_bytes(&[2; 32]).public().as_bytes();
        PeerAddr { id, addrs: addrs.iter().map(|addr| addr.parse().unwrap()).collect() }
    }

    #[test]
    fn a_node_listens_where_it_can_reach_the_peers_that_it_is_given() {
        let bind = |addrs: &[&str]| NetworkSettings::default().networking(&[peer(addrs)]).bind;
        assert!(bind(&["127.0.0.1:4433", "[::1]:4433"]).ip().is_loopback());
        assert!(bind(&["https://relay.example.org"]).ip().is_loopback(), "no relay is used unasked");
        for elsewhere in ["10.77.0.1:4433", "[fd77::1]:4433", "203.0.113.7:4433"] {
            assert_eq!(bind(&["127.0.0.1:4433", elsewhere]), "[::]:0".parse().unwrap(), "{elsewhere}");
        }
        // The address that a person has chosen counts.
        let said = NetworkSettings { bind: "127.0.0.1:7".parse().ok(), ..Default::default() };
        assert_eq!(said.networking(&[peer(&["10.77.0.1:4433"])]).bind, "127.0.0.1:7".parse().unwrap());
    }

    #[test]
    fn a_peer_out_of_reach_is_known_before_it_is_tried() {
        let at = |bind: &str| NetworkSettings { bind: bind.parse().ok(), ..Default::default() }.networking(&[]);
        let (near, far, far6) = (peer(&["127.0.0.1:1"]), peer(&["10.77.0.1:1"]), peer(&["[fd77::1]:1"]));
        let relayed = peer(&["https://relay.example.org"]);
        assert!(at("127.0.0.1:0").can_try(&near) && !at("127.0.0.1:0").can_try(&far));
        assert!(at("0.0.0.0:0").can_try(&far) && !at("0.0.0.0:0").can_try(&far6));
        assert!(at("[::]:0").can_try(&far) && at("[::]:0").can_try(&far6) && at("[::]:0").can_try(&near));
        assert!(!at("[::]:0").can_try(&relayed) && !at("[::]:0").can_try(&peer(&[])));
        let with = |relay: &str| NetworkSettings { relay: relay.parse().ok(), ..Default::default() }.networking(&[]);
        assert!(with("https://relay.example.org").can_try(&relayed) && with("n0").can_try(&peer(&[])));
        assert!(!with("https://other.example.org").can_try(&relayed));
    }
}

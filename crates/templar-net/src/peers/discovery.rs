//! The configuration of discovery: the local network, relays, and advertised addresses.
//!
//! Invariant: nothing is used that is not configured. With [`Discovery::default`] packets go to the known
//! addresses of peers only: there is no relay, no name service, no multicast and no port mapping.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use iroh::{RelayMode, RelayUrl};

use crate::peers::peer::Addr;

/// The ways in which a node and its peers find each other. By default there is none but known addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovery {
    /// Whether this node announces itself on the local network by multicast (mDNS), and learns of nodes of the
    /// same run that do so.
    pub lan: bool,
    /// Servers that forward packets between nodes which cannot reach each other.
    pub relays: Relays,
    /// Addresses at which others reach this node and that it cannot see itself, such as a router's forwarded
    /// port.
    pub advertise: Vec<SocketAddr>,
}

impl Discovery {
    /// Whether other machines are meant to reach the node.
    pub fn is_wide(&self) -> bool {
        self.lan || self.relays != Relays::None || !self.advertise.is_empty()
    }
}

/// The relays that a node uses.
///
/// Packets through a relay are encrypted from end to end. The relay learns which nodes talk with each other,
/// and how much.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Relays {
    /// No relay is used.
    #[default]
    None,
    /// The public relays of number 0, the makers of iroh, and their name service. The node publishes its
    /// addresses there.
    N0,
    /// These relays and no name service: addresses travel in tickets and between peers. A peer's relay is used
    /// only if it is among them.
    Own(Vec<RelayUrl>),
}

/// The text is not a choice of relays. It holds the beginning of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no relay: expected none, n0, or URLs such as https://relay.example.org with commas between them")]
pub struct RelaysError(String);

impl FromStr for Relays {
    type Err = RelaysError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || RelaysError(text.chars().take(100).collect());
        match text {
            "none" => Ok(Self::None),
            "n0" => Ok(Self::N0),
            urls => {
                let url = |url: &str| match url.parse::<Addr>() {
                    Ok(Addr::Relay(url)) if matches!(url.scheme(), "http" | "https") => Ok(url),
                    _ => Err(error()),
                };
                Ok(Self::Own(urls.split(',').map(url).collect::<Result<_, _>>()?))
            }
        }
    }
}

impl fmt::Display for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::N0 => f.write_str("n0"),
            Self::Own(urls) => {
                let urls: Vec<&str> = urls.iter().map(|url| url.as_str()).collect();
                f.write_str(&urls.join(","))
            }
        }
    }
}

impl Relays {
    /// The same for iroh.
    pub(crate) fn mode(&self) -> RelayMode {
        match self {
            Self::None => RelayMode::Disabled,
            Self::N0 => RelayMode::Default,
            Self::Own(urls) => RelayMode::custom(urls.iter().cloned()),
        }
    }

    /// The relays that this node may connect to.
    pub(crate) fn urls(&self) -> BTreeSet<RelayUrl> {
        self.mode().relay_map().urls()
    }
}

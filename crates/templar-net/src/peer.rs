//! Who a peer is and where it may be reached.
//!
//! A peer's id is its ed25519 public key, proven by every connection; its addresses are hearsay. Invariant: a
//! [`PeerAddr`] that left [`PeerAddr::checked`] or [`PeerAddr::usable`] has a valid key and at most [`MAX_ADDRS`] addresses that
//! can be dialled.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr};
use serde::{Deserialize, Serialize};

/// A peer's ed25519 public key, which is its iroh endpoint id.
pub type PeerId = [u8; 32];

/// How many addresses one peer may have.
pub const MAX_ADDRS: usize = 8;

/// The longest URL of a relay, in bytes.
const MAX_RELAY_URL: usize = 200;

/// One way to reach a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Addr {
    /// An IP address with a UDP port.
    Ip(SocketAddr),
    /// A relay that the peer is connected to: it passes packets on, which it cannot read.
    Relay(RelayUrl),
}

impl Addr {
    /// The IP address, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            Self::Relay(_) => None,
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(addr)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Addr {
    fn from(addr: (I, u16)) -> Self {
        Self::Ip(addr.into())
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Relay(url) => url.fmt(f),
        }
    }
}

impl FromStr for Addr {
    type Err = PeerAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || PeerAddrError::Syntax(text.chars().take(100).collect());
        if text.contains("://") {
            text.parse().map(Self::Relay).map_err(|_| syntax())
        } else {
            text.parse().map(Self::Ip).map_err(|_| syntax())
        }
    }
}

/// A peer and the addresses where it may be reached. Written `ID@ADDR,ADDR` with the id as 64 hexadecimal digits; an address
/// is `IP:PORT` or a relay's URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerAddr {
    /// The peer's id.
    pub id: PeerId,
    /// Best first.
    pub addrs: Vec<Addr>,
}

/// A peer's address is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerAddrError {
    /// The text is not `ID@ADDR,ADDR`.
    #[error("{0:?} is not a peer: expected 64 hexadecimal digits, `@`, and addresses such as 127.0.0.1:4444")]
    Syntax(String),
    /// The id is not an ed25519 public key.
    #[error("{0} is not an ed25519 public key")]
    Key(String),
    /// More addresses than a peer may have.
    #[error("{0} addresses for one peer, more than {MAX_ADDRS}")]
    TooManyAddrs(usize),
    /// An address nobody can be reached at: port 0, unspecified or multicast, or a relay's URL that is too long.
    #[error("nobody can be reached at {0}")]
    Unreachable(Addr),
}

impl PeerAddr {
    /// The same, if the key is valid and every address can be dialled.
    ///
    /// # Errors
    /// [`PeerAddrError`] names what is wrong.
    pub fn checked(self) -> Result<Self, PeerAddrError> {
        endpoint_id(&self.id).ok_or_else(|| PeerAddrError::Key(hex(&self.id)))?;
        if self.addrs.len() > MAX_ADDRS {
            return Err(PeerAddrError::TooManyAddrs(self.addrs.len()));
        }
        match self.addrs.iter().find(|addr| !can_be_dialled(addr)) {
            Some(addr) => Err(PeerAddrError::Unreachable(addr.clone())),
            None => Ok(self),
        }
    }

    /// What is usable of an address that a peer told us: bad addresses left out, none at all if the key is invalid.
    pub(crate) fn usable(mut self) -> Option<Self> {
        endpoint_id(&self.id)?;
        self.addrs.retain(can_be_dialled);
        self.addrs.truncate(MAX_ADDRS);
        Some(self)
    }

    /// For iroh; none if the key is invalid.
    pub(crate) fn to_endpoint_addr(&self) -> Option<EndpointAddr> {
        let addr = EndpointAddr::new(endpoint_id(&self.id)?);
        Some(addr.with_addrs(self.addrs.iter().map(|addr| match addr {
            Addr::Ip(addr) => TransportAddr::Ip(*addr),
            Addr::Relay(url) => TransportAddr::Relay(url.clone()),
        })))
    }

    /// From iroh: the addresses of the sorts that are known here.
    pub(crate) fn from_endpoint_addr(addr: &EndpointAddr) -> Self {
        let ips = addr.ip_addrs().map(|addr| Addr::Ip(*addr));
        let addrs = ips.chain(addr.relay_urls().map(|url| Addr::Relay(url.clone()))).collect();
        Self { id: *addr.id.as_bytes(), addrs }
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", hex(&self.id))?;
        for (i, addr) in self.addrs.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{addr}")?;
        }
        Ok(())
    }
}

impl FromStr for PeerAddr {
    type Err = PeerAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || PeerAddrError::Syntax(text.chars().take(100).collect());
        let (id, addrs) = text.split_once('@').ok_or_else(syntax)?;
        let id = data_encoding::HEXLOWER_PERMISSIVE.decode(id.as_bytes()).map_err(|_| syntax())?;
        let id: PeerId = id.try_into().map_err(|_| syntax())?;
        let addrs: Result<Vec<Addr>, _> =
            addrs.split(',').filter(|addr| !addr.is_empty()).take(MAX_ADDRS + 1).map(str::parse).collect();
        Self { id, addrs: addrs.map_err(|_| syntax())? }.checked()
    }
}

/// The id as iroh's type; none if it is not a point on the curve.
pub(crate) fn endpoint_id(id: &PeerId) -> Option<EndpointId> {
    EndpointId::from_bytes(id).ok()
}

pub(crate) fn hex(id: &PeerId) -> String {
    data_encoding::HEXLOWER.encode(id)
}

/// The first ten digits, for people.
pub(crate) fn short(id: &PeerId) -> String {
    data_encoding::HEXLOWER.encode(&id[..5])
}

fn can_be_dialled(addr: &Addr) -> bool {
    match addr {
        Addr::Ip(addr) => {
            let ip = addr.ip();
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
        }
        Addr::Relay(url) => {
            let text = url.as_str();
            // A comma would end it in the text of a peer.
            text.len() <= MAX_RELAY_URL && !text.contains(',') && matches!(url.scheme(), "http" | "https")
        }
    }
}

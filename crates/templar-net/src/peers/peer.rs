//! The identity of a peer, and the addresses at which it may be reached.
//!
//! A peer's id is its ed25519 public key, which every connection proves. Its addresses are hearsay. Invariant:
//! a [`PeerAddr`] from [`PeerAddr::checked`] or [`PeerAddr::usable`] has a valid key and at most [`MAX_ADDRS`]
//! addresses, all of which can be dialled.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use iroh::{EndpointAddr, EndpointId, RelayUrl, TransportAddr};
use iroh_blobs::ticket::BlobTicket;
use serde::{Deserialize, Serialize};

/// A peer's ed25519 public key, which is its iroh endpoint id.
pub type PeerId = [u8; 32];

/// The largest number of addresses of one peer.
pub const MAX_ADDRS: usize = 8;

/// The longest URL of a relay, in bytes.
const MAX_RELAY_URL: usize = 200;

/// One address of a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Addr {
    /// An IP address with a UDP port.
    Ip(SocketAddr),
    /// The URL of a relay that the peer is connected to. The relay forwards packets, which it cannot read.
    Relay(RelayUrl),
}

impl Addr {
    /// The IP address and port, or `None` for a relay.
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

/// A peer and the addresses at which it may be reached.
///
/// As text it is `ID@ADDR,ADDR`: the id as 64 hexadecimal digits, and addresses that are `IP:PORT` or the URL
/// of a relay.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PeerAddr {
    /// The peer's ed25519 public key.
    pub id: PeerId,
    /// Its addresses, best first.
    pub addrs: Vec<Addr>,
}

/// The reason why a peer's address cannot be used.
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
    /// An address that cannot be dialled: port 0, an unspecified or multicast IP, or a relay's URL that is too
    /// long.
    #[error("nobody can be reached at {0}")]
    Unreachable(Addr),
}

impl PeerAddr {
    /// Returns it unchanged if the key is valid and every address can be dialled.
    ///
    /// # Errors
    /// [`PeerAddrError`] names the first fault.
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

    /// The peer that a blob's ticket names.
    pub fn of_blob_ticket(ticket: &BlobTicket) -> Self {
        Self::from_endpoint_addr(ticket.addr())
    }

    /// The usable part of an address that a peer told us: bad addresses are left out. `None` if the key is
    /// invalid.
    pub(crate) fn usable(mut self) -> Option<Self> {
        endpoint_id(&self.id)?;
        self.addrs.retain(can_be_dialled);
        self.addrs.truncate(MAX_ADDRS);
        Some(self)
    }

    /// The same as iroh's type. `None` if the key is invalid.
    pub(crate) fn to_endpoint_addr(&self) -> Option<EndpointAddr> {
        let addr = EndpointAddr::new(endpoint_id(&self.id)?);
        Some(addr.with_addrs(self.addrs.iter().map(|addr| match addr {
            Addr::Ip(addr) => TransportAddr::Ip(*addr),
            Addr::Relay(url) => TransportAddr::Relay(url.clone()),
        })))
    }

    /// The same from iroh's type, with its IP addresses and relays.
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

/// The id as iroh's type. `None` if the bytes are not a point on the curve.
pub(crate) fn endpoint_id(id: &PeerId) -> Option<EndpointId> {
    EndpointId::from_bytes(id).ok()
}

/// The id as 64 hexadecimal digits.
pub(crate) fn hex(id: &PeerId) -> String {
    data_encoding::HEXLOWER.encode(id)
}

/// The first ten hexadecimal digits of the id, for logs and messages.
pub(crate) fn short(id: &PeerId) -> String {
    data_encoding::HEXLOWER.encode(&id[..5])
}

/// Whether the address can be dialled at all.
fn can_be_dialled(addr: &Addr) -> bool {
    match addr {
        Addr::Ip(addr) => {
            let ip = addr.ip();
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
        }
        Addr::Relay(url) => {
            let text = url.as_str();
            // In the text of a peer, a comma would end the URL.
            text.len() <= MAX_RELAY_URL && !text.contains(',') && matches!(url.scheme(), "http" | "https")
        }
    }
}

//! How a node is reached and finds others: the addresses it tells, the local network, relays. All of it is configuration.
//!
//! Invariant: what is not configured is not used. With [`Reach::default`] no packet goes anywhere but to the addresses of
//! peers: no relay, no name service, no multicast, no port mapping.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use iroh::address_lookup::{DnsAddressLookup, PkarrPublisher, PkarrResolver, UserData};
use iroh::endpoint::{Builder, ControllerFactory, PortmapperConfig, QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, RelayMode, RelayUrl, SecretKey};
use noq_proto::congestion::CubicConfig;
use templar_manifest::Hash;

use crate::pace::Paced;
use crate::peer::{Addr, MAX_ADDRS, PeerAddr};
use crate::{BindError, Congestion, NetConfig};

/// How a node is reached and finds others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Announces this node on the local network by multicast (mDNS), and takes in nodes of the same run that do so.
    pub lan: bool,
    /// Servers that pass packets on between nodes which cannot reach each other.
    pub relays: Relays,
    /// Addresses at which others reach this node, besides those it can see itself: those of a forwarded port.
    pub advertise: Vec<SocketAddr>,
}

impl Reach {
    /// Whether others than this machine are to reach the node.
    pub fn is_wide(&self) -> bool {
        self.lan || self.relays != Relays::None || !self.advertise.is_empty()
    }
}

/// Which relays are used. Packets that pass through one are encrypted from end to end; it learns who talks with whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Relays {
    /// None.
    #[default]
    None,
    /// Those of number 0, who make iroh, and their name service, where the node publishes its addresses.
    N0,
    /// One's own, and no name service: addresses travel in tickets and between peers. A peer's relay is used if it is among
    /// them.
    Own(Vec<RelayUrl>),
}

/// A text does not say which relays to use.
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
    fn mode(&self) -> RelayMode {
        match self {
            Self::None => RelayMode::Disabled,
            Self::N0 => RelayMode::Default,
            Self::Own(urls) => RelayMode::custom(urls.iter().cloned()),
        }
    }

    /// The relays that may be connected to.
    pub(crate) fn urls(&self) -> BTreeSet<RelayUrl> {
        self.mode().relay_map().urls()
    }
}

/// Whether the name service, where one is configured, hears of this endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    Address,
    Nothing,
}

/// An endpoint that is reached as configured.
pub(crate) async fn bind(config: &NetConfig, run: &Hash, publish: Publish) -> Result<Endpoint, BindError> {
    let Reach { lan, relays, advertise } = &config.reach;
    if *lan && !cfg!(feature = "lan") {
        return Err(BindError::NoLan);
    }
    if *lan && config.bind.ip().is_loopback() {
        return Err(BindError::Lan { addr: config.bind });
    }
    let addr_error = |reason: String| BindError::Addr { addr: config.bind, reason };
    let mut builder = Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&config.secret_key))
        .relay_mode(relays.mode())
        .portmapper_config(PortmapperConfig::Disabled)
        .transport_config(transport(config)?)
        .clear_ip_transports()
        .bind_addr(config.bind)
        .map_err(|error| addr_error(error.to_string()))?;
    for addr in advertise {
        builder = builder.external_addr(*addr);
    }
    if *relays == Relays::N0 {
        builder = n0_lookup(builder, publish);
    }
    if *lan {
        // Nodes of other runs in the same network are of no interest to each other.
        let run: UserData = run.to_string().parse().map_err(|_| BindError::Limit { name: "run" })?;
        builder = builder.user_data_for_address_lookup(run);
    }
    builder.bind().await.map_err(|error| addr_error(format!("{error:#}")))
}

fn transport(config: &NetConfig) -> Result<QuicTransportConfig, BindError> {
    let limits = &config.limits;
    let idle = limits.idle_timeout.try_into().map_err(|_| BindError::Limit { name: "idle_timeout" })?;
    let congestion: Arc<dyn ControllerFactory + Send + Sync> = match config.congestion {
        Congestion::Bbr => Arc::new(Paced::default()),
        Congestion::Cubic => Arc::new(CubicConfig::default()),
    };
    Ok(QuicTransportConfig::builder()
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(limits.keep_alive)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .congestion_controller_factory(congestion)
        .send_window(u64::from(limits.connection_memory))
        .receive_window(VarInt::from_u32(limits.connection_memory))
        .stream_receive_window(VarInt::from_u32(limits.connection_memory / 2))
        .build())
}

/// The name service of number 0: publishes where this node is, and finds others by their id.
fn n0_lookup(mut builder: Builder, publish: Publish) -> Builder {
    if publish == Publish::Address {
        builder = builder.address_lookup(PkarrPublisher::n0_dns());
    }
    builder.address_lookup(PkarrResolver::n0_dns()).address_lookup(DnsAddressLookup::n0_dns())
}

/// Where others reach the node: what it was told to tell, the bound socket or what it stands for when it listens on all
/// interfaces, and the relay it is connected to.
pub(crate) fn listening_at(endpoint: &Endpoint, advertise: &[SocketAddr]) -> PeerAddr {
    let seen = endpoint.addr();
    let mut own: BTreeSet<SocketAddr> =
        endpoint.bound_sockets().into_iter().filter(|addr| !addr.ip().is_unspecified()).collect();
    if own.is_empty() {
        own = seen.ip_addrs().copied().collect();
    }
    let mut addrs: Vec<Addr> = advertise.iter().copied().map(Addr::Ip).collect();
    let relays: Vec<Addr> = seen.relay_urls().cloned().map(Addr::Relay).take(1).collect();
    addrs.extend(own.into_iter().map(Addr::Ip).filter(|addr| !advertise.iter().any(|told| addr.ip() == Some(*told))));
    addrs.truncate(MAX_ADDRS - relays.len());
    addrs.extend(relays);
    let addr = PeerAddr { id: *endpoint.id().as_bytes(), addrs };
    addr.clone().usable().unwrap_or(addr)
}

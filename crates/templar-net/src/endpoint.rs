//! Binds the iroh endpoint of a node: its socket, its ways of discovery, and the bounds that QUIC enforces.
//!
//! Invariant: the endpoint uses only the ways of discovery that are configured.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use iroh::address_lookup::{DnsAddressLookup, PkarrPublisher, PkarrResolver, UserData};
use iroh::endpoint::{Builder, ControllerFactory, PortmapperConfig, QuicTransportConfig, VarInt, presets};
use iroh::{Endpoint, SecretKey};
use noq_proto::congestion::CubicConfig;
use templar_manifest::Hash;

use crate::config::{Congestion, NetConfig};
use crate::error::BindError;
use crate::peers::discovery::{Discovery, Relays};
use crate::words;

#[cfg(feature = "lan")]
pub(crate) mod lan;
pub(crate) mod listening;
mod pacing;

use pacing::Paced;

/// Whether an endpoint publishes its address at the name service, if one is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publish {
    /// It publishes its address, so that peers find it.
    Address,
    /// It only looks up others.
    Nothing,
}

/// Binds an endpoint for a node of `run`.
///
/// # Errors
/// [`BindError`] if the address cannot be bound, discovery cannot work there, or a limit is out of range.
pub(crate) async fn bind(config: &NetConfig, run: &Hash, publish: Publish) -> Result<Endpoint, BindError> {
    let Discovery { lan, relays, advertise } = &config.discovery;
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
        .clear_ip_transports();
    for socket in sockets(config.bind) {
        builder = builder.bind_addr(socket).map_err(|error| addr_error(error.to_string()))?;
    }
    for addr in advertise {
        builder = builder.external_addr(*addr);
    }
    if *relays == Relays::N0 {
        builder = n0_lookup(builder, publish);
    }
    if *lan {
        // Nodes announce their run, so that nodes of other runs in the same network can ignore them.
        let run: UserData = run.to_string().parse().map_err(|_| BindError::Limit { name: "run" })?;
        builder = builder.user_data_for_address_lookup(run);
    }
    builder.bind().await.map_err(|error| addr_error(words::of_system(&error)))
}

/// The QUIC settings that follow from the limits.
fn transport(config: &NetConfig) -> Result<QuicTransportConfig, BindError> {
    let limits = &config.limits;
    let idle = limits.timeouts.idle.try_into().map_err(|_| BindError::Limit { name: "idle_timeout" })?;
    let congestion: Arc<dyn ControllerFactory + Send + Sync> = match config.congestion {
        Congestion::Bbr => Arc::new(Paced::default()),
        Congestion::Cubic => Arc::new(CubicConfig::default()),
    };
    Ok(QuicTransportConfig::builder()
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(limits.timeouts.keep_alive)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.connections.max_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .congestion_controller_factory(congestion)
        .send_window(u64::from(limits.connections.memory))
        .receive_window(VarInt::from_u32(limits.connections.memory))
        .stream_receive_window(VarInt::from_u32(limits.connections.memory / 2))
        .build())
}

/// Adds number 0's name service, which finds nodes by their id, and optionally publishes this node's address
/// there.
fn n0_lookup(mut builder: Builder, publish: Publish) -> Builder {
    if publish == Publish::Address {
        builder = builder.address_lookup(PkarrPublisher::n0_dns());
    }
    builder.address_lookup(PkarrResolver::n0_dns()).address_lookup(DnsAddressLookup::n0_dns())
}

/// The sockets of a node that listens at `bind`.
///
/// `[::]` stands for every address of the machine, of IPv6 and of IPv4, as it does elsewhere. iroh's IPv6 sockets take
/// no IPv4, so that needs two sockets. On a system without IPv6 the second one is enough.
fn sockets(bind: SocketAddr) -> Vec<SocketAddr> {
    if bind.is_ipv4() || !bind.ip().is_unspecified() {
        return vec![bind];
    }
    let has_ipv6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok();
    let every_ipv4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, bind.port()));
    has_ipv6.then_some(bind).into_iter().chain([every_ipv4]).collect()
}

//! The addresses at which others reach a node.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use iroh::Endpoint;
use netwatch::interfaces::State;

use crate::peers::peer::{Addr, MAX_ADDRS, PeerAddr};
use crate::peers::reach::Reach;

/// An endpoint, with what is needed to say where it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Listening {
    endpoint: Endpoint,
    advertise: Vec<SocketAddr>,
    /// The unique local addresses (RFC 4193) of this machine when the endpoint was bound, if the endpoint listens on
    /// them. iroh tells them only if the machine has no other address.
    unique_local: Vec<Ipv6Addr>,
}

impl Listening {
    /// Looks at the addresses of this machine. `advertise` are addresses that it cannot see itself.
    pub(crate) async fn of(endpoint: &Endpoint, advertise: &[SocketAddr]) -> Self {
        let unique_local =
            if endpoint.bound_sockets().iter().any(is_every_ipv6) { unique_local().await } else { vec![] };
        Self { endpoint: endpoint.clone(), advertise: advertise.to_vec(), unique_local }
    }

    /// The sockets that are bound.
    pub(crate) fn sockets(&self) -> Vec<SocketAddr> {
        self.endpoint.bound_sockets()
    }

    /// The id of the node and the addresses at which others reach it.
    ///
    /// These are the advertised addresses, then those of this machine on which the endpoint listens, then the relay
    /// that it is connected to.
    pub(crate) fn addr(&self) -> PeerAddr {
        let seen = self.endpoint.addr();
        let own = own(&self.endpoint.bound_sockets(), seen.ip_addrs().copied(), &self.unique_local);
        let relays: Vec<Addr> = seen.relay_urls().cloned().map(Addr::Relay).take(1).collect();
        let mut addrs: Vec<Addr> = self.advertise.iter().copied().map(Addr::Ip).collect();
        addrs.extend(own.into_iter().filter(|addr| !self.advertise.contains(addr)).map(Addr::Ip));
        addrs.truncate(MAX_ADDRS - relays.len());
        addrs.extend(relays);
        let addr = PeerAddr { id: *self.endpoint.id().as_bytes(), addrs };
        addr.clone().usable().unwrap_or(addr)
    }
}

/// Whether the socket takes packets for every IPv6 address of the machine.
fn is_every_ipv6(socket: &SocketAddr) -> bool {
    socket.is_ipv6() && socket.ip().is_unspecified()
}

/// The addresses of this machine on which these sockets listen, those that most can reach first. `seen` are the
/// addresses that iroh found, on sockets that take packets for every address.
fn own(bound: &[SocketAddr], seen: impl Iterator<Item = SocketAddr>, unique_local: &[Ipv6Addr]) -> Vec<SocketAddr> {
    let mut own: BTreeSet<SocketAddr> = bound.iter().copied().filter(|addr| !addr.ip().is_unspecified()).collect();
    if own.len() < bound.len() {
        own.extend(seen);
    }
    if let Some(socket) = bound.iter().find(|socket| is_every_ipv6(socket)) {
        own.extend(unique_local.iter().map(|ip| SocketAddr::from((*ip, socket.port()))));
    }
    let mut own: Vec<SocketAddr> = own.into_iter().collect();
    own.sort_by_key(|addr| Reverse(Reach::of(addr.ip())));
    own
}

/// The unique local addresses of this machine, on interfaces that are up.
async fn unique_local() -> Vec<Ipv6Addr> {
    let interfaces = State::new().await.interfaces;
    let addrs = interfaces.values().filter(|interface| interface.is_up()).flat_map(|interface| interface.addrs());
    let unique_local = |ip: IpAddr| match ip {
        IpAddr::V6(ip) if ip.is_unique_local() => Some(ip),
        _ => None,
    };
    addrs.filter_map(|net| unique_local(net.addr())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(bound: &[&str], seen: &[&str], unique_local: &[&str]) -> Vec<String> {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let unique_local: Vec<Ipv6Addr> = unique_local.iter().map(|text| text.parse().unwrap()).collect();
        own(&parse(bound), parse(seen).into_iter(), &unique_local).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_tells_every_address_that_it_listens_on() {
        // iroh leaves unique local addresses out where there is another one.
        let everywhere = told(&["[::]:4433", "0.0.0.0:4433"], &["10.77.0.1:4433"], &["fd77::1"]);
        assert_eq!(everywhere, ["10.77.0.1:4433", "[fd77::1]:4433"]);
        assert_eq!(told(&["[::]:4433"], &[], &["fd77::1"]), ["[fd77::1]:4433"]);
        assert_eq!(told(&["[::]:4433"], &["[fd77::1]:4433"], &["fd77::1"]), ["[fd77::1]:4433"], "once");
        assert_eq!(told(&["[fd77::1]:4433"], &["10.77.0.1:4433"], &[]), ["[fd77::1]:4433"], "where it was told to");
        assert_eq!(told(&["0.0.0.0:4433"], &[], &["fd77::1"]), [""; 0], "IPv6 is not listened on");
    }

    #[test]
    fn what_most_can_reach_comes_first() {
        let seen = ["10.0.0.1:1", "127.0.0.1:1", "203.0.113.7:1"];
        assert_eq!(told(&["0.0.0.0:1"], &seen, &[]), ["203.0.113.7:1", "10.0.0.1:1", "127.0.0.1:1"]);
    }
}

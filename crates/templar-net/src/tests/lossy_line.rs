//! A line between a node on IPv4 and one on IPv6 that delays datagrams and loses some: the benchmark's forwarder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use templar_store::Store;

use super::limits_with;
use crate::{Addr, Log, Net, NetConfig, NetLimits, PeerAddr, ServeAll, Timeouts};

#[path = "../../examples/swarm/forward.rs"]
mod forward;

pub(super) use forward::Line;

pub(super) const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(super) const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Limits with longer timeouts, because such a line needs more time.
fn limits() -> NetLimits {
    let long = Duration::from_secs(20);
    limits_with(|limits| {
        let keep_alive = Duration::from_millis(500);
        limits.timeouts = Timeouts { connect: long, stall: long, idle: long, keep_alive };
        limits.pauses.max_retry = Duration::from_millis(50);
        limits.sync.read_again_pause = Duration::from_millis(50);
    })
}

pub(super) async fn bind(seed: u8, ip: IpAddr, store: &Store, log: Arc<dyn Log>) -> Net {
    let bind = SocketAddr::new(ip, 0);
    let config = NetConfig { bind, limits: limits(), ..NetConfig::loopback([seed; 32]) };
    Net::bind(config, store.clone(), log, Arc::new(ServeAll)).await.unwrap()
}

/// The address at which clients on `to` reach a node on the other protocol through the line.
pub(super) async fn through(line: &Arc<Line>, node: &Net, to: IpAddr) -> PeerAddr {
    let Some(Addr::Ip(target)) = node.addr().addrs.first().cloned() else { panic!("it listens nowhere") };
    let (front, standing) = line.stand_for((to, 0).into(), target.ip(), target).await.unwrap();
    tokio::spawn(standing);
    PeerAddr { id: node.id(), addrs: vec![Addr::Ip(front)] }
}

/// A line that delays and loses datagrams, or `None` if this machine has no IPv6.
pub(super) fn line(delay: Duration, loss_per_thousand: u64, seed: u64) -> Option<Arc<Line>> {
    if UdpSocket::bind((V6, 0)).is_err() {
        println!("skipped: no IPv6 loopback here");
        return None;
    }
    let line = Line::new(delay, loss_per_thousand, seed);
    let delivering = line.clone();
    tokio::spawn(async move { delivering.deliver().await });
    Some(line)
}

//! The machines that can reach an address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::peers::peer::Addr;

/// The machines that can reach an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// This machine alone.
    Machine,
    /// The local network.
    Local,
    /// The whole internet.
    Global,
}

impl Reach {
    /// The machines that can reach an IP address.
    ///
    /// ```
    /// use templar_net::Reach;
    ///
    /// assert_eq!(Reach::of("127.0.0.1".parse()?), Reach::Machine);
    /// assert_eq!(Reach::of("fd77::1".parse()?), Reach::Local);
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                // These are shared between a provider's customers (RFC 6598). Seen from outside they are like
                // private ones.
                let is_shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
                if ip.is_loopback() {
                    Self::Machine
                } else if ip.is_private() || ip.is_link_local() || is_shared || ip == Ipv4Addr::UNSPECIFIED {
                    Self::Local
                } else {
                    Self::Global
                }
            }
            IpAddr::V6(ip) => {
                if let Some(ip) = ip.to_ipv4_mapped() {
                    Self::of(ip.into())
                } else if ip.is_loopback() {
                    Self::Machine
                } else if ip.is_unicast_link_local() || ip.is_unique_local() || ip.is_unspecified() {
                    Self::Local
                } else {
                    Self::Global
                }
            }
        }
    }

    /// The machines that can reach the holder of these addresses: the widest of them counts. `None` if there is no
    /// address.
    ///
    /// A relay counts as reached by everybody.
    pub fn of_all<'a>(addrs: impl IntoIterator<Item = &'a Addr>) -> Option<Self> {
        addrs.into_iter().map(|addr| addr.ip().map_or(Self::Global, |addr| Self::of(addr.ip()))).max()
    }
}

/// Whether a socket that is bound at `from` can send to `to`.
pub fn can_send(from: SocketAddr, to: SocketAddr) -> bool {
    from.is_ipv4() == to.is_ipv4() && (!from.ip().is_loopback() || to.ip().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_good_for_what_they_are() {
        let reach = |text: &str| Reach::of(text.parse().unwrap());
        for text in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(reach(text), Reach::Machine, "{text}");
        }
        for text in ["10.1.2.3", "192.168.0.9", "172.16.0.1", "100.64.0.1", "169.254.1.1", "fe80::1", "fd00::1"] {
            assert_eq!(reach(text), Reach::Local, "{text}");
        }
        for text in ["203.0.113.7", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert_eq!(reach(text), Reach::Global, "{text}");
        }
    }

    #[test]
    fn the_widest_address_counts() {
        let all =
            |texts: &[&str]| Reach::of_all(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Addr>>());
        assert_eq!(all(&[]), None);
        assert_eq!(all(&["127.0.0.1:1"]), Some(Reach::Machine));
        assert_eq!(all(&["127.0.0.1:1", "10.0.0.1:1"]), Some(Reach::Local));
        assert_eq!(all(&["10.0.0.1:1", "https://relay.example.org"]), Some(Reach::Global));
    }

    #[test]
    fn a_socket_sends_to_its_own_family_and_loopback_to_loopback() {
        let can = |from: &str, to: &str| can_send(from.parse().unwrap(), to.parse().unwrap());
        assert!(can("0.0.0.0:1", "10.0.0.1:1") && can("0.0.0.0:1", "127.0.0.1:1") && can("[::]:1", "[fd77::1]:1"));
        assert!(can("127.0.0.1:1", "127.0.0.1:2") && can("10.0.0.2:1", "203.0.113.7:1"));
        assert!(!can("127.0.0.1:1", "10.0.0.1:1") && !can("[::1]:1", "[fd77::1]:1"));
        assert!(!can("0.0.0.0:1", "[fd77::1]:1") && !can("[::]:1", "10.0.0.1:1"));
    }
}

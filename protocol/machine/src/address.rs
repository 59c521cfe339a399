//! How far away an address is, and which addresses have one owner.
//!
//! Invariant: an IPv4 address in IPv6 clothing is what it is without.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far away an address may be, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// This machine.
    Loopback,
    /// A network that is not the Internet: private, link-local, shared by a carrier's customers.
    Private,
    /// The Internet.
    Global,
}

impl Reach {
    /// How far away `ip` is.
    #[must_use]
    pub fn of(ip: IpAddr) -> Reach {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v4(ip: Ipv4Addr) -> Reach {
        let [a, b, ..] = ip.octets();
        // 100.64.0.0/10 is carrier-grade NAT (RFC 6598).
        let shared = a == 100 && b & 0xc0 == 64;
        if ip.is_loopback() {
            Reach::Loopback
        } else if ip.is_private() || ip.is_link_local() || shared {
            Reach::Private
        } else {
            Reach::Global
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Reach {
        if ip.is_loopback() {
            Reach::Loopback
        } else if ip.is_unique_local() || ip.is_unicast_link_local() {
            Reach::Private
        } else {
            Reach::Global
        }
    }
}

/// The /24 (IPv4) or /48 (IPv6) of a global address: what one owner gets many addresses of. `None` for others, which have
/// no such owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(u64);

impl Network {
    /// The network of `ip`.
    #[must_use]
    pub fn of(ip: IpAddr) -> Option<Network> {
        if Reach::of(ip) != Reach::Global {
            return None;
        }
        Some(match ip.to_canonical() {
            IpAddr::V4(ip) => Network(u64::from(ip.to_bits() >> 8)),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Network(u64::from_be_bytes([1, 0, a, b, c, d, e, f]))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_a_24_or_a_48() {
        let network = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(network("203.0.113.1"), network("203.0.113.200"));
        assert_ne!(network("203.0.113.1"), network("203.0.114.1"));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("2001:db8:1::1"), network("2001:db8:2::1"));
        assert_eq!(network("192.168.1.1"), None);
    }
}

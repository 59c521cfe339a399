//! Whom a contact may name to us, and which contacts are neighbours of each other.
//!
//! A stranger's reply makes us send datagrams to addresses of its choice. Two rules bound what that is good for: nobody
//! names addresses that are more local than its own, and of one network only one contact counts.
//!
//! Invariant: only addresses that pass [`may_name`] are ever sent to because a contact named them.

use core::net::{IpAddr, SocketAddr};
use shoal_machine::Reach;

/// Whether datagrams can be sent to `address` at all: one host, and a port.
pub(crate) fn is_unicast(address: SocketAddr) -> bool {
    let one_host = match address.ip() {
        IpAddr::V4(ip) => {
            let [a, ..] = ip.octets();
            // 0.0.0.0/8 is "this network", 240.0.0.0/4 is reserved and ends with the broadcast address.
            a != 0 && a < 240 && !ip.is_multicast()
        }
        IpAddr::V6(ip) => {
            !ip.is_unspecified() && !ip.is_multicast() && ip.to_ipv4_mapped().is_none()
        }
    };
    one_host && address.port() != 0
}

/// Whether a contact at `informant` may have us send to `named`: nobody may point to what is closer to us than itself.
pub(crate) fn may_name(informant: IpAddr, named: SocketAddr) -> bool {
    is_unicast(named) && Reach::of(named.ip()) >= Reach::of(informant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_point_to_our_own_networks() {
        let global: IpAddr = "203.0.113.1".parse().unwrap();
        let private: IpAddr = "192.168.1.1".parse().unwrap();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        for (informant, named, allowed) in [
            (global, "198.51.100.1:1", true),
            (global, "192.168.1.2:1", false),
            (global, "100.64.0.1:1", false),
            (global, "127.0.0.1:1", false),
            (global, "[::1]:1", false),
            (global, "[fe80::1]:1", false),
            (private, "192.168.1.2:1", true),
            (private, "127.0.0.1:1", false),
            (loopback, "127.0.0.1:1", true),
            (loopback, "198.51.100.1:1", true),
            (loopback, "198.51.100.1:0", false),
            (loopback, "0.0.0.0:1", false),
            (loopback, "224.0.0.1:1", false),
            (loopback, "255.255.255.255:1", false),
            (loopback, "[ff02::1]:1", false),
            (loopback, "[::ffff:127.0.0.1]:1", false),
        ] {
            let address = named.parse().unwrap();
            assert_eq!(may_name(informant, address), allowed, "{informant} {named}");
        }
    }
}

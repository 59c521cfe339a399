//! What kind of place an address leads to.
//!
//! Invariant: an address that embeds another (IPv4-mapped, NAT64, 6to4, Teredo) never counts as more public than what
//! it embeds, so that no spelling of a local address passes as a global one.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kinds of target that the policy tells apart, from the IANA special-purpose address registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetClass {
    /// Reachable across the Internet.
    Global,
    /// Inside some site: RFC 1918, unique local (RFC 4193), carrier-grade NAT (RFC 6598), benchmarking (RFC 2544).
    Private,
    /// On one link: RFC 3927, RFC 4291 section 2.5.6.
    LinkLocal,
    /// This machine.
    Loopback,
    /// No address: connecting to it would reach this machine.
    Unspecified,
    /// A group or a broadcast, never one host.
    Multicast,
    /// Reserved for examples (RFC 5737, RFC 3849, RFC 9637): nobody is there.
    Documentation,
    /// Set aside by IANA for no use in reach.
    Reserved,
}

impl TargetClass {
    /// Every class.
    pub const ALL: [TargetClass; 8] = [
        TargetClass::Global,
        TargetClass::Private,
        TargetClass::LinkLocal,
        TargetClass::Loopback,
        TargetClass::Unspecified,
        TargetClass::Multicast,
        TargetClass::Documentation,
        TargetClass::Reserved,
    ];

    /// The class of `address`, seen through what it embeds.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [0, 0, 0, 0] => Self::Unspecified,
            [0, ..] => Self::Reserved,
            [127, ..] => Self::Loopback,
            [169, 254, ..] => Self::LinkLocal,
            [10, ..] | [192, 168, ..] => Self::Private,
            [172, second, ..] if (16..32).contains(&second) => Self::Private,
            [100, second, ..] if (64..128).contains(&second) => Self::Private,
            [198, 18 | 19, ..] => Self::Private,
            [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Self::Documentation,
            [192, 0, 0, _] => Self::Reserved,
            [255, 255, 255, 255] => Self::Multicast,
            [first, ..] if first >= 240 => Self::Reserved,
            [first, ..] if first >= 224 => Self::Multicast,
            _ => Self::Global,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let segments = address.segments();
        match segments {
            [0, 0, 0, 0, 0, 0, 0, 0] => Self::Unspecified,
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            // IPv4-compatible (RFC 4291 section 2.5.5.1), NAT64 (RFC 6052), 6to4 (RFC 3056).
            [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                Self::of_v4(v4_from(high, low))
            }
            [0x2002, high, low, ..] => Self::of_v4(v4_from(high, low)),
            // Teredo (RFC 4380 section 4): the server, then the client's address with every bit inverted.
            [0x2001, 0, server_high, server_low, _, _, high, low] => {
                let server = Self::of_v4(v4_from(server_high, server_low));
                let client = Self::of_v4(v4_from(!high, !low));
                if client == Self::Global {
                    server
                } else {
                    client
                }
            }
            // NAT64 prefixes local to a site (RFC 8215): only the site knows what is embedded where.
            [0x64, 0xff9b, 1, ..] => Self::Private,
            [0x2001, 0xdb8, ..] => Self::Documentation,
            [0x3fff, second, ..] if second < 0x1000 => Self::Documentation,
            // Other IETF protocol assignments (RFC 2928) and what lies below the global unicast range.
            [0x2001, second, ..] if second < 0x200 => Self::Reserved,
            [first, ..] if first & 0xff00 == 0xff00 => Self::Multicast,
            [first, ..] if first & 0xffc0 == 0xfe80 => Self::LinkLocal,
            [first, ..] if first & 0xfe00 == 0xfc00 => Self::Private,
            // Site-local, deprecated by RFC 3879 but still routed inside old sites.
            [first, ..] if first & 0xffc0 == 0xfec0 => Self::Private,
            [first, ..] if first & 0xe000 == 0x2000 => Self::Global,
            _ => Self::Reserved,
        }
    }
}

fn v4_from(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

impl fmt::Display for TargetClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Loopback => "loopback",
            Self::Unspecified => "unspecified",
            Self::Multicast => "multicast",
            Self::Documentation => "documentation",
            Self::Reserved => "reserved",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(text: &str) -> TargetClass {
        TargetClass::of(text.parse().unwrap())
    }

    #[test]
    fn every_registry_range_has_its_class_at_both_ends() {
        use TargetClass::*;
        for (expected, addresses) in [
            (Unspecified, &["0.0.0.0", "::", "::ffff:0.0.0.0"][..]),
            (
                Loopback,
                &["127.0.0.0", "127.0.0.1", "127.255.255.255", "::1"],
            ),
            (
                LinkLocal,
                &["169.254.0.0", "169.254.255.255", "fe80::", "febf::1"],
            ),
            (
                Private,
                &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255"],
            ),
            (
                Private,
                &[
                    "192.168.0.0",
                    "192.168.255.255",
                    "100.64.0.0",
                    "100.127.255.255",
                ],
            ),
            (
                Private,
                &[
                    "198.18.0.0",
                    "198.19.255.255",
                    "fc00::",
                    "fdff::1",
                    "fec0::1",
                ],
            ),
            (Private, &["64:ff9b:1::7f00:1"]),
            (
                Multicast,
                &["224.0.0.0", "239.255.255.255", "255.255.255.255", "ff02::1"],
            ),
            (
                Documentation,
                &[
                    "192.0.2.1",
                    "198.51.100.1",
                    "203.0.113.1",
                    "2001:db8::1",
                    "3fff::1",
                ],
            ),
            (
                Reserved,
                &[
                    "0.0.0.1",
                    "240.0.0.1",
                    "192.0.0.8",
                    "100::1",
                    "2001:2::1",
                    "4000::",
                ],
            ),
            (
                Global,
                &[
                    "1.1.1.1",
                    "100.63.255.255",
                    "100.128.0.0",
                    "172.15.0.1",
                    "172.32.0.1",
                ],
            ),
            (
                Global,
                &[
                    "126.255.255.255",
                    "128.0.0.0",
                    "2606:4700::1",
                    "2001:200::1",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(class(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn a_teredo_server_that_is_local_is_not_global() {
        assert_eq!(class("2001:0:7f00:1:0:0:fefe:fefe"), TargetClass::Loopback);
        assert_eq!(class("2001:0:101:101:0:0:80ff:fffe"), TargetClass::Loopback);
        assert_eq!(class("2001:0:101:101:0:0:fefe:fefe"), TargetClass::Global);
    }

    proptest! {
        #[test]
        fn an_embedding_address_has_the_class_of_what_it_embeds(bits: u32, rest: u64) {
            let v4 = Ipv4Addr::from_bits(bits);
            let expected = TargetClass::of(v4.into());
            let wide = u128::from(bits);
            let mapped = Ipv6Addr::from_bits(0xffff << 32 | wide);
            let nat64 = Ipv6Addr::from_bits(0x0064_ff9b << 96 | wide);
            let six_to_four = Ipv6Addr::from_bits(0x2002 << 112 | wide << 80 | u128::from(rest));
            let teredo = Ipv6Addr::from_bits(0x2001_0000_0101_0101 << 64 | u128::from(!bits));
            for embedding in [mapped, nat64, six_to_four, teredo] {
                prop_assert_eq!(TargetClass::of(embedding.into()), expected, "{}", embedding);
            }
        }
    }
}

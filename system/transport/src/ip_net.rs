//! A range of IP addresses in CIDR notation.
//!
//! Invariant: no bit is set beyond the prefix, and the prefix fits the family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network such as `10.0.0.0/8` or `fd00::/8` (RFC 4632, RFC 4291 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNet {
    network: IpAddr,
    prefix_bits: u8,
}

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIpNetError {
    /// The part before the slash is not an address.
    #[error("`{0}` is not an address range: write it like 192.168.0.0/16 or fd00::/8")]
    Address(String),
    /// The part after the slash is not a number that fits the family.
    #[error("`{text}` has no valid prefix length: write a number from 0 to {max_bits}")]
    Prefix {
        /// What was given.
        text: String,
        /// 32 for IPv4, 128 for IPv6.
        max_bits: u8,
    },
    /// Bits are set beyond the prefix, so that it is unclear which range is meant.
    #[error("`{text}` has bits set beyond its prefix: write {meant}")]
    HostBits {
        /// What was given.
        text: String,
        /// The network that contains it.
        meant: IpNet,
    },
}

impl IpNet {
    /// The network of `prefix_bits` that contains `address`; a prefix that is too long means the address alone.
    #[must_use]
    pub fn containing(address: IpAddr, prefix_bits: u8) -> Self {
        let prefix_bits = prefix_bits.min(max_bits(address));
        Self {
            network: masked(address, prefix_bits),
            prefix_bits,
        }
    }

    /// The network of one address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        Self::containing(address, max_bits(address))
    }

    /// Whether `address` lies in the network. An IPv4-mapped IPv6 address is looked up as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4()
            && masked(address, self.prefix_bits) == self.network
    }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_bits)
    }
}

impl FromStr for IpNet {
    type Err = ParseIpNetError;

    /// Reads `ADDRESS/PREFIX`, or `ADDRESS` alone for a network of one.
    fn from_str(text: &str) -> Result<Self, ParseIpNetError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| ParseIpNetError::Address(text.to_owned()))?;
        let Some(prefix) = prefix else {
            return Ok(Self::host(address));
        };
        let max_bits = max_bits(address);
        let prefix_bits = parse_prefix(prefix)
            .filter(|bits| *bits <= max_bits)
            .ok_or_else(|| ParseIpNetError::Prefix {
                text: text.to_owned(),
                max_bits,
            })?;
        let net = Self::containing(address, prefix_bits);
        if net.network == address {
            Ok(net)
        } else {
            Err(ParseIpNetError::HostBits {
                text: text.to_owned(),
                meant: net,
            })
        }
    }
}

/// Digits only: the standard parser would also take a sign.
fn parse_prefix(text: &str) -> Option<u8> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

fn max_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    let prefix_bits = u32::from(prefix_bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix_bits).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix_bits).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_hold_their_first_and_last_address_and_no_neighbour() {
        let ten = net("10.0.0.0/8");
        assert!(ten.contains("10.0.0.0".parse().unwrap()));
        assert!(ten.contains("10.255.255.255".parse().unwrap()));
        assert!(!ten.contains("9.255.255.255".parse().unwrap()));
        assert!(!ten.contains("11.0.0.0".parse().unwrap()));
        assert!(net("0.0.0.0/0").contains("203.0.113.9".parse().unwrap()));
        assert!(!net("0.0.0.0/0").contains("::1".parse().unwrap()));
        assert!(net("::/0").contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_mapped_address_is_looked_up_as_what_it_maps() {
        assert!(net("127.0.0.0/8").contains("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!net("::/0").contains("::ffff:127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        assert_eq!(net("::1").to_string(), "::1/128");
        assert_eq!(net("192.0.2.7").to_string(), "192.0.2.7/32");
    }

    #[test]
    fn what_is_unclear_is_refused_with_the_likely_meaning() {
        let parse = |text: &str| text.parse::<IpNet>();
        assert_eq!(
            parse("10.1.2.3/8").unwrap_err().to_string(),
            "`10.1.2.3/8` has bits set beyond its prefix: write 10.0.0.0/8"
        );
        for bad in ["10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "::/-1"] {
            assert!(
                matches!(parse(bad), Err(ParseIpNetError::Prefix { .. })),
                "{bad}"
            );
        }
        for bad in ["", "/8", "localhost/8", "10/8", "10.0.0/8", "10.0.0.0 /8"] {
            assert!(
                matches!(parse(bad), Err(ParseIpNetError::Address(_))),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(bits: u128, prefix in 0_u8..=128) {
            let six = IpNet::containing(Ipv6Addr::from_bits(bits).into(), prefix);
            prop_assert_eq!(six.to_string().parse::<IpNet>().unwrap(), six);
            let four = Ipv4Addr::from_bits(u32::try_from(bits >> 96).unwrap());
            let four = IpNet::containing(four.into(), prefix % 33);
            prop_assert_eq!(four.to_string().parse::<IpNet>().unwrap(), four);
        }

        #[test]
        fn contains_agrees_with_comparing_bit_by_bit(a: u32, b: u32, prefix in 0_u8..=32) {
            let same = (0..u32::from(prefix)).all(|bit| (a ^ b) & (1 << (31 - bit)) == 0);
            let net = IpNet::containing(Ipv4Addr::from_bits(a).into(), prefix);
            prop_assert_eq!(net.contains(Ipv4Addr::from_bits(b).into()), same);
        }

        #[test]
        fn no_text_panics(text in "[0-9a-f:./+-]{0,24}") {
            let _ = text.parse::<IpNet>();
        }
    }
}

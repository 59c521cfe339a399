//! How much two peers of a swarm should prefer a connection with each other (BEP 40).
//!
//! Everybody computes the same number for the same pair, so that the connections of a swarm that has more peers than anybody has room for
//! are those of a random graph, which no crowd of attackers can fill with its own: it would have to have addresses all over the Internet.
//!
//! Invariant: the order of the two does not matter.

use core::net::{IpAddr, SocketAddr};
use shoal_machine::crc32c;

/// The priority of a connection between two addresses, as the world sees them: higher is better. `None` where they are not of one family.
#[must_use]
pub fn peer_priority(a: SocketAddr, b: SocketAddr) -> Option<u32> {
    match (a.ip().to_canonical(), b.ip().to_canonical()) {
        (ours, theirs) if ours == theirs => {
            let [low, high] = sorted(a.port().to_be_bytes(), b.port().to_be_bytes());
            Some(crc32c([low, high].as_flattened()))
        }
        (IpAddr::V4(a), IpAddr::V4(b)) => Some(of_hosts(a.octets(), b.octets(), 2)),
        (IpAddr::V6(a), IpAddr::V6(b)) => Some(of_hosts(a.octets(), b.octets(), 6)),
        _ => None,
    }
}

/// `whole` bytes count in full in any case, then as many as are the same and the one after them; of the others every second bit counts.
fn of_hosts<const N: usize>(a: [u8; N], b: [u8; N], whole: usize) -> u32 {
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let whole = if same < whole { whole } else { same + 1 };
    let masked = |mut ip: [u8; N]| {
        ip.iter_mut().skip(whole).for_each(|byte| *byte &= 0x55);
        ip
    };
    crc32c(sorted(masked(a), masked(b)).as_flattened())
}

fn sorted<T: Ord>(a: T, b: T) -> [T; 2] {
    if a <= b { [a, b] } else { [b, a] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn priority(a: &str, b: &str) -> Option<u32> {
        peer_priority(a.parse().unwrap(), b.parse().unwrap())
    }

    #[test]
    fn the_vectors_of_bep_40() {
        let us = "123.213.32.10:1";
        assert_eq!(priority(us, "98.76.54.32:2"), Some(0xec2d_7224));
        assert_eq!(priority(us, "123.213.32.234:2"), Some(0x9956_8189));
    }

    #[test]
    fn the_nearer_two_are_the_more_of_their_addresses_counts() {
        let crc = |hex: &str| {
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            Some(crc32c(&bytes))
        };
        // One /16: the third byte counts in full.
        assert_eq!(
            priority("10.1.255.255:1", "10.1.3.3:1"),
            crc("0a0103010a01ff55")
        );
        // One address: the ports decide.
        assert_eq!(priority("10.1.2.3:258", "10.1.2.3:5"), crc("00050102"));
        let ours = "[2001:db8:1:ffff:ffff:ffff:ffff:ffff]:1";
        // Nothing in common, one /48, one /56.
        let far = "20010db8000155555555555555555555a0010db8000100000000000000000000";
        assert_eq!(priority(ours, "[a001:db8:1::]:1"), crc(far));
        let one_48 = "20010db80001000000000000000000002001 0db80001ff555555555555555555";
        assert_eq!(
            priority(ours, "[2001:db8:1::]:1"),
            crc(&one_48.replace(' ', ""))
        );
        let one_56 = "20010db80001ff00000000000000000020010db80001ffff5555555555555555";
        assert_eq!(priority(ours, "[2001:db8:1:ff00::]:1"), crc(one_56));
    }

    #[test]
    fn two_families_have_no_priority() {
        assert_eq!(priority("10.1.2.3:1", "[2001:db8::1]:1"), None);
        assert!(priority("10.1.2.3:1", "[::ffff:10.1.2.4]:1").is_some());
    }

    proptest! {
        #[test]
        fn both_sides_agree(a in any::<u128>(), b in any::<u128>(), shared in 0..128_u32, ports in any::<(u16, u16)>(), v6: bool) {
            let b = a ^ (b.checked_shr(shared).unwrap_or(0));
            let at = |bits: u128, port| {
                let v4 = core::net::Ipv4Addr::from((bits >> 96) as u32);
                let ip = if v6 { IpAddr::from(bits.to_be_bytes()) } else { v4.into() };
                SocketAddr::new(ip, port)
            };
            let (a, b) = (at(a, ports.0), at(b, ports.1));
            prop_assert_eq!(peer_priority(a, b), peer_priority(b, a));
        }
    }
}

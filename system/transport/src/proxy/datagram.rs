//! Datagrams on their way through a SOCKS5 proxy (RFC 1928 section 7): a head that says where to or where from, then the datagram.
//!
//! Invariant: what is unwrapped is a whole datagram that came from an address; pieces and names are no such thing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::request::{IS_V4, IS_V6, MAX_NAME_BYTES, write_endpoint};
use super::{Endpoint, ProxyError};

/// The longest head: reserved, fragment, kind, a name with its length, port.
pub const MAX_HEAD_BYTES: usize = 4 + 1 + MAX_NAME_BYTES + 2;

/// The head of a datagram for `target`.
///
/// # Errors
/// Where `target` is a name that cannot be said.
pub fn head(target: &Endpoint) -> Result<Vec<u8>, ProxyError> {
    let mut bytes = vec![0; 3];
    write_endpoint(&mut bytes, target)?;
    Ok(bytes)
}

/// Who sent a datagram that came from the proxy, and the datagram.
#[must_use]
pub fn unwrap(bytes: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let ([_, _, fragment, kind], rest) = bytes.split_first_chunk()?;
    if *fragment != 0 {
        return None;
    }
    let (ip, rest): (IpAddr, _) = match *kind {
        IS_V4 => {
            let (octets, rest) = rest.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*octets).into(), rest)
        }
        IS_V6 => {
            let (octets, rest) = rest.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*octets).to_canonical(), rest)
        }
        _ => return None,
    };
    let (port, payload) = rest.split_first_chunk()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_piece_a_name_and_half_a_head_are_no_datagrams() {
        let whole = b"\0\0\0\x01\xc0\0\x02\x09\0\x50hello";
        let from = "192.0.2.9:80".parse().unwrap();
        assert_eq!(unwrap(whole), Some((from, &b"hello"[..])));
        assert_eq!(unwrap(b"\0\0\x01\x01\xc0\0\x02\x09\0\x50hello"), None);
        assert_eq!(unwrap(b"\0\0\0\x03\x01a\0\x50hello"), None);
        for length in 0..10 {
            assert_eq!(unwrap(&whole[..length]), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_wrapped_for_an_address_is_unwrapped_as_from_it(
            ip: IpAddr, port: u16, payload: Vec<u8>,
        ) {
            let address = SocketAddr::new(ip.to_canonical(), port);
            let mut bytes = head(&address.into()).unwrap();
            prop_assert!(bytes.len() <= MAX_HEAD_BYTES);
            bytes.extend_from_slice(&payload);
            prop_assert_eq!(unwrap(&bytes), Some((address, &payload[..])));
        }
    }
}

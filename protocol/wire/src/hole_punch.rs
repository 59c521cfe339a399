//! Hole punching (BEP 55, `ut_holepunch`): two peers that cannot be dialled are brought together by one that both are connected to.
//!
//! Invariant: what is decoded is one of the messages of BEP 55, with the address of one host and a port.

use core::net::{IpAddr, SocketAddr};

/// The longest payload: type, family, an IPv6 address, port, error.
pub const MAX_HOLE_PUNCH_PAYLOAD: u32 = 1 + 1 + 16 + 2 + 4;

/// A `ut_holepunch` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolePunch {
    /// What the receiver is to do, or hears.
    pub kind: HolePunchKind,
    /// Of whom.
    pub address: SocketAddr,
}

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolePunchKind {
    /// Bring the sender together with the peer at that address.
    Rendezvous,
    /// Dial that address over uTP, at once: it dials the receiver.
    Connect,
    /// The receiver cannot be brought together with that address.
    Failed(HolePunchError),
}

/// Why not. The numbers are those of BEP 55; others are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolePunchError(pub u32);

impl HolePunchError {
    /// `NoSuchPeer`: nobody can be at that address.
    pub const NO_SUCH_PEER: HolePunchError = HolePunchError(1);
    /// `NotConnected`: the relay is not connected to it.
    pub const NOT_CONNECTED: HolePunchError = HolePunchError(2);
    /// `NoSupport`: it does not know how.
    pub const NO_SUPPORT: HolePunchError = HolePunchError(3);
    /// `NoSelf`: it is the relay itself.
    pub const NO_SELF: HolePunchError = HolePunchError(4);
}

/// Reads a payload; `None` where it is no such message, which is to be ignored.
#[must_use]
pub fn decode(payload: &[u8]) -> Option<HolePunch> {
    let (&[kind, family], rest) = payload.split_first_chunk::<2>()?;
    let (ip, rest) = match family {
        0 => {
            let (ip, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::from(*ip), rest)
        }
        1 => {
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::from(*ip).to_canonical(), rest)
        }
        _ => return None,
    };
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    // Where there is no error, some leave it out.
    let code = rest
        .first_chunk::<4>()
        .map(|code| u32::from_be_bytes(*code));
    let kind = match kind {
        0 => HolePunchKind::Rendezvous,
        1 => HolePunchKind::Connect,
        2 => HolePunchKind::Failed(HolePunchError(code?)),
        _ => return None,
    };
    // Of what cannot be an address nobody needs to be told but whoever asked for it.
    let is_one = port != 0 && !ip.is_unspecified() && !ip.is_multicast();
    let address = SocketAddr::new(ip, port);
    (is_one || kind == HolePunchKind::Rendezvous).then_some(HolePunch { kind, address })
}

/// The payload to send.
#[must_use]
pub fn encode(message: &HolePunch) -> Vec<u8> {
    let (kind, code) = match message.kind {
        HolePunchKind::Rendezvous => (0, 0),
        HolePunchKind::Connect => (1, 0),
        HolePunchKind::Failed(HolePunchError(code)) => (2, code),
    };
    let mut payload = vec![kind];
    match message.address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            payload.push(0);
            payload.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            payload.push(1);
            payload.extend_from_slice(&ip.octets());
        }
    }
    payload.extend_from_slice(&message.address.port().to_be_bytes());
    payload.extend_from_slice(&code.to_be_bytes());
    payload
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_of_bep_55() {
        let v4 = HolePunch {
            kind: HolePunchKind::Rendezvous,
            address: "192.0.2.1:6881".parse().unwrap(),
        };
        assert_eq!(encode(&v4), b"\0\0\xc0\0\x02\x01\x1a\xe1\0\0\0\0");
        let v6 = HolePunch {
            kind: HolePunchKind::Failed(HolePunchError::NO_SUPPORT),
            address: "[2001:db8::1]:6881".parse().unwrap(),
        };
        let bytes = b"\x02\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1\0\0\0\x03";
        assert_eq!(encode(&v6), bytes);
        assert_eq!(decode(bytes), Some(v6));
        // Without an error code.
        let connect = HolePunch {
            kind: HolePunchKind::Connect,
            ..v4
        };
        assert_eq!(decode(b"\x01\0\xc0\0\x02\x01\x1a\xe1"), Some(connect));
    }

    #[test]
    fn what_names_nobody_is_no_message_but_a_rendezvous_is_answered() {
        for bytes in [
            &b"\x01\0\0\0\0\0\x1a\xe1\0\0\0\0"[..],
            b"\x01\0\xc0\0\x02\x01\0\0\0\0\0\0",
            b"\x01\0\xe0\0\0\x01\x1a\xe1\0\0\0\0",
            b"\x03\0\xc0\0\x02\x01\x1a\xe1\0\0\0\0",
            b"\x01\x02\xc0\0\x02\x01\x1a\xe1\0\0\0\0",
            b"\x02\0\xc0\0\x02\x01\x1a\xe1",
            b"\x01\x01\xc0\0\x02\x01\x1a\xe1\0\0\0\0",
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
        assert!(decode(b"\0\0\0\0\0\0\0\0\0\0\0\0").is_some());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_back(bytes in proptest::collection::vec(any::<u8>(), 0..26), kind in 0..3_u8, family in 0..2_u8) {
            let _ = decode(&bytes);
            let bytes = [&[kind, family], &bytes[..]].concat();
            if let Some(message) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&message)), Some(message));
            }
        }
    }
}

//! DHT contacts, and how they and peers are written: 26 or 38 bytes (BEP 5, 32), 6 or 18 bytes (BEP 23, 7).

use crate::address::is_unicast;
use crate::id::Id;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One of the two DHTs (BEP 32). They share nothing but the socket's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// That of an address. An IPv4 address within IPv6 counts as IPv4.
    #[must_use]
    pub fn of(ip: IpAddr) -> Family {
        match ip.to_canonical() {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Bytes of an address with its port.
    #[must_use]
    pub const fn compact_bytes(self) -> usize {
        match self {
            Family::V4 => 6,
            Family::V6 => 18,
        }
    }

    /// Bytes of a contact.
    #[must_use]
    pub const fn contact_bytes(self) -> usize {
        20 + self.compact_bytes()
    }
}

/// Somebody who speaks the protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// Its place in the space, as it says.
    pub id: Id,
    /// Where it is.
    pub address: SocketAddr,
}

/// Without the address: debug output ends up in logs.
impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.id, Family::of(self.address.ip()))
    }
}

/// Writes an address as BEP 5 does: the address, then the port, in network byte order.
pub(crate) fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

/// Reads what [`write_address`] writes; the length tells the family, but that an IPv4 address within IPv6 is one of IPv4.
pub(crate) fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(
        ip.to_canonical(),
        u16::from_be_bytes(*port),
    ))
}

/// The contacts of a `nodes` or `nodes6` string that could be sent to, of the first `most`; what is left at its end is
/// ignored.
pub(crate) fn read_contacts(bytes: &[u8], family: Family, most: usize) -> Vec<Contact> {
    let entries = bytes.chunks_exact(family.contact_bytes()).take(most);
    let read = |entry: &[u8]| {
        let (id, address) = entry.split_at_checked(20)?;
        Some(Contact {
            id: Id::try_from(id).ok()?,
            address: read_address(address)?,
        })
    };
    let is_fine = |contact: &Contact| {
        is_unicast(contact.address) && Family::of(contact.address.ip()) == family
    };
    entries.filter_map(read).filter(is_fine).collect()
}

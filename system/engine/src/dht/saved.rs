//! What the DHT keeps over a restart, as a file: a bencoded dictionary of our ids (`id4`, `id6`, 20 bytes each) and of `contacts`, a list of
//! strings of 6 or 18 bytes, an address and its port as BEP 5 writes them.
//!
//! Invariant: a file that says anything else is read as none.

use shoal_dht::{Id, Saved};
use shoal_metainfo::bencode::{self, Bencode, Limits, Value};
use std::net::{IpAddr, SocketAddr};

/// More than twice what the machine gives of both families.
const MAX_CONTACTS: usize = 1024;

/// The longest file that is read: [`MAX_CONTACTS`] of 21 bytes each and the ids fit twice.
pub(super) const MAX_BYTES: u64 = 64 * 1024;

const LIMITS: Limits = Limits {
    bytes: 64 * 1024,
    tokens: 2 * MAX_CONTACTS,
    depth: 2,
};

/// The bytes of the file.
pub(super) fn encode(saved: &Saved) -> Vec<u8> {
    let ids = [("id4", saved.id_v4), ("id6", saved.id_v6)];
    let ids = ids.into_iter();
    let ids = ids.filter_map(|(key, id)| Some((key, Bencode::from(&id?.0[..]))));
    let contacts = saved.contacts.iter().take(MAX_CONTACTS);
    let contacts: Vec<Bencode> = contacts.map(|at| write(*at).into()).collect();
    let contacts = ("contacts", Bencode::from(contacts));
    Bencode::dict(ids.chain([contacts])).encode()
}

/// What the file says; `None` where it is none of ours.
pub(super) fn decode(bytes: &[u8]) -> Option<Saved> {
    let document = bencode::decode_canonical(bytes, LIMITS).ok()?;
    let root = document.root();
    let id = |key: &str| -> Option<Option<Id>> {
        let Some(value) = root.get(key) else {
            return Some(None);
        };
        Id::try_from(value.as_bytes()?).ok().map(Some)
    };
    let contacts = root.get("contacts")?.as_list()?;
    let read = |value: Value<'_>| read(value.as_bytes()?);
    let contacts: Option<Vec<SocketAddr>> = contacts.take(MAX_CONTACTS).map(read).collect();
    Some(Saved {
        id_v4: id("id4")?,
        id_v6: id("id6")?,
        contacts: contacts?,
    })
}

fn write(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

fn read(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        Saved {
            id_v4: Some(Id([4; 20])),
            id_v6: None,
            contacts: vec![
                "203.0.113.7:6881".parse().unwrap(),
                "[2001:db8::7]:51413".parse().unwrap(),
            ],
        }
    }

    #[test]
    fn what_was_saved_is_read() {
        for saved in [saved(), Saved::default()] {
            assert_eq!(decode(&encode(&saved)), Some(saved));
        }
    }

    #[test]
    fn garbage_is_no_file_of_ours() {
        let good = encode(&saved());
        for cut in 0..good.len() {
            assert_eq!(decode(&good[..cut]), None, "{cut}");
        }
        let garbage: [&[u8]; 6] = [
            b"de",
            b"d8:contacts3:abce",
            b"d8:contactsl3:abcee",
            b"d8:contactsli1eee",
            b"d8:contactsle3:id43:abce",
            b"d8:contactsle3:id4i7ee",
        ];
        for bytes in garbage {
            assert_eq!(decode(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}

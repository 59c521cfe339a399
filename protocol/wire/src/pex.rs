//! Peer exchange (BEP 11, `ut_pex`): whom the sender has connected to, and whom it has lost, since it last said so.
//!
//! Invariant: a message brings at most [`MAX_CONTACTS`] of each, each address once, however long it is; what cannot be an address of
//! a peer is left out.

use crate::codec::MAX_EXTENDED_PAYLOAD;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use shoal_metainfo::bencode::{self, Bencode, Value};
use std::collections::BTreeSet;

/// How many added and how many dropped contacts of one message are kept. BEP 11 allows 50 of each, and more in the first message;
/// libtorrent sends 100 at the most.
pub const MAX_CONTACTS: usize = 100;

/// Eight keys are known; the tokens allow for a few that are not.
const LIMITS: bencode::Limits = bencode::Limits {
    bytes: MAX_EXTENDED_PAYLOAD as usize,
    tokens: 64,
    depth: 4,
};

/// What a contact is said to be: the bits of `added.f`. Those that nobody defined are kept and mean nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContactFlags(pub u8);

impl ContactFlags {
    /// It will not download: a seed, or a partial one.
    pub const SEED: ContactFlags = ContactFlags(0x02);
    /// It speaks uTP. Some peers call who is named without this over TCP alone.
    pub const UTP: ContactFlags = ContactFlags(0x04);
    /// It can be brought together with others by hole punching (BEP 55).
    pub const PUNCHES: ContactFlags = ContactFlags(0x08);
    /// Somebody has dialled it: it can be reached.
    pub const REACHABLE: ContactFlags = ContactFlags(0x10);

    /// These and those.
    #[must_use]
    pub const fn with(self, other: ContactFlags) -> Self {
        ContactFlags(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    #[must_use]
    pub const fn has(self, other: ContactFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Somebody to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is said to be.
    pub flags: ContactFlags,
}

/// A `ut_pex` message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerExchange {
    /// Those that the sender is connected to, and was not when it last said so.
    pub added: Vec<Contact>,
    /// Those that it is not connected to any more.
    pub dropped: Vec<SocketAddr>,
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PexError {
    /// Not bencode, or beyond the limits.
    #[error(transparent)]
    Bencode(#[from] bencode::DecodeError),
    /// Bencode, but a number, a string or a list.
    #[error("it must be a dictionary")]
    NotDictionary,
}

/// Reads the payload of a message. A key of the wrong type counts as absent, and so do flags that are not as many as contacts.
pub fn decode(payload: &[u8]) -> Result<PeerExchange, PexError> {
    let document = bencode::decode(payload, LIMITS)?;
    let entries = document.root().as_dict().ok_or(PexError::NotDictionary)?;
    let mut fields = [&[][..]; 6];
    for (key, value) in entries {
        let names: [&[u8]; 6] = [
            b"added",
            b"added.f",
            b"added6",
            b"added6.f",
            b"dropped",
            b"dropped6",
        ];
        if let Some(at) = names.iter().position(|name| *name == key) {
            fields[at] = Value::as_bytes(&value).unwrap_or_default();
        }
    }
    let [added, flags, added6, flags6, dropped, dropped6] = fields;
    let mut seen = BTreeSet::new();
    let added = flagged::<6>(added, flags).chain(flagged::<18>(added6, flags6));
    let added = added.filter(|contact| seen.insert(contact.address));
    let added = added.take(MAX_CONTACTS).collect();
    let dropped = addresses::<6>(dropped).chain(addresses::<18>(dropped6));
    let dropped = dropped.flatten().filter(|address| seen.insert(*address));
    Ok(PeerExchange {
        added,
        dropped: dropped.take(MAX_CONTACTS).collect(),
    })
}

/// The addresses of a compact list; `None` where an entry is none.
fn addresses<const N: usize>(list: &[u8]) -> impl Iterator<Item = Option<SocketAddr>> {
    list.as_chunks::<N>().0.iter().map(|entry| {
        let (ip, port) = entry.split_last_chunk::<2>()?;
        let v4 = <[u8; 4]>::try_from(ip).map(IpAddr::from);
        let v6 = || <[u8; 16]>::try_from(ip).map(|octets| Ipv6Addr::from(octets).to_canonical());
        let ip = v4.or_else(|_| v6()).ok()?;
        let port = u16::from_be_bytes(*port);
        let usable = port > 0 && !ip.is_unspecified() && !ip.is_multicast();
        usable.then_some(SocketAddr::new(ip, port))
    })
}

fn flagged<const N: usize>(list: &[u8], flags: &[u8]) -> impl Iterator<Item = Contact> {
    let flags = if flags.len() == list.len() / N {
        flags
    } else {
        &[]
    };
    let flags = flags.iter().copied().chain(core::iter::repeat(0));
    addresses::<N>(list)
        .zip(flags)
        .filter_map(|(address, flags)| {
            Some(Contact {
                address: address?,
                flags: ContactFlags(flags),
            })
        })
}

/// The payload to send. All keys are there, as in the messages of other clients.
#[must_use]
pub fn encode(message: &PeerExchange) -> Vec<u8> {
    let mut lists: [Vec<u8>; 6] = Default::default();
    let [added, flags, added6, flags6, dropped, dropped6] = &mut lists;
    for contact in &message.added {
        let v4 = append(contact.address, added, added6);
        if v4 { &mut *flags } else { &mut *flags6 }.push(contact.flags.0);
    }
    for address in &message.dropped {
        append(*address, dropped, dropped6);
    }
    let names = [
        "added", "added.f", "added6", "added6.f", "dropped", "dropped6",
    ];
    let lists = lists.map(Bencode::Bytes);
    Bencode::dict(names.into_iter().zip(lists)).encode()
}

/// Appends a compact address to the list of its family; whether that is IPv4.
fn append(address: SocketAddr, v4: &mut Vec<u8>, v6: &mut Vec<u8>) -> bool {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            v4.extend_from_slice(&ip.octets());
            v4.extend_from_slice(&address.port().to_be_bytes());
            true
        }
        IpAddr::V6(ip) => {
            v6.extend_from_slice(&ip.octets());
            v6.extend_from_slice(&address.port().to_be_bytes());
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contact(address: &str, flags: u8) -> Contact {
        Contact {
            address: address.parse().unwrap(),
            flags: ContactFlags(flags),
        }
    }

    #[test]
    fn a_message_written_by_hand_is_read_and_written_back() {
        let bytes = b"d5:added6:\x0a\x00\x00\x01\x1a\xe17:added.f1:\x126:added618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe2\
            8:added6.f1:\x007:dropped6:\x0a\x00\x00\x02\x1a\xe18:dropped60:e";
        let message = decode(bytes).unwrap();
        let flags = ContactFlags::SEED.with(ContactFlags::REACHABLE);
        assert_eq!(
            message.added,
            [
                contact("10.0.0.1:6881", flags.0),
                contact("[2001:db8::1]:6882", 0)
            ]
        );
        assert!(message.added[0].flags.has(ContactFlags::SEED));
        assert!(!message.added[1].flags.has(ContactFlags::REACHABLE));
        assert_eq!(message.dropped, ["10.0.0.2:6881".parse().unwrap()]);
        assert_eq!(encode(&message), bytes);
    }

    #[test]
    fn what_is_no_peer_is_left_out_and_what_is_named_twice_counts_once() {
        let mut added = Vec::new();
        for entry in [
            [10, 0, 0, 1, 0, 0],
            [0, 0, 0, 0, 0, 9],
            [224, 0, 0, 1, 0, 9],
            [10, 0, 0, 1, 0, 9],
            [10, 0, 0, 1, 0, 9],
        ] {
            added.extend(entry);
        }
        let dictionary = Bencode::dict([
            ("added", Bencode::Bytes(added.clone())),
            // Too few: they are nobody's.
            ("added.f", Bencode::Bytes(vec![2])),
            // Added and dropped in one message, and a rest that is no entry.
            ("dropped", Bencode::Bytes([added, vec![1, 2, 3]].concat())),
            ("added6", Bencode::from(7i64)),
        ]);
        let message = decode(&dictionary.encode()).unwrap();
        assert_eq!(message.added, [contact("10.0.0.1:9", 0)]);
        assert_eq!(message.dropped, []);
        assert_eq!(decode(b"le"), Err(PexError::NotDictionary));
        assert_eq!(decode(b"de"), Ok(PeerExchange::default()));
    }

    #[test]
    fn no_message_brings_more_than_the_bound() {
        let entries = (1..=u16::MAX).take(1_000).flat_map(|port| {
            let [high, low] = port.to_be_bytes();
            [10, 0, 0, 1, high, low]
        });
        let list = Bencode::Bytes(entries.collect());
        let other = Bencode::Bytes((0..6_000).map(|at| [11, 1, 1, 1, 1, 1][at % 6]).collect());
        let message = Bencode::dict([("added", list), ("dropped", other)]).encode();
        let message = decode(&message).unwrap();
        assert_eq!(
            (message.added.len(), message.dropped.len()),
            (MAX_CONTACTS, 1)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_what_is_read_is_written_back(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..200_usize,
        ) {
            let _ = decode(&bytes);
            let (added, dropped) = bytes.split_at(cut.min(bytes.len()));
            let message = Bencode::dict([
                ("added6", Bencode::Bytes(added.to_vec())),
                ("dropped", Bencode::Bytes(dropped.to_vec())),
            ]);
            let message = decode(&message.encode()).unwrap();
            prop_assert_eq!(decode(&encode(&message)), Ok(message));
        }
    }
}

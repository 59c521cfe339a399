//! Datagrams to messages.

use super::{
    Body, ErrorCode, ItemReply, MAX_CONTACTS, MAX_DATAGRAM_BYTES, MAX_SAMPLE_INTERVAL_S,
    MAX_SAMPLES, MAX_TOKEN_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUES, Message, Method, Query, Reply,
    Samples, Scrape, Token, TransactionId, Want,
};
use crate::address::is_unicast;
use crate::bloom::BloomFilter;
use crate::contact::{Family, read_address, read_contacts};
use crate::id::Id;
use crate::item::{Item, MAX_SALT_BYTES, MAX_VALUE_BYTES, MutableItem, PublicKey};
use core::net::SocketAddr;
use shoal_metainfo::InfoHash;
use shoal_metainfo::bencode::{Limits, Value, decode as decode_bencode};
use smallvec::SmallVec;

/// A datagram of 1,500 bytes holds at most 750 values; items may be nested as deep as `crate::item` lets them, within two
/// dictionaries.
const LIMITS: Limits = Limits {
    bytes: MAX_DATAGRAM_BYTES,
    tokens: 750,
    depth: 36,
};

/// Why a datagram is no message, and what its sender is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message of the DHT: {reason}")]
pub struct Fault {
    /// What is wrong.
    pub reason: &'static str,
    /// Whom to tell, and what: `None` where it is not a query, as nobody waits for an answer then.
    pub answer: Option<(TransactionId, ErrorCode)>,
}

/// What is wrong within a query.
type Refusal = (ErrorCode, &'static str);

fn refuse(reason: &'static str) -> Refusal {
    (ErrorCode::Protocol, reason)
}

fn silent(reason: &'static str) -> Fault {
    Fault {
        reason,
        answer: None,
    }
}

/// Reads a datagram. Unknown keys are ignored, and keys may stand in any order: both are in circulation.
///
/// # Errors
/// What is wrong, with the answer that BEP 5 or BEP 44 demands where it is a query.
pub fn decode(datagram: &[u8]) -> Result<Message, Fault> {
    let document = decode_bencode(datagram, LIMITS).map_err(|_| silent("not bencode"))?;
    let root = Top::of(document.root()).ok_or(silent("not a dictionary"))?;
    let transaction = root.transaction.ok_or(silent("no transaction id"))?;
    if transaction.len() > MAX_TRANSACTION_BYTES {
        return Err(silent("the transaction id is too long"));
    }
    let transaction: TransactionId = SmallVec::from_slice(transaction);
    let body = match root.kind {
        Some(b"q") => query(&root)
            .map(Body::Query)
            .map_err(|(code, reason)| Fault {
                reason,
                answer: Some((transaction.clone(), code)),
            })?,
        Some(b"r") => Body::Reply(Box::new(reply(&root).ok_or(silent("a reply without id"))?)),
        Some(b"e") => Body::Error {
            code: error_code(&root).ok_or(silent("an error without code"))?,
            ip: root.ip.and_then(address),
        },
        _ => return Err(silent("neither query nor reply nor error")),
    };
    Ok(Message { transaction, body })
}

fn address(value: Value<'_>) -> Option<SocketAddr> {
    read_address(value.as_bytes()?)
}

/// The keys of the outer dictionary, in one pass.
#[derive(Default)]
struct Top<'a> {
    arguments: Option<Value<'a>>,
    error: Option<Value<'a>>,
    ip: Option<Value<'a>>,
    method: Option<&'a [u8]>,
    reply: Option<Value<'a>>,
    read_only: bool,
    transaction: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> Top<'a> {
    fn of(root: Value<'a>) -> Option<Self> {
        let mut top = Top::default();
        for (key, value) in root.as_dict()? {
            match key {
                b"a" => top.arguments = Some(value),
                b"e" => top.error = Some(value),
                b"ip" => top.ip = Some(value),
                b"q" => top.method = value.as_bytes(),
                b"r" => top.reply = Some(value),
                b"ro" => top.read_only = value.as_int() == Some(1),
                b"t" => top.transaction = value.as_bytes(),
                b"y" => top.kind = value.as_bytes(),
                _ => {}
            }
        }
        Some(top)
    }
}

fn error_code(root: &Top<'_>) -> Option<i64> {
    root.error?.as_list()?.next()?.as_int()
}

fn query(root: &Top<'_>) -> Result<Query, Refusal> {
    let arguments = root.arguments.filter(|value| value.as_dict().is_some());
    let arguments = arguments.ok_or(refuse("no arguments"))?;
    let id = place(arguments, "id").ok_or(refuse("no id"))?;
    let name = root.method.ok_or(refuse("no method"))?;
    let target = || place(arguments, "target").ok_or(refuse("no target"));
    let info_hash = || {
        let hash = place(arguments, "info_hash").ok_or(refuse("no info hash"))?;
        Ok(InfoHash(hash.0))
    };
    let want = want(arguments);
    let method = match name {
        b"ping" => Method::Ping,
        b"find_node" => Method::FindNode {
            target: target()?,
            want,
        },
        b"get_peers" => Method::GetPeers {
            info_hash: info_hash()?,
            want,
            noseed: is_set(arguments, "noseed"),
            scrape: is_set(arguments, "scrape"),
        },
        b"announce_peer" => announce(arguments, info_hash()?)?,
        b"get" => Method::Get {
            target: target()?,
            seq: arguments.get("seq").and_then(|seq| seq.as_int()),
            want,
        },
        b"put" => put(arguments)?,
        b"sample_infohashes" => Method::SampleInfohashes {
            target: target()?,
            want,
        },
        _ => return Err((ErrorCode::MethodUnknown, "an unknown method")),
    };
    Ok(Query {
        id,
        read_only: root.read_only,
        method,
    })
}

fn announce(arguments: Value<'_>, info_hash: InfoHash) -> Result<Method, Refusal> {
    let implied_port = arguments
        .get("implied_port")
        .and_then(|value| value.as_int())
        .is_some_and(|value| value != 0);
    let port = arguments.get("port").and_then(|value| value.as_int());
    let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    if port == 0 && !implied_port {
        return Err(refuse("no port"));
    }
    Ok(Method::AnnouncePeer {
        info_hash,
        port,
        implied_port,
        seed: is_set(arguments, "seed"),
        token: token(arguments).ok_or(refuse("no token"))?,
    })
}

fn put(arguments: Value<'_>) -> Result<Method, Refusal> {
    let token = token(arguments).ok_or(refuse("no token"))?;
    let value = arguments.get("v").ok_or(refuse("no value"))?;
    if value.raw().len() > MAX_VALUE_BYTES {
        return Err((ErrorCode::ValueTooLong, "the value is too long"));
    }
    if value.unsorted().is_some() {
        return Err(refuse("the value is not canonical"));
    }
    let value = value.raw().to_vec();
    let integer = |name: &str| arguments.get(name).and_then(|value| value.as_int());
    let item = match arguments.get("k") {
        None => Item::Immutable(value),
        Some(key) => {
            let salt = arguments.get("salt").and_then(|salt| salt.as_bytes());
            let salt = salt.unwrap_or_default();
            if salt.len() > MAX_SALT_BYTES {
                return Err((ErrorCode::SaltTooLong, "the salt is too long"));
            }
            let seq = integer("seq").filter(|&seq| seq >= 0);
            let signature = arguments.get("sig").and_then(fixed);
            Item::Mutable(MutableItem {
                key: PublicKey(fixed(key).ok_or(refuse("the key has a wrong length"))?),
                salt: salt.to_vec(),
                seq: seq.ok_or(refuse("no sequence number"))?,
                value,
                signature: signature.ok_or(refuse("no signature"))?,
            })
        }
    };
    Ok(Method::Put {
        item,
        cas: integer("cas"),
        token,
    })
}

fn reply(root: &Top<'_>) -> Option<Reply> {
    let mut reply = Reply::new(Id([0; 20]));
    let mut id = None;
    let (mut seeds, mut peers) = (None, None);
    let mut item = ItemReply::default();
    let (mut interval, mut total, mut samples) = (None, None, None);
    for (key, value) in root.reply?.as_dict()? {
        match key {
            b"BFpe" => peers = fixed(value).map(BloomFilter),
            b"BFsd" => seeds = fixed(value).map(BloomFilter),
            b"id" => id = fixed(value).map(Id),
            b"interval" => interval = value.as_int(),
            b"k" => item.key = fixed(value).map(PublicKey),
            b"nodes" => reply.nodes = contacts(value, Family::V4),
            b"nodes6" => reply.nodes6 = contacts(value, Family::V6),
            b"num" => total = value.as_int(),
            b"samples" => samples = value.as_bytes(),
            b"seq" => item.seq = value.as_int(),
            b"sig" => item.signature = fixed(value),
            b"token" => reply.token = as_token(value),
            b"v" => item.value = as_value(value),
            b"values" => reply.values = addresses(value),
            _ => {}
        }
    }
    reply.id = id?;
    reply.ip = root.ip.and_then(address);
    if let (Some(seeds), Some(peers)) = (seeds, peers) {
        reply.scrape = Some(Box::new(Scrape { seeds, peers }));
    }
    if item != ItemReply::default() {
        reply.item = Some(Box::new(item));
    }
    reply.samples = samples.map(|hashes| sampled(hashes, total, interval));
    Some(reply)
}

fn sampled(hashes: &[u8], total: Option<i64>, interval: Option<i64>) -> Samples {
    let hashes = hashes.chunks_exact(20).take(MAX_SAMPLES);
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    Samples {
        info_hashes: hashes
            .filter_map(|hash| hash.try_into().ok().map(InfoHash))
            .collect(),
        total: number(total).unwrap_or(0),
        interval_s: number(interval).unwrap_or(0).min(MAX_SAMPLE_INTERVAL_S),
    }
}

fn contacts(value: Value<'_>, family: Family) -> Vec<crate::contact::Contact> {
    let bytes = value.as_bytes().unwrap_or_default();
    read_contacts(bytes, family, MAX_CONTACTS)
}

/// Peers that could be dialled; a list with some that could not be is not refused for those.
fn addresses(value: Value<'_>) -> Vec<SocketAddr> {
    let list = value.as_list().into_iter().flatten().take(MAX_VALUES);
    list.filter_map(address)
        .filter(|&peer| is_unicast(peer))
        .collect()
}

fn as_value(value: Value<'_>) -> Option<Vec<u8>> {
    let fits = value.raw().len() <= MAX_VALUE_BYTES && value.unsorted().is_none();
    fits.then(|| value.raw().to_vec())
}

fn as_token(value: Value<'_>) -> Option<Token> {
    let bytes = value.as_bytes()?;
    (bytes.len() <= MAX_TOKEN_BYTES).then(|| SmallVec::from_slice(bytes))
}

fn token(arguments: Value<'_>) -> Option<Token> {
    arguments.get("token").and_then(as_token)
}

fn fixed<const N: usize>(value: Value<'_>) -> Option<[u8; N]> {
    value.as_bytes()?.try_into().ok()
}

fn place(arguments: Value<'_>, name: &str) -> Option<Id> {
    arguments.get(name).and_then(fixed).map(Id)
}

fn is_set(arguments: Value<'_>, name: &str) -> bool {
    arguments.get(name).and_then(|value| value.as_int()) == Some(1)
}

fn want(arguments: Value<'_>) -> Want {
    let mut want = Want::default();
    let list = arguments.get("want").and_then(|value| value.as_list());
    for family in list.into_iter().flatten() {
        match family.as_bytes() {
            Some(b"n4") => want.v4 = true,
            Some(b"n6") => want.v6 = true,
            _ => {}
        }
    }
    want
}

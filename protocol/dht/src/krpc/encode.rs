//! Messages to datagrams. Written straight into the buffer: keys stand here in their order, which the tests check.

use super::{Body, CLIENT, ErrorCode, ItemReply, Message, Method, Query, Reply, Samples, Want};
use crate::contact::{Contact, write_address};
use crate::id::Id;
use crate::item::Item;
use core::net::SocketAddr;

/// The datagram of a message.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    written(message, Some(CLIENT))
}

/// The datagram of a message that does not say which program we are.
#[must_use]
pub fn encode_anonymously(message: &Message) -> Vec<u8> {
    written(message, None)
}

fn written(message: &Message, client: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.push(b'd');
    match &message.body {
        Body::Query(query) => {
            key(b"a", &mut out);
            arguments(query, &mut out);
            pair(b"q", query.method.name(), &mut out);
            if query.read_only {
                flag(b"ro", &mut out);
            }
        }
        Body::Reply(reply) => {
            ip(reply.ip, &mut out);
            key(b"r", &mut out);
            values(reply, &mut out);
        }
        Body::Error { code, ip: address } => {
            key(b"e", &mut out);
            out.push(b'l');
            integer(*code, &mut out);
            string(text_of(*code).as_bytes(), &mut out);
            out.push(b'e');
            ip(*address, &mut out);
        }
    }
    pair(b"t", &message.transaction, &mut out);
    if let Some(client) = client {
        pair(b"v", client, &mut out);
    }
    let kind = match message.body {
        Body::Query(_) => b"q",
        Body::Reply(_) => b"r",
        Body::Error { .. } => b"e",
    };
    pair(b"y", kind, &mut out);
    out.push(b'e');
    out
}

impl Method {
    pub(super) fn name(&self) -> &'static [u8] {
        match self {
            Method::Ping => b"ping",
            Method::FindNode { .. } => b"find_node",
            Method::GetPeers { .. } => b"get_peers",
            Method::AnnouncePeer { .. } => b"announce_peer",
            Method::Get { .. } => b"get",
            Method::Put { .. } => b"put",
            Method::SampleInfohashes { .. } => b"sample_infohashes",
        }
    }
}

fn text_of(code: i64) -> &'static str {
    let known = [
        ErrorCode::Server,
        ErrorCode::Protocol,
        ErrorCode::MethodUnknown,
        ErrorCode::ValueTooLong,
        ErrorCode::BadSignature,
        ErrorCode::SaltTooLong,
        ErrorCode::CasMismatch,
        ErrorCode::SequenceTooLow,
    ];
    let known = known.into_iter().find(|known| known.number() == code);
    known.map_or("Error", ErrorCode::text)
}

fn arguments(query: &Query, out: &mut Vec<u8>) {
    out.push(b'd');
    match &query.method {
        Method::Ping => id(query, out),
        Method::FindNode { target, want } | Method::SampleInfohashes { target, want } => {
            id(query, out);
            pair(b"target", &target.0, out);
            wanted(*want, out);
        }
        Method::GetPeers {
            info_hash,
            want,
            noseed,
            scrape,
        } => {
            id(query, out);
            pair(b"info_hash", &info_hash.0, out);
            if *noseed {
                flag(b"noseed", out);
            }
            if *scrape {
                flag(b"scrape", out);
            }
            wanted(*want, out);
        }
        Method::AnnouncePeer {
            info_hash,
            port,
            implied_port,
            seed,
            token,
        } => {
            id(query, out);
            if *implied_port {
                flag(b"implied_port", out);
            }
            pair(b"info_hash", &info_hash.0, out);
            number(b"port", i64::from(*port), out);
            if *seed {
                flag(b"seed", out);
            }
            pair(b"token", token, out);
        }
        Method::Get { target, seq, want } => {
            id(query, out);
            if let Some(seq) = seq {
                number(b"seq", *seq, out);
            }
            pair(b"target", &target.0, out);
            wanted(*want, out);
        }
        Method::Put { item, cas, token } => put(&query.id, item, *cas, token, out),
    }
    out.push(b'e');
}

fn id(query: &Query, out: &mut Vec<u8>) {
    pair(b"id", &query.id.0, out);
}

fn put(sender: &Id, item: &Item, cas: Option<i64>, token: &[u8], out: &mut Vec<u8>) {
    if let Some(cas) = cas {
        number(b"cas", cas, out);
    }
    pair(b"id", &sender.0, out);
    if let Item::Mutable(item) = item {
        pair(b"k", &item.key.0, out);
        if !item.salt.is_empty() {
            pair(b"salt", &item.salt, out);
        }
        number(b"seq", item.seq, out);
        pair(b"sig", &item.signature, out);
    }
    // BEP 44 has no target here, as it follows from the rest; `mainline` and what is built on it refuse a put without it.
    pair(b"target", &item.target().0, out);
    pair(b"token", token, out);
    key(b"v", out);
    out.extend_from_slice(item.value());
}

fn wanted(want: Want, out: &mut Vec<u8>) {
    if want == Want::default() {
        return;
    }
    key(b"want", out);
    out.push(b'l');
    if want.v4 {
        string(b"n4", out);
    }
    if want.v6 {
        string(b"n6", out);
    }
    out.push(b'e');
}

fn values(reply: &Reply, out: &mut Vec<u8>) {
    let samples = reply.samples.as_ref();
    let item = reply.item.as_deref();
    out.push(b'd');
    if let Some(scrape) = &reply.scrape {
        pair(b"BFpe", &scrape.peers.0, out);
        pair(b"BFsd", &scrape.seeds.0, out);
    }
    pair(b"id", &reply.id.0, out);
    if let Some(Samples { interval_s, .. }) = samples {
        number(b"interval", i64::from(*interval_s), out);
    }
    if let Some(public) = item.and_then(|item| item.key) {
        pair(b"k", &public.0, out);
    }
    contacts(b"nodes", &reply.nodes, out);
    contacts(b"nodes6", &reply.nodes6, out);
    if let Some(samples) = samples {
        number(b"num", i64::from(samples.total), out);
        key(b"samples", out);
        length(samples.info_hashes.len() * 20, out);
        for hash in &samples.info_hashes {
            out.extend_from_slice(&hash.0);
        }
    }
    if let Some(item) = item {
        sequence(item, out);
    }
    if let Some(token) = &reply.token {
        pair(b"token", token, out);
    }
    if let Some(value) = item.and_then(|item| item.value.as_ref()) {
        key(b"v", out);
        out.extend_from_slice(value);
    }
    if !reply.values.is_empty() {
        key(b"values", out);
        out.push(b'l');
        reply.values.iter().for_each(|peer| address(*peer, out));
        out.push(b'e');
    }
    out.push(b'e');
}

fn sequence(item: &ItemReply, out: &mut Vec<u8>) {
    if let Some(seq) = item.seq {
        number(b"seq", seq, out);
    }
    if let Some(signature) = &item.signature {
        pair(b"sig", signature, out);
    }
}

fn contacts(name: &[u8], contacts: &[Contact], out: &mut Vec<u8>) {
    let Some(first) = contacts.first() else {
        return;
    };
    let family = crate::contact::Family::of(first.address.ip());
    key(name, out);
    length(contacts.len() * family.contact_bytes(), out);
    for contact in contacts {
        out.extend_from_slice(&contact.id.0);
        write_address(contact.address, out);
    }
}

fn ip(ip: Option<SocketAddr>, out: &mut Vec<u8>) {
    if let Some(ip) = ip {
        key(b"ip", out);
        address(ip, out);
    }
}

fn address(address: SocketAddr, out: &mut Vec<u8>) {
    let family = crate::contact::Family::of(address.ip());
    length(family.compact_bytes(), out);
    write_address(address, out);
}

fn pair(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    key(name, out);
    string(value, out);
}

fn number(name: &[u8], value: i64, out: &mut Vec<u8>) {
    key(name, out);
    integer(value, out);
}

fn flag(name: &[u8], out: &mut Vec<u8>) {
    number(name, 1, out);
}

fn key(name: &[u8], out: &mut Vec<u8>) {
    string(name, out);
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn integer(value: i64, out: &mut Vec<u8>) {
    out.push(b'i');
    if value < 0 {
        out.push(b'-');
    }
    digits(value.unsigned_abs(), out);
    out.push(b'e');
}

fn length(bytes: usize, out: &mut Vec<u8>) {
    digits(bytes as u64, out);
    out.push(b':');
}

/// Without `format!`, which would be the larger part of the time that a message takes.
fn digits(mut value: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

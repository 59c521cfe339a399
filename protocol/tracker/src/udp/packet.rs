//! The datagrams of BEP 15 and the URL data option of BEP 41. All numbers are big-endian.

use super::{AddressFamily, UdpReply, UdpRequest};
use crate::announce::{
    AnnounceReply, AnnounceRequest, Event, ScrapeCounts, ScrapeReply, take_compact_v4,
    take_compact_v6,
};
use crate::error::{Error, cleaned};
use core::time::Duration;
use shoal_metainfo::InfoHash;

/// Stands where the connection id will be in a connect request, so that nothing else is mistaken for one.
const PROTOCOL_ID: u64 = 0x0417_2710_1980;

const ACTION_CONNECT: u32 = 0;
const ACTION_ANNOUNCE: u32 = 1;
const ACTION_SCRAPE: u32 = 2;
const ACTION_ERROR: u32 = 3;

/// An announce without options.
const ANNOUNCE_BYTES: usize = 98;

/// The option of BEP 41 that carries path and query.
const OPTION_URL_DATA: u8 = 2;

/// What a datagram says that answers our last one.
pub(super) enum Answer {
    Connected(u64),
    Replied(Result<UdpReply, Error>),
    Failed(String),
}

pub(super) fn connect(transaction: u32) -> Vec<u8> {
    header(PROTOCOL_ID, ACTION_CONNECT, transaction)
}

pub(super) fn announce(
    connection: u64,
    transaction: u32,
    request: &AnnounceRequest,
    family: AddressFamily,
    url_data: &[u8],
) -> Vec<u8> {
    let event: u32 = match request.event {
        None | Some(Event::Paused) => 0,
        Some(Event::Completed) => 1,
        Some(Event::Started) => 2,
        Some(Event::Stopped) => 3,
    };
    // The field has room for an IPv4 address only and must be zero where the packet travels over IPv6.
    let hint = match family {
        AddressFamily::V4 => request.ipv4.map_or(0, u32::from),
        AddressFamily::V6 => 0,
    };
    // Signed on the wire, where -1 lets the tracker choose.
    let num_want = i32::try_from(request.num_want).unwrap_or(i32::MAX);
    let mut datagram = header(connection, ACTION_ANNOUNCE, transaction);
    datagram.reserve(ANNOUNCE_BYTES + url_data.len());
    datagram.extend(request.info_hash.0);
    datagram.extend(request.peer_id);
    datagram.extend(request.downloaded.to_be_bytes());
    datagram.extend(request.left.to_be_bytes());
    datagram.extend(request.uploaded.to_be_bytes());
    datagram.extend(event.to_be_bytes());
    datagram.extend(hint.to_be_bytes());
    datagram.extend(request.key.to_be_bytes());
    datagram.extend(num_want.to_be_bytes());
    datagram.extend(request.port.to_be_bytes());
    for part in url_data.chunks(usize::from(u8::MAX)) {
        datagram.push(OPTION_URL_DATA);
        datagram.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        datagram.extend(part);
    }
    datagram
}

pub(super) fn scrape(connection: u64, transaction: u32, hashes: &[InfoHash]) -> Vec<u8> {
    let mut datagram = header(connection, ACTION_SCRAPE, transaction);
    datagram.extend(hashes.iter().flat_map(|hash| hash.0));
    datagram
}

fn header(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(ANNOUNCE_BYTES);
    datagram.extend(connection.to_be_bytes());
    datagram.extend(action.to_be_bytes());
    datagram.extend(transaction.to_be_bytes());
    datagram
}

/// The answer to a connect request, `None` where the datagram is not one.
pub(super) fn connected(datagram: &[u8], transaction: u32) -> Option<Answer> {
    match body(datagram, transaction)? {
        (ACTION_CONNECT, body) => {
            let (id, _) = body.split_first_chunk()?;
            Some(Answer::Connected(u64::from_be_bytes(*id)))
        }
        (ACTION_ERROR, message) => Some(Answer::Failed(cleaned(message))),
        _ => None,
    }
}

/// The answer to `request`, `None` where the datagram is not one.
pub(super) fn answered(
    datagram: &[u8],
    transaction: u32,
    request: &UdpRequest,
    family: AddressFamily,
) -> Option<Answer> {
    let reply = match (body(datagram, transaction)?, request) {
        ((ACTION_ANNOUNCE, body), UdpRequest::Announce(_)) => {
            announce_reply(body, family).map(UdpReply::Announce)
        }
        ((ACTION_SCRAPE, body), UdpRequest::Scrape(hashes)) => {
            scrape_reply(body, hashes).map(UdpReply::Scrape)
        }
        ((ACTION_ERROR, message), _) => return Some(Answer::Failed(cleaned(message))),
        _ => return None,
    };
    Some(Answer::Replied(reply))
}

/// Action and what follows the header of an answer to our transaction.
fn body(datagram: &[u8], transaction: u32) -> Option<(u32, &[u8])> {
    let (action, rest) = datagram.split_first_chunk()?;
    let (answered, body) = rest.split_first_chunk()?;
    let ours = u32::from_be_bytes(*answered) == transaction;
    ours.then_some((u32::from_be_bytes(*action), body))
}

fn announce_reply(body: &[u8], family: AddressFamily) -> Result<AnnounceReply, Error> {
    let ([interval, leeches, seeds], compact) = numbers(body).ok_or(Error::Malformed(
        "the answer to an announce has under 20 bytes",
    ))?;
    let mut peers = Vec::new();
    match family {
        AddressFamily::V4 => take_compact_v4(compact, &mut peers),
        AddressFamily::V6 => take_compact_v6(compact, &mut peers),
    }
    Ok(AnnounceReply {
        interval: Duration::from_secs(u64::from(interval)),
        seeds: Some(seeds),
        leeches: Some(leeches),
        peers,
        ..AnnounceReply::default()
    })
}

/// The figures stand in the order of the request; a tracker may answer for fewer swarms than asked.
fn scrape_reply(mut body: &[u8], hashes: &[InfoHash]) -> Result<ScrapeReply, Error> {
    let mut swarms = Vec::with_capacity(hashes.len());
    for &hash in hashes {
        let Some(([seeds, downloads, leeches], rest)) = numbers(body) else {
            break;
        };
        let counts = ScrapeCounts {
            seeds: Some(seeds),
            leeches: Some(leeches),
            downloads: Some(downloads),
            downloaders: None,
        };
        swarms.push((hash, counts));
        body = rest;
    }
    if swarms.is_empty() {
        return Err(Error::Malformed(
            "the answer to a scrape has under 20 bytes",
        ));
    }
    Ok(ScrapeReply {
        swarms,
        min_interval: None,
    })
}

/// Three numbers and what follows them.
fn numbers(bytes: &[u8]) -> Option<([u32; 3], &[u8])> {
    let (a, rest) = bytes.split_first_chunk()?;
    let (b, rest) = rest.split_first_chunk()?;
    let (c, rest) = rest.split_first_chunk()?;
    Some(([*a, *b, *c].map(u32::from_be_bytes), rest))
}

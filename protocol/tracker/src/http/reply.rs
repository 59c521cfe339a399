//! The bodies of replies over HTTP, which are bencoded dictionaries.
//!
//! Invariant: what is missing or of the wrong type where we can do without it counts as not said; trackers of twenty years
//! are out there.

use super::MAX_REPLY_BYTES;
use crate::announce::{
    AnnounceReply, DEFAULT_INTERVAL, MAX_TRACKER_ID_BYTES, ScrapeCounts, ScrapeReply, add,
    take_compact_v4, take_compact_v6,
};
use crate::error::{Error, RetryIn, cleaned};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use shoal_metainfo::InfoHash;
use shoal_metainfo::bencode::{Document, Limits, Value, decode};

/// Far more than [`crate::MAX_PEERS`] dictionaries of peers have, and no deeper than they are within a reply.
const LIMITS: Limits = Limits {
    bytes: MAX_REPLY_BYTES,
    tokens: 100_000,
    depth: 16,
};

/// What a reply to an announce says, given its HTTP status and its body.
///
/// # Errors
///
/// [`Error::Failure`] where the tracker gives a reason, whatever the status; [`Error::HttpStatus`] where it gives none and
/// the status is not one of success; [`Error::TooLong`], [`Error::NotBencode`] and [`Error::Malformed`] where the body is
/// no reply.
pub fn announce_reply(status: u16, body: &[u8]) -> Result<AnnounceReply, Error> {
    let document = read(status, body)?;
    let reply = document.root();
    let mut peers = Vec::new();
    if let Some(value) = reply.get("peers") {
        take_peers(value, &mut peers)?;
    }
    if let Some(compact) = bytes(reply, "peers6") {
        take_compact_v6(compact, &mut peers);
    }
    let tracker_id = bytes(reply, "tracker id").filter(|id| id.len() <= MAX_TRACKER_ID_BYTES);
    Ok(AnnounceReply {
        interval: seconds(reply, "interval").unwrap_or(DEFAULT_INTERVAL),
        min_interval: seconds(reply, "min interval"),
        tracker_id: tracker_id.map(<[u8]>::to_vec),
        seeds: count(reply, "complete"),
        leeches: count(reply, "incomplete"),
        downloads: count(reply, "downloaded"),
        peers,
        external_ip: bytes(reply, "external ip").and_then(packed_ip),
        warning: bytes(reply, "warning message").map(cleaned),
    })
}

/// What a reply to a scrape says of the swarms that were asked for.
///
/// # Errors
///
/// As [`announce_reply`].
pub fn scrape_reply(status: u16, body: &[u8], asked: &[InfoHash]) -> Result<ScrapeReply, Error> {
    let document = read(status, body)?;
    let flags = document.root().get("flags");
    let files = document.root().get("files");
    let files = files.ok_or(Error::Malformed("the reply to a scrape has no files"))?;
    let of_swarm = |&swarm: &InfoHash| {
        let counts = files.get(swarm.0);
        let counts = counts.or_else(|| files.get(as_utf8(swarm)))?;
        let counts = ScrapeCounts {
            seeds: count(counts, "complete"),
            leeches: count(counts, "incomplete"),
            downloads: count(counts, "downloaded"),
            downloaders: count(counts, "downloaders"),
        };
        Some((swarm, counts))
    };
    Ok(ScrapeReply {
        swarms: asked.iter().filter_map(of_swarm).collect(),
        min_interval: flags.and_then(|flags| seconds(flags, "min_request_interval")),
    })
}

/// An info hash as bittorrent-tracker (version 11) writes it in replies to scrapes: each byte as the character of that
/// number, in UTF-8.
fn as_utf8(swarm: InfoHash) -> String {
    swarm.0.map(char::from).iter().collect()
}

/// The dictionary of a reply that is not a failure.
fn read(status: u16, body: &[u8]) -> Result<Document<'_>, Error> {
    if body.len() > MAX_REPLY_BYTES {
        return Err(Error::TooLong {
            limit: MAX_REPLY_BYTES,
        });
    }
    let success = (200..300).contains(&status);
    let document = decode(body, LIMITS);
    // Some trackers give their reason with a status of failure; then it says more than the status.
    let failure = document
        .as_ref()
        .ok()
        .and_then(|document| failure(document.root()));
    match (failure, document) {
        (Some(failure), _) => Err(failure),
        _ if !success => Err(Error::HttpStatus(status)),
        (None, Err(error)) => Err(Error::NotBencode(error)),
        (None, Ok(document)) if document.root().as_dict().is_none() => {
            Err(Error::Malformed("the reply is not a dictionary"))
        }
        (None, Ok(document)) => Ok(document),
    }
}

fn failure(reply: Value<'_>) -> Option<Error> {
    let reason = cleaned(bytes(reply, "failure reason")?);
    let retry_in = reply.get("retry in").and_then(retry_in);
    Some(Error::Failure { reason, retry_in })
}

/// BEP 31 shows the number of minutes as text and calls it an integer; both are in use.
fn retry_in(value: Value<'_>) -> Option<RetryIn> {
    if value.as_bytes() == Some(b"never") {
        return Some(RetryIn::Never);
    }
    let minutes = match value.as_str() {
        Some(text) => text.parse().ok()?,
        None => u32::try_from(value.as_int()?).ok()?,
    };
    (minutes > 0).then_some(RetryIn::Minutes(minutes))
}

/// Compact peers (BEP 23) or a list of dictionaries (BEP 3).
fn take_peers(value: Value<'_>, peers: &mut Vec<SocketAddr>) -> Result<(), Error> {
    if let Some(compact) = value.as_bytes() {
        take_compact_v4(compact, peers);
    } else if let Some(list) = value.as_list() {
        add(list.filter_map(dictionary_peer), peers);
    } else {
        return Err(Error::Malformed("peers is neither a string nor a list"));
    }
    Ok(())
}

/// A peer written out. Names are not resolved: a tracker could have us ask for any.
fn dictionary_peer(peer: Value<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = peer.get("ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(peer.get("port")?.as_int()?).ok()?;
    (port != 0).then_some(SocketAddr::new(ip.to_canonical(), port))
}

/// An address as BEP 24 packs it: 4 or 16 bytes.
fn packed_ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok().map(|ip| ip.to_canonical())
}

fn bytes<'a>(reply: Value<'a>, key: &str) -> Option<&'a [u8]> {
    reply.get(key)?.as_bytes()
}

fn count(reply: Value<'_>, key: &str) -> Option<u32> {
    u32::try_from(reply.get(key)?.as_int()?).ok()
}

fn seconds(reply: Value<'_>, key: &str) -> Option<Duration> {
    let seconds = u64::try_from(reply.get(key)?.as_int()?).ok()?;
    Some(Duration::from_secs(seconds))
}

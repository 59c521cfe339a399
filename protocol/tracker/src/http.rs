//! Announce and scrape over HTTP: the URL of a request, and what the body of a reply says (BEP 3, 7, 23, 24, 31, 48).
//!
//! Invariant: what a tracker's own URL says is kept as it stands; our arguments come after it.

mod reply;

use crate::announce::{AnnounceRequest, Event, MAX_SCRAPE_HASHES};
use crate::error::Error;
use core::fmt::Write;
use core::net::IpAddr;
use shoal_metainfo::InfoHash;
use url::Url;

pub use reply::{announce_reply, scrape_reply};

/// The bound on the body of a reply, decompressed. A driver stops reading there. A thousand peers written out as
/// dictionaries take a tenth of it.
pub const MAX_REPLY_BYTES: usize = 1024 * 1024;

/// Arguments of ours that a tracker's URL must not bring along: who writes the metainfo could announce in another's name, or
/// turn our request into one for another server's API.
const RESERVED_ARGUMENTS: [&str; 9] = [
    "info_hash",
    "peer_id",
    "port",
    "uploaded",
    "downloaded",
    "left",
    "event",
    "key",
    "corrupt",
];

/// The URL that announces to `tracker`.
///
/// # Errors
///
/// [`Error::UnusableUrl`] where `tracker` is not of HTTP or its query already has arguments of an announce.
pub fn announce_url(tracker: &Url, request: &AnnounceRequest) -> Result<Url, Error> {
    check(tracker)?;
    let event = match request.event {
        None => "",
        Some(Event::Started) => "&event=started",
        Some(Event::Completed) => "&event=completed",
        Some(Event::Stopped) => "&event=stopped",
        Some(Event::Paused) => "&event=paused",
    };
    let mut query = own_query(tracker);
    query.push_str("info_hash=");
    percent_encode(&request.info_hash.0, &mut query);
    query.push_str("&peer_id=");
    percent_encode(&request.peer_id, &mut query);
    let numbers = format!(
        "&port={}&uploaded={}&downloaded={}&left={}&key={:08X}{event}&numwant={}&compact=1&no_peer_id=1",
        request.port,
        request.uploaded,
        request.downloaded,
        request.left,
        request.key,
        request.num_want,
    );
    query.push_str(&numbers);
    if let Some(id) = &request.tracker_id {
        query.push_str("&trackerid=");
        percent_encode(id, &mut query);
    }
    let (ipv4, ipv6) = (request.ipv4.map(IpAddr::V4), request.ipv6.map(IpAddr::V6));
    if let Some(ip) = ipv4.or(ipv6) {
        // For trackers that know no other word for it (BEP 3).
        query.push_str("&ip=");
        percent_encode(ip.to_string().as_bytes(), &mut query);
    }
    if let Some(ip) = request.ipv4 {
        query.push_str("&ipv4=");
        percent_encode(ip.to_string().as_bytes(), &mut query);
    }
    if let Some(ip) = request.ipv6 {
        query.push_str("&ipv6=");
        percent_encode(ip.to_string().as_bytes(), &mut query);
    }
    Ok(with_query(tracker, &query))
}

/// The URL that scrapes these swarms at `tracker`. By convention it is there only where the last component of the path
/// begins with `announce`, which `scrape` replaces.
///
/// # Errors
///
/// [`Error::NoScrape`] where the convention does not apply; [`Error::UnusableUrl`] as for [`announce_url`];
/// [`Error::Malformed`] where there is no swarm or more than [`MAX_SCRAPE_HASHES`].
pub fn scrape_url(tracker: &Url, swarms: &[InfoHash]) -> Result<Url, Error> {
    check(tracker)?;
    if !(1..=MAX_SCRAPE_HASHES).contains(&swarms.len()) {
        return Err(Error::Malformed("a scrape asks for 1 to 74 swarms"));
    }
    let path = tracker.path();
    let (folder, last) = path.rsplit_once('/').unwrap_or(("", path));
    let rest = last.strip_prefix("announce").ok_or(Error::NoScrape)?;
    let mut query = own_query(tracker);
    for (i, swarm) in swarms.iter().enumerate() {
        query.push_str(if i == 0 { "info_hash=" } else { "&info_hash=" });
        percent_encode(&swarm.0, &mut query);
    }
    let mut url = with_query(tracker, &query);
    url.set_path(&format!("{folder}/scrape{rest}"));
    Ok(url)
}

fn check(tracker: &Url) -> Result<(), Error> {
    if !matches!(tracker.scheme(), "http" | "https") {
        return Err(Error::UnusableUrl("it is not an http or https URL"));
    }
    let reserved = |name: &str| {
        RESERVED_ARGUMENTS
            .iter()
            .any(|own| own.eq_ignore_ascii_case(name))
    };
    if tracker.query_pairs().any(|(name, _)| reserved(&name)) {
        return Err(Error::UnusableUrl(
            "its query already has arguments of an announce",
        ));
    }
    Ok(())
}

/// The query that the URL has, ready for more arguments.
fn own_query(tracker: &Url) -> String {
    match tracker.query() {
        None | Some("") => String::new(),
        Some(query) => format!("{query}&"),
    }
}

fn with_query(tracker: &Url, query: &str) -> Url {
    let mut url = tracker.clone();
    url.set_query(Some(query));
    url.set_fragment(None);
    url
}

/// Appends `bytes` with everything escaped that is not unreserved (RFC 3986), which is what trackers decode.
fn percent_encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ => drop(write!(out, "%{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests;

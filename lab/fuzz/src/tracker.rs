//! What trackers say, over HTTP and UDP, when they are spoken to, and what local networks say.
//!
//! Invariant: as for the whole crate.

mod local;
mod schedule;
mod udp;

pub use local::local;
pub use schedule::schedule;
pub use udp::udp;

use core::net::IpAddr;
use shoal_metainfo::InfoHash;
use shoal_tracker::announce::MAX_TRACKER_ID_BYTES;
use shoal_tracker::error::MAX_TEXT_CHARS;
use shoal_tracker::{AnnounceReply, Error, MAX_PEERS, ScrapeReply, http};

/// The swarms that are asked for.
const SWARMS: [InfoHash; 3] = [
    InfoHash([b'a'; 20]),
    InfoHash([b'b'; 20]),
    InfoHash([b'c'; 20]),
];

/// The body of a reply after a byte that chooses between announce and scrape, and the status.
pub fn http(input: &[u8]) {
    let Some((&choice, body)) = input.split_first() else {
        return;
    };
    let status = if choice & 2 == 0 { 200 } else { 404 };
    if choice & 1 == 0 {
        match http::announce_reply(status, body) {
            Ok(reply) => check_announce(&reply),
            Err(error) => check_error(&error),
        }
    } else {
        match http::scrape_reply(status, body, &SWARMS) {
            Ok(reply) => check_scrape(&reply),
            Err(error) => check_error(&error),
        }
    }
}

/// A reply is bounded, and every peer can be dialled.
fn check_announce(reply: &AnnounceReply) {
    assert!(reply.peers.len() <= MAX_PEERS);
    for peer in &reply.peers {
        assert!(peer.port() != 0);
        assert_eq!(peer.ip(), peer.ip().to_canonical());
    }
    assert_eq!(
        reply.external_ip,
        reply.external_ip.as_ref().map(IpAddr::to_canonical)
    );
    assert!(
        reply
            .tracker_id
            .as_ref()
            .is_none_or(|id| id.len() <= MAX_TRACKER_ID_BYTES)
    );
    if let Some(warning) = &reply.warning {
        check_text(warning);
    }
}

/// The swarms that were asked for or some of them, in that order.
fn check_scrape(reply: &ScrapeReply) {
    let mut asked = SWARMS.iter();
    for (swarm, _) in &reply.swarms {
        assert!(asked.any(|other| other == swarm), "an order of its own");
    }
}

fn check_error(error: &Error) {
    if let Error::Failure { reason, .. } = error {
        check_text(reason);
    }
    assert!(!error.to_string().contains(char::is_control));
}

fn check_text(text: &str) {
    assert!(text.chars().count() <= MAX_TEXT_CHARS);
    assert!(!text.contains(char::is_control) && !text.contains('\u{202e}'));
}

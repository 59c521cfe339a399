//! What a torrent and its trackers say to each other (BEP 3, 7, 12, 15, 21, 23, 24, 31, 41, 48), and when.
//!
//! [`http`] builds the URLs of requests and reads the bodies of replies, [`udp`] is one exchange over UDP, [`schedule`]
//! decides which tracker hears what, and when. [`local`] is the tracker that everybody on a local network is together (BEP 14).
//!
//! Invariant: what a tracker says is data. Nothing here panics on it, allocates by a length that it merely claims, or keeps
//! more than the named maximum of anything.

pub mod announce;
pub mod error;
pub mod http;
pub mod local;
pub mod schedule;
pub mod udp;

pub use announce::{
    AnnounceReply, AnnounceRequest, Event, MAX_PEERS, MAX_SCRAPE_HASHES, ScrapeCounts, ScrapeReply,
};
pub use error::{Error, RetryIn};
pub use schedule::{
    AnnounceId, Schedule, ScheduleSettings, ScrapeId, TrackerState, TrackerStatus, check_url,
};
pub use udp::{AddressFamily, ConnectionId, Connections, UdpExchange, UdpReply, UdpRequest};

//! One torrent and its peers, decided without a socket or a file.
//!
//! Two levels: a [`PeerSession`](peer_session) is one connection and lives where its socket lives, a
//! [`WebSession`](web_session) is the same for an HTTP origin; a [`Torrent`](torrent) owns what its peers share. They speak only by the messages in [`message`], which may arrive late
//! but in order for each pair.
//!
//! Invariant: a block is leased by the torrent before it is requested, and every leased block comes back exactly once:
//! received, or returned.

pub mod candidates;
pub mod message;
pub mod metadata;
pub mod peer_priority;
pub mod peer_session;
pub mod picker;
pub mod rate;
pub mod smart_ban;
pub mod source;
pub mod torrent;
pub mod web_session;
pub mod window;

pub use message::{Blame, CloseReason, FromPeer, Has, PeerKey, Report, ReturnReason, ToPeer};
pub use source::{Source, WebSeedIndex};

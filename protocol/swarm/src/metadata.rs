//! What happens before a torrent knows what it is: its info dictionary is fetched from peers (BEP 9), and the piece layers of its
//! v2 files (BEP 52), by the info hash alone.
//!
//! The shape is that of a torrent: a [`Seeker`](seeker::Seeker) is one connection, a [`Search`](search::Search) owns what its
//! connections share, and they speak only by the messages in [`message`].
//!
//! Invariant: nothing that a peer says of the metadata is believed before it hashes to what the magnet says. A peer that lies about
//! its size or its bytes costs its own contribution, and is banned once that is proved.

mod fetch;
mod layers;
pub mod message;
mod offer;
pub mod search;
pub mod seeker;

pub use message::{FromSeeker, ToSeeker};
pub use offer::MetadataOffer;
pub use search::{Found, Search};
pub use seeker::{Said, Seeker};

//! Who delivers blocks: what trust hangs on.
//!
//! Invariant: a source stays the same over all its connections, so that a new one does not wash off a suspicion.

use core::net::IpAddr;

/// A web seed of a torrent, counted over all that were ever added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebSeedIndex(pub u32);

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Whoever speaks the peer protocol from this address.
    Peer(IpAddr),
    /// An HTTP origin. Not by address: many origins share one, and peers do with them.
    WebSeed(WebSeedIndex),
}

//! Addresses that may be worth a dial.
//!
//! Invariant: at most [`MAX_CANDIDATES`] addresses and [`MAX_BANNED`] banned IP addresses are kept, each address once, and
//! none that cannot be a remote peer.

use crate::torrent::Origin;
use core::net::{IpAddr, SocketAddr};
use shoal_machine::Moment;

/// The most addresses kept for one torrent. More do not help: only some hundred can be connected.
pub const MAX_CANDIDATES: usize = 2_000;

/// The most banned IP addresses. The oldest ban is forgotten first.
pub const MAX_BANNED: usize = 4_096;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Candidates {}

impl Candidates {
    /// No candidates. `seed` decides the order among equals.
    #[must_use]
    pub fn new(_seed: u64) -> Self {
        Candidates::default()
    }

    /// Learns an address; returns whether it was new and is kept. An address known already keeps its better origin.
    pub fn add(&mut self, _now: Moment, _address: SocketAddr, _origin: Origin) -> bool {
        false
    }

    /// This address is our own: forget it, and never take it again.
    pub fn set_ours(&mut self, _address: SocketAddr) {}

    /// The best address to dial now. It counts as being dialled until [`connected`](Self::connected) or [`failed`](Self::failed).
    pub fn next_dial(&mut self, _now: Moment) -> Option<(SocketAddr, Origin)> {
        None
    }

    /// A connection to or from this address exists. An address that was not known is not learnt: what an accepted
    /// connection comes from is not where the peer listens.
    pub fn connected(&mut self, _now: Moment, _address: SocketAddr) {}

    /// The connection ended; `useful` where it had moved payload, which forgives earlier failures.
    pub fn disconnected(&mut self, _now: Moment, _address: SocketAddr, _useful: bool) {}

    /// A dial failed, or the connection broke before it was of use. It is tried again later.
    pub fn failed(&mut self, _now: Moment, _address: SocketAddr) {}

    /// Forgets all addresses of this IP address and takes none of it again.
    pub fn ban(&mut self, _address: IpAddr) {}

    /// Whether this IP address is banned.
    #[must_use]
    pub fn is_banned(&self, _address: IpAddr) -> bool {
        false
    }

    /// When the next address becomes worth a dial: in the past where one is already, `None` where there is none.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        None
    }

    /// How many addresses are known.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// How many could be dialled, at once or after their back-off: neither connected nor being dialled.
    #[must_use]
    pub fn idle(&self) -> usize {
        0
    }
}

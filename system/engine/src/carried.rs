//! What a connection brings along when another driver takes it over.
//!
//! Invariant: the stream's place in both directions is kept: what was read and is not understood yet, and what is still to leave.

use crate::inbound::Inbound;
use crate::outbound::Outbound;
use shoal_swarm::metadata::Said;
use shoal_wire::{Limits, RemoteExtensions};

/// See the module.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// The ids under which the remote wants extensions.
    pub(crate) remote: RemoteExtensions,
    pub(crate) said: Said,
}

impl Carried {
    /// A connection on which nothing was said but the handshake; `leftover` came right behind it.
    pub(crate) fn fresh(leftover: &[u8]) -> Self {
        Carried {
            inbound: Inbound::new(Limits::default(), leftover),
            outbound: Outbound::default(),
            remote: RemoteExtensions::default(),
            said: Said::default(),
        }
    }
}

//! What a connection brings along when a driver takes it over, from its handshake or from another driver.
//!
//! Invariant: the stream's place in both directions is kept: what was read and is not understood yet, what is still to leave, and
//! where its ciphers stand.

use crate::inbound::Inbound;
use crate::outbound::Outbound;
use shoal_swarm::metadata::Said;
use shoal_wire::mse::Ciphers;
use shoal_wire::{Limits, RemoteExtensions};

/// See the module.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    /// The ids under which the remote wants extensions.
    pub(crate) remote: RemoteExtensions,
    /// What the remote said to the driver before, if there was one.
    pub(crate) said: Option<Said>,
}

impl Carried {
    /// A connection on which nothing was said but the handshake; `leftover` came right behind it and is decrypted, and `ciphers` are
    /// for everything from here on.
    pub(crate) fn fresh(leftover: &[u8], ciphers: Option<Box<Ciphers>>) -> Self {
        let (send, receive) = match ciphers.map(|ciphers| *ciphers) {
            Some(Ciphers { send, receive }) => (Some(Box::new(send)), Some(Box::new(receive))),
            None => (None, None),
        };
        Carried {
            inbound: Inbound::new(Limits::default(), leftover, receive),
            outbound: Outbound::new(send),
            remote: RemoteExtensions::default(),
            said: None,
        }
    }
}

//! The door: accepts connections, hears which torrent they want, and takes them to the session.
//!
//! Invariant: a bounded number of strangers stand in the door at once, each for a bounded time; where it is full, the one that
//! has stood longest makes room, so that those who say nothing cannot keep out those who do.

use crate::admission::Admission;
use crate::connect;
use crate::register::Register;
use crate::session::ToSession;
use shoal_transport::{Listener, PeerStream};
use shoal_wire::mse::EncryptionPolicy;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Connections whose handshake is under way, at each listener. Far more than come within the time that an honest handshake
/// takes.
const MAX_STRANGERS: usize = 64;

/// The pause after accepting failed, which it does where descriptors ran out: they come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whom strangers may want, and who may come in.
#[derive(Clone)]
pub(crate) struct Guests {
    pub(crate) register: Register,
    pub(crate) session: mpsc::Sender<ToSession>,
    pub(crate) admission: Admission,
    pub(crate) policy: EncryptionPolicy,
}

/// Accepts until the task is ended.
pub(crate) async fn stand(listener: Listener, guests: Guests) {
    let mut strangers: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Closed without a word.
        if !guests.admission.allows(address.ip()) {
            continue;
        }
        strangers.retain(|stranger| !stranger.is_finished());
        if strangers.len() >= MAX_STRANGERS
            && let Some(oldest) = strangers.pop_front()
        {
            oldest.abort();
        }
        let stranger = receive(stream, address, guests.clone());
        strangers.push_back(tokio::spawn(stranger).abort_handle());
    }
}

/// Hears whom a stranger wants, and takes it to the session.
async fn receive(stream: PeerStream, address: SocketAddr, guests: Guests) {
    match connect::accept(stream, address, guests.policy, &guests.register).await {
        Ok((torrent, ready)) => {
            // Where the session is gone the engine stops, and the connection is dropped with the message.
            let incoming = ToSession::Incoming(torrent, Box::new(ready));
            drop(guests.session.send(incoming).await);
        }
        Err(error) => tracing::debug!(%error, "a stranger left"),
    }
}

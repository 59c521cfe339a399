//! The door: accepts connections, hears which torrent they want, and takes them to the session.
//!
//! Invariant: a bounded number of strangers stand in the door at once, each for a bounded time; where it is full, the one that
//! has stood longest makes room, so that those who say nothing cannot keep out those who do.

use crate::connect::{self, Introduction};
use crate::session::ToSession;
use crate::torrent::TorrentId;
use shoal_metainfo::InfoHash;
use shoal_transport::{Listener, PeerStream};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Connections whose handshake is under way, at each listener. Far more than come within the time that an honest handshake
/// takes.
const MAX_STRANGERS: usize = 64;

/// The pause after accepting failed, which it does where descriptors ran out: they come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The torrents by the names under which strangers may ask for them. Read for every stranger, written when a torrent comes or
/// goes; the lock is never held across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    torrents: Arc<RwLock<BTreeMap<InfoHash, (TorrentId, Introduction)>>>,
}

/// A torrent's place in the register, which it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    register: Register,
    id: TorrentId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut torrents = self.register.write();
        torrents.retain(|_, (entered, _)| *entered != self.id);
    }
}

impl Register {
    /// Enters a torrent under all its names; `None` where one of them is taken.
    pub(crate) fn enter(&self, id: TorrentId, introduction: Introduction) -> Option<Registration> {
        let mut torrents = self.write();
        let mut names = introduction.hashes.swarms();
        if names.any(|name| torrents.contains_key(&name)) {
            return None;
        }
        let names = introduction.hashes.swarms();
        torrents.extend(names.map(|name| (name, (id, introduction))));
        drop(torrents);
        let register = self.clone();
        Some(Registration { register, id })
    }

    /// Enters a torrent that is there already under its other names too, and with what it says of itself from here on. False where one
    /// of the names is another torrent's: then nothing changes.
    pub(crate) fn extend(&self, id: TorrentId, introduction: Introduction) -> bool {
        let mut torrents = self.write();
        let is_anothers = |name| torrents.get(&name).is_some_and(|(other, _)| *other != id);
        if introduction.hashes.swarms().any(is_anothers) {
            return false;
        }
        torrents.retain(|_, (other, _)| *other != id);
        let names = introduction.hashes.swarms();
        torrents.extend(names.map(|name| (name, (id, introduction))));
        true
    }

    fn find(&self, name: InfoHash) -> Option<(TorrentId, Introduction)> {
        let torrents = self.torrents.read().unwrap_or_else(PoisonError::into_inner);
        torrents.get(&name).copied()
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<InfoHash, (TorrentId, Introduction)>> {
        self.torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Accepts until the task is ended.
pub(crate) async fn stand(
    listener: Listener,
    register: Register,
    session: mpsc::Sender<ToSession>,
) {
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
        strangers.retain(|stranger| !stranger.is_finished());
        if strangers.len() >= MAX_STRANGERS
            && let Some(oldest) = strangers.pop_front()
        {
            oldest.abort();
        }
        let stranger = receive(stream, address, register.clone(), session.clone());
        strangers.push_back(tokio::spawn(stranger).abort_handle());
    }
}

/// Hears whom a stranger wants, and takes it to the session.
async fn receive(
    stream: PeerStream,
    address: SocketAddr,
    register: Register,
    session: mpsc::Sender<ToSession>,
) {
    match connect::accept(stream, address, |name| register.find(name)).await {
        Ok((torrent, ready)) => {
            // Where the session is gone the engine stops, and the connection is dropped with the message.
            let incoming = ToSession::Incoming(torrent, Box::new(ready));
            drop(session.send(incoming).await);
        }
        Err(error) => tracing::debug!(%error, "a stranger left"),
    }
}

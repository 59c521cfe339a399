//! The door: accepts connections, hears which torrent they want, and takes them to the session.
//!
//! Invariant: a bounded number of strangers stand in the door at once, each for a bounded time.

use crate::connect::{self, Introduction};
use crate::session::ToSession;
use crate::torrent::TorrentId;
use crate::worker::Pool;
use shoal_metainfo::InfoHash;
use shoal_transport::Listener;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Connections whose handshake is under way. More wait in the kernel's backlog.
const MAX_STRANGERS: usize = 64;

/// The pause after accepting failed, which it does where descriptors ran out: they come back when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The torrents by the names under which strangers may ask for them. Read for every stranger, written when a torrent comes or
/// goes; the lock is never held across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Register {
    torrents: Arc<RwLock<BTreeMap<InfoHash, (TorrentId, Introduction)>>>,
}

impl Register {
    /// Enters a torrent under all its names; false where one of them is taken.
    pub(crate) fn enter(&self, id: TorrentId, introduction: Introduction) -> bool {
        let mut torrents = self
            .torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if introduction
            .hashes
            .swarms()
            .any(|name| torrents.contains_key(&name))
        {
            return false;
        }
        torrents.extend(
            introduction
                .hashes
                .swarms()
                .map(|name| (name, (id, introduction))),
        );
        true
    }

    pub(crate) fn leave(&self, id: TorrentId) {
        let mut torrents = self
            .torrents
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        torrents.retain(|_, (entered, _)| *entered != id);
    }

    fn find(&self, name: InfoHash) -> Option<(TorrentId, Introduction)> {
        let torrents = self.torrents.read().unwrap_or_else(PoisonError::into_inner);
        torrents.get(&name).copied()
    }
}

/// Accepts until the task is ended.
pub(crate) async fn stand(
    listener: Listener,
    register: Register,
    session: mpsc::Sender<ToSession>,
    pool: Pool,
) {
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    loop {
        let Ok(place) = Arc::clone(&strangers).acquire_owned().await else {
            return;
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (register, session) = (register.clone(), session.clone());
        pool.next().spawn(async move {
            let _place = place;
            match connect::accept(stream, address, |name| register.find(name)).await {
                Ok((torrent, ready)) => {
                    // Where the session is gone the engine stops, and the connection is dropped with the message.
                    drop(
                        session
                            .send(ToSession::Incoming(torrent, Box::new(ready)))
                            .await,
                    );
                }
                Err(error) => tracing::debug!(%error, "a stranger left"),
            }
        });
    }
}

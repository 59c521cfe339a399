//! Knowing when the last socket of a transport has gone.
//!
//! Invariant: every socket, and every task that may open one, keeps a [`Hold`] of its transport as long as it lives.

use tokio::sync::watch;

/// A reason why a transport has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    _alive: watch::Receiver<()>,
}

impl Hold {
    /// The first one of a transport.
    pub(crate) fn new() -> (Self, TransportEnd) {
        let (sender, alive) = watch::channel(());
        (Hold { _alive: alive }, TransportEnd(sender))
    }
}

/// The end of a transport: of all its clones, sockets and connections.
#[derive(Clone, Debug)]
pub struct TransportEnd(watch::Sender<()>);

impl TransportEnd {
    /// Waits for it. May be cancelled, and called again.
    pub async fn wait(&self) {
        self.0.closed().await;
    }
}

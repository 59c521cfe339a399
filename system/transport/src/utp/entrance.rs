//! Between a socket's event loop and whoever accepts its connections.
//!
//! Invariant: at most [`MAX_WAITING`] connections wait; those for whom there is no room, or nobody who accepts any more, end.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::UtpStream;

/// Connections that may wait to be accepted, as many as a burst of a swarm that finds a new seed.
const MAX_WAITING: usize = 128;

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(UtpStream, SocketAddr)>,
    /// One of both sides is gone.
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut queue = self.lock();
        queue.ended = true;
        // Dropped without the lock: streams tell their event loop.
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(waiting);
        self.arrived.notify_one();
    }
}

/// The event loop's side.
#[derive(Debug)]
pub(super) struct Entrance(Arc<Shared>);

/// The side of who accepts.
#[derive(Debug)]
pub(crate) struct Accepts(Arc<Shared>);

/// Both sides.
pub(super) fn entrance() -> (Entrance, Accepts) {
    let shared = Arc::<Shared>::default();
    (Entrance(Arc::clone(&shared)), Accepts(shared))
}

impl Entrance {
    /// Lets a connection wait, or ends it.
    pub(super) fn offer(&self, stream: UtpStream, remote: SocketAddr) {
        let mut queue = self.0.lock();
        if queue.ended || queue.waiting.len() >= MAX_WAITING {
            drop(queue);
            drop(stream);
            return;
        }
        queue.waiting.push_back((stream, remote));
        drop(queue);
        self.0.arrived.notify_one();
    }
}

impl Accepts {
    /// The next connection; `None` when the event loop has ended. Safe to cancel.
    pub(crate) async fn next(&self) -> Option<(UtpStream, SocketAddr)> {
        loop {
            let (next, ended) = {
                let mut queue = self.0.lock();
                (queue.waiting.pop_front(), queue.ended)
            };
            if next.is_some() || ended {
                return next;
            }
            self.0.arrived.notified().await;
        }
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Drop for Accepts {
    fn drop(&mut self) {
        self.0.end();
    }
}

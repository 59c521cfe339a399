//! A bounded channel that is small while nothing is in it: there is one for each of perhaps ten thousand torrents, most of which hear of
//! nobody for hours. Those of tokio keep room for 32 messages from the start.
//!
//! Invariant: as many messages wait as there are permits fewer than at the beginning; who sends waits for room, in the order in which they
//! came, and learns where nobody receives any more.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Semaphore;

/// What is empty again keeps room for so many messages.
const KEPT: usize = 8;

/// What both ends share.
struct Shared<T> {
    /// Held for one push or pop, never across an await.
    queue: Mutex<Queue<T>>,
    /// A permit for each message for which there is room; closed where nobody receives.
    room: Semaphore,
    senders: AtomicUsize,
}

/// What waits, and who waits for it.
struct Queue<T> {
    waiting: VecDeque<T>,
    receiver: Option<Waker>,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For which there was a permit.
    fn push(&self, message: T) {
        let mut queue = self.lock();
        queue.waiting.push_back(message);
        let receiver = queue.receiver.take();
        drop(queue);
        receiver.into_iter().for_each(Waker::wake);
    }
}

/// There was no room, or nobody receives any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotSent;

/// Where messages go in.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// Where they come out.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

/// Both ends of a channel for `most` messages.
pub(crate) fn channel<T>(most: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: Mutex::new(Queue {
            waiting: VecDeque::new(),
            receiver: None,
        }),
        room: Semaphore::new(most),
        senders: AtomicUsize::new(1),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Waits for room.
    ///
    /// # Errors
    /// Nobody receives any more.
    pub(crate) async fn send(&self, message: T) -> Result<(), NotSent> {
        match self.0.room.acquire().await {
            Ok(permit) => {
                permit.forget();
                self.0.push(message);
                Ok(())
            }
            Err(_) => Err(NotSent),
        }
    }

    /// Sends where there is room right away.
    ///
    /// # Errors
    /// There is none, or nobody receives any more.
    pub(crate) fn try_send(&self, message: T) -> Result<(), NotSent> {
        match self.0.room.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.0.push(message);
                Ok(())
            }
            Err(_) => Err(NotSent),
        }
    }

    /// Whether nobody receives any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.room.is_closed()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // What was sent before is seen by whoever sees that nobody is left.
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            let receiver = self.0.lock().receiver.take();
            receiver.into_iter().for_each(Waker::wake);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl<T> Receiver<T> {
    /// Waits for the next message; `None` where nobody is left who could send one. May be cancelled without losing any.
    pub(crate) async fn recv(&mut self) -> Option<T> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<T>> {
        // Before the look into the queue, as the last one may send and leave in between.
        let is_over = self.0.senders.load(Ordering::Acquire) == 0;
        let mut queue = self.0.lock();
        match self.pop(&mut queue) {
            Some(message) => Poll::Ready(Some(message)),
            None if is_over => Poll::Ready(None),
            None => {
                queue.receiver = Some(context.waker().clone());
                drop(queue);
                // Whoever left before this looked for somebody to wake.
                match self.0.senders.load(Ordering::Acquire) {
                    0 => self.poll_end(),
                    _ => Poll::Pending,
                }
            }
        }
    }

    /// The last sender has gone: what it sent before is there.
    fn poll_end(&mut self) -> Poll<Option<T>> {
        Poll::Ready(self.try_recv())
    }

    /// The next message that is there.
    pub(crate) fn try_recv(&mut self) -> Option<T> {
        let mut queue = self.0.lock();
        self.pop(&mut queue)
    }

    fn pop(&self, queue: &mut Queue<T>) -> Option<T> {
        let message = queue.waiting.pop_front()?;
        if queue.waiting.is_empty() {
            queue.waiting.shrink_to(KEPT);
        }
        self.0.room.add_permits(1);
        Some(message)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.room.close();
        // Dropped without the lock, as messages may hold senders.
        let left = std::mem::take(&mut self.0.lock().waiting);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_sends_waits_for_room_and_order_is_kept() {
        let (sender, mut receiver) = channel(2);
        let others = sender.clone();
        let sending = tokio::spawn(async move {
            for number in 0..100 {
                others.send(number).await.unwrap();
            }
        });
        tokio::task::yield_now().await;
        assert_eq!(sender.try_send(100), Err(NotSent));
        for number in 0..100 {
            assert_eq!(receiver.recv().await, Some(number));
        }
        sending.await.unwrap();
        drop(sender);
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn who_sends_learns_that_nobody_receives_also_while_it_waits() {
        let (sender, receiver) = channel(1);
        sender.try_send(1).unwrap();
        let waiting = sender.clone();
        let waiting = tokio::spawn(async move { waiting.send(2).await });
        tokio::task::yield_now().await;
        drop(receiver);
        assert_eq!(waiting.await.unwrap(), Err(NotSent));
        assert!(sender.is_closed());
        assert_eq!(sender.send(3).await, Err(NotSent));
    }

    #[tokio::test]
    async fn the_end_is_heard_after_the_last_word() {
        let (sender, mut receiver) = channel(4);
        let sending = tokio::spawn(async move {
            tokio::task::yield_now().await;
            sender.send("last").await.unwrap();
        });
        assert_eq!(receiver.recv().await, Some("last"));
        assert_eq!(receiver.recv().await, None);
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_empty_again_is_small() {
        let (sender, mut receiver) = channel(1_000);
        for number in 0..1_000 {
            sender.try_send(number).unwrap();
        }
        while receiver.try_recv().is_some() {}
        assert!(receiver.0.lock().waiting.capacity() <= KEPT);
        // Room is what it was.
        for number in 0..1_000 {
            sender.try_send(number).unwrap();
        }
        assert!(sender.try_send(0).is_err());
    }
}
